/*
 * decode.h - one picture file, judged and decoded by its content to 8-bit RGB: the pixels of Pillow
 * 13's Image.open(f).convert("RGB"), which is what torchvision trains on. EXIF orientation and ICC
 * profiles are reported and ignored, as torchvision does.
 *
 * What is accepted and what the pixels are: data-spec/25-pixels.md.
 *
 * All input is hostile: sizes, scans and memory are bounded by the limits before anything is
 * allocated from them. A decoder serves one thread at a time and keeps its memory from picture to
 * picture.
 */
#ifndef COMMON_DECODE_H
#define COMMON_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Interleaved RGB, 8 bits each, rows without padding: size = width * height * 3. */
struct picture {
    int width, height;
    uint8_t *rgb;    /* mem_free it (picture_release) */
    size_t capacity; /* bytes allocated; reused and grown by decoder_read */
};

/* Make room for WIDTH x HEIGHT and set them. ERR_MEMORY. */
int picture_resize(struct picture *picture, int width, int height);
void picture_release(struct picture *picture);

enum decode_verdict {
    DECODE_PACK, /* decodes whole */
    DECODE_WARN, /* decodes whole, the decoder complained */
    DECODE_BAD
};

/* What was found; counted by prep. */
struct decode_info {
    enum decode_verdict verdict;
    char reason[160]; /* of warn or bad: "truncated", "12-bit", "GIF", the decoder's first warning
                         ...; the `why` column of the oddities table */
    bool png;         /* else JPEG (when it is a picture at all) */
    bool gray, cmyk, stored_rgb, progressive, arithmetic, palette, alpha, sixteen_bit, icc;
    int exif_orientation; /* 0 = none */
};

struct decode_limits {
    int64_t pixels; /* width * height at most */
    int scans;      /* of a progressive JPEG */
    size_t memory;  /* bytes the JPEG or PNG library may take beside the picture */
};
/* 178,956,970 pixels (where Pillow refuses), 500 scans, 512 MiB. */
extern const struct decode_limits decode_default_limits;

struct decoder;
int decoder_open(struct decoder **out);
void decoder_close(struct decoder *decoder); /* NULL is fine */

/* Decode SIZE bytes. 0: *OUT holds the picture, info->verdict is PACK or WARN. ERR_INPUT:
 * info->verdict is BAD, info->reason (also the error text) says why; *OUT's pixels are unspecified.
 * ERR_MEMORY otherwise. */
int decoder_read(struct decoder *decoder, const uint8_t *bytes, size_t size,
                 const struct decode_limits *limits, struct picture *out, struct decode_info *info);

/* A part of a picture, in its pixels. */
struct decode_window {
    int left, top, width, height;
};

/* As decoder_read, but only the pixels of WINDOW are promised. They lie where decoder_read puts
 * them and are the same bytes; what the others are is not said. A JPEG of the kind that
 * decoder_write_jpeg writes is decoded in and above WINDOW's rows only: INFO and the error say
 * nothing of the data behind them. Everything else is decoded whole, also for a WINDOW that is not
 * inside the picture. WINDOW may be NULL: all of it. */
int decoder_read_window(struct decoder *decoder, const uint8_t *bytes, size_t size,
                        const struct decode_limits *limits, const struct decode_window *window,
                        struct picture *out, struct decode_info *info);

/* Read only the header of a JPEG or PNG: its size as decoder_read would give it. No limit is looked
 * at. ERR_INPUT. */
int decoder_size(struct decoder *decoder, const uint8_t *bytes, size_t size, int *width,
                 int *height);

/* JPEG bytes of RGB pixels as libjpeg-turbo writes them: accurate integer DCT, optimised Huffman
 * tables, 4:2:0 below quality 90 and 4:4:4 from there on (Pillow's "quality" and a subsampling that
 * keeps colours at the qualities meant for training). *BYTES is grown as needed (mem_free it),
 * *SIZE set. Same pixels, same bytes on every machine with the same library. */
int decoder_write_jpeg(struct decoder *decoder, const struct picture *picture, int quality,
                       uint8_t **bytes, size_t *capacity, size_t *size);

/* A PNG file's bytes (for prep show and tests); same ownership. */
int decoder_write_png(const struct picture *picture, uint8_t **bytes, size_t *capacity,
                      size_t *size);

/* "libjpeg-turbo 2.1.5, libpng 1.6.39" */
const char *decode_libraries(void);

#endif
