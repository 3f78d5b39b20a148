/*
 * test_backend.c - what a backend does beside ops: transfers, feeding pictures, the update, sums of
 * gradients; on every device, with guard zones and poison as test_ops.c has them.
 */
#include "tests/op_rig.h"

/* One case with each kind of tensor and parameter. */
enum { PICTURES, CONV, CONV_ODD, NORM, NORM_ODD, LINEAR, LINEAR_ODD, CASES };
static const struct op_case cases[CASES] = {
    [PICTURES] = {.kind = OP_CONV,
                  .n = 2,
                  .c = 3,
                  .h = 9,
                  .w = 7,
                  .out_c = 64,
                  .kernel = 7,
                  .stride = 2,
                  .padding = 3,
                  .in_slot = -1},
    [CONV] = {.kind = OP_CONV,
                  .n = 2,
                  .c = 64,
                  .h = 7,
                  .w = 7,
                  .out_c = 48,
                  .kernel = 3,
                  .stride = 1,
                  .padding = 1},
    [CONV_ODD] = {.kind = OP_CONV,
                  .n = 1,
                  .c = 5,
                  .h = 3,
                  .w = 3,
                  .out_c = 7,
                  .kernel = 3,
                  .stride = 1,
                  .padding = 1},
    [NORM] = {.kind = OP_NORM, .n = 2,              .c = 64,                              .h = 7,                                                  .w = 5                                                                                                },
    [NORM_ODD] = {.kind = OP_NORM,     .n = 2,        .c = 19,                      .h = 1,                          .w = 1                                                                },
    [LINEAR] = {.kind = OP_LINEAR,         .n = 2,           .c = 512,           .h = 1,.w = 1,.out_c = 1000                                                  },
    [LINEAR_ODD] = {.kind = OP_LINEAR,               .n = 2, .c = 33, .h = 1, .w = 1,.out_c = 3},
};

static double normalised(int value, int channel)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, deviation[3] = {0.229, 0.224, 0.225};

    return (value / 255.0 - mean[channel]) / deviation[channel];
}

static void feed_normalises_pictures(void)
{
    enum { N = 3, SIZE = 11 };
    uint8_t pixels[N * SIZE * SIZE * 3] = {0};
    float got[N * 3 * SIZE * SIZE];
    uint64_t records[N] = {0};
    int32_t labels[N] = {0};

    for (int i = 0; i < 2 * SIZE * SIZE * 3; i++)
        pixels[i] = (uint8_t)(i * 37 % 256);
    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);
        struct tensor t = rig_tensor(TENSOR_PICTURES, N, 3, SIZE, SIZE);
        struct batch batch = {
            .rows = 2, .size = SIZE, .pixels = pixels, .labels = labels, .records = records};
        struct rig r = {.backend = backend, .device = device};

        if (!backend)
            continue;
        CHECK_INT(backend->tensor_setup(device, &t), 0);
        rig_reserve(&r, NULL);
        t.data = rig_alloc(&r, t.bytes);
        CHECK_INT(backend->feed(device, &batch, &t), 0);
        CHECK_INT(backend->sync(device), 0);
        CHECK_INT(backend->tensor_get(device, &t, t.data, got), 0);
        rig_check_guards(&r, "feed");
        double tolerance = rig_devices[d].settings.precision == PRECISION_BF16   ? 8e-3
                           : rig_devices[d].settings.precision == PRECISION_FP16 ? 1e-3
                                                                                 : 1e-6;
        for (int i = 0; i < N * 3 * SIZE * SIZE; i++) {
            int x = i % SIZE, y = i / SIZE % SIZE, c = i / (SIZE * SIZE) % 3,
                n = i / (SIZE * SIZE * 3);
            int value = pixels[((n * SIZE + y) * SIZE + x) * 3 + c];

            CHECK_CLOSE(got[i], normalised(value, c), tolerance);
        }
        backend->release(device, r.blocks[0].base);
        backend->close(device);
    }
}

/* What is set is got back; bf16 activations of values that bf16 holds as well. */
static void transfers_go_round(void)
{
    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);

        for (size_t i = 0; i < CASES && backend; i++) {
            struct rig rig;
            struct rig_data data;
            struct rig_results got = {0};

            if (!rig_takes(&rig_devices[d], backend, device, &cases[i]))
                continue;
            rig_data_open(&data, &cases[i], 400 + i);
            rig_open(&rig, backend, device, &cases[i]);
            rig_set_inputs(&rig, &data);
            rig_get_tensor(&rig, RIG_OUT, &rig.in, rig.in.data, &got);
            CHECK(memcmp(got.outputs[RIG_OUT].values, data.inputs[RIG_IN].values,
                         got.outputs[RIG_OUT].count * sizeof(float)) == 0);
            for (int p = 0; p < 4; p++) {
                enum rig_output which = RIG_WEIGHT_GRADIENT + (enum rig_output)p;

                rig_get_parameter(&rig, which, p, rig.values, &got);
                CHECK(!got.outputs[which].count ||
                      memcmp(got.outputs[which].values, data.inputs[RIG_WEIGHT + p].values,
                             got.outputs[which].count * sizeof(float)) == 0);
            }
            rig_check_gaps(&rig, rig.values, "parameter_set");
            rig_close(&rig);
            rig_results_close(&got);
            rig_data_close(&data);
        }
        if (backend)
            backend->close(device);
    }
}

