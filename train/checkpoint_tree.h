/*
 * checkpoint_tree.h - a checkpoint as the tree of values that stands in its file, and back: the
 * keys of data-spec/50-checkpoint.md, 50.4. Used by checkpoint.c alone.
 */
#ifndef TRAIN_CHECKPOINT_TREE_H
#define TRAIN_CHECKPOINT_TREE_H

#include <stdbool.h>

#include "common/mem.h"
#include "train/checkpoint.h"
#include "train/pth.h"

/* What the key "format" says; a higher number is refused. */
#define CHECKPOINT_FORMAT 1

/* *OUT = the tree of CHECKPOINT, or of its model alone, without the key "digest". Values and tensor
 * data are borrowed from CHECKPOINT. ERR_FAULT: names that are double or do not fit together,
 * numbers out of range. ERR_NOT_FINITE names a number. */
int checkpoint_tree_make(struct mem_arena *arena, const struct checkpoint *checkpoint,
                         bool model_only, struct pth_value **out);

/* Fill *OUT from ROOT; arrays live in ARENA, texts and data in the tree. ERR_MISMATCH names the
 * first key that is missing or not as written. */
int checkpoint_tree_read(struct mem_arena *arena, const struct pth_value *root,
                         struct checkpoint *out);

#endif
