/*
 * cpu_kernels.c - see the header. Compiled once for each instruction set, with KERNELS the name of
 * the table and KERNELS_NAME that of the set.
 *
 * Numbers are f32 in registers; a bf16 number is rounded to the nearest, ties to even, when it is
 * stored. A function for one column is made three times by inlining: f32 and bf16 with all 16
 * lanes, and one for a last column with fewer, which asks at run time.
 */
#include "train/cpu_kernels.h"

#include <math.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* Four independent sums hide the latency of an addition. */
#define SUMS 4

typedef float vec __attribute__((vector_size(64)));
typedef int32_t mask __attribute__((vector_size(64)));
typedef uint32_t words __attribute__((vector_size(64)));
typedef uint16_t halves __attribute__((vector_size(32)));
typedef uint8_t bytes __attribute__((vector_size(16)));
typedef double wide __attribute__((vector_size(128)));

/* ---- Loads and stores ---- */

INLINE vec choose(mask where, vec yes, vec no)
{
    return (vec)((where & (mask)yes) | (~where & (mask)no));
}

INLINE mask is_nan(vec v)
{
    return ((mask)v & 0x7fffffff) > 0x7f800000;
}

INLINE vec from_bf16(halves h)
{
#if defined(__AVX512F__)
    /* What gcc 12 makes of the other way takes thrice as many instructions. */
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (vec)(__builtin_convertvector(h, words) << 16);
#endif
}

INLINE halves to_bf16(vec v)
{
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)v);
#else
    const words bits = (words)v, rounded = bits + 0x7fff + ((bits >> 16) & 1);
    /* Rounding could carry a NaN into infinity or zero. */
    const words safe = (words)choose(is_nan(v), (vec)(bits | 0x400000), (vec)rounded);
    return __builtin_convertvector(safe >> 16, halves);
#endif
}

INLINE bytes to_bytes(mask v)
{
#if defined(__AVX512F__)
    /* The other way gcc 12 takes the lanes one by one. */
    return (bytes)_mm512_cvtepi32_epi8((__m512i)v);
#else
    return __builtin_convertvector((words)v, bytes);
#endif
}

