/*
 * pack_shards.h - the long part of prep pack: the unfinished shards of the plan, one after the
 * other, each published and journaled before the next. A shard gets its digest, its name and its
 * journal in a thread of its own while the next one is written. Pictures come through the pipeline
 * in the plan's order, across the shards' borders.
 */
#ifndef PREP_PACK_SHARDS_H
#define PREP_PACK_SHARDS_H

#include <stdint.h>

#include "prep/convert.h"
#include "prep/pipeline.h"
#include "prep/plan.h"
#include "prep/source.h"

struct pack_work {
    const char *folder; /* of the data set; borrowed, as all below */
    const struct source *source;
    const struct plan *plan;
    const struct convert_settings *settings;
    const uint32_t *shards; /* the unfinished ones, ascending */
    uint32_t shard_count;
    uint64_t pictures_before, bad_before; /* in finished shards, for the progress line */
    int jobs;
};

struct pack_result {
    uint64_t pictures, bad; /* of this run, finished shards or not */
    uint64_t input_bytes, payload_bytes;
    double seconds;
    double write_seconds; /* of them in the writer */
    struct pipeline_times stages;
};

/* Pack them. ERR_STOPPED on request (stop.h); any other error leaves the finished shards too. */
int pack_shards(const struct pack_work *work, struct pack_result *result);

#endif
