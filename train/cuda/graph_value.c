/*
 * graph_value.c - see graph_value.h. One function for each kind of node; a value asks for the
 * values it is made of.
 */
#include "train/cuda/graph_value.h"

#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

/* Of a sum in f32, in any order, by tensor cores too: a share of its terms' absolute sum. */
#define SUM_ERROR 0x1p-18
/* How many errors away a value may be. */
#define ERRORS 3

enum { MEMORIES = 64 };

/* Two sums over a channel, of one node. */
struct memory {
    int node;
    int64_t channel;
    struct number first, second;
};

struct graph_values {
    const struct door_graph *graph;
    const struct seeded *contents;
    /* By tensor: the node that writes it (-1: none) and as what. */
    int writer[DOOR_MAX_TENSORS];
    enum door_role written_as[DOOR_MAX_TENSORS];
    /* By node and role: the tensor; -1: none. */
    int parts[DOOR_MAX_NODES][DOOR_ROLES];
    struct memory memories[MEMORIES];
    int memory_count, next_memory;
    /* Given numbers of a channel of a tensor that the graph writes; NULL: none. */
    int given;
    const double *column;
};

int graph_values_open(struct graph_values **out, const struct door_graph *graph,
                      const struct seeded *contents)
{
    struct graph_values *v = mem_array(1, sizeof *v, "values of a graph");

    if (!v)
        return -ERR_MEMORY;
    v->graph = graph;
    v->contents = contents;
    for (int i = 0; i < DOOR_MAX_TENSORS; i++)
        v->writer[i] = -1;
    for (int n = 0; n < graph->node_count; n++)
        for (int role = 0; role < DOOR_ROLES; role++) {
            int64_t uid = graph->nodes[n].uids[role];
            const struct door_tensor *t = uid ? door_graph_tensor(graph, uid) : NULL;

            v->parts[n][role] = t ? (int)(t - graph->tensors) : -1;
            if (t && seeded_writes(&graph->nodes[n], (enum door_role)role)) {
                v->writer[t - graph->tensors] = n;
                v->written_as[t - graph->tensors] = (enum door_role)role;
            }
        }
    *out = v;
    return 0;
}

