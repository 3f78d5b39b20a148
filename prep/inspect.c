#include "prep/inspect.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/opts.h"
#include "common/work.h"
#include "prep/verify.h"

enum {
    CLASSES_IN_FULL = 40, /* up to here prep info lists them unasked */
    SEARCH_JOBS = 16      /* threads that wait for the disk rather than compute */
};

/* ---- info ---- */

struct info_settings {
    bool json, classes;
};

static const struct opts_row info_rows[] = {
    {.name = "json",
     .type = OPTS_FLAG,
     .offset = offsetof(struct info_settings, json),
     .fallback = "no",
     .group = "Options",
     .help = "everything as one JSON object"                     },
    {.name = "classes",
     .type = OPTS_FLAG,
     .offset = offsetof(struct info_settings, classes),
     .fallback = "no",
     .group = "Options",
     .help = "list the classes, also when there are more than 40"},
    OPTS_END,
};

const struct opts_command inspect_info_command = {
    .program = "prep info",
    .arguments = "OUT.lmdb",
    .summary =
        "Says what is in a data set and how it was packed. Reads the manifest only; prep verify "
        "reads the pictures.",
    .rows = info_rows,
    .minimum_arguments = 1,
    .maximum_arguments = 1,
};

static uint64_t sum_bytes(const struct manifest *manifest)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < manifest->shard_count; i++)
        bytes += manifest->shards[i].bytes;
    return bytes;
}

/* A text as JSON; bytes that are not UTF-8 are written as in messages. */
static json_t *make_string(const char *text)
{
    char quoted[1024];
    json_t *string = json_string(text);
    return string ? string : json_string(err_quote(quoted, sizeof quoted, text));
}

static json_t *make_class(const struct dataset_class *class, size_t index)
{
    return json_pack("{s:I, s:o, s:o, s:I}", "index", (json_int_t)index, "name",
                     make_string(class->name), "words", make_string(class->words), "images",
                     (json_int_t) class->images);
}

static json_t *make_shard(const struct dataset_shard *shard)
{
    return json_pack("{s:s, s:I, s:I, s:s}", "file", shard->file, "records",
                     (json_int_t)shard->records, "bytes", (json_int_t)shard->bytes, "digest",
                     shard->digest);
}

static int print_json(const struct dataset *dataset)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    json_t *classes = json_array(), *shards = json_array();
    int failed = 0;
    for (size_t i = 0; i < manifest->class_count; i++)
        failed |= json_array_append_new(classes, make_class(&manifest->classes[i], i));
    for (size_t i = 0; i < manifest->shard_count; i++)
        failed |= json_array_append_new(shards, make_shard(&manifest->shards[i]));
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:o, s:O, s:O, s:o, s:o}",
        "format_version", (json_int_t)MANIFEST_FORMAT_VERSION, "images",
        (json_int_t)manifest->images, "class_count", (json_int_t)manifest->class_count, "bytes",
        (json_int_t)sum_bytes(manifest), "shards", (json_int_t)manifest->shard_count,
        "largest_width", (json_int_t)manifest->largest_width, "largest_height",
        (json_int_t)manifest->largest_height, "largest_payload",
        (json_int_t)manifest->largest_payload, "encoding",
        record_encoding_names[manifest->encoding], "digest", dataset_digest(dataset),
        "class_digest", dataset_class_digest(dataset), "tool", make_string(manifest->tool),
        "settings", manifest->settings, "source", manifest->source, "classes", classes,
        "shard_list", shards);
    if (failed || !root || json_dumpf(root, stdout, JSON_INDENT(2)))
        failed = err_set(ERR_IO, "%s cannot be printed as JSON", dataset_folder(dataset));
    else
        putchar('\n');
    json_decref(root);
    return failed;
}

/* "short_side 256, encoding rgb"; of an object inside, "stored (jpeg 18, gray 1)" without the
 * zeros. */
static void print_pairs(const json_t *object, bool inside)
{
    const char *key, *comma = "";
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (inside && json_is_integer(value) && !json_integer_value(value))
            continue;
        printf("%s%s ", comma, key);
        comma = ", ";
        if (json_is_object(value) && !inside) {
            putchar('(');
            print_pairs(value, true);
            putchar(')');
        } else if (json_is_string(value)) {
            printf("%s", json_string_value(value));
        } else {
            json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
        }
    }
}

