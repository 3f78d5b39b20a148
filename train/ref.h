/*
 * ref.h - what the files of the `ref` backend share: its device, the table row of an op, and
 * helpers on tensors. Private to backend_ref.c, ref_fused.c, ref_matrix.c and
 * ref_ops.c.
 */
#ifndef TRAIN_REF_H
#define TRAIN_REF_H

#include "train/backend.h"

struct device {
    int32_t *labels; /* of the batch fed last */
    size_t label_capacity;
    int rows;
    struct loss_result results[BACKEND_RESULTS];
    struct sgd sgd;      /* of the updates to come */
    int dropped_bits;    /* of a float, where what is stored is rounded to 16 bits; or 0 */
    float *weights;      /* those that convolutions and products read, rounded, at their places */
    float table[256][3]; /* a byte of a picture, normalised */
};

/* How an op kind is computed; the functions are backend.h's. No memory is allocated and nothing can
 * fail. */
struct ref_op {
    void (*setup)(struct op *op, bool training);
    void (*prepare)(struct op *op, const float *values); /* NULL: nothing is packed */
    void (*forward)(struct device *device, struct op *op, float *values);
    void (*backward)(struct device *device, struct op *op, const float *values, float *gradients);
};

/* ref_matrix.c: those that are matrix products */
extern const struct ref_op ref_conv, ref_conv_norm, ref_linear;
/* ref_fused.c */
extern const struct ref_op ref_norm_conv;
/* ref_ops.c */
extern const struct ref_op ref_norm, ref_max_pool, ref_mean_pool, ref_loss;

/* h * w, and n * c * h * w. */
size_t ref_pixels(const struct tensor *t);
size_t ref_elements(const struct tensor *t);

/* Element I of T's gradient, in T's order: the sum of what its readers left, as f32. */
float ref_gradient(const struct tensor *t, size_t i);

#endif
