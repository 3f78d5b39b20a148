/*
 * cublaslt.h - matrix products with a bias by cuBLASLt, for the graphs of door.h that are just
 * that. The library is opened when a program runs (at most once, for good); where it is absent,
 * cuDNN's own matmul plans are used. door_cuda.c alone calls this.
 */
#ifndef TRAIN_CUDA_CUBLASLT_H
#define TRAIN_CUDA_CUBLASLT_H

#include "train/cuda/door.h"

struct cublaslt;
struct cublaslt_plan;

/* For the current device. ERR_DEVICE: the library is not there, or cannot start. */
int cublaslt_open(struct cublaslt **out);
void cublaslt_close(struct cublaslt *lt);
size_t cublaslt_version(const struct cublaslt *lt);

/* As door_plans_open; but *COUNT is 0, without an error, when the graph is nothing for cuBLASLt, or
 * it has no algorithm that the wish allows. Any number of threads at once. */
int cublaslt_plans_open(struct cublaslt *lt, const struct door_graph *graph,
                        const struct door_wish *wish, int limit, struct cublaslt_plan **out,
                        int *count);
void cublaslt_plan_close(struct cublaslt_plan *plan);
const struct door_plan_info *cublaslt_plan_info(const struct cublaslt_plan *plan);
/* The algorithm as text; and a plan of it again, with what INFO holds. ERR_MISMATCH. */
int cublaslt_plan_save(const struct cublaslt_plan *plan, char **out);
int cublaslt_plan_load(struct cublaslt *lt, const struct door_graph *graph, const char *text,
                       const struct door_plan_info *info, struct cublaslt_plan **out);
/* STREAM: a cudaStream_t. */
int cublaslt_plan_run(struct cublaslt *lt, struct cublaslt_plan *plan, void *stream,
                      const struct door_pointer *pointers, int count, void *workspace);

#endif
