/*
 * test_gradients.c - whole networks against PyTorch in float64 (tests/oracle/gradients.txt):
 * logits, loss, hits, the gradient of every parameter, running statistics, the evaluation that
 * follows, and the losses of ten steps of SGD.
 *
 * Weights, pictures and labels come from a formula of integers that both sides compute to the same
 * bits; oracle/make_gradients.py has it and says what the lines of the file are.
 */
#include "common/err.h"
#include "tests/test.h"
#include "train/net.h"

/* ---- the formula ---- */

static uint32_t hashed(uint32_t stream, size_t i)
{
    uint32_t x = (uint32_t)i + stream * 0x9E3779B9U;

    x ^= x >> 16;
    x *= 0x7FEB352DU;
    x ^= x >> 15;
    x *= 0x846CA68BU;
    x ^= x >> 16;
    return x;
}

static double number(uint32_t stream, size_t i)
{
    return (hashed(stream, i) >> 8) * 0x1p-23 - 1.0;
}

static bool ends_block(const char *arch, const char *name)
{
    bool basic = strcmp(arch, "resnet18") == 0 || strcmp(arch, "resnet34") == 0;

    return strncmp(name, "layer", 5) == 0 && strstr(name, basic ? ".bn2." : ".bn3.");
}

static void first_values(const char *arch, uint32_t position, const struct parameter *p, float *out)
{
    double area = (double)(p->shape[0] * p->shape[2] * p->shape[3]);

    for (size_t i = 0; i < p->count; i++) {
        double x = number(position, i);

        if (p->role == PARAMETER_CONV)
            x *= sqrt(6.0 / area);
        else if (p->role == PARAMETER_LINEAR)
            x /= sqrt((double)p->shape[1]);
        else if (p->role == PARAMETER_GAMMA)
            x = (ends_block(arch, p->name) ? 0.125 : 0.75) * (1.0 + 0.25 * x);
        else if (p->role == PARAMETER_RUNNING_VAR)
            x = 1;
        else
            x = p->role == PARAMETER_RUNNING_MEAN ? 0 : 0.125 * x;
        out[i] = (float)x;
    }
}

/* Blocks of 4 x 4 pixels of one colour. */
static void fill_batch(struct batch *batch, uint32_t which, int n, uint32_t classes)
{
    size_t size = (size_t)batch->size, blocks = size / 4;

    for (size_t i = 0; i < (size_t)n * size * size * 3; i++) {
        size_t c = i % 3, x = i / 3 % size / 4, y = i / 3 / size % size / 4,
               picture = i / 3 / size / size;
        size_t at = ((picture * blocks + y) * blocks + x) * 3 + c;

        ((uint8_t *)batch->pixels)[i] = (uint8_t)(hashed(10000 + which, at) >> 24);
    }
    for (int i = 0; i < n; i++)
        ((int32_t *)batch->labels)[i] = (int32_t)(hashed(20000 + which, (size_t)i) % classes);
    batch->rows = n;
}

/* ---- a network on a device ---- */

struct fixture {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
    struct batch batch;
    float *values; /* room for the largest parameter */
};

/* One computing thread: barriers of two are slow beside other tests. test_ops.c has two. */
static const int threads = 1;

