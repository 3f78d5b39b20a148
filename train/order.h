/*
 * order.h - which record when: a function of (seed, epoch, position) and nothing else.
 * data-spec/30-order.md.
 *
 * full: every epoch a uniform permutation of all records (Fisher-Yates on Philox numbers of (seed,
 * epoch)). shards: shards in random order, records permuted inside windows of some shards: for
 * disks that seek. An epoch is count / batch whole batches; the remainder is dropped, a different
 * one each epoch.
 */
#ifndef TRAIN_ORDER_H
#define TRAIN_ORDER_H

#include <stddef.h>
#include <stdint.h>

enum order_shuffle {
    ORDER_FULL,
    ORDER_SHARDS,
    ORDER_NONE /* validation: as stored, the last batch may be short */
};

struct order_settings {
    enum order_shuffle shuffle;
    uint64_t seed;
    uint32_t batch;
    const uint32_t *records; /* the records that take part (borrowed; NULL: all of 0 .. count-1) */
    uint32_t count;
    const uint32_t *shard_sizes; /* for shards: how many of `records` lie in each shard, in order
                                    (borrowed during order_open); their sum is `count` */
    size_t shard_count;
};

#define ORDER_WINDOW_SHARDS 4        /* shards: this many are mixed with each other */
#define ORDER_EPOCH_LIMIT (1u << 24) /* what the numbers' counter holds */

/* Allocates all it ever needs: 4 bytes a record (none for ORDER_NONE). */
struct order;
/* ERR_INPUT: fewer records than one batch (not for ORDER_NONE), naming both. BATCH >= 1. There is
 * no current epoch yet: order_epoch comes before order_record. */
int order_open(struct order **out, const struct order_settings *settings);
void order_close(struct order *order);
/* Batches of an epoch: count / batch, rounded up for ORDER_NONE. */
uint32_t order_batches(const struct order *order);
/* Bytes allocated. */
uint64_t order_memory(const struct order *order);
/* Make EPOCH the current one (0-based, < ORDER_EPOCH_LIMIT). Not while another thread reads. Takes
 * some 10 ns a record. */
void order_epoch(struct order *order, uint32_t epoch);
/* The record at POSITION (0 .. batches * batch - 1; for ORDER_NONE 0 .. count - 1) of the current
 * epoch. */
uint32_t order_record(const struct order *order, uint32_t position);

#endif
