/*
 * pipeline.h - the pictures on their way from the source to the writer: one thread reads files in
 * the given order, several convert, the owner takes the outcomes in the given order again.
 *
 * Between them stands a ring of slots, whose memory is used again and again. What is under way
 * shares one budget of bytes: files read, pictures being decoded, payloads that wait for their
 * turn. A picture waits until its share is free; the one whose turn it is at the end goes ahead
 * once nothing else is being decoded, so one picture of any size gets through, alone, and nothing
 * can wait for ever. So memory is bounded by the budget and one picture, for any number of
 * pictures.
 */
#ifndef PREP_PIPELINE_H
#define PREP_PIPELINE_H

#include <stdint.h>

#include "prep/convert.h"
#include "prep/source.h"

struct pipeline_task {
    const struct source *source; /* borrowed, as all below */
    const struct convert_settings *settings;
    const uint32_t *files; /* numbers of the files, in the order in which they are wanted */
    uint32_t count;
    int jobs; /* converting threads, >= 1 */
};

/* What the stages did, in seconds, summed over their threads. */
struct pipeline_times {
    double read, convert;
    int jobs;
};

struct pipeline;
/* Start it. Goes on with fewer threads when not all can be made, and says so. */
int pipeline_open(struct pipeline **out, const struct pipeline_task *task);

struct pipeline_item {
    uint32_t file;
    struct converted *converted; /* borrowed until pipeline_release */
};
/* The next picture in the order: 1 and *ITEM; 0 when there was none for 0.2 s (look at the clock
 * and call again); negative when a stage has failed. After 1, pipeline_release must follow. Not to
 * be called more than COUNT times with 1. */
int pipeline_next(struct pipeline *pipeline, struct pipeline_item *item);
void pipeline_release(struct pipeline *pipeline);

void pipeline_get_times(struct pipeline *pipeline, struct pipeline_times *times);
/* Stops all threads first; NULL is fine. Leaves this thread's error text alone. */
void pipeline_close(struct pipeline *pipeline);

#endif
