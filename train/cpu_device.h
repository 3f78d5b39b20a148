/*
 * cpu_device.h - what the files of the CPU backend share: the device, where tensors lie, and the
 * table row of an op. Private to backend_cpu.c, cpu_conv.c and cpu_ops.c.
 *
 * Layouts, chosen once: with AVX-512, activations are N x C/16 x H x W x 16 when 16 divides C, and
 * the pictures N x C x H x W. Everything else, and bf16 on CPUs with AMX, is N x H x W x C. Weights
 * of convolutions lie in the flat blocks as oneDNN leaves their gradients; what else a convolution
 * reads is packed in prepare.
 */
#ifndef TRAIN_CPU_DEVICE_H
#define TRAIN_CPU_DEVICE_H

#include "train/backend.h"
#include "train/cpu_kernels.h"
#include "train/dnnl_adapter.h"

/* How the weights of convolutions of one shape are stored. */
struct cpu_weights {
    struct cpu_weights *next;
    int o, i, k;
    struct adapter_weights *stored;
    struct adapter_reorder *from_plain, *to_plain; /* plain: O x I x K x K, as on the host */
    void *scratchpad;                              /* for both */
};

struct device {
    struct device_settings settings;
    int threads; /* >= 1 */
    bool bf16, blocked;
    size_t cache_bytes; /* what may be in use at once to find it in the cache again */
    struct adapter *adapter;
    const struct cpu_kernels *kernels;
    struct cpu_weights *weights; /* one for each shape */
    int32_t *labels;             /* of the batch fed last; room for label_capacity */
    size_t label_capacity;
    int rows;
    struct loss_result results[BACKEND_RESULTS];
    struct sgd sgd;      /* of the updates to come */
    float table[256][3]; /* a byte of a picture, normalised */
    char description[128];
};

/* How an op kind is computed; the functions are backend.h's. NULL: nothing to do. */
struct cpu_op {
    int (*setup)(struct device *device, struct op *op, bool training);
    void (*release)(struct op *op);
    int (*prepare)(struct device *device, struct op *op, const float *values);
    int (*forward)(struct device *device, struct op *op, float *values);
    int (*backward)(struct device *device, struct op *op, const float *values, float *gradients);
};

/* cpu_conv.c */
extern const struct cpu_op cpu_conv, cpu_conv_norm;
/* cpu_ops.c */
extern const struct cpu_op cpu_norm_op, cpu_max_pool, cpu_mean_pool, cpu_linear, cpu_loss;

/* backend_cpu.c: where T lies; its grid, of an activation (not of pictures or logits); bytes of a
 * number. */
enum adapter_layout cpu_layout(const struct device *device, const struct tensor *t);
struct cpu_grid cpu_grid(const struct device *device, const struct tensor *t);
size_t cpu_number_bytes(const struct device *device, const struct tensor *t);
/* How weights of P's shape are stored: found or made. */
int cpu_weights(struct device *device, const struct parameter *p, const struct cpu_weights **out);

static inline size_t cpu_elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

static inline size_t cpu_larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Rounded up to a cache line. */
static inline size_t cpu_align(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

#endif
