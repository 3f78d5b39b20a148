/*
 * plan_cache.h - plans on disk, for plan_store.c alone. One file for each device and version:
 *
 *   plans-<XXH3-64 of device, cuDNN and cuBLASLt>.txt
 *     imagenet-train plans 1 <XXH3-64 of all that follows>
 *     cudnn <version> cublaslt <version> device <bytes>
 *     <cuDNN's words for the device>
 *     then, for every plan:
 *     plan <graph> <workspace cap> <deterministic> <cores> <milliseconds> <bytes>
 *     <door_plan_save's text>
 */
#ifndef TRAIN_CUDA_PLAN_CACHE_H
#define TRAIN_CUDA_PLAN_CACHE_H

#include "train/cuda/door.h"

struct plan_cache;

/* Read what is there. FOLDER as in plan_store_settings; *OUT is NULL where there is no cache, and
 * all functions take NULL. A file that is damaged or another's is passed over with a line.
 * ERR_MEMORY. */
int plan_cache_open(struct plan_cache **out, struct door *door, const char *folder);
void plan_cache_close(struct plan_cache *cache);
/* *PLAN = the plan for GRAPH and WISH, opened, and how it was timed; NULL when there is none that
 * can be loaded. ERR_MEMORY. */
int plan_cache_find(struct plan_cache *cache, const struct door_graph *graph,
                    const struct door_wish *wish, struct door_plan **plan, float *milliseconds);
/* Put PLAN in, in the place of an earlier one. ERR_MEMORY. */
int plan_cache_add(struct plan_cache *cache, const struct door_graph *graph,
                   const struct door_wish *wish, const struct door_plan *plan, float milliseconds);
/* Write the file anew, whole. */
int plan_cache_write(struct plan_cache *cache);

#endif
