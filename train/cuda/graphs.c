/*
 * graphs.c - ops as graphs in cuDNN's terms. Which nodes, types of virtual tensors and attributes
 * cuDNN has plans for was found by asking it (tests/cuda/test_plans.c asks again, for every graph
 * that is made here).
 *
 * Numeric rules: arithmetic is f32; a sum before a rounding stays f32 (virtual tensors of the
 * forward pass). One exception: what goes into the normalisation's backward pass is rounded to
 * TYPE, as cuDNN demands.
 */
#include "train/cuda/graphs.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

const char *const graph_kind_names[GRAPH_KINDS] = {
    [GRAPH_CONV] = "conv forward",
    [GRAPH_CONV_DATA] = "conv backward data",
    [GRAPH_CONV_FILTER] = "conv backward filter",
    [GRAPH_NORM] = "norm forward",
    [GRAPH_NORM_BACKWARD] = "norm backward",
    [GRAPH_MAX_POOL] = "max pool forward",
    [GRAPH_MAX_POOL_BACKWARD] = "max pool backward",
    [GRAPH_MAX_POOL_PLAIN] = "max pool without index",
    [GRAPH_LINEAR] = "linear forward",
    [GRAPH_LINEAR_DATA] = "linear backward data",
    [GRAPH_LINEAR_FILTER] = "linear backward filter",
    [GRAPH_FINALIZE] = "norm statistics",
    [GRAPH_APPLY] = "norm apply",
    [GRAPH_NORM_CONV] = "norm + relu > conv forward",
    [GRAPH_NORM_CONV_DATA] = "norm + relu > conv backward data",
    [GRAPH_NORM_CONV_INPUT] = "norm + relu > conv backward input",
    [GRAPH_NORM_CONV_FILTER] = "norm + relu > conv backward filter",
};

static const enum op_kind kind_ops[GRAPH_KINDS] = {
    [GRAPH_CONV] = OP_CONV,
    [GRAPH_CONV_DATA] = OP_CONV,
    [GRAPH_CONV_FILTER] = OP_CONV,
    [GRAPH_NORM] = OP_NORM,
    [GRAPH_NORM_BACKWARD] = OP_NORM,
    [GRAPH_MAX_POOL] = OP_MAX_POOL,
    [GRAPH_MAX_POOL_BACKWARD] = OP_MAX_POOL,
    [GRAPH_MAX_POOL_PLAIN] = OP_MAX_POOL,
    [GRAPH_LINEAR] = OP_LINEAR,
    [GRAPH_LINEAR_DATA] = OP_LINEAR,
    [GRAPH_LINEAR_FILTER] = OP_LINEAR,
    [GRAPH_FINALIZE] = OP_NORM_CONV,
    [GRAPH_APPLY] = OP_NORM,
    [GRAPH_NORM_CONV] = OP_NORM_CONV,
    [GRAPH_NORM_CONV_DATA] = OP_NORM_CONV,
    [GRAPH_NORM_CONV_INPUT] = OP_NORM_CONV,
    [GRAPH_NORM_CONV_FILTER] = OP_NORM_CONV,
};

const float graph_zero = 0;

const char *graph_uid_name(int64_t uid)
{
    static const char *const names[GRAPH_UIDS] = {
        [GRAPH_X] = "x",
        [GRAPH_W] = "w",
        [GRAPH_BIAS] = "bias",
        [GRAPH_RESIDUAL] = "residual",
        [GRAPH_Y] = "y",
        [GRAPH_MASK] = "mask",
        [GRAPH_INDEX] = "index",
        [GRAPH_GAMMA] = "gamma",
        [GRAPH_BETA] = "beta",
        [GRAPH_MEAN] = "mean",
        [GRAPH_INVSTD] = "1/deviation",
        [GRAPH_RUNNING_MEAN] = "running mean",
        [GRAPH_RUNNING_VAR] = "running variance",
        [GRAPH_RUNNING_MEAN_OUT] = "new running mean",
        [GRAPH_RUNNING_VAR_OUT] = "new running variance",
        [GRAPH_DY] = "dy",
        [GRAPH_DY2] = "dy2",
        [GRAPH_DX] = "dx",
        [GRAPH_DW] = "dw",
        [GRAPH_DRESIDUAL] = "residual's gradient",
        [GRAPH_DGAMMA] = "dgamma",
        [GRAPH_DBETA] = "dbeta",
        [GRAPH_EPSILON] = "epsilon",
        [GRAPH_MOMENTUM] = "momentum",
        [GRAPH_ZERO] = "zero",
        [GRAPH_SUM] = "sum",
        [GRAPH_SQSUM] = "sum of squares",
        [GRAPH_COUNT] = "count",
        [GRAPH_EQ_SCALE] = "scale",
        [GRAPH_EQ_BIAS] = "bias of the scale",
        [GRAPH_DNORM] = "gradient of the norm",
        [GRAPH_EQ_DY_SCALE] = "scale of dy",
        [GRAPH_EQ_X_SCALE] = "scale of x",
        [GRAPH_EQ_SHIFT] = "shift",
    };

    return uid > 0 && uid < GRAPH_UIDS ? names[uid] : "?";
}

