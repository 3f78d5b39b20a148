/*
 * door.h - the one thin door between the CUDA backend and a GPU. Everything that the backend asks
 * of CUDA, cuDNN and cuBLASLt passes here, but for the launchers of kernels/kernels.h, which take
 * the same streams. Behind it stand the real libraries (door_cuda.c, cudnn.c, cublaslt.c) or, in
 * the tests, a simulator (tests/cuda/sim): whoever links chooses.
 *
 * The door speaks cuDNN's terms: tensors with dimensions and strides, nodes that name them by uid.
 * It never sees the op list of train/model.h. What stands behind it computes from what is described
 * here and from nothing else, so that a wrong stride or a swapped uid is a wrong result.
 *
 * Contract:
 * - One thread at a time calls a door, except door_plans_open and door_plan_load, which any number
 *   of threads may call at once (compilation of plans in parallel). A thread that calls a launcher
 *   of kernels.h has called the door before: that makes the device the thread's.
 * - Calls that take a stream queue work and return; everything they point to must live and stay
 *   as it is until that work is done (but by-value tensors, read before the call returns).
 *   Work of one stream runs in order; work of two streams is ordered by events alone. NULL is no
 *   stream: there is no default stream behind this door.
 * - Device and pinned memory hold anything when they are given out. Freeing memory that queued
 *   work still uses is an error of the caller (the simulator catches it).
 * - Between door_capture_begin and door_capture_end nothing is allocated, freed, opened, closed or
 *   waited for by the host.
 * - Errors: 0 or err_set. ERR_MEMORY: device or pinned memory is short, the device is as before.
 *   ERR_DEVICE: no device, a missing library, no plan; or the device is lost (a sticky error: every
 *   later call that needs the device fails the same way, and closing is all that remains). Texts
 *   name the operation and, for plans, the graph. Errors of queued work come out of a later call.
 * - close functions take NULL, and never fail.
 */
#ifndef TRAIN_CUDA_DOOR_H
#define TRAIN_CUDA_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct door;         /* an open device, or an absent one that plans can be made for */
struct door_stream;  /* a cudaStream_t under a name of ours: launchers take the pointer as it is */
struct door_event;   /* a cudaEvent_t */
struct door_capture; /* a recorded piece of work that can be launched again: a CUDA graph */
struct door_plan;    /* a finalized execution plan of one graph */

struct device_row; /* train/cuda/devices.h */

/* ---- graphs: what a plan computes ------------------------------------------------------------ */

/* DOOR_BOOL has one bit per element: element i in memory order (i = the sum of index * stride) is
 * bit i % 8, counted from the lowest, of byte i / 8; a tensor takes (elements + 7) / 8 bytes. */
enum door_type { DOOR_F32, DOOR_F16, DOOR_BF16, DOOR_I8, DOOR_I32, DOOR_I64, DOOR_BOOL };

/* A tensor of a graph. Dims are N,C,H,W (filters K,C,R,S; matrices 1,rows,columns) whatever lies
 * how in memory: that is said by the strides alone, in elements. NHWC is {H*W*C, 1, W*C, C}; per
 * channel values are dims {1,C,1,1}, strides {C,1,C,C}; a scalar is {1,1,1,1}, {1,1,1,1}. */
struct door_tensor {
    int64_t uid; /* > 0, unique in the graph */
    enum door_type type;
    int rank; /* 3 or 4 */
    int64_t dims[4], strides[4];
    int alignment;   /* of its pointer, bytes; a multiple of the element's size; 16 for tensors in
                        device memory, the element's size for by-value ones */
    bool is_virtual; /* never in memory: lives between two nodes of the graph, rounded to `type` */
    bool by_value;   /* a scalar in host memory: its pointer is the host's, read during the call */
};

