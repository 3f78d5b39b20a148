/*
 * disk.h - what a disk may hold after the power went: the model behind the power-loss tests.
 *
 * A run's calls were recorded (injector.c). The power goes after call K. What an fsync (of the file
 * for bytes and size, of the folder for its names) covered before K is there. Each other call may
 * have reached the disk or not, in any order, as may half of its bytes, and a size without its
 * bytes (zeros). A link or rename may be there although the name that it came from never was.
 * O_DSYNC is not taken on trust: only fsync and fdatasync count.
 */
#ifndef TESTS_CRASH_DISK_H
#define TESTS_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;
/* What stood below ROOT before the run; ROOT stays a name of the paths in the record. */
struct disk *disk_open(const char *root);
/* Read the record of the run that followed. */
bool disk_read(struct disk *disk, const char *record);
void disk_close(struct disk *disk); /* NULL is fine */

/* Calls in the record, marks included; the number of the last mark before call K, 0 for none. */
size_t disk_calls(const struct disk *disk);
uint32_t disk_mark(const struct disk *disk, size_t k);

/* The states that are possible after K calls are numbered from 0: make number NUMBER. False: there
 * are no more. *DIGEST tells states apart. */
bool disk_make(struct disk *disk, size_t k, size_t number, uint64_t *digest);
/* Write the state that disk_make made to the folder TO, which is removed first. */
bool disk_write(const struct disk *disk, const char *to);

#endif
