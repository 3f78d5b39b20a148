/* The devkit: the real one against independent answers, small ones made here, and hostile files. */
#include "tests/test.h"

#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/rng.h"
#include "prep/devkit.h"
#include "prep/meta_mat.h"

#define ANSWERS "ILSVRC2012_validation_ground_truth.txt"

static const char *data_path(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    return path;
}

static const char *made_path(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void save(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(made_path(name), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
        perror(name);
        exit(1);
    }
}

/* ---- small MAT files, byte by byte, so that what matio reads was not written by matio ---- */

struct bytes {
    uint8_t at[65536];
    size_t size;
};

static void put_u32(struct bytes *b, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        b->at[b->size++] = (uint8_t)(value >> 8 * i);
}

/* A data element; up to 4 bytes are stored in the tag, as the official file does. */
static void put_element(struct bytes *b, uint32_t type, const void *data, size_t size)
{
    if (size >= 1 && size <= 4) {
        put_u32(b, type | (uint32_t)size << 16);
        memset(b->at + b->size, 0, 4);
        memcpy(b->at + b->size, data, size);
        b->size += 4;
        return;
    }
    put_u32(b, type);
    put_u32(b, (uint32_t)size);
    if (size)
        memcpy(b->at + b->size, data, size);
    b->size += size;
    while (b->size % 8)
        b->at[b->size++] = 0;
}

/* Begin a matrix without a name; returns where its size goes. */
static size_t begin_matrix(struct bytes *b, uint32_t class_type, uint32_t rows, uint32_t columns,
                           const char *name)
{
    put_u32(b, 14);
    size_t at = b->size;
    put_u32(b, 0);
    const uint32_t flags[2] = {class_type, 0}, dims[2] = {rows, columns};
    put_element(b, 6, flags, sizeof flags);
    put_element(b, 5, dims, sizeof dims);
    put_element(b, 1, name, strlen(name));
    return at;
}

static void end_matrix(struct bytes *b, size_t at)
{
    uint32_t size = (uint32_t)(b->size - at - 4);
    for (int i = 0; i < 4; i++)
        b->at[at + (size_t)i] = (uint8_t)(size >> 8 * i);
}

enum { INT8 = 1, UINT8 = 2, UINT16 = 4, UTF8 = 16, CHAR_CLASS = 4, DOUBLE_CLASS = 6 };

struct row {
    size_t id;
    const char *wnid, *words;
    unsigned num_children, children, images;
};

static void put_number(struct bytes *b, size_t value)
{
    size_t at = begin_matrix(b, DOUBLE_CLASS, 1, 1, "");
    const uint8_t bytes[2] = {(uint8_t)value, (uint8_t)(value >> 8)};
    put_element(b, value < 256 ? UINT8 : UINT16, bytes, value < 256 ? 1 : 2);
    end_matrix(b, at);
}

/* WIDE: two bytes a character, as MATLAB itself would write it (TEXT is ASCII then). */
static void put_text(struct bytes *b, const char *text, bool wide)
{
    size_t length = strlen(text), characters = 0;
    uint8_t units[4096];
    for (size_t i = 0; i < length; i++) {
        units[2 * i] = (uint8_t)text[i];
        units[2 * i + 1] = 0;
        characters += (text[i] & 0xc0) != 0x80;
    }
    size_t at = begin_matrix(b, CHAR_CLASS, 1, (uint32_t)characters, "");
    put_element(b, wide ? UINT16 : UTF8, wide ? (const void *)units : text,
                wide ? 2 * length : length);
    end_matrix(b, at);
}

static void put_row(struct bytes *b, const struct row *row, bool wide)
{
    uint8_t children[256] = {0};
    put_number(b, row->id);
    put_text(b, row->wnid, wide);
    put_text(b, row->words, wide);
    put_text(b, "a gloss", wide);
    put_number(b, row->num_children);
    size_t at = begin_matrix(b, DOUBLE_CLASS, 1, row->children, "");
    put_element(b, UINT8, children, row->children);
    end_matrix(b, at);
    put_number(b, 0);
    put_number(b, row->images);
}

static void put_header(struct bytes *b)
{
    memset(b->at, ' ', 124);
    memcpy(b->at, "MATLAB 5.0 MAT-file, made by a test", 35);
    memcpy(b->at + 124, "\0\1IM", 4);
    b->size = 128;
}

static void put_field_names(struct bytes *b, const char *left_out)
{
    static const char *const names[] = {
        "ILSVRC2012_ID", "WNID",     "words",          "gloss",
        "num_children",  "children", "wordnet_height", "num_train_images"};
    enum { LENGTH = 17 };
    char text[8 * LENGTH] = {0};
    for (size_t i = 0; i < 8; i++)
        snprintf(text + i * LENGTH, LENGTH, "%s",
                 left_out && !strcmp(left_out, names[i]) ? "other" : names[i]);
    const uint32_t length = LENGTH;
    put_element(b, 5, &length, 4);
    put_element(b, INT8, text, sizeof text);
}

static void make_meta(struct bytes *b, const struct row *rows, size_t count, bool wide)
{
    put_header(b);
    size_t at = begin_matrix(b, 2, (uint32_t)count, 1, "synsets");
    put_field_names(b, NULL);
    for (size_t i = 0; i < count; i++)
        put_row(b, rows + i, wide);
    end_matrix(b, at);
}

static const struct row good_rows[] = {
    {1,   "n02119789", "kit fox, Vulpes macrotis", 0, 0, 1300},
    {2,   "n01440764", "tench, Tinca tinca",       0, 0, 700 },
    {3,   "n00000300", "\xc3\x89tude",             0, 0, 4   },
    {700, "n00001740", "entity",                   3, 3, 0   },
};
enum { GOOD = sizeof good_rows / sizeof *good_rows };

/* The good rows with row AT replaced; returns devkit_open's code. */
static int open_changed(size_t at, struct row changed)
{
    static struct bytes b;
    struct row rows[GOOD];
    memcpy(rows, good_rows, sizeof rows);
    rows[at] = changed;
    make_meta(&b, rows, GOOD, false);
    save("meta.mat", b.at, b.size);
    struct devkit *devkit;
    int rc = devkit_open(&devkit, test_folder());
    devkit_close(devkit);
    return rc;
}

static void check_good(const struct devkit *devkit)
{
    CHECK_INT(devkit_class_count(devkit), 3);
    CHECK_TEXT(devkit_class(devkit, 1)->wnid, "n02119789");
    CHECK_TEXT(devkit_class(devkit, 1)->words, "kit fox, Vulpes macrotis");
    CHECK_INT(devkit_class(devkit, 1)->num_train_images, 1300);
    CHECK_INT(devkit_class(devkit, 1)->rank, 2);
    CHECK_INT(devkit_class(devkit, 2)->rank, 1);
    CHECK_INT(devkit_class(devkit, 3)->rank, 0);
    CHECK_TEXT(devkit_ranked(devkit, 0)->wnid, "n00000300");
    CHECK_TEXT(devkit_ranked(devkit, 2)->wnid, "n02119789");
    CHECK_TEXT(devkit_words(devkit, "n01440764"), "tench, Tinca tinca");
    CHECK_TEXT(devkit_words(devkit, "n00001740"), "entity");
    CHECK_INT(devkit_find(devkit, "n00001740")->num_children, 3);
    CHECK_TEXT(devkit_words(devkit, "n00000000"), "");
    CHECK_TEXT(devkit_words(devkit, "a name that is longer than a WNID"), "");
}

static void test_small(void)
{
    static struct bytes b;
    struct devkit *devkit;
    make_meta(&b, good_rows, GOOD, false);
    save("meta.mat", b.at, b.size);
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (devkit)
        check_good(devkit);
    devkit_close(devkit);
    devkit_close(NULL);
    /* Two bytes a character; without the row whose bytes are UTF-8 already. */
    make_meta(&b, good_rows, 2, true);
    save("meta.mat", b.at, b.size);
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (devkit)
        CHECK_TEXT(devkit_class(devkit, 1)->words, "kit fox, Vulpes macrotis");
    devkit_close(devkit);
}

/* Every check of the parent, one by one. */
static void test_bad_rows(void)
{
    static const struct {
        size_t at;
        struct row row;
        const char *text;
    } cases[] = {
        {1, {1, "n01440764", "x", 0, 0, 1},             "two synsets have the ILSVRC2012_ID 1"    },
        {1, {4, "n01440764", "x", 0, 0, 1},             "gap: 2 should be one, the next is 3"     },
        {1, {0, "n01440764", "x", 0, 0, 1},             "synsets(2).ILSVRC2012_ID is 0"           },
        {3, {50001, "n01440764", "x", 1, 1, 1},         "synsets(4).ILSVRC2012_ID is 50001"       },
        {1, {2, "n0144076", "x", 0, 0, 1},              "synsets(2).WNID"                         },
        {1, {2, "n014407645", "x", 0, 0, 1},            "synsets(2).WNID"                         },
        {1, {2, "N01440764", "x", 0, 0, 1},             "synsets(2).WNID"                         },
        {1, {2, "n0144/764", "x", 0, 0, 1},             "synsets(2).WNID"                         },
        {1, {2, "n02119789", "x", 0, 0, 1},             "two synsets have the WNID n02119789"     },
        {1, {2, "n01440764", "a\nb", 0, 0, 1},          "synsets(2).words"                        },
        {1, {2, "n01440764", "a\xff", 0, 0, 1},         "synsets(2).words"                        },
        {1, {2, "n01440764", "a\xc0\x80", 0, 0, 1},     "synsets(2).words"                        },
        {1, {2, "n01440764", "a\xe0\x80\x80", 0, 0, 1}, "synsets(2).words"                        },
        {1, {2, "n01440764", "\xed\xa0\x80", 0, 0, 1},  "synsets(2).words"                        },
        {1, {2, "n01440764", "cut \xe2\x82", 0, 0, 1},  "synsets(2).words"                        },
        {3, {700, "n00001740", "x", 3, 2, 0},           "num_children is 3, but it has 2 children"},
        {3, {700, "n00001740", "x", 0, 2, 0},           "num_children is 0, but it has 2 children"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_INT(open_changed(cases[i].at, cases[i].row), -ERR_INPUT);
        CHECK_HAS(err_text(), cases[i].text);
        CHECK_HAS(err_text(), "/meta.mat: ");
    }
    static char words[1200];
    memset(words, 'w', sizeof words - 1);
    CHECK_INT(open_changed(1, (struct row){2, "n01440764", words, 0, 0, 1}), -ERR_INPUT);
    CHECK_HAS(err_text(), "synsets(2).words");
    words[999] = 0;
    CHECK_INT(open_changed(1, (struct row){2, "n01440764", words, 0, 0, 1}), 0);
}

static void check_refused(const struct bytes *b, const char *text)
{
    struct devkit *devkit;
    save("meta.mat", b->at, b->size);
    CHECK_INT(devkit_open(&devkit, test_folder()), -ERR_INPUT);
    CHECK(devkit == NULL);
    CHECK_HAS(err_text(), text);
    CHECK_HAS(err_text(), "/meta.mat");
}

static void test_formats(void)
{
    static struct bytes b;
    make_meta(&b, good_rows, GOOD, false);
    memcpy(b.at + 124, "\1\0MI", 4);
    check_refused(&b, "big-endian");
    memcpy(b.at + 124, "\0\2IM", 4);
    check_refused(&b, "v7.3");
    memcpy(b.at + 124, "\0\3IM", 4);
    check_refused(&b, "0x0300");
    memcpy(b.at + 124, "\0\1XX", 4);
    check_refused(&b, "not a MAT v5 file");
    memcpy(b.at, "\x89HDF\r\n\x1a\n", 8);
    check_refused(&b, "HDF5");
    b.size = 100;
    memset(b.at, 0, 100);
    check_refused(&b, "100 bytes");
    b.size = 0;
    check_refused(&b, "0 bytes");
    put_header(&b);
    check_refused(&b, "no variable \"synsets\"");
    size_t at = begin_matrix(&b, DOUBLE_CLASS, 1, 1, "synsets");
    put_element(&b, UINT8, "x", 1);
    end_matrix(&b, at);
    check_refused(&b, "not an array of structures");
    put_header(&b);
    at = begin_matrix(&b, 2, 1, 1, "synsets");
    put_field_names(&b, "words");
    put_row(&b, good_rows, false);
    end_matrix(&b, at);
    check_refused(&b, "no field \"words\"");
    make_meta(&b, good_rows + 3, 1, false);
    check_refused(&b, "no synset is a leaf");
    CHECK_INT(unlink(made_path("meta.mat")), 0);
    struct devkit *devkit;
    CHECK_INT(devkit_open(&devkit, test_folder()), -ERR_INPUT);
    CHECK_HAS(err_text(), "there is no data/meta.mat and no meta.mat");
    CHECK_INT(mkdir(made_path("meta.mat"), 0777), 0);
    CHECK_INT(devkit_open(&devkit, test_folder()), -ERR_INPUT);
    CHECK_HAS(err_text(), "not a regular file");
    CHECK_INT(rmdir(made_path("meta.mat")), 0);
}

/* ---- the ground truth ---- */

static int read_answers(const char *text, size_t size, size_t *count)
{
    *count = 0;
    static struct bytes b;
    struct devkit *devkit;
    make_meta(&b, good_rows, GOOD, false);
    save("meta.mat", b.at, b.size);
    save(ANSWERS, text, size);
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (!devkit)
        return -1;
    CHECK_INT(devkit_answer_count(devkit), 0);
    int rc = devkit_read_answers(devkit);
    *count = devkit_answer_count(devkit);
    if (!rc && *count == 4) {
        CHECK_TEXT(devkit_answer(devkit, 1)->wnid, "n00000300");
        CHECK_TEXT(devkit_answer(devkit, 2)->wnid, "n02119789");
        CHECK_TEXT(devkit_answer(devkit, 3)->wnid, "n02119789");
        CHECK_TEXT(devkit_answer(devkit, 4)->wnid, "n01440764");
    }
    devkit_close(devkit);
    return rc;
}

static void test_answers(void)
{
    static const struct {
        const char *text;
        const char *error; /* NULL: four answers */
    } cases[] = {
        {"3\n1\n1\n2\n",                 NULL                                           },
        {"3\n1\n1\n2",                   NULL                                           },
        {"3\r\n1\r\n1\r\n2\r\n",         NULL                                           },
        {"3\r\n1\r\n1\r\n2",             NULL                                           },
        {"",                             "the file is empty"                            },
        {"3\n1\n1\n2\n\n",               "line 5 is empty"                              },
        {"\n3\n",                        "line 1 is empty"                              },
        {"3\n\n1\n",                     "line 2 is empty"                              },
        {"3\n\r\n1\n",                   "line 2 is empty"                              },
        {"3\n4\n",                       "line 2 is \"4\", not an ILSVRC2012_ID in 1..3"},
        {"3\n0\n",                       "line 2 is \"0\""                              },
        {"3\n-1\n",                      "line 2 is \"-1\""                             },
        {"3\n+1\n",                      "line 2 is \"+1\""                             },
        {"3\n01\n",                      "line 2 is \"01\""                             },
        {"3\n1 \n",                      "line 2 is \"1 \""                             },
        {"3\n1\n 1\n",                   "line 3 is \" 1\""                             },
        {"3\n1.0\n",                     "line 2 is \"1.0\""                            },
        {"3\n1\r1\n",                    "line 2 is \"1\\x0d1\""                        },
        {"\xef\xbb\xbf"
         "3\n",                 "line 1 is \"\\xef\\xbb\\xbf3\""               },
        {"3\n1\n18446744073709551617\n", "line 3 is \"18446744073709551617\""           },
    };
    size_t count;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = read_answers(cases[i].text, strlen(cases[i].text), &count);
        CHECK_INT(rc, cases[i].error ? -ERR_INPUT : 0);
        CHECK_INT(count, cases[i].error ? 0 : 4);
        if (cases[i].error) {
            CHECK_HAS(err_text(), cases[i].error);
            CHECK_HAS(err_text(), ANSWERS);
        }
    }
    CHECK_INT(read_answers("3\n1\0\n2\n", 7, &count), -ERR_INPUT);
    CHECK_HAS(err_text(), "line 2");
    CHECK_INT(unlink(made_path(ANSWERS)), 0);
}

/* ---- writing ---- */

static void test_write(void)
{
    const uint16_t children[] = {1, 2};
    const struct meta_mat_synset synsets[] = {
        {1, "n90000002", "\xc3\x89tude", "a gloss",        NULL,     0, 0, 1300},
        {2, "n90000001", "b",            "another",        NULL,     0, 0, 20  },
        {3, "n90000000", "both",         "the node above", children, 2, 1, 0   },
    };
    char first[33], again[33];
    uint64_t size;
    CHECK_INT(meta_mat_write(made_path("meta.mat"), synsets, 3), 0);
    CHECK_INT(digest_file(made_path("meta.mat"), first, &size), 0);
    CHECK_INT(meta_mat_write(made_path("meta.mat"), synsets, 3), 0);
    CHECK_INT(digest_file(made_path("meta.mat"), again, &size), 0);
    CHECK_TEXT(again, first);
    struct devkit *devkit;
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (devkit) {
        CHECK_INT(devkit_class_count(devkit), 2);
        CHECK_TEXT(devkit_class(devkit, 1)->words, "\xc3\x89tude");
        CHECK_INT(devkit_class(devkit, 1)->num_train_images, 1300);
        CHECK_INT(devkit_class(devkit, 1)->rank, 1);
        CHECK_INT(devkit_find(devkit, "n90000000")->num_children, 2);
    }
    devkit_close(devkit);
    CHECK_INT(meta_mat_write(made_path("no/such/folder/meta.mat"), synsets, 3), -ERR_IO);
    CHECK_HAS(err_text(), "no/such/folder");
}

/* ---- the real one ---- */

static struct devkit *open_real(const char *folder)
{
    struct devkit *devkit;
    CHECK_INT(devkit_open(&devkit, folder), 0);
    if (devkit)
        CHECK_INT(devkit_read_answers(devkit), 0);
    return devkit;
}

/* Each line of val_caffe.txt is "ILSVRC2012_val_00000001.JPEG 65": the rank of the WNID. */
static void check_caffe(const struct devkit *devkit)
{
    FILE *file = fopen(data_path("devkit-oracle/val_caffe.txt"), "r");
    size_t number, rank, lines = 0, different = 0;
    CHECK(file != NULL);
    if (!file)
        return;
    while (fscanf(file, "ILSVRC2012_val_%zu.JPEG %zu\n", &number, &rank) == 2) {
        lines++;
        if (number > devkit_answer_count(devkit) || devkit_answer(devkit, number)->rank != rank)
            different++;
    }
    fclose(file);
    CHECK_INT(lines, 50000);
    CHECK_INT(different, 0);
}

/* Each line of synset_words.txt is "n01440764 tench, Tinca tinca", in byte order. */
static void check_words(const struct devkit *devkit)
{
    FILE *file = fopen(data_path("devkit-oracle/synset_words.txt"), "r");
    char line[1000];
    size_t rank = 0;
    CHECK(file != NULL);
    while (file && fgets(line, sizeof line, file) && rank < devkit_class_count(devkit)) {
        line[strcspn(line, "\n")] = 0;
        line[9] = 0;
        CHECK_TEXT(devkit_ranked(devkit, rank)->wnid, line);
        CHECK_TEXT(devkit_ranked(devkit, rank)->words, line + 10);
        rank++;
    }
    CHECK_INT(rank, 1000);
    if (file)
        fclose(file);
}

static void test_real(void)
{
    if (!test_data_exists("devkit/data/meta.mat"))
        TEST_SKIP("no %s", data_path("devkit/data/meta.mat"));
    struct devkit *devkit = open_real(data_path("devkit"));
    if (!devkit)
        return;
    uint64_t images = 0;
    CHECK_INT(devkit_class_count(devkit), 1000);
    CHECK_INT(devkit_answer_count(devkit), 50000);
    CHECK_TEXT(devkit_class(devkit, 1)->wnid, "n02119789");
    CHECK_TEXT(devkit_class(devkit, 1000)->wnid, "n03255030");
    for (int id = 1; id <= 1000; id++)
        images += devkit_class(devkit, id)->num_train_images;
    CHECK_INT(images, 1281167);
    check_caffe(devkit);
    check_words(devkit);
    devkit_close(devkit);
    /* The inner folder may be given as well. */
    devkit = open_real(data_path("devkit/data"));
    devkit_close(devkit);
}

static void copy_file(const char *from, const char *name)
{
    uint8_t *bytes;
    size_t size;
    CHECK_INT(files_read(from, 1 << 24, &bytes, &size), 0);
    save(name, bytes, size);
    mem_free(bytes);
}

static void test_no_final_newline(void)
{
    if (!test_data_exists("devkit-oracle/ground_truth_no_final_newline.txt"))
        TEST_SKIP("no devkit-oracle in %s", TEST_DATA);
    copy_file(data_path("devkit/data/meta.mat"), "meta.mat");
    copy_file(data_path("devkit-oracle/ground_truth_no_final_newline.txt"), ANSWERS);
    struct devkit *devkit = open_real(test_folder());
    if (!devkit)
        return;
    CHECK_INT(devkit_answer_count(devkit), 50000);
    check_caffe(devkit);
    devkit_close(devkit);
}

/* ---- hostile files: an error or the right rows, never a crash or a hang of this process ---- */

/* A digest of all that a devkit says. */
static uint64_t fold(const struct devkit *devkit)
{
    uint64_t sum = devkit_class_count(devkit);
    for (size_t i = 0; i < devkit_class_count(devkit); i++) {
        const struct devkit_class *c = devkit_ranked(devkit, i);
        sum = sum * 31 + digest64(c->wnid, 9) + digest64(c->words, strlen(c->words)) * 3 +
              (uint64_t)c->id * 1000003 + c->num_train_images * 7919ULL;
    }
    return sum;
}

/* A sanitizer makes each child slow to start. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SHARE = 6 };
#else
enum { SHARE = 1 };
#endif

struct tally {
    int right, other, refused;
};

static void try_bytes(const uint8_t *bytes, size_t size, uint64_t right, struct tally *tally)
{
    struct devkit *devkit;
    save("meta.mat", bytes, size);
    int rc = devkit_open(&devkit, test_folder());
    if (rc) {
        CHECK_INT(rc, -ERR_INPUT);
        CHECK_HAS(err_text(), "meta.mat: ");
        tally->refused++;
    } else if (fold(devkit) == right) {
        tally->right++;
    } else {
        tally->other++;
    }
    devkit_close(devkit);
}

static void try_damages(uint8_t *bytes, size_t size, int truncations, int flips,
                        struct tally *tally)
{
    struct devkit *devkit;
    struct rng random;
    rng_init(&random, 7, RNG_TEST, 0, 0);
    save("meta.mat", bytes, size);
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (!devkit)
        return;
    uint64_t right = fold(devkit);
    devkit_close(devkit);
    for (int i = 0; i < truncations; i++)
        try_bytes(bytes, size * (size_t)i / (size_t)truncations, right, tally);
    for (int i = 0; i < flips; i++) {
        size_t bit = rng_below(&random, size * 8);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        try_bytes(bytes, size, right, tally);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    printf("%zu bytes: %d right, %d other rows, %d refused\n", size, tally->right, tally->other,
           tally->refused);
}

/* The real meta.mat's SIZE bytes, for mem_free. */
static uint8_t *read_real(size_t *size)
{
    uint8_t *bytes = NULL;
    CHECK_INT(files_read(data_path("devkit/data/meta.mat"), 1 << 24, &bytes, size), 0);
    return bytes;
}

/* Compressed, as the real file: the checksum is looked at, so other rows cannot come out. */
static void test_hostile_real(void)
{
    if (!test_data_exists("devkit/data/meta.mat"))
        TEST_SKIP("no %s", data_path("devkit/data/meta.mat"));
    size_t size;
    uint8_t *bytes = read_real(&size);
    struct tally tally = {0};
    try_damages(bytes, size, 40 / SHARE, 250 / SHARE, &tally);
    CHECK_INT(tally.other, 0);
    CHECK(tally.refused > 250 / SHARE);
    mem_free(bytes);
}

/* Not compressed: every flip reaches matio, and rows may change within what is possible. */
static void test_hostile_plain(void)
{
    static struct bytes b;
    struct tally tally = {0};
    make_meta(&b, good_rows, GOOD, false);
    try_damages(b.at, b.size, 60 / SHARE, 600 / SHARE, &tally);
    CHECK_INT(tally.right + tally.other + tally.refused, 60 / SHARE + 600 / SHARE);
    CHECK(tally.refused > 200 / SHARE);
}

/* The last four bytes of a stream are its checksum, which matio does not look at. */
static void test_stream_checksum(void)
{
    if (!test_data_exists("devkit/data/meta.mat"))
        TEST_SKIP("no %s", data_path("devkit/data/meta.mat"));
    size_t size;
    uint8_t *bytes = read_real(&size);
    struct tally tally = {0};
    for (size_t i = size - 4; i < size; i++) {
        bytes[i] ^= 1;
        try_bytes(bytes, size, 0, &tally);
        bytes[i] ^= 1;
    }
    CHECK_INT(tally.refused, 4);
    mem_free(bytes);
}

/* ---- data-spec/10-devkit.md: its example bytes are read ---- */

static void test_example(void)
{
    static struct bytes b;
    char line[200];
    FILE *file = fopen(TEST_SOURCE "/data-spec/10-devkit.md", "r");
    CHECK(file != NULL);
    while (file && fgets(line, sizeof line, file)) {
        unsigned offset;
        int used;
        if (sscanf(line, "    %4x:%n", &offset, &used) != 1 || line[8] != ':')
            continue;
        CHECK_INT(offset, b.size);
        unsigned byte;
        for (int more; sscanf(line + used, " %2x%n", &byte, &more) == 1; used += more)
            b.at[b.size++] = (uint8_t)byte;
    }
    if (file)
        fclose(file);
    save("meta.mat", b.at, b.size);
    struct devkit *devkit;
    CHECK_INT(devkit_open(&devkit, test_folder()), 0);
    if (devkit) {
        CHECK_INT(devkit_class_count(devkit), 1);
        CHECK_TEXT(devkit_class(devkit, 1)->wnid, "n02119789");
        CHECK_TEXT(devkit_class(devkit, 1)->words, "kit fox, Vulpes macrotis");
        CHECK_INT(devkit_class(devkit, 1)->num_train_images, 1300);
    }
    devkit_close(devkit);
}

/* A build without matio refuses, and says what to do. */
static void test_without_matio(void)
{
    struct devkit *devkit;
    save("meta.mat", "x", 1);
    CHECK_INT(devkit_open(&devkit, test_folder()), -ERR_USAGE);
    CHECK_HAS(err_text(), "libmatio-dev");
}

static const struct test tests_without_matio[] = {
    {"without_matio", test_without_matio}
};

static const struct test tests[] = {
    {"small",            test_small           },
    {"bad_rows",         test_bad_rows        },
    {"formats",          test_formats         },
    {"answers",          test_answers         },
    {"write",            test_write           },
    {"real",             test_real            },
    {"no_final_newline", test_no_final_newline},
    {"hostile_real",     test_hostile_real    },
    {"hostile_plain",    test_hostile_plain   },
    {"stream_checksum",  test_stream_checksum },
    {"example",          test_example         },
};

int main(int argc, char **argv)
{
#ifdef WITH_MATIO
    const bool with_matio = true;
#else
    const bool with_matio = false;
#endif
    if (with_matio)
        return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
    return test_main(argc, argv, tests_without_matio, 1);
}
