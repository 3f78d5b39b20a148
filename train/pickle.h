/*
 * pickle.h - the pickle inside a PyTorch file: its limits, which trees of values (pth.h) it may
 * stand for, and writing one in protocol 2, as torch.save does. unpickle.h reads.
 * data-spec/50-checkpoint.md, 50.2.
 */
#ifndef TRAIN_PICKLE_H
#define TRAIN_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "train/pth.h"

#define PICKLE_LIMIT (64u << 20) /* bytes of a pickle */
#define PICKLE_OPCODE_LIMIT                                                                        \
    4000000                   /* opcodes, and values of a tree where shared ones count each time */
#define PICKLE_DEPTH_LIMIT 64 /* containers inside one another */
#define PICKLE_TENSOR_LIMIT 65536

size_t pickle_element_size(enum pth_type type); /* bytes */

/* Bytes of the UTF-8 sequence that TEXT begins with, at most LEFT; 0 when there is none. RFC 3629,
 * strictly: no overlong forms, no surrogates. */
size_t pickle_utf8_step(const char *text, size_t left);
/* The byte that U+DC80 to U+DCFF at TEXT's beginning stands for, as Python's "surrogateescape" (PEP
 * 383) writes bytes that are not UTF-8; -1 when none does. Takes 3 bytes. */
int pickle_escaped_byte(const char *text, size_t left);
/* TEXT is UTF-8 in which such escapes may stand. */
bool pickle_is_utf8(const char *text, size_t size);

/* A tree is within the limits: depth, number of values, keys that are text or int and differ, texts
 * in UTF-8. Shared values are walked each time, so a tree that contains itself is too deep.
 * FOREIGN: opaque values are allowed. ERR_FAULT says what is wrong. */
int pickle_check(const struct pth_value *root, bool foreign);

/* A pickle that was made, and the tensors in the order of their storages 0, 1, 2 ... */
struct pickle {
    uint8_t *bytes;
    size_t size, capacity;
    const struct pth_value **tensors; /* borrowed from the tree */
    size_t tensor_count, tensor_capacity;
};

/* Make the pickle of ROOT in *OUT (released by the caller, on failure too). ERR_FAULT: a tree too
 * deep, a text that is not UTF-8, a key that is neither text nor int, too many tensors. */
int pickle_write(const struct pth_value *root, struct pickle *out);
void pickle_release(struct pickle *pickle);

#endif
