/*
 * unpickle_machine.h - the stack machine of unpickle.c: its state, and what its opcodes share. Used
 * by unpickle.c (plain values, containers, memo) and unpickle_objects.c (globals, storages,
 * tensors) alone.
 */
#ifndef TRAIN_UNPICKLE_MACHINE_H
#define TRAIN_UNPICKLE_MACHINE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "train/pickle.h"
#include "train/unpickle.h"

/* Kinds that exist only while a pickle is read; none is left in a finished tree. */
#define KIND_GLOBAL ((enum pth_kind)(PTH_OPAQUE + 1))  /* integer: position in globals */
#define KIND_STORAGE ((enum pth_kind)(PTH_OPAQUE + 2)) /* integer: the host's number */

enum { MARK_LIMIT = 4 * PICKLE_DEPTH_LIMIT, TEXT_IN_MESSAGE = 100 };

struct machine {
    const uint8_t *bytes;
    size_t size, at; /* of the next byte */
    size_t opcode_at;
    struct mem_arena *arena;
    const struct unpickle_host *host;
    struct pth_value **stack;
    size_t count, capacity;
    size_t marks[MARK_LIMIT]; /* heights of the stack */
    size_t mark_count;
    struct pth_value **memo;
    size_t memo_capacity;
    size_t memoized; /* set ones: MEMOIZE's next index */
    size_t tensors;
    bool more;              /* bytes may stand behind STOP */
    struct pth_value *root; /* set by STOP */
};

/* ERR_INPUT at the opcode that is being run. */
__attribute__((format(printf, 2, 3))) static inline int machine_bad(const struct machine *m,
                                                                    const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    err_set(ERR_INPUT, "%s, byte %llu: %s", m->host->part ? m->host->part : "data.pkl",
            (unsigned long long)m->host->base + m->opcode_at, text);
    return -ERR_INPUT;
}

/* *OUT = the next SIZE bytes. */
static inline int machine_take(struct machine *m, size_t size, const uint8_t **out)
{
    *out = m->bytes + m->at;
    if (size > m->size - m->at)
        return machine_bad(m, "the pickle is cut short (%zu bytes more are needed)",
                           size - (m->size - m->at));
    m->at += size;
    return 0;
}

/* *OUT = the next SIZE bytes (1 to 8) as a little-endian number. */
static inline int machine_number(struct machine *m, size_t size, uint64_t *out)
{
    const uint8_t *p;
    int rc = machine_take(m, size, &p);
    *out = 0;
    for (size_t i = 0; i < size && !rc; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return rc;
}

static inline int machine_push(struct machine *m, struct pth_value *value)
{
    if (!value)
        return -ERR_MEMORY;
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 256;
        int rc =
            mem_grow((void **)&m->stack, m->capacity, capacity, sizeof(void *), "pickle stack");
        if (rc)
            return rc;
        m->capacity = capacity;
    }
    m->stack[m->count++] = value;
    return 0;
}

/* Values that may be taken off: those above the last mark. */
static inline size_t machine_available(const struct machine *m)
{
    return m->count - (m->mark_count ? m->marks[m->mark_count - 1] : 0);
}

static inline int machine_need(struct machine *m, size_t count)
{
    if (machine_available(m) < count)
        return machine_bad(m, "the stack holds %zu values where %zu are needed",
                           machine_available(m), count);
    return 0;
}

static inline struct pth_value *machine_pop(struct machine *m)
{
    return m->stack[--m->count];
}

static inline struct pth_value *machine_top(struct machine *m)
{
    return m->stack[m->count - 1];
}

/* Take the last mark off: *FIRST = the values above it, *COUNT of them, which stay on the stack
 * until the caller drops them. */
static inline int machine_pop_mark(struct machine *m, struct pth_value ***first, size_t *count)
{
    *first = m->stack;
    *count = 0;
    if (!m->mark_count)
        return machine_bad(m, "no mark on the stack");
    size_t height = m->marks[--m->mark_count];
    if (height) /* an empty stack may have no memory yet */
        *first = m->stack + height;
    *count = m->count - height;
    return 0;
}

static inline struct pth_value *machine_value(struct machine *m, enum pth_kind kind,
                                              int64_t integer)
{
    struct pth_value *value = mem_arena_alloc(m->arena, sizeof *value, "pickle value");
    if (value) {
        value->kind = kind;
        value->integer = integer;
        value->boolean = integer != 0;
    }
    return value;
}

static inline bool machine_is_dict(const struct pth_value *value)
{
    return value->kind == PTH_DICT || value->kind == PTH_ORDERED_DICT;
}

/* Opcodes of unpickle_objects.c; the second argument is the table's. */
int unpickle_global(struct machine *m, int unused);
int unpickle_stack_global(struct machine *m, int unused);
int unpickle_persistent_id(struct machine *m, int unused);
int unpickle_reduce(struct machine *m, int unused);
int unpickle_new_object(struct machine *m, int values);
int unpickle_build(struct machine *m, int unused);
/* An opaque value that stands for a foreign object of the kind WHAT. */
struct pth_value *unpickle_opaque(struct machine *m, const char *what);

#endif
