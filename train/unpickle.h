/*
 * unpickle.h - reads the pickle inside a PyTorch file into typed values (pth.h). A small stack
 * machine over protocols 2 to 5 that builds values and calls nothing: opcodes and globals outside
 * an allow-list are refused by name and offset; the number of opcodes, the depth of nesting and
 * every index and length are bounded before use. A hostile pickle costs at most some 200 bytes of
 * memory an opcode. data-spec/50-checkpoint.md, 50.2.
 */
#ifndef TRAIN_UNPICKLE_H
#define TRAIN_UNPICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"
#include "train/pth.h"

/* Who knows the storages that a pickle speaks of. Both return 0 or an error. */
struct unpickle_host {
    void *context;
    /* The storage called KEY (1 to 20 decimal digits) holds COUNT elements of TYPE: *INDEX = a
     * number for it. */
    int (*storage)(void *context, const char *key, enum pth_type type, uint64_t count,
                   size_t *index);
    /* *OUT = a tensor over storage INDEX: RANK (0 to 8) sizes and strides, all >= 0, from element
     * OFFSET. The host checks that it lies inside its storage. */
    int (*tensor)(void *context, size_t index, uint64_t offset, int rank, const int64_t *shape,
                  const int64_t *stride, struct pth_value **out);
    /* The file is another program's: foreign objects become opaque values (pth.h, PTH_OPAQUE). */
    bool foreign;
    /* Called in messages, and where in it BYTES begin; NULL: data.pkl. */
    const char *part;
    uint64_t base;
};

/* Read a whole pickle. *ROOT lives in ARENA; it passed pickle_check; containers in it may be
 * shared. ERR_INPUT with the offset. */
int unpickle(const uint8_t *bytes, size_t size, struct mem_arena *arena,
             const struct unpickle_host *host, struct pth_value **root);
/* The same where more may follow: *USED = the pickle's bytes. */
int unpickle_part(const uint8_t *bytes, size_t size, struct mem_arena *arena,
                  const struct unpickle_host *host, struct pth_value **root, size_t *used);

#endif
