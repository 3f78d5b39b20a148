/*
 * test_dataset.c - data sets: what is published is opened again; the manifest's bytes are the same
 * for the same content; whatever does not add up is refused by file and key; what is there instead
 * of a data set is said.
 */
#include <sys/stat.h>

#include "common/dataset.h"
#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "tests/test.h"

/* ---- a small data set: 3 classes, 2 shards of 4 and 3 records ---- */

enum { IMAGES = 7 };

static const uint32_t labels[IMAGES] = {2, 0, 1, 0, 2, 0, 0};

static void make_record(uint64_t index, struct record *out, char name[32], uint8_t payload[300])
{
    uint32_t width = 3 + (uint32_t)index, height = 2 + (uint32_t)index % 3;
    static const char *const names[] = {"apple", "pear", "\xff plum"};
    snprintf(name, 32, "%s/%llu.png", names[labels[index]], (unsigned long long)index);
    for (uint32_t i = 0; i < width * height * 3; i++)
        payload[i] = (uint8_t)(i * 7 + index);
    *out = (struct record){.label = labels[index],
                           .width = width,
                           .height = height,
                           .original_width = width * 2,
                           .original_height = height * 2,
                           .encoding = RECORD_RGB,
                           .name = name,
                           .name_size = (uint32_t)strlen(name),
                           .payload = payload,
                           .payload_size = width * height * 3};
}

/* A manifest with room for what it points to. */
struct small {
    struct dataset_class classes[3];
    struct dataset_shard shards[2];
    char files[2][MANIFEST_SHARD_FILE_SIZE];
    struct manifest manifest;
};

static void write_shards(const char *folder, struct small *out)
{
    CHECK_INT(files_make_folder(folder), 0);
    for (size_t k = 0; k < 2; k++) {
        struct shard_writer *writer;
        struct shard_facts facts;
        char path[FILES_PATH_SIZE];
        /* A number is left out, as if all pictures of shard 1 were bad. */
        snprintf(out->files[k], sizeof out->files[k], MANIFEST_SHARD_FILE, k * 2);
        files_join(path, folder, out->files[k]);
        CHECK_INT(shard_writer_open(&writer, path, 1 << 20), 0);
        for (uint64_t i = k ? 4 : 0; i < (k ? IMAGES : 4); i++) {
            struct record record;
            char name[32];
            uint8_t payload[300];
            make_record(i, &record, name, payload);
            CHECK_INT(shard_append(writer, &record), 0);
        }
        CHECK_INT(shard_publish(writer, &facts), 0);
        out->shards[k] = (struct dataset_shard){out->files[k], facts.records, facts.bytes, {0}};
        memcpy(out->shards[k].digest, facts.digest, sizeof facts.digest);
    }
}

/* Shards and a manifest that is right, not yet published. */
static void make_small(const char *folder, struct small *out)
{
    write_shards(folder, out);
    out->classes[0] = (struct dataset_class){"apple", "apple, \"fruit\" of a tree", 4};
    out->classes[1] = (struct dataset_class){"pear", "", 1};
    out->classes[2] = (struct dataset_class){"\xff plum", "Pflaume \xc3\xbc", 2};
    out->manifest = (struct manifest){
        .classes = out->classes,
        .class_count = 3,
        .shards = out->shards,
        .shard_count = 2,
        .encoding = RECORD_RGB,
        .images = IMAGES,
        .largest_width = 9,
        .largest_height = 4,
        .largest_payload = 96,
        .settings = json_pack("{s:i, s:s}", "short_side", 256, "encoding", "rgb"),
        .source = json_pack("{s:i, s:i}", "files", 9, "bad", 2),
        .tool = "test 1.0",
    };
}

static void release_small(struct small *small)
{
    json_decref(small->manifest.settings);
    json_decref(small->manifest.source);
}

static const char *folder_path(const char *name)
{
    static char path[FILES_PATH_SIZE];
    files_join(path, test_folder(), name);
    return path;
}

/* ---- cases ---- */

