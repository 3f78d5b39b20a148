/*
 * door.c - the calls of train/cuda/door.h that are not about plans and captures, on the simulated
 * device.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"
#include "train/cuda/devices.h"

#define OLDEST_SM 80
#define RUNTIME 13000

/* Those that are open, so that a launcher's stream is found. */
#define DOORS 8
static struct door *doors[DOORS];

/* ---- devices ---- */

int door_count(int *out)
{
    const struct sim_settings *s = sim_settings();
    *out = 0;
    if (sim_called(SIM_COUNT, "", 0) != SIM_FINE)
        return err_set(ERR_DEVICE, "looking for GPUs: refused by script; use --device cpu");
    if (s->devices < 1)
        return err_set(ERR_DEVICE, "there is an NVIDIA driver but no GPU it can use (is "
                                   "CUDA_VISIBLE_DEVICES set?); use --device cpu");
    *out = s->devices;
    return 0;
}

static struct door *door_new(void)
{
    struct door *door = mem_array(1, sizeof *door, "a device");
    if (!door)
        return NULL;
    struct door_properties *p = &door->properties;
    p->index = -1;
    p->runtime = RUNTIME;
    p->cudnn = sim_settings()->cudnn;
    p->bf16 = p->fp16 = p->tf32 = p->f32 = true;
    p->json = door->json;
    if (sim_queue_open(&door->queue) || sim_arena_open(&door->arena)) {
        sim_queue_close(door->queue);
        mem_free(door);
        return NULL;
    }
    return door;
}

static int read_properties(struct door *door, int index)
{
    const struct sim_settings *s = sim_settings();
    struct door_properties *p = &door->properties;
    snprintf(p->name, sizeof p->name, "simulated sm_%d", s->sm);
    p->index = index;
    p->sm = s->sm;
    p->multiprocessors = 4;
    p->memory_bytes = (int64_t)s->memory;
    p->driver = RUNTIME;
    p->cublaslt = s->cublaslt;
    snprintf(door->json, sizeof door->json, "{\"name\":\"%s\",\"deviceVer\":%d}", p->name,
             s->sm * 10);
    if (p->sm < OLDEST_SM)
        return err_set(ERR_DEVICE,
                       "cuda:%d (%s) has compute capability %d.%d: %d.%d or newer is needed (A100, "
                       "RTX 30 and later); use --device cpu",
                       index, p->name, p->sm / 10, p->sm % 10, OLDEST_SM / 10, OLDEST_SM % 10);
    return 0;
}

int door_open(struct door **out, int index)
{
    int count, place = 0;
    int rc = door_count(&count);
    if (rc)
        return rc;
    if (sim_called(SIM_OPEN, "", (size_t)index) != SIM_FINE)
        return err_set(ERR_DEVICE, "opening cuda:%d: refused by script", index);
    if (index < 0 || index >= count)
        return err_set(ERR_DEVICE, "there is no cuda:%d; the GPUs are cuda:0 to cuda:%d", index,
                       count - 1);
    while (place < DOORS && doors[place])
        place++;
    if (place == DOORS)
        return sim_fault("more than %d devices are open", DOORS);
    struct door *door = door_new();
    if (!door)
        return -ERR_MEMORY;
    if ((rc = read_properties(door, index))) {
        door_close(door);
        return rc;
    }
    doors[place] = door;
    sim_launch_begin();
    *out = door;
    return 0;
}

int door_open_absent(struct door **out, const struct device_row *row)
{
    if (sim_called(SIM_OPEN, row->spelling, 0) != SIM_FINE)
        return err_set(ERR_DEVICE, "cuDNN (libcudnn.so.9) was not found: refused by script");
    struct door *door = door_new();
    if (!door)
        return -ERR_MEMORY;
    struct door_properties *p = &door->properties;
    door->absent = true;
    snprintf(p->name, sizeof p->name, "%s", row->name);
    p->sm = row->sm;
    p->multiprocessors = row->multiprocessors;
    p->memory_bytes = row->memory_bytes;
    devices_json(row, door->json, sizeof door->json);
    *out = door;
    return 0;
}

