/*
 * injector.c - preloaded into a program under test: counts its calls that change files (or those
 * that read them), and lets one of them fail, stop half-way, or be the last thing the process does.
 * LMDB's and other libraries' calls are counted as well; stdio's are not (nothing durable goes
 * through stdio here), and neither are those of a child that was forked.
 *
 * Counted are only calls on files and folders below FAULT_ROOT, so that what a program prints or
 * loads does not move the numbers. Wishes come in the environment:
 *     FAULT_ROOT     folder, as the program names it
 *     FAULT_AT       number of the call, from 1; 0 or none: only count
 *     FAULT_DO       before, after, half: die by SIGKILL at that moment (half: a write has written
 *                    half of its bytes); short: a write or read that comes back with half; stop:
 * SIGTERM comes before it; a number: errno FAULT_FOREVER  1: all later calls fail in the same way,
 * too FAULT_READS    1: calls that read are counted and hit, those that change files are not
 *     FAULT_LOG      file to write the calls down in (record.h)
 *
 * The real work goes to the kernel by syscall(), not to the C library's functions: nothing has to
 * be looked up, and no lock is taken.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/crash/record.h"

enum { FILES = 1024, PIECES = 1024 };
enum fault {
    FAULT_NONE,
    FAULT_BEFORE,
    FAULT_AFTER,
    FAULT_HALF,
    FAULT_SHORT,
    FAULT_STOP,
    FAULT_ERROR
};

/* A preloaded library can reach nothing but globals. */
static struct {
    char root[PATH_MAX];
    size_t root_size;
    long at;
    enum fault fault;
    int error;
    bool forever, reads;
    int log; /* -1: none */
    atomic_long calls;
    /* Of each file descriptor: its file is below the root; and it was opened for writing. */
    bool watched[FILES], writing[FILES];
} state = {.log = -1};

/* A forked child runs undisturbed, and makes the very calls that it was written to make: it may be
 * allowed no other (prep/jail.c). */
static void leave_child(void)
{
    state.root_size = 0;
    memset(state.watched, 0, sizeof state.watched);
}

__attribute__((constructor)) static void begin(void)
{
    const char *root = getenv("FAULT_ROOT"), *at = getenv("FAULT_AT"), *what = getenv("FAULT_DO");
    const char *path = getenv("FAULT_LOG");
    if (!root || strlen(root) >= sizeof state.root)
        return;
    strcpy(state.root, root);
    state.root_size = strlen(root);
    state.at = at ? atol(at) : 0;
    state.forever = getenv("FAULT_FOREVER") != NULL;
    state.reads = getenv("FAULT_READS") != NULL;
    pthread_atfork(NULL, NULL, leave_child);
    if (what)
        state.fault = !strcmp(what, "before")  ? FAULT_BEFORE
                      : !strcmp(what, "after") ? FAULT_AFTER
                      : !strcmp(what, "half")  ? FAULT_HALF
                      : !strcmp(what, "short") ? FAULT_SHORT
                      : !strcmp(what, "stop")  ? FAULT_STOP
                                               : FAULT_ERROR;
    if (state.fault == FAULT_ERROR)
        state.error = atoi(what);
    if (path) {
        int file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0666);
        state.log = (int)syscall(SYS_fcntl, file, F_DUPFD_CLOEXEC, FILES / 2);
        syscall(SYS_close, file);
    }
}

static bool below_root(const char *path)
{
    return state.root_size && !strncmp(path, state.root, state.root_size) &&
           (path[state.root_size] == '/' || path[state.root_size] == 0);
}

static bool is_watched(int file)
{
    return file >= 0 && file < FILES && state.watched[file];
}

/* Whether CALL is one of those that are counted. */
static bool counts(enum record_call call)
{
    return (call > CALL_MARK) == state.reads;
}

/* The fault for a call that is about to be made. */
static enum fault count(enum record_call call)
{
    if (!counts(call))
        return FAULT_NONE;
    long number = atomic_fetch_add(&state.calls, 1) + 1;
    bool hit = state.at && (number == state.at || (state.forever && number > state.at));
    if (!hit)
        return FAULT_NONE;
    if (state.fault == FAULT_BEFORE) {
        kill(getpid(), SIGKILL);
        pause();
    }
    if (state.fault == FAULT_STOP)
        kill(getpid(), SIGTERM);
    return state.fault;
}