int graph_channels(const struct tensor *t)
{
    return t->role == TENSOR_PICTURES ? (t->c + 7) / 8 * 8 : t->c;
}

/* ---- drawing ---- */

/* UID 0: a virtual tensor, which gets the next free uid. Returns the uid. */
static int64_t add_tensor(struct graph *g, int64_t uid, enum door_type type, const int64_t dims[4])
{
    int i = g->graph.tensor_count++;
    int64_t c = dims[1], h = dims[2], w = dims[3];

    g->tensors[i] = (struct door_tensor){
        .uid = uid ? uid : GRAPH_UIDS + i,
        .type = type,
        .rank = 4,
        .dims = {dims[0],   c, h,     w},
        .strides = {h * w * c, 1, w * c, c},
        .alignment = 16,
        .is_virtual = !uid
    };
    return g->tensors[i].uid;
}

static int64_t add_like(struct graph *g, int64_t uid, enum door_type type, int64_t like)
{
    const struct door_tensor *t = door_graph_tensor(&g->graph, like);
    int64_t added = add_tensor(g, uid, type, t->dims);
    struct door_tensor *made = &g->tensors[g->graph.tensor_count - 1];

    made->rank = t->rank;
    memcpy(made->strides, t->strides, sizeof made->strides);
    return added;
}

static int64_t add_activation(struct graph *g, int64_t uid, const struct tensor *t)
{
    return add_tensor(g, uid, g->type, (const int64_t[4]){t->n, graph_channels(t), t->h, t->w});
}

/* f32, one value a channel. */
static int64_t add_channels(struct graph *g, int64_t uid, int64_t c)
{
    return add_tensor(g, uid, DOOR_F32, (const int64_t[4]){1, c, 1, 1});
}

static int64_t add_value(struct graph *g, int64_t uid)
{
    int64_t added = add_tensor(g, uid, DOOR_F32, (const int64_t[4]){1, 1, 1, 1});
    struct door_tensor *made = &g->tensors[g->graph.tensor_count - 1];

    made->by_value = true;
    made->alignment = (int)sizeof(float);
    return added;
}

/* ROWS x COLUMNS; TURNED: stored as columns x rows. */
static int64_t add_matrix(struct graph *g, int64_t uid, enum door_type type, int64_t rows,
                          int64_t columns, bool turned)
{
    int64_t added = add_tensor(g, uid, type, (const int64_t[4]){1, rows, columns, 1});
    struct door_tensor *t = &g->tensors[g->graph.tensor_count - 1];

    t->rank = 3;
    t->strides[0] = rows * columns;
    t->strides[1] = turned ? 1 : columns;
    t->strides[2] = turned ? rows : 1;
    t->strides[3] = 0;
    t->dims[3] = 0;
    return added;
}

static struct door_node *add_node(struct graph *g, enum door_kind kind)
{
    struct door_node *node = &g->nodes[g->graph.node_count++];

    node->kind = kind;
    return node;
}

/* UID = MODE(x [, b]), like X; 0: virtual. Returns the result's uid. */
static int64_t add_pointwise(struct graph *g, enum door_pointwise mode, int64_t x, int64_t b,
                             int64_t uid, enum door_type type)
{
    struct door_node *node = add_node(g, DOOR_POINTWISE);

    node->pointwise = mode;
    node->uids[DOOR_X] = x;
    node->uids[DOOR_B] = b;
    return node->uids[DOOR_Y] = add_like(g, uid, type, x);
}

