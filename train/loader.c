/*
 * One lock guards the counters of the ring; pixels, labels and record numbers are written outside
 * of it. Batches are numbered from loader_start on:
 *
 * released  the trainer is done with those below; <= claimed; those from here to released + lent
 *           - 1 are the trainer's
 * claimed   all rows of those below were taken by workers, and claimed_row rows of this one;
 *           <= planned, <= released + depth
 * planned   the record numbers of those below are written, their pages were asked for;
 *           <= end, <= released + plan_depth
 *
 * The plan goes further ahead than the ring, so that the disk works ahead of the workers. A worker
 * takes ITEM_ROWS rows of a batch at a time, or plans one batch. The first row of a batch that
 * fails is kept in its slot, so that the trainer meets it after all batches before it, whichever
 * worker found it and when.
 */
#include "train/loader.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/work.h"
#include "train/row.h"

#define ITEM_ROWS 4        /* pictures a worker takes at a time: about a millisecond of work */
#define AHEAD_PICTURES 128 /* the plan goes at least so far beyond the ring, */
#define AHEAD_BATCHES 2    /* and so many batches */

struct slot {
    struct batch batch;
    struct packed packed; /* batch points to it where batches are packed */
    struct packed_block block;
    uint32_t epoch;
    int done;          /* rows that are finished, or have failed */
    int failed_row;    /* the first row that failed */
    struct err failed; /* kind ERR_NONE: none has */
};

struct worker {
    struct loader *loader;
    struct row_maker *maker;
};

struct loader {
    struct dataset *dataset;
    const struct manifest *manifest;
    struct loader_settings settings;
    int32_t *label_table;  /* copy of the settings' labels, which point to it; NULL: as stored */
    uint32_t *records;     /* those that take part; NULL: all */
    uint32_t *shard_sizes; /* how many of them in each shard */
    uint32_t count;        /* of them */
    uint64_t left_out, memory;
    struct order *order; /* belongs to the one who plans */
    int64_t order_epoch; /* its current epoch; -1: none */

    struct slot *slots;
    uint8_t *pixels;                 /* of all slots, row after row, or their blocks */
    size_t row_bytes, block_bytes;   /* block_bytes 0: batches are squares */
    struct packed_picture *pictures; /* of all slots, where they are packed */
    int32_t *labels;                 /* of all slots */
    uint64_t *plan;                  /* plan_depth x batch records */
    uint32_t depth, plan_depth;

    struct worker *workers;
    struct work_crew *crew;
    pthread_mutex_t mutex;
    pthread_cond_t work;  /* for workers: there may be something to do */
    pthread_cond_t ready; /* for the trainer: a batch is finished */
    pthread_cond_t quiet; /* for the trainer: no worker is at work */
    atomic_bool cancel;   /* workers leave what they are doing */

    /* Under the lock: */
    bool running, closing, planning;
    int lent; /* batches that are the trainer's */
    int busy; /* workers at work outside the lock */
    uint64_t released, claimed, planned, end;
    int claimed_row;
    struct loader_times times;

    /* Written by loader_start while no worker is at work: */
    uint32_t first_epoch, first_batch;
};

/* ---- which record ---- */

/* Batch NUMBER since loader_start is batch *BATCH of *EPOCH. */
static void locate(const struct loader *loader, uint64_t number, uint32_t *epoch, uint32_t *batch)
{
    const uint32_t batches = order_batches(loader->order);
    const uint64_t from_epoch = loader->first_batch + number;
    *epoch = loader->first_epoch + (uint32_t)(from_epoch / batches);
    *batch = (uint32_t)(from_epoch % batches);
}

static int rows_of(const struct loader *loader, uint64_t number)
{
    uint32_t epoch, batch;
    locate(loader, number, &epoch, &batch);
    const uint32_t left = loader->count - batch * (uint32_t)loader->settings.batch;
    return left < (uint32_t)loader->settings.batch ? (int)left : loader->settings.batch;
}

static uint64_t *plan_of(const struct loader *loader, uint64_t number)
{
    return loader->plan + number % loader->plan_depth * (uint64_t)loader->settings.batch;
}

static struct slot *slot_of(const struct loader *loader, uint64_t number)
{
    return &loader->slots[number % loader->depth];
}

