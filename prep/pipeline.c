#include "prep/pipeline.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/work.h"

enum {
    SLOTS_BASE = 32, /* with the jobs': enough to go on while the writer syncs */
    SLOTS_PER_JOB = 8,
    READ_AHEAD = 32, /* files that the system is asked for before they are read */
    KEEP_PART = 2,   /* idle slots keep budget / KEEP_PART at most of each buffer */
    KEEP_DECODED = 16 << 20
};
#define BUDGET_BASE ((size_t)32 << 20)
#define BUDGET_PER_JOB ((size_t)16 << 20)

struct slot {
    uint32_t number; /* which of the task's files */
    bool done;
    size_t held; /* of the budget */
    struct files_buffer input;
    struct converted converted;
};

struct pipeline {
    struct pipeline_task task;
    struct slot *slots;
    uint32_t slot_count;
    struct work_queue *queue; /* slots with a file read */
    struct work_crew *crew;

    pthread_mutex_t mutex;   /* what stands below, and each slot's done and held */
    pthread_cond_t finished; /* the slot that has its turn is done */
    pthread_cond_t room;     /* budget or a slot was given back */
    uint32_t waiting;        /* threads that wait for room */
    bool stopped;
    uint32_t written; /* files released: number WRITTEN has its turn */
    uint32_t converting;
    size_t used, budget;
    struct pipeline_times times;
};

/* ---- the budget ---- */

/* Bytes that an idle slot may keep of each of its two buffers. */
static size_t slot_keep(const struct pipeline *p)
{
    return p->budget / KEEP_PART / p->slot_count;
}

/* With the mutex held. */
static void wait_for_room(struct pipeline *p)
{
    p->waiting++;
    pthread_cond_wait(&p->room, &p->mutex);
    p->waiting--;
}

/* With the mutex held: there is more room. To wake nobody costs a system call, too. */
static void tell_room(struct pipeline *p)
{
    if (p->waiting)
        pthread_cond_broadcast(&p->room);
}

/* Wait for BYTES of the budget for SLOT. A DECODE that has its turn is let in when no other goes
 * on; a file that has its turn is read in any case. False: the pipeline has stopped. */
static bool take_room(struct pipeline *p, struct slot *slot, size_t bytes, bool decode)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->stopped && p->used + bytes > p->budget &&
           !(slot->number == p->written && (!decode || !p->converting)))
        wait_for_room(p);
    bool taken = !p->stopped;
    if (taken) {
        p->used += bytes;
        slot->held += bytes;
        p->converting += decode;
    }
    pthread_mutex_unlock(&p->mutex);
    return taken;
}

/* ---- threads ---- */

static void stop(void *argument)
{
    struct pipeline *p = argument;
    work_queue_cancel(p->queue);
    pthread_mutex_lock(&p->mutex);
    p->stopped = true;
    pthread_cond_broadcast(&p->finished);
    pthread_cond_broadcast(&p->room);
    pthread_mutex_unlock(&p->mutex);
}

/* Wait until NUMBER's slot is free. False: stopped. */
static bool wait_for_slot(struct pipeline *p, uint32_t number)
{
    pthread_mutex_lock(&p->mutex);
    while (!p->stopped && number - p->written >= p->slot_count)
        wait_for_room(p);
    bool free = !p->stopped;
    pthread_mutex_unlock(&p->mutex);
    return free;
}

/* *ASKED: so many files the system was asked for already. */
static int read_file(struct pipeline *p, struct slot *slot, uint32_t *asked)
{
    const struct pipeline_task *task = &p->task;
    uint32_t file = task->files[slot->number];
    double begin = work_seconds();
    int rc = 0;
    for (; *asked < task->count && *asked - slot->number < READ_AHEAD; ++*asked)
        source_will_need(task->source, task->files[*asked]);
    slot->input.size = 0;
    if (source_file(task->source, file)->size <= SOURCE_FILE_LIMIT)
        rc = source_read(task->source, file, &slot->input);
    pthread_mutex_lock(&p->mutex);
    p->times.read += work_seconds() - begin;
    pthread_mutex_unlock(&p->mutex);
    return rc;
}

static int read_files(void *argument)
{
    struct pipeline *p = argument;
    const struct pipeline_task *task = &p->task;
    uint32_t asked = 0;
    for (uint32_t number = 0; number < task->count; number++) {
        if (!wait_for_slot(p, number))
            return 0;
        struct slot *slot = &p->slots[number % p->slot_count];
        uint64_t size = source_file(task->source, task->files[number])->size;
        slot->number = number;
        if (!take_room(p, slot, size <= SOURCE_FILE_LIMIT ? (size_t)size : 0, false))
            return 0;
        int rc = read_file(p, slot, &asked);
        if (rc)
            return rc;
        if (!work_queue_give(p->queue, slot))
            return 0;
    }
    work_queue_end(p->queue);
    return 0;
}

