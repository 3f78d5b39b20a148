/*
 * Publications of a checkpoint, and starts after one, that are killed or meet an error at each of
 * their system calls, that run out of space, or whose memory changes under them: a whole state is
 * always found, and the next publication keeps it.
 */
#include "train/checkpoint.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "common/files.h"
#include "tests/checkpoint_rig.h"
#include "tests/test.h"

/* A full disk, as a limit on a file's size. */
static void test_no_space(void)
{
    static struct state state;
    char *folder = run_folder("space");
    struct rlimit limit = {4096, 4096};
    publish(folder, 0, 1);
    publish(folder, 0, 2);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        fill_state(&state, 0, 3);
        _exit(-checkpoint_publish(folder, &state.checkpoint));
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ERR_IO);
    CHECK_INT(latest_step(folder), 2);
    struct files_list list;
    CHECK_INT(files_list(folder, &list), 0);
    CHECK_INT(list.count, 2);
    files_list_release(&list);
    publish(folder, 0, 3);
    CHECK_INT(latest_step(folder), 3);
}

/* Kill publications at random moments; some whole checkpoint is always there, and never an older
 * one than before. */
static void test_kill(void)
{
    char *folder = run_folder("kill");
    int64_t least = 1;
    publish(folder, 0, 1);
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        if (child == 0) {
            static struct state state;
            for (int64_t step = least + 1;; step++) {
                fill_state(&state, 0, step);
                if (checkpoint_publish(folder, &state.checkpoint))
                    _exit(1);
            }
        }
        usleep((useconds_t)(500 + 700 * (i % 17)));
        kill(child, SIGKILL);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        int64_t step = latest_step(folder);
        CHECK(step >= least);
        if (step < least)
            return;
        least = step;
    }
    CHECK(least > 1);
}

/* ---- a fault at every system call of a publication ---- */

enum { KILL, FAIL, FLIP };

/* Calls that change what is on the disk, and those that only read it. Older machines have some of
 * the first kind only. */
static bool changes_disk(long call)
{
    static const long calls[] = {
        SYS_openat, SYS_write, SYS_fsync,  SYS_renameat, SYS_linkat, SYS_unlinkat,
#ifdef SYS_rename
        SYS_rename, SYS_link,  SYS_unlink,
#endif
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i] == call)
            return true;
    return false;
}

static bool reads_disk(long call)
{
    return call == SYS_pread64 || call == SYS_newfstatat || call == SYS_statfs || call == SYS_close;
}

/* The system call that CHILD is about to make. */
static long current_call(pid_t child)
{
    struct __ptrace_syscall_info info = {0};
    ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    return info.op == PTRACE_SYSCALL_INFO_ENTRY ? (long)info.entry.nr : -1;
}

/* Let CHILD's call come back with EIO: ENTER before, then after it. */
static void fail_call(pid_t child, bool enter)
{
#ifdef __x86_64__
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    if (enter)
        registers.orig_rax = (unsigned long long)-1;
    else
        registers.rax = (unsigned long long)-EIO;
    ptrace(PTRACE_SETREGS, child, 0, &registers);
#else
    (void)child;
    (void)enter;
#endif
}

/* The state that children publish; its memory is at the same place in them. */
static struct state published;

/* Flip a bit in CHILD's memory: of what it is about to write, else of the state. */
static void flip_bit(pid_t child, long call)
{
#ifdef __x86_64__
    uintptr_t place_of = (uintptr_t)&published.values[3][5];
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, child, 0, &registers);
    if (call == SYS_write)
        place_of = registers.rsi + registers.rdx / 2;
    long word = ptrace(PTRACE_PEEKDATA, child, place_of, 0);
    ptrace(PTRACE_POKEDATA, child, place_of, word ^ 4);
#else
    (void)child;
    (void)call;
#endif
}

/* Let CHILD, stopped and traced, go on until the call number WANTED that counts for FAULT, and do
 * it there. Returns its exit code, -1 when it was killed, -2 when it cannot be traced. *CALLS = how
 * many calls counted. */
static int run_with_fault(pid_t child, int fault, int wanted, int *calls)
{
    int status, signal_number = 0;
    bool inside = false, failing = false;
    *calls = 0;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))
        return -2;
    for (;;) {
        if (ptrace(PTRACE_SYSCALL, child, 0, signal_number) || waitpid(child, &status, 0) != child)
            return -2;
        if (WIFEXITED(status) || WIFSIGNALED(status))
            return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        signal_number = WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0 : WSTOPSIG(status);
        if (signal_number)
            continue;
        inside = !inside;
        if (failing)
            fail_call(child, false);
        failing = false;
        long call = inside ? current_call(child) : -1;
        if (!changes_disk(call) && !(fault == FAIL && reads_disk(call)))
            continue;
        if (++*calls != wanted)
            continue;
        if (fault == KILL) {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return -1;
        }
        failing = fault == FAIL;
        if (failing)
            fail_call(child, true);
        else
            flip_bit(child, call);
    }
}

/* What is interrupted, from which start, and which step must be found afterwards. */
struct work {
    int (*run)(const char *folder);
    void (*begin)(const char *folder);
    int64_t before, after; /* when it did not come to its end, when it did */
};

static int work_with_fault(const struct work *work, const char *folder, int fault, int wanted,
                           int *calls)
{
    work->begin(folder);
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(-work->run(folder));
    }
    return run_with_fault(child, fault, wanted, calls);
}

