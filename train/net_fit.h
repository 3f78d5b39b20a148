/*
 * net_fit.h - the largest batch that a device has room for, by the planner itself.
 */
#ifndef TRAIN_NET_FIT_H
#define TRAIN_NET_FIT_H

#include "train/net.h"

/* *OUT = the most pictures, fewer than MODEL's batch, whose plan takes no more than FREE_BYTES:
 * that of one more takes more. 0: there are none. MODEL's net is set up on DEVICE and takes more;
 * where the device's workspaces depend on the batch, they are those of MODEL's. ERR_MEMORY. */
int net_largest_batch(const struct backend *backend, struct device *device,
                      const struct model_settings *model, const struct net_settings *settings,
                      uint64_t free_bytes, int *out);

#endif
