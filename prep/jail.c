#include "prep/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/work.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define JAIL_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JAIL_SANITIZER 1
#endif

#if defined(__x86_64__)
#define JAIL_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define JAIL_ARCH AUDIT_ARCH_AARCH64
#endif

/* In the child, after its descriptors were put in order. */
enum { OUTPUT_FD = 3, INPUT_FD = 4, FIRST_FREE_FD = 5, HIGH_FD = 64 };

/* ---- the child; it says why it failed by its exit code alone ---- */

static bool limit(int resource, rlim_t value)
{
    /* At the soft limit of processor time comes a signal that tells its cause, at the hard one the
     * end. */
    struct rlimit limits = {value, value + (resource == RLIMIT_CPU)};
    return setrlimit(resource, &limits) == 0;
}

#ifndef JAIL_SANITIZER
/* Bytes of address space in use. 0 when the kernel does not say. */
static size_t address_space(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    size_t pages = 0;
    for (ssize_t i = 0; i < got && text[i] >= '0' && text[i] <= '9' && pages < SIZE_MAX / 1000000;
         i++)
        pages = pages * 10 + (size_t)(text[i] - '0');
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}
#endif

static bool set_limits(const struct jail_limits *limits)
{
#ifndef JAIL_SANITIZER
    if (!limit(RLIMIT_AS, address_space() + limits->memory))
        return false;
#endif
    return limit(RLIMIT_CPU, limits->cpu_seconds) && limit(RLIMIT_NOFILE, HIGH_FD) &&
           limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_CORE, 0);
}

