/*
 * nodes.c - the nodes that are not products: pointwise, statistics, batch normalisation, pooling,
 * reduction, as train/cuda/door.h words them. Sums are f64, everything else f32.
 */
#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

/* ---- pointwise ---- */

static float apply(enum door_pointwise mode, float x, float b)
{
    switch (mode) {
    case DOOR_ADD:
        return x + b;
    case DOOR_SUB:
        return x - b;
    case DOOR_MUL:
        return x * b;
    case DOOR_CMP_GT:
        return x > b;
    case DOOR_RELU_FWD:
        return x < 0 ? 0 : x;
    case DOOR_RELU_BWD:
        return x > 0 ? b : 0;
    case DOOR_IDENTITY:
        return x;
    }
    return NAN;
}

/* What a dim's index counts for in a value that may be broadcast along it. */
static void steps_of(const struct sim_value *v, int64_t out[4])
{
    out[0] = v->n > 1 ? v->h * v->w * v->c : 0;
    out[1] = v->h > 1 ? v->w * v->c : 0;
    out[2] = v->w > 1 ? v->c : 0;
    out[3] = v->c > 1 ? 1 : 0;
}

int sim_pointwise(const struct sim_run *run)
{
    const bool back = run->node->pointwise == DOOR_RELU_BWD;
    const struct sim_value *x = run->roles[DOOR_X], *b = run->roles[back ? DOOR_DY : DOOR_B];
    const struct sim_value *y = run->roles[back ? DOOR_DX : DOOR_Y];
    const enum door_pointwise mode = run->node->pointwise;
    int64_t sx[4], sb[4];
    float *out = y->at;
    b = b ? b : x;
    steps_of(x, sx);
    steps_of(b, sb);
    for (int64_t n = 0; n < y->n; n++) {
        for (int64_t h = 0; h < y->h; h++) {
            for (int64_t w = 0; w < y->w; w++, out += y->c) {
                const float *px = x->at + n * sx[0] + h * sx[1] + w * sx[2];
                const float *pb = b->at + n * sb[0] + h * sb[1] + w * sb[2];
                for (int64_t c = 0; c < y->c; c++)
                    out[c] = apply(mode, px[c * sx[3]], pb[c * sb[3]]);
            }
        }
    }
    return 0;
}

/* ---- statistics per channel ---- */

/* Two sums per channel in f64, begun at 0. */
struct sums {
    double *first, *second;
};

static int sums_open(struct sums *s, int64_t channels)
{
    s->first = mem_array(2 * (size_t)channels, sizeof(double), "sums");
    s->second = s->first ? s->first + channels : NULL;
    return s->first ? 0 : -ERR_MEMORY;
}

static void sums_close(struct sums *s)
{
    mem_free(s->first);
}

static size_t pixels(const struct sim_value *v)
{
    return (size_t)(v->n * v->h * v->w);
}

int sim_gen_stats(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    struct sums s;
    if (sums_open(&s, x->c))
        return -ERR_MEMORY;
    const float *row = x->at;
    for (size_t p = 0; p < pixels(x); p++, row += x->c) {
        for (int64_t c = 0; c < x->c; c++) {
            s.first[c] += (double)row[c];
            s.second[c] += (double)row[c] * (double)row[c];
        }
    }
    for (int64_t c = 0; c < x->c; c++) {
        run->roles[DOOR_SUM]->at[c] = (float)s.first[c];
        run->roles[DOOR_SQSUM]->at[c] = (float)s.second[c];
    }
    sums_close(&s);
    return 0;
}

/* ---- batch normalisation ---- */

static float *of(const struct sim_run *run, enum door_role role)
{
    return run->roles[role] ? run->roles[role]->at : NULL;
}

/* What both kinds make of a channel's mean and biased variance over COUNT values. */
static void finish_channel(const struct sim_run *run, int64_t c, double mean, double variance,
                           double count)
{
    const double epsilon = run->roles[DOOR_EPSILON]->scalar;
    of(run, DOOR_MEAN)[c] = (float)mean;
    of(run, DOOR_INVSTD)[c] = (float)(1 / sqrt(variance + epsilon));
    if (!run->roles[DOOR_RUNNING_MEAN_OUT])
        return;
    const double momentum = run->roles[DOOR_MOMENTUM]->scalar;
    const double unbiased = variance * (count / (count - 1));
    of(run, DOOR_RUNNING_MEAN_OUT)[c] =
        (float)((1 - momentum) * (double)of(run, DOOR_RUNNING_MEAN_IN)[c] + momentum * mean);
    of(run, DOOR_RUNNING_VAR_OUT)[c] =
        (float)((1 - momentum) * (double)of(run, DOOR_RUNNING_VAR_IN)[c] + momentum * unbiased);
}

