/*
 * sketch.h - graphs of train/cuda/door.h drawn quickly, for tests of the door: what a ResNet asks
 * for, op by op, and places to break it.
 */
#ifndef TESTS_CUDA_SKETCH_H
#define TESTS_CUDA_SKETCH_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "train/cuda/door.h"

struct sketch {
    struct door_tensor tensors[DOOR_MAX_TENSORS];
    struct door_node nodes[DOOR_MAX_NODES];
    char name[160];
    struct door_graph graph; /* points into the rest: do not copy a sketch */
};

enum sketch_place { REAL, VIRTUAL, BY_VALUE };

/* A tensor of N,C,H,W that lies as NHWC; returns its uid. */
static inline int64_t sketch_tensor(struct sketch *s, enum door_type type, int64_t n, int64_t c,
                                    int64_t h, int64_t w, enum sketch_place place)
{
    int i = s->graph.tensor_count++;
    s->tensors[i] = (struct door_tensor){
        .uid = i + 1,
        .type = type,
        .rank = 4,
        .dims = {n,         c, h,     w},
        .strides = {h * w * c, 1, w * c, c},
        .alignment = place != BY_VALUE  ? 16
                     : type == DOOR_I64 ? 8
                                        : 4,
        .is_virtual = place == VIRTUAL,
        .by_value = place == BY_VALUE
    };
    return i + 1;
}

static inline int64_t sketch_channels(struct sketch *s, enum door_type type, int64_t c)
{
    return sketch_tensor(s, type, 1, c, 1, 1, REAL);
}

static inline int64_t sketch_matrix(struct sketch *s, enum door_type type, int64_t rows,
                                    int64_t columns, bool turned, enum sketch_place place)
{
    int64_t uid = sketch_tensor(s, type, 1, rows, columns, 1, place);
    struct door_tensor *t = &s->tensors[uid - 1];
    t->rank = 3;
    t->strides[0] = rows * columns;
    t->strides[1] = turned ? 1 : columns;
    t->strides[2] = turned ? rows : 1;
    return uid;
}

static inline struct door_node *sketch_node(struct sketch *s, enum door_kind kind)
{
    struct door_node *node = &s->nodes[s->graph.node_count++];
    node->kind = kind;
    return node;
}

/* y = mode(x[, b]) as a new tensor like X's; returns its uid. */
static inline int64_t sketch_pointwise(struct sketch *s, enum door_pointwise mode, int64_t x,
                                       int64_t b, enum door_type type, enum sketch_place place)
{
    const int64_t *d = s->tensors[x - 1].dims;
    int64_t y = sketch_tensor(s, type, d[0], d[1], d[2], d[3], place);
    struct door_node *node = sketch_node(s, DOOR_POINTWISE);
    s->tensors[y - 1].rank = s->tensors[x - 1].rank;
    for (int i = 0; i < 4; i++)
        s->tensors[y - 1].strides[i] = s->tensors[x - 1].strides[i];
    node->pointwise = mode;
    node->uids[DOOR_X] = x;
    node->uids[DOOR_B] = b;
    node->uids[DOOR_Y] = y;
    return y;
}

static inline void sketch_open(struct sketch *s, const char *what)
{
    *s = (struct sketch){.graph.node_count = 0};
    snprintf(s->name, sizeof s->name, "%s", what);
    s->graph.name = s->name;
    s->graph.tensors = s->tensors;
    s->graph.nodes = s->nodes;
}

/* ---- what a ResNet asks for --------------------------------------------------------------- */

struct sketch_conv {
    int64_t n, c, h, w, k, window, stride;
    enum door_type type;
};

