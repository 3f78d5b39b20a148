/*
 * self_test.c - see self_test.h. The device runs plan after plan and its outputs are read at the
 * picked places; then several threads compute what should be there, a plan at a time each.
 */
#include "train/cuda/self_test.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/work.h"
#include "kernels/kernels.h"
#include "train/cuda/graph_value.h"
#include "train/cuda/trial.h"
#include "train/packed.h"

enum {
    CHOSEN = 256, /* elements of each large output, at least */
    CHANNELS = 4, /* of a normalisation: each costs a pass over the tensor */
    MOST = 1024   /* values of a plan */
};

struct sample {
    int tensor;
    int64_t index[4];
    double got;
};

/* One plan's samples. */
struct job {
    struct seeded contents[DOOR_MAX_TENSORS];
    const struct graph *graph;
    struct graph_values *values;
    int slot, count, wrong;
    struct sample samples[MOST];
    char why[300]; /* the first that is wrong */
};

/* ---- picking --------------------------------------------------------------------------------- */

/* Does a node of GRAPH sum over channels? Then few channels are looked at: of all outputs where
 * they depend on it (FEW), else of the sums. */
static bool sums_channels(const struct door_graph *graph, bool *few)
{
    bool sums = false;

    *few = false;
    for (int i = 0; i < graph->node_count; i++)
        switch (graph->nodes[i].kind) {
        case DOOR_NORM_FORWARD:
        case DOOR_NORM_BACKWARD:
            *few = sums = true;
            break;
        case DOOR_BN_BACKWARD_WEIGHTS:
        case DOOR_GEN_STATS:
            sums = true;
            break;
        default:
            break;
        }
    return sums;
}

static void pick_channels(int64_t c, int64_t channels[CHANNELS])
{
    for (int k = 0; k < CHANNELS; k++)
        channels[k] = k == 0 ? 0 : k == 1 ? c - 1 : c * k / CHANNELS;
}

/* The first corner, the last, then by RNG; with CHANNELS chosen ones only where FEW. */
static void pick_index(const struct door_tensor *t, int number, const int64_t channels[CHANNELS],
                       bool few, struct rng *rng, int64_t index[4])
{
    for (int i = 0; i < 4; i++) {
        int64_t dim = i < t->rank ? t->dims[i] : 1;

        index[i] = number == 0 ? 0 : number == 1 ? dim - 1 : (int64_t)rng_below(rng, (uint64_t)dim);
    }
    if (few && t->rank == 4)
        index[1] = channels[number % CHANNELS];
}

static void pick_samples(struct job *job, const struct seeded *contents)
{
    const struct door_graph *graph = &job->graph->graph;
    bool few, sums = sums_channels(graph, &few);
    int64_t channels[CHANNELS];
    struct rng rng;

    job->count = 0;
    for (int i = 0; i < graph->tensor_count; i++) {
        const struct door_tensor *t = &graph->tensors[i];
        int64_t elements = 1;

        if (t->is_virtual || t->by_value || contents[i].kind != SEEDED_OUTPUT)
            continue;
        rng_init(&rng, 1, RNG_TEST, 1, (uint64_t)t->uid);
        for (int k = 0; k < t->rank; k++)
            elements *= t->dims[k];
        pick_channels(t->dims[1], channels);
        bool channel = sums && elements == t->dims[1];
        int wanted = channel ? CHANNELS : CHOSEN;
        for (int k = 0; k < wanted && job->count < MOST; k++) {
            struct sample *s = &job->samples[job->count++];

            s->tensor = i;
            pick_index(t, k, channels, few || channel, &rng, s->index);
        }
    }
}

/* ---- the device's side ----------------------------------------------------------------------- */

static size_t memory_place(const struct door_tensor *t, const int64_t index[4])
{
    int64_t at = 0;

    for (int i = 0; i < t->rank; i++)
        at += index[i] * t->strides[i];
    return (size_t)at;
}

/* The channels over which sums run that would be too much to compute again. */
static int read_channels(struct job *job, struct trial *trial)
{
    int tensor = graph_values_wanted(job->values), rc = 0;
    int64_t channels[CHANNELS];

    if (tensor < 0)
        return 0;
    const struct door_tensor *t = &job->graph->graph.tensors[tensor];
    double *column =
        mem_array((size_t)(t->dims[0] * t->dims[2] * t->dims[3]), sizeof *column, "the self-test");
    if (!column)
        return -ERR_MEMORY;
    pick_channels(t->dims[1], channels);
    for (int k = 0; k < CHANNELS && !rc; k++)
        if (!(rc = trial_read_channel(trial, tensor, channels[k], column)))
            graph_values_give(job->values, channels[k], column);
    mem_free(column);
    return rc;
}

