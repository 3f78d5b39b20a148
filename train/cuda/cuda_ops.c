/*
 * cuda_ops.c - the ops on a GPU: plans of graphs.h, and own kernels where cuDNN has none.
 *
 * Fusion level (a): a normalisation with residual, ReLU and mask is one plan. Level (b), fused
 * lists (model.h): convolutions leave sums behind the activations they write, and normalise what
 * they read; a normalisation that stands alone makes its statistics of the sums.
 *
 * Numeric rules: activations and their gradients are of the device's type, everything else f32;
 * arithmetic is f32 (graphs.h, kernels.h). Where a tensor has two readers, the normalisation adds
 * their gradients in f32 as it reads them; for others the sum is rounded to the type first.
 */
#include <assert.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cuda/cuda_device.h"
#include "train/cuda/self_test.h"

/* ---- graphs ---- */

#define NO_GRAPH GRAPH_KINDS

/* The graph of PART of OP, or NO_GRAPH. */
static enum graph_kind kind_of(const struct op *op, enum cuda_part part, bool training)
{
    static const enum graph_kind kinds[OP_KINDS][CUDA_PARTS] = {
        [OP_CONV] = {GRAPH_CONV,      GRAPH_CONV_DATA,         GRAPH_CONV_FILTER,      NO_GRAPH, NO_GRAPH             },
        [OP_NORM] = {GRAPH_NORM,      GRAPH_NORM_BACKWARD,     NO_GRAPH,               NO_GRAPH, NO_GRAPH             },
        [OP_CONV_NORM] = {GRAPH_CONV,      NO_GRAPH,                NO_GRAPH,               NO_GRAPH, NO_GRAPH             },
        [OP_MAX_POOL] = {GRAPH_MAX_POOL,  GRAPH_MAX_POOL_BACKWARD, NO_GRAPH,               NO_GRAPH, NO_GRAPH             },
        [OP_MEAN_POOL] = {NO_GRAPH,        NO_GRAPH,                NO_GRAPH,               NO_GRAPH, NO_GRAPH             },
        [OP_LINEAR] = {GRAPH_LINEAR,    GRAPH_LINEAR_DATA,       GRAPH_LINEAR_FILTER,    NO_GRAPH, NO_GRAPH             },
        [OP_NORM_CONV] = {GRAPH_NORM_CONV, GRAPH_NORM_CONV_DATA,    GRAPH_NORM_CONV_FILTER,
                     GRAPH_FINALIZE,                                                             GRAPH_NORM_CONV_INPUT},
        [OP_LOSS] = {NO_GRAPH,        NO_GRAPH,                NO_GRAPH,               NO_GRAPH, NO_GRAPH             },
    };
    if (op->kind == OP_NORM && op->in->sums && part == CUDA_FORWARD)
        return GRAPH_APPLY;
    if (op->kind == OP_NORM && op->in->sums && part == CUDA_STATISTICS)
        return GRAPH_FINALIZE;
    if (part != CUDA_FORWARD && part != CUDA_STATISTICS &&
        (!training || (part == CUDA_DATA && op->in_slot < 0)))
        return NO_GRAPH;
    if (op->kind == OP_MAX_POOL && !training)
        return GRAPH_MAX_POOL_PLAIN;
    return kinds[op->kind][part];
}

/* OP as graph_make is asked: an evaluation's convolution is a plain one, and a residual without a
 * ReLU gets its gradient by a copy. */
static struct op asked_op(const struct op *op)
{
    struct op asked = *op;

    if (op->kind == OP_CONV_NORM)
        asked.kind = OP_CONV;
    if (!op->relu)
        asked.residual_slot = -1;
    return asked;
}

static size_t elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->h * (size_t)t->w * (size_t)graph_channels(t);
}

static int check_channels(const struct op *op)
{
    const struct tensor *t = op->out ? op->out : op->in;
    bool logits = op->kind == OP_LINEAR || op->kind == OP_LOSS;

    if (graph_channels(op->in) % 8 == 0 && t->c % 8 == 0)
        return 0;
    return logits && (op->kind == OP_LOSS || op->in->c % 8 == 0)
               ? 0
               : err_set(ERR_FAULT, "%s: the GPU takes channels by 8, not %d to %d", op->name,
                         op->in->c, t->c);
}