static void print_object(const char *title, const json_t *object)
{
    printf("%s", title);
    print_pairs(object, false);
    putchar('\n');
}

static void print_classes(const struct manifest *manifest)
{
    char quoted[1024], words[1024], count[32];
    printf("\n  index      images  class\n");
    for (size_t i = 0; i < manifest->class_count; i++) {
        const struct dataset_class *class = &manifest->classes[i];
        printf("%7zu %11s  %s%s%s\n", i, log_count(count, (int64_t) class->images),
               err_quote(quoted, sizeof quoted, class->name), *class->words ? "  " : "",
               err_quote(words, sizeof words, class->words));
    }
}

static void print_text(const struct dataset *dataset, bool classes)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    uint64_t least = UINT64_MAX, most = 0;
    char counts[5][32], bytes[2][32];
    for (size_t i = 0; i < manifest->class_count; i++) {
        uint64_t images = manifest->classes[i].images;
        least = images < least ? images : least;
        most = images > most ? images : most;
    }
    printf("images    %s in %s classes (%s to %s a class)\n",
           log_count(counts[0], (int64_t)manifest->images),
           log_count(counts[1], (int64_t)manifest->class_count),
           log_count(counts[2], (int64_t)least), log_count(counts[3], (int64_t)most));
    printf("stored    %s, at most %" PRIu32 " x %" PRIu32 " pixels and %s a picture\n",
           record_encoding_names[manifest->encoding], manifest->largest_width,
           manifest->largest_height, log_bytes(bytes[0], (double)manifest->largest_payload));
    printf("files     %s in %s shards\n", log_bytes(bytes[1], (double)sum_bytes(manifest)),
           log_count(counts[4], (int64_t)manifest->shard_count));
    print_object("settings  ", manifest->settings);
    print_object("source    ", manifest->source);
    if (*manifest->tool)
        printf("packed by %s\n", manifest->tool);
    printf("digest    %s\n", dataset_digest(dataset));
    if (classes || manifest->class_count <= CLASSES_IN_FULL)
        print_classes(manifest);
    else
        printf("--classes lists the classes, --json prints everything\n");
}

int inspect_info(int argc, char **argv)
{
    struct info_settings settings;
    struct opts_result arguments;
    struct dataset *dataset;
    int rc = opts_parse(&inspect_info_command, argc, argv, &settings, NULL, &arguments);
    if (rc)
        return rc;
    if (arguments.help) {
        opts_help(&inspect_info_command);
        return 0;
    }
    if ((rc = dataset_open_manifest(&dataset, arguments.arguments[0])))
        return rc;
    if (settings.json)
        rc = print_json(dataset);
    else
        print_text(dataset, settings.classes);
    dataset_close(dataset);
    return rc;
}

/* ---- verify ---- */

struct verify_settings {
    int64_t jobs;
};

static const struct opts_row verify_rows[] = {
    {.name = "jobs",
     .value = "N",
     .type = OPTS_INT,
     .offset = offsetof(struct verify_settings, jobs),
     .fallback = "0",
     .minimum = 0,
     .maximum = 1024,
     .group = "Options",
     .help = "threads that read and check, each a shard at a time; 0 = all cores"},
    OPTS_END,
};

const struct opts_command inspect_verify_command = {
    .program = "prep verify",
    .arguments = "OUT.lmdb",
    .summary = "Reads a data set back and checks every byte against the checksums made when it was "
               "packed. Lists what is damaged and ends with exit code 3 if anything is.",
    .rows = verify_rows,
    .minimum_arguments = 1,
    .maximum_arguments = 1,
};