/* A call was made: write it down, die if it was to be the last. Returns RESULT; errno is kept. */
static long done(enum fault fault, long result, struct record record, const char *path,
                 const char *other, const struct iovec *data, int pieces)
{
    int error = errno;
    if (state.log >= 0 && counts((enum record_call)record.call)) {
        struct iovec out[PIECES + 3];
        int used = 0;
        record.failed = result < 0;
        record.path_size = path ? (uint32_t)strlen(path) : 0;
        record.other_size = other ? (uint32_t)strlen(other) : 0;
        out[used++] = (struct iovec){&record, sizeof record};
        out[used++] = (struct iovec){(void *)path, record.path_size};
        out[used++] = (struct iovec){(void *)other, record.other_size};
        for (int i = 0; i < pieces && i < PIECES; i++)
            out[used++] = data[i];
        syscall(SYS_writev, state.log, out, used);
    }
    if (fault == FAULT_AFTER || fault == FAULT_HALF) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = error;
    return result;
}

/* Not counted. */
static bool find_status(const char *path, struct stat *status)
{
    return !syscall(SYS_newfstatat, AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
}

static uint64_t node_of(int file)
{
    struct stat status;
    return syscall(SYS_fstat, file, &status) ? 0 : (uint64_t)status.st_ino;
}

static long refuse(int error)
{
    errno = error;
    return -1;
}

/* ---- opening and closing ---- */

static int open_file(int folder, const char *path, int flags, mode_t mode)
{
    bool below = below_root(path), changes = flags & (O_CREAT | O_TRUNC);
    struct record record = {.call = changes ? CALL_OPEN : CALL_FIND,
                            .emptied = (flags & O_TRUNC) != 0};
    enum fault fault = below ? count((enum record_call)record.call) : FAULT_NONE;
    struct stat status;
    record.created = below && changes && !find_status(path, &status);
    int file = fault == FAULT_ERROR ? (int)refuse(state.error)
                                    : (int)syscall(SYS_openat, folder, path, flags, mode);
    if (file >= 0 && file < FILES) {
        state.watched[file] = below;
        state.writing[file] = (flags & O_ACCMODE) != O_RDONLY;
    }
    if (!below)
        return file;
    record.node = file >= 0 ? node_of(file) : 0;
    return (int)done(fault, file, record, path, NULL, NULL, 0);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(arguments, unsigned) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments); // NOLINT: clang-tidy 14 does not see va_start
    va_end(arguments);
    return open_file(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments); // NOLINT: clang-tidy 14 does not see va_start
    va_end(arguments);
    return open_file(folder, path, flags, mode);
}

int close(int file)
{
    if (!is_watched(file) || !state.writing[file])
        return (int)syscall(SYS_close, file);
    struct record record = {.call = CALL_CLOSE, .node = node_of(file)};
    enum fault fault = count(CALL_CLOSE);
    state.watched[file] = false;
    long result = syscall(SYS_close, file);
    if (fault == FAULT_ERROR) /* the descriptor is gone all the same, as in Linux */
        result = refuse(state.error);
    return (int)done(fault, result, record, NULL, NULL, NULL, 0);
}

/* ---- bytes ---- */

/* Cut *COUNT pieces to half of their bytes. */
static void halve(struct iovec *pieces, int *count_of_pieces)
{
    size_t size = 0;
    for (int i = 0; i < *count_of_pieces; i++)
        size += pieces[i].iov_len;
    size /= 2;
    for (int i = 0; i < *count_of_pieces; i++) {
        if (pieces[i].iov_len > size)
            pieces[i].iov_len = size;
        size -= pieces[i].iov_len;
    }
}

/* OFFSET -1: where the file stands. */
static ssize_t write_file(int file, const struct iovec *data, int pieces, off_t offset)
{
    struct iovec copy[PIECES];
    bool watched = is_watched(file);
    enum fault fault = watched ? count(CALL_WRITE) : FAULT_NONE;
    if (fault == FAULT_ERROR)
        return done(fault, refuse(state.error), (struct record){.call = CALL_WRITE}, NULL, NULL,
                    NULL, 0);
    if (pieces > PIECES)
        return refuse(EINVAL);
    memcpy(copy, data, (size_t)pieces * sizeof *copy);
    if (fault == FAULT_HALF || fault == FAULT_SHORT)
        halve(copy, &pieces);
    off_t at = offset >= 0 ? offset : watched ? lseek(file, 0, SEEK_CUR) : 0;
    ssize_t result = offset >= 0 ? syscall(SYS_pwritev, file, copy, pieces, offset, 0)
                                 : syscall(SYS_writev, file, copy, pieces);
    if (!watched)
        return result;
    struct record record = {.call = CALL_WRITE, .node = node_of(file), .offset = (uint64_t)at};
    for (int i = 0; i < pieces; i++)
        record.size += copy[i].iov_len;
    return done(fault, result, record, NULL, NULL, copy, pieces);
}

