/*
 * test_fused.c - fusion level (b): whole networks whose convolutions normalise what they read.
 * `ref` computes the fused form to the same bytes as the plain one; the CUDA backend, in fp16 on
 * the simulated device, gives both forms' losses and gradients near ref's; where a plan is missing
 * the plain form runs.
 */
#include "tests/cuda/sim/sim.h"
#include "tests/test.h"
#include "common/rng.h"
#include "train/device_check.h"
#include "train/net.h"

enum { CLASSES = 10, BATCH = 6, SIZE = 64 };

struct run {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
};

static struct batch batch;

static void make_batch(void)
{
    static uint8_t pixels[BATCH * SIZE * SIZE * 3];
    static int32_t labels[BATCH];
    static uint64_t records[BATCH];
    struct rng rng;

    rng_init(&rng, 5, RNG_TEST, 0, 0);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)rng_u32(&rng);
    for (int i = 0; i < BATCH; i++)
        labels[i] = (int32_t)rng_below(&rng, CLASSES);
    batch = (struct batch){
        .rows = BATCH, .size = SIZE, .pixels = pixels, .labels = labels, .records = records};
}

static void first_values(struct run *r)
{
    for (size_t i = 0; i < r->model->parameter_count; i++) {
        const struct parameter *p = &r->model->parameters[i];
        float *values = malloc(p->count * sizeof *values);

        model_initialise(r->model, p, 3, false, values);
        /* Blocks that add little: 24 values a channel at the end of a deeper network would make
         * noise of the last bits. */
        for (size_t k = 0; k < p->count && strstr(p->name, ".bn2.weight"); k++)
            values[k] = 0.2F;
        CHECK_INT(net_set(r->net, NET_VALUE, p, values), 0);
        free(values);
    }
}

/* FUSED -1: as the backend wishes. */
static bool open_run(struct run *r, const char *arch, const char *device, int fused)
{
    const struct model_settings model = {
        .arch = arch, .classes = CLASSES, .batch = BATCH, .image_size = SIZE, .fused = fused == 1};
    const struct device_settings settings = {
        .threads = 1, .precision = strcmp(device, "ref") ? PRECISION_FP16 : PRECISION_F32};
    const struct net_settings net = {.training = true};
    int rc;

    *r = (struct run){.backend = backend_find(device)};
    if (!r->backend || r->backend->open(&r->device, &settings)) {
        CHECK(!"the device");
        return false;
    }
    if (fused < 0) {
        rc = net_open_model(&r->net, &r->model, r->backend, r->device, &model, &net);
    } else if (!(rc = model_open(&r->model, &model))) {
        rc = net_open(&r->net, r->backend, r->device, r->model, &net);
    }
    CHECK_INT(rc, 0);
    if (!rc)
        first_values(r);
    return rc == 0;
}

static void close_run(struct run *r)
{
    net_close(r->net);
    model_close(r->model);
    if (r->device)
        r->backend->close(r->device);
}

/* One step of lr 1 and nothing else: what a parameter loses is its gradient. With fp16 the first
 * steps may be skipped until the loss scale fits. */
static double step(struct run *r)
{
    const struct sgd sgd = {.lr = 1, .gradient_scale = 1, .decay_norm = true, .first_step = true};
    struct loss_result result = {.loss = NAN};

    CHECK_INT(net_train(r->net, &batch, &sgd, &result), 0);
    return result.loss;
}

static float *get(struct run *r, size_t i)
{
    const struct parameter *p = &r->model->parameters[i];
    float *out = malloc(p->count * sizeof *out);

    CHECK_INT(net_get(r->net, NET_VALUE, p, out), 0);
    return out;
}

static const char *const archs[] = {"resnet18", "resnet50"};
#ifdef __SANITIZE_ADDRESS__
enum { ARCHS = 1 }; /* the other takes a minute more */
#else
enum { ARCHS = 2 };
#endif

/* The same network, whatever its form. */
static void test_ref(void)
{
    make_batch();
    for (int a = 0; a < ARCHS; a++) {
        struct run plain, fused;
        bool open = open_run(&plain, archs[a], "ref", 0);

        open = open_run(&fused, archs[a], "ref", 1) && open;
        CHECK(fused.model->training_count < plain.model->training_count);
        CHECK_INT(fused.model->parameter_count, plain.model->parameter_count);
        for (int i = 0; i < 2 - a && open; i++)
            CHECK(step(&plain) == step(&fused));
        for (size_t i = 0; i < plain.model->parameter_count && open; i++) {
            float *x = get(&plain, i), *y = get(&fused, i);

            CHECK(memcmp(x, y, plain.model->parameters[i].count * sizeof *x) == 0);
            free(x);
            free(y);
        }
        CHECK_INT(net_check_plan(fused.net), 0);
        close_run(&fused);
        close_run(&plain);
    }
}

