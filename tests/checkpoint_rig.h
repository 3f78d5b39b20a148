/*
 * checkpoint_rig.h - what the tests of checkpoints share: a small state whose numbers are a
 * function of its position, and handling of a run's folder.
 */
#ifndef TESTS_CHECKPOINT_RIG_H
#define TESTS_CHECKPOINT_RIG_H

#include "common/files.h"
#include "common/rng.h"
#include "tests/test.h"
#include "train/checkpoint.h"

/* ---- a small state ---- */

enum { TENSORS = 9, MAX_ELEMENTS = 64 };

struct state {
    struct checkpoint checkpoint;
    struct checkpoint_tensor tensors[TENSORS];
    float values[TENSORS][MAX_ELEMENTS], momenta[TENSORS][MAX_ELEMENTS];
};

static const struct checkpoint_class classes[] = {
    {"n01440764", "tench, Tinca tinca"},
    {"n01443537", "goldfish"          },
    {"n99999999", ""                  }
};
static const struct checkpoint_setting settings[] = {
    {"batch_size",   "16"               },
    {"lr",           "0.1"              },
    {"arch",         "tiny"             },
    {"na\xc3\xafve", "\xe2\x9c\x93 \x80"}
};
static const struct checkpoint_number numbers[] = {
    {"loss_sum",    1234.0625},
    {"loss_images", 4096     },
    {"tiny",        5e-324   }
};

/* Two normalisations, statistics at the end as struct model has them, a bias that belongs to a
 * linear layer. */
static inline void fill_state(struct state *s, int64_t epoch, int64_t step)
{
    static const struct {
        const char *name;
        int64_t shape[4];
        int rank;
        bool no_decay;
    } rows[TENSORS] = {
        {"conv1.weight",     {4, 3, 2, 2}, 4, false},
        {"bn1.weight",       {4},          1, true },
        {"bn1.bias",         {4},          1, true },
        {"fc.weight",        {3, 4},       2, false},
        {"fc.bias",          {3},          1, true },
        {"bn1.running_mean", {4},          1, false},
        {"bn1.running_var",  {4},          1, false},
        {"one.bias",         {1},          1, false},
        {"one.running_mean", {1},          1, false},
    };
    memset(s, 0, sizeof *s);
    for (int i = 0; i < TENSORS; i++) {
        struct rng random;
        bool statistic = strstr(rows[i].name, "running") != NULL;
        rng_init(&random, 3, RNG_TEST, (uint32_t)epoch, (uint64_t)(step * 100 + i));
        for (int k = 0; k < MAX_ELEMENTS; k++) {
            s->values[i][k] = (float)rng_normal(&random);
            s->momenta[i][k] = (float)rng_normal(&random);
        }
        s->tensors[i] = (struct checkpoint_tensor){.name = rows[i].name,
                                                   .rank = rows[i].rank,
                                                   .value = s->values[i],
                                                   .momentum = statistic ? NULL : s->momenta[i],
                                                   .no_decay = rows[i].no_decay};
        memcpy(s->tensors[i].shape, rows[i].shape, sizeof rows[i].shape);
    }
    s->checkpoint = (struct checkpoint){
        .arch = "resnet18",
        .classes = classes,
        .class_count = 3,
        .class_digest = "00112233445566778899aabbccddeeff",
        .data_digest = "ffeeddccbbaa99887766554433221100",
        .seed = INT64_MAX,
        .epoch = epoch,
        .step = step,
        .global_step = epoch * 10 + step,
        .evaluated = true,
        .batches_tracked = epoch * 10 + step,
        .best_accuracy = 71.25,
        .best_epoch = epoch > 2 ? 1 : -1,
        .settings = settings,
        .setting_count = 4,
        .numbers = numbers,
        .number_count = 3,
        .momentum = 0.9,
        .weight_decay = 1e-4,
        .schedule = {CHECKPOINT_STEP, 30, 0.1, 0.1, 0.01, epoch},
        .tensors = s->tensors,
        .tensor_count = TENSORS,
    };
}

static inline size_t count_of(const struct checkpoint_tensor *tensor)
{
    size_t count = 1;
    for (int i = 0; i < tensor->rank; i++)
        count *= (size_t)tensor->shape[i];
    return count;
}

/* Bit for bit. */
static inline bool same_floats(const void *a, const void *b, size_t count)
{
    return !memcmp(a, b, count * sizeof(float));
}

/* A file's folder of its own for each case. */
static inline const char *place(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static inline char *run_folder(const char *name)
{
    static char path[4100];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    CHECK_INT(files_make_folder(path), 0);
    return path;
}

static inline bool there(const char *folder, const char *name)
{
    char path[FILES_PATH_SIZE];
    return !files_join(path, folder, name) && access(path, F_OK) == 0;
}

/* Remove all files of FOLDER. */
static inline void remove_files(const char *folder)
{
    struct files_list list;
    char path[FILES_PATH_SIZE];
    CHECK_INT(files_list(folder, &list), 0);
    for (size_t i = 0; i < list.count; i++)
        if (!files_join(path, folder, list.names[i]))
            CHECK_INT(files_remove(path), 0);
    files_list_release(&list);
}

/* Flip a bit in the middle of FOLDER/NAME. */
static inline void damage(const char *folder, const char *name)
{
    char path[FILES_PATH_SIZE];
    files_join(path, folder, name);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    if (!file)
        return;
    fseek(file, 700, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, 700, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

/* The global step of the latest checkpoint; -1 none, -2 an error. */
static inline int64_t latest_step(const char *folder)
{
    struct checkpoint_file *file;
    const struct checkpoint *found;
    if (checkpoint_latest(folder, &file, &found))
        return -2;
    int64_t step = found ? found->global_step : -1;
    checkpoint_close(file);
    return step;
}

static inline void publish(const char *folder, int64_t epoch, int64_t step)
{
    static struct state state;
    fill_state(&state, epoch, step);
    CHECK_INT(checkpoint_publish(folder, &state.checkpoint), 0);
}

#endif
