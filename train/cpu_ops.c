/*
 * cpu_ops.c - pooling, the linear layer and the loss of the CPU backend.
 *
 * The linear layer is computed in f32 with the weights as they are stored (O x I), whatever the
 * precision: it is a thousandth of the work. Its sums run over 16 lanes in a fixed order. The loss
 * is computed in double.
 */
#include <math.h>
#include <string.h>

#include "common/err.h"
#include "train/cpu_device.h"
#include "train/cpu_team.h"

/* ---- pooling ---- */

struct pool_work {
    struct device *device;
    const struct op *op;
    struct cpu_pool pool;
    const void *gradients[2];
};

/* One column of a blocked tensor, all columns of another: neighbours in memory are taken together.
 */
static int pool_columns(const struct cpu_grid *grid)
{
    return grid->pixel_step == CPU_LANES ? 1 : grid->columns;
}

static struct pool_work pool_begin(struct device *device, const struct op *op)
{
    struct pool_work work = {
        .device = device,
        .op = op,
        .pool =
            {
                   .in = cpu_grid(device, op->in),
                   .out = cpu_grid(device, op->out),
                   .kernel = op->kernel,
                   .stride = op->stride,
                   .padding = op->padding,
                   .past_caches = op->in->bytes > device->cache_bytes,
                   },
    };
    for (int i = 0; i < op->out->readers; i++)
        work.gradients[i] = op->out->gradients[i];
    return work;
}

static int max_pool_setup(struct device *device, struct op *op, bool training)
{
    (void)device;
    if (op->kernel > 16)
        return err_set(ERR_FAULT,
                       "%s: a max pool of kernel %d, but the CPU backend keeps places in a byte: "
                       "up to 16",
                       op->name, op->kernel);
    if (training)
        op->saved_bytes = cpu_elements(op->out);
    return 0;
}

/* Rows of OUT (forward) or IN (backward): work item = (columns, image, row). */
static void max_pool_rows(const struct pool_work *work, int height, int part, int parts,
                          bool backward)
{
    const struct cpu_pool *pool = &work->pool;
    const struct op *op = work->op;
    const struct cpu_kernels *kernels = work->device->kernels;
    const int columns = pool_columns(&pool->in);
    const size_t rows = (size_t)pool->in.images * (size_t)height;
    size_t first, last;

    team_share((size_t)(pool->in.columns / columns) * rows, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const int column = (int)(i / rows) * columns, image = (int)(i % rows) / height;
        const int row = (int)(i % rows) % height;
        if (backward)
            kernels->max_pool_backward(pool, image, row, column, column + columns, work->gradients,
                                       op->saved, op->in->gradients[op->in_slot]);
        else
            kernels->max_pool(pool, image, row, column, column + columns, op->in->data,
                              op->out->data, op->saved_bytes ? op->saved : NULL);
    }
}

static void max_pool_part(void *context, int part, int parts)
{
    const struct pool_work *work = context;
    max_pool_rows(work, work->pool.out.height, part, parts, false);
}

static void max_pool_backward_part(void *context, int part, int parts)
{
    const struct pool_work *work = context;
    max_pool_rows(work, work->pool.in.height, part, parts, true);
}

static int max_pool_forward(struct device *device, struct op *op, float *values)
{
    struct pool_work work = pool_begin(device, op);

    (void)values;
    team_run(device->threads, max_pool_part, &work);
    return 0;
}

static int max_pool_backward(struct device *device, struct op *op, const float *values,
                             float *gradients)
{
    struct pool_work work = pool_begin(device, op);

    (void)values, (void)gradients;
    if (op->in_slot >= 0)
        team_run(device->threads, max_pool_backward_part, &work);
    return 0;
}

static void mean_pool_part(void *context, int part, int parts)
{
    const struct pool_work *work = context;
    const struct cpu_pool *pool = &work->pool;
    const int columns = pool_columns(&pool->in), groups = pool->in.columns / columns;
    size_t first, last;

    team_share((size_t)pool->in.images * (size_t)groups, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const int image = (int)i / groups, column = (int)i % groups * columns;
        work->device->kernels->mean_pool(pool, image, column, column + columns, work->op->in->data,
                                         work->op->out->data);
    }
}

static void mean_pool_backward_part(void *context, int part, int parts)
{
    const struct pool_work *work = context;
    const struct cpu_pool *pool = &work->pool;
    const struct op *op = work->op;
    const int columns = pool_columns(&pool->in), groups = pool->in.columns / columns;
    size_t first, last;

    team_share((size_t)pool->in.images * (size_t)groups, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const int image = (int)i / groups, column = (int)i % groups * columns;
        work->device->kernels->mean_pool_backward(pool, image, column, column + columns,
                                                  work->gradients, op->in->gradients[op->in_slot]);
    }
}

static int mean_pool_forward(struct device *device, struct op *op, float *values)
{
    struct pool_work work = pool_begin(device, op);

    (void)values;
    team_run(device->threads, mean_pool_part, &work);
    return 0;
}