/* The parts tensors play in a node; which kind uses which is said at enum door_kind. */
enum door_role {
    DOOR_X,
    DOOR_W,
    DOOR_Y,
    DOOR_DX,
    DOOR_DW,
    DOOR_DY,
    DOOR_A,
    DOOR_B,
    DOOR_C,
    DOOR_INDEX,
    DOOR_SUM,
    DOOR_SQSUM,
    DOOR_MEAN,
    DOOR_INVSTD,
    DOOR_SCALE,
    DOOR_BIAS,
    DOOR_DSCALE,
    DOOR_DBIAS,
    DOOR_RUNNING_MEAN_IN,
    DOOR_RUNNING_VAR_IN,
    DOOR_RUNNING_MEAN_OUT,
    DOOR_RUNNING_VAR_OUT,
    DOOR_EQ_SCALE, /* BN_FINALIZE */
    DOOR_EQ_BIAS,  /* BN_FINALIZE, BN_BACKWARD_WEIGHTS */
    DOOR_EQ_DY_SCALE,
    DOOR_EQ_X_SCALE,
    DOOR_EPSILON,
    DOOR_MOMENTUM,
    DOOR_COUNT,
    DOOR_ROLES
};

/* What nodes compute; all arithmetic in f32, whatever the types of the tensors, rounded to nearest
 * even once when a result is stored or becomes a virtual tensor. `in` and `out` name roles;
 * [brackets] may be absent (uid 0). Broadcasting: where an input of a pointwise node has dim 1 and
 * the output more, it is repeated. */
enum door_kind {
    /* Convolutions are cross-correlations: y[n,k,p,q] = sum over c,r,s of
     * x[n, c, p*stride - pre + r*dilation, ...] * w[k,c,r,s], zero outside x.
     * Uses stride, dilation, pre_padding, post_padding; y has dims (h + pre + post - dilation *
     * (r - 1) - 1) / stride + 1. */
    DOOR_CONV_FORWARD,         /* in: X, W; out: Y */
    DOOR_CONV_BACKWARD_DATA,   /* in: DY, W; out: DX */
    DOOR_CONV_BACKWARD_FILTER, /* in: X, DY; out: DW */
    /* Uses pointwise. in: X [, B]; out: Y, by the mode. DOOR_RELU_BWD: in: X (the value that went
     * into the ReLU, or came out of it: only its sign counts), DY; out: DX = x > 0 ? dy : 0. */
    DOOR_POINTWISE,
    /* in: X; out: SUM, SQSUM, f32 per channel: sums of x and of x*x over n,h,w, of the values as
     * they are stored in X. */
    DOOR_GEN_STATS,
    /* in: SUM, SQSUM, SCALE, BIAS, RUNNING_MEAN_IN, RUNNING_VAR_IN; by value: COUNT (I64, n*h*w),
     * EPSILON, MOMENTUM (F32); out: RUNNING_MEAN_OUT, RUNNING_VAR_OUT, MEAN, INVSTD, EQ_SCALE,
     * EQ_BIAS; per channel. mean = sum/count, var = sqsum/count - mean^2 (biased), invstd =
     * 1/sqrt(var + epsilon), running_out = (1 - momentum) * running_in + momentum * (mean, or var *
     * count/(count - 1)), eq_scale = scale * invstd, eq_bias = bias - mean * eq_scale. */
    DOOR_BN_FINALIZE,
    /* Batch normalisation, y = scale * (x - mean) * invstd + bias.
     * training: in: X, SCALE, BIAS; by value EPSILON, MOMENTUM; out: Y, MEAN, INVSTD [,
     * all four RUNNING_*, with MOMENTUM], computed from X as in BN_FINALIZE (variance in two
     * passes). Not training: in: X, MEAN, INVSTD, SCALE, BIAS; out: Y. All but X and Y f32. */
    DOOR_NORM_FORWARD,
    /* in: X, DY, MEAN, INVSTD, SCALE; out: DX, DSCALE, DBIAS (f32): xhat = (x - mean) * invstd,
     * dbias = sum dy, dscale = sum dy * xhat, dx = scale * invstd * (dy - dbias/m - xhat *
     * dscale/m), m = n*h*w. */
    DOOR_NORM_BACKWARD,
    /* in: X, DY, MEAN, INVSTD, SCALE; out: DSCALE, DBIAS, EQ_DY_SCALE, EQ_X_SCALE, EQ_BIAS, f32
     * per channel, such that NORM_BACKWARD's dx = eq_dy_scale * dy + eq_x_scale * x + eq_bias. */
    DOOR_BN_BACKWARD_WEIGHTS,
    /* Pooling over window, stride, pre_padding, post_padding. Uses resample. MAX: padding counts as
     * minus infinity; in: X; out: Y [, INDEX: I8 with Y's dims and strides, the place in the window
     * (row * window[1] + column) that was taken; the first of several]. AVERAGE: padding counts
     * as 0 and is included in the count. */
    DOOR_RESAMPLE_FORWARD,
    /* in: DY [, INDEX: MAX needs it]; out: DX: what X got when its values went to Y; 0 where
     * nothing did. */
    DOOR_RESAMPLE_BACKWARD,
    /* Rank 3, in: A {1,m,k}, B {1,k,n}; out: C {1,m,n} = A B; transposed inputs by strides. */
    DOOR_MATMUL,
    /* Uses reduction: Y's dims are X's or 1; sums X over those that became 1. in: X; out: Y (F32)
     */
    DOOR_REDUCTION,
    DOOR_KINDS
};

