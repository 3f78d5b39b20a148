/*
 * schedule.h - the learning rate as a function of the position, and of nothing else.
 */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include "train/checkpoint.h"
#include "train/settings.h"

/* The rate of update STEP (0-based) of EPOCH, with STEPS updates an epoch. In the first
 * warmup_epochs it grows by equal parts, lr * (updates done + 1) / updates of the warm-up; the
 * schedule counts from their end, as PyTorch's SequentialLR of LinearLR and StepLR or
 * CosineAnnealingLR. */
double schedule_rate(const struct settings *settings, int64_t steps, int64_t epoch, int64_t step);

/* The same position as PyTorch's scheduler would tell it. */
struct checkpoint_schedule schedule_state(const struct settings *settings, int64_t steps,
                                          int64_t epoch, int64_t step);

#endif
