/*
 * shim.h - the .cu files of kernels/ as C++ for the CPU:
 *     g++ -std=c++17 -x c++ -include tests/cuda/shim.h -I. -isystem CUDA/include -c kernels/loss.cu
 * Needs the toolkit's headers (cuda_bf16.h, cuda_fp16.h), no nvcc and no library.
 *
 * A launch is a closure of the kernel and its arguments, run at once or given to shim_hook
 * (shim_hook.h). Without shared memory a grid is a loop over blocks and threads. With it, every
 * thread of a block is a thread of this process and barriers are real ones, so that ThreadSanitizer
 * sees a missing one as a data race with its line; blocks run one after another. Shared memory is a
 * block of exactly the launch's bytes, filled anew for each block with what is a NaN as a float, so
 * that AddressSanitizer sees its bounds and nothing is read that was not written.
 *
 * What a GPU leaves undefined stops the program with a sentence: a barrier that not all threads
 * reach (as a timeout, or at once when the others have left the kernel), a shuffle that does not
 * name the whole warp, cooperation in a launch without shared memory.
 *
 * Differences from a GPU that a test must allow for: expf and logf are the C library's; writes of
 * different blocks never race here.
 */
#ifndef TESTS_CUDA_SHIM_H
#define TESTS_CUDA_SHIM_H

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cuda/shim_hook.h"

/* The toolkit's headers define these words for any compiler; ours come behind them. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#undef __global__
#undef __device__
#undef __shared__
#define __global__
#define __device__
#define KERNEL_THREADS(threads)
#define KERNEL_UNROLL

struct shim_index {
    unsigned x;
};
inline thread_local struct shim_index threadIdx, blockIdx, blockDim, gridDim;

extern "C" {
inline shim_hook_function shim_hook = nullptr;
}

[[noreturn]] inline void shim_fail(const char *what)
{
    fprintf(stderr, "shim: block %u, thread %u: %s\n", blockIdx.x, threadIdx.x, what);
    fflush(stderr);
    abort();
}

/* ---- barriers ---- */

enum { SHIM_WARP = 32, SHIM_THREADS = 1024, SHIM_PATIENCE_S = 60 };
/* Why a thread waits. All that meet at a barrier wait for the same reason. */
enum shim_reason { SHIM_SYNC, SHIM_SHUFFLE, SHIM_LEFT };

struct shim_barrier {
    pthread_mutex_t lock;
    pthread_cond_t all_came;
    unsigned members, came, round;
    enum shim_reason reason;
};

inline void shim_barrier_init(struct shim_barrier *barrier, unsigned members)
{
    pthread_mutex_init(&barrier->lock, nullptr);
    pthread_cond_init(&barrier->all_came, nullptr);
    barrier->members = members;
    barrier->came = barrier->round = 0;
}

inline void shim_barrier_release(struct shim_barrier *barrier)
{
    pthread_cond_destroy(&barrier->all_came);
    pthread_mutex_destroy(&barrier->lock);
}

inline void shim_barrier_wait(struct shim_barrier *barrier, enum shim_reason reason)
{
    pthread_mutex_lock(&barrier->lock);
    if (barrier->came && barrier->reason != reason)
        shim_fail("some threads are at a barrier that others have not, or have left behind");
    barrier->reason = reason;
    if (++barrier->came == barrier->members) {
        barrier->came = 0;
        barrier->round++;
        pthread_cond_broadcast(&barrier->all_came);
    } else {
        const unsigned round = barrier->round;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += SHIM_PATIENCE_S;
        while (barrier->round == round)
            if (pthread_cond_timedwait(&barrier->all_came, &barrier->lock, &until))
                shim_fail("waits at a barrier or shuffle that other threads never reach");
    }
    pthread_mutex_unlock(&barrier->lock);
}

/* ---- a block of threads ---- */

struct shim_block {
    struct shim_barrier barrier, warps[SHIM_THREADS / SHIM_WARP];
    uint64_t lanes[SHIM_THREADS]; /* what each thread shuffles */
    unsigned char *shared;
    const struct shim_launch *launch;
    void (*kernel)(void *closure); /* one thread of it */
};
inline thread_local struct shim_block *shim_this_block;

inline struct shim_block *shim_cooperate(void)
{
    if (!shim_this_block)
        shim_fail("barriers, shuffles and shared memory need a launch with shared memory");
    return shim_this_block;
}

inline void __syncthreads(void)
{
    shim_barrier_wait(&shim_cooperate()->barrier, SHIM_SYNC);
}