static bool can_plan(const struct loader *loader)
{
    return loader->running && !loader->planning && loader->planned < loader->end &&
           loader->planned < loader->released + loader->plan_depth;
}

/* Write the record numbers of the next batch and ask for their pages. Called with the lock, which
 * it leaves meanwhile: a new epoch's order takes some 20 ms for ImageNet, and the system may wait
 * for the disk. */
static void plan_batch(struct loader *loader)
{
    const uint64_t number = loader->planned;
    uint64_t *records = plan_of(loader, number);
    uint32_t epoch, batch;

    loader->planning = true;
    loader->busy++;
    pthread_mutex_unlock(&loader->mutex);
    locate(loader, number, &epoch, &batch);
    if (loader->order_epoch != epoch) {
        order_epoch(loader->order, epoch);
        loader->order_epoch = epoch;
    }
    const int rows = rows_of(loader, number);
    const uint32_t position = batch * (uint32_t)loader->settings.batch;
    for (int row = 0; row < rows; row++)
        records[row] = order_record(loader->order, position + (uint32_t)row);
    for (int row = rows; row < loader->settings.batch; row++)
        records[row] = 0;
    for (int row = 0; row < rows && !atomic_load(&loader->cancel); row++)
        dataset_will_need(loader->dataset, records[row]);
    pthread_mutex_lock(&loader->mutex);
    loader->planning = false;
    loader->planned++;
    pthread_cond_broadcast(&loader->work);
    if (--loader->busy == 0)
        pthread_cond_signal(&loader->quiet);
}

/* ---- workers ---- */

/* Rows FROM .. TO - 1 of a slot. */
struct item {
    struct slot *slot;
    int from, to;
};

/* Take the next rows, if there are any and their slot is free. Called with the lock. */
static bool claim_item(struct loader *loader, struct item *item)
{
    const uint64_t number = loader->claimed;
    if (!loader->running || number >= loader->planned || number >= loader->released + loader->depth)
        return false;
    struct slot *slot = slot_of(loader, number);
    const int rows = rows_of(loader, number);
    if (loader->claimed_row == 0) {
        uint32_t batch;
        locate(loader, number, &slot->epoch, &batch);
        slot->batch.rows = rows;
        slot->batch.records = plan_of(loader, number);
        if (loader->block_bytes)
            packed_begin(&slot->block, loader->settings.batch, loader->settings.size);
    }
    item->slot = slot;
    item->from = loader->claimed_row;
    item->to = rows - item->from < ITEM_ROWS ? rows : item->from + ITEM_ROWS;
    loader->claimed_row = item->to;
    if (item->to == rows) {
        loader->claimed++;
        loader->claimed_row = 0;
    }
    return true;
}

/* Where a slot's rows begin in the blocks of all slots. */
static size_t row_of(const struct loader *loader, const struct slot *slot)
{
    return (size_t)(slot - loader->slots) * (size_t)loader->settings.batch;
}

/* The rows that a short batch leaves free are 0. */
static void clear_tail(struct loader *loader, const struct slot *slot)
{
    const size_t from = row_of(loader, slot) + (size_t)slot->batch.rows;
    const size_t rows = (size_t)(loader->settings.batch - slot->batch.rows);
    if (!loader->block_bytes)
        memset(loader->pixels + from * loader->row_bytes, 0, rows * loader->row_bytes);
    memset(loader->labels + from, 0, rows * sizeof *loader->labels);
}

static void add_times(struct loader_times *sum, const struct loader_times *times)
{
    sum->read += times->read;
    sum->decode += times->decode;
    sum->augment += times->augment;
}

