/*
 * metrics.h - the run's numbers as JSON lines, runs/<name>/metrics.jsonl. data-spec/40-metrics.md.
 * Each line is written by one call. A file that cannot be written is a warning, once: training goes
 * on.
 */
#ifndef TRAIN_METRICS_H
#define TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "train/evaluate.h"

struct metrics;

/* Open PATH for a run that stands after update STEP, that position validated or not: lines of later
 * updates, and a torn last line, are from a run that was killed and are removed; the rest stays.
 * ERR_IO, ERR_MEMORY. */
int metrics_open(struct metrics **out, const char *path, int64_t step, bool evaluated);
void metrics_close(struct metrics *metrics); /* NULL is fine */

/* One training line. LOSS is of this update; img/s and the share of time waiting for data (0 to 1)
 * since the last line. */
struct metrics_step {
    int64_t epoch, step; /* epoch 0-based; step: updates done in all */
    double loss, lr, img_per_s, data_wait;
};
void metrics_train(struct metrics *metrics, const struct metrics_step *line);
/* EPOCH: the last finished one, -1 before the first. */
void metrics_validation(struct metrics *metrics, int64_t epoch, int64_t step,
                        const struct evaluation *evaluation);

#endif