/* SLOT's picture is converted: only its payload is still held. */
static void finish(struct pipeline *p, struct slot *slot, double seconds)
{
    pthread_mutex_lock(&p->mutex);
    p->used += slot->converted.size;
    p->used -= slot->held;
    slot->held = slot->converted.size;
    slot->done = true;
    p->converting--;
    p->times.convert += seconds;
    if (slot->number == p->written)
        pthread_cond_signal(&p->finished);
    tell_room(p);
    pthread_mutex_unlock(&p->mutex);
}

static int convert_picture(struct pipeline *p, struct converter *converter, struct slot *slot)
{
    uint32_t file = p->task.files[slot->number];
    char name[RECORD_NAME_LIMIT + 1], quoted[ERR_TEXT_SIZE];
    if (source_file(p->task.source, file)->size > SOURCE_FILE_LIMIT) {
        converted_refuse(&slot->converted, "the file is larger than 512 MiB");
        return 0;
    }
    int rc = converter_run(converter, slot->input.bytes, slot->input.size, &slot->converted);
    if (!rc)
        return 0;
    source_name(p->task.source, file, name);
    return err_add(rc, "%s", err_quote(quoted, sizeof quoted, name));
}

static int convert_slot(struct pipeline *p, struct converter *converter, struct slot *slot)
{
    size_t need =
        slot->input.size ? converter_need(converter, slot->input.bytes, slot->input.size) : 0;
    if (!take_room(p, slot, need, true))
        return 0;
    double begin = work_seconds();
    int rc = convert_picture(p, converter, slot);
    if (rc)
        return rc;
    if (slot->input.capacity > slot_keep(p)) {
        mem_free(slot->input.bytes);
        slot->input = (struct files_buffer){0};
    }
    converter_trim(converter, KEEP_DECODED);
    finish(p, slot, work_seconds() - begin);
    return 0;
}

static int convert_files(void *argument)
{
    struct pipeline *p = argument;
    struct converter *converter;
    void *item;
    int rc = converter_open(&converter, p->task.settings);
    while (!rc && work_queue_take(p->queue, &item))
        rc = convert_slot(p, converter, item);
    converter_close(converter);
    return rc;
}

/* ---- the owner's side ---- */

static int start(struct pipeline *p)
{
    int rc = work_crew_start(p->crew, "read", read_files, p);
    for (int i = 0; !rc && i < p->task.jobs; i++) {
        rc = work_crew_start(p->crew, "convert", convert_files, p);
        if (!rc) {
            p->times.jobs++;
        } else if (i > 0) {
            log_warning("%s; going on with %d instead of %d converting threads", err_text(), i,
                        p->task.jobs);
            return 0;
        }
    }
    return rc;
}

int pipeline_open(struct pipeline **out, const struct pipeline_task *task)
{
    struct pipeline *p = mem_array(1, sizeof *p, "pipeline");
    pthread_condattr_t attributes;
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!p)
        return rc;
    p->task = *task;
    p->slot_count = SLOTS_BASE + SLOTS_PER_JOB * (uint32_t)task->jobs;
    p->budget = BUDGET_BASE + BUDGET_PER_JOB * (size_t)task->jobs;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&p->finished, &attributes);
    pthread_cond_init(&p->room, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!(p->slots = mem_array(p->slot_count, sizeof *p->slots, "slots")) ||
        (rc = work_queue_open(&p->queue, p->slot_count)) ||
        (rc = work_crew_open(&p->crew, stop, p)) || (rc = start(p))) {
        pipeline_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

int pipeline_next(struct pipeline *p, struct pipeline_item *item)
{
    struct timespec until;
    work_after(200, &until);
    pthread_mutex_lock(&p->mutex);
    struct slot *slot = &p->slots[p->written % p->slot_count];
    int waited = 0;
    while (!p->stopped && !slot->done && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&p->finished, &p->mutex, &until);
    bool stopped = p->stopped, done = slot->done;
    pthread_mutex_unlock(&p->mutex);
    if (stopped)
        return work_crew_join(p->crew);
    if (done)
        *item = (struct pipeline_item){p->task.files[slot->number], &slot->converted};
    return done;
}

void pipeline_release(struct pipeline *p)
{
    struct slot *slot = &p->slots[p->written % p->slot_count];
    converted_trim(&slot->converted, slot_keep(p));
    pthread_mutex_lock(&p->mutex);
    p->used -= slot->held;
    slot->held = 0;
    slot->done = false;
    p->written++;
    tell_room(p);
    pthread_mutex_unlock(&p->mutex);
}

void pipeline_get_times(struct pipeline *p, struct pipeline_times *times)
{
    pthread_mutex_lock(&p->mutex);
    *times = p->times;
    pthread_mutex_unlock(&p->mutex);
}

void pipeline_close(struct pipeline *p)
{
    if (!p)
        return;
    if (p->crew)
        stop(p);
    work_crew_close(p->crew);
    for (uint32_t i = 0; p->slots && i < p->slot_count; i++) {
        mem_free(p->slots[i].input.bytes);
        converted_trim(&p->slots[i].converted, 0);
    }
    mem_free(p->slots);
    work_queue_close(p->queue);
    pthread_cond_destroy(&p->room);
    pthread_cond_destroy(&p->finished);
    pthread_mutex_destroy(&p->mutex);
    mem_free(p);
}
