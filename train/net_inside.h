/*
 * net_inside.h - what net.c and net_walk.c share of a network; nobody else includes it.
 */
#ifndef TRAIN_NET_INSIDE_H
#define TRAIN_NET_INSIDE_H

#include "train/memory_plan.h"
#include "train/net.h"

/* What a planned thing counts as. */
enum part { PART_ACTIVATION, PART_GRADIENT, PART_SAVED, PART_WORKSPACE, PART_PACKED, PARTS };

/* One list of ops with its part of the arena. */
struct list {
    struct op *ops;
    size_t count;
    size_t set_up; /* ops whose op_setup was called */
    bool training;
    bool stale; /* packed weights must be made anew */
    struct memory_thing *things;
    enum part *parts;
    void ***places; /* the pointer that gets each thing's address */
    size_t thing_count;
    uint64_t arena;
};

/* The device memory, block by block; those of 0 bytes are NULL. */
enum block {
    BLOCK_VALUES,
    BLOCK_GRADIENTS,
    BLOCK_MOMENTA,
    BLOCK_SUMS,
    BLOCK_PACKED,
    BLOCK_ARENA,
    BLOCKS
};

/* Calls of one walk that are measured: ResNet-152 has some 1,100. */
enum { MARKS = 2048 };

struct net {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net_settings settings;
    struct net_plan plan;
    struct list training, evaluation;
    size_t floats, trained_floats; /* of the flat blocks of values, and of gradients */
    void *blocks[BLOCKS];
    int micro_batches;              /* that the next update has so far; 0 without accumulate */
    const struct list *last_walked; /* whose logits stand in the arena */
    uint64_t posted, collected;     /* results, ever; number i lies under slot i % NET_RESULTS */
    bool profiling;
    struct net_profile profile;
    double *marked[MARKS]; /* the sum that the time from mark i to i + 1 goes to */
    int mark_count;
};

/* RC with the op's name, kind and shape put before its text. */
int net_op_failed(const struct net *net, const struct op *op, const char *what, int rc);
/* The block of gradients that an update takes. */
float *net_update_gradients(const struct net *net);

#endif
