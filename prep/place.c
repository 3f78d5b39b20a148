#include "prep/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"

enum { BLOCK = 1 << 16 };

static int open_to_read(const char *path, int *out)
{
    *out = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return *out < 0 ? err_errno("cannot open %s", path) : 0;
}

/* Read until BLOCK bytes or the end. */
static int read_block(int file, const char *path, uint8_t *block, size_t *size)
{
    *size = 0;
    while (*size < BLOCK) {
        ssize_t got = read(file, block + *size, BLOCK - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("cannot read %s", path);
        if (got == 0)
            break;
        *size += (size_t)got;
    }
    return 0;
}

static int compare_bytes(const char *a, const char *b, bool *same)
{
    uint8_t block_a[BLOCK], block_b[BLOCK];
    size_t size_a = 1, size_b = 0;
    int file_a = -1, file_b = -1;
    int rc = open_to_read(a, &file_a);
    if (!rc)
        rc = open_to_read(b, &file_b);
    *same = true;
    while (!rc && *same && size_a) {
        rc = read_block(file_a, a, block_a, &size_a);
        if (!rc)
            rc = read_block(file_b, b, block_b, &size_b);
        *same = size_a == size_b && memcmp(block_a, block_b, size_a) == 0;
    }
    if (file_a >= 0)
        close(file_a);
    if (file_b >= 0)
        close(file_b);
    return rc;
}

/* TARGET exists, as LINK says (a symbolic link was not followed): is it SOURCE, or of the same
 * bytes? */
static int compare(const char *source, const char *target, const struct stat *link, bool *same)
{
    struct stat from, to;
    *same = false;
    if (stat(source, &from) != 0)
        return err_errno("cannot stat %s", source);
    if (stat(target, &to) != 0) {
        if (S_ISLNK(link->st_mode) && (errno == ENOENT || errno == ELOOP))
            return 0; /* a link into nothing is something else */
        return err_errno("cannot stat %s", target);
    }
    if (from.st_dev == to.st_dev && from.st_ino == to.st_ino) {
        *same = true;
        return 0;
    }
    if (!S_ISREG(to.st_mode) || from.st_size != to.st_size)
        return 0;
    return compare_bytes(source, target, same);
}

/* TARGET exists. */
static int settle(const char *source, const char *target, const struct stat *link,
                  enum place_mode mode, bool dry, enum place_result *result)
{
    bool same;
    int rc = compare(source, target, link, &same);
    /* A symbolic link may lead to SOURCE itself, whose removal would then lose the picture. */
    if (mode == PLACE_MOVE && S_ISLNK(link->st_mode))
        same = false;
    *result = same ? PLACE_THERE : PLACE_CONFLICT;
    if (!rc && same && mode == PLACE_MOVE && !dry) {
        rc = files_sync_file(target);
        if (!rc)
            rc = files_remove(source);
    }
    return rc;
}

static int copy_file(const char *source, const char *target)
{
    struct files_writer *writer = NULL;
    uint8_t block[BLOCK];
    size_t size;
    int file;
    int rc = open_to_read(source, &file);
    if (rc)
        return rc;
    rc = files_writer_open(&writer, target);
    while (!rc && !(rc = read_block(file, source, block, &size)) && size)
        rc = files_write(writer, block, size);
    close(file);
    if (rc) {
        files_discard(writer);
        return rc;
    }
    return files_publish(writer);
}

/* No hard link or rename can lead there: not an error, but a reason to copy. */
static bool wants_copy(int error)
{
    return error == EXDEV || error == EPERM || error == EMLINK || error == EOPNOTSUPP ||
           error == ENOSYS || error == EINVAL;
}

static int place_link(const char *source, const char *target, enum place_result *result)
{
    if (linkat(AT_FDCWD, source, AT_FDCWD, target, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (!wants_copy(errno))
        return err_errno("cannot link %s to %s", source, target);
    *result = PLACE_COPIED;
    return copy_file(source, target);
}

static int place_move(const char *source, const char *target, enum place_result *result)
{
    if (renameat2(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0)
        return 0;
    if (!wants_copy(errno))
        return err_errno("cannot move %s to %s", source, target);
    /* Another file system, or one that cannot rename without replacing. */
    *result = PLACE_COPIED;
    int rc = copy_file(source, target);
    return rc ? rc : files_remove(source);
}

int place_file(const char *source, const char *target, enum place_mode mode, const char *link_text,
               bool dry, enum place_result *result)
{
    struct stat link;
    *result = PLACE_DONE;
    if (lstat(target, &link) == 0)
        return settle(source, target, &link, mode, dry, result);
    /* In a dry run the folder may be missing as well. */
    if (errno != ENOENT)
        return err_errno("cannot stat %s", target);
    if (dry)
        return 0;
    switch (mode) {
    case PLACE_LINK:
        return place_link(source, target, result);
    case PLACE_COPY:
        return copy_file(source, target);
    case PLACE_SYMLINK:
        return symlink(link_text, target) ? err_errno("cannot link %s", target) : 0;
    case PLACE_MOVE:
        return place_move(source, target, result);
    }
    return err_set(ERR_FAULT, "place mode %d", (int)mode);
}
