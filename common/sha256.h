/*
 * sha256.h - SHA-256 (FIPS 180-4) of a file, as `sha256sum` prints it: the name by which others
 * call a file of weights.
 */
#ifndef COMMON_SHA256_H
#define COMMON_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};
void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *bytes, size_t size);
/* 64 lower-case hexadecimal digits and a 0. */
void sha256_value(struct sha256 *sha, char out[65]);

/* Of the file at PATH, read piece by piece. ERR_IO. */
int sha256_file(const char *path, char out[65]);

#endif
