/*
 * cpu_conv.c - OP_CONV and OP_CONV_NORM of the CPU backend, on oneDNN.
 *
 * OP_CONV, packed: the weights for forward, unless they are wanted as they are stored, then those
 * for the gradient of in. OP_CONV_NORM, packed: the bias (one float for each channel), then the
 * weights, both with the normalisation folded in: weight x gamma / sqrt(running variance +
 * epsilon), beta - running mean x gamma / sqrt(running variance + epsilon).
 */
#include <math.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cpu_device.h"
#include "train/cpu_team.h"

struct conv_state {
    const struct cpu_weights *weights; /* the device's */
    struct adapter_conv *forward, *data, *gradient;
    struct adapter_reorder *pack_forward, *pack_data; /* NULL: nothing to do */
    struct adapter_reorder *unpack;                   /* the gradient to how weights are stored */
    size_t forward_bytes;                             /* of packed, before the weights for data */
    /* Of the workspace, in this order before the scratchpad: the sum of two gradients of out, and
     * the gradient of the weights before it is unpacked. */
    size_t sum_bytes, gradient_bytes;
    size_t bias_bytes, plain_bytes; /* OP_CONV_NORM */
};

static void conv_release(struct op *op)
{
    struct conv_state *state = op->state;

    if (!state)
        return;
    adapter_conv_close(state->forward);
    adapter_conv_close(state->data);
    adapter_conv_close(state->gradient);
    adapter_reorder_close(state->pack_forward);
    adapter_reorder_close(state->pack_data);
    adapter_reorder_close(state->unpack);
    mem_free(state);
    op->state = NULL;
}

/* Winograd's algorithm takes 4 x 4 pixels of out at once. It needs memory, which must be little
 * beside what the network needs anyway: a fixed amount, or some times the size of out. */
#define WINOGRAD_PIXELS 4
#define WINOGRAD_BYTES ((size_t)128 << 20)
#define WINOGRAD_TIMES_OUT 8

/* Half the time, and hardly less exact: 8e-7 instead of 3e-7 of the norm of the result. */
static bool try_winograd(const struct device *device, const struct op *op)
{
    return !device->bf16 && op->kernel == 3 && op->stride == 1 && op->out->h >= WINOGRAD_PIXELS &&
           op->out->w >= WINOGRAD_PIXELS && cpu_layout(device, op->in) == ADAPTER_BLOCKED &&
           cpu_layout(device, op->out) == ADAPTER_BLOCKED;
}

static int open_pass(struct device *device, const struct op *op, enum adapter_pass pass,
                     struct adapter_conv **out)
{
    const struct tensor *in = op->in, *result = op->out;
    struct adapter_conv_settings settings = {
        .pass = pass,
        .n = in->n,
        .ic = in->c,
        .ih = in->h,
        .iw = in->w,
        .oc = result->c,
        .oh = result->h,
        .ow = result->w,
        .kernel = op->kernel,
        .stride = op->stride,
        .padding = op->padding,
        .type = device->bf16 ? ADAPTER_BF16 : ADAPTER_F32,
        .in = cpu_layout(device, in),
        .out = cpu_layout(device, result),
        .winograd = try_winograd(device, op),
        .residual = op->residual != NULL,
        .relu = op->relu,
    };
    if (settings.winograd && adapter_conv_open(out, device->adapter, &settings) == 0) {
        const size_t most = cpu_larger(WINOGRAD_BYTES, WINOGRAD_TIMES_OUT * result->bytes);
        if (adapter_conv_scratchpad(*out) <= most)
            return 0;
        adapter_conv_close(*out);
        *out = NULL;
    }
    settings.winograd = false;
    return adapter_conv_open(out, device->adapter, &settings);
}

/* A reorder, unless both are the same; grows the workspace by what it needs. */
static int open_reorder(struct device *device, struct op *op, const struct adapter_weights *from,
                        const struct adapter_weights *to, struct adapter_reorder **out)
{
    int rc;

    if (adapter_weights_equal(from, to))
        return 0;
    if ((rc = adapter_reorder_open(out, device->adapter, from, to)))
        return rc;
    op->workspace_bytes = cpu_larger(op->workspace_bytes, adapter_reorder_scratchpad(*out));
    return 0;
}