enum door_pointwise {
    DOOR_ADD,      /* y = x + b */
    DOOR_SUB,      /* y = x - b */
    DOOR_MUL,      /* y = x * b; b may be DOOR_BOOL: 0 or 1 */
    DOOR_CMP_GT,   /* y = x > b ? 1 : 0; Y is DOOR_BOOL */
    DOOR_RELU_FWD, /* y = max(x, 0); a NaN stays one */
    DOOR_RELU_BWD, /* see DOOR_POINTWISE */
    DOOR_IDENTITY  /* y = x, for its change of type */
};

enum door_resample { DOOR_MAX, DOOR_AVERAGE };
enum door_reduction { DOOR_REDUCE_ADD };

/* Attributes that a kind does not use are 0. Paddings and strides are {height, width}. */
struct door_node {
    enum door_kind kind;
    enum door_pointwise pointwise;
    enum door_resample resample;
    enum door_reduction reduction;
    bool training;
    int64_t window[2], stride[2], dilation[2], pre_padding[2], post_padding[2];
    int64_t uids[DOOR_ROLES]; /* {[DOOR_X] = 1, [DOOR_W] = 2}; 0: absent */
};

#define DOOR_MAX_TENSORS 48
#define DOOR_MAX_NODES 16

/* Nodes stand in an order in which they can be computed. Borrowed for the length of a call. Every
 * tensor that is not virtual and not written by a node is an input. */
struct door_graph {
    const char *name; /* for messages: operation and shape, "conv 3x3 s2, 64x128x56x56 > 256, bf16,
                         forward" */
    const struct door_tensor *tensors;
    int tensor_count; /* <= DOOR_MAX_TENSORS */
    const struct door_node *nodes;
    int node_count; /* 1 .. DOOR_MAX_NODES */
};

/* Is the graph well made? Uids unique and known; every role of each kind there and no other; ranks,
 * sizes and channels agree; strides fit the dims without overlap; alignments hold; virtual tensors
 * are written once, before they are read; no node reads what only a later one writes. ERR_FAULT:
 * the graph's name, the node's number and kind, and what is wrong. Both sides of the door call it
 * first (cuDNN does not check that channels agree). In door_graph.c, linked by both. */
int door_graph_check(const struct door_graph *graph);
/* XXH3-64 of all that a graph computes: everything but its name. ERR_MEMORY. */
int door_graph_digest(const struct door_graph *graph, uint64_t *out);
/* The tensor of that uid, or NULL. */
const struct door_tensor *door_graph_tensor(const struct door_graph *graph, int64_t uid);
/* Bytes in memory from its first element to its last; 0 for a virtual tensor. */
size_t door_tensor_bytes(const struct door_tensor *tensor);
/* "f32", "f16", ...; bytes of an element (0 for DOOR_BOOL); "conv forward", ... */
const char *door_type_name(enum door_type type);
size_t door_type_bytes(enum door_type type);
const char *door_kind_name(enum door_kind kind);

