/*
 * seeded.c - see seeded.h.
 */
#include "train/cuda/seeded.h"

#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"

int seeded_table(int8_t **out)
{
    struct rng rng;
    int8_t *table = mem_array(SEEDED_PERIOD, 1, "the numbers of the self-test");

    if (!table)
        return -ERR_MEMORY;
    rng_init(&rng, 1, RNG_TEST, 0, 0);
    for (size_t i = 0; i < SEEDED_PERIOD; i += 4) {
        uint32_t number = rng_u32(&rng);

        memcpy(table + i, &number, sizeof number);
    }
    *out = table;
    return 0;
}

/* ---- types ---- */

/* DIGITS significant bits, and none below 2^LEAST. */
static double round_to(double value, int digits, int least)
{
    int exponent;

    if (value == 0 || !isfinite(value))
        return value;
    frexp(value, &exponent);
    int unit = exponent - digits;

    return ldexp(nearbyint(ldexp(value, -(unit < least ? least : unit))),
                 unit < least ? least : unit);
}

double seeded_round(enum door_type type, double value)
{
    double rounded;

    switch (type) {
    case DOOR_F32:
        return (double)(float)value;
    case DOOR_BF16:
        return round_to(value, 8, -133);
    case DOOR_F16:
        rounded = round_to(value, 11, -24);
        return fabs(rounded) > 65504 ? copysign(INFINITY, value) : rounded;
    default:
        return value;
    }
}

/* The bits of a number that F16 holds exactly, or that is beyond it. */
static uint16_t half_bits(double value)
{
    int exponent;
    uint16_t sign = signbit(value) ? 0x8000 : 0;

    value = fabs(value);
    if (!(value <= 65504))
        return (uint16_t)(sign | (isnan(value) ? 0x7E00 : 0x7C00));
    if (value < ldexp(1, -14))
        return (uint16_t)(sign | (uint16_t)ldexp(value, 24));
    double fraction = frexp(value, &exponent);

    return (uint16_t)(sign | (exponent + 14) << 10 | ((int)ldexp(fraction, 11) - 1024));
}

static double half_value(uint16_t bits)
{
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value;

    if (exponent == 31)
        value = fraction ? NAN : INFINITY;
    else
        value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return bits & 0x8000 ? -value : value;
}

static void encode_one(enum door_type type, double value, void *out)
{
    float f = (float)value;
    uint32_t bits;
    uint16_t half;
    int64_t whole;
    int8_t byte;

    switch (type) {
    case DOOR_F32:
        memcpy(out, &f, sizeof f);
        break;
    case DOOR_BF16:
        memcpy(&bits, &f, sizeof bits);
        half = (uint16_t)(bits >> 16);
        memcpy(out, &half, sizeof half);
        break;
    case DOOR_F16:
        half = half_bits(value);
        memcpy(out, &half, sizeof half);
        break;
    case DOOR_I64:
        whole = (int64_t)value;
        memcpy(out, &whole, sizeof whole);
        break;
    default:
        byte = (int8_t)value;
        memcpy(out, &byte, sizeof byte);
        break;
    }
}

void seeded_store(enum door_type type, double value, void *out)
{
    encode_one(type, isnan(value) ? value : seeded_round(type, value), out);
}

double seeded_decode(enum door_type type, const void *memory)
{
    float f;
    uint32_t bits;
    uint16_t half;
    int8_t byte;

    switch (type) {
    case DOOR_F32:
        memcpy(&f, memory, sizeof f);
        return f;
    case DOOR_BF16:
        memcpy(&half, memory, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, sizeof f);
        return f;
    case DOOR_F16:
        memcpy(&half, memory, sizeof half);
        return half_value(half);
    default:
        memcpy(&byte, memory, sizeof byte);
        return byte;
    }
}

/* ---- parts ---- */

static const struct door_tensor *part(const struct door_graph *graph, const struct door_node *node,
                                      enum door_role role)
{
    return node->uids[role] ? door_graph_tensor(graph, node->uids[role]) : NULL;
}

bool seeded_writes(const struct door_node *node, enum door_role role)
{
    switch (role) {
    case DOOR_Y:
    case DOOR_DX:
    case DOOR_DW:
    case DOOR_C:
    case DOOR_DSCALE:
    case DOOR_DBIAS:
    case DOOR_RUNNING_MEAN_OUT:
    case DOOR_RUNNING_VAR_OUT:
    case DOOR_EQ_SCALE:
    case DOOR_EQ_BIAS:
    case DOOR_EQ_DY_SCALE:
    case DOOR_EQ_X_SCALE:
        return true;
    case DOOR_SUM:
    case DOOR_SQSUM:
        return node->kind == DOOR_GEN_STATS;
    case DOOR_MEAN:
    case DOOR_INVSTD:
        return node->kind == DOOR_BN_FINALIZE ||
               (node->kind == DOOR_NORM_FORWARD && node->training);
    case DOOR_INDEX:
        return node->kind == DOOR_RESAMPLE_FORWARD;
    default:
        return false;
    }
}

/* A by-value tensor, by its part: what it is in training. */
static void assign_value(struct seeded *s, enum door_role role)
{
    s->kind = SEEDED_CONSTANT;
    if (role == DOOR_EPSILON)
        s->factor = (double)1e-5F;
    else if (role == DOOR_MOMENTUM)
        s->factor = (double)0.1F;
    else if (role == DOOR_COUNT)
        s->factor = SEEDED_COUNT;
    else
        s->factor = 0;
}

