/*
 * graphs.h - what a GPU's plans compute: the graphs of train/cuda/door.h for the ops of
 * train/model.h. The one place where an op becomes nodes, dimensions and strides; backend_cuda.c
 * binds memory to them, plan_store.h makes plans of them, the tests give the same graphs to the
 * real cuDNN and to the simulator.
 *
 * What lies where:
 * - TYPE is how activations and their gradients are stored (DOOR_BF16, DOOR_F16, DOOR_F32).
 *   Activations are N x H x W x C; the pictures have graph_channels() channels, those beyond 3 are
 *   0.
 * - Filters (GRAPH_W) are K x R x S x C of TYPE, C as stored: with f32 the flat block of values
 *   itself, else the copy that kernel_update writes, element for element at the same places. The
 *   linear layer's weight is K x C. Their gradients (GRAPH_DW) have the same layout, always f32,
 *   straight into the flat block of gradients.
 * - Everything per channel (gamma, beta, their gradients, statistics, the linear layer's bias) is
 *   f32; so are the logits (GRAPH_Y of the linear layer). The gradient of the logits is of TYPE
 *   (kernel_loss_backward).
 * - GRAPH_MASK is one bit an element of Y (DOOR_BOOL); GRAPH_INDEX one i8.
 * - Where two ops read a tensor there are two gradients. GRAPH_NORM_BACKWARD takes both (GRAPH_DY,
 *   GRAPH_DY2) and adds them in f32. The others take one: after the pooling kernel_sum goes before
 *   (once a step; convolutions and the linear layer have one reader).
 * - Fused lists (model.h): an activation that a convolution leaves for a normalisation has sums
 *   (tensor->sums): GRAPH_SUM and GRAPH_SQSUM, f32 per channel, of the numbers as they are stored.
 *   GRAPH_FINALIZE makes statistics of them, and the normalisation as a scale and a bias
 *   (GRAPH_EQ_SCALE, GRAPH_EQ_BIAS), in TYPE for the convolution that applies them as it reads
 *   (OP_NORM_CONV), in f32 for GRAPH_APPLY. cuDNN has these plans for fp16 alone.
 * - All pointers are aligned to 16 bytes. By-value tensors (GRAPH_EPSILON, GRAPH_MOMENTUM,
 *   GRAPH_ZERO) point to a float of the host: &op->epsilon, &op->momentum, &graph_zero; GRAPH_COUNT
 *   to an int64_t, n * h * w.
 *
 * A graph is a function of the kind, the op's shapes and attributes, and TYPE alone: ops of one
 * shape give equal graphs (graph_equal), which share a plan.
 */
#ifndef TRAIN_CUDA_GRAPHS_H
#define TRAIN_CUDA_GRAPHS_H

#include "train/cuda/door.h"
#include "train/model.h"

/* [brackets]: there when the op has it. Uids without GRAPH_. */
enum graph_kind {
    GRAPH_CONV,        /* OP_CONV, in: X, W; out: Y [, SUM, SQSUM: out has sums] */
    GRAPH_CONV_DATA,   /* OP_CONV, in: DY, W; out: DX */
    GRAPH_CONV_FILTER, /* OP_CONV, in: X, DY; out: DW */
    /* OP_NORM, in: X, GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR [, RESIDUAL]; EPSILON, MOMENTUM [,
     * ZERO]; out: Y, MEAN, INVSTD, RUNNING_MEAN_OUT, RUNNING_VAR_OUT (may be the memory of
     * RUNNING_MEAN, RUNNING_VAR) [, MASK with a ReLU: Y > 0]. */
    GRAPH_NORM,
    /* OP_NORM, in: X, DY [, DY2: out has two readers] [, MASK with a ReLU], MEAN, INVSTD, GAMMA;
     * out: DX, DGAMMA, DBETA [, DRESIDUAL where op->residual_slot >= 0: (DY + DY2) * MASK]. */
    GRAPH_NORM_BACKWARD,
    GRAPH_MAX_POOL,          /* OP_MAX_POOL in training, in: X; out: Y, INDEX */
    GRAPH_MAX_POOL_BACKWARD, /* OP_MAX_POOL, in: DY, INDEX; out: DX */
    GRAPH_MAX_POOL_PLAIN,    /* OP_MAX_POOL in evaluation, in: X; out: Y */
    /* A matrix product; in f32 a 1x1 convolution, the same in memory. */
    GRAPH_LINEAR,        /* OP_LINEAR, in: X, W, BIAS; out: Y (f32) */
    GRAPH_LINEAR_DATA,   /* OP_LINEAR, in: DY, W; out: DX */
    GRAPH_LINEAR_FILTER, /* OP_LINEAR, in: X, DY; out: DW. The bias's: kernel_bias_gradient */
    /* OP_NORM_CONV or OP_NORM, in: SUM, SQSUM, GAMMA, BETA, RUNNING_MEAN, RUNNING_VAR; COUNT (i64),
     * EPSILON, MOMENTUM; out: MEAN, INVSTD, RUNNING_MEAN_OUT, RUNNING_VAR_OUT, EQ_SCALE, EQ_BIAS.
     */
    GRAPH_FINALIZE,
    /* OP_NORM, in: X, EQ_SCALE, EQ_BIAS [, RESIDUAL] [, ZERO]; out: Y [, MASK with a ReLU] */
    GRAPH_APPLY,
    /* OP_NORM_CONV, in: X, EQ_SCALE, EQ_BIAS, W; out: Y [, SUM, SQSUM] */
    GRAPH_NORM_CONV,
    /* OP_NORM_CONV, the first half of DX. in: DY, W, X, MEAN, INVSTD, GAMMA, BETA; out: DNORM (what
     * the normalisation gets from behind the ReLU), DGAMMA, DBETA, EQ_DY_SCALE, EQ_X_SCALE,
     * EQ_SHIFT */
    GRAPH_NORM_CONV_DATA,
    /* The second. in: DNORM, X, EQ_DY_SCALE, EQ_X_SCALE, EQ_SHIFT; out: DX */
    GRAPH_NORM_CONV_INPUT,
    GRAPH_NORM_CONV_FILTER, /* OP_NORM_CONV, in: X, EQ_SCALE, EQ_BIAS, DY; out: DW */
    GRAPH_KINDS
};
extern const char *const graph_kind_names[GRAPH_KINDS];

