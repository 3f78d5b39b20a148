/*
 * backend_cpu.c - the CPU backend: oneDNN's convolutions (dnnl_adapter.h) and our own passes for
 * everything else (cpu_kernels.h), in one OpenMP team (cpu_team.h). Here are the device, layouts,
 * transfers and the update; the ops stand in cpu_conv.c, cpu_norm.c and cpu_ops.c.
 *
 * Numeric rules: f32, or bf16 for activations, their gradients and the weights that convolutions
 * read. Always f32: stored weights, their gradients and momenta, sums in oneDNN, logits. Always
 * double: statistics over pieces, the loss. Nothing is queued: every call is done when it returns.
 */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cpu_device.h"
#include "train/cpu_team.h"

/* ImageNet's mean and standard deviation of R, G, B in 0..1, as torchvision's recipes. */
static const double picture_mean[3] = {0.485, 0.456, 0.406};
static const double picture_deviation[3] = {0.229, 0.224, 0.225};

/* The caches that a core has for itself, about: second level and some of the third. What a machine
 * says of itself is often wrong (virtual machines). */
#define CACHE_BYTES ((size_t)2 << 20)

static const struct cpu_op *const ops[OP_KINDS] = {
    [OP_CONV] = &cpu_conv,         [OP_NORM] = &cpu_norm_op,        [OP_CONV_NORM] = &cpu_conv_norm,
    [OP_MAX_POOL] = &cpu_max_pool, [OP_MEAN_POOL] = &cpu_mean_pool, [OP_LINEAR] = &cpu_linear,
    [OP_LOSS] = &cpu_loss,
};

/* ---- device ---- */

static void close_weights(struct cpu_weights *w)
{
    if (!w)
        return;
    adapter_weights_close(w->stored);
    adapter_reorder_close(w->from_plain);
    adapter_reorder_close(w->to_plain);
    mem_free(w->scratchpad);
    mem_free(w);
}

static void cpu_close(struct device *device)
{
    if (!device)
        return;
    for (struct cpu_weights *w = device->weights, *next; w; w = next) {
        next = w->next;
        close_weights(w);
    }
    mem_free(device->labels);
    adapter_close(device->adapter);
    mem_free(device);
}

static const struct cpu_kernels *best_kernels(const struct adapter_machine *machine)
{
#if defined(__x86_64__)
    if (machine->bf16)
        return &cpu_kernels_avx512_bf16;
    if (machine->avx512)
        return &cpu_kernels_avx512;
    if (machine->avx2)
        return &cpu_kernels_avx2;
#endif
    (void)machine;
    return &cpu_kernels_base;
}

static int cpu_open(struct device **out, const struct device_settings *settings)
{
    const bool bf16 = settings->precision == PRECISION_BF16;
    struct adapter_machine machine;
    struct device *device;
    int rc;

    adapter_machine(&machine);
    if (settings->precision == PRECISION_FP16 || settings->precision == PRECISION_TF32)
        return err_set(ERR_USAGE, "device cpu computes in f32 or bf16; use --precision f32");
    if (bf16 && !machine.bf16)
        return err_set(ERR_USAGE,
                       "--precision bf16 needs a CPU that computes with bf16 numbers (AVX512-BF16 "
                       "or AMX), which this one does not (%s): use --precision f32",
                       machine.name);
    if (settings->threads < 0)
        return err_set(ERR_USAGE, "%d computing threads: 0 (all cores) or more are possible",
                       settings->threads);
    if (!(device = mem_array(1, sizeof *device, "device cpu")))
        return -ERR_MEMORY;
    device->settings = *settings;
    device->threads = settings->threads ? settings->threads : team_cores();
    device->bf16 = bf16;
    device->blocked = machine.avx512 && !(bf16 && machine.amx);
    device->cache_bytes = (size_t)device->threads * CACHE_BYTES;
    device->kernels = best_kernels(&machine);
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++)
            device->table[v][c] = (float)((v / 255.0 - picture_mean[c]) / picture_deviation[c]);
    snprintf(device->description, sizeof device->description, "%s, %d thread%s, %s", machine.name,
             device->threads, device->threads == 1 ? "" : "s", bf16 ? "bf16" : "f32");
    team_enter(device->threads);
    if ((rc = adapter_open(&device->adapter))) {
        cpu_close(device);
        return rc;
    }
    *out = device;
    return 0;
}