static void check_records(struct dataset *dataset)
{
    for (uint64_t i = 0; i < IMAGES; i++) {
        struct record expected, read;
        char name[32];
        uint8_t payload[300];
        make_record(i, &expected, name, payload);
        dataset_will_need(dataset, i);
        CHECK_INT(dataset_get(dataset, i, true, &read), 0);
        CHECK_INT(read.label, expected.label);
        CHECK_INT(read.width, expected.width);
        CHECK_INT(read.original_height, expected.original_height);
        CHECK_INT(read.name_size, expected.name_size);
        CHECK_INT(memcmp(read.name, expected.name, read.name_size), 0);
        CHECK_INT(read.payload_size, expected.payload_size);
        CHECK_INT(memcmp(read.payload, expected.payload, read.payload_size), 0);
        size_t shard;
        uint32_t record;
        dataset_place(dataset, i, &shard, &record);
        CHECK_INT(shard, i >= 4);
        CHECK_INT(record, i >= 4 ? i - 4 : i);
    }
}

static void test_round_trip(void)
{
    const char *folder = folder_path("round.lmdb");
    struct small small;
    struct dataset *dataset;
    make_small(folder, &small);
    CHECK_INT(dataset_publish(folder, &small.manifest), 0);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    const struct manifest *manifest = dataset_manifest(dataset);
    CHECK_INT(manifest->class_count, 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK_TEXT(manifest->classes[i].name, small.classes[i].name);
        CHECK_TEXT(manifest->classes[i].words, small.classes[i].words);
        CHECK_INT(manifest->classes[i].images, small.classes[i].images);
    }
    CHECK_INT(manifest->shard_count, 2);
    CHECK_TEXT(manifest->shards[1].digest, small.shards[1].digest);
    CHECK_INT(manifest->images, IMAGES);
    CHECK_INT(manifest->largest_width, 9);
    CHECK_INT(manifest->largest_height, 4);
    CHECK_INT(manifest->largest_payload, 96);
    CHECK_TEXT(manifest->tool, "test 1.0");
    CHECK(json_equal(manifest->settings, small.manifest.settings));
    CHECK(json_equal(manifest->source, small.manifest.source));
    CHECK_TEXT(dataset_folder(dataset), folder);
    check_records(dataset);
    struct record record;
    CHECK_INT(dataset_get(dataset, IMAGES, true, &record), -ERR_FAULT);
    dataset_will_need(dataset, IMAGES);

    /* The digest of the class names is that of "apple\0pear\0\xff plum\0". */
    struct digest *digest;
    char expected[33];
    CHECK_INT(digest_open(&digest), 0);
    digest_add(digest, "apple\0pear\0\xff plum", 18);
    digest_value128(digest, expected);
    digest_close(digest);
    CHECK_TEXT(dataset_class_digest(dataset), expected);
    CHECK_INT(strlen(dataset_digest(dataset)), 32);
    dataset_close(dataset);
    dataset_close(NULL);

    /* The manifest alone: records are not to be had. */
    CHECK_INT(dataset_open_manifest(&dataset, folder), 0);
    CHECK_INT(dataset_get(dataset, 0, true, &record), -ERR_FAULT);
    dataset_will_need(dataset, 0);
    dataset_close(dataset);
    release_small(&small);
}

static void test_same_bytes(void)
{
    char digests[2][33];
    for (int i = 0; i < 2; i++) {
        const char *folder = folder_path(i ? "same1.lmdb" : "same0.lmdb");
        struct small small;
        char path[FILES_PATH_SIZE];
        uint64_t size;
        make_small(folder, &small);
        if (i) { /* other order of insertion, other memory */
            json_decref(small.manifest.settings);
            small.manifest.settings = json_pack("{s:s, s:i}", "encoding", "rgb", "short_side", 256);
        }
        CHECK_INT(dataset_publish(folder, &small.manifest), 0);
        files_join(path, folder, MANIFEST_FILE);
        CHECK_INT(digest_file(path, digests[i], &size), 0);
        release_small(&small);
    }
    CHECK_TEXT(digests[0], digests[1]);
}

