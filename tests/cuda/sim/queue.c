/*
 * queue.c - queued work of the simulated device and the order in which it runs: lanes, the vector
 * clocks of what is queued on them, the scheduler.
 */
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "tests/cuda/sim/inside.h"

struct sim_work {
    struct sim_work *next;
    enum sim_step kind;
    struct sim_job *job;           /* SIM_RUN */
    struct sim_instance *instance; /* SIM_RECORD, SIM_WAIT */
    uint32_t time;
    struct sim_clock clock;
    bool watched;    /* a copy whose pinned source nothing that is queued writes */
    uint64_t source; /* its digest when the copy was queued */
    bool hung;
};

enum policy { LATE, EARLY, RANDOM, PRIORITY, POLICIES };

struct sim_queue {
    struct sim_lane lanes[SIM_LANES];
    struct rng rng, costs;
    double seconds; /* what the device's clock shows */
    enum policy policy;
    uint64_t seed_serial;
};

/* A new seed reaches the queues that are open. */
static uint64_t seed_now, seed_serial;
static uint64_t works_done, schedule_digest;

void sim_set_seed(uint64_t seed)
{
    sim_settings();
    seed_now = seed;
    seed_serial++;
    works_done = schedule_digest = 0;
}

uint64_t sim_work_done(void)
{
    return works_done;
}

uint64_t sim_schedule(void)
{
    return schedule_digest;
}

/* ---- jobs and records ---- */

struct sim_job *sim_job_new(enum sim_kind kind, const char *name)
{
    struct sim_job *job = mem_array(1, sizeof *job, "a piece of work");
    if (!job)
        return NULL;
    job->references = 1;
    job->kind = kind;
    snprintf(job->name, sizeof job->name, "%s", name);
    return job;
}

void sim_job_span(struct sim_job *job, const void *at, size_t bytes, bool write, const char *what)
{
    if (at && bytes && job->span_count < SIM_SPANS)
        job->spans[job->span_count++] = (struct sim_span){at, bytes, write, what};
}

void sim_job_drop(struct sim_job *job)
{
    if (!job || --job->references)
        return;
    if (job->has_launch)
        job->launch.release(job->launch.closure);
    sim_core_drop(job->core);
    mem_free(job);
}

struct sim_instance *sim_instance_new(void)
{
    struct sim_instance *instance = mem_array(1, sizeof *instance, "an event's record");
    if (instance)
        instance->references = 1;
    return instance;
}

void sim_instance_drop(struct sim_instance *instance)
{
    if (instance && !--instance->references)
        mem_free(instance);
}

/* ---- lanes ---- */

static void new_schedule(struct sim_queue *queue)
{
    uint64_t seed = seed_serial ? seed_now : sim_settings()->seed;
    rng_init(&queue->rng, seed, RNG_TEST, 0, 0);
    rng_init(&queue->costs, seed, RNG_TEST, 1, 0);
    queue->policy = (enum policy)(seed % POLICIES);
    queue->seed_serial = seed_serial;
    for (int i = 0; i < SIM_LANES; i++)
        queue->lanes[i].priority = rng_u64(&queue->rng);
}

int sim_queue_open(struct sim_queue **out)
{
    struct sim_queue *queue = mem_array(1, sizeof *queue, "the queues of a device");
    if (!queue)
        return -ERR_MEMORY;
    for (int i = 0; i < SIM_LANES; i++)
        queue->lanes[i].id = i;
    queue->lanes[0].open = true; /* the host's place in clocks */
    new_schedule(queue);
    *out = queue;
    return 0;
}

static struct sim_work *pop(struct sim_lane *lane)
{
    struct sim_work *work = lane->first;
    lane->first = work->next;
    if (!lane->first)
        lane->last = NULL;
    return work;
}

static void work_drop(struct sim_work *work)
{
    sim_job_drop(work->job);
    sim_instance_drop(work->instance);
    mem_free(work);
}

void sim_queue_drop(struct sim_queue *queue)
{
    for (int i = 0; i < SIM_LANES; i++) {
        while (queue->lanes[i].first)
            work_drop(pop(&queue->lanes[i]));
    }
}

void sim_queue_close(struct sim_queue *queue)
{
    if (!queue)
        return;
    sim_queue_drop(queue);
    mem_free(queue);
}

struct sim_lane *sim_lane_open(struct door *door)
{
    for (int i = 1; i < SIM_LANES; i++) {
        struct sim_lane *lane = &door->queue->lanes[i];
        if (!lane->open) {
            lane->open = true;
            return lane;
        }
    }
    sim_fault("more than %d streams and branches of captured graphs", SIM_LANES - 1);
    return NULL;
}

