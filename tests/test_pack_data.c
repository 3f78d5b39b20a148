/* prep pack over the shared real pictures: their pixels in the data set are Pillow's and
 * torchvision's (hashes of tests/oracle/pictures.txt), and each odd file gets the verdict that the
 * table asks for. */
#include "prep/pack.h"

#include <inttypes.h>

#include "common/dataset.h"
#include "common/files.h"
#include "tests/pixels.h"
#include "tests/test.h"

enum { ROWS = 400 };

/* What the oracle says of a picture. */
static struct row {
    char file[256];
    unsigned width, height;
    uint64_t pixels, resized; /* hashes: as it is, and torchvision's Resize(256) of it */
} rows[ROWS];
static size_t row_count;

static void read_rows(void)
{
    char line[1024];
    FILE *file = fopen(TEST_SOURCE "/tests/oracle/pictures.txt", "r");
    CHECK(file != NULL);
    row_count = 0;
    while (file && row_count < ROWS && fgets(line, sizeof line, file)) {
        struct row *row = &rows[row_count];
        row_count += sscanf(line, "%255s %u %u %" SCNx64 " %" SCNx64, row->file, &row->width,
                            &row->height, &row->pixels, &row->resized) == 5;
    }
    if (file)
        fclose(file);
    CHECK(row_count > 200);
}

static const struct row *find_row(const char *folder, const char *name)
{
    char file[600];
    snprintf(file, sizeof file, "%s/%s", folder, name);
    for (size_t i = 0; i < row_count; i++)
        if (!strcmp(rows[i].file, file))
            return &rows[i];
    printf("no row for %s\n", file);
    CHECK(false);
    return NULL;
}

/* RECORD is what ROW says of its picture, packed with --short-side 256, or 0 when not SHRUNK. */
static void check_record(const struct record *record, const struct row *row, bool shrunk)
{
    bool resized = shrunk && row->width > 256 && row->height > 256;
    CHECK_INT(record->original_width, row->width);
    CHECK_INT(record->original_height, row->height);
    if (resized)
        CHECK_INT(record->width < record->height ? record->width : record->height, 256);
    uint64_t hash = pixel_hash(record->payload, record->payload_size);
    if (hash != (resized ? row->resized : row->pixels))
        printf("%s: other pixels than Pillow's%s\n", row->file, resized ? " after resizing" : "");
    CHECK(hash == (resized ? row->resized : row->pixels));
}

static int pack(const char *from, const char *to, const char *option, const char *value)
{
    char *words[] = {"pack", (char *)from, (char *)to, (char *)option, (char *)value};
    return pack_main(5, words);
}

static void path_of(char path[FILES_PATH_SIZE], const char *name)
{
    CHECK_INT(files_join(path, test_folder(), name), 0);
}

/* The pictures in data set TO: as many as EXPECTED, each as the oracle says. NAME_FROM: where the
 * file's name begins in "class/file". */
static void check_pixels(const char *to, const char *folder, uint64_t expected, bool shrunk)
{
    struct dataset *dataset;
    CHECK_INT(dataset_open(&dataset, to), 0);
    if (!dataset)
        return;
    CHECK_INT(dataset_manifest(dataset)->images, expected);
    for (uint64_t i = 0; i < dataset_manifest(dataset)->images; i++) {
        char name[RECORD_NAME_LIMIT + 1];
        struct record record;
        CHECK_INT(dataset_get(dataset, i, true, &record), 0);
        snprintf(name, sizeof name, "%.*s", (int)record.name_size, record.name);
        /* The odd files lie in folders named after their verdicts here, and flat there. */
        bool flat = !strcmp(folder, "oddities");
        const struct row *row = find_row(folder, flat ? strchr(name, '/') + 1 : name);
        if (row)
            check_record(&record, row, shrunk);
    }
    dataset_close(dataset);
}

static void test_fullsize(void)
{
    char to[FILES_PATH_SIZE];
    if (!test_data_exists("fullsize"))
        TEST_SKIP("%s has no fullsize", TEST_DATA);
    read_rows();
    path_of(to, "fullsize.lmdb");
    CHECK_INT(pack(TEST_DATA "/fullsize", to, "--short-side", "256"), 0);
    check_pixels(to, "fullsize", 150, true);
    path_of(to, "fullsize0.lmdb");
    CHECK_INT(pack(TEST_DATA "/fullsize", to, "--short-side", "0"), 0);
    check_pixels(to, "fullsize", 150, false);
}

/* ---- oddities ---- */

struct odd {
    char file[128], verdict[8], why[128];
};
static struct odd odds[ROWS];
static size_t odd_count;

