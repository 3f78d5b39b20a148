#include "common/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"

enum { BUFFER_BYTES = 1 << 20 };

struct files_writer {
    int file;
    char path[FILES_PATH_SIZE], partial[FILES_PATH_SIZE];
    uint8_t *buffer;
    size_t used;
    uint64_t written; /* appended, the buffer included */
};

/* ---- names ---- */

int files_join(char *out, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] == '/' ? "" : "/";
    int size = snprintf(out, FILES_PATH_SIZE, "%s%s%s", folder, slash, name);
    if (size < 0 || size >= FILES_PATH_SIZE)
        return err_set(ERR_INPUT, "%.200s...: path is longer than %d bytes", folder,
                       FILES_PATH_SIZE - 1);
    return 0;
}

/* OUT = the folder PATH lies in; returns the last component. */
static const char *split(const char *path, char out[FILES_PATH_SIZE])
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        memcpy(out, ".", 2);
        return path;
    }
    size_t length = slash == path ? 1 : (size_t)(slash - path);
    if (length >= FILES_PATH_SIZE)
        length = FILES_PATH_SIZE - 1;
    memcpy(out, path, length);
    out[length] = 0;
    return slash + 1;
}

int files_partial_name(char *out, const char *path)
{
    char folder[FILES_PATH_SIZE];
    const char *name = split(path, folder);
    int size = snprintf(out, FILES_PATH_SIZE, "%.*s.%s.partial", (int)(name - path), path, name);
    if (size < 0 || size >= FILES_PATH_SIZE)
        return err_set(ERR_INPUT, "%.200s...: path is longer than %d bytes", path,
                       FILES_PATH_SIZE - 1);
    return 0;
}

/* ---- durability ---- */

static int sync_path(const char *path, int flags)
{
    int file = open(path, flags | O_CLOEXEC);
    if (file < 0)
        return err_errno("cannot open %s", path);
    int rc = fsync(file) ? err_errno("cannot sync %s", path) : 0;
    close(file);
    return rc;
}

int files_sync_folder(const char *folder)
{
    return sync_path(folder, O_RDONLY | O_DIRECTORY);
}

int files_sync_file(const char *path)
{
    return sync_path(path, O_RDONLY);
}

static int rename_and_sync(const char *partial, const char *path)
{
    char folder[FILES_PATH_SIZE];
    split(path, folder);
    if (rename(partial, path))
        return err_errno("cannot rename %s to %s", partial, path);
    return files_sync_folder(folder);
}

int files_publish_partial(const char *path)
{
    char partial[FILES_PATH_SIZE];
    int rc = files_partial_name(partial, path);
    return rc ? rc : rename_and_sync(partial, path);
}

/* ---- writing ---- */

