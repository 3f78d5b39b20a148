/*
 * test_inspect.c - prep info, verify and show: what they print of a good data set, and that verify
 * finds every change of a damaged one and says where it is.
 */
#include <fcntl.h>

#include "common/dataset.h"
#include "common/decode.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/rng.h"
#include "prep/inspect.h"
#include "prep/verify.h"
#include "tests/test.h"

#define GOLDEN TEST_SOURCE "/data-spec/golden/data-set.lmdb"

/* ---- commands ---- */

static char printed[1 << 16]; /* what the last command printed */

/* Run COMMAND with up to four words after its name, its standard output in PRINTED. */
static int call(int (*command)(int, char **), const char *a, const char *b, const char *c,
                const char *d)
{
    const char *words[] = {"name", a, b, c, d};
    char copies[5][FILES_PATH_SIZE], *argv[6] = {NULL};
    int argc = 0;
    for (int i = 0; i < 5 && words[i]; i++, argc++) {
        snprintf(copies[i], sizeof copies[i], "%s", words[i]);
        argv[i] = copies[i];
    }
    char path[FILES_PATH_SIZE];
    files_join(path, test_folder(), "stdout");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDOUT_FILENO);
    int rc = command(argc, argv);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    ssize_t size = pread(file, printed, sizeof printed - 1, 0);
    printed[size > 0 ? size : 0] = 0;
    close(file);
    return rc;
}

/* A copy of the golden data set under NAME. */
static const char *copy_golden(const char *name)
{
    static char folder[FILES_PATH_SIZE];
    char command[3 * FILES_PATH_SIZE];
    files_join(folder, test_folder(), name);
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s' && chmod -R u+w '%s'", folder,
             GOLDEN, folder, folder);
    CHECK_INT(system(command), 0);
    return folder;
}

/* ---- info ---- */

