/*
 * memory.c - preloaded into a program under test: refuses memory, or a thread. Counted are the
 * allocations that the program itself and the libraries behind our files ask for from the begin of
 * main on, not those of the C library, of the loader or of libraries that compute. Wishes come in
 * the environment: FAULT_AT       number of the call that is refused, from 1; 0 or none: only count
 *     FAULT_FOREVER  1: all later ones are refused, too
 *     FAULT_LOG      file that gets the number of calls when the program ends
 */
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dlfcn.h>

enum { PIECES = 32 };

/* A preloaded library can reach nothing but globals. */
static struct {
    struct {
        uintptr_t start, end;
    } code[PIECES]; /* of the program and the libraries that are counted */
    int pieces;
    long at;
    bool forever;
    pid_t process; /* not a forked child */
    int (*main)(int, char **, char **);
    bool begun;
    atomic_long calls;
} state;

static bool is_counted(const char *name)
{
    static const char *const libraries[] = {"liblmdb", "libjpeg", "libpng", "libjansson"};
    if (!*name)
        return true; /* the program */
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (strstr(name, libraries[i]))
            return true;
    return false;
}

static int take_code(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size, (void)context;
    if (!is_counted(info->dlpi_name))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && state.pieces < PIECES; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
            continue;
        state.code[state.pieces].start = info->dlpi_addr + part->p_vaddr;
        state.code[state.pieces++].end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAULT_AT");
    state.at = at ? atol(at) : 0;
    state.forever = getenv("FAULT_FOREVER") != NULL;
    state.process = getpid();
    dl_iterate_phdr(take_code, NULL);
}

static int run_main(int argc, char **argv, char **environment)
{
    state.begun = true;
    return state.main(argc, argv, environment);
}

/* The C library's entry to the program, which first runs what foreign code in it has to set up. */
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*end_loader)(void), void *stack);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*end_loader)(void), void *stack)
{
    __typeof__(&__libc_start_main) real = dlsym(RTLD_NEXT, "__libc_start_main");
    state.main = main;
    return real(run_main, argc, argv, init, fini, end_loader, stack);
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAULT_LOG");
    FILE *file = path && getpid() == state.process ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file, "%ld\n", atomic_load(&state.calls));
    fclose(file);
}

/* Whether the call that returns to CALLER is to be refused. */
static bool refuses(const void *caller)
{
    bool counted = false;
    for (int i = 0; i < state.pieces && !counted && state.begun; i++)
        counted = (uintptr_t)caller >= state.code[i].start && (uintptr_t)caller < state.code[i].end;
    if (!counted)
        return false;
    long number = atomic_fetch_add(&state.calls, 1) + 1;
    return state.at && (number == state.at || (state.forever && number > state.at));
}

#define REFUSES() refuses(__builtin_return_address(0))

/* The C library's own. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return REFUSES() ? no_memory() : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return REFUSES() ? no_memory() : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    return REFUSES() ? no_memory() : __libc_realloc(block, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = REFUSES() ? NULL : __libc_memalign(alignment, size);
    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        dlsym(RTLD_NEXT, "pthread_create");
    return REFUSES() ? EAGAIN : real(thread, attributes, run, argument);
}
