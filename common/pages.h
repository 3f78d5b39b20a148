/*
 * pages.h - where the values of an LMDB file lie, found by reading its B-tree pages with a check of
 * every bound before it is used. data-spec/20-data-set.md, "The file's pages".
 *
 * LMDB follows page numbers and offsets without checking them: a damaged file makes it crash, hang
 * or give wrong bytes. A shard is only read after it was written, so this walk, made once when a
 * shard is opened, is all the reading that is needed: afterwards a record is an offset and a size.
 * Only B-tree pages are read (by pread: a bad sector is an error and not a SIGBUS), never the pages
 * of large values.
 *
 * Handled: LMDB data format 1 as 64-bit little-endian machines write it, any page size, one unnamed
 * database of keys 0 .. n-1 as 32-bit big-endian numbers, without duplicates.
 */
#ifndef COMMON_PAGES_H
#define COMMON_PAGES_H

#include <stdint.h>

/* Bytes before the content of every page, large values included. */
#define PAGES_HEADER_SIZE 16

/* One value's place in the file. */
struct pages_value {
    uint64_t offset;
    uint32_t size;
};

/* List the values of the file FILE, which is BYTES long and holds RECORDS of them: *OUT[k] belongs
 * to key k, lies inside the file and shares no byte with another (mem_free it). PATH is for
 * messages. ERR_INPUT: cut short, damaged, or not such a file; ERR_MISMATCH: another LMDB format;
 * ERR_IO. Memory: 16 bytes a record and 1 bit a page. */
int pages_list(int file, const char *path, uint64_t bytes, uint64_t records,
               struct pages_value **out);

/* Pages that a value of SIZE bytes takes which is too large for a leaf, and the largest value that
 * a leaf page takes, with 4-byte keys. */
uint64_t pages_of_value(uint64_t size, uint64_t page_size);
uint64_t pages_leaf_limit(uint64_t page_size);

#endif
