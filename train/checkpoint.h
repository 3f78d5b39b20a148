/*
 * checkpoint.h - the whole state of a training run in one PyTorch file, for an exact resume.
 * data-spec/50-checkpoint.md.
 *
 * A run's folder checkpoints/<name>/ holds
 *     checkpoint.pth           the newest state
 *     checkpoint.previous.pth  the one before it
 *     model_<epoch>.pth        the model alone after an epoch
 *     checkpoint.next.pth      only while a new state is being published, or after a kill in it
 *     checkpoint.damaged.pth   a newest state that did not verify, moved aside; nothing reads it
 * Each of these names is whole or absent at every instant, and once there was a checkpoint, at
 * every instant at least one whole one stands under checkpoint.pth, checkpoint.previous.pth or
 * checkpoint.next.pth.
 *
 * A checkpoint holds no path, time, host, process or number of loader threads: same state, same
 * bytes. A digest over every value in it is written last and checked on reading. The caller holds
 * the lock of the run's folder while it publishes or asks for the latest.
 *
 * How the trainer uses it:
 *     resume:  checkpoint_latest(folder, &file, &found); where found is NULL, begin anew; else
 *              compare its settings, set the parameters from checkpoint_find(found, name),
 *              checkpoint_close(file)
 *     save:    fill a struct checkpoint from host copies of the parameters,
 *              checkpoint_publish(folder, &state)
 *     epoch:   also checkpoint_publish_model(folder, &state, keep)
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The names above. */
#define CHECKPOINT_NEWEST "checkpoint.pth"
#define CHECKPOINT_PREVIOUS "checkpoint.previous.pth"
#define CHECKPOINT_NEXT "checkpoint.next.pth"
#define CHECKPOINT_DAMAGED "checkpoint.damaged.pth"

#define CHECKPOINT_KEEP_ALL (-1)

/* A class: folder name (the WNID for ImageNet) and WordNet words, "" when unknown. */
struct checkpoint_class {
    const char *name, *words;
};

/* A setting that shapes the numbers, as it would be typed: {"batch_size", "16"}. Kept in the order
 * given. */
struct checkpoint_setting {
    const char *name, *text;
};

/* A number of the trainer's own, kept exactly: {"loss_sum", 1234.5}. Finite. Kept in the order
 * given. */
struct checkpoint_number {
    const char *name;
    double value;
};

/* A parameter or a statistic, f32, contiguous, in torchvision's shape. */
struct checkpoint_tensor {
    const char *name; /* torchvision's: "layer1.0.conv1.weight" */
    int rank;         /* 1 to 4 */
    int64_t shape[4];
    const float *value;
    /* The SGD momentum buffer, of the same shape (zeros before the first update); NULL for a
     * statistic (running_mean, running_var), which has none, and in a file that holds the model
     * alone. */
    const float *momentum;
    /* Takes no weight decay: in the optimizer's second group. False for statistics. */
    bool no_decay;
};

/* The rate's plan, written as the state of PyTorch's scheduler of the same kind. */
enum checkpoint_schedule_kind { CHECKPOINT_STEP, CHECKPOINT_COSINE };
struct checkpoint_schedule {
    enum checkpoint_schedule_kind kind; /* StepLR, CosineAnnealingLR */
    int64_t period; /* step: step_size; cosine: T_max; in the scheduler's steps */
    double gamma;   /* step; 0 for cosine */
    double base_lr; /* before any decay; the optimizer's initial_lr */
    double lr;      /* for the next training step; the optimizer's lr */
    int64_t steps;  /* scheduler steps taken (last_epoch): finished epochs, or training steps */
};

/* The state between two training steps. Pointers are borrowed: from the caller when written, from
 * the open file when read. */
struct checkpoint {
    /* True for a file with the model alone: only arch, classes, class_digest, data_digest, epoch,
     * best_*, batches_tracked and the tensors' values are there. Set by checkpoint_open; ignored
     * when written. */
    bool model_only;

    const char *arch;                       /* "resnet152" */
    const struct checkpoint_class *classes; /* index = the network's output */
    size_t class_count;
    const char *class_digest; /* dataset_class_digest of the training data */
    const char *data_digest;  /* dataset_digest of the training data */