/* What is in a folder without a manifest. */
static void test_missing(void)
{
    struct dataset *dataset;
    struct small small;
    CHECK_INT(dataset_open(&dataset, folder_path("none.lmdb")), -ERR_INPUT);
    CHECK_HAS(err_text(), "does not exist");
    CHECK_HAS(err_text(), "prep pack SRC");
    CHECK_INT(files_make_folder(folder_path("empty.lmdb")), 0);
    CHECK_INT(dataset_open(&dataset, folder_path("empty.lmdb")), -ERR_INPUT);
    CHECK_HAS(err_text(), "no data set");
    /* What prep pack leaves before its first shard, and after it. */
    FILE *plan = fopen(folder_path("empty.lmdb/plan.json"), "w");
    CHECK(plan != NULL);
    if (plan)
        fclose(plan);
    CHECK_INT(dataset_open(&dataset, folder_path("empty.lmdb")), -ERR_INPUT);
    CHECK_HAS(err_text(), "not finished: prep pack was interrupted");
    write_shards(folder_path("half.lmdb"), &small);
    CHECK_INT(dataset_open(&dataset, folder_path("half.lmdb")), -ERR_INPUT);
    CHECK_HAS(err_text(), "not finished: prep pack was interrupted");
    CHECK_INT(dataset_open(&dataset, folder_path("half.lmdb/shard-00000.mdb")), -ERR_INPUT);
    CHECK_HAS(err_text(), "not a folder");
}

/* A shard that the manifest does not know, or the other way round. */
static void test_wrong_shards(void)
{
    struct dataset *dataset;
    struct small small;
    char a[FILES_PATH_SIZE], b[FILES_PATH_SIZE], c[FILES_PATH_SIZE];
    const char *folder = folder_path("wrong.lmdb");
    make_small(folder, &small);
    CHECK_INT(dataset_publish(folder, &small.manifest), 0);
    files_join(a, folder, "shard-00000.mdb");
    files_join(b, folder, "shard-00002.mdb");
    files_join(c, folder, "away");
    CHECK_INT(rename(a, c), 0);
    CHECK_INT(dataset_open(&dataset, folder), -ERR_INPUT);
    CHECK_HAS(err_text(), "shard-00000.mdb is missing");
    CHECK_HAS(err_text(), "prep verify");
    CHECK_INT(rename(b, a), 0);
    CHECK_INT(rename(c, b), 0);
    CHECK_INT(dataset_open(&dataset, folder), -ERR_INPUT);
    CHECK_HAS(err_text(), "shard-00000.mdb: damaged: it holds 3 records, not 4");
    release_small(&small);

    /* A reader's buffers are sized by the manifest: what is larger is not handed out. */
    folder = folder_path("large.lmdb");
    make_small(folder, &small);
    small.manifest.largest_width = 8;
    CHECK_INT(dataset_publish(folder, &small.manifest), 0);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    struct record record;
    CHECK_INT(dataset_get(dataset, 5, true, &record), 0);
    CHECK_INT(dataset_get(dataset, 6, true, &record), -ERR_INPUT);
    CHECK_HAS(err_text(), "not within the manifest's");
    dataset_close(dataset);
    release_small(&small);
}

/* ---- manifests that do not add up ---- */

/* A manifest after one change, given to dataset_publish. */
static void refuse_publish(void (*change)(struct small *), const char *message)
{
    struct small small;
    const char *folder = folder_path("refused.lmdb");
    char path[FILES_PATH_SIZE];
    enum files_type type;
    make_small(folder, &small);
    change(&small);
    CHECK_INT(dataset_publish(folder, &small.manifest), -ERR_FAULT);
    CHECK_HAS(err_text(), message);
    files_join(path, folder, MANIFEST_FILE);
    CHECK_INT(files_type(path, &type, NULL), 0);
    CHECK_INT(type, FILES_NOTHING);
    release_small(&small);
}

static void swap_classes(struct small *small)
{
    struct dataset_class class = small->classes[0];
    small->classes[0] = small->classes[1];
    small->classes[1] = class;
}

static void repeat_class(struct small *small)
{
    small->classes[1].name = "apple";
}

static void slash_class(struct small *small)
{
    small->classes[1].name = "b/c";
}

static void dot_class(struct small *small)
{
    small->classes[0].name = "..";
}

static void empty_class(struct small *small)
{
    small->classes[0].name = "";
}

static void count_class(struct small *small)
{
    small->classes[0].images++;
}

static void count_shard(struct small *small)
{
    small->shards[1].records++;
}

