/*
 * shim_hook.h - where a kernel launch goes when the kernels are compiled for the CPU (shim.h). C
 * and C++. With shim_hook NULL, as it is at first, the whole grid runs before the launcher returns.
 * A simulated device sets shim_hook and gets every launch instead: it may keep it in a queue, run
 * it later, several times (a captured graph) or never.
 */
#ifndef TESTS_CUDA_SHIM_HOOK_H
#define TESTS_CUDA_SHIM_HOOK_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shim_launch {
    const char *kernel; /* its name in the .cu file; static */
    unsigned blocks, threads;
    size_t shared_bytes; /* 0: the threads do not cooperate */
    /* Run the whole grid, on the calling thread (a cooperative one starts threads of its own and
     * waits for them). May be called any number of times, one at a time for the whole process. What
     * the arguments point to is read then; the arguments themselves are in the closure. */
    void (*run)(void *closure);
    /* Free the closure; called once by whoever owns the launch. */
    void (*release)(void *closure);
    void *closure;
};

/* Takes over LAUNCH (copies the struct, owns the closure). What it returns, a cudaError_t, is what
 * the launcher returns. The shim has already refused launches that a GPU would refuse. */
typedef int (*shim_hook_function)(void *stream, const struct shim_launch *launch);
/* Set it before the first launch; launches come on the threads that call launchers. */
extern shim_hook_function shim_hook;

#ifdef __cplusplus
}
#endif
#endif