void door_close(struct door *door)
{
    if (!door)
        return;
    if (door->streams)
        sim_fault("the device was closed, but a stream is open");
    if (door->events)
        sim_fault("the device was closed, but an event is open");
    while (door->streams)
        door_stream_close(door, door->streams);
    while (door->events)
        door_event_close(door, door->events);
    sim_buffers_close(door);
    sim_queue_close(door->queue);
    sim_arena_close(door->arena);
    for (int i = 0; i < DOORS; i++)
        doors[i] = doors[i] == door ? NULL : doors[i];
    mem_free(door->scratch);
    mem_free(door);
}

const struct door_properties *door_properties(const struct door *door)
{
    return &door->properties;
}

/* Called between the two ends of a capture? */
static int outside_capture(const struct door *door, const char *what)
{
    return door->recordings ? sim_fault("%s: between the two ends of a capture", what) : 0;
}

int door_free_bytes(struct door *door, size_t *out)
{
    int rc = sim_enter(door, SIM_FREE_BYTES, "asking for free memory", 0);
    if (rc)
        return rc;
    size_t all = sim_settings()->memory, used = sim_memory_used(door);
    *out = all > used ? all - used : 0;
    return 0;
}

int door_check(struct door *door, int code, const char *format, ...)
{
    char operation[300];
    va_list arguments;
    if (code == 0)
        return 0;
    va_start(arguments, format);
    vsnprintf(operation, sizeof operation, format, arguments);
    va_end(arguments);
    if (sim_faulted())
        return sim_fault("%s", operation);
    if (door->lost)
        return err_set(ERR_DEVICE, "%s: the GPU is lost: CUDA error %d; nothing on it can be saved",
                       operation, code);
    return err_set(ERR_DEVICE, "%s: simulated CUDA error %d", operation, code);
}

/* ---- memory ---- */

int door_alloc(struct door *door, size_t bytes, const char *what, void **out)
{
    int rc = sim_enter(door, SIM_ALLOC, what, bytes);
    if (rc || (rc = outside_capture(door, what)))
        return rc;
    if (bytes < 1)
        return sim_fault("%s: 0 bytes of device memory", what);
    size_t all = sim_settings()->memory, used = sim_memory_used(door);
    if (used > all || bytes > all - used)
        return err_set(ERR_MEMORY, "%s needs %zu bytes of device memory, and %zu of %zu are free",
                       what, bytes, all > used ? all - used : 0, all);
    return sim_buffer_open(door, bytes, false, what, out);
}

static void free_memory(struct door *door, void *memory, bool host)
{
    if (!memory)
        return;
    sim_called(host ? SIM_HOST_FREE : SIM_FREE, "", 0);
    outside_capture(door, "freeing memory");
    if (!door->lost && !sim_faulted())
        sim_progress(door, false);
    sim_buffer_close(door, memory, host);
}

void door_free(struct door *door, void *memory)
{
    free_memory(door, memory, false);
}

int door_host_alloc(struct door *door, size_t bytes, const char *what, void **out)
{
    int rc = sim_enter(door, SIM_HOST_ALLOC, what, bytes);
    if (rc || (rc = outside_capture(door, what)))
        return rc;
    if (bytes < 1)
        return sim_fault("%s: 0 bytes of pinned memory", what);
    return sim_buffer_open(door, bytes, true, what, out);
}

void door_host_free(struct door *door, void *memory)
{
    free_memory(door, memory, true);
}

/* ---- streams ---- */

/* A stream of this door, and open? */
static int check_stream(const struct door *door, const struct door_stream *stream, const char *what)
{
    for (const struct door_stream *s = door->streams; s; s = s->next) {
        if (s == stream)
            return 0;
    }
    return sim_fault("%s: %p is no open stream", what, (const void *)stream);
}

static int check_event(const struct door *door, const struct door_event *event, const char *what)
{
    for (const struct door_event *e = door->events; e; e = e->next) {
        if (e == event)
            return 0;
    }
    return sim_fault("%s: %p is no open event", what, (const void *)event);
}

struct door_stream *sim_stream_of(void *stream)
{
    for (int i = 0; i < DOORS; i++) {
        for (struct door_stream *s = doors[i] ? doors[i]->streams : NULL; s; s = s->next) {
            if (s == stream)
                return s;
        }
    }
    return NULL;
}

