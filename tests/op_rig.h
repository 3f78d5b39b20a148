/*
 * op_rig.h - one op on one backend, set up by hand as net would do it: memory with guard zones
 * round every buffer, poison (bytes 0xFF, a NaN in every type) in whatever a call must write or
 * must not read, host values in, host values out. Used by test_ops.c; memory of the device must be
 * readable by the host.
 */
#ifndef TESTS_OP_RIG_H
#define TESTS_OP_RIG_H

#include "common/mem.h"
#include "common/rng.h"
#include "tests/test.h"
#include "train/backend.h"

/* ---- the devices under test ---- */

/* TOLERANCE: the largest |difference| / largest |value|, and the norm of the difference / norm of
 * the values. */
static const struct rig_device {
    const char *name;
    struct device_settings settings;
    double largest, norm;
    int channels; /* cases whose channels are no multiple of it are passed over; 0: none */
} rig_devices[] = {
#ifdef RIG_ROWS
    RIG_ROWS
#else
    {"ref", {.threads = 1}, 0, 0, 0},
    {"ref", {.threads = 1, .precision = PRECISION_BF16}, 1.2e-2, 5e-3, 0},
    {"ref", {.threads = 1, .precision = PRECISION_FP16}, 2e-3, 1e-3, 0},
    {"cpu", {.threads = 2}, 5e-5, 3e-5, 0},
    {"cpu", {.threads = 1}, 5e-5, 3e-5, 0},
    {"cpu", {.threads = 2, .precision = PRECISION_BF16}, 1.2e-2, 5e-3, 0},
#endif
};
enum { RIG_DEVICES = sizeof rig_devices / sizeof *rig_devices };

/* The backend of a row and its open device, or NULL; the first time it is said which, or why not.
 */
static inline const struct backend *rig_open_device(const struct rig_device *row,
                                                    struct device **out)
{
    static bool said[RIG_DEVICES];
    const struct backend *backend = backend_find(row->name);
    bool open = backend && backend->open(out, &row->settings) == 0;

    if (!said[row - rig_devices])
        printf("device %s, %d threads, %s: %s%s\n", row->name, row->settings.threads,
               precision_names[row->settings.precision],
               open ? "" : "left out: ", open ? backend->describe(*out) : err_text());
    said[row - rig_devices] = true;
    return open ? backend : NULL;
}

/* What is computed, and how net would have wired it. */
struct op_case {
    enum op_kind kind;
    int n, c, h, w; /* of the input */
    int out_c;      /* convolution, linear */
    int kernel, stride, padding;
    bool relu, residual;
    bool sums;   /* as in a fused list: the sums of in's channels lie with it */
    int readers; /* of out: how many gradients come in; 0 counts as 1 */
    int in_slot; /* where in's gradient goes: 0, 1 (in has another reader then) or -1 */
    bool evaluation;
    float smoothing;
    int rows; /* of a loss: pictures that count; 0 = all */
};

/* Has the device ops of fused lists, where the case is one, and does it take such channels? */
static inline bool rig_takes(const struct rig_device *row, const struct backend *backend,
                             const struct device *device, const struct op_case *c)
{
    bool pictures = c->kind == OP_CONV && c->c == 3, logits = c->kind == OP_LINEAR;

    if (c->sums && backend != &backend_ref && !(backend->fuses && backend->fuses(device)))
        return false;
    return !row->channels || c->kind == OP_LOSS ||
           ((pictures || c->c % row->channels == 0) && (logits || c->out_c % row->channels == 0));
}

enum rig_input {
    RIG_IN,
    RIG_RESIDUAL,
    RIG_WEIGHT, /* the parameters, in the order of rig_parameters() */
    RIG_BIAS,
    RIG_GAMMA,
    RIG_BETA,
    RIG_RUNNING_MEAN,
    RIG_RUNNING_VAR,
    RIG_GRADIENT, /* of out, from the first and second reader */
    RIG_GRADIENT_2,
    RIG_INPUTS
};
enum { RIG_PARAMETERS = 6 };

