/*
 * resample.h - Pillow 13's antialiased bilinear resize, bit for bit, in 8-bit fixed point: weights
 * with 22 bits, two passes, each rounded to 8 bits, the horizontal one first unless the picture
 * loses rows, and more than twice as many as columns. torchvision's Resize and RandomResizedCrop on
 * PIL pictures give the same bytes. data-spec/25-pixels.md is the definition.
 *
 * A resampler serves one thread at a time and keeps its tables and rows: after resampler_reserve it
 * allocates nothing for pictures within the reserved sizes.
 */
#ifndef COMMON_RESAMPLE_H
#define COMMON_RESAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A rectangle of RGB pixels inside a picture; borrowed. Pillow's crop: nothing outside it has a say
 * (the bytes between its rows are read, though, and must be readable). */
struct pixels {
    const uint8_t *rgb;
    int width, height;
    size_t stride; /* bytes from row to row */
};

struct resampler;
/* PORTABLE: plain C only; otherwise the fastest the CPU has. Both give the same bytes. */
int resampler_open(struct resampler **out, bool portable);
void resampler_close(struct resampler *resampler);
/* Allocate for any input up to IN_WIDTH x IN_HEIGHT and output, whole and not only a window, up to
 * OUT_WIDTH x OUT_HEIGHT. ERR_INPUT: sides other than 1 to 65,535. ERR_MEMORY. */
int resampler_reserve(struct resampler *resampler, int in_width, int in_height, int out_width,
                      int out_height);

/* The part of the resized picture that starts at (LEFT, TOP) of the full output and is WIDTH x
 * HEIGHT. */
struct resample_window {
    int full_width, full_height;  /* IN is resized to this size */
    int left, top, width, height; /* inside it; only this part is computed */
};

/* Resize IN, write the window to OUT (rows OUT_STRIDE bytes apart), mirrored left to right when
 * FLIP. ERR_INPUT: sides other than 1 to 65,535. ERR_FAULT: the window is not inside the output.
 * ERR_MEMORY. */
int resampler_run(struct resampler *resampler, const struct pixels *in,
                  const struct resample_window *window, bool flip, uint8_t *out, size_t out_stride);

/* ---- the arithmetic, for whoever resizes elsewhere (a GPU): data-spec/25-pixels.md, 25.6. An axis
 * goes from IN to FULL pixels, both 1 to 65,535 ---- */

/* The inputs that output OUTPUT of [0, FULL) is made from: first to first + count - 1; count >= 1.
 */
struct resample_span {
    int first, count;
};
struct resample_span resample_inputs(int in, int full, int output);
/* Their weights: count numbers that sum to 2^22 but for rounding. */
void resample_weights(int in, int full, int output, int32_t *weights);

/* The most inputs that one of the outputs FIRST to FIRST + COUNT - 1 takes. */
int resample_taps(int in, int full, int first, int count);
/* The table of those outputs, in reverse order when MIRRORED: output i is the sum over t <
 * counts[i] of weights[i * taps + t] times input starts[i] + t, plus 2^21, shifted right by 22
 * bits, at most 255. STARTS and COUNTS have COUNT entries; WEIGHTS COUNT x TAPS, where TAPS is at
 * least resample_taps; those behind counts[i] are 0. */
void resample_table(int in, int full, int first, int count, bool mirrored, int taps,
                    int32_t *starts, int32_t *counts, int32_t *weights);
/* Does the vertical pass come first? The pass of an axis that keeps its size changes nothing. */
bool resample_down_first(int in_width, int in_height, int full_width, int full_height);

/* torchvision's size rule for Resize(SHORT_SIDE): the shorter side becomes SHORT_SIDE, the longer
 * one int(short_side * longer / shorter). With only_shrink a picture whose shorter side is not
 * above SHORT_SIDE keeps its size. */
void resample_size(int width, int height, int short_side, bool only_shrink, int *out_width,
                   int *out_height);

/* torchvision's CenterCrop offset: int(round((side - crop) / 2.0)), halves to even; crop <= side.
 */
int resample_center(int side, int crop);

#endif
