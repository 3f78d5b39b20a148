/*
 * backend_cuda.c - the GPU as a backend: cuDNN's plans and own kernels behind train/cuda/door.h.
 * Here are the device, memory, layouts and transfers; cuda_device.h says what is where.
 *
 * Numeric rules: activations, their gradients and the weights that convolutions read are bf16, fp16
 * or f32 (tf32: f32 in memory, products of 10 bits); stored weights, momenta, statistics, their
 * gradients, logits and the loss are f32. Everything is queued; one thread calls.
 */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/cuda/cuda_device.h"
#include "train/cuda/devices.h"
#include "train/cuda/seeded.h"

size_t cuda_align(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

size_t cuda_number_bytes(const struct device *device)
{
    return device->type == DOOR_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* ---- device ---- */

static int cuda_available(void)
{
    int count;

    return door_count(&count);
}

/* Nothing that is queued may use memory that goes. What this wait fails with is the end of a story
 * whose begin the caller knows: the error that stands is kept. */
static void drain(struct device *device)
{
    struct err stands;

    err_take(-ERR_DEVICE, &stands);
    if (door_stream_sync(device->door, device->compute) == 0)
        door_stream_sync(device->door, device->transfer);
    err_raise(&stands);
}

static void cuda_close(struct device *device)
{
    if (!device)
        return;
    if (device->compute && device->transfer)
        drain(device);
    if (device->door && !device->settings.absent) {
        for (int i = 0; i < device->mark_count; i++)
            door_event_close(device->door, device->marks[i].event);
        door_stream_close(device->door, device->transfer);
        door_stream_close(device->door, device->compute);
        cuda_step_close(device);
        cuda_input_close(device);
        if (device->bounce)
            door_host_free(device->door, device->bounce);
    }
    for (struct cuda_op *op = device->ops, *next; op; op = next) {
        next = op->next;
        mem_free(op);
    }
    mem_free(device->marks);
    plan_store_close(device->store);
    door_close(device->door);
    mem_free(device);
}

static void find_types(struct device *device, const struct device_settings *settings)
{
    const enum precision precision = settings->precision;

    device->settings = *settings;
    if (precision == PRECISION_AUTO)
        device->settings.precision = PRECISION_BF16;
    switch (device->settings.precision) {
    case PRECISION_FP16:
        device->type = DOOR_F16;
        device->kernel = KERNEL_F16;
        break;
    case PRECISION_F32:
    case PRECISION_TF32:
        device->type = DOOR_F32;
        device->kernel = KERNEL_F32;
        break;
    default:
        device->type = DOOR_BF16;
        device->kernel = KERNEL_BF16;
        break;
    }
    device->cores = precision == PRECISION_F32 ? DOOR_CORES_NEVER : DOOR_CORES_PREFER;
}

/* The door of a device that is there, or of one to plan for: then without a door where there is no
 * cuDNN to ask. */
static int open_door(struct device *device)
{
    const struct device_row *row;

    if (!device->settings.absent)
        return door_open(&device->door, device->settings.index);
    if (!(row = devices_find(device->settings.absent)))
        return -ERR_USAGE;
    if (door_open_absent(&device->door, row)) {
        device->door = NULL;
        log_line("workspaces in this plan are their cap: %s", err_text());
    }
    return 0;
}

static void describe(struct device *device)
{
    const char *precision = precision_names[device->settings.precision];
    char versions[128] = "no cuBLASLt", driver[64] = "", memory[32];

    if (!device->door) {
        snprintf(device->description, sizeof device->description, "%s, absent, %s",
                 device->settings.absent, precision);
        return;
    }
    const struct door_properties *p = door_properties(device->door);
    if (p->cublaslt)
        snprintf(versions, sizeof versions, "cuBLASLt %zu.%zu", p->cublaslt / 10000,
                 p->cublaslt / 100 % 100);
    if (p->driver)
        snprintf(driver, sizeof driver, ", driver for CUDA %d.%d, CUDA %d.%d", p->driver / 1000,
                 p->driver / 10 % 100, p->runtime / 1000, p->runtime / 10 % 100);
    snprintf(device->description, sizeof device->description,
             "%s (sm_%d, %s)%s, cuDNN %zu.%zu.%zu, %s, %s%s", p->name, p->sm,
             log_bytes(memory, (double)p->memory_bytes), driver, p->cudnn / 10000,
             p->cudnn / 100 % 100, p->cudnn % 100, versions, precision,
             device->settings.deterministic ? ", deterministic" : "");
}

static int cuda_open(struct device **out, const struct device_settings *settings)
{
    struct device *device = mem_array(1, sizeof *device, "device cuda");
    /* Which engine is the fastest may change from run to run, and with it the bits. */
    const bool first = settings->absent || settings->deterministic;
    const struct plan_store_settings store = {.folder = settings->absent ? "" : NULL,
                                              .candidates = first ? 1 : 0};
    int rc;

    if (!device)
        return -ERR_MEMORY;
    find_types(device, settings);
    if ((rc = open_door(device)) ||
        (device->door && (rc = plan_store_open(&device->store, device->door, &store))))
        goto fail;
    if (!settings->absent && ((rc = door_stream_open(device->door, &device->compute)) ||
                              (rc = door_stream_open(device->door, &device->transfer))))
        goto fail;
    describe(device);
    *out = device;
    return 0;

fail:
    cuda_close(device);
    return rc;
}

static const char *cuda_describe(const struct device *device)
{
    return device->description;
}

static int cuda_sync(struct device *device)
{
    int rc = door_stream_sync(device->door, device->compute);

    return rc ? rc : door_stream_sync(device->door, device->transfer);
}

/* ---- memory ---- */

static int cuda_alloc(struct device *device, size_t bytes, void **out)
{
    /* A tensor may be read a few bytes beyond its end by 16-byte accesses: never beyond this. */
    int rc = door_alloc(device->door, cuda_align(bytes ? bytes : 1), "the network", out);

    if (rc)
        return rc;
    if ((rc = door_fill(device->door, device->compute, *out, 0, cuda_align(bytes ? bytes : 1))) ||
        (rc = door_stream_sync(device->door, device->compute)))
        door_free(device->door, *out);
    return rc;
}

static void cuda_release(struct device *device, void *memory)
{
    drain(device);
    door_free(device->door, memory);
}

static int cuda_host_alloc(struct device *device, size_t bytes, void **out)
{
    return door_host_alloc(device->door, bytes, "batches of pictures", out);
}

static void cuda_host_release(struct device *device, void *memory)
{
    drain(device);
    door_host_free(device->door, memory);
}

static int cuda_free_bytes(struct device *device, uint64_t *out)
{
    size_t bytes;
    int rc = door_free_bytes(device->door, &bytes);

    *out = bytes;
    return rc;
}

static int cuda_reserve(struct device *device, const struct parameter *parameters, size_t count,
                        size_t floats, size_t packed_bytes, bool training, bool plan_only,
                        struct backend_memory *out)
{
    int rc;

    *out = (struct backend_memory){.capped = !device->door};
    for (int slot = 0; device->store && slot < plan_store_count(device->store); slot++)
        out->capped |= !plan_store_plan(device->store, slot);
    /* cuda_bounce, when the largest parameter passes. */
    for (size_t i = 0; i < count; i++)
        if (parameters[i].stored * sizeof(float) > out->pinned)
            out->pinned = parameters[i].stored * sizeof(float);
    rc = cuda_step_open(device, parameters, count, floats, training, plan_only, out);
    return rc ? rc : cuda_input_open(device, &out->staging, &out->pinned, packed_bytes, plan_only);
}

/* ---- transfers that are waited for ---- */

int cuda_bounce(struct device *device, size_t bytes)
{
    int rc;

    if (bytes <= device->bounce_bytes)
        return 0;
    if (device->bounce)
        door_host_free(device->door, device->bounce);
    device->bounce = NULL;
    device->bounce_bytes = 0;
    if ((rc = door_host_alloc(device->door, bytes, "a transfer", &device->bounce)))
        return rc;
    device->bounce_bytes = bytes;
    return 0;
}

int cuda_write(struct device *device, void *to, const void *from, size_t bytes)
{
    int rc = cuda_bounce(device, bytes);

    if (rc)
        return rc;
    if (from != device->bounce)
        memcpy(device->bounce, from, bytes);
    rc = door_copy(device->door, device->compute, DOOR_IN, to, device->bounce, bytes);
    return rc ? rc : door_stream_sync(device->door, device->compute);
}

int cuda_read(struct device *device, void *to, const void *from, size_t bytes)
{
    int rc = cuda_bounce(device, bytes);

    if (rc ||
        (rc = door_copy(device->door, device->compute, DOOR_OUT, device->bounce, from, bytes)) ||
        (rc = door_stream_sync(device->door, device->compute)))
        return rc;
    if (to)
        memcpy(to, device->bounce, bytes);
    return 0;
}

/* ---- parameters: K x R x S x C for convolutions, the pictures' 3 channels padded to 8 ---- */

static size_t stored_channels(const struct parameter *p)
{
    return p->role == PARAMETER_CONV ? ((size_t)p->shape[1] + 7) / 8 * 8 : 0;
}

static int cuda_parameter_setup(struct device *device, struct parameter *p)
{
    size_t floats = p->role == PARAMETER_CONV
                        ? (size_t)(p->shape[0] * p->shape[2] * p->shape[3]) * stored_channels(p)
                        : p->count;

    (void)device;
    p->stored = (floats + 15) / 16 * 16;
    return 0;
}

/* Element (o, i, position) of the host's order lies at (o * area + position) * step + i. */
struct order {
    size_t in_c, area, step;
};

static struct order order_of(const struct parameter *p)
{
    return p->role == PARAMETER_CONV
               ? (struct order){(size_t)p->shape[1], (size_t)(p->shape[2] * p->shape[3]),
                                stored_channels(p)}
               : (struct order){p->count, 1, 0};
}

static void store(const struct parameter *p, const float *host, float *stored)
{
    const struct order order = order_of(p);

    for (size_t at = 0; at < p->count; stored += order.area * order.step)
        for (size_t i = 0; i < order.in_c; i++)
            for (size_t position = 0; position < order.area; position++)
                stored[position * order.step + i] = host[at++];
}

static void load(const struct parameter *p, const float *stored, float *host)
{
    const struct order order = order_of(p);

    for (size_t at = 0; at < p->count; stored += order.area * order.step)
        for (size_t i = 0; i < order.in_c; i++)
            for (size_t position = 0; position < order.area; position++)
                host[at++] = stored[position * order.step + i];
}

static int cuda_parameter_set(struct device *device, const struct parameter *p, const float *host,
                              float *block)
{
    const size_t bytes = p->stored * sizeof(float);
    int rc = cuda_bounce(device, bytes);
    float *to = device->bounce;

    if (rc)
        return rc;
    memset(to, 0, bytes);
    store(p, host, to);
    device->generation++;
    return cuda_write(device, block + p->offset, to, bytes);
}

static int cuda_parameter_get(struct device *device, const struct parameter *p, const float *block,
                              float *host)
{
    int rc = cuda_read(device, NULL, block + p->offset, p->stored * sizeof(float));

    if (!rc)
        load(p, device->bounce, host);
    return rc;
}

/* ---- tensors: N x H x W x C ---- */

static size_t stored_elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->h * (size_t)t->w * (size_t)graph_channels(t);
}

/* cuDNN has plans of level (b) for fp16. */
static bool cuda_fuses(const struct device *device)
{
    return device->type == DOOR_F16 && device->door;
}

static void cuda_on_paper(struct device *device, bool on)
{
    if (on) {
        device->real_pictures = device->pictures;
        device->real_size = device->size;
    }
    device->pictures = on ? 0 : device->real_pictures;
    device->size = on ? 0 : device->real_size;
    device->paper = on;
}

static int cuda_tensor_setup(struct device *device, struct tensor *t)
{
    bool logits = t->role == TENSOR_LOGITS;

    t->bytes = stored_elements(t) * (logits ? sizeof(float) : cuda_number_bytes(device));
    if (t->sums)
        t->bytes = cuda_align(t->bytes) + 2 * cuda_align((size_t)t->c * sizeof(float));
    if (t->role == TENSOR_PICTURES) {
        t->on_device = true;
        device->pictures = t->n > device->pictures ? t->n : device->pictures;
        device->size = t->h > device->size ? t->h : device->size;
    }
    return 0;
}

/* The type of what lies at MEMORY: logits are f32, their gradients are not. */
static enum door_type type_at(const struct device *device, const struct tensor *t,
                              const void *memory)
{
    return t->role == TENSOR_LOGITS && memory == t->data ? DOOR_F32 : device->type;
}

/* Where element AT of N x C x H x W lies. */
static size_t tensor_place(const struct tensor *t, size_t at)
{
    size_t area = (size_t)t->h * (size_t)t->w, c = (size_t)t->c;
    size_t pixel = at % area, channel = at / area % c, n = at / area / c;

    return (n * area + pixel) * (size_t)graph_channels(t) + channel;
}

/* The sums that the convolution would have left behind the numbers at BLOCK. */
static void write_sums(const struct tensor *t, enum door_type type, char *block)
{
    const size_t channels = (size_t)t->c, number = door_type_bytes(type);
    float *sums = (float *)(void *)(block + cuda_align(stored_elements(t) * number));
    float *squares = (float *)(void *)((char *)sums + cuda_align(channels * sizeof *sums));

    for (size_t c = 0; c < channels; c++) {
        double sum = 0, square = 0;

        for (size_t i = c; i < stored_elements(t); i += channels) {
            const double value = seeded_decode(type, block + i * number);
            sum += value;
            square += value * value;
        }
        sums[c] = (float)sum;
        squares[c] = (float)square;
    }
}

static int cuda_tensor_set(struct device *device, const struct tensor *t, const float *host,
                           void *memory)
{
    const enum door_type type = type_at(device, t, memory);
    const bool sums = t->sums && memory == t->data;
    const size_t number = door_type_bytes(type);
    const size_t bytes = sums ? t->bytes : stored_elements(t) * number;
    int rc = cuda_bounce(device, bytes);

    if (rc)
        return rc;
    memset(device->bounce, 0, bytes);
    for (size_t i = 0; i < (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w; i++)
        seeded_store(type, host[i], (char *)device->bounce + tensor_place(t, i) * number);
    if (sums)
        write_sums(t, type, device->bounce);
    return cuda_write(device, memory, device->bounce, bytes);
}

static int cuda_tensor_get(struct device *device, const struct tensor *t, const void *memory,
                           float *host)
{
    const enum door_type type = type_at(device, t, memory);
    const size_t number = door_type_bytes(type);
    int rc = cuda_read(device, NULL, memory, stored_elements(t) * number);

    for (size_t i = 0; i < (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w && !rc; i++)
        host[i] = (float)seeded_decode(type, (char *)device->bounce + tensor_place(t, i) * number);
    return rc;
}

const struct backend backend_cuda = {
    .name = "cuda",
    .precision = PRECISION_BF16,
    .packs = true,
    .available = cuda_available,
    .count = door_count,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .tensor_setup = cuda_tensor_setup,
    .parameter_setup = cuda_parameter_setup,
    .op_setup = cuda_op_setup,
    .list_setup = cuda_list_setup,
    .on_paper = cuda_on_paper,
    .fuses = cuda_fuses,
    .op_release = cuda_op_release,
    .reserve = cuda_reserve,
    .prepare = cuda_prepare,
    .forward = cuda_forward,
    .backward = cuda_backward,
    .walk_begin = cuda_walk_begin,
    .walk_end = cuda_walk_end,
    .upload = cuda_upload,
    .feed = cuda_feed,
    .post = cuda_post,
    .result = cuda_result,
    .numbers = cuda_numbers,
    .numbers_get = cuda_numbers_get,
    .numbers_set = cuda_numbers_set,
    .sgd_set = cuda_sgd_set,
    .update = cuda_update,
    .accumulate = cuda_accumulate,
    .parameter_set = cuda_parameter_set,
    .parameter_get = cuda_parameter_get,
    .tensor_set = cuda_tensor_set,
    .tensor_get = cuda_tensor_get,
    .sync = cuda_sync,
    .mark = cuda_mark,
    .marked = cuda_marked,
    .free_bytes = cuda_free_bytes,
};