/* Called with the lock, which it leaves meanwhile. */
static void make_item(struct worker *worker, const struct item *item)
{
    struct loader *loader = worker->loader;
    struct slot *slot = item->slot;
    struct loader_times times = {0};
    struct err failed = {.kind = ERR_NONE};
    int row = item->from, rc = 0;

    loader->busy++;
    pthread_mutex_unlock(&loader->mutex);
    while (!rc && row < item->to && !atomic_load(&loader->cancel)) {
        const size_t at = row_of(loader, slot) + (size_t)row;
        const struct row_place place = {
            .pixels = loader->block_bytes ? NULL : loader->pixels + at * loader->row_bytes,
            .block = &slot->block,
            .row = row,
        };
        rc = row_make(worker->maker, slot->batch.records[row], slot->epoch, &place,
                      &loader->labels[at], &times);
        row++;
    }
    if (rc)
        err_take(rc, &failed);
    if (item->to == slot->batch.rows && slot->batch.rows < loader->settings.batch)
        clear_tail(loader, slot);
    pthread_mutex_lock(&loader->mutex);
    if (rc && (slot->failed.kind == ERR_NONE || row < slot->failed_row)) {
        slot->failed = failed;
        slot->failed_row = row;
    }
    slot->done += item->to - item->from;
    add_times(&loader->times, &times);
    if (slot->done == slot->batch.rows)
        pthread_cond_signal(&loader->ready);
    if (--loader->busy == 0)
        pthread_cond_signal(&loader->quiet);
}

/* Called with the lock. Only waiting for the trainer to free a slot counts as idle. */
static void wait_for_work(struct loader *loader)
{
    const bool full = loader->running && loader->claimed < loader->end &&
                      loader->claimed >= loader->released + loader->depth;
    const double begin = full ? work_seconds() : 0;
    pthread_cond_wait(&loader->work, &loader->mutex);
    if (full)
        loader->times.idle += work_seconds() - begin;
}

static int run_worker(void *argument)
{
    struct worker *worker = argument;
    struct loader *loader = worker->loader;
    struct item item;
    pthread_mutex_lock(&loader->mutex);
    while (!loader->closing) {
        if (can_plan(loader))
            plan_batch(loader);
        else if (claim_item(loader, &item))
            make_item(worker, &item);
        else
            wait_for_work(loader);
    }
    pthread_mutex_unlock(&loader->mutex);
    return 0;
}

/* ---- opening and closing ---- */

/* Memory that is counted. */
static void *take(struct loader *loader, size_t count, size_t size, const char *what)
{
    void *block = mem_array(count, size, what);
    if (block)
        loader->memory += (uint64_t)count * size;
    return block;
}

/* Is there a record whose label is left out? The manifest knows without a look at the records. */
static bool leaves_out(const struct loader *loader)
{
    for (size_t c = 0; loader->label_table && c < loader->manifest->class_count; c++)
        if (loader->label_table[c] < 0 && loader->manifest->classes[c].images)
            return true;
    return false;
}

/* A damaged label would leave a record out without a word: one that takes part is checked when it
 * is read, one that does not is never read. */
static int check_left_out(const struct loader *loader)
{
    uint64_t expected = 0;
    for (size_t c = 0; c < loader->manifest->class_count; c++)
        if (loader->label_table[c] < 0)
            expected += loader->manifest->classes[c].images;
    if (loader->left_out == expected)
        return 0;
    return err_set(ERR_INPUT,
                   "%s: damaged: %llu records are of classes that are left out, but the manifest "
                   "says %llu; prep verify %s lists all damage",
                   dataset_folder(loader->dataset), (unsigned long long)loader->left_out,
                   (unsigned long long)expected, dataset_folder(loader->dataset));
}

/* List the records that take part: the labels of all are looked up, a page of each is read. */
static int list_records(struct loader *loader)
{
    const uint32_t images = (uint32_t)loader->manifest->images;
    loader->records = take(loader, images, sizeof *loader->records, "list of records");
    if (!loader->records)
        return -ERR_MEMORY;
    for (uint32_t index = 0; index < images; index++) {
        struct record record;
        int rc = dataset_get(loader->dataset, index, false, &record);
        if (rc)
            return rc;
        if (loader->label_table[record.label] >= 0)
            loader->records[loader->count++] = index;
        row_give_back(&record); /* the system maps some pages around the one that was read */
    }
    loader->left_out = images - loader->count;
    return check_left_out(loader);
}

static int copy_labels(struct loader *loader, const int32_t *labels)
{
    const size_t count = loader->manifest->class_count;
    loader->settings.labels = NULL;
    if (!labels)
        return 0;
    loader->label_table = take(loader, count, sizeof *labels, "table of labels");
    if (!loader->label_table)
        return -ERR_MEMORY;
    memcpy(loader->label_table, labels, count * sizeof *labels);
    loader->settings.labels = loader->label_table;
    return 0;
}

