/*
 * plan_store.c - see plan_store.h. What is on disk is plan_cache.c's.
 *
 * Threads only in plan_store_complete: each takes entries from a queue and opens their plans (the
 * one thing that several threads may ask a door for at once). Everything else, timing above all,
 * is done by the thread that calls.
 */
#include "train/cuda/plan_store.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/work.h"
#include "train/cuda/plan_cache.h"
#include "train/cuda/trial.h"

enum { CANDIDATES = 8, TIMED_RUNS = 3, THREADS = 16 };

struct entry {
    struct graph graph;
    struct door_wish wish;
    bool optional, tried, passed;
    struct door_plan *plans[CANDIDATES]; /* best first; after timing only the first is left */
    int count;
    float milliseconds;
    bool from_cache;
    char *reason;  /* why there is no plan */
    char *refused; /* engines that plan_store_reject closed, each with a line feed behind it */
};

struct plan_store {
    struct door *door;
    struct plan_cache *cache; /* NULL: none */
    int candidates, threads;
    struct entry **entries; /* at addresses that stay */
    int count, capacity;
    bool changed; /* something that the cache has not */
    /* while plans are opened */
    struct work_queue *queue;
    atomic_int opened;
    int to_open;
};

/* ---- opening ---- */

int plan_store_open(struct plan_store **out, struct door *door,
                    const struct plan_store_settings *settings)
{
    struct plan_store *s = mem_array(1, sizeof *s, "the plans");
    int rc;

    if (!s)
        return -ERR_MEMORY;
    s->door = door;
    s->candidates = settings->candidates ? settings->candidates : 4;
    if (s->candidates > CANDIDATES)
        s->candidates = CANDIDATES;
    if (door_properties(door)->index < 0)
        s->candidates = 1;
    s->threads = settings->threads ? settings->threads : work_cores();
    if (s->threads > THREADS)
        s->threads = THREADS;
    if ((rc = plan_cache_open(&s->cache, door, settings->folder))) {
        plan_store_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

static void close_plans(struct plan_store *s, struct entry *e, int from)
{
    for (int i = from; i < e->count; i++)
        door_plan_close(s->door, e->plans[i]);
    if (e->count > from)
        e->count = from;
}

void plan_store_close(struct plan_store *store)
{
    if (!store)
        return;
    for (int i = 0; i < store->count; i++) {
        struct entry *e = store->entries[i];

        close_plans(store, e, 0);
        mem_free(e->reason);
        mem_free(e->refused);
        mem_free(e);
    }
    mem_free(store->entries);
    plan_cache_close(store->cache);
    mem_free(store);
}

static bool same_wish(const struct door_wish *a, const struct door_wish *b)
{
    return a->workspace_cap == b->workspace_cap && a->deterministic == b->deterministic &&
           a->cores == b->cores;
}

int plan_store_request(struct plan_store *store, const struct graph *graph,
                       const struct door_wish *wish, bool optional, int *slot)
{
    struct plan_store *s = store;

    for (int i = 0; i < s->count; i++) {
        struct entry *e = s->entries[i];

        if (same_wish(&e->wish, wish) && graph_equal(&e->graph, graph)) {
            e->optional &= optional;
            e->tried &= e->count > 0;
            *slot = i;
            return 0;
        }
    }
    if (s->count == s->capacity) {
        int capacity = s->capacity ? 2 * s->capacity : 64;
        int rc = mem_grow((void **)&s->entries, (size_t)s->capacity, (size_t)capacity,
                          sizeof(struct entry *), "the plans");

        if (rc)
            return rc;
        s->capacity = capacity;
    }
    struct entry *e = mem_array(1, sizeof *e, "a plan");
    if (!e)
        return -ERR_MEMORY;
    graph_copy(&e->graph, graph);
    e->wish = *wish;
    e->optional = optional;
    *slot = s->count;
    s->entries[s->count++] = e;
    return 0;
}

/* ---- making plans ---- */

/* Open E's candidates; without those that were refused. */
static int open_candidates(struct plan_store *s, struct entry *e, int limit)
{
    struct door_plan *plans[CANDIDATES];
    int count = 0, rc = door_plans_open(s->door, &e->graph.graph, &e->wish, limit, plans, &count);

    e->count = 0;
    for (int i = 0; i < count; i++) {
        char line[sizeof door_plan_info(plans[i])->engine + 2];

        snprintf(line, sizeof line, "%s\n", door_plan_info(plans[i])->engine);
        if (e->refused && strstr(e->refused, line))
            door_plan_close(s->door, plans[i]);
        else
            e->plans[e->count++] = plans[i];
    }
    if (rc == -ERR_DEVICE && e->optional) {
        mem_free(e->reason);
        e->reason = mem_text(err_text());
        return e->reason ? 0 : -ERR_MEMORY;
    }
    return rc;
}

static void show_progress(struct plan_store *s)
{
    int opened = atomic_fetch_add(&s->opened, 1) + 1;

    if (log_progress_due(false))
        log_progress("compiling plans for the GPU: %d of %d", opened, s->to_open);
}

static int open_plans(void *argument)
{
    struct plan_store *s = argument;
    void *item;
    int rc = 0;

    while (!rc && work_queue_take(s->queue, &item)) {
        if (!(rc = open_candidates(s, item, s->candidates)))
            show_progress(s);
    }
    return rc;
}

static void stop_opening(void *argument)
{
    work_queue_cancel(((struct plan_store *)argument)->queue);
}

/* Open the entries that have no plan, with several threads. */
static int open_all(struct plan_store *s)
{
    struct work_crew *crew = NULL;
    int rc = work_queue_open(&s->queue, (size_t)s->to_open);

    if (rc)
        return rc;
    atomic_store(&s->opened, 0);
    for (int i = 0; i < s->count; i++)
        if (!s->entries[i]->tried && !s->entries[i]->count)
            work_queue_give(s->queue, s->entries[i]);
    work_queue_end(s->queue);
    rc = work_crew_open(&crew, stop_opening, s);
    for (int i = 0; i < s->threads && i < s->to_open && !rc; i++)
        rc = work_crew_start(crew, "plans", open_plans, s);
    if (rc) {
        struct err why;

        err_take(rc, &why);
        work_queue_cancel(s->queue);
        work_crew_close(crew);
        rc = err_raise(&why);
    } else {
        rc = work_crew_join(crew);
        work_crew_close(crew);
    }
    work_queue_close(s->queue);
    s->queue = NULL;
    return rc;
}

/* ---- timing ---- */

/* Bytes that the trial of E's candidates needs. */
static size_t entry_bytes(const struct entry *e)
{
    size_t workspace = 0;

    for (int i = 0; i < e->count; i++) {
        size_t bytes = door_plan_info(e->plans[i])->workspace_bytes;

        workspace = bytes > workspace ? bytes : workspace;
    }
    return trial_bytes(&e->graph.graph, workspace);
}

/* Put E's fastest plan first. */
static int time_entry(struct entry *e, struct trial *trial)
{
    int best = 0, rc = trial_bind(trial, &e->graph.graph);

    for (int i = 0; i < e->count && !rc; i++) {
        float milliseconds = 0;

        if ((rc = trial_run(trial, e->plans[i], 1, NULL)) ||
            (rc = trial_run(trial, e->plans[i], TIMED_RUNS, &milliseconds)))
            return rc;
        if (i == 0 || milliseconds < e->milliseconds) {
            best = i;
            e->milliseconds = milliseconds;
        }
    }
    struct door_plan *first = e->plans[best];
    e->plans[best] = e->plans[0];
    e->plans[0] = first;
    return rc;
}

/* Time all entries that have a choice. */
static int time_all(struct plan_store *s)
{
    struct trial *trial = NULL;
    size_t bytes = 0;
    int wanted = 0, done = 0, rc;

    for (int i = 0; i < s->count; i++)
        if (s->entries[i]->count > 1) {
            size_t needed = entry_bytes(s->entries[i]);

            bytes = needed > bytes ? needed : bytes;
            wanted++;
        }
    if (!wanted)
        return 0;
    rc = trial_open(&trial, s->door, bytes);
    if (rc == -ERR_MEMORY) {
        log_line("engines are not timed, the first ones are taken: %s", err_text());
        rc = 0;
        goto done;
    }
    for (int i = 0; i < s->count && !rc; i++) {
        struct entry *e = s->entries[i];

        if (e->count > 1 && !(rc = time_entry(e, trial)) && log_progress_due(++done == wanted))
            log_progress("timing engines: %d of %d", done, wanted);
    }
    log_progress_end();
    trial_close(trial);
done:
    for (int i = 0; i < s->count; i++)
        close_plans(s, s->entries[i], 1);
    return rc;
}

int plan_store_complete(struct plan_store *store)
{
    struct plan_store *s = store;
    double start = work_seconds();
    int wanted = 0, rc = 0;

    s->to_open = 0;
    for (int i = 0; i < s->count && !rc; i++) {
        struct entry *e = s->entries[i];

        if (e->tried || e->count)
            continue;
        wanted++;
        rc = plan_cache_find(s->cache, &e->graph.graph, &e->wish, &e->plans[0], &e->milliseconds);
        e->from_cache = e->plans[0] != NULL;
        e->count = e->from_cache;
        s->to_open += !e->from_cache;
    }
    if (rc || !wanted)
        return rc;
    if (s->to_open) {
        s->changed = true;
        rc = open_all(s);
        log_progress_end();
        if (!rc)
            rc = time_all(s);
    }
    /* What could not be had is not tried again unless it is asked for again. */
    for (int i = 0; i < s->count; i++) {
        s->entries[i]->optional |= rc && !s->entries[i]->count;
        s->entries[i]->tried = true;
    }
    if (!rc)
        log_line("plans: %d, %d of them from the cache, in %.1f s", wanted, wanted - s->to_open,
                 work_seconds() - start);
    return rc;
}

/* ---- keeping and refusing ---- */

void plan_store_keep(struct plan_store *store)
{
    struct plan_store *s = store;
    int rc = 0;

    if (!s->changed)
        return;
    for (int i = 0; i < s->count && !rc; i++) {
        struct entry *e = s->entries[i];

        if (e->count && !e->from_cache)
            rc = plan_cache_add(s->cache, &e->graph.graph, &e->wish, e->plans[0], e->milliseconds);
    }
    if (!rc)
        rc = plan_cache_write(s->cache);
    if (rc)
        log_line("the plans are not kept for the next start: %s", err_text());
    s->changed = false;
}

static int note_refused(struct entry *e)
{
    const char *engine = door_plan_info(e->plans[0])->engine;
    size_t old = e->refused ? strlen(e->refused) : 0, length = strlen(engine);
    int rc = mem_grow((void **)&e->refused, old ? old + 1 : 0, old + length + 2, 1, "an engine");

    if (!rc)
        snprintf(e->refused + old, length + 2, "%s\n", engine);
    return rc;
}

int plan_store_reject(struct plan_store *store, int slot, const char *why)
{
    struct plan_store *s = store;
    struct entry *e = s->entries[slot];
    int rc = note_refused(e);

    if (rc)
        return rc;
    log_warning("%s: %s: %s; another engine is taken", e->graph.name,
                door_plan_info(e->plans[0])->engine, why);
    close_plans(s, e, 0);
    e->from_cache = false;
    e->milliseconds = 0;
    s->changed = true;
    if ((rc = open_candidates(s, e, CANDIDATES)))
        return rc;
    close_plans(s, e, 1);
    if (e->count || e->reason)
        return 0;
    for (char *at = e->refused; (at = strchr(at, '\n')); at++)
        if (at[1])
            *at = ';';
        else
            *at = 0;
    if (e->optional) {
        e->reason = mem_text(why);
        return e->reason ? 0 : -ERR_MEMORY;
    }
    return err_set(ERR_DEVICE, "%s: %s; no engine is left of: %s", e->graph.name, why, e->refused);
}

void plan_store_pass(struct plan_store *store, int slot)
{
    store->entries[slot]->passed = true;
}

bool plan_store_passed(const struct plan_store *store, int slot)
{
    return store->entries[slot]->passed;
}

/* ---- asking ---- */

int plan_store_count(const struct plan_store *store)
{
    return store->count;
}

struct door_plan *plan_store_plan(const struct plan_store *store, int slot)
{
    const struct entry *e = store->entries[slot];

    return e->count ? e->plans[0] : NULL;
}

const struct graph *plan_store_graph(const struct plan_store *store, int slot)
{
    return &store->entries[slot]->graph;
}

float plan_store_milliseconds(const struct plan_store *store, int slot)
{
    return store->entries[slot]->milliseconds;
}

size_t plan_store_workspace(const struct plan_store *store)
{
    size_t most = 0;

    for (int i = 0; i < store->count; i++)
        if (store->entries[i]->count) {
            size_t bytes = door_plan_info(store->entries[i]->plans[0])->workspace_bytes;

            most = bytes > most ? bytes : most;
        }
    return most;
}

const char *plan_store_reason(const struct plan_store *store, int slot)
{
    const struct entry *e = store->entries[slot];

    return e->reason ? e->reason : "";
}

struct door *plan_store_door(const struct plan_store *store)
{
    return store->door;
}
