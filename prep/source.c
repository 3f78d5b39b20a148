#include "prep/source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/log.h"
#include "common/manifest.h"
#include "common/mem.h"
#include "common/stop.h"

enum {
    SHOWN = 10, /* of each kind of what is not counted, so many are shown by name */
    QUOTED = 1100,
    READ_TRIES = 4,
    READ_PAUSE_US = 20000 /* before the second try; twice as long before each further one */
};

struct source {
    char folder[FILES_PATH_SIZE];
    const char **classes; /* names */
    uint32_t class_count, class_capacity;
    struct source_file *files;
    uint32_t file_count, file_capacity;
    uint64_t bytes;
    struct mem_arena names;
    char digest[33];
};

/* What is met on the way and not counted. */
enum other { OTHER_HIDDEN, OTHER_FILE, OTHER_NO_FILE, OTHER_LOOSE, OTHER_EMPTY, OTHERS };
static const char *const other_names[OTHERS] = {"hidden", "not named as a picture", "not a file",
                                                "in no class folder",
                                                "class folder without pictures"};

/* One listing under way. */
struct scan {
    struct source *source;
    int64_t per_class;
    struct digest *digest;
    uint64_t others[OTHERS];
    uint64_t loose; /* pictures directly in the source's folder */
    bool nested,
        tars; /* folders in class folders, .tar files: for the message when nothing is found */
};

/* ---- names ---- */

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), size = strlen(end);
    return length > size && !strcasecmp(name + length - size, end);
}

static bool is_picture_name(const char *name)
{
    return ends_in(name, ".jpeg") || ends_in(name, ".jpg") || ends_in(name, ".png");
}

static void show_other(struct scan *scan, enum other kind, const char *class_name, const char *name)
{
    char quoted[QUOTED], folder[QUOTED];
    if (scan->others[kind]++ < SHOWN)
        log_line("not counted: %s%s%s (%s)",
                 class_name ? err_quote(folder, sizeof folder, class_name) : "",
                 class_name ? "/" : "", err_quote(quoted, sizeof quoted, name), other_names[kind]);
}

static void show_rest(const struct scan *scan)
{
    char count[32];
    for (int kind = 0; kind < OTHERS; kind++)
        if (scan->others[kind] > SHOWN)
            log_line("not counted: ... and %s more (%s)",
                     log_count(count, (int64_t)scan->others[kind] - SHOWN), other_names[kind]);
}

static int file_path(const struct source *source, const char *class_name, const char *name,
                     char out[FILES_PATH_SIZE])
{
    char folder[FILES_PATH_SIZE];
    int rc = files_join(folder, source->folder, class_name);
    return rc ? rc : files_join(out, folder, name);
}

/* ---- listing ---- */

static int add_file(struct scan *scan, const char *class_name, const char *name, uint64_t size)
{
    struct source *source = scan->source;
    char quoted[QUOTED];
    uint8_t bytes[8];
    size_t length = strlen(name);
    if (strlen(class_name) + 1 + length > RECORD_NAME_LIMIT)
        return err_set(ERR_INPUT, "%s/%s: class and file name are longer than %d bytes together",
                       class_name, err_quote(quoted, sizeof quoted, name), RECORD_NAME_LIMIT);
    if (source->file_count == source->file_capacity) {
        /* By a quarter: at a million pictures, twice would be memory that counts. */
        uint64_t next = (uint64_t)source->file_capacity + source->file_capacity / 4 + 1024;
        if (next > UINT32_MAX)
            next = UINT32_MAX;
        if (source->file_count == UINT32_MAX)
            return err_set(ERR_INPUT, "%s: more than %u pictures", source->folder, UINT32_MAX);
        int rc = mem_grow((void **)&source->files, source->file_capacity, next,
                          sizeof *source->files, "list of pictures");
        if (rc)
            return rc;
        source->file_capacity = (uint32_t)next;
    }
    struct source_file *file = &source->files[source->file_count];
    if (!source->file_count || file[-1].label != source->class_count)
        digest_add(scan->digest, class_name, strlen(class_name) + 1);
    if (!(file->name = mem_arena_text(&source->names, name, length)))
        return -ERR_MEMORY;
    file->size = size;
    file->label = source->class_count;
    source->file_count++;
    source->bytes += size;
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(size >> (8 * i));
    digest_add(scan->digest, name, length + 1);
    digest_add(scan->digest, bytes, sizeof bytes);
    return 0;
}

