/*
 * dataset.h - a data set: a folder NAME.lmdb with manifest.json, shards and bad.tsv. It exists if
 * and only if the manifest does; the manifest is written last. data-spec/20-data-set.md.
 */
#ifndef COMMON_DATASET_H
#define COMMON_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/manifest.h"
#include "common/shard.h"

/* Write FOLDER/manifest.json, whole or not at all: from then on the data set exists. Deterministic
 * bytes. ERR_FAULT when what it says does not add up, so that dataset_open would refuse it. */
int dataset_publish(const char *folder, const struct manifest *manifest);

/* An open data set. Any number of threads may read records at once. */
struct dataset;
/* Read and check the manifest, open all shards. ERR_INPUT: no data set ("not finished: prep pack
 * was interrupted" when only shards are there), damaged; ERR_MISMATCH: newer version. */
int dataset_open(struct dataset **out, const char *folder);
/* The manifest alone, for prep info: no shard is opened. */
int dataset_open_manifest(struct dataset **out, const char *folder);
void dataset_close(struct dataset *dataset); /* NULL is fine */

/* Strings and arrays are the data set's. */
const struct manifest *dataset_manifest(const struct dataset *dataset);
const char *dataset_folder(const struct dataset *dataset);
/* XXH3-128 over the class names (each with a 0 byte), and the manifest's own digest, over its
 * bytes: what checkpoints remember. */
const char *dataset_class_digest(const struct dataset *dataset);
const char *dataset_digest(const struct dataset *dataset);

/* Record INDEX in 0 .. images-1: shards one after the other. As shard_get; also refused as damaged:
 * another encoding or a larger picture than the manifest says, so that a reader's buffers hold
 * whatever this returns. */
int dataset_get(struct dataset *dataset, uint64_t index, bool check, struct record *out);
void dataset_will_need(struct dataset *dataset, uint64_t index);
/* In which shard record INDEX lies, and as which record; INDEX < images. */
void dataset_place(const struct dataset *dataset, uint64_t index, size_t *shard, uint32_t *record);

#endif
