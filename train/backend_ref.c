/*
 * backend_ref.c - the backend in plain C: the definition of correct that the others are held
 * against. The ops stand in ref_matrix.c and ref_ops.c; here are the device, transfers and the
 * update.
 *
 * Numeric rules: storage is f32; every sum (convolution, statistics, gradients, softmax) runs in
 * double, in a fixed order, and is rounded once when it is stored. One thread, nothing queued.
 * bf16 and fp16 say what a GPU's 16 bits come to: pictures, activations, their gradients and the
 * weights that convolutions and products read are rounded to the type's digits as they are stored,
 * nothing else (fusion level a); numbers may be as small and as large as a float, which is what a
 * loss scale is for.
 * Layouts: activations N x H x W x C, convolution weights O x K x K x I, the rest as on the host.
 */
#include <math.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/ref.h"

/* ImageNet's mean and standard deviation of R, G, B in 0..1, as torchvision's recipes. */
static const double picture_mean[3] = {0.485, 0.456, 0.406};
static const double picture_deviation[3] = {0.229, 0.224, 0.225};

static int ref_open(struct device **out, const struct device_settings *settings)
{
    struct device *device;

    if (settings->precision == PRECISION_TF32)
        return err_set(ERR_USAGE, "device ref computes in f32, bf16 or fp16; use --precision f32");
    if (!(device = mem_array(1, sizeof *device, "device ref")))
        return -ERR_MEMORY;
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++)
            device->table[v][c] = (float)((v / 255.0 - picture_mean[c]) / picture_deviation[c]);
    device->dropped_bits = settings->precision == PRECISION_BF16   ? 16
                           : settings->precision == PRECISION_FP16 ? 13
                                                                   : 0;
    *out = device;
    return 0;
}

static void ref_close(struct device *device)
{
    if (!device)
        return;
    mem_free(device->labels);
    mem_free(device->weights);
    mem_free(device);
}

static const char *ref_describe(const struct device *device)
{
    return device->dropped_bits == 16   ? "plain C reference, 1 thread, bf16"
           : device->dropped_bits == 13 ? "plain C reference, 1 thread, fp16"
                                        : "plain C reference, 1 thread, f32";
}

static int ref_alloc(struct device *device, size_t bytes, void **out)
{
    void *memory = mem_aligned(bytes, "device ref");

    (void)device;
    if (!memory)
        return -ERR_MEMORY;
    *out = memset(memory, 0, bytes);
    return 0;
}

static void ref_release(struct device *device, void *memory)
{
    (void)device;
    mem_free(memory);
}

/* Where weights in 16 bits lie. */
static int ref_reserve(struct device *device, const struct parameter *parameters, size_t count,
                       size_t floats, size_t packed_bytes, bool training, bool plan_only,
                       struct backend_memory *out)
{
    (void)parameters, (void)count, (void)packed_bytes, (void)training;
    *out = (struct backend_memory){.copies = device->dropped_bits ? floats * sizeof(float) : 0};
    if (plan_only || !out->copies)
        return 0;
    mem_free(device->weights);
    device->weights = mem_array(floats, sizeof *device->weights, "weights in 16 bits");
    return device->weights ? 0 : -ERR_MEMORY;
}

/* COUNT numbers to the device's digits, to nearest, ties to even. */
static void round_all(const struct device *device, float *values, size_t count)
{
    const uint32_t dropped = (uint32_t)device->dropped_bits;

    for (size_t i = 0; dropped && i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &values[i], sizeof bits);
        if ((bits & 0x7F800000) != 0x7F800000)
            bits = (bits + (UINT32_C(1) << (dropped - 1)) - 1 + (bits >> dropped & 1)) >>
                   dropped << dropped;
        memcpy(&values[i], &bits, sizeof bits);
    }
}

/* ---- ops ---- */

static const struct ref_op *const ops[OP_KINDS] = {
    [OP_CONV] = &ref_conv,         [OP_NORM] = &ref_norm,           [OP_CONV_NORM] = &ref_conv_norm,
    [OP_MAX_POOL] = &ref_max_pool, [OP_MEAN_POOL] = &ref_mean_pool, [OP_LINEAR] = &ref_linear,
    [OP_LOSS] = &ref_loss,         [OP_NORM_CONV] = &ref_norm_conv,
};

