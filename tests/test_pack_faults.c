/* prep pack when things go wrong: killed, stopped, out of space, damaged state, vanishing input. In
 * the end there are the bytes of the undisturbed run. */
#include "prep/pack.h"

#include <sys/resource.h>

#include "common/dataset.h"
#include "prep/plan.h"
#include "prep/source.h"
#include "tests/pack_tree.h"

/* kill -9 again and again, a bit later each time, on the way to one data set. */
static void test_killed_often(void)
{
    const char *to = at("killed.lmdb");
    size_t all = count_names(reference()) * 2;
    int killed = 0, code = -SIGKILL;
    for (size_t names = 1; names < all && code == -SIGKILL; names++) {
        code = interrupt(tree(), to, options, names, SIGKILL);
        killed += code == -SIGKILL;
        CHECK(code == -SIGKILL || code == 0);
        CHECK(code == 0 || !exists(to, "manifest.json") || names > all / 2);
    }
    CHECK(killed >= 10);
    CHECK_INT(pack(tree(), to, options), 0);
    check_equal(reference(), to);
}

/* kill -9 at one moment, then to the end. */
static void test_killed_once(void)
{
    size_t all = count_names(reference()) * 2;
    for (size_t names = 2; names < all; names += 7) {
        const char *to = at("once%zu.lmdb", names);
        int code = interrupt(tree(), to, options, names, SIGKILL);
        CHECK(code == -SIGKILL || code == 0);
        CHECK_INT(pack(tree(), to, "--shard-size 1MiB --jobs 3"), 0);
        check_equal(reference(), to);
    }
}

static void test_stopped(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        const char *to = at("stopped%d.lmdb", i);
        CHECK_INT(interrupt(tree(), to, options, 6, numbers[i]), 75);
        CHECK(!exists(to, "manifest.json"));
        CHECK(exists(to, "shard-00000.mdb"));
        struct dataset *dataset;
        CHECK_INT(dataset_open(&dataset, to), -ERR_INPUT);
        CHECK_HAS(err_text(), "not finished");
        CHECK_INT(pack(tree(), to, options), 0);
        check_equal(reference(), to);
    }
}

/* A journal that was damaged meanwhile costs its shard's work, nothing else; so does a short file.
 */
static void test_damaged_state(void)
{
    const char *to = at("damaged.lmdb");
    CHECK_INT(interrupt(tree(), to, options, 12, SIGTERM), 75);
    char *journal = read_text(to, "shard-00001.json");
    if (!journal)
        return;
    char *digit = strpbrk(strstr(journal, "payload_bytes"), "123456789");
    *digit = *digit == '9' ? '8' : (char)(*digit + 1);
    char path[FILES_PATH_SIZE];
    CHECK_INT(files_join(path, to, "shard-00001.json"), 0);
    write_file(path, journal, strlen(journal));
    CHECK_INT(files_join(path, to, "shard-00000.mdb"), 0);
    CHECK_INT(truncate(path, 4096), 0);
    mem_free(journal);
    CHECK_INT(pack(tree(), to, options), 0);
    check_equal(reference(), to);

    to = at("damaged-plan.lmdb");
    CHECK_INT(interrupt(tree(), to, options, 6, SIGTERM), 75);
    CHECK_INT(files_join(path, to, "plan.json"), 0);
    CHECK_INT(truncate(path, 40), 0);
    CHECK_INT(pack(tree(), to, options), -ERR_INPUT);
    CHECK_HAS(err_text(), "begin again");
}

static void test_busy(void)
{
    const char *to = at("busy.lmdb");
    struct files_lock *lock;
    char path[FILES_PATH_SIZE];
    CHECK_INT(interrupt(tree(), to, options, 6, SIGTERM), 75);
    CHECK_INT(files_join(path, to, ".lock"), 0);
    CHECK_INT(files_lock(&lock, path), 0);
    CHECK_INT(pack(tree(), to, options), -ERR_BUSY);
    CHECK_HAS(err_text(), "another run holds");
    files_unlock(lock);
    CHECK_INT(pack(tree(), to, options), 0);
    check_equal(reference(), to);
}

/* No space: every file may grow to half a shard only. */
static void test_no_space(void)
{
    const char *to = at("space.lmdb");
    const struct rlimit limit = {600000, 600000};
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(err_exit_code(pack(tree(), to, options)));
    }
    CHECK_INT(end(child), ERR_IO);
    CHECK(!exists(to, "shard-00000.mdb"));
    CHECK(!exists(to, ".shard-00000.mdb.partial"));
    CHECK_INT(pack(tree(), to, options), 0);
    check_equal(reference(), to);
}

/* A picture vanishes while others are packed: that is no bad picture. */
static void test_vanished(void)
{
    const char *from = make_tree("vanished"), *to = at("vanished.lmdb");
    struct source_settings settings = {0};
    struct source *source;
    struct plan plan;
    char name[RECORD_NAME_LIMIT + 1], path[FILES_PATH_SIZE], saved[FILES_PATH_SIZE];
    CHECK_INT(source_open(&source, from, &settings), 0);
    CHECK_INT(plan_open(&plan, PICTURES, 0), 0);
    source_name(source, plan.order[PICTURES - 1], name);
    CHECK_INT(files_join(path, from, name), 0);
    snprintf(saved, sizeof saved, "%s", at("saved.jpg"));

    pid_t child = start(from, to, "--shard-size 1MiB --jobs 1");
    while (!exists(test_folder(), "vanished.lmdb") || !exists(to, "plan.json"))
        usleep(200);
    CHECK_INT(rename(path, saved), 0);
    CHECK_INT(end(child), ERR_INPUT);
    CHECK(!exists(to, "manifest.json"));
    CHECK(!exists(to, "bad.tsv"));
    CHECK_INT(rename(saved, path), 0);
    CHECK_INT(pack(from, to, options), 0);
    check_equal(reference(), to);
    plan_close(&plan);
    source_close(source);
}

static const struct test tests[] = {
    {"killed_often",  test_killed_often },
    {"killed_once",   test_killed_once  },
    {"stopped",       test_stopped      },
    {"damaged_state", test_damaged_state},
    {"busy",          test_busy         },
    {"no_space",      test_no_space     },
    {"vanished",      test_vanished     },
};

TEST_MAIN(tests)
