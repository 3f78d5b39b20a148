#include "train/order.h"

#include <assert.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"

/* `index` of the numbers' counter: what is permuted with them. Windows are WINDOWS_FROM,
 * WINDOWS_FROM + 1 ... */
enum { ALL_RECORDS = 0, ALL_SHARDS = 1, WINDOWS_FROM = 2 };

struct order {
    enum order_shuffle shuffle;
    uint64_t seed;
    uint32_t batches, count;
    const uint32_t *records; /* borrowed; NULL: all */
    uint32_t *sequence; /* the record at each position of the current epoch; NULL for ORDER_NONE */
    /* For ORDER_SHARDS: */
    uint32_t *first;  /* shard_count + 1: where each shard begins in `records` */
    uint32_t *shards; /* the shards in the current epoch's order */
    uint32_t shard_count;
};

static int open_shards(struct order *order, const struct order_settings *settings)
{
    assert(settings->shard_count < UINT32_MAX);
    order->shard_count = (uint32_t)settings->shard_count;
    order->first =
        mem_array(settings->shard_count + 1, sizeof *order->first, "shards of the order");
    order->shards = mem_array(settings->shard_count, sizeof *order->shards, "shards of the order");
    if (!order->first || !order->shards)
        return -ERR_MEMORY;
    for (uint32_t s = 0; s < order->shard_count; s++)
        order->first[s + 1] = order->first[s] + settings->shard_sizes[s];
    assert(order->first[order->shard_count] == order->count);
    return 0;
}

int order_open(struct order **out, const struct order_settings *settings)
{
    int rc = -ERR_MEMORY;
    assert(settings->batch > 0);
    if (settings->shuffle != ORDER_NONE && settings->count < settings->batch)
        return err_set(ERR_INPUT,
                       "%u pictures to train on are fewer than one batch of %u: use a smaller "
                       "--batch-size or more pictures",
                       settings->count, settings->batch);
    struct order *order = mem_array(1, sizeof *order, "the order of records");
    if (!order)
        return rc;
    order->shuffle = settings->shuffle;
    order->seed = settings->seed;
    order->count = settings->count;
    order->records = settings->records;
    order->batches = settings->count / settings->batch;
    if (settings->shuffle == ORDER_NONE) {
        order->batches += settings->count % settings->batch != 0;
    } else {
        order->sequence = mem_array(order->count, sizeof *order->sequence, "the order of records");
        if (!order->sequence)
            goto fail;
    }
    if (settings->shuffle == ORDER_SHARDS && (rc = open_shards(order, settings)))
        goto fail;
    *out = order;
    return 0;

fail:
    order_close(order);
    return rc;
}

void order_close(struct order *order)
{
    if (!order)
        return;
    mem_free(order->sequence);
    mem_free(order->first);
    mem_free(order->shards);
    mem_free(order);
}

uint32_t order_batches(const struct order *order)
{
    return order->batches;
}

uint64_t order_memory(const struct order *order)
{
    uint64_t words = order->sequence ? order->count : 0;
    words += order->shards ? 2 * (uint64_t)order->shard_count + 1 : 0;
    return sizeof *order + 4 * words;
}

/* Permute the records of the COUNT shards at SHARDS and append them to the sequence at FILLED.
 * Returns how many. */
static uint32_t fill_window(struct order *order, uint32_t epoch, uint32_t window, uint32_t filled,
                            const uint32_t *shards, uint32_t count)
{
    struct rng rng;
    uint32_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += order->first[shards[i] + 1] - order->first[shards[i]];
    rng_init(&rng, order->seed, RNG_EPOCH_ORDER, epoch, WINDOWS_FROM + (uint64_t)window);
    rng_permutation(&rng, order->sequence + filled, size);
    for (uint32_t i = 0; i < size; i++) {
        uint32_t in_window = order->sequence[filled + i], s = 0;
        while (in_window >= order->first[shards[s] + 1] - order->first[shards[s]]) {
            in_window -= order->first[shards[s] + 1] - order->first[shards[s]];
            s++;
        }
        order->sequence[filled + i] = order->first[shards[s]] + in_window;
    }
    return size;
}

void order_epoch(struct order *order, uint32_t epoch)
{
    struct rng rng;
    assert(epoch < ORDER_EPOCH_LIMIT);
    switch (order->shuffle) {
    case ORDER_NONE:
        return;
    case ORDER_FULL:
        rng_init(&rng, order->seed, RNG_EPOCH_ORDER, epoch, ALL_RECORDS);
        rng_permutation(&rng, order->sequence, order->count);
        break;
    case ORDER_SHARDS:
        rng_init(&rng, order->seed, RNG_EPOCH_ORDER, epoch, ALL_SHARDS);
        rng_permutation(&rng, order->shards, order->shard_count);
        for (uint32_t s = 0, window = 0, filled = 0; s < order->shard_count; window++) {
            uint32_t left = order->shard_count - s;
            uint32_t count = left < ORDER_WINDOW_SHARDS ? left : ORDER_WINDOW_SHARDS;
            filled += fill_window(order, epoch, window, filled, order->shards + s, count);
            s += count;
        }
        break;
    }
}

uint32_t order_record(const struct order *order, uint32_t position)
{
    assert(position < order->count);
    uint32_t chosen = order->sequence ? order->sequence[position] : position;
    return order->records ? order->records[chosen] : chosen;
}