/* ---- kinds ---- */

static struct door_node *add_conv(struct graph *g, enum door_kind kind, const struct op *op)
{
    struct door_node *node = add_node(g, kind);

    for (int i = 0; i < 2; i++) {
        node->stride[i] = op->stride;
        node->dilation[i] = 1;
        node->pre_padding[i] = node->post_padding[i] = op->padding;
    }
    return node;
}

static int64_t add_filter(struct graph *g, int64_t uid, enum door_type type, const struct op *op)
{
    return add_tensor(
        g, uid, type,
        (const int64_t[4]){op->out->c, graph_channels(op->in), op->kernel, op->kernel});
}

/* relu(scale * x + bias) of the op's input, never stored; returns its uid. cuDNN wants TYPE all the
 * way. */
static int64_t add_prologue(struct graph *g, const struct op *op)
{
    const int64_t channels[4] = {1, op->in->c, 1, 1};
    int64_t x = add_activation(g, GRAPH_X, op->in);

    x = add_pointwise(g, DOOR_MUL, x, add_tensor(g, GRAPH_EQ_SCALE, g->type, channels), 0, g->type);
    x = add_pointwise(g, DOOR_ADD, x, add_tensor(g, GRAPH_EQ_BIAS, g->type, channels), 0, g->type);
    return add_pointwise(g, DOOR_RELU_FWD, x, 0, 0, g->type);
}

static void make_conv(struct graph *g, const struct op *op)
{
    int64_t x = op->kind == OP_NORM_CONV ? add_prologue(g, op) : add_activation(g, GRAPH_X, op->in);
    struct door_node *node = add_conv(g, DOOR_CONV_FORWARD, op);

    node->uids[DOOR_X] = x;
    node->uids[DOOR_W] = add_filter(g, GRAPH_W, g->type, op);
    node->uids[DOOR_Y] = add_activation(g, GRAPH_Y, op->out);
    if (op->out->sums) {
        struct door_node *sums = add_node(g, DOOR_GEN_STATS);

        sums->uids[DOOR_X] = GRAPH_Y;
        sums->uids[DOOR_SUM] = add_channels(g, GRAPH_SUM, op->out->c);
        sums->uids[DOOR_SQSUM] = add_channels(g, GRAPH_SQSUM, op->out->c);
    }
}

static void make_conv_data(struct graph *g, const struct op *op)
{
    struct door_node *node = add_conv(g, DOOR_CONV_BACKWARD_DATA, op);

    node->uids[DOOR_DY] = add_activation(g, GRAPH_DY, op->out);
    node->uids[DOOR_W] = add_filter(g, GRAPH_W, g->type, op);
    node->uids[DOOR_DX] = add_activation(g, GRAPH_DX, op->in);
}

/* 16-bit engines round dw to their type unless something in f32 comes behind it. */
static void make_conv_filter(struct graph *g, const struct op *op)
{
    int64_t x = op->kind == OP_NORM_CONV ? add_prologue(g, op) : add_activation(g, GRAPH_X, op->in);
    struct door_node *node = add_conv(g, DOOR_CONV_BACKWARD_FILTER, op);
    bool direct = g->type == DOOR_F32;

    node->uids[DOOR_X] = x;
    node->uids[DOOR_DY] = add_activation(g, GRAPH_DY, op->out);
    node->uids[DOOR_DW] = add_filter(g, direct ? GRAPH_DW : 0, DOOR_F32, op);
    if (!direct)
        add_pointwise(g, DOOR_IDENTITY, node->uids[DOOR_DW], 0, GRAPH_DW, DOOR_F32);
}

struct channel_role {
    enum door_role role;
    enum graph_uid uid;
};

/* Values of each of C channels, f32. */
static void add_channel_roles(struct graph *g, struct door_node *node,
                              const struct channel_role *roles, size_t count, int64_t c)
{
    for (size_t i = 0; i < count; i++) {
        if (!door_graph_tensor(&g->graph, roles[i].uid))
            add_channels(g, roles[i].uid, c);
        node->uids[roles[i].role] = roles[i].uid;
    }
}

