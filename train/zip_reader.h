/*
 * zip_reader.h - reads the zip archives in which PyTorch keeps its files, strictly: stored entries
 * only, all in one inner folder, one behind the other without gaps, the directory and one end
 * record at the very end, every CRC checked. What a general zip tool would overlook (overlaps,
 * doubles, gaps, a comment, headers that disagree) is refused, so that each byte of the file is
 * covered by a check. Knows nothing of what the entries hold. data-spec/50-checkpoint.md,
 * 50.1.
 */
#ifndef TRAIN_ZIP_READER_H
#define TRAIN_ZIP_READER_H

#include <stddef.h>
#include <stdint.h>

struct zip_entry {
    const char *name; /* without the inner folder and its slash; no 0 bytes inside */
    uint64_t offset;  /* of the data in the file */
    uint64_t size;    /* bytes */
    uint32_t crc;
};

struct zip_file;
/* Open PATH and check its whole structure, but not yet the data. At most LIMIT entries. ERR_INPUT
 * names file, byte and reason; a file of another kind is named ("a safetensors file"). */
int zip_open(struct zip_file **out, const char *path, size_t limit);
void zip_close(struct zip_file *zip); /* NULL is fine */

uint64_t zip_size(const struct zip_file *zip); /* bytes of the file */
size_t zip_count(const struct zip_file *zip);
/* The entries in the file's order; borrowed until zip_close. */
const struct zip_entry *zip_entry(const struct zip_file *zip, size_t index);
/* The entry of that name; NULL when absent. */
const struct zip_entry *zip_find(const struct zip_file *zip, const char *name);

/* Read an entry's data into OUT (entry->size bytes) and check its CRC. ERR_INPUT, ERR_IO. */
int zip_read(struct zip_file *zip, const struct zip_entry *entry, void *out);
/* The same piece by piece, in little memory. SINK returns 0 or an error, which ends it. The CRC is
 * checked last: what SINK made of the pieces counts only when this returns 0. */
int zip_stream(struct zip_file *zip, const struct zip_entry *entry,
               int (*sink)(void *context, const void *bytes, size_t size), void *context);
/* Forget what the system keeps in memory of the file, so that reading shows what is on the disk. A
 * hint. */
void zip_drop_cache(struct zip_file *zip);

#endif
