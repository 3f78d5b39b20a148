/*
 * source.h - the pictures to pack: SRC/CLASS/FILE, where every folder in SRC that holds a picture
 * is a class. A picture is a regular file (links are followed) whose name ends in .jpeg, .jpg or
 * .png in any case; what it really is, its content decides later. Names are bytes; order is byte
 * order, whatever the locale.
 *
 * The list is made once, with the files' sizes; a file that is gone or has another size when it is
 * read is an error, never a bad picture. Hidden files, other files and empty folders are shown and
 * not counted. The rest of prep sees only numbered files, so that another kind of source
 * (an archive) is another way to make this list and to read file number i.
 *
 * Reading is thread-safe; everything else belongs to one thread.
 */
#ifndef PREP_SOURCE_H
#define PREP_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/files.h"
#include "common/shard.h"

/* A file of more bytes than this is not read; it is a bad picture. */
#define SOURCE_FILE_LIMIT ((size_t)512 << 20)

struct source_settings {
    const char *classes; /* NULL: all. Else "a,b,c", or the path of a file with one name a line */
    int64_t per_class;   /* the first so many files of each class in byte order; 0 = all */
};

struct source_file {
    const char *name; /* in its class folder; borrowed from the source */
    uint64_t size;    /* bytes */
    uint32_t label;   /* its class */
};

struct source;
/* List FOLDER. ERR_INPUT: no pictures, a class of the settings is missing, a dangling link, a name
 * that no record can hold; ERR_IO; ERR_STOPPED (stop.h). */
int source_open(struct source **out, const char *folder, const struct source_settings *settings);
void source_close(struct source *source); /* NULL is fine */

/* Classes in byte order of their names; a label is the position in it. */
uint32_t source_class_count(const struct source *source);
const char *source_class_name(const struct source *source, uint32_t label);

/* Files by class, then by name; at least one, fewer than 2^32. */
uint32_t source_file_count(const struct source *source);
const struct source_file *source_file(const struct source *source, uint32_t index);
uint64_t source_bytes(const struct source *source);
/* OUT = "class/file name" ended by 0; returns its length. */
uint32_t source_name(const struct source *source, uint32_t index, char out[RECORD_NAME_LIMIT + 1]);
/* XXH3-128 (32 hexadecimal digits) over the list: for each class its name and a 0 byte, for each of
 * its files the name, a 0 byte and the size in 8 little-endian bytes. */
const char *source_digest(const struct source *source);

/* Read file INDEX. ERR_INPUT: it vanished or changed since the list was made; ERR_IO: it could not
 * be read, at several tries. Both name it. A file over SOURCE_FILE_LIMIT leaves the buffer empty,
 * with size 0. */
int source_read(const struct source *source, uint32_t index, struct files_buffer *buffer);
/* Ask the system to read file INDEX soon, so that several reads are under way at once. Never fails.
 */
void source_will_need(const struct source *source, uint32_t index);

#endif
