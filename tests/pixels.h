/*
 * pixels.h - what the tests of pixels share: the oracles' hash, reading files, and their drawn
 * pictures.
 */
#ifndef TESTS_PIXELS_H
#define TESTS_PIXELS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* tests/oracle/pixel_hash.py. */
static inline uint64_t pixel_hash(const uint8_t *bytes, size_t size)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < size; i++)
        hash = hash * 0x9E3779B97F4A7C15u + bytes[i] + 1;
    return hash;
}

/* The bytes of a file, in a block of exactly that size (so that a sanitizer sees every look behind
 * it); NULL when it cannot be read. */
static inline uint8_t *read_whole(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long length;
    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0 && (length = ftell(file)) >= 0 &&
        fseek(file, 0, SEEK_SET) == 0) {
        *size = (size_t)length;
        bytes = malloc(*size ? *size : 1);
        if (bytes && fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

/* A picture by formula, as tests/oracle/resample.py draws it. KIND 0: noise of all values, 1: noise
 * of 0 and 255, 2: a slope with edges, 3: white. */
static inline void draw_pixels(uint8_t *rgb, int width, int height, int kind)
{
    for (uint32_t y = 0; y < (uint32_t)height; y++)
        for (uint32_t x = 0; x < (uint32_t)width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t h = x * 73856093u ^ y * 19349663u ^ c * 83492791u;
                h ^= h >> 13;
                h *= 0x5BD1E995u;
                h ^= h >> 15;
                if (kind == 2)
                    h = x * 3 + y * 5 + c * 60 + (x / 16 + y / 16) % 2 * 90;
                else if (kind)
                    h = kind == 3 || (h & 1) ? 255 : 0;
                *rgb++ = (uint8_t)h;
            }
}

#endif
