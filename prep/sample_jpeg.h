/*
 * sample_jpeg.h - JPEG files in the variants that real ImageNet has: subsampling, progressive,
 * gray, CMYK and YCCK with Adobe's inversion. For prep sample only; data sets are written by
 * common/decode.h.
 */
#ifndef PREP_SAMPLE_JPEG_H
#define PREP_SAMPLE_JPEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sample_jpeg_colours { SAMPLE_JPEG_YCC, SAMPLE_JPEG_GRAY, SAMPLE_JPEG_CMYK, SAMPLE_JPEG_YCCK };

struct sample_jpeg {
    int quality;      /* 1..100 */
    int across, down; /* chroma subsampling: 2, 2 is 4:2:0; for YCC */
    bool progressive;
    enum sample_jpeg_colours colours;
};

/* Write RGB (WIDTH * HEIGHT * 3 bytes) as KIND says; *BYTES is the library's: free it with
 * sample_jpeg_free. ERR_FAULT with the library's words. */
int sample_jpeg_write(const struct sample_jpeg *kind, const uint8_t *rgb, int width, int height,
                      uint8_t **bytes, size_t *size);
void sample_jpeg_free(uint8_t *bytes); /* NULL is fine */

#endif
