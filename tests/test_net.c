/*
 * test_net.c - the memory plan, and what net adds to the ops: order of calls, accumulation, folded
 * weights, messages, profile. Numbers of whole networks: test_gradients.c.
 */
#include "train/net.h"

#include "common/mem.h"
#include "common/rng.h"
#include "tests/test.h"
#include "train/memory_plan.h"

/* ---- memory plan ---- */

static struct memory_thing thing(size_t bytes, int first, int last)
{
    return (struct memory_thing){
        .what = "thing", .owner = "test", .bytes = bytes, .spans = 1, .span = {{first, last}}};
}

static void plans_share_bytes(void)
{
    /* Two that never meet, one that meets both, one of 0 bytes, one with two spans that fits round
     * the second. */
    struct memory_thing things[] = {thing(100, 0, 3), thing(100, 4, 7), thing(64, 3, 4),
                                    thing(0, 0, 9), thing(128, 0, 0)};
    uint64_t bytes;
    int fullest = -1;

    things[4].spans = 2;
    things[4].span[1].first = things[4].span[1].last = 7;
    CHECK_INT(memory_plan_place(things, 5, &bytes), 0);
    CHECK_INT(memory_plan_check(things, 5, bytes), 0);
    CHECK_INT(things[0].offset, things[1].offset);
    CHECK_INT(bytes, 256);
    CHECK_INT(memory_plan_floor(things, 5, 10, &fullest), 256);
    CHECK_INT(fullest, 0);
    CHECK(memory_plan_lives(&things[4], 7) && !memory_plan_lives(&things[4], 5));
    CHECK_INT(memory_plan_place(NULL, 0, &bytes), 0);
    CHECK_INT(bytes, 0);
}

static void plan_check_finds_faults(void)
{
    struct memory_thing things[] = {thing(100, 0, 3), thing(100, 3, 6)};

    things[0].what = "gradient of";
    things[0].owner = "layer1";
    CHECK_INT(memory_plan_check(things, 2, 1000), -ERR_FAULT);
    CHECK_HAS(err_text(), "gradient of layer1");
    things[1].offset = 64; /* their last bytes */
    CHECK_INT(memory_plan_check(things, 2, 1000), -ERR_FAULT);
    things[1].offset = 128;
    CHECK_INT(memory_plan_check(things, 2, 1000), 0);
    CHECK_INT(memory_plan_check(things, 2, 227), -ERR_FAULT);
    things[1].offset = 132;
    CHECK_INT(memory_plan_check(things, 2, 1000), -ERR_FAULT);
    CHECK_HAS(err_text(), "misaligned");
    things[1] = thing(100, 4, 6);
    things[1].spans = 2;
    things[1].span[1].first = 1;
    things[1].span[1].last = 1;
    CHECK_INT(memory_plan_check(things, 2, 1000), -ERR_FAULT);
}

static void random_plans_are_sound(void)
{
    enum { COUNT = 120, STEPS = 40 };
    struct memory_thing things[COUNT];
    struct rng rng;

    rng_init(&rng, 1, RNG_TEST, 0, 0);
    for (int round = 0; round < 40; round++) {
        uint64_t bytes = 0;

        for (int i = 0; i < COUNT; i++) {
            int first = (int)rng_below(&rng, STEPS), last = first + (int)rng_below(&rng, 9);

            things[i] = thing((size_t)rng_below(&rng, 5000), first, last);
            if (rng_below(&rng, 4) == 0) {
                things[i].spans = 2;
                things[i].span[1].first = things[i].span[1].last = (int)rng_below(&rng, STEPS);
            }
        }
        CHECK_INT(memory_plan_place(things, COUNT, &bytes), 0);
        CHECK_INT(memory_plan_check(things, COUNT, bytes), 0);
        CHECK((double)bytes < 1.4 * (double)memory_plan_floor(things, COUNT, STEPS + 9, NULL));
    }
}

/* ---- networks ---- */