static struct door_wish wish_of(const struct device *device, enum graph_kind kind)
{
    return graph_wish(kind, device->type, device->cores, device->settings.deterministic);
}

/* Ask for the plans of OP. */
static int request(struct device *device, struct op *op, bool training)
{
    struct cuda_op *state = mem_array(1, sizeof *state, "an op's state");
    struct op asked = asked_op(op);
    int rc = state ? check_channels(op) : -ERR_MEMORY;

    if (rc) {
        mem_free(state);
        return rc;
    }
    state->next = device->ops;
    device->ops = state;
    state->op = op;
    state->training = training;
    op->state = state;
    for (int part = 0; part < CUDA_PARTS; part++) {
        enum graph_kind kind = kind_of(op, (enum cuda_part)part, training);
        struct graph graph;

        state->slots[part] = -1;
        if (kind == NO_GRAPH || !device->door || device->paper)
            continue;
        struct door_wish wish = wish_of(device, kind);
        if ((rc = graph_make(&graph, kind, &asked, device->type)) ||
            (rc = plan_store_request(device->store, &graph, &wish, device->settings.absent != NULL,
                                     &state->slots[part])))
            return rc;
    }
    return 0;
}

/* What validation will ask for, so that it is opened and tested with the rest. */
static int request_plain_pool(struct device *device, const struct op *op)
{
    struct door_wish wish = wish_of(device, GRAPH_MAX_POOL_PLAIN);
    struct graph graph;
    int slot, rc = graph_make(&graph, GRAPH_MAX_POOL_PLAIN, op, device->type);

    return rc ? rc
              : plan_store_request(device->store, &graph, &wish, device->settings.absent != NULL,
                                   &slot);
}

/* Open what was asked for; a device that is there shows that it computes it. */
static int complete(struct device *device)
{
    int rc = plan_store_complete(device->store), count = plan_store_count(device->store);

    if (rc || device->settings.absent || count == device->tested)
        return rc;
    if ((rc = self_test_run(device->store)) ||
        (device->size && (rc = self_test_augment(device->door, device->type, device->size))))
        return rc;
    device->tested = count;
    plan_store_keep(device->store);
    return 0;
}

int cuda_list_setup(struct device *device, struct op *ops, size_t count, bool training)
{
    for (size_t i = 0; i < count; i++) {
        int rc = request(device, &ops[i], training);

        if (!rc && device->door && !device->paper && training && ops[i].kind == OP_MAX_POOL)
            rc = request_plain_pool(device, &ops[i]);
        if (rc)
            return err_add(rc, "%s", ops[i].name);
    }
    return device->door && !device->paper ? complete(device) : 0;
}

/* ---- memory ---- */

/* One thing behind the others in saved memory. */
static size_t add_saved(struct op *op, size_t bytes)
{
    size_t at = op->saved_bytes;

    op->saved_bytes = cuda_align(at + bytes);
    return at;
}

/* What the plan of PART needs, or the cap where there is none to ask. */
static size_t workspace_of(const struct device *device, const struct cuda_op *state, int part,
                           bool training)
{
    enum graph_kind kind = kind_of(state->op, (enum cuda_part)part, training);
    struct door_plan *plan = state->slots[part] >= 0 && device->store
                                 ? plan_store_plan(device->store, state->slots[part])
                                 : NULL;

    if (kind == NO_GRAPH)
        return 0;
    return plan ? door_plan_info(plan)->workspace_bytes : wish_of(device, kind).workspace_cap;
}

