/*
 * augment.cu - pictures of any size to the network's input: crop, antialiased resize, flip,
 * normalisation, 16 bits, NHWC with 8 channels, in one pass over memory.
 *
 * Numbers: those of common/resample.c (data-spec/25-pixels.md), byte for byte: integer weights of
 * 22 bits from the host, sums in 32-bit integers (the order does not matter), each pass rounded as
 * min(255, (2^21 + sum) >> 22), the two passes in the order that the host says. Then a table
 * look-up, whose values are the host's; nothing here computes in floats but the rounding to 16
 * bits.
 *
 * Roofline: a batch of 256 at 224 x 224, 16 bits: 205 MB written and about 80 MB of pixels read
 * (crops of 320 x 320), 0.14 ms at 2 TB/s. About 4 + 3 multiplications a colour (scale 1.5) are 0.3
 * G of them and, with loads and addresses, 3 to 5 G instructions: 0.3 ms on 108 multiprocessors:
 * bound by instructions, not by memory; either is far below a step (100 ms), beside which it runs
 * on a stream of its own. Shape: a block makes a tile of 32 x 8 outputs, a thread one of them, and
 * the tile's part of the picture between the passes lies in shared memory as 1024 pixels (4 kB), so
 * that it is made once for the tile: 25 % of it again for the tile below. Where the tile needs more
 * than fit (any scale is allowed), the rows, or the columns with the vertical pass first, are taken
 * in portions and the sums of the second pass go on in three registers. Channels and padding leave
 * as one 16-byte store.
 */
#include "kernels/device.cuh"

enum {
    TILE_X = 32,
    TILE_Y = THREADS / TILE_X,
    PORTION = 32,                          /* rows of TILE_X pixels between the passes at once */
    PORTION_X = PORTION * TILE_X / TILE_Y, /* or columns of TILE_Y */
    BETWEEN_BYTES = PORTION * TILE_X * 4,
    HALF_WEIGHT = 1 << 21
};

struct rgbx {
    uint8_t r, g, b, x;
};
struct rgb_sum {
    int32_t r, g, b;
};

static __device__ inline void add_weighted(struct rgb_sum *sum, int32_t weight, const uint8_t *rgb)
{
    sum->r += weight * rgb[0];
    sum->g += weight * rgb[1];
    sum->b += weight * rgb[2];
}

static __device__ inline uint8_t round_sum(int32_t sum)
{
    const int32_t value = sum >> 22;
    return (uint8_t)(value > 255 ? 255 : value);
}

static __device__ inline struct rgbx round_sums(struct rgb_sum sum)
{
    struct rgbx out = {round_sum(sum.r), round_sum(sum.g), round_sum(sum.b), 0};
    return out;
}

/* An axis' table, and the inputs [first, end) that outputs OUT to OUT + MANY - 1 of it need. */
struct axis {
    const int32_t *starts, *counts, *weights;
    int32_t taps;
};

static __device__ inline struct axis find_axis(const int32_t *tables, struct kernel_axis from,
                                               int size)
{
    const int32_t *starts = tables + from.at;
    struct axis axis = {starts, starts + size, starts + 2 * (size_t)size, from.taps};
    return axis;
}

static __device__ inline void find_inputs(const struct axis &axis, int out, int end_out, int *first,
                                          int *end)
{
    *first = 0x7FFFFFFF;
    *end = 0;
    for (int i = out; i < end_out; i++) {
        const int start = axis.starts[i], count = axis.counts[i];
        if (!count)
            continue;
        *first = start < *first ? start : *first;
        *end = start + count > *end ? start + count : *end;
    }
}

/* Output OUT of an axis from pixels STRIDE bytes apart; PIXELS is input 0. */
static __device__ inline struct rgbx resample_one(const struct axis &axis, int out,
                                                  const uint8_t *pixels, size_t stride)
{
    const int32_t *weights = axis.weights + (size_t)out * (size_t)axis.taps;
    const int count = axis.counts[out];
    struct rgb_sum sum = {HALF_WEIGHT, HALF_WEIGHT, HALF_WEIGHT};
    pixels += (size_t)axis.starts[out] * stride;
    for (int t = 0; t < count; t++, pixels += stride)
        add_weighted(&sum, weights[t], pixels);
    return round_sums(sum);
}

/* Add to SUM what inputs [FROM, TO) give to output OUT; BETWEEN is input FROM, STEP pixels to the
 * next one. */
static __device__ inline void add_portion(struct rgb_sum *sum, const struct axis &axis, int out,
                                          int from, int to, const struct rgbx *between, int step)
{
    const int start = axis.starts[out], end = start + axis.counts[out];
    const int32_t *weights = axis.weights + (size_t)out * (size_t)axis.taps;
    const int last = end < to ? end : to;
    for (int i = start > from ? start : from; i < last; i++)
        add_weighted(sum, weights[i - start], &between[(i - from) * step].r);
}

template <class T>
static __device__ inline void store_pixel(struct rgbx rgb, const float *table, T *out)
{
    float x[PACK] = {table[3 * rgb.r], table[3 * rgb.g + 1], table[3 * rgb.b + 2]};
    store_pack(x, out);
}