static void add_relu_and_mask(struct graph *g, int64_t y)
{
    y = add_pointwise(g, DOOR_RELU_FWD, y, 0, GRAPH_Y, g->type);
    add_pointwise(g, DOOR_CMP_GT, y, add_value(g, GRAPH_ZERO), GRAPH_MASK, DOOR_BOOL);
}

static void make_norm(struct graph *g, const struct op *op)
{
    static const struct channel_role channels[] = {
        {DOOR_SCALE,            GRAPH_GAMMA           },
        {DOOR_BIAS,             GRAPH_BETA            },
        {DOOR_MEAN,             GRAPH_MEAN            },
        {DOOR_INVSTD,           GRAPH_INVSTD          },
        {DOOR_RUNNING_MEAN_IN,  GRAPH_RUNNING_MEAN    },
        {DOOR_RUNNING_VAR_IN,   GRAPH_RUNNING_VAR     },
        {DOOR_RUNNING_MEAN_OUT, GRAPH_RUNNING_MEAN_OUT},
        {DOOR_RUNNING_VAR_OUT,  GRAPH_RUNNING_VAR_OUT }
    };
    struct door_node *norm = add_node(g, DOOR_NORM_FORWARD);
    bool tail = op->relu || op->residual;
    int64_t y;

    norm->training = true;
    norm->uids[DOOR_X] = add_activation(g, GRAPH_X, op->in);
    norm->uids[DOOR_EPSILON] = add_value(g, GRAPH_EPSILON);
    norm->uids[DOOR_MOMENTUM] = add_value(g, GRAPH_MOMENTUM);
    add_channel_roles(g, norm, channels, sizeof channels / sizeof *channels, op->in->c);
    norm->uids[DOOR_Y] = y =
        add_like(g, tail ? 0 : GRAPH_Y, tail ? DOOR_F32 : g->type, norm->uids[DOOR_X]);
    if (op->residual)
        y = add_pointwise(g, DOOR_ADD, y, add_activation(g, GRAPH_RESIDUAL, op->residual),
                          op->relu ? 0 : GRAPH_Y, op->relu ? DOOR_F32 : g->type);
    if (op->relu)
        add_relu_and_mask(g, y);
}

/* A normalisation whose statistics are known: y = [relu](scale * x + bias [+ residual]). */
static void make_apply(struct graph *g, const struct op *op)
{
    int64_t y = add_activation(g, GRAPH_X, op->in);
    bool tail = op->relu || op->residual;

    y = add_pointwise(g, DOOR_MUL, y, add_channels(g, GRAPH_EQ_SCALE, op->in->c), 0, DOOR_F32);
    y = add_pointwise(g, DOOR_ADD, y, add_channels(g, GRAPH_EQ_BIAS, op->in->c), tail ? 0 : GRAPH_Y,
                      tail ? DOOR_F32 : g->type);
    if (op->residual)
        y = add_pointwise(g, DOOR_ADD, y, add_activation(g, GRAPH_RESIDUAL, op->residual),
                          op->relu ? 0 : GRAPH_Y, op->relu ? DOOR_F32 : g->type);
    if (op->relu)
        add_relu_and_mask(g, y);
}

