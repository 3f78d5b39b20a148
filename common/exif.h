/*
 * exif.h - the orientation in an EXIF block. It is reported and never applied.
 */
#ifndef COMMON_EXIF_H
#define COMMON_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* The orientation tag (0x0112) of the first directory of the TIFF structure in BYTES (without
 * "Exif\0\0"), as stored, 1 to 8 in files that follow the standard; 0 when there is none or the
 * block is damaged. */
int exif_orientation(const uint8_t *bytes, size_t size);

#endif
