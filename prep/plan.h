/*
 * plan.h - which picture goes to which shard, in which order. A function of the number of pictures,
 * the seed, the shard size and one number about the pictures (the mean size of a record, from a
 * sample that the seed chooses): known before the first picture is packed, and the same for any
 * number of jobs and after any interruption. data-spec/20-data-set.md, "Order of the records".
 *
 * Position p of the data set is file order[p], a uniform permutation of all files. Shard s holds
 * the positions files * s / shards to files * (s + 1) / shards - 1, so that the shards' numbers of
 * positions differ by one at most. A bad picture leaves a gap: its shard has a record less, and
 * nothing else moves.
 */
#ifndef PREP_PLAN_H
#define PREP_PLAN_H

#include <stdint.h>

#include "common/manifest.h"

#define PLAN_SHARD_LIMIT 100000 /* names have five digits */

struct plan {
    uint32_t *order; /* file of each position */
    uint32_t files;
    uint32_t shards;
};

/* The order of FILES (>= 1) files. Shards are still unknown: plan_cut. ERR_MEMORY. */
int plan_open(struct plan *plan, uint32_t files, uint64_t seed);
/* Cut it into shards of about SHARD_BYTES, when a record takes RECORD_BYTES (>= 1) on average.
 * ERR_USAGE: more than PLAN_SHARD_LIMIT shards. */
int plan_cut(struct plan *plan, uint64_t shard_bytes, uint64_t record_bytes);
void plan_close(struct plan *plan); /* an empty one is fine */

/* The positions of SHARD: *COUNT (>= 1) from *FIRST on. */
void plan_range(const struct plan *plan, uint32_t shard, uint32_t *first, uint32_t *count);

/* OUT = "shard-00003.mdb" for shard 3. */
void plan_shard_name(uint32_t shard, char out[MANIFEST_SHARD_FILE_SIZE]);

#endif