static int count_records(struct loader *loader)
{
    int rc = 0;
    if (loader->manifest->images > UINT32_MAX)
        return err_set(ERR_INPUT, "%llu records are more than can be put in order: %lu",
                       (unsigned long long)loader->manifest->images, (unsigned long)UINT32_MAX);
    if (leaves_out(loader))
        rc = list_records(loader);
    else
        loader->count = (uint32_t)loader->manifest->images;
    if (!rc && loader->count == 0)
        return err_set(ERR_INPUT,
                       "no picture takes part (%llu are of classes that the network does not "
                       "have): use a data set of the network's classes",
                       (unsigned long long)loader->left_out);
    return rc;
}

/* How many of the records lie in each shard. */
static int measure_shards(struct loader *loader)
{
    const struct manifest *manifest = loader->manifest;
    uint64_t end = 0;
    uint32_t taken = 0;
    loader->shard_sizes =
        take(loader, manifest->shard_count, sizeof *loader->shard_sizes, "shards");
    if (!loader->shard_sizes)
        return -ERR_MEMORY;
    for (size_t s = 0; s < manifest->shard_count; s++) {
        const uint32_t before = taken;
        end += manifest->shards[s].records;
        while (taken < loader->count && (loader->records ? loader->records[taken] : taken) < end)
            taken++;
        loader->shard_sizes[s] = taken - before;
    }
    return 0;
}

static int make_order(struct loader *loader)
{
    const struct loader_settings *settings = &loader->settings;
    int rc = measure_shards(loader);
    if (rc)
        return rc;
    const struct order_settings order = {
        .shuffle = settings->training ? settings->shuffle : ORDER_NONE,
        .seed = settings->seed,
        .batch = (uint32_t)settings->batch,
        .records = loader->records,
        .count = loader->count,
        .shard_sizes = loader->shard_sizes,
        .shard_count = loader->manifest->shard_count,
    };
    if ((rc = order_open(&loader->order, &order)))
        return rc;
    loader->order_epoch = -1;
    loader->memory += order_memory(loader->order);
    return 0;
}