static void make_finalize(struct graph *g, const struct op *op)
{
    static const struct channel_role channels[] = {
        {DOOR_SUM,              GRAPH_SUM             },
        {DOOR_SQSUM,            GRAPH_SQSUM           },
        {DOOR_SCALE,            GRAPH_GAMMA           },
        {DOOR_BIAS,             GRAPH_BETA            },
        {DOOR_MEAN,             GRAPH_MEAN            },
        {DOOR_INVSTD,           GRAPH_INVSTD          },
        {DOOR_RUNNING_MEAN_IN,  GRAPH_RUNNING_MEAN    },
        {DOOR_RUNNING_VAR_IN,   GRAPH_RUNNING_VAR     },
        {DOOR_RUNNING_MEAN_OUT, GRAPH_RUNNING_MEAN_OUT},
        {DOOR_RUNNING_VAR_OUT,  GRAPH_RUNNING_VAR_OUT }
    };
    enum door_type type = op->kind == OP_NORM_CONV ? g->type : DOOR_F32;
    const int64_t eq[4] = {1, op->in->c, 1, 1};
    struct door_node *node = add_node(g, DOOR_BN_FINALIZE);

    add_channel_roles(g, node, channels, sizeof channels / sizeof *channels, op->in->c);
    node->uids[DOOR_EQ_SCALE] = add_tensor(g, GRAPH_EQ_SCALE, type, eq);
    node->uids[DOOR_EQ_BIAS] = add_tensor(g, GRAPH_EQ_BIAS, type, eq);
    node->uids[DOOR_EPSILON] = add_value(g, GRAPH_EPSILON);
    node->uids[DOOR_MOMENTUM] = add_value(g, GRAPH_MOMENTUM);
    node->uids[DOOR_COUNT] = add_value(g, GRAPH_COUNT);
    g->tensors[g->graph.tensor_count - 1].type = DOOR_I64;
    g->tensors[g->graph.tensor_count - 1].alignment = (int)sizeof(int64_t);
}

/* The gradient of the normalised value is stored: its sums must be known before the input's can be
 * computed. The ReLU's sign is computed again from x. */
static void make_norm_conv_data(struct graph *g, const struct op *op)
{
    static const struct channel_role inputs[] = {
        {DOOR_MEAN,   GRAPH_MEAN  },
        {DOOR_INVSTD, GRAPH_INVSTD},
        {DOOR_SCALE,  GRAPH_GAMMA }
    };
    static const struct channel_role outputs[] = {
        {DOOR_DSCALE,      GRAPH_DGAMMA     },
        {DOOR_DBIAS,       GRAPH_DBETA      },
        {DOOR_EQ_DY_SCALE, GRAPH_EQ_DY_SCALE},
        {DOOR_EQ_X_SCALE,  GRAPH_EQ_X_SCALE },
        {DOOR_EQ_BIAS,     GRAPH_EQ_SHIFT   }
    };
    struct door_node *node = add_conv(g, DOOR_CONV_BACKWARD_DATA, op);
    int64_t c = op->in->c, gradient, x, y;

    node->uids[DOOR_DY] = add_activation(g, GRAPH_DY, op->out);
    node->uids[DOOR_W] = add_filter(g, GRAPH_W, g->type, op);
    x = add_activation(g, GRAPH_X, op->in);
    node->uids[DOOR_DX] = gradient = add_like(g, 0, DOOR_F32, x);
    y = add_pointwise(g, DOOR_SUB, x, add_channels(g, GRAPH_MEAN, c), 0, DOOR_F32);
    y = add_pointwise(g, DOOR_MUL, y, add_channels(g, GRAPH_INVSTD, c), 0, DOOR_F32);
    y = add_pointwise(g, DOOR_MUL, y, add_channels(g, GRAPH_GAMMA, c), 0, DOOR_F32);
    y = add_pointwise(g, DOOR_ADD, y, add_channels(g, GRAPH_BETA, c), 0, DOOR_F32);
    node = add_node(g, DOOR_POINTWISE);
    node->pointwise = DOOR_RELU_BWD;
    node->uids[DOOR_X] = y;
    node->uids[DOOR_DY] = gradient;
    node->uids[DOOR_DX] = add_like(g, GRAPH_DNORM, g->type, x);
    node = add_node(g, DOOR_BN_BACKWARD_WEIGHTS);
    node->uids[DOOR_X] = x;
    node->uids[DOOR_DY] = GRAPH_DNORM;
    add_channel_roles(g, node, inputs, sizeof inputs / sizeof *inputs, c);
    add_channel_roles(g, node, outputs, sizeof outputs / sizeof *outputs, c);
}

static void make_norm_conv_input(struct graph *g, const struct op *op)
{
    int64_t c = op->in->c, dy = add_activation(g, GRAPH_DNORM, op->in);
    int64_t x = add_activation(g, GRAPH_X, op->in);

    dy = add_pointwise(g, DOOR_MUL, dy, add_channels(g, GRAPH_EQ_DY_SCALE, c), 0, DOOR_F32);
    x = add_pointwise(g, DOOR_MUL, x, add_channels(g, GRAPH_EQ_X_SCALE, c), 0, DOOR_F32);
    dy = add_pointwise(g, DOOR_ADD, dy, x, 0, DOOR_F32);
    add_pointwise(g, DOOR_ADD, dy, add_channels(g, GRAPH_EQ_SHIFT, c), GRAPH_DX, g->type);
}