/* False, having said why, where the device is not in this build. */
static bool fixture_open(struct fixture *f, const char *device, const char *arch, int classes,
                         int n, int size)
{
    const struct model_settings settings = {arch, classes, n, size, 0.1F, false};
    size_t largest = 1, pixels = (size_t)n * (size_t)size * (size_t)size * 3;

    *f = (struct fixture){.backend = backend_find(device)};
    if (!f->backend || (f->backend->available && f->backend->available() != 0)) {
        printf("skipped: %s on %s: %s\n", arch, device, err_text());
        test_skips++;
        return false;
    }
    CHECK_INT(f->backend->open(&f->device, &(struct device_settings){.threads = threads,
                                                                     .precision = PRECISION_F32,
                                                                     .deterministic = true}),
              0);
    CHECK_INT(model_open(&f->model, &settings), 0);
    CHECK_INT(net_open(&f->net, f->backend, f->device, f->model,
                       &(struct net_settings){.training = true}),
              0);
    CHECK_INT(net_check_plan(f->net), 0);
    for (size_t i = 0; i < f->model->parameter_count; i++)
        if (f->model->parameters[i].count > largest)
            largest = f->model->parameters[i].count;
    f->values = malloc(largest * sizeof *f->values);
    f->batch = (struct batch){.size = size,
                              .pixels = malloc(pixels),
                              .labels = malloc((size_t)n * sizeof(int32_t)),
                              .records = calloc((size_t)n, sizeof(uint64_t))};
    for (size_t i = 0; i < f->model->parameter_count; i++) {
        first_values(arch, (uint32_t)i, &f->model->parameters[i], f->values);
        CHECK_INT(net_set(f->net, NET_VALUE, &f->model->parameters[i], f->values), 0);
    }
    return true;
}

static void fixture_close(struct fixture *f)
{
    net_close(f->net);
    model_close(f->model);
    f->backend->close(f->device);
    free((void *)f->batch.pixels);
    free((void *)f->batch.labels);
    free((void *)f->batch.records);
    free(f->values);
}

static const struct parameter *find(const struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->model->parameter_count; i++)
        if (strcmp(f->model->parameters[i].name, name) == 0)
            return &f->model->parameters[i];
    printf("no parameter %s\n", name);
    exit(1);
}

/* ---- one training pass ---- */

/* The largest errors seen, in units of the tolerance. */
static double worst;

static void check_near(const char *what, const char *name, double got, double want, double scale)
{
    enum { PER = 10000 }; /* 1e-4 */
    double error = fabs(got - want) * PER / scale;

    if (!(error <= worst))
        worst = error;
    if (error <= 1)
        return;
    printf("%s of %s: %.9g, PyTorch %.9g: off by %.2g of %.3g\n", what, name, got, want,
           fabs(got - want) / scale, scale);
    test_failures++;
}

/* shift NAME CHANNEL:K ... */
static void apply_shift(struct fixture *f, char *line)
{
    char *rest = NULL, *name = strtok_r(line, " \n", &rest), *word;
    const struct parameter *p = find(f, name);
    int channel, k;

    CHECK_INT(net_get(f->net, NET_VALUE, p, f->values), 0);
    while ((word = strtok_r(NULL, " \n", &rest)) && sscanf(word, "%d:%d", &channel, &k) == 2)
        f->values[channel] = (float)((double)f->values[channel] + k / 128.0);
    CHECK_INT(net_set(f->net, NET_VALUE, p, f->values), 0);
}

/* gradient NAME NORM MEAN DOT A B C */
static void check_gradient(struct fixture *f, const char *line)
{
    char name[MODEL_NAME_SIZE];
    double norm, mean, dot, picked[3], square = 0, sum = 0, product = 0;

    CHECK_INT(sscanf(line, "%63s %lf %lf %lf %lf %lf %lf", name, &norm, &mean, &dot, &picked[0],
                     &picked[1], &picked[2]),
              7);
    const struct parameter *p = find(f, name);
    uint32_t position = (uint32_t)(p - f->model->parameters);
    double typical = norm / sqrt((double)p->count);
    CHECK_INT(net_get(f->net, NET_GRADIENT, p, f->values), 0);
    for (size_t i = 0; i < p->count; i++) {
        double g = f->values[i];

        square += g * g;
        sum += fabs(g);
        product += g * number(2000 + position, i);
    }
    check_near("norm", name, sqrt(square), norm, norm);
    check_near("mean", name, sum / (double)p->count, mean, mean);
    check_near("dot product", name, product, dot, norm);
    for (int i = 0; i < 3; i++) {
        size_t at = hashed(3000 + position, (size_t)i) % p->count;

        check_near("element", name, f->values[at], picked[i], fmax(fabs(picked[i]), 3 * typical));
    }
}

