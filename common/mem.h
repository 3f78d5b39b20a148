/*
 * mem.h - memory with checked sizes. Every allocation of this project's own code goes through here,
 * so that sizes cannot wrap round, an empty pocket is an error value (ERR_MEMORY), and tests can
 * count allocations.
 */
#ifndef COMMON_MEM_H
#define COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *OUT = a * b or a + b; false (and *OUT unchanged) when it does not fit. */
bool mem_multiply(size_t a, size_t b, size_t *out);
bool mem_sum(size_t a, size_t b, size_t *out);

/* COUNT elements of SIZE bytes, zeroed, aligned for any type. NULL with ERR_MEMORY set, naming
 * WHAT, when the product wraps or memory is short. COUNT 0 gives a valid pointer. Free with
 * mem_free. */
void *mem_array(size_t count, size_t size, const char *what);

/* Grow *POINTER (allocated here, or NULL) to COUNT elements; new bytes are zero. On failure the old
 * block stays. */
int mem_grow(void **pointer, size_t old_count, size_t count, size_t size, const char *what);

/* BYTES bytes aligned to 64 (a cache line, an AVX-512 register), not zeroed. Free with mem_free. */
void *mem_aligned(size_t bytes, const char *what);

/* BYTES zeroed bytes aligned to 64, for blocks of megabytes and more: the system makes the pages
 * when they are first touched, by the thread that touches them. Free with mem_pages_free, which
 * takes NULL. */
void *mem_pages(size_t bytes, const char *what);
void mem_pages_free(void *pointer);

/* A copy of TEXT. */
char *mem_text(const char *text);

/* Free; NULL is fine. */
void mem_free(void *pointer);

/* Allocations made through this module since the program began, over all threads. */
uint64_t mem_allocations(void);

/* An arena: many small allocations, one release. Zero-initialise or mem_arena_init before use. */
struct mem_arena {
    struct mem_chunk *chunks;
    size_t used, size; /* of the newest chunk */
};

/* BYTES zeroed bytes (aligned to 16) or a copy of LENGTH bytes of TEXT with a 0 behind it, both
 * living until mem_arena_release. NULL with ERR_MEMORY set. */
void *mem_arena_alloc(struct mem_arena *arena, size_t bytes, const char *what);
char *mem_arena_text(struct mem_arena *arena, const char *text, size_t length);
void mem_arena_release(struct mem_arena *arena);

#endif
