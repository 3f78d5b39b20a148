/*
 * seeded.h - what is in the inputs of a graph when its plan is tried: numbers that follow from the
 * tensor's part in the graph and the element's place, so that the host knows every one of millions
 * without keeping them. They are multiples of 1/128 that every type holds exactly; what must be
 * positive is near 1.
 *
 * The table they come from is made once by rng.h; element i of an input takes entry i + its own
 * shift, round and round.
 */
#ifndef TRAIN_CUDA_SEEDED_H
#define TRAIN_CUDA_SEEDED_H

#include "train/cuda/door.h"

enum {
    SEEDED_PERIOD = 1 << 20, /* entries of the table */
    SEEDED_COUNT = 4096      /* DOOR_COUNT, whatever the shape */
};

enum seeded_kind {
    SEEDED_OUTPUT,   /* not an input */
    SEEDED_SIGNED,   /* -1 to 1 */
    SEEDED_POSITIVE, /* 0.5 to 1.5 */
    SEEDED_BITS,
    SEEDED_INDEX,    /* of a max pooling: a place in the window that is inside the picture */
    SEEDED_CONSTANT, /* by value */
};

/* One tensor's. */
struct seeded {
    enum seeded_kind kind;
    const int8_t *table;
    size_t shift;
    double factor; /* what the numbers are multiplied by (sums over many elements), the constant */
    const struct door_tensor *tensor;
    const struct door_node *pool; /* SEEDED_INDEX: the node, and its picture */
    const struct door_tensor *picture;
};

/* SEEDED_PERIOD entries (mem_free them). ERR_MEMORY. */
int seeded_table(int8_t **out);
/* OUT[i] for the graph's tensor i. TABLE is borrowed. */
void seeded_assign(const struct door_graph *graph, const int8_t *table,
                   struct seeded out[DOOR_MAX_TENSORS]);
/* Does NODE write the tensor of ROLE? */
bool seeded_writes(const struct door_node *node, enum door_role role);
/* The value of the element AT (the sum of index * stride) of an input. */
double seeded_value(const struct seeded *seeded, size_t at);
/* COUNT elements from element FIRST on, as they lie in memory. DOOR_BOOL: FIRST and COUNT are
 * multiples of 8. */
void seeded_encode(const struct seeded *seeded, size_t first, size_t count, void *out);
/* Elements after which the memory repeats; 0: never. */
size_t seeded_period(const struct seeded *seeded);

/* VALUE rounded to TYPE (to nearest, ties to even), and TYPE's bytes at MEMORY as a number. */
double seeded_round(enum door_type type, double value);
double seeded_decode(enum door_type type, const void *memory);
/* VALUE, rounded to TYPE, to OUT: any float, for F32, BF16 and F16. */
void seeded_store(enum door_type type, double value, void *out);

#endif