/* Files that are not watched get the very call that was asked for. */
ssize_t write(int file, const void *bytes, size_t size)
{
    if (!is_watched(file))
        return syscall(SYS_write, file, bytes, size);
    return write_file(file, &(struct iovec){(void *)bytes, size}, 1, -1);
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset)
{
    if (!is_watched(file))
        return syscall(SYS_pwrite64, file, bytes, size, offset);
    return write_file(file, &(struct iovec){(void *)bytes, size}, 1, offset);
}

ssize_t writev(int file, const struct iovec *data, int pieces)
{
    return write_file(file, data, pieces, -1);
}

ssize_t pwritev(int file, const struct iovec *data, int pieces, off_t offset)
{
    return write_file(file, data, pieces, offset);
}

static int change_size(int file, enum record_call call, int mode, off_t offset, off_t size)
{
    bool watched = is_watched(file);
    enum fault fault = watched ? count(call) : FAULT_NONE;
    struct record record = {.call = call, .offset = (uint64_t)(offset + size)};
    record.node = watched ? node_of(file) : 0;
    long result = fault == FAULT_ERROR    ? refuse(state.error)
                  : call == CALL_TRUNCATE ? syscall(SYS_ftruncate, file, size)
                                          : syscall(SYS_fallocate, file, mode, offset, size);
    return watched ? (int)done(fault, result, record, NULL, NULL, NULL, 0) : (int)result;
}

int ftruncate(int file, off_t size)
{
    return change_size(file, CALL_TRUNCATE, 0, 0, size);
}

int fallocate(int file, int mode, off_t offset, off_t size)
{
    return change_size(file, CALL_ALLOCATE, mode, offset, size);
}

int posix_fallocate(int file, off_t offset, off_t size)
{
    return change_size(file, CALL_ALLOCATE, 0, offset, size) ? errno : 0;
}

static int sync_file(int file, long number)
{
    bool watched = is_watched(file);
    enum fault fault = watched ? count(CALL_SYNC) : FAULT_NONE;
    struct record record = {.call = CALL_SYNC, .node = watched ? node_of(file) : 0};
    long result = fault == FAULT_ERROR ? refuse(state.error) : syscall(number, file);
    return watched ? (int)done(fault, result, record, NULL, NULL, NULL, 0) : (int)result;
}

int fsync(int file)
{
    return sync_file(file, SYS_fsync);
}

int fdatasync(int file)
{
    return sync_file(file, SYS_fdatasync);
}

/* Whose memory it is is not known: all of it counts. */
int msync(void *start, size_t size, int flags)
{
    enum fault fault = state.root_size ? count(CALL_SYNC) : FAULT_NONE;
    long result =
        fault == FAULT_ERROR ? refuse(state.error) : syscall(SYS_msync, start, size, flags);
    return state.root_size
               ? (int)done(fault, result, (struct record){.call = CALL_SYNC}, NULL, NULL, NULL, 0)
               : (int)result;
}

/* ---- names ---- */

