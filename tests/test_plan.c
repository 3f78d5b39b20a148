/* The list of the pictures (source) and the plan: what goes where, from names, sizes and seed. */
#include "prep/plan.h"

#include <fcntl.h>

#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "prep/source.h"
#include "tests/test.h"

/* ---- plan ---- */

static void test_order(void)
{
    enum { FILES = 1000 };
    struct plan plan, same, other;
    bool seen[FILES] = {false};
    CHECK_INT(plan_open(&plan, FILES, 7), 0);
    CHECK_INT(plan_open(&same, FILES, 7), 0);
    CHECK_INT(plan_open(&other, FILES, 8), 0);
    for (int i = 0; i < FILES; i++) {
        CHECK(plan.order[i] < FILES && !seen[plan.order[i]]);
        seen[plan.order[i] % FILES] = true;
    }
    CHECK(!memcmp(plan.order, same.order, sizeof *plan.order * FILES));
    CHECK(memcmp(plan.order, other.order, sizeof *plan.order * FILES) != 0);
    /* Part of the format: a data set packed tomorrow has the same order. */
    char digest[20];
    snprintf(digest, sizeof digest, "%016llx",
             (unsigned long long)digest64(plan.order, sizeof *plan.order * FILES));
    CHECK_TEXT(digest, "267b7d1b26ef21df");
    plan_close(&plan);
    plan_close(&same);
    plan_close(&other);
}

