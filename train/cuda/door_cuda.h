/*
 * door_cuda.h - what the two files of the real door share: door_cuda.c (devices, memory, streams,
 * events, captures: CUDA's runtime) and door_plans.c (plans: cuDNN and cuBLASLt).
 */
#ifndef TRAIN_CUDA_DOOR_CUDA_H
#define TRAIN_CUDA_DOOR_CUDA_H

#include "train/cuda/cublaslt.h"
#include "train/cuda/cudnn_plan.h"
#include "train/cuda/door.h"

struct door {
    struct door_properties properties; /* index -1: absent */
    struct cudnn_device *cudnn;
    struct cublaslt *cublaslt; /* NULL: not there, or the device is absent */
};

/* Make the door's device the calling thread's. ERR_FAULT when it is absent; WHAT is for the text.
 */
int door_enter(const struct door *door, const char *what);

#endif