static const char *cpu_describe(const struct device *device)
{
    return device->description;
}

static int cpu_alloc(struct device *device, size_t bytes, void **out)
{
    (void)device;
    *out = mem_pages(bytes, "device cpu");
    return *out ? 0 : -ERR_MEMORY;
}

static void cpu_release(struct device *device, void *memory)
{
    (void)device;
    mem_pages_free(memory);
}

/* ---- tensors ---- */

enum adapter_layout cpu_layout(const struct device *device, const struct tensor *t)
{
    if (device->blocked && t->c % CPU_LANES == 0)
        return ADAPTER_BLOCKED;
    return device->blocked && t->role == TENSOR_PICTURES ? ADAPTER_NCHW : ADAPTER_NHWC;
}

size_t cpu_number_bytes(const struct device *device, const struct tensor *t)
{
    return device->bf16 && t->role != TENSOR_LOGITS ? sizeof(uint16_t) : sizeof(float);
}

struct cpu_grid cpu_grid(const struct device *device, const struct tensor *t)
{
    const size_t c = (size_t)t->c, pixels = (size_t)t->h * (size_t)t->w;
    const bool blocked = cpu_layout(device, t) == ADAPTER_BLOCKED;

    return (struct cpu_grid){
        .images = t->n,
        .channels = t->c,
        .columns = (t->c + CPU_LANES - 1) / CPU_LANES,
        .height = t->h,
        .width = t->w,
        .image_step = c * pixels,
        .column_step = blocked ? CPU_LANES * pixels : CPU_LANES,
        .pixel_step = blocked ? CPU_LANES : c,
        .bf16 = device->bf16,
    };
}

static int cpu_tensor_setup(struct device *device, struct tensor *t)
{
    int rc;

    t->bytes = cpu_elements(t) * cpu_number_bytes(device, t);
    if (t->role != TENSOR_PICTURES || (size_t)t->n <= device->label_capacity)
        return 0;
    if ((rc = mem_grow((void **)&device->labels, device->label_capacity, (size_t)t->n,
                       sizeof *device->labels, "labels of a batch")))
        return rc;
    device->label_capacity = (size_t)t->n;
    return 0;
}

/* Call COPY(context, where the number lies in T, where in host order) for all numbers of T. */
static void walk_tensor(const struct device *device, const struct tensor *t, void *context,
                        void (*copy)(void *context, size_t place, size_t host))
{
    const size_t c = (size_t)t->c, pixels = (size_t)t->h * (size_t)t->w;
    const enum adapter_layout layout = cpu_layout(device, t);
    const struct cpu_grid grid = cpu_grid(device, t);

    for (size_t host = 0; host < cpu_elements(t); host++) {
        const size_t n = host / (c * pixels), k = host / pixels % c, pixel = host % pixels;
        const size_t place = layout == ADAPTER_NCHW
                                 ? host
                                 : n * grid.image_step + k / CPU_LANES * grid.column_step +
                                       pixel * grid.pixel_step + k % CPU_LANES;
        copy(context, place, host);
    }
}

struct transfer {
    const struct cpu_kernels *kernels;
    const char *from;
    char *to;
    size_t number_bytes; /* of the tensor */
};

static void copy_in(void *context, size_t place, size_t host)
{
    const struct transfer *t = context;
    const void *const from[2] = {t->from + host * sizeof(float), NULL};
    t->kernels->sum(from, false, 1, t->to + place * t->number_bytes,
                    t->number_bytes == sizeof(uint16_t));
}

static void copy_out(void *context, size_t place, size_t host)
{
    const struct transfer *t = context;
    const void *const from[2] = {t->from + place * t->number_bytes, NULL};
    t->kernels->sum(from, t->number_bytes == sizeof(uint16_t), 1, t->to + host * sizeof(float),
                    false);
}

static int cpu_tensor_set(struct device *device, const struct tensor *t, const float *host,
                          void *memory)
{
    struct transfer transfer = {device->kernels, (const char *)host, memory,
                                cpu_number_bytes(device, t)};

    walk_tensor(device, t, &transfer, copy_in);
    return 0;
}

