/*
 * capture.c - captured graphs of the simulated device. A capture is a list of steps in the order in
 * which they were asked for, each of a branch (a stream that took part), with the records and waits
 * between them. At a launch the first branch is queued on the launching stream and each other one
 * on a lane of its own, so that whatever the capture left unordered is unordered again.
 */
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

#define BRANCHES 16

struct step {
    int branch;
    enum sim_step kind;
    struct sim_job *job; /* SIM_RUN */
    int slot;            /* SIM_RECORD, SIM_WAIT: which record */
};

struct door_capture {
    struct step *steps;
    size_t count, room;
    int slots, branches;
    struct sim_lane *lanes[BRANCHES]; /* [0] is the launching stream's */
    struct sim_clock *records;        /* while it is made: by slot, how far into each branch */
};

struct sim_recording {
    struct door_capture *capture;
    struct door_stream *streams[BRANCHES];
    struct sim_clock clocks[BRANCHES];
};

/* ---- noting ---- */

static int add(struct door_stream *stream, enum sim_step kind, struct sim_job *job, int slot)
{
    struct sim_recording *r = stream->recording;
    struct door_capture *c = r->capture;
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        if (mem_grow((void **)&c->steps, c->room, room, sizeof *c->steps, "a capture")) {
            sim_job_drop(job);
            return -ERR_MEMORY;
        }
        c->room = room;
    }
    c->steps[c->count++] = (struct step){stream->branch, kind, job, slot};
    r->clocks[stream->branch].at[stream->branch]++;
    return 0;
}

int sim_submit(struct door_stream *stream, struct sim_job *job)
{
    if (stream->recording)
        return add(stream, SIM_RUN, job, 0);
    int rc = sim_enqueue(stream->door, stream->lane, SIM_RUN, job, NULL);
    return rc ? rc : sim_progress(stream->door, false);
}

int sim_event_outside(const struct door_event *event, const char *name)
{
    if (!event->captured)
        return 0;
    return sim_fault("%s: the event was last recorded inside a capture, and is nothing outside it",
                     name);
}

int sim_record_captured(struct door_stream *stream, struct door_event *event)
{
    struct sim_recording *r = stream->recording;
    struct door_capture *c = r->capture;
    if (event->timed)
        return sim_fault("recording an event: a timed event inside a capture");
    int rc = add(stream, SIM_RECORD, NULL, c->slots);
    if (!rc)
        rc = mem_grow((void **)&c->records, (size_t)c->slots, (size_t)c->slots + 1,
                      sizeof *c->records, "a capture's events");
    if (rc)
        return rc;
    c->records[c->slots] = r->clocks[stream->branch];
    sim_instance_drop(event->instance);
    event->instance = NULL;
    event->recording = r;
    event->captured = true;
    event->slot = c->slots++;
    return 0;
}

int sim_wait_captured(struct door_stream *stream, struct door_event *event)
{
    struct sim_recording *r = event->recording;
    if (!event->captured && !event->instance)
        return 0; /* never recorded */
    if (!r || (stream->recording && stream->recording != r))
        return sim_fault("making a stream wait: inside a capture, for an event recorded outside "
                         "it (the captured piece would not wait)");
    if (!stream->recording) {
        if (r->capture->branches == BRANCHES)
            return sim_fault("a capture of more than %d streams", BRANCHES);
        stream->recording = r;
        stream->branch = r->capture->branches++;
        r->streams[stream->branch] = stream;
    }
    int rc = add(stream, SIM_WAIT, NULL, event->slot);
    if (!rc)
        sim_clock_join(&r->clocks[stream->branch], &r->capture->records[event->slot]);
    return rc;
}

/* ---- begin and end ---- */

int door_capture_begin(struct door *door, struct door_stream *stream)
{
    int rc = sim_enter(door, SIM_CAPTURE_BEGIN, "starting to capture the step", 0);
    if (rc)
        return rc;
    if (stream->recording)
        return sim_fault("starting to capture: the stream is captured already");
    struct sim_recording *r = mem_array(1, sizeof *r, "a capture under way");
    struct door_capture *c = mem_array(1, sizeof *c, "a capture");
    if (!r || !c) {
        mem_free(r);
        mem_free(c);
        return -ERR_MEMORY;
    }
    r->capture = c;
    c->branches = 1;
    r->streams[0] = stream;
    stream->recording = r;
    stream->branch = 0;
    door->recordings++;
    return 0;
}