enum rig_output {
    RIG_OUT,
    RIG_IN_GRADIENT,
    RIG_RESIDUAL_GRADIENT,
    RIG_WEIGHT_GRADIENT,
    RIG_BIAS_GRADIENT,
    RIG_GAMMA_GRADIENT,
    RIG_BETA_GRADIENT,
    RIG_NEW_MEAN,
    RIG_NEW_VAR,
    RIG_LOSS,
    RIG_OUTPUTS
};
static const char *const rig_output_names[RIG_OUTPUTS] = {
    "out",
    "gradient of in",
    "gradient of residual",
    "gradient of weight",
    "gradient of bias",
    "gradient of gamma",
    "gradient of beta",
    "running mean",
    "running variance",
    "loss",
};

struct rig_array {
    float *values; /* NULL: the case has none */
    size_t count;
};

struct rig_data {
    struct rig_array inputs[RIG_INPUTS];
    int32_t *labels;
};

struct rig_results {
    struct rig_array outputs[RIG_OUTPUTS];
    struct loss_result loss;
};

struct rig_block {
    unsigned char *base; /* guard, bytes, guard */
    size_t bytes;
};

/* Fresh memory, guard zones and gaps are full of one byte (-1.7e38 as a float), poison of another
 * (a NaN): a NaN that was read and written beyond the end shows, too. */
enum { RIG_GUARD = 1024, RIG_BLOCKS = 16, RIG_FRESH = 0xFE, RIG_POISON = 0xFF, RIG_GAP = 32 };

struct rig {
    const struct backend *backend;
    struct device *device;
    const struct op_case *c;
    struct tensor pictures, in, residual, out;
    struct parameter parameters[RIG_PARAMETERS];
    struct op op;
    size_t floats; /* of a flat block */
    float *values, *gradients;
    struct rig_block blocks[RIG_BLOCKS];
    int block_count;
};

/* ---- memory ---- */

static inline void *rig_alloc(struct rig *r, size_t bytes)
{
    void *base = NULL;

    if (r->backend->alloc(r->device, bytes + 2 * RIG_GUARD, &base)) {
        printf("%s: %s\n", r->backend->name, err_text());
        exit(1);
    }
    CHECK((uintptr_t)base % 64 == 0);
    for (size_t i = 0; i < bytes; i += 97)
        CHECK(((unsigned char *)base)[i] == 0);
    memset(base, RIG_FRESH, bytes + 2 * RIG_GUARD);
    r->blocks[r->block_count++] = (struct rig_block){base, bytes};
    return (unsigned char *)base + RIG_GUARD;
}

static inline void rig_check_guards(const struct rig *r, const char *after)
{
    for (int b = 0; b < r->block_count; b++)
        for (size_t i = 0; i < 2 * RIG_GUARD; i++) {
            size_t at = i < RIG_GUARD ? i : r->blocks[b].bytes + i;

            if (r->blocks[b].base[at] == RIG_FRESH)
                continue;
            printf("%s: %s wrote beyond its memory: block %d of %zu bytes, at %td\n",
                   r->backend->name, after, b, r->blocks[b].bytes, (ptrdiff_t)at - RIG_GUARD);
            test_failures++;
            break;
        }
}

static inline void rig_poison(void *memory, size_t bytes)
{
    if (memory)
        memset(memory, RIG_POISON, bytes);
}

/* Is every byte as rig_alloc left it? */
static inline bool rig_untouched(const void *memory, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (((const unsigned char *)memory)[i] != RIG_FRESH)
            return false;
    return true;
}

static inline void rig_must(const struct rig *r, int rc, const char *what)
{
    if (!rc)
        return;
    printf("%s: %s of %s: %s\n", r->backend->name, what, r->c ? op_kind_names[r->c->kind] : "no op",
           err_text());
    exit(1);
}

/* ---- building an op ---- */

static inline struct parameter **rig_parameter(struct op *op, int i)
{
    struct parameter **all[RIG_PARAMETERS] = {&op->weight, &op->bias,         &op->gamma,
                                              &op->beta,   &op->running_mean, &op->running_var};
    return all[i];
}

static inline void rig_add_parameter(struct rig *r, int i, enum parameter_role role, int rank,
                                     const int64_t *shape)
{
    struct parameter *p = &r->parameters[i];

    p->role = role;
    p->rank = rank;
    p->count = 1;
    for (int k = 0; k < rank; k++) {
        p->shape[k] = shape[k];
        p->count *= (size_t)shape[k];
    }
    snprintf(p->name, sizeof p->name, "parameter%d", i);
    *rig_parameter(&r->op, i) = p;
}