static void put_file(const char *folder, const char *name, const char *from)
{
    char path[FILES_PATH_SIZE];
    files_join(path, folder, name);
    CHECK_INT(link(place(from), path), 0);
}

/* A publication in a folder that holds steps 1 and 2. */
static void begin_publication(const char *folder)
{
    remove_files(folder);
    put_file(folder, CHECKPOINT_PREVIOUS, "step1.pth");
    put_file(folder, CHECKPOINT_NEWEST, "step2.pth");
}

static int publish_step_3(const char *folder)
{
    fill_state(&published, 0, 3);
    return checkpoint_publish(folder, &published.checkpoint);
}

/* A start after a publication that was interrupted, whose newest file is damaged moreover. */
static void begin_recovery(const char *folder)
{
    remove_files(folder);
    put_file(folder, CHECKPOINT_PREVIOUS, "step1.pth");
    put_file(folder, CHECKPOINT_NEWEST, "damaged.pth");
    put_file(folder, CHECKPOINT_NEXT, "step3.pth");
}

static int recover(const char *folder)
{
    struct checkpoint_file *file;
    const struct checkpoint *found;
    int rc = checkpoint_latest(folder, &file, &found);
    checkpoint_close(file);
    return rc;
}

/* One fault; then the folder gives a state, and the next publication keeps it. */
static int check_fault(const struct work *work, const char *folder, int fault, int call)
{
    int calls, rc = work_with_fault(work, folder, fault, call, &calls);
    bool whole = there(folder, CHECKPOINT_NEWEST) || there(folder, CHECKPOINT_PREVIOUS) ||
                 there(folder, CHECKPOINT_NEXT);
    int64_t step = latest_step(folder);
    bool expected = fault == KILL ? rc == -1 : rc == 0 || rc == ERR_IO;
    if (!expected || !whole || (step != work->before && step != work->after) ||
        (rc == 0 && step != work->after)) {
        printf("fault %d at call %d: result %d (%s), then step %lld\n", fault, call, rc, err_text(),
               (long long)step);
        test_failures++;
    }
    publish(folder, 0, 4);
    damage(folder, CHECKPOINT_NEWEST);
    if (latest_step(folder) != step) {
        printf("fault %d at call %d: the state before the next one is lost\n", fault, call);
        test_failures++;
    }
    return rc;
}

static void check_every_call(const struct work *work, const char *folder)
{
    int kills = 0, fails = 0, failed = 0;
    if (work_with_fault(work, folder, KILL, 0, &kills) == -2)
        TEST_SKIP("this process may not trace its children");
    CHECK_INT(work_with_fault(work, folder, FAIL, 0, &fails), 0);
    CHECK(kills >= 5 && fails > kills);
    for (int call = 1; call <= kills; call++)
        check_fault(work, folder, KILL, call);
#ifdef __x86_64__
    for (int call = 1; call <= fails; call++)
        failed += check_fault(work, folder, FAIL, call) != 0;
    CHECK(failed > fails * 3 / 4);
#endif
    printf("killed at each of %d calls, failed %d of %d\n", kills, failed, fails);
}

static void test_every_call(void)
{
    static const struct work works[] = {
        {publish_step_3, begin_publication, 2, 3},
        {recover,        begin_recovery,    3, 3}
    };
    static const char *const names[] = {"step1.pth", "step2.pth", "step3.pth"};
    static struct state state;
    for (int step = 1; step <= 3; step++) {
        fill_state(&state, 0, step);
        CHECK_INT(checkpoint_save(place(names[step - 1]), &state.checkpoint), 0);
    }
    fill_state(&state, 0, 2);
    CHECK_INT(checkpoint_save(place("damaged.pth"), &state.checkpoint), 0);
    damage(test_folder(), "damaged.pth");
    for (int i = 0; i < 2; i++)
        check_every_call(&works[i], run_folder("calls"));
}

/* A bit that flips in memory after the digest was made, or in what is written, is found by reading
 * back. */
static void test_flipped_bit(void)
{
    static const struct work work = {publish_step_3, begin_publication, 2, 3};
    char *folder = run_folder("flips");
    int calls = 0, unused, seen = 0;
#ifndef __x86_64__
    TEST_SKIP("this machine's registers are not known");
#endif
    for (int step = 1; step <= 2; step++) {
        fill_state(&published, 0, step);
        CHECK_INT(
            checkpoint_save(place(step == 1 ? "step1.pth" : "step2.pth"), &published.checkpoint),
            0);
    }
    if (work_with_fault(&work, folder, FLIP, 0, &calls) == -2)
        TEST_SKIP("this process may not trace its children");
    for (int call = 1; call <= calls; call++) {
        int rc = work_with_fault(&work, folder, FLIP, call, &unused);
        CHECK(rc == 0 || rc == ERR_INPUT);
        CHECK(!there(folder, CHECKPOINT_NEXT));
        CHECK_INT(latest_step(folder), rc ? 2 : 3);
        seen += rc == ERR_INPUT;
    }
    CHECK(seen >= 2); /* at the opening of the new file, and at its writing */
}

static const struct test tests[] = {
    {"no_space",    test_no_space   },
    {"kill",        test_kill       },
    {"every_call",  test_every_call },
    {"flipped_bit", test_flipped_bit},
};
TEST_MAIN(tests)
