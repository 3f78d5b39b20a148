/*
 * unpack.h - packed pictures (train/packed.h) as what a device makes of them, before normalisation;
 * with a look at their tables: nothing that they reach lies outside.
 */
#ifndef TESTS_UNPACK_H
#define TESTS_UNPACK_H

#include "common/mem.h"
#include "tests/test.h"
#include "train/packed.h"

/* Inputs that the tables of AXIS reach. */
static inline int unpack_reach(const struct packed *packed, struct packed_axis axis, int size)
{
    const int32_t *starts = (const int32_t *)packed->block + axis.at, *counts = starts + size;
    int reach = 0;

    CHECK(axis.at * 4 + (uint64_t)size * 4 * (2 + (uint64_t)axis.taps) <= packed->bytes);
    for (int i = 0; i < size; i++)
        CHECK(counts[i] >= 0 && counts[i] <= axis.taps && starts[i] >= 0);
    for (int i = 0; i < size; i++)
        if (counts[i] && starts[i] + counts[i] > reach)
            reach = starts[i] + counts[i];
    return reach;
}

/* Picture ROW as SIZE x SIZE x 3 bytes. What its tables reach lies inside the block. */
static inline void unpack_picture(const struct packed *packed, int row, int size, uint8_t *out)
{
    const struct packed_picture *p = &packed->pictures[row];
    int width = unpack_reach(packed, p->across, size), height = unpack_reach(packed, p->down, size);
    uint8_t *line = mem_array(PACKED_LINE, 1, "unpack");

    CHECK((uint32_t)width * 3 <= p->stride);
    CHECK(!height ||
          p->at + (uint64_t)(height - 1) * p->stride + 3 * (uint64_t)width <= packed->bytes);
    packed_unpack(packed, row, size, line, out);
    mem_free(line);
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