static int mean_pool_backward(struct device *device, struct op *op, const float *values,
                              float *gradients)
{
    struct pool_work work = pool_begin(device, op);

    (void)values, (void)gradients;
    if (op->in_slot >= 0)
        team_run(device->threads, mean_pool_backward_part, &work);
    return 0;
}

/* ---- linear ---- */

/* Workspace: in as floats, and the sum of out's gradients. */
struct linear_work {
    struct device *device;
    const struct op *op;
    const float *in, *weights, *bias, *gradient;
    float *out, *weight_gradient, *bias_gradient, *in_gradient;
};

static int linear_setup(struct device *device, struct op *op, bool training)
{
    (void)device, (void)training;
    op->workspace_bytes = cpu_align(cpu_elements(op->in) * sizeof(float)) +
                          cpu_align(cpu_elements(op->out) * sizeof(float));
    op->backward_reads_in = true;
    return 0;
}

/* in x n floats in the workspace: in itself, and later its gradient. */
static float *linear_begin(struct linear_work *work, struct device *device, const struct op *op,
                           const float *values)
{
    const void *const in[2] = {op->in->data, NULL};

    device->kernels->sum(in, device->bf16, cpu_elements(op->in), op->workspace, false);
    *work = (struct linear_work){
        .device = device,
        .op = op,
        .in = op->workspace,
        .weights = values + op->weight->offset,
        .bias = op->bias ? values + op->bias->offset : NULL,
    };
    return (float *)((char *)op->workspace + cpu_align(cpu_elements(op->in) * sizeof(float)));
}

/* Rows of weights: out's column o is row o times all rows of in. The products of one row come out
 * side by side, in pieces of the batch. */
static void linear_part(void *context, int part, int parts)
{
    enum { PIECE = 64 };
    const struct linear_work *work = context;
    const size_t n = (size_t)work->op->in->n, i = (size_t)work->op->in->c,
                 o = (size_t)work->op->out->c;
    float products[PIECE];
    size_t first, last;

    team_share(o, part, parts, &first, &last);
    for (size_t row = first; row < last; row++)
        for (size_t image = 0; image < n; image += PIECE) {
            const size_t count = n - image < PIECE ? n - image : PIECE;
            work->device->kernels->dots(work->weights + row * i, work->in + image * i, count, i,
                                        products);
            for (size_t k = 0; k < count; k++)
                work->out[(image + k) * o + row] = products[k] + (work->bias ? work->bias[row] : 0);
        }
}

static int linear_forward(struct device *device, struct op *op, float *values)
{
    struct linear_work work;

    (void)linear_begin(&work, device, op, values);
    work.out = op->out->data;
    team_run(device->threads, linear_part, &work);
    return 0;
}

/* d weights[o] = sum over n of d out[n][o] in[n]; d bias[o] = sum over n of d out[n][o]. */
static void linear_weights_part(void *context, int part, int parts)
{
    const struct linear_work *work = context;
    const size_t n = (size_t)work->op->in->n, i = (size_t)work->op->in->c,
                 o = (size_t)work->op->out->c;
    size_t first, last;

    team_share(o, part, parts, &first, &last);
    for (size_t row = first; row < last; row++) {
        float sum = 0;
        for (size_t image = 0; image < n; image++)
            sum += work->gradient[image * o + row];
        if (work->bias_gradient)
            work->bias_gradient[row] = sum;
        work->device->kernels->blend(work->gradient + row, o, work->in, i, n, i,
                                     work->weight_gradient + row * i);
    }
}

/* d in[n] = sum over o of d out[n][o] weights[o], in pieces of channels that all pictures read in
 * turn. */
static void linear_in_part(void *context, int part, int parts)
{
    enum { PIECE = 64 };
    const struct linear_work *work = context;
    const size_t n = (size_t)work->op->in->n, i = (size_t)work->op->in->c,
                 o = (size_t)work->op->out->c;
    size_t first, last;

    team_share((i + PIECE - 1) / PIECE, part, parts, &first, &last);
    for (size_t at = first * PIECE; at < last * PIECE && at < i; at += PIECE) {
        const size_t count = i - at < PIECE ? i - at : PIECE;
        for (size_t image = 0; image < n; image++)
            work->device->kernels->blend(work->gradient + image * o, 1, work->weights + at, i, o,
                                         count, work->in_gradient + image * i + at);
    }
}

static int linear_backward(struct device *device, struct op *op, const float *values,
                           float *gradients)
{
    const struct tensor *out = op->out;
    struct linear_work work;
    float *gradient = linear_begin(&work, device, op, values);
    const void *const from[2] = {out->gradients[0], out->readers > 1 ? out->gradients[1] : NULL};

    device->kernels->sum(from, false, cpu_elements(out), gradient, false);
    work.gradient = gradient;
    work.weight_gradient = gradients + op->weight->offset;
    work.bias_gradient = op->bias ? gradients + op->bias->offset : NULL;
    team_run(device->threads, linear_weights_part, &work);
    if (op->in_slot < 0)
        return 0;
    work.in_gradient = op->workspace; /* in is not needed any more */
    team_run(device->threads, linear_in_part, &work);
    const void *const in_gradient[2] = {op->workspace, NULL};
    device->kernels->sum(in_gradient, false, cpu_elements(op->in), op->in->gradients[op->in_slot],
                         device->bf16);
    return 0;
}