/* ---- queueing ---- */

/* Everything a job says it uses, against who used it before. */
static int use_spans(struct door *door, const struct sim_job *job, const struct sim_span *spans,
                     int count, const struct sim_lane *lane, const struct sim_work *work)
{
    const struct sim_user user = {job->name, lane->id, work->time, &work->clock};
    int rc = 0;
    for (int i = 0; i < count && !rc; i++) {
        if (!(rc = sim_span_check(door, &spans[i], SIM_ANYWHERE, 1, job->name)))
            rc = sim_span_use(door, &spans[i], &user);
    }
    return rc;
}

static bool is_queued(const struct door *door, const void *at, size_t bytes)
{
    const char *begin = at;
    for (int i = 1; i < SIM_LANES; i++) {
        for (const struct sim_work *w = door->queue->lanes[i].first; w; w = w->next) {
            for (int k = 0; w->job && k < w->job->span_count; k++) {
                const struct sim_span *s = &w->job->spans[k];
                if ((const char *)s->at < begin + bytes && begin < (const char *)s->at + s->bytes)
                    return true;
            }
        }
    }
    return false;
}

int sim_enqueue(struct door *door, struct sim_lane *lane, enum sim_step kind, struct sim_job *job,
                struct sim_instance *instance)
{
    struct sim_work *work = mem_array(1, sizeof *work, "a piece of work");
    int rc = 0;
    if (!work) {
        sim_job_drop(job);
        sim_instance_drop(instance);
        return -ERR_MEMORY;
    }
    lane->clock.at[lane->id] = ++lane->time;
    sim_clock_join(&lane->clock, &door->host);
    if (kind == SIM_WAIT)
        sim_clock_join(&lane->clock, &instance->clock);
    work->kind = kind;
    work->job = job;
    work->instance = instance;
    work->time = lane->time;
    work->clock = lane->clock;
    if (kind == SIM_RECORD) {
        instance->clock = lane->clock;
        instance->lane = lane;
    }
    if (job)
        rc = use_spans(door, job, job->spans, job->span_count, lane, work);
    if (rc) {
        work_drop(work);
        return rc;
    }
    if (job && job->kind == SIM_JOB_COPY) {
        work->watched = job->way == DOOR_IN && !is_queued(door, job->from, job->bytes);
        if (work->watched)
            work->source = digest64(job->from, job->bytes);
        if (job->way == DOOR_OUT && !is_queued(door, job->to, job->bytes))
            sim_poison(job->to, job->bytes); /* for who reads it too early */
    }
    if (lane->last)
        lane->last->next = work;
    else
        lane->first = work;
    lane->last = work;
    return 0;
}

/* ---- running ---- */

/* The clock knows nothing of the machine's: which engine is the fastest, and so what a run computes
 * bit for bit, follows from the seed. */
static void pass_time(struct sim_queue *queue)
{
    queue->seconds += 1e-6 * (double)(1 + rng_below(&queue->costs, 1000));
}

static int check_source(const struct sim_work *work)
{
    const struct sim_job *job = work->job;
    if (digest64(job->from, job->bytes) == work->source)
        return 0;
    return sim_fault("%s: the host changed its source before the copy ran", job->name);
}

static int run_kernel(struct door *door, const struct sim_lane *lane, struct sim_work *work)
{
    struct sim_job *job = work->job;
    struct sim_span spans[SIM_SPANS];
    int rc = 0;
    if (job->more) {
        int count = job->more(door, job, spans);
        rc = count < 0 ? count : use_spans(door, job, spans, count, lane, work);
    }
    if (!rc)
        job->launch.run(job->launch.closure);
    return rc;
}

static int run_job(struct door *door, const struct sim_lane *lane, struct sim_work *work)
{
    struct sim_job *job = work->job;
    int rc = 0;
    for (int i = 0; i < job->span_count && !rc; i++)
        rc = sim_span_check(door, &job->spans[i], SIM_ANYWHERE, 1, job->name);
    if (rc)
        return rc;
    switch (job->kind) {
    case SIM_JOB_COPY:
        if (work->watched && (rc = check_source(work)))
            return rc;
        memcpy(job->to, job->from, job->bytes);
        return 0;
    case SIM_JOB_FILL:
        memset(job->to, job->value, job->bytes);
        return 0;
    case SIM_JOB_PLAN:
        if (job->core->closed)
            return sim_fault("%s: the plan was closed before its work ran", job->name);
        if (job->workspace)
            sim_poison(job->workspace, job->core->info.workspace_bytes);
        rc = sim_core_run(door, job->core, job->pointers, door->runs++);
        if (job->workspace)
            sim_poison(job->workspace, job->core->info.workspace_bytes);
        return rc;
    case SIM_JOB_KERNEL:
        return run_kernel(door, lane, work);
    }
    return 0;
}