struct fixture {
    struct model *model;
    struct device *device;
    struct net *net;
    struct batch batch;
};

enum { SIZE = 32, BATCH = 4, CLASSES = 10 };

static struct device *open_ref(void)
{
    struct device *device = NULL;

    CHECK_INT(backend_ref.open(&device, &(struct device_settings){.threads = 1}), 0);
    return device;
}

/* Pictures and labels of NUMBER. */
static void fill_batch(struct batch *batch, int number)
{
    struct rng rng;

    rng_init(&rng, 5, RNG_TEST, 0, (uint64_t)number);
    for (size_t i = 0; i < (size_t)BATCH * SIZE * SIZE * 3; i++)
        ((uint8_t *)batch->pixels)[i] = (uint8_t)rng_u32(&rng);
    for (int i = 0; i < BATCH; i++)
        ((int32_t *)batch->labels)[i] = (int32_t)rng_below(&rng, CLASSES);
}

static void fixture_close(struct fixture *f)
{
    net_close(f->net);
    model_close(f->model);
    backend_ref.close(f->device);
    free((void *)f->batch.pixels);
    free((void *)f->batch.labels);
    free((void *)f->batch.records);
}

/* Cheap numbers of the size that model_initialise gives. */
static void first_values(const struct parameter *p, float *out)
{
    bool one = p->role == PARAMETER_GAMMA || p->role == PARAMETER_RUNNING_VAR;
    double scale = p->role == PARAMETER_CONV ? sqrt(6.0 * (double)p->shape[1] / (double)p->count)
                   : p->role == PARAMETER_LINEAR ? 0.05
                                                 : 0;
    uint32_t state = (uint32_t)p->count;

    for (size_t i = 0; i < p->count; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = one ? 1 : (float)(scale * (state / 2147483648.0 - 1));
    }
}

/* A ResNet-18 on BACKEND (ref or a wrapper of it) with first values. */
static void fixture_open(struct fixture *f, const struct backend *backend,
                         const struct net_settings *settings)
{
    const struct model_settings model = {"resnet18", CLASSES, BATCH, SIZE, 0.1F, false};

    *f = (struct fixture){.device = open_ref()};
    f->batch = (struct batch){.rows = BATCH,
                              .size = SIZE,
                              .pixels = malloc((size_t)BATCH * SIZE * SIZE * 3),
                              .labels = malloc(BATCH * sizeof(int32_t)),
                              .records = calloc(BATCH, sizeof(uint64_t))};
    fill_batch(&f->batch, 0);
    CHECK_INT(model_open(&f->model, &model), 0);
    CHECK_INT(net_open(&f->net, backend, f->device, f->model, settings), 0);
    for (size_t i = 0; i < f->model->parameter_count; i++) {
        const struct parameter *p = &f->model->parameters[i];
        float *values = malloc(p->count * sizeof *values);

        first_values(p, values);
        CHECK_INT(net_set(f->net, NET_VALUE, p, values), 0);
        free(values);
    }
}

static const struct net_settings for_training = {.training = true};
static const struct sgd plain_sgd = {.lr = 0.05,
                                     .momentum = 0.9,
                                     .weight_decay = 1e-4,
                                     .gradient_scale = 1,
                                     .decay_norm = true,
                                     .first_step = true};

static const struct parameter *find(const struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->model->parameter_count; i++)
        if (strcmp(f->model->parameters[i].name, name) == 0)
            return &f->model->parameters[i];
    printf("no parameter %s\n", name);
    exit(1);
}

static float *get(const struct fixture *f, enum net_block block, const char *name)
{
    const struct parameter *p = find(f, name);
    float *out = malloc(p->count * sizeof *out);

    CHECK_INT(net_get(f->net, block, p, out), 0);
    return out;
}

