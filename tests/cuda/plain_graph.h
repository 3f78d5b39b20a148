/*
 * plain_graph.h - a graph computed in f64, straightforwardly, by the words of train/cuda/door.h: it
 * walks N,C,H,W whatever lies how in memory. And a graph on the simulated device beside it, each of
 * its engines held against that.
 */
#ifndef TESTS_CUDA_PLAIN_GRAPH_H
#define TESTS_CUDA_PLAIN_GRAPH_H

#include "common/mem.h"
#include "common/rng.h"
#include "tests/cuda/sim/sim.h"
#include "tests/cuda/sketch.h"
#include "tests/test.h"

/* ---- types, by arithmetic ---- */

/* X to BITS significant bits, with LOWEST the exponent below which they become fewer. */
static inline double to_bits_of(double x, int bits, int lowest)
{
    if (x == 0 || !isfinite(x))
        return x;
    int exponent = ilogb(x) > lowest ? ilogb(x) : lowest;
    return ldexp(nearbyint(ldexp(x, bits - 1 - exponent)), exponent - bits + 1);
}

static inline double round_to(enum door_type type, double x)
{
    double half = to_bits_of(x, 11, -14);
    switch (type) {
    case DOOR_F32:
        return (double)(float)x;
    case DOOR_F16:
        return fabs(half) > 65504 ? copysign(INFINITY, x) : half;
    case DOOR_BF16:
        return to_bits_of(x, 8, -126);
    case DOOR_BOOL:
        return x != 0;
    default:
        return nearbyint(x);
    }
}

static inline double read_at(enum door_type type, const void *memory, int64_t at)
{
    const uint16_t half =
        ((const uint16_t *)memory)[type == DOOR_F16 || type == DOOR_BF16 ? at : 0];
    const int exponent = type == DOOR_F16 ? half >> 10 & 31 : half >> 7 & 255;
    const int fraction = type == DOOR_F16 ? half & 1023 : half & 127;
    const double sign = half >> 15 ? -1 : 1;
    switch (type) {
    case DOOR_F32:
        return (double)((const float *)memory)[at];
    case DOOR_F16:
        return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
    case DOOR_BF16:
        return sign * (exponent ? ldexp(128 + fraction, exponent - 134) : ldexp(fraction, -133));
    case DOOR_I8:
        return ((const int8_t *)memory)[at];
    case DOOR_BOOL:
        return ((const uint8_t *)memory)[at / 8] >> (at % 8) & 1;
    default:
        return NAN;
    }
}

/* X must be a value of the type. */
static inline void write_at(enum door_type type, void *memory, int64_t at, double x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    int exponent = x == 0 ? -99 : ilogb(x);
    int64_t fraction = exponent >= -14 ? (int64_t)ldexp(fabs(x), 10 - exponent) - 1024
                                       : (int64_t)ldexp(fabs(x), 24);
    switch (type) {
    case DOOR_F32:
        ((float *)memory)[at] = f;
        break;
    case DOOR_F16:
        ((uint16_t *)memory)[at] =
            (uint16_t)((x < 0 ? 0x8000 : 0) | (exponent >= -14 ? exponent + 15 : 0) << 10 |
                       fraction);
        break;
    case DOOR_BF16:
        ((uint16_t *)memory)[at] = (uint16_t)(bits >> 16);
        break;
    case DOOR_I8:
        ((int8_t *)memory)[at] = (int8_t)x;
        break;
    case DOOR_BOOL:
        ((uint8_t *)memory)[at / 8] =
            (uint8_t)((((uint8_t *)memory)[at / 8] & ~(1 << (at % 8))) | (x != 0) << (at % 8));
        break;
    default:
        break;
    }
}

/* ---- the plain computation ---- */

struct plain {
    const struct door_tensor *t;
    int64_t d[4]; /* dims; rank 3: the last is 1 */
    double *at;   /* dense, in the order of dims */
};

static inline struct plain plain_of(const struct door_tensor *t)
{
    struct plain p = {
        t, {1, 1, 1, 1},
         NULL
    };
    for (int i = 0; i < t->rank; i++)
        p.d[i] = t->dims[i];
    p.at = mem_array((size_t)(p.d[0] * p.d[1] * p.d[2] * p.d[3]), sizeof *p.at, "values");
    return p;
}

static inline int64_t count_of(const struct plain *p)
{
    return p->d[0] * p->d[1] * p->d[2] * p->d[3];
}