static int report_verify(const char *folder, const struct verify_report *report)
{
    char counts[4][32], bytes[2][32], seconds[32];
    for (size_t i = 0; i < report->count; i++)
        printf("%s\n", report->findings[i].text);
    if (report->damages > report->count)
        printf("... and %s more\n",
               log_count(counts[0], (int64_t)(report->damages - report->count)));
    printf("%s: %s records in %s shards %s: %s read in %s (%s/s)\n", folder,
           log_count(counts[1], (int64_t)report->records),
           log_count(counts[2], (int64_t)report->shards),
           report->damages ? "are whole" : "all whole", log_bytes(bytes[0], (double)report->bytes),
           log_seconds(seconds, report->seconds),
           log_bytes(bytes[1], (double)report->bytes / report->seconds));
    if (!report->damages)
        return 0;
    if (report->damages == report->unreadable_shards)
        return err_set(
            ERR_IO,
            "%s: %zu of %zu shards could not be read, nothing else is wrong: see to what "
            "is named there, then run the same command again",
            folder, report->unreadable_shards, report->shards);
    return err_set(ERR_INPUT,
                   "%s: damaged in %s places (%zu of %zu shards): copy these files again from "
                   "where they were whole, or pack the data set again",
                   folder, log_count(counts[3], (int64_t)report->damages), report->bad_shards,
                   report->shards);
}

int inspect_verify(int argc, char **argv)
{
    struct verify_settings settings;
    struct verify_report report;
    struct opts_result arguments;
    int rc = opts_parse(&inspect_verify_command, argc, argv, &settings, NULL, &arguments);
    if (rc)
        return rc;
    if (arguments.help) {
        opts_help(&inspect_verify_command);
        return 0;
    }
    const char *folder = arguments.arguments[0];
    if (!(rc = verify_data_set(folder, settings.jobs ? (int)settings.jobs : work_cores(), &report)))
        rc = report_verify(folder, &report);
    verify_release(&report);
    return rc;
}

/* ---- show ---- */

struct show_settings {
    const char *output;
};

static const struct opts_row show_rows[] = {
    {.name = "output",
     .value = "FILE.png",
     .type = OPTS_TEXT,
     .offset = offsetof(struct show_settings, output),
     .group = "Options",
     .help = "write the stored picture there (also -o FILE.png)"},
    OPTS_END,
};

const struct opts_command inspect_show_command = {
    .program = "prep show",
    .arguments = "OUT.lmdb INDEX|KEY",
    .summary =
        "Says what one record is, and writes its picture as PNG. INDEX counts from 0; KEY is "
        "\"class/file name\" as it was packed (every record's head is read to find it).",
    .rows = show_rows,
    .minimum_arguments = 2,
    .maximum_arguments = 2,
};

/* A search for KEY through all records, by several threads. */
struct search {
    struct dataset *dataset;
    const char *key;
    size_t key_size;
    atomic_uint_fast64_t next;  /* block of records to take */
    atomic_uint_fast64_t found; /* lowest index, or UINT64_MAX */
};

enum { SEARCH_BLOCK = 256 };

static void search_block(struct search *search, uint64_t first, uint64_t end)
{
    for (uint64_t i = first; i < end && i < search->found; i++) {
        struct record record;
        /* A damaged one cannot be the answer; the others still can be shown. */
        if (dataset_get(search->dataset, i, false, &record) ||
            record.name_size != search->key_size ||
            memcmp(record.name, search->key, search->key_size) != 0)
            continue;
        uint_fast64_t before = search->found;
        while (i < before && !atomic_compare_exchange_weak(&search->found, &before, i)) {
        }
    }
}

static int run_search(void *argument)
{
    struct search *search = argument;
    uint64_t images = dataset_manifest(search->dataset)->images;
    for (;;) {
        uint64_t first = search->next++ * SEARCH_BLOCK;
        if (first >= images || first > search->found)
            return 0;
        uint64_t end = first + SEARCH_BLOCK;
        search_block(search, first, end < images ? end : images);
    }
}

static int search_key(struct dataset *dataset, const char *key, uint64_t *index)
{
    struct search search = {.dataset = dataset, .key = key, .key_size = strlen(key)};
    struct work_crew *crew;
    char quoted[ERR_TEXT_SIZE / 2];
    search.found = UINT64_MAX;
    int rc = work_crew_open(&crew, NULL, NULL);
    if (rc)
        return rc;
    for (int i = 0; i < SEARCH_JOBS && !rc; i++)
        rc = work_crew_start(crew, "search", run_search, &search);
    work_crew_join(crew);
    work_crew_close(crew);
    if (rc)
        return rc;
    *index = search.found;
    return *index != UINT64_MAX
               ? 0
               : err_set(ERR_INPUT, "%s: there is no record \"%s\"; keys are \"class/file name\"",
                         dataset_folder(dataset), err_quote(quoted, sizeof quoted, key));
}

