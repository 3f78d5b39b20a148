/*
 * journal.h - what an unfinished data set remembers in its folder, so that an interrupted pack goes
 * on: plan.json, written before the first shard (what is packed and how, and the plan's one number
 * from the sample), and a shard-00003.json beside each finished shard (its size, digest, counts and
 * bad pictures). Both go when the manifest has been written, which holds their sum.
 *
 * A file is {"body": ..., "xxh3": "..."}, the digest (XXH3-64, 16 hexadecimal digits) being that of
 * the body as compact JSON with sorted keys. They are prep's own and no part of the data set.
 */
#ifndef PREP_JOURNAL_H
#define PREP_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "common/shard.h"
#include "prep/tally.h"

/* Refuse to mix: the first of NOW's values that differs in THEN (both {"settings": {..}, "source":
 * {..}}; other keys of THEN are not looked at) is ERR_MISMATCH, naming FOLDER and both values. */
int journal_compare(const char *folder, const json_t *then, const json_t *now);

/* IDENTITY is what journal_compare compares; RECORD_BYTES the mean size of a record. */
int journal_write_plan(const char *folder, const json_t *identity, uint64_t record_bytes);
/* *IDENTITY = a new reference, NULL when there is no plan. ERR_INPUT: damaged. */
int journal_read_plan(const char *folder, json_t **identity, uint64_t *record_bytes);

int journal_write_shard(const char *folder, uint32_t shard, const struct shard_facts *facts,
                        const struct tally *tally);
/* *FINISHED: SHARD has a whole journal, and its file is there in the right size (a shard of bad
 * pictures only has no file); only then *FACTS is set and, if not NULL, its counts and notes are
 * added to TALLY. FILES: of the source. A damaged journal means an unfinished shard. */
int journal_read_shard(const char *folder, uint32_t shard, uint32_t files,
                       struct shard_facts *facts, struct tally *tally, bool *finished);

/* Remove what interrupted runs left under temporary names; with JOURNALS also plan.json and the
 * shards' journals. */
int journal_clean(const char *folder, bool journals);

#endif
