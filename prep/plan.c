#include "prep/plan.h"

#include <stdio.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"

int plan_open(struct plan *plan, uint32_t files, uint64_t seed)
{
    struct rng rng;
    *plan = (struct plan){.files = files};
    if (!(plan->order = mem_array(files, sizeof *plan->order, "order of the records")))
        return -ERR_MEMORY;
    rng_init(&rng, seed, RNG_PACK_ORDER, 0, 0);
    rng_permutation(&rng, plan->order, files);
    return 0;
}

int plan_cut(struct plan *plan, uint64_t shard_bytes, uint64_t record_bytes)
{
    uint64_t records = (shard_bytes + record_bytes / 2) / record_bytes;
    uint64_t shards = records ? (plan->files + records - 1) / records : plan->files;
    if (shards > PLAN_SHARD_LIMIT)
        return err_set(ERR_USAGE, "--shard-size: %llu shards, more than %d; take larger ones",
                       (unsigned long long)shards, PLAN_SHARD_LIMIT);
    plan->shards = (uint32_t)shards;
    return 0;
}

void plan_close(struct plan *plan)
{
    mem_free(plan->order);
    *plan = (struct plan){0};
}

void plan_range(const struct plan *plan, uint32_t shard, uint32_t *first, uint32_t *count)
{
    uint64_t begin = (uint64_t)plan->files * shard / plan->shards;
    uint64_t end = (uint64_t)plan->files * (shard + 1) / plan->shards;
    *first = (uint32_t)begin;
    *count = (uint32_t)(end - begin);
}

void plan_shard_name(uint32_t shard, char out[MANIFEST_SHARD_FILE_SIZE])
{
    snprintf(out, MANIFEST_SHARD_FILE_SIZE, MANIFEST_SHARD_FILE, (size_t)shard);
}
