/*
 * packed.h - a batch for a device that cuts and resizes pictures itself (struct packed of
 * train/backend.h): of each picture the rows and columns that its crop needs, and the tables of its
 * two axes, one behind the other in a block of fixed size. Tables and rules are
 * common/resample.h's: whoever evaluates them in integers gets the bytes of augment_train and
 * augment_validate.
 *
 * The block has room for a square of the network's size per picture and PACKED_SQUARES - 1 more of
 * them to share. A picture whose part does not fit into what is left is made by the loader's
 * thread, and its square goes into the block with tables that change nothing: the same bytes for
 * the network, whoever was first.
 */
#ifndef TRAIN_PACKED_H
#define TRAIN_PACKED_H

#include <stdatomic.h>

#include "common/resample.h"
#include "train/augment.h"
#include "train/backend.h"

/* 3 times the square: a crop of 388 x 388 for 224 on average; most are smaller. */
enum { PACKED_SQUARES = 3 };

/* Bytes of a block for BATCH pictures of SIZE, when none is larger than WIDTH x HEIGHT (0 x 0: no
 * matter how large they are). ERR_MEMORY: not countable. */
int packed_capacity(int batch, int size, uint32_t width, uint32_t height, size_t *out);

/* One block as it is filled by several threads. */
struct packed_block {
    uint8_t *bytes; /* aligned to 64 */
    struct packed_picture *pictures;
    size_t capacity;
    atomic_size_t used;
    atomic_llong spare; /* bytes that no picture's share holds back */
};

/* Empty it for a batch of BATCH pictures of SIZE. */
void packed_begin(struct packed_block *block, int batch, int size);
/* Put a picture into BLOCK as number ROW: the part that PLAN needs and its tables, or the square
 * that RESAMPLER makes. Fails as augment_run. */
int packed_add(struct packed_block *block, int row, struct resampler *resampler,
               const struct pixels *picture, const struct augment_plan *plan, int size);

/* Picture ROW as the device makes it, SIZE x SIZE x 3 bytes to OUT: for who looks at a batch on the
 * host. LINE: PACKED_LINE bytes to work in. */
enum { PACKED_LINE = 65535 };
void packed_unpack(const struct packed *packed, int row, int size, uint8_t line[PACKED_LINE],
                   uint8_t *out);

/* The table of an axis of SIZE (starts, counts, one weight each) that changes nothing: 3 x SIZE. */
void packed_write_same(int size, int32_t *table);

#endif