/* Broadcast along dims of 1. */
static inline double *value(const struct plain *p, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t i[4] = {p->d[0] > 1 ? a : 0, p->d[1] > 1 ? b : 0, p->d[2] > 1 ? c : 0,
                          p->d[3] > 1 ? d : 0};
    return &p->at[((i[0] * p->d[1] + i[1]) * p->d[2] + i[2]) * p->d[3] + i[3]];
}

/* Index K of the dense order as the place in memory. */
static inline int64_t place(const struct plain *p, int64_t k)
{
    int64_t at = 0;
    for (int i = 3; i >= 0; i--) {
        at += i < p->t->rank ? k % p->d[i] * p->t->strides[i] : 0;
        k /= p->d[i];
    }
    return at;
}

struct plain_run {
    const struct door_node *node;
    struct plain *r[DOOR_ROLES];
};

#define EACH(p)                                                                                    \
    for (int64_t n = 0; n < (p)->d[0]; n++)                                                        \
        for (int64_t c = 0; c < (p)->d[1]; c++)                                                    \
            for (int64_t h = 0; h < (p)->d[2]; h++)                                                \
                for (int64_t w = 0; w < (p)->d[3]; w++)

/* All three: each triple of x, w and y that belongs together adds to the one that is out. */
static inline void plain_conv(struct plain_run *run)
{
    const struct door_node *node = run->node;
    struct plain *x = run->r[DOOR_X] ? run->r[DOOR_X] : run->r[DOOR_DX];
    struct plain *f = run->r[DOOR_W] ? run->r[DOOR_W] : run->r[DOOR_DW];
    struct plain *y = run->r[DOOR_Y] ? run->r[DOOR_Y] : run->r[DOOR_DY];
    struct plain *out = node->kind == DOOR_CONV_FORWARD         ? y
                        : node->kind == DOOR_CONV_BACKWARD_DATA ? x
                                                                : f;
    memset(out->at, 0, (size_t)count_of(out) * sizeof *out->at);
    EACH(y)
    {
        for (int64_t k = 0; k < f->d[1] * f->d[2] * f->d[3]; k++) {
            int64_t s = k % f->d[3], r = k / f->d[3] % f->d[2], in = k / f->d[3] / f->d[2];
            int64_t row = h * node->stride[0] - node->pre_padding[0] + r * node->dilation[0];
            int64_t column = w * node->stride[1] - node->pre_padding[1] + s * node->dilation[1];
            if (row < 0 || column < 0 || row >= x->d[2] || column >= x->d[3])
                continue;
            double *px = value(x, n, in, row, column), *pf = value(f, c, in, r, s);
            double *py = value(y, n, c, h, w);
            *(out == y   ? py
              : out == x ? px
                         : pf) += out == y   ? *px * *pf
                                  : out == x ? *py * *pf
                                             : *px * *py;
        }
    }
}

static inline void plain_pointwise(struct plain_run *run)
{
    bool back = run->node->pointwise == DOOR_RELU_BWD;
    struct plain *y = run->r[back ? DOOR_DX : DOOR_Y], *b = run->r[back ? DOOR_DY : DOOR_B];
    EACH(y)
    {
        double u = *value(run->r[DOOR_X], n, c, h, w), v = b ? *value(b, n, c, h, w) : 0;
        const double results[] = {
            [DOOR_ADD] = u + v,    [DOOR_SUB] = u - v,           [DOOR_MUL] = u * v,
            [DOOR_CMP_GT] = u > v, [DOOR_RELU_FWD] = fmax(u, 0), [DOOR_RELU_BWD] = u > 0 ? v : 0,
            [DOOR_IDENTITY] = u};
        *value(y, n, c, h, w) = results[run->node->pointwise];
    }
}

/* Sums over n,h,w of channel C. */
struct channel {
    double m, x, xx, dy, dyxhat;
};

static inline struct channel channel_sums(struct plain_run *run, int64_t channel, double mean,
                                          double invstd)
{
    struct channel s = {0, 0, 0, 0, 0};
    EACH(run->r[DOOR_X])
    {
        if (c != channel)
            continue;
        double x = *value(run->r[DOOR_X], n, c, h, w);
        double dy = run->r[DOOR_DY] ? *value(run->r[DOOR_DY], n, c, h, w) : 0;
        s.m++;
        s.x += x;
        s.xx += (x - mean) * (x - mean);
        s.dy += dy;
        s.dyxhat += dy * (x - mean) * invstd;
    }
    return s;
}

