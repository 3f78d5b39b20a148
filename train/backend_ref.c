/*
 * backend_ref.c - the backend in plain C: the definition of correct that the others are held
 * against. The ops stand in ref_matrix.c and ref_ops.c; here are the device, transfers and the
 * update.
 *
 * Numeric rules: storage is f32; every sum (convolution, statistics, gradients, softmax) runs in
 * double, in a fixed order, and is rounded once when it is stored. One thread, nothing queued.
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

    if (settings->precision != PRECISION_F32 && settings->precision != PRECISION_AUTO)
        return err_set(ERR_USAGE, "device ref computes in f32 only; use --precision f32");
    if (!(device = mem_array(1, sizeof *device, "device ref")))
        return -ERR_MEMORY;
    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++)
            device->table[v][c] = (float)((v / 255.0 - picture_mean[c]) / picture_deviation[c]);
    *out = device;
    return 0;
}

static void ref_close(struct device *device)
{
    if (!device)
        return;
    mem_free(device->labels);
    mem_free(device);
}

static const char *ref_describe(const struct device *device)
{
    (void)device;
    return "plain C reference, 1 thread, f32";
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

static int ref_prepare(struct device *device, struct op *op, const float *values)
{
    (void)device;
    if (ops[op->kind]->prepare)
        ops[op->kind]->prepare(op, values);
    return 0;
}

static int ref_forward(struct device *device, struct op *op, float *values)
{
    ops[op->kind]->forward(device, op, values);
    return 0;
}

static int ref_backward(struct device *device, struct op *op, const float *values, float *gradients)
{
    ops[op->kind]->backward(device, op, values, gradients);
    return 0;
}

static int ref_feed(struct device *device, const struct batch *batch, struct tensor *pictures)
{
    float *out = pictures->data;

    for (size_t i = 0; i < ref_elements(pictures); i++)
        out[i] = device->table[batch->pixels[i]][i % 3];
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
