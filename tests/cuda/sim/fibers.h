/*
 * fibers.h - kernels that cooperate, fast: behind tests/cuda/shim.h, which starts a thread of the
 * process for every thread of a block, this runs them as fibers of one thread that change places at
 * barriers and shuffles. It finds barriers that not all reach, but no races inside a block: those
 * are the business of tests/cuda/test_kernels.sh. Sanitizers do not follow fibers: with one, the
 * shim's own way stays.
 */
#ifndef TESTS_CUDA_SIM_FIBERS_H
#define TESTS_CUDA_SIM_FIBERS_H

#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__

#include <setjmp.h>
#include <ucontext.h>

enum { FIBER_STACK = 64 << 10 };

struct fiber {
    jmp_buf at; /* where it goes on */
    unsigned char *stack;
    bool begun, finished;
    const unsigned *round; /* of the barrier where it waits; goes on when this passes `met` */
    unsigned met;
};

struct fiber_barrier {
    unsigned members, came, round;
};

struct fiber_block {
    struct fiber fibers[SHIM_THREADS];
    struct fiber_barrier barrier, warps[SHIM_THREADS / SHIM_WARP];
    uint64_t lanes[SHIM_THREADS]; /* what each thread shuffles */
    unsigned char *shared;
    void (*kernel)(void *closure);
    void *closure;
    unsigned now; /* the fiber that runs */
    jmp_buf back; /* to who runs the block */
};
inline thread_local struct fiber_block *fiber_this_block;

inline struct fiber_block *fiber_cooperate(void)
{
    if (!fiber_this_block)
        shim_fail("barriers, shuffles and shared memory need a launch with shared memory");
    return fiber_this_block;
}

/* Back to who runs the block, until it resumes this fiber. */
inline void fiber_leave(struct fiber_block *block)
{
    if (!_setjmp(block->fibers[block->now].at))
        _longjmp(block->back, 1);
}

inline void fiber_wait(struct fiber_block *block, struct fiber_barrier *barrier)
{
    struct fiber *fiber = &block->fibers[block->now];
    fiber->round = &barrier->round;
    fiber->met = barrier->round;
    if (++barrier->came == barrier->members) {
        barrier->came = 0;
        barrier->round++;
    }
    fiber_leave(block);
}

inline void fiber_syncthreads(void)
{
    struct fiber_block *block = fiber_cooperate();
    fiber_wait(block, &block->barrier);
}

template <class T> inline T fiber_shuffle(unsigned mask, T value, int lane_mask)
{
    struct fiber_block *block = fiber_cooperate();
    struct fiber_barrier *warp = &block->warps[threadIdx.x / SHIM_WARP];
    const unsigned from = threadIdx.x ^ (unsigned)lane_mask;
    static_assert(sizeof value <= sizeof *block->lanes, "a shuffle moves 4 or 8 bytes");
    if (mask != 0xFFFFFFFFu)
        shim_fail("a shuffle must name all 32 lanes of the warp");
    if (from / SHIM_WARP != threadIdx.x / SHIM_WARP)
        shim_fail("a shuffle must stay in the warp");
    memcpy(&block->lanes[threadIdx.x], &value, sizeof value);
    fiber_wait(block, warp);
    memcpy(&value, &block->lanes[from], sizeof value);
    fiber_wait(block, warp);
    return value;
}

/* A fiber's whole life: one kernel's thread after another, launch after launch. */
inline void fiber_main(void)
{
    for (;;) {
        struct fiber_block *block = fiber_this_block;
        block->kernel(block->closure);
        block->fibers[block->now].finished = true;
        fiber_leave(block);
    }
}

inline void fiber_begin(struct fiber *fiber)
{
    ucontext_t context;
    getcontext(&context);
    fiber->stack = static_cast<unsigned char *>(malloc(FIBER_STACK));
    if (!fiber->stack)
        shim_fail("no memory for a thread of the block");
    context.uc_stack.ss_sp = fiber->stack;
    context.uc_stack.ss_size = FIBER_STACK;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    fiber->begun = true;
    setcontext(&context);
}

