/*
 * kernels.h - our own GPU kernels as C functions: what cuDNN and cuBLAS do not do, or not as we
 * need it. kernels/README.md says why each exists and how it is shaped.
 *
 * Contract:
 * - STREAM is a cudaStream_t. A launcher queues work on it and returns a cudaError_t: 0, or why the
 *   launch was refused (1, cudaErrorInvalidValue: an argument is out of the range said here). It
 *   never waits, allocates or copies, so that all of it can be captured in a CUDA graph. What may
 *   change from step to step of a captured graph is read from device memory, not from arguments.
 * - All pointers are device memory (or host memory the device can see), aligned to 16 bytes, and
 *   what a call reads and what it writes do not overlap unless it says so. All outputs are written
 *   whole; before the call they may hold anything.
 * - The same inputs give the same bits, whatever else runs: every sum has a fixed order, there is
 * no float atomic. Arithmetic is f32, never contracted into fused multiply-adds (compiled with
 *   -fmad=false) and rounded to the nearest even when a 16-bit type is stored.
 * - Sizes are counted in elements. No dimension is 0; products of dimensions may pass 2^32.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How activations and their gradients are stored. */
enum kernel_type { KERNEL_F32, KERNEL_BF16, KERNEL_F16 };

/* ---- augment.cu ------------------------------------------------------------------------------ */

/* One axis of one picture: how COUNT outputs are made from inputs. In the block of tables it is
 * COUNT starts, COUNT counts, COUNT x taps weights (22 bits, common/resample.h: resample_table
 * fills all three), int32 each. Output i is the sum over t < counts[i] <= taps of weights[i * taps
 * + t] times input starts[i] + t, where input 0 is the first of the uploaded part. counts[i] = 0
 * gives the value 0 (padding). A mirrored picture is a mirrored table. */
struct kernel_axis {
    uint64_t at; /* of its starts in the block of tables, in int32 */
    int32_t taps;
    int32_t reserved; /* 0 */
};

/* One picture of a batch. Its bytes are R G B, row by row, in the block of pixels. */
struct kernel_picture {
    uint64_t at;        /* of input (0, 0) in the block of pixels, in bytes */
    uint32_t stride;    /* bytes from row to row */
    int32_t down_first; /* the vertical pass comes first (resample_down_first) */
    struct kernel_axis across, down;
};

/* Pictures of any size to N x SIZE x SIZE x 8 of TYPE: crop, resize, flip as the tables say, the
 * bytes of common/resample.c, then value v of channel c becomes table[3 * v + c]; channels 3 to 7
 * are 0. Pictures *ROWS to N - 1 are all value 0 and their kernel_picture is not read. The tables
 * are trusted: the host checks that they stay inside the uploaded part. SIZE is 1 to 65,535. */
int kernel_augment(void *stream, enum kernel_type type, int n, int size, const int32_t *rows,
                   const struct kernel_picture *pictures, const int32_t *tables,
                   const uint8_t *pixels, const float *table, void *out);

/* ---- loss.cu --------------------------------------------------------------------------------- */

struct kernel_loss {
    double loss;        /* mean over the rows; NaN when error is set */
    int64_t top1, top5; /* rows whose label is first, among the first five; ties: the lower index is
                           first; a NaN is last */
    int64_t error; /* 0; 1 + the first row whose label is not in [0, classes); -1: *rows is not in
                      [1, n] */
};

/* Softmax cross-entropy of LOGITS (n x classes) with LABEL_SMOOTHING in [0, 1): the wanted
 * probabilities are (1 - s) at the label plus s / classes everywhere. Only the first *ROWS rows
 * count. row_logs (n): log(sum(exp)) of each row, for the gradient; row_losses, row_ranks (n):
 * working memory. CLASSES is below 2^31 - 1024. */
int kernel_loss_forward(void *stream, int n, int classes, float label_smoothing,
                        const float *logits, const int32_t *labels, const int32_t *rows,
                        float *row_logs, float *row_losses, int32_t *row_ranks,
                        struct kernel_loss *result);

/* d(mean loss)/d(logits) * *SCALE (NULL: 1) as n x classes of TYPE. Rows from *ROWS on, and rows
 * whose label is out of range, get 0. */
int kernel_loss_backward(void *stream, enum kernel_type type, int n, int classes,
                         float label_smoothing, const float *logits, const int32_t *labels,
                         const int32_t *rows, const float *row_logs, const float *scale,
                         void *gradients);