static inline double *at_channel(struct plain_run *run, enum door_role role, int64_t c)
{
    static double nothing;
    return run->r[role] ? value(run->r[role], 0, c, 0, 0) : &nothing;
}

static inline void plain_statistics(struct plain_run *run, int64_t c, double mean, double variance,
                                    double m)
{
    double momentum = *at_channel(run, DOOR_MOMENTUM, 0);
    *at_channel(run, DOOR_MEAN, c) = mean;
    *at_channel(run, DOOR_INVSTD, c) = 1 / sqrt(variance + *at_channel(run, DOOR_EPSILON, 0));
    *at_channel(run, DOOR_RUNNING_MEAN_OUT, c) =
        (1 - momentum) * *at_channel(run, DOOR_RUNNING_MEAN_IN, c) + momentum * mean;
    *at_channel(run, DOOR_RUNNING_VAR_OUT, c) =
        (1 - momentum) * *at_channel(run, DOOR_RUNNING_VAR_IN, c) +
        momentum * variance * m / (m - 1);
}

static inline void plain_norm(struct plain_run *run)
{
    struct plain *x = run->r[DOOR_X];
    for (int64_t c = 0; c < (x ? x->d[1] : run->r[DOOR_SUM]->d[1]); c++) {
        double *mean = at_channel(run, DOOR_MEAN, c), *invstd = at_channel(run, DOOR_INVSTD, c);
        double scale = *at_channel(run, DOOR_SCALE, c), bias = *at_channel(run, DOOR_BIAS, c);
        if (run->node->kind == DOOR_BN_FINALIZE) {
            double m = *at_channel(run, DOOR_COUNT, 0), average = *at_channel(run, DOOR_SUM, c) / m;
            plain_statistics(run, c, average,
                             *at_channel(run, DOOR_SQSUM, c) / m - average * average, m);
            *at_channel(run, DOOR_EQ_SCALE, c) = scale * *invstd;
            *at_channel(run, DOOR_EQ_BIAS, c) = bias - *mean * scale * *invstd;
            continue;
        }
        if (run->node->training) {
            struct channel s = channel_sums(run, c, 0, 0);
            plain_statistics(run, c, s.x / s.m, channel_sums(run, c, s.x / s.m, 0).xx / s.m, s.m);
        }
        struct channel s = channel_sums(run, c, *mean, *invstd);
        double a = scale * *invstd;
        if (run->node->kind != DOOR_NORM_FORWARD) {
            *at_channel(run, DOOR_DSCALE, c) = s.dyxhat;
            *at_channel(run, DOOR_DBIAS, c) = s.dy;
        }
        *at_channel(run, DOOR_EQ_DY_SCALE, c) = a;
        *at_channel(run, DOOR_EQ_X_SCALE, c) = -a * *invstd * s.dyxhat / s.m;
        *at_channel(run, DOOR_EQ_BIAS, c) = a * (-s.dy / s.m + *mean * *invstd * s.dyxhat / s.m);
        struct plain *out = run->r[DOOR_Y] ? run->r[DOOR_Y] : run->r[DOOR_DX];
        for (int64_t i = 0; out && i < x->d[0] * x->d[2] * x->d[3]; i++) {
            int64_t w = i % x->d[3], h = i / x->d[3] % x->d[2], n = i / x->d[3] / x->d[2];
            double xhat = (*value(x, n, c, h, w) - *mean) * *invstd;
            *value(out, n, c, h, w) = run->r[DOOR_Y] ? scale * xhat + bias
                                                     : a * (*value(run->r[DOOR_DY], n, c, h, w) -
                                                            s.dy / s.m - xhat * s.dyxhat / s.m);
        }
    }
}

static inline void plain_pool(struct plain_run *run)
{
    const struct door_node *node = run->node;
    const bool forward = node->kind == DOOR_RESAMPLE_FORWARD, max = node->resample == DOOR_MAX;
    struct plain *x = run->r[forward ? DOOR_X : DOOR_DX], *y = run->r[forward ? DOOR_Y : DOOR_DY];
    struct plain *index = run->r[DOOR_INDEX];
    if (!forward)
        memset(x->at, 0, (size_t)count_of(x) * sizeof *x->at);
    EACH(y)
    {
        double best = -INFINITY, sum = 0, *py = value(y, n, c, h, w);
        int64_t taken = -1;
        for (int64_t k = 0; k < node->window[0] * node->window[1]; k++) {
            int64_t row = h * node->stride[0] - node->pre_padding[0] + k / node->window[1];
            int64_t column = w * node->stride[1] - node->pre_padding[1] + k % node->window[1];
            if (row < 0 || column < 0 || row >= x->d[2] || column >= x->d[3])
                continue;
            double *px = value(x, n, c, row, column);
            if (!forward && max)
                *px += *value(index, n, c, h, w) == (double)k ? *py : 0;
            else if (!forward)
                *px += *py / (double)(node->window[0] * node->window[1]);
            else if (*px > best) {
                best = *px;
                taken = k;
            }
            sum += *px;
        }
        if (forward)
            *py = max ? best : sum / (double)(node->window[0] * node->window[1]);
        if (forward && index)
            *value(index, n, c, h, w) = (double)taken;
    }
}

