/*
 * jail.h - a parser of untrusted bytes at work in a child process that can do nothing but compute:
 * bounded memory, processor time and result, no files, no network, no other processes. What it
 * finds comes back as bytes through a pipe, and the caller checks every one of them as if a
 * stranger had sent them.
 *
 * Always there: resource limits (address space, processor time, open files, file size 0, no core
 * dump) and no_new_privs. Where the kernel has them: Landlock (no path can be opened) and, on
 * x86-64 and AArch64, seccomp (a short list of system calls). Builds with a sanitizer leave out the
 * address space limit and seccomp, because the sanitizer needs both.
 */
#ifndef PREP_JAIL_H
#define PREP_JAIL_H

#include <stddef.h>
#include <stdint.h>

struct jail_limits {
    size_t memory; /* address space beside what this process has now, bytes */
    unsigned cpu_seconds;
    double seconds; /* by the clock, until the child has ended */
    size_t result;  /* bytes of the result at most */
};

/* What runs in the child; each returns 0, or something else to give up. Neither may print or call
 * exit. */
struct jail_task {
    /* Before the door is shut: may open PATH, under which the input's bytes stand. */
    int (*open)(void *state, const char *path);
    /* Behind the door: computes, reads what is open, and writes the result to the file descriptor
     * OUTPUT. */
    int (*work)(void *state, int output);
    void *state; /* the child works on a copy: what it changes here is not seen outside */
};

/* Run TASK over INPUT (SIZE bytes) and wait for its end. *RESULT (mem_free it) gets what it wrote.
 * ERR_INPUT with the reason when the child gave up, died, or passed a limit; ERR_IO or ERR_MEMORY
 * when it could not be started. Call it before threads are started. */
int jail_run(const struct jail_task *task, const uint8_t *input, size_t size,
             const struct jail_limits *limits, uint8_t **result, size_t *result_size);

#endif
