/*
 * ref_ops.c - the ops of `ref` that are no matrix products: normalisation, pooling, loss. Sums run
 * in double over the elements in their order.
 */
#include <math.h>
#include <string.h>

#include "train/ref.h"

size_t ref_pixels(const struct tensor *t)
{
    return (size_t)t->h * (size_t)t->w;
}

size_t ref_elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->c * ref_pixels(t);
}

float ref_gradient(const struct tensor *t, size_t i)
{
    float first = ((const float *)t->gradients[0])[i];

    return t->readers == 1 ? first : first + ((const float *)t->gradients[1])[i];
}

/* ---- normalisation (training) ---- */

/* Saved: mean and 1/sqrt(variance + epsilon) of each channel. Workspace: two sums of each channel.
 */
static void norm_setup(struct op *op, bool training)
{
    (void)training;
    op->saved_bytes = 2 * (size_t)op->in->c * sizeof(double);
    op->workspace_bytes = 2 * (size_t)op->in->c * sizeof(double);
    op->backward_reads_in = true;
    op->backward_reads_out = op->relu;
}

/* n * h * w */
static double values_of_channel(const struct tensor *t)
{
    return (double)t->n * t->h * t->w;
}

/* MEAN and biased VARIANCE of each channel over N x H x W values, in two passes. */
static void channel_statistics(const struct tensor *t, double *mean, double *variance)
{
    const float *x = t->data;
    size_t c = (size_t)t->c, count = ref_elements(t);
    double values = values_of_channel(t);

    memset(mean, 0, c * sizeof *mean);
    memset(variance, 0, c * sizeof *variance);
    for (size_t i = 0; i < count; i += c)
        for (size_t k = 0; k < c; k++)
            mean[k] += x[i + k];
    for (size_t k = 0; k < c; k++)
        mean[k] /= values;
    for (size_t i = 0; i < count; i += c)
        for (size_t k = 0; k < c; k++)
            variance[k] += (x[i + k] - mean[k]) * (x[i + k] - mean[k]);
    for (size_t k = 0; k < c; k++)
        variance[k] /= values;
}

static void norm_forward(struct device *device, struct op *op, float *values)
{
    size_t c = (size_t)op->in->c, count = ref_elements(op->in);
    double *mean = op->saved, *inverse = mean + c, *variance = op->workspace;
    const float *x = op->in->data, *residual = op->residual ? op->residual->data : NULL;
    const float *gamma = values + op->gamma->offset, *beta = values + op->beta->offset;
    float *running_mean = values + op->running_mean->offset;
    float *running_var = values + op->running_var->offset;
    float *out = op->out->data;
    double share = op->momentum, number = values_of_channel(op->in);

    (void)device;
    channel_statistics(op->in, mean, variance);
    for (size_t k = 0; k < c; k++) {
        double unbiased = variance[k] * number / (number - 1);

        inverse[k] = 1 / sqrt(variance[k] + (double)op->epsilon);
        running_mean[k] = (float)((1 - share) * running_mean[k] + share * mean[k]);
        running_var[k] = (float)((1 - share) * running_var[k] + share * unbiased);
    }
    for (size_t i = 0; i < count; i += c)
        for (size_t k = 0; k < c; k++) {
            double y = (x[i + k] - mean[k]) * inverse[k] * gamma[k] + beta[k];

            if (residual)
                y += residual[i + k];
            out[i + k] = (float)(op->relu && y < 0 ? 0 : y);
        }
}

/* Gradient of what the ReLU took in: that of out where it passed, 0 where it cut. */
static double before_relu(const struct op *op, size_t i)
{
    if (op->relu && ((const float *)op->out->data)[i] <= 0)
        return 0;
    return ref_gradient(op->out, i);
}

