/*
 * memory.c - memory of the simulated device and pinned memory of the host: buffers between guards,
 * filled with NaNs, and for each buffer who used which part of it, so that a use which nothing
 * orders with it is found.
 *
 * A use is forgotten when a later write covers it that is ordered behind it (who conflicts with the
 * forgotten one and is not ordered with it is not ordered with the write either, or is behind it),
 * and when the same lane reads the same part again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

#define GUARD 512       /* bytes on either side of a buffer */
#define GUARD_BYTE 0xFF /* a NaN, for who reads it */
#define DEVICE_ALIGNMENT 256
#define HOST_ALIGNMENT 64

struct use {
    size_t begin, end;
    bool write;
    int lane;
    uint32_t time;
    struct sim_clock clock;
    char name[100];
};

struct sim_buffer {
    struct sim_buffer *next;
    unsigned char *block, *memory;
    size_t bytes, block_bytes;
    bool host;
    char what[100];
    struct use *uses;
    size_t use_count, use_room;
};

void sim_clock_join(struct sim_clock *clock, const struct sim_clock *other)
{
    for (int i = 0; i < SIM_LANES; i++)
        clock->at[i] = clock->at[i] > other->at[i] ? clock->at[i] : other->at[i];
}

void sim_poison(void *memory, size_t bytes)
{
    memset(memory, 0xFF, bytes);
}

size_t sim_memory_used(const struct door *door)
{
    size_t used = 0;
    for (const struct sim_buffer *b = door->buffers; b; b = b->next)
        used += b->host ? 0 : b->bytes;
    return used;
}

/* ---- buffers ---- */

int sim_buffer_open(struct door *door, size_t bytes, bool host, const char *what, void **out)
{
    size_t size;
    struct sim_buffer *b = mem_array(1, sizeof *b, "a buffer");
    if (!b)
        return -ERR_MEMORY;
    /* No more aligned than the door says. */
    size_t offset = host ? HOST_ALIGNMENT : DEVICE_ALIGNMENT;
    bool fits = mem_sum(bytes, 2 * GUARD + 2 * offset, &size);
    sim_arena_enter(door->arena);
    b->block = !fits ? NULL : host ? mem_aligned(size, what) : sim_arena_take(door->arena, size);
    if (!b->block) {
        sim_arena_leave(door->arena, sim_is_late(door->queue));
        mem_free(b);
        return err_set(ERR_MEMORY, "%s needs %zu bytes, more than the simulated device has", what,
                       bytes);
    }
    size_t up = (uintptr_t)(b->block + GUARD) % (2 * offset);
    b->memory = b->block + GUARD + (offset + 2 * offset - up) % (2 * offset);
    b->bytes = bytes;
    b->block_bytes = size;
    b->host = host;
    snprintf(b->what, sizeof b->what, "%s", what);
    memset(b->block, GUARD_BYTE, size);
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    b->next = door->buffers;
    door->buffers = b;
    *out = b->memory;
    return 0;
}

static struct sim_buffer *find(const struct door *door, const void *at)
{
    const unsigned char *p = at;
    for (struct sim_buffer *b = door->buffers; b; b = b->next) {
        if (p >= b->memory && p < b->memory + b->bytes)
            return b;
    }
    return NULL;
}

size_t sim_bytes_from(const struct door *door, const void *at)
{
    const struct sim_buffer *b = find(door, at);
    return b ? b->bytes - (size_t)((const unsigned char *)at - b->memory) : 0;
}

static int check_guards(const struct sim_buffer *b)
{
    for (size_t i = 1; i <= GUARD; i++) {
        if (b->memory[-(ptrdiff_t)i] != GUARD_BYTE)
            return sim_fault("%s (%zu bytes): somebody wrote %zu bytes before it", b->what,
                             b->bytes, i);
        if (b->memory[b->bytes + i - 1] != GUARD_BYTE)
            return sim_fault("%s (%zu bytes): somebody wrote %zu bytes behind it", b->what,
                             b->bytes, i);
    }
    return 0;
}

int sim_guards_check(const struct door *door)
{
    int rc = 0;
    sim_arena_enter(door->arena);
    for (const struct sim_buffer *b = door->buffers; b && !rc; b = b->next)
        rc = check_guards(b);
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    return rc;
}

