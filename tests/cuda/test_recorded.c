/*
 * test_recorded.c - a step is one recorded piece: forward, backward, sum and update. On the
 * simulated device a network whose steps are recorded goes the same way, byte for byte, as one
 * whose steps are queued call by call, whatever changes from step to step: micro-batches of an
 * update, rates, which parameters decay, validation between. And a recorded step is one launch.
 */
#include "common/rng.h"
#include "tests/cuda/sim/sim.h"
#include "tests/test.h"
#include "train/net.h"

enum { CLASSES = 10, BATCH = 2, SIZE = 32, BATCHES = 5 };

/* Micro-batches of each update: every kind of walk is made, recorded and played; from OTHER_DECAY
 * on, where it matters what decays, once more. */
static const int updates[] = {1, 3, 3, 1, 1, 3, 1, 1, 3, 1};
enum { OTHER_DECAY = 7, UPDATES = sizeof updates / sizeof *updates };

struct run {
    struct device *device;
    struct model *model;
    struct net *net;
    double losses[64];
    int steps;
};

static struct batch make_batch(uint32_t number)
{
    static uint8_t pixels[BATCHES][BATCH * SIZE * SIZE * 3];
    static int32_t labels[BATCHES][BATCH];
    static uint64_t records[BATCH];
    struct rng rng;
    const uint32_t at = number % BATCHES;

    rng_init(&rng, 9, RNG_TEST, 0, at);
    for (size_t i = 0; i < sizeof *pixels; i++)
        pixels[at][i] = (uint8_t)rng_u32(&rng);
    for (int i = 0; i < BATCH; i++)
        labels[at][i] = (int32_t)rng_below(&rng, CLASSES);
    return (struct batch){.rows = BATCH,
                          .size = SIZE,
                          .pixels = pixels[at],
                          .labels = labels[at],
                          .records = records};
}

static bool open_run(struct run *r, enum precision precision, bool fused)
{
    const struct model_settings model = {
        .arch = "resnet18", .classes = CLASSES, .batch = BATCH, .image_size = SIZE, .fused = fused};
    const struct device_settings settings = {
        .threads = 1, .precision = precision, .deterministic = true};
    const struct net_settings net = {.training = true, .accumulate = true};

    *r = (struct run){0};
    CHECK_INT(backend_cuda.open(&r->device, &settings), 0);
    CHECK_INT(model_open(&r->model, &model), 0);
    CHECK_INT(net_open(&r->net, &backend_cuda, r->device, r->model, &net), 0);
    for (size_t i = 0; r->net && i < r->model->parameter_count; i++) {
        const struct parameter *p = &r->model->parameters[i];
        float *values = malloc(p->count * sizeof *values);

        model_initialise(r->model, p, 3, true, values);
        CHECK_INT(net_set(r->net, NET_VALUE, p, values), 0);
        free(values);
    }
    return r->net;
}

static void close_run(struct run *r)
{
    net_close(r->net);
    model_close(r->model);
    backend_cuda.close(r->device);
}

static struct sgd numbers_of(int update)
{
    return (struct sgd){.lr = 0.01 / (1 + update),
                        .momentum = 0.9,
                        .weight_decay = 0.01,
                        .gradient_scale = 1,
                        .decay_norm = update >= OTHER_DECAY,
                        .first_step = update == 0};
}

/* The first COUNT updates, validation of a short batch behind some. ANOTHER: now and then another
 * batch is sent ahead than is fed. */
static void train(struct run *r, int count, bool another)
{
    for (int u = 0; u < count; u++) {
        const struct sgd sgd = numbers_of(u);
        struct loss_result result = {0};

        for (int i = 1; i <= updates[u]; i++) {
            const struct batch batch = make_batch((uint32_t)r->steps);

            if (another && r->steps % 4 == 3) {
                const struct batch other = make_batch((uint32_t)r->steps + 1);

                CHECK_INT(net_upload(r->net, &other), 0);
            }
            CHECK_INT(net_train(r->net, &batch, i == updates[u] ? &sgd : NULL, &result), 0);
            r->losses[r->steps++] = result.loss;
        }
        if (u % 5 == 2) {
            struct batch batch = make_batch((uint32_t)u);

            batch.rows = 1;
            CHECK_INT(net_evaluate(r->net, &batch, &result), 0);
        }
    }
}

