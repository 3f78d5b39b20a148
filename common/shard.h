/*
 * shard.h - one shard: an LMDB file of records, written once by prep, then only read.
 * data-spec/20-data-set.md has the bytes; this is the only module that knows a record's bytes, and
 * that calls LMDB.
 *
 * Key: number of the record in the shard, 32 bits big-endian. Value: 64-byte little-endian header,
 * name, payload; the header begins with XXH3-64 over everything behind it, so that no record has to
 * be copied to be checked. LMDB promises no alignment.
 *
 * LMDB writes shards. They are read from a map of the file through a list of its values (pages.h),
 * which was checked against the file's real size: a damaged or short file is an error, never a
 * crash. One that becomes shorter while it is open is bus.h's matter.
 */
#ifndef COMMON_SHARD_H
#define COMMON_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_encoding { RECORD_RGB = 0, RECORD_JPEG = 1 };
/* "rgb" and "jpeg" */
extern const char *const record_encoding_names[2];

#define RECORD_HEADER_SIZE 64
#define RECORD_NAME_LIMIT 511        /* bytes of "class/file name" */
#define RECORD_SIDE_LIMIT 1000000000 /* pixels of width or height */

/* One labelled picture. NAME is "class/file name" as bytes, not ended by 0; PAYLOAD is width *
 * height * 3 bytes of RGB, or a JPEG file of that size in pixels. */
struct record {
    uint32_t label;
    uint32_t width, height;                   /* of the stored picture */
    uint32_t original_width, original_height; /* before prep resized it */
    enum record_encoding encoding;
    const char *name;
    uint32_t name_size;
    const uint8_t *payload;
    uint64_t payload_size;
};

/* What is known of a finished shard file. */
struct shard_facts {
    uint64_t records, bytes; /* of the file */
    char digest[33];         /* XXH3-128 of the file */
};

/* ---- writing ---- */

struct shard_writer;
/* Bytes that a shard file with RECORDS records and VALUE_BYTES bytes of values (headers and names
 * included), none larger than LARGEST_VALUE, takes at most, B-tree pages and rounding of each value
 * to pages included. */
uint64_t shard_size_limit(uint64_t records, uint64_t value_bytes, uint64_t largest_value);
/* Bytes one record takes in the file: its value rounded to pages of 4096 bytes, and its place in a
 * leaf. For planning shards; the same on every machine. */
uint64_t shard_record_size(uint64_t name_size, uint64_t payload_size);

/* Create PATH's temporary file (files.h), removing an earlier one. It may grow to SIZE_LIMIT bytes
 * (shard_size_limit, or more where the values are not known yet: LMDB's map grows with the file);
 * beyond that shard_append is ERR_FAULT. */
int shard_writer_open(struct shard_writer **out, const char *path, uint64_t size_limit);
/* Append the next record. Commits by itself before 64 MiB of values are exceeded: a point of the
 * plan, never of time. ERR_FAULT for a record that the format cannot hold (empty, inconsistent,
 * name too long, 4 GiB). */
int shard_append(struct shard_writer *writer, const struct record *record);
/* Commit what was appended, as shard_publish does first. It gives the transaction's memory back,
 * and leaves nothing to shard_publish that another thread may not do. */
int shard_commit(struct shard_writer *writer);
/* Commit, sync, close, digest, publish under the final name. The writer is closed in any case.
 * ERR_FAULT: no records. */
int shard_publish(struct shard_writer *writer, struct shard_facts *facts);
void shard_writer_discard(struct shard_writer *writer); /* NULL is fine */

/* ---- reading ---- */

/* An open shard; any number of threads may read at once. */
struct shard;
/* Open PATH, which must hold RECORDS records and be BYTES long (from the manifest), and whose
 * labels must be < CLASSES. The size is checked against the file's own meta pages before it is
 * mapped. Reads the B-tree pages (for 4,000 records of 200 KB: 22 leaves and a root, 92 KB) and no
 * record. ERR_INPUT: damaged or another file; ERR_MISMATCH: another version. */
int shard_open(struct shard **out, const char *path, uint64_t records, uint64_t bytes,
               uint32_t classes);
void shard_close(struct shard *shard); /* NULL is fine */

/* Point *OUT into the map (valid until shard_close); every field was range-checked against the
 * value's size. CHECK also compares the checksum. ERR_INPUT names shard, record and what is wrong.
 * No lock, no allocation, no system call. */
int shard_get(struct shard *shard, uint32_t index, bool check, struct record *out);
/* Ask the system to read a record's pages soon (MADV_WILLNEED); touches nothing, never fails. */
void shard_will_need(struct shard *shard, uint32_t index);

/* Who is told what shard_verify finds; called in its thread. */
struct shard_visitor {
    void *context;
    /* RECORD was read and its checksum is right. In order of the index. */
    void (*record)(void *context, uint32_t index, const struct record *record);
    /* err_text() says what is damaged: record INDEX, or the file as a whole (-1). */
    void (*damage)(void *context, int64_t index);
    /* BYTES more of the file were read. */
    void (*progress)(void *context, uint64_t bytes);
};
/* Read the whole file once, front to back: its size and digest against FACTS, its pages, every
 * record's checksum and ranges. 0 also when damage was found and told; ERR_IO: the file could not
 * be read, which was told as well; ERR_MEMORY. */
int shard_verify(const char *path, const struct shard_facts *facts, uint32_t classes,
                 const struct shard_visitor *visitor);

/* OUT (64 bytes) = "LMDB 0.9.24"; returns OUT. */
char *shard_library(char out[64]);

#endif