    uint64_t seed; /* 0 .. 2^63 - 1 */
    /* Where the run stands: STEP updates of EPOCH (0-based) are done, 0 <= step < updates of an
     * epoch: the end of epoch e is written as epoch e + 1, step 0. */
    int64_t epoch, step;
    int64_t global_step; /* updates done since the run began */
    /* The validation that belongs before this position (the one before the first step, or after the
     * last finished epoch) is done and recorded: a resume does not repeat it. */
    bool evaluated;
    /* Training forward passes of every normalisation so far (micro-batches): num_batches_tracked.
     */
    int64_t batches_tracked;

    double best_accuracy; /* top-1, percent; 0 when no epoch was validated yet */
    int64_t best_epoch; /* 0-based number of that finished epoch, as in model_<epoch>.pth; -1 = none
                           yet */

    const struct checkpoint_setting *settings; /* names differ from one another */
    size_t setting_count;
    const struct checkpoint_number *numbers; /* names differ from one another */
    size_t number_count;

    double momentum, weight_decay; /* of SGD; groups with no_decay tensors get weight_decay 0 */
    struct checkpoint_schedule schedule;

    /* Written: in any order in which the trained ones stand in the model's order (struct model's
     * parameters will do). Statistics go into the file behind the bias of their normalisation, with
     * num_batches_tracked behind them: torchvision's order. Read: in torchvision's order, without
     * num_batches_tracked. */
    const struct checkpoint_tensor *tensors;
    size_t tensor_count;
};

/* Write PATH whole or not at all. ERR_NOT_FINITE names a tensor or number that is not finite
 * (nothing is written); ERR_IO: the space was too short before the start (needed and free bytes are
 * named) or writing failed; ERR_FAULT: names that are double, missing, or do not fit together.
 * Memory: some hundred KiB, whatever the model's size. */
int checkpoint_save(const char *path, const struct checkpoint *checkpoint);

/* Read PATH and check its digest; *CHECKPOINT and all it points at live until checkpoint_close.
 * ERR_INPUT: damaged or not a PyTorch file; ERR_MISMATCH: a whole PyTorch file, but not one of this
 * program's checkpoints (the first missing key is named), or of a newer format. Takes as much
 * memory as the file is long. */
struct checkpoint_file;
int checkpoint_open(struct checkpoint_file **out, const char *path,
                    const struct checkpoint **checkpoint);
void checkpoint_close(struct checkpoint_file *file); /* NULL is fine */

/* The tensor of that name; NULL when absent. */
const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *checkpoint,
                                                const char *name);
/* The setting or number of that name; NULL when absent. */
const char *checkpoint_setting(const struct checkpoint *checkpoint, const char *name);
const double *checkpoint_number(const struct checkpoint *checkpoint, const char *name);

/* Read PATH back from the disk and check everything in it, digest included, in little memory.
 * ERR_INPUT, ERR_IO. */
int checkpoint_verify(const char *path);

/* Make *CHECKPOINT the newest of FOLDER (which exists): written as CHECKPOINT_NEXT, synced, read
 * back and verified; then the newest becomes the previous one and this one the newest. When it
 * fails, the old ones stay; ERR_IO or ERR_INPUT (what was read back is not what was written). */
int checkpoint_publish(const char *folder, const struct checkpoint *checkpoint);

/* Write FOLDER/model_<checkpoint->epoch - 1>.pth, the model alone, verified; then remove older
 * files of that name pattern but the KEEP (>= 1, or CHECKPOINT_KEEP_ALL) with the highest numbers,
 * this one, and the best epoch's. At the end of an epoch only: step == 0, epoch >= 1. A file that
 * cannot be removed is a warning, not an error. */
int checkpoint_publish_model(const char *folder, const struct checkpoint *checkpoint, int keep);

/* Open the newest checkpoint of FOLDER that verifies. *OUT and *CHECKPOINT are NULL, with 0
 * returned, when there is none at all (or no folder). A publication that was interrupted is
 * finished first. A damaged newest file is moved aside, with a warning that names both files, and
 * the previous one is taken; ERR_INPUT when no file verifies, and nothing is moved then. */
int checkpoint_latest(const char *folder, struct checkpoint_file **out,
                      const struct checkpoint **checkpoint);

#endif
