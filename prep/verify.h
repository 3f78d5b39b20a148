/*
 * verify.h - a data set read back in full: every shard's size, digest and pages, every record's
 * checksum, ranges, label and name, the counts of the classes, the files in the folder.
 * data-spec/20-data-set.md.
 */
#ifndef PREP_VERIFY_H
#define PREP_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

#define VERIFY_FINDINGS_LIMIT 100 /* kept of each shard */

/* Something that is not as it was packed. */
struct verify_finding {
    size_t shard;     /* position in the manifest; the number of shards: the data set as a whole */
    int64_t record;   /* in the shard; -1 the file */
    const char *text; /* one sentence; the report's */
};

struct verify_report {
    struct verify_finding *findings; /* by shard and record */
    size_t count, capacity;
    uint64_t damages; /* in all, with those beyond the limit and unreadable shards */
    size_t shards, bad_shards, unreadable_shards;
    uint64_t records, bytes; /* records that are whole; bytes that were read */
    double seconds;
    struct mem_arena texts;
};

/* Read FOLDER with JOBS threads (>= 1), each a shard at a time. 0 also when there are findings; an
 * error when there is no manifest to hold anything against (dataset_open_manifest) or memory is
 * short. verify_release *OUT in any case. */
int verify_data_set(const char *folder, int jobs, struct verify_report *out);
void verify_release(struct verify_report *report);

#endif
