/*
 * pack.h - prep pack SRC OUT.lmdb: a folder of class folders becomes a data set
 * (data-spec/20-data-set.md).
 *
 * The straight line: list the pictures (source), order them and cut the order into shards (plan,
 * with a size from a sample: estimate), pack the shards that are not finished yet (pack_shards:
 * pipeline, convert, tally, journal), publish the manifest. What is on disk is the state: a run
 * that is killed at any moment, and the same command again, make the same bytes as a run in peace.
 */
#ifndef PREP_PACK_H
#define PREP_PACK_H

#include "common/opts.h"

extern const struct opts_command pack_command;

/* argv[0] is "pack". Returns 0 or a negative err code. */
int pack_main(int argc, char **argv);

#endif
