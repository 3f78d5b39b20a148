/*
 * manifest.h - manifest.json of a data set: what is in it, and under which settings it was made.
 * data-spec/20-data-set.md, "The manifest".
 *
 * It carries a digest of its own bytes and one of every shard. It is read strictly: whatever the
 * format does not know, or what does not add up, is an error that names the file and the key.
 */
#ifndef COMMON_MANIFEST_H
#define COMMON_MANIFEST_H

#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

#include "common/mem.h"
#include "common/shard.h"

#define MANIFEST_FILE "manifest.json"
#define MANIFEST_FORMAT_VERSION 1
#define MANIFEST_CLASS_LIMIT 1000000
#define MANIFEST_SHARD_LIMIT 1000000
/* printf format of a shard's file name from its number, a size_t; it takes at most this many bytes
 * with its 0. The numbers ascend; one is left out where all of a shard's pictures were bad. */
#define MANIFEST_SHARD_FILE "shard-%05zu.mdb"
#define MANIFEST_SHARD_FILE_SIZE 32

struct dataset_class {
    const char *name;  /* folder name: the WNID for ImageNet; any bytes but 0 and / */
    const char *words; /* WordNet words, "" when unknown */
    uint64_t images;   /* records with this label */
};

struct dataset_shard {
    const char *file; /* MANIFEST_SHARD_FILE of its number */
    uint64_t records, bytes;
    char digest[33];
};

/* What the manifest says. Strings and arrays are owned by whoever made it. */
struct manifest {
    struct dataset_class *classes; /* index = label; names strictly ascending in byte order */
    size_t class_count;
    struct dataset_shard *shards;
    size_t shard_count;
    enum record_encoding encoding;
    uint64_t images;
    /* Largest stored picture, so that readers size their buffers once. */
    uint32_t largest_width, largest_height;
    uint64_t largest_payload;
    json_t *settings; /* object: every setting that shaped the bytes (short_side, encoding, quality,
                         seed ...) */
    json_t *source;   /* object: counts of what was found: files, bad, warned, conversions */
    const char *tool; /* who packed it: "prep 0.1.0"; NULL is written as "" */

    /* Only of one that was read (manifest_write does not look at these). */
    char digest[33]; /* of the manifest's bytes, as it stands in it */
    struct mem_arena texts;
};

/* Write PATH, whole or not at all. Deterministic bytes: sorted keys, two-space indent. ERR_FAULT
 * when what it says does not add up, so that manifest_read would refuse it. */
int manifest_write(const char *path, const struct manifest *manifest);

/* Fill *OUT from the TEXT of SIZE bytes, with a 0 behind it; PATH is for messages. manifest_release
 * *OUT in any case. ERR_INPUT: damaged, or not a manifest; ERR_MISMATCH: newer version. */
int manifest_read(struct manifest *out, const char *path, const char *text, size_t size);
/* Free what manifest_read made; a zeroed one is fine. */
void manifest_release(struct manifest *manifest);

#endif
