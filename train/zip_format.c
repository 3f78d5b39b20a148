#include "train/zip_format.h"

#include <zlib.h>

uint32_t zip_crc(uint32_t crc, const void *bytes, size_t size)
{
    return size ? (uint32_t)crc32_z(crc, bytes, size) : crc;
}