/* Is a parameter the same to the bit in both? */
static bool same(const struct fixture *a, const struct fixture *b, const char *name)
{
    float *x = get(a, NET_VALUE, name), *y = get(b, NET_VALUE, name);
    bool equal = memcmp(x, y, find(a, name)->count * sizeof *x) == 0;

    free(x);
    free(y);
    return equal;
}

static void plans_of_networks_are_near_their_floor(void)
{
    static const struct {
        const char *arch;
        double pytorch; /* peak MiB at batch 16, 224 pixels, 1000 classes, f32 */
    } rows[] = {
        {"resnet18",  1434},
        {"resnet50",  2651},
        {"resnet152", 4400}
    };
    struct device *device = open_ref();
    double sum = 0, sum_pytorch = 0;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct model_settings settings = {rows[i].arch, 1000, 16, 224, 0, false};
        struct model *model = NULL;
        struct net *net = NULL;

        CHECK_INT(model_open(&model, &settings), 0);
        CHECK_INT(net_open(&net, &backend_ref, device, model,
                           &(struct net_settings){.training = true, .plan_only = true}),
                  0);
        CHECK_INT(net_check_plan(net), 0);
        const struct net_plan *p = net_memory(net);
        double floor = (double)(p->activations + p->activation_gradients + p->saved + p->workspace);
        double mib = (double)p->total / (1 << 20);

        printf("%s: %.0f MiB (PyTorch %.0f), arena %.1f, floor %.1f\n", rows[i].arch, mib,
               rows[i].pytorch, (double)p->arena / (1 << 20), floor / (1 << 20));
        CHECK((double)p->arena < 1.03 * floor);
        CHECK_INT(p->total, p->values + p->gradients + p->momenta + p->packed + p->arena);
        CHECK_INT(p->accumulated, 0);
        sum += mib;
        sum_pytorch += rows[i].pytorch;
        net_close(net);
        model_close(model);
    }
    CHECK(sum < 0.75 * sum_pytorch);
    backend_ref.close(device);
}

static void settings_choose_the_blocks(void)
{
    struct fixture f;
    struct loss_result result;

    fixture_open(&f, &backend_ref, &(struct net_settings){.training = true, .accumulate = true});
    CHECK_INT(net_memory(f.net)->accumulated, net_memory(f.net)->gradients);
    CHECK_INT(net_memory(f.net)->momenta, net_memory(f.net)->gradients);
    CHECK(net_memory(f.net)->values > net_memory(f.net)->gradients);
    fixture_close(&f);
    fixture_open(&f, &backend_ref, &(struct net_settings){0});
    CHECK_INT(net_memory(f.net)->gradients + net_memory(f.net)->momenta + net_memory(f.net)->packed,
              0);
    CHECK_INT(net_check_plan(f.net), 0);
    CHECK_INT(net_evaluate(f.net, &f.batch, &result), 0);
    CHECK_INT(net_train(f.net, &f.batch, NULL, &result), -ERR_FAULT);
    CHECK_HAS(err_text(), "evaluation only");
    fixture_close(&f);
}

/* ---- calls ---- */

/* Two updates of two batches, a validation between or not: the same weights to the bit. */
static void validation_changes_nothing(void)
{
    const struct net_settings accumulating = {.training = true, .accumulate = true};
    struct fixture a, b;
    struct loss_result result;
    struct sgd sgd = plain_sgd;

    fixture_open(&a, &backend_ref, &accumulating);
    fixture_open(&b, &backend_ref, &accumulating);
    for (int step = 0; step < 4; step++) {
        const struct sgd *update = step % 2 ? &sgd : NULL;

        fill_batch(&a.batch, step);
        fill_batch(&b.batch, step);
        CHECK_INT(net_train(a.net, &a.batch, update, &result), 0);
        CHECK_INT(net_train(b.net, &b.batch, update, NULL), 0);
        CHECK_INT(net_evaluate(b.net, &b.batch, &result), 0);
        sgd.first_step &= !update;
    }
    CHECK(same(&a, &b, "conv1.weight"));
    CHECK(same(&a, &b, "layer3.0.downsample.0.weight"));
    CHECK(same(&a, &b, "layer4.1.bn2.running_var"));
    CHECK(same(&a, &b, "fc.bias"));
    fixture_close(&a);
    fixture_close(&b);
}