/* ---- devices --------------------------------------------------------------------------------- */

struct door_properties {
    char name[256]; /* "NVIDIA H100 80GB HBM3" */
    int index;      /* of cuda:<n>; -1: absent */
    int sm;         /* compute capability * 10: 80, 86, 89, 90, 100, 120 */
    int multiprocessors;
    int64_t memory_bytes;       /* in all */
    int driver, runtime;        /* 13000 = 13.0; driver 0: absent */
    size_t cudnn, cublaslt;     /* 91900 = 9.19.0; cublaslt 0: not there, matmul plans are used */
    bool bf16, fp16, tf32, f32; /* what plans can be made for */
    const char *json;           /* cuDNN's words for the device: part of the key of a plan cache */
};

/* How many GPUs there are (>= 1). Otherwise ERR_DEVICE, and the text is one line that says what is
 * missing (driver, GPU, cuDNN) and what to do; --device auto prints it and takes the CPU. Makes no
 * context. */
int door_count(int *out);
/* Open device INDEX: makes the context, opens cuDNN and, where it is there, cuBLASLt. ERR_DEVICE:
 * as door_count; no such device; older than compute capability 8.0. */
int door_open(struct door **out, int index);
/* An absent device of the table: door_properties, door_plans_open, door_plan_info, door_plan_save,
 * door_plan_load and door_close work, all else is ERR_FAULT. Needs cuDNN but neither driver nor
 * GPU; engines that are compiled at run time need a libcuda.so.1 all the same. ERR_DEVICE: no
 * cuDNN. */