/* statistic NAME NORM DOT */
static void check_statistic(struct fixture *f, const char *line)
{
    char name[MODEL_NAME_SIZE];
    double norm, dot, square = 0, product = 0;

    CHECK_INT(sscanf(line, "%63s %lf %lf", name, &norm, &dot), 3);
    const struct parameter *p = find(f, name);
    /* state_dict has mean and variance of one after those of another, and so has the model. */
    uint32_t position = (uint32_t)(p - f->model->parameters - f->model->trained_count);
    CHECK_INT(net_get(f->net, NET_VALUE, p, f->values), 0);
    for (size_t i = 0; i < p->count; i++) {
        square += (double)f->values[i] * f->values[i];
        product += f->values[i] * number(4000 + position, i);
    }
    check_near("norm", name, sqrt(square), norm, norm);
    check_near("dot product", name, product, dot, norm);
}

/* X ...: the logits of the first two pictures. */
static void check_logits(struct fixture *f, const char *what, const char *line)
{
    int used = 0;
    double want;

    CHECK_INT(net_logits(f->net, f->values), 0);
    for (int i = 0; i < 2 * f->model->settings.classes; i++, line += used) {
        CHECK_INT(sscanf(line, "%lf%n", &want, &used), 1);
        check_near(what, "logits", f->values[i], want, 1);
    }
}

/* evaluation LOSS X ... */
static void check_evaluation(struct fixture *f, const char *line)
{
    struct loss_result result;
    double loss;
    int used = 0;

    CHECK_INT(net_evaluate(f->net, &f->batch, &result), 0);
    CHECK_INT(sscanf(line, "%lf%n", &loss, &used), 1);
    check_near("evaluation", "loss", result.loss, loss, loss);
    check_logits(f, "evaluation", line + used);
}

/* loss X TOP1 TOP5: the training pass itself */
static void train_once(struct fixture *f, const char *line)
{
    struct loss_result result = {0};
    double loss;
    int top1, top5;

    CHECK_INT(sscanf(line, "%lf %d %d", &loss, &top1, &top5), 3);
    CHECK_INT(net_train(f->net, &f->batch, NULL, &result), 0);
    check_near("training", "loss", result.loss, loss, loss);
    CHECK_INT(result.top1, top1);
    CHECK_INT(result.top5, top5);
}

/* Read the file up to the block that HEAD begins; the rest of its first line in LINE. */
static FILE *open_block(const char *head, char *line, int size)
{
    char path[4096];
    /* On a machine that has the program but not the folder it was made in. */
    const char *source = getenv("TEST_SOURCE");
    snprintf(path, sizeof path, "%s/tests/oracle/gradients.txt", source ? source : TEST_SOURCE);
    FILE *file = fopen(path, "r");

    while (file && fgets(line, size, file))
        if (strncmp(line, head, strlen(head)) == 0)
            return file;
    printf("gradients.txt has no %s\n", head);
    exit(1);
}

static void check_network(const char *device, const char *arch)
{
    char head[64], line[16384];
    int classes = 0, n = 0, size = 0, gradients = 0;
    struct fixture f;

    snprintf(head, sizeof head, "network %s ", arch);
    FILE *file = open_block(head, line, sizeof line);
    CHECK_INT(sscanf(line + strlen(head), "%d %d %d", &classes, &n, &size), 3);
    bool open = fixture_open(&f, device, arch, classes, n, size);
    worst = 0;
    if (open)
        fill_batch(&f.batch, 0, n, (uint32_t)classes);
    while (open && fgets(line, sizeof line, file)) {
        char *rest = strchr(line, ' ') + 1;

        gradients += strncmp(line, "gradient ", 9) == 0;
        if (strncmp(line, "shift ", 6) == 0)
            apply_shift(&f, rest);
        else if (strncmp(line, "loss ", 5) == 0)
            train_once(&f, rest);
        else if (strncmp(line, "gradient ", 9) == 0)
            check_gradient(&f, rest);
        else if (strncmp(line, "statistic ", 10) == 0)
            check_statistic(&f, rest);
        else if (strncmp(line, "evaluation ", 11) == 0)
            check_evaluation(&f, rest);
        else if (strncmp(line, "logits ", 7) == 0)
            check_logits(&f, "training", rest);
        else
            break;
    }
    if (open) {
        CHECK_INT(gradients, f.model->trained_count);
        printf("%s on %s: worst error %.2g of 1e-4\n", arch, device, worst);
        fixture_close(&f);
    }
    fclose(file);
}

