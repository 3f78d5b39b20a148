/*
 * cudnn_library.h - cuDNN 9 as it is found when the program runs: the entry points of its backend
 * API, descriptors made from lists of attributes, and the reasons behind its refusals. Only the
 * files train/cuda/cudnn_*.c use it, behind the door.
 *
 * The library is opened at most once and stays open until the process ends: its threads and caches
 * do not survive being closed. Everything here may be called from any thread.
 */
#ifndef TRAIN_CUDA_CUDNN_LIBRARY_H
#define TRAIN_CUDA_CUDNN_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cudnn.h>

#define CUDNN_LIBRARY_OLDEST 91100 /* 9.11: plans that can be saved for a device that is absent */

struct cudnn {
    size_t (*version)(void);
    const char *(*error_string)(cudnnStatus_t status);
    void (*last_error)(char *text, size_t size);
    cudnnStatus_t (*set_callback)(unsigned mask, void *user, cudnnCallback_t function);
    cudnnStatus_t (*create)(cudnnHandle_t *handle);
    cudnnStatus_t (*destroy)(cudnnHandle_t handle);
    cudnnStatus_t (*set_stream)(cudnnHandle_t handle, cudaStream_t stream);
    cudnnStatus_t (*make)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out);
    cudnnStatus_t (*drop)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*finalize)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*set)(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values);
    cudnnStatus_t (*get)(const cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                         int64_t wanted, int64_t *count, void *values);
    cudnnStatus_t (*execute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t pack);
};

/* Borrowed for good. ERR_DEVICE: one line that says what is missing or too old, and what to do. */
int cudnn_library_open(const struct cudnn **out);

/* One attribute of a descriptor. A descriptor's value points to the descriptor. */
struct cudnn_attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    const void *values;
};

/* Descriptors that are made together and dropped together. Zero-initialise. */
#define CUDNN_SET_SIZE 192
struct cudnn_set {
    cudnnBackendDescriptor_t all[CUDNN_SET_SIZE];
    int count;
};

/* A descriptor that is not finalized, and one with COUNT attributes that is. It belongs to SET.
 * WHAT names it in messages. ERR_DEVICE with cuDNN's own words. */
int cudnn_set_empty(struct cudnn_set *set, cudnnBackendDescriptorType_t type, const char *what,
                    cudnnBackendDescriptor_t *out);
int cudnn_set_make(struct cudnn_set *set, cudnnBackendDescriptorType_t type, const char *what,
                   const struct cudnn_attribute *attributes, int count,
                   cudnnBackendDescriptor_t *out);
/* Drop all, or those made after COUNT was KEEP; a descriptor taken out lives on. */
void cudnn_set_release(struct cudnn_set *set, int keep);
void cudnn_set_take(struct cudnn_set *set, cudnnBackendDescriptor_t descriptor);

/* An error from a status, with cuDNN's own words behind WHAT. */
int cudnn_fail(cudnnStatus_t status, const char *what);

/* The reasons that cuDNN gives for what it refuses in this thread: forget them; and the one given
 * most often since then, or "" ("an empty list of engines" is a success to cuDNN: reasons come by
 * its log alone). */
void cudnn_reasons_clear(void);
const char *cudnn_reasons_best(void);

#endif
