#include "tests/crash/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "tests/crash/disk.h"
#include "tests/crash/folder.h"
#include "tests/crash/record.h"

enum { WORKERS = 2, SECONDS_LIMIT = 30, FAILURES_SHOWN = 5, CALLS_LIMIT = 4096, SEEN = 1 << 18 };

/* What the workers count together. */
struct counts {
    atomic_long done, failures;
    _Atomic uint64_t seen[SEEN]; /* digests of states, an open hash table */
};

struct engine {
    const struct scenario *scenario;
    char base[FILES_PATH_SIZE], reference[FILES_PATH_SIZE], log[FILES_PATH_SIZE];
    struct disk *disk;
    bool reads; /* the calls are those that read */
    int every;  /* of them, each such one */
    int calls;
    uint32_t kinds[CALLS_LIMIT]; /* enum record_call of each */
    struct counts *counts;
};

/* One disturbance. */
struct fault {
    long at;
    const char *what; /* as FAULT_DO; NULL: none */
    bool forever, reads, memory;
};

/* A worker's place. */
struct place {
    char work[FILES_PATH_SIZE], said[FILES_PATH_SIZE];
};

void engine_choose_folder(void)
{
    struct statvfs status;
    if (!statvfs("/dev/shm", &status) && !access("/dev/shm", W_OK | X_OK) &&
        (uint64_t)status.f_bavail * status.f_frsize > (uint64_t)256 << 20)
        setenv("TMPDIR", "/dev/shm", 1);
}

/* ---- one run ---- */

static void report(struct engine *engine, const struct place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void report(struct engine *engine, const struct place *place, const char *format, ...)
{
    char text[1024], line[512] = "";
    va_list arguments;
    if (atomic_fetch_add(&engine->counts->failures, 1) >= FAILURES_SHOWN)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments); // NOLINT: clang-tidy 14 does not see va_start
    va_end(arguments);
    FILE *said = fopen(place->said, "r");
    while (said && fgets(line, sizeof line, said))
        ;
    if (said)
        fclose(said);
    printf("%s: %s; it said: %s\n", engine->scenario->name, text, line);
    fflush(stdout);
}

