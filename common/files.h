/*
 * files.h - files that appear whole or not at all.
 *
 * Everything these programs leave on disk goes: temporary name in the same folder, write, fsync,
 * rename, fsync of the folder. The temporary name of NAME is `.NAME.partial`; a lock (files_lock)
 * keeps a second writer out, so one that is found is an interrupted run's and may be removed. A
 * failed write or fsync ends that file's life: nothing is retried on it.
 */
#ifndef COMMON_FILES_H
#define COMMON_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILES_PATH_SIZE 4096

/* OUT (FILES_PATH_SIZE bytes) = folder/name. ERR_INPUT when it does not fit. */
int files_join(char *out, const char *folder, const char *name);
/* OUT = the temporary name for PATH, in the same folder. */
int files_partial_name(char *out, const char *path);

/* A file being written. */
struct files_writer;
/* Create PATH's temporary file, emptying one that an interrupted run left. */
int files_writer_open(struct files_writer **out, const char *path);
/* Append SIZE bytes (buffered). */
int files_write(struct files_writer *writer, const void *bytes, size_t size);
/* Bytes appended so far. */
uint64_t files_written(const struct files_writer *writer);
/* Flush, fsync, rename over PATH, fsync the folder. The writer is closed in any case. */
int files_publish(struct files_writer *writer);
/* Remove the temporary file and close; NULL is fine. */
void files_discard(struct files_writer *writer);

/* Publish a temporary file that another library wrote and synced: rename, fsync the folder. */
int files_publish_partial(const char *path);
/* fsync a folder, so that names in it are durable; or a file's bytes by its path. */
int files_sync_folder(const char *folder);
int files_sync_file(const char *path);

/* Read a whole regular file of at most LIMIT bytes into *OUT (mem_free it; one 0 byte more stands
 * behind it). ERR_INPUT: not a regular file, larger than LIMIT, or it changed size while being
 * read. ERR_IO otherwise. Never blocks on a fifo or device. */
int files_read(const char *path, size_t limit, uint8_t **out, size_t *size);
/* As files_read into a buffer that is grown as needed and kept for the next call. */
struct files_buffer {
    uint8_t *bytes;
    size_t size, capacity;
};
int files_read_into(const char *path, size_t limit, struct files_buffer *buffer);

/* What stands at PATH: links are followed. FILES_NOTHING also for a dangling link. */
enum files_type { FILES_NOTHING, FILES_REGULAR, FILES_FOLDER, FILES_OTHER };
int files_type(const char *path, enum files_type *out, uint64_t *size);

/* The names in FOLDER without . and .., in byte order. */
struct files_list {
    char **names;
    size_t count;
};
int files_list(const char *folder, struct files_list *out);
void files_list_release(struct files_list *list);

/* mkdir -p; existing folders are fine. Durable when it returns. */
int files_make_folder(const char *folder);
/* Remove a file; a missing one is fine. */
int files_remove(const char *path);

/* An exclusive lock that goes with the process (open file description lock on PATH, which stays
 * empty and is never removed). ERR_BUSY at once when another process holds it. */
struct files_lock;
int files_lock(struct files_lock **out, const char *path);
void files_unlock(struct files_lock *lock);

/* Free bytes and inodes for an ordinary user where PATH (or its nearest existing parent) lies;
 * inodes is UINT64_MAX where the file system does not count them. */
int files_free_space(const char *path, uint64_t *bytes, uint64_t *inodes);

/* Open /dev/null in the place of standard input, output and error where the program was started
 * without them: what it prints would otherwise go into the next file it opens. Before anything is
 * opened. */
int files_open_standard(void);

#endif
