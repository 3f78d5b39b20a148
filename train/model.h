/*
 * model.h - ResNet-18 to 152 (He et al. 2015; the stride of a bottleneck on its 3x3 convolution,
 * "v1.5", as torchvision) as tensors, parameters and a list of ops. Shapes and names only: where
 * the bytes lie is net.h's and the backend's affair.
 *
 * Two lists are made of one table: the training list (convolution, normalisation with ReLU and
 * residual) and the evaluation list (each convolution with its normalisation folded in). The
 * training list has a fused form, for devices that normalise as a convolution reads; both compute
 * the same.
 */
#ifndef TRAIN_MODEL_H
#define TRAIN_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_NAME_SIZE 64

/* What a tensor holds. Every activation is N x C x H x W in meaning; the backend chooses type and
 * layout. */
enum tensor_role { TENSOR_PICTURES, TENSOR_ACTIVATION, TENSOR_LOGITS };

/* An activation and its gradient. */
struct tensor {
    enum tensor_role role;
    int n, c, h, w;
    /* Ops of the training list that read it: 0 to 2. Each reader's backward writes a gradient of
     * its own (gradients[slot]); the producer's backward sums them as it reads: nothing is
     * accumulated in memory. */
    int readers;
    /* Fused lists: a convolution writes it and a normalisation reads it, so that who writes it may
     * leave the sums of its channels with it. */
    bool sums;
    /* Set by the backend's tensor_setup: bytes of data, and of each gradient; and whether the
     * device has a place of its own for data, which feed sets (the pictures). */
    size_t bytes;
    bool on_device;
    /* Set by net: where it lies while it lives. */
    void *data;
    void *gradients[2];
};

enum parameter_role {
    PARAMETER_CONV,         /* O x I x K x K */
    PARAMETER_LINEAR,       /* O x I */
    PARAMETER_BIAS,         /* O: of the linear layer */
    PARAMETER_GAMMA,        /* C: weight of a normalisation */
    PARAMETER_BETA,         /* C: its bias */
    PARAMETER_RUNNING_MEAN, /* C: statistics; no gradient */
    PARAMETER_RUNNING_VAR
};

/* One parameter or statistic, f32. Trained ones and statistics lie in one flat block, trained ones
 * first. */
struct parameter {
    char name[MODEL_NAME_SIZE]; /* torchvision's: "layer1.0.conv1.weight" */
    enum parameter_role role;
    int rank;
    int64_t shape[4]; /* as torchvision's: OIHW, OI, C */
    size_t count;     /* elements = product of shape */
    /* Set by the backend's parameter_setup: floats it takes in a flat block (>= count: a layout may
     * pad). */
    size_t stored;
    /* Set by net: first float in the flat blocks of values, gradients and momenta. */
    size_t offset;
};

enum op_kind {
    OP_CONV, /* out = conv(in, weight): square kernel, zero padding, no bias */
    OP_NORM, /* out = [relu](batch normalisation of in [+ residual]); updates the running statistics
              */
    OP_CONV_NORM, /* evaluation: out = [relu](normalisation by running statistics of conv(in,
                     weight) [+ residual]) */
    OP_MAX_POOL,  /* kernel x kernel, stride, padding as minus infinity */
    OP_MEAN_POOL, /* mean over h and w */
    OP_LINEAR,    /* out = in weight^T + bias: logits, f32 */
    /* Fused lists: out = conv(relu(batch normalisation of in), weight); updates the running
     * statistics. What the convolution reads is never stored. */
    OP_NORM_CONV,
    OP_LOSS, /* softmax cross-entropy with label smoothing of in against the batch's labels; top-1,
                top-5 */
    OP_KINDS
};
extern const char *const op_kind_names[OP_KINDS];

struct op {
    enum op_kind kind;
    char name[MODEL_NAME_SIZE]; /* torchvision's module: "layer1.0.conv1"; for messages and profiles
                                 */
    struct tensor *in, *residual,
        *out; /* residual: NULL or of out's shape; out: NULL for OP_LOSS */
    struct parameter *weight, *bias, *gamma, *beta, *running_mean,
        *running_var; /* those its kind has */
    int kernel, stride, padding;
    bool relu;
    float epsilon, momentum; /* normalisation: 1e-5, 0.1 (share of the new value, as PyTorch) */
    float label_smoothing;
    /* Which gradients[] slot of in and of residual this op's backward writes; -1 = that gradient is
     * not wanted. */
    int in_slot, residual_slot;

    /* Set by the backend's op_setup. */
    size_t packed_bytes;    /* made of parameters by prepare: other layouts, folded weights */
    size_t saved_bytes;     /* from forward to backward: statistics, masks, indices */
    size_t workspace_bytes; /* during one call */
    bool backward_reads_in, backward_reads_out;
    void *state; /* the backend's own */
    /* Set by net. */
    void *packed, *saved, *workspace;
};

/* Ranges of the settings; they also bound every product of sizes far below 2^63. */
enum {
    MODEL_IMAGE_LEAST = 32,
    MODEL_IMAGE_MOST = 4096,
    MODEL_BATCH_MOST = 65536,
    MODEL_CLASSES_MOST = 1000000
};

struct model_settings {
    const char *arch; /* one of model_archs; borrowed during model_open */
    int classes;
    int batch;             /* pictures at once */
    int image_size;        /* pixels of a side */
    float label_smoothing; /* 0 to 1 */
    bool fused;            /* the training list: a normalisation with a ReLU that one convolution
                              reads is one op with it, OP_NORM_CONV */
};

/* Everything is owned by the model and lives until model_close; addresses of elements are stable.
 */
struct model {
    struct model_settings settings;
    struct tensor *tensors;
    size_t tensor_count;
    struct parameter
        *parameters; /* trained ones first, in torchvision's state_dict order, then statistics */
    size_t parameter_count, trained_count;
    struct op *training, *evaluation; /* lists in forward order; both end with OP_LOSS */
    size_t training_count, evaluation_count;
};

/* ERR_USAGE for an unknown arch or a size too small for it, naming what is known; ERR_MEMORY. */
int model_open(struct model **out, const struct model_settings *settings);
void model_close(struct model *model); /* NULL is fine */

/* The names for --arch, ended by NULL. */
extern const char *const model_archs[];

/* First values as torchvision's: Kaiming normal with fan-out for convolutions, 1 and 0 for
 * normalisations (gamma 0 for the last of a block with ZERO_GAMMA), uniform +-1/sqrt(fan-in) for
 * the linear layer, statistics 0 and 1. A function of (seed, parameter's position, element). OUT:
 * parameter->count floats in the shape's order. */
void model_initialise(const struct model *model, const struct parameter *parameter, uint64_t seed,
                      bool zero_gamma, float *out);

/* Multiply-adds of one forward pass for one picture (peers: 1.814 G for ResNet-18 at 224). */
double model_multiply_adds(const struct model *model);

#endif