/* The head of LANE, which may run. */
static int run_head(struct door *door, struct sim_lane *lane)
{
    struct sim_work *work = lane->first;
    int rc = 0;
    if (work->kind == SIM_RUN) {
        enum sim_how how = sim_work_begins();
        if (how == SIM_HANG) {
            work->hung = true;
            return 0;
        }
        if (how != SIM_FINE) {
            char name[sizeof work->job->name];
            memcpy(name, work->job->name, sizeof name);
            return sim_lose(door, name);
        }
        rc = run_job(door, lane, work);
        pass_time(door->queue);
        uint64_t fields[3] = {schedule_digest, (uint64_t)lane->id, work->time};
        schedule_digest = digest64(fields, sizeof fields);
        works_done++;
    }
    if (work->kind == SIM_RECORD) {
        work->instance->done = true;
        work->instance->seconds = door->queue->seconds;
    }
    work_drop(pop(lane));
    return rc;
}

static bool may_run(const struct sim_lane *lane)
{
    const struct sim_work *work = lane->first;
    return work && !work->hung && (work->kind != SIM_WAIT || work->instance->done);
}

/* One of the lanes that may run, or NULL. */
static struct sim_lane *pick(struct sim_queue *queue)
{
    struct sim_lane *ready[SIM_LANES], *best = NULL;
    uint64_t count = 0;
    for (int i = 1; i < SIM_LANES; i++) {
        struct sim_lane *lane = &queue->lanes[i];
        if (!may_run(lane))
            continue;
        ready[count++] = lane;
        if (!best || lane->priority > best->priority)
            best = lane;
    }
    if (!count || queue->policy == PRIORITY)
        return best;
    return ready[rng_below(&queue->rng, count)];
}

/* The lane whose head must run next so that LANE goes on; NULL: it is hung. */
static struct sim_lane *needed(struct sim_lane *lane)
{
    while (lane && lane->first && !may_run(lane))
        lane = lane->first->hung ? NULL : lane->first->instance->lane;
    return lane && lane->first ? lane : NULL;
}

static void follow_seed(struct sim_queue *queue)
{
    if (queue->seed_serial != seed_serial)
        new_schedule(queue);
}

bool sim_is_late(struct sim_queue *queue)
{
    follow_seed(queue);
    return queue->policy == LATE;
}

int sim_progress(struct door *door, bool at_least_one)
{
    struct sim_queue *queue = door->queue;
    int rc = 0;
    sim_arena_enter(door->arena);
    follow_seed(queue);
    if (queue->policy == PRIORITY && rng_below(&queue->rng, 16) == 0)
        queue->lanes[1 + rng_below(&queue->rng, SIM_LANES - 1)].priority = rng_u64(&queue->rng);
    while (!rc && !door->lost) {
        bool more =
            queue->policy == EARLY || (queue->policy != LATE && rng_below(&queue->rng, 8) < 3);
        struct sim_lane *lane = more || at_least_one ? pick(queue) : NULL;
        if (!lane)
            break;
        at_least_one = false;
        rc = run_head(door, lane);
    }
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    return rc;
}

/* One step on the way to what LANE must do; sometimes one beside it. */
static int step_towards(struct door *door, struct sim_lane *lane)
{
    struct sim_queue *queue = door->queue;
    struct sim_lane *next = needed(lane);
    if (!next) {
        sim_lose(door, "waiting for the device");
        return err_set(ERR_DEVICE,
                       "waiting for the device: \"%s\" does not end (a simulated "
                       "hang); the GPU is lost, nothing on it can be saved",
                       "queued work");
    }
    if (queue->policy != LATE && rng_below(&queue->rng, 2))
        next = pick(queue);
    return run_head(door, next);
}

int sim_wait_lane(struct door *door, struct sim_lane *lane)
{
    int rc = 0;
    sim_arena_enter(door->arena);
    follow_seed(door->queue);
    while (lane->first && !rc)
        rc = step_towards(door, lane);
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    if (!rc)
        sim_clock_join(&door->host, &lane->clock);
    return rc;
}

int sim_wait_instance(struct door *door, struct sim_instance *instance)
{
    int rc = 0;
    sim_arena_enter(door->arena);
    follow_seed(door->queue);
    while (!instance->done && !rc)
        rc = step_towards(door, instance->lane);
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    if (!rc)
        sim_clock_join(&door->host, &instance->clock);
    return rc;
}
