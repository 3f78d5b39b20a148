#include "common/jpeg_header.h"

#include <stdio.h>
#include <string.h>

#include "common/exif.h"
#include "common/verdict.h"

enum {
    MARKER_SOF0 = 0xC0,
    MARKER_DHT = 0xC4,
    MARKER_JPG = 0xC8,
    MARKER_DAC = 0xCC,
    MARKER_SOF15 = 0xCF,
    MARKER_RST0 = 0xD0,
    MARKER_EOI = 0xD9,
    MARKER_SOS = 0xDA,
    MARKER_APP1 = 0xE1,
    MARKER_APP2 = 0xE2,
    MARKER_JPG0 = 0xF0,
    MARKER_JPG13 = 0xFD,
    MARKER_COM = 0xFE
};

static bool is_frame(int marker)
{
    return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT &&
           marker != MARKER_JPG && marker != MARKER_DAC;
}

/* Markers without a segment behind them, as Pillow's table has it. */
static bool stands_alone(int marker)
{
    return marker == MARKER_JPG || (marker >= MARKER_RST0 && marker <= MARKER_EOI) ||
           (marker >= MARKER_JPG0 && marker <= MARKER_JPG13);
}

/* A frame's segment: precision, height, width, number of components. */
static int read_frame(int marker, const uint8_t *segment, size_t length, struct jpeg_header *out,
                      struct decode_info *info)
{
    char reason[32];
    if (length < 6)
        return verdict_bad(info, "Bogus marker length", "in the frame header");
    /* The low two bits of a frame's marker: 2 progressive, 3 lossless; from SOF9 on arithmetic
     * coding. */
    if ((marker & 3) == 3)
        return verdict_bad(info, "lossless", NULL);
    if (segment[0] != 8) {
        snprintf(reason, sizeof reason, "%d-bit", segment[0]);
        return verdict_bad(info, reason, NULL);
    }
    out->height = segment[1] << 8 | segment[2];
    out->width = segment[3] << 8 | segment[4];
    out->components = segment[5];
    if (out->components != 1 && out->components != 3 && out->components != 4) {
        snprintf(reason, sizeof reason, "%d components", out->components);
        return verdict_bad(info, reason, NULL);
    }
    info->progressive = (marker & 3) == 2;
    info->arithmetic = marker > MARKER_JPG;
    return 0;
}

static int read_segment(int marker, const uint8_t *segment, size_t length, struct jpeg_header *out,
                        struct decode_info *info)
{
    if (is_frame(marker))
        return read_frame(marker, segment, length, out, info);
    if (marker == MARKER_APP1 && length >= 6 && memcmp(segment, "Exif\0", 6) == 0 &&
        !info->exif_orientation)
        info->exif_orientation = exif_orientation(segment + 6, length - 6);
    if (marker == MARKER_APP2 && length >= 12 && memcmp(segment, "ICC_PROFILE", 12) == 0)
        info->icc = true;
    return 0;
}

/* The next marker at or after AT: FF, any number of FF, a code that is neither 00 nor FF. Other
 * bytes are junk and skipped (the library will complain of them). 0 and *AT at the end when there
 * is none. */
static int next_marker(const uint8_t *bytes, size_t size, size_t *at)
{
    while (*at < size) {
        const uint8_t *found = memchr(bytes + *at, 0xFF, size - *at);
        if (!found)
            break;
        *at = (size_t)(found - bytes) + 1;
        while (*at < size && bytes[*at] == 0xFF)
            ++*at;
        if (*at < size && bytes[(*at)++] != 0)
            return bytes[*at - 1];
    }
    *at = size;
    return 0;
}

int jpeg_header_read(const uint8_t *bytes, size_t size, struct jpeg_header *out,
                     struct decode_info *info)
{
    size_t at = 2;
    int marker, last = 0;
    *out = (struct jpeg_header){0};
    if (size > 2 && bytes[2] != 0xFF)
        return verdict_bad(info, "not a picture", NULL);
    while ((marker = next_marker(bytes, size, &at))) {
        last = marker;
        if (stands_alone(marker))
            continue;
        if (marker < MARKER_SOF0 || marker > MARKER_COM) {
            char reason[48];
            snprintf(reason, sizeof reason, "Unsupported marker type 0x%02x", marker);
            return verdict_bad(info, reason, NULL);
        }
        if (size - at < 2)
            break;
        size_t length = (size_t)bytes[at] << 8 | bytes[at + 1];
        length = length < 2 ? 0 : length - 2;
        at += 2;
        if (size - at < length)
            break;
        int rc = read_segment(marker, bytes + at, length, out, info);
        if (rc || marker == MARKER_SOS)
            return rc;
        at += length;
    }
    if (!marker && last == MARKER_EOI)
        return verdict_bad(info, "JPEG datastream contains no image", NULL);
    return verdict_bad(info, "truncated", "the file ends before its first scan");
}