static inline void plain_node(struct plain_run *run)
{
    struct plain *x = run->r[DOOR_X], *y = run->r[DOOR_Y];
    switch (run->node->kind) {
    case DOOR_CONV_FORWARD:
    case DOOR_CONV_BACKWARD_DATA:
    case DOOR_CONV_BACKWARD_FILTER:
        plain_conv(run);
        break;
    case DOOR_POINTWISE:
        plain_pointwise(run);
        break;
    case DOOR_GEN_STATS:
        for (int64_t c = 0; c < x->d[1]; c++) {
            struct channel s = channel_sums(run, c, 0, 0);
            *at_channel(run, DOOR_SUM, c) = s.x;
            *at_channel(run, DOOR_SQSUM, c) = s.xx;
        }
        break;
    case DOOR_BN_FINALIZE:
    case DOOR_NORM_FORWARD:
    case DOOR_NORM_BACKWARD:
    case DOOR_BN_BACKWARD_WEIGHTS:
        plain_norm(run);
        break;
    case DOOR_RESAMPLE_FORWARD:
    case DOOR_RESAMPLE_BACKWARD:
        plain_pool(run);
        break;
    case DOOR_MATMUL:
        for (int64_t i = 0; i < count_of(run->r[DOOR_C]); i++) {
            int64_t row = i / run->r[DOOR_C]->d[2], column = i % run->r[DOOR_C]->d[2];
            run->r[DOOR_C]->at[i] = 0;
            for (int64_t k = 0; k < run->r[DOOR_A]->d[2]; k++)
                run->r[DOOR_C]->at[i] +=
                    *value(run->r[DOOR_A], 0, row, k, 0) * *value(run->r[DOOR_B], 0, k, column, 0);
        }
        break;
    case DOOR_REDUCTION:
        memset(y->at, 0, (size_t)count_of(y) * sizeof *y->at);
        EACH(x)
        {
            *value(y, n, c, h, w) += *value(x, n, c, h, w);
        }
        break;
    case DOOR_KINDS:
        break;
    }
}

/* ---- a graph on the device and plainly ---- */

static struct door *door;
static struct door_stream *stream;
static struct rng rng;

static inline bool begin(void)
{
    rng_init(&rng, 20, RNG_TEST, 0, 0);
    CHECK_INT(door_open(&door, 0), 0);
    CHECK_INT(door_stream_open(door, &stream), 0);
    return door != NULL && stream != NULL;
}

static inline void end(void)
{
    door_stream_close(door, stream);
    door_close(door);
    CHECK_TEXT(sim_take_fault(), "");
}

/* One tensor of a case: on the host, on the device, and plainly. */
struct seat {
    struct plain plain;
    void *host, *device;
    size_t bytes;
    bool output;
};

static inline enum door_role first_role(const struct door_graph *g, int64_t uid, bool *output)
{
    static const bool outputs[DOOR_ROLES] = {[DOOR_Y] = true,
                                             [DOOR_DX] = true,
                                             [DOOR_DW] = true,
                                             [DOOR_C] = true,
                                             [DOOR_DSCALE] = true,
                                             [DOOR_DBIAS] = true,
                                             [DOOR_RUNNING_MEAN_OUT] = true,
                                             [DOOR_RUNNING_VAR_OUT] = true,
                                             [DOOR_EQ_SCALE] = true,
                                             [DOOR_EQ_BIAS] = true,
                                             [DOOR_EQ_DY_SCALE] = true,
                                             [DOOR_EQ_X_SCALE] = true};
    for (int i = 0; i < g->node_count; i++) {
        const struct door_node *n = &g->nodes[i];
        for (int role = 0; role < DOOR_ROLES; role++) {
            if (n->uids[role] != uid)
                continue;
            *output = outputs[role] || (role == DOOR_INDEX && n->kind == DOOR_RESAMPLE_FORWARD) ||
                      ((role == DOOR_SUM || role == DOOR_SQSUM) && n->kind == DOOR_GEN_STATS) ||
                      ((role == DOOR_MEAN || role == DOOR_INVSTD) &&
                       (n->kind == DOOR_BN_FINALIZE || n->training));
            return (enum door_role)role;
        }
    }
    return DOOR_ROLES;
}

