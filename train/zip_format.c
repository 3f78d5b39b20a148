#include "train/zip_format.h"

#include <stdio.h>

#include <zlib.h>

uint32_t zip_crc(uint32_t crc, const void *bytes, size_t size)
{
    return size ? (uint32_t)crc32_z(crc, bytes, size) : crc;
}

char *zip_library(char out[64])
{
    snprintf(out, 64, "zlib %s", zlibVersion());
    return out;
}
