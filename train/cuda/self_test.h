/*
 * self_test.h - does this GPU, with these libraries, compute what was described to it? Before the
 * first step every plan runs once on its real shapes with seeded inputs, and at least 256 of its
 * outputs, picked by counter, are computed again on the host one by one (graph_value.h), corners
 * and padding among them. The augmentation kernel is held against the bytes of the CPU's path.
 *
 * A plan that fails gives way to the next engine (plan_store_reject, with a warning); when none is
 * left the run ends with ERR_DEVICE.
 */
#ifndef TRAIN_CUDA_SELF_TEST_H
#define TRAIN_CUDA_SELF_TEST_H

#include "train/cuda/plan_store.h"

/* Device memory that self_test_run takes, and gives back before it returns: the tensors of the
 * largest graph, and its workspace. */
size_t self_test_bytes(const struct plan_store *store);
/* Test the plans of STORE that have not passed yet; it must be complete, and its device there. Says
 * in a line how many.
 * ERR_DEVICE: a plan is wrong and no other is left, or the device failed; ERR_MEMORY. */
int self_test_run(struct plan_store *store);

/* Pictures of several shapes through kernel_augment to squares of SIZE, stored as TYPE: the same
 * bytes as augment_run's? ERR_DEVICE: they differ; the text says where. */
int self_test_augment(struct door *door, enum door_type type, int size);

#endif