static void check_cut(uint32_t files, uint64_t shard_bytes, uint64_t record_bytes, uint32_t shards)
{
    struct plan plan;
    uint32_t next = 0, least = UINT32_MAX, most = 0;
    CHECK_INT(plan_open(&plan, files, 1), 0);
    CHECK_INT(plan_cut(&plan, shard_bytes, record_bytes), 0);
    CHECK_INT(plan.shards, shards);
    for (uint32_t shard = 0; shard < plan.shards; shard++) {
        uint32_t first, count;
        plan_range(&plan, shard, &first, &count);
        CHECK_INT(first, next);
        next = first + count;
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    CHECK_INT(next, files);
    CHECK(least >= 1 && most - least <= 1);
    plan_close(&plan);
}

static void test_cut(void)
{
    check_cut(1, 1 << 30, 257000, 1);
    check_cut(100, 1000, 100, 10);
    check_cut(101, 1000, 100, 11);
    check_cut(7, 10, 100, 7); /* a record is larger than a shard */
    check_cut(1281167, (uint64_t)1 << 30, 266240, 318);
    check_cut(100000, 1 << 20, 1 << 20, PLAN_SHARD_LIMIT);
    struct plan plan;
    CHECK_INT(plan_open(&plan, PLAN_SHARD_LIMIT + 1, 1), 0);
    CHECK_INT(plan_cut(&plan, 1 << 20, 1 << 20), -ERR_USAGE);
    CHECK_HAS(err_text(), "--shard-size");
    plan_close(&plan);
    char name[MANIFEST_SHARD_FILE_SIZE];
    plan_shard_name(3, name);
    CHECK_TEXT(name, "shard-00003.mdb");
}

/* ---- source ---- */

static char root[5000];

/* The last two results stay. */
static const char *path_of(const char *name)
{
    static char paths[2][8192];
    static int turn;
    char *path = paths[turn ^= 1];
    snprintf(path, sizeof *paths, "%s/%s", root, name);
    return path;
}

static void make_file(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    CHECK(file != NULL);
    if (!file)
        return;
    fputs(text, file);
    fclose(file);
}

static void make_folder(const char *name)
{
    CHECK_INT(files_make_folder(path_of(name)), 0);
}

/* A fresh folder with three classes and things that do not count. */
static void make_tree(const char *name)
{
    snprintf(root, sizeof root, "%s/%s", test_folder(), name);
    make_folder("b");
    make_folder("a-1");
    make_folder("a");
    make_folder("empty");
    make_folder("b/folder.jpg");
    make_folder(".cache");
    make_file("b/2.JPEG", "22");
    make_file("b/10.jpg", "333");
    make_file("b/._2.JPEG", "hidden");
    make_file("b/readme.txt", "extra");
    make_file("b/jpg", "extra");
    make_file("b/.jpg", "hidden");
    make_file("a-1/x.JpEg", "1");
    make_file("a/y.PNG", "");
    make_file("a/z\n\xff.png", "55555");
    make_file("list.txt", "extra");
    CHECK_INT(mkfifo(path_of("a/fifo.JPEG"), 0666), 0);
    CHECK_INT(symlink("../b/10.jpg", path_of("a/link.jpeg")), 0);
}

static int open_tree(struct source **source, const char *classes, int64_t per_class)
{
    struct source_settings settings = {classes, per_class};
    return source_open(source, root, &settings);
}

static void check_file(const struct source *source, uint32_t index, uint32_t label, uint64_t size,
                       const char *name)
{
    char text[RECORD_NAME_LIMIT + 1];
    CHECK_INT(source_name(source, index, text), strlen(name));
    CHECK_TEXT(text, name);
    CHECK_INT(source_file(source, index)->label, label);
    CHECK_INT(source_file(source, index)->size, size);
}

static void test_list(void)
{
    struct source *source;
    make_tree("list");
    CHECK_INT(open_tree(&source, NULL, 0), 0);
    if (!source)
        return;
    CHECK_INT(source_class_count(source), 3);
    CHECK_TEXT(source_class_name(source, 0), "a");
    CHECK_TEXT(source_class_name(source, 1), "a-1");
    CHECK_TEXT(source_class_name(source, 2), "b");
    CHECK_INT(source_file_count(source), 6);
    check_file(source, 0, 0, 3, "a/link.jpeg");
    check_file(source, 1, 0, 0, "a/y.PNG");
    check_file(source, 2, 0, 5, "a/z\n\xff.png");
    check_file(source, 3, 1, 1, "a-1/x.JpEg");
    check_file(source, 4, 2, 3, "b/10.jpg");
    check_file(source, 5, 2, 2, "b/2.JPEG");
    CHECK_INT(source_bytes(source), 14);

    struct files_buffer buffer = {0};
    CHECK_INT(source_read(source, 2, &buffer), 0);
    CHECK_INT(buffer.size, 5);
    CHECK(buffer.bytes && !memcmp(buffer.bytes, "55555", 5));
    for (uint32_t i = 0; i < 6; i++)
        source_will_need(source, i);
    mem_free(buffer.bytes);
    source_close(source);
}

/* The digest of the tree as it is now. */
static const char *tree_digest(const char *classes, int64_t per_class)
{
    static char digest[33];
    struct source *source;
    CHECK_INT(open_tree(&source, classes, per_class), 0);
    snprintf(digest, sizeof digest, "%s", source ? source_digest(source) : "");
    source_close(source);
    return digest;
}

static void test_digest(void)
{
    char before[33];
    make_tree("digest");
    snprintf(before, sizeof before, "%s", tree_digest(NULL, 0));
    make_file("b/.hidden.jpg", "x");
    make_folder("another-empty");
    make_file("b/other.gif", "x");
    CHECK_TEXT(tree_digest(NULL, 0), before);
    make_file("b/2.JPEG", "221");
    CHECK(strcmp(tree_digest(NULL, 0), before) != 0);
    make_file("b/2.JPEG", "ab");
    CHECK_TEXT(tree_digest(NULL, 0), before); /* names and sizes only */
    CHECK_INT(rename(path_of("a-1"), path_of("a-2")), 0);
    CHECK(strcmp(tree_digest(NULL, 0), before) != 0);
    CHECK_INT(rename(path_of("a-2"), path_of("a-1")), 0);
    CHECK(strcmp(tree_digest(NULL, 1), before) != 0);
    CHECK(strcmp(tree_digest("a,b", 0), before) != 0);
}

static void test_subsets(void)
{
    struct source *source;
    char list[8200];
    make_tree("subsets");
    CHECK_INT(open_tree(&source, "b,a,b", 0), 0);
    if (source) {
        CHECK_INT(source_class_count(source), 2);
        check_file(source, 3, 1, 3, "b/10.jpg");
    }
    source_close(source);
    CHECK_INT(open_tree(&source, NULL, 1), 0);
    if (source) {
        CHECK_INT(source_file_count(source), 3);
        check_file(source, 2, 2, 3, "b/10.jpg");
    }
    source_close(source);
    make_file("list.txt", "a-1\r\n\r\nb");
    snprintf(list, sizeof list, "%s", path_of("list.txt"));
    CHECK_INT(open_tree(&source, list, 2), 0);
    if (source) {
        CHECK_INT(source_class_count(source), 2);
        CHECK_INT(source_file_count(source), 3);
    }
    source_close(source);

    char many[3000];
    for (int i = 0; i < 700; i++)
        snprintf(many + (size_t)i * 4, 5, "a-1,");
    CHECK_INT(open_tree(&source, many, 0), 0); /* no path is that long */
    source_close(source);

    CHECK_INT(open_tree(&source, "a,c", 0), -ERR_INPUT);
    CHECK_HAS(err_text(), "--classes names c,");
    CHECK_INT(open_tree(&source, "a,empty", 0), -ERR_INPUT);
    CHECK_HAS(err_text(), "empty, but that folder holds no pictures");
    CHECK_INT(open_tree(&source, ",", 0), -ERR_INPUT);
    make_file("list.txt", "a\nnone");
    CHECK_INT(open_tree(&source, list, 0), -ERR_INPUT);
    CHECK_HAS(err_text(), "names none");
}

static void check_refused(const char *text)
{
    struct source *source;
    CHECK_INT(open_tree(&source, NULL, 0), -ERR_INPUT);
    CHECK(source == NULL);
    CHECK_HAS(err_text(), text);
    source_close(source);
}

static void test_refused(void)
{
    snprintf(root, sizeof root, "%s/refused", test_folder());
    make_folder("");
    check_refused("no class folders");
    make_file("n01440764.tar", "x");
    check_refused("archives");
    make_folder("train/n01440764");
    check_refused("further folders");
    make_file("ILSVRC2012_val_00000001.JPEG", "x");
    check_refused("prep sort-val");
    CHECK_INT(symlink("nowhere", path_of("train/1.jpg")), 0);
    check_refused("link to nothing");
    CHECK_INT(unlink(path_of("train/1.jpg")), 0);

    char name[600]; /* the longest that a file system has */
    snprintf(name, sizeof name, "train/%0*d.jpg", 251, 7);
    make_file(name, "x");
    struct source *source;
    CHECK_INT(open_tree(&source, NULL, 0), 0);
    source_close(source);
}

static void test_changed(void)
{
    struct source *source;
    struct files_buffer buffer = {0};
    make_tree("changed");
    CHECK_INT(open_tree(&source, NULL, 0), 0);
    if (!source)
        return;
    make_file("b/10.jpg", "longer than before");
    CHECK_INT(source_read(source, 4, &buffer), -ERR_INPUT);
    CHECK_HAS(err_text(), "b/10.jpg changed");
    CHECK_HAS(err_text(), "3 bytes then, 18 now");
    CHECK_INT(unlink(path_of("b/2.JPEG")), 0);
    CHECK_INT(source_read(source, 5, &buffer), -ERR_INPUT);
    CHECK_HAS(err_text(), "b/2.JPEG vanished");
    CHECK_INT(unlink(path_of("a-1/x.JpEg")), 0);
    CHECK_INT(symlink("x.JpEg", path_of("a-1/x.JpEg")), 0); /* a loop: cannot be opened */
    CHECK_INT(source_read(source, 3, &buffer), -ERR_IO);
    CHECK_HAS(err_text(), "a-1/x.JpEg");
    mem_free(buffer.bytes);
    source_close(source);
}

static const struct test tests[] = {
    {"order",   test_order  },
    {"cut",     test_cut    },
    {"list",    test_list   },
    {"digest",  test_digest },
    {"subsets", test_subsets},
    {"refused", test_refused},
    {"changed", test_changed},
};

TEST_MAIN(tests)
