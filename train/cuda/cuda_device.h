/*
 * cuda_device.h - what the files of the CUDA backend share: the open device, an op's state, and
 * helpers. backend_cuda.c has the device, memory and transfers; cuda_ops.c the ops; cuda_input.c
 * the way of batches in and results out; cuda_step.c the update, recorded walks and marks.
 *
 * Two streams: `compute` runs the steps in order, `transfer` brings batches. Layouts are those of
 * graphs.h; flat blocks hold conv filters K x R x S x C with the pictures' channels padded to 8.
 */
#ifndef TRAIN_CUDA_CUDA_DEVICE_H
#define TRAIN_CUDA_CUDA_DEVICE_H

#include "kernels/kernels.h"
#include "train/backend.h"
#include "train/cuda/door.h"
#include "train/cuda/graphs.h"
#include "train/cuda/plan_store.h"

/* Graphs of one op. */
enum cuda_part {
    CUDA_FORWARD,
    CUDA_DATA,
    CUDA_FILTER,
    CUDA_STATISTICS, /* level (b): of a tensor's sums, before CUDA_FORWARD */
    CUDA_INPUT,      /* level (b): what is left of the data gradient, after CUDA_DATA */
    CUDA_PARTS
};

/* An op's own; the device owns it until op_release. */
struct cuda_op {
    struct cuda_op *next;
    const struct op *op;
    bool training;
    int slots[CUDA_PARTS]; /* in the plan store; -1: none */
    uint64_t generation;   /* of the weight whose 16-bit copy was made for it */
    /* Of saved memory, in bytes from its begin. */
    size_t mean, invstd, mask, index, row_logs, scale, shift;
    size_t plans_workspace; /* of all parts; what the op itself works in comes behind it */
    int64_t count;          /* numbers of a channel */
};

/* What kernel_sgd, labels, results take in pinned memory: one of a few places in turn. */
enum { CUDA_RING = BACKEND_RESULTS, CUDA_STAGES = 2 };

/* One batch on the device: header (pictures, labels, rows), block, and what the augmentation makes
 * of them, the pictures tensor. */
struct cuda_stage {
    uint8_t *memory;
    struct door_event *arrived; /* it is there */
    struct door_event *taken;   /* what reads it is done */
};

/* A moment on the compute stream. */
struct cuda_mark {
    struct door_event *event;
};

struct device {
    struct device_settings settings;
    struct door *door; /* NULL: an absent device, without cuDNN to ask */
    enum door_type type;
    enum kernel_type kernel;
    enum door_cores cores; /* that plans may use */
    struct plan_store *store;
    int tested; /* plans of the store that have shown what they compute */
    struct cuda_op *ops;
    bool paper;                   /* setup calls ask for no plans */
    int real_pictures, real_size; /* meanwhile: the two of Input */
    struct door_stream *compute, *transfer;
    char description[512];

    /* Flat blocks: the values as 16 bits at the same places, and which of them decay. */
    void *copy;
    size_t copy_floats;
    uint64_t generation;                /* counts what parameter_set wrote */
    struct kernel_segment *segments[2]; /* [decay_norm] */
    size_t segment_count;
    struct kernel_sgd *sgd;       /* on the device */
    struct kernel_scaler *scaler; /* on the device; NULL: no loss scaling */

    /* Input. */
    int pictures, size; /* of the largest pictures tensor */
    size_t block_bytes, header_bytes;
    struct cuda_stage stages[CUDA_STAGES];
    int fed;                        /* the stage of the batch that was fed last */
    const int32_t *labels, *rows;   /* there */
    const struct batch *on_its_way; /* was sent to the next stage and is not fed yet */
    uint64_t uploads;               /* batches sent */
    float *table;                   /* 256 x 3: a byte of a picture, normalised */

    /* Pinned: CUDA_RING headers, structs kernel_sgd and results, with the event behind each one's
     * last copy. */
    uint8_t *headers;
    struct kernel_sgd *sgds;
    struct kernel_loss *results;
    struct door_event *header_events[CUDA_RING], *sgd_events[CUDA_RING], *result_events[CUDA_RING];
    uint64_t updates;
    void *bounce; /* for transfers that are waited for */
    size_t bounce_bytes;

    /* Recorded walks, by the stage that they read. */
    struct door_capture *captures[WALKS][CUDA_STAGES];
    bool walked[WALKS];
    bool decay_norm; /* which segments they update by */
    bool recording, no_recording;

    struct cuda_mark *marks;
    int mark_count;
};

/* Pinned memory of at least BYTES in device->bounce. */
int cuda_bounce(struct device *device, size_t bytes);
/* BYTES of host memory to the device, or back; waits. */
int cuda_write(struct device *device, void *to, const void *from, size_t bytes);
int cuda_read(struct device *device, void *to, const void *from, size_t bytes);
size_t cuda_align(size_t bytes); /* to 256 */
/* Bytes of an activation's number. */
size_t cuda_number_bytes(const struct device *device);

/* cuda_ops.c */
int cuda_list_setup(struct device *device, struct op *ops, size_t count, bool training);
int cuda_op_setup(struct device *device, struct op *op, bool training);
void cuda_op_release(struct device *device, struct op *op);
int cuda_prepare(struct device *device, struct op *op, const float *values);
int cuda_forward(struct device *device, struct op *op, float *values);
int cuda_backward(struct device *device, struct op *op, const float *values, float *gradients);

/* cuda_input.c */
int cuda_input_open(struct device *device, uint64_t *staging, uint64_t *pinned, size_t packed_bytes,
                    bool plan_only);
void cuda_input_close(struct device *device);
int cuda_upload(struct device *device, const struct batch *batch);
int cuda_feed(struct device *device, const struct batch *batch, struct tensor *pictures);
int cuda_post(struct device *device, const struct op *loss, int slot);
int cuda_result(struct device *device, int slot, struct loss_result *out);

/* cuda_step.c */
int cuda_step_open(struct device *device, const struct parameter *parameters, size_t count,
                   size_t floats, bool training, bool plan_only, struct backend_memory *memory);
void cuda_step_close(struct device *device);
int cuda_sgd_set(struct device *device, const struct sgd *sgd);
int cuda_update(struct device *device, const struct parameter *parameters, size_t count,
                float *values, const float *gradients, float *momenta);
int cuda_accumulate(struct device *device, size_t floats, bool first, const float *gradients,
                    float *sum);
const char *const *cuda_numbers(const struct device *device);
int cuda_numbers_get(struct device *device, double *out);
int cuda_numbers_set(struct device *device, const double *in);
int cuda_walk_begin(struct device *device, int walk, bool *played);
int cuda_walk_end(struct device *device, int walk, int rc, bool *again);
void cuda_forget_walks(struct device *device);
int cuda_mark(struct device *device, int number);
int cuda_marked(struct device *device, int number, double *seconds);

#endif
