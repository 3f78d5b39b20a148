#include "common/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/err.h"

static atomic_uint_fast64_t allocations;

bool mem_multiply(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool mem_sum(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

static void refuse(size_t count, size_t size, const char *what)
{
    err_set(ERR_MEMORY, "no memory for %zu x %zu bytes (%s)", count, size, what);
}

void *mem_array(size_t count, size_t size, const char *what)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    size_t bytes;
    void *block = mem_multiply(count, size, &bytes) ? calloc(1, bytes ? bytes : 1) : NULL;
    if (!block)
        refuse(count, size, what);
    return block;
}

int mem_grow(void **pointer, size_t old_count, size_t count, size_t size, const char *what)
{
    size_t bytes;
    if (count <= old_count)
        return 0;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    void *block = mem_multiply(count, size, &bytes) ? realloc(*pointer, bytes) : NULL;
    if (!block) {
        refuse(count, size, what);
        return -ERR_MEMORY;
    }
    memset((char *)block + old_count * size, 0, (count - old_count) * size);
    *pointer = block;
    return 0;
}

void *mem_aligned(size_t bytes, const char *what)
{
    void *block = NULL;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (posix_memalign(&block, 64, bytes ? bytes : 1)) {
        refuse(1, bytes, what);
        return NULL;
    }
    return block;
}

/* In front of the pages that are given out, so that these stay aligned. */
struct pages_head {
    _Alignas(64) size_t bytes; /* with the head */
};

/* AddressSanitizer watches the heap's blocks alone. */
#if defined(__SANITIZE_ADDRESS__)
static struct pages_head *pages_take(size_t all)
{
    void *block = NULL;
    return posix_memalign(&block, 64, all) ? NULL : memset(block, 0, all);
}

static void pages_give(struct pages_head *head)
{
    free(head);
}
#else
static struct pages_head *pages_take(size_t all)
{
    void *block = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void pages_give(struct pages_head *head)
{
    munmap(head, head->bytes);
}
#endif

void *mem_pages(size_t bytes, const char *what)
{
    struct pages_head *head = NULL;
    size_t all;
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    if (mem_sum(bytes, sizeof *head, &all))
        head = pages_take(all);
    if (!head) {
        refuse(1, bytes, what);
        return NULL;
    }
    head->bytes = all;
    return head + 1;
}

void mem_pages_free(void *pointer)
{
    if (pointer)
        pages_give((struct pages_head *)pointer - 1);
}

char *mem_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_array(size, 1, "text");
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

void mem_free(void *pointer)
{
    free(pointer);
}

uint64_t mem_allocations(void)
{
    return atomic_load_explicit(&allocations, memory_order_relaxed);
}

/* ---- arena ---- */

struct mem_chunk {
    struct mem_chunk *next;
    _Alignas(16) unsigned char bytes[];
};

enum { CHUNK_BYTES = 1 << 16 };

void *mem_arena_alloc(struct mem_arena *arena, size_t bytes, const char *what)
{
    size_t rounded;
    if (!mem_sum(bytes, 15, &rounded)) {
        refuse(1, bytes, what);
        return NULL;
    }
    rounded &= ~(size_t)15;
    if (!arena->chunks || arena->size - arena->used < rounded) {
        size_t size = rounded > CHUNK_BYTES ? rounded : CHUNK_BYTES;
        size_t total;
        struct mem_chunk *chunk = NULL;
        if (mem_sum(size, sizeof *chunk, &total))
            chunk = mem_array(1, total, what);
        if (!chunk)
            return NULL;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->used = 0;
        arena->size = size;
    }
    void *block = arena->chunks->bytes + arena->used;
    arena->used += rounded;
    return block;
}

char *mem_arena_text(struct mem_arena *arena, const char *text, size_t length)
{
    size_t size;
    if (!mem_sum(length, 1, &size)) {
        refuse(1, length, "text");
        return NULL;
    }
    char *copy = mem_arena_alloc(arena, size, "text");
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

void mem_arena_release(struct mem_arena *arena)
{
    while (arena->chunks) {
        struct mem_chunk *next = arena->chunks->next;
        mem_free(arena->chunks);
        arena->chunks = next;
    }
    arena->used = arena->size = 0;
}
