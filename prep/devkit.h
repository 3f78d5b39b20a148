/*
 * devkit.h - the official development kit of ILSVRC 2012: meta.mat (which WNID and words belong to
 * an ILSVRC2012_ID) and the validation ground truth (which ID belongs to picture n).
 * data-spec/10-devkit.md.
 *
 * meta.mat is read in a child process with limits (meta_mat.h), and every row that comes back is
 * checked: IDs unique, those of the leaves 1..N without gaps, WNIDs unique and of the form n + 8
 * digits, words bounded, UTF-8 and without control characters. A build without matio refuses with
 * ERR_USAGE, saying so.
 *
 * Two numbers must never be mixed up: the ID (1..N, in the devkit's own order) and the class index
 * of training (rank of the WNID in byte order). Only the WNID is a key. Words are not unique
 * ("crane" is a bird and a machine).
 */
#ifndef PREP_DEVKIT_H
#define PREP_DEVKIT_H

#include <stddef.h>
#include <stdint.h>

#define DEVKIT_ANSWER_LIMIT 10000000 /* lines of the ground truth at most */

/* One synset: a leaf (a class) or an inner node of the tree above the leaves. */
struct devkit_class {
    int id;                    /* ILSVRC2012_ID, from 1 */
    char wnid[10];             /* "n02119789" */
    const char *words;         /* "kit fox, Vulpes macrotis" */
    uint32_t num_children;     /* 0 for a leaf */
    uint32_t num_train_images; /* 0 for an inner node */
    size_t rank; /* of a leaf: its place among the leaves in byte order of WNIDs, from 0 */
};

struct devkit;

/* Read the synsets of FOLDER/data/meta.mat, or FOLDER/meta.mat. ERR_INPUT: missing, not MAT v5, not
 * readable, or rows that cannot be; it names the file. Call it before threads are started. */
int devkit_open(struct devkit **out, const char *folder);
void devkit_close(struct devkit *devkit); /* NULL is fine */

/* Leaves: IDs 1..count. */
size_t devkit_class_count(const struct devkit *devkit);
/* The leaf with this ID, or of this rank; borrowed until devkit_close. ID or RANK must be in range.
 */
const struct devkit_class *devkit_class(const struct devkit *devkit, int id);
const struct devkit_class *devkit_ranked(const struct devkit *devkit, size_t rank);
/* The synset with this WNID, leaf or inner node; NULL when the devkit has none. */
const struct devkit_class *devkit_find(const struct devkit *devkit, const char *wnid);
/* Its words; "" when the devkit does not have it. */
const char *devkit_words(const struct devkit *devkit, const char *wnid);

/* Read ILSVRC2012_validation_ground_truth.txt beside meta.mat: one ID a line, LF or CRLF, the last
 * line with or without its end. ERR_INPUT names file and line. May be called once, for those who
 * need the answers. */
int devkit_read_answers(struct devkit *devkit);
/* Validation pictures, 0 before devkit_read_answers. */
size_t devkit_answer_count(const struct devkit *devkit);
/* The class of validation picture NUMBER (1..count). */
const struct devkit_class *devkit_answer(const struct devkit *devkit, size_t number);

#endif