/* One name in a class folder. *COUNTED: it is a picture of the class. */
static int scan_name(struct scan *scan, const char *class_name, const char *name, bool *counted)
{
    char path[FILES_PATH_SIZE], quoted[QUOTED];
    enum files_type type;
    uint64_t size;
    int rc;
    *counted = false;
    if (name[0] == '.') {
        show_other(scan, OTHER_HIDDEN, class_name, name);
        return 0;
    }
    if ((rc = file_path(scan->source, class_name, name, path)) ||
        (rc = files_type(path, &type, &size)))
        return rc;
    scan->nested |= type == FILES_FOLDER;
    if (!is_picture_name(name) || type == FILES_FOLDER || type == FILES_OTHER) {
        show_other(scan, is_picture_name(name) ? OTHER_NO_FILE : OTHER_FILE, class_name, name);
        return 0;
    }
    if (type == FILES_NOTHING)
        return err_set(ERR_INPUT,
                       "%s is a link to nothing, or vanished just now; restore the picture or "
                       "remove the link",
                       err_quote(quoted, sizeof quoted, path));
    *counted = true;
    return add_file(scan, class_name, name, size);
}

/* The next class, which counts only when it gets a file. */
static int open_class(struct source *source, const char *name)
{
    if (source->class_count == MANIFEST_CLASS_LIMIT)
        return err_set(ERR_INPUT, "%s: more than %d classes", source->folder, MANIFEST_CLASS_LIMIT);
    if (source->class_count == source->class_capacity) {
        uint32_t next = source->class_capacity ? source->class_capacity * 2 : 64;
        int rc = mem_grow((void **)&source->classes, source->class_capacity, next,
                          sizeof *source->classes, "list of classes");
        if (rc)
            return rc;
        source->class_capacity = next;
    }
    source->classes[source->class_count] = mem_arena_text(&source->names, name, strlen(name));
    return source->classes[source->class_count] ? 0 : -ERR_MEMORY;
}

/* WANTED: the settings name this class, so it must have pictures. */
static int scan_class(struct scan *scan, const char *name, bool wanted)
{
    struct source *source = scan->source;
    struct files_list list;
    char path[FILES_PATH_SIZE], quoted[QUOTED];
    int rc;
    int64_t taken = 0;
    if ((rc = files_join(path, source->folder, name)) || (rc = files_list(path, &list)))
        return rc;
    if ((rc = open_class(source, name)))
        goto done;
    for (size_t i = 0; i < list.count; i++) {
        bool counted;
        if (scan->per_class && taken == scan->per_class)
            break;
        if ((rc = scan_name(scan, name, list.names[i], &counted)))
            goto done;
        taken += counted;
    }
    if (taken) {
        source->class_count++;
    } else if (wanted) {
        rc = err_set(ERR_INPUT, "--classes names %s, but that folder holds no pictures",
                     err_quote(quoted, sizeof quoted, name));
    } else {
        show_other(scan, OTHER_EMPTY, NULL, name);
    }

done:
    files_list_release(&list);
    return rc;
}

/* ---- --classes ---- */

static int compare_names(const void *key, const void *element)
{
    return strcmp(key, *(char *const *)element);
}

/* Mark NAME (LENGTH bytes of TEXT) in WANTED, which runs beside LIST. */
static int want_class(const struct source *source, const struct files_list *list, bool *wanted,
                      const char *text, size_t length)
{
    char name[FILES_PATH_SIZE], quoted[QUOTED];
    if (length >= sizeof name)
        length = sizeof name - 1;
    memcpy(name, text, length);
    name[length] = 0;
    char **found = list->count
                       ? bsearch(name, list->names, list->count, sizeof *list->names, compare_names)
                       : NULL;
    if (!found)
        return err_set(ERR_INPUT, "--classes names %s, but there is no such folder in %s",
                       err_quote(quoted, sizeof quoted, name), source->folder);
    wanted[found - list->names] = true;
    return 0;
}

