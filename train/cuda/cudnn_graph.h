/*
 * cudnn_graph.h - a graph of door.h as cuDNN's descriptors. Attribute by attribute, without any
 * knowledge of what the graph is for.
 */
#ifndef TRAIN_CUDA_CUDNN_GRAPH_H
#define TRAIN_CUDA_CUDNN_GRAPH_H

#include "train/cuda/cudnn_library.h"
#include "train/cuda/door.h"

/* Make all descriptors of GRAPH (which door_graph_check has passed) in SET; *OUT is the finalized
 * operation graph. HANDLE: of the device, NULL where it is absent. ERR_DEVICE: cuDNN refuses a part
 * of it; the text says which and why. */
int cudnn_graph_make(struct cudnn_set *set, const struct door_graph *graph, cudnnHandle_t handle,
                     cudnnBackendDescriptor_t *out);

#endif
