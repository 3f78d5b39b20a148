/*
 * prep, disturbed at every call that changes files or reads them (crash/engine.h).
 *
 * pack: three shards of small drawn pictures, two converting threads. sort-val: a drawn devkit and
 * its pictures, in each mode. Reading: pack, sort-val and verify with what they read below the
 * folder that is watched.
 */
#include "tests/crash/engine.h"
#include "tests/crash/folder.h"
#include "tests/pack_tree.h"

enum { SMALL_PICTURES = 24 };

static long kills, errors, memory, states;

/* SRC: three classes of pictures that fill three shards of 1 MiB. */
static const char *small_tree(void)
{
    static char path[FILES_PATH_SIZE];
    struct picture picture = {0};
    struct decoder *decoder;
    uint8_t *bytes = NULL;
    size_t capacity = 0, size;
    if (path[0])
        return path;
    snprintf(path, sizeof path, "%s", at("small"));
    CHECK_INT(decoder_open(&decoder), 0);
    for (int i = 0; i < SMALL_PICTURES; i++) {
        CHECK_INT(files_make_folder(at("small/c%d", i % 3)), 0);
        draw(&picture, 180, 170 + i % 3, i);
        CHECK_INT(decoder_write_jpeg(decoder, &picture, 50, &bytes, &capacity, &size), 0);
        write_file(at("small/c%d/%d.JPEG", i % 3, i), bytes, size);
    }
    write_file(at("small/c0/bad.JPEG"), "no picture", 10);
    mem_free(bytes);
    picture_release(&picture);
    decoder_close(decoder);
    return path;
}

/* A folder with SRC, three pictures of two classes; and with what prep pack makes of it. */
static const char *read_tree(void)
{
    char command[FILES_PATH_SIZE * 4];
    const char *to = at("reading");
    CHECK(folder_make(to) && folder_make(at("reading/src")));
    CHECK(folder_make(at("reading/src/c0")) && folder_make(at("reading/src/c1")));
    snprintf(command, sizeof command,
             "cp %s/c0/0.JPEG %s/c0/3.JPEG %s/src/c0 && cp %s/c1/1.JPEG %s/src/c1 && "
             "%s pack %s/src %s/whole.lmdb --short-side 64 2>%s",
             small_tree(), small_tree(), to, small_tree(), to, CRASH_PREP, to, to, at("said"));
    CHECK_INT(system(command), 0);
    return to;
}

/* After the end all that the run left is there, whatever else is. */
static bool keeps_all(const struct scenario *scenario, const char *folder, unsigned mark)
{
    char reference[FILES_PATH_SIZE], difference[FILES_PATH_SIZE];
    (void)mark;
    files_join(reference, at("%s", scenario->name), "reference");
    if (folder_same(reference, folder, true, difference, sizeof difference))
        return true;
    printf("%s\n", difference);
    return false;
}

static void disturb(const struct scenario *scenario, int seconds, bool stops)
{
    struct engine *engine = engine_open(scenario, at("%s", scenario->name));
    kills += engine_kills(engine, seconds);
    if (stops)
        engine_stops(engine);
    errors += engine_errors(engine);
    states += engine_power(engine);
    CHECK_INT(engine_close(engine), 0);
}

static void test_pack_calls(void)
{
    const char *const command[] = {
        CRASH_PREP,     "pack",   small_tree(), "@/out.lmdb", "--shard-size",
        "1MiB",         "--jobs", "2",          "--max-bad",  "1",
        "--short-side", "0",      NULL};
    disturb(&(struct scenario){.name = "pack", .command = command, .promised = keeps_all}, 8, true);
}

/* A devkit and four validation pictures; NULL: they cannot be made. */
static const char *raw_sample(void)
{
    char command[FILES_PATH_SIZE * 2];
    snprintf(command, sizeof command,
             "%s sample %s --classes 2 --train-per-class 1 --val-per-class 2 --seed 4 >%s 2>&1",
             CRASH_PREP, at("raw"), at("said"));
    return system(command) ? NULL : at("raw");
}

static void test_sort_calls(void)
{
    static const char *const modes[] = {"link", "copy", "move", "symlink"};
    if (!raw_sample())
        TEST_SKIP("prep sample does not work: it was built without matio?");
    CHECK(folder_make(at("begin")) && folder_copy(at("raw/val"), at("begin/val")));
    for (int i = 0; i < 4; i++) {
        const char *const command[] = {CRASH_PREP, "sort-val", at("raw/devkit"), "@/val",
                                       "@/out",    "--mode",   modes[i],         NULL};
        disturb(
            &(struct scenario){
                .name = modes[i], .command = command, .begin = at("begin"), .promised = keeps_all},
            1, false);
    }
}

static void test_reading(void)
{
    const char *const pack[] = {CRASH_PREP, "pack",   "@/src", "@/out.lmdb", "--short-side",
                                "64",       "--jobs", "1",     NULL};
    const char *const verify[] = {CRASH_PREP, "verify", "@/whole.lmdb", "--jobs", "1", NULL};
    const char *const sort[] = {CRASH_PREP, "sort-val", "@/devkit", "@/val",
                                "@/out",    "--mode",   "copy",     NULL};
    const struct scenario scenarios[] = {
        {.name = "pack-reads",   .command = pack,   .begin = read_tree()  },
        {.name = "verify-reads", .command = verify, .begin = at("reading")},
        {.name = "sort-reads",   .command = sort,   .begin = raw_sample() },
    };
    for (int i = 0; i < 3 && scenarios[i].begin; i++) {
        struct engine *engine = engine_open(&scenarios[i], at("%s", scenarios[i].name));
        errors += engine_read_errors(engine, 1);
        memory += engine_memory(engine, 3);
        CHECK_INT(engine_close(engine), 0);
    }
}

static void print_counts(void)
{
    printf("kill points: %ld\nerrors injected: %ld\nallocations refused: %ld\npower-loss states: "
           "%ld\n",
           kills, errors, memory, states);
    if (getenv("CRASH_KINDS"))
        return;
    CHECK(kills >= 1200);
    CHECK(errors >= 2000);
}

static const struct test tests[] = {
    {"pack",   test_pack_calls},
    {"sort",   test_sort_calls},
    {"reads",  test_reading   },
    {"counts", print_counts   },
};

int main(int argc, char **argv)
{
    engine_choose_folder();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
