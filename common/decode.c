#include "common/decode.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/jpeg.h"
#include "common/jpeg_header.h"
#include "common/mem.h"
#include "common/png_file.h"
#include "common/verdict.h"

const struct decode_limits decode_default_limits = {
    .pixels = 178956970,
    .scans = 500,
    .memory = (size_t)512 << 20,
};

/* ---- pictures ---- */

int picture_resize(struct picture *picture, int width, int height)
{
    size_t bytes;
    if (width < 1 || height < 1 || !mem_multiply((size_t)width, (size_t)height, &bytes) ||
        !mem_multiply(bytes, 3, &bytes))
        return err_set(ERR_MEMORY, "no memory for a picture of %d x %d pixels", width, height);
    if (bytes > picture->capacity) {
        /* Not mem_grow: every byte will be written, so neither copy the old ones nor clear the new.
         */
        picture_release(picture);
        picture->rgb = mem_aligned(bytes, "picture");
        if (!picture->rgb)
            return -ERR_MEMORY;
        picture->capacity = bytes;
    }
    picture->width = width;
    picture->height = height;
    return 0;
}

void picture_release(struct picture *picture)
{
    mem_free(picture->rgb);
    *picture = (struct picture){0};
}

/* ---- what kind of file it is ---- */

enum format { FORMAT_JPEG, FORMAT_PNG, FORMAT_OTHER };

/* Other kinds of pictures that people put into such folders, by their first bytes. */
static const struct {
    const char *name;
    size_t offset;
    const char *bytes;
} others[] = {
    {"GIF",       0, "GIF8"            },
    {"BMP",       0, "BM"              },
    {"WebP",      8, "WEBP"            },
    {"TIFF",      0, "II*"             },
    {"TIFF",      0, "MM"              },
    {"AVIF",      4, "ftypavif"        },
    {"HEIF",      4, "ftyphei"         },
    {"HEIF",      4, "ftypmif1"        },
    {"JPEG 2000", 0, "\xff\x4f\xff\x51"},
    {"JPEG 2000", 4, "jP  "            },
    {"JPEG XL",   0, "\xff\x0a"        },
    {"JPEG XL",   4, "JXL "            },
};

static bool has_bytes(const uint8_t *bytes, size_t size, size_t offset, const char *wanted)
{
    size_t length = strlen(wanted);
    return size >= offset + length && memcmp(bytes + offset, wanted, length) == 0;
}

static enum format find_format(const uint8_t *bytes, size_t size, struct decode_info *info)
{
    if (has_bytes(bytes, size, 0, "\xff\xd8"))
        return FORMAT_JPEG;
    if (has_bytes(bytes, size, 0, "\x89PNG\r\n\x1a\n"))
        return FORMAT_PNG;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (has_bytes(bytes, size, others[i].offset, others[i].bytes)) {
            verdict_bad(info, others[i].name, NULL);
            return FORMAT_OTHER;
        }
    }
    verdict_bad(info, size ? "not a picture" : "empty", NULL);
    return FORMAT_OTHER;
}

/* ---- the decoder ---- */

struct decoder {
    struct jpeg *jpeg;
};

int decoder_open(struct decoder **out)
{
    struct decoder *decoder = mem_array(1, sizeof *decoder, "decoder");
    int rc = decoder ? jpeg_open(&decoder->jpeg) : -ERR_MEMORY;
    *out = decoder;
    if (rc) {
        decoder_close(decoder);
        *out = NULL;
    }
    return rc;
}

void decoder_close(struct decoder *decoder)
{
    if (!decoder)
        return;
    jpeg_close(decoder->jpeg);
    mem_free(decoder);
}

int decoder_read(struct decoder *decoder, const uint8_t *bytes, size_t size,
                 const struct decode_limits *limits, struct picture *out, struct decode_info *info)
{
    return decoder_read_window(decoder, bytes, size, limits, NULL, out, info);
}

int decoder_read_window(struct decoder *decoder, const uint8_t *bytes, size_t size,
                        const struct decode_limits *limits, const struct decode_window *window,
                        struct picture *out, struct decode_info *info)
{
    *info = (struct decode_info){.verdict = DECODE_PACK};
    switch (find_format(bytes, size, info)) {
    case FORMAT_JPEG:
        return jpeg_read(decoder->jpeg, bytes, size, limits, window, out, info);
    case FORMAT_PNG:
        info->png = true;
        return png_file_read(bytes, size, limits, out, info);
    default:
        return -ERR_INPUT;
    }
}

int decoder_size(struct decoder *decoder, const uint8_t *bytes, size_t size, int *width,
                 int *height)
{
    struct decode_info info = {.verdict = DECODE_PACK};
    struct jpeg_header header;
    int rc = -ERR_INPUT;
    (void)decoder;
    switch (find_format(bytes, size, &info)) {
    case FORMAT_JPEG:
        rc = jpeg_header_read(bytes, size, &header, &info);
        if (rc)
            return rc;
        *width = header.width;
        *height = header.height;
        break;
    case FORMAT_PNG:
        rc = png_file_size(bytes, size, width, height, &info);
        break;
    case FORMAT_OTHER:
        break;
    }
    if (!rc && (*width < 1 || *height < 1))
        rc = verdict_bad(&info, "Empty JPEG image (DNL not supported)", NULL);
    return rc;
}

int decoder_write_jpeg(struct decoder *decoder, const struct picture *picture, int quality,
                       uint8_t **bytes, size_t *capacity, size_t *size)
{
    return jpeg_write(decoder->jpeg, picture, quality, bytes, capacity, size);
}

int decoder_write_png(const struct picture *picture, uint8_t **bytes, size_t *capacity,
                      size_t *size)
{
    return png_file_write(picture, bytes, capacity, size);
}

const char *decode_libraries(void)
{
    static _Thread_local char text[80];
    snprintf(text, sizeof text, "%s, %s", jpeg_library(), png_file_library());
    return text;
}