static int ref_tensor_setup(struct device *device, struct tensor *t)
{
    t->bytes = ref_elements(t) * sizeof(float);
    if (t->role != TENSOR_PICTURES || (size_t)t->n <= device->label_capacity)
        return 0;
    int rc = mem_grow((void **)&device->labels, device->label_capacity, (size_t)t->n,
                      sizeof *device->labels, "labels of a batch");
    if (!rc)
        device->label_capacity = (size_t)t->n;
    return rc;
}

static int ref_parameter_setup(struct device *device, struct parameter *p)
{
    (void)device;
    p->stored = p->count;
    return 0;
}

static int ref_op_setup(struct device *device, struct op *op, bool training)
{
    (void)device;
    ops[op->kind]->setup(op, training);
    return 0;
}

static void ref_op_release(struct device *device, struct op *op)
{
    (void)device, (void)op;
}

static bool is_product(const struct op *op)
{
    return op->kind == OP_CONV || op->kind == OP_CONV_NORM || op->kind == OP_LINEAR;
}

static int ref_prepare(struct device *device, struct op *op, const float *values)
{
    if (ops[op->kind]->prepare)
        ops[op->kind]->prepare(op, values);
    if (!device->dropped_bits || !is_product(op))
        return 0;
    float *rounded = device->weights + op->weight->offset;
    memcpy(rounded, values + op->weight->offset, op->weight->count * sizeof *rounded);
    round_all(device, rounded, op->weight->count);
    round_all(device, op->packed, op->weight->count);
    return 0;
}

static int ref_forward(struct device *device, struct op *op, float *values)
{
    ops[op->kind]->forward(device, op, values);
    if (op->out && op->out->role != TENSOR_LOGITS)
        round_all(device, op->out->data, ref_elements(op->out));
    return 0;
}

/* A normalisation adds its readers' gradients as it reads them, others get a sum that is stored. */
static void add_readers(const struct device *device, const struct op *op)
{
    const struct tensor *t = op->out;

    if (!device->dropped_bits || !t || t->readers < 2 || op->kind == OP_NORM)
        return;
    float *sum = t->gradients[0], *second = t->gradients[1];
    for (size_t i = 0; i < ref_elements(t); i++) {
        sum[i] += second[i];
        second[i] = 0;
    }
    round_all(device, sum, ref_elements(t));
}

static int ref_backward(struct device *device, struct op *op, const float *values, float *gradients)
{
    add_readers(device, op);
    ops[op->kind]->backward(
        device, op, device->dropped_bits && is_product(op) ? device->weights : values, gradients);
    if (op->in_slot >= 0)
        round_all(device, op->in->gradients[op->in_slot], ref_elements(op->in));
    if (op->residual && op->residual_slot >= 0)
        round_all(device, op->residual->gradients[op->residual_slot], ref_elements(op->residual));
    return 0;
}

static int ref_feed(struct device *device, const struct batch *batch, struct tensor *pictures)
{
    float *out = pictures->data;

    for (size_t i = 0; i < ref_elements(pictures); i++)
        out[i] = device->table[batch->pixels[i]][i % 3];
    round_all(device, out, ref_elements(pictures));
    memcpy(device->labels, batch->labels, (size_t)pictures->n * sizeof *device->labels);
    device->rows = batch->rows;
    return 0;
}

static int ref_post(struct device *device, const struct op *loss, int slot)
{
    memcpy(&device->results[slot], loss->saved, sizeof device->results[slot]);
    return 0;
}

static int ref_result(struct device *device, int slot, struct loss_result *out)
{
    *out = device->results[slot];
    return 0;
}

/* ---- update ---- */

static bool decays(const struct sgd *sgd, enum parameter_role role)
{
    return sgd->decay_norm || role == PARAMETER_CONV || role == PARAMETER_LINEAR;
}

