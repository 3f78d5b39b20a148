/*
 * device_check.c - see device_check.h. Nothing is planned here: every tensor, gradient and op has
 * memory of its own on both sides, so that all that a walk leaves can be looked at.
 *
 * Weights are numbers of 8 bits, the same in every precision. What an op reads, `ref` gets from the
 * device, rounded as it is there: a difference is one op's own rounding. A ReLU whose input is
 * within rounding of 0 may fall either way and turn a gradient over, so a difference must come back
 * with other pictures and weights to count.
 */
#include "train/device_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "train/model.h"

enum { PICTURES = 4, SIZE = 64, CLASSES = 16, ATTEMPTS = 2, SQUARE = SIZE * SIZE * 3 };
/* The loss scale of fp16: gradients of so small a network stay far from both ends of the type. */
enum { LOSS_SCALE = 1024 };
static const char *const scale_name = "loss_scale";

/* The norm of a difference / the norm of the numbers: some roundings of a result. */
static const double limits[PRECISIONS] = {
    [PRECISION_F32] = 3e-5,
    [PRECISION_BF16] = 1.5e-2,
    [PRECISION_FP16] = 3e-3,
    [PRECISION_TF32] = 3e-3,
};

/* One of the two devices, with its own model. */
struct side {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    size_t floats, trained_floats; /* of the flat blocks */
    float *values, *gradients, *momenta;
    size_t set_up[2]; /* ops of the training and the evaluation list */
    void **blocks;
    size_t block_count;
};

struct check {
    struct side ref, device;
    struct device_check *out;
    double limit, scale;
    float *got, *want; /* numbers of one tensor or parameter, on the host */
    const char *pass;  /* "forward pass of", for messages */
};

/* ---- setting up ---- */

static int take(struct side *side, size_t bytes, void *out)
{
    void *memory = NULL;
    int rc = bytes ? side->backend->alloc(side->device, bytes, &memory) : 0;

    if (memory)
        side->blocks[side->block_count++] = memory;
    memcpy(out, &memory, sizeof memory);
    return rc;
}

static int set_up_list(struct side *side, bool training)
{
    struct op *ops = training ? side->model->training : side->model->evaluation;
    size_t count = training ? side->model->training_count : side->model->evaluation_count;
    int rc = side->backend->list_setup
                 ? side->backend->list_setup(side->device, ops, count, training)
                 : 0;

    for (size_t i = 0; i < count && !rc; i++)
        if (!(rc = side->backend->op_setup(side->device, &ops[i], training)))
            side->set_up[training]++;
    return rc;
}

static int take_list(struct side *side, bool training)
{
    struct op *ops = training ? side->model->training : side->model->evaluation;
    int rc = 0;

    for (size_t i = 0; i < side->set_up[training] && !rc; i++)
        if (!(rc = take(side, ops[i].packed_bytes, &ops[i].packed)) &&
            !(rc = take(side, ops[i].saved_bytes, &ops[i].saved)))
            rc = take(side, ops[i].workspace_bytes, &ops[i].workspace);
    return rc;
}

static int take_memory(struct side *side)
{
    struct model *m = side->model;
    int rc = 0;

    for (size_t i = 0; i < m->tensor_count && !rc; i++) {
        struct tensor *t = &m->tensors[i];

        rc = take(side, t->bytes, &t->data);
        for (int k = 0; k < t->readers && !rc; k++)
            rc = take(side, t->bytes, &t->gradients[k]);
    }
    if (rc || (rc = take_list(side, true)) || (rc = take_list(side, false)) ||
        (rc = take(side, side->floats * sizeof(float), &side->values)) ||
        (rc = take(side, side->floats * sizeof(float), &side->gradients)))
        return rc;
    return take(side, side->floats * sizeof(float), &side->momenta);
}

