/* The jail: what comes back from well-behaved work, and that crashes, loops, floods, greed and
 * forbidden calls end in an error of the parent. */
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "common/mem.h"
#include "prep/jail.h"

static const struct jail_limits usual = {
    .memory = 256 << 20, .cpu_seconds = 10, .seconds = 30, .result = 1 << 20};

static int open_nothing(void *state, const char *path)
{
    (void)state;
    (void)path;
    return 0;
}

static int run_work(int (*work)(void *, int), const struct jail_limits *limits, void *state)
{
    const struct jail_task task = {.open = open_nothing, .work = work, .state = state};
    uint8_t *result = NULL;
    size_t size = 0;
    int rc = jail_run(&task, (const uint8_t *)"input", 5, limits, &result, &size);
    if (!rc)
        CHECK_INT(size, 1);
    mem_free(result);
    return rc;
}

/* ---- work that is allowed ---- */

struct copy {
    int file;
};

static int open_copy(void *state, const char *path)
{
    struct copy *copy = state;
    copy->file = open(path, O_RDONLY);
    return copy->file < 0;
}

/* Send the input back, through memory as large as a parser needs. */
static int copy_input(void *state, int output)
{
    struct copy *copy = state;
    size_t room = 100 << 20;
    char *block = malloc(room);
    if (!block)
        return 1;
    memset(block, 1, room);
    ssize_t got;
    while ((got = read(copy->file, block, room)) > 0)
        if (write(output, block, (size_t)got) != got)
            return 1;
    free(block);
    return got != 0;
}

static void test_copy(void)
{
    struct copy copy = {-1};
    const struct jail_task task = {.open = open_copy, .work = copy_input, .state = &copy};
    size_t size = 1000000, result_size = 0;
    uint8_t *bytes = mem_array(size, 1, "test"), *result = NULL;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 11);
    CHECK_INT(jail_run(&task, bytes, size, &usual, &result, &result_size), 0);
    CHECK_INT(result_size, size);
    CHECK(result && memcmp(result, bytes, size) == 0);
    CHECK_INT(copy.file, -1); /* the child's change is not seen here */
    mem_free(bytes);
    mem_free(result);
}

static void test_empty(void)
{
    struct copy copy = {-1};
    const struct jail_task task = {.open = open_copy, .work = copy_input, .state = &copy};
    uint8_t *result = NULL;
    size_t size = 7;
    CHECK_INT(jail_run(&task, (const uint8_t *)"", 0, &usual, &result, &size), 0);
    CHECK_INT(size, 0);
    mem_free(result);
}

/* ---- work that misbehaves ---- */

static int give_up(void *state, int output)
{
    (void)state;
    (void)output;
    return 1;
}

__attribute__((no_sanitize("address", "undefined"))) static int crash(void *state, int output)
{
    (void)output;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    signal(SIGSEGV, SIG_DFL); /* the sanitizer's handler would turn it into an exit */
#endif
    *(volatile int *)state = 1;
    return 0;
}

static int loop(void *state, int output)
{
    (void)output;
    for (volatile unsigned *n = state; *n < UINT32_MAX; *n = *n % 1000 + 1)
        ;
    return 0;
}

static int hold_still(void *state, int output)
{
    (void)state;
    uint32_t byte = 0;
    if (write(output, "x", 1) != 1)
        return 1;
    /* The pipe's other end never sends anything: this only ends when the parent ends it. */
    close(output);
    for (int n = 0; n >= 0;)
        n = syscall(SYS_futex, &byte, 0 /* FUTEX_WAIT */, byte, NULL, NULL, 0) != 12345;
    return 0;
}

static int flood(void *state, int output)
{
    (void)state;
    static char block[65536];
    while (write(output, block, sizeof block) > 0)
        ;
    return 0;
}

/* Exactly as much as is allowed, then a crash: what came before must not count. */
static int crash_late(void *state, int output)
{
    if (write(output, "x", 1) != 1)
        return 1;
    return crash(state, output);
}

static void test_misbehaviour(void)
{
    CHECK_INT(run_work(give_up, &usual, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "gave up");
    CHECK_INT(run_work(crash, &usual, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "crashed");
    CHECK_INT(run_work(crash_late, &usual, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "crashed");
    CHECK_INT(run_work(flood, &usual, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "more than 1048576 bytes");
    volatile unsigned count = 0;
    struct jail_limits limits = usual;
    limits.cpu_seconds = 1;
    CHECK_INT(run_work(loop, &limits, (void *)&count), -ERR_INPUT);
    CHECK_HAS(err_text(), "processor time");
    limits = usual;
    limits.seconds = 0.3;
    CHECK_INT(run_work(hold_still, &limits, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "in time");
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

/* ---- what the limits forbid: each says 'x' when it was stopped, so that the parent sees one byte
 * ---- */

static int say(int output, bool stopped)
{
    return stopped && write(output, "x", 1) == 1 ? 0 : 1;
}

static int open_path(void *state, int output)
{
    return say(output, open(state, O_RDONLY) < 0);
}

static int write_file(void *state, int output)
{
    return say(output, write(*(int *)state, "x", 1) < 0);
}

static int take_memory(void *state, int output)
{
    (void)state;
    return say(output, mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

static int open_socket(void *state, int output)
{
    (void)state;
    return say(output, socket(AF_UNIX, SOCK_STREAM, 0) < 0);
}

/* Stopped by an error value or by a signal: it did not get through. */
static void check_stopped(int (*work)(void *, int), void *state, const char *what)
{
    const struct jail_task task = {.open = open_nothing, .work = work, .state = state};
    uint8_t *result = NULL;
    size_t size = 0;
    int rc = jail_run(&task, (const uint8_t *)"", 0, &usual, &result, &size);
    if (rc && !strstr(err_text(), "crashed")) {
        printf("%s: got through (%s)\n", what, err_text());
        test_failures++;
    }
    mem_free(result);
}

static void test_forbidden(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/file", test_folder());
    int low = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    /* Its number must not be one that the child uses itself. */
    int file = fcntl(low, F_DUPFD_CLOEXEC, 20);
    CHECK(file >= 0);
    close(low);
    check_stopped(write_file, &file, "writing to the caller's open file");
    close(file);
    struct stat status;
    CHECK(stat(path, &status) == 0 && status.st_size == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    check_stopped(take_memory, NULL, "1 GiB of memory");
    check_stopped(open_path, path, "opening a file");
    check_stopped(open_socket, NULL, "a socket");
#else
    (void)take_memory;
    (void)open_path;
    (void)open_socket;
#endif
}

static const struct test tests[] = {
    {"copy",         test_copy        },
    {"empty",        test_empty       },
    {"misbehaviour", test_misbehaviour},
    {"forbidden",    test_forbidden   },
};
TEST_MAIN(tests)
