/*
 * net.h - a model on a device: plans memory, walks the ops forward and backward, and moves
 * parameters in and out.
 *
 * Memory is a handful of blocks made once: values (parameters, then statistics), gradients,
 * momenta, the sums of
 * --accumulate, packed weights, and one arena for activations, gradients of activations, saved
 * bytes and workspace, whose offsets are planned from lifetimes before the first step. The
 * evaluation list uses the same arena.
 */
#ifndef TRAIN_NET_H
#define TRAIN_NET_H

#include "train/backend.h"
#include "train/model.h"

struct net;

struct net_settings {
    bool training;   /* false: evaluation list only; no gradients, no momenta */
    bool accumulate; /* a block for the sums of several micro-batches */
    bool plan_only;  /* allocate nothing: for net_memory and net_check_plan on a machine that need
                        not hold it */
    size_t packed_bytes; /* of the largest batch, for a backend that packs: loader_packed_bytes */
};

/* Bytes of each part, as printed before the first step and kept. */
struct net_plan {
    uint64_t values, gradients, momenta, accumulated, packed;
    uint64_t arena;       /* activations and everything with a lifetime */
    uint64_t activations; /* of it, at its fullest moment: activations */
    uint64_t activation_gradients, saved, workspace;
    struct backend_memory own; /* what the device takes for itself */
    uint64_t total;            /* of device memory */
};

/* Plan and allocate. The model must outlive the net; its tensors, parameters and ops are completed
 * here, so one model belongs to one net at a time. ERR_MEMORY says what was needed, what is free
 * where the device knows, and the largest batch that would fit; ERR_USAGE: a
 * batch and size that leave a normalisation one value a channel. */
int net_open(struct net **out, const struct backend *backend, struct device *device,
             struct model *model, const struct net_settings *settings);
/* Open the model, in its fused form where the backend wants and can do that, and its net; a line
 * says which, for a backend that has a choice. SETTINGS->fused is not looked at. Fails as
 * model_open and net_open; then *MODEL is NULL. */
int net_open_model(struct net **out, struct model **model, const struct backend *backend,
                   struct device *device, const struct model_settings *model_settings,
                   const struct net_settings *settings);
void net_close(struct net *net); /* NULL is fine */
const struct net_plan *net_memory(const struct net *net);
/* Check a plan: no two things that live at once overlap. ERR_FAULT names them. For tests. */
int net_check_plan(const struct net *net);

/* Begin to bring the next batch to the device while it computes; the next call of net_train or
 * net_evaluate takes the same one. Not needed, but faster. */
int net_upload(struct net *net, const struct batch *batch);
/* One micro-batch, forward and backward, in the training list; BATCH must be full. Gradients are
 * those of the mean loss over the batch, and the running statistics move. With accumulate,
 * gradients are added up until the update. UPDATE: SGD on what has come together (divided by the
 * micro-batches since the last update), in one piece with the pass where the device records it;
 * NULL: more is to come. RESULT NULL: nothing waits; net_result gives the results
 * in order, and BATCH stays as it is until its result is there. Those that nobody asks for are
 * forgotten: the oldest beyond NET_RESULTS, and all when a later call has a RESULT. Neither this
 * nor net_evaluate allocates. */
enum { NET_RESULTS = BACKEND_RESULTS };
int net_train(struct net *net, const struct batch *batch, const struct sgd *update,
              struct loss_result *result);
/* The oldest result that is outstanding: waits for it. ERR_FAULT: there is none. */
int net_result(struct net *net, struct loss_result *result);

/* One batch through the evaluation list; RESULT as in net_train. Folded weights are made anew after
 * a change of parameters. */
int net_evaluate(struct net *net, const struct batch *batch, struct loss_result *result);
/* Logits of the last net_train or net_evaluate, batch x classes, f32. ERR_FAULT before the first.
 */
int net_logits(struct net *net, float *out);

/* One parameter or statistic from and to the host, parameter->count floats in the shape's order.
 * Momentum is 0 before the first update; the gradient is what net_train left, with accumulate the
 * sum for the update under way, or of the last one. Statistics have a value only: ERR_FAULT for the
 * others. */
enum net_block { NET_VALUE, NET_GRADIENT, NET_MOMENTUM };
int net_get(struct net *net, enum net_block block, const struct parameter *p, float *out);
int net_set(struct net *net, enum net_block block, const struct parameter *p, const float *in);

/* Numbers of the device that belong to a checkpoint (struct backend's numbers): their names, ended
 * by NULL; NULL where there are none. */
const char *const *net_number_names(const struct net *net);
int net_numbers_get(struct net *net, double *out);
int net_numbers_set(struct net *net, const double *in);

/* Seconds per kind of op since net_profile_start, for --profile, and calls of net_train. While it
 * is on, every call of the backend is timed, and waited for where the device cannot do it alone.
 * update: with adding up the gradients of micro-batches. */
struct net_profile {
    double forward[OP_KINDS], backward[OP_KINDS], prepare[OP_KINDS];
    double update, feed;
    int64_t steps;
};
void net_profile_start(struct net *net);
const struct net_profile *net_profile(const struct net *net);

#endif
