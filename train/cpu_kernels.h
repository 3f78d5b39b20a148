/*
 * cpu_kernels.h - the CPU backend's own passes over activations and parameters, each for a piece of
 * the work in one thread. cpu_kernels.c is compiled once for each instruction set; one table of
 * functions comes out of each.
 *
 * Vectors are 16 floats wide on every instruction set, sums are kept in those 16 lanes in the order
 * of the code, and products are not fused with sums: all tables give the same bytes.
 */
#ifndef TRAIN_CPU_KERNELS_H
#define TRAIN_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CPU_LANES 16

/* Where the numbers of an N x C x H x W tensor lie: columns of 16 channels (the last may have
 * fewer), each with its channels side by side. Steps are in elements. N x H x W x C: column_step =
 * 16, pixel_step = C; N x C/16 x H x W x 16: column_step = 16 H W, pixel_step = 16. */
struct cpu_grid {
    int images, channels, columns, height, width;
    size_t image_step, column_step, pixel_step;
    bool bf16; /* else f32 */
};

/* A piece of a grid: PIXELS pixels of COLUMNS columns of one image. */
struct cpu_tile {
    int image, column, columns, pixel, pixels;
};

/* A normalisation. Arrays of floats have 16 x columns elements. All tensors lie on one grid. */
struct cpu_norm {
    struct cpu_grid grid;
    bool relu;
    bool past_caches; /* result and in_gradient are too large to be found in a cache again */
    const void *in, *residual, *out;   /* residual: NULL without */
    void *result;                      /* forward: out */
    const void *gradients[2];          /* of out: their sum counts; NULL = none */
    void *in_gradient;                 /* backward */
    void *residual_gradient;           /* backward; NULL: not wanted */
    const float *mean, *scale, *shift; /* out = [relu]((in - mean) scale + shift [+ residual]) */
    const float *of_gradient, *of_in,
        *constant; /* d in = of_gradient dz + of_in (in - mean) + constant */
};

/* A pooling of IN (height x width of grid IN) to OUT. */
struct cpu_pool {
    struct cpu_grid in, out;
    int kernel, stride, padding;
    bool past_caches; /* in_gradient is too large to be found in a cache again */
};

struct cpu_sgd {
    float lr, momentum, decay, gradient_scale;
    bool first_step;
};

struct cpu_kernels {
    /* Mean and sum of squared deviations of each channel over the tile (two passes: the tile should
     * fit the cache). */
    void (*norm_measure)(const struct cpu_norm *norm, const struct cpu_tile *tile, float *mean,
                         float *deviations);
    /* Mean and sum of squared deviations of one column over all pieces, from those of each: piece i
     * covers counts[i] pixels and stands at means + i * step. */
    void (*norm_combine)(const float *means, const float *deviations, size_t step,
                         const float *counts, int pieces, double mean[CPU_LANES],
                         double deviation[CPU_LANES]);
    /* The sum of one column over all pieces. */
    void (*sum_pieces)(const float *rows, size_t step, int pieces, double sum[CPU_LANES]);
    void (*norm_apply)(const struct cpu_norm *norm, const struct cpu_tile *tile);
    /* dz = the gradient behind the ReLU (written to residual_gradient): sums of dz and of dz (in -
     * mean). */
    void (*norm_backward_measure)(const struct cpu_norm *norm, const struct cpu_tile *tile,
                                  float *sum, float *product);
    void (*norm_backward_apply)(const struct cpu_norm *norm, const struct cpu_tile *tile);

    /* One row of out, all its columns in [first, last); INDICES: 1 byte for each element of out,
     * the kernel's row x its size + column; NULL: not wanted. */
    void (*max_pool)(const struct cpu_pool *pool, int image, int row, int first, int last,
                     const void *in, void *out, uint8_t *indices);
    /* One row of in's gradient. GRADIENTS: of out, their sum counts; the second may be NULL. */
    void (*max_pool_backward)(const struct cpu_pool *pool, int image, int row, int first, int last,
                              const void *const gradients[2], const uint8_t *indices,
                              void *in_gradient);
    void (*mean_pool)(const struct cpu_pool *pool, int image, int first, int last, const void *in,
                      void *out);
    void (*mean_pool_backward)(const struct cpu_pool *pool, int image, int first, int last,
                               const void *const gradients[2], void *in_gradient);

    /* COUNT numbers: TO = the sum of FROM (the second may be NULL), from one type to another. */
    void (*sum)(const void *const from[2], bool from_bf16, size_t count, void *to, bool to_bf16);

    /* out[n] = a . b[n], n < ROWS: a has COUNT floats, b's rows are COUNT apart. */
    void (*dots)(const float *a, const float *b, size_t rows, size_t count, float *out);
    /* out[i] = sum over r < ROWS of weights[r * weight_step] * rows[r * row_step + i], i < COUNT.
     */
    void (*blend)(const float *weights, size_t weight_step, const float *rows, size_t row_step,
                  size_t row_count, size_t count, float *out);

    void (*sgd)(const struct cpu_sgd *sgd, size_t count, float *values, const float *gradients,
                float *momenta);
};

extern const struct cpu_kernels cpu_kernels_base; /* what every CPU of the architecture has */
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2, cpu_kernels_avx512, cpu_kernels_avx512_bf16;
#endif

#endif