static void test_info(void)
{
    CHECK_INT(call(inspect_info, GOLDEN, NULL, NULL, NULL), 0);
    CHECK_HAS(printed, "6 in 3 classes (1 to 3 a class)");
    CHECK_HAS(printed, "rgb, at most 40 x 40 pixels and 4.69 KiB a picture");
    CHECK_HAS(printed, "32.0 KiB in 2 shards");
    CHECK_HAS(printed, "encoding rgb, short_side 0");
    CHECK_HAS(printed, "packed by example");
    CHECK_HAS(printed, "2  n01440764  tench, Tinca tinca");
    CHECK_HAS(printed, "caf\\xe9");
    CHECK_INT(call(inspect_info, "/no/such.lmdb", NULL, NULL, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "does not exist");
    CHECK_INT(call(inspect_info, NULL, NULL, NULL, NULL), -ERR_USAGE);
    CHECK_INT(call(inspect_info, "--help", NULL, NULL, NULL), 0);
    CHECK_HAS(printed, "--json");
}

static void test_info_json(void)
{
    CHECK_INT(call(inspect_info, GOLDEN, "--json", NULL, NULL), 0);
    json_t *root = json_loads(printed, JSON_REJECT_DUPLICATES, NULL);
    CHECK(root != NULL);
    CHECK_INT(json_integer_value(json_object_get(root, "images")), 6);
    CHECK_INT(json_integer_value(json_object_get(root, "class_count")), 3);
    CHECK_INT(json_integer_value(json_object_get(root, "bytes")), 20480 + 12288);
    CHECK_INT(json_integer_value(json_object_get(root, "shards")), 2);
    CHECK_TEXT(json_string_value(json_object_get(root, "encoding")), "rgb");
    json_t *settings = json_object_get(root, "settings");
    CHECK(json_is_integer(json_object_get(settings, "short_side")));
    json_t *class = json_array_get(json_object_get(root, "classes"), 2);
    CHECK_INT(json_integer_value(json_object_get(class, "index")), 2);
    CHECK_TEXT(json_string_value(json_object_get(class, "name")), "n01443537");
    CHECK_TEXT(json_string_value(json_object_get(class, "words")), "goldfish, Carassius auratus");
    CHECK_INT(json_integer_value(json_object_get(class, "images")), 3);
    class = json_array_get(json_object_get(root, "classes"), 0);
    CHECK_TEXT(json_string_value(json_object_get(class, "name")), "caf\\xe9");
    CHECK_INT(json_array_size(json_object_get(root, "shard_list")), 2);
    json_decref(root);
}

/* ---- show ---- */

static void test_show(void)
{
    char path[FILES_PATH_SIZE];
    files_join(path, test_folder(), "out.png");
    CHECK_INT(call(inspect_show, GOLDEN, "2", "-o", path), 0);
    CHECK_HAS(printed, "index     2\n");
    CHECK_HAS(printed, "key       n01440764/c.JPEG\n");
    CHECK_HAS(printed, "class     1 n01440764  tench, Tinca tinca\n");
    CHECK_HAS(printed, "stored    rgb, 40 x 40 pixels, 4800 bytes\n");
    CHECK_HAS(printed, "original  500 x 375 pixels\n");
    CHECK_HAS(printed, "place     shard-00000.mdb:2\n");
    CHECK_HAS(printed, "out.png\n");

    /* The PNG holds the record's pixels: byte i is i * 7 + 2 * 13. */
    struct decoder *decoder;
    struct picture picture = {0};
    struct decode_info info;
    uint8_t *bytes;
    size_t size, wrong = 0;
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    CHECK_INT(decoder_open(&decoder), 0);
    CHECK_INT(decoder_read(decoder, bytes, size, &decode_default_limits, &picture, &info), 0);
    CHECK_INT(picture.width, 40);
    CHECK_INT(picture.height, 40);
    for (int i = 0; i < 4800; i++)
        wrong += picture.rgb[i] != (uint8_t)(i * 7 + 26);
    CHECK_INT(wrong, 0);
    picture_release(&picture);
    decoder_close(decoder);
    mem_free(bytes);

    CHECK_INT(call(inspect_show, GOLDEN, "n01443537/f.JPEG", NULL, NULL), 0);
    CHECK_HAS(printed, "index     5\n");
    CHECK_HAS(printed, "place     shard-00001.mdb:1\n");
    CHECK(!strstr(printed, "written"));
    CHECK_INT(call(inspect_show, GOLDEN, "caf\xe9/b.png", "--output", path), 0);
    CHECK_HAS(printed, "key       caf\\xe9/b.png\n");
    CHECK_INT(call(inspect_show, GOLDEN, "6", NULL, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "no record 6: the last one is 5");
    CHECK_INT(call(inspect_show, GOLDEN, "99999999999999999999999", NULL, NULL), -ERR_INPUT);
    CHECK_INT(call(inspect_show, GOLDEN, "n01443537/g.JPEG", NULL, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "no record \"n01443537/g.JPEG\"");
    CHECK_INT(call(inspect_show, GOLDEN, "f.JPEG", NULL, NULL), -ERR_USAGE);
    CHECK_INT(call(inspect_show, GOLDEN, NULL, NULL, NULL), -ERR_USAGE);
    CHECK_INT(call(inspect_show, GOLDEN, "1", "-o", "/no/such/folder/a.png"), -ERR_IO);
}

/* A picture stored as JPEG is shown as its decoded pixels. */
static void test_show_jpeg(void)
{
    static uint8_t rgb[24 * 16 * 3];
    struct picture picture = {24, 16, rgb, 0};
    struct decoder *decoder;
    uint8_t *jpeg = NULL;
    size_t capacity = 0, size = 0;
    memset(rgb, 90, sizeof rgb);
    CHECK_INT(decoder_open(&decoder), 0);
    CHECK_INT(decoder_write_jpeg(decoder, &picture, 95, &jpeg, &capacity, &size), 0);
    decoder_close(decoder);

    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct shard_writer *writer;
    struct shard_facts facts;
    const struct record record = {.width = 24,
                                  .height = 16,
                                  .original_width = 24,
                                  .original_height = 16,
                                  .encoding = RECORD_JPEG,
                                  .name = "a/1",
                                  .name_size = 3,
                                  .payload = jpeg,
                                  .payload_size = size};
    files_join(folder, test_folder(), "jpeg.lmdb");
    CHECK_INT(files_make_folder(folder), 0);
    files_join(path, folder, "shard-00000.mdb");
    CHECK_INT(shard_writer_open(&writer, path, 1 << 20), 0);
    CHECK_INT(shard_append(writer, &record), 0);
    CHECK_INT(shard_publish(writer, &facts), 0);
    struct dataset_class class = {"a", "", 1};
    struct dataset_shard shard = {"shard-00000.mdb", 1, facts.bytes, {0}};
    memcpy(shard.digest, facts.digest, sizeof facts.digest);
    const struct manifest manifest = {.classes = &class,
                                      .class_count = 1,
                                      .shards = &shard,
                                      .shard_count = 1,
                                      .encoding = RECORD_JPEG,
                                      .images = 1,
                                      .largest_width = 24,
                                      .largest_height = 16,
                                      .largest_payload = size,
                                      .settings = json_object(),
                                      .source = json_object()};
    CHECK_INT(dataset_publish(folder, &manifest), 0);
    json_decref(manifest.settings);
    json_decref(manifest.source);
    mem_free(jpeg);

    files_join(path, test_folder(), "jpeg.png");
    CHECK_INT(call(inspect_show, folder, "a/1", "-o", path), 0);
    CHECK_HAS(printed, "stored    jpeg, 24 x 16 pixels");
    uint8_t *png;
    CHECK_INT(files_read(path, 1 << 20, &png, &size), 0);
    CHECK_INT(memcmp(png, "\x89PNG", 4), 0);
    mem_free(png);
}

/* ---- verify ---- */

static void test_verify(void)
{
    CHECK_INT(call(inspect_verify, GOLDEN, NULL, NULL, NULL), 0);
    CHECK_HAS(printed, "6 records in 2 shards all whole: 32.0 KiB read");
    CHECK_INT(call(inspect_verify, "/no/such.lmdb", NULL, NULL, NULL), -ERR_INPUT);

    const char *folder = copy_golden("verify.lmdb");
    char path[2][FILES_PATH_SIZE];
    files_join(path[0], folder, "shard-00000.mdb");
    files_join(path[1], folder, "shard-00001.mdb");
    /* A pixel of record 2, which lies alone on its pages. */
    int file = open(path[0], O_RDWR);
    CHECK_INT(pwrite(file, "x", 1, 0x3100), 1);
    close(file);
    CHECK_INT(call(inspect_verify, folder, "--jobs", "1", NULL), -ERR_INPUT);
    CHECK_HAS(printed, "shard-00000.mdb: damaged: its digest is ");
    CHECK_HAS(printed, "shard-00000.mdb: damaged: record 2: its checksum is wrong\n");
    CHECK_HAS(printed, "5 records in 2 shards are whole");
    CHECK_HAS(err_text(), "damaged in 2 places (1 of 2 shards)");
    /* The same list for any number of jobs. */
    char first[1024];
    snprintf(first, sizeof first, "%.*s", (int)(strstr(printed, "verify.lmdb: 5") - printed),
             printed);
    CHECK_INT(call(inspect_verify, folder, "--jobs", "3", NULL), -ERR_INPUT);
    CHECK_INT(strncmp(printed, first, strlen(first)), 0);

    /* A shard away, another one that does not belong. */
    char away[FILES_PATH_SIZE];
    files_join(away, folder, "shard-00007.mdb");
    CHECK_INT(rename(path[1], away), 0);
    CHECK_INT(call(inspect_verify, folder, NULL, NULL, NULL), -ERR_INPUT);
    CHECK_HAS(printed, "shard-00001.mdb is missing\n");
    CHECK_HAS(printed, "shard-00007.mdb: the manifest does not know this file\n");
    CHECK_HAS(printed, "record 2: its checksum is wrong\n");
    CHECK_HAS(err_text(), "damaged in 4 places (2 of 2 shards)");

    /* Swapped shards. */
    folder = copy_golden("swapped.lmdb");
    files_join(path[0], folder, "shard-00000.mdb");
    files_join(path[1], folder, "shard-00001.mdb");
    files_join(away, folder, "x");
    CHECK_INT(rename(path[0], away) | rename(path[1], path[0]) | rename(away, path[1]), 0);
    CHECK_INT(call(inspect_verify, folder, NULL, NULL, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "damaged in 2 places (2 of 2 shards)");
}

/* Checksums are right, but the records are not what the manifest says: a fault of the packer. */
static void test_misfits(void)
{
    static const uint8_t payload[12];
    static const struct {
        const char *names[3];
        uint64_t images[2];
        uint32_t largest;
        const char *finding;
    } rows[] = {
        {{"a/1", "a/2", "b/1"}, {2, 1}, 2, NULL                                                          },
        {{"a/1", "a/2", "b/1"},
         {1, 2},
         2,                                "class a: the shards hold 2 pictures, but the manifest says 1"},
        {{"a/1", "a/1", "b/1"}, {2, 1}, 2, "records 0 and 1 are both named a/1"                          },
        {{"a/1", "b/2", "b/1"}, {2, 1}, 2, "record 1: its name is not one of its class"                  },
        {{"a/1", "a/", "b/1"},  {2, 1}, 2, "record 1: its name is not one of its class"                  },
        {{"a/1", "ab2", "b/1"}, {2, 1}, 2, "record 1: its name is not one of its class"                  },
        {{"a/1", "a/2", "b/1"}, {2, 1}, 1, "record 0: it is larger than the manifest's largest"          },
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
        struct shard_writer *writer;
        struct shard_facts facts;
        files_join(folder, test_folder(), "misfits.lmdb");
        CHECK_INT(files_make_folder(folder), 0);
        files_join(path, folder, "shard-00000.mdb");
        CHECK_INT(shard_writer_open(&writer, path, 1 << 20), 0);
        for (uint32_t i = 0; i < 3; i++) {
            const struct record record = {.label = i == 2,
                                          .width = 2,
                                          .height = 2,
                                          .original_width = 2,
                                          .original_height = 2,
                                          .name = rows[r].names[i],
                                          .name_size = (uint32_t)strlen(rows[r].names[i]),
                                          .payload = payload,
                                          .payload_size = 12};
            CHECK_INT(shard_append(writer, &record), 0);
        }
        CHECK_INT(shard_publish(writer, &facts), 0);
        struct dataset_class classes[] = {
            {"a", "", rows[r].images[0]},
            {"b", "", rows[r].images[1]}
        };
        struct dataset_shard shard = {"shard-00000.mdb", 3, facts.bytes, {0}};
        memcpy(shard.digest, facts.digest, sizeof facts.digest);
        const struct manifest manifest = {.classes = classes,
                                          .class_count = 2,
                                          .shards = &shard,
                                          .shard_count = 1,
                                          .images = 3,
                                          .largest_width = rows[r].largest,
                                          .largest_height = 2,
                                          .largest_payload = 12,
                                          .settings = json_object(),
                                          .source = json_object()};
        CHECK_INT(dataset_publish(folder, &manifest), 0);
        json_decref(manifest.settings);
        json_decref(manifest.source);
        CHECK_INT(call(inspect_verify, folder, NULL, NULL, NULL), rows[r].finding ? -ERR_INPUT : 0);
        if (rows[r].finding)
            CHECK_HAS(printed, rows[r].finding);
    }
}

/* Every byte of the golden data set changed, one at a time: found each time, by file. */
static void test_every_byte(void)
{
    static const char *const files[] = {MANIFEST_FILE, "shard-00000.mdb", "shard-00001.mdb"};
    const char *folder = copy_golden("bytes.lmdb");
    uint64_t changes = 0, found = 0;
    for (size_t f = 0; f < 3; f++) {
        char path[FILES_PATH_SIZE];
        enum files_type type;
        uint64_t size;
        files_join(path, folder, files[f]);
        CHECK_INT(files_type(path, &type, &size), 0);
        int file = open(path, O_RDWR);
        /* Shards: each byte that is not zero, and of the others every 31st. */
        for (uint64_t at = 0; at < size; at++) {
            uint8_t byte, changed;
            struct verify_report report;
            CHECK_INT(pread(file, &byte, 1, (off_t)at), 1);
            if (f > 0 && !byte && at % 31)
                continue;
            changed = byte ^ (uint8_t)(1 << at % 8);
            CHECK_INT(pwrite(file, &changed, 1, (off_t)at), 1);
            int rc = verify_data_set(folder, 1, &report);
            changes++;
            found += f == 0 ? rc == -ERR_INPUT || rc == -ERR_MISMATCH
                            : rc == 0 && report.damages > 0 && report.bad_shards == 1 &&
                                  report.findings[0].shard == f - 1;
            verify_release(&report);
            CHECK_INT(pwrite(file, &byte, 1, (off_t)at), 1);
        }
        close(file);
    }
    printf("damages: %llu found of %llu\n", (unsigned long long)found, (unsigned long long)changes);
    CHECK_INT(found, changes);
    CHECK(changes > 7000);
    CHECK_INT(call(inspect_verify, folder, NULL, NULL, NULL), 0);
}

/* Many damaged records: all are counted, some are listed, in order. */
static void test_many_findings(void)
{
    const struct record shape = {.width = 1,
                                 .height = 1,
                                 .original_width = 1,
                                 .original_height = 1,
                                 .payload = (const uint8_t *)"rgb",
                                 .payload_size = 3};
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE], name[16];
    struct shard_writer *writer;
    struct shard_facts facts;
    enum { RECORDS = 500 };
    files_join(folder, test_folder(), "many.lmdb");
    CHECK_INT(files_make_folder(folder), 0);
    files_join(path, folder, "shard-00000.mdb");
    CHECK_INT(shard_writer_open(&writer, path, 1 << 20), 0);
    for (int i = 0; i < RECORDS; i++) {
        struct record record = shape;
        record.name = name;
        record.name_size = (uint32_t)snprintf(name, sizeof name, "a/%d", i);
        CHECK_INT(shard_append(writer, &record), 0);
    }
    CHECK_INT(shard_publish(writer, &facts), 0);
    struct dataset_class class = {"a", "", RECORDS};
    struct dataset_shard shard = {"shard-00000.mdb", RECORDS, facts.bytes, {0}};
    memcpy(shard.digest, facts.digest, sizeof facts.digest);
    const struct manifest manifest = {.classes = &class,
                                      .class_count = 1,
                                      .shards = &shard,
                                      .shard_count = 1,
                                      .images = RECORDS,
                                      .largest_width = 1,
                                      .largest_height = 1,
                                      .largest_payload = 3,
                                      .settings = json_object(),
                                      .source = json_object()};
    CHECK_INT(dataset_publish(folder, &manifest), 0);
    json_decref(manifest.settings);
    json_decref(manifest.source);

    uint8_t *bytes;
    size_t size;
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    for (size_t i = 0; i + 3 <= size; i++)
        if (!memcmp(bytes + i, "rgb", 3))
            bytes[i] = 'R';
    int file = open(path, O_WRONLY);
    CHECK_INT(pwrite(file, bytes, size, 0), size);
    close(file);
    mem_free(bytes);
    struct verify_report report;
    CHECK_INT(verify_data_set(folder, 2, &report), 0);
    CHECK_INT(report.damages, RECORDS + 1);
    CHECK_INT(report.count, VERIFY_FINDINGS_LIMIT);
    for (size_t i = 0; i < report.count; i++)
        CHECK_INT(report.findings[i].record, (int64_t)i);
    verify_release(&report);
    CHECK_INT(call(inspect_verify, folder, NULL, NULL, NULL), -ERR_INPUT);
    CHECK_HAS(printed, "... and 401 more\n");
}

static const struct test tests[] = {
    {"info",          test_info         },
    {"info_json",     test_info_json    },
    {"show",          test_show         },
    {"show_jpeg",     test_show_jpeg    },
    {"verify",        test_verify       },
    {"misfits",       test_misfits      },
    {"every_byte",    test_every_byte   },
    {"many_findings", test_many_findings},
};

TEST_MAIN(tests)