/* Relative distance of what two runs' parameters lost since FIRST. */
static double distance(struct run *a, struct run *b, struct run *first, size_t i)
{
    float *x = get(a, i), *y = get(b, i), *zero = get(first, i);
    double difference = 0, size = 0;

    for (size_t k = 0; k < a->model->parameters[i].count; k++) {
        double left = (double)x[k] - (double)zero[k], right = (double)y[k] - (double)zero[k];

        difference += (left - right) * (left - right);
        size += right * right;
    }
    free(x);
    free(y);
    free(zero);
    return sqrt(difference / (size + 1e-12));
}

/* Steps until the parameters move; the loss of the last. */
static double step_once(struct run *r, struct run *first)
{
    size_t last = r->model->trained_count - 1; /* the linear layer's bias */
    double loss = NAN;

    for (int tries = 0; tries < 24; tries++) {
        loss = step(r);
        float *x = get(r, last), *zero = get(first, last);
        bool moved = memcmp(x, zero, r->model->parameters[last].count * sizeof *x) != 0;

        free(x);
        free(zero);
        if (moved)
            break;
    }
    return loss;
}

/* The worst of R's gradients against REF's. */
static double worst_distance(struct run *r, struct run *ref, struct run *first)
{
    double worst = 0;

    for (size_t i = 0; i < ref->model->trained_count; i++) {
        double d = distance(r, ref, first, i);

        if (d > 0.2)
            printf("%s is %.3f off\n", ref->model->parameters[i].name, d);
        worst = d > worst ? d : worst;
    }
    return worst;
}

static void test_cuda(void)
{
    struct run first, ref, runs[2];

    make_batch();
    sim_set_seed(2);
    if (!open_run(&first, "resnet18", "ref", 0) || !open_run(&ref, "resnet18", "ref", 0))
        return;
    double loss = step(&ref);
    for (int f = 0; f < 2; f++) {
        if (!open_run(&runs[f], "resnet18", "cuda", f))
            return;
        double found = step_once(&runs[f], &first), worst = worst_distance(&runs[f], &ref, &first);

        CHECK_CLOSE(found / loss, 1, 2e-3);
        CHECK(worst <= 0.2); /* another computation is 1 off */
        printf("     level %c: loss %.5f (ref %.5f), gradients within %.4f, arena %.1f MB\n",
               f ? 'b' : 'a', found, loss, worst, (double)net_memory(runs[f].net)->arena / 1e6);
    }
    /* Inner normalised activations are not stored. */
    CHECK(net_memory(runs[1].net)->activations < net_memory(runs[0].net)->activations);
    for (int f = 0; f < 2; f++)
        close_run(&runs[f]);
    close_run(&ref);
    close_run(&first);
    CHECK_TEXT(sim_take_fault(), "");
}

/* Bottlenecks, op by op: what follows an op that is a little off is no part of what it is held to.
 */
static void test_bottleneck(void)
{
    const struct device_settings settings = {.precision = PRECISION_FP16};
    struct device_check found;
    struct device *device = NULL;

    if (ARCHS == 1)
        TEST_SKIP("under AddressSanitizer it takes minutes");
    sim_set_seed(2);
    CHECK_INT(backend_cuda.open(&device, &settings), 0);
    if (!device)
        return;
    if (device_check(&backend_cuda, device, PRECISION_FP16, "resnet50", true, &found)) {
        printf("%s\n", err_text());
        test_failures++;
    }
    printf("     %d ops of ResNet-50, level b: within %.1e of ref's\n", found.ops, found.worst);
    backend_cuda.close(device);
    CHECK_TEXT(sim_take_fault(), "");
}

/* Level (b) where it can be had, else (a). */
static void test_choice(void)
{
    struct run r;

    make_batch();
    sim_set_seed(1);
    if (open_run(&r, "resnet18", "cuda", -1)) {
        CHECK(r.model->settings.fused);
        CHECK(isfinite(step(&r)));
    }
    close_run(&r);
    setenv("XDG_CACHE_HOME", "", 1); /* no cache: the plans are asked for again */
    unsetenv("HOME");
    sim_set_script("plans_open:9:error");
    if (open_run(&r, "resnet18", "cuda", -1)) {
        CHECK(!r.model->settings.fused);
        CHECK(isfinite(step(&r)));
    }
    close_run(&r);
    if (open_run(&r, "resnet18", "ref", -1))
        CHECK(!r.model->settings.fused);
    close_run(&r);
    CHECK_TEXT(sim_take_fault(), "");
}

static const struct test tests[] = {
    {"ref",        test_ref       },
    {"cuda",       test_cuda      },
#ifndef __SANITIZE_ADDRESS__  /* another minute */
    {"bottleneck", test_bottleneck},
#endif
    {"choice",     test_choice    },
};

int main(int argc, char **argv)
{
    setenv("XDG_CACHE_HOME", test_folder(), 1);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