static int set_up_sizes(struct side *side)
{
    struct model *m = side->model;
    struct backend_memory memory;
    int rc = 0;

    for (size_t i = 0; i < m->tensor_count && !rc; i++)
        rc = side->backend->tensor_setup(side->device, &m->tensors[i]);
    for (size_t i = 0; i < m->parameter_count && !rc; i++) {
        struct parameter *p = &m->parameters[i];

        rc = side->backend->parameter_setup(side->device, p);
        p->offset = side->floats;
        side->floats += (p->stored + 15) / 16 * 16;
        if (i + 1 == m->trained_count)
            side->trained_floats = side->floats;
    }
    if (rc || (rc = set_up_list(side, true)) || (rc = set_up_list(side, false)))
        return rc;
    return side->backend->reserve
               ? side->backend->reserve(side->device, m->parameters, m->trained_count,
                                        side->trained_floats, 0, true, false, &memory)
               : 0;
}

static int open_side(struct side *side, const char *arch, bool fused)
{
    const struct model_settings wish = {.arch = arch,
                                        .classes = CLASSES,
                                        .batch = PICTURES,
                                        .image_size = SIZE,
                                        .label_smoothing = 0.1F,
                                        .fused = fused};
    int rc = model_open(&side->model, &wish);

    if (rc)
        return rc;
    const struct model *m = side->model;
    size_t most = 3 * (m->tensor_count + m->training_count + m->evaluation_count + 1);
    if (!(side->blocks = mem_array(most, sizeof *side->blocks, "the check of a device")))
        return -ERR_MEMORY;
    return (rc = set_up_sizes(side)) ? rc : take_memory(side);
}

static void close_side(struct side *side)
{
    for (int training = 0; training < 2; training++)
        for (size_t i = 0; i < side->set_up[training]; i++)
            side->backend->op_release(side->device, training ? &side->model->training[i]
                                                             : &side->model->evaluation[i]);
    for (size_t i = 0; i < side->block_count; i++)
        side->backend->release(side->device, side->blocks[i]);
    mem_free(side->blocks);
    model_close(side->model);
}

/* ---- comparing ---- */

/* The two arrays of COUNT numbers, in c->got and c->want. */
static int compare(struct check *c, const char *what, const char *name, size_t count)
{
    double square = 0, error = 0, worst = -1;
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        const double w = c->want[i], difference = fabs(c->got[i] - w);

        square += w * w;
        error += difference * difference;
        if (!(difference <= worst)) { /* a NaN is the worst of all */
            worst = isnan(difference) ? INFINITY : difference;
            at = i;
        }
    }
    const double ratio = error == 0 ? 0 : sqrt(error / square);
    c->out->values += (int64_t)count;
    if (!(ratio <= c->out->worst))
        c->out->worst = ratio;
    if (ratio <= c->limit)
        return 0;
    return err_set(ERR_DEVICE,
                   "%s %s: the %s is not what ref computes: it differs by %.2g of its norm, at "
                   "number %zu of %zu it is %g and not %g",
                   c->pass, name, what, ratio, at, count, (double)c->got[at], (double)c->want[at]);
}

static size_t elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

/* What lies at FROM of the device's T, and at REF of ref's, into c->got and c->want. */
static int fetch(struct check *c, const struct tensor *t, const void *from,
                 const struct tensor *ref_t, const void *ref_from)
{
    int rc = c->device.backend->tensor_get(c->device.device, t, from, c->got);

    return rc ? rc : c->ref.backend->tensor_get(c->ref.device, ref_t, ref_from, c->want);
}

/* Give ref what the device has. */
static int hand_over(struct check *c, const struct tensor *t, const void *from,
                     const struct tensor *ref_t, void *to)
{
    int rc = c->device.backend->tensor_get(c->device.device, t, from, c->got);

    return rc ? rc : c->ref.backend->tensor_set(c->ref.device, ref_t, c->got, to);
}

static int compare_parameter(struct check *c, const char *what, const struct op *op,
                             const struct parameter *p, const float *block, const float *ref_block)
{
    const size_t index = (size_t)(p - c->device.model->parameters);
    int rc = c->device.backend->parameter_get(c->device.device, p, block, c->got);

    if (!rc)
        rc = c->ref.backend->parameter_get(c->ref.device, &c->ref.model->parameters[index],
                                           ref_block, c->want);
    return rc ? rc : compare(c, what, op ? op->name : p->name, p->count);
}

/* ---- walking ---- */