static void start(const struct scenario *scenario, const struct place *place,
                  const struct fault *fault, const char *log)
{
    char *words[32], number[32];
    int said = open(place->said, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), count = 0;
    for (; scenario->command[count]; count++) {
        const char *word = scenario->command[count];
        words[count] = (char *)word;
        if (*word == '@' && asprintf(&words[count], "%s%s", place->work, word + 1) < 0)
            _exit(99);
    }
    words[count] = NULL;
    dup2(said, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    setenv("LD_PRELOAD", fault && fault->memory ? CRASH_MEMORY : CRASH_INJECTOR, 1);
    char root[FILES_PATH_SIZE];
    files_join(root, place->work, scenario->watched ? scenario->watched : "");
    setenv("FAULT_ROOT", scenario->watched ? root : place->work, 1);
    if (log)
        setenv("FAULT_LOG", log, 1);
    if (fault && fault->reads)
        setenv("FAULT_READS", "1", 1);
    if (fault && fault->what) {
        snprintf(number, sizeof number, "%ld", fault->at);
        setenv("FAULT_AT", number, 1);
        setenv("FAULT_DO", fault->what, 1);
        if (fault->forever)
            setenv("FAULT_FOREVER", "1", 1);
    }
    alarm(SECONDS_LIMIT);
    execv(words[0], words);
    _exit(99);
}

/* Its exit code, or the negative of the signal that ended it. */
static int run(const struct scenario *scenario, const struct place *place,
               const struct fault *fault, const char *log)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        start(scenario, place, fault, log);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 99;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static bool prepare(const struct engine *engine, const struct place *place)
{
    if (!folder_remove(place->work))
        return false;
    return engine->scenario->begin ? folder_copy(engine->scenario->begin, place->work)
                                   : folder_make(place->work);
}

static void make_place(const struct engine *engine, int worker, struct place *out)
{
    char name[32];
    snprintf(name, sizeof name, "work%d", worker);
    files_join(out->work, engine->base, name);
    snprintf(name, sizeof name, "said%d", worker);
    files_join(out->said, engine->base, name);
}

/* The same command in peace: it ends well, and all is as it would have been. */
static bool recover(struct engine *engine, const struct place *place, const char *after,
                    bool leftovers)
{
    char difference[FILES_PATH_SIZE];
    int code = run(engine->scenario, place, NULL, NULL);
    bool (*same)(const char *, const char *, bool, char *, size_t) =
        engine->scenario->same ? engine->scenario->same : folder_same;
    if (code)
        report(engine, place, "after %s: the next run ends with %d", after, code);
    else if (!same(engine->reference, place->work, leftovers, difference, sizeof difference))
        report(engine, place, "after %s: %s", after, difference);
    else
        return true;
    return false;
}

/* ---- the undisturbed run ---- */

static bool read_calls(struct engine *engine)
{
    uint8_t *bytes;
    size_t size, at = 0;
    if (files_read(engine->log, (size_t)1 << 28, &bytes, &size))
        return false;
    while (at < size && engine->calls < CALLS_LIMIT) {
        struct record record;
        memcpy(&record, bytes + at, sizeof record);
        at += sizeof record + record.path_size + record.other_size + record.size;
        if (record.call != CALL_MARK)
            engine->kinds[engine->calls++] = record.call;
    }
    mem_free(bytes);
    return true;
}

struct engine *engine_open(const struct scenario *scenario, const char *base)
{
    struct engine *engine = calloc(1, sizeof *engine);
    struct place place;
    if (!engine)
        abort();
    engine->scenario = scenario;
    engine->counts = mmap(NULL, sizeof *engine->counts, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (engine->counts == MAP_FAILED)
        abort();
    snprintf(engine->base, sizeof engine->base, "%s", base);
    folder_make(base);
    files_join(engine->reference, engine->base, "reference");
    files_join(engine->log, engine->base, "log");
    make_place(engine, 0, &place);
    prepare(engine, &place);
    engine->disk = disk_open(place.work);
    int code = run(scenario, &place, NULL, engine->log);
    if (code)
        report(engine, &place, "the undisturbed run ends with %d", code);
    else if (!folder_copy(place.work, engine->reference) || !read_calls(engine) ||
             !disk_read(engine->disk, engine->log))
        report(engine, &place, "the undisturbed run cannot be read");
    else
        recover(engine, &place, "nothing", false);
    printf("%s: %d calls that change files\n", scenario->name, engine->calls);
    return engine;
}

long engine_close(struct engine *engine)
{
    long failures = atomic_load(&engine->counts->failures);
    disk_close(engine->disk);
    munmap(engine->counts, sizeof *engine->counts);
    folder_remove(engine->base);
    free(engine);
    return failures;
}

/* ---- sharing the work ---- */

/* Let WORKERS processes call EACH for every number below COUNT; the sum of what was done. */
static long share(struct engine *engine, long count,
                  void (*each)(struct engine *, const struct place *, long))
{
    pid_t children[WORKERS];
    atomic_store(&engine->counts->done, 0);
    fflush(stdout);
    for (int worker = 0; worker < WORKERS; worker++) {
        children[worker] = fork();
        if (children[worker] != 0)
            continue;
        struct place place;
        make_place(engine, worker, &place);
        for (long i = worker; i < count; i += WORKERS)
            each(engine, &place, i);
        fflush(stdout);
        _exit(0);
    }
    for (int worker = 0; worker < WORKERS; worker++) {
        int status = 0;
        if (children[worker] < 0 || waitpid(children[worker], &status, 0) < 0 || status)
            atomic_fetch_add(&engine->counts->failures, 1);
    }
    return atomic_load(&engine->counts->done);
}

/* CRASH_KINDS in the environment picks some kinds of disturbance; all without it. */
static bool wanted(const char *kind)
{
    const char *kinds = getenv("CRASH_KINDS");
    return !kinds || strstr(kinds, kind);
}

/* ---- kills ---- */

static const char *const moments[] = {"before", "after", "half"};

/* Point I is call I / 3 + 1 at moment I % 3. */
static bool killed(struct engine *engine, const struct place *place, long i, char text[64])
{
    struct fault fault = {.at = i / 3 + 1, .what = moments[i % 3]};
    if (i % 3 == 2 && engine->kinds[i / 3] != CALL_WRITE)
        return false; /* there is no half of it */
    snprintf(text, 64, "kill %s call %ld", fault.what, fault.at);
    if (!prepare(engine, place))
        return false;
    int code = run(engine->scenario, place, &fault, NULL);
    if (code != -SIGKILL)
        report(engine, place, "%s: the run ends with %d", text, code);
    return code == -SIGKILL;
}

static void kill_once(struct engine *engine, const struct place *place, long i)
{
    char text[64];
    if (!killed(engine, place, i, text))
        return;
    recover(engine, place, text, false);
    atomic_fetch_add(&engine->counts->done, 1);
}

/* As kill_once, and the first recovery is killed, too: at a call of its own, which moves on from
 * point to point so that all are met. */
static void kill_twice(struct engine *engine, const struct place *place, long i)
{
    char text[64], both[128];
    long point = i % ((long)engine->calls * 3), round = i / ((long)engine->calls * 3);
    struct fault second = {.at = 1 + (point * 7 + round * 31) % engine->calls,
                           .what = moments[(point + round) % 2]};
    if (!killed(engine, place, point, text))
        return;
    snprintf(both, sizeof both, "%s, then %s call %ld", text, second.what, second.at);
    int code = run(engine->scenario, place, &second, NULL);
    if (code == -SIGKILL)
        atomic_fetch_add(&engine->counts->done, 1);
    else if (code)
        report(engine, place, "%s: the second run ends with %d", both, code);
    recover(engine, place, both, false);
}

long engine_kills(struct engine *engine, int seconds)
{
    if (!wanted("kills"))
        return 0;
    long points = (long)engine->calls * 3, once = share(engine, points, kill_once);
    long twice = seconds ? share(engine, points * seconds, kill_twice) : 0;
    printf("%s: killed at %ld points, and at %ld points of the recovery\n", engine->scenario->name,
           once, twice);
    return once + twice;
}

/* ---- stops ---- */

static void stop(struct engine *engine, const struct place *place, long i)
{
    const struct fault fault = {.at = i + 1, .what = "stop"};
    char text[64];
    snprintf(text, sizeof text, "SIGTERM at call %ld", fault.at);
    if (!prepare(engine, place))
        return;
    int code = run(engine->scenario, place, &fault, NULL);
    if (code != 0 && code != ERR_STOPPED)
        report(engine, place, "%s: the run ends with %d", text, code);
    recover(engine, place, text, false);
    atomic_fetch_add(&engine->counts->done, 1);
}

long engine_stops(struct engine *engine)
{
    if (!wanted("stops"))
        return 0;
    long count = share(engine, engine->calls, stop);
    printf("%s: stopped at %ld points\n", engine->scenario->name, count);
    return count;
}

/* ---- errors ---- */

#define BIT(call) (1u << (call))
enum {
    READS = BIT(CALL_FIND) | BIT(CALL_READ) | BIT(CALL_LOOK) | BIT(CALL_LIST) | BIT(CALL_MAP) |
            BIT(CALL_LOCK),
    CHANGES = ~READS,
    NAMES = BIT(CALL_OPEN) | BIT(CALL_RENAME) | BIT(CALL_LINK) | BIT(CALL_SYMLINK) |
            BIT(CALL_UNLINK) | BIT(CALL_MKDIR),
    OPENS = BIT(CALL_OPEN) | BIT(CALL_FIND)
};

/* Which errors the calls of some kinds may come back with. */
static const struct {
    const char *text;
    int error; /* 0: no error, but half of the bytes */
    unsigned calls;
    bool once; /* not for ever: nobody is interrupted so, and one full disk is as another */
} errors[] = {
    {"ENOSPC",  ENOSPC,  CHANGES,                                                                     false},
    {"EIO",     EIO,     CHANGES | BIT(CALL_FIND) | BIT(CALL_READ) | BIT(CALL_LOOK) | BIT(CALL_LIST),
     false                                                                                                 },
    {"EDQUOT",  EDQUOT,  CHANGES,                                                                     true },
    {"EFBIG",   EFBIG,   CHANGES,                                                                     true },
    {"EROFS",   EROFS,   CHANGES,                                                                     false},
    {"EINTR",   EINTR,   CHANGES | BIT(CALL_READ),                                                    true },
    {"short",   0,       BIT(CALL_WRITE) | BIT(CALL_READ),                                            true },
    {"EMFILE",  EMFILE,  OPENS,                                                                       false},
    {"ENFILE",  ENFILE,  OPENS,                                                                       true },
    {"EACCES",  EACCES,  NAMES | BIT(CALL_FIND) | BIT(CALL_LOOK),                                     true },
    {"ENOTDIR", ENOTDIR, NAMES,                                                                       true },
    {"EXDEV",   EXDEV,   BIT(CALL_RENAME) | BIT(CALL_LINK),                                           true },
    {"EMLINK",  EMLINK,  BIT(CALL_LINK) | BIT(CALL_MKDIR),                                            true },
    {"ESTALE",  ESTALE,  BIT(CALL_FIND) | BIT(CALL_READ) | BIT(CALL_LOOK),                            false},
    {"ENOMEM",  ENOMEM,  BIT(CALL_MAP) | BIT(CALL_FIND) | BIT(CALL_LOOK),                             false},
    {"EAGAIN",  EAGAIN,  BIT(CALL_MAP) | BIT(CALL_LOCK),                                              true },
    {"ENOLCK",  ENOLCK,  BIT(CALL_LOCK),                                                              true },
};
enum { ERRORS = sizeof errors / sizeof *errors };

/* A run that ends with CODE has said what is wrong, or was able to go on. */
static bool is_honest(int code, int error)
{
    return code == 0 || code == ERR_IO || (error == ENOMEM && code == ERR_MEMORY) ||
           (error == EAGAIN && code == ERR_BUSY);
}

static void fail_once(struct engine *engine, const struct place *place, long i)
{
    long at = i / (ERRORS * 2), error = i / 2 % ERRORS;
    bool forever = i % 2;
    const char *chosen = engine->scenario->errors;
    char number[16], text[96], left[FILES_PATH_SIZE];
    snprintf(number, sizeof number, "%d", errors[error].error);
    struct fault fault = {.at = at + 1, .forever = forever, .reads = engine->reads};
    fault.what = errors[error].error ? number : "short";
    if (!(errors[error].calls & BIT(engine->kinds[at])) || (forever && errors[error].once) ||
        (engine->reads && at % engine->every != 0) ||
        (chosen && !strstr(chosen, errors[error].text)))
        return;
    snprintf(text, sizeof text, "%s at %s %ld%s", errors[error].text,
             engine->reads ? "reading call" : "call", fault.at,
             forever ? " and all later ones" : "");
    if (!prepare(engine, place))
        return;
    int code = run(engine->scenario, place, &fault, NULL);
    if (!is_honest(code, errors[error].error))
        report(engine, place, "%s: the run ends with %d", text, code);
    /* Whoever says that it went well has all that it was to make. */
    if (code == 0 && engine->scenario->same &&
        !engine->scenario->same(engine->reference, place->work, true, left, sizeof left))
        report(engine, place, "%s: the run ends with 0, but %s", text, left);
    /* One that fails takes its temporary files with it: on a full disk they would be in the way. */
    if (!forever && engine->kinds[at] != CALL_UNLINK &&
        folder_finds(place->work, ".partial", left, sizeof left))
        report(engine, place, "%s: %s is left", text, left);
    recover(engine, place, text, code == 0 && engine->scenario->leftovers);
    atomic_fetch_add(&engine->counts->done, 1);
}

long engine_errors(struct engine *engine)
{
    if (!wanted("errors"))
        return 0;
    long count = share(engine, (long)engine->calls * ERRORS * 2, fail_once);
    printf("%s: %ld errors injected\n", engine->scenario->name, count);
    return count;
}

long engine_read_errors(struct engine *engine, int every)
{
    struct place place;
    if (!wanted("errors"))
        return 0;
    make_place(engine, 0, &place);
    unlink(engine->log);
    engine->reads = true;
    engine->every = every;
    engine->calls = 0;
    if (!prepare(engine, &place) ||
        run(engine->scenario, &place, &(struct fault){.reads = true}, engine->log) ||
        !read_calls(engine))
        report(engine, &place, "the run that counts the reading calls cannot be read");
    long count = share(engine, (long)engine->calls * ERRORS * 2, fail_once);
    printf("%s: %d calls that read, %ld errors injected\n", engine->scenario->name, engine->calls,
           count);
    return count;
}

/* ---- memory ---- */

/* Point I is allocation I / 2 * EVERY + 1, once or for ever. */
static void refuse_memory(struct engine *engine, const struct place *place, long i)
{
    const struct fault fault = {
        .at = i / 2 * engine->every + 1, .what = "", .forever = i % 2, .memory = true};
    char text[96];
    snprintf(text, sizeof text, "no memory at allocation %ld%s", fault.at,
             fault.forever ? " and all later ones" : "");
    if (!prepare(engine, place))
        return;
    int code = run(engine->scenario, place, &fault, NULL);
    if (code != 0 && code != ERR_MEMORY)
        report(engine, place, "%s: the run ends with %d", text, code);
    recover(engine, place, text, code == 0 && engine->scenario->leftovers);
    atomic_fetch_add(&engine->counts->done, 1);
}

long engine_memory(struct engine *engine, int every)
{
    struct place place;
    FILE *log;
    long allocations = 0;
    if (!wanted("memory"))
        return 0;
    make_place(engine, 0, &place);
    engine->every = every;
    if (!prepare(engine, &place) ||
        run(engine->scenario, &place, &(struct fault){.memory = true}, engine->log) ||
        !(log = fopen(engine->log, "r")) || fscanf(log, "%ld", &allocations) != 1 || fclose(log))
        report(engine, &place, "the run that counts allocations cannot be read");
    long count = share(engine, allocations / every * 2, refuse_memory);
    printf("%s: %ld allocations and threads, %ld refused\n", engine->scenario->name, allocations,
           count);
    return count;
}

/* ---- power ---- */

/* True when DIGEST is new to all workers. */
static bool is_new(struct counts *counts, uint64_t digest)
{
    digest |= 1;
    for (size_t at = digest % SEEN, tries = 0; tries < SEEN; at = (at + 1) % SEEN, tries++) {
        uint64_t expected = 0;
        if (atomic_compare_exchange_strong(&counts->seen[at], &expected, digest))
            return true;
        if (expected == digest)
            return false;
    }
    return false;
}

static void lose_power(struct engine *engine, const struct place *place, long i)
{
    const struct scenario *scenario = engine->scenario;
    size_t k = (size_t)i, calls = disk_calls(engine->disk);
    uint32_t mark = k == calls ? END_MARK : disk_mark(engine->disk, k);
    uint64_t digest;
    char text[64];
    for (size_t number = 0; disk_make(engine->disk, k, number, &digest); number++) {
        /* What was promised meanwhile makes another state of the same bytes. */
        if (!is_new(engine->counts, digest + mark * (uint64_t)0x9e3779b97f4a7c15))
            continue;
        snprintf(text, sizeof text, "power lost after call %zu (state %zu)", k, number);
        if (!disk_write(engine->disk, place->work)) {
            report(engine, place, "%s: the state cannot be made", text);
            return;
        }
        if (scenario->promised && mark && !scenario->promised(scenario, place->work, mark))
            report(engine, place, "%s: what was promised (mark %u) is gone", text, mark);
        recover(engine, place, text, false);
        atomic_fetch_add(&engine->counts->done, 1);
    }
}

long engine_power(struct engine *engine)
{
    if (!wanted("power"))
        return 0;
    memset((void *)engine->counts->seen, 0, sizeof engine->counts->seen);
    long count = share(engine, (long)disk_calls(engine->disk) + 1, lose_power);
    printf("%s: %ld states after the loss of power\n", engine->scenario->name, count);
    return count;
}