static inline void rig_add_parameters(struct rig *r)
{
    const struct op_case *c = r->c;
    bool conv = c->kind == OP_CONV || c->kind == OP_CONV_NORM || c->kind == OP_NORM_CONV;
    bool norm = c->kind == OP_NORM || c->kind == OP_CONV_NORM || c->kind == OP_NORM_CONV;
    int64_t width = c->kind == OP_CONV_NORM ? c->out_c : c->c;

    if (conv)
        rig_add_parameter(r, 0, PARAMETER_CONV, 4,
                          (int64_t[]){c->out_c, c->c, c->kernel, c->kernel});
    if (c->kind == OP_LINEAR) {
        rig_add_parameter(r, 0, PARAMETER_LINEAR, 2, (int64_t[]){c->out_c, c->c});
        rig_add_parameter(r, 1, PARAMETER_BIAS, 1, (int64_t[]){c->out_c});
    }
    if (norm)
        for (int i = 2; i < RIG_PARAMETERS; i++)
            rig_add_parameter(r, i, PARAMETER_GAMMA + (enum parameter_role)(i - 2), 1, &width);
}

static inline struct tensor rig_tensor(enum tensor_role role, int n, int c, int h, int w)
{
    return (struct tensor){.role = role, .n = n, .c = c, .h = h, .w = w, .readers = 1};
}

/* Shapes and wiring only. */
static inline void rig_describe(struct rig *r, const struct op_case *c)
{
    bool window = c->kind == OP_CONV || c->kind == OP_CONV_NORM || c->kind == OP_NORM_CONV ||
                  c->kind == OP_MAX_POOL;
    int out_c = c->out_c ? c->out_c : c->c, out_h = c->h, out_w = c->w;

    r->c = c;
    if (window) {
        out_h = (c->h + 2 * c->padding - c->kernel) / c->stride + 1;
        out_w = (c->w + 2 * c->padding - c->kernel) / c->stride + 1;
    } else if (c->kind == OP_MEAN_POOL) {
        out_h = out_w = 1;
    }
    r->pictures = rig_tensor(TENSOR_PICTURES, c->n, 3, 8, 8);
    /* Three channels: the first convolution. */
    enum tensor_role in_role = c->kind == OP_LOSS                ? TENSOR_LOGITS
                               : c->kind == OP_CONV && c->c == 3 ? TENSOR_PICTURES
                                                                 : TENSOR_ACTIVATION;
    r->in = rig_tensor(in_role, c->n, c->c, c->h, c->w);
    r->in.readers = c->in_slot == 1 ? 2 : 1;
    r->in.sums = c->sums;
    r->out = rig_tensor(c->kind == OP_LINEAR ? TENSOR_LOGITS : TENSOR_ACTIVATION, c->n, out_c,
                        out_h, out_w);
    r->out.readers = c->readers ? c->readers : 1;
    r->residual = r->out;
    r->residual.readers = 2;
    r->op = (struct op){.kind = c->kind,
                        .in = &r->in,
                        .residual = c->residual ? &r->residual : NULL,
                        .out = c->kind == OP_LOSS ? NULL : &r->out,
                        .kernel = c->kernel,
                        .stride = c->stride,
                        .padding = c->padding,
                        .relu = c->relu,
                        .epsilon = 1e-5F,
                        .momentum = 0.1F,
                        .label_smoothing = c->smoothing,
                        .in_slot = c->in_slot,
                        .residual_slot = c->residual ? 1 : -1};
    snprintf(r->op.name, sizeof r->op.name, "case");
    rig_add_parameters(r);
}

/* Flat blocks as net lays them, but with gaps between parameters. */
static inline void rig_place_parameters(struct rig *r)
{
    r->floats = RIG_GAP;
    for (int i = 0; i < RIG_PARAMETERS; i++) {
        struct parameter *p = &r->parameters[i];

        if (!p->count)
            continue;
        rig_must(r, r->backend->parameter_setup(r->device, p), "parameter_setup");
        CHECK(p->stored >= p->count);
        p->offset = r->floats;
        r->floats += (p->stored + RIG_GAP + 15) / 16 * 16;
    }
}