static int ref_sgd_set(struct device *device, const struct sgd *sgd)
{
    device->sgd = *sgd;
    return 0;
}

static int ref_update(struct device *device, const struct parameter *parameters, size_t count,
                      float *values, const float *gradients, float *momenta)
{
    const struct sgd *sgd = &device->sgd;

    for (const struct parameter *p = parameters; p < parameters + count; p++) {
        double decay = decays(sgd, p->role) ? sgd->weight_decay : 0;

        for (size_t i = p->offset; i < p->offset + p->stored; i++) {
            double g = gradients[i] * sgd->gradient_scale + decay * values[i];
            double m = sgd->first_step ? g : sgd->momentum * momenta[i] + g;

            momenta[i] = (float)m;
            values[i] = (float)(values[i] - sgd->lr * m);
        }
    }
    return 0;
}

static int ref_accumulate(struct device *device, size_t floats, bool first, const float *gradients,
                          float *sum)
{
    (void)device;
    for (size_t i = 0; i < floats; i++)
        sum[i] = first ? gradients[i] : sum[i] + gradients[i];
    return 0;
}

/* ---- to and from the host ---- */

/* Where element (o, i, y, x) of a parameter lies here: O x K x K x I for convolutions, else as on
 * the host. */
static size_t parameter_place(const struct parameter *p, size_t at)
{
    if (p->role != PARAMETER_CONV)
        return at;
    size_t area = (size_t)(p->shape[2] * p->shape[3]), in_c = (size_t)p->shape[1];
    size_t position = at % area, i = at / area % in_c, o = at / area / in_c;
    return (o * area + position) * in_c + i;
}

static int ref_parameter_set(struct device *device, const struct parameter *p, const float *host,
                             float *block)
{
    (void)device;
    for (size_t i = 0; i < p->count; i++)
        block[p->offset + parameter_place(p, i)] = host[i];
    return 0;
}

static int ref_parameter_get(struct device *device, const struct parameter *p, const float *block,
                             float *host)
{
    (void)device;
    for (size_t i = 0; i < p->count; i++)
        host[i] = block[p->offset + parameter_place(p, i)];
    return 0;
}

/* Where element AT of N x C x H x W lies in N x H x W x C. */
static size_t tensor_place(const struct tensor *t, size_t at)
{
    size_t area = ref_pixels(t), c = (size_t)t->c;
    size_t pixel = at % area, channel = at / area % c, n = at / area / c;

    return (n * area + pixel) * c + channel;
}

static int ref_tensor_set(struct device *device, const struct tensor *t, const float *host,
                          void *memory)
{
    (void)device;
    for (size_t i = 0; i < ref_elements(t); i++)
        ((float *)memory)[tensor_place(t, i)] = host[i];
    return 0;
}

static int ref_tensor_get(struct device *device, const struct tensor *t, const void *memory,
                          float *host)
{
    (void)device;
    for (size_t i = 0; i < ref_elements(t); i++)
        host[i] = ((const float *)memory)[tensor_place(t, i)];
    return 0;
}

static int ref_sync(struct device *device)
{
    (void)device;
    return 0;
}

const struct backend backend_ref = {
    .name = "ref",
    .precision = PRECISION_F32,
    .open = ref_open,
    .close = ref_close,
    .describe = ref_describe,
    .alloc = ref_alloc,
    .release = ref_release,
    .tensor_setup = ref_tensor_setup,
    .parameter_setup = ref_parameter_setup,
    .op_setup = ref_op_setup,
    .op_release = ref_op_release,
    .reserve = ref_reserve,
    .prepare = ref_prepare,
    .forward = ref_forward,
    .backward = ref_backward,
    .feed = ref_feed,
    .post = ref_post,
    .result = ref_result,
    .sgd_set = ref_sgd_set,
    .update = ref_update,
    .accumulate = ref_accumulate,
    .parameter_set = ref_parameter_set,
    .parameter_get = ref_parameter_get,
    .tensor_set = ref_tensor_set,
    .tensor_get = ref_tensor_get,
    .sync = ref_sync,
};