static int forward_op(struct check *c, struct op *op, struct op *ref_op)
{
    int rc = hand_over(c, op->in, op->in->data, ref_op->in, ref_op->in->data);

    if (!rc && op->residual)
        rc = hand_over(c, op->residual, op->residual->data, ref_op->residual,
                       ref_op->residual->data);
    if (rc || (rc = c->device.backend->forward(c->device.device, op, c->device.values)) ||
        (rc = c->ref.backend->forward(c->ref.device, ref_op, c->ref.values)))
        return rc;
    c->out->ops++;
    if (!op->out)
        return 0;
    if ((rc = fetch(c, op->out, op->out->data, ref_op->out, ref_op->out->data)) ||
        (rc = compare(c, "result", op->name, elements(op->out))) ||
        (op->kind != OP_NORM && op->kind != OP_NORM_CONV))
        return rc;
    rc =
        compare_parameter(c, "running mean", op, op->running_mean, c->device.values, c->ref.values);
    return rc ? rc
              : compare_parameter(c, "running variance", op, op->running_var, c->device.values,
                                  c->ref.values);
}

static int compare_loss(struct check *c, const struct op *op, const struct op *ref_op)
{
    struct loss_result got, want;
    int rc = c->device.backend->post(c->device.device, op, 0);

    if (rc || (rc = c->device.backend->result(c->device.device, 0, &got)) ||
        (rc = c->ref.backend->post(c->ref.device, ref_op, 0)) ||
        (rc = c->ref.backend->result(c->ref.device, 0, &want)))
        return rc;
    c->got[0] = (float)got.loss;
    c->want[0] = (float)want.loss;
    if ((rc = compare(c, "loss", op->name, 1)) || (got.top1 == want.top1 && got.top5 == want.top5))
        return rc;
    return err_set(ERR_DEVICE,
                   "%s %s: %lld and %lld pictures are right by the first and the first "
                   "five classes, and by ref %lld and %lld",
                   c->pass, op->name, (long long)got.top1, (long long)got.top5,
                   (long long)want.top1, (long long)want.top5);
}

/* Where several of a window are the largest, any may get the gradient: sums over each plane, in
 * place. */
static void add_planes(const struct tensor *t, float *values)
{
    const size_t area = (size_t)t->h * (size_t)t->w;

    for (size_t plane = 0; plane < (size_t)t->n * (size_t)t->c; plane++) {
        double sum = 0;

        for (size_t i = 0; i < area; i++)
            sum += values[plane * area + i];
        values[plane] = (float)sum;
    }
}

static int compare_gradient(struct check *c, const struct op *op, const struct tensor *t, int slot,
                            const struct tensor *ref_t)
{
    size_t count = elements(t);
    int rc = fetch(c, t, t->gradients[slot], ref_t, ref_t->gradients[slot]);

    if (rc)
        return rc;
    for (size_t i = 0; op->kind == OP_LOSS && i < count; i++)
        c->want[i] *= (float)c->scale;
    if (op->kind == OP_MAX_POOL) {
        add_planes(t, c->got);
        add_planes(t, c->want);
        count = (size_t)t->n * (size_t)t->c;
    }
    return compare(c, t == op->residual ? "gradient of the sum" : "gradient", op->name, count);
}

static int backward_op(struct check *c, struct op *op, struct op *ref_op)
{
    const struct parameter *const trained[4] = {op->weight, op->bias, op->gamma, op->beta};
    int rc = 0;

    for (int k = 0; op->out && k < op->out->readers && !rc; k++)
        rc = hand_over(c, op->out, op->out->gradients[k], ref_op->out, ref_op->out->gradients[k]);
    if (rc ||
        (rc = c->device.backend->backward(c->device.device, op, c->device.values,
                                          c->device.gradients)) ||
        (rc = c->ref.backend->backward(c->ref.device, ref_op, c->ref.values, c->ref.gradients)))
        return rc;
    c->out->ops++;
    if (op->in_slot >= 0)
        rc = compare_gradient(c, op, op->in, op->in_slot, ref_op->in);
    if (!rc && op->residual && op->residual_slot >= 0)
        rc = compare_gradient(c, op, op->residual, op->residual_slot, ref_op->residual);
    for (int i = 0; i < 4 && !rc; i++)
        if (trained[i])
            rc = compare_parameter(c, "gradient of the weights", op, trained[i],
                                   c->device.gradients, c->ref.gradients);
    return rc;
}

