#include "common/work.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"

/* ---- queue ---- */

struct work_queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_full, not_empty;
    size_t capacity, first, count;
    bool ended;
    void *items[];
};

int work_queue_open(struct work_queue **out, size_t capacity)
{
    size_t bytes;
    struct work_queue *queue = NULL;
    *out = NULL;
    if (mem_multiply(capacity, sizeof(void *), &bytes) && mem_sum(bytes, sizeof *queue, &bytes))
        queue = mem_array(1, bytes, "queue");
    if (!queue)
        return err_set(ERR_MEMORY, "no memory for a queue of %zu items", capacity);
    queue->capacity = capacity;
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->not_full, NULL);
    pthread_cond_init(&queue->not_empty, NULL);
    *out = queue;
    return 0;
}

void work_queue_close(struct work_queue *queue)
{
    if (!queue)
        return;
    pthread_cond_destroy(&queue->not_empty);
    pthread_cond_destroy(&queue->not_full);
    pthread_mutex_destroy(&queue->mutex);
    mem_free(queue);
}

int work_queue_give(struct work_queue *queue, void *item)
{
    pthread_mutex_lock(&queue->mutex);
    while (queue->count == queue->capacity && !queue->ended)
        pthread_cond_wait(&queue->not_full, &queue->mutex);
    bool given = !queue->ended;
    if (given) {
        queue->items[(queue->first + queue->count) % queue->capacity] = item;
        queue->count++;
        pthread_cond_signal(&queue->not_empty);
    }
    pthread_mutex_unlock(&queue->mutex);
    return given;
}

/* With the mutex held and count > 0. */
static void *take_first(struct work_queue *queue)
{
    void *item = queue->items[queue->first];
    queue->first = (queue->first + 1) % queue->capacity;
    queue->count--;
    pthread_cond_signal(&queue->not_full);
    return item;
}

int work_queue_take(struct work_queue *queue, void **item)
{
    pthread_mutex_lock(&queue->mutex);
    while (!queue->count && !queue->ended)
        pthread_cond_wait(&queue->not_empty, &queue->mutex);
    bool taken = queue->count > 0;
    if (taken)
        *item = take_first(queue);
    pthread_mutex_unlock(&queue->mutex);
    return taken;
}

int work_queue_try_take(struct work_queue *queue, void **item)
{
    pthread_mutex_lock(&queue->mutex);
    bool taken = queue->count > 0;
    if (taken)
        *item = take_first(queue);
    pthread_mutex_unlock(&queue->mutex);
    return taken;
}

void work_queue_end(struct work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->ended = true;
    pthread_cond_broadcast(&queue->not_full);
    pthread_cond_broadcast(&queue->not_empty);
    pthread_mutex_unlock(&queue->mutex);
}

void work_queue_cancel(struct work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->count = 0;
    queue->ended = true;
    pthread_cond_broadcast(&queue->not_full);
    pthread_cond_broadcast(&queue->not_empty);
    pthread_mutex_unlock(&queue->mutex);
}

size_t work_queue_length(struct work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    size_t length = queue->count;
    pthread_mutex_unlock(&queue->mutex);
    return length;
}

/* ---- crew ---- */

struct worker {
    struct worker *next;
    struct work_crew *crew;
    pthread_t thread;
    work_function *function;
    void *argument;
};

struct work_crew {
    pthread_mutex_t mutex;
    struct err first_error;
    void (*on_error)(void *);
    void *on_error_argument;
    struct worker *workers;
};

int work_crew_open(struct work_crew **out, void (*on_error)(void *), void *on_error_argument)
{
    struct work_crew *crew = mem_array(1, sizeof *crew, "crew of threads");
    *out = crew;
    if (!crew)
        return -ERR_MEMORY;
    pthread_mutex_init(&crew->mutex, NULL);
    crew->on_error = on_error;
    crew->on_error_argument = on_error_argument;
    return 0;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct work_crew *crew = worker->crew;
    int rc = worker->function(worker->argument);
    if (rc) {
        pthread_mutex_lock(&crew->mutex);
        bool first = crew->first_error.kind == ERR_NONE;
        if (first)
            err_take(rc, &crew->first_error);
        pthread_mutex_unlock(&crew->mutex);
        if (first && crew->on_error)
            crew->on_error(crew->on_error_argument);
    }
    return NULL;
}

int work_crew_start(struct work_crew *crew, const char *name, work_function *function,
                    void *argument)
{
    struct worker *worker = mem_array(1, sizeof *worker, "thread");
    if (!worker)
        return -ERR_MEMORY;
    worker->crew = crew;
    worker->function = function;
    worker->argument = argument;
    sigset_t all, old;
    sigfillset(&all);
    /* A synchronous fault belongs to the thread that made it. */
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int number = pthread_create(&worker->thread, NULL, run_worker, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (number) {
        mem_free(worker);
        return err_set(ERR_MEMORY, "cannot start thread %s: %s", name, strerror(number));
    }
    pthread_setname_np(worker->thread, name);
    worker->next = crew->workers;
    crew->workers = worker;
    return 0;
}

int work_crew_join(struct work_crew *crew)
{
    while (crew->workers) {
        struct worker *worker = crew->workers;
        pthread_join(worker->thread, NULL);
        crew->workers = worker->next;
        mem_free(worker);
    }
    return err_raise(&crew->first_error);
}

void work_crew_close(struct work_crew *crew)
{
    if (!crew)
        return;
    struct err kept;
    err_take(0, &kept); /* closing does not change the thread's error text */
    work_crew_join(crew);
    kept.kind = ERR_FAULT;
    err_raise(&kept);
    pthread_mutex_destroy(&crew->mutex);
    mem_free(crew);
}

/* ---- machine ---- */

int work_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

double work_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void work_after(int ms, struct timespec *out)
{
    clock_gettime(CLOCK_MONOTONIC, out);
    out->tv_nsec += ms % 1000 * 1000000L;
    out->tv_sec += ms / 1000 + out->tv_nsec / 1000000000;
    out->tv_nsec %= 1000000000;
}
