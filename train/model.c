#include "train/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/work.h"

const char *const op_kind_names[OP_KINDS] = {
    [OP_CONV] = "convolution",
    [OP_NORM] = "normalisation",
    [OP_CONV_NORM] = "convolution+normalisation",
    [OP_MAX_POOL] = "max pooling",
    [OP_MEAN_POOL] = "mean pooling",
    [OP_LINEAR] = "linear",
    [OP_NORM_CONV] = "normalisation+convolution",
    [OP_LOSS] = "loss",
};

/* Channels of the first layer; each further one has twice as many. The tests of crashes build train
 * with few, so that thousands of runs take no time. */
#ifndef MODEL_WIDTH
#define MODEL_WIDTH 64
#endif

/* A basic block is two 3x3 convolutions; a bottleneck 1x1, 3x3, 1x1 with four times the channels at
 * its end. */
struct arch {
    const char *name;
    bool bottleneck;
    int blocks[4]; /* of the four layers */
};

static const struct arch archs[] = {
    {"resnet18",  false, {2, 2, 2, 2} },
    {"resnet34",  false, {3, 4, 6, 3} },
    {"resnet50",  true,  {3, 4, 6, 3} },
    {"resnet101", true,  {3, 4, 23, 3}},
    {"resnet152", true,  {3, 8, 36, 3}},
};
enum { ARCHS = sizeof archs / sizeof *archs };

const char *const model_archs[] = {"resnet18",  "resnet34",  "resnet50",
                                   "resnet101", "resnet152", NULL};

static const struct arch *find_arch(const char *name)
{
    for (int i = 0; i < ARCHS; i++)
        if (strcmp(archs[i].name, name) == 0)
            return &archs[i];
    return NULL;
}

/* ---- building ---- */

/* A convolution and the normalisation behind it. */
struct unit {
    char conv[MODEL_NAME_SIZE], norm[MODEL_NAME_SIZE];
    int in_c, out_c, kernel, stride;
    struct parameter *weight, *gamma, *beta, *running_mean, *running_var;
};

/* One place in the network as the tensor of either list. */
struct place {
    struct tensor *training, *evaluation;
    const struct unit *due; /* fused: this one's normalisation and a ReLU come with whoever reads
                               the training list's */
};

struct builder {
    struct model *model;
    const struct arch *arch;
    size_t statistic_count; /* made so far; they stand behind the trained ones */
    size_t trained_limit;   /* where they begin */
};

static struct parameter *add_parameter(struct builder *b, const char *module, const char *leaf,
                                       enum parameter_role role, int rank, const int64_t *shape)
{
    struct model *m = b->model;
    bool trained = role != PARAMETER_RUNNING_MEAN && role != PARAMETER_RUNNING_VAR;
    size_t at = trained ? m->trained_count++ : b->trained_limit + b->statistic_count++;
    struct parameter *p = &m->parameters[at];

    snprintf(p->name, sizeof p->name, "%s.%s", module, leaf);
    p->role = role;
    p->rank = rank;
    p->count = 1;
    for (int i = 0; i < rank; i++) {
        p->shape[i] = shape[i];
        p->count *= (size_t)shape[i];
    }
    return p;
}

/* PREFIX "" or "layer1.0."; CONV "conv1", NORM "bn1". */
static struct unit add_unit(struct builder *b, const char *prefix, const char *conv,
                            const char *norm, int in_c, int out_c, int kernel, int stride)
{
    struct unit u = {.in_c = in_c, .out_c = out_c, .kernel = kernel, .stride = stride};
    const int64_t channels = out_c;

    snprintf(u.conv, sizeof u.conv, "%s%s", prefix, conv);
    snprintf(u.norm, sizeof u.norm, "%s%s", prefix, norm);
    u.weight = add_parameter(b, u.conv, "weight", PARAMETER_CONV, 4,
                             (int64_t[]){out_c, in_c, kernel, kernel});
    u.gamma = add_parameter(b, u.norm, "weight", PARAMETER_GAMMA, 1, &channels);
    u.beta = add_parameter(b, u.norm, "bias", PARAMETER_BETA, 1, &channels);
    u.running_mean = add_parameter(b, u.norm, "running_mean", PARAMETER_RUNNING_MEAN, 1, &channels);
    u.running_var = add_parameter(b, u.norm, "running_var", PARAMETER_RUNNING_VAR, 1, &channels);
    return u;
}

