/*
 * pth.h - PyTorch's checkpoint files: a stored-only zip (data.pkl, version, byteorder, data/0,
 * data/1, ...) with a pickle of plain values and tensors. Reading builds typed values and calls
 * nothing: every global and opcode outside an allow-list is refused by name and offset; sizes,
 * counts and depth are bounded; CRCs are checked. data-spec/50-checkpoint.md.
 */
#ifndef TRAIN_PTH_H
#define TRAIN_PTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mem.h"

enum pth_kind {
    PTH_NONE,
    PTH_BOOL,
    PTH_INT,
    PTH_REAL,
    PTH_TEXT,
    PTH_LIST,
    PTH_TUPLE,
    PTH_DICT,
    PTH_ORDERED_DICT,
    PTH_TENSOR,
    /* A foreign object (an argparse.Namespace), a tensor of a type that is not read: TEXT names it,
     * integer is the byte where it begins. Only in trees of files that were opened as foreign. */
    PTH_OPAQUE
};
enum pth_type { PTH_F32, PTH_F16, PTH_BF16, PTH_I64, PTH_I32, PTH_U8 };

/* A value of a tree. Keys of dicts are text or int values. */
struct pth_value {
    enum pth_kind kind;
    bool boolean;
    int64_t integer;
    double real;
    const char *text; /* UTF-8, ended by 0; text_size bytes before it */
    size_t text_size;
    struct pth_value **items; /* list, tuple: count items; dicts: keys at 2i, values at 2i + 1 */
    size_t count, capacity;
    struct {
        enum pth_type type;
        int rank;
        int64_t shape[8];
        const void *data; /* contiguous, little-endian; written: borrowed until pth_write returns */
        size_t count;     /* elements */
    } tensor;
};

/* All values live in an arena; every constructor returns NULL with ERR_MEMORY set, and passes a
 * NULL argument on, so that a tree is checked once, at its end. */
struct pth_value *pth_none(struct mem_arena *arena);
struct pth_value *pth_bool(struct mem_arena *arena, bool value);
struct pth_value *pth_int(struct mem_arena *arena, int64_t value);
struct pth_value *pth_real(struct mem_arena *arena, double value);
struct pth_value *pth_text(struct mem_arena *arena, const char *text);
struct pth_value *pth_list(struct mem_arena *arena);
struct pth_value *pth_tuple(struct mem_arena *arena);
struct pth_value *pth_dict(struct mem_arena *arena, bool ordered);
struct pth_value *pth_tensor(struct mem_arena *arena, enum pth_type type, int rank,
                             const int64_t *shape, const void *data);
/* Append to a list or tuple; set in a dict (the value of a key that is there already is replaced).
 * Return the container, or NULL. */
struct pth_value *pth_append(struct mem_arena *arena, struct pth_value *list,
                             struct pth_value *item);
struct pth_value *pth_put(struct mem_arena *arena, struct pth_value *dict, const char *key,
                          struct pth_value *value);
struct pth_value *pth_put_int(struct mem_arena *arena, struct pth_value *dict, int64_t key,
                              struct pth_value *value);

/* Look up; NULL when absent or DICT is none. */
const struct pth_value *pth_find(const struct pth_value *dict, const char *key);

/* Write PATH whole or not at all (files.h): torch.save's zip format, protocol 2 pickle, stored
 * entries, zip times 0, tensor data aligned to 64 bytes. NAME is the archive's inner folder
 * ("checkpoint"). Same tree, same bytes. */
int pth_write(const char *path, const char *name, const struct pth_value *root);

/* Read PATH; *ROOT and all tensor data live until pth_close. ERR_INPUT with file, offset and
 * reason. Takes as much memory as the file is long, and up to PTH_COPY_LIMIT times that where
 * tensors are views that must be copied. */
struct pth_file;
int pth_open(struct pth_file **out, const char *path, const struct pth_value **root);
void pth_close(struct pth_file *file); /* NULL is fine */

#define PTH_COPY_LIMIT 4

/* As pth_open for a file that another program wrote: foreign objects become opaque values, dict
 * keys that are neither text nor int are dropped with their values, entries that no tensor uses are
 * passed over. What a tensor is built from is as strict as ever. */
int pth_open_foreign(struct pth_file **out, const char *path, const struct pth_value **root);

/* As pth_open, but tensor data stay in the file (tensor.data is NULL), to be streamed by
 * pth_digest: little memory. What is read comes from the disk where the system allows it, not from
 * its cache: for reading back what was written. */
int pth_open_outline(struct pth_file **out, const char *path, const struct pth_value **root);

/* XXH3-128 over all of VALUE, names, shapes and data in order, as 32 hexadecimal digits
 * (data-spec/50-checkpoint.md, 50.3). FILE: the outline that VALUE comes from; NULL when all
 * data are in memory. ERR_INPUT for damaged data. */
int pth_digest(struct pth_file *file, const struct pth_value *value, char out[33]);

#endif
