/*
 * sim.h - what tests may ask of the simulated device, which stands behind train/cuda/door.h where a
 * program is linked with tests/cuda/sim instead of CUDA.
 *
 * It computes plans on the CPU from their nodes, dims, strides, attributes and uids alone, and own
 * kernels through tests/cuda/shim.h. Queued work is held back and run in an order drawn from a
 * seed, whatever streams and events allow; waiting of the host runs what it needs and sometimes
 * more. Its clock is its own: what a piece of work takes is drawn from the seed, so that the same
 * seed finds the same engines the fastest and computes the same bits. What a correct program may
 * not do is a fault: a race between works that nothing orders (found from the order of queueing,
 * whatever ran when), memory that is used after it was freed or beyond its end, freed under queued
 * work, a pinned source that changed before its copy ran, ...
 * The first fault is said on standard error in a line that begins with "sim: ", every later call
 * fails with it (ERR_FAULT), and the program's exit code is SIM_EXIT unless a test takes it.
 *
 * Environment, read when the first door is opened or counted:
 *   SIM_SEED=n       the schedule. n % 4: 0 late (nothing runs before the host waits for it), 1
 *                    early (all at once), 2 random, 3 random priorities of streams
 *   SIM_FAIL=list    failures by script, below
 *   SIM_MEMORY=bytes of the device (8 GiB)
 *   SIM_DEVICES=n    how many there are (1)
 *   SIM_SM=nn        compute capability (90)
 *   SIM_CUDNN=n, SIM_CUBLASLT=n  versions (91900, 130100; 0: no cuBLASLt)
 *   SIM_ALL_PLANS=1  plan what the real cuDNN has no engine for, too
 *   SIM_TRACE=file   one line for each call: its name, a number (bytes; of event_sync, how many
 *                    captures were launched since the event was recorded), words; the last one says
 *                    how many pieces of work there were
 *
 * A script is a list of CALL:N or CALL:N:HOW, by commas; the N-th call from now on (1 is the next)
 * fails. CALL: a name of sim_calls below, or "work", the N-th piece of queued work. HOW: "error"
 * (this call, and the device goes on), "sticky" (the device is lost: every later call fails),
 * "hang" (work: it never ends, and the host's wait for it gives up). Without HOW: memory is short
 * for alloc and host_alloc, "sticky" for work and "error" for the rest; "hang:N" is "work:N:hang".
 */
#ifndef TESTS_CUDA_SIM_SIM_H
#define TESTS_CUDA_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_EXIT 86

/* Calls of the door that are counted and can fail by script. */
enum sim_call {
    SIM_COUNT,
    SIM_OPEN,
    SIM_ALLOC,
    SIM_FREE,
    SIM_HOST_ALLOC,
    SIM_HOST_FREE,
    SIM_FREE_BYTES,
    SIM_COPY,
    SIM_FILL,
    SIM_STREAM_OPEN,
    SIM_STREAM_CLOSE,
    SIM_STREAM_SYNC,
    SIM_STREAM_WAIT,
    SIM_EVENT_OPEN,
    SIM_EVENT_CLOSE,
    SIM_EVENT_RECORD,
    SIM_EVENT_SYNC,
    SIM_EVENT_DONE,
    SIM_EVENT_ELAPSED,
    SIM_CAPTURE_BEGIN,
    SIM_CAPTURE_END,
    SIM_CAPTURE_LAUNCH,
    SIM_CAPTURE_CLOSE,
    SIM_PLANS_OPEN,
    SIM_PLAN_CLOSE,
    SIM_PLAN_RUN,
    SIM_PLAN_SAVE,
    SIM_PLAN_LOAD,
    SIM_KERNEL, /* a launcher of kernels/kernels.h */
    SIM_CALLS
};
/* "count", "open", "alloc", ... as scripts and traces spell them. */
extern const char *const sim_call_names[SIM_CALLS];

/* How often each call was made since the program began. Tests subtract two of them. */
void sim_get_counts(uint64_t out[SIM_CALLS]);
/* Pieces of work that ran; and a digest of the order in which they did. */
uint64_t sim_work_done(void);
uint64_t sim_schedule(void);

/* Begin a new schedule; replace the script (ERR_USAGE: not a script), the memory's size; for doors
 * that are open, too. */
void sim_set_seed(uint64_t seed);
int sim_set_script(const char *text);
void sim_set_memory(size_t bytes);
/* As SIM_ALL_PLANS. */
void sim_set_all_plans(bool all);

/* The first fault's sentence, or "" when there was none; from now on it is as if there had been
 * none. Borrowed until the next call. */
const char *sim_take_fault(void);

#endif