/* System call NUMBER on PATH (and OTHER). */
static int change_name(enum record_call call, const char *path, const char *other, long number,
                       long a, long b, long c, long d, long e)
{
    bool counted = below_root(path) || (other && below_root(other));
    enum fault fault = counted ? count(call) : FAULT_NONE;
    struct record record = {.call = call};
    struct stat status;
    if (counted && call != CALL_SYMLINK && find_status(path, &status))
        record.node = (uint64_t)status.st_ino;
    long result = fault == FAULT_ERROR ? refuse(state.error) : syscall(number, a, b, c, d, e);
    if (counted && !result && call == CALL_MKDIR && find_status(path, &status))
        record.node = (uint64_t)status.st_ino;
    return counted ? (int)done(fault, result, record, path, other, NULL, 0) : (int)result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    return change_name(CALL_RENAME, from, to, SYS_renameat2, from_folder, (long)from, to_folder,
                       (long)to, (long)flags);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    return change_name(CALL_LINK, from, to, SYS_linkat, from_folder, (long)from, to_folder,
                       (long)to, flags);
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlink(const char *text, const char *path)
{
    return change_name(CALL_SYMLINK, path, text, SYS_symlinkat, (long)text, AT_FDCWD, (long)path, 0,
                       0);
}

int unlinkat(int folder, const char *path, int flags)
{
    return change_name(CALL_UNLINK, path, NULL, SYS_unlinkat, folder, (long)path, flags, 0, 0);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdir(const char *path, mode_t mode)
{
    return change_name(CALL_MKDIR, path, NULL, SYS_mkdirat, AT_FDCWD, (long)path, mode, 0, 0);
}

/* ---- reading ---- */

/* System call NUMBER, of kind CALL, where it is to be COUNTED. */
static long look(enum record_call call, bool counted, long number, long a, long b, long c, long d)
{
    enum fault fault = counted ? count(call) : FAULT_NONE;
    if (fault == FAULT_SHORT && call == CALL_READ)
        c = (c + 1) / 2;
    long result = fault == FAULT_ERROR ? refuse(state.error) : syscall(number, a, b, c, d);
    return counted ? done(fault, result, (struct record){.call = call}, NULL, NULL, NULL, 0)
                   : result;
}

ssize_t read(int file, void *bytes, size_t size)
{
    return look(CALL_READ, is_watched(file), SYS_read, file, (long)bytes, (long)size, 0);
}

ssize_t pread(int file, void *bytes, size_t size, off_t offset)
{
    return look(CALL_READ, is_watched(file), SYS_pread64, file, (long)bytes, (long)size, offset);
}

int stat(const char *path, struct stat *out)
{
    return (int)look(CALL_LOOK, below_root(path), SYS_newfstatat, AT_FDCWD, (long)path, (long)out,
                     0);
}

int lstat(const char *path, struct stat *out)
{
    return (int)look(CALL_LOOK, below_root(path), SYS_newfstatat, AT_FDCWD, (long)path, (long)out,
                     AT_SYMLINK_NOFOLLOW);
}

int fstat(int file, struct stat *out)
{
    return (int)look(CALL_LOOK, is_watched(file), SYS_fstat, file, (long)out, 0, 0);
}

int flock(int file, int operation)
{
    return (int)look(CALL_LOCK, is_watched(file), SYS_flock, file, operation, 0, 0);
}

int fcntl(int file, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long); // NOLINT: clang-tidy 14 does not see va_start
    va_end(arguments);
    bool locks = command == F_SETLK || command == F_OFD_SETLK;
    return (int)look(CALL_LOCK, locks && is_watched(file), SYS_fcntl, file, command, argument, 0);
}

void *mmap(void *start, size_t size, int protection, int flags, int file, off_t offset)
{
    bool counted = !(flags & MAP_ANONYMOUS) && is_watched(file);
    enum fault fault = counted ? count(CALL_MAP) : FAULT_NONE;
    long result = fault == FAULT_ERROR
                      ? refuse(state.error)
                      : syscall(SYS_mmap, start, size, protection, flags, file, offset);
    if (counted)
        done(fault, result, (struct record){.call = CALL_MAP}, NULL, NULL, NULL, 0);
    return (void *)result;
}

/* The next three are more than a system call: the C library's own ones do the work. */
static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);
    if (!function)
        abort();
    return function;
}

int statvfs(const char *path, struct statvfs *out)
{
    bool counted = below_root(path);
    enum fault fault = counted ? count(CALL_LOOK) : FAULT_NONE;
    int (*function)(const char *, struct statvfs *) = real("statvfs");
    int result = fault == FAULT_ERROR ? (int)refuse(state.error) : function(path, out);
    return counted
               ? (int)done(fault, result, (struct record){.call = CALL_LOOK}, NULL, NULL, NULL, 0)
               : result;
}

DIR *opendir(const char *path)
{
    bool counted = below_root(path);
    enum fault fault = counted ? count(CALL_FIND) : FAULT_NONE;
    DIR *(*function)(const char *) = real("opendir");
    DIR *folder = fault == FAULT_ERROR ? NULL : function(path);
    if (folder && dirfd(folder) < FILES)
        state.watched[dirfd(folder)] = counted;
    if (counted)
        done(fault, folder ? 0 : refuse(fault == FAULT_ERROR ? state.error : errno),
             (struct record){.call = CALL_FIND}, NULL, NULL, NULL, 0);
    return folder;
}

struct dirent *readdir(DIR *folder)
{
    bool counted = is_watched(dirfd(folder));
    enum fault fault = counted ? count(CALL_LIST) : FAULT_NONE;
    struct dirent *(*function)(DIR *) = real("readdir");
    struct dirent *entry = fault == FAULT_ERROR ? NULL : function(folder);
    if (fault == FAULT_ERROR)
        errno = state.error;
    if (counted)
        done(fault, 0, (struct record){.call = CALL_LIST}, NULL, NULL, NULL, 0);
    return entry;
}

int closedir(DIR *folder)
{
    int (*function)(DIR *) = real("closedir");
    if (is_watched(dirfd(folder)))
        state.watched[dirfd(folder)] = false;
    return function(folder);
}

/* ---- what the program says ---- */

/* A program under test that links to nothing of ours calls this where it is preloaded. */
void fault_mark(unsigned number);
void fault_mark(unsigned number)
{
    if (state.log >= 0)
        done(FAULT_NONE, 0, (struct record){.call = CALL_MARK, .offset = number}, NULL, NULL, NULL,
             0);
}