static void name_shard(struct small *small)
{
    small->shards[1].file = "../shard-00001.mdb";
}

static void repeat_shard(struct small *small)
{
    small->shards[1].file = "shard-00000.mdb";
}

static void odd_shard(struct small *small)
{
    small->shards[1].file = "shard-1.mdb";
}

static void name_digest(struct small *small)
{
    small->shards[0].digest[5] = 'A';
}

static void no_classes(struct small *small)
{
    small->manifest.class_count = 0;
}

static void no_width(struct small *small)
{
    small->manifest.largest_width = 0;
}

static void list_settings(struct small *small)
{
    json_decref(small->manifest.settings);
    small->manifest.settings = json_array();
}

static void test_publish_refuses(void)
{
    refuse_publish(swap_classes, "classes[1].name: the classes are not in ascending byte order");
    refuse_publish(repeat_class, "classes[1].name: the classes are not in ascending byte order");
    refuse_publish(slash_class, "classes[1].name: cannot be a folder's name");
    refuse_publish(dot_class, "classes[0].name: cannot be a folder's name");
    refuse_publish(empty_class, "classes[0].name: cannot be a folder's name");
    refuse_publish(count_class, "images: not the sum of the classes' images");
    refuse_publish(count_shard, "images: not the sum of the shards' records");
    refuse_publish(name_shard, "shards[1].file: not a shard's name");
    refuse_publish(odd_shard, "shards[1].file: not a shard's name");
    refuse_publish(repeat_shard, "shards[1].file: the shards are not in ascending order");
    refuse_publish(name_digest, "shards[0].digest: not 32 hexadecimal digits");
    refuse_publish(no_classes, "classes: not a list, empty, or too long");
    refuse_publish(no_width, "largest_width: not a whole number from 1");
    refuse_publish(list_settings, "must be objects");
}

/* Replace FROM by TO in the manifest's text, mend its digest, and read it. */
static int read_changed(const char *text, const char *from, const char *to)
{
    struct manifest manifest;
    static char changed[16384];
    const char *at = strstr(text, from);
    if (!at)
        return 1;
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    char *digits = strstr(changed, "\"manifest_digest\": \"");
    if (digits) {
        struct digest *digest;
        char value[33];
        digits += 20;
        memset(digits, '0', 32);
        CHECK_INT(digest_open(&digest), 0);
        digest_add(digest, changed, strlen(changed));
        digest_value128(digest, value);
        digest_close(digest);
        memcpy(digits, value, 32);
    }
    int rc = manifest_read(&manifest, "m.json", changed, strlen(changed));
    manifest_release(&manifest);
    return rc;
}

static char *read_small_manifest(const char *name)
{
    struct small small;
    char path[FILES_PATH_SIZE];
    uint8_t *text;
    size_t size;
    const char *folder = folder_path(name);
    make_small(folder, &small);
    CHECK_INT(dataset_publish(folder, &small.manifest), 0);
    files_join(path, folder, MANIFEST_FILE);
    CHECK_INT(files_read(path, 1 << 20, &text, &size), 0);
    release_small(&small);
    return (char *)text;
}