static int find_record(struct dataset *dataset, const char *wish, uint64_t *index)
{
    uint64_t images = dataset_manifest(dataset)->images;
    /* A key has a slash. */
    if (strchr(wish, '/'))
        return search_key(dataset, wish, index);
    char quoted[256];
    if (!*wish || strspn(wish, "0123456789") != strlen(wish))
        return err_set(ERR_USAGE, "\"%s\" is neither a number nor a key \"class/file name\"",
                       err_quote(quoted, sizeof quoted, wish));
    *index = strlen(wish) < 19 ? strtoull(wish, NULL, 10) : UINT64_MAX;
    return *index < images
               ? 0
               : err_set(ERR_INPUT, "%s: there is no record %s: the last one is %" PRIu64,
                         dataset_folder(dataset), wish, images - 1);
}

static void print_record(const struct dataset *dataset, uint64_t index, const struct record *record)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    const struct dataset_class *class = &manifest->classes[record->label];
    char name[RECORD_NAME_LIMIT + 1], quoted[2048], words[1024];
    size_t shard;
    uint32_t place;
    dataset_place(dataset, index, &shard, &place);
    memcpy(name, record->name, record->name_size);
    name[record->name_size] = 0;
    printf("index     %" PRIu64 "\n", index);
    printf("key       %s\n", err_quote(quoted, sizeof quoted, name));
    printf("class     %" PRIu32 " %s%s%s\n", record->label,
           err_quote(quoted, sizeof quoted, class->name), *class->words ? "  " : "",
           err_quote(words, sizeof words, class->words));
    printf("stored    %s, %" PRIu32 " x %" PRIu32 " pixels, %" PRIu64 " bytes\n",
           record_encoding_names[record->encoding], record->width, record->height,
           record->payload_size);
    printf("original  %" PRIu32 " x %" PRIu32 " pixels\n", record->original_width,
           record->original_height);
    printf("place     %s:%" PRIu32 "\n", manifest->shards[shard].file, place);
}

/* The record's picture as PNG bytes in *BYTES (mem_free it). */
static int make_png(const struct record *record, uint8_t **bytes, size_t *size)
{
    struct decoder *decoder = NULL;
    struct picture decoded = {0}, picture = {(int)record->width, (int)record->height,
                                             (uint8_t *)record->payload, 0};
    struct decode_info info;
    size_t capacity = 0;
    int rc = 0;
    if (record->encoding == RECORD_JPEG) {
        if (!(rc = decoder_open(&decoder)))
            rc = decoder_read(decoder, record->payload, (size_t)record->payload_size,
                              &decode_default_limits, &decoded, &info);
        picture = decoded;
    }
    if (!rc)
        rc = decoder_write_png(&picture, bytes, &capacity, size);
    picture_release(&decoded);
    decoder_close(decoder);
    return rc;
}

static int write_png(const struct record *record, const char *path)
{
    struct files_writer *writer = NULL;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = make_png(record, &bytes, &size);
    if (!rc && !(rc = files_writer_open(&writer, path)) &&
        !(rc = files_write(writer, bytes, size))) {
        rc = files_publish(writer);
        writer = NULL;
    }
    files_discard(writer);
    mem_free(bytes);
    if (!rc)
        printf("written   %s\n", path);
    return rc;
}

static int show(struct dataset *dataset, const char *wish, const char *output)
{
    struct record record;
    uint64_t index = 0;
    int rc = find_record(dataset, wish, &index);
    if (rc || (rc = dataset_get(dataset, index, true, &record)))
        return rc;
    print_record(dataset, index, &record);
    return output ? write_png(&record, output) : 0;
}

int inspect_show(int argc, char **argv)
{
    struct show_settings settings;
    struct opts_result arguments;
    struct dataset *dataset;
    static char output[] = "--output";
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "-o"))
            argv[i] = output;
    int rc = opts_parse(&inspect_show_command, argc, argv, &settings, NULL, &arguments);
    if (rc)
        return rc;
    if (arguments.help) {
        opts_help(&inspect_show_command);
        return 0;
    }
    if ((rc = dataset_open(&dataset, arguments.arguments[0])))
        return rc;
    rc = show(dataset, arguments.arguments[1], settings.output);
    dataset_close(dataset);
    return rc;
}