static size_t plans_workspace(const struct device *device, const struct cuda_op *state)
{
    size_t most = 0;

    for (int part = 0; part < CUDA_PARTS; part++) {
        size_t bytes = workspace_of(device, state, part, state->training);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* That of the op's namesake, which is set up with other pictures. */
static size_t known_workspace(const struct device *device, const struct cuda_op *state)
{
    for (const struct cuda_op *o = device->ops; o; o = o->next)
        if (o->op != state->op && o->training == state->training &&
            strcmp(o->op->name, state->op->name) == 0)
            return o->plans_workspace;
    return plans_workspace(device, state);
}

static void find_saved(struct cuda_op *state, struct op *op, bool training)
{
    const size_t channels = (size_t)op->in->c * sizeof(float);

    if (op->kind == OP_NORM || op->kind == OP_NORM_CONV) {
        state->mean = add_saved(op, channels);
        state->invstd = add_saved(op, channels);
        state->count = (int64_t)op->in->n * op->in->h * op->in->w;
    }
    if (op->kind == OP_NORM_CONV) {
        state->scale = add_saved(op, channels);
        state->shift = add_saved(op, channels);
    } else if (op->kind == OP_NORM) {
        state->mask = op->relu ? add_saved(op, (elements(op->out) + 7) / 8) : 0;
    } else if (op->kind == OP_MAX_POOL && training) {
        state->index = add_saved(op, elements(op->out));
    } else if (op->kind == OP_LOSS) {
        add_saved(op, sizeof(struct kernel_loss));
        state->row_logs = add_saved(op, (size_t)op->in->n * sizeof(float));
    }
}

/* f32, one value a channel. */
static size_t channel_bytes(const struct tensor *t)
{
    return cuda_align((size_t)t->c * sizeof(float));
}

/* What OP_NORM_CONV's backward works in: the gradient of the normalised value, and what makes the
 * input's of it. */
static size_t own_bytes(const struct device *device, const struct op *op)
{
    return cuda_align(elements(op->in) * cuda_number_bytes(device)) + 3 * channel_bytes(op->in);
}

int cuda_op_setup(struct device *device, struct op *op, bool training)
{
    struct cuda_op *state = op->state;
    size_t workspace = 0;
    int rc = state ? 0 : request(device, op, training);

    if (!state && !rc && device->door && !device->paper)
        rc = plan_store_complete(device->store);
    if (rc) {
        cuda_op_release(device, op);
        return rc;
    }
    state = op->state;
    workspace = device->paper ? known_workspace(device, state) : plans_workspace(device, state);
    state->plans_workspace = cuda_align(workspace);
    if (op->kind == OP_LOSS)
        workspace = 2 * cuda_align((size_t)op->in->n * sizeof(float));
    else if (op->kind == OP_NORM_CONV)
        workspace = state->plans_workspace + own_bytes(device, op);
    else if (op->kind == OP_NORM && op->in->sums)
        workspace = state->plans_workspace + 2 * channel_bytes(op->in);
    /* The planner aligns to 64 bytes, cuDNN wants 256. */
    op->workspace_bytes = workspace ? workspace + 256 : 0;
    find_saved(state, op, training);
    if (op->kind == OP_CONV_NORM)
        op->packed_bytes = 2 * cuda_align((size_t)op->out->c * sizeof(float));
    op->backward_reads_in = training && op->kind != OP_MAX_POOL && op->kind != OP_MEAN_POOL;
    return 0;
}

void cuda_op_release(struct device *device, struct op *op)
{
    /* A recording holds the addresses of the memory that goes now. */
    cuda_forget_walks(device);
    for (struct cuda_op **at = &device->ops; *at; at = &(*at)->next)
        if (*at == op->state) {
            struct cuda_op *state = *at;

            *at = state->next;
            mem_free(state);
            break;
        }
    op->state = NULL;
}

/* ---- running ---- */

/* Memory by uid for one run of a plan. */
struct binding {
    void *memory[GRAPH_UIDS];
};

static void *workspace(const struct op *op)
{
    return op->workspace ? (void *)cuda_align((size_t)op->workspace) : NULL;
}

static char *saved(const struct op *op, size_t at)
{
    return (char *)op->saved + at;
}

static int run_plan(struct device *device, const struct op *op, enum cuda_part part,
                    const struct binding *binding)
{
    const struct cuda_op *state = op->state;
    struct door_plan *plan = plan_store_plan(device->store, state->slots[part]);
    struct door_pointer pointers[GRAPH_MAX_TENSORS];
    int count = graph_pointers(plan_store_graph(device->store, state->slots[part]), binding->memory,
                               pointers);

    if (count < 0)
        return count;
    if (!plan)
        return err_set(ERR_FAULT, "%s: there is no plan", op->name);
    return door_plan_run(device->door, plan, device->compute, pointers, count,
                         door_plan_info(plan)->workspace_bytes ? workspace(op) : NULL);
}

static int launched(struct device *device, int code, const struct op *op)
{
    return door_check(device->door, code, "%s (%s)", op->name, op_kind_names[op->kind]);
}

/* A weight as convolutions read it. */
static void *weight_of(const struct device *device, const struct parameter *p, const float *values)
{
    assert(p);
    return device->type == DOOR_F32 ? (void *)(values + p->offset)
                                    : (char *)device->copy + 2 * p->offset;
}

int cuda_prepare(struct device *device, struct op *op, const float *values)
{
    struct cuda_op *state = op->state;
    const struct parameter *w = op->weight;
    int rc = 0;

    if (w && device->type != DOOR_F32 && state->generation != device->generation) {
        rc = launched(device,
                      kernel_convert(device->compute, device->kernel, w->stored, values + w->offset,
                                     (char *)device->copy + 2 * w->offset),
                      op);
        state->generation = device->generation;
    }
    if (rc || op->kind != OP_CONV_NORM)
        return rc;
    float *scale = op->packed;
    float *bias = (float *)((char *)op->packed + op->packed_bytes / 2);
    return launched(device,
                    kernel_norm_fold(device->compute, op->out->c, op->epsilon,
                                     values + op->gamma->offset, values + op->beta->offset,
                                     values + op->running_mean->offset,
                                     values + op->running_var->offset, scale, bias),
                    op);
}

/* The sums that a convolution left behind T's numbers. */
static char *sums_of(const struct device *device, const struct tensor *t)
{
    return t->sums ? (char *)t->data + cuda_align(elements(t) * cuda_number_bytes(device)) : NULL;
}

/* Where an op itself works. */
static char *own_workspace(const struct op *op)
{
    return (char *)workspace(op) + ((const struct cuda_op *)op->state)->plans_workspace;
}

static void bind_sums(const struct device *device, const struct tensor *t, struct binding *b)
{
    char *sums = sums_of(device, t);

    b->memory[GRAPH_SUM] = sums;
    b->memory[GRAPH_SQSUM] = sums ? sums + channel_bytes(t) : NULL;
}

/* Level (b): mean and deviation of in from its sums, and the normalisation as SCALE and SHIFT. */
static int find_statistics(struct device *device, struct op *op, float *values, void *scale,
                           void *shift)
{
    struct cuda_op *state = op->state;
    struct binding b = {
        .memory = {
                   [GRAPH_GAMMA] = values + op->gamma->offset,
                   [GRAPH_BETA] = values + op->beta->offset,
                   [GRAPH_RUNNING_MEAN] = values + op->running_mean->offset,
                   [GRAPH_RUNNING_VAR] = values + op->running_var->offset,
                   [GRAPH_RUNNING_MEAN_OUT] = values + op->running_mean->offset,
                   [GRAPH_RUNNING_VAR_OUT] = values + op->running_var->offset,
                   [GRAPH_MEAN] = saved(op, state->mean),
                   [GRAPH_INVSTD] = saved(op, state->invstd),
                   [GRAPH_EQ_SCALE] = scale,
                   [GRAPH_EQ_BIAS] = shift,
                   [GRAPH_EPSILON] = &op->epsilon,
                   [GRAPH_MOMENTUM] = &op->momentum,
                   [GRAPH_COUNT] = &state->count,
                   }
    };

    bind_sums(device, op->in, &b);
    return run_plan(device, op, CUDA_STATISTICS, &b);
}

/* Level (b): what the statistics of the sums say, applied. */
static int forward_apply(struct device *device, struct op *op, float *values)
{
    const struct cuda_op *state = op->state;
    char *scale = own_workspace(op), *shift = scale + channel_bytes(op->in);
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_Y] = op->out->data,
                   [GRAPH_RESIDUAL] = op->residual ? op->residual->data : NULL,
                   [GRAPH_MASK] = saved(op, state->mask),
                   [GRAPH_EQ_SCALE] = scale,
                   [GRAPH_EQ_BIAS] = shift,
                   [GRAPH_ZERO] = (void *)&graph_zero,
                   }
    };
    int rc = find_statistics(device, op, values, scale, shift);

    return rc ? rc : run_plan(device, op, CUDA_FORWARD, &b);
}

