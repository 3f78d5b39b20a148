/*
 * backend.h - the one seam between a network and a device. A backend knows single ops, memory and a
 * queue; net.h alone walks ops and plans memory, so that backends cannot differ in anything but how
 * they compute an op.
 *
 * Contract:
 * - All calls of one device come from one thread. Work may be queued; `sync` waits for it. Errors
 * of queued work come out of a later call.
 * - After the setup calls a backend allocates nothing: all memory it needs is in the sizes it
 *   reported.
 * - Memory is aligned to 64 bytes, and so is every parameter's place in a flat block (offset is a
 *   multiple of 16 floats). What one call reads and what it writes never overlap.
 * - Before a call that writes it, memory holds anything. Whoever writes a tensor, a gradient, a
 *   packed or a saved block writes all its bytes that are read later, padding of a layout included.
 * - Floats of a flat block between a parameter's count and stored are written as 0 by parameter_set
 *   and backward, and stay 0 through update and accumulate.
 * - The host side is always f32 in torchvision's shapes; type and layout on the device are the
 *   backend's own.
 * - The same calls with the same bytes give the same bytes, for one number of threads and one
 *   machine.
 *
 * To add a backend: one file that exports one `const struct backend`, one row in train/backend.c,
 * one row in tests/test_ops.c, which holds every op of every backend against `ref`, forward and
 * gradients.
 */
#ifndef TRAIN_BACKEND_H
#define TRAIN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "train/model.h"

/* What convolutions and matrix products compute in; the values of --precision. */
enum precision {
    PRECISION_AUTO, /* the backend's own choice */
    PRECISION_F32,
    PRECISION_BF16,
    PRECISION_FP16, /* with dynamic loss scaling */
    PRECISION_TF32, /* f32 in memory, products of 10 bits */
    PRECISIONS
};
extern const char *const precision_names[PRECISIONS];

struct device; /* a backend's open device */

struct device_settings {
    int threads; /* computing threads; 0 = all cores */
    enum precision precision;
    int index;          /* which of several devices: the n of cuda:<n> */
    bool deterministic; /* nothing that may give other bits from the same bytes */
    const char *absent; /* a device that is not here ("h100", "sm_90"), to plan memory for; NULL:
                           one that is */
};

/* A picture that the device itself cuts and resizes (train/packed.h makes them). Its bytes are R G
 * B, row by row, and lie in the batch's block; so do the tables of its two axes. Of an axis these
 * are SIZE starts, SIZE counts, SIZE x taps weights, int32: output i is the sum over t < counts[i]
 * of weights[i * taps + t] times input starts[i] + t, plus 2^21, shifted right by 22 bits, at most
 * 255; counts[i] 0 is the value 0. As struct kernel_picture of kernels/kernels.h. */
struct packed_axis {
    uint64_t at; /* of its starts in the block, in int32 */
    int32_t taps, reserved;
};
struct packed_picture {
    uint64_t at;        /* of input (0, 0) in the block, in bytes */
    uint32_t stride;    /* bytes from row to row */
    int32_t down_first; /* the vertical pass comes first */
    struct packed_axis across, down;
};
struct packed {
    const struct packed_picture *pictures; /* n; the first `rows` count */
    const uint8_t *block;                  /* pixels and tables */
    size_t bytes;                          /* of the block that are used */
};

/* Pictures for one step: what the loader fills and a backend takes in. */
struct batch {
    int rows;              /* pictures that count: 1 .. n of the pictures tensor */
    int size;              /* pixels of a side */
    const uint8_t *pixels; /* n x size x size x 3, RGB, cropped, resized and flipped; rows beyond
                              `rows` are 0. NULL: they are packed */
    const int32_t
        *labels; /* n; every one of the first `rows` is in [0, classes): checked by the loader */
    const uint64_t *records;     /* n: which record of the data set, for messages */
    const struct packed *packed; /* for a backend that packs; else NULL */
};

/* What OP_LOSS found in a forward pass, over the batch's rows. */
struct loss_result {
    double loss;        /* mean of the rows' losses */
    int64_t top1, top5; /* rows whose label is the first, among the first five (ties: the lower
                           index is first) */
};

/* One update of all trained parameters, as torch.optim.SGD: g = gradient * gradient_scale + decay *
 * value; m = momentum * m + g (m = g while first_step); value -= lr * m. */
struct sgd {
    double lr, momentum, weight_decay, gradient_scale;
    bool decay_norm; /* false: no decay for gamma, beta and bias */
    bool first_step;
};

/* Results that may be on their way at once. */
enum { BACKEND_RESULTS = 4 };