static void norm_backward(struct device *device, struct op *op, const float *values,
                          float *gradients)
{
    size_t c = (size_t)op->in->c, count = ref_elements(op->in);
    const double *mean = op->saved, *inverse = mean + c;
    double *beta_sum = op->workspace, *gamma_sum = beta_sum + c, number = values_of_channel(op->in);
    const float *x = op->in->data, *gamma = values + op->gamma->offset;
    float *in_gradient = op->in_slot >= 0 ? op->in->gradients[op->in_slot] : NULL;
    float *residual_gradient =
        op->residual && op->residual_slot >= 0 ? op->residual->gradients[op->residual_slot] : NULL;

    (void)device;
    memset(beta_sum, 0, 2 * c * sizeof *beta_sum);
    for (size_t i = 0; i < count; i += c)
        for (size_t k = 0; k < c; k++) {
            double g = before_relu(op, i + k);

            beta_sum[k] += g;
            gamma_sum[k] += g * (x[i + k] - mean[k]) * inverse[k];
        }
    for (size_t i = 0; i < count; i += c)
        for (size_t k = 0; k < c; k++) {
            double g = before_relu(op, i + k), normal = (x[i + k] - mean[k]) * inverse[k];

            if (residual_gradient)
                residual_gradient[i + k] = (float)g;
            if (in_gradient)
                in_gradient[i + k] =
                    (float)(gamma[k] * inverse[k] *
                            (g - beta_sum[k] / number - normal * gamma_sum[k] / number));
        }
    for (size_t k = 0; k < c; k++) {
        gradients[op->beta->offset + k] = (float)beta_sum[k];
        gradients[op->gamma->offset + k] = (float)gamma_sum[k];
    }
}

/* ---- pooling ---- */

/* Saved: which pixel of the picture each output came from. Workspace: one picture's gradient. */
static void max_pool_setup(struct op *op, bool training)
{
    if (training) {
        op->saved_bytes = ref_elements(op->out) * sizeof(int32_t);
        op->workspace_bytes = ref_pixels(op->in) * (size_t)op->in->c * sizeof(double);
    }
}

/* The pixel of PICTURE's channel that output (y, x) takes: the first of the largest, or the last
 * NaN. */
static size_t max_pool_pick(const struct op *op, const float *picture, int y, int x, size_t channel)
{
    size_t best = 0, c = (size_t)op->in->c;
    bool found = false;

    for (int ky = 0; ky < op->kernel; ky++)
        for (int kx = 0; kx < op->kernel; kx++) {
            int iy = y * op->stride + ky - op->padding, ix = x * op->stride + kx - op->padding;

            if (iy < 0 || iy >= op->in->h || ix < 0 || ix >= op->in->w)
                continue;
            size_t at = (size_t)iy * (size_t)op->in->w + (size_t)ix;
            float value = picture[at * c + channel];
            if (!found || value > picture[best * c + channel] || isnan(value))
                best = at;
            found = true;
        }
    return best;
}

static void max_pool_forward(struct device *device, struct op *op, float *values)
{
    size_t c = (size_t)op->in->c, in_count = ref_pixels(op->in) * c;
    float *out = op->out->data;
    int32_t *picked = op->saved_bytes ? op->saved : NULL;

    (void)device, (void)values;
    for (size_t n = 0; n < (size_t)op->in->n; n++) {
        const float *picture = (const float *)op->in->data + n * in_count;

        for (int y = 0; y < op->out->h; y++)
            for (int x = 0; x < op->out->w; x++)
                for (size_t k = 0; k < c; k++) {
                    size_t at = max_pool_pick(op, picture, y, x, k);

                    *out++ = picture[at * c + k];
                    if (picked)
                        *picked++ = (int32_t)at;
                }
    }
}

static void max_pool_backward(struct device *device, struct op *op, const float *values,
                              float *gradients)
{
    size_t c = (size_t)op->in->c, in_count = ref_pixels(op->in) * c,
           out_count = ref_pixels(op->out) * c;
    const int32_t *picked = op->saved;
    double *sums = op->workspace;

    (void)device, (void)values, (void)gradients;
    for (size_t n = 0; n < (size_t)op->in->n; n++) {
        float *in_gradient = (float *)op->in->gradients[op->in_slot] + n * in_count;

        memset(sums, 0, in_count * sizeof *sums);
        for (size_t i = 0; i < out_count; i++) {
            size_t at = n * out_count + i;

            sums[(size_t)picked[at] * c + i % c] += ref_gradient(op->out, at);
        }
        for (size_t i = 0; i < in_count; i++)
            in_gradient[i] = (float)sums[i];
    }
}