/* ---- loss ---- */

/* Saved: a struct loss_result, then a row's log of the sum of exponentials, rounded up to a line
 * each. */
#define LOSS_HEAD 64

struct row_loss {
    double log_sum, loss;
    int64_t top1, top5;
};

struct loss_work {
    struct device *device;
    const struct op *op;
    struct row_loss *rows;
};

static int loss_setup(struct device *device, struct op *op, bool training)
{
    (void)device, (void)training;
    op->saved_bytes = LOSS_HEAD + (size_t)op->in->n * sizeof(struct row_loss);
    op->backward_reads_in = true;
    return 0;
}

static struct loss_work loss_begin(struct device *device, const struct op *op)
{
    return (struct loss_work){device, op, (struct row_loss *)((char *)op->saved + LOSS_HEAD)};
}

/* A logit that is no number is the last of all. */
static struct row_loss row_loss(const float *logits, size_t classes, size_t label, double smoothing)
{
    const double at_label = (double)logits[label];
    double top = (double)logits[0], sum = 0, mean = 0;
    size_t rank = isnan(at_label) ? classes : 0;
    struct row_loss row;

    for (size_t k = 0; k < classes; k++) {
        const double v = (double)logits[k];
        top = v > top ? v : top;
        rank += v > at_label || (v == at_label && k < label);
    }
    for (size_t k = 0; k < classes; k++)
        sum += exp((double)logits[k] - top);
    row.log_sum = top + log(sum);
    for (size_t k = 0; k < classes; k++)
        mean += row.log_sum - (double)logits[k];
    row.loss = (1 - smoothing) * (row.log_sum - at_label);
    if (smoothing > 0)
        row.loss += smoothing * mean / (double)classes;
    row.top1 = rank < 1;
    row.top5 = rank < 5;
    return row;
}

static void loss_part(void *context, int part, int parts)
{
    const struct loss_work *work = context;
    const size_t classes = (size_t)work->op->in->c;
    size_t first, last;

    team_share((size_t)work->device->rows, part, parts, &first, &last);
    for (size_t n = first; n < last; n++)
        work->rows[n] =
            row_loss((const float *)work->op->in->data + n * classes, classes,
                     (size_t)work->device->labels[n], (double)work->op->label_smoothing);
}

static int loss_forward(struct device *device, struct op *op, float *values)
{
    struct loss_work work = loss_begin(device, op);
    struct loss_result result = {0};

    (void)values;
    team_run(device->threads, loss_part, &work);
    for (int n = 0; n < device->rows; n++) {
        result.loss += work.rows[n].loss;
        result.top1 += work.rows[n].top1;
        result.top5 += work.rows[n].top5;
    }
    result.loss /= device->rows;
    memcpy(op->saved, &result, sizeof result);
    return 0;
}

static void loss_backward_part(void *context, int part, int parts)
{
    const struct loss_work *work = context;
    const struct tensor *in = work->op->in;
    const size_t classes = (size_t)in->c, rows = (size_t)work->device->rows;
    const double smoothing = (double)work->op->label_smoothing, share = smoothing / (double)classes;
    size_t first, last;

    team_share((size_t)in->n, part, parts, &first, &last);
    for (size_t n = first; n < last; n++) {
        const float *logits = (const float *)in->data + n * classes;
        float *out = (float *)in->gradients[work->op->in_slot] + n * classes;
        if (n >= rows) {
            memset(out, 0, classes * sizeof *out);
            continue;
        }
        for (size_t k = 0; k < classes; k++) {
            const double wanted =
                k == (size_t)work->device->labels[n] ? share + (1 - smoothing) : share;
            const double found = exp((double)logits[k] - work->rows[n].log_sum);
            out[k] = (float)((found - wanted) / (double)rows);
        }
    }
}

static int loss_backward(struct device *device, struct op *op, const float *values,
                         float *gradients)
{
    struct loss_work work = loss_begin(device, op);

    (void)values, (void)gradients;
    if (op->in_slot >= 0)
        team_run(device->threads, loss_backward_part, &work);
    return 0;
}

const struct cpu_op cpu_max_pool = {max_pool_setup, NULL, NULL, max_pool_forward,
                                    max_pool_backward};
const struct cpu_op cpu_mean_pool = {NULL, NULL, NULL, mean_pool_forward, mean_pool_backward};
const struct cpu_op cpu_linear = {linear_setup, NULL, NULL, linear_forward, linear_backward};
const struct cpu_op cpu_loss = {loss_setup, NULL, NULL, loss_forward, loss_backward};
