#include "common/bus.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"

/* A signal handler can reach nothing but globals. The list changes under the lock, and is read by
 * the handler without it: a map is complete before it is linked in, and none that was taken out is
 * given back to its owner while a handler may stand on it. */
static _Atomic(struct bus_map *) first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *program_name;
static atomic_int handling;
static atomic_flag told = ATOMIC_FLAG_INIT;

static struct iovec piece(const char *text)
{
    return (struct iovec){(void *)text, strlen(text)};
}

/* Nothing but what is safe in a handler. */
static void handle(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    atomic_fetch_add(&handling, 1);
    for (const struct bus_map *map = atomic_load(&first); map; map = map->next) {
        uintptr_t start = (uintptr_t)map->start;
        if (at < start || at - start >= map->size)
            continue;
        while (atomic_flag_test_and_set(&told))
            pause(); /* another thread met the same end, and takes the process with it */
        const struct iovec line[] = {
            piece(program_name),
            piece(": error: "),
            piece(map->path),
            piece(": it became shorter, or could not be read, while it was in use; copy the file "
                  "again, then run the same command\n"),
        };
        if (writev(STDERR_FILENO, line, sizeof line / sizeof *line) < 0)
            _exit(ERR_INPUT); /* nobody listens: the exit code tells it */
        _exit(ERR_INPUT);
    }
    /* Not ours: the instruction is tried again, and ends the process. */
    signal(number, SIG_DFL);
    atomic_fetch_sub(&handling, 1);
}

void bus_catch(const char *program)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    program_name = program;
    sigaction(SIGBUS, &action, NULL);
}

void bus_watch(struct bus_map *map)
{
    pthread_mutex_lock(&lock);
    map->next = atomic_load(&first);
    atomic_store(&first, map);
    pthread_mutex_unlock(&lock);
}

void bus_release(struct bus_map *map)
{
    if (!map->start)
        return;
    pthread_mutex_lock(&lock);
    struct bus_map *before = atomic_load(&first);
    if (before == map) {
        atomic_store(&first, map->next);
    } else {
        while (before && before->next != map)
            before = before->next;
        if (before)
            before->next = map->next;
    }
    pthread_mutex_unlock(&lock);
    while (atomic_load(&handling))
        sched_yield();
}