/* What NODE reads as ROLE. */
static void assign_input(struct seeded *s, const struct door_graph *graph,
                         const struct door_node *node, enum door_role role)
{
    s->kind = s->tensor->type == DOOR_BOOL ? SEEDED_BITS : SEEDED_SIGNED;
    if (s->tensor->by_value) {
        assign_value(s, role);
    } else if (role == DOOR_INDEX) {
        s->kind = SEEDED_INDEX;
        s->pool = node;
        s->picture = part(graph, node, DOOR_DX);
    } else if (role == DOOR_SCALE || role == DOOR_INVSTD || role == DOOR_RUNNING_VAR_IN) {
        s->kind = SEEDED_POSITIVE;
    } else if (role == DOOR_SQSUM) {
        /* The mean square is above 1, the mean below: there is a variance. */
        s->kind = SEEDED_POSITIVE;
        s->factor = 2 * SEEDED_COUNT;
    } else if (role == DOOR_SUM) {
        s->factor = 0.5 * SEEDED_COUNT;
    }
}

void seeded_assign(const struct door_graph *graph, const int8_t *table,
                   struct seeded out[DOOR_MAX_TENSORS])
{
    for (int i = 0; i < graph->tensor_count; i++)
        out[i] = (struct seeded){.kind = SEEDED_OUTPUT,
                                 .table = table,
                                 .shift = (size_t)graph->tensors[i].uid * 40503,
                                 .factor = 1,
                                 .tensor = &graph->tensors[i]};
    for (int n = 0; n < graph->node_count; n++) {
        const struct door_node *node = &graph->nodes[n];

        for (int role = 0; role < DOOR_ROLES; role++) {
            const struct door_tensor *t = part(graph, node, (enum door_role)role);

            if (t && !seeded_writes(node, (enum door_role)role) &&
                out[t - graph->tensors].kind == SEEDED_OUTPUT)
                assign_input(&out[t - graph->tensors], graph, node, (enum door_role)role);
        }
    }
    /* Nodes stand in the order of computation: a tensor that a node writes was no input before. */
    for (int n = 0; n < graph->node_count; n++)
        for (int role = 0; role < DOOR_ROLES; role++) {
            const struct door_tensor *t = part(graph, &graph->nodes[n], (enum door_role)role);

            if (t && seeded_writes(&graph->nodes[n], (enum door_role)role))
                out[t - graph->tensors].kind = SEEDED_OUTPUT;
        }
}

/* ---- values ---- */

/* The place in the window for output AT of a max pooling: the table's choice, or the first after it
 * that lies in the picture. */
static int index_value(const struct seeded *s, size_t at)
{
    const struct door_node *pool = s->pool;
    const struct door_tensor *t = s->tensor;
    int64_t area = pool->window[0] * pool->window[1];
    int64_t y = (int64_t)at / t->strides[2] % t->dims[2];
    int64_t x = (int64_t)at / t->strides[3] % t->dims[3];
    int64_t choice = (uint8_t)s->table[(at + s->shift) % SEEDED_PERIOD] % area;

    for (int64_t i = 0; i < area; i++, choice = (choice + 1) % area) {
        int64_t row = y * pool->stride[0] - pool->pre_padding[0] + choice / pool->window[1];
        int64_t column = x * pool->stride[1] - pool->pre_padding[1] + choice % pool->window[1];

        if (row >= 0 && row < s->picture->dims[2] && column >= 0 && column < s->picture->dims[3])
            break;
    }
    return (int)choice;
}

double seeded_value(const struct seeded *seeded, size_t at)
{
    const struct seeded *s = seeded;
    double entry = s->table[(at + s->shift) % SEEDED_PERIOD];

    switch (s->kind) {
    case SEEDED_SIGNED:
        return entry * s->factor / 128;
    case SEEDED_POSITIVE:
        return (1 + entry / 256.0) * s->factor;
    case SEEDED_BITS:
        return (uint8_t)s->table[(at / 8 + s->shift) % SEEDED_PERIOD] >> at % 8 & 1;
    case SEEDED_INDEX:
        return index_value(s, at);
    case SEEDED_CONSTANT:
        return s->factor;
    default:
        return NAN;
    }
}

void seeded_encode(const struct seeded *seeded, size_t first, size_t count, void *out)
{
    const struct seeded *s = seeded;
    size_t bytes = door_type_bytes(s->tensor->type);
    uint8_t *to = out, encoded[256][8];

    if (s->kind == SEEDED_BITS) {
        for (size_t i = 0; i < count / 8; i++)
            to[i] = (uint8_t)s->table[(first / 8 + i + s->shift) % SEEDED_PERIOD];
        return;
    }
    if (s->kind == SEEDED_INDEX || s->kind == SEEDED_CONSTANT) {
        for (size_t i = 0; i < count; i++)
            encode_one(s->tensor->type, seeded_value(s, first + i), to + i * bytes);
        return;
    }
    for (int entry = -128; entry < 128; entry++) {
        double value =
            s->kind == SEEDED_SIGNED ? entry * s->factor / 128 : (1 + entry / 256.0) * s->factor;

        encode_one(s->tensor->type, value, encoded[(uint8_t)entry]);
    }
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * bytes, encoded[(uint8_t)s->table[(first + i + s->shift) % SEEDED_PERIOD]],
               bytes);
}

size_t seeded_period(const struct seeded *seeded)
{
    if (seeded->kind == SEEDED_INDEX)
        return 0;
    return seeded->kind == SEEDED_BITS ? 8 * (size_t)SEEDED_PERIOD : SEEDED_PERIOD;
}