void graph_values_close(struct graph_values *values)
{
    mem_free(values);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static struct number plus(struct number a, struct number b)
{
    return (struct number){a.value + b.value, hypot(a.error, b.error)};
}

static struct number minus(struct number a, struct number b)
{
    return (struct number){a.value - b.value, hypot(a.error, b.error)};
}

static struct number times(struct number a, struct number b)
{
    double value = a.value * b.value;

    if (a.error == 0 && b.error == 0)
        return (struct number){value, 0};
    return (struct number){value, hypot(a.value * b.error, b.value * a.error)};
}

static struct number exactly(double value)
{
    return (struct number){value, 0};
}

/* A sum of many terms. */
struct sum {
    double value, size, squares;
};

static void add(struct sum *s, struct number term)
{
    s->value += term.value;
    s->size += fabs(term.value);
    s->squares += term.error * term.error;
}

static struct number sum_of(const struct sum *s)
{
    return (struct number){s->value, sqrt(s->squares) + SUM_ERROR * s->size};
}

/* A rounding to TYPE may go to either side. */
static double unit_of(enum door_type type, double value)
{
    switch (type) {
    case DOOR_F32:
        return fabs(value) * 0x1p-23;
    case DOOR_BF16:
        return fabs(value) * 0x1p-8;
    case DOOR_F16:
        return fmax(fabs(value) * 0x1p-11, 0x1p-25);
    default:
        return 0;
    }
}

/* ---- parts ----------------------------------------------------------------------------------- */

static const struct door_tensor *tensor_of(const struct graph_values *v, int node,
                                           enum door_role role)
{
    return &v->graph->tensors[v->parts[node][role]];
}

/* The element of a part; along dimensions of 1 it is repeated. */
static struct number part(struct graph_values *v, int node, enum door_role role,
                          const int64_t index[4])
{
    int tensor = v->parts[node][role];
    const struct door_tensor *t = &v->graph->tensors[tensor];
    int64_t at[4] = {0};

    for (int i = 0; i < t->rank; i++)
        at[i] = t->dims[i] == 1 ? 0 : index[i];
    return graph_value(v, tensor, at);
}

static struct number channel_part(struct graph_values *v, int node, enum door_role role,
                                  int64_t channel)
{
    return part(v, node, role, (const int64_t[4]){0, channel, 0, 0});
}

/* ---- convolutions and products --------------------------------------------------------------- */

/* The input row (axis 0) or column that output OUT meets at place R of the window. */
static int64_t input_place(const struct door_node *n, int axis, int64_t out, int64_t r)
{
    return out * n->stride[axis] - n->pre_padding[axis] + r * n->dilation[axis];
}

static struct number conv_forward(struct graph_values *v, int node, const int64_t *i)
{
    const struct door_node *n = &v->graph->nodes[node];
    const struct door_tensor *x = tensor_of(v, node, DOOR_X), *w = tensor_of(v, node, DOOR_W);
    struct sum sum = {0};

    for (int64_t c = 0; c < w->dims[1]; c++)
        for (int64_t r = 0; r < w->dims[2]; r++)
            for (int64_t s = 0; s < w->dims[3]; s++) {
                int64_t h = input_place(n, 0, i[2], r), q = input_place(n, 1, i[3], s);

                if (h < 0 || h >= x->dims[2] || q < 0 || q >= x->dims[3])
                    continue;
                add(&sum, times(part(v, node, DOOR_X, (const int64_t[4]){i[0], c, h, q}),
                                part(v, node, DOOR_W, (const int64_t[4]){i[1], c, r, s})));
            }
    return sum_of(&sum);
}

/* The output that meets input PLACE at place R of the window; -1: none. */
static int64_t output_place(const struct door_node *n, int axis, int64_t place, int64_t r,
                            int64_t limit)
{
    int64_t from = place + n->pre_padding[axis] - r * n->dilation[axis];

    if (from < 0 || from % n->stride[axis] || from / n->stride[axis] >= limit)
        return -1;
    return from / n->stride[axis];
}

static struct number conv_data(struct graph_values *v, int node, const int64_t *i)
{
    const struct door_node *n = &v->graph->nodes[node];
    const struct door_tensor *dy = tensor_of(v, node, DOOR_DY), *w = tensor_of(v, node, DOOR_W);
    struct sum sum = {0};

    for (int64_t k = 0; k < w->dims[0]; k++)
        for (int64_t r = 0; r < w->dims[2]; r++)
            for (int64_t s = 0; s < w->dims[3]; s++) {
                int64_t p = output_place(n, 0, i[2], r, dy->dims[2]);
                int64_t q = output_place(n, 1, i[3], s, dy->dims[3]);

                if (p < 0 || q < 0)
                    continue;
                add(&sum, times(part(v, node, DOOR_DY, (const int64_t[4]){i[0], k, p, q}),
                                part(v, node, DOOR_W, (const int64_t[4]){k, i[1], r, s})));
            }
    return sum_of(&sum);
}

static struct number conv_filter(struct graph_values *v, int node, const int64_t *i)
{
    const struct door_node *n = &v->graph->nodes[node];
    const struct door_tensor *x = tensor_of(v, node, DOOR_X), *dy = tensor_of(v, node, DOOR_DY);
    struct sum sum = {0};

    for (int64_t m = 0; m < dy->dims[0]; m++)
        for (int64_t p = 0; p < dy->dims[2]; p++)
            for (int64_t q = 0; q < dy->dims[3]; q++) {
                int64_t h = input_place(n, 0, p, i[2]), w = input_place(n, 1, q, i[3]);

                if (h < 0 || h >= x->dims[2] || w < 0 || w >= x->dims[3])
                    continue;
                add(&sum, times(part(v, node, DOOR_DY, (const int64_t[4]){m, i[0], p, q}),
                                part(v, node, DOOR_X, (const int64_t[4]){m, i[1], h, w})));
            }
    return sum_of(&sum);
}

static struct number product(struct graph_values *v, int node, const int64_t *i)
{
    struct sum sum = {0};

    for (int64_t k = 0; k < tensor_of(v, node, DOOR_A)->dims[2]; k++)
        add(&sum, times(part(v, node, DOOR_A, (const int64_t[4]){0, i[1], k, 0}),
                        part(v, node, DOOR_B, (const int64_t[4]){0, k, i[2], 0})));
    return sum_of(&sum);
}

/* ---- element by element ---------------------------------------------------------------------- */

static struct number pointwise(struct graph_values *v, int node, const int64_t *i)
{
    struct number x = part(v, node, DOOR_X, i), b = {0}, d;

    if (v->parts[node][DOOR_B] >= 0)
        b = part(v, node, DOOR_B, i);
    switch (v->graph->nodes[node].pointwise) {
    case DOOR_ADD:
        return plus(x, b);
    case DOOR_SUB:
        return minus(x, b);
    case DOOR_MUL:
        return times(x, b);
    case DOOR_CMP_GT:
        d = minus(x, b);
        return (struct number){d.value > 0, d.error > 0 && fabs(d.value) <= ERRORS * d.error};
    case DOOR_RELU_FWD:
        if (x.value + ERRORS * x.error < 0)
            return exactly(0);
        return (struct number){x.value > 0 ? x.value : 0, x.error};
    case DOOR_RELU_BWD:
        d = part(v, node, DOOR_DY, i);
        if (x.error > 0 && fabs(x.value) <= ERRORS * x.error)
            return (struct number){x.value > 0 ? d.value : 0, fabs(d.value) + d.error};
        return x.value > 0 ? d : exactly(0);
    default:
        return x;
    }
}

/* ---- normalisation --------------------------------------------------------------------------- */

static struct memory *remembered(struct graph_values *v, int node, int64_t channel)
{
    for (int i = 0; i < v->memory_count; i++)
        if (v->memories[i].node == node && v->memories[i].channel == channel)
            return &v->memories[i];
    return NULL;
}

static struct memory *remember(struct graph_values *v, int node, int64_t channel,
                               struct number first, struct number second)
{
    struct memory *m = &v->memories[v->next_memory];

    v->next_memory = (v->next_memory + 1) % MEMORIES;
    if (v->memory_count < MEMORIES)
        v->memory_count++;
    *m = (struct memory){node, channel, first, second};
    return m;
}

static double values_of_channel(const struct door_tensor *x)
{
    return (double)x->dims[0] * (double)x->dims[2] * (double)x->dims[3];
}

/* Sums over a channel of X: with MEAN NULL of x and x*x; else only the first, of (x - mean)^2. */
static void channel_sums(struct graph_values *v, int node, int64_t channel, const double *mean,
                         struct number *first, struct number *second)
{
    const struct door_tensor *x = tensor_of(v, node, DOOR_X);
    struct sum sums[2] = {{.value = 0}, {.value = 0}};

    for (int64_t n = 0; n < x->dims[0]; n++)
        for (int64_t h = 0; h < x->dims[2]; h++)
            for (int64_t w = 0; w < x->dims[3]; w++) {
                struct number value = part(v, node, DOOR_X, (const int64_t[4]){n, channel, h, w});

                if (mean)
                    value = minus(value, exactly(*mean));
                add(&sums[0], mean ? times(value, value) : value);
                if (!mean)
                    add(&sums[1], times(value, value));
            }
    *first = sum_of(&sums[0]);
    if (second)
        *second = sum_of(&sums[1]);
}

/* first: mean; second: biased variance. */
static struct memory *statistics(struct graph_values *v, int node, int64_t channel)
{
    struct memory *m = remembered(v, node, channel);
    double count = values_of_channel(tensor_of(v, node, DOOR_X));
    struct number mean, variance;

    if (m)
        return m;
    channel_sums(v, node, channel, NULL, &mean, NULL);
    mean = times(mean, exactly(1 / count));
    channel_sums(v, node, channel, &mean.value, &variance, NULL);
    return remember(v, node, channel, mean, times(variance, exactly(1 / count)));
}

/* 1 / sqrt(variance + epsilon) */
static struct number inverse_of(struct number variance, struct number epsilon)
{
    double value = 1 / sqrt(variance.value + epsilon.value);

    return (struct number){value, 0.5 * value * variance.error / (variance.value + epsilon.value) +
                                      value * 0x1p-22};
}

/* (1 - momentum) * old + momentum * new */
static struct number moved(struct graph_values *v, int node, enum door_role old, int64_t channel,
                           struct number new)
{
    struct number momentum = channel_part(v, node, DOOR_MOMENTUM, 0);

    return plus(times(channel_part(v, node, old, channel), exactly(1 - momentum.value)),
                times(new, momentum));
}

static struct number norm_forward(struct graph_values *v, int node, enum door_role role,
                                  const int64_t *i)
{
    int64_t channel = i[1];
    bool training = v->graph->nodes[node].training;
    double count = values_of_channel(tensor_of(v, node, DOOR_X));
    struct number mean, invstd;

    if (training) {
        const struct memory *m = statistics(v, node, channel);

        mean = m->first;
        invstd = inverse_of(m->second, channel_part(v, node, DOOR_EPSILON, 0));
    } else {
        mean = channel_part(v, node, DOOR_MEAN, channel);
        invstd = channel_part(v, node, DOOR_INVSTD, channel);
    }
    switch (role) {
    case DOOR_MEAN:
        return mean;
    case DOOR_INVSTD:
        return invstd;
    case DOOR_RUNNING_MEAN_OUT:
        return moved(v, node, DOOR_RUNNING_MEAN_IN, channel, mean);
    case DOOR_RUNNING_VAR_OUT:
        return moved(v, node, DOOR_RUNNING_VAR_IN, channel,
                     times(statistics(v, node, channel)->second, exactly(count / (count - 1))));
    default:
        return plus(times(times(minus(part(v, node, DOOR_X, i), mean), invstd),
                          channel_part(v, node, DOOR_SCALE, channel)),
                    channel_part(v, node, DOOR_BIAS, channel));
    }
}

/* first: the sum of dy; second: of dy * xhat. */
static struct memory *backward_sums(struct graph_values *v, int node, int64_t channel)
{
    const struct door_tensor *x = tensor_of(v, node, DOOR_X);
    struct memory *m = remembered(v, node, channel);
    struct number mean = channel_part(v, node, DOOR_MEAN, channel);
    struct number invstd = channel_part(v, node, DOOR_INVSTD, channel);
    struct sum bias = {0}, scale = {0};

    if (m)
        return m;
    for (int64_t n = 0; n < x->dims[0]; n++)
        for (int64_t h = 0; h < x->dims[2]; h++)
            for (int64_t w = 0; w < x->dims[3]; w++) {
                const int64_t at[4] = {n, channel, h, w};
                struct number dy = part(v, node, DOOR_DY, at);
                struct number normal = times(minus(part(v, node, DOOR_X, at), mean), invstd);

                add(&bias, dy);
                add(&scale, times(dy, normal));
            }
    return remember(v, node, channel, sum_of(&bias), sum_of(&scale));
}

static struct number norm_backward(struct graph_values *v, int node, enum door_role role,
                                   const int64_t *i)
{
    int64_t channel = i[1];
    struct memory *m = backward_sums(v, node, channel);
    struct number dbias = m->first, dscale = m->second, mean, invstd, share, a, normal;
    double count = values_of_channel(tensor_of(v, node, DOOR_X));

    mean = channel_part(v, node, DOOR_MEAN, channel);
    invstd = channel_part(v, node, DOOR_INVSTD, channel);
    a = times(channel_part(v, node, DOOR_SCALE, channel), invstd);
    share = times(times(a, invstd), times(dscale, exactly(-1 / count)));
    switch (role) {
    case DOOR_DBIAS:
        return dbias;
    case DOOR_DSCALE:
        return dscale;
    case DOOR_EQ_DY_SCALE:
        return a;
    case DOOR_EQ_X_SCALE:
        return share;
    case DOOR_EQ_BIAS:
        return minus(times(a, times(dbias, exactly(-1 / count))), times(share, mean));
    default:
        normal = times(minus(part(v, node, DOOR_X, i), mean), invstd);
        return times(a, minus(minus(part(v, node, DOOR_DY, i), times(dbias, exactly(1 / count))),
                              times(normal, times(dscale, exactly(1 / count)))));
    }
}

static struct number gen_stats(struct graph_values *v, int node, enum door_role role,
                               const int64_t *i)
{
    struct memory *m = remembered(v, node, i[1]);
    struct number sum, squares;

    if (!m) {
        channel_sums(v, node, i[1], NULL, &sum, &squares);
        m = remember(v, node, i[1], sum, squares);
    }
    return role == DOOR_SUM ? m->first : m->second;
}

static struct number bn_finalize(struct graph_values *v, int node, enum door_role role,
                                 const int64_t *i)
{
    int64_t channel = i[1];
    double count = channel_part(v, node, DOOR_COUNT, 0).value;
    struct number mean = times(channel_part(v, node, DOOR_SUM, channel), exactly(1 / count));
    struct number variance = minus(
        times(channel_part(v, node, DOOR_SQSUM, channel), exactly(1 / count)), times(mean, mean));
    struct number invstd = inverse_of(variance, channel_part(v, node, DOOR_EPSILON, 0));
    struct number scale = times(channel_part(v, node, DOOR_SCALE, channel), invstd);

    switch (role) {
    case DOOR_MEAN:
        return mean;
    case DOOR_INVSTD:
        return invstd;
    case DOOR_RUNNING_MEAN_OUT:
        return moved(v, node, DOOR_RUNNING_MEAN_IN, channel, mean);
    case DOOR_RUNNING_VAR_OUT:
        return moved(v, node, DOOR_RUNNING_VAR_IN, channel,
                     times(variance, exactly(count / (count - 1))));
    case DOOR_EQ_SCALE:
        return scale;
    default:
        return minus(channel_part(v, node, DOOR_BIAS, channel), times(mean, scale));
    }
}

/* ---- max pooling ----------------------------------------------------------------------------- */

/* What place PLACE of the window of output I holds; false: padding. */
static bool in_window(struct graph_values *v, int node, const int64_t *i, int64_t place,
                      struct number *out)
{
    const struct door_node *n = &v->graph->nodes[node];
    const struct door_tensor *x = tensor_of(v, node, DOOR_X);
    int64_t h = i[2] * n->stride[0] - n->pre_padding[0] + place / n->window[1];
    int64_t w = i[3] * n->stride[1] - n->pre_padding[1] + place % n->window[1];

    if (h < 0 || h >= x->dims[2] || w < 0 || w >= x->dims[3])
        return false;
    *out = part(v, node, DOOR_X, (const int64_t[4]){i[0], i[1], h, w});
    return true;
}

static struct number pool_forward(struct graph_values *v, int node, enum door_role role,
                                  const int64_t *i)
{
    const struct door_node *n = &v->graph->nodes[node];
    struct number best = {-INFINITY, 0}, value;
    int64_t taken = 0;

    for (int64_t place = 0; place < n->window[0] * n->window[1]; place++)
        if (in_window(v, node, i, place, &value) && value.value > best.value) {
            best = value;
            taken = place;
        }
    return role == DOOR_INDEX ? exactly((double)taken) : best;
}

static struct number pool_backward(struct graph_values *v, int node, const int64_t *i)
{
    const struct door_node *n = &v->graph->nodes[node];
    const struct door_tensor *dy = tensor_of(v, node, DOOR_DY);
    struct door_node window = *n;
    struct sum sum = {0};

    window.dilation[0] = window.dilation[1] = 1;
    for (int64_t place = 0; place < n->window[0] * n->window[1]; place++) {
        int64_t p = output_place(&window, 0, i[2], place / n->window[1], dy->dims[2]);
        int64_t q = output_place(&window, 1, i[3], place % n->window[1], dy->dims[3]);
        const int64_t at[4] = {i[0], i[1], p, q};

        if (p >= 0 && q >= 0 && part(v, node, DOOR_INDEX, at).value == (double)place)
            add(&sum, part(v, node, DOOR_DY, at));
    }
    return sum_of(&sum);
}

/* ---- values ---------------------------------------------------------------------------------- */

static struct number compute(struct graph_values *v, int node, enum door_role role,
                             const int64_t *i)
{
    switch (v->graph->nodes[node].kind) {
    case DOOR_CONV_FORWARD:
        return conv_forward(v, node, i);
    case DOOR_CONV_BACKWARD_DATA:
        return conv_data(v, node, i);
    case DOOR_CONV_BACKWARD_FILTER:
        return conv_filter(v, node, i);
    case DOOR_POINTWISE:
        return pointwise(v, node, i);
    case DOOR_GEN_STATS:
        return gen_stats(v, node, role, i);
    case DOOR_BN_FINALIZE:
        return bn_finalize(v, node, role, i);
    case DOOR_NORM_FORWARD:
        return norm_forward(v, node, role, i);
    case DOOR_NORM_BACKWARD:
    case DOOR_BN_BACKWARD_WEIGHTS:
        return norm_backward(v, node, role, i);
    case DOOR_RESAMPLE_FORWARD:
        return pool_forward(v, node, role, i);
    case DOOR_RESAMPLE_BACKWARD:
        return pool_backward(v, node, i);
    case DOOR_MATMUL:
        return product(v, node, i);
    default:
        return exactly(NAN); /* no graph of ours has it; nothing fits */
    }
}

struct number graph_value(struct graph_values *values, int tensor, const int64_t index[4])
{
    const struct door_tensor *t = &values->graph->tensors[tensor];
    int node = values->writer[tensor];
    size_t at = 0;

    if (values->column && tensor == values->given)
        return exactly(values->column[(index[0] * t->dims[2] + index[2]) * t->dims[3] + index[3]]);
    if (node >= 0) {
        struct number n = compute(values, node, values->written_as[tensor], index);

        return (struct number){seeded_round(t->type, n.value),
                               hypot(n.error, unit_of(t->type, n.value))};
    }
    for (int i = 0; i < t->rank; i++)
        at += (size_t)(index[i] * t->strides[i]);
    return exactly(seeded_value(&values->contents[tensor], at));
}

/* The part whose numbers NODE sums and does not normalise. */
static int summed_part(const struct graph_values *v, int node)
{
    enum door_kind kind = v->graph->nodes[node].kind;

    if (kind != DOOR_GEN_STATS && kind != DOOR_BN_BACKWARD_WEIGHTS)
        return -1;
    int tensor = v->parts[node][kind == DOOR_GEN_STATS ? DOOR_X : DOOR_DY];

    return v->writer[tensor] >= 0 && !v->graph->tensors[tensor].is_virtual ? tensor : -1;
}

int graph_values_wanted(const struct graph_values *values)
{
    for (int n = 0; n < values->graph->node_count; n++)
        if (summed_part(values, n) >= 0)
            return summed_part(values, n);
    return -1;
}

void graph_values_give(struct graph_values *values, int64_t channel, const double *column)
{
    struct graph_values *v = values;
    const int64_t index[4] = {0, channel, 0, 0};

    v->given = graph_values_wanted(v);
    v->column = column;
    for (int n = 0; n < v->graph->node_count; n++) {
        if (summed_part(v, n) < 0)
            continue;
        if (v->graph->nodes[n].kind == DOOR_GEN_STATS)
            gen_stats(v, n, DOOR_SUM, index);
        else
            backward_sums(v, n, channel);
    }
    v->column = NULL;
}

bool graph_value_fits(struct graph_values *values, int tensor, const int64_t index[4], double got,
                      double *want)
{
    int node = values->writer[tensor];
    struct number value = graph_value(values, tensor, index), there;

    *want = value.value;
    if (node >= 0 && values->written_as[tensor] == DOOR_INDEX) {
        struct number largest = pool_forward(values, node, DOOR_Y, index);
        int64_t area = values->graph->nodes[node].window[0] * values->graph->nodes[node].window[1];

        return got >= 0 && got < (double)area &&
               in_window(values, node, index, (int64_t)got, &there) &&
               there.value >= largest.value - ERRORS * largest.error;
    }
    return fabs(got - value.value) <= ERRORS * value.error;
}
