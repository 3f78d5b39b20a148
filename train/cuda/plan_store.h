/*
 * plan_store.h - the plans that a network needs: asked for one by one while the ops are set up,
 * opened together by several threads, timed, kept on disk, and handed out. Equal graphs with the
 * same wish share one plan.
 *
 *   plan_store_open, plan_store_request (often), plan_store_complete, self_test_run (self_test.h),
 *   plan_store_keep, then plan_store_plan while training, plan_store_close.
 *
 * Engine choice: cuDNN's heuristics filtered by the wish give up to `candidates` plans, best first;
 * on a device that is there all are run once and then timed, and the fastest is taken. On an absent
 * device, or where memory for the trial is short, the first is taken.
 *
 * The cache is one file for each device, cuDNN and cuBLASLt (digest of the three in its name and
 * all of them in its head). A file that is another's, damaged, or holds a plan that cannot be
 * loaded is not trusted: a line says so, the plans are made anew and the file is written anew. A
 * cache that cannot be read or written is never an error.
 */
#ifndef TRAIN_CUDA_PLAN_STORE_H
#define TRAIN_CUDA_PLAN_STORE_H

#include "train/cuda/graphs.h"

struct plan_store;

struct plan_store_settings {
    const char *folder; /* of the cache; NULL: plan_store_folder(); "": no cache. Borrowed during
                           open */
    int candidates;     /* to be timed, 1 to 8; 0: 4 */
    int threads;        /* that open plans; 0: one a core */
};

/* DOOR is borrowed until close. Reads the cache. ERR_MEMORY. */
int plan_store_open(struct plan_store **out, struct door *door,
                    const struct plan_store_settings *settings);
void plan_store_close(struct plan_store *store); /* NULL is fine */

/* Ask for a plan of GRAPH (copied): *SLOT is its number. OPTIONAL: that there is none is no error
 * of plan_store_complete (fusion levels are chosen so). */
int plan_store_request(struct plan_store *store, const struct graph *graph,
                       const struct door_wish *wish, bool optional, int *slot);
/* Open all that were asked for and are not open, with a progress line. ERR_DEVICE: no plan; the
 * text has the graph's name and cuDNN's reason. May be called again after more requests: what had
 * no plan is tried again only when it is asked for again. */
int plan_store_complete(struct plan_store *store);
/* Write the cache if anything in it changed. */
void plan_store_keep(struct plan_store *store);
/* The plan of SLOT failed its test: close it and take the next best that was not yet refused, which
 * is not timed again. With none left an optional slot has no plan any more; for others that is
 * ERR_DEVICE: WHY and the engines that were tried are in the text. */
int plan_store_reject(struct plan_store *store, int slot, const char *why);

/* The plan of SLOT passed its test; and has it? */
void plan_store_pass(struct plan_store *store, int slot);
bool plan_store_passed(const struct plan_store *store, int slot);

int plan_store_count(const struct plan_store *store); /* slots are 0 to count - 1 */
/* NULL: optional, and there is none (or plan_store_complete was not called). Its
 * door_plan_info has the workspace. */
struct door_plan *plan_store_plan(const struct plan_store *store, int slot);
const struct graph *plan_store_graph(const struct plan_store *store, int slot);
/* Milliseconds of one run, as timed; 0: not timed. */
float plan_store_milliseconds(const struct plan_store *store, int slot);
/* The largest workspace of all plans; and why an optional plan is not there ("" where it is). */
size_t plan_store_workspace(const struct plan_store *store);
const char *plan_store_reason(const struct plan_store *store, int slot);
struct door *plan_store_door(const struct plan_store *store);

/* $XDG_CACHE_HOME/imagenet-train, or $HOME/.cache/imagenet-train; "" without either. OUT:
 * FILES_PATH_SIZE bytes. Returns OUT. */
char *plan_store_folder(char *out);

#endif
