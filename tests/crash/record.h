/*
 * record.h - what the injector writes down for each call it counts, and who reads it (disk.h).
 *
 * The file is a row of struct record, each followed by its two paths (without a 0) and its bytes.
 */
#ifndef TESTS_CRASH_RECORD_H
#define TESTS_CRASH_RECORD_H

#include <stdint.h>

enum record_call {
    CALL_OPEN,     /* with O_CREAT or O_TRUNC */
    CALL_WRITE,    /* write, pwrite, writev, pwritev: OFFSET, bytes */
    CALL_TRUNCATE, /* OFFSET: the new size */
    CALL_ALLOCATE,
    CALL_SYNC, /* fsync, fdatasync, msync */
    CALL_CLOSE,
    CALL_RENAME, /* PATH to OTHER */
    CALL_LINK,   /* OTHER becomes a second name of PATH */
    CALL_SYMLINK,
    CALL_UNLINK,
    CALL_MKDIR,
    CALL_MARK, /* not a call: the program says that something is done; OFFSET: its number */
    /* From here on: calls that change nothing. They are counted instead of those above, not beside
     * them (FAULT_READS). */
    CALL_FIND, /* open without O_CREAT and O_TRUNC, opendir */
    CALL_READ, /* read, pread */
    CALL_LOOK, /* stat, lstat, fstat, statvfs */
    CALL_LIST, /* readdir */
    CALL_MAP,  /* mmap of a file */
    CALL_LOCK, /* flock; fcntl that locks */
};

struct record {
    uint32_t call;
    uint32_t failed;  /* the call came back with an error */
    uint32_t created; /* CALL_OPEN: the file was not there before */
    uint32_t emptied; /* CALL_OPEN with O_TRUNC */
    uint64_t node;    /* inode of the file, or of the folder that is synced */
    uint64_t offset, size;
    uint32_t path_size, other_size;
};

#endif