static int cpu_tensor_get(struct device *device, const struct tensor *t, const void *memory,
                          float *host)
{
    struct transfer transfer = {device->kernels, memory, (char *)host, cpu_number_bytes(device, t)};

    walk_tensor(device, t, &transfer, copy_out);
    return 0;
}

#define FEED_PIXELS 64

struct feed_work {
    const struct device *device;
    const struct batch *batch;
    const struct tensor *pictures;
};

/* COUNT pixels of a picture's row, up to FEED_PIXELS, from the bytes FROM on. AT: pixels before
 * them in all pictures. */
static void feed_pixels(const struct feed_work *work, const uint8_t *from, size_t at, size_t count)
{
    const struct tensor *t = work->pictures;
    const bool planes = cpu_layout(work->device, t) == ADAPTER_NCHW;
    const size_t area = (size_t)t->h * (size_t)t->w, number = cpu_number_bytes(work->device, t);
    const size_t channel_step = planes ? FEED_PIXELS : 1, pixel_step = planes ? 1 : 3;
    float line[3 * FEED_PIXELS];
    char *to = t->data;

    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            line[c * channel_step + i * pixel_step] = work->device->table[from[3 * i + c]][c];
    for (size_t c = 0; c < (planes ? 3 : 1); c++) {
        const size_t place = planes ? (at / area * 3 + c) * area + at % area : 3 * at;
        const void *const source[2] = {line + c * FEED_PIXELS, NULL};
        work->device->kernels->sum(source, false, planes ? count : 3 * count, to + place * number,
                                   work->device->bf16);
    }
}

static void feed_part(void *context, int part, int parts)
{
    const struct feed_work *work = context;
    const size_t width = (size_t)work->pictures->w;
    size_t first, last;

    team_share((size_t)work->pictures->n * (size_t)work->pictures->h, part, parts, &first, &last);
    for (size_t row = first; row < last; row++)
        for (size_t x = 0; x < width; x += FEED_PIXELS) {
            const size_t at = row * width + x, left = width - x;
            feed_pixels(work, work->batch->pixels + 3 * at, at,
                        left < FEED_PIXELS ? left : FEED_PIXELS);
        }
}

static int cpu_feed(struct device *device, const struct batch *batch, struct tensor *pictures)
{
    if (batch->rows < 1 || batch->rows > pictures->n || batch->size != pictures->h)
        return err_set(ERR_FAULT, "a batch of %d pictures of %d pixels does not fit %d of %d",
                       batch->rows, batch->size, pictures->n, pictures->h);
    team_run(device->threads, feed_part, &(struct feed_work){device, batch, pictures});
    memcpy(device->labels, batch->labels, (size_t)pictures->n * sizeof *device->labels);
    device->rows = batch->rows;
    return 0;
}

/* ---- parameters ---- */

/* Ask oneDNN how it leaves the gradient of such weights, with a picture of a middling size. */
static int open_weights(struct device *device, struct cpu_weights *w)
{
    const struct tensor in = {.role = w->i == 3 ? TENSOR_PICTURES : TENSOR_ACTIVATION, .c = w->i};
    const struct tensor out = {.role = TENSOR_ACTIVATION, .c = w->o};
    const int size = 28, padding = w->k / 2, out_size = size + 2 * padding - w->k + 1;
    const struct adapter_conv_settings settings = {
        .pass = ADAPTER_BACKWARD_WEIGHTS,
        .n = 16,
        .ic = w->i,
        .ih = size,
        .iw = size,
        .oc = w->o,
        .oh = out_size,
        .ow = out_size,
        .kernel = w->k,
        .stride = 1,
        .padding = padding,
        .type = device->bf16 ? ADAPTER_BF16 : ADAPTER_F32,
        .in = cpu_layout(device, &in),
        .out = cpu_layout(device, &out),
    };
    struct adapter_weights *plain = NULL;
    struct adapter_conv *conv = NULL;
    int rc;

    if ((rc = adapter_conv_open(&conv, device->adapter, &settings)) ||
        (rc = adapter_weights_copy(&w->stored, adapter_conv_weights(conv))) ||
        (rc = adapter_weights_plain(&plain, w->o, w->i, w->k)) ||
        (rc = adapter_reorder_open(&w->from_plain, device->adapter, plain, w->stored)) ||
        (rc = adapter_reorder_open(&w->to_plain, device->adapter, w->stored, plain)))
        goto out;
    w->scratchpad = mem_aligned(cpu_larger(adapter_reorder_scratchpad(w->from_plain),
                                           adapter_reorder_scratchpad(w->to_plain)) +
                                    1,
                                "reorder of weights");
    if (!w->scratchpad)
        rc = -ERR_MEMORY;
out:
    adapter_conv_close(conv);
    adapter_weights_close(plain);
    return rc;
}

