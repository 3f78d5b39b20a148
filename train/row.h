/*
 * row.h - one row of a batch: a record read and checked, decoded, cut, resized, mirrored. The
 * loader's threads have one maker each; what a row holds depends on (seed, epoch, record) only.
 */
#ifndef TRAIN_ROW_H
#define TRAIN_ROW_H

#include <stdint.h>

#include "common/dataset.h"
#include "train/loader.h"
#include "train/packed.h"

/* Serves one thread at a time. Its buffers are sized by the manifest: after open it allocates
 * nothing. */
struct row_maker;
/* DATASET and SETTINGS are borrowed until close. ERR_INPUT: the manifest's largest sizes are out of
 * range. */
int row_maker_open(struct row_maker **out, struct dataset *dataset,
                   const struct loader_settings *settings);
void row_maker_close(struct row_maker *maker); /* NULL is fine */
/* Bytes allocated; the resampler's and JPEG decoder's own parts are estimated. */
uint64_t row_maker_memory(const struct row_maker *maker);

/* Where a row goes: size x size x 3 bytes of PIXELS, or, where that is NULL, picture ROW of BLOCK.
 */
struct row_place {
    uint8_t *pixels;
    struct packed_block *block;
    int row;
};

/* Record RECORD as it is in EPOCH, to PLACE, and the network's class to *LABEL. The time taken is
 * added to TIMES. ERR_INPUT names shard and record: damaged, or a label out of the network's range.
 */
int row_make(struct row_maker *maker, uint64_t record, uint32_t epoch,
             const struct row_place *place, int32_t *label, struct loader_times *times);

/* RECORD is not looked at any more, for now: its pages of the data set's map leave this program's
 * memory, which would otherwise grow to the size of the data set (what the system mapped around
 * them, up to 64 KB of the records beside it, stays until those are given back). They stay in the
 * cache; reading them again is allowed, also by another thread at this moment. */
void row_give_back(const struct record *record);

/* A warning: READY of the ROWS pictures of PLAN's records are there after SECONDS, and the next
 * or one near it is waited for (NULL: not known which). Touches no record. */
void row_tell_wait(struct dataset *dataset, const uint64_t *plan, int ready, int rows,
                   double seconds);

/* As loader_record_name. */
void row_name(struct dataset *dataset, uint64_t record, char out[600]);

#endif
