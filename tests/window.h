/*
 * window.h - a window of a picture file held against the whole of it: for the tests of the decoder
 * and its fuzz target.
 */
#ifndef TESTS_WINDOW_H
#define TESTS_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/decode.h"
#include "common/rng.h"

/* Whether PICTURE and OTHER, of one size, have the same pixels in WINDOW. */
static inline bool window_equals(const struct picture *picture, const struct picture *other,
                                 const struct decode_window *window)
{
    for (int y = window->top; y < window->top + window->height; y++) {
        size_t at = ((size_t)y * (size_t)picture->width + (size_t)window->left) * 3;
        if (memcmp(picture->rgb + at, other->rgb + at, (size_t)window->width * 3) != 0)
            return false;
    }
    return true;
}

/* Decode WINDOW into *CUT, which begins with no byte of WHOLE's, and compare. */
static inline bool window_holds(struct decoder *decoder, const uint8_t *bytes, size_t size,
                                const struct decode_limits *limits, const struct picture *whole,
                                const struct decode_window *window, struct picture *cut)
{
    struct decode_info info;
    const size_t values = (size_t)whole->width * (size_t)whole->height * 3;
    if (picture_resize(cut, whole->width, whole->height))
        return false;
    for (size_t i = 0; i < values; i++)
        cut->rgb[i] = (uint8_t)~whole->rgb[i];
    return !decoder_read_window(decoder, bytes, size, limits, window, cut, &info) &&
           cut->width == whole->width && cut->height == whole->height &&
           window_equals(cut, whole, window);
}

static inline struct decode_window random_window(struct rng *rng, int width, int height)
{
    struct decode_window window;
    window.left = (int)rng_below(rng, (uint64_t)width);
    window.top = (int)rng_below(rng, (uint64_t)height);
    window.width = 1 + (int)rng_below(rng, (uint64_t)(width - window.left));
    window.height = 1 + (int)rng_below(rng, (uint64_t)(height - window.top));
    return window;
}

/* A window of BYTES, which decode to WHOLE: the NUMBERth. */
static inline bool window_same(struct decoder *decoder, const uint8_t *bytes, size_t size,
                               const struct decode_limits *limits, const struct picture *whole,
                               uint64_t number)
{
    struct picture cut = {0};
    struct rng rng;
    rng_init(&rng, number, RNG_TEST, 0, 1);
    const struct decode_window window = random_window(&rng, whole->width, whole->height);
    bool same = window_holds(decoder, bytes, size, limits, whole, &window, &cut);
    if (!same)
        printf("window %d x %d at (%d, %d) of %d x %d pixels\n", window.width, window.height,
               window.left, window.top, whole->width, whole->height);
    picture_release(&cut);
    return same;
}

#endif
