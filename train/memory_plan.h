/*
 * memory_plan.h - where things lie in one block of memory when each lives only for a while: things
 * that never live at once may share bytes.
 *
 * Time is counted in steps of a schedule. Placing is greedy: the largest first, each at the lowest
 * offset at which nothing lies that lives at once with it. That is within a few percent of the
 * floor for a network's forward and backward pass (test_net.c holds it to 3 %), and fast: a
 * ResNet-152 has some 1,500 things.
 */
#ifndef TRAIN_MEMORY_PLAN_H
#define TRAIN_MEMORY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEMORY_PLAN_ALIGNMENT = 64 };

struct memory_thing {
    const char *what, *owner; /* "gradient of", "layer1.0.conv1": for messages; borrowed */
    size_t bytes;
    /* The steps during which it is needed, both ends included; with two spans, in both at the same
     * place. */
    int spans;
    struct {
        int first, last;
    } span[2];
    uint64_t offset; /* set by memory_plan_place; a multiple of MEMORY_PLAN_ALIGNMENT */
};

/* Choose every offset; *BYTES is the size of the block. Things of 0 bytes get offset 0. ERR_MEMORY
 * for its own lists. */
int memory_plan_place(struct memory_thing *things, size_t count, uint64_t *bytes);

/* ERR_FAULT when two things that live at once overlap, or one is misaligned or does not lie within
 * BYTES; names them. */
int memory_plan_check(const struct memory_thing *things, size_t count, uint64_t bytes);

/* Is it needed during STEP? */
bool memory_plan_lives(const struct memory_thing *thing, int step);

/* The most bytes needed at once in any step from 0 to STEPS - 1 (each thing rounded to the
 * alignment): no plan can be smaller. That step in *FULLEST (may be NULL). */
uint64_t memory_plan_floor(const struct memory_thing *things, size_t count, int steps,
                           int *fullest);

#endif
