#include "train/cpu_team.h"

#include <omp.h>
#include <sched.h>

int team_cores(void)
{
    cpu_set_t set;
    /* A machine with more cores than the set holds: OpenMP asks in its own way. */
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : omp_get_num_procs();
}

void team_enter(int threads)
{
    omp_set_num_threads(threads);
}

void team_run(int parts, void (*work)(void *context, int part, int parts), void *context)
{
#pragma omp parallel num_threads(parts)
    for (int part = omp_get_thread_num(); part < parts; part += omp_get_num_threads())
        work(context, part, parts);
}
