/*
 * test_steps_sim.c - training on the simulated device, step by step beside `ref` in f32: each step
 * begins with ref's weights and momenta, so that what is compared is one step's rounding.
 *
 * In f32 a step is ref's but for the order of sums. In 16 bits no limit follows from the type: a
 * rounding that falls the other way in one layer makes others fall so in the next, and a few layers
 * on two computations that round at the very same places are as far apart as any two that round.
 * So `ref` itself computes the step in the same type, and the device may be no farther from f32
 * than that is, but for chance. What rounds is checked op by op elsewhere (test_ops.c,
 * test_fused.c).
 */
#include "common/rng.h"
#include "tests/cuda/sim/sim.h"
#include "tests/test.h"
#include "train/net.h"

enum { CLASSES = 10, BATCH = 8, SIZE = 32, STEPS = 3 };

struct run {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
};

static bool open_run(struct run *r, const struct backend *backend, enum precision precision,
                     bool fused)
{
    const struct model_settings model = {.arch = "resnet18",
                                         .classes = CLASSES,
                                         .batch = BATCH,
                                         .image_size = SIZE,
                                         .label_smoothing = 0.1F,
                                         .fused = fused};
    const struct device_settings settings = {.threads = 1, .precision = precision};
    const struct net_settings net = {.training = true};

    *r = (struct run){.backend = backend};
    CHECK_INT(backend->open(&r->device, &settings), 0);
    CHECK_INT(model_open(&r->model, &model), 0);
    if (!r->device || !r->model)
        return false;
    CHECK_INT(net_open(&r->net, backend, r->device, r->model, &net), 0);
    return r->net != NULL;
}

static void close_run(struct run *r)
{
    net_close(r->net);
    model_close(r->model);
    if (r->device)
        r->backend->close(r->device);
}

static void make_batch(struct batch *batch, int step)
{
    static uint8_t pixels[BATCH * SIZE * SIZE * 3];
    static int32_t labels[BATCH];
    static uint64_t records[BATCH];
    struct rng rng;

    rng_init(&rng, 8, RNG_TEST, (uint32_t)step, 0);
    for (int i = 0; i < BATCH; i++)
        labels[i] = (int32_t)rng_below(&rng, CLASSES);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(rng_u32(&rng) % 128 + 12 * (uint32_t)labels[i / (SIZE * SIZE * 3)]);
    *batch = (struct batch){
        .rows = BATCH, .size = SIZE, .pixels = pixels, .labels = labels, .records = records};
}

static float *room_for(const struct model *model)
{
    size_t most = 1;

    for (size_t i = 0; i < model->parameter_count; i++)
        most = model->parameters[i].count > most ? model->parameters[i].count : most;
    return malloc(most * sizeof(float));
}

/* RUN begins where REF stands. */
static void follow(struct run *run, struct run *ref, float *room)
{
    for (size_t i = 0; i < ref->model->parameter_count; i++) {
        const struct parameter *from = &ref->model->parameters[i], *to = &run->model->parameters[i];

        CHECK_INT(net_get(ref->net, NET_VALUE, from, room), 0);
        CHECK_INT(net_set(run->net, NET_VALUE, to, room), 0);
        if (i >= ref->model->trained_count)
            continue;
        CHECK_INT(net_get(ref->net, NET_MOMENTUM, from, room), 0);
        CHECK_INT(net_set(run->net, NET_MOMENTUM, to, room), 0);
    }
}

/* How far the momenta of all parameters are apart, by their norm. */
static double distance(struct run *run, struct run *ref, float *got, float *want)
{
    double square = 0, error = 0;

    for (size_t i = 0; i < ref->model->trained_count; i++) {
        const struct parameter *p = &ref->model->parameters[i];

        CHECK_INT(net_get(run->net, NET_MOMENTUM, &run->model->parameters[i], got), 0);
        CHECK_INT(net_get(ref->net, NET_MOMENTUM, p, want), 0);
        for (size_t k = 0; k < p->count; k++) {
            const double difference = (double)got[k] - (double)want[k];
            error += difference * difference;
            square += (double)want[k] * (double)want[k];
        }
    }
    return sqrt(error / square);
}