static int forward_norm_conv(struct device *device, struct op *op, float *values, void *weight)
{
    const struct cuda_op *state = op->state;
    void *scale = saved(op, state->scale), *shift = saved(op, state->shift);
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_Y] = op->out->data,
                   [GRAPH_W] = weight,
                   [GRAPH_EQ_SCALE] = scale,
                   [GRAPH_EQ_BIAS] = shift,
                   }
    };
    int rc = find_statistics(device, op, values, scale, shift);

    bind_sums(device, op->out, &b);
    return rc ? rc : run_plan(device, op, CUDA_FORWARD, &b);
}

static int forward_norm(struct device *device, struct op *op, float *values)
{
    const struct cuda_op *state = op->state;
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_Y] = op->out->data,
                   [GRAPH_RESIDUAL] = op->residual ? op->residual->data : NULL,
                   [GRAPH_GAMMA] = values + op->gamma->offset,
                   [GRAPH_BETA] = values + op->beta->offset,
                   [GRAPH_RUNNING_MEAN] = values + op->running_mean->offset,
                   [GRAPH_RUNNING_VAR] = values + op->running_var->offset,
                   [GRAPH_RUNNING_MEAN_OUT] = values + op->running_mean->offset,
                   [GRAPH_RUNNING_VAR_OUT] = values + op->running_var->offset,
                   [GRAPH_MEAN] = saved(op, state->mean),
                   [GRAPH_INVSTD] = saved(op, state->invstd),
                   [GRAPH_MASK] = saved(op, state->mask),
                   [GRAPH_EPSILON] = &op->epsilon,
                   [GRAPH_MOMENTUM] = &op->momentum,
                   [GRAPH_ZERO] = (void *)&graph_zero,
                   }
    };
    return run_plan(device, op, CUDA_FORWARD, &b);
}