static uint32_t divide_up(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

/* Pixels or blocks of all slots: of the device where it has memory for that. */
static int make_pixels(struct loader *loader, size_t rows)
{
    const struct loader_settings *settings = &loader->settings;
    const struct backend *backend = settings->backend;
    size_t bytes;
    int rc = 0;

    loader->row_bytes = (size_t)settings->size * (size_t)settings->size * 3;
    if (backend && backend->packs &&
        (rc = packed_capacity(settings->batch, settings->size, loader->manifest->largest_width,
                              loader->manifest->largest_height, &loader->block_bytes)))
        return rc;
    if (loader->block_bytes ? !mem_multiply(loader->depth, loader->block_bytes, &bytes)
                            : !mem_multiply(rows, loader->row_bytes, &bytes))
        return err_set(ERR_MEMORY, "%u batches of %d pictures of %d pixels do not fit into memory",
                       loader->depth, settings->batch, settings->size);
    if (backend && backend->host_alloc)
        rc = backend->host_alloc(settings->device, bytes, (void **)&loader->pixels);
    else if (!(loader->pixels = mem_aligned(bytes, "batches of pictures")))
        rc = -ERR_MEMORY;
    loader->memory += rc ? 0 : bytes;
    return rc;
}

static void release_pixels(struct loader *loader)
{
    const struct backend *backend = loader->settings.backend;
    if (backend && backend->host_alloc && loader->pixels)
        backend->host_release(loader->settings.device, loader->pixels);
    else
        mem_free(loader->pixels);
}

static void bind_slot(struct loader *loader, struct slot *slot)
{
    const size_t row = row_of(loader, slot);
    slot->batch.size = loader->settings.size;
    slot->batch.labels = loader->labels + row;
    if (!loader->block_bytes) {
        slot->batch.pixels = loader->pixels + row * loader->row_bytes;
        return;
    }
    slot->block.bytes = loader->pixels + (size_t)(slot - loader->slots) * loader->block_bytes;
    slot->block.pictures = loader->pictures + row;
    slot->block.capacity = loader->block_bytes;
    slot->packed.pictures = slot->block.pictures;
    slot->packed.block = slot->block.bytes;
    slot->batch.packed = &slot->packed;
}

static int make_ring(struct loader *loader)
{
    const struct loader_settings *settings = &loader->settings;
    const uint32_t batch = (uint32_t)settings->batch, ahead = divide_up(AHEAD_PICTURES, batch);
    const uint32_t room = settings->depth ? (uint32_t)settings->depth : LOADER_LENT;
    const uint32_t lent = settings->lent       ? (uint32_t)settings->lent
                          : room < LOADER_LENT ? room
                                               : LOADER_LENT;
    size_t rows;
    int rc;

    loader->settings.lent = (int)lent;
    loader->depth = settings->depth
                        ? (uint32_t)settings->depth
                        : 1 + lent + divide_up((uint32_t)settings->workers * ITEM_ROWS, batch);
    assert(loader->depth >= lent);
    loader->plan_depth = loader->depth + (ahead > AHEAD_BATCHES ? ahead : AHEAD_BATCHES);
    if (!mem_multiply(loader->depth, batch, &rows))
        return err_set(ERR_MEMORY, "%u batches of %u pictures do not fit into memory",
                       loader->depth, batch);
    if ((rc = make_pixels(loader, rows)))
        return rc;
    if (loader->block_bytes &&
        !(loader->pictures = take(loader, rows, sizeof *loader->pictures, "pictures of batches")))
        return -ERR_MEMORY;
    loader->slots = take(loader, loader->depth, sizeof *loader->slots, "batches");
    loader->labels = take(loader, rows, sizeof *loader->labels, "labels of batches");
    loader->plan =
        take(loader, (size_t)loader->plan_depth * batch, sizeof *loader->plan, "planned records");
    if (!loader->slots || !loader->labels || !loader->plan)
        return -ERR_MEMORY;
    for (uint32_t s = 0; s < loader->depth; s++)
        bind_slot(loader, &loader->slots[s]);
    return 0;
}

static int make_workers(struct loader *loader)
{
    const int count = loader->settings.workers;
    loader->workers = take(loader, (size_t)count, sizeof *loader->workers, "loader threads");
    int rc = loader->workers ? work_crew_open(&loader->crew, NULL, NULL) : -ERR_MEMORY;
    for (int w = 0; !rc && w < count; w++) {
        struct worker *worker = &loader->workers[w];
        char name[16];
        worker->loader = loader;
        if ((rc = row_maker_open(&worker->maker, loader->dataset, &loader->settings)))
            return rc;
        loader->memory += row_maker_memory(worker->maker);
        snprintf(name, sizeof name, "loader %d", w);
        rc = work_crew_start(loader->crew, name, run_worker, worker);
    }
    return rc;
}

int loader_open(struct loader **out, struct dataset *dataset,
                const struct loader_settings *settings)
{
    int rc;
    assert(settings->size >= 1 && settings->batch >= 1 && settings->workers >= 1);
    assert(settings->training ? settings->shuffle != ORDER_NONE : settings->resize >= 1);
    struct loader *loader = mem_array(1, sizeof *loader, "loader");
    if (!loader)
        return -ERR_MEMORY;
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->ready, NULL);
    pthread_cond_init(&loader->quiet, NULL);
    loader->dataset = dataset;
    loader->manifest = dataset_manifest(dataset);
    loader->settings = *settings;
    loader->memory = sizeof *loader;
    if ((rc = copy_labels(loader, settings->labels)) || (rc = count_records(loader)) ||
        (rc = make_order(loader)) || (rc = make_ring(loader)) || (rc = make_workers(loader))) {
        err_add(rc, "%s", dataset_folder(dataset));
        loader_close(loader);
        return rc;
    }
    *out = loader;
    return 0;
}

void loader_close(struct loader *loader)
{
    if (!loader)
        return;
    atomic_store(&loader->cancel, true);
    pthread_mutex_lock(&loader->mutex);
    loader->closing = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    work_crew_close(loader->crew);
    for (int w = 0; loader->workers && w < loader->settings.workers; w++)
        row_maker_close(loader->workers[w].maker);
    pthread_mutex_destroy(&loader->mutex);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->ready);
    pthread_cond_destroy(&loader->quiet);
    order_close(loader->order);
    mem_free(loader->label_table);
    mem_free(loader->records);
    mem_free(loader->shard_sizes);
    mem_free(loader->slots);
    release_pixels(loader);
    mem_free(loader->pictures);
    mem_free(loader->labels);
    mem_free(loader->plan);
    mem_free(loader->workers);
    mem_free(loader);
}

