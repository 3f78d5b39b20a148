/*
 * device_check.h - does a device compute what `ref` computes? A small ResNet is walked through op
 * by op on both, forward and backward, in its training and its evaluation list; `ref` gets what the
 * device's op got, so that the op that is wrong is the one that differs. Then the update, and sums
 * of gradients. What a backend tests by itself when a network is opened (the plans of a GPU, its
 * augmentation) is tested with it.
 */
#ifndef TRAIN_DEVICE_CHECK_H
#define TRAIN_DEVICE_CHECK_H

#include "train/backend.h"

struct device_check {
    bool set_up;    /* the network could be opened: what is wrong came after */
    int ops;        /* that were compared */
    int64_t values; /* their numbers */
    double worst;   /* of the ops' differences, by the norm of the numbers */
};

/* DEVICE is open; ARCH: of model_archs; FUSED: the training list in its fused form (model.h).
 * PRECISION is what it was opened with, not auto. ERR_DEVICE: it differs; the text names op, pass
 * and numbers. Else as net_open. */
int device_check(const struct backend *backend, struct device *device, enum precision precision,
                 const char *arch, bool fused, struct device_check *out);

#endif
