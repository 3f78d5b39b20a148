/*
 * Checkpoints and models, disturbed at every call that changes files while two epochs are saved
 * (crash/engine.h): in the end stand the files of an undisturbed run, and what was once reported as
 * saved is never lost.
 */
#include "tests/crash/engine.h"
#include "tests/checkpoint_rig.h"
#include "tests/crash/folder.h"

static long kills, errors, states;

/* The state that was reported, or a later one, is what a start finds. */
static bool keeps_step(const struct scenario *scenario, const char *folder, unsigned mark)
{
    char path[FILES_PATH_SIZE];
    (void)scenario;
    if (mark == END_MARK)
        mark = 6;
    files_join(path, folder, "run");
    int64_t step = latest_step(path);
    if (step >= mark)
        return true;
    printf("a start finds step %lld, %u was saved\n", (long long)step, mark);
    return false;
}

static void test_saves(void)
{
    char begin[FILES_PATH_SIZE], run[FILES_PATH_SIZE];
    const char *const command[] = {CRASH_SAVER, "@/run", "6", NULL};
    files_join(begin, test_folder(), "begin");
    files_join(run, begin, "run");
    CHECK(folder_make(begin) && folder_make(run));
    const struct scenario scenario = {.name = "saves",
                                      .command = command,
                                      .begin = begin,
                                      .promised = keeps_step,
                                      .leftovers = true};
    struct engine *engine = engine_open(&scenario, place("saves"));
    kills += engine_kills(engine, 3);
    errors += engine_errors(engine);
    states += engine_power(engine);
    CHECK_INT(engine_close(engine), 0);
}

static void print_counts(void)
{
    printf("kill points: %ld\nerrors injected: %ld\npower-loss states: %ld\n", kills, errors,
           states);
    CHECK(kills >= 400);
}

static const struct test tests[] = {
    {"saves",  test_saves  },
    {"counts", print_counts},
};

int main(int argc, char **argv)
{
    engine_choose_folder();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
