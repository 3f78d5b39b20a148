/*
 * trial.c - see trial.h. The block is: the graph's tensors one after the other, each on 256 bytes,
 * then the workspace. Inputs whose contents repeat are made once on the host and doubled on the
 * device.
 */
#include "train/cuda/trial.h"

#include <inttypes.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

enum { STAGING_BYTES = 8 << 20 };

struct trial {
    struct door *door;
    struct door_stream *stream;
    struct door_event *begin, *end;
    uint8_t *memory, *staging; /* staging: pinned */
    size_t bytes;
    int8_t *table;
    const struct door_graph *graph;
    struct seeded contents[DOOR_MAX_TENSORS];
    uint8_t *places[DOOR_MAX_TENSORS]; /* in memory, or in values; NULL: virtual */
    double values[DOOR_MAX_TENSORS];   /* by-value tensors: any type fits */
    uint8_t *workspace;
};

static size_t rounded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

size_t trial_bytes(const struct door_graph *graph, size_t workspace)
{
    size_t bytes = rounded(workspace);

    for (int i = 0; i < graph->tensor_count; i++)
        if (!graph->tensors[i].by_value)
            bytes += rounded(door_tensor_bytes(&graph->tensors[i]));
    return bytes;
}

int trial_open(struct trial **out, struct door *door, size_t bytes)
{
    void *memory = NULL, *staging = NULL;
    struct trial *t = mem_array(1, sizeof *t, "the trial of plans");
    int rc;

    if (!t)
        return -ERR_MEMORY;
    t->door = door;
    t->bytes = rounded(bytes ? bytes : 1);
    if ((rc = seeded_table(&t->table)) || (rc = door_stream_open(door, &t->stream)) ||
        (rc = door_event_open(door, true, &t->begin)) ||
        (rc = door_event_open(door, true, &t->end)) ||
        (rc = door_host_alloc(door, STAGING_BYTES, "the trial of plans", &staging)))
        goto fail;
    t->staging = staging;
    if ((rc = door_alloc(door, t->bytes, "the trial of plans", &memory)))
        goto fail;
    t->memory = memory;
    *out = t;
    return 0;

fail:
    trial_close(t);
    return rc;
}

void trial_close(struct trial *trial)
{
    if (!trial)
        return;
    if (trial->stream)
        door_stream_close(trial->door, trial->stream);
    if (trial->begin)
        door_event_close(trial->door, trial->begin);
    if (trial->end)
        door_event_close(trial->door, trial->end);
    if (trial->staging)
        door_host_free(trial->door, trial->staging);
    if (trial->memory)
        door_free(trial->door, trial->memory);
    mem_free(trial->table);
    mem_free(trial);
}

/* ---- contents ---- */

static size_t bytes_of(enum door_type type, size_t elements)
{
    return type == DOOR_BOOL ? elements / 8 : elements * door_type_bytes(type);
}

/* Write COUNT elements from element 0 on, made on the host piece by piece. */
static int write_made(struct trial *t, int tensor, size_t count)
{
    enum door_type type = t->graph->tensors[tensor].type;
    size_t piece = type == DOOR_BOOL ? 8 * (size_t)STAGING_BYTES : STAGING_BYTES / 8;
    int rc = 0;

    for (size_t first = 0; first < count && !rc; first += piece) {
        size_t many = count - first < piece ? count - first : piece;

        seeded_encode(&t->contents[tensor], first, many, t->staging);
        if (!(rc = door_copy(t->door, t->stream, DOOR_IN, t->places[tensor] + bytes_of(type, first),
                             t->staging, bytes_of(type, many))))
            rc = door_stream_sync(t->door, t->stream);
    }
    return rc;
}

static int write_input(struct trial *t, int tensor)
{
    const struct door_tensor *shape = &t->graph->tensors[tensor];
    size_t bytes = door_tensor_bytes(shape), period = seeded_period(&t->contents[tensor]);
    size_t count = shape->type == DOOR_BOOL ? 8 * bytes : bytes / door_type_bytes(shape->type);
    size_t made = period && period < count ? period : count;
    int rc = write_made(t, tensor, made);

    for (size_t done = bytes_of(shape->type, made); done < bytes && !rc;) {
        size_t more = bytes - done < done ? bytes - done : done;

        rc = door_copy(t->door, t->stream, DOOR_ON, t->places[tensor] + done, t->places[tensor],
                       more);
        done += more;
    }
    return rc;
}