int door_open_absent(struct door **out, const struct device_row *row);
void door_close(struct door *door);
/* Borrowed until door_close. */
const struct door_properties *door_properties(const struct door *door);
/* Bytes of device memory that are free now. */
int door_free_bytes(struct door *door, size_t *out);
/* Turn the int of a kernels.h launcher into an error: 0 for 0. FORMAT names the operation. */
int door_check(struct door *door, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- memory ---------------------------------------------------------------------------------- */

/* Device memory, aligned to 256 bytes; pinned host memory, aligned to 64. BYTES >= 1. ERR_MEMORY
 * says WHAT, needed and free. */
int door_alloc(struct door *door, size_t bytes, const char *what, void **out);
void door_free(struct door *door, void *memory);
int door_host_alloc(struct door *door, size_t bytes, const char *what, void **out);
void door_host_free(struct door *door, void *memory);

enum door_way {
    DOOR_IN, /* pinned host memory to the device */
    DOOR_OUT /* the device to pinned host memory */,
    DOOR_ON /* on the device; the two do not overlap */
};
int door_copy(struct door *door, struct door_stream *stream, enum door_way way, void *to,
              const void *from, size_t bytes);
/* BYTES times VALUE into device memory. */
int door_fill(struct door *door, struct door_stream *stream, void *to, uint8_t value, size_t bytes);

/* ---- streams and events ---------------------------------------------------------------------- */

int door_stream_open(struct door *door, struct door_stream **out);
/* Waits for its work. */
void door_stream_close(struct door *door, struct door_stream *stream);
/* The host waits for all that was queued on STREAM. */
int door_stream_sync(struct door *door, struct door_stream *stream);
/* What is queued on STREAM from now on runs after EVENT's latest record (at once if there was
 * none). */
int door_stream_wait(struct door *door, struct door_stream *stream, struct door_event *event);

/* TIMED: door_event_elapsed can be asked (slower; never inside a capture). */
int door_event_open(struct door *door, bool timed, struct door_event **out);
void door_event_close(struct door *door, struct door_event *event);
/* EVENT happens when all that is queued on STREAM now is done. */
int door_event_record(struct door *door, struct door_event *event, struct door_stream *stream);
/* The host waits for EVENT; or asks whether it has happened. Never recorded: it has. */
int door_event_sync(struct door *door, struct door_event *event);
int door_event_done(struct door *door, struct door_event *event, bool *out);
/* Milliseconds between two timed events that have happened. */
int door_event_elapsed(struct door *door, struct door_event *from, struct door_event *to,
                       float *milliseconds);

/* ---- capture --------------------------------------------------------------------------------- */

/* From now on work on STREAM, and on streams that wait for an event recorded on it, is noted down
 * and not run, until door_capture_end, before which STREAM waits for events of all the others.
 * Pointers and by-value tensors are noted with their values of now. An error leaves STREAM usable
 * and nothing captured: the caller goes on without (ERR_DEVICE, unless the device is lost). */
int door_capture_begin(struct door *door, struct door_stream *stream);
int door_capture_end(struct door *door, struct door_stream *stream, struct door_capture **out);
/* Queue all of it on STREAM, as one piece. */
int door_capture_launch(struct door *door, struct door_capture *capture,
                        struct door_stream *stream);
void door_capture_close(struct door *door, struct door_capture *capture);

/* ---- plans ----------------------------------------------------------------------------------- */

/* Tensor cores, for graphs with a convolution or a matrix product. With f32 tensors they mean
 * TF32. */
enum door_cores {
    DOOR_CORES_PREFER, /* engines that use them first */
    DOOR_CORES_ONLY,
    DOOR_CORES_NEVER /* true f32 */
};

struct door_wish {
    size_t workspace_cap; /* bytes; a plan that asks for more is not taken */
    bool deterministic;   /* the same bytes from the same bytes, always */
    enum door_cores cores;
};

struct door_plan_info {
    size_t workspace_bytes; /* may be any number; 0: none */
    char engine[160];       /* "engine 45, tensor cores, heuristics A"; cuBLASLt: "cuBLASLt ..." */
    bool compiled;          /* at run time, which takes 0.1 to 1.3 s */
    bool tensor_cores, deterministic;
    int index; /* cuDNN's number of the engine; -1: cuBLASLt */
};

/* Open the best plans of GRAPH that WISH allows, at most LIMIT (>= 1), best first by cuDNN's
 * heuristics: mode A, then its fallback, then every engine. *COUNT >= 1 of them are in OUT. A graph
 * of one DOOR_MATMUL, alone or with an ADD of a bias {1,1,n} behind it, is given to cuBLASLt first
 * where that is there. ERR_FAULT: door_graph_check. ERR_DEVICE: no plan; the text holds the graph's
 * name and cuDNN's own reason, or by what part of the wish the last ones were refused. */
int door_plans_open(struct door *door, const struct door_graph *graph, const struct door_wish *wish,
                    int limit, struct door_plan **out, int *count);
void door_plan_close(struct door *door, struct door_plan *plan);
/* Borrowed until door_plan_close. */
const struct door_plan_info *door_plan_info(const struct door_plan *plan);

struct door_pointer {
    int64_t uid;
    void *pointer; /* of the tensor's first element; by-value tensors: in host memory */
};
/* Queue the plan. POINTERS holds every uid of the graph that is not virtual, each once. WORKSPACE:
 * workspace_bytes, aligned to 256, NULL when that is 0; nothing is in it before or after.
 * An output may share memory with nothing else, but RUNNING_*_OUT with RUNNING_*_IN. The first run
 * of a plan may load its code: run each once before it is captured. */
int door_plan_run(struct door *door, struct door_plan *plan, struct door_stream *stream,
                  const struct door_pointer *pointers, int count, void *workspace);

/* The plan as text, for a cache on disk (mem_free it), and back, without asking heuristics or
 * compiling. The text fits the same graph, device, cuDNN and cuBLASLt only: callers key it by all
 * of them. ERR_MISMATCH: it is another device's or version's, damaged, or another graph's: make the
 * plan anew. */
int door_plan_save(struct door *door, const struct door_plan *plan, char **out);
int door_plan_load(struct door *door, const struct door_graph *graph, const char *text,
                   struct door_plan **out);

#endif
