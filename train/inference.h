/*
 * inference.h - a network that only answers: device, model and net for one set of weights, and the
 * options that `train eval` and `train predict` share.
 */
#ifndef TRAIN_INFERENCE_H
#define TRAIN_INFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/opts.h"
#include "train/net.h"
#include "train/weights.h"

struct inference_settings {
    int64_t image_size, val_resize; /* 0: what the weights' run had, else 224 and x 256/224 */
    int64_t batch_size;             /* 0: what the weights' run had, else 32 */
    int64_t threads;                /* 0: all cores */
    const char *device;             /* as settings.h's */
    int precision;                  /* enum precision; auto: what the weights' run had, else f32 */
};
/* Rows of an option table for the struct at offset BASE inside the command's settings. */
/* clang-format off */
#define INFERENCE_AT(BASE, FIELD) ((BASE) + offsetof(struct inference_settings, FIELD))
#define INFERENCE_ROWS(BASE) \
    {"image-size", "N", OPTS_INT, INFERENCE_AT(BASE, image_size), "0", 0, 1024, NULL, "Network", \
     "pixels of a side of what the network sees; 0 is what it was trained with, else 224"}, \
    {"val-resize", "N", OPTS_INT, INFERENCE_AT(BASE, val_resize), "0", 0, 2048, NULL, "Network", \
     "shorter side before the centre crop; 0 is image-size x 256/224"}, \
    {"device", "auto|cuda|cuda:N|cpu|ref", OPTS_TEXT, INFERENCE_AT(BASE, device), "auto", 0, 0, NULL, "Device", \
     "cuda: a GPU; cpu: oneDNN; ref: plain C, slow; auto: the best there is"}, \
    {"precision", NULL, OPTS_CHOICE, INFERENCE_AT(BASE, precision), "auto", 0, 0, "auto|f32|bf16|fp16|tf32", \
     "Device", "arithmetic of the convolutions; auto: what it was trained with, else f32"}, \
    {"batch-size", "N", OPTS_INT, INFERENCE_AT(BASE, batch_size), "0", 0, 8192, NULL, "Device", \
     "pictures at once; 0 is what it was trained with, else 32"}, \
    {"threads", "N", OPTS_INT, INFERENCE_AT(BASE, threads), "0", 0, 1024, NULL, "Device", \
     "computing threads; 0 is all cores"}
/* clang-format on */

/* Fill in what is 0, from the run that WEIGHTS remembers where it does. ERR_USAGE. */
int inference_complete(struct inference_settings *settings, const struct weights *weights);

struct inference {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
};
/* A network with the outputs ROWS[0 .. COUNT - 1] of the weights' (NULL: all of them, COUNT is not
 * looked at). */
int inference_open(struct inference *out, const struct inference_settings *settings,
                   const struct weights *weights, const int32_t *rows, size_t count);
void inference_close(struct inference *inference); /* a zeroed or half-built one is fine */

#endif