static int setup_backward(struct device *device, struct op *op, struct conv_state *state)
{
    const struct adapter_weights *gradient, *stored = state->weights->stored;
    int rc;

    if ((rc = open_pass(device, op, ADAPTER_BACKWARD_WEIGHTS, &state->gradient)))
        return rc;
    gradient = adapter_conv_weights(state->gradient);
    if (!adapter_weights_equal(gradient, stored))
        state->gradient_bytes = cpu_align(adapter_weights_bytes(gradient));
    if ((rc = open_reorder(device, op, gradient, stored, &state->unpack)))
        return rc;
    op->workspace_bytes = cpu_larger(op->workspace_bytes, adapter_conv_scratchpad(state->gradient));
    op->backward_reads_in = true;
    if (op->in_slot >= 0) {
        if ((rc = open_pass(device, op, ADAPTER_BACKWARD_DATA, &state->data)) ||
            (rc = open_reorder(device, op, stored, adapter_conv_weights(state->data),
                               &state->pack_data)))
            return rc;
        if (state->pack_data)
            op->packed_bytes += adapter_weights_bytes(adapter_conv_weights(state->data));
        op->workspace_bytes = cpu_larger(op->workspace_bytes, adapter_conv_scratchpad(state->data));
    }
    if (op->out->readers > 1)
        state->sum_bytes = cpu_align(op->out->bytes);
    op->workspace_bytes += state->sum_bytes + state->gradient_bytes;
    return 0;
}

static int conv_setup(struct device *device, struct op *op, bool training)
{
    struct conv_state *state = op->state = mem_array(1, sizeof *state, "convolution");
    int rc;

    if (!state)
        return -ERR_MEMORY;
    if ((rc = cpu_weights(device, op->weight, &state->weights)) ||
        (rc = open_pass(device, op, ADAPTER_FORWARD, &state->forward)) ||
        (rc = open_reorder(device, op, state->weights->stored, adapter_conv_weights(state->forward),
                           &state->pack_forward)))
        return rc;
    if (state->pack_forward)
        state->forward_bytes =
            cpu_align(adapter_weights_bytes(adapter_conv_weights(state->forward)));
    op->packed_bytes = state->forward_bytes;
    op->workspace_bytes = cpu_larger(op->workspace_bytes, adapter_conv_scratchpad(state->forward));
    return training ? setup_backward(device, op, state) : 0;
}

/* Where the weights for forward and for the gradient of in lie. */
static void *forward_weights(const struct op *op, const float *values)
{
    const struct conv_state *state = op->state;
    /* oneDNN only reads from it, but takes plain pointers. */
    return state->pack_forward ? op->packed : (void *)(uintptr_t)(values + op->weight->offset);
}

static void *data_weights(const struct op *op, const float *values)
{
    const struct conv_state *state = op->state;
    return state->pack_data ? (char *)op->packed + state->forward_bytes
                            : (void *)(uintptr_t)(values + op->weight->offset);
}

static int conv_prepare(struct device *device, struct op *op, const float *values)
{
    const struct conv_state *state = op->state;
    const float *stored = values + op->weight->offset;
    int rc;

    (void)device;
    if (state->pack_forward &&
        (rc = adapter_reorder_run(state->pack_forward, stored, forward_weights(op, values),
                                  op->workspace)))
        return rc;
    if (state->pack_data)
        return adapter_reorder_run(state->pack_data, stored, data_weights(op, values),
                                   op->workspace);
    return 0;
}

static int conv_forward(struct device *device, struct op *op, float *values)
{
    const struct conv_state *state = op->state;
    const struct adapter_conv_run run = {
        .in = op->in->data,
        .weights = forward_weights(op, values),
        .out = op->out->data,
        .scratchpad = op->workspace,
    };
    (void)device;
    return adapter_conv_run(state->forward, &run);
}

/* ResNet's convolutions have one reader, their normalisation; this is for others. */
struct sum_work {
    struct device *device;
    const struct op *op;
};

static void sum_part(void *context, int part, int parts)
{
    const struct sum_work *work = context;
    const struct tensor *out = work->op->out;
    const size_t bytes = cpu_number_bytes(work->device, out);
    const bool bf16 = work->device->bf16;
    size_t first, last;

    team_share(cpu_elements(out), part, parts, &first, &last);
    const void *const from[2] = {(char *)out->gradients[0] + first * bytes,
                                 (char *)out->gradients[1] + first * bytes};
    work->device->kernels->sum(from, bf16, last - first,
                               (char *)work->op->workspace + first * bytes, bf16);
}

