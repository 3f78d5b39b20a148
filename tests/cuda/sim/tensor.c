/*
 * tensor.c - tensors of the simulated device in memory, by their dims and strides, and as dense f32
 * values while a plan computes with them.
 */
#include <math.h>
#include <string.h>

#include "tests/cuda/sim/inside.h"

/* ---- 16-bit types ---- */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint16_t to_bf16(float value)
{
    uint32_t bits = to_bits(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return 0x7FFF;
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static float from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31,
             mantissa = half & 0x3FF;
    if (exponent == 31)
        return from_bits(sign | 0x7F800000 | mantissa << 13);
    if (exponent)
        return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = (float)mantissa * 0x1p-24f;
    return sign ? -value : value;
}

static uint16_t to_f16(float value)
{
    uint32_t bits = to_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000)
        return 0x7FFF;
    if (magnitude >= 0x477FF000) /* 65520 and more */
        return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000) /* below 2^-14: in steps of 2^-24 */
        return (uint16_t)(sign | (uint32_t)nearbyintf(from_bits(magnitude) * 0x1p24f));
    magnitude += 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

/* ---- shapes ---- */

struct layout {
    int64_t n, h, w, c;     /* dims */
    int64_t sn, sh, sw, sc; /* strides */
};

static struct layout layout_of(const struct door_tensor *t)
{
    const int64_t *d = t->dims, *s = t->strides;
    if (t->rank == 3)
        return (struct layout){d[0], 1, d[1], d[2], s[0], 0, s[1], s[2]};
    return (struct layout){d[0], d[2], d[3], d[1], s[0], s[2], s[3], s[1]};
}

void sim_value_shape(struct sim_value *value, const struct door_tensor *tensor)
{
    struct layout l = layout_of(tensor);
    *value = (struct sim_value){.tensor = tensor, .n = l.n, .h = l.h, .w = l.w, .c = l.c};
    value->count = (size_t)(l.n * l.h * l.w * l.c);
}

/* ---- rows of channels ---- */

static void load_row(enum door_type type, const void *memory, int64_t at, int64_t stride,
                     int64_t count, float *out)
{
    switch (type) {
    case DOOR_F32:
        for (int64_t i = 0; i < count; i++)
            out[i] = ((const float *)memory)[at + i * stride];
        break;
    case DOOR_F16:
        for (int64_t i = 0; i < count; i++)
            out[i] = from_f16(((const uint16_t *)memory)[at + i * stride]);
        break;
    case DOOR_BF16:
        for (int64_t i = 0; i < count; i++)
            out[i] = from_bits((uint32_t)((const uint16_t *)memory)[at + i * stride] << 16);
        break;
    case DOOR_I8:
        for (int64_t i = 0; i < count; i++)
            out[i] = ((const int8_t *)memory)[at + i * stride];
        break;
    case DOOR_I32:
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)((const int32_t *)memory)[at + i * stride];
        break;
    case DOOR_I64:
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)((const int64_t *)memory)[at + i * stride];
        break;
    case DOOR_BOOL:
        for (int64_t i = 0; i < count; i++) {
            int64_t bit = at + i * stride;
            out[i] = (float)(((const uint8_t *)memory)[bit / 8] >> (bit % 8) & 1);
        }
        break;
    }
}

static void store_row(enum door_type type, void *memory, int64_t at, int64_t stride, int64_t count,
                      const float *in)
{
    switch (type) {
    case DOOR_F32:
        for (int64_t i = 0; i < count; i++)
            ((float *)memory)[at + i * stride] = in[i];
        break;
    case DOOR_F16:
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)memory)[at + i * stride] = to_f16(in[i]);
        break;
    case DOOR_BF16:
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)memory)[at + i * stride] = to_bf16(in[i]);
        break;
    case DOOR_I8:
        for (int64_t i = 0; i < count; i++)
            ((int8_t *)memory)[at + i * stride] = (int8_t)in[i];
        break;
    case DOOR_I32:
        for (int64_t i = 0; i < count; i++)
            ((int32_t *)memory)[at + i * stride] = (int32_t)in[i];
        break;
    case DOOR_I64:
        for (int64_t i = 0; i < count; i++)
            ((int64_t *)memory)[at + i * stride] = (int64_t)in[i];
        break;
    case DOOR_BOOL:
        for (int64_t i = 0; i < count; i++) {
            int64_t bit = at + i * stride;
            uint8_t *byte = (uint8_t *)memory + bit / 8, mask = (uint8_t)(1 << (bit % 8));
            *byte = (uint8_t)(in[i] != 0 ? *byte | mask : *byte & ~mask);
        }
        break;
    }
}

/* ---- whole tensors ---- */

void sim_value_load(struct sim_value *value, const void *memory)
{
    struct layout l = layout_of(value->tensor);
    float *out = value->at;
    if (value->tensor->by_value) {
        float f = 0;
        int64_t i = 0;
        load_row(value->tensor->type, memory, 0, 1, 1, &f);
        if (value->tensor->type == DOOR_I64)
            memcpy(&i, memory, sizeof i);
        value->scalar = value->tensor->type == DOOR_I64 ? (double)i : f;
        *out = f;
        return;
    }
    for (int64_t n = 0; n < l.n; n++) {
        for (int64_t h = 0; h < l.h; h++) {
            for (int64_t w = 0; w < l.w; w++, out += l.c)
                load_row(value->tensor->type, memory, n * l.sn + h * l.sh + w * l.sw, l.sc, l.c,
                         out);
        }
    }
}

void sim_value_store(const struct sim_value *value, void *memory)
{
    struct layout l = layout_of(value->tensor);
    const float *in = value->at;
    for (int64_t n = 0; n < l.n; n++) {
        for (int64_t h = 0; h < l.h; h++) {
            for (int64_t w = 0; w < l.w; w++, in += l.c)
                store_row(value->tensor->type, memory, n * l.sn + h * l.sh + w * l.sw, l.sc, l.c,
                          in);
        }
    }
}

void sim_value_round(struct sim_value *value)
{
    float *at = value->at;
    size_t count = value->count;
    switch (value->tensor->type) {
    case DOOR_F16:
        for (size_t i = 0; i < count; i++)
            at[i] = from_f16(to_f16(at[i]));
        break;
    case DOOR_BF16:
        for (size_t i = 0; i < count; i++)
            at[i] = from_bits((uint32_t)to_bf16(at[i]) << 16);
        break;
    case DOOR_BOOL:
        for (size_t i = 0; i < count; i++)
            at[i] = at[i] != 0;
        break;
    case DOOR_I8:
    case DOOR_I32:
    case DOOR_I64:
        for (size_t i = 0; i < count; i++)
            at[i] = nearbyintf(at[i]);
        break;
    case DOOR_F32:
        break;
    }
}
