/*
 * convert.h - the bytes of one picture file become the payload of one record: judged and decoded by
 * content, resized as Pillow does, stored as RGB or written as JPEG. The pixels and bytes are a
 * function of the file and the settings. data-spec/20-data-set.md, "Settings".
 *
 * With encoding jpeg every picture is written anew, also one that is a JPEG already and keeps its
 * size: so all records are baseline JPEGs of 8 bits in YCbCr without profiles, thumbnails and other
 * freight, whatever the source had.
 *
 * A converter serves one thread at a time and keeps its memory from picture to picture.
 */
#ifndef PREP_CONVERT_H
#define PREP_CONVERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/decode.h"
#include "common/shard.h"

/* Longest side of a JPEG, in pixels: with encoding jpeg a longer one is bad. */
#define CONVERT_JPEG_SIDE_LIMIT 65500

struct convert_settings {
    int short_side; /* the shorter side's pixels at most; 0 = keep the size */
    enum record_encoding encoding;
    int quality; /* of JPEG, 1 to 100 */
    bool strict; /* a picture that the decoder complained about is bad */
};

/* One picture after conversion. Zero-initialise once; the payload's memory is reused. */
struct converted {
    struct decode_info info; /* verdict BAD: nothing but the reason counts below */
    uint32_t width, height, original_width, original_height;
    uint8_t *payload;
    size_t capacity, size;
};
/* Free the payload's memory if it is more than KEEP bytes; 0 frees all. */
void converted_trim(struct converted *converted, size_t keep);

struct converter;
int converter_open(struct converter **out, const struct convert_settings *settings);
void converter_close(struct converter *converter); /* NULL is fine */

/* Bytes of memory that converting will take at most, payload included; from the header, cheaply.
 * Small for what is not a picture. */
size_t converter_need(struct converter *converter, const uint8_t *bytes, size_t size);
/* Convert SIZE bytes. 0 also for a bad picture: see the verdict; reasons are printable ASCII.
 * ERR_MEMORY and ERR_FAULT otherwise. */
int converter_run(struct converter *converter, const uint8_t *bytes, size_t size,
                  struct converted *out);
/* Free working memory over KEEP bytes that large pictures left. */
void converter_trim(struct converter *converter, size_t keep);
/* Make *OUT the outcome of a picture refused for REASON without looking at it. */
void converted_refuse(struct converted *out, const char *reason);

/* Payload bytes of the picture in SIZE bytes when it is stored as RGB, from its header alone; 0
 * when it cannot be read. */
uint64_t converter_rgb_size(struct converter *converter, const uint8_t *bytes, size_t size);

#endif