/* KIND: one of the three convolutions. dW has WEIGHT's type. */
static inline void sketch_convolution(struct sketch *s, enum door_kind kind,
                                      const struct sketch_conv *conv)
{
    int64_t pad = conv->window / 2;
    int64_t p = (conv->h + 2 * pad - conv->window) / conv->stride + 1;
    int64_t q = (conv->w + 2 * pad - conv->window) / conv->stride + 1;
    char what[160];
    snprintf(what, sizeof what,
             "%s %" PRId64 "x%" PRId64 " s%" PRId64 ", %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64
             " > %" PRId64 ", %s",
             door_kind_name(kind), conv->window, conv->window, conv->stride, conv->n, conv->c,
             conv->h, conv->w, conv->k, door_type_name(conv->type));
    sketch_open(s, what);
    int64_t x = sketch_tensor(s, conv->type, conv->n, conv->c, conv->h, conv->w, REAL);
    int64_t w = sketch_tensor(s, conv->type, conv->k, conv->c, conv->window, conv->window, REAL);
    int64_t y = sketch_tensor(s, conv->type, conv->n, conv->k, p, q, REAL);
    struct door_node *node = sketch_node(s, kind);
    for (int i = 0; i < 2; i++) {
        node->stride[i] = conv->stride;
        node->dilation[i] = 1;
        node->pre_padding[i] = node->post_padding[i] = pad;
    }
    node->uids[kind == DOOR_CONV_BACKWARD_DATA ? DOOR_DX : DOOR_X] = x;
    node->uids[kind == DOOR_CONV_BACKWARD_FILTER ? DOOR_DW : DOOR_W] = w;
    node->uids[kind == DOOR_CONV_FORWARD ? DOOR_Y : DOOR_DY] = y;
}

/* Convolution and the sums of its output's channels. */
static inline void sketch_conv_stats(struct sketch *s, const struct sketch_conv *conv)
{
    sketch_convolution(s, DOOR_CONV_FORWARD, conv);
    struct door_node *stats = sketch_node(s, DOOR_GEN_STATS);
    stats->uids[DOOR_X] = 3;
    stats->uids[DOOR_SUM] = sketch_channels(s, DOOR_F32, conv->k);
    stats->uids[DOOR_SQSUM] = sketch_channels(s, DOOR_F32, conv->k);
    snprintf(s->name + strlen(s->name), sizeof s->name - strlen(s->name), ", statistics");
}

/* dw from relu(scale * x + bias), which is never stored; scale and bias have x's type. */
static inline void sketch_fused_filter(struct sketch *s, const struct sketch_conv *conv)
{
    sketch_convolution(s, DOOR_CONV_BACKWARD_FILTER, conv);
    struct door_node last = s->nodes[0];
    s->graph.node_count = 0;
    s->nodes[0] = (struct door_node){.kind = DOOR_POINTWISE};
    int64_t x = 1;
    x = sketch_pointwise(s, DOOR_MUL, x, sketch_channels(s, conv->type, conv->c), conv->type,
                         VIRTUAL);
    x = sketch_pointwise(s, DOOR_ADD, x, sketch_channels(s, conv->type, conv->c), conv->type,
                         VIRTUAL);
    x = sketch_pointwise(s, DOOR_RELU_FWD, x, 0, conv->type, VIRTUAL);
    last.uids[DOOR_X] = x;
    s->nodes[s->graph.node_count++] = last;
    snprintf(s->name + strlen(s->name), sizeof s->name - strlen(s->name), ", of relu(s*x + b)");
}

/* Training: y = relu(norm(x) + residual), and a bit for each y > 0. */
static inline void sketch_norm_forward(struct sketch *s, const struct sketch_conv *c)
{
    char what[160];
    snprintf(what, sizeof what,
             "norm + add + relu + mask, %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", %s", c->n,
             c->c, c->h, c->w, door_type_name(c->type));
    sketch_open(s, what);
    struct door_node *norm = sketch_node(s, DOOR_NORM_FORWARD);
    norm->training = true;
    norm->uids[DOOR_X] = sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
    norm->uids[DOOR_EPSILON] = sketch_tensor(s, DOOR_F32, 1, 1, 1, 1, BY_VALUE);
    norm->uids[DOOR_MOMENTUM] = sketch_tensor(s, DOOR_F32, 1, 1, 1, 1, BY_VALUE);
    const enum door_role channels[] = {DOOR_SCALE,
                                       DOOR_BIAS,
                                       DOOR_MEAN,
                                       DOOR_INVSTD,
                                       DOOR_RUNNING_MEAN_IN,
                                       DOOR_RUNNING_VAR_IN,
                                       DOOR_RUNNING_MEAN_OUT,
                                       DOOR_RUNNING_VAR_OUT};
    for (int i = 0; i < 8; i++)
        norm->uids[channels[i]] = sketch_channels(s, DOOR_F32, c->c);
    int64_t y = sketch_tensor(s, DOOR_F32, c->n, c->c, c->h, c->w, VIRTUAL);
    norm->uids[DOOR_Y] = y;
    int64_t residual = sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
    y = sketch_pointwise(s, DOOR_ADD, y, residual, DOOR_F32, VIRTUAL);
    y = sketch_pointwise(s, DOOR_RELU_FWD, y, 0, c->type, REAL);
    int64_t zero = sketch_tensor(s, DOOR_F32, 1, 1, 1, 1, BY_VALUE);
    sketch_pointwise(s, DOOR_CMP_GT, y, zero, DOOR_BOOL, REAL);
}