static void check_same(struct run *a, struct run *b, enum net_block block)
{
    const size_t count = block == NET_VALUE ? a->model->parameter_count : a->model->trained_count;

    for (size_t i = 0; i < count; i++) {
        const struct parameter *p = &a->model->parameters[i];
        float *x = malloc(p->count * sizeof *x), *y = malloc(p->count * sizeof *y);

        CHECK_INT(net_get(a->net, block, p, x), 0);
        CHECK_INT(net_get(b->net, block, &b->model->parameters[i], y), 0);
        if (memcmp(x, y, p->count * sizeof *x) != 0) {
            printf("%s: other bytes in block %d\n", p->name, (int)block);
            test_failures++;
        }
        free(x);
        free(y);
    }
}

static uint64_t counted(enum sim_call call)
{
    uint64_t counts[SIM_CALLS];

    sim_get_counts(counts);
    return counts[call];
}

static void check_precision(enum precision precision, bool fused, int count)
{
    const uint64_t unrecorded = count > OTHER_DECAY ? 2 * WALKS : WALKS;
    struct run plain, recorded;
    double numbers[2][3] = {{0}};

    sim_set_seed(3);
    if (!open_run(&plain, precision, fused))
        return;
    sim_set_script("capture_begin:1:error");
    uint64_t launches = counted(SIM_CAPTURE_LAUNCH);
    train(&plain, count, false);
    CHECK_INT(counted(SIM_CAPTURE_LAUNCH) - launches, 0);
    uint64_t made = counted(SIM_CAPTURE_BEGIN);
    sim_set_script("");
    if (!open_run(&recorded, precision, fused))
        return;
    train(&recorded, count, true);
    /* All but the first walk of each kind, before and after the change of what decays. */
    launches = counted(SIM_CAPTURE_LAUNCH) - launches;
    CHECK_INT(launches, (uint64_t)recorded.steps - unrecorded);
    CHECK(counted(SIM_CAPTURE_BEGIN) - made < launches);
    CHECK(memcmp(plain.losses, recorded.losses, sizeof plain.losses) == 0);
    check_same(&plain, &recorded, NET_VALUE);
    check_same(&plain, &recorded, NET_MOMENTUM);
    for (int i = 0; i < 2 && precision == PRECISION_FP16; i++)
        CHECK_INT(net_numbers_get(i ? plain.net : recorded.net, numbers[i]), 0);
    CHECK(memcmp(numbers[0], numbers[1], sizeof *numbers) == 0);
    printf("     %s, level %c: %d steps, loss %.4f to %.4f, loss scale %.0f\n",
           precision_names[precision], fused ? 'b' : 'a', plain.steps, plain.losses[0],
           plain.losses[plain.steps - 1], numbers[0][0]);
    close_run(&plain);
    close_run(&recorded);
    CHECK_TEXT(sim_take_fault(), "");
}

static void test_f32(void)
{
    check_precision(PRECISION_F32, false, UPDATES);
}

static void test_fp16(void)
{
    check_precision(PRECISION_FP16, true, OTHER_DECAY);
}

/* Once every kind is recorded, a step is: a batch in, the update's numbers in, one launch, a result
 * out. */
static void test_one_launch(void)
{
    const struct batch batch = make_batch(0);
    uint64_t before[SIM_CALLS], after[SIM_CALLS];
    struct run r;

    sim_set_seed(2);
    if (!open_run(&r, PRECISION_BF16, false))
        return;
    for (int step = 0; step < 6; step++) {
        const struct sgd sgd = numbers_of(step);

        sim_get_counts(before);
        CHECK_INT(net_train(r.net, &batch, &sgd, NULL), 0);
        sim_get_counts(after);
    }
    CHECK_INT(after[SIM_CAPTURE_LAUNCH] - before[SIM_CAPTURE_LAUNCH], 1);
    CHECK_INT(after[SIM_PLAN_RUN] - before[SIM_PLAN_RUN], 0);
    CHECK_INT(after[SIM_KERNEL] - before[SIM_KERNEL], 1); /* the augmentation */
    CHECK_INT(after[SIM_COPY] - before[SIM_COPY], 4);     /* header, block, numbers; result */
    close_run(&r);
    CHECK_TEXT(sim_take_fault(), "");
}

static const struct test tests[] = {
    {"f32",        test_f32       },
    {"fp16",       test_fp16      },
    {"one_launch", test_one_launch},
};

int main(int argc, char **argv)
{
    setenv("XDG_CACHE_HOME", test_folder(), 1);
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
