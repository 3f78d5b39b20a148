/*
 * arena.c - where the memory of a simulated device lies: one stretch of addresses of its own, so
 * that one call can shut all of it. It is open while work runs; under schedules that run nothing
 * before the host waits it is shut otherwise, and a host that reads or writes through a device
 * pointer ends there and then, with a sentence.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

#define ARENA ((size_t)64 << 30) /* addresses, not memory */
#define PAGE ((size_t)4096)
#define HOLES 256
enum { OFTEN = 40, SELDOM = 64 };

struct sim_arena {
    unsigned char *base;
    size_t used;
    struct hole {
        size_t at, bytes;
    } holes[HOLES]; /* given back, for the next of the same size */
    int hole_count;
    int open; /* how many times */
    bool shut;
    uint64_t left; /* how many times */
};

/* Of the device that was opened last, for the handler. */
static unsigned char *volatile watched;

static void touched(int number, siginfo_t *info, void *context)
{
    static const char text[] =
        "sim: fault: the host touched device memory (through a device pointer)\n";
    unsigned char *at = info->si_addr;
    (void)context;
    if (watched && at >= watched && at < watched + ARENA) {
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        _exit(SIM_EXIT);
    }
    signal(number, SIG_DFL); /* somebody else's: it happens again */
}

int sim_arena_open(struct sim_arena **out)
{
    struct sim_arena *arena = mem_array(1, sizeof *arena, "addresses of a device");
    if (!arena)
        return -ERR_MEMORY;
    void *base = mmap(NULL, ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        mem_free(arena);
        return err_errno("addresses for a simulated device");
    }
    arena->base = base;
    watched = base;
    struct sigaction action = {.sa_sigaction = touched, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    *out = arena;
    return 0;
}

void sim_arena_close(struct sim_arena *arena)
{
    if (!arena)
        return;
    munmap(arena->base, ARENA);
    mem_free(arena);
}

static void set(struct sim_arena *arena, bool usable)
{
    if (arena->used &&
        mprotect(arena->base, arena->used, usable ? PROT_READ | PROT_WRITE : PROT_NONE))
        sim_fault("device memory cannot be %s", usable ? "opened" : "shut");
}

void sim_arena_enter(struct sim_arena *arena)
{
    if (arena->open++ == 0 && arena->shut) {
        set(arena, true);
        arena->shut = false;
    }
}

void sim_arena_leave(struct sim_arena *arena, bool shut)
{
    /* Shutting and opening touches every page: after the first times, now and then. */
    const bool now = arena->left < OFTEN || arena->left % SELDOM == 0;
    if (--arena->open > 0 || !shut)
        return;
    arena->left++;
    if (now) {
        set(arena, false);
        arena->shut = true;
    }
}

/* BYTES rounded up to pages; the arena is open. */
unsigned char *sim_arena_take(struct sim_arena *arena, size_t bytes)
{
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    for (int i = 0; i < arena->hole_count; i++) {
        if (arena->holes[i].bytes != pages)
            continue;
        unsigned char *at = arena->base + arena->holes[i].at;
        arena->holes[i] = arena->holes[--arena->hole_count];
        return at;
    }
    if (pages > ARENA - arena->used)
        return NULL;
    unsigned char *at = arena->base + arena->used;
    if (mprotect(at, pages, PROT_READ | PROT_WRITE))
        return NULL;
    arena->used += pages;
    return at;
}

void sim_arena_give(struct sim_arena *arena, unsigned char *at, size_t bytes)
{
    size_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    madvise(at, pages, MADV_DONTNEED);
    if (arena->hole_count < HOLES)
        arena->holes[arena->hole_count++] = (struct hole){(size_t)(at - arena->base), pages};
}