INLINE vec load_floats(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store_floats(float *to, vec v)
{
    memcpy(to, &v, sizeof v);
}

/* LANES numbers at element AT of BASE; the other lanes are 0. */
INLINE vec load(const void *base, size_t at, int lanes, bool bf16)
{
    if (bf16) {
        halves h = {0};
        if (lanes == CPU_LANES)
            memcpy(&h, (const uint16_t *)base + at, sizeof h);
        else
            memcpy(&h, (const uint16_t *)base + at, (size_t)lanes * sizeof(uint16_t));
        return from_bf16(h);
    }
    vec v = {0};
    if (lanes == CPU_LANES)
        memcpy(&v, (const float *)base + at, sizeof v);
    else
        memcpy(&v, (const float *)base + at, (size_t)lanes * sizeof(float));
    return v;
}

INLINE void store(void *base, size_t at, vec v, int lanes, bool bf16)
{
    if (bf16) {
        const halves h = to_bf16(v);
        if (lanes == CPU_LANES)
            memcpy((uint16_t *)base + at, &h, sizeof h);
        else
            memcpy((uint16_t *)base + at, &h, (size_t)lanes * sizeof(uint16_t));
    } else if (lanes == CPU_LANES) {
        memcpy((float *)base + at, &v, sizeof v);
    } else {
        memcpy((float *)base + at, &v, (size_t)lanes * sizeof(float));
    }
}

/* A store; whole vectors that lie at multiples of their size go past the caches when they are to.
 * Then store_end() before another thread reads them. */
INLINE void store_past(void *base, size_t at, vec v, int lanes, bool bf16, bool past)
{
#if defined(__AVX512F__)
    if (past && lanes == CPU_LANES && bf16) {
        _mm256_stream_si256((__m256i *)((uint16_t *)base + at), (__m256i)to_bf16(v));
        return;
    }
    if (past && lanes == CPU_LANES) {
        _mm512_stream_ps((float *)base + at, (__m512)v);
        return;
    }
#endif
    (void)past;
    store(base, at, v, lanes, bf16);
}

INLINE void store_end(void)
{
#if defined(__AVX512F__)
    _mm_sfence();
#endif
}

/* What a store keeps of V. */
INLINE vec rounded(vec v, bool bf16)
{
    return bf16 ? from_bf16(to_bf16(v)) : v;
}

/* The sum of one or two gradients. */
INLINE vec load_sum(const void *const from[2], size_t at, int lanes, bool bf16)
{
    vec v = {0};
    if (from[0])
        v = load(from[0], at, lanes, bf16);
    if (from[1])
        v += load(from[1], at, lanes, bf16);
    return v;
}

INLINE size_t grid_at(const struct cpu_grid *grid, int image, int column, size_t pixel)
{
    return (size_t)image * grid->image_step + (size_t)column * grid->column_step +
           pixel * grid->pixel_step;
}

INLINE int grid_lanes(const struct cpu_grid *grid, int column)
{
    const int left = grid->channels - column * CPU_LANES;
    return left < CPU_LANES ? left : CPU_LANES;
}

/* Call FUNCTION(arguments..., lanes, bf16) with constants where they are common. */
#define FOR_KIND(grid, column, function, ...)                                                      \
    do {                                                                                           \
        const int lanes_ = grid_lanes(grid, column);                                               \
        if (lanes_ < CPU_LANES)                                                                    \
            function(__VA_ARGS__, lanes_, (grid)->bf16);                                           \
        else if ((grid)->bf16)                                                                     \
            function(__VA_ARGS__, CPU_LANES, true);                                                \
        else                                                                                       \
            function(__VA_ARGS__, CPU_LANES, false);                                               \
    } while (0)

/* ---- Normalisation ---- */

INLINE void measure_column(const void *in, size_t at, size_t step, int pixels, float *mean,
                           float *deviations, int lanes, bool bf16)
{
    vec sum[SUMS] = {{0}}, shift[SUMS] = {{0}}, square[SUMS] = {{0}};
    int p = 0;
    for (; p + SUMS <= pixels; p += SUMS)
        for (int i = 0; i < SUMS; i++)
            sum[i] += load(in, at + (size_t)(p + i) * step, lanes, bf16);
    for (; p < pixels; p++)
        sum[0] += load(in, at + (size_t)p * step, lanes, bf16);
    const vec first = ((sum[0] + sum[1]) + (sum[2] + sum[3])) / (float)pixels;

    for (p = 0; p + SUMS <= pixels; p += SUMS)
        for (int i = 0; i < SUMS; i++) {
            const vec d = load(in, at + (size_t)(p + i) * step, lanes, bf16) - first;
            shift[i] += d;
            square[i] += d * d;
        }
    for (; p < pixels; p++) {
        const vec d = load(in, at + (size_t)p * step, lanes, bf16) - first;
        shift[0] += d;
        square[0] += d * d;
    }
    /* The first mean is as good as a sum of floats; what is left of the deviations corrects it. */
    const vec left = (shift[0] + shift[1]) + (shift[2] + shift[3]);
    const vec by = left / (float)pixels;
    store_floats(mean, first + by);
    store_floats(deviations, ((square[0] + square[1]) + (square[2] + square[3])) - left * by);
}

static void norm_measure(const struct cpu_norm *norm, const struct cpu_tile *tile, float *mean,
                         float *deviations)
{
    const struct cpu_grid *grid = &norm->grid;
    for (int k = tile->column; k < tile->column + tile->columns; k++) {
        const size_t at = grid_at(grid, tile->image, k, (size_t)tile->pixel);
        FOR_KIND(grid, k, measure_column, norm->in, at, grid->pixel_step, tile->pixels,
                 mean + (size_t)k * CPU_LANES, deviations + (size_t)k * CPU_LANES);
    }
}

static void norm_combine(const float *means, const float *deviations, size_t step,
                         const float *counts, int pieces, double mean[CPU_LANES],
                         double deviation[CPU_LANES])
{
    wide sum = {0}, total = {0};
    double count = 0;
    for (int i = 0; i < pieces; i++) {
        const vec m = load_floats(means + (size_t)i * step);
        sum += __builtin_convertvector(m, wide) * (double)counts[i];
        count += (double)counts[i];
    }
    sum /= count;
    for (int i = 0; i < pieces; i++) {
        const vec m = load_floats(means + (size_t)i * step),
                  d = load_floats(deviations + (size_t)i * step);
        const wide off = __builtin_convertvector(m, wide) - sum;
        total += __builtin_convertvector(d, wide) + off * off * (double)counts[i];
    }
    memcpy(mean, &sum, sizeof sum);
    memcpy(deviation, &total, sizeof total);
}

static void sum_pieces(const float *rows, size_t step, int pieces, double sum[CPU_LANES])
{
    wide total = {0};
    for (int i = 0; i < pieces; i++)
        total += __builtin_convertvector(load_floats(rows + (size_t)i * step), wide);
    memcpy(sum, &total, sizeof total);
}

/* The value in front of the residual and the ReLU, of IN less its mean; backward must find the same
 * bits. */
INLINE vec norm_value(vec centred, vec scale, vec shift)
{
    return centred * scale + shift;
}

INLINE void apply_column(const struct cpu_norm *norm, int column, size_t at, size_t step,
                         int pixels, int lanes, bool bf16)
{
    const size_t channel = (size_t)column * CPU_LANES;
    const vec mean = load_floats(norm->mean + channel), scale = load_floats(norm->scale + channel);
    const vec shift = load_floats(norm->shift + channel), zero = {0};
    const void *in = norm->in, *residual = norm->residual;
    void *result = norm->result;
    const bool relu = norm->relu, past = norm->past_caches;
    for (int p = 0; p < pixels; p++, at += step) {
        vec v = norm_value(load(in, at, lanes, bf16) - mean, scale, shift);
        if (residual)
            v += load(residual, at, lanes, bf16);
        /* A NaN must come through: the loss is watched. */
        if (relu)
            v = choose(v < zero, zero, v);
        store_past(result, at, v, lanes, bf16, past);
    }
}

static void norm_apply(const struct cpu_norm *norm, const struct cpu_tile *tile)
{
    const struct cpu_grid *grid = &norm->grid;
    for (int k = tile->column; k < tile->column + tile->columns; k++) {
        const size_t at = grid_at(grid, tile->image, k, (size_t)tile->pixel);
        FOR_KIND(grid, k, apply_column, norm, k, at, grid->pixel_step, tile->pixels);
    }
    store_end();
}

/* What backward reads at every place. */
struct sources {
    const void *in, *gradients[2], *out;
    void *residual_gradient;
    bool relu, residual, rounds;
    vec mean, scale, shift;
};

INLINE struct sources sources_of(const struct cpu_norm *norm, int column)
{
    const size_t channel = (size_t)column * CPU_LANES;
    return (struct sources){
        .in = norm->in,
        .gradients = {norm->gradients[0], norm->gradients[1]},
        .out = norm->out,
        .residual_gradient = norm->residual_gradient,
        .relu = norm->relu,
        .residual = norm->residual != NULL,
        .rounds = norm->gradients[1] != NULL,
        .mean = load_floats(norm->mean + channel),
        .scale = load_floats(norm->scale + channel),
        .shift = load_floats(norm->shift + channel),
    };
}

/* The gradient behind the ReLU at one place, as it is or would be stored; IN less the mean is
 * CENTRED. */
INLINE vec behind_relu(const struct sources *s, size_t at, vec centred, int lanes, bool bf16)
{
    const vec zero = {0};
    vec dz = load_sum(s->gradients, at, lanes, bf16);
    if (s->relu) {
        const vec out =
            s->residual ? load(s->out, at, lanes, bf16) : norm_value(centred, s->scale, s->shift);
        dz = choose(out <= zero, zero, dz);
    }
    return s->rounds ? rounded(dz, bf16) : dz;
}

INLINE void backward_measure_at(const struct sources *s, size_t at, vec *sum, vec *product,
                                int lanes, bool bf16)
{
    const vec centred = load(s->in, at, lanes, bf16) - s->mean;
    const vec dz = behind_relu(s, at, centred, lanes, bf16);
    if (s->residual_gradient)
        store(s->residual_gradient, at, dz, lanes, bf16);
    *sum += dz;
    *product += dz * centred;
}

INLINE void backward_measure_column(const struct cpu_norm *norm, int column, size_t at, size_t step,
                                    int pixels, float *sum, float *product, int lanes, bool bf16)
{
    const struct sources s = sources_of(norm, column);
    vec sums[SUMS] = {{0}}, products[SUMS] = {{0}};
    int p = 0;
    for (; p + SUMS <= pixels; p += SUMS)
        for (int i = 0; i < SUMS; i++, at += step)
            backward_measure_at(&s, at, &sums[i], &products[i], lanes, bf16);
    for (; p < pixels; p++, at += step)
        backward_measure_at(&s, at, &sums[0], &products[0], lanes, bf16);
    store_floats(sum, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    store_floats(product, (products[0] + products[1]) + (products[2] + products[3]));
}

static void norm_backward_measure(const struct cpu_norm *norm, const struct cpu_tile *tile,
                                  float *sum, float *product)
{
    const struct cpu_grid *grid = &norm->grid;
    for (int k = tile->column; k < tile->column + tile->columns; k++) {
        const size_t at = grid_at(grid, tile->image, k, (size_t)tile->pixel);
        FOR_KIND(grid, k, backward_measure_column, norm, k, at, grid->pixel_step, tile->pixels,
                 sum + (size_t)k * CPU_LANES, product + (size_t)k * CPU_LANES);
    }
}

INLINE void backward_apply_column(const struct cpu_norm *norm, int column, size_t at, size_t step,
                                  int pixels, int lanes, bool bf16)
{
    const size_t channel = (size_t)column * CPU_LANES;
    const struct sources s = sources_of(norm, column);
    const vec a = load_floats(norm->of_gradient + channel), b = load_floats(norm->of_in + channel);
    const vec c = load_floats(norm->constant + channel);
    const bool past = norm->past_caches;
    void *in_gradient = norm->in_gradient;
    for (int p = 0; p < pixels; p++, at += step) {
        const vec centred = load(s.in, at, lanes, bf16) - s.mean;
        const vec dz = s.residual_gradient ? load(s.residual_gradient, at, lanes, bf16)
                                           : behind_relu(&s, at, centred, lanes, bf16);
        store_past(in_gradient, at, a * dz + b * centred + c, lanes, bf16, past);
    }
}

static void norm_backward_apply(const struct cpu_norm *norm, const struct cpu_tile *tile)
{
    const struct cpu_grid *grid = &norm->grid;
    for (int k = tile->column; k < tile->column + tile->columns; k++) {
        const size_t at = grid_at(grid, tile->image, k, (size_t)tile->pixel);
        FOR_KIND(grid, k, backward_apply_column, norm, k, at, grid->pixel_step, tile->pixels);
    }
    store_end();
}

/* ---- Pooling ---- */

/* The places of a window that starts at START and lie in [0, size): [*first, *last) of the kernel.
 */
INLINE void window(int start, int kernel, int size, int *first, int *last)
{
    *first = start < 0 ? -start : 0;
    *last = start + kernel > size ? size - start : kernel;
}

/* To the compiler, numbers of ResNet's pooling are constants: no division, loops unrolled. */
INLINE bool is_usual(const struct cpu_pool *pool)
{
    return pool->kernel == 3 && pool->stride == 2 && pool->padding == 1;
}

INLINE struct cpu_pool usual(const struct cpu_pool *pool)
{
    return (struct cpu_pool){pool->in, pool->out, 3, 2, 1, pool->past_caches};
}

INLINE void max_pool_column(const struct cpu_pool *pool, int image, int row, int column,
                            const void *in, void *out, uint8_t *indices, int lanes, bool bf16)
{
    const int top = row * pool->stride - pool->padding;
    int y0, y1, x0, x1;
    window(top, pool->kernel, pool->in.height, &y0, &y1);
    for (int x = 0; x < pool->out.width; x++) {
        const int left = x * pool->stride - pool->padding;
        const size_t at =
            grid_at(&pool->out, image, column, (size_t)row * (size_t)pool->out.width + (size_t)x);
        window(left, pool->kernel, pool->in.width, &x0, &x1);
        vec best = (vec){0} - INFINITY;
        mask index = (mask){0} + (y0 * pool->kernel + x0);
        for (int ky = y0; ky < y1; ky++) {
            size_t from =
                grid_at(&pool->in, image, column,
                        (size_t)(top + ky) * (size_t)pool->in.width + (size_t)(left + x0));
            for (int kx = x0; kx < x1; kx++, from += pool->in.pixel_step) {
                const vec v = load(in, from, lanes, bf16);
                const mask better = (v > best) | is_nan(v);
                best = choose(better, v, best);
                index = (better & (ky * pool->kernel + kx)) | (~better & index);
            }
        }
        store(out, at, best, lanes, bf16);
        if (indices) {
            const bytes small = to_bytes(index);
            memcpy(indices + at, &small, (size_t)lanes);
        }
    }
}

INLINE void max_pool_columns(const struct cpu_pool *pool, int image, int row, int first, int last,
                             const void *in, void *out, uint8_t *indices)
{
    for (int k = first; k < last; k++)
        FOR_KIND(&pool->in, k, max_pool_column, pool, image, row, k, in, out, indices);
}

static void max_pool(const struct cpu_pool *pool, int image, int row, int first, int last,
                     const void *in, void *out, uint8_t *indices)
{
    const struct cpu_pool constants = usual(pool);
    if (is_usual(pool))
        max_pool_columns(&constants, image, row, first, last, in, out, indices);
    else
        max_pool_columns(pool, image, row, first, last, in, out, indices);
}

/* The windows that hold place AT of SIZE: [*first, *last). */
INLINE void windows_of(int at, const struct cpu_pool *pool, int size, int *first, int *last)
{
    const int end = at + pool->padding, start = end - pool->kernel + 1;
    *first = start <= 0 ? 0 : (start + pool->stride - 1) / pool->stride;
    *last = end / pool->stride + 1;
    if (*last > size)
        *last = size;
}

/* SUM + V in the lanes whose INDEX is PLACE. */
INLINE vec add_chosen(vec sum, bytes index, int place, vec v)
{
#if defined(__AVX512BW__)
    const __mmask16 where = _mm_cmpeq_epi8_mask((__m128i)index, _mm_set1_epi8((char)place));
    return (vec)_mm512_mask_add_ps((__m512)sum, where, (__m512)sum, (__m512)v);
#else
    /* The same bits: a sum from +0 on is never -0. */
    const mask where = __builtin_convertvector(index, mask) == place;
    return sum + choose(where, v, (vec){0});
#endif
}

INLINE void max_pool_backward_column(const struct cpu_pool *pool, int image, int row, int column,
                                     const void *const gradients[2], const uint8_t *indices,
                                     void *in_gradient, int lanes, bool bf16)
{
    int y0, y1, x0, x1;
    windows_of(row, pool, pool->out.height, &y0, &y1);
    for (int x = 0; x < pool->in.width; x++) {
        vec sum = {0};
        windows_of(x, pool, pool->out.width, &x0, &x1);
        for (int oy = y0; oy < y1; oy++) {
            const int ky = row + pool->padding - oy * pool->stride;
            for (int ox = x0; ox < x1; ox++) {
                const int kx = x + pool->padding - ox * pool->stride;
                const size_t at = grid_at(&pool->out, image, column,
                                          (size_t)oy * (size_t)pool->out.width + (size_t)ox);
                bytes small = {0};
                memcpy(&small, indices + at, (size_t)lanes);
                sum = add_chosen(sum, small, ky * pool->kernel + kx,
                                 load_sum(gradients, at, lanes, bf16));
            }
        }
        const size_t to =
            grid_at(&pool->in, image, column, (size_t)row * (size_t)pool->in.width + (size_t)x);
        store_past(in_gradient, to, sum, lanes, bf16, pool->past_caches);
    }
}

INLINE void max_pool_backward_columns(const struct cpu_pool *pool, int image, int row, int first,
                                      int last, const void *const gradients[2],
                                      const uint8_t *indices, void *in_gradient)
{
    for (int k = first; k < last; k++)
        FOR_KIND(&pool->in, k, max_pool_backward_column, pool, image, row, k, gradients, indices,
                 in_gradient);
}

static void max_pool_backward(const struct cpu_pool *pool, int image, int row, int first, int last,
                              const void *const gradients[2], const uint8_t *indices,
                              void *in_gradient)
{
    const struct cpu_pool constants = usual(pool);
    if (is_usual(pool))
        max_pool_backward_columns(&constants, image, row, first, last, gradients, indices,
                                  in_gradient);
    else
        max_pool_backward_columns(pool, image, row, first, last, gradients, indices, in_gradient);
    store_end();
}

INLINE void mean_pool_column(const struct cpu_pool *pool, int image, int column, const void *in,
                             void *out, int lanes, bool bf16)
{
    const int pixels = pool->in.height * pool->in.width;
    size_t at = grid_at(&pool->in, image, column, 0);
    vec sum = {0};
    for (int p = 0; p < pixels; p++, at += pool->in.pixel_step)
        sum += load(in, at, lanes, bf16);
    store(out, grid_at(&pool->out, image, column, 0), sum / (float)pixels, lanes, bf16);
}

static void mean_pool(const struct cpu_pool *pool, int image, int first, int last, const void *in,
                      void *out)
{
    for (int k = first; k < last; k++)
        FOR_KIND(&pool->in, k, mean_pool_column, pool, image, k, in, out);
}

INLINE void mean_pool_backward_column(const struct cpu_pool *pool, int image, int column,
                                      const void *const gradients[2], void *in_gradient, int lanes,
                                      bool bf16)
{
    const int pixels = pool->in.height * pool->in.width;
    const vec sum = load_sum(gradients, grid_at(&pool->out, image, column, 0), lanes, bf16);
    const vec share = sum / (float)pixels;
    size_t at = grid_at(&pool->in, image, column, 0);
    for (int p = 0; p < pixels; p++, at += pool->in.pixel_step)
        store(in_gradient, at, share, lanes, bf16);
}

static void mean_pool_backward(const struct cpu_pool *pool, int image, int first, int last,
                               const void *const gradients[2], void *in_gradient)
{
    for (int k = first; k < last; k++)
        FOR_KIND(&pool->in, k, mean_pool_backward_column, pool, image, k, gradients, in_gradient);
}

/* ---- Rows of floats ---- */

INLINE int lanes_at(size_t i, size_t count)
{
    return count - i < CPU_LANES ? (int)(count - i) : CPU_LANES;
}

static void sum(const void *const from[2], bool from_bf16, size_t count, void *to, bool to_bf16)
{
    for (size_t i = 0; i < count; i += CPU_LANES) {
        const int lanes = lanes_at(i, count);
        store(to, i, load_sum(from, i, lanes, from_bf16), lanes, to_bf16);
    }
}

INLINE float lane_sum(vec v)
{
    float sum = 0;
    for (int i = 0; i < CPU_LANES; i++)
        sum += v[i];
    return sum;
}

static void dots(const float *a, const float *b, size_t rows, size_t count, float *out)
{
    const size_t whole = count / CPU_LANES * CPU_LANES;
    const int rest = (int)(count - whole);
    size_t r = 0;
    for (; r + SUMS <= rows; r += SUMS) {
        vec sum[SUMS] = {{0}};
        for (size_t i = 0; i < whole; i += CPU_LANES) {
            const vec v = load_floats(a + i);
            for (size_t j = 0; j < SUMS; j++)
                sum[j] += v * load_floats(b + (r + j) * count + i);
        }
        for (size_t j = 0; j < SUMS; j++) {
            if (rest)
                sum[j] +=
                    load(a, whole, rest, false) * load(b, (r + j) * count + whole, rest, false);
            out[r + j] = lane_sum(sum[j]);
        }
    }
    for (; r < rows; r++) {
        vec sum = {0};
        for (size_t i = 0; i < whole; i += CPU_LANES)
            sum += load_floats(a + i) * load_floats(b + r * count + i);
        if (rest)
            sum += load(a, whole, rest, false) * load(b, r * count + whole, rest, false);
        out[r] = lane_sum(sum);
    }
}

static void blend(const float *weights, size_t weight_step, const float *rows, size_t row_step,
                  size_t row_count, size_t count, float *out)
{
    size_t i = 0;
    for (; i + SUMS * CPU_LANES <= count; i += SUMS * CPU_LANES) {
        vec sum[SUMS] = {{0}};
        for (size_t r = 0; r < row_count; r++)
            for (size_t j = 0; j < SUMS; j++)
                sum[j] +=
                    weights[r * weight_step] * load_floats(rows + r * row_step + i + j * CPU_LANES);
        for (size_t j = 0; j < SUMS; j++)
            store_floats(out + i + j * CPU_LANES, sum[j]);
    }
    for (; i < count; i += CPU_LANES) {
        const int lanes = lanes_at(i, count);
        vec sum = {0};
        for (size_t r = 0; r < row_count; r++)
            sum += weights[r * weight_step] * load(rows, r * row_step + i, lanes, false);
        store(out, i, sum, lanes, false);
    }
}

/* In the order of operations of torch.optim.SGD. */
static void sgd(const struct cpu_sgd *s, size_t count, float *values, const float *gradients,
                float *momenta)
{
    for (size_t i = 0; i < count; i += CPU_LANES) {
        const int lanes = lanes_at(i, count);
        const vec value = load(values, i, lanes, false);
        const vec g = load(gradients, i, lanes, false) * s->gradient_scale + value * s->decay;
        const vec m = s->first_step ? g : load(momenta, i, lanes, false) * s->momentum + g;
        store(momenta, i, m, lanes, false);
        store(values, i, value - m * s->lr, lanes, false);
    }
}

const struct cpu_kernels KERNELS = {
    .norm_measure = norm_measure,
    .norm_combine = norm_combine,
    .sum_pieces = sum_pieces,
    .norm_apply = norm_apply,
    .norm_backward_measure = norm_backward_measure,
    .norm_backward_apply = norm_backward_apply,
    .max_pool = max_pool,
    .max_pool_backward = max_pool_backward,
    .mean_pool = mean_pool,
    .mean_pool_backward = mean_pool_backward,
    .sum = sum,
    .dots = dots,
    .blend = blend,
    .sgd = sgd,
};