/* ---- update.cu ------------------------------------------------------------------------------- */

/* A part of the flat block, one thread block's work: FLOATS at most KERNEL_SEGMENT_FLOATS. A
 * parameter is as many segments as it needs; what no segment names (running statistics, gaps) is
 * left alone. BEGIN and FLOATS are multiples of 16. */
enum { KERNEL_SEGMENT_FLOATS = 4096 };
struct kernel_segment {
    uint64_t begin;
    uint32_t floats;
    float decay; /* times sgd.weight_decay: 1, or 0 for parameters without decay */
};

/* torch.optim.SGD without dampening: g = gradient * gradient_scale / loss scale + decay * value;
 * m = momentum * m + g (m = g while first_step); value -= lr * (nesterov ? g + momentum * m : m).
 */
struct kernel_sgd {
    float lr, momentum, weight_decay, gradient_scale;
    int32_t nesterov, first_step;
};

/* Dynamic loss scaling, in device memory so that no step waits for the host. All 0 but scale at
 * first. */
struct kernel_scaler {
    float scale;        /* the loss was multiplied by this; a power of two */
    int32_t nonfinite;  /* kernel_finite's flag: the update leaves everything as it is */
    int32_t good_steps; /* since the scale changed */
    int32_t skipped;    /* steps, ever */
};

/* One pass over the COUNT segments. SCALER NULL: scale 1, always applied. COPY: the values as TYPE
 * at the same places, written with them; NULL with KERNEL_F32. */
int kernel_update(void *stream, enum kernel_type type, const struct kernel_segment *segments,
                  size_t count, const struct kernel_sgd *sgd, const struct kernel_scaler *scaler,
                  const float *gradients, float *values, float *momenta, void *copy);
/* *FLAG = 1 if one of FLOATS values is infinite or NaN; else *FLAG stays. */
int kernel_finite(void *stream, size_t floats, const float *values, int32_t *flag);
/* After the update: halve the scale (not below 1) and clear the flag after a skipped step, double
 * it (up to 2^24) after GROW_AFTER good ones. */
int kernel_scaler_step(void *stream, struct kernel_scaler *scaler, int grow_after);
/* sum += gradients; FIRST: sum = gradients. */
int kernel_accumulate(void *stream, size_t floats, int first, const float *gradients, float *sum);
/* COUNT elements of TYPE: all VALUE, or IN rounded. */
int kernel_fill(void *stream, enum kernel_type type, size_t count, float value, void *out);
int kernel_convert(void *stream, enum kernel_type type, size_t count, const float *in, void *out);

/* ---- pool.cu (NHWC; C is a multiple of 8) ------------------------------------------------------
 */

/* out[n][c] = mean over AREA pixels of in[n][pixel][c]. */
int kernel_mean_pool(void *stream, enum kernel_type type, int n, int area, int c, const void *in,
                     void *out);
/* in_gradient[n][pixel][c] = out_gradient[n][c] / area. */
int kernel_mean_pool_backward(void *stream, enum kernel_type type, int n, int area, int c,
                              const void *out_gradient, void *in_gradient);
/* out = a + b: two readers' gradients of one tensor. COUNT is a multiple of 8; OUT may be A or B.
 */
int kernel_sum(void *stream, enum kernel_type type, size_t count, const void *a, const void *b,
               void *out);

/* ---- norm.cu -----------------------------------------------------------------------------------
 */

/* scale = gamma / sqrt(variance + epsilon), bias = beta - mean * scale, per channel. */
int kernel_norm_fold(void *stream, int c, float epsilon, const float *gamma, const float *beta,
                     const float *mean, const float *variance, float *scale, float *bias);
/* out = scale * in + bias (+ residual) over PIXELS x C, then max(0, .) if RELU (a NaN stays one). C
 * is a multiple of 8; RESIDUAL may be NULL; OUT may be IN or RESIDUAL. */
int kernel_norm_apply(void *stream, enum kernel_type type, size_t pixels, int c, const void *in,
                      const float *scale, const float *bias, const void *residual, int relu,
                      void *out);
/* gradient[k] = sum over rows of out_gradient[row][k], ROWS x CLASSES of TYPE. */
int kernel_bias_gradient(void *stream, enum kernel_type type, int rows, int classes,
                         const void *out_gradient, float *gradient);

#ifdef __cplusplus
}
#endif
#endif