static void test_strict_reading(void)
{
    static const struct {
        const char *from, *to;
        int rc;
        const char *message;
    } rows[] = {
        {"\"images\": 7",                 "\"images\": 7",                    0,             ""                              },
        {"\"format_version\": 1",         "\"format_version\": 2",            -ERR_MISMATCH, "2 is newer than 1"             },
        {"\"format_version\": 1",         "\"format_version\": 0",            -ERR_INPUT,    "format_version"                },
        {"prep data set",                 "other data",                       -ERR_INPUT,    "not the manifest of a data set"},
        {"\"manifest_digest\"",           "\"manifest_digits\"",              -ERR_INPUT,    "manifest_digest is missing"    },
        {"\"images\": 7",                 "\"images\": 7.0",                  -ERR_INPUT,    "images: not a whole number"    },
        {"\"images\": 7",                 "\"images\": -7",                   -ERR_INPUT,    "images: not a whole number"    },
        {"\"images\": 7",                 "\"images\": 99999999999999999999", -ERR_INPUT,    "line"                          },
        {"\"images\": 7",                 "\"images\": 7, \"images\": 7",     -ERR_INPUT,    "duplicate"                     },
        {"\"images\": 7",                 "\"images\": 7, \"more\\n\": 7",    -ERR_INPUT,    "more\\x0a: unknown key"        },
        {"\"images\": 4",                 "\"images\": 4, \"x\": 7",          -ERR_INPUT,    "classes[0].x: unknown key"     },
        {"\"records\": 4",                "\"records\": 4, \"y\": 7",         -ERR_INPUT,    "shards[0].y: unknown key"      },
        {"\"encoding\": \"rgb\",\n  \"f", "\"encoding\": \"png\",\n  \"f",    -ERR_INPUT,
         "encoding: neither rgb nor jpeg"                                                                                    },
        {"\"index\": 1",                  "\"index\": 2",                     -ERR_INPUT,    "classes[1].index"              },
        {"\"name\": \"pear\"",            "\"name\": 5",                      -ERR_INPUT,    "classes[1].name"               },
        {"\"name\": \"pear\"",            "\"nome\": 5",                      -ERR_INPUT,    "classes[1].nome: unknown key"  },
        {"\"name\": \"pear\"",            "\"name\": \"pe\\u0000ar\"",        -ERR_INPUT,    "line"                          },
        {"\"name\": \"pear\"",            "\"name_hex\": \"70656172\"",       -ERR_INPUT,    "not UTF-8"                     },
        {"\"ff20706c756d\"",              "\"ff20706c756\"",                  -ERR_INPUT,    "classes[2].name_hex"           },
        {"\"ff20706c756d\"",              "\"ff00706c756d\"",                 -ERR_INPUT,    "classes[2].name_hex"           },
        {"\"ff20706c756d\"",              "\"FF20706c756d\"",                 -ERR_INPUT,    "classes[2].name_hex"           },
        {"\"settings\": {",               "\"settings\": [{",                 -ERR_INPUT,    "line"                          },
        {"\"bytes\":",                    "\"bytes\": 0, \"bites\":",         -ERR_INPUT,    "shards[0]"                     },
    };
    char *text = read_small_manifest("strict.lmdb");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT(read_changed(text, rows[i].from, rows[i].to), rows[i].rc);
        if (rows[i].rc)
            CHECK_HAS(err_text(), rows[i].message);
    }
    struct manifest manifest;
    CHECK_INT(manifest_read(&manifest, "m.json", "[]", 2), -ERR_INPUT);
    CHECK_HAS(err_text(), "m.json: not an object");
    manifest_release(&manifest);
    CHECK_INT(manifest_read(&manifest, "m.json", "", 0), -ERR_INPUT);
    manifest_release(&manifest);
    mem_free(text);
}

/* Every single-byte change of the manifest, every cut. */
static void test_damaged_manifest(void)
{
    char *text = read_small_manifest("damaged.lmdb");
    struct manifest manifest;
    size_t size = strlen(text), missed = 0;
    CHECK_INT(manifest_read(&manifest, "m.json", text, size), 0);
    manifest_release(&manifest);
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            missed += manifest_read(&manifest, "m.json", text, size) == 0;
            manifest_release(&manifest);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    CHECK_INT(missed, 0);
    for (size_t length = 0; length < size; length++) {
        char last = text[length];
        text[length] = 0;
        CHECK(manifest_read(&manifest, "m.json", text, length) == -ERR_INPUT);
        manifest_release(&manifest);
        text[length] = last;
    }
    mem_free(text);
}

/* ---- data-spec/golden/data-set.lmdb, which data-spec/20-data-set.md explains ---- */

#define GOLDEN TEST_SOURCE "/data-spec/golden/data-set.lmdb"
#define GOLDEN_LIST TEST_SOURCE "/data-spec/golden/data-set.tsv"

enum { GOLDEN_RECORDS = 6, GOLDEN_FIRST = 4 };

static const struct {
    uint32_t label, width, height;
    const char *name;
} golden[GOLDEN_RECORDS] = {
    {2, 2,  1,  "n01443537/a.JPEG"},
    {0, 1,  1,  "caf\xe9/b.png"   },
    {1, 40, 40, "n01440764/c.JPEG"},
    {2, 8,  3,  "n01443537/d.JPEG"},
    {1, 2,  2,  "n01440764/e.JPEG"},
    {2, 1,  2,  "n01443537/f.JPEG"},
};