/* The loss of F's batch in a network of its own, for evaluation only, that was given F's values. */
static double loss_in_fresh_network(const struct fixture *f)
{
    struct fixture fresh;
    struct loss_result result = {0};

    fixture_open(&fresh, &backend_ref, &(struct net_settings){0});
    for (size_t i = 0; i < f->model->parameter_count; i++) {
        const struct parameter *p = &f->model->parameters[i];
        float *values = get(f, NET_VALUE, p->name);

        CHECK_INT(net_set(fresh.net, NET_VALUE, &fresh.model->parameters[i], values), 0);
        free(values);
    }
    memcpy((uint8_t *)fresh.batch.pixels, f->batch.pixels, (size_t)BATCH * SIZE * SIZE * 3);
    memcpy((int32_t *)fresh.batch.labels, f->batch.labels, BATCH * sizeof(int32_t));
    CHECK_INT(net_evaluate(fresh.net, &fresh.batch, &result), 0);
    fixture_close(&fresh);
    return result.loss;
}

static void check_evaluation(struct fixture *f, const char *after)
{
    struct loss_result result = {0}, again = {0};
    double expected = loss_in_fresh_network(f);

    CHECK_INT(net_evaluate(f->net, &f->batch, &result), 0);
    CHECK_INT(net_evaluate(f->net, &f->batch, &again), 0);
    if (result.loss != expected || again.loss != expected) {
        printf("after %s: loss %.17g, then %.17g; in a fresh network %.17g\n", after, result.loss,
               again.loss, expected);
        test_failures++;
    }
}

/* Folded weights follow every change: by running statistics alone, by an update, by net_set. */
static void evaluation_follows_the_parameters(void)
{
    struct fixture f;
    float bias[CLASSES] = {5, -5};

    fixture_open(&f, &backend_ref, &for_training);
    check_evaluation(&f, "opening");
    CHECK_INT(net_train(f.net, &f.batch, NULL, NULL), 0);
    check_evaluation(&f, "a training pass");
    CHECK_INT(net_train(f.net, &f.batch, &plain_sgd, NULL), 0);
    check_evaluation(&f, "an update");
    CHECK_INT(net_set(f.net, NET_VALUE, find(&f, "fc.bias"), bias), 0);
    check_evaluation(&f, "net_set");
    fixture_close(&f);
}

/* The loss of one row of logits, with the fixture's label smoothing of 0.1. */
static double row_loss(const float *row, int32_t label)
{
    double sum = 0, mean = 0;

    for (int k = 0; k < CLASSES; k++) {
        sum += exp((double)row[k]);
        mean += (double)row[k] / CLASSES;
    }
    return log(sum) - 0.9 * row[label] - 0.1 * mean;
}

/* A short batch counts its rows only; logits are those of the evaluation. */
static void short_batches_count_their_rows(void)
{
    struct fixture f;
    struct loss_result result;
    float logits[BATCH * CLASSES], again[BATCH * CLASSES];
    double sum = 0;

    fixture_open(&f, &backend_ref, &for_training);
    CHECK_INT(net_logits(f.net, logits), -ERR_FAULT);
    CHECK_INT(net_train(f.net, &f.batch, NULL, &result), 0);
    CHECK_INT(net_logits(f.net, logits), 0);
    for (int i = 0; i < BATCH; i++)
        sum += row_loss(logits + (size_t)i * CLASSES, f.batch.labels[i]);
    CHECK_CLOSE(result.loss, sum / BATCH, 1e-6);
    sum = 0;
    CHECK_INT(net_evaluate(f.net, &f.batch, NULL), 0);
    CHECK_INT(net_logits(f.net, logits), 0);
    for (int rows = 1; rows <= BATCH; rows++) {
        f.batch.rows = rows;
        CHECK_INT(net_evaluate(f.net, &f.batch, &result), 0);
        CHECK_INT(net_logits(f.net, again), 0);
        for (int i = 0; i < BATCH * CLASSES; i++)
            CHECK(logits[i] == again[i]);
        sum += row_loss(logits + (rows - 1) * CLASSES, f.batch.labels[rows - 1]);
        CHECK_CLOSE(result.loss, sum / rows, 1e-6);
        CHECK(result.top1 <= result.top5 && result.top5 <= rows);
    }
    fixture_close(&f);
}