/* A place of the window that lies in the picture. */
static inline double valid_place(const struct door_graph *g, const struct plain *p, int64_t k)
{
    const struct door_node *n = &g->nodes[0];
    const struct door_tensor *dx = door_graph_tensor(g, n->uids[DOOR_DX]);
    int64_t w = k % p->d[3], h = k / p->d[3] % p->d[2];
    for (;;) {
        int64_t place = (int64_t)rng_below(&rng, (uint64_t)(n->window[0] * n->window[1]));
        int64_t row = h * n->stride[0] - n->pre_padding[0] + place / n->window[1];
        int64_t column = w * n->stride[1] - n->pre_padding[1] + place % n->window[1];
        if (row >= 0 && column >= 0 && row < dx->dims[2] && column < dx->dims[3])
            return (double)place;
    }
}

static inline void fill_seat(const struct door_graph *g, struct seat *s)
{
    const struct door_tensor *t = s->plain.t;
    enum door_role role = first_role(g, t->uid, &s->output);
    for (int64_t k = 0; k < count_of(&s->plain); k++) {
        double x = rng_normal(&rng);
        if (role == DOOR_INVSTD || role == DOOR_RUNNING_VAR_IN || role == DOOR_SQSUM)
            x = 500 + fabs(x);
        if (role == DOOR_INVSTD)
            x /= 500;
        if (t->type == DOOR_BOOL)
            x = x > 0;
        if (t->type == DOOR_I8 && !s->output)
            x = valid_place(g, &s->plain, k);
        if (t->by_value)
            x = role == DOOR_EPSILON ? 0.015625 : role == DOOR_MOMENTUM ? 0.125 : 0;
        s->plain.at[k] = t->type == DOOR_I64 ? 77 : round_to(t->type, x);
        if (t->is_virtual || s->output || !s->host)
            continue;
        if (t->type == DOOR_I64)
            *(int64_t *)s->host = 77;
        else
            write_at(t->type, s->host, place(&s->plain, k), s->plain.at[k]);
    }
}

static inline void seats_open(const struct door_graph *g, struct seat *seats)
{
    for (int i = 0; i < g->tensor_count; i++) {
        const struct door_tensor *t = &g->tensors[i];
        seats[i] = (struct seat){.plain = plain_of(t), .bytes = door_tensor_bytes(t)};
        if (!t->is_virtual) {
            CHECK_INT(door_host_alloc(door, seats[i].bytes, "a tensor on the host", &seats[i].host),
                      0);
            CHECK_INT(door_alloc(door, seats[i].bytes, "a tensor", &seats[i].device), 0);
        }
        fill_seat(g, &seats[i]);
        if (!t->is_virtual && !seats[i].output)
            CHECK_INT(
                door_copy(door, stream, DOOR_IN, seats[i].device, seats[i].host, seats[i].bytes),
                0);
    }
    CHECK_INT(door_stream_sync(door, stream), 0);
}

static inline void seats_close(const struct door_graph *g, struct seat *seats)
{
    for (int i = 0; i < g->tensor_count; i++) {
        door_free(door, seats[i].device);
        door_host_free(door, seats[i].host);
        mem_free(seats[i].plain.at);
    }
}

static inline void compute_plainly(const struct door_graph *g, struct seat *seats)
{
    for (int i = 0; i < g->node_count; i++) {
        struct plain_run run = {.node = &g->nodes[i]};
        for (int role = 0; role < DOOR_ROLES; role++) {
            const struct door_tensor *t = door_graph_tensor(g, g->nodes[i].uids[role]);
            run.r[role] = t ? &seats[t - g->tensors].plain : NULL;
        }
        plain_node(&run);
        /* A tensor that a later node reads is a value of its type by then. */
        for (int role = 0; role < DOOR_ROLES; role++) {
            bool output = false;
            if (!run.r[role])
                continue;
            first_role(g, run.r[role]->t->uid, &output);
            for (int64_t k = 0; output && k < count_of(run.r[role]); k++)
                run.r[role]->at[k] = round_to(run.r[role]->t->type, run.r[role]->at[k]);
        }
    }
}