static int forward_loss(struct device *device, struct op *op)
{
    const struct cuda_op *state = op->state;
    char *work = workspace(op);

    return launched(
        device,
        kernel_loss_forward(
            device->compute, op->in->n, op->in->c, op->label_smoothing, op->in->data,
            device->labels, device->rows, (float *)saved(op, state->row_logs), (float *)work,
            (int32_t *)(work + cuda_align((size_t)op->in->n * sizeof(float))), op->saved),
        op);
}

static int apply_norm(struct device *device, struct op *op)
{
    const float *scale = op->packed;
    const float *bias = (const float *)((const char *)op->packed + op->packed_bytes / 2);

    return launched(
        device,
        kernel_norm_apply(device->compute, device->kernel, elements(op->out) / (size_t)op->out->c,
                          op->out->c, op->out->data, scale, bias,
                          op->residual ? op->residual->data : NULL, op->relu, op->out->data),
        op);
}

int cuda_forward(struct device *device, struct op *op, float *values)
{
    const struct cuda_op *state = op->state;
    struct binding b = {.memory = {[GRAPH_X] = op->in->data}};
    int rc;

    if (op->kind == OP_LOSS)
        return forward_loss(device, op);
    assert(op->out);
    b.memory[GRAPH_Y] = op->out->data;
    if (op->weight)
        b.memory[GRAPH_W] = weight_of(device, op->weight, values);
    switch (op->kind) {
    case OP_CONV:
        bind_sums(device, op->out, &b);
        return run_plan(device, op, CUDA_FORWARD, &b);
    case OP_NORM_CONV:
        return forward_norm_conv(device, op, values, b.memory[GRAPH_W]);
    case OP_CONV_NORM:
        rc = run_plan(device, op, CUDA_FORWARD, &b);
        return rc ? rc : apply_norm(device, op);
    case OP_NORM:
        return op->in->sums ? forward_apply(device, op, values) : forward_norm(device, op, values);
    case OP_MAX_POOL:
        b.memory[GRAPH_INDEX] = saved(op, state->index);
        return run_plan(device, op, CUDA_FORWARD, &b);
    case OP_MEAN_POOL:
        return launched(device,
                        kernel_mean_pool(device->compute, device->kernel, op->in->n,
                                         op->in->h * op->in->w, op->in->c, op->in->data,
                                         op->out->data),
                        op);
    case OP_LINEAR:
        b.memory[GRAPH_BIAS] = values + op->bias->offset;
        return run_plan(device, op, CUDA_FORWARD, &b);
    case OP_LOSS:
    case OP_KINDS:
        break;
    }
    return err_set(ERR_FAULT, "%s: an op of no kind", op->name);
}

