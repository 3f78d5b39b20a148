/*
 * jpeg.h - JPEG files through libjpeg-turbo; private to decode.c. The only module that includes
 * jpeglib.h.
 *
 * Pixels are those of libjpeg-turbo's defaults, as Pillow takes them: accurate integer DCT, smooth
 * chroma upsampling, block smoothing of unfinished progressive files. data-spec/25-pixels.md.
 */
#ifndef COMMON_JPEG_H
#define COMMON_JPEG_H

#include "common/decode.h"

struct jpeg;
int jpeg_open(struct jpeg **out);
void jpeg_close(struct jpeg *jpeg); /* NULL is fine */

/* Decode bytes that start with FF D8; *INFO starts as zeroes. Returns as decoder_read_window does.
 */
int jpeg_read(struct jpeg *jpeg, const uint8_t *bytes, size_t size,
              const struct decode_limits *limits, const struct decode_window *window,
              struct picture *out, struct decode_info *info);

/* As decoder_write_jpeg. */
int jpeg_write(struct jpeg *jpeg, const struct picture *picture, int quality, uint8_t **bytes,
               size_t *capacity, size_t *size);

/* "libjpeg-turbo 2.1.5" */
const char *jpeg_library(void);

#endif
