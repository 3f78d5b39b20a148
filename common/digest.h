/*
 * digest.h - XXH3 of bytes: 64 bits for a record, 128 bits for a file or a set. Against damage, not
 * against forgery. The values are part of the formats (data-spec) and the same on every machine.
 */
#ifndef COMMON_DIGEST_H
#define COMMON_DIGEST_H

#include <stddef.h>
#include <stdint.h>

uint64_t digest64(const void *bytes, size_t size);

/* Over pieces, one after the other. */
struct digest;
int digest_open(struct digest **out);
void digest_reset(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t size);
uint64_t digest_value64(const struct digest *digest);
/* 32 lower-case hexadecimal digits (XXH3-128 in canonical, big-endian order) and a 0. */
void digest_value128(const struct digest *digest, char out[33]);
void digest_close(struct digest *digest); /* NULL is fine */

/* Digest of a whole file in OUT, its size in *SIZE. ERR_IO. */
int digest_file(const char *path, char out[33], uint64_t *size);

/* OUT (64 bytes) = "xxHash 0.8.1"; returns OUT. */
char *digest_library(char out[64]);

#endif