/* Columns 1, 3 and 4 of the table; links to the files in folders named after the verdicts. */
static void read_odds(const char *folder)
{
    char line[4096], path[FILES_PATH_SIZE], target[FILES_PATH_SIZE];
    FILE *file = fopen(TEST_DATA "/oddities.tsv", "r");
    CHECK(file != NULL && fgets(line, sizeof line, file));
    while (file && odd_count < ROWS && fgets(line, sizeof line, file)) {
        struct odd *odd = &odds[odd_count++];
        char *rest = line, *fields[4];
        for (int i = 0; i < 4; i++)
            fields[i] = strsep(&rest, "\t");
        snprintf(odd->file, sizeof odd->file, "%s", fields[0]);
        snprintf(odd->verdict, sizeof odd->verdict, "%s", fields[2]);
        snprintf(odd->why, sizeof odd->why, "%s", fields[3]);
        snprintf(path, sizeof path, "%s/%s", folder, odd->verdict);
        CHECK_INT(files_make_folder(path), 0);
        snprintf(path, sizeof path, "%s/%s/%s", folder, odd->verdict, odd->file);
        snprintf(target, sizeof target, "%s/oddities/%s", TEST_DATA, odd->file);
        CHECK_INT(symlink(target, path), 0);
    }
    if (file)
        fclose(file);
    CHECK_INT(odd_count, 102);
}

/* PLACE, "shard-00000.mdb:17", is where FILE lies in data set TO of one shard. */
static void check_place(const char *to, const char *place, const char *file)
{
    struct dataset *dataset;
    struct record record = {.name = ""};
    unsigned number = 0;
    CHECK_INT(sscanf(place, "shard-00000.mdb:%u", &number), 1);
    CHECK_INT(dataset_open(&dataset, to), 0);
    if (dataset)
        CHECK_INT(dataset_get(dataset, number, true, &record), 0);
    if (strlen(file) != record.name_size || memcmp(file, record.name, record.name_size) != 0)
        printf("%s is not at %s\n", file, place);
    CHECK(strlen(file) == record.name_size && !memcmp(file, record.name, record.name_size));
    dataset_close(dataset);
}

/* LINE of bad.tsv in TO is what the table says; *COUNTS: bad, warn. */
static void check_line(const char *to, char *line, int counts[2], bool strict)
{
    char *verdict = strsep(&line, "\t"), *file = strsep(&line, "\t"), *reason = strsep(&line, "\t");
    for (size_t i = 0; reason && i < odd_count; i++) {
        const struct odd *odd = &odds[i];
        if (strcmp(strchr(file, '/') + 1, odd->file) != 0)
            continue;
        bool bad = strict || !strcmp(odd->verdict, "bad");
        CHECK_TEXT(verdict, bad ? "bad" : "warn");
        CHECK(!strncmp(file, odd->verdict, strlen(odd->verdict)));
        /* The table has the first 60 bytes. */
        if (strncmp(reason, odd->why, strlen(odd->why)) != 0)
            printf("%s: \"%s\", not \"%s\"\n", file, reason, odd->why);
        CHECK(!strncmp(reason, odd->why, strlen(odd->why)));
        if (bad)
            CHECK_TEXT(line, "-");
        else
            check_place(to, line, file);
        counts[bad ? 0 : 1]++;
        return;
    }
    printf("not in the table: %s\n", file ? file : verdict);
    CHECK(false);
}

static void check_list(const char *to, int bad, int warned, bool strict)
{
    char path[FILES_PATH_SIZE], line[4096];
    int counts[2] = {0, 0};
    CHECK_INT(files_join(path, to, "bad.tsv"), 0);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL && fgets(line, sizeof line, file));
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        check_line(to, line, counts, strict);
    }
    if (file)
        fclose(file);
    CHECK_INT(counts[0], bad);
    CHECK_INT(counts[1], warned);
}

static void test_oddities(void)
{
    char from[FILES_PATH_SIZE], to[FILES_PATH_SIZE];
    if (!test_data_exists("oddities.tsv"))
        TEST_SKIP("%s has no oddities", TEST_DATA);
    read_rows();
    path_of(from, "odd");
    read_odds(from);
    path_of(to, "odd.lmdb");
    CHECK_INT(pack(from, to, "--max-bad", "26"), -ERR_INPUT);
    CHECK_HAS(err_text(), "27 of 102");
    CHECK_INT(pack(from, to, "--max-bad", "27"), 0);
    check_list(to, 27, 10, false);
    check_pixels(to, "oddities", 75, true);
    path_of(to, "odd-strict.lmdb");
    CHECK_INT(pack(from, to, "--strict", "--max-bad=37"), 0);
    check_list(to, 37, 0, true);
}

static const struct test tests[] = {
    {"fullsize", test_fullsize},
    {"oddities", test_oddities},
};

TEST_MAIN(tests)
