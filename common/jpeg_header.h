/*
 * jpeg_header.h - the markers of a JPEG file up to its first scan, read without a library: what
 * must be known before one is let loose on it. Accepts what Pillow's JpegImagePlugin accepts.
 */
#ifndef COMMON_JPEG_HEADER_H
#define COMMON_JPEG_HEADER_H

#include "common/decode.h"

struct jpeg_header {
    int width, height; /* of the frame; 0 where the file says 0 or has no frame */
    int components;    /* 1, 3 or 4 */
};

/* Read the header of a file that starts with FF D8. Sets info->progressive, arithmetic, icc and
 * exif_orientation. ERR_INPUT with a verdict: the file ends before the first scan, or holds
 * something that is not decoded here (12-bit, lossless, other numbers of components). */
int jpeg_header_read(const uint8_t *bytes, size_t size, struct jpeg_header *out,
                     struct decode_info *info);

#endif
