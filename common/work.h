/*
 * work.h - threads that carry their errors to their owner, and the bounded queues between them.
 *
 * The rule of both programs: a stage takes from a queue, works without any lock, gives to a queue.
 * The first error of any thread closes the crew's queues, so that all others end soon, and
 * crew_join returns it.
 */
#ifndef COMMON_WORK_H
#define COMMON_WORK_H

#include <stddef.h>
#include <time.h>

/* A bounded first-in first-out queue of pointers for any number of givers and takers. */
struct work_queue;

/* ERR_MEMORY. CAPACITY >= 1. The owner closes it after all threads have ended. */
int work_queue_open(struct work_queue **out, size_t capacity);
void work_queue_close(struct work_queue *queue);

/* Give waits while the queue is full, take while it is empty. Both return 1 when done; take returns
 * 0 when the queue has been ended and is empty, give returns 0 when it has been ended (the item
 * stays the caller's). */
int work_queue_give(struct work_queue *queue, void *item);
int work_queue_take(struct work_queue *queue, void **item);
/* As take, without waiting: 0 also when nothing is there now. */
int work_queue_try_take(struct work_queue *queue, void **item);
/* No more will be given: wakes everybody; what is in it can still be taken. */
void work_queue_end(struct work_queue *queue);
/* End it and throw away what is in it (the items stay whoever owns them). */
void work_queue_cancel(struct work_queue *queue);
/* How many items wait now; a moment's truth, for progress lines. */
size_t work_queue_length(struct work_queue *queue);

/* A group of threads. */
struct work_crew;

/* A thread's body: 0, or a negative err code with its text set in that thread. */
typedef int work_function(void *argument);

/* ON_ERROR(ON_ERROR_ARGUMENT) is called once, in the failing thread, at the crew's first error; it
 * cancels the queues the others wait on. May be NULL. */
int work_crew_open(struct work_crew **out, void (*on_error)(void *), void *on_error_argument);
/* Start one more thread, named NAME (15 bytes) for debuggers. ERR_MEMORY when no thread can be
 * made. Signals are blocked in it: they belong to the main thread. */
int work_crew_start(struct work_crew *crew, const char *name, work_function *function,
                    void *argument);
/* Wait for all; the first error becomes this thread's error and is returned. May be called again.
 */
int work_crew_join(struct work_crew *crew);
/* Joins first; NULL is fine. */
void work_crew_close(struct work_crew *crew);

/* Cores this process may use (affinity mask), at least 1. */
int work_cores(void);
/* Seconds on the monotonic clock. */
double work_seconds(void);
/* *OUT = MS milliseconds from now on that clock. */
void work_after(int ms, struct timespec *out);

#endif