static void golden_record(uint64_t index, struct record *out, uint8_t payload[4800])
{
    uint32_t width = golden[index].width, height = golden[index].height;
    for (uint32_t i = 0; i < width * height * 3; i++)
        payload[i] = (uint8_t)(i * 7 + index * 13);
    *out = (struct record){.label = golden[index].label,
                           .width = width,
                           .height = height,
                           .original_width = 500,
                           .original_height = 375,
                           .encoding = RECORD_RGB,
                           .name = golden[index].name,
                           .name_size = (uint32_t)strlen(golden[index].name),
                           .payload = payload,
                           .payload_size = width * height * 3};
}

static void write_golden(const char *folder)
{
    struct dataset_class classes[] = {
        {"caf\xe9",   "",                            1},
        {"n01440764", "tench, Tinca tinca",          2},
        {"n01443537", "goldfish, Carassius auratus", 3},
    };
    struct dataset_shard shards[2];
    struct shard_facts facts;
    CHECK_INT(files_make_folder(folder), 0);
    for (size_t k = 0; k < 2; k++) {
        static char files[2][MANIFEST_SHARD_FILE_SIZE];
        static uint8_t payload[4800];
        struct shard_writer *writer;
        struct record record;
        char path[FILES_PATH_SIZE];
        snprintf(files[k], sizeof files[k], MANIFEST_SHARD_FILE, k);
        files_join(path, folder, files[k]);
        CHECK_INT(shard_writer_open(&writer, path, 1 << 20), 0);
        for (uint64_t i = k ? GOLDEN_FIRST : 0; i < (k ? GOLDEN_RECORDS : GOLDEN_FIRST); i++) {
            golden_record(i, &record, payload);
            CHECK_INT(shard_append(writer, &record), 0);
        }
        CHECK_INT(shard_publish(writer, &facts), 0);
        shards[k] = (struct dataset_shard){files[k], facts.records, facts.bytes, {0}};
        memcpy(shards[k].digest, facts.digest, sizeof facts.digest);
    }
    const struct manifest manifest = {
        .classes = classes,
        .class_count = 3,
        .shards = shards,
        .shard_count = 2,
        .encoding = RECORD_RGB,
        .images = GOLDEN_RECORDS,
        .largest_width = 40,
        .largest_height = 40,
        .largest_payload = 4800,
        .settings = json_pack("{s:s, s:i}", "encoding", "rgb", "short_side", 0),
        .source = json_pack("{s:i}", "files", GOLDEN_RECORDS),
        .tool = "example",
    };
    CHECK_INT(dataset_publish(folder, &manifest), 0);
    json_decref(manifest.settings);
    json_decref(manifest.source);
}

/* Write what tests/tools/read_data_set.py prints of the data set FOLDER. */
static void list_records(const char *folder, const char *path)
{
    struct dataset *dataset;
    FILE *list = fopen(path, "w");
    CHECK(list != NULL);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    for (uint64_t i = 0; list && dataset && i < dataset_manifest(dataset)->images; i++) {
        struct record r;
        CHECK_INT(dataset_get(dataset, i, true, &r), 0);
        const uint8_t *value = r.payload - r.name_size - RECORD_HEADER_SIZE;
        size_t size = RECORD_HEADER_SIZE + r.name_size + r.payload_size;
        fprintf(list, "%llu\t%.*s\t%u\t%s\t%u\t%u\t%u\t%u\t%s\t%llu\t%016llx\n",
                (unsigned long long)i, (int)r.name_size, r.name, r.label,
                dataset_manifest(dataset)->classes[r.label].name, r.width, r.height,
                r.original_width, r.original_height, record_encoding_names[r.encoding],
                (unsigned long long)r.payload_size,
                (unsigned long long)digest64(value + 8, size - 8));
    }
    if (list)
        fclose(list);
    dataset_close(dataset);
}

static void compare_files(const char *path, const char *expected)
{
    char digests[2][33];
    uint64_t size;
    CHECK_INT(digest_file(path, digests[0], &size), 0);
    CHECK_INT(digest_file(expected, digests[1], &size), 0);
    if (strcmp(digests[0], digests[1]) != 0) {
        printf("%s differs from %s\n", path, expected);
        test_failures++;
    }
}