int sim_bn_finalize(const struct sim_run *run)
{
    const double count = run->roles[DOOR_COUNT]->scalar;
    for (int64_t c = 0; c < run->roles[DOOR_SUM]->c; c++) {
        double mean = (double)of(run, DOOR_SUM)[c] / count;
        double variance = (double)of(run, DOOR_SQSUM)[c] / count - mean * mean;
        finish_channel(run, c, mean, variance > 0 ? variance : variance <= 0 ? 0 : variance, count);
        float scale = of(run, DOOR_SCALE)[c] * of(run, DOOR_INVSTD)[c];
        of(run, DOOR_EQ_SCALE)[c] = scale;
        of(run, DOOR_EQ_BIAS)[c] = of(run, DOOR_BIAS)[c] - of(run, DOOR_MEAN)[c] * scale;
    }
    return 0;
}

static int train_statistics(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const double count = (double)pixels(x);
    struct sums s;
    if (sums_open(&s, x->c))
        return -ERR_MEMORY;
    const float *row = x->at;
    for (size_t p = 0; p < pixels(x); p++, row += x->c) {
        for (int64_t c = 0; c < x->c; c++)
            s.first[c] += (double)row[c];
    }
    for (int64_t c = 0; c < x->c; c++)
        s.first[c] /= count;
    row = x->at;
    for (size_t p = 0; p < pixels(x); p++, row += x->c) {
        for (int64_t c = 0; c < x->c; c++) {
            double apart = (double)row[c] - s.first[c];
            s.second[c] += apart * apart;
        }
    }
    for (int64_t c = 0; c < x->c; c++)
        finish_channel(run, c, s.first[c], s.second[c] / count, count);
    sums_close(&s);
    return 0;
}

int sim_norm_forward(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const int rc = run->node->training ? train_statistics(run) : 0;
    const float *mean = of(run, DOOR_MEAN), *invstd = of(run, DOOR_INVSTD),
                *scale = of(run, DOOR_SCALE), *bias = of(run, DOOR_BIAS), *row = x->at;
    float *out = of(run, DOOR_Y);
    for (size_t p = 0; p < pixels(x) && !rc; p++, row += x->c, out += x->c) {
        for (int64_t c = 0; c < x->c; c++)
            out[c] = scale[c] * ((row[c] - mean[c]) * invstd[c]) + bias[c];
    }
    return rc;
}

/* DBIAS and DSCALE. */
static int backward_sums(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const float *mean = of(run, DOOR_MEAN), *invstd = of(run, DOOR_INVSTD), *row = x->at,
                *dy = of(run, DOOR_DY);
    struct sums s;
    if (sums_open(&s, x->c))
        return -ERR_MEMORY;
    for (size_t p = 0; p < pixels(x); p++, row += x->c, dy += x->c) {
        for (int64_t c = 0; c < x->c; c++) {
            s.first[c] += (double)dy[c];
            s.second[c] += (double)dy[c] * (double)((row[c] - mean[c]) * invstd[c]);
        }
    }
    for (int64_t c = 0; c < x->c; c++) {
        of(run, DOOR_DBIAS)[c] = (float)s.first[c];
        of(run, DOOR_DSCALE)[c] = (float)s.second[c];
    }
    sums_close(&s);
    return 0;
}

int sim_norm_backward(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const float *mean = of(run, DOOR_MEAN), *invstd = of(run, DOOR_INVSTD),
                *scale = of(run, DOOR_SCALE), *row = x->at, *dy = of(run, DOOR_DY);
    const float *dbias = of(run, DOOR_DBIAS), *dscale = of(run, DOOR_DSCALE);
    const float count = (float)pixels(x);
    float *out = of(run, DOOR_DX);
    int rc = backward_sums(run);
    for (size_t p = 0; p < pixels(x) && !rc; p++, row += x->c, dy += x->c, out += x->c) {
        for (int64_t c = 0; c < x->c; c++) {
            float xhat = (row[c] - mean[c]) * invstd[c];
            out[c] = scale[c] * invstd[c] * (dy[c] - dbias[c] / count - xhat * (dscale[c] / count));
        }
    }
    return rc;
}

int sim_bn_backward_weights(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const float count = (float)pixels(x);
    int rc = backward_sums(run);
    for (int64_t c = 0; c < x->c && !rc; c++) {
        float invstd = of(run, DOOR_INVSTD)[c];
        float a = of(run, DOOR_SCALE)[c] * invstd;
        float slope = a * invstd * of(run, DOOR_DSCALE)[c] / count;
        of(run, DOOR_EQ_DY_SCALE)[c] = a;
        of(run, DOOR_EQ_X_SCALE)[c] = -slope;
        of(run, DOOR_EQ_BIAS)[c] =
            slope * of(run, DOOR_MEAN)[c] - a * of(run, DOOR_DBIAS)[c] / count;
    }
    return rc;
}

/* ---- pooling ---- */

/* One window of a plane of channels: what lies in it. */
struct window {
    int64_t h, w; /* of its first place in x; may lie outside */
};