static int conv_backward(struct device *device, struct op *op, const float *values,
                         float *gradients)
{
    const struct conv_state *state = op->state;
    float *stored = gradients + op->weight->offset;
    char *workspace = (char *)op->workspace + state->sum_bytes;
    struct adapter_conv_run run = {
        .in = op->in->data,
        .weights = state->gradient_bytes ? (void *)workspace : stored,
        .out = state->sum_bytes ? op->workspace : op->out->gradients[0],
        .scratchpad = workspace + state->gradient_bytes,
    };
    int rc;

    if (state->sum_bytes)
        team_run(device->threads, sum_part, &(struct sum_work){device, op});
    if ((rc = adapter_conv_run(state->gradient, &run)))
        return rc;
    if (state->unpack &&
        (rc = adapter_reorder_run(state->unpack, run.weights, stored, run.scratchpad)))
        return rc;
    if (!state->data)
        return 0;
    run.in = op->in->gradients[op->in_slot];
    run.weights = data_weights(op, values);
    run.scratchpad = workspace;
    return adapter_conv_run(state->data, &run);
}

/* ---- with the normalisation folded in ---- */

static int conv_norm_setup(struct device *device, struct op *op, bool training)
{
    struct conv_state *state = op->state = mem_array(1, sizeof *state, "convolution");
    struct adapter_weights *plain;
    int rc;

    (void)training;
    if (!state)
        return -ERR_MEMORY;
    if ((rc = cpu_weights(device, op->weight, &state->weights)) ||
        (rc = open_pass(device, op, ADAPTER_INFERENCE, &state->forward)) ||
        (rc = adapter_weights_plain(&plain, op->out->c, op->in->c, op->kernel)))
        return rc;
    rc = adapter_reorder_open(&state->pack_forward, device->adapter, plain,
                              adapter_conv_weights(state->forward));
    state->plain_bytes = cpu_align(adapter_weights_bytes(plain));
    adapter_weights_close(plain);
    if (rc)
        return rc;
    state->bias_bytes = cpu_align((size_t)op->out->c * sizeof(float));
    op->packed_bytes =
        state->bias_bytes + adapter_weights_bytes(adapter_conv_weights(state->forward));
    op->workspace_bytes =
        cpu_larger(state->plain_bytes + adapter_reorder_scratchpad(state->pack_forward),
                   adapter_conv_scratchpad(state->forward));
    return 0;
}

struct fold_work {
    const struct op *op;
    const float *values;
};

/* Fold the normalisation of some channels into the plain weights in the workspace and the bias in
 * packed. */
static void fold_part(void *context, int part, int parts)
{
    const struct fold_work *work = context;
    const struct op *op = work->op;
    const float *values = work->values;
    const size_t row = op->weight->count / (size_t)op->out->c;
    float *bias = op->packed;
    size_t first, last;

    team_share((size_t)op->out->c, part, parts, &first, &last);
    for (size_t o = first; o < last; o++) {
        const double variance = (double)values[op->running_var->offset + o] + (double)op->epsilon;
        const double scale = (double)values[op->gamma->offset + o] / sqrt(variance);
        float *weights = (float *)op->workspace + o * row;

        bias[o] = (float)((double)values[op->beta->offset + o] -
                          (double)values[op->running_mean->offset + o] * scale);
        for (size_t i = 0; i < row; i++)
            weights[i] *= (float)scale;
    }
}

static int conv_norm_prepare(struct device *device, struct op *op, const float *values)
{
    const struct conv_state *state = op->state;
    const struct cpu_weights *weights = state->weights;
    int rc;

    if ((rc = adapter_reorder_run(weights->to_plain, values + op->weight->offset, op->workspace,
                                  weights->scratchpad)))
        return rc;
    team_run(device->threads, fold_part, &(struct fold_work){op, values});
    return adapter_reorder_run(state->pack_forward, op->workspace,
                               (char *)op->packed + state->bias_bytes,
                               (char *)op->workspace + state->plain_bytes);
}

static int conv_norm_forward(struct device *device, struct op *op, float *values)
{
    const struct conv_state *state = op->state;
    const struct adapter_conv_run run = {
        .in = op->in->data,
        .weights = (char *)op->packed + state->bias_bytes,
        .bias = op->packed,
        .residual = op->residual ? op->residual->data : NULL,
        .out = op->out->data,
        .scratchpad = op->workspace,
    };
    (void)device, (void)values;
    return adapter_conv_run(state->forward, &run);
}

const struct cpu_op cpu_conv = {conv_setup, conv_release, conv_prepare, conv_forward,
                                conv_backward};
const struct cpu_op cpu_conv_norm = {conv_norm_setup, conv_release, conv_norm_prepare,
                                     conv_norm_forward, NULL};
