/*
 * graph_value.h - single values of a graph, computed on the host in double from the graph's own
 * description: its nodes, dimensions, strides and the seeded contents of its inputs (seeded.h).
 * Slow and obvious; it shares no code with any device.
 *
 * Beside each value stands how far a device may be off: it sums in f32 and in its own order, may or
 * may not round what lies between two nodes, and a rounding may fall to either side. Errors of
 * terms are taken as independent (added in squares), those of summing as a share of the terms'
 * absolute sum.
 *
 * Reductions over a channel are remembered: ask for few channels of a normalisation.
 */
#ifndef TRAIN_CUDA_GRAPH_VALUE_H
#define TRAIN_CUDA_GRAPH_VALUE_H

#include "train/cuda/seeded.h"

struct graph_values;

/* For one thread at a time. GRAPH (checked by door_graph_check) and CONTENTS (one for each tensor)
 * are borrowed. */
int graph_values_open(struct graph_values **out, const struct door_graph *graph,
                      const struct seeded *contents);
void graph_values_close(struct graph_values *values); /* NULL is fine */

struct number {
    double value, error;
};
/* Element INDEX of tensor number TENSOR. */
struct number graph_value(struct graph_values *values, int tensor, const int64_t index[4]);
/* Is GOT, which a device computed for that element, right? *WANT: what it should be. For an index
 * of a max pooling: is the largest of the window there? */
bool graph_value_fits(struct graph_values *values, int tensor, const int64_t index[4], double got,
                      double *want);

/* Some sums run over what the graph itself made with a convolution: too much to compute again.
 * graph_values_wanted: the tensor whose stored numbers such a sum reads (they are looked at one by
 * one, as all others); -1: none. graph_values_give: N x H x W of them in that order, of one
 * channel; its sums are remembered. Channels that were not given must not be asked for. */
int graph_values_wanted(const struct graph_values *values);
void graph_values_give(struct graph_values *values, int64_t channel, const double *column);

#endif
