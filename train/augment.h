/*
 * augment.h - from a stored picture to the network's input square: the random crop and flip of
 * training, the resize and centre crop of validation, both in integers: every machine and device
 * gives the same bytes. data-spec/30-order.md has the arithmetic.
 */
#ifndef TRAIN_AUGMENT_H
#define TRAIN_AUGMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/resample.h"

/* Where a picture is cut, and whether it is mirrored afterwards. */
struct crop {
    int left, top, width, height;
    bool flip;
};

/* torchvision's RandomResizedCrop(scale 0.08-1, ratio 3/4-4/3) and RandomHorizontalFlip(0.5): area
 * share uniform, log of the ratio uniform, ten tries, then the largest centred box within the
 * ratios. A function of (seed, epoch, record), in fixed point: no libm, so that every machine
 * agrees. EPOCH < 2^24; sides are 1 to 65,535. The box is inside the picture, never empty. */
struct crop augment_random_crop(uint64_t seed, uint32_t epoch, uint64_t record, int width,
                                int height);

/* How a square is made of a picture, axis by axis: of its pixels [from, from + in) the outputs
 * [first, first + count) of FULL are computed and lie from TO on; what is beside them is 0. */
struct augment_axis {
    int from, in, full, first, count, to;
};
struct augment_plan {
    struct augment_axis across, down;
    bool flip; /* afterwards */
};

/* The plans of augment_train and augment_validate, and what runs one; these fail as those do. */
void augment_plan_train(const struct crop *crop, int size, struct augment_plan *out);
int augment_plan_validate(int width, int height, int resize, int size, struct augment_plan *out);
/* The pixels that AXIS needs, counted from its first one: [*first, *end). What the others are, as
 * long as they are there, does not change what augment_run makes. */
void augment_inputs(const struct augment_axis *axis, int *first, int *end);
int augment_run(struct resampler *resampler, const struct pixels *picture,
                const struct augment_plan *plan, int size, uint8_t *out);

/* Cut, resize to SIZE x SIZE, mirror: OUT is SIZE x SIZE x 3. CROP lies inside PICTURE. Fails as
 * resampler_run. */
int augment_train(struct resampler *resampler, const struct pixels *picture,
                  const struct crop *crop, int size, uint8_t *out);

/* Validation: shorter side to RESIZE (torchvision's Resize; nothing to do when it has that size),
 * centre crop of SIZE (CenterCrop's rounding; where RESIZE < SIZE, what is missing is padded with 0
 * as CenterCrop does). RESIZE >= 1. ERR_INPUT: the longer side would be above 65,535; else as
 * resampler_run. */
int augment_validate(struct resampler *resampler, const struct pixels *picture, int resize,
                     int size, uint8_t *out);

#endif