static void make_norm_backward(struct graph *g, const struct op *op)
{
    static const struct channel_role channels[] = {
        {DOOR_MEAN,   GRAPH_MEAN  },
        {DOOR_INVSTD, GRAPH_INVSTD},
        {DOOR_SCALE,  GRAPH_GAMMA },
        {DOOR_DSCALE, GRAPH_DGAMMA},
        {DOOR_DBIAS,  GRAPH_DBETA }
    };
    bool two = op->out->readers == 2;
    int64_t kept = op->residual && op->residual_slot >= 0 ? GRAPH_DRESIDUAL : 0;
    int64_t dy = add_activation(g, GRAPH_DY, op->out);

    if (two)
        dy = add_pointwise(g, DOOR_ADD, dy, add_like(g, GRAPH_DY2, g->type, dy),
                           op->relu ? 0 : kept, op->relu ? DOOR_F32 : g->type);
    if (op->relu)
        dy = add_pointwise(g, DOOR_MUL, dy, add_like(g, GRAPH_MASK, DOOR_BOOL, dy), kept, g->type);
    struct door_node *norm = add_node(g, DOOR_NORM_BACKWARD);
    add_channel_roles(g, norm, channels, sizeof channels / sizeof *channels, op->in->c);
    norm->uids[DOOR_DY] = dy;
    norm->uids[DOOR_X] = add_activation(g, GRAPH_X, op->in);
    norm->uids[DOOR_DX] = add_activation(g, GRAPH_DX, op->in);
}

static void make_max_pool(struct graph *g, const struct op *op)
{
    bool forward = g->kind != GRAPH_MAX_POOL_BACKWARD;
    struct door_node *pool = add_node(g, forward ? DOOR_RESAMPLE_FORWARD : DOOR_RESAMPLE_BACKWARD);

    pool->resample = DOOR_MAX;
    for (int i = 0; i < 2; i++) {
        pool->window[i] = op->kernel;
        pool->stride[i] = op->stride;
        pool->pre_padding[i] = pool->post_padding[i] = op->padding;
    }
    pool->uids[forward ? DOOR_X : DOOR_DX] =
        add_activation(g, forward ? GRAPH_X : GRAPH_DX, op->in);
    int64_t y = add_activation(g, forward ? GRAPH_Y : GRAPH_DY, op->out);
    pool->uids[forward ? DOOR_Y : DOOR_DY] = y;
    if (g->kind != GRAPH_MAX_POOL_PLAIN)
        pool->uids[DOOR_INDEX] = add_like(g, GRAPH_INDEX, DOOR_I8, y);
}

/* The same in f32, as a 1x1 convolution of 1x1 pictures: matrix products without tensor cores have
 * no plan, convolutions have. */
static void make_linear_f32(struct graph *g, const struct op *op)
{
    static const enum door_kind kinds[] = {
        [GRAPH_LINEAR] = DOOR_CONV_FORWARD,
        [GRAPH_LINEAR_DATA] = DOOR_CONV_BACKWARD_DATA,
        [GRAPH_LINEAR_FILTER] = DOOR_CONV_BACKWARD_FILTER,
    };
    const int64_t x[4] = {op->in->n, op->in->c, 1, 1}, y[4] = {op->in->n, op->out->c, 1, 1};
    const int64_t w[4] = {op->out->c, op->in->c, 1, 1};
    bool forward = g->kind == GRAPH_LINEAR, data = g->kind == GRAPH_LINEAR_DATA;
    bool filter = g->kind == GRAPH_LINEAR_FILTER;
    struct door_node *node = add_node(g, kinds[g->kind]);

    for (int i = 0; i < 2; i++)
        node->stride[i] = node->dilation[i] = 1;
    node->uids[data ? DOOR_DX : DOOR_X] = add_tensor(g, data ? GRAPH_DX : GRAPH_X, DOOR_F32, x);
    node->uids[filter ? DOOR_DW : DOOR_W] = add_tensor(g, filter ? GRAPH_DW : GRAPH_W, DOOR_F32, w);
    node->uids[forward ? DOOR_Y : DOOR_DY] = add_tensor(g, forward ? 0 : GRAPH_DY, DOOR_F32, y);
    if (forward)
        add_pointwise(g, DOOR_ADD, node->uids[DOOR_Y], add_channels(g, GRAPH_BIAS, op->out->c),
                      GRAPH_Y, DOOR_F32);
}