/* ---- backward ---- */

/* The gradient of out as one: the second reader's is added to the first's. */
static int one_gradient(struct device *device, const struct op *op)
{
    const struct tensor *t = op->out;

    if (t->readers < 2)
        return 0;
    return launched(device,
                    kernel_sum(device->compute, device->kernel, elements(t), t->gradients[0],
                               t->gradients[1], t->gradients[0]),
                    op);
}

static int backward_norm(struct device *device, struct op *op, const float *values,
                         float *gradients)
{
    const struct cuda_op *state = op->state;
    const struct tensor *out = op->out;
    void *residual =
        op->residual && op->residual_slot >= 0 ? op->residual->gradients[op->residual_slot] : NULL;
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_DY] = out->gradients[0],
                   [GRAPH_DY2] = out->gradients[1],
                   [GRAPH_MASK] = saved(op, state->mask),
                   [GRAPH_MEAN] = saved(op, state->mean),
                   [GRAPH_INVSTD] = saved(op, state->invstd),
                   [GRAPH_GAMMA] = (void *)(values + op->gamma->offset),
                   [GRAPH_DX] = op->in->gradients[op->in_slot],
                   [GRAPH_DGAMMA] = gradients + op->gamma->offset,
                   [GRAPH_DBETA] = gradients + op->beta->offset,
                   [GRAPH_DRESIDUAL] = residual,
                   [GRAPH_EPSILON] = &op->epsilon,
                   [GRAPH_ZERO] = (void *)&graph_zero,
                   }
    };
    int rc = run_plan(device, op, CUDA_DATA, &b);

    /* Without a ReLU the residual's gradient is that of out. */
    if (rc || !residual || op->relu)
        return rc;
    if (out->readers < 2)
        return door_copy(device->door, device->compute, DOOR_ON, residual, out->gradients[0],
                         elements(out) * cuda_number_bytes(device));
    return launched(device,
                    kernel_sum(device->compute, device->kernel, elements(out), out->gradients[0],
                               out->gradients[1], residual),
                    op);
}

/* The data gradient, where it is wanted, and the weight's. */
static int backward_weight(struct device *device, struct op *op, const float *values,
                           float *gradients)
{
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_W] = weight_of(device, op->weight, values),
                   [GRAPH_DY] = op->out->gradients[0],
                   [GRAPH_DX] = op->in_slot >= 0 ? op->in->gradients[op->in_slot] : NULL,
                   [GRAPH_DW] = gradients + op->weight->offset,
                   }
    };
    int rc = one_gradient(device, op);

    if (!rc && op->in_slot >= 0)
        rc = run_plan(device, op, CUDA_DATA, &b);
    return rc ? rc : run_plan(device, op, CUDA_FILTER, &b);
}

/* Level (b): the gradient through the convolution and the ReLU, with its sums; then the rest of the
 * way through the normalisation; the weight's from the input, normalised again. */