static struct tensor *add_tensor(struct builder *b, enum tensor_role role, int c, int h, int w)
{
    struct tensor *t = &b->model->tensors[b->model->tensor_count++];

    *t = (struct tensor){.role = role, .n = b->model->settings.batch, .c = c, .h = h, .w = w};
    return t;
}

/* One more reader of T in the training list: the slot for its gradient. */
static int add_reader(struct tensor *t)
{
    int slot = t->readers++;

    return t->role == TENSOR_PICTURES ? -1 : slot;
}

static struct op *add_op(struct op *list, size_t *count, enum op_kind kind, const char *name,
                         struct tensor *in, struct tensor *out)
{
    struct op *op = &list[(*count)++];

    *op = (struct op){.kind = kind, .in = in, .out = out, .in_slot = -1, .residual_slot = -1};
    snprintf(op->name, sizeof op->name, "%s", name);
    return op;
}

static struct op *add_training(struct builder *b, enum op_kind kind, const char *name,
                               struct tensor *in, struct tensor *out)
{
    struct op *op = add_op(b->model->training, &b->model->training_count, kind, name, in, out);

    op->in_slot = add_reader(in);
    return op;
}

static struct op *add_evaluation(struct builder *b, enum op_kind kind, const char *name,
                                 struct tensor *in, struct tensor *out)
{
    return add_op(b->model->evaluation, &b->model->evaluation_count, kind, name, in, out);
}

static void set_norm(struct op *op, const struct unit *u, struct tensor *residual, bool relu)
{
    op->gamma = u->gamma;
    op->beta = u->beta;
    op->running_mean = u->running_mean;
    op->running_var = u->running_var;
    op->residual = residual;
    op->relu = relu;
    op->epsilon = 1e-5F;
    op->momentum = 0.1F;
}

static void set_window(struct op *op, int kernel, int stride)
{
    op->kernel = kernel;
    op->stride = stride;
    op->padding = kernel / 2;
}

/* U's normalisation of the training list. */
static void run_norm(struct builder *b, const struct unit *u, struct tensor *in, struct tensor *out,
                     struct tensor *residual, bool relu)
{
    struct op *norm = add_training(b, OP_NORM, u->norm, in, out);

    set_norm(norm, u, residual, relu);
    if (residual)
        norm->residual_slot = add_reader(residual);
}

/* Convolution, normalisation, then RESIDUAL (may be NULL) and ReLU, in both lists. INNER: only the
 * next unit's convolution reads it. */
static struct place run_unit(struct builder *b, const struct unit *u, struct place in,
                             const struct place *residual, bool relu, bool inner)
{
    const struct tensor *t = in.training;
    int h = (t->h + 2 * (u->kernel / 2) - u->kernel) / u->stride + 1;
    int w = (t->w + 2 * (u->kernel / 2) - u->kernel) / u->stride + 1;
    bool fused = b->model->settings.fused, later = fused && inner;
    struct tensor *middle = add_tensor(b, TENSOR_ACTIVATION, u->out_c, h, w);
    struct place out = {later ? middle : add_tensor(b, TENSOR_ACTIVATION, u->out_c, h, w),
                        add_tensor(b, TENSOR_ACTIVATION, u->out_c, h, w), later ? u : NULL};
    struct op *conv =
        add_training(b, in.due ? OP_NORM_CONV : OP_CONV, u->conv, in.training, middle);
    struct op *both = add_evaluation(b, OP_CONV_NORM, u->conv, in.evaluation, out.evaluation);

    middle->sums = fused;
    conv->weight = both->weight = u->weight;
    set_window(conv, u->kernel, u->stride);
    set_window(both, u->kernel, u->stride);
    if (in.due)
        set_norm(conv, in.due, NULL, false);
    if (!later)
        run_norm(b, u, middle, out.training, residual ? residual->training : NULL, relu);
    set_norm(both, u, residual ? residual->evaluation : NULL, relu);
    return out;
}