static void make_linear(struct graph *g, const struct op *op)
{
    if (g->type == DOOR_F32) {
        make_linear_f32(g, op);
        return;
    }
    struct door_node *product = add_node(g, DOOR_MATMUL);
    int64_t n = op->in->n, c = op->in->c, k = op->out->c, bias;
    int64_t *a = &product->uids[DOOR_A], *b = &product->uids[DOOR_B], *m = &product->uids[DOOR_C];

    switch (g->kind) {
    case GRAPH_LINEAR:
        *a = add_matrix(g, GRAPH_X, g->type, n, c, false);
        *b = add_matrix(g, GRAPH_W, g->type, c, k, true);
        *m = add_matrix(g, 0, DOOR_F32, n, k, false);
        bias = add_matrix(g, GRAPH_BIAS, DOOR_F32, 1, k, false);
        add_pointwise(g, DOOR_ADD, *m, bias, GRAPH_Y, DOOR_F32);
        break;
    case GRAPH_LINEAR_DATA:
        *a = add_matrix(g, GRAPH_DY, g->type, n, k, false);
        *b = add_matrix(g, GRAPH_W, g->type, k, c, false);
        *m = add_matrix(g, GRAPH_DX, g->type, n, c, false);
        break;
    default:
        *a = add_matrix(g, GRAPH_DY, g->type, k, n, true);
        *b = add_matrix(g, GRAPH_X, g->type, n, c, false);
        *m = add_matrix(g, GRAPH_DW, DOOR_F32, k, c, false);
        break;
    }
}

static void name_graph(struct graph *g, const struct op *op)
{
    const struct tensor *in = op->in;
    char window[48] = "", out[24] = "";

    if (op->kernel)
        snprintf(window, sizeof window, " %dx%d s%d", op->kernel, op->kernel, op->stride);
    if (g->kind != GRAPH_NORM && g->kind != GRAPH_NORM_BACKWARD)
        snprintf(out, sizeof out, " > %d", op->out->c);
    snprintf(g->name, sizeof g->name, "%s%s%s%s%s, %dx%dx%dx%d%s, %s", graph_kind_names[g->kind],
             window, op->residual ? " + add" : "", op->relu ? " + relu" : "",
             g->kind == GRAPH_NORM_BACKWARD && op->out->readers == 2 ? " of two gradients" : "",
             in->n, graph_channels(in), in->h, in->w, out, door_type_name(g->type));
}

int graph_make(struct graph *out, enum graph_kind kind, const struct op *op, enum door_type type)
{
    static void (*const makers[GRAPH_KINDS])(struct graph *, const struct op *) = {
        [GRAPH_CONV] = make_conv,
        [GRAPH_CONV_DATA] = make_conv_data,
        [GRAPH_CONV_FILTER] = make_conv_filter,
        [GRAPH_NORM] = make_norm,
        [GRAPH_NORM_BACKWARD] = make_norm_backward,
        [GRAPH_MAX_POOL] = make_max_pool,
        [GRAPH_MAX_POOL_BACKWARD] = make_max_pool,
        [GRAPH_MAX_POOL_PLAIN] = make_max_pool,
        [GRAPH_LINEAR] = make_linear,
        [GRAPH_LINEAR_DATA] = make_linear,
        [GRAPH_LINEAR_FILTER] = make_linear,
        [GRAPH_FINALIZE] = make_finalize,
        [GRAPH_APPLY] = make_apply,
        [GRAPH_NORM_CONV] = make_conv,
        [GRAPH_NORM_CONV_DATA] = make_norm_conv_data,
        [GRAPH_NORM_CONV_INPUT] = make_norm_conv_input,
        [GRAPH_NORM_CONV_FILTER] = make_conv_filter,
    };

    if (op->kind != kind_ops[kind] && !(kind == GRAPH_FINALIZE && op->kind == OP_NORM))
        return err_set(ERR_FAULT, "%s: a graph of %s for an op of %s", op->name,
                       graph_kind_names[kind], op_kind_names[op->kind]);
    if (kind == GRAPH_NORM_BACKWARD && op->residual_slot >= 0 && !op->relu && op->out->readers < 2)
        return err_set(ERR_FAULT,
                       "%s: the residual's gradient is the output's own: no graph is "
                       "needed for it",
                       op->name);
    memset(out, 0, sizeof *out);
    out->kind = kind;
    out->type = type;
    out->graph =
        (struct door_graph){.name = out->name, .tensors = out->tensors, .nodes = out->nodes};
    name_graph(out, op);
    makers[kind](out, op);
    return door_graph_check(&out->graph);
}