/* Only OUTPUT, INPUT and three times /dev/null stay open. */
static bool order_descriptors(int output, int input)
{
    /* First out of the way: any of them may be one of the numbers wanted. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return false;
    output = fcntl(output, F_DUPFD_CLOEXEC, HIGH_FD);
    input = fcntl(input, F_DUPFD_CLOEXEC, HIGH_FD);
    null = fcntl(null, F_DUPFD_CLOEXEC, HIGH_FD);
    if (output < 0 || input < 0 || null < 0)
        return false;
    for (int fd = 0; fd < OUTPUT_FD; fd++)
        if (dup2(null, fd) < 0)
            return false;
    return dup2(output, OUTPUT_FD) >= 0 && dup2(input, INPUT_FD) >= 0 &&
           syscall(SYS_close_range, FIRST_FREE_FD, ~0U, 0) == 0;
}

/* No path can be opened or changed from here on. A kernel without Landlock is not an error. */
static void forbid_paths(void)
{
    struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (fd < 0)
        return;
    (void)syscall(SYS_landlock_restrict_self, fd, 0);
    close(fd);
}

/* Any system call but those a computing program needs kills the child. No seccomp in the kernel: no
 * error. */
static void forbid_system_calls(void)
{
#if defined(JAIL_ARCH) && !defined(JAIL_SANITIZER)
    static const int allowed[] = {
        SYS_read,    SYS_pread64, SYS_write,         SYS_lseek,     SYS_fstat,     SYS_newfstatat,
        SYS_close,   SYS_mmap,    SYS_munmap,        SYS_mremap,    SYS_brk,       SYS_mprotect,
        SYS_madvise, SYS_futex,   SYS_clock_gettime, SYS_getrandom, SYS_exit_group};
    enum { COUNT = sizeof allowed / sizeof *allowed };
    struct sock_filter program[4 + 2 * COUNT + 1];
    const struct sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    unsigned n = 0;
    program[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, JAIL_ARCH, 1, 0);
    program[n++] = kill;
    program[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (unsigned i = 0; i < COUNT; i++) {
        program[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    program[n++] = kill;
    const struct sock_fprog filter = {.len = (unsigned short)n, .filter = program};
    (void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
#endif
}

__attribute__((noreturn)) static void
run_child(const struct jail_task *task, const struct jail_limits *limits, int output, int input)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", INPUT_FD);
    signal(SIGPIPE, SIG_DFL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        !order_descriptors(output, input) || !set_limits(limits))
        _exit(2);
    if (task->open(task->state, path) != 0)
        _exit(1);
    /* Not before: it takes the rights to /proc/self away. Without it a core dump handler would be
     * started. */
    (void)prctl(PR_SET_DUMPABLE, 0);
    forbid_paths();
    forbid_system_calls();
    _exit(task->work(task->state, OUTPUT_FD) == 0 ? 0 : 1);
}

/* ---- the parent ---- */

/* INPUT's bytes as an unnamed file, so that the child reads the very bytes that were checked. */
static int make_input(const uint8_t *input, size_t size, int *out)
{
    int fd = memfd_create("jail input", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno("memory for the child's input");
    for (size_t done = 0; done < size;) {
        ssize_t got = write(fd, input + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int rc = err_errno("writing %zu bytes of the child's input", size);
            close(fd);
            return rc;
        }
        done += (size_t)got;
    }
    *out = fd;
    return 0;
}

/* Read FD to its end or to DEADLINE. */
static int read_result(int fd, double deadline, size_t most, uint8_t **result, size_t *size)
{
    size_t capacity = 0;
    for (;;) {
        if (*size == capacity) {
            size_t grown = capacity ? capacity * 2 : 65536;
            int rc = mem_grow((void **)result, capacity, grown, 1, "the child's result");
            if (rc)
                return rc;
            capacity = grown;
        }
        double left = deadline - work_seconds();
        if (left <= 0)
            return err_set(ERR_INPUT, "the reader did not come to an end in time");
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, (int)(left * 1000) + 1) <= 0)
            continue; /* time is up, or a signal: looked at above */
        ssize_t got = read(fd, *result + *size, capacity - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("reading the child's result");
        if (got == 0)
            return 0;
        *size += (size_t)got;
        if (*size > most)
            return err_set(ERR_INPUT, "the reader found more than %zu bytes", most);
    }
}

/* Wait for the child until DEADLINE, then end it. *STATUS is waitpid's. */
static int wait_child(pid_t child, double deadline, int *status)
{
    bool killed = false;
    for (;;) {
        pid_t got = waitpid(child, status, killed ? 0 : WNOHANG);
        if (got == child)
            return killed ? err_set(ERR_INPUT, "the reader did not come to an end in time") : 0;
        if (got < 0 && errno != EINTR)
            return err_errno("waiting for the child");
        if (work_seconds() > deadline) {
            kill(child, SIGKILL);
            killed = true;
        } else {
            nanosleep(&(struct timespec){.tv_nsec = 500 * 1000}, NULL);
        }
    }
}

static int judge_status(int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
        return err_set(ERR_IO, "the child's limits could not be set");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
        return err_set(ERR_INPUT, "the reader needed too much processor time");
    if (WIFSIGNALED(status))
        return err_set(ERR_INPUT, "the reader crashed on it (signal %d, %s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    return err_set(ERR_INPUT, "the reader gave up");
}

int jail_run(const struct jail_task *task, const uint8_t *input, size_t size,
             const struct jail_limits *limits, uint8_t **result, size_t *result_size)
{
    int input_fd = -1, ends[2] = {-1, -1}, status = 0;
    uint8_t *bytes = NULL;
    size_t count = 0;
    pid_t child = -1;
    double deadline = work_seconds() + limits->seconds;
    int rc = make_input(input, size, &input_fd);
    if (rc)
        return rc;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        rc = err_errno("a pipe for the child");
        goto done;
    }
    /* The child must not print what waits in our buffers a second time: it leaves through _exit. */
    child = fork();
    if (child == 0)
        run_child(task, limits, ends[1], input_fd);
    if (child < 0) {
        rc = err_errno("starting a child process");
        goto done;
    }
    close(ends[1]);
    ends[1] = -1;
    rc = read_result(ends[0], deadline, limits->result, &bytes, &count);
    struct err first;
    err_take(rc, &first);
    rc = wait_child(child, rc ? 0 : deadline, &status);
    if (first.kind)
        rc = err_raise(&first);
    else if (!rc)
        rc = judge_status(status);
    if (!rc) {
        *result = bytes;
        *result_size = count;
        bytes = NULL;
    }
done:
    mem_free(bytes);
    close(input_fd);
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    return rc;
}