/* Block NUMBER of layer LAYER (from 1): parameters in torchvision's order, ops in the order of the
 * forward pass. */
static struct place add_block(struct builder *b, int layer, int number, struct place in)
{
    bool bottleneck = b->arch->bottleneck;
    int width = MODEL_WIDTH << (layer - 1), out_c = bottleneck ? 4 * width : width;
    int in_c = in.training->c, stride = layer > 1 && number == 0 ? 2 : 1, count = 0;
    bool resized = in_c != out_c || stride != 1;
    char prefix[MODEL_NAME_SIZE];
    struct unit units[3], downsample;
    struct place x = in, residual = in;

    snprintf(prefix, sizeof prefix, "layer%d.%d.", layer, number);
    if (bottleneck)
        units[count++] = add_unit(b, prefix, "conv1", "bn1", in_c, width, 1, 1);
    else
        units[count++] = add_unit(b, prefix, "conv1", "bn1", in_c, width, 3, stride);
    units[count++] = add_unit(b, prefix, "conv2", "bn2", width, width, 3, bottleneck ? stride : 1);
    if (bottleneck)
        units[count++] = add_unit(b, prefix, "conv3", "bn3", width, out_c, 1, 1);
    if (resized)
        downsample = add_unit(b, prefix, "downsample.0", "downsample.1", in_c, out_c, 1, stride);
    for (int i = 0; i < count - 1; i++)
        x = run_unit(b, &units[i], x, NULL, true, true);
    if (resized)
        residual = run_unit(b, &downsample, in, NULL, false, false);
    return run_unit(b, &units[count - 1], x, &residual, true, false);
}

static struct place add_max_pool(struct builder *b, struct place in)
{
    int h = (in.training->h - 1) / 2 + 1, w = (in.training->w - 1) / 2 + 1, c = in.training->c;
    struct place out = {add_tensor(b, TENSOR_ACTIVATION, c, h, w),
                        add_tensor(b, TENSOR_ACTIVATION, c, h, w), NULL};

    set_window(add_training(b, OP_MAX_POOL, "maxpool", in.training, out.training), 3, 2);
    set_window(add_evaluation(b, OP_MAX_POOL, "maxpool", in.evaluation, out.evaluation), 3, 2);
    return out;
}

/* Mean over the picture, linear layer, loss. */
static void add_head(struct builder *b, struct place in)
{
    const struct model_settings *s = &b->model->settings;
    int64_t classes = s->classes, c = in.training->c;
    struct parameter *weight =
        add_parameter(b, "fc", "weight", PARAMETER_LINEAR, 2, (int64_t[]){classes, c});
    struct parameter *bias = add_parameter(b, "fc", "bias", PARAMETER_BIAS, 1, &classes);

    for (int training = 1; training >= 0; training--) {
        struct op *(*add)(struct builder *, enum op_kind, const char *, struct tensor *,
                          struct tensor *) = training ? add_training : add_evaluation;
        struct tensor *x = training ? in.training : in.evaluation;
        struct tensor *mean = add_tensor(b, TENSOR_ACTIVATION, (int)c, 1, 1);
        struct tensor *logits = add_tensor(b, TENSOR_LOGITS, s->classes, 1, 1);

        add(b, OP_MEAN_POOL, "avgpool", x, mean);
        struct op *linear = add(b, OP_LINEAR, "fc", mean, logits);
        linear->weight = weight;
        linear->bias = bias;
        add(b, OP_LOSS, "loss", logits, NULL)->label_smoothing = s->label_smoothing;
    }
}

