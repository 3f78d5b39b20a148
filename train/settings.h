/*
 * settings.h - everything a run can be told, as one struct and one option table, and the rules
 * between options.
 */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/opts.h"

enum settings_schedule { SCHEDULE_STEP, SCHEDULE_COSINE };
enum settings_unit { UNIT_EPOCH, UNIT_STEP };

/* Texts are borrowed from the command line. Fields are named as their options. */
struct settings {
    /* Data. */
    const char *db, *val;
    int64_t image_size, val_resize; /* val_resize 0: image_size * 256 / 224 */
    int64_t workers;
    int shuffle; /* enum order_shuffle: full or shards */
    /* Network. */
    int arch; /* position in model_archs */
    bool zero_gamma;
    /* Optimisation. */
    int64_t epochs, batch_size, accumulate, max_steps; /* max_steps 0: no limit */
    double lr, momentum, weight_decay, label_smoothing;
    bool decay_norm;
    int schedule, schedule_unit;
    int64_t lr_step_size, warmup_epochs;
    double lr_gamma;
    int64_t seed;
    /* Device. */
    const char *device; /* for backend_open: "auto", "cuda:1", "cpu", "ref" */
    int precision;      /* enum precision */
    bool deterministic;
    int64_t threads; /* 0: all cores */
    /* Run. */
    const char *config, *name, *output, *resume, *init, *keep;
    bool first_validation, profile;
    int64_t checkpoint_steps, log_every;
};

extern const struct opts_command settings_command;
#define SETTINGS_ROW_LIMIT 64 /* rows of its table are fewer */

/* A setting that shapes the numbers: part of a checkpoint, compared on resume. */
struct settings_pair {
    const char *name; /* of the option */
    char text[64];
    bool inexact; /* another value is allowed and announced: the run goes on with other rounding */
};
#define SETTINGS_PAIR_LIMIT 32

/* Check what single options cannot: required ones, the resize against the size, --keep, a name that
 * is one folder's name. Fills in val_resize, threads and name. NAME_STORAGE (64 bytes) holds a made
 * name. ERR_USAGE. */
int settings_complete(struct settings *settings, char name_storage[64]);

/* OUT = the shaping settings in the table's order, with the real DEVICE ("cuda") and PRECISION
 * ("bf16") instead of "auto"; returns how many. */
size_t settings_pairs(const struct settings *settings, const char *device, const char *precision,
                      struct settings_pair out[SETTINGS_PAIR_LIMIT]);

/* --keep as a number of files; CHECKPOINT_KEEP_ALL for "all". */
int settings_keep(const struct settings *settings);

/* "resnet152" */
const char *settings_arch(const struct settings *settings);

#endif
