/*
 * evaluate.h - one pass over a validation set: every picture counted exactly once.
 */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "train/loader.h"
#include "train/net.h"

struct evaluation {
    double loss;       /* mean over the pictures */
    double top1, top5; /* percent */
    int64_t images;
    double seconds;
};

/* LOADER lends LOADER_LENT batches. ERR_STOPPED when stop_requested() became true on the way. */
int evaluate_run(struct net *net, struct loader *loader, struct evaluation *out);

/* The same, and VISIT is called after each batch, when net_logits has its logits; an error from it
 * ends the pass. NULL: it is not called. */
int evaluate_each(struct net *net, struct loader *loader,
                  int (*visit)(void *context, const struct batch *batch), void *context,
                  struct evaluation *out);

#endif