static void build(struct builder *b)
{
    int size = b->model->settings.image_size;
    struct place x = {add_tensor(b, TENSOR_PICTURES, 3, size, size),
                      add_tensor(b, TENSOR_PICTURES, 3, size, size), NULL};
    struct unit stem = add_unit(b, "", "conv1", "bn1", 3, MODEL_WIDTH, 7, 2);

    x = run_unit(b, &stem, x, NULL, true, false);
    x = add_max_pool(b, x);
    for (int layer = 1; layer <= 4; layer++)
        for (int i = 0; i < b->arch->blocks[layer - 1]; i++)
            x = add_block(b, layer, i, x);
    add_head(b, x);
    b->model->parameter_count = b->trained_limit + b->statistic_count;
}

/* ---- opening ---- */

static int check_settings(const struct model_settings *s)
{
    if (!find_arch(s->arch)) {
        char quoted[MODEL_NAME_SIZE];

        return err_set(ERR_USAGE,
                       "unknown network \"%s\"; known are resnet18, resnet34, resnet50, "
                       "resnet101 and resnet152",
                       err_quote(quoted, sizeof quoted, s->arch));
    }
    if (s->image_size < MODEL_IMAGE_LEAST || s->image_size > MODEL_IMAGE_MOST)
        return err_set(ERR_USAGE, "pictures of %d pixels: %s takes %d to %d", s->image_size,
                       s->arch, MODEL_IMAGE_LEAST, MODEL_IMAGE_MOST);
    if (s->batch < 1 || s->batch > MODEL_BATCH_MOST)
        return err_set(ERR_USAGE, "a batch of %d pictures: it must be 1 to %d", s->batch,
                       MODEL_BATCH_MOST);
    if (s->classes < 1 || s->classes > MODEL_CLASSES_MOST)
        return err_set(ERR_USAGE, "%d classes: there must be 1 to %d", s->classes,
                       MODEL_CLASSES_MOST);
    if (!(s->label_smoothing >= 0 && s->label_smoothing <= 1))
        return err_set(ERR_USAGE, "label smoothing of %g: it must be 0 to 1",
                       (double)s->label_smoothing);
    return 0;
}

/* Convolutions of an arch: the stem, those of the blocks, and one more where a layer's first block
 * changes the shape. */
static size_t count_units(const struct arch *arch)
{
    size_t blocks = 0;

    for (int i = 0; i < 4; i++)
        blocks += (size_t)arch->blocks[i];
    return 1 + blocks * (arch->bottleneck ? 3 : 2) + (arch->bottleneck ? 4 : 3);
}

int model_open(struct model **out, const struct model_settings *settings)
{
    struct builder b = {0};
    int rc = check_settings(settings);

    if (rc)
        return rc;
    b.arch = find_arch(settings->arch);
    size_t units = count_units(b.arch);
    struct model *m = b.model = mem_array(1, sizeof *m, "the network");
    if (!m)
        return -ERR_MEMORY;
    m->settings = *settings;
    m->settings.arch = b.arch->name;
    b.trained_limit = 3 * units + 2;
    /* Per unit two ops and tensors for training, one for evaluation; pools, linear, loss and
     * pictures in each. */
    m->tensors = mem_array(3 * units + 8, sizeof *m->tensors, "the network's tensors");
    m->parameters = mem_array(5 * units + 2, sizeof *m->parameters, "the network's parameters");
    m->training = mem_array(2 * units + 4, sizeof *m->training, "the network's ops");
    m->evaluation = mem_array(units + 4, sizeof *m->evaluation, "the network's ops");
    if (!m->tensors || !m->parameters || !m->training || !m->evaluation) {
        model_close(m);
        return -ERR_MEMORY;
    }
    build(&b);
    *out = m;
    return 0;
}

void model_close(struct model *model)
{
    if (!model)
        return;
    mem_free(model->tensors);
    mem_free(model->parameters);
    mem_free(model->training);
    mem_free(model->evaluation);
    mem_free(model);
}

/* ---- first values ---- */

static void fill(float *out, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        out[i] = value;
}