int door_stream_open(struct door *door, struct door_stream **out)
{
    int rc = sim_enter(door, SIM_STREAM_OPEN, "opening a stream", 0);
    if (rc || (rc = outside_capture(door, "opening a stream")))
        return rc;
    struct door_stream *stream = mem_array(1, sizeof *stream, "a stream");
    if (!stream)
        return -ERR_MEMORY;
    stream->door = door;
    if (!(stream->lane = sim_lane_open(door))) {
        mem_free(stream);
        return -ERR_FAULT;
    }
    stream->next = door->streams;
    door->streams = stream;
    *out = stream;
    return 0;
}

void door_stream_close(struct door *door, struct door_stream *stream)
{
    if (!stream)
        return;
    sim_called(SIM_STREAM_CLOSE, "", 0);
    if (check_stream(door, stream, "closing a stream"))
        return;
    outside_capture(door, "closing a stream");
    if (!door->lost && !sim_faulted())
        sim_wait_lane(door, stream->lane);
    struct door_stream **link = &door->streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    stream->lane->open = false;
    mem_free(stream);
}

int door_stream_sync(struct door *door, struct door_stream *stream)
{
    const char *what = "waiting for a stream";
    int rc = sim_enter(door, SIM_STREAM_SYNC, what, 0);
    if (rc || (rc = check_stream(door, stream, what)) || (rc = outside_capture(door, what)) ||
        (rc = sim_wait_lane(door, stream->lane)))
        return rc;
    return sim_guards_check(door);
}

int door_stream_wait(struct door *door, struct door_stream *stream, struct door_event *event)
{
    const char *what = "making a stream wait";
    int rc = sim_enter(door, SIM_STREAM_WAIT, what, 0);
    if (rc || (rc = check_stream(door, stream, what)) || (rc = check_event(door, event, what)))
        return rc;
    if (stream->recording || event->recording)
        return sim_wait_captured(stream, event);
    if ((rc = sim_event_outside(event, what)))
        return rc;
    if (!event->instance)
        return sim_progress(door, false);
    event->instance->references++;
    rc = sim_enqueue(door, stream->lane, SIM_WAIT, NULL, event->instance);
    return rc ? rc : sim_progress(door, false);
}

/* ---- copies ---- */

int door_copy(struct door *door, struct door_stream *stream, enum door_way way, void *to,
              const void *from, size_t bytes)
{
    static const char *const names[] = {"copy in", "copy out", "copy on the device"};
    const char *name = names[way];
    const struct sim_span source = {from, bytes, false, "its source"};
    const struct sim_span target = {to, bytes, true, "its target"};
    char text[100];
    snprintf(text, sizeof text, "%s of %zu bytes", name, bytes);
    int rc = sim_enter(door, SIM_COPY, text, bytes);
    if (rc || (rc = check_stream(door, stream, text)))
        return rc;
    if (bytes < 1)
        return sim_fault("%s: nothing to copy", name);
    if ((rc = sim_span_check(door, &source, way == DOOR_IN ? SIM_HOST : SIM_DEVICE, 1, text)) ||
        (rc = sim_span_check(door, &target, way == DOOR_OUT ? SIM_HOST : SIM_DEVICE, 1, text)))
        return rc;
    if ((const char *)to < (const char *)from + bytes && (const char *)from < (char *)to + bytes)
        return sim_fault("%s: source and target overlap", text);
    struct sim_job *job = sim_job_new(SIM_JOB_COPY, text);
    if (!job)
        return -ERR_MEMORY;
    job->way = way;
    job->to = to;
    job->from = from;
    job->bytes = bytes;
    sim_job_span(job, from, bytes, false, "its source");
    sim_job_span(job, to, bytes, true, "its target");
    return sim_submit(stream, job);
}