static int backward_norm_conv(struct device *device, struct op *op, const float *values,
                              float *gradients)
{
    const struct cuda_op *state = op->state;
    size_t channels = channel_bytes(op->in);
    char *scales = own_workspace(op);
    struct binding b = {
        .memory = {
                   [GRAPH_X] = op->in->data,
                   [GRAPH_W] = weight_of(device, op->weight, values),
                   [GRAPH_DY] = op->out->gradients[0],
                   [GRAPH_MEAN] = saved(op, state->mean),
                   [GRAPH_INVSTD] = saved(op, state->invstd),
                   [GRAPH_GAMMA] = (void *)(values + op->gamma->offset),
                   [GRAPH_BETA] = (void *)(values + op->beta->offset),
                   [GRAPH_EQ_SCALE] = saved(op, state->scale),
                   [GRAPH_EQ_BIAS] = saved(op, state->shift),
                   [GRAPH_EQ_DY_SCALE] = scales,
                   [GRAPH_EQ_X_SCALE] = scales + channels,
                   [GRAPH_EQ_SHIFT] = scales + 2 * channels,
                   [GRAPH_DNORM] = scales + 3 * channels,
                   [GRAPH_DX] = op->in->gradients[op->in_slot],
                   [GRAPH_DGAMMA] = gradients + op->gamma->offset,
                   [GRAPH_DBETA] = gradients + op->beta->offset,
                   [GRAPH_DW] = gradients + op->weight->offset,
                   }
    };
    int rc = one_gradient(device, op);

    if (rc || (rc = run_plan(device, op, CUDA_DATA, &b)) ||
        (rc = run_plan(device, op, CUDA_INPUT, &b)))
        return rc;
    return run_plan(device, op, CUDA_FILTER, &b);
}

static int backward_linear(struct device *device, struct op *op, const float *values,
                           float *gradients)
{
    const struct parameter *bias = op->bias;
    int rc = backward_weight(device, op, values, gradients);

    if (!rc)
        rc = launched(device,
                      kernel_bias_gradient(device->compute, device->kernel, op->out->n, op->out->c,
                                           op->out->gradients[0], gradients + bias->offset),
                      op);
    if (rc || bias->stored == bias->count)
        return rc;
    return door_fill(device->door, device->compute, gradients + bias->offset + bias->count, 0,
                     (bias->stored - bias->count) * sizeof(float));
}

static int backward_loss(struct device *device, struct op *op)
{
    const struct cuda_op *state = op->state;

    return launched(device,
                    kernel_loss_backward(device->compute, device->kernel, op->in->n, op->in->c,
                                         op->label_smoothing, op->in->data, device->labels,
                                         device->rows, (const float *)saved(op, state->row_logs),
                                         device->scaler ? &device->scaler->scale : NULL,
                                         op->in->gradients[op->in_slot]),
                    op);
}

int cuda_backward(struct device *device, struct op *op, const float *values, float *gradients)
{
    const struct cuda_op *state = op->state;
    struct binding b = {.memory = {[GRAPH_INDEX] = saved(op, state->index)}};
    int rc;

    if (op->kind == OP_LOSS)
        return backward_loss(device, op);
    assert(op->out);
    b.memory[GRAPH_DY] = op->out->gradients[0];
    switch (op->kind) {
    case OP_CONV:
        return backward_weight(device, op, values, gradients);
    case OP_NORM_CONV:
        return backward_norm_conv(device, op, values, gradients);
    case OP_NORM:
        return backward_norm(device, op, values, gradients);
    case OP_MAX_POOL:
        b.memory[GRAPH_DX] = op->in->gradients[op->in_slot];
        rc = one_gradient(device, op);
        return rc ? rc : run_plan(device, op, CUDA_DATA, &b);
    case OP_MEAN_POOL:
        rc = one_gradient(device, op);
        return rc ? rc
                  : launched(device,
                             kernel_mean_pool_backward(
                                 device->compute, device->kernel, op->in->n, op->in->h * op->in->w,
                                 op->in->c, op->out->gradients[0], op->in->gradients[op->in_slot]),
                             op);
    case OP_LINEAR:
        return backward_linear(device, op, values, gradients);
    case OP_LOSS:
    case OP_CONV_NORM:
    case OP_KINDS:
        break;
    }
    return err_set(ERR_FAULT, "%s: this op has no backward", op->name);
}