static void wrong_batches_are_refused(void)
{
    struct fixture f;

    fixture_open(&f, &backend_ref, &for_training);
    f.batch.rows = BATCH - 1;
    CHECK_INT(net_train(f.net, &f.batch, &plain_sgd, NULL), -ERR_FAULT);
    f.batch.rows = 0;
    CHECK_INT(net_evaluate(f.net, &f.batch, NULL), -ERR_FAULT);
    f.batch.rows = BATCH + 1;
    CHECK_INT(net_evaluate(f.net, &f.batch, NULL), -ERR_FAULT);
    f.batch.rows = BATCH;
    f.batch.size = SIZE + 1;
    CHECK_INT(net_evaluate(f.net, &f.batch, NULL), -ERR_FAULT);
    CHECK_HAS(err_text(), "33 pixels");
    fixture_close(&f);
}

static float *gradient_of_batch(struct fixture *f, int number, const char *name,
                                const struct sgd *update)
{
    fill_batch(&f->batch, number);
    CHECK_INT(net_train(f->net, &f->batch, update, NULL), 0);
    return get(f, NET_GRADIENT, name);
}

/* Two micro-batches: the gradient is the mean of theirs. A second round: sums begin anew. */
static void micro_batches_add_up(void)
{
    const char *name = "layer2.0.conv2.weight";
    struct fixture f, single;

    fixture_open(&f, &backend_ref, &(struct net_settings){.training = true, .accumulate = true});
    fixture_open(&single, &backend_ref, &for_training);
    float *first = gradient_of_batch(&single, 1, name, NULL);
    float *second = gradient_of_batch(&single, 2, name, NULL);
    for (int round = 0; round < 2; round++) {
        struct sgd sgd = {.lr = round ? 0.5 : 0, .gradient_scale = 1, .first_step = true};
        float *before = get(&f, NET_VALUE, name);

        free(gradient_of_batch(&f, 1, name, NULL));
        float *sum = gradient_of_batch(&f, 2, name, &sgd);
        float *after = get(&f, NET_VALUE, name);
        for (size_t k = 0; k < find(&f, name)->count; k++) {
            CHECK_CLOSE(sum[k], (double)first[k] + second[k], 1e-6);
            CHECK_CLOSE(after[k], before[k] - sgd.lr * sum[k] / 2, 1e-6);
        }
        free(before);
        free(sum);
        free(after);
    }
    free(first);
    free(second);
    fixture_close(&f);
    fixture_close(&single);
}

static void blocks_go_round(void)
{
    struct fixture f;
    const char *trained = "layer2.0.conv1.weight", *statistic = "layer2.0.bn1.running_mean";

    fixture_open(&f, &backend_ref, &for_training);
    float *momentum = get(&f, NET_MOMENTUM, trained);
    size_t count = find(&f, trained)->count;
    for (size_t i = 0; i < count; i++) {
        CHECK_CLOSE(momentum[i], 0, 0);
        momentum[i] = (float)i;
    }
    CHECK_INT(net_set(f.net, NET_MOMENTUM, find(&f, trained), momentum), 0);
    float *again = get(&f, NET_MOMENTUM, trained);
    CHECK(memcmp(again, momentum, count * sizeof *momentum) == 0);
    CHECK_INT(net_get(f.net, NET_MOMENTUM, find(&f, statistic), momentum), -ERR_FAULT);
    CHECK_HAS(err_text(), statistic);
    CHECK_INT(net_set(f.net, NET_GRADIENT, find(&f, statistic), momentum), -ERR_FAULT);
    free(momentum);
    free(again);
    fixture_close(&f);
}

