/*
 * dataset.h - a data set: a folder NAME.lmdb with manifest.json, shards and bad.tsv. It exists if
 * and only if the manifest does; the manifest is written last. data-spec/20-data-set.md.
 */
#ifndef COMMON_DATASET_H
#define COMMON_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

#include "common/shard.h"

#define DATASET_FORMAT_VERSION 1
#define DATASET_CLASS_LIMIT 1000000

struct dataset_class {
    const char *name;  /* folder name: the WNID for ImageNet */
    const char *words; /* WordNet words, "" when unknown */
    uint64_t images;   /* records with this label */
};

struct dataset_shard {
    const char *file; /* "shard-00000.mdb" */
    uint64_t records, bytes;
    char digest[33];
};

/* What the manifest says. Strings and arrays are owned by whoever made it (dataset_open: the data
 * set). */
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
};

/* Write FOLDER/manifest.json, whole or not at all. Deterministic bytes: sorted keys, two-space
 * indent. */
int dataset_publish(const char *folder, const struct manifest *manifest);

/* An open data set. Any number of threads may read records at once. */
struct dataset;
/* Read and check the manifest, open all shards. ERR_INPUT: no data set ("not finished: prep pack
 * was interrupted" when only shards are there), damaged; ERR_MISMATCH: newer version. */
int dataset_open(struct dataset **out, const char *folder);
/* The manifest alone, for prep info: no shard is opened. */
int dataset_open_manifest(struct dataset **out, const char *folder);
void dataset_close(struct dataset *dataset); /* NULL is fine */

const struct manifest *dataset_manifest(const struct dataset *dataset);
const char *dataset_folder(const struct dataset *dataset);
/* XXH3-128 over the class names (each with a 0 byte), and over the manifest's bytes: what
 * checkpoints remember. */
const char *dataset_class_digest(const struct dataset *dataset);
const char *dataset_digest(const struct dataset *dataset);

/* Record INDEX in 0 .. images-1: shards one after the other. As shard_get. */
int dataset_get(struct dataset *dataset, uint64_t index, bool check, struct record *out);
void dataset_will_need(struct dataset *dataset, uint64_t index);
/* In which shard record INDEX lies, and as which record. */
void dataset_place(const struct dataset *dataset, uint64_t index, size_t *shard, uint32_t *record);

#endif
