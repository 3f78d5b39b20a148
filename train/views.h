/*
 * views.h - the tensors of a PyTorch file: views with a shape and strides over storages of
 * elements. Checked against their storage before anything is read; copied where they are not
 * contiguous, within a bound. Used by the readers of both kinds of file, pth.c and pth_stream.c.
 */
#ifndef TRAIN_VIEWS_H
#define TRAIN_VIEWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "train/pth.h"

/* Elements that tensors share. */
struct storage {
    bool used; /* a tensor spoke of it */
    enum pth_type type;
    uint64_t count; /* elements */
    uint8_t *bytes; /* little-endian; NULL until loaded */
};

/* A tensor as the pickle made it; the value stands first. */
struct view {
    struct pth_value value;
    size_t storage;
    uint64_t offset; /* elements */
    int64_t stride[8];
    bool contiguous;
    struct view *next;
};

struct views {
    struct mem_arena *arena;  /* of the values and copies; borrowed */
    struct storage *storages; /* borrowed; freed by the file */
    struct view *first;
    size_t copied; /* bytes of views that had to be copied */
};

/* *OUT = product of the RANK sizes; false when one is negative or the product in bytes wraps. */
bool views_count(enum pth_type type, int rank, const int64_t *shape, size_t *out);
/* Bytes of a tensor's elements. */
size_t views_bytes(const struct pth_value *tensor);
/* *OUT = a tensor over storage INDEX, as unpickle.h's host. ERR_INPUT: it reaches outside. */
int views_make(struct views *views, size_t index, uint64_t offset, int rank, const int64_t *shape,
               const int64_t *stride, struct pth_value **out);
/* Give all views their data, from storages that are loaded. Copies take at most PTH_COPY_LIMIT x
 * FILE_BYTES; ERR_INPUT, naming QUOTED, beyond that. */
int views_load(struct views *views, uint64_t file_bytes, const char *quoted);

#endif