/* Do all branches come back into the first? */
static int check_joined(const struct sim_recording *r)
{
    for (int i = 1; i < r->capture->branches; i++) {
        if (r->clocks[0].at[i] < r->clocks[i].at[i])
            return sim_fault("capturing the step: a stream that took part was not waited for "
                             "before the end");
    }
    return 0;
}

static void recording_close(struct door *door, struct sim_recording *r)
{
    for (int i = 0; i < r->capture->branches; i++)
        r->streams[i]->recording = NULL;
    for (struct door_event *e = door->events; e; e = e->next)
        e->recording = e->recording == r ? NULL : e->recording;
    mem_free(r);
    door->recordings--;
}

int door_capture_end(struct door *door, struct door_stream *stream, struct door_capture **out)
{
    struct sim_recording *r = stream->recording;
    int rc = sim_enter(door, SIM_CAPTURE_END, "capturing the step", 0);
    if (!r || stream->branch != 0)
        return rc ? rc : sim_fault("capturing the step: no capture began on the stream");
    struct door_capture *c = r->capture;
    if (!rc)
        rc = check_joined(r);
    recording_close(door, r);
    for (int i = 1; i < c->branches && !rc; i++) {
        if (!(c->lanes[i] = sim_lane_open(door)))
            rc = -ERR_FAULT;
    }
    if (rc)
        door_capture_close(door, c);
    else
        *out = c;
    return rc;
}

void door_capture_close(struct door *door, struct door_capture *capture)
{
    if (!capture)
        return;
    sim_called(SIM_CAPTURE_CLOSE, "", 0);
    if (door->recordings)
        sim_fault("a captured piece of work was closed while another is captured");
    for (size_t i = 0; i < capture->count; i++)
        sim_job_drop(capture->steps[i].job);
    /* What a launch left on a branch's lane is done first: the lane gets another owner. */
    for (int i = 1; i < capture->branches; i++) {
        if (!capture->lanes[i])
            continue;
        if (!door->lost && !sim_faulted())
            sim_wait_lane(door, capture->lanes[i]);
        capture->lanes[i]->open = false;
    }
    mem_free(capture->steps);
    mem_free(capture->records);
    mem_free(capture);
}

/* ---- launching ---- */

static int launch_step(struct door *door, struct sim_lane *lane, const struct step *step,
                       struct sim_instance **records)
{
    if (step->kind == SIM_RUN) {
        step->job->references++;
        return sim_enqueue(door, lane, SIM_RUN, step->job, NULL);
    }
    records[step->slot]->references++;
    return sim_enqueue(door, lane, step->kind, NULL, records[step->slot]);
}

int door_capture_launch(struct door *door, struct door_capture *capture, struct door_stream *stream)
{
    int rc = sim_enter(door, SIM_CAPTURE_LAUNCH, "launching the captured step", capture->count);
    if (rc)
        return rc;
    if (stream->recording)
        return sim_fault("launching a captured step inside a capture");
    door->launches++;
    size_t slots = (size_t)capture->slots;
    struct sim_instance **records = mem_array(slots, sizeof *records, "a launch's events");
    if (!records)
        return -ERR_MEMORY;
    for (size_t i = 0; i < slots && !rc; i++) {
        if (!(records[i] = sim_instance_new()))
            rc = -ERR_MEMORY;
    }
    for (size_t i = 0; i < capture->count && !rc; i++) {
        const struct step *step = &capture->steps[i];
        rc = launch_step(door, step->branch ? capture->lanes[step->branch] : stream->lane, step,
                         records);
    }
    for (size_t i = 0; i < slots; i++)
        sim_instance_drop(records[i]);
    mem_free(records);
    return rc ? rc : sim_progress(door, false);
}
