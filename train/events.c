#include "train/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/wire.h"

/* Field numbers of event.proto, summary.proto and tensor.proto. */
enum {
    EVENT_TIME = 1,
    EVENT_STEP = 2,
    EVENT_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION = 7,
    SESSION_STATUS = 1,
    SESSION_START = 1,
    SUMMARY_VALUE = 1,
    VALUE_TAG = 1,
    VALUE_SCALAR = 2,
    VALUE_IMAGE = 4,
    VALUE_TENSOR = 8,
    VALUE_METADATA = 9,
    IMAGE_HEIGHT = 1,
    IMAGE_WIDTH = 2,
    IMAGE_COLORS = 3,
    IMAGE_BYTES = 4,
    TENSOR_TYPE = 1,
    TENSOR_SHAPE = 2,
    TENSOR_STRINGS = 8,
    TYPE_STRING = 7,
    METADATA_PLUGIN = 1,
    METADATA_CLASS = 4,
    CLASS_TENSOR = 2,
    PLUGIN_NAME = 1
};

struct events {
    int file; /* -1: could not be made, or failed */
    char path[FILES_PATH_SIZE];
    struct wire event, value, part, inner;
};

uint32_t events_crc(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78U : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

static void fail(struct events *e, const char *why)
{
    log_warning("cannot write %s: %s; training goes on without it", e->path, why);
    if (e->file >= 0)
        close(e->file);
    e->file = -1;
}

/* The event as a record, in one write. */
static void put(struct events *e)
{
    uint64_t length = e->event.size;
    uint32_t head = events_crc(&length, sizeof length),
             tail = events_crc(e->event.bytes, e->event.size);
    const struct iovec parts[] = {
        {&length,        sizeof length},
        {&head,          sizeof head  },
        {e->event.bytes, e->event.size},
        {&tail,          sizeof tail  }
    };
    if (wire_check(&e->event))
        fail(e, err_text());
    else if (writev(e->file, parts, 4) != (ssize_t)(length + 16))
        fail(e, errno ? strerror(errno) : "it was not written whole");
    e->event.size = 0;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void begin(struct events *e, int64_t step)
{
    wire_double(&e->event, EVENT_TIME, now());
    wire_int(&e->event, EVENT_STEP, step);
}

/* The value that was made, as an event's summary. */
static void put_value(struct events *e, int64_t step)
{
    begin(e, step);
    wire_message(&e->part, SUMMARY_VALUE, &e->value);
    wire_message(&e->event, EVENT_SUMMARY, &e->part);
    put(e);
}

int events_open(struct events **out, const char *folder, int64_t first)
{
    char host[65] = "host", name[200];
    struct events *e = mem_array(1, sizeof *e, "events");
    *out = NULL;
    if (!e)
        return -ERR_MEMORY;
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/' || *c < '!' || *c > '~')
            *c = '_';
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld", (long long)time(NULL), host,
             (long)getpid());
    int rc = files_join(e->path, folder, name);
    if (rc) {
        mem_free(e);
        return rc;
    }
    e->file = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    *out = e;
    if (e->file < 0) {
        fail(e, strerror(errno));
        return 0;
    }
    wire_double(&e->event, EVENT_TIME, now());
    wire_text(&e->event, EVENT_VERSION, "brain.Event:2");
    put(e);
    if (first > 0 && e->file >= 0) {
        begin(e, first);
        wire_int(&e->part, SESSION_STATUS, SESSION_START);
        wire_message(&e->event, EVENT_SESSION, &e->part);
        put(e);
    }
    return 0;
}

void events_close(struct events *events)
{
    if (!events)
        return;
    if (events->file >= 0)
        close(events->file);
    wire_release(&events->event);
    wire_release(&events->value);
    wire_release(&events->part);
    wire_release(&events->inner);
    mem_free(events);
}

void events_scalar(struct events *events, const char *tag, int64_t step, double value)
{
    if (!events || events->file < 0)
        return;
    wire_text(&events->value, VALUE_TAG, tag);
    wire_float(&events->value, VALUE_SCALAR, (float)value);
    put_value(events, step);
}

void events_text(struct events *events, const char *tag, int64_t step, const char *text)
{
    if (!events || events->file < 0)
        return;
    struct wire *part = &events->part, *inner = &events->inner;
    wire_text(&events->value, VALUE_TAG, tag);
    wire_text(inner, PLUGIN_NAME, "text");
    wire_message(part, METADATA_PLUGIN, inner);
    wire_int(part, METADATA_CLASS, CLASS_TENSOR);
    wire_message(&events->value, VALUE_METADATA, part);
    wire_int(part, TENSOR_TYPE, TYPE_STRING);
    wire_message(part, TENSOR_SHAPE, inner); /* a scalar: no dimensions */
    wire_text(part, TENSOR_STRINGS, text);
    wire_message(&events->value, VALUE_TENSOR, part);
    put_value(events, step);
}

void events_picture(struct events *events, const char *tag, int64_t step, int width, int height,
                    const void *png, size_t size)
{
    if (!events || events->file < 0)
        return;
    wire_text(&events->value, VALUE_TAG, tag);
    wire_int(&events->part, IMAGE_HEIGHT, height);
    wire_int(&events->part, IMAGE_WIDTH, width);
    wire_int(&events->part, IMAGE_COLORS, 3);
    wire_bytes(&events->part, IMAGE_BYTES, png, size);
    wire_message(&events->value, VALUE_IMAGE, &events->part);
    put_value(events, step);
}