static int prepare(struct side *side, bool training)
{
    struct op *ops = training ? side->model->training : side->model->evaluation;
    int rc = 0;

    for (size_t i = 0; i < side->set_up[training] && !rc; i++)
        rc = side->backend->prepare(side->device, &ops[i], side->values);
    return rc;
}

/* One list, from the pictures on. */
static int walk(struct check *c, const struct batch *batch, bool training)
{
    struct op *ops = training ? c->device.model->training : c->device.model->evaluation;
    struct op *ref_ops = training ? c->ref.model->training : c->ref.model->evaluation;
    const size_t count = c->device.set_up[training];
    int rc;

    c->pass = "pictures of";
    if ((rc = prepare(&c->device, training)) || (rc = prepare(&c->ref, training)) ||
        (rc = c->device.backend->feed(c->device.device, batch, ops->in)) ||
        (rc = c->ref.backend->feed(c->ref.device, batch, ref_ops->in)) ||
        (rc = fetch(c, ops->in, ops->in->data, ref_ops->in, ref_ops->in->data)) ||
        (rc = compare(c, "normalised picture", "a batch", elements(ops->in))))
        return rc;
    c->pass = training ? "forward pass of" : "evaluation of";
    for (size_t i = 0; i < count && !rc; i++)
        rc = forward_op(c, &ops[i], &ref_ops[i]);
    if (rc || (rc = compare_loss(c, &ops[count - 1], &ref_ops[count - 1])) || !training)
        return rc;
    c->pass = "backward pass of";
    for (size_t i = count; i-- > 0 && !rc;)
        rc = backward_op(c, &ops[i], &ref_ops[i]);
    return rc;
}

/* ---- update ---- */

static int update(const struct side *side, struct sgd sgd, double scale)
{
    sgd.gradient_scale = scale;
    int rc = side->backend->sgd_set(side->device, &sgd);
    return rc ? rc
              : side->backend->update(side->device, side->model->parameters,
                                      side->model->trained_count, side->values, side->gradients,
                                      side->momenta);
}

/* Two updates by the device's gradients, whose momenta must be ref's and whose steps, too. */
static int check_update(struct check *c, bool first)
{
    const struct sgd sgd = {.lr = 1, .momentum = 0.9, .weight_decay = 1e-3, .first_step = first};
    const struct model *m = c->device.model;
    int rc = 0;

    c->pass = first ? "first update of" : "update of";
    for (size_t i = 0; i < m->trained_count && !rc; i++)
        if (!(rc = c->device.backend->parameter_get(c->device.device, &m->parameters[i],
                                                    c->device.gradients, c->got)))
            rc = c->ref.backend->parameter_set(c->ref.device, &c->ref.model->parameters[i], c->got,
                                               c->ref.gradients);
    if (rc || (rc = update(&c->device, sgd, 1)) || (rc = update(&c->ref, sgd, 1 / c->scale)))
        return rc;
    c->out->ops++;
    for (size_t i = 0; i < m->trained_count && !rc; i++)
        if (!(rc = compare_parameter(c, "momentum", NULL, &m->parameters[i], c->device.momenta,
                                     c->ref.momenta)))
            rc = compare_parameter(c, "new value", NULL, &m->parameters[i], c->device.values,
                                   c->ref.values);
    return rc;
}

/* Twice the same gradients, into the momenta, which nobody needs any more. */
static int check_sums(struct check *c)
{
    const struct model *m = c->device.model;
    int rc = 0;

    c->pass = "sum of the gradients of";
    for (int i = 0; i < 2 && !rc; i++)
        rc = c->device.backend->accumulate(c->device.device, c->device.trained_floats, i == 0,
                                           c->device.gradients, c->device.momenta);
    c->out->ops++;
    for (size_t i = 0; i < m->trained_count && !rc; i++) {
        const struct parameter *p = &m->parameters[i];

        if ((rc = c->device.backend->parameter_get(c->device.device, p, c->device.gradients,
                                                   c->want)) ||
            (rc = c->device.backend->parameter_get(c->device.device, p, c->device.momenta, c->got)))
            return rc;
        for (size_t k = 0; k < p->count; k++)
            c->want[k] *= 2;
        rc = compare(c, "sum", p->name, p->count);
    }
    return rc;
}

