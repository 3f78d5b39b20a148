/*
 * zip_format.h - the numbers of the zip format that zip_writer.c and zip_reader.c share,
 * little-endian fields, and the CRC-32. The profile of it that PyTorch uses:
 * data-spec/50-checkpoint.md, 50.1.
 */
#ifndef TRAIN_ZIP_FORMAT_H
#define TRAIN_ZIP_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* APPNOTE.TXT of PKWARE, 4.3; the numbers behind a slash are its sections. */
enum {
    ZIP_ALIGNMENT = 64, /* of the data in the file, as torch.save aligns them */

    ZIP_LOCAL_SIGNATURE = 0x04034b50,      /* 4.3.7 */
    ZIP_DESCRIPTOR_SIGNATURE = 0x08074b50, /* 4.3.9 */
    ZIP_CENTRAL_SIGNATURE = 0x02014b50,    /* 4.3.12 */
    ZIP_END64_SIGNATURE = 0x06064b50,      /* 4.3.14 */
    ZIP_LOCATOR_SIGNATURE = 0x07064b50,    /* 4.3.15 */
    ZIP_END_SIGNATURE = 0x06054b50,        /* 4.3.16 */

    ZIP_LOCAL_BYTES = 30,
    ZIP_CENTRAL_BYTES = 46,
    ZIP_END64_BYTES = 56,
    ZIP_LOCATOR_BYTES = 20,
    ZIP_END_BYTES = 22,

    ZIP_FLAG_DESCRIPTOR = 1 << 3, /* sizes and CRC stand behind the data: what torch.save writes */
    ZIP_FLAG_UTF8 = 1 << 11,
    ZIP_VERSION_CLASSIC = 10,
    ZIP_VERSION_ZIP64 = 45,
    ZIP_VERSION_MADE_TORCH = 0x031e, /* in the ZIP64 end record of torch.save */

    ZIP_EXTRA_ZIP64 = 0x0001,
    ZIP_EXTRA_PADDING = 0x4246, /* "FB": PyTorch's own, filled with 'Z' */

    ZIP_NAME_LIMIT = 255,
    ZIP_EXTRA_LIMIT = 65535
};
#define ZIP_ALL_ONES_32 UINT32_MAX

static inline void zip_put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void zip_put32(uint8_t *p, uint32_t value)
{
    zip_put16(p, value & 0xffff);
    zip_put16(p + 2, value >> 16);
}

static inline void zip_put64(uint8_t *p, uint64_t value)
{
    zip_put32(p, (uint32_t)value);
    zip_put32(p + 4, (uint32_t)(value >> 32));
}

static inline unsigned zip_get16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static inline uint32_t zip_get32(const uint8_t *p)
{
    return zip_get16(p) | (uint32_t)zip_get16(p + 2) << 16;
}

static inline uint64_t zip_get64(const uint8_t *p)
{
    return zip_get32(p) | (uint64_t)zip_get32(p + 4) << 32;
}

/* The CRC-32 of SIZE bytes more, after CRC (0 for none yet). */
uint32_t zip_crc(uint32_t crc, const void *bytes, size_t size);

/* OUT (64 bytes) = "zlib 1.2.13"; returns OUT. */
char *zip_library(char out[64]);

#endif