static void first_values(struct run *ref, float *room)
{
    for (size_t i = 0; i < ref->model->parameter_count; i++) {
        const struct parameter *p = &ref->model->parameters[i];

        model_initialise(ref->model, p, 4, false, room);
        CHECK_INT(net_set(ref->net, NET_VALUE, p, room), 0);
    }
}

/* What a run is off by: the root of the mean square over the steps. */
struct off {
    double loss, momenta;
};

static void add_off(struct off *off, double loss, double want, double momenta)
{
    off->loss += (loss / want - 1) * (loss / want - 1) / STEPS;
    off->momenta += momenta * momenta / STEPS;
}

/* One step of RUN from where LEAD stands, with numbers for the update. */
static double step_from(struct run *run, struct run *lead, const struct batch *batch,
                        const struct sgd *sgd, float *room)
{
    struct loss_result found = {.loss = NAN};

    follow(run, lead, room);
    CHECK_INT(net_train(run->net, batch, sgd, &found), 0);
    return found.loss;
}

/* LEAD is ref in f32; RUNS[0] the device, RUNS[1] (of COUNT 2) ref in the device's type. */
static void walk_steps(struct run *lead, struct run runs[2], int count, struct off off[2])
{
    float *room = room_for(lead->model), *other = room_for(lead->model);

    first_values(lead, room);
    if (net_number_names(runs[0].net)) /* a loss scale that is small enough for every step */
        CHECK_INT(net_numbers_set(runs[0].net, (const double[3]){1024, 0, 0}), 0);
    for (int step = 0; step < STEPS; step++) {
        const struct sgd sgd = {.lr = 0.02,
                                .momentum = 0.9,
                                .weight_decay = 1e-4,
                                .gradient_scale = 1,
                                .first_step = step == 0};
        struct loss_result want = {.loss = NAN};
        struct batch batch;
        double losses[2];

        make_batch(&batch, step);
        for (int i = 0; i < count; i++)
            losses[i] = step_from(&runs[i], lead, &batch, &sgd, room);
        CHECK_INT(net_train(lead->net, &batch, &sgd, &want), 0);
        for (int i = 0; i < count; i++)
            add_off(&off[i], losses[i], want.loss, distance(&runs[i], lead, room, other));
    }
    free(room);
    free(other);
}

/* In f32 the limit is LIMIT, in 16 bits what ref is off by. */
static void check_steps(enum precision precision, bool fused, struct off limit)
{
    const int count = precision == PRECISION_F32 ? 1 : 2;
    struct run lead, runs[2];
    struct off off[2] = {{0}};

    sim_set_seed(3);
    if (!open_run(&lead, &backend_ref, PRECISION_F32, false) ||
        !open_run(&runs[0], &backend_cuda, precision, fused) ||
        (count == 2 && !open_run(&runs[1], &backend_ref, precision, false)))
        return;
    walk_steps(&lead, runs, count, off);
    for (int i = 0; i < count; i++)
        close_run(&runs[i]);
    close_run(&lead);
    for (int i = 0; i < 2; i++)
        off[i] = (struct off){sqrt(off[i].loss), sqrt(off[i].momenta)};
    if (count == 2)
        limit = (struct off){2 * off[1].loss, 1.5 * off[1].momenta};
    printf("     %s, level %c: losses off by %.1e (limit %.1e), momenta by %.1e (limit %.1e)\n",
           precision_names[precision], fused ? 'b' : 'a', off[0].loss, limit.loss, off[0].momenta,
           limit.momenta);
    CHECK(off[0].loss <= limit.loss && off[0].momenta <= limit.momenta);
    CHECK_TEXT(sim_take_fault(), "");
}

static void test_f32(void)
{
    check_steps(PRECISION_F32, false, (struct off){1e-5, 1e-3});
}

static void test_bf16(void)
{
    check_steps(PRECISION_BF16, false, (struct off){0});
}

static void test_fp16(void)
{
    check_steps(PRECISION_FP16, true, (struct off){0});
}

static const struct test tests[] = {
    {"f32",  test_f32 },
    {"bf16", test_bf16},
    {"fp16", test_fp16},
};

int main(int argc, char **argv)
{
    setenv("XDG_CACHE_HOME", test_folder(), 1);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