/* dx of norm from dy by the mask; the masked dy is the residual's gradient and is kept. */
static inline void sketch_norm_backward(struct sketch *s, const struct sketch_conv *c)
{
    char what[160];
    snprintf(what, sizeof what,
             "mask > norm backward, %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", %s", c->n,
             c->c, c->h, c->w, door_type_name(c->type));
    sketch_open(s, what);
    int64_t dy = sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
    int64_t mask = sketch_tensor(s, DOOR_BOOL, c->n, c->c, c->h, c->w, REAL);
    dy = sketch_pointwise(s, DOOR_MUL, dy, mask, c->type, REAL);
    struct door_node *norm = sketch_node(s, DOOR_NORM_BACKWARD);
    const enum door_role channels[] = {DOOR_MEAN, DOOR_INVSTD, DOOR_SCALE, DOOR_DSCALE, DOOR_DBIAS};
    for (int i = 0; i < 5; i++)
        norm->uids[channels[i]] = sketch_channels(s, DOOR_F32, c->c);
    norm->uids[DOOR_DY] = dy;
    norm->uids[DOOR_X] = sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
    norm->uids[DOOR_DX] = sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
}

/* 3x3, stride 2, padding 1, with an index. */
static inline void sketch_max_pool(struct sketch *s, enum door_kind kind,
                                   const struct sketch_conv *c)
{
    bool forward = kind == DOOR_RESAMPLE_FORWARD;
    int64_t p = (c->h - 1) / 2 + 1, q = (c->w - 1) / 2 + 1;
    char what[160];
    snprintf(what, sizeof what, "%s max, %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64 ", %s",
             door_kind_name(kind), c->n, c->c, c->h, c->w, door_type_name(c->type));
    sketch_open(s, what);
    struct door_node *pool = sketch_node(s, kind);
    pool->resample = DOOR_MAX;
    for (int i = 0; i < 2; i++) {
        pool->window[i] = 3;
        pool->stride[i] = 2;
        pool->pre_padding[i] = pool->post_padding[i] = 1;
    }
    pool->uids[forward ? DOOR_X : DOOR_DX] =
        sketch_tensor(s, c->type, c->n, c->c, c->h, c->w, REAL);
    pool->uids[forward ? DOOR_Y : DOOR_DY] = sketch_tensor(s, c->type, c->n, c->c, p, q, REAL);
    pool->uids[DOOR_INDEX] = sketch_tensor(s, DOOR_I8, c->n, c->c, p, q, REAL);
}

/* n x c by (k x c)^T, with a bias: f32 logits. */
static inline void sketch_linear(struct sketch *s, const struct sketch_conv *c)
{
    char what[160];
    snprintf(what, sizeof what, "linear + bias, %" PRId64 "x%" PRId64 " > %" PRId64 ", %s", c->n,
             c->c, c->k, door_type_name(c->type));
    sketch_open(s, what);
    struct door_node *product = sketch_node(s, DOOR_MATMUL);
    product->uids[DOOR_A] = sketch_matrix(s, c->type, c->n, c->c, false, REAL);
    product->uids[DOOR_B] = sketch_matrix(s, c->type, c->c, c->k, true, REAL);
    product->uids[DOOR_C] = sketch_matrix(s, DOOR_F32, c->n, c->k, false, VIRTUAL);
    int64_t bias = sketch_matrix(s, DOOR_F32, 1, c->k, false, REAL);
    sketch_pointwise(s, DOOR_ADD, product->uids[DOOR_C], bias, DOOR_F32, REAL);
}

#endif
