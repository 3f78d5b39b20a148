/* Rows of meta.mat as a child that was taken over could send them: lengths that lie, numbers out of
 * range. (fuzz/fuzz_rows.c tries many more.) */
#include "prep/devkit.c" // NOLINT: the checks are the module's own

#include "tests/test.h"

static struct meta_mat_row good_row(uint32_t id)
{
    struct meta_mat_row row = {.id = id, .wnid_length = 9, .words_length = 3};
    memset(row.words, 'w', sizeof row.words);
    snprintf(row.wnid, sizeof row.wnid, "n%08u", id);
    memset(row.wnid + 9, '7', sizeof row.wnid - 9);
    return row;
}

/* What take_rows says to one row, and a good one behind it. */
static int take(const struct meta_mat_row *row)
{
    struct meta_mat_row rows[] = {*row, good_row(2)};
    struct devkit *devkit = mem_array(1, sizeof *devkit, "devkit");
    devkit->count = 2;
    int rc = take_rows(devkit, rows);
    devkit_close(devkit);
    return rc;
}

static void test_lengths(void)
{
    static const uint32_t wnids[] = {0, 8, 10, 16, 17, 1000, UINT32_MAX},
                          words[] = {1000, 1001, 65536, UINT32_MAX - 8, UINT32_MAX};
    struct meta_mat_row row = good_row(1);
    CHECK_INT(take(&row), 0);
    row.words_length = 999;
    CHECK_INT(take(&row), 0);
    for (size_t i = 0; i < sizeof wnids / sizeof *wnids; i++) {
        row = good_row(1);
        row.wnid_length = wnids[i];
        CHECK_INT(take(&row), -ERR_INPUT);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        row = good_row(1);
        row.words_length = words[i];
        CHECK_INT(take(&row), -ERR_INPUT);
    }
}

static void test_numbers(void)
{
    static const uint32_t ids[] = {0, 2, META_MAT_ROW_LIMIT + 1, UINT32_MAX};
    struct meta_mat_row row = good_row(1);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        row.id = ids[i];
        CHECK_INT(take(&row), -ERR_INPUT);
    }
    row = good_row(1);
    row.children = 1;
    CHECK_INT(take(&row), -ERR_INPUT);
    row.num_children = 1; /* no leaf: the IDs of the leaves have a gap */
    CHECK_INT(take(&row), -ERR_INPUT);
}

static const struct test tests[] = {
    {"lengths", test_lengths},
    {"numbers", test_numbers},
};

TEST_MAIN(tests)