template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask)
{
    struct shim_block *block = shim_cooperate();
    struct shim_barrier *warp = &block->warps[threadIdx.x / SHIM_WARP];
    const unsigned from = threadIdx.x ^ (unsigned)lane_mask;
    static_assert(sizeof value <= sizeof *block->lanes, "a shuffle moves 4 or 8 bytes");
    if (mask != 0xFFFFFFFFu)
        shim_fail("a shuffle must name all 32 lanes of the warp");
    if (from / SHIM_WARP != threadIdx.x / SHIM_WARP)
        shim_fail("a shuffle must stay in the warp");
    memcpy(&block->lanes[threadIdx.x], &value, sizeof value);
    shim_barrier_wait(warp, SHIM_SHUFFLE);
    memcpy(&value, &block->lanes[from], sizeof value);
    shim_barrier_wait(warp, SHIM_SHUFFLE);
    return value;
}

#define KERNEL_SHARED(type, name) type *name = reinterpret_cast<type *>(shim_cooperate()->shared)

struct shim_thread {
    struct shim_block *block;
    unsigned index;
};

inline void *shim_thread_run(void *argument)
{
    const struct shim_thread *thread = static_cast<struct shim_thread *>(argument);
    struct shim_block *block = thread->block;
    const struct shim_launch *launch = block->launch;
    shim_this_block = block;
    threadIdx.x = thread->index;
    blockDim.x = launch->threads;
    gridDim.x = launch->blocks;
    for (unsigned i = 0; i < launch->blocks; i++) {
        blockIdx.x = i;
        if (!threadIdx.x)
            memset(block->shared, 0xFF, launch->shared_bytes);
        shim_barrier_wait(&block->barrier, SHIM_LEFT);
        block->kernel(launch->closure);
        shim_barrier_wait(&block->barrier, SHIM_LEFT);
    }
    return nullptr;
}

inline void shim_run_block(const struct shim_launch *launch, void (*kernel)(void *closure))
{
    static struct shim_block block; /* launches run one at a time */
    static struct shim_thread threads[SHIM_THREADS];
    static pthread_t ids[SHIM_THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    block.launch = launch;
    block.kernel = kernel;
    block.shared =
        static_cast<unsigned char *>(aligned_alloc(16, (launch->shared_bytes + 15) / 16 * 16));
    shim_barrier_init(&block.barrier, launch->threads);
    for (unsigned w = 0; w < launch->threads / SHIM_WARP; w++)
        shim_barrier_init(&block.warps[w], SHIM_WARP);
    for (unsigned i = 0; i < launch->threads; i++) {
        threads[i].block = &block;
        threads[i].index = i;
        if (pthread_create(&ids[i], &attributes, shim_thread_run, &threads[i]))
            shim_fail("no thread for a thread of the block");
    }
    for (unsigned i = 0; i < launch->threads; i++)
        pthread_join(ids[i], nullptr);
    for (unsigned w = 0; w < launch->threads / SHIM_WARP; w++)
        shim_barrier_release(&block.warps[w]);
    shim_barrier_release(&block.barrier);
    free(block.shared);
    pthread_attr_destroy(&attributes);
}

/* ---- launches ---- */

template <class F> struct shim_closure {
    F kernel; /* calls it with the arguments it holds */
    struct shim_launch launch;

    static void run_thread(void *closure)
    {
        static_cast<shim_closure *>(closure)->kernel();
    }

    static void run(void *closure)
    {
        const struct shim_launch &l = static_cast<shim_closure *>(closure)->launch;
        if (l.shared_bytes) {
            shim_run_block(&l, run_thread);
            return;
        }
        blockDim.x = l.threads;
        gridDim.x = l.blocks;
        for (blockIdx.x = 0; blockIdx.x < l.blocks; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < l.threads; threadIdx.x++)
                run_thread(closure);
    }

    static void release(void *closure)
    {
        delete static_cast<shim_closure *>(closure);
    }
};

/* What a GPU refuses: cudaErrorInvalidConfiguration. */
inline bool shim_refuses(size_t blocks, size_t threads, size_t shared_bytes)
{
    return !blocks || blocks > 0x7FFFFFFF || !threads || threads > SHIM_THREADS ||
           shared_bytes > 48 << 10 || (shared_bytes && threads % SHIM_WARP);
}

template <class F>
inline int shim_launch_kernel(const char *name, size_t blocks, size_t threads, size_t shared_bytes,
                              void *stream, F kernel)
{
    if (shim_refuses(blocks, threads, shared_bytes))
        return 9;
    auto *closure = new shim_closure<F>{kernel, {}};
    closure->launch = {name,         (unsigned)blocks,     (unsigned)threads,
                       shared_bytes, shim_closure<F>::run, shim_closure<F>::release,
                       closure};
    if (shim_hook)
        return shim_hook(stream, &closure->launch);
    shim_closure<F>::run(closure);
    delete closure;
    return 0;
}

#define KERNEL_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...)                          \
    shim_launch_kernel(#kernel, (blocks), (threads), (shared_bytes), (stream),                     \
                       [=] { (kernel)(__VA_ARGS__); })

#endif