/* The same part has the same uid in every graph. Virtual tensors have uids from GRAPH_UIDS on. */
enum graph_uid {
    GRAPH_X = 1,
    GRAPH_W,
    GRAPH_BIAS,
    GRAPH_RESIDUAL,
    GRAPH_Y,
    GRAPH_MASK,
    GRAPH_INDEX,
    GRAPH_GAMMA,
    GRAPH_BETA,
    GRAPH_MEAN,
    GRAPH_INVSTD,
    GRAPH_RUNNING_MEAN,
    GRAPH_RUNNING_VAR,
    GRAPH_RUNNING_MEAN_OUT,
    GRAPH_RUNNING_VAR_OUT,
    GRAPH_DY,
    GRAPH_DY2,
    GRAPH_DX,
    GRAPH_DW,
    GRAPH_DRESIDUAL,
    GRAPH_DGAMMA,
    GRAPH_DBETA,
    GRAPH_EPSILON,
    GRAPH_MOMENTUM,
    GRAPH_ZERO,
    GRAPH_SUM,
    GRAPH_SQSUM,
    GRAPH_COUNT,
    GRAPH_EQ_SCALE,
    GRAPH_EQ_BIAS,
    GRAPH_DNORM,
    GRAPH_EQ_DY_SCALE,
    GRAPH_EQ_X_SCALE,
    GRAPH_EQ_SHIFT,
    GRAPH_UIDS
};

enum { GRAPH_MAX_TENSORS = 24, GRAPH_MAX_NODES = 8, GRAPH_NAME_SIZE = 160 };

/* GRAPH points into the rest: copy one with graph_copy. */
struct graph {
    struct door_graph graph;
    enum graph_kind kind;
    enum door_type type;
    struct door_tensor tensors[GRAPH_MAX_TENSORS];
    struct door_node nodes[GRAPH_MAX_NODES];
    char name[GRAPH_NAME_SIZE]; /* "conv forward 3x3 s2, 64x128x56x56 > 256, bf16": no op's name */
};

/* Make the graph of KIND for OP. It has passed door_graph_check. ERR_FAULT: OP is not of that kind,
 * or has what the kind cannot express (a residual gradient of its own without a ReLU). */
int graph_make(struct graph *out, enum graph_kind kind, const struct op *op, enum door_type type);
void graph_copy(struct graph *out, const struct graph *from);
/* Do they compute the same? (Names and kinds are not looked at.) */
bool graph_equal(const struct graph *a, const struct graph *b);

/* What to wish of a plan of KIND: as much workspace as the convolutions of 256 pictures of 224
 * pixels need on every device of the table and a little (16 bits: 64 MiB, tf32 640, f32 512); what
 * is no convolution needs a few. */
struct door_wish graph_wish(enum graph_kind kind, enum door_type type, enum door_cores cores,
                            bool deterministic);
/* Bytes of a tensor in memory; 0: the graph has none of that uid. */
size_t graph_bytes(const struct graph *graph, enum graph_uid uid);
/* For door_plan_run: MEMORY[uid] for every tensor that GRAPH has in memory; what else is in MEMORY
 * is passed over. Returns their count; -ERR_FAULT names a missing one. */
int graph_pointers(const struct graph *graph, void *const memory[GRAPH_UIDS],
                   struct door_pointer out[GRAPH_MAX_TENSORS]);

/* "dw"; "?" for what is none of enum graph_uid. */
const char *graph_uid_name(int64_t uid);
/* Channels of T as stored: the pictures' are padded to 8. */
int graph_channels(const struct tensor *t);
extern const float graph_zero;

#endif
