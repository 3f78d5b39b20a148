/*
 * cudnn_plan.h - execution plans of cuDNN for a device, there or absent: engine choice,
 * serialisation, running. The door's functions of the same names say what they hold true; this is
 * how door_cuda.c does them for everything but cuBLASLt.
 */
#ifndef TRAIN_CUDA_CUDNN_PLAN_H
#define TRAIN_CUDA_CUDNN_PLAN_H

#include "train/cuda/door.h"

struct cudnn_device;
struct cudnn_plan;

/* The device INDEX, which must be the current one; or, where JSON is not NULL, the absent device
 * that it describes. ERR_DEVICE. */
int cudnn_device_open(struct cudnn_device **out, int index, const char *json);
void cudnn_device_close(struct cudnn_device *device);
/* cuDNN's words for the device; borrowed until close. */
const char *cudnn_device_json(const struct cudnn_device *device);
/* 91900 = 9.19.0 of the library, which must be there. */
size_t cudnn_version(void);
/* 0 when the library can be opened, or ERR_DEVICE. */
int cudnn_find(void);

/* As door_plans_open; GRAPH has passed door_graph_check. Any number of threads at once. */
int cudnn_plans_open(struct cudnn_device *device, const struct door_graph *graph,
                     const struct door_wish *wish, int limit, struct cudnn_plan **out, int *count);
/* TEXT: from cudnn_plan_save; INFO: what the plan had. ERR_MISMATCH. */
int cudnn_plan_load(struct cudnn_device *device, const char *name, const char *text,
                    const struct door_plan_info *info, struct cudnn_plan **out);
int cudnn_plan_save(const struct cudnn_plan *plan, char **out);
void cudnn_plan_close(struct cudnn_plan *plan);
const struct door_plan_info *cudnn_plan_info(const struct cudnn_plan *plan);
/* STREAM: a cudaStream_t of the device. */
int cudnn_plan_run(struct cudnn_device *device, struct cudnn_plan *plan, void *stream,
                   const struct door_pointer *pointers, int count, void *workspace);

#endif
