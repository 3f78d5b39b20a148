/*
 * test_model.c - the five ResNets against torchvision's listing (tests/oracle/models.txt), the
 * wiring of both lists of ops, and the first values.
 */
#include "train/model.h"

#include "common/digest.h"
#include "tests/test.h"

static struct model *open_model(const char *arch, int classes, int batch, int size)
{
    struct model *model = NULL;
    const struct model_settings settings = {arch, classes, batch, size, 0, false};

    CHECK_INT(model_open(&model, &settings), 0);
    return model;
}

static const struct parameter *find(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->parameter_count; i++)
        if (strcmp(model->parameters[i].name, name) == 0)
            return &model->parameters[i];
    printf("no parameter %s\n", name);
    test_failures++;
    return &model->parameters[0];
}

/* ---- torchvision ---- */

/* "64x3x7x7", as the listing has it. */
static void shape_text(const struct parameter *p, char out[64])
{
    int used = 0;

    for (int i = 0; i < p->rank; i++)
        used +=
            snprintf(out + used, 64 - (size_t)used, "%s%lld", i ? "x" : "", (long long)p->shape[i]);
}

static bool statistic(const struct parameter *p)
{
    return p->role == PARAMETER_RUNNING_MEAN || p->role == PARAMETER_RUNNING_VAR;
}

/* The entries of state_dict in their order: trained ones and statistics each in theirs; counters of
 * batches are the trainer's. */
static void check_entries(const struct model *model, FILE *listing, double trained)
{
    char line[256], name[128], shape[64], own[64];
    size_t next = 0, next_statistic = model->trained_count;
    double elements = 0;
    long start = ftell(listing);

    for (; fgets(line, sizeof line, listing); start = ftell(listing)) {
        if (sscanf(line, "%127s %63s", name, shape) != 2 || strcmp(name, "arch") == 0)
            break;
        if (strcmp(shape, "scalar") == 0)
            continue;
        bool running = strstr(name, ".running_");
        const struct parameter *p = &model->parameters[running ? next_statistic++ : next++];
        shape_text(p, own);
        CHECK_TEXT(p->name, name);
        CHECK_TEXT(own, shape);
        CHECK_INT(statistic(p), running);
        if (!running)
            elements += (double)p->count;
    }
    fseek(listing, start, SEEK_SET);
    CHECK_INT(next, model->trained_count);
    CHECK_INT(next_statistic, model->parameter_count);
    CHECK_CLOSE(elements, trained, 0);
}

static void models_are_torchvisions(void)
{
    FILE *listing = fopen(TEST_SOURCE "/tests/oracle/models.txt", "r");
    char line[256], name[64];
    double trained, multiply_adds;
    int seen = 0;

    CHECK(listing);
    while (listing && fgets(line, sizeof line, listing) &&
           sscanf(line, "arch %63s %lf %lf", name, &trained, &multiply_adds) == 3) {
        struct model *model = open_model(name, 1000, 1, 224);

        CHECK_TEXT(model_archs[seen++], name);
        CHECK_CLOSE(model_multiply_adds(model), multiply_adds, 0);
        check_entries(model, listing, trained);
        model_close(model);
    }
    CHECK_INT(seen, 5);
    CHECK(!model_archs[5]);
    if (listing)
        fclose(listing);
}

/* ---- wiring ---- */

static size_t elements(const struct tensor *t)
{
    return (size_t)t->n * (size_t)t->c * (size_t)t->h * (size_t)t->w;
}

static void check_shapes(const struct op *op)
{
    const struct tensor *in = op->in, *out = op->out;

    CHECK(in && (out || op->kind == OP_LOSS));
    if (op->kind == OP_CONV || op->kind == OP_CONV_NORM) {
        CHECK_INT(out->h, (in->h + 2 * op->padding - op->kernel) / op->stride + 1);
        CHECK_INT(out->w, (in->w + 2 * op->padding - op->kernel) / op->stride + 1);
        CHECK_INT(op->weight->shape[0], out->c);
        CHECK_INT(op->weight->shape[1], in->c);
        CHECK_INT(op->weight->shape[2], op->kernel);
    }
    if (op->kind == OP_NORM || op->kind == OP_CONV_NORM) {
        CHECK_INT(op->gamma->count, out->c);
        CHECK_INT(op->beta->role, PARAMETER_BETA);
        CHECK_INT(op->running_mean->role, PARAMETER_RUNNING_MEAN);
        CHECK_INT(op->running_var->role, PARAMETER_RUNNING_VAR);
        CHECK(op->epsilon > 0 && op->momentum > 0);
    }
    if (op->kind == OP_NORM)
        CHECK_INT(elements(in), elements(out));
    if (op->residual)
        CHECK(elements(op->residual) == elements(out) && op->residual->c == out->c);
}

/* Every op reads what an earlier one wrote; the readers of a tensor write to slots 0, 1, ... each
 * once. */