/* The walks of a list that are the same calls each time, so that a device may record one and play
 * it back: a set, of where a micro-batch stands in its update. The last one ends with the update.
 */
enum { WALK_FIRST = 1, WALK_LAST = 2, WALKS = 4 };

/* Memory that a device takes beside what net asks for. */
struct backend_memory {
    uint64_t copies;  /* of weights in another type */
    uint64_t staging; /* batches on their way, tables, results */
    uint64_t pinned;  /* of the host, for transfers */
    bool capped;      /* workspaces in the plan are the cap, not what engines asked for */
};

struct backend {
    const char *name;         /* the value of --device */
    enum precision precision; /* what PRECISION_AUTO means */
    bool packs;               /* it cuts and resizes pictures itself: batches come packed */

    /* Is there such a device in this machine? ERR_DEVICE: the text says in one line what is
     * missing. NULL: always. */
    int (*available)(void);
    /* How many there are (>= 1), when there is one; NULL: one. */
    int (*count)(int *out);

    /* ERR_USAGE: settings this machine cannot do (bf16 without the instructions). ERR_DEVICE: no
     * such device, or what is missing. */
    int (*open)(struct device **out, const struct device_settings *settings);
    void (*close)(struct device *device);
    /* "oneDNN 2.6.3, avx512_core_bf16, 2 threads, f32"; borrowed until close. */
    const char *(*describe)(const struct device *device);

    /* Device memory, aligned to 64 bytes, zeroed. ERR_MEMORY names the bytes asked for. */
    int (*alloc)(struct device *device, size_t bytes, void **out);
    void (*release)(struct device *device, void *memory);
    /* Host memory for batches, aligned to 64 bytes, that copies to the device are fast from. NULL:
     * any will do. */
    int (*host_alloc)(struct device *device, size_t bytes, void **out);
    void (*host_release)(struct device *device, void *memory);

    /* Planning, in this order, before any memory exists: set t->bytes, and t->on_device where feed
     * says where the pictures lie; set p->stored; set the op's packed, saved, workspace sizes, what
     * its backward reads, and its state (all 0 before).
     * TRAINING: backward will be called. The number of images of the list is in its tensors; a
     * device that keeps labels makes room for them when it sees the pictures tensor. list_setup,
     * where it is not NULL, comes before the op_setup of the ops of a list, for what is better done
     * for all at once. */
    int (*tensor_setup)(struct device *device, struct tensor *t);
    int (*parameter_setup)(struct device *device, struct parameter *p);
    int (*op_setup)(struct device *device, struct op *op, bool training);
    int (*list_setup)(struct device *device, struct op *ops, size_t count, bool training);
    /* While it is ON, setup calls are for a plan on paper, of a list whose ops are set up with
     * another number of pictures: nothing is asked of libraries, an op's workspace is that of the
     * op of its name. NULL: setup calls cost nothing. */
    void (*on_paper)(struct device *device, bool on);
    /* Is the fused form of a training list (model.h) the faster one here? It is tried then; setting
     * it up fails with ERR_DEVICE where it cannot be done. NULL: never. */
    bool (*fuses)(const struct device *device);
    void (*op_release)(struct device *device, struct op *op);
    /* Last: say what the device takes beside the sizes above, and take it unless PLAN_ONLY.
     * PARAMETERS: the COUNT trained ones, in flat blocks of FLOATS; PACKED_BYTES: of the largest
     * batch; TRAINING: updates will come. NULL: nothing. */
    int (*reserve)(struct device *device, const struct parameter *parameters, size_t count,
                   size_t floats, size_t packed_bytes, bool training, bool plan_only,
                   struct backend_memory *out);

    /* One op, with all memory in place. VALUES and GRADIENTS are the flat blocks (a parameter lies
     * at block + offset floats).
     * prepare: recompute op->packed from VALUES; called once after they changed, before feed (it
     * may use the workspace). forward: reads in and residual, writes out and saved. OP_NORM
     * normalises by the batch's mean and biased variance and updates the running statistics in
     * VALUES: new = (1 - momentum) * old
     * + momentum * batch's, with the unbiased variance (as PyTorch; there are at least 2 values a
     * channel, net sees to it). OP_MAX_POOL: where several are the largest, any one is taken.
     * OP_LOSS: loss and hits of the batch's rows to saved.
     * backward: reads in and out where op_setup said so, saved, and the sum of
     * out->gradients[0 .. readers-1], which it may use up; writes in->gradients[in_slot],
     * residual->gradients[residual_slot] and the parameters' gradients (written, not added to).
     * OP_LOSS: d(loss)/d(logits) as in's gradient, 0 for pictures beyond the batch's rows. */
    int (*prepare)(struct device *device, struct op *op, const float *values);
    int (*forward)(struct device *device, struct op *op, float *values);
    int (*backward)(struct device *device, struct op *op, const float *values, float *gradients);