/* ---- what the trainer calls ---- */

uint64_t loader_images(const struct loader *loader)
{
    return loader->count;
}

uint64_t loader_left_out(const struct loader *loader)
{
    return loader->left_out;
}

uint32_t loader_batches(const struct loader *loader)
{
    return order_batches(loader->order);
}

uint64_t loader_memory(const struct loader *loader)
{
    return loader->memory;
}

size_t loader_packed_bytes(const struct loader *loader)
{
    return loader->block_bytes;
}

int loader_start(struct loader *loader, uint32_t epoch, uint32_t first)
{
    const uint32_t batches = order_batches(loader->order);
    if (epoch >= ORDER_EPOCH_LIMIT || first > batches)
        return err_set(ERR_USAGE,
                       "%s: there is no batch %u of epoch %u: an epoch has %u batches, and "
                       "there are %u epochs",
                       dataset_folder(loader->dataset), first, epoch, batches, ORDER_EPOCH_LIMIT);
    atomic_store(&loader->cancel, true);
    pthread_mutex_lock(&loader->mutex);
    loader->running = false;
    while (loader->busy)
        pthread_cond_wait(&loader->quiet, &loader->mutex);
    atomic_store(&loader->cancel, false);
    loader->first_epoch = epoch;
    loader->first_batch = first;
    loader->lent = 0;
    loader->released = loader->claimed = loader->planned = 0;
    loader->claimed_row = 0;
    loader->end = loader->settings.training
                      ? (uint64_t)(ORDER_EPOCH_LIMIT - epoch) * batches - first
                      : batches - first;
    for (uint32_t s = 0; s < loader->depth; s++) {
        loader->slots[s].done = 0;
        loader->slots[s].failed.kind = ERR_NONE;
    }
    loader->running = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    return 0;
}

/* The trainer is done with its oldest batch, if it has all that it may have. Called with the lock.
 */
static void release_batch(struct loader *loader)
{
    if (loader->lent < loader->settings.lent)
        return;
    slot_of(loader, loader->released)->done = 0;
    loader->lent--;
    loader->released++;
    pthread_cond_broadcast(&loader->work);
}

/* Wait until batch NUMBER is finished. A disk that does not answer has no other sign than this. */
static void wait_for_batch(struct loader *loader, uint64_t number)
{
    const struct slot *slot = slot_of(loader, number);
    const int rows = rows_of(loader, number);
    const int patience = loader->settings.patience_ms ? loader->settings.patience_ms : 60000;
    const double begin = work_seconds();
    struct timespec until;
    while (slot->done < rows) {
        work_after(patience, &until);
        while (slot->done < rows &&
               !pthread_cond_clockwait(&loader->ready, &loader->mutex, CLOCK_MONOTONIC, &until))
            ;
        const uint64_t *at = number < loader->planned ? plan_of(loader, number) : NULL;
        if (slot->done < rows)
            row_tell_wait(loader->dataset, at, slot->done, rows, work_seconds() - begin);
    }
    loader->times.wait += work_seconds() - begin;
}

int loader_next(struct loader *loader, const struct batch **out)
{
    int rc = 0;
    pthread_mutex_lock(&loader->mutex);
    release_batch(loader);
    const uint64_t number = loader->released + (uint64_t)loader->lent;
    if (number < loader->end) {
        struct slot *slot = slot_of(loader, number);
        wait_for_batch(loader, number);
        rc = slot->failed.kind ? err_raise(&slot->failed) : 1;
        loader->lent += rc == 1;
        slot->packed.bytes = atomic_load(&slot->block.used);
        *out = &slot->batch;
    }
    pthread_mutex_unlock(&loader->mutex);
    return rc;
}

void loader_record_name(struct loader *loader, uint64_t record, char out[600])
{
    row_name(loader->dataset, record, out);
}

void loader_times(const struct loader *loader, struct loader_times *out)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&loader->mutex; /* looking changes nothing else */
    pthread_mutex_lock(mutex);
    *out = loader->times;
    pthread_mutex_unlock(mutex);
}
