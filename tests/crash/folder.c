#include "tests/crash/folder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"

enum { FILE_LIMIT = 1 << 28 };

static bool failed(const char *path, const char *what)
{
    printf("%s: %s: %s\n", path, what, strerror(errno));
    return false;
}

/* Call EACH for every name in PATH; NULL when it cannot be listed. */
static bool list(const char *path, struct files_list *out)
{
    if (!files_list(path, out))
        return true;
    printf("%s\n", err_text());
    return false;
}

bool folder_make(const char *path)
{
    return !mkdir(path, 0777) || errno == EEXIST || failed(path, "mkdir");
}

bool folder_remove(const char *path)
{
    struct files_list names;
    struct stat status;
    char inner[FILES_PATH_SIZE];
    bool well = true;
    if (lstat(path, &status))
        return errno == ENOENT || failed(path, "stat");
    if (!S_ISDIR(status.st_mode))
        return !unlink(path) || failed(path, "unlink");
    if (!list(path, &names))
        return false;
    for (size_t i = 0; i < names.count && well; i++)
        well = !files_join(inner, path, names.names[i]) && folder_remove(inner);
    files_list_release(&names);
    return well && (!rmdir(path) || failed(path, "rmdir"));
}

static bool copy_file(const char *from, const char *to)
{
    uint8_t *bytes;
    size_t size;
    if (files_read(from, FILE_LIMIT, &bytes, &size))
        return failed(from, "read");
    FILE *file = fopen(to, "wb");
    bool well = file && fwrite(bytes, 1, size, file) == size;
    if (file)
        well = !fclose(file) && well;
    mem_free(bytes);
    return well || failed(to, "write");
}

bool folder_copy(const char *from, const char *to)
{
    struct files_list names;
    struct stat status;
    char inner[2][FILES_PATH_SIZE], text[FILES_PATH_SIZE];
    bool well = true;
    if (lstat(from, &status))
        return failed(from, "stat");
    if (S_ISLNK(status.st_mode)) {
        ssize_t size = readlink(from, text, sizeof text - 1);
        text[size < 0 ? 0 : size] = 0;
        return !symlink(text, to) || failed(to, "symlink");
    }
    if (!S_ISDIR(status.st_mode))
        return copy_file(from, to);
    if (!folder_make(to) || !list(from, &names))
        return false;
    for (size_t i = 0; i < names.count && well; i++)
        well = !files_join(inner[0], from, names.names[i]) &&
               !files_join(inner[1], to, names.names[i]) && folder_copy(inner[0], inner[1]);
    files_list_release(&names);
    return well;
}

/* ---- comparing ---- */

static bool differ(char *out, size_t size, const char *path, const char *what)
{
    snprintf(out, size, "%s: %s", path, what);
    return false;
}

static bool same_bytes(const char *a, const char *b, char *out, size_t size)
{
    uint8_t *bytes[2] = {NULL, NULL};
    size_t sizes[2];
    bool same = !files_read(a, FILE_LIMIT, &bytes[0], &sizes[0]) &&
                !files_read(b, FILE_LIMIT, &bytes[1], &sizes[1]) && sizes[0] == sizes[1] &&
                !memcmp(bytes[0], bytes[1], sizes[0]);
    mem_free(bytes[0]);
    mem_free(bytes[1]);
    return same || differ(out, size, b, "other bytes");
}

static bool same_names(const struct files_list *a, const struct files_list *b, const char *path,
                       bool extra, char *out, size_t size)
{
    size_t k = 0;
    for (size_t i = 0; i < a->count; i++, k++) {
        while (extra && k < b->count && strcmp(b->names[k], a->names[i]) < 0)
            k++;
        if (k < b->count && !strcmp(a->names[i], b->names[k]))
            continue;
        snprintf(out, size, "%s: expected %s, found %s", path, a->names[i],
                 k < b->count ? b->names[k] : "nothing");
        return false;
    }
    if (k == b->count || extra)
        return true;
    snprintf(out, size, "%s: found %s", path, b->names[k]);
    return false;
}

/* EXPECTED may lead into a folder of work that is being made anew: it is not followed. */
static bool same_link(const char *expected, const char *found, char *out, size_t size)
{
    char texts[2][FILES_PATH_SIZE];
    const char *const paths[] = {expected, found}, *names[2];
    struct stat status;
    for (int i = 0; i < 2; i++) {
        ssize_t length = readlink(paths[i], texts[i], sizeof texts[i] - 1);
        if (length < 0)
            return differ(out, size, paths[i], "not a link");
        texts[i][length] = 0;
        names[i] = strrchr(texts[i], '/') ? strrchr(texts[i], '/') + 1 : texts[i];
    }
    if (stat(found, &status))
        return differ(out, size, found, "leads to nothing");
    return !strcmp(names[0], names[1]) || differ(out, size, found, "leads to another file");
}

bool folder_same(const char *expected, const char *found, bool extra, char *out, size_t size)
{
    struct stat status[2];
    struct files_list names[2] = {{0}};
    char inner[2][FILES_PATH_SIZE];
    *out = 0;
    if (lstat(expected, &status[0]) || lstat(found, &status[1]))
        return differ(out, size, found, "missing");
    if (S_ISLNK(status[0].st_mode))
        return same_link(expected, found, out, size);
    if ((status[0].st_mode & S_IFMT) != (status[1].st_mode & S_IFMT))
        return differ(out, size, found, "another kind");
    if (!S_ISDIR(status[0].st_mode))
        return same_bytes(expected, found, out, size);
    bool same = list(expected, &names[0]) && list(found, &names[1]) &&
                same_names(&names[0], &names[1], found, extra, out, size);
    for (size_t i = 0; i < names[0].count && same; i++)
        same = !files_join(inner[0], expected, names[0].names[i]) &&
               !files_join(inner[1], found, names[0].names[i]) &&
               folder_same(inner[0], inner[1], extra, out, size);
    files_list_release(&names[0]);
    files_list_release(&names[1]);
    return same;
}

bool folder_finds(const char *folder, const char *part, char *out, size_t size)
{
    struct files_list names;
    struct stat status;
    char inner[FILES_PATH_SIZE];
    bool found = false;
    if (!list(folder, &names))
        return false;
    for (size_t i = 0; i < names.count && !found; i++) {
        if (files_join(inner, folder, names.names[i]) || lstat(inner, &status))
            continue;
        found = strstr(names.names[i], part) != NULL;
        if (found)
            snprintf(out, size, "%s", inner);
        else if (S_ISDIR(status.st_mode))
            found = folder_finds(inner, part, out, size);
    }
    files_list_release(&names);
    return found;
}
