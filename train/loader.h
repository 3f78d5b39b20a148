/*
 * loader.h - streams batches: worker threads read records, decode, crop, resize and flip into a
 * ring of batch slots allocated once; the trainer takes them in order. What is in a batch depends
 * on (seed, epoch, batch number) only (data-spec/30-order.md). All calls come from one thread.
 */
#ifndef TRAIN_LOADER_H
#define TRAIN_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/dataset.h"
#include "train/backend.h"
#include "train/order.h"

/* One whose loss is read, one that is computed, one on its way to the device. */
enum { LOADER_LENT = 3 };

struct loader_settings {
    bool training;      /* random crops and flips; otherwise resize and centre crop */
    int size;           /* pixels of a side */
    int resize;         /* validation: shorter side */
    int batch, workers; /* workers >= 1 */
    int depth;          /* slots of the ring: batches ahead; 0 = 2 + what keeps the workers busy */
    uint64_t seed;
    enum order_shuffle shuffle;
    /* labels[l] is what record label l is for the network, -1: leave those records out (they are
     * counted; to find them, loader_open reads a page of each record); one for each class of the
     * data set, copied. NULL: as stored. CLASSES: the network's, to check against. */
    const int32_t *labels;
    int classes;
    /* Batches that are borrowed at once: one is the caller's until LENT further calls of
     * loader_next. 0 = LOADER_LENT, or DEPTH where that is less. */
    int lent;
    int patience_ms; /* loader_next waits so long before it says so, and again; 0 = a minute */
    /* A backend that packs gets packed batches, in memory of DEVICE's. NULL: squares. Both are
     * borrowed and outlive the loader. */
    const struct backend *backend;
    struct device *device;
};

/* Where the time goes: of the trainer (waiting for data) and of the workers, summed over them, in
 * seconds. */
struct loader_times {
    double wait;                  /* the trainer waited for a batch */
    double read, decode, augment; /* the workers' work: first touch of the bytes, JPEG, pixels */
    double idle;                  /* the workers waited for a free slot */
};

struct loader;
/* DATASET is borrowed and must outlive it. ERR_INPUT when there are fewer records than one batch
 * (training) or none at all. Starts no work yet. */
int loader_open(struct loader **out, struct dataset *dataset,
                const struct loader_settings *settings);
void loader_close(struct loader *loader); /* stops the workers; NULL is fine */

/* Records that take part, and those left out by labels. Batches of one epoch. Bytes allocated; of
 * the data set's map a loader holds only the records that its workers are at. */
uint64_t loader_images(const struct loader *loader);
uint64_t loader_left_out(const struct loader *loader);
uint32_t loader_batches(const struct loader *loader);
uint64_t loader_memory(const struct loader *loader);
/* Bytes of a packed batch's block; 0 where batches are squares. */
size_t loader_packed_bytes(const struct loader *loader);

/* Begin EPOCH at batch FIRST (resume; 0 .. loader_batches, the last being the next epoch's first),
 * going on through the epochs that follow by itself (training) or ending after one (validation).
 * May be called again at any time: what was read ahead is dropped. ERR_USAGE: no such batch. */
int loader_start(struct loader *loader, uint32_t epoch, uint32_t first);
/* The next batch, borrowed until LENT further calls of loader_next, loader_start or loader_close.
 * 1, or 0 at the end of validation. A damaged record or label out of range is ERR_INPUT, naming
 * shard and record; it comes in the place of its batch, after all batches before it, and stays
 * until loader_start. */
int loader_next(struct loader *loader, const struct batch **out);
/* Name of a record for messages: "class/file name", quoted. */
void loader_record_name(struct loader *loader, uint64_t record, char out[600]);

void loader_times(const struct loader *loader, struct loader_times *out);

#endif