static void steps_do_not_allocate(void)
{
    struct fixture f;
    struct loss_result result;
    struct sgd sgd = plain_sgd;

    fixture_open(&f, &backend_ref, &(struct net_settings){.training = true, .accumulate = true});
    uint64_t before = mem_allocations();
    for (int step = 0; step < 2; step++) {
        CHECK_INT(net_train(f.net, &f.batch, NULL, &result), 0);
        CHECK_INT(net_train(f.net, &f.batch, &sgd, NULL), 0);
        CHECK_INT(net_evaluate(f.net, &f.batch, &result), 0);
        sgd.first_step = false;
    }
    CHECK_INT(mem_allocations() - before, 0);
    fixture_close(&f);
}

static void profile_has_every_kind(void)
{
    struct fixture f;

    fixture_open(&f, &backend_ref, &for_training);
    CHECK_INT(net_train(f.net, &f.batch, NULL, NULL), 0);
    CHECK(net_profile(f.net)->forward[OP_CONV] == 0);
    net_profile_start(f.net);
    for (int step = 0; step < 2; step++)
        CHECK_INT(net_train(f.net, &f.batch, &plain_sgd, NULL), 0);
    CHECK_INT(net_evaluate(f.net, &f.batch, NULL), 0);
    const struct net_profile *p = net_profile(f.net);
    CHECK_INT(p->steps, 2);
    for (int kind = 0; kind < OP_KINDS; kind++) {
        if (kind == OP_NORM_CONV)
            continue; /* of fused lists */
        CHECK(p->forward[kind] > 0);
        CHECK((p->backward[kind] > 0) == (kind != OP_CONV_NORM));
    }
    CHECK(p->prepare[OP_CONV] > 0 && p->prepare[OP_CONV_NORM] > 0);
    CHECK(p->update > 0 && p->feed > 0);
    CHECK(p->backward[OP_CONV] > p->backward[OP_LOSS]);
    fixture_close(&f);
}

/* ---- failures, by a backend that is ref but for one function ---- */

static struct backend broken;
static int calls_left; /* before the failure */

static int failing_alloc(struct device *device, size_t bytes, void **out)
{
    if (calls_left-- == 0)
        return err_set(ERR_MEMORY, "no %zu bytes", bytes);
    return backend_ref.alloc(device, bytes, out);
}

static int failing_forward(struct device *device, struct op *op, float *values)
{
    if (calls_left-- == 0)
        return err_set(ERR_DEVICE, "the device is gone");
    return backend_ref.forward(device, op, values);
}

static int failing_setup(struct device *device, struct op *op, bool training)
{
    if (calls_left-- == 0)
        return err_set(ERR_FAULT, "no such op");
    return backend_ref.op_setup(device, op, training);
}

static int releases;
static void counting_op_release(struct device *device, struct op *op)
{
    releases++;
    backend_ref.op_release(device, op);
}

static int open_broken(void)
{
    const struct model_settings settings = {"resnet18", CLASSES, BATCH, SIZE, 0, false};
    struct device *device = open_ref();
    struct model *model = NULL;
    struct net *net = NULL;

    CHECK_INT(model_open(&model, &settings), 0);
    int rc = net_open(&net, &broken, device, model, &for_training);
    CHECK((rc == 0) == (net != NULL));
    net_close(net);
    model_close(model);
    backend_ref.close(device);
    return rc;
}