static inline int run_plan(const struct door_graph *g, struct seat *seats, struct door_plan *plan)
{
    struct door_pointer pointers[DOOR_MAX_TENSORS];
    size_t bytes = door_plan_info(plan)->workspace_bytes;
    void *workspace = NULL;
    int count = 0;
    if (bytes)
        CHECK_INT(door_alloc(door, bytes, "a workspace", &workspace), 0);
    for (int i = 0; i < g->tensor_count; i++) {
        if (!g->tensors[i].is_virtual)
            pointers[count++] = (struct door_pointer){
                g->tensors[i].uid, g->tensors[i].by_value ? seats[i].host : seats[i].device};
    }
    int rc = door_plan_run(door, plan, stream, pointers, count, workspace);
    for (int i = 0; i < g->tensor_count && !rc; i++) {
        if (seats[i].output && !g->tensors[i].is_virtual)
            CHECK_INT(
                door_copy(door, stream, DOOR_OUT, seats[i].host, seats[i].device, seats[i].bytes),
                0);
    }
    CHECK_INT(door_stream_sync(door, stream), 0);
    door_free(door, workspace);
    return rc;
}

/* The largest error of an output, against the sizes of its values. */
static inline double compare(const struct door_graph *g, const struct seat *seats)
{
    double worst = 0;
    for (int i = 0; i < g->tensor_count; i++) {
        const struct seat *s = &seats[i];
        double largest = 1e-3;
        for (int64_t k = 0; k < count_of(&s->plain); k++)
            largest = fmax(largest, fabs(s->plain.at[k]));
        for (int64_t k = 0; s->output && s->host && k < count_of(&s->plain); k++) {
            double got = read_at(s->plain.t->type, s->host, place(&s->plain, k));
            double error = fabs(got - s->plain.at[k]) / largest;
            worst = error > worst || isnan(error) ? error : worst;
            if (isnan(worst))
                return worst;
        }
    }
    return worst;
}

static inline double tolerance_of(const struct door_graph *g, const struct door_plan_info *info)
{
    enum door_type type = DOOR_F32;
    bool product = false;
    for (int i = 0; i < g->tensor_count; i++)
        type = g->tensors[i].type == DOOR_F16 || g->tensors[i].type == DOOR_BF16
                   ? g->tensors[i].type
                   : type;
    for (int i = 0; i < g->node_count; i++)
        product |= g->nodes[i].kind < DOOR_POINTWISE || g->nodes[i].kind == DOOR_MATMUL;
    if (type == DOOR_F32)
        return product && info->tensor_cores ? 2e-3 : 2e-6;
    return type == DOOR_F16 ? 1e-3 : 8e-3;
}

/* All its engines against the plain computation. */
static inline void check_graph(const struct door_graph *g)
{
    const struct door_wish wish = {(size_t)1 << 20, false, DOOR_CORES_PREFER};
    struct seat seats[DOOR_MAX_TENSORS];
    struct door_plan *plans[16];
    int count;
    CHECK_INT(door_plans_open(door, g, &wish, 16, plans, &count), 0);
    if (!count)
        return;
    CHECK(count >= 2);
    seats_open(g, seats);
    compute_plainly(g, seats);
    for (int i = 0; i < count; i++) {
        const struct door_plan_info *info = door_plan_info(plans[i]);
        CHECK_INT(run_plan(g, seats, plans[i]), 0);
        double error = compare(g, seats), allowed = tolerance_of(g, info);
        if (!(error <= allowed)) {
            printf("%s, %s: off by %g, more than %g\n", g->name, info->engine, error, allowed);
            test_failures++;
        }
        door_plan_close(door, plans[i]);
    }
    seats_close(g, seats);
}

/* ---- shapes ---- */

static const enum door_type types[] = {DOOR_F32, DOOR_F16, DOOR_BF16};
static const struct sketch_conv shapes[] = {
    {2, 8,  7,  9,  16, 3, 1, DOOR_F32},
    {1, 5,  6,  7,  3,  1, 1, DOOR_F32},
    {3, 16, 9,  5,  21, 3, 2, DOOR_F32},
    {2, 8,  11, 13, 17, 7, 2, DOOR_F32},
    {2, 70, 4,  4,  33, 1, 2, DOOR_F32},
};

#endif