/* Names in TEXT, ended by any of ENDS. */
static int want_classes(const struct source *source, const struct files_list *list, bool *wanted,
                        const char *text, const char *ends)
{
    uint64_t named = 0;
    while (*text) {
        size_t length = strcspn(text, ends);
        int rc = length ? want_class(source, list, wanted, text, length) : 0;
        if (rc)
            return rc;
        named += length > 0;
        text += length + (text[length] != 0);
    }
    return named ? 0 : err_set(ERR_INPUT, "--classes names no class");
}

/* *WANTED (mem_free it) = which names of LIST the settings take; NULL when all. */
static int read_wanted(const struct source *source, const char *classes,
                       const struct files_list *list, bool **wanted)
{
    enum files_type type;
    uint8_t *text;
    size_t size;
    int rc;
    *wanted = NULL;
    if (!classes)
        return 0;
    if (files_type(classes, &type, NULL)) /* a long list cannot be a path */
        type = FILES_NOTHING;
    if (!(*wanted = mem_array(list->count, sizeof **wanted, "classes")))
        return -ERR_MEMORY;
    if (type != FILES_REGULAR)
        return want_classes(source, list, *wanted, classes, ",");
    if ((rc = files_read(classes, (size_t)64 << 20, &text, &size)))
        return rc;
    if (strlen((char *)text) != size)
        rc = err_set(ERR_INPUT, "%s holds a 0 byte; it should be a text with one class a line",
                     classes);
    else if ((rc = want_classes(source, list, *wanted, (char *)text, "\r\n")))
        err_add(rc, "%s", classes);
    mem_free(text);
    return rc;
}

/* ---- the whole folder ---- */

/* Nothing was found: say what the folder looks like. */
static int explain_nothing(const struct scan *scan)
{
    const char *folder = scan->source->folder;
    char count[32];
    if (scan->loose)
        return err_set(ERR_INPUT,
                       "%s holds %s pictures but no class folders with pictures; for the "
                       "validation pictures: prep sort-val first",
                       folder, log_count(count, (int64_t)scan->loose));
    if (scan->nested)
        return err_set(ERR_INPUT,
                       "%s: no pictures in its folders, but further folders; name the folder whose "
                       "folders are the classes",
                       folder);
    if (scan->tars)
        return err_set(ERR_INPUT, "%s holds archives; unpack them into one folder per class first",
                       folder);
    return err_set(ERR_INPUT, "%s: no class folders with pictures (.JPEG, .jpg, .jpeg, .png)",
                   folder);
}

static int scan_entry(struct scan *scan, const char *name, const bool *wanted)
{
    char path[FILES_PATH_SIZE];
    enum files_type type;
    int rc;
    if (wanted && !*wanted)
        return 0;
    if (name[0] == '.') {
        show_other(scan, OTHER_HIDDEN, NULL, name);
        return 0;
    }
    if ((rc = files_join(path, scan->source->folder, name)) || (rc = files_type(path, &type, NULL)))
        return rc;
    if (type == FILES_FOLDER)
        return scan_class(scan, name, wanted != NULL);
    scan->loose += is_picture_name(name);
    scan->tars |= ends_in(name, ".tar");
    show_other(scan, OTHER_LOOSE, NULL, name);
    return 0;
}

static int scan_folder(struct scan *scan, const struct files_list *list, const bool *wanted)
{
    char files[32], classes[32];
    for (size_t i = 0; i < list->count; i++) {
        int rc = scan_entry(scan, list->names[i], wanted ? &wanted[i] : NULL);
        if (rc)
            return rc;
        if (stop_requested())
            return err_set(ERR_STOPPED,
                           "stopped while listing the pictures; the same command goes on");
        if (log_progress_due(false))
            log_progress("listing: %s pictures of %s classes",
                         log_count(files, scan->source->file_count),
                         log_count(classes, scan->source->class_count));
    }
    return scan->source->file_count ? 0 : explain_nothing(scan);
}

