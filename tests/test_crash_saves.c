/*
 * Checkpoints and models, disturbed at every call that changes files while two epochs are saved
 * (crash/engine.h): in the end stand the files of an undisturbed run, and what was once reported as
 * saved is never lost.
 */
#include "tests/crash/engine.h"
#include "tests/checkpoint_rig.h"
#include "tests/crash/folder.h"

enum { STEPS = 6 }; /* saver.c's; two an epoch */

static long kills, errors, states;

/* The step in the file PATH; -1 when it is none. */
static int64_t step_of(const char *path)
{
    struct checkpoint_file *file;
    const struct checkpoint *found;
    if (checkpoint_open(&file, path, &found))
        return -1;
    int64_t step = found->global_step;
    checkpoint_close(file);
    return step;
}

/* What was published stands under its own name: the newest state, and the last epoch's model. */
static bool keeps_step(const struct scenario *scenario, const char *folder, unsigned mark)
{
    char path[FILES_PATH_SIZE], name[64];
    (void)scenario;
    if (mark == END_MARK)
        mark = STEPS;
    files_join(path, folder, "run/" CHECKPOINT_NEWEST);
    int64_t step = step_of(path);
    if (step < mark) {
        printf("the newest is step %lld, %u was saved\n", (long long)step, mark);
        return false;
    }
    /* One model is kept: this epoch's, or already the next one's, which goes before its state. */
    bool model = step < 2;
    for (int64_t epoch = step / 2 - 1; !model && epoch <= step / 2; epoch++) {
        snprintf(name, sizeof name, "run/model_%lld.pth", (long long)epoch);
        files_join(path, folder, name);
        model = !checkpoint_verify(path);
    }
    if (!model)
        printf("step %lld is there, its model is not\n", (long long)step);
    return model;
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
    if (!getenv("CRASH_KINDS"))
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