int door_fill(struct door *door, struct door_stream *stream, void *to, uint8_t value, size_t bytes)
{
    const struct sim_span target = {to, bytes, true, "its target"};
    char text[100];
    snprintf(text, sizeof text, "fill of %zu bytes", bytes);
    int rc = sim_enter(door, SIM_FILL, text, bytes);
    if (rc || (rc = check_stream(door, stream, text)))
        return rc;
    if (bytes < 1)
        return sim_fault("fill: nothing to fill");
    if ((rc = sim_span_check(door, &target, SIM_DEVICE, 1, text)))
        return rc;
    struct sim_job *job = sim_job_new(SIM_JOB_FILL, text);
    if (!job)
        return -ERR_MEMORY;
    job->to = to;
    job->value = value;
    job->bytes = bytes;
    sim_job_span(job, to, bytes, true, "its target");
    return sim_submit(stream, job);
}

/* ---- events ---- */

int door_event_open(struct door *door, bool timed, struct door_event **out)
{
    int rc = sim_enter(door, SIM_EVENT_OPEN, "opening an event", 0);
    if (rc || (rc = outside_capture(door, "opening an event")))
        return rc;
    struct door_event *event = mem_array(1, sizeof *event, "an event");
    if (!event)
        return -ERR_MEMORY;
    event->timed = timed;
    event->next = door->events;
    door->events = event;
    *out = event;
    return 0;
}

void door_event_close(struct door *door, struct door_event *event)
{
    if (!event)
        return;
    sim_called(SIM_EVENT_CLOSE, "", 0);
    if (check_event(door, event, "closing an event"))
        return;
    outside_capture(door, "closing an event");
    struct door_event **link = &door->events;
    while (*link != event)
        link = &(*link)->next;
    *link = event->next;
    sim_instance_drop(event->instance);
    mem_free(event);
}

int door_event_record(struct door *door, struct door_event *event, struct door_stream *stream)
{
    const char *what = "recording an event";
    int rc = sim_enter(door, SIM_EVENT_RECORD, what, 0);
    if (rc || (rc = check_stream(door, stream, what)) || (rc = check_event(door, event, what)))
        return rc;
    if (stream->recording)
        return sim_record_captured(stream, event);
    struct sim_instance *instance = sim_instance_new();
    if (!instance)
        return -ERR_MEMORY;
    instance->references++; /* the work's */
    instance->launches = door->launches;
    sim_instance_drop(event->instance);
    event->instance = instance;
    event->captured = false;
    event->recording = NULL;
    rc = sim_enqueue(door, stream->lane, SIM_RECORD, NULL, instance);
    return rc ? rc : sim_progress(door, false);
}

int door_event_sync(struct door *door, struct door_event *event)
{
    const char *what = "waiting for an event";
    int rc = check_event(door, event, what);
    if (rc)
        return rc;
    const uint64_t since = event->instance ? event->instance->launches : 0;
    if ((rc = sim_enter(door, SIM_EVENT_SYNC, what, door->launches - since)) ||
        (rc = outside_capture(door, what)) || (rc = sim_event_outside(event, what)))
        return rc;
    if (event->instance && (rc = sim_wait_instance(door, event->instance)))
        return rc;
    return sim_guards_check(door);
}

int door_event_done(struct door *door, struct door_event *event, bool *out)
{
    const char *what = "asking for an event";
    int rc = sim_enter(door, SIM_EVENT_DONE, what, 0);
    if (rc || (rc = check_event(door, event, what)) || (rc = outside_capture(door, what)) ||
        (rc = sim_event_outside(event, what)) || (rc = sim_progress(door, true)))
        return rc;
    *out = !event->instance || event->instance->done;
    if (*out && event->instance)
        sim_clock_join(&door->host, &event->instance->clock);
    return 0;
}

int door_event_elapsed(struct door *door, struct door_event *from, struct door_event *to,
                       float *milliseconds)
{
    const char *what = "the time between two events";
    int rc = sim_enter(door, SIM_EVENT_ELAPSED, what, 0);
    if (rc || (rc = check_event(door, from, what)) || (rc = check_event(door, to, what)))
        return rc;
    if (!from->timed || !to->timed)
        return sim_fault("%s: one of them is not timed", what);
    if (!from->instance || !from->instance->done || !to->instance || !to->instance->done)
        return sim_fault("%s: one of them has not happened", what);
    *milliseconds = (float)((to->instance->seconds - from->instance->seconds) * 1000);
    return 0;
}