/* Run PLAN and read the samples. */
static int run_job(struct job *job, struct trial *trial, struct door_plan *plan)
{
    const struct door_graph *graph = &job->graph->graph;
    size_t at[MOST];
    double values[MOST];
    int rc = trial_bind(trial, graph);

    if (rc || (rc = trial_run(trial, plan, 1, NULL)))
        return rc;
    memcpy(job->contents, trial_contents(trial), sizeof job->contents);
    graph_values_close(job->values);
    job->values = NULL;
    if ((rc = graph_values_open(&job->values, graph, job->contents)) ||
        (rc = read_channels(job, trial)))
        return rc;
    pick_samples(job, job->contents);
    for (int i = 0; i < job->count && !rc;) {
        int tensor = job->samples[i].tensor, many = 0;

        while (i + many < job->count && job->samples[i + many].tensor == tensor) {
            at[many] = memory_place(&graph->tensors[tensor], job->samples[i + many].index);
            many++;
        }
        rc = trial_read(trial, tensor, at, many, values);
        for (int k = 0; k < many; k++)
            job->samples[i + k].got = values[k];
        i += many;
    }
    return rc;
}

/* ---- the host's side ------------------------------------------------------------------------- */

static void check_job(struct job *job)
{
    const struct door_graph *graph = &job->graph->graph;

    job->wrong = 0;
    for (int i = 0; i < job->count; i++) {
        const struct sample *s = &job->samples[i];
        double want;

        if (graph_value_fits(job->values, s->tensor, s->index, s->got, &want))
            continue;
        if (!job->wrong++)
            snprintf(job->why, sizeof job->why,
                     "%s (%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ") is %.9g, not %.9g",
                     graph_uid_name(graph->tensors[s->tensor].uid), s->index[0], s->index[1],
                     s->index[2], s->index[3], s->got, want);
    }
}

struct check {
    struct job **jobs;
    int count;
    atomic_int next;
};

static int check_some(void *argument)
{
    struct check *c = argument;
    int i;

    while ((i = atomic_fetch_add(&c->next, 1)) < c->count)
        check_job(c->jobs[i]);
    return 0;
}

static int check_all(struct job **jobs, int count)
{
    int threads = work_cores();
    struct check check = {.jobs = jobs, .count = count};
    struct work_crew *crew = NULL;
    int rc = work_crew_open(&crew, NULL, NULL);

    for (int i = 0; i < threads && i < count && !rc; i++)
        rc = work_crew_start(crew, "self-test", check_some, &check);
    if (!rc)
        rc = work_crew_join(crew);
    work_crew_close(crew);
    return rc;
}

/* ---- all plans ------------------------------------------------------------------------------- */

static size_t slot_bytes(const struct plan_store *store, int slot)
{
    const struct door_plan *plan = plan_store_plan(store, slot);

    return plan ? trial_bytes(&plan_store_graph(store, slot)->graph,
                              door_plan_info(plan)->workspace_bytes)
                : 0;
}