static void mean_pool_setup(struct op *op, bool training)
{
    (void)op, (void)training;
}

static void mean_pool_forward(struct device *device, struct op *op, float *values)
{
    size_t c = (size_t)op->in->c, area = ref_pixels(op->in);
    const float *in = op->in->data;
    float *out = op->out->data;

    (void)device, (void)values;
    for (size_t n = 0; n < (size_t)op->in->n; n++)
        for (size_t k = 0; k < c; k++) {
            double sum = 0;

            for (size_t i = 0; i < area; i++)
                sum += in[(n * area + i) * c + k];
            out[n * c + k] = (float)(sum / (double)area);
        }
}

static void mean_pool_backward(struct device *device, struct op *op, const float *values,
                               float *gradients)
{
    size_t c = (size_t)op->in->c, area = ref_pixels(op->in);
    float *in_gradient = op->in->gradients[op->in_slot];

    (void)device, (void)values, (void)gradients;
    for (size_t i = 0; i < ref_elements(op->in); i++)
        in_gradient[i] = (float)(ref_gradient(op->out, i / (area * c) * c + i % c) / (double)area);
}

/* ---- loss ---- */

static void loss_setup(struct op *op, bool training)
{
    (void)training;
    op->saved_bytes = sizeof(struct loss_result);
    op->backward_reads_in = true;
}

/* log(sum(exp(x))) of a row, safe for any size of x. */
static double log_sum_exp(const float *row, size_t classes)
{
    double top = row[0], sum = 0;

    for (size_t k = 1; k < classes; k++)
        top = row[k] > top ? row[k] : top;
    for (size_t k = 0; k < classes; k++)
        sum += exp(row[k] - top);
    return top + log(sum);
}

/* How many classes stand before LABEL: a larger value, or the same with a lower index. A NaN is
 * last of all. */
static size_t rank_of(const float *row, size_t classes, size_t label)
{
    size_t rank = 0;

    if (isnan(row[label]))
        return classes;
    for (size_t k = 0; k < classes; k++)
        rank += row[k] > row[label] || (row[k] == row[label] && k < label);
    return rank;
}

static void loss_forward(struct device *device, struct op *op, float *values)
{
    size_t classes = (size_t)op->in->c;
    double smoothing = op->label_smoothing, sum = 0;
    struct loss_result result = {0};

    (void)values;
    for (int n = 0; n < device->rows; n++) {
        const float *row = (const float *)op->in->data + (size_t)n * classes;
        size_t label = (size_t)device->labels[n], rank = rank_of(row, classes, label);
        double all = log_sum_exp(row, classes), mean = 0;

        for (size_t k = 0; k < classes; k++)
            mean += (all - row[k]) / (double)classes;
        sum += (1 - smoothing) * (all - row[label]) + smoothing * mean;
        result.top1 += rank < 1;
        result.top5 += rank < 5;
    }
    result.loss = sum / device->rows;
    memcpy(op->saved, &result, sizeof result);
}

static void loss_backward(struct device *device, struct op *op, const float *values,
                          float *gradients)
{
    size_t classes = (size_t)op->in->c;
    double smoothing = op->label_smoothing;
    float *out = op->in->gradients[op->in_slot];

    (void)values, (void)gradients;
    for (int n = 0; n < op->in->n; n++, out += classes) {
        const float *row = (const float *)op->in->data + (size_t)n * classes;
        double all = log_sum_exp(row, classes);

        for (size_t k = 0; k < classes; k++) {
            double wanted = smoothing / (double)classes;

            if (n < device->rows && k == (size_t)device->labels[n])
                wanted += 1 - smoothing;
            out[k] = n < device->rows ? (float)((exp(row[k] - all) - wanted) / device->rows) : 0;
        }
    }
}

const struct ref_op ref_norm = {norm_setup, NULL, norm_forward, norm_backward};
const struct ref_op ref_max_pool = {max_pool_setup, NULL, max_pool_forward, max_pool_backward};
const struct ref_op ref_mean_pool = {mean_pool_setup, NULL, mean_pool_forward, mean_pool_backward};
const struct ref_op ref_loss = {loss_setup, NULL, loss_forward, loss_backward};