/* ---- the whole ---- */

/* VALUE's first 8 bits: a number of every precision. */
static float rounded(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    bits &= 0xFFFF0000;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

/* First values, with normalisations that do more than pass on. */
static int set_values(struct check *c, uint64_t seed)
{
    int rc = 0;

    for (size_t i = 0; i < c->device.model->parameter_count && !rc; i++) {
        const struct parameter *p = &c->device.model->parameters[i];
        struct rng rng;

        rng_init(&rng, seed, RNG_TEST, 0, i);
        model_initialise(c->device.model, p, seed, false, c->got);
        for (size_t k = 0; k < p->count; k++) {
            if (p->role == PARAMETER_GAMMA || p->role == PARAMETER_BETA)
                c->got[k] += (float)rng_double(&rng) - 0.5F;
            c->got[k] = rounded(c->got[k]);
        }
        if (!(rc = c->device.backend->parameter_set(c->device.device, p, c->got, c->device.values)))
            rc = c->ref.backend->parameter_set(c->ref.device, &c->ref.model->parameters[i], c->got,
                                               c->ref.values);
    }
    return rc;
}

static int set_scale(struct check *c)
{
    const struct backend *b = c->device.backend;
    const char *const *names = b->numbers ? b->numbers(c->device.device) : NULL;
    double numbers[8] = {0};

    c->scale = 1;
    for (int i = 0; names && names[i] && i < 8; i++)
        if (!strcmp(names[i], scale_name))
            numbers[i] = c->scale = LOSS_SCALE;
    return names ? b->numbers_set(c->device.device, numbers) : 0;
}

static int attempt(struct check *c, uint64_t seed)
{
    uint8_t pixels[PICTURES * SQUARE];
    uint64_t records[PICTURES] = {0};
    int32_t labels[PICTURES];
    struct rng rng;
    int rc;

    rng_init(&rng, seed, RNG_TEST, 1, 0);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rng_u32(&rng);
    for (int i = 0; i < PICTURES; i++)
        labels[i] = (int32_t)rng_below(&rng, CLASSES);
    const struct batch batch = {
        .rows = PICTURES, .size = SIZE, .pixels = pixels, .labels = labels, .records = records};
    *c->out = (struct device_check){.set_up = true};
    if ((rc = set_values(c, seed)) || (rc = set_scale(c)) || (rc = walk(c, &batch, true)) ||
        (rc = walk(c, &batch, false)) || (rc = check_update(c, true)) ||
        (rc = check_update(c, false)))
        return rc;
    return check_sums(c);
}

static int run(struct check *c, const char *arch, bool fused)
{
    size_t most = 0;
    int rc = open_side(&c->device, arch, fused);

    if (rc || (rc = open_side(&c->ref, arch, fused)))
        return rc;
    const struct model *m = c->device.model;
    for (size_t i = 0; i < m->tensor_count; i++)
        most = elements(&m->tensors[i]) > most ? elements(&m->tensors[i]) : most;
    for (size_t i = 0; i < m->parameter_count; i++)
        most = m->parameters[i].count > most ? m->parameters[i].count : most;
    if (!(c->got = mem_array(most, sizeof *c->got, "the check of a device")) ||
        !(c->want = mem_array(most, sizeof *c->want, "the check of a device")))
        return -ERR_MEMORY;
    rc = -ERR_DEVICE;
    for (uint64_t seed = 1; seed <= ATTEMPTS && rc == -ERR_DEVICE; seed++)
        rc = attempt(c, seed);
    return rc;
}

int device_check(const struct backend *backend, struct device *device, enum precision precision,
                 const char *arch, bool fused, struct device_check *out)
{
    const struct device_settings plain = {.threads = 1, .precision = PRECISION_F32};
    struct check c = {
        .device = {.backend = backend, .device = device},
        .ref = {.backend = &backend_ref                 },
        .limit = limits[precision],
        .out = out
    };
    int rc = backend_ref.open(&c.ref.device, &plain);

    *out = (struct device_check){.set_up = false};
    if (!rc)
        rc = run(&c, arch, fused);
    close_side(&c.device);
    close_side(&c.ref);
    backend_ref.close(c.ref.device);
    mem_free(c.got);
    mem_free(c.want);
    return rc;
}