int cpu_weights(struct device *device, const struct parameter *p, const struct cpu_weights **out)
{
    const int o = (int)p->shape[0], i = (int)p->shape[1], k = (int)p->shape[2];
    struct cpu_weights *w;
    int rc;

    for (w = device->weights; w; w = w->next)
        if (w->o == o && w->i == i && w->k == k) {
            *out = w;
            return 0;
        }
    if (!(w = mem_array(1, sizeof *w, "layouts of weights")))
        return -ERR_MEMORY;
    *w = (struct cpu_weights){.next = device->weights, .o = o, .i = i, .k = k};
    if ((rc = open_weights(device, w))) {
        close_weights(w);
        return rc;
    }
    *out = device->weights = w;
    return 0;
}

static int cpu_parameter_setup(struct device *device, struct parameter *p)
{
    const struct cpu_weights *weights;
    size_t bytes = p->count * sizeof(float);
    int rc;

    team_enter(device->threads);
    if (p->role == PARAMETER_CONV) {
        if ((rc = cpu_weights(device, p, &weights)))
            return err_add(rc, "%s", p->name);
        bytes = adapter_weights_bytes(weights->stored);
    }
    /* Whole cache lines, so that every parameter begins with one. */
    p->stored = cpu_align(bytes) / sizeof(float);
    return 0;
}

static int cpu_parameter_set(struct device *device, const struct parameter *p, const float *host,
                             float *block)
{
    const struct cpu_weights *w;
    int rc;

    if (p->role != PARAMETER_CONV) {
        memcpy(block + p->offset, host, p->count * sizeof *host);
        return 0;
    }
    team_enter(device->threads);
    rc = cpu_weights(device, p, &w);
    return rc ? rc : adapter_reorder_run(w->from_plain, host, block + p->offset, w->scratchpad);
}

static int cpu_parameter_get(struct device *device, const struct parameter *p, const float *block,
                             float *host)
{
    const struct cpu_weights *w;
    int rc;

    if (p->role != PARAMETER_CONV) {
        memcpy(host, block + p->offset, p->count * sizeof *host);
        return 0;
    }
    team_enter(device->threads);
    rc = cpu_weights(device, p, &w);
    return rc ? rc : adapter_reorder_run(w->to_plain, block + p->offset, host, w->scratchpad);
}

/* ---- ops ---- */

static void cpu_op_release(struct device *device, struct op *op)
{
    (void)device;
    if (ops[op->kind]->release)
        ops[op->kind]->release(op);
}

static int cpu_op_setup(struct device *device, struct op *op, bool training)
{
    int rc = 0;

    if (op->in->role == TENSOR_PICTURES && op->kind != OP_CONV && op->kind != OP_CONV_NORM)
        return err_set(ERR_FAULT, "%s: only a convolution reads pictures on the CPU", op->name);
    op->packed_bytes = op->saved_bytes = op->workspace_bytes = 0;
    op->backward_reads_in = op->backward_reads_out = false;
    op->state = NULL;
    team_enter(device->threads);
    if (ops[op->kind]->setup)
        rc = ops[op->kind]->setup(device, op, training);
    if (rc) {
        cpu_op_release(device, op);
        return err_add(rc, "%s", op->name);
    }
    return 0;
}

static int cpu_prepare(struct device *device, struct op *op, const float *values)
{
    team_enter(device->threads);
    return ops[op->kind]->prepare ? ops[op->kind]->prepare(device, op, values) : 0;
}