void graph_copy(struct graph *out, const struct graph *from)
{
    *out = *from;
    out->graph.name = out->name;
    out->graph.tensors = out->tensors;
    out->graph.nodes = out->nodes;
}

static bool same_tensor(const struct door_tensor *a, const struct door_tensor *b)
{
    return a->uid == b->uid && a->type == b->type && a->rank == b->rank &&
           a->alignment == b->alignment && a->is_virtual == b->is_virtual &&
           a->by_value == b->by_value && memcmp(a->dims, b->dims, sizeof a->dims) == 0 &&
           memcmp(a->strides, b->strides, sizeof a->strides) == 0;
}

static bool same_node(const struct door_node *a, const struct door_node *b)
{
    return a->kind == b->kind && a->pointwise == b->pointwise && a->resample == b->resample &&
           a->reduction == b->reduction && a->training == b->training &&
           memcmp(a->window, b->window, sizeof a->window) == 0 &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0 &&
           memcmp(a->dilation, b->dilation, sizeof a->dilation) == 0 &&
           memcmp(a->pre_padding, b->pre_padding, sizeof a->pre_padding) == 0 &&
           memcmp(a->post_padding, b->post_padding, sizeof a->post_padding) == 0 &&
           memcmp(a->uids, b->uids, sizeof a->uids) == 0;
}

bool graph_equal(const struct graph *a, const struct graph *b)
{
    if (a->graph.tensor_count != b->graph.tensor_count ||
        a->graph.node_count != b->graph.node_count)
        return false;
    for (int i = 0; i < a->graph.tensor_count; i++)
        if (!same_tensor(&a->tensors[i], &b->tensors[i]))
            return false;
    for (int i = 0; i < a->graph.node_count; i++)
        if (!same_node(&a->nodes[i], &b->nodes[i]))
            return false;
    return true;
}

struct door_wish graph_wish(enum graph_kind kind, enum door_type type, enum door_cores cores,
                            bool deterministic)
{
    size_t mib = 16;

    if (kind == GRAPH_NORM_CONV_DATA)
        mib = 512; /* the gradient behind the ReLU in f32 */
    else if (kind_ops[kind] == OP_CONV || kind == GRAPH_NORM_CONV ||
             kind == GRAPH_NORM_CONV_FILTER || (kind_ops[kind] == OP_LINEAR && type == DOOR_F32))
        mib = type != DOOR_F32 ? 64 : cores == DOOR_CORES_NEVER ? 512 : 640;
    return (struct door_wish){
        .workspace_cap = mib << 20, .deterministic = deterministic, .cores = cores};
}

size_t graph_bytes(const struct graph *graph, enum graph_uid uid)
{
    const struct door_tensor *t = door_graph_tensor(&graph->graph, uid);

    return t ? door_tensor_bytes(t) : 0;
}

int graph_pointers(const struct graph *graph, void *const memory[GRAPH_UIDS],
                   struct door_pointer out[GRAPH_MAX_TENSORS])
{
    int count = 0;

    for (int i = 0; i < graph->graph.tensor_count; i++) {
        const struct door_tensor *t = &graph->tensors[i];

        if (t->is_virtual)
            continue;
        if (!memory[t->uid])
            return err_set(ERR_FAULT, "%s: nothing is bound to tensor %" PRId64, graph->name,
                           t->uid);
        out[count++] = (struct door_pointer){t->uid, memory[t->uid]};
    }
    return count;
}