static void resnet18_on_ref(void)
{
    check_network("ref", "resnet18");
}

static void resnet18_on_cpu(void)
{
    check_network("cpu", "resnet18");
}

static void resnet152_on_ref(void)
{
    check_network("ref", "resnet152");
}

static void resnet152_on_cpu(void)
{
    check_network("cpu", "resnet152");
}

static void resnet18_on_cuda(void)
{
    check_network("cuda", "resnet18");
}

static void resnet152_on_cuda(void)
{
    check_network("cuda", "resnet152");
}

/* ---- ten steps ---- */

static void check_steps(const char *device, const char *arch)
{
    char head[64], line[1024];
    int classes = 0, n = 0, size = 0, used = 0;
    unsigned batches = 1;
    struct sgd sgd = {.momentum = 0.9,
                      .weight_decay = 1e-4,
                      .gradient_scale = 1,
                      .decay_norm = true,
                      .first_step = true};
    struct fixture f;
    double most = 0;

    snprintf(head, sizeof head, "steps %s ", arch);
    FILE *file = open_block(head, line, sizeof line);
    CHECK_INT(
        sscanf(line + strlen(head), "%d %d %d %lf %u", &classes, &n, &size, &sgd.lr, &batches), 5);
    CHECK(fgets(line, sizeof line, file) && strncmp(line, "losses ", 7) == 0);
    fclose(file);
    if (!fixture_open(&f, device, arch, classes, n, size))
        return;
    const char *at = line + 7;
    for (uint32_t step = 0; step <= 10; step++, at += used, sgd.first_step = false) {
        struct loss_result result = {0};
        double want = 0;

        CHECK_INT(sscanf(at, "%lf%n", &want, &used), 1);
        fill_batch(&f.batch, step % batches, n, (uint32_t)classes);
        CHECK_INT(net_train(f.net, &f.batch, &sgd, &result), 0);
        most = fmax(most, fabs(result.loss - want) / want);
        if (!(fabs(result.loss - want) <= 1e-2 * want)) {
            printf("%s on %s, after %u steps: loss %.9g, PyTorch %.9g\n", arch, device, step,
                   result.loss, want);
            test_failures++;
        }
    }
    printf("%s on %s: ten steps, loss off by at most %.2g\n", arch, device, most);
    fixture_close(&f);
}

static void ten_steps_on_ref(void)
{
    check_steps("ref", "resnet18");
}

static void ten_steps_on_cpu(void)
{
    for (int i = 0; model_archs[i]; i++)
        check_steps("cpu", model_archs[i]);
}

static void ten_steps_on_cuda(void)
{
    for (int i = 0; model_archs[i]; i++)
        check_steps("cuda", model_archs[i]);
}

static const struct test tests[] = {
    {"resnet18_on_ref",   resnet18_on_ref  },
    {"resnet18_on_cpu",   resnet18_on_cpu  },
    {"resnet152_on_ref",  resnet152_on_ref },
    {"resnet152_on_cpu",  resnet152_on_cpu },
    {"ten_steps_on_ref",  ten_steps_on_ref },
    {"ten_steps_on_cpu",  ten_steps_on_cpu },
    {"resnet18_on_cuda",  resnet18_on_cuda },
    {"resnet152_on_cuda", resnet152_on_cuda},
    {"ten_steps_on_cuda", ten_steps_on_cuda},
};
TEST_MAIN(tests)