static int cpu_forward(struct device *device, struct op *op, float *values)
{
    team_enter(device->threads);
    return ops[op->kind]->forward(device, op, values);
}

static int cpu_backward(struct device *device, struct op *op, const float *values, float *gradients)
{
    if (!ops[op->kind]->backward)
        return err_set(ERR_FAULT, "%s: this op has no backward", op->name);
    team_enter(device->threads);
    return ops[op->kind]->backward(device, op, values, gradients);
}

static int cpu_post(struct device *device, const struct op *loss, int slot)
{
    memcpy(&device->results[slot], loss->saved, sizeof device->results[slot]);
    return 0;
}

static int cpu_result(struct device *device, int slot, struct loss_result *out)
{
    *out = device->results[slot];
    return 0;
}

/* ---- update ---- */

struct update_work {
    struct device *device;
    const struct parameter *parameters;
    size_t count;
    float *values, *momenta;
    const float *gradients;
};

/* The floats of a part, which may begin and end inside a parameter. */
static void update_part(void *context, int part, int parts)
{
    const struct update_work *work = context;
    const struct parameter *p = work->parameters, *end = p + work->count;
    const struct sgd *sgd = &work->device->sgd;
    size_t first, last;

    team_share(end[-1].offset + end[-1].stored - p->offset, part, parts, &first, &last);
    first += p->offset;
    last += p->offset;
    for (; p < end; p++) {
        const bool decays =
            sgd->decay_norm || p->role == PARAMETER_CONV || p->role == PARAMETER_LINEAR;
        const size_t from = p->offset > first ? p->offset : first;
        const size_t to = p->offset + p->stored < last ? p->offset + p->stored : last;
        const struct cpu_sgd settings = {
            .lr = (float)sgd->lr,
            .momentum = (float)sgd->momentum,
            .decay = decays ? (float)sgd->weight_decay : 0,
            .gradient_scale = (float)sgd->gradient_scale,
            .first_step = sgd->first_step,
        };
        if (from < to)
            work->device->kernels->sgd(&settings, to - from, work->values + from,
                                       work->gradients + from, work->momenta + from);
    }
}

static int cpu_sgd_set(struct device *device, const struct sgd *sgd)
{
    device->sgd = *sgd;
    return 0;
}

static int cpu_update(struct device *device, const struct parameter *parameters, size_t count,
                      float *values, const float *gradients, float *momenta)
{
    struct update_work work = {device, parameters, count, values, momenta, gradients};

    if (count)
        team_run(device->threads, update_part, &work);
    return 0;
}

struct accumulate_work {
    struct device *device;
    size_t floats;
    bool first;
    const float *gradients;
    float *sum;
};

static void accumulate_part(void *context, int part, int parts)
{
    const struct accumulate_work *work = context;
    size_t first, last;

    team_share(work->floats, part, parts, &first, &last);
    const void *const from[2] = {work->gradients + first, work->first ? NULL : work->sum + first};
    work->device->kernels->sum(from, false, last - first, work->sum + first, false);
}

static int cpu_accumulate(struct device *device, size_t floats, bool first, const float *gradients,
                          float *sum)
{
    struct accumulate_work work = {device, floats, first, gradients, sum};

    team_run(device->threads, accumulate_part, &work);
    return 0;
}

static int cpu_sync(struct device *device)
{
    (void)device;
    return 0;
}

const struct backend backend_cpu = {
    .name = "cpu",
    .precision = PRECISION_F32,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .tensor_setup = cpu_tensor_setup,
    .parameter_setup = cpu_parameter_setup,
    .op_setup = cpu_op_setup,
    .op_release = cpu_op_release,
    .prepare = cpu_prepare,
    .forward = cpu_forward,
    .backward = cpu_backward,
    .feed = cpu_feed,
    .post = cpu_post,
    .result = cpu_result,
    .sgd_set = cpu_sgd_set,
    .update = cpu_update,
    .accumulate = cpu_accumulate,
    .parameter_set = cpu_parameter_set,
    .parameter_get = cpu_parameter_get,
    .tensor_set = cpu_tensor_set,
    .tensor_get = cpu_tensor_get,
    .sync = cpu_sync,
};
