/*
 * meta_mat.h - the devkit's meta.mat as rows; the only module that knows matio.
 * data-spec/10-devkit.md.
 *
 * matio has a history of crashes on damaged files. It sees only MAT v5 files of little-endian
 * machines whose zlib checksums are right, and it runs in a child process with limits (jail.h).
 * Even so the rows are a stranger's word: devkit.c checks them. A build without matio
 * (-DWITH_MATIO=OFF) refuses both functions with ERR_USAGE, saying so.
 */
#ifndef PREP_META_MAT_H
#define PREP_META_MAT_H

#include <stddef.h>
#include <stdint.h>

#define META_MAT_ROW_LIMIT 50000
#define META_MAT_BYTE_LIMIT ((size_t)64 << 20)
#define META_MAT_WORDS_SIZE 1000

/* One element of `synsets` as the child found it: nothing is checked but that its fields are
 * numbers and texts that fit in here. Texts have no ending 0; their lengths may lie. */
struct meta_mat_row {
    uint32_t id, num_children, children, num_train_images; /* children: elements of that array */
    uint32_t wnid_length, words_length;
    char wnid[16];
    char words[META_MAT_WORDS_SIZE];
};

/* Read PATH's rows: *OUT (mem_free it) and 1..META_MAT_ROW_LIMIT of them in *COUNT. ERR_INPUT names
 * PATH and says why: another format, damaged, other content. Call it before threads are started. */
int meta_mat_read(const char *path, struct meta_mat_row **out, size_t *count);

/* A synset to write. */
struct meta_mat_synset {
    unsigned id; /* ILSVRC2012_ID */
    const char *wnid, *words, *gloss;
    const uint16_t *children; /* IDs */
    size_t num_children;
    unsigned height; /* of the node above its lowest leaf; 0 for a leaf */
    unsigned num_train_images;
};

/* Write SYNSETS to PATH in the official layout (names and order of the fields, column, number
 * classes, compression), whole or not at all. The same synsets give the same bytes (with the same
 * matio and zlib). */
int meta_mat_write(const char *path, const struct meta_mat_synset *synsets, size_t count);

#endif