/* The golden files are what this program writes (TEST_WRITE_GOLDEN=1 makes them anew), and what it
 * reads. */
static void test_golden(void)
{
    static const char *const files[] = {MANIFEST_FILE, "shard-00000.mdb", "shard-00001.mdb"};
    struct dataset *dataset;
    char folder[FILES_PATH_SIZE], list[FILES_PATH_SIZE];
    files_join(folder, test_folder(), "golden.lmdb");
    files_join(list, test_folder(), "golden.tsv");
    if (getenv("TEST_WRITE_GOLDEN")) {
        write_golden(GOLDEN);
        list_records(GOLDEN, GOLDEN_LIST);
    }
    CHECK_INT(dataset_open(&dataset, GOLDEN), 0);
    for (uint64_t i = 0; dataset && i < GOLDEN_RECORDS; i++) {
        static uint8_t payload[4800];
        struct record expected, read;
        golden_record(i, &expected, payload);
        CHECK_INT(dataset_get(dataset, i, true, &read), 0);
        CHECK_INT(read.label, expected.label);
        CHECK_INT(read.width, expected.width);
        CHECK_INT(read.height, expected.height);
        CHECK_INT(read.original_width, expected.original_width);
        CHECK_INT(read.original_height, expected.original_height);
        CHECK_INT(read.name_size, expected.name_size);
        CHECK_INT(memcmp(read.name, expected.name, read.name_size), 0);
        CHECK_INT(read.payload_size, expected.payload_size);
        CHECK_INT(memcmp(read.payload, expected.payload, read.payload_size), 0);
    }
    dataset_close(dataset);
    list_records(GOLDEN, list);
    compare_files(list, GOLDEN_LIST);
    if (sysconf(_SC_PAGESIZE) != 4096)
        TEST_SKIP("this machine's pages are not of 4096 bytes, so LMDB writes other files");
    write_golden(folder);
    for (size_t i = 0; i < sizeof files / sizeof(char *); i++) {
        char path[2][FILES_PATH_SIZE];
        files_join(path[0], folder, files[i]);
        files_join(path[1], GOLDEN, files[i]);
        compare_files(path[0], path[1]);
    }
}

/* Every line `    1f02: 4a 45 ...` of the document is what stands there in the file that the last
 * line `File NAME:` named; text blocks in between are not looked at. */
static void test_document(void)
{
    FILE *document = fopen(TEST_SOURCE "/data-spec/20-data-set.md", "r");
    char line[1024], name[64] = "";
    uint8_t *bytes = NULL;
    size_t size = 0, compared = 0;
    CHECK(document != NULL);
    while (document && fgets(line, sizeof line, document)) {
        unsigned long at;
        int used = 0;
        if (sscanf(line, "File `%63[^`]`:", name) == 1) {
            char path[FILES_PATH_SIZE];
            files_join(path, GOLDEN, name);
            mem_free(bytes);
            bytes = NULL;
            CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
        } else if (bytes && sscanf(line, "    %4lx:%n", &at, &used) == 1 && used == 9) {
            unsigned value;
            /* Bytes have one space before them; more begin a remark. */
            for (const char *next = line + used;
                 next[0] == ' ' && next[1] != ' ' && sscanf(next, "%2x", &value) == 1;
                 next += 3, at++, compared++)
                if (at >= size || bytes[at] != value) {
                    printf("%s: byte %lx is not %02x: %s", name, at, value, line);
                    test_failures++;
                }
        }
    }
    CHECK(compared >= 200);
    mem_free(bytes);
    if (document)
        fclose(document);
}

static const struct test tests[] = {
    {"golden",           test_golden          },
    {"document",         test_document        },
    {"round_trip",       test_round_trip      },
    {"same_bytes",       test_same_bytes      },
    {"missing",          test_missing         },
    {"wrong_shards",     test_wrong_shards    },
    {"publish_refuses",  test_publish_refuses },
    {"strict_reading",   test_strict_reading  },
    {"damaged_manifest", test_damaged_manifest},
};

TEST_MAIN(tests)