/* Three steps of SGD on host values. */
static void expected_update(const struct sgd *sgd, bool decays, size_t count, const float *gradient,
                            float *value, float *momentum)
{
    for (size_t i = 0; i < count; i++) {
        double g = gradient[i] * sgd->gradient_scale + (decays ? sgd->weight_decay * value[i] : 0);

        momentum[i] = (float)(sgd->first_step ? g : sgd->momentum * momentum[i] + g);
        value[i] = (float)(value[i] - sgd->lr * momentum[i]);
    }
}

/* One parameter of a case with values, momenta and gradients of its own, through some updates. */
static void check_update(struct rig *rig, const struct rig_data *data, int i, bool decay_norm)
{
    const struct parameter *p = &rig->parameters[i];
    const struct rig_array *a = &data->inputs[RIG_WEIGHT + i];
    float *momenta = rig_alloc(rig, rig->floats * sizeof(float));
    float *value = malloc(a->count * sizeof *value), *gradient = malloc(a->count * sizeof *value);
    float *momentum = calloc(a->count, sizeof *momentum), *got = malloc(a->count * sizeof *got);
    bool decays = decay_norm || p->role == PARAMETER_CONV || p->role == PARAMETER_LINEAR;
    struct sgd sgd = {0.1, 0.9, 0.01, 0.25, decay_norm, true};

    rig_reserve(rig, p);
    memcpy(value, a->values, a->count * sizeof *value);
    rig_must(rig, rig->backend->parameter_set(rig->device, p, value, rig->values), "set");
    for (int step = 0; step < 3; step++, sgd.first_step = false) {
        for (size_t k = 0; k < a->count; k++)
            gradient[k] = a->values[(k + (size_t)step + 1) % a->count];
        rig_must(rig, rig->backend->parameter_set(rig->device, p, gradient, rig->gradients), "set");
        rig_must(rig, rig->backend->sgd_set(rig->device, &sgd), "sgd_set");
        rig_must(rig, rig->backend->update(rig->device, p, 1, rig->values, rig->gradients, momenta),
                 "update");
        expected_update(&sgd, decays, a->count, gradient, value, momentum);
        rig_must(rig, rig->backend->parameter_get(rig->device, p, rig->values, got), "get");
        for (size_t k = 0; k < a->count; k++)
            CHECK_CLOSE(got[k], value[k], 1e-6);
        rig_must(rig, rig->backend->parameter_get(rig->device, p, momenta, got), "get");
        for (size_t k = 0; k < a->count; k++)
            CHECK_CLOSE(got[k], momentum[k], 1e-6);
    }
    rig_check_guards(rig, "update");
    CHECK(rig_untouched(momenta, p->offset * sizeof(float)));
    free(value);
    free(gradient);
    free(momentum);
    free(got);
}

static void update_is_pytorchs_sgd(void)
{
    static const struct {
        int c, parameter;
    } rows[] = {
        {PICTURES,   0},
        {CONV,       0},
        {CONV_ODD,   0},
        {NORM,       2},
        {NORM,       3},
        {NORM_ODD,   2},
        {LINEAR,     0},
        {LINEAR,     1},
        {LINEAR_ODD, 0},
        {LINEAR_ODD, 1},
    };

    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);

        for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows && backend; i++) {
            struct rig rig;
            struct rig_data data;

            if (!rig_takes(&rig_devices[d], backend, device, &cases[rows[i / 2].c]))
                continue;
            rig_data_open(&data, &cases[rows[i / 2].c], 500 + i);
            rig_open(&rig, backend, device, &cases[rows[i / 2].c]);
            check_update(&rig, &data, rows[i / 2].parameter, i % 2);
            rig_close(&rig);
            rig_data_close(&data);
        }
        if (backend)
            backend->close(device);
    }
}

static void accumulate_adds(void)
{
    enum { COUNT = 1037 };

    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);
        struct rig r = {.backend = backend, .device = device};

        if (!backend)
            continue;
        float *sum = rig_alloc(&r, COUNT * sizeof *sum);
        float *gradients = rig_alloc(&r, COUNT * sizeof *gradients);
        for (int step = 0; step < 3; step++) {
            for (int i = 0; i < COUNT; i++)
                gradients[i] = (float)(i * (step + 1));
            CHECK_INT(backend->accumulate(device, COUNT, step == 0, gradients, sum), 0);
            CHECK_INT(backend->sync(device), 0);
        }
        for (int i = 0; i < COUNT; i++)
            CHECK_CLOSE(sum[i], 6.0 * i, 0);
        rig_check_guards(&r, "accumulate");
        backend->release(device, r.blocks[0].base);
        backend->release(device, r.blocks[1].base);
        backend->close(device);
    }
}

/* ---- the list ---- */

static void backends_are_found_by_name(void)
{
    struct device *device = NULL;
    const struct device_settings tf32 = {.precision = PRECISION_TF32};

    CHECK(backend_find("ref") == &backend_ref);
    CHECK(!backend_find("gpu"));
    CHECK_HAS(err_text(), "\"gpu\"");
    CHECK_HAS(err_text(), "ref");
    CHECK_INT(backend_ref.open(&device, &tf32), -ERR_USAGE);
    CHECK_HAS(err_text(), "f32");
    backend_ref.close(NULL);
}

static const struct test tests[] = {
    {"feed_normalises_pictures",   feed_normalises_pictures  },
    {"transfers_go_round",         transfers_go_round        },
    {"update_is_pytorchs_sgd",     update_is_pytorchs_sgd    },
    {"accumulate_adds",            accumulate_adds           },
    {"backends_are_found_by_name", backends_are_found_by_name},
};
TEST_MAIN(tests)
