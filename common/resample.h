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

/* torchvision's size rule for Resize(SHORT_SIDE): the shorter side becomes SHORT_SIDE, the longer
 * one int(short_side * longer / shorter). With only_shrink a picture whose shorter side is not
 * above SHORT_SIDE keeps its size. */
void resample_size(int width, int height, int short_side, bool only_shrink, int *out_width,
                   int *out_height);

/* torchvision's CenterCrop offset: int(round((side - crop) / 2.0)), halves to even; crop <= side.
 */
int resample_center(int side, int crop);

#endif