static void failures_name_op_and_shape(void)
{
    struct fixture f;

    broken = backend_ref;
    broken.forward = failing_forward;
    fixture_open(&f, &broken, &for_training);
    calls_left = 3; /* conv1, bn1, maxpool */
    CHECK_INT(net_train(f.net, &f.batch, NULL, NULL), -ERR_DEVICE);
    CHECK_HAS(err_text(), "layer1.0.conv1");
    CHECK_HAS(err_text(), "4x64x8x8 to 4x64x8x8");
    CHECK_HAS(err_text(), "forward");
    CHECK_HAS(err_text(), "the device is gone");
    fixture_close(&f);

    broken = backend_ref;
    broken.op_setup = failing_setup;
    broken.op_release = counting_op_release;
    calls_left = 5;
    releases = 0;
    CHECK_INT(open_broken(), -ERR_FAULT);
    CHECK_HAS(err_text(), "no such op");
    CHECK_INT(releases, 5);

    broken = backend_ref;
    broken.alloc = failing_alloc;
    for (int block = 0; block < 5; block++) {
        calls_left = block;
        CHECK_INT(open_broken(), -ERR_MEMORY);
        CHECK_HAS(err_text(), "resnet18 with batches of 4 pictures of 32 pixels needs");
        CHECK_HAS(err_text(), "smaller batch");
    }
}

static void too_few_values_are_refused(void)
{
    const struct model_settings settings = {"resnet18", CLASSES, 1, 32, 0, false};
    struct device *device = open_ref();
    struct model *model = NULL;
    struct net *net = NULL;

    CHECK_INT(model_open(&model, &settings), 0);
    CHECK_INT(net_open(&net, &backend_ref, device, model, &for_training), -ERR_USAGE);
    CHECK_HAS(err_text(), "layer4.0.bn1");
    CHECK_HAS(err_text(), "larger batch");
    CHECK_INT(net_open(&net, &backend_ref, device, model, &(struct net_settings){0}), 0);
    net_close(net);
    net_close(NULL);
    model_close(model);
    backend_ref.close(device);
}

static void plans_need_no_memory(void)
{
    const struct model_settings settings = {"resnet18", CLASSES, BATCH, SIZE, 0, false};
    struct device *device = open_ref();
    struct model *model = NULL;
    struct net *net = NULL;
    struct loss_result result;

    broken = backend_ref;
    broken.alloc = failing_alloc;
    calls_left = 0;
    CHECK_INT(model_open(&model, &settings), 0);
    CHECK_INT(net_open(&net, &broken, device, model,
                       &(struct net_settings){.training = true, .plan_only = true}),
              0);
    CHECK(net_memory(net)->total > 0);
    CHECK_INT(net_train(net, NULL, NULL, &result), -ERR_FAULT);
    CHECK_INT(net_evaluate(net, NULL, &result), -ERR_FAULT);
    CHECK_HAS(err_text(), "plan");
    net_close(net);
    model_close(model);
    backend_ref.close(device);
}

static const struct test tests[] = {
    {"plans_share_bytes",                      plans_share_bytes                     },
    {"plan_check_finds_faults",                plan_check_finds_faults               },
    {"random_plans_are_sound",                 random_plans_are_sound                },
    {"plans_of_networks_are_near_their_floor", plans_of_networks_are_near_their_floor},
    {"settings_choose_the_blocks",             settings_choose_the_blocks            },
    {"validation_changes_nothing",             validation_changes_nothing            },
    {"evaluation_follows_the_parameters",      evaluation_follows_the_parameters     },
    {"short_batches_count_their_rows",         short_batches_count_their_rows        },
    {"wrong_batches_are_refused",              wrong_batches_are_refused             },
    {"micro_batches_add_up",                   micro_batches_add_up                  },
    {"blocks_go_round",                        blocks_go_round                       },
    {"steps_do_not_allocate",                  steps_do_not_allocate                 },
    {"profile_has_every_kind",                 profile_has_every_kind                },
    {"failures_name_op_and_shape",             failures_name_op_and_shape            },
    {"too_few_values_are_refused",             too_few_values_are_refused            },
    {"plans_need_no_memory",                   plans_need_no_memory                  },
};
TEST_MAIN(tests)