static void check_list(const struct model *model, const struct op *list, size_t count,
                       bool training)
{
    char *written = calloc(model->tensor_count, 1), *slots = calloc(model->tensor_count, 1);

    written[list[0].in - model->tensors] = 1;
    CHECK_INT(list[0].in->role, TENSOR_PICTURES);
    CHECK_INT(list[0].in_slot, -1);
    CHECK_INT(list[count - 1].kind, OP_LOSS);
    for (const struct op *op = list; op < list + count; op++) {
        const struct tensor *read[2] = {op->in, op->residual};
        const int slot[2] = {op->in_slot, op->residual_slot};

        check_shapes(op);
        for (int i = 0; i < 2; i++) {
            if (!read[i])
                continue;
            CHECK(written[read[i] - model->tensors]);
            if (!training || read[i]->role == TENSOR_PICTURES)
                CHECK_INT(slot[i], -1);
            else
                slots[read[i] - model->tensors] |= (char)(1 << slot[i]);
        }
        if (op->out)
            written[op->out - model->tensors] = 1;
    }
    for (size_t i = 0; i < model->tensor_count; i++)
        if (training && written[i] && model->tensors[i].role != TENSOR_PICTURES) {
            CHECK(model->tensors[i].readers == 1 || model->tensors[i].readers == 2);
            CHECK_INT(slots[i], (1 << model->tensors[i].readers) - 1);
        }
    free(written);
    free(slots);
}

static void lists_are_wired(void)
{
    for (int i = 0; model_archs[i]; i++) {
        struct model *model = open_model(model_archs[i], 10, 3, 65);
        size_t norms = 0, folded = 0;

        check_list(model, model->training, model->training_count, true);
        check_list(model, model->evaluation, model->evaluation_count, false);
        for (size_t k = 0; k < model->training_count; k++)
            norms += model->training[k].kind == OP_NORM;
        for (size_t k = 0; k < model->evaluation_count; k++)
            folded += model->evaluation[k].kind == OP_CONV_NORM;
        CHECK_INT(folded, norms);
        CHECK_INT(model->training_count, model->evaluation_count + norms);
        model_close(model);
    }
}

/* v1.5: the stride of a bottleneck is on its 3x3 convolution. */
static void stride_is_on_the_3x3(void)
{
    struct model *model = open_model("resnet50", 1000, 1, 224);

    for (size_t i = 0; i < model->training_count; i++) {
        const struct op *op = &model->training[i];

        if (strcmp(op->name, "layer2.0.conv1") == 0)
            CHECK_INT(op->stride, 1);
        if (strcmp(op->name, "layer2.0.conv2") == 0)
            CHECK_INT(op->stride, 2);
    }
    model_close(model);
}

/* ---- first values ---- */

static float *initialise(const struct model *model, const char *name, uint64_t seed,
                         bool zero_gamma)
{
    const struct parameter *p = find(model, name);
    float *out = malloc(p->count * sizeof *out);

    model_initialise(model, p, seed, zero_gamma, out);
    return out;
}

static void check_moments(const struct model *model, const char *name, double deviation,
                          double largest)
{
    const struct parameter *p = find(model, name);
    float *values = initialise(model, name, 7, false);
    double n = (double)p->count, sum = 0, square = 0, top = 0;

    for (size_t i = 0; i < p->count; i++) {
        sum += values[i];
        square += (double)values[i] * values[i];
        top = fmax(top, fabs((double)values[i]));
    }
    /* Five standard errors; of the variance for a normal distribution (the widest here). */
    if (fabs(sum / n) > 5 * deviation / sqrt(n) ||
        fabs(square / n / (deviation * deviation) - 1) > 5 * sqrt(2 / n) || top > largest) {
        printf("%s: mean %g, deviation %g (not %g), largest %g\n", name, sum / n, sqrt(square / n),
               deviation, top);
        test_failures++;
    }
    free(values);
}

/* Kaiming normal with fan-out: sqrt(2 / (out channels * kernel area)); linear: uniform
 * +-1/sqrt(512). */
static void first_values_have_their_distribution(void)
{
    struct model *model = open_model("resnet18", 1000, 1, 224);

    check_moments(model, "conv1.weight", sqrt(2.0 / (64 * 49)), 1);
    check_moments(model, "layer1.0.conv2.weight", sqrt(2.0 / (64 * 9)), 1);
    check_moments(model, "layer4.0.downsample.0.weight", sqrt(2.0 / 512), 1);
    check_moments(model, "layer4.1.conv2.weight", sqrt(2.0 / (512 * 9)), 1);
    check_moments(model, "fc.weight", 1 / sqrt(3 * 512.0), 1 / sqrt(512.0));
    check_moments(model, "fc.bias", 1 / sqrt(3 * 512.0), 1 / sqrt(512.0));
    model_close(model);
}

