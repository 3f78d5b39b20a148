/*
 * png_file.h - PNG files through libpng; private to decode.c. The only module that includes png.h.
 *
 * Any depth and colour type, interlaced or not, to 8-bit RGB as Pillow 13's convert("RGB") does:
 * alpha and transparent colours are dropped, not composed; colours of 16 bits keep their high byte,
 * but gray of 16 bits without alpha is cut at 255 (Pillow's I;16). Ancillary chunks do not touch
 * the pixels. data-spec/25-pixels.md.
 */
#ifndef COMMON_PNG_FILE_H
#define COMMON_PNG_FILE_H

#include "common/decode.h"

/* Decode bytes that start with the PNG signature; *INFO starts as zeroes. Returns as decoder_read
 * does. */
int png_file_read(const uint8_t *bytes, size_t size, const struct decode_limits *limits,
                  struct picture *out, struct decode_info *info);

/* The size in the header. ERR_INPUT with a verdict. */
int png_file_size(const uint8_t *bytes, size_t size, int *width, int *height,
                  struct decode_info *info);

/* As decoder_write_png. */
int png_file_write(const struct picture *picture, uint8_t **bytes, size_t *capacity, size_t *size);

/* "libpng 1.6.39" */
const char *png_file_library(void);

#endif