/* The tile of a block: its corner, and its end inside the picture. */
struct tile {
    int left, top, right, bottom;
};

/* Both passes for the output of this thread, the horizontal one first. All threads of the block
 * come here, with the same tile. */
static __device__ inline struct rgb_sum across_first(const struct axis &across,
                                                     const struct axis &down,
                                                     const struct tile &tile, const uint8_t *pixels,
                                                     size_t stride, struct rgbx *between)
{
    const int tx = (int)threadIdx.x % TILE_X, ty = (int)threadIdx.x / TILE_X;
    const int x = tile.left + tx, y = tile.top + ty;
    struct rgb_sum sum = {HALF_WEIGHT, HALF_WEIGHT, HALF_WEIGHT};
    int first, end;
    find_inputs(down, tile.top, tile.bottom, &first, &end);
    for (int from = first; from < end; from += PORTION) {
        const int to = end - from < PORTION ? end : from + PORTION;
        for (int row = from + ty; row < to && x < tile.right; row += TILE_Y)
            between[(row - from) * TILE_X + tx] =
                resample_one(across, x, pixels + (size_t)row * stride, 3);
        __syncthreads();
        if (x < tile.right && y < tile.bottom)
            add_portion(&sum, down, y, from, to, between + tx, TILE_X);
        __syncthreads();
    }
    return sum;
}

/* The vertical one first. */
static __device__ inline struct rgb_sum down_first(const struct axis &across,
                                                   const struct axis &down, const struct tile &tile,
                                                   const uint8_t *pixels, size_t stride,
                                                   struct rgbx *between)
{
    const int tx = (int)threadIdx.x % TILE_X, ty = (int)threadIdx.x / TILE_X;
    const int x = tile.left + tx, y = tile.top + ty;
    struct rgb_sum sum = {HALF_WEIGHT, HALF_WEIGHT, HALF_WEIGHT};
    int first, end;
    find_inputs(across, tile.left, tile.right, &first, &end);
    for (int from = first; from < end; from += PORTION_X) {
        const int to = end - from < PORTION_X ? end : from + PORTION_X;
        for (int column = from + tx; column < to && y < tile.bottom; column += TILE_X)
            between[ty * PORTION_X + column - from] =
                resample_one(down, y, pixels + (size_t)column * 3, stride);
        __syncthreads();
        if (x < tile.right && y < tile.bottom)
            add_portion(&sum, across, x, from, to, between + ty * PORTION_X, 1);
        __syncthreads();
    }
    return sum;
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    augment(int size, const int32_t *rows, const struct kernel_picture *pictures,
            const int32_t *tables, const uint8_t *pixels, const float *table, T *out)
{
    KERNEL_SHARED(struct rgbx, between);
    const unsigned wide = (unsigned)(size + TILE_X - 1) / TILE_X;
    const unsigned high = (unsigned)(size + TILE_Y - 1) / TILE_Y;
    const unsigned n = blockIdx.x / (wide * high), at = blockIdx.x % (wide * high);
    struct tile tile = {(int)(at % wide) * TILE_X, (int)(at / wide) * TILE_Y, size, size};
    const int x = tile.left + (int)threadIdx.x % TILE_X, y = tile.top + (int)threadIdx.x / TILE_X;
    struct rgb_sum sum = {0, 0, 0};

    if (tile.left + TILE_X < size)
        tile.right = tile.left + TILE_X;
    if (tile.top + TILE_Y < size)
        tile.bottom = tile.top + TILE_Y;
    /* The whole block goes the same way, barriers included. */
    if ((int)n < *rows) {
        const struct kernel_picture *p = pictures + n;
        const struct axis across = find_axis(tables, p->across, size);
        const struct axis down = find_axis(tables, p->down, size);
        sum = p->down_first ? down_first(across, down, tile, pixels + p->at, p->stride, between)
                            : across_first(across, down, tile, pixels + p->at, p->stride, between);
    }
    if (x < tile.right && y < tile.bottom)
        store_pixel(round_sums(sum), table,
                    out +
                        (((size_t)n * (size_t)size + (size_t)y) * (size_t)size + (size_t)x) * PACK);
}

template <class T>
static int launch_augment(void *stream, size_t blocks, int size, const int32_t *rows,
                          const struct kernel_picture *pictures, const int32_t *tables,
                          const uint8_t *pixels, const float *table, void *out)
{
    return KERNEL_LAUNCH(augment<T>, blocks, THREADS, BETWEEN_BYTES, stream, size, rows, pictures,
                         tables, pixels, table, static_cast<T *>(out));
}

extern "C" int kernel_augment(void *stream, enum kernel_type type, int n, int size,
                              const int32_t *rows, const struct kernel_picture *pictures,
                              const int32_t *tables, const uint8_t *pixels, const float *table,
                              void *out)
{
    if (n < 1 || size < 1 || size > 65535)
        return INVALID;
    const size_t wide = (size_t)(size + TILE_X - 1) / TILE_X;
    const size_t high = (size_t)(size + TILE_Y - 1) / TILE_Y;
    const size_t blocks = (size_t)n * wide * high;
    if (blocks > 0x7FFFFFFF)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_augment, stream, blocks, size, rows, pictures, tables,
                          pixels, table, out);
}