static void first_values_are_constant(const struct model *model, const char *name, bool zero_gamma,
                                      float expected)
{
    float *values = initialise(model, name, 3, zero_gamma);

    for (size_t i = 0; i < find(model, name)->count; i++)
        if (values[i] != expected) {
            printf("%s: %g, not %g\n", name, (double)values[i], (double)expected);
            test_failures++;
            break;
        }
    free(values);
}

static void normalisations_begin_neutral(void)
{
    struct model *basic = open_model("resnet34", 10, 1, 64);
    struct model *bottleneck = open_model("resnet50", 10, 1, 64);

    first_values_are_constant(basic, "bn1.weight", true, 1);
    first_values_are_constant(basic, "bn1.bias", true, 0);
    first_values_are_constant(basic, "bn1.running_mean", true, 0);
    first_values_are_constant(basic, "bn1.running_var", true, 1);
    first_values_are_constant(basic, "layer2.0.bn1.weight", true, 1);
    first_values_are_constant(basic, "layer2.0.bn2.weight", true, 0);
    first_values_are_constant(basic, "layer2.0.bn2.weight", false, 1);
    first_values_are_constant(basic, "layer2.0.downsample.1.weight", true, 1);
    first_values_are_constant(bottleneck, "layer2.0.bn2.weight", true, 1);
    first_values_are_constant(bottleneck, "layer2.0.bn3.weight", true, 0);
    first_values_are_constant(bottleneck, "layer2.0.bn3.bias", true, 0);
    model_close(basic);
    model_close(bottleneck);
}

/* A function of seed and position: neither the order of calls nor batch and size matter. */
static void first_values_are_reproducible(void)
{
    static const struct {
        const char *name;
        uint64_t seed, digest;
    } golden[] = {
        {"conv1.weight",          0, 0x5a26e46c2c1f9780},
        {"conv1.weight",          1, 0xf5862b6b30df5de1},
        {"layer1.0.conv1.weight", 0, 0x71dc132d222265ef},
        {"fc.bias",               0, 0xfe797543217ed809},
    };
    struct model *model = open_model("resnet18", 1000, 1, 224);
    struct model *other = open_model("resnet18", 1000, 16, 64);

    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        const char *name = golden[i].name;
        size_t bytes = find(model, name)->count * sizeof(float);
        float *a = initialise(model, name, golden[i].seed, false);

        free(initialise(model, "layer4.1.conv2.weight", golden[i].seed, false));
        float *b = initialise(other, name, golden[i].seed, true);
        CHECK(memcmp(a, b, bytes) == 0);
        if (digest64(a, bytes) != golden[i].digest) {
            printf("%s, seed %llu: digest 0x%016llx\n", name, (unsigned long long)golden[i].seed,
                   (unsigned long long)digest64(a, bytes));
            test_failures++;
        }
        free(a);
        free(b);
    }
    model_close(model);
    model_close(other);
}

/* ---- settings ---- */

static void settings_are_checked(void)
{
    static const struct {
        struct model_settings settings;
        const char *words;
    } rows[] = {
        {{"resnet20", 10, 1, 224, 0, false},      "\"resnet20\""   },
        {{"resnet20", 10, 1, 224, 0, false},      "resnet152"      },
        {{"resnet18", 10, 1, 31, 0, false},       "31 pixels"      },
        {{"resnet18", 10, 1, 5000, 0, false},     "5000 pixels"    },
        {{"resnet18", 0, 1, 224, 0, false},       "0 classes"      },
        {{"resnet18", 2000000, 1, 224, 0, false}, "2000000 classes"},
        {{"resnet18", 10, 0, 224, 0, false},      "batch of 0"     },
        {{"resnet18", 10, -3, 224, 0, false},     "batch of -3"    },
        {{"resnet18", 10, 1, 224, 1.5F, false},   "label smoothing"},
        {{"resnet18", 10, 1, 224, NAN, false},    "label smoothing"},
    };
    struct model *model = NULL;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT(model_open(&model, &rows[i].settings), -ERR_USAGE);
        CHECK_HAS(err_text(), rows[i].words);
        CHECK(!model);
    }
    model_close(NULL);
    model_close(open_model("resnet18", 1, 1, 32));
    model = open_model("resnet152", 1000000, 65536, 4096);
    CHECK(model_multiply_adds(model) > 0);
    model_close(model);
}

static const struct test tests[] = {
    {"models_are_torchvisions",              models_are_torchvisions             },
    {"lists_are_wired",                      lists_are_wired                     },
    {"stride_is_on_the_3x3",                 stride_is_on_the_3x3                },
    {"first_values_have_their_distribution", first_values_have_their_distribution},
    {"normalisations_begin_neutral",         normalisations_begin_neutral        },
    {"first_values_are_reproducible",        first_values_are_reproducible       },
    {"settings_are_checked",                 settings_are_checked                },
};
TEST_MAIN(tests)