/* A last look at its guards. */
static void release(struct door *door, struct sim_buffer *b)
{
    sim_arena_enter(door->arena);
    check_guards(b);
    if (b->host)
        mem_free(b->block);
    else
        sim_arena_give(door->arena, b->block, b->block_bytes);
    sim_arena_leave(door->arena, sim_is_late(door->queue));
    mem_free(b->uses);
    mem_free(b);
}

void sim_buffer_close(struct door *door, void *memory, bool host)
{
    struct sim_buffer **link = &door->buffers;
    while (*link && (*link)->memory != memory)
        link = &(*link)->next;
    struct sim_buffer *b = *link;
    if (!b || b->host != host) {
        sim_fault("freed: no %s memory begins at %p (freed twice?)",
                  host ? "pinned host" : "device", memory);
        return;
    }
    for (size_t i = 0; i < b->use_count && !door->lost; i++) {
        const struct use *u = &b->uses[i];
        if (door->host.at[u->lane] < u->time) {
            sim_fault("%s was freed, but the host has not waited for \"%s\", which uses it",
                      b->what, u->name);
            break;
        }
    }
    *link = b->next;
    release(door, b);
}

void sim_buffers_close(struct door *door)
{
    while (door->buffers) {
        struct sim_buffer *b = door->buffers;
        if (!door->lost)
            sim_fault("the device was closed, but %s (%zu bytes) was not freed", b->what, b->bytes);
        door->buffers = b->next;
        release(door, b);
    }
}

int sim_span_check(const struct door *door, const struct sim_span *span, enum sim_place place,
                   size_t alignment, const char *name)
{
    const struct sim_buffer *b = find(door, span->at);
    if (!b)
        return sim_fault("%s: %s is at %p, where no live buffer is (freed? never allocated?)", name,
                         span->what, span->at);
    size_t left = b->bytes - (size_t)((const unsigned char *)span->at - b->memory);
    if (span->bytes > left)
        return sim_fault("%s: %s takes %zu bytes, and %s ends after %zu", name, span->what,
                         span->bytes, b->what, left);
    if (place != SIM_ANYWHERE && b->host != (place == SIM_HOST))
        return sim_fault("%s: %s is in %s, which is %s memory", name, span->what, b->what,
                         b->host ? "pinned host" : "device");
    if (alignment > 1 && (uintptr_t)span->at % alignment)
        return sim_fault("%s: %s is not aligned to %zu bytes", name, span->what, alignment);
    return 0;
}

/* ---- uses ---- */

static bool before(int lane, uint32_t time, const struct sim_clock *clock)
{
    return clock->at[lane] >= time;
}

static int remember(struct sim_buffer *b, size_t begin, size_t end, bool write,
                    const struct sim_user *user)
{
    if (b->use_count == b->use_room) {
        size_t room = b->use_room ? 2 * b->use_room : 16;
        int rc = mem_grow((void **)&b->uses, b->use_room, room, sizeof *b->uses, "uses");
        if (rc)
            return rc;
        b->use_room = room;
    }
    struct use *u = &b->uses[b->use_count++];
    *u = (struct use){.begin = begin,
                      .end = end,
                      .write = write,
                      .lane = user->lane,
                      .time = user->time,
                      .clock = *user->clock};
    snprintf(u->name, sizeof u->name, "%s", user->name);
    return 0;
}

int sim_span_use(struct door *door, const struct sim_span *span, const struct sim_user *user)
{
    struct sim_buffer *b = find(door, span->at);
    if (!b)
        return 0;
    size_t begin = (size_t)((const unsigned char *)span->at - b->memory);
    size_t end = begin + span->bytes;
    for (size_t i = 0; i < b->use_count;) {
        const struct use *u = &b->uses[i];
        bool overlap = u->begin < end && begin < u->end;
        bool behind = before(u->lane, u->time, user->clock);
        if (overlap && (u->write || span->write) && !behind &&
            !before(user->lane, user->time, &u->clock))
            return sim_fault("race: \"%s\" %s %s, \"%s\" %s bytes %zu to %zu of it, and nothing "
                             "orders the two (an event is missing, or a buffer is used again too "
                             "early)",
                             user->name, span->write ? "writes" : "reads", b->what, u->name,
                             u->write ? "writes" : "reads", u->begin, u->end);
        bool covers = begin <= u->begin && u->end <= end;
        if (covers && behind && (span->write || (!u->write && u->lane == user->lane)))
            b->uses[i] = b->uses[--b->use_count];
        else
            i++;
    }
    return remember(b, begin, end, span->write, user);
}
