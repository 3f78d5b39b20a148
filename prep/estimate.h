/*
 * estimate.h - how large a data set will be, from a sample of its pictures: the first ones of the
 * plan's random order, which are also the first to be packed. A function of the input and the
 * settings, so that shards planned from it are the same in every run.
 */
#ifndef PREP_ESTIMATE_H
#define PREP_ESTIMATE_H

#include <stdint.h>

#include "prep/convert.h"
#include "prep/plan.h"
#include "prep/source.h"

/* *BYTES (>= 1) = what a record takes in a shard on average: from the headers of the sample for
 * rgb, by converting a smaller sample for jpeg. Errors as source_read; ERR_STOPPED. */
int estimate_record(const struct source *source, const struct plan *plan,
                    const struct convert_settings *settings, uint64_t *bytes);

/* Bytes of a shard of RECORDS records that take RECORD_BYTES each, the tree's pages included. */
uint64_t estimate_shard(uint64_t records, uint64_t record_bytes);

#endif