int source_open(struct source **out, const char *folder, const struct source_settings *settings)
{
    struct files_list list = {0};
    struct scan scan = {.per_class = settings->per_class};
    bool *wanted = NULL;
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!(scan.source = mem_array(1, sizeof *scan.source, "source")))
        return rc;
    if (snprintf(scan.source->folder, FILES_PATH_SIZE, "%s", folder) >= FILES_PATH_SIZE) {
        rc = err_set(ERR_INPUT, "%.200s...: path is too long", folder);
        goto fail;
    }
    if ((rc = digest_open(&scan.digest)) || (rc = files_list(folder, &list)) ||
        (rc = read_wanted(scan.source, settings->classes, &list, &wanted)) ||
        (rc = scan_folder(&scan, &list, wanted)))
        goto fail;
    digest_value128(scan.digest, scan.source->digest);
    log_progress_end();
    show_rest(&scan);
    *out = scan.source;
    scan.source = NULL;

fail:
    source_close(scan.source);
    digest_close(scan.digest);
    files_list_release(&list);
    mem_free(wanted);
    return rc;
}

void source_close(struct source *source)
{
    if (!source)
        return;
    mem_arena_release(&source->names);
    mem_free(source->files);
    mem_free(source->classes);
    mem_free(source);
}

/* ---- reading ---- */

uint32_t source_class_count(const struct source *source)
{
    return source->class_count;
}

const char *source_class_name(const struct source *source, uint32_t label)
{
    return source->classes[label];
}

uint32_t source_file_count(const struct source *source)
{
    return source->file_count;
}

const struct source_file *source_file(const struct source *source, uint32_t index)
{
    return &source->files[index];
}

uint64_t source_bytes(const struct source *source)
{
    return source->bytes;
}

const char *source_digest(const struct source *source)
{
    return source->digest;
}

uint32_t source_name(const struct source *source, uint32_t index, char out[RECORD_NAME_LIMIT + 1])
{
    const struct source_file *file = &source->files[index];
    return (uint32_t)snprintf(out, RECORD_NAME_LIMIT + 1, "%s/%s", source->classes[file->label],
                              file->name);
}

/* An input that cannot be read is no bad picture. A network file system may have lost sight of a
 * file that it finds again when it is opened anew, so it is tried some times more. */
static int read_patiently(const char *path, struct files_buffer *buffer)
{
    int rc = files_read_into(path, SOURCE_FILE_LIMIT, buffer);
    for (int tries = 0; rc == -ERR_IO && tries < READ_TRIES - 1; tries++) {
        usleep(READ_PAUSE_US << tries);
        rc = files_read_into(path, SOURCE_FILE_LIMIT, buffer);
    }
    return rc;
}

int source_read(const struct source *source, uint32_t index, struct files_buffer *buffer)
{
    const struct source_file *file = &source->files[index];
    char path[FILES_PATH_SIZE], quoted[QUOTED];
    enum files_type type;
    struct err kept;
    int rc = file_path(source, source->classes[file->label], file->name, path);
    if (rc)
        return rc;
    rc = read_patiently(path, buffer);
    if (!rc && buffer->size != file->size)
        return err_set(ERR_INPUT,
                       "%s changed since the pictures were listed: %" PRIu64 " bytes then, %zu now",
                       err_quote(quoted, sizeof quoted, path), file->size, buffer->size);
    if (rc != -ERR_IO)
        return rc;
    err_take(rc, &kept);
    if (!files_type(path, &type, NULL) && type == FILES_NOTHING)
        return err_set(ERR_INPUT, "%s vanished since the pictures were listed",
                       err_quote(quoted, sizeof quoted, path));
    return err_raise(&kept);
}

void source_will_need(const struct source *source, uint32_t index)
{
    const struct source_file *file = &source->files[index];
    char path[FILES_PATH_SIZE];
    if (file_path(source, source->classes[file->label], file->name, path))
        return;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return;
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_WILLNEED);
    close(descriptor);
}
