/*
 * cpu_team.h - the computing threads of the CPU backend: an OpenMP team, the same that oneDNN runs
 * in.
 *
 * This is the only module that uses OpenMP, so that one runtime owns all computing threads. gcc
 * brings libgomp, which Debian's and Ubuntu's oneDNN use too; clang brings libomp, which exports
 * libgomp's functions and stands before it in the search order of symbols, so that oneDNN calls it
 * (tests/test_cpu.c counts the threads).
 *
 * Work is cut into parts whose number does not depend on how many threads OpenMP really grants:
 * sums that are kept by part come out the same.
 */
#ifndef TRAIN_CPU_TEAM_H
#define TRAIN_CPU_TEAM_H

#include <stddef.h>

/* Cores that this process may run on. */
int team_cores(void);

/* The number of threads of the team, for oneDNN and team_run, of the calling thread; cheap. */
void team_enter(int threads);

/* Call WORK(context, part, parts) for every part in [0, PARTS), in the team, and wait. PARTS: as in
 * team_enter. */
void team_run(int parts, void (*work)(void *context, int part, int parts), void *context);

/* What PART of PARTS does of TOTAL things: [*first, *last), contiguous, sizes differing by one at
 * most. */
static inline void team_share(size_t total, int part, int parts, size_t *first, size_t *last)
{
    *first =
        total / (size_t)parts * (size_t)part + total % (size_t)parts * (size_t)part / (size_t)parts;
    part++;
    *last =
        total / (size_t)parts * (size_t)part + total % (size_t)parts * (size_t)part / (size_t)parts;
}

#endif