/* What the device takes for itself; for updates of TRAINED, unless NULL. A loss scale is 1. */
static inline void rig_reserve(struct rig *r, const struct parameter *trained)
{
    const struct backend *b = r->backend;
    struct backend_memory own;

    if (b->reserve)
        rig_must(
            r, b->reserve(r->device, trained, trained ? 1 : 0, r->floats, 0, trained, false, &own),
            "reserve");
    if (trained && b->numbers && b->numbers(r->device))
        rig_must(r, b->numbers_set(r->device, (const double[3]){1, 0, 0}), "numbers_set");
}

static inline void rig_open(struct rig *r, const struct backend *backend, struct device *device,
                            const struct op_case *c)
{
    *r = (struct rig){.backend = backend, .device = device};
    rig_describe(r, c);
    struct tensor *tensors[] = {&r->pictures, &r->in, &r->residual, &r->out};
    for (size_t i = 0; i < 4; i++)
        rig_must(r, backend->tensor_setup(device, tensors[i]), "tensor_setup");
    rig_place_parameters(r);
    rig_must(r, backend->op_setup(device, &r->op, !c->evaluation), "op_setup");
    rig_reserve(r, NULL);
    for (size_t i = 0; i < 4; i++) {
        tensors[i]->data = rig_alloc(r, tensors[i]->bytes);
        if (i == 0 || c->evaluation)
            continue;
        for (int slot = 0; slot < tensors[i]->readers; slot++)
            tensors[i]->gradients[slot] = rig_alloc(r, tensors[i]->bytes);
    }
    r->values = rig_alloc(r, r->floats * sizeof(float));
    r->gradients = rig_alloc(r, r->floats * sizeof(float));
    r->op.packed = rig_alloc(r, r->op.packed_bytes);
    r->op.saved = rig_alloc(r, r->op.saved_bytes);
    r->op.workspace = rig_alloc(r, r->op.workspace_bytes);
}

static inline void rig_close(struct rig *r)
{
    r->backend->op_release(r->device, &r->op);
    for (int b = 0; b < r->block_count; b++)
        r->backend->release(r->device, r->blocks[b].base);
}

/* ---- values ---- */

static inline size_t rig_elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

/* A number in [-1, 1) that bf16 holds exactly, so that every precision starts from the same values.
 */