inline void fiber_resume(struct fiber_block *block, unsigned index)
{
    struct fiber *fiber = &block->fibers[index];
    block->now = index;
    threadIdx.x = index;
    if (_setjmp(block->back))
        return;
    if (!fiber->begun)
        fiber_begin(fiber);
    _longjmp(fiber->at, 1);
}

/* All threads of one block, from barrier to barrier. */
inline void fiber_run_one(struct fiber_block *block, unsigned threads)
{
    unsigned left = threads;
    block->barrier = {threads, 0, 0};
    for (unsigned w = 0; w < threads / SHIM_WARP; w++)
        block->warps[w] = {SHIM_WARP, 0, 0};
    for (unsigned i = 0; i < threads; i++) {
        block->fibers[i].finished = false;
        block->fibers[i].round = nullptr;
    }
    while (left) {
        bool moved = false;
        for (unsigned i = 0; i < threads; i++) {
            struct fiber *fiber = &block->fibers[i];
            if (fiber->finished || (fiber->round && *fiber->round == fiber->met))
                continue;
            moved = true;
            fiber_resume(block, i);
            left -= fiber->finished;
        }
        if (!moved)
            shim_fail("waits at a barrier or shuffle that other threads never reach");
    }
}

inline void fiber_run_blocks(const struct shim_launch *launch, void (*kernel)(void *closure))
{
    static thread_local struct fiber_block *block; /* its fibers live on */
    if (!block)
        block = static_cast<struct fiber_block *>(calloc(1, sizeof *block));
    if (!block)
        shim_fail("no memory for a block");
    block->shared =
        static_cast<unsigned char *>(aligned_alloc(16, (launch->shared_bytes + 15) / 16 * 16));
    block->kernel = kernel;
    block->closure = launch->closure;
    fiber_this_block = block;
    for (unsigned i = 0; i < launch->blocks; i++) {
        blockIdx.x = i;
        memset(block->shared, 0xFF, launch->shared_bytes);
        fiber_run_one(block, launch->threads);
    }
    fiber_this_block = nullptr;
    free(block->shared);
}

template <class F> struct fiber_closure {
    F kernel;
    struct shim_launch launch;

    static void run_thread(void *closure)
    {
        static_cast<fiber_closure *>(closure)->kernel();
    }

    static void run(void *closure)
    {
        const struct shim_launch &l = static_cast<fiber_closure *>(closure)->launch;
        blockDim.x = l.threads;
        gridDim.x = l.blocks;
        if (l.shared_bytes) {
            fiber_run_blocks(&l, run_thread);
            return;
        }
        for (blockIdx.x = 0; blockIdx.x < l.blocks; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < l.threads; threadIdx.x++)
                run_thread(closure);
    }

    static void release(void *closure)
    {
        delete static_cast<fiber_closure *>(closure);
    }
};

template <class F>
inline int fiber_launch(const char *name, size_t blocks, size_t threads, size_t shared_bytes,
                        void *stream, F kernel)
{
    if (shim_refuses(blocks, threads, shared_bytes))
        return 9;
    auto *closure = new fiber_closure<F>{kernel, {}};
    closure->launch = {name,         (unsigned)blocks,      (unsigned)threads,
                       shared_bytes, fiber_closure<F>::run, fiber_closure<F>::release,
                       closure};
    if (shim_hook)
        return shim_hook(stream, &closure->launch);
    fiber_closure<F>::run(closure);
    delete closure;
    return 0;
}

/* The shim's words, as the kernels use them. */
#define __syncthreads fiber_syncthreads
#define __shfl_xor_sync fiber_shuffle
#undef KERNEL_SHARED
#define KERNEL_SHARED(type, name) type *name = reinterpret_cast<type *>(fiber_cooperate()->shared)
#undef KERNEL_LAUNCH
#define KERNEL_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...)                          \
    fiber_launch(#kernel, (blocks), (threads), (shared_bytes), (stream),                           \
                 [=] { (kernel)(__VA_ARGS__); })

#endif
#endif