int trial_bind(struct trial *trial, const struct door_graph *graph)
{
    struct trial *t = trial;
    uint8_t *place = t->memory;
    int rc = 0;

    if (trial_bytes(graph, 0) > t->bytes)
        return err_set(ERR_MEMORY, "%s: its tensors need %zu bytes, the trial has %zu", graph->name,
                       trial_bytes(graph, 0), t->bytes);
    t->graph = graph;
    seeded_assign(graph, t->table, t->contents);
    for (int i = 0; i < graph->tensor_count && !rc; i++) {
        const struct door_tensor *tensor = &graph->tensors[i];

        t->places[i] = NULL;
        if (tensor->by_value) {
            t->places[i] = (uint8_t *)&t->values[i];
            seeded_encode(&t->contents[i], 0, 1, t->places[i]);
            continue;
        }
        if (tensor->is_virtual)
            continue;
        t->places[i] = place;
        place += rounded(door_tensor_bytes(tensor));
        rc = t->contents[i].kind == SEEDED_OUTPUT
                 ? door_fill(t->door, t->stream, t->places[i], 0xff, door_tensor_bytes(tensor))
                 : write_input(t, i);
    }
    t->workspace = place;
    return rc ? rc : door_stream_sync(t->door, t->stream);
}

const struct seeded *trial_contents(const struct trial *trial)
{
    return trial->contents;
}

/* ---- running ---- */

int trial_run(struct trial *trial, struct door_plan *plan, int runs, float *milliseconds)
{
    struct trial *t = trial;
    struct door_pointer pointers[DOOR_MAX_TENSORS];
    size_t workspace = door_plan_info(plan)->workspace_bytes;
    float elapsed = 0;
    int count = 0, rc = 0;

    if (workspace > t->bytes - (size_t)(t->workspace - t->memory))
        return err_set(ERR_MEMORY, "%s: a workspace of %zu bytes does not fit into the trial",
                       t->graph->name, workspace);
    for (int i = 0; i < t->graph->tensor_count; i++)
        if (t->places[i])
            pointers[count++] = (struct door_pointer){t->graph->tensors[i].uid, t->places[i]};
    if (workspace)
        rc = door_fill(t->door, t->stream, t->workspace, 0xff, workspace);
    if (!rc)
        rc = door_event_record(t->door, t->begin, t->stream);
    for (int i = 0; i < runs && !rc; i++)
        rc = door_plan_run(t->door, plan, t->stream, pointers, count,
                           workspace ? t->workspace : NULL);
    if (rc || (rc = door_event_record(t->door, t->end, t->stream)) ||
        (rc = door_stream_sync(t->door, t->stream)))
        return rc;
    if (milliseconds) {
        rc = door_event_elapsed(t->door, t->begin, t->end, &elapsed);
        *milliseconds = elapsed / (float)runs;
    }
    return rc;
}

int trial_read_channel(struct trial *trial, int tensor, int64_t channel, double *out)
{
    struct trial *t = trial;
    const struct door_tensor *shape = &t->graph->tensors[tensor];
    size_t unit = door_type_bytes(shape->type), pixel = unit * (size_t)shape->dims[1];
    size_t pixels = (size_t)(shape->dims[0] * shape->dims[2] * shape->dims[3]);
    size_t piece = STAGING_BYTES / pixel;
    int rc = 0;

    for (size_t first = 0; first < pixels && !rc; first += piece) {
        size_t many = pixels - first < piece ? pixels - first : piece;

        if (!(rc = door_copy(t->door, t->stream, DOOR_OUT, t->staging,
                             t->places[tensor] + first * pixel, many * pixel)))
            rc = door_stream_sync(t->door, t->stream);
        for (size_t i = 0; i < many && !rc; i++)
            out[first + i] =
                seeded_decode(shape->type, t->staging + i * pixel + (size_t)channel * unit);
    }
    return rc;
}

int trial_read(struct trial *trial, int tensor, const size_t *at, int count, double *out)
{
    struct trial *t = trial;
    enum door_type type = t->graph->tensors[tensor].type;
    size_t unit = type == DOOR_BOOL ? 1 : door_type_bytes(type);
    int rc = 0;

    if (count > TRIAL_READS || !t->places[tensor])
        return err_set(ERR_FAULT, "%s: %d reads of tensor %" PRId64, t->graph->name, count,
                       t->graph->tensors[tensor].uid);
    for (int i = 0; i < count && !rc; i++)
        rc = door_copy(t->door, t->stream, DOOR_OUT, t->staging + 8 * i,
                       t->places[tensor] + (type == DOOR_BOOL ? at[i] / 8 : at[i] * unit), unit);
    if (rc || (rc = door_stream_sync(t->door, t->stream)))
        return rc;
    for (int i = 0; i < count; i++)
        out[i] = type == DOOR_BOOL ? t->staging[8 * i] >> at[i] % 8 & 1
                                   : seeded_decode(type, t->staging + 8 * i);
    return 0;
}