static inline float rig_number(struct rng *rng)
{
    float value = (float)(rng_double(rng) * 2 - 1);
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    bits &= 0xFFFF0000U;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

static inline float rig_round(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    bits &= 0xFFFF0000U;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

static inline void rig_fill(struct rig_array *a, size_t count, struct rng *rng)
{
    a->values = malloc((count ? count : 1) * sizeof *a->values);
    a->count = count;
    for (size_t i = 0; i < count; i++)
        a->values[i] = rig_number(rng);
}

/* Random values for every input that the case has. Normalised channels get means away from 0;
 * variances are positive. Where the normalisation is computed in 16 bits (sums), no normalised
 * value is near 0, where a ReLU would fall one way or the other. */
static inline void rig_data_open(struct rig_data *data, const struct op_case *c, uint64_t seed)
{
    struct rig shapes = {0};
    struct rng rng;

    *data = (struct rig_data){0};
    rng_init(&rng, seed, RNG_TEST, 0, 0);
    rig_describe(&shapes, c);
    rig_fill(&data->inputs[RIG_IN], rig_elements(&shapes.in), &rng);
    if (c->residual)
        rig_fill(&data->inputs[RIG_RESIDUAL], rig_elements(&shapes.residual), &rng);
    for (int i = 0; i < RIG_PARAMETERS; i++)
        if (shapes.parameters[i].count)
            rig_fill(&data->inputs[RIG_WEIGHT + i], shapes.parameters[i].count, &rng);
    for (int i = 0; i < shapes.out.readers && c->kind != OP_LOSS && !c->evaluation; i++)
        rig_fill(&data->inputs[RIG_GRADIENT + i], rig_elements(&shapes.out), &rng);
    for (size_t i = 0; i < data->inputs[RIG_RUNNING_VAR].count; i++)
        data->inputs[RIG_RUNNING_VAR].values[i] += 1.5F;
    bool norm = c->kind == OP_NORM || c->kind == OP_NORM_CONV;
    for (size_t i = 0; norm && i < data->inputs[RIG_IN].count; i++) {
        int channel = (int)(i / (size_t)(c->h * c->w)) % c->c;
        float *value = &data->inputs[RIG_IN].values[i];

        if (c->sums)
            *value = *value / 2 + (*value < 0 ? -0.5F : 0.5F);
        *value = rig_round(*value + (float)(channel % 5 - 2));
    }
    for (size_t i = 0; c->sums && i < data->inputs[RIG_BETA].count; i++)
        data->inputs[RIG_BETA].values[i] =
            rig_round(data->inputs[RIG_BETA].values[i] / 4 * data->inputs[RIG_GAMMA].values[i]);
    data->labels = calloc((size_t)c->n, sizeof *data->labels);
    for (int i = 0; c->kind == OP_LOSS && i < c->n; i++)
        data->labels[i] = (int32_t)rng_below(&rng, (uint64_t)c->c);
}

static inline void rig_data_close(struct rig_data *data)
{
    for (int i = 0; i < RIG_INPUTS; i++)
        free(data->inputs[i].values);
    free(data->labels);
}

static inline void rig_results_close(struct rig_results *results)
{
    for (int i = 0; i < RIG_OUTPUTS; i++)
        free(results->outputs[i].values);
}

/* ---- one run ---- */

static inline void rig_set_inputs(struct rig *r, const struct rig_data *data)
{
    const struct backend *b = r->backend;

    rig_must(r, b->tensor_set(r->device, &r->in, data->inputs[RIG_IN].values, r->in.data),
             "tensor_set");
    if (r->op.residual)
        rig_must(r,
                 b->tensor_set(r->device, &r->residual, data->inputs[RIG_RESIDUAL].values,
                               r->residual.data),
                 "tensor_set");
    for (int i = 0; i < RIG_PARAMETERS; i++)
        if (data->inputs[RIG_WEIGHT + i].count)
            rig_must(r,
                     b->parameter_set(r->device, &r->parameters[i],
                                      data->inputs[RIG_WEIGHT + i].values, r->values),
                     "parameter_set");
    rig_check_guards(r, "tensor_set or parameter_set");
}

/* The batch that OP_LOSS measures against: gray pictures and DATA's labels. */
static inline void rig_feed(struct rig *r, const struct rig_data *data)
{
    size_t bytes = (size_t)r->c->n * 8 * 8 * 3;
    uint8_t *gray = malloc(bytes);
    uint64_t *records = calloc((size_t)r->c->n, sizeof *records);
    struct batch batch = {.rows = r->c->rows ? r->c->rows : r->c->n,
                          .size = 8,
                          .pixels = gray,
                          .labels = data->labels,
                          .records = records};

    memset(gray, 128, bytes);
    rig_must(r, r->backend->feed(r->device, &batch, &r->pictures), "feed");
    rig_must(r, r->backend->sync(r->device), "sync");
    rig_check_guards(r, "feed");
    free(gray);
    free(records);
}

static inline void rig_get_tensor(struct rig *r, enum rig_output which, const struct tensor *t,
                                  const void *memory, struct rig_results *out)
{
    struct rig_array *a = &out->outputs[which];

    a->count = rig_elements(t);
    a->values = malloc(a->count * sizeof *a->values);
    rig_must(r, r->backend->tensor_get(r->device, t, memory, a->values), "tensor_get");
}

static inline void rig_get_parameter(struct rig *r, enum rig_output which, int i,
                                     const float *block, struct rig_results *out)
{
    struct rig_array *a = &out->outputs[which];

    if (!r->parameters[i].count)
        return;
    a->count = r->parameters[i].count;
    a->values = malloc(a->count * sizeof *a->values);
    rig_must(r, r->backend->parameter_get(r->device, &r->parameters[i], block, a->values),
             "parameter_get");
}

/* The gaps of a flat block are untouched. */
static inline void rig_check_gaps(const struct rig *r, const float *block, const char *after)
{
    size_t at = 0;

    for (int i = 0; i <= RIG_PARAMETERS; i++) {
        const struct parameter *p = i < RIG_PARAMETERS ? &r->parameters[i] : NULL;

        if (p && !p->count)
            continue;
        size_t end = p ? p->offset : r->floats;
        if (!rig_untouched(block + at, (end - at) * sizeof *block)) {
            printf("%s: %s wrote between parameters, before float %zu\n", r->backend->name, after,
                   end);
            test_failures++;
        }
        at = p ? p->offset + p->stored : end;
    }
}

static inline void rig_forward(struct rig *r, struct rig_results *out)
{
    const struct backend *b = r->backend;

    rig_must(r, b->prepare(r->device, &r->op, r->values), "prepare");
    rig_must(r, b->sync(r->device), "sync");
    rig_check_guards(r, "prepare");
    rig_poison(r->op.workspace, r->op.workspace_bytes);
    rig_must(r, b->forward(r->device, &r->op, r->values), "forward");
    rig_must(r, b->sync(r->device), "sync");
    rig_check_guards(r, "forward");
    rig_check_gaps(r, r->values, "forward");
    if (r->op.out)
        rig_get_tensor(r, RIG_OUT, &r->out, r->out.data, out);
    if (r->c->kind == OP_NORM || r->c->kind == OP_NORM_CONV) {
        rig_get_parameter(r, RIG_NEW_MEAN, RIG_RUNNING_MEAN - RIG_WEIGHT, r->values, out);
        rig_get_parameter(r, RIG_NEW_VAR, RIG_RUNNING_VAR - RIG_WEIGHT, r->values, out);
    }
    if (r->c->kind == OP_LOSS) {
        rig_must(r, b->post(r->device, &r->op, 1), "post");
        rig_must(r, b->result(r->device, 1, &out->loss), "result");
        out->outputs[RIG_LOSS].values = malloc(sizeof(float));
        out->outputs[RIG_LOSS].values[0] = (float)out->loss.loss;
        out->outputs[RIG_LOSS].count = 1;
    }
}

/* What the op said backward would not read is poisoned before it. */
static inline void rig_backward(struct rig *r, const struct rig_data *data, struct rig_results *out)
{
    const struct backend *b = r->backend;

    for (int i = 0; i < r->out.readers && r->op.out; i++)
        rig_must(r,
                 b->tensor_set(r->device, &r->out, data->inputs[RIG_GRADIENT + i].values,
                               r->out.gradients[i]),
                 "tensor_set");
    if (!r->op.backward_reads_in)
        rig_poison(r->in.data, r->in.bytes);
    if (!r->op.backward_reads_out)
        rig_poison(r->out.data, r->out.bytes);
    rig_poison(r->residual.data, r->residual.bytes);
    rig_poison(r->op.workspace, r->op.workspace_bytes);
    rig_must(r, b->backward(r->device, &r->op, r->values, r->gradients), "backward");
    rig_must(r, b->sync(r->device), "sync");
    rig_check_guards(r, "backward");
    rig_check_gaps(r, r->gradients, "backward");
    for (int slot = 0; slot < r->in.readers; slot++)
        if (slot == r->c->in_slot)
            rig_get_tensor(r, RIG_IN_GRADIENT, &r->in, r->in.gradients[slot], out);
        else
            CHECK(rig_untouched(r->in.gradients[slot], r->in.bytes));
    if (r->op.residual) {
        rig_get_tensor(r, RIG_RESIDUAL_GRADIENT, &r->residual, r->residual.gradients[1], out);
        CHECK(rig_untouched(r->residual.gradients[0], r->residual.bytes));
    }
    for (int i = 0; i < 4; i++)
        rig_get_parameter(r, RIG_WEIGHT_GRADIENT + (enum rig_output)i, i, r->gradients, out);
}

/* Forward, and backward where the case trains, on fresh memory. *OUT: rig_results_close it. */
static inline void rig_run(const struct backend *backend, struct device *device,
                           const struct op_case *c, const struct rig_data *data,
                           struct rig_results *out)
{
    struct rig rig;

    *out = (struct rig_results){0};
    rig_open(&rig, backend, device, c);
    rig_set_inputs(&rig, data);
    if (c->kind == OP_LOSS)
        rig_feed(&rig, data);
    uint64_t allocations = mem_allocations();
    rig_forward(&rig, out);
    if (!c->evaluation)
        rig_backward(&rig, data, out);
    if (!strstr(backend->describe(device), "simulated")) /* that allocates for what it queues */
        CHECK_INT(mem_allocations() - allocations, 0);
    rig_close(&rig);
}

#endif