/* What one thread fills: elements FIRST, even, to LAST - 1. */
struct normal_part {
    float *out;
    size_t first, last;
    double deviation;
    struct rng rng; /* at its beginning */
};

/* Normal numbers in pairs (Box and Muller): elements 2i and 2i + 1 come from the numbers 2i and 2i
 * + 1 of the sequence, which are block i of the counter. */
static int fill_part(void *argument)
{
    struct normal_part *part = argument;

    part->rng.counter[0] = (uint32_t)(part->first / 2);
    for (size_t i = part->first; i < part->last; i += 2) {
        double radius = part->deviation * sqrt(-2 * log(1 - rng_double(&part->rng)));
        double angle = 6.283185307179586 * rng_double(&part->rng);

        part->out[i] = (float)(radius * cos(angle));
        if (i + 1 < part->last)
            part->out[i + 1] = (float)(radius * sin(angle));
    }
    return 0;
}

/* Not worth a thread below this many elements, and not more than this many threads. */
enum { PART_LEAST = 1 << 16, PARTS_MOST = 16 };

/* In several threads: ResNet-152's 58 million numbers would take one 2 seconds. A thread that
 * cannot be made leaves its part to this one. */
static void fill_normal(float *out, size_t count, double deviation, const struct rng *rng)
{
    struct normal_part parts[PARTS_MOST];
    size_t most = count / PART_LEAST + 1, cores = (size_t)work_cores(), number;
    struct work_crew *crew = NULL;

    number = most < cores ? most : cores;
    number = number < PARTS_MOST ? number : PARTS_MOST;
    if (number > 1 && work_crew_open(&crew, NULL, NULL))
        crew = NULL;
    for (size_t i = 0; i < number; i++) {
        size_t first = count / number * i & ~(size_t)1;
        size_t last = i + 1 < number ? count / number * (i + 1) & ~(size_t)1 : count;

        parts[i] = (struct normal_part){out, first, last, deviation, *rng};
        if (i + 1 == number || !crew || work_crew_start(crew, "initialise", fill_part, &parts[i]))
            fill_part(&parts[i]);
    }
    work_crew_close(crew);
}

/* Is P the gamma of a block's last normalisation? */
static bool ends_block(const struct model *model, const struct parameter *p)
{
    const char *last = find_arch(model->settings.arch)->bottleneck ? ".bn3." : ".bn2.";

    return p->role == PARAMETER_GAMMA && strstr(p->name, last);
}

void model_initialise(const struct model *model, const struct parameter *parameter, uint64_t seed,
                      bool zero_gamma, float *out)
{
    const struct parameter *p = parameter;
    const struct op *linear = &model->training[model->training_count - 2];
    struct rng rng;

    rng_init(&rng, seed, RNG_WEIGHTS, 0, (uint64_t)(p - model->parameters));
    switch (p->role) {
    case PARAMETER_CONV:
        fill_normal(out, p->count, sqrt(2.0 / (double)(p->shape[0] * p->shape[2] * p->shape[3])),
                    &rng);
        break;
    case PARAMETER_LINEAR:
    case PARAMETER_BIAS: {
        double bound = 1 / sqrt((double)linear->in->c);

        for (size_t i = 0; i < p->count; i++)
            out[i] = (float)(bound * (2 * rng_double(&rng) - 1));
        break;
    }
    case PARAMETER_GAMMA:
        fill(out, p->count, zero_gamma && ends_block(model, p) ? 0 : 1);
        break;
    case PARAMETER_RUNNING_VAR:
        fill(out, p->count, 1);
        break;
    case PARAMETER_BETA:
    case PARAMETER_RUNNING_MEAN:
        fill(out, p->count, 0);
        break;
    }
}

double model_multiply_adds(const struct model *model)
{
    double sum = 0;

    for (const struct op *op = model->training; op < model->training + model->training_count; op++)
        if (op->weight)
            sum += (double)op->weight->count * op->out->h * op->out->w;
    return sum;
}
