#include "train/memory_plan.h"

#include <stdlib.h>

#include "common/err.h"
#include "common/mem.h"

static uint64_t rounded(size_t bytes)
{
    return ((uint64_t)bytes + MEMORY_PLAN_ALIGNMENT - 1) / MEMORY_PLAN_ALIGNMENT *
           MEMORY_PLAN_ALIGNMENT;
}

static bool live_at_once(const struct memory_thing *a, const struct memory_thing *b)
{
    for (int i = 0; i < a->spans; i++)
        for (int k = 0; k < b->spans; k++)
            if (a->span[i].first <= b->span[k].last && b->span[k].first <= a->span[i].last)
                return true;
    return false;
}

/* An element of the lists of things to be placed, and placed. */
struct entry {
    struct memory_thing *thing;
};

/* Larger ones first; of the same size the one that stands first, so that a plan does not depend on
 * qsort. */
static int compare_sizes(const void *a, const void *b)
{
    const struct memory_thing *x = ((const struct entry *)a)->thing;
    const struct memory_thing *y = ((const struct entry *)b)->thing;

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The lowest offset for THING among COUNT PLACED ones, which are in the order of their offsets. */
static uint64_t lowest_offset(const struct memory_thing *thing, const struct entry *placed,
                              size_t count)
{
    uint64_t at = 0;

    for (size_t i = 0; i < count; i++) {
        const struct memory_thing *other = placed[i].thing;
        uint64_t end = other->offset + rounded(other->bytes);

        if (end <= at || !live_at_once(thing, other))
            continue;
        if (other->offset >= at + rounded(thing->bytes))
            break;
        at = end;
    }
    return at;
}

int memory_plan_place(struct memory_thing *things, size_t count, uint64_t *bytes)
{
    struct entry *order = mem_array(2 * count, sizeof *order, "the memory plan");
    size_t wanted = 0;

    if (!order)
        return -ERR_MEMORY;
    struct entry *placed = order + count;
    for (size_t i = 0; i < count; i++) {
        things[i].offset = 0;
        if (things[i].bytes)
            order[wanted++].thing = &things[i];
    }
    qsort(order, wanted, sizeof *order, compare_sizes);
    *bytes = 0;
    for (size_t i = 0; i < wanted; i++) {
        struct memory_thing *thing = order[i].thing;
        size_t at = i;

        thing->offset = lowest_offset(thing, placed, i);
        for (; at > 0 && placed[at - 1].thing->offset > thing->offset; at--)
            placed[at] = placed[at - 1];
        placed[at].thing = thing;
        if (thing->offset + rounded(thing->bytes) > *bytes)
            *bytes = thing->offset + rounded(thing->bytes);
    }
    mem_free(order);
    return 0;
}

int memory_plan_check(const struct memory_thing *things, size_t count, uint64_t bytes)
{
    for (const struct memory_thing *a = things; a < things + count; a++) {
        if (a->offset % MEMORY_PLAN_ALIGNMENT || a->offset + a->bytes > bytes)
            return err_set(ERR_FAULT,
                           "memory plan: %s %s (%zu bytes at %llu) is misaligned or beyond "
                           "the block's %llu bytes",
                           a->what, a->owner, a->bytes, (unsigned long long)a->offset,
                           (unsigned long long)bytes);
        for (const struct memory_thing *b = things; b < a; b++)
            if (a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes &&
                live_at_once(a, b))
                return err_set(
                    ERR_FAULT,
                    "memory plan: %s %s (%zu bytes at %llu) overlaps %s %s (%zu bytes at "
                    "%llu), and both live at once",
                    a->what, a->owner, a->bytes, (unsigned long long)a->offset, b->what, b->owner,
                    b->bytes, (unsigned long long)b->offset);
    }
    return 0;
}

bool memory_plan_lives(const struct memory_thing *thing, int step)
{
    for (int i = 0; i < thing->spans; i++)
        if (thing->span[i].first <= step && step <= thing->span[i].last)
            return true;
    return false;
}

uint64_t memory_plan_floor(const struct memory_thing *things, size_t count, int steps, int *fullest)
{
    uint64_t most = 0;

    for (int step = 0; step < steps; step++) {
        uint64_t sum = 0;

        for (size_t i = 0; i < count; i++)
            if (memory_plan_lives(&things[i], step))
                sum += rounded(things[i].bytes);
        if (sum > most) {
            most = sum;
            if (fullest)
                *fullest = step;
        }
    }
    return most;
}
