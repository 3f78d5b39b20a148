#include "train/packed.h"

#include <assert.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    ALIGNMENT = 64
}; /* of each picture in the block: threads that fill neighbours share no line */

static size_t align(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static size_t square_bytes(int size)
{
    return 3 * (size_t)size * (size_t)size;
}

static size_t table_bytes(int size, int taps)
{
    return sizeof(int32_t) * (size_t)size * (2 + (size_t)taps);
}

/* What a picture that was made here takes: its square and tables of one tap. */
static size_t share(int size)
{
    return align(2 * table_bytes(size, 1) + square_bytes(size));
}

int packed_capacity(int batch, int size, uint32_t width, uint32_t height, size_t *out)
{
    size_t row = share(size) + (PACKED_SQUARES - 1) * square_bytes(size);
    if (width && height) {
        /* An axis has at most 2 inputs and 3 taps more than a table needs for each output. */
        uint64_t tables = 8 * ((uint64_t)width + height) + 40 * (uint64_t)size;
        uint64_t whole = 3 * (uint64_t)width * height + tables + ALIGNMENT;
        if (whole < row)
            row = whole > share(size) ? align((size_t)whole) : share(size);
    }
    if (!mem_multiply((size_t)batch, row, out))
        return err_set(ERR_MEMORY, "batches of %d pictures of %d pixels do not fit into memory",
                       batch, size);
    return 0;
}

void packed_begin(struct packed_block *block, int batch, int size)
{
    assert(block->capacity >= (size_t)batch * share(size));
    atomic_store(&block->used, 0);
    atomic_store(&block->spare, (long long)(block->capacity - (size_t)batch * share(size)));
}

/* Take BYTES for a picture whose share is SHARE; false: they are not there. */
static bool take(struct packed_block *block, size_t bytes, size_t one_share, size_t *at)
{
    const long long more = (long long)bytes - (long long)one_share;
    if (atomic_fetch_sub(&block->spare, more) < more && more > 0) {
        atomic_fetch_add(&block->spare, more);
        return false;
    }
    *at = atomic_fetch_add(&block->used, bytes);
    return true;
}

/* Write the table of an axis to TABLE, for inputs from FIRST on. Outputs beside the axis' own are
 * 0. */
static void write_axis(const struct augment_axis *axis, bool mirrored, int size, int first,
                       int taps, int32_t *table)
{
    const int to = mirrored ? size - axis->to - axis->count : axis->to;
    int32_t *starts = table + to, *counts = table + size + to;
    if (axis->count < size)
        memset(table, 0, table_bytes(size, taps));
    resample_table(axis->in, axis->full, axis->first, axis->count, mirrored, taps, starts, counts,
                   table + 2 * (size_t)size + (size_t)to * (size_t)taps);
    for (int i = 0; i < axis->count; i++)
        starts[i] -= first;
}

void packed_write_same(int size, int32_t *table)
{
    for (int i = 0; i < size; i++) {
        table[i] = i;
        table[size + i] = 1;
        table[2 * size + i] = 1 << 22;
    }
}

/* Where the parts of a picture lie from AT on: two tables, then pixels. */
static void place(struct packed_picture *picture, size_t at, int size, int across, int down)
{
    picture->across = (struct packed_axis){.at = at / sizeof(int32_t), .taps = across};
    at += table_bytes(size, across);
    picture->down = (struct packed_axis){.at = at / sizeof(int32_t), .taps = down};
    picture->at = at + table_bytes(size, down);
}

static int add_square(struct packed_block *block, int row, struct resampler *resampler,
                      const struct pixels *picture, const struct augment_plan *plan, int size)
{
    struct packed_picture *out = &block->pictures[row];
    size_t at = 0;
    bool fits = take(block, share(size), share(size), &at);
    assert(fits);
    (void)fits;
    place(out, at, size, 1, 1);
    out->stride = 3 * (uint32_t)size;
    out->down_first = 0;
    packed_write_same(size, (int32_t *)(block->bytes + at));
    packed_write_same(size, (int32_t *)(block->bytes + at + table_bytes(size, 1)));
    return augment_run(resampler, picture, plan, size, block->bytes + out->at);
}

int packed_add(struct packed_block *block, int row, struct resampler *resampler,
               const struct pixels *picture, const struct augment_plan *plan, int size)
{
    const struct augment_axis *across = &plan->across, *down = &plan->down;
    struct packed_picture *out = &block->pictures[row];
    int left, right, top, bottom;
    augment_inputs(across, &left, &right);
    augment_inputs(down, &top, &bottom);
    const int across_taps = resample_taps(across->in, across->full, across->first, across->count);
    const int down_taps = resample_taps(down->in, down->full, down->first, down->count);
    const size_t line = 3 * (size_t)(right - left);
    const size_t need = align(table_bytes(size, across_taps) + table_bytes(size, down_taps) +
                              line * (size_t)(bottom - top));
    size_t at;
    if (!take(block, need, share(size), &at))
        return add_square(block, row, resampler, picture, plan, size);
    place(out, at, size, across_taps, down_taps);
    out->stride = (uint32_t)line;
    out->down_first = resample_down_first(across->in, down->in, across->full, down->full);
    int32_t *tables = (int32_t *)(block->bytes + at);
    write_axis(across, plan->flip, size, left, across_taps, tables);
    write_axis(down, false, size, top, down_taps, tables + table_bytes(size, across_taps) / 4);
    const uint8_t *from = picture->rgb + (size_t)(down->from + top) * picture->stride +
                          3 * (size_t)(across->from + left);
    for (int y = top; y < bottom; y++, from += picture->stride)
        memcpy(block->bytes + out->at + (size_t)(y - top) * line, from, line);
    return 0;
}

/* ---- out again ---- */

/* Output I of AXIS, from inputs STEP bytes apart. */
static uint8_t weigh(const struct packed *packed, const struct packed_axis *axis, int size, int i,
                     const uint8_t *in, size_t step)
{
    const int32_t *starts = (const int32_t *)packed->block + axis->at, *counts = starts + size;
    const int32_t *weights = counts + size + (size_t)i * (size_t)axis->taps;
    int32_t sum = 1 << 21;
    for (int t = 0; t < counts[i]; t++)
        sum += weights[t] * in[(size_t)(starts[i] + t) * step];
    sum >>= 22;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

/* Inputs that AXIS needs. */
static int reach(const struct packed *packed, const struct packed_axis *axis, int size)
{
    const int32_t *starts = (const int32_t *)packed->block + axis->at, *counts = starts + size;
    int end = 0;
    for (int i = 0; i < size; i++)
        if (counts[i] && starts[i] + counts[i] > end)
            end = starts[i] + counts[i];
    return end;
}

void packed_unpack(const struct packed *packed, int row, int size, uint8_t line[PACKED_LINE],
                   uint8_t *out)
{
    const struct packed_picture *p = &packed->pictures[row];
    const struct packed_axis *first = p->down_first ? &p->down : &p->across;
    const struct packed_axis *second = p->down_first ? &p->across : &p->down;
    const size_t in_first = p->down_first ? p->stride : 3,
                 in_second = p->down_first ? 3 : p->stride;
    const size_t column = 3, whole_line = 3 * (size_t)size;
    const size_t out_first = p->down_first ? whole_line : column;
    const size_t out_second = p->down_first ? column : whole_line;
    const int inputs = reach(packed, second, size);
    for (int i = 0; i < size; i++)
        for (size_t c = 0; c < 3; c++) {
            const uint8_t *in = packed->block + p->at + c;
            for (int k = 0; k < inputs; k++)
                line[k] = weigh(packed, first, size, i, in + (size_t)k * in_second, in_first);
            for (int k = 0; k < size; k++)
                out[(size_t)i * out_first + (size_t)k * out_second + c] =
                    weigh(packed, second, size, k, line, 1);
        }
}