static struct window window_at(const struct door_node *node, int64_t p, int64_t q)
{
    return (struct window){p * node->stride[0] - node->pre_padding[0],
                           q * node->stride[1] - node->pre_padding[1]};
}

/* Offset in X of a place of the window in picture N; -1: padding. */
static int64_t place_at(const struct sim_value *x, const struct door_node *node,
                        struct window window, int64_t n, int64_t place)
{
    int64_t h = window.h + place / node->window[1], w = window.w + place % node->window[1];
    return h < 0 || w < 0 || h >= x->h || w >= x->w ? -1 : ((n * x->h + h) * x->w + w) * x->c;
}

static void pool_max(const struct sim_run *run, struct window window, int64_t n, float *y,
                     float *index)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const int64_t places = run->node->window[0] * run->node->window[1];
    for (int64_t c = 0; c < x->c; c++)
        y[c] = -INFINITY;
    if (index)
        memset(index, 0, (size_t)x->c * sizeof *index);
    bool any = false;
    for (int64_t place = 0; place < places; place++) {
        int64_t at = place_at(x, run->node, window, n, place);
        for (int64_t c = 0; at >= 0 && c < x->c; c++) {
            float value = x->at[at + c];
            /* The first of several; a NaN is larger than all. */
            if (any && !(value > y[c]) && !(isnan(value) && !isnan(y[c])))
                continue;
            if (any && isnan(y[c]))
                continue;
            y[c] = value;
            if (index)
                index[c] = (float)place;
        }
        any |= at >= 0;
    }
}

static void pool_average(const struct sim_run *run, struct window window, int64_t n, float *y)
{
    const struct sim_value *x = run->roles[DOOR_X];
    const int64_t places = run->node->window[0] * run->node->window[1];
    for (int64_t c = 0; c < x->c; c++) {
        double sum = 0;
        for (int64_t place = 0; place < places; place++) {
            int64_t at = place_at(x, run->node, window, n, place);
            sum += at >= 0 ? (double)x->at[at + c] : 0;
        }
        y[c] = (float)(sum / (double)places);
    }
}

int sim_resample_forward(const struct sim_run *run)
{
    const struct sim_value *y = run->roles[DOOR_Y];
    float *out = y->at, *index = of(run, DOOR_INDEX);
    for (int64_t i = 0; i < y->n * y->h * y->w; i++, out += y->c) {
        struct window window = window_at(run->node, i / y->w % y->h, i % y->w);
        int64_t n = i / y->w / y->h;
        if (run->node->resample == DOOR_MAX)
            pool_max(run, window, n, out, index ? index + i * y->c : NULL);
        else
            pool_average(run, window, n, out);
    }
    return 0;
}

int sim_resample_backward(const struct sim_run *run)
{
    const struct sim_value *dy = run->roles[DOOR_DY], *dx = run->roles[DOOR_DX];
    const int64_t places = run->node->window[0] * run->node->window[1];
    const float *in = dy->at, *index = of(run, DOOR_INDEX);
    memset(dx->at, 0, dx->count * sizeof *dx->at);
    for (int64_t i = 0; i < dy->n * dy->h * dy->w; i++, in += dy->c) {
        struct window window = window_at(run->node, i / dy->w % dy->h, i % dy->w);
        int64_t n = i / dy->w / dy->h;
        for (int64_t c = 0; c < dy->c; c++) {
            if (run->node->resample == DOOR_MAX) {
                int64_t place = (int64_t)index[i * dy->c + c];
                int64_t at =
                    place < 0 || place >= places ? -1 : place_at(dx, run->node, window, n, place);
                if (at < 0)
                    return sim_fault("resample backward: an index names place %lld, which is not "
                                     "in the picture",
                                     (long long)place);
                dx->at[at + c] += in[c];
                continue;
            }
            for (int64_t place = 0; place < places; place++) {
                int64_t at = place_at(dx, run->node, window, n, place);
                if (at >= 0)
                    dx->at[at + c] += in[c] / (float)places;
            }
        }
    }
    return 0;
}

/* ---- reduction ---- */

int sim_reduction(const struct sim_run *run)
{
    const struct sim_value *x = run->roles[DOOR_X], *y = run->roles[DOOR_Y];
    double *sums = mem_array(y->count, sizeof *sums, "sums");
    int64_t s[4];
    const float *in = x->at;
    if (!sums)
        return -ERR_MEMORY;
    steps_of(y, s);
    for (int64_t n = 0; n < x->n; n++) {
        for (int64_t h = 0; h < x->h; h++) {
            for (int64_t w = 0; w < x->w; w++, in += x->c) {
                for (int64_t c = 0; c < x->c; c++)
                    sums[n * s[0] + h * s[1] + w * s[2] + c * s[3]] += (double)in[c];
            }
        }
    }
    for (size_t i = 0; i < y->count; i++)
        y->at[i] = (float)sums[i];
    mem_free(sums);
    return 0;
}