    /* Around the calls of one micro-batch of training, from forward to accumulate or update:
     * WALK_BEGIN sets *PLAYED when a recording of WALK is queued; net then makes no calls until
     * WALK_END, which gets what the calls came to and sets *AGAIN when they were not recorded after
     * all: net goes through both once more. NULL: nothing is recorded. */
    int (*walk_begin)(struct device *device, int walk, bool *played);
    int (*walk_end)(struct device *device, int walk, int rc, bool *again);

    /* Begin to bring a batch to the device while it computes; feed of the same batch comes next.
     * At most one batch is on its way beside the one that was fed. NULL: feed does it all. */
    int (*upload)(struct device *device, const struct batch *batch);
    /* A batch into the pictures tensor (or that to where the batch lies: on_device), normalised
     * with ImageNet's mean and standard deviation (a 256 x 3 table of floats: (v / 255 - mean) /
     * std), and its labels and row count into the device for OP_LOSS, until the next feed. BATCH
     * stays as it is until a result that was posted after this is there, or sync. */
    int (*feed)(struct device *device, const struct batch *batch, struct tensor *pictures);
    /* Keep what the last forward of LOSS left in its saved under SLOT, of BACKEND_RESULTS; and wait
     * for what is under SLOT. */
    int (*post)(struct device *device, const struct op *loss, int slot);
    int (*result)(struct device *device, int slot, struct loss_result *out);

    /* Numbers that training leaves on the device beside the blocks and that belong to a checkpoint
     * (the loss scale): their names, ended by NULL, or NULL where there are none; and the numbers
     * from and to the host. NULL: there are none. */
    const char *const *(*numbers)(const struct device *device);
    int (*numbers_get)(struct device *device, double *out);
    int (*numbers_set)(struct device *device, const double *in);

    /* The numbers of the updates to come, before the walk that ends with one: they change from step
     * to step, a recording of it does not. */
    int (*sgd_set)(struct device *device, const struct sgd *sgd);
    /* Over the flat blocks: one pass. PARAMETERS: the trained ones. */
    int (*update)(struct device *device, const struct parameter *parameters, size_t count,
                  float *values, const float *gradients, float *momenta);
    /* sum += gradients, both of FLOATS floats (accumulation over micro-batches); FIRST: sum =
     * gradients. */
    int (*accumulate)(struct device *device, size_t floats, bool first, const float *gradients,
                      float *sum);

    /* Host (f32, shape order, parameter->count floats) to and from a parameter's place in a flat
     * block. */
    int (*parameter_set)(struct device *device, const struct parameter *p, const float *host,
                         float *block);
    int (*parameter_get)(struct device *device, const struct parameter *p, const float *block,
                         float *host);
    /* Host f32 NCHW to and from a tensor's data or gradient MEMORY, for tests and logits. */
    int (*tensor_set)(struct device *device, const struct tensor *t, const float *host,
                      void *memory);
    int (*tensor_get)(struct device *device, const struct tensor *t, const void *memory,
                      float *host);

    int (*sync)(struct device *device);

    /* For --profile: remember the moment at which all that is queued now is done, under NUMBER (0,
     * 1, 2, ...); and, after sync, the seconds from mark NUMBER - 1 to NUMBER. NULL: the host's
     * clock will do. */
    int (*mark)(struct device *device, int number);
    int (*marked)(struct device *device, int number, double *seconds);

    /* Bytes of device memory that are free. NULL: nobody knows. */
    int (*free_bytes)(struct device *device, uint64_t *out);
};

extern const struct backend backend_ref;  /* plain C: the definition of correct */
extern const struct backend backend_cpu;  /* oneDNN; only where HAVE_DNNL is defined */
extern const struct backend backend_cuda; /* cuDNN; only where HAVE_CUDA is defined */

/* All that are built in, best first, ended by NULL; and the one of that name: NULL with ERR_USAGE
 * set, which says what is built in. */
extern const struct backend *const backends[];
const struct backend *backend_find(const char *name);

/* Open what --device says: "auto", "cpu", "ref", "cuda", "cuda:1". auto takes the first backend
 * that is available and says in one line of the log why those before it are not. ERR_USAGE: no such
 * name; else as open. */
int backend_open(const char *device, const struct device_settings *settings,
                 const struct backend **out, struct device **out_device);

#endif
