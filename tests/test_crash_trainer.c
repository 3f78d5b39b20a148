/*
 * The real train, with a network of few channels (train_narrow), disturbed at every call that
 * changes files or reads them in two epochs with their saves (crash/engine.h): in the end stand the
 * checkpoints and models of an undisturbed run, byte for byte, and its losses.
 */
#include "common/files.h"
#include "common/mem.h"
#include "tests/crash/engine.h"
#include "tests/crash/folder.h"
#include "tests/test.h"

static long kills, errors, memory, states;

/* NAME in the test's folder. */
static const char *at(const char *name)
{
    static char paths[8][FILES_PATH_SIZE];
    static int next;
    char *path = paths[next++ % 8];
    files_join(path, test_folder(), name);
    return path;
}

/* What FOLDER's metrics.jsonl says but for times and rates; mem_free it. */
static char *read_losses(const char *folder)
{
    char path[FILES_PATH_SIZE], *to;
    uint8_t *text;
    size_t size;
    files_join(path, folder, "runs/n/metrics.jsonl");
    if (files_read(path, 1 << 20, &text, &size))
        return NULL;
    to = (char *)text;
    for (char *line = (char *)text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        char *times = strstr(line, ", \"img_per_s\""), *seconds = strstr(line, ", \"seconds\"");
        char *cut = times ? times : seconds ? seconds : end;
        memmove(to, line, (size_t)(cut - line));
        to += cut - line;
        *to++ = '\n';
    }
    *to = 0;
    return (char *)text;
}

static bool same_losses(const char *expected, const char *found, char *out, size_t size)
{
    char *lines[2] = {read_losses(expected), read_losses(found)};
    bool same = lines[0] && lines[1] && !strcmp(lines[0], lines[1]);
    if (!same)
        snprintf(out, size, "%s/runs/n/metrics.jsonl: other losses", found);
    mem_free(lines[0]);
    mem_free(lines[1]);
    return same;
}

static bool same_files(const char *expected, const char *found, bool extra, char *out, size_t size)
{
    char folders[2][FILES_PATH_SIZE];
    files_join(folders[0], expected, "checkpoints");
    files_join(folders[1], found, "checkpoints");
    return folder_same(folders[0], folders[1], extra, out, size);
}

/* A run that was stopped, or whose newest file was lost with the power, saves at other moments: its
 * last file but one is of another step. EXTRA: a save failed, and an epoch's model with it. */
static bool same_end(const char *expected, const char *found, bool extra, char *out, size_t size)
{
    static const char *const names[] = {"checkpoint.pth", "model_1.pth", "model_0.pth"};
    for (int i = 0; i < (extra ? 2 : 3); i++) {
        char name[64], paths[2][FILES_PATH_SIZE];
        snprintf(name, sizeof name, "checkpoints/n/%s", names[i]);
        files_join(paths[0], expected, name);
        files_join(paths[1], found, name);
        if (!folder_same(paths[0], paths[1], extra, out, size))
            return false;
    }
    return true;
}

static bool same_run(const char *expected, const char *found, bool extra, char *out, size_t size)
{
    if (extra)
        return same_end(expected, found, true, out, size);
    return same_files(expected, found, false, out, size) && same_losses(expected, found, out, size);
}

static bool keeps_run(const struct scenario *scenario, const char *folder, unsigned mark)
{
    char reference[FILES_PATH_SIZE], difference[FILES_PATH_SIZE];
    (void)mark;
    files_join(reference, at(scenario->name), "reference");
    if (same_files(reference, folder, true, difference, sizeof difference))
        return true;
    printf("%s\n", difference);
    return false;
}

/* A folder with two small data sets, for training and validation. */
static const char *begin(void)
{
    char command[FILES_PATH_SIZE * 8];
    const char *raw = at("raw"), *to = at("begin"), *prep = CRASH_PREP;
    snprintf(command, sizeof command,
             "(%s sample %s --classes 2 --train-per-class 6 --val-per-class 1 --seed 3 && "
             "%s pack %s/train %s/train.lmdb --short-side 40 && "
             "%s pack %s/train %s/val.lmdb --short-side 36 --per-class 2) >%s 2>&1",
             prep, raw, prep, raw, to, prep, raw, to, at("said"));
    CHECK_INT(system(command), 0);
    return to;
}

static void test_calls(void)
{
    const char *const command[] = {CRASH_TRAIN,
                                   "--db",
                                   "@/train.lmdb",
                                   "--val",
                                   "@/val.lmdb",
                                   "--arch",
                                   "resnet18",
                                   "--image-size",
                                   "32",
                                   "--device",
                                   "ref",
                                   "--threads",
                                   "1",
                                   "--workers",
                                   "1",
                                   "--seed",
                                   "5",
                                   "--lr",
                                   "0.01",
                                   "--epochs",
                                   "2",
                                   "--name",
                                   "n",
                                   "--output",
                                   "@",
                                   "--batch-size",
                                   "4",
                                   "--log-every",
                                   "1",
                                   NULL};
    struct scenario scenario = {.name = "train",
                                .command = command,
                                .begin = begin(),
                                .same = same_run,
                                .errors = "EIO short",
                                .leftovers = true};
    struct engine *engine = engine_open(&scenario, at("train"));
    kills += engine_kills(engine, 1);
    errors += engine_errors(engine);
    errors += engine_read_errors(engine, 31);
    memory += engine_memory(engine, 17);
    CHECK_INT(engine_close(engine), 0);

    scenario.same = same_end;
    engine = engine_open(&scenario, at("train"));
    engine_stops(engine);
    CHECK_INT(engine_close(engine), 0);

    /* What TensorBoard shows is never synced: with it the states would be thousands. */
    CHECK(folder_make(at("begin/checkpoints")));
    scenario.watched = "checkpoints";
    scenario.promised = keeps_run;
    engine = engine_open(&scenario, at("train"));
    states += engine_power(engine);
    CHECK_INT(engine_close(engine), 0);
}

static void print_counts(void)
{
    printf("kill points: %ld\nerrors injected: %ld\nallocations refused: %ld\npower-loss states: "
           "%ld\n",
           kills, errors, memory, states);
    if (!getenv("CRASH_KINDS"))
        CHECK(kills >= 400);
}

static const struct test tests[] = {
    {"calls",  test_calls  },
    {"counts", print_counts},
};

int main(int argc, char **argv)
{
    engine_choose_folder();
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