int files_writer_open(struct files_writer **out, const char *path)
{
    int rc = -ERR_MEMORY;
    struct files_writer *writer = mem_array(1, sizeof *writer, "file writer");
    *out = NULL;
    if (!writer)
        return rc;
    writer->file = -1;
    if (!(writer->buffer = mem_aligned(BUFFER_BYTES, "file buffer")))
        goto fail;
    if ((rc = files_partial_name(writer->partial, path)))
        goto fail;
    snprintf(writer->path, sizeof writer->path, "%s", path);
    writer->file =
        open(writer->partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (writer->file < 0) {
        rc = err_errno("cannot create %s", writer->partial);
        goto fail;
    }
    *out = writer;
    return 0;

fail:
    files_discard(writer);
    return rc;
}

static int write_all(struct files_writer *writer, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t done = write(writer->file, bytes, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return err_errno("cannot write %s (%llu bytes in)", writer->partial,
                             (unsigned long long)writer->written);
        bytes += done;
        size -= (size_t)done;
    }
    return 0;
}

static int flush(struct files_writer *writer)
{
    int rc = write_all(writer, writer->buffer, writer->used);
    writer->used = 0;
    return rc;
}

int files_write(struct files_writer *writer, const void *bytes, size_t size)
{
    int rc;
    writer->written += size;
    if (size > BUFFER_BYTES - writer->used && (rc = flush(writer)))
        return rc;
    if (size >= BUFFER_BYTES)
        return write_all(writer, bytes, size);
    if (size)
        memcpy(writer->buffer + writer->used, bytes, size);
    writer->used += size;
    return 0;
}

uint64_t files_written(const struct files_writer *writer)
{
    return writer->written;
}

int files_publish(struct files_writer *writer)
{
    int rc = flush(writer);
    if (!rc && fsync(writer->file))
        rc = err_errno("cannot sync %s", writer->partial);
    int closed = close(writer->file);
    writer->file = -1;
    if (!rc && closed)
        rc = err_errno("cannot close %s", writer->partial);
    if (!rc)
        rc = rename_and_sync(writer->partial, writer->path);
    if (rc)
        unlink(writer->partial);
    writer->partial[0] = 0;
    files_discard(writer);
    return rc;
}

void files_discard(struct files_writer *writer)
{
    if (!writer)
        return;
    if (writer->file >= 0) {
        close(writer->file);
        unlink(writer->partial);
    }
    mem_free(writer->buffer);
    mem_free(writer);
}

/* ---- reading ---- */

/* FILE's size, if it is a regular file of at most LIMIT bytes. */
static int check_regular(int file, const char *path, size_t limit, size_t *size)
{
    struct stat status;
    if (fstat(file, &status))
        return err_errno("cannot stat %s", path);
    if (!S_ISREG(status.st_mode))
        return err_set(ERR_INPUT, "%s is not a regular file", path);
    if ((uint64_t)status.st_size > limit)
        return err_set(ERR_INPUT, "%s is %lld bytes long, more than the limit of %zu", path,
                       (long long)status.st_size, limit);
    *size = (size_t)status.st_size;
    return 0;
}

/* Read FILE to its end, which must come after SIZE bytes. */
static int read_whole(int file, const char *path, uint8_t *bytes, size_t size)
{
    size_t done = 0;
    for (;;) {
        /* One byte more than there should be, into the place of the ending 0, shows a file that
         * grew. */
        ssize_t got = read(file, bytes + done, size + 1 - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("cannot read %s", path);
        done += (size_t)got;
        if (got == 0 || done > size)
            break;
    }
    if (done != size)
        return err_set(ERR_INPUT, "%s changed its size while it was read", path);
    bytes[size] = 0;
    return 0;
}

int files_read_into(const char *path, size_t limit, struct files_buffer *buffer)
{
    size_t size = 0, room;
    /* O_NONBLOCK: opening a fifo must not wait for a writer. It changes nothing for regular files.
     */
    int rc, file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return err_errno("cannot open %s", path);
    rc = check_regular(file, path, limit, &size);
    if (!rc && !mem_sum(size, 1, &room))
        rc = err_set(ERR_MEMORY, "%s is too long", path);
    if (!rc && room > buffer->capacity) {
        size_t capacity = room + room / 4;
        mem_free(buffer->bytes);
        buffer->capacity = 0;
        if ((buffer->bytes = mem_aligned(capacity, "file contents")))
            buffer->capacity = capacity;
        else
            rc = -ERR_MEMORY;
    }
    if (!rc && buffer->bytes && !(rc = read_whole(file, path, buffer->bytes, size)))
        buffer->size = size;
    close(file);
    return rc;
}

int files_read(const char *path, size_t limit, uint8_t **out, size_t *size)
{
    struct files_buffer buffer = {0};
    int rc = files_read_into(path, limit, &buffer);
    if (rc) {
        mem_free(buffer.bytes);
        return rc;
    }
    *out = buffer.bytes;
    *size = buffer.size;
    return 0;
}

int files_type(const char *path, enum files_type *out, uint64_t *size)
{
    struct stat status;
    *out = FILES_NOTHING;
    if (size)
        *size = 0;
    if (stat(path, &status)) {
        if (errno == ENOENT || errno == ENOTDIR)
            return 0;
        return err_errno("cannot stat %s", path);
    }
    *out = S_ISREG(status.st_mode)   ? FILES_REGULAR
           : S_ISDIR(status.st_mode) ? FILES_FOLDER
                                     : FILES_OTHER;
    if (size)
        *size = (uint64_t)status.st_size;
    return 0;
}

/* ---- folders ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_entries(DIR *folder, const char *path, struct files_list *out)
{
    size_t capacity = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry)
            return errno ? err_errno("cannot list %s", path) : 0;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        if (out->count == capacity) {
            size_t next = capacity ? capacity * 2 : 64;
            int rc =
                mem_grow((void **)&out->names, capacity, next, sizeof *out->names, "folder list");
            if (rc)
                return rc;
            capacity = next;
        }
        if (!(out->names[out->count] = mem_text(entry->d_name)))
            return -ERR_MEMORY;
        out->count++;
    }
}

int files_list(const char *path, struct files_list *out)
{
    *out = (struct files_list){0};
    DIR *folder = opendir(path);
    if (!folder)
        return err_errno("cannot open folder %s", path);
    int rc = list_entries(folder, path, out);
    closedir(folder);
    if (rc)
        files_list_release(out);
    else if (out->count)
        qsort(out->names, out->count, sizeof *out->names, compare_names);
    return rc;
}

void files_list_release(struct files_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->names[i]);
    mem_free(list->names);
    *list = (struct files_list){0};
}

int files_make_folder(const char *path)
{
    char made[FILES_PATH_SIZE], parent[FILES_PATH_SIZE];
    size_t length = strlen(path);
    int rc;
    if (length == 0 || length >= sizeof made)
        return err_set(ERR_INPUT, "cannot make a folder: the path has %zu bytes", length);
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != 0)
            continue;
        memcpy(made, path, end);
        made[end] = 0;
        if (mkdir(made, 0777) == 0) {
            split(made, parent);
            if ((rc = files_sync_folder(parent)))
                return rc;
        } else if (errno != EEXIST) {
            return err_errno("cannot make folder %s", made);
        }
    }
    enum files_type type;
    if ((rc = files_type(path, &type, NULL)))
        return rc;
    if (type != FILES_FOLDER)
        return err_set(ERR_IO, "%s exists and is not a folder", path);
    return 0;
}

int files_remove(const char *path)
{
    if (unlink(path) && errno != ENOENT)
        return err_errno("cannot remove %s", path);
    return 0;
}

/* ---- locks and space ---- */

struct files_lock {
    int file;
};

int files_lock(struct files_lock **out, const char *path)
{
    struct files_lock *lock = mem_array(1, sizeof *lock, "lock");
    struct flock wish = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!lock)
        return rc;
    lock->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (lock->file < 0)
        rc = err_errno("cannot open the lock file %s", path);
    else if (fcntl(lock->file, F_OFD_SETLK, &wish) == 0)
        rc = 0;
    else if (errno == EAGAIN || errno == EACCES)
        rc = err_set(ERR_BUSY, "another run holds %s; wait for it or stop it", path);
    else
        rc = err_errno("cannot lock %s", path);
    if (rc) {
        files_unlock(lock);
        return rc;
    }
    *out = lock;
    return 0;
}

void files_unlock(struct files_lock *lock)
{
    if (!lock)
        return;
    if (lock->file >= 0)
        close(lock->file);
    mem_free(lock);
}

int files_free_space(const char *path, uint64_t *bytes, uint64_t *inodes)
{
    char existing[FILES_PATH_SIZE], parent[FILES_PATH_SIZE];
    struct statvfs status;
    if (snprintf(existing, sizeof existing, "%s", path) >= (int)sizeof existing)
        return err_set(ERR_INPUT, "%.200s...: path is too long", path);
    while (statvfs(existing, &status)) {
        if (errno != ENOENT || !strcmp(existing, ".") || !strcmp(existing, "/"))
            return err_errno("cannot ask for the free space at %s", existing);
        split(existing, parent);
        memcpy(existing, parent, sizeof existing);
    }
    *bytes = (uint64_t)status.f_bavail * status.f_frsize;
    *inodes = status.f_files ? status.f_favail : UINT64_MAX;
    return 0;
}

int files_open_standard(void)
{
    int file;
    do
        file = open("/dev/null", O_RDWR);
    while (file >= 0 && file <= STDERR_FILENO);
    if (file < 0)
        return err_errno("cannot open /dev/null");
    close(file);
    return 0;
}
