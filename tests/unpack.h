/*
 * unpack.h - a packed picture (train/backend.h: struct packed_picture) evaluated in plain C, pass
 * by pass as its comment says: what a device makes of it, before normalisation.
 */
#ifndef TESTS_UNPACK_H
#define TESTS_UNPACK_H

#include "common/mem.h"
#include "tests/test.h"
#include "train/backend.h"

/* COUNT outputs in a row of an axis: OUT_STEP bytes apart, from inputs IN_STEP bytes apart. */
static inline void unpack_axis(const struct packed *packed, struct packed_axis axis, int size,
                               const uint8_t *in, size_t in_step, uint8_t *out, size_t out_step)
{
    const int32_t *starts = (const int32_t *)packed->block + axis.at, *counts = starts + size;
    const int32_t *weights = counts + size;

    for (int i = 0; i < size; i++) {
        int32_t sum = 1 << 21;

        CHECK(counts[i] >= 0 && counts[i] <= axis.taps && starts[i] >= 0);
        for (int t = 0; t < counts[i]; t++)
            sum += weights[(size_t)i * (size_t)axis.taps + (size_t)t] *
                   in[(size_t)(starts[i] + t) * in_step];
        sum >>= 22;
        out[(size_t)i * out_step] = (uint8_t)(sum > 255 ? 255 : sum);
    }
}

/* Inputs that the tables of AXIS reach. */
static inline int unpack_reach(const struct packed *packed, struct packed_axis axis, int size)
{
    const int32_t *starts = (const int32_t *)packed->block + axis.at, *counts = starts + size;
    int reach = 0;

    CHECK(axis.at * 4 + (uint64_t)size * 4 * (2 + (uint64_t)axis.taps) <= packed->bytes);
    for (int i = 0; i < size; i++)
        if (counts[i] && starts[i] + counts[i] > reach)
            reach = starts[i] + counts[i];
    return reach;
}

/* Picture ROW as SIZE x SIZE x 3 bytes. What its tables reach lies inside the block. */
static inline void unpack_picture(const struct packed *packed, int row, int size, uint8_t *out)
{
    const struct packed_picture *p = &packed->pictures[row];
    const uint8_t *in = packed->block + p->at;
    int width = unpack_reach(packed, p->across, size), height = unpack_reach(packed, p->down, size);
    size_t line = 3 * (size_t)size, side = (size_t)(width > height ? width : height);
    uint8_t *between = mem_array(3 * (side > (size_t)size ? side : (size_t)size),
                                 (size_t)(side > (size_t)size ? side : (size_t)size), "unpack");

    CHECK((uint32_t)width * 3 <= p->stride);
    CHECK(!height ||
          p->at + (uint64_t)(height - 1) * p->stride + 3 * (uint64_t)width <= packed->bytes);
    for (int c = 0; c < 3; c++) {
        if (p->down_first) {
            for (int x = 0; x < width; x++)
                unpack_axis(packed, p->down, size, in + 3 * x + c, p->stride, between + 3 * x + c,
                            3 * (size_t)width);
            for (int y = 0; y < size; y++)
                unpack_axis(packed, p->across, size, between + 3 * (size_t)width * (size_t)y + c, 3,
                            out + line * (size_t)y + c, 3);
        } else {
            for (int y = 0; y < height; y++)
                unpack_axis(packed, p->across, size, in + p->stride * (size_t)y + c, 3,
                            between + line * (size_t)y + c, 3);
            for (int x = 0; x < size; x++)
                unpack_axis(packed, p->down, size, between + 3 * x + c, line, out + 3 * x + c,
                            line);
        }
    }
    mem_free(between);
}

/* The rows of a packed batch that count, and 0 for the rest: as batch->pixels would be. */
static inline void unpack_batch(const struct batch *batch, int n, uint8_t *out)
{
    size_t bytes = 3 * (size_t)batch->size * (size_t)batch->size;

    memset(out, 0, (size_t)n * bytes);
    for (int row = 0; row < batch->rows; row++)
        unpack_picture(batch->packed, row, batch->size, out + (size_t)row * bytes);
}

#endif