size_t self_test_bytes(const struct plan_store *store)
{
    size_t most = 0;

    for (int i = 0; i < plan_store_count(store); i++) {
        size_t bytes = slot_bytes(store, i);

        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Run the plans of JOBS on the device, then see what they computed. */
static int run_jobs(struct plan_store *store, struct job **jobs, int count)
{
    struct trial *trial = NULL;
    int rc = trial_open(&trial, plan_store_door(store), self_test_bytes(store));

    if (rc)
        return err_add(rc, "the self-test of the plans");
    for (int i = 0; i < count && !rc; i++) {
        rc = run_job(jobs[i], trial, plan_store_plan(store, jobs[i]->slot));
        if (log_progress_due(false))
            log_progress("self-test: %d of %d plans", i + 1, count);
    }
    /* The contents are the trial's. */
    if (!rc)
        rc = check_all(jobs, count);
    trial_close(trial);
    return rc;
}

/* Replace the plans that were wrong; keeps the jobs whose new plan must be tested. */
static int reject_jobs(struct plan_store *store, struct job **jobs, int *count)
{
    int kept = 0, rc = 0;

    for (int i = 0; i < *count && !rc; i++) {
        struct job *job = jobs[i];
        char why[400];

        if (!job->wrong) {
            plan_store_pass(store, job->slot);
            continue;
        }
        snprintf(why, sizeof why, "the self-test failed: %s (%d of %d values are wrong)", job->why,
                 job->wrong, job->count);
        rc = plan_store_reject(store, job->slot, why);
        if (!rc && plan_store_plan(store, job->slot)) {
            jobs[i] = jobs[kept];
            jobs[kept++] = job;
        }
    }
    *count = kept;
    return rc;
}

int self_test_run(struct plan_store *store)
{
    int slots = plan_store_count(store), count, made = 0, rc = 0;
    struct job **jobs = mem_array((size_t)slots, sizeof(struct job *), "the self-test");
    double start = work_seconds();
    int64_t values = 0;

    if (!jobs)
        return -ERR_MEMORY;
    for (int i = 0; i < slots && !rc; i++) {
        if (!plan_store_plan(store, i) || plan_store_passed(store, i))
            continue;
        if (!(jobs[made] = mem_array(1, sizeof **jobs, "the self-test"))) {
            rc = -ERR_MEMORY;
            break;
        }
        jobs[made]->slot = i;
        jobs[made++]->graph = plan_store_graph(store, i);
    }
    count = made;
    while (!rc && count > 0) {
        rc = run_jobs(store, jobs, count);
        for (int i = 0; i < count; i++)
            values += jobs[i]->count;
        if (!rc)
            rc = reject_jobs(store, jobs, &count);
    }
    log_progress_end();
    for (int i = 0; i < made; i++) {
        graph_values_close(jobs[i]->values);
        mem_free(jobs[i]);
    }
    mem_free(jobs);
    if (!rc)
        log_line("self-test: %d plans, %lld of their values computed again, in %.1f s", made,
                 (long long)values, work_seconds() - start);
    return rc;
}

/* ---- augmentation ---------------------------------------------------------------------------- */

/* Larger and smaller than the square, upright and wide, enlarged, cut for training and for
 * validation; the last is none (row 5 of 5 rows that count). */
static const struct {
    int width, height;
    bool validate;
} pictures[] = {
    {500, 375, false},
    {97,  211, false},
    {375, 500, true },
    {900, 60,  true },
    {40,  33,  false},
};
enum { PICTURES = sizeof pictures / sizeof *pictures, ROWS = PICTURES + 1, CHANNELS_STORED = 8 };

struct augment_test {
    struct door *door;
    struct door_stream *stream;
    struct resampler *resampler;
    uint8_t *source;           /* a picture */
    uint8_t *square[PICTURES]; /* of the CPU */
    struct packed_block block; /* pinned */
    struct packed_picture packed[ROWS];
    uint8_t *small;  /* pinned: rows, pictures, table */
    uint8_t *out;    /* pinned */
    uint8_t *device; /* block, small, out */
    int size;
    enum door_type type;
    size_t out_bytes, small_bytes;
};

/* Value V of channel C as it is stored: every type holds it exactly, no two channels share it. */
static float stored_value(int v, int c)
{
    return (float)(v + 1) * (c == 0 ? 1.0F : c == 1 ? -1.0F : 0.25F);
}

static void close_augment(struct augment_test *t)
{
    if (t->stream)
        door_stream_close(t->door, t->stream);
    if (t->block.bytes)
        door_host_free(t->door, t->block.bytes);
    if (t->small)
        door_host_free(t->door, t->small);
    if (t->out)
        door_host_free(t->door, t->out);
    if (t->device)
        door_free(t->door, t->device);
    for (int i = 0; i < PICTURES; i++)
        mem_free(t->square[i]);
    mem_free(t->source);
    resampler_close(t->resampler);
}

enum { SMALL_TABLE = 64, SMALL_PICTURES = SMALL_TABLE + 256 * 3 * 4 };

static int open_augment(struct augment_test *t)
{
    const char *what = "the self-test of the augmentation";
    void *block = NULL, *small = NULL, *out = NULL, *device = NULL;
    size_t square = 3 * (size_t)t->size * (size_t)t->size, capacity;
    int rc;

    t->small_bytes = SMALL_PICTURES + sizeof t->packed;
    t->out_bytes =
        ROWS * (size_t)t->size * (size_t)t->size * CHANNELS_STORED * door_type_bytes(t->type);
    if ((rc = packed_capacity(PICTURES, t->size, 0, 0, &capacity)) ||
        (rc = door_host_alloc(t->door, capacity, what, &block)))
        return rc;
    t->block = (struct packed_block){.bytes = block, .pictures = t->packed, .capacity = capacity};
    if ((rc = door_host_alloc(t->door, t->small_bytes, what, &small)))
        return rc;
    t->small = small;
    if ((rc = door_host_alloc(t->door, t->out_bytes, what, &out)))
        return rc;
    t->out = out;
    if ((rc = door_alloc(t->door, capacity + t->small_bytes + t->out_bytes + 512, what, &device)))
        return rc;
    t->device = device;
    if (!(t->source = mem_array(3 * 900 * 500, 1, what)))
        return -ERR_MEMORY;
    for (int i = 0; i < PICTURES; i++)
        if (!(t->square[i] = mem_array(square, 1, what)))
            return -ERR_MEMORY;
    if ((rc = resampler_open(&t->resampler, false)))
        return rc;
    return door_stream_open(t->door, &t->stream);
}

/* Noise in all pictures: every weight counts. */
static int make_pictures(struct augment_test *t)
{
    int rc = 0;

    packed_begin(&t->block, PICTURES, t->size);
    for (int i = 0; i < PICTURES && !rc; i++) {
        const struct pixels pixels = {t->source, pictures[i].width, pictures[i].height,
                                      3 * (size_t)pictures[i].width};
        struct augment_plan plan;
        struct crop crop;
        struct rng rng;

        rng_init(&rng, 1, RNG_TEST, 2, (uint64_t)i);
        for (size_t k = 0; k < pixels.stride * (size_t)pixels.height; k++)
            t->source[k] = (uint8_t)rng_u32(&rng);
        if (pictures[i].validate) {
            rc = augment_plan_validate(pixels.width, pixels.height, t->size + t->size / 7, t->size,
                                       &plan);
        } else {
            crop = augment_random_crop(1, 0, (uint64_t)i, pixels.width, pixels.height);
            augment_plan_train(&crop, t->size, &plan);
        }
        if (rc || (rc = augment_run(t->resampler, &pixels, &plan, t->size, t->square[i])))
            return rc;
        rc = packed_add(&t->block, i, t->resampler, &pixels, &plan, t->size);
    }
    return rc;
}

static size_t to_256(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static int run_augment(struct augment_test *t)
{
    static const enum kernel_type types[] = {
        [DOOR_F32] = KERNEL_F32, [DOOR_F16] = KERNEL_F16, [DOOR_BF16] = KERNEL_BF16};
    uint8_t *small = t->device + to_256(t->block.capacity), *out = small + to_256(t->small_bytes);
    int32_t rows = PICTURES;
    int rc;

    _Static_assert(sizeof(struct packed_picture) == sizeof(struct kernel_picture), "one layout");
    memset(t->small, 0, t->small_bytes);
    memcpy(t->small, &rows, sizeof rows);
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++) {
            float value = stored_value(v, c);

            memcpy(t->small + SMALL_TABLE + (size_t)(3 * v + c) * sizeof value, &value,
                   sizeof value);
        }
    memcpy(t->small + SMALL_PICTURES, t->packed, sizeof t->packed);
    if ((rc = door_copy(t->door, t->stream, DOOR_IN, t->device, t->block.bytes,
                        t->block.capacity)) ||
        (rc = door_copy(t->door, t->stream, DOOR_IN, small, t->small, t->small_bytes)) ||
        (rc = door_fill(t->door, t->stream, out, 0xff, t->out_bytes)) ||
        (rc = door_check(
             t->door,
             kernel_augment(t->stream, types[t->type], ROWS, t->size,
                            (const int32_t *)(void *)small,
                            (const struct kernel_picture *)(void *)(small + SMALL_PICTURES),
                            (const int32_t *)(void *)t->device, t->device,
                            (const float *)(void *)(small + SMALL_TABLE), out),
             "the self-test of the augmentation")) ||
        (rc = door_copy(t->door, t->stream, DOOR_OUT, t->out, out, t->out_bytes)))
        return rc;
    return door_stream_sync(t->door, t->stream);
}

static int compare_augment(const struct augment_test *t)
{
    size_t bytes = door_type_bytes(t->type), pixels = (size_t)t->size * (size_t)t->size;

    for (size_t i = 0; i < ROWS * pixels * CHANNELS_STORED; i++) {
        size_t row = i / CHANNELS_STORED / pixels, pixel = i / CHANNELS_STORED % pixels;
        int c = (int)(i % CHANNELS_STORED);
        double got = seeded_decode(t->type, t->out + i * bytes), want = 0;

        if (c < 3)
            want =
                (double)stored_value(row < PICTURES ? t->square[row][3 * pixel + (size_t)c] : 0, c);
        if (got != want)
            return err_set(ERR_DEVICE,
                           "the self-test of the augmentation failed: picture %zu, row %zu, column "
                           "%zu, channel %d is %g, not %g",
                           row, pixel / (size_t)t->size, pixel % (size_t)t->size, c, got, want);
    }
    return 0;
}

int self_test_augment(struct door *door, enum door_type type, int size)
{
    struct augment_test *t = mem_array(1, sizeof *t, "the self-test of the augmentation");
    int rc;

    if (!t)
        return -ERR_MEMORY;
    t->door = door;
    t->type = type;
    t->size = size;
    if (!(rc = open_augment(t)) && !(rc = make_pictures(t)) && !(rc = run_augment(t)))
        rc = compare_augment(t);
    close_augment(t);
    mem_free(t);
    return rc;
}
