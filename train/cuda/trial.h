/*
 * trial.h - memory and contents for one graph at a time, to run its plans outside of a training:
 * to time them (plan_store.h) and to look at what they compute (self_test.h).
 *
 * All device memory is one block, made by trial_open and given back by trial_close, before the
 * network takes its own. Everything is waited for: a trial is no part of a step.
 */
#ifndef TRAIN_CUDA_TRIAL_H
#define TRAIN_CUDA_TRIAL_H

#include "train/cuda/seeded.h"

struct trial;

/* Bytes of device memory for the tensors of GRAPH and WORKSPACE bytes. */
size_t trial_bytes(const struct door_graph *graph, size_t workspace);

/* A trial with BYTES of device memory. ERR_MEMORY, ERR_DEVICE. */
int trial_open(struct trial **out, struct door *door, size_t bytes);
void trial_close(struct trial *trial); /* NULL is fine */

/* Lay GRAPH's tensors out, write the inputs (seeded.h), fill the outputs with 0xff: not a number.
 * GRAPH is borrowed until the next bind. ERR_MEMORY: they do not fit. */
int trial_bind(struct trial *trial, const struct door_graph *graph);
/* What is in GRAPH's tensor i; borrowed until the next bind. */
const struct seeded *trial_contents(const struct trial *trial);

/* Run PLAN, of the bound graph, RUNS times and wait. *MILLISECONDS (may be NULL): of one run. The
 * workspace is filled with 0xff before. ERR_MEMORY: its workspace does not fit. */
int trial_run(struct trial *trial, struct door_plan *plan, int runs, float *milliseconds);

/* Elements AT[COUNT] (in memory order, the sum of index * stride) of tensor number TENSOR of the
 * graph to OUT. COUNT is at most TRIAL_READS. */
enum { TRIAL_READS = 4096 };
int trial_read(struct trial *trial, int tensor, const size_t *at, int count, double *out);

/* All elements of CHANNEL of tensor number TENSOR (N x H x W, in that order) to OUT. The tensor is
 * N x H x W x C in memory. */
int trial_read_channel(struct trial *trial, int tensor, int64_t channel, double *out);

#endif
