/*
 * test_ops.c - every op of every backend against `ref`, forward and backward, over awkward shapes,
 * with guard zones and poison round everything; `ref` itself against central differences and
 * against first principles.
 *
 * To add a backend: one row in rig_devices[] (op_rig.h). To add an op: rows in cases[], and its
 * values in op_rig.h.
 */
#include "tests/op_rig.h"

/* ---- cases ---- */

#define CONV(n_, c_, h_, w_, o_, k_, s_, p_, ...)                                                  \
    {                                                                                              \
        .kind = OP_CONV, .n = n_, .c = c_, .h = h_, .w = w_, .out_c = o_, .kernel = k_,            \
        .stride = s_, .padding = p_, __VA_ARGS__                                                   \
    }
#define CONV_NORM(n_, c_, h_, w_, o_, k_, s_, p_, ...)                                             \
    {                                                                                              \
        .kind = OP_CONV_NORM, .n = n_, .c = c_, .h = h_, .w = w_, .out_c = o_, .kernel = k_,       \
        .stride = s_, .padding = p_, .evaluation = true, __VA_ARGS__                               \
    }
#define NORM_CONV(n_, c_, h_, w_, o_, k_, s_, p_, ...)                                             \
    {                                                                                              \
        .kind = OP_NORM_CONV, .n = n_, .c = c_, .h = h_, .w = w_, .out_c = o_, .kernel = k_,       \
        .stride = s_, .padding = p_, .relu = true, .sums = true, __VA_ARGS__                       \
    }
#define NORM(n_, c_, h_, w_, ...)                                                                  \
    {                                                                                              \
        .kind = OP_NORM, .n = n_, .c = c_, .h = h_, .w = w_, __VA_ARGS__                           \
    }
#define MAX_POOL(n_, c_, h_, w_, ...)                                                              \
    {                                                                                              \
        .kind = OP_MAX_POOL, .n = n_, .c = c_, .h = h_, .w = w_, .kernel = 3, .stride = 2,         \
        .padding = 1, __VA_ARGS__                                                                  \
    }
#define MEAN_POOL(n_, c_, h_, w_, ...)                                                             \
    {                                                                                              \
        .kind = OP_MEAN_POOL, .n = n_, .c = c_, .h = h_, .w = w_, __VA_ARGS__                      \
    }
#define LINEAR(n_, c_, o_, ...)                                                                    \
    {                                                                                              \
        .kind = OP_LINEAR, .n = n_, .c = c_, .h = 1, .w = 1, .out_c = o_, __VA_ARGS__              \
    }
#define LOSS(n_, c_, ...)                                                                          \
    {                                                                                              \
        .kind = OP_LOSS, .n = n_, .c = c_, .h = 1, .w = 1, __VA_ARGS__                             \
    }

static const struct op_case cases[] = {
    /* The stem: 7x7 stride 2 padding 3 of pictures, whose gradient nobody wants. */
    CONV(1, 3, 32, 32, 64, 7, 2, 3, .in_slot = -1),
    CONV(2, 3, 37, 33, 64, 7, 2, 3, .in_slot = -1),
    CONV(3, 3, 9, 7, 5, 7, 2, 3, .in_slot = -1),
    /* 3x3 */
    CONV(1, 64, 14, 14, 64, 3, 1, 1, .readers = 1),
    CONV(2, 64, 7, 7, 64, 3, 1, 1, .in_slot = 1),
    CONV(2, 32, 7, 7, 48, 3, 2, 1, .readers = 1),
    CONV(1, 64, 56, 56, 64, 3, 1, 1, .readers = 1),
    CONV(2, 16, 8, 8, 32, 3, 2, 1, .in_slot = 1),
    CONV(3, 5, 9, 11, 7, 3, 1, 1, .readers = 2),
    CONV(3, 17, 5, 4, 9, 3, 2, 1, .in_slot = 1),
    CONV(4, 128, 2, 2, 128, 3, 1, 1, .readers = 1),
    CONV(4, 64, 2, 2, 128, 3, 2, 1, .readers = 1),
    CONV(5, 32, 1, 1, 32, 3, 1, 1, .readers = 1),
    CONV(2, 24, 1, 1, 8, 3, 2, 1, .readers = 1),
    CONV(1, 512, 7, 7, 512, 3, 1, 1, .readers = 1),
    /* 1x1 */
    CONV(2, 64, 7, 7, 256, 1, 1, 0, .readers = 1),
    CONV(2, 256, 7, 7, 64, 1, 1, 0, .readers = 2),
    CONV(1, 64, 15, 13, 128, 1, 2, 0, .in_slot = 1),
    CONV(2, 48, 8, 8, 40, 1, 2, 0, .readers = 1),
    CONV(3, 3, 1, 1, 1, 1, 1, 0, .readers = 1),
    CONV(1, 1, 5, 5, 1, 1, 2, 0, .in_slot = -1),
    /* normalisation */
    NORM(2, 64, 7, 7, .relu = true),
    NORM(2, 64, 7, 7, .relu = true, .residual = true, .readers = 2),
    NORM(2, 64, 7, 7, .residual = true),
    NORM(2, 64, 7, 7, .readers = 1),
    NORM(1, 5, 9, 11, .relu = true),
    NORM(3, 17, 3, 5, .relu = true, .residual = true, .readers = 2),
    NORM(2, 512, 1, 1, .relu = true, .residual = true),
    NORM(16, 256, 1, 1, .relu = true),
    NORM(2, 1, 1, 1, .readers = 1),
    NORM(1, 64, 56, 56, .relu = true, .residual = true, .readers = 2),
    NORM(5, 24, 1, 3, .readers = 2),
    NORM(4, 2048, 2, 2, .relu = true, .residual = true, .readers = 1),
    /* pooling */
    MAX_POOL(1, 64, 16, 16, .readers = 2),
    MAX_POOL(2, 64, 17, 19, .readers = 2),
    MAX_POOL(3, 5, 7, 2, .readers = 1),
    MAX_POOL(2, 64, 1, 1, .readers = 2),
    MAX_POOL(2, 64, 17, 16, .evaluation = true),
    MEAN_POOL(2, 512, 7, 7, .readers = 1),
    MEAN_POOL(1, 2048, 1, 1, .readers = 1),
    MEAN_POOL(3, 9, 3, 5, .readers = 1),
    MEAN_POOL(3, 512, 7, 7, .evaluation = true),
    /* linear */
    LINEAR(1, 512, 1000, .readers = 1),
    LINEAR(16, 512, 10, .readers = 1),
    LINEAR(3, 2048, 1, .readers = 1),
    LINEAR(2, 7, 13, .readers = 1),
    LINEAR(5, 512, 1000, .evaluation = true),
    /* loss */
    LOSS(1, 1, .readers = 1),
    LOSS(4, 2, .readers = 1),
    LOSS(16, 1000, .readers = 1),
    LOSS(7, 10, .smoothing = 0.1F),
    LOSS(8, 10, .rows = 3, .smoothing = 0.2F),
    LOSS(16, 1000, .rows = 1),
    LOSS(8, 1000, .evaluation = true, .rows = 5),
    LOSS(3, 4, .evaluation = true),
    /* convolution and normalisation in one */
    CONV_NORM(1, 3, 32, 32, 64, 7, 2, 3, .relu = true),
    CONV_NORM(2, 64, 7, 7, 64, 3, 1, 1, .relu = true),
    CONV_NORM(2, 64, 7, 7, 64, 3, 1, 1, .relu = true, .residual = true),
    CONV_NORM(2, 64, 7, 7, 256, 1, 1, 0, .relu = true, .residual = true),
    CONV_NORM(1, 64, 15, 13, 128, 1, 2, 0, .relu = false),
    CONV_NORM(3, 5, 9, 11, 7, 3, 2, 1, .relu = true),
    CONV_NORM(3, 17, 1, 1, 9, 3, 1, 1, .residual = true),
    CONV_NORM(1, 64, 56, 56, 64, 3, 1, 1, .relu = true, .residual = true),
    /* normalisation and convolution in one, and a normalisation of what was summed before */
    NORM_CONV(2, 64, 7, 7, 64, 3, 1, 1, .readers = 1),
    NORM_CONV(2, 64, 14, 14, 128, 3, 2, 1, .readers = 1),
    NORM_CONV(3, 32, 9, 11, 48, 1, 1, 0, .readers = 2),
    NORM_CONV(2, 128, 7, 7, 64, 1, 2, 0, .readers = 1),
    NORM_CONV(5, 16, 5, 4, 24, 3, 1, 1, .readers = 1),
    NORM_CONV(3, 5, 9, 11, 7, 3, 2, 1, .readers = 1),
    NORM(2, 64, 7, 7, .relu = true, .sums = true),
    NORM(3, 24, 5, 9, .residual = true, .sums = true),
};
enum { CASES = sizeof cases / sizeof *cases };

static const char *case_text(const struct op_case *c)
{
    static char text[256];

    snprintf(text, sizeof text, "%s %dx%dx%dx%d", op_kind_names[c->kind], c->n, c->c, c->h, c->w);
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used,
             " -> %d channels, kernel %d/%d/%d%s%s, %d readers, slot %d%s, rows %d", c->out_c,
             c->kernel, c->stride, c->padding, c->relu ? ", relu" : "",
             c->residual ? ", residual" : "", c->readers, c->in_slot,
             c->evaluation ? ", evaluation" : "", c->rows);
    return text;
}

/* ---- comparing ---- */

static void compare(const char *device, const char *title, const char *what,
                    const struct rig_array *got, const struct rig_array *want, double largest,
                    double norm)
{
    double top = 0, worst = 0, square = 0, error = 0;
    size_t at = 0;

    for (size_t i = 0; i < want->count; i++) {
        double w = want->values[i], difference = fabs(got->values[i] - w);

        top = fmax(top, fabs(w));
        if (!(difference <= worst)) { /* a NaN is the worst of all */
            worst = isnan(difference) ? INFINITY : difference;
            at = i;
        }
        square += w * w;
        error += difference * difference;
    }
    /* Sums that cancel to almost 0 are rounded as their terms are: these are about 1. */
    top = fmax(top, 1e-3);
    square = fmax(square, 1e-6 * (double)want->count);
    if (!want->count || (worst <= largest * top && sqrt(error) <= norm * sqrt(square)))
        return;
    printf("%s: %s: %s differs: worst %.3g of %.3g at %zu (%.9g, not %.9g), norm %.3g\n", device,
           title, what, worst, top, at, got->values[at], want->values[at], sqrt(error / square));
    test_failures++;
}

static void compare_results(const struct rig_device *row, const struct op_case *c,
                            const struct rig_results *got, const struct rig_results *want)
{
    for (int i = 0; i < RIG_OUTPUTS; i++) {
        CHECK_INT(got->outputs[i].count, want->outputs[i].count);
        if (got->outputs[i].count == want->outputs[i].count)
            compare(row->name, case_text(c), rig_output_names[i], &got->outputs[i],
                    &want->outputs[i], row->largest, row->norm);
    }
    CHECK_INT(got->loss.top1, want->loss.top1);
    CHECK_INT(got->loss.top5, want->loss.top5);
}

static bool same_results(const struct rig_results *a, const struct rig_results *b)
{
    for (int i = 0; i < RIG_OUTPUTS; i++)
        if (a->outputs[i].count &&
            memcmp(a->outputs[i].values, b->outputs[i].values, a->outputs[i].count * sizeof(float)))
            return false;
    return a->loss.loss == b->loss.loss && a->loss.top1 == b->loss.top1 &&
           a->loss.top5 == b->loss.top5;
}

static struct device *open_ref(void)
{
    struct device *device = NULL;
    const struct device_settings settings = {.threads = 1};

    CHECK_INT(backend_ref.open(&device, &settings), 0);
    return device;
}

/* Every case: the backend's numbers are ref's; the same call gives the same bytes. */
static void every_op_is_as_ref(void)
{
    struct device *ref = open_ref();

    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);

        for (int i = 0; i < CASES && backend; i++) {
            struct rig_data data;
            struct rig_results want, got, again;

            if (!rig_takes(&rig_devices[d], backend, device, &cases[i]))
                continue;
            rig_data_open(&data, &cases[i], (uint64_t)i);
            rig_run(&backend_ref, ref, &cases[i], &data, &want);
            rig_run(backend, device, &cases[i], &data, &got);
            rig_run(backend, device, &cases[i], &data, &again);
            compare_results(&rig_devices[d], &cases[i], &got, &want);
            if (!same_results(&got, &again)) {
                printf("%s: %s: twice the same call, other bytes\n", rig_devices[d].name,
                       case_text(&cases[i]));
                test_failures++;
            }
            rig_results_close(&want);
            rig_results_close(&got);
            rig_results_close(&again);
            rig_data_close(&data);
        }
        if (backend)
            backend->close(device);
    }
    backend_ref.close(ref);
}

/* ---- ref against central differences ---- */

/* The inner product of an op's result with its first gradient: what backward differentiates. For
 * OP_LOSS the loss. */
static double scalar_of(struct device *ref, const struct op_case *c, const struct rig_data *data)
{
    struct op_case forward = *c;
    struct rig rig;
    struct rig_results results = {0};
    double sum = 0;

    rig_open(&rig, &backend_ref, ref, &forward);
    rig_set_inputs(&rig, data);
    if (c->kind == OP_LOSS)
        rig_feed(&rig, data);
    rig_forward(&rig, &results);
    rig_close(&rig);
    for (size_t i = 0; i < results.outputs[RIG_OUT].count; i++)
        for (int k = 0; k < rig.out.readers; k++)
            sum += (double)results.outputs[RIG_OUT].values[i] *
                   (double)data->inputs[RIG_GRADIENT + k].values[i];
    if (c->kind == OP_LOSS)
        sum = results.loss.loss;
    rig_results_close(&results);
    return sum;
}

/* Some elements of one input, spread over it. */
static void check_differences(struct device *ref, const struct op_case *c, struct rig_data *data,
                              enum rig_input input, const struct rig_array *gradient, double step)
{
    enum { PICKS = 9 };
    struct rig_array *a = &data->inputs[input];

    CHECK_INT(gradient->count, a->count);
    for (size_t k = 0; k < PICKS && k < a->count && gradient->count; k++) {
        size_t i = a->count <= PICKS ? k : (k * 2654435761U + k * k) % a->count;
        float was = a->values[i];

        a->values[i] = (float)(was + step);
        double up = scalar_of(ref, c, data), width = a->values[i];
        a->values[i] = (float)(was - step);
        double down = scalar_of(ref, c, data);
        width -= a->values[i];
        a->values[i] = was;
        double expected = (up - down) / width;
        if (fabs(gradient->values[i] - expected) <= 1e-3 * fmax(1, fabs(expected)))
            continue;
        printf("ref: %s: gradient of input %d at %zu is %.7g, central difference %.7g\n",
               case_text(c), input, i, gradient->values[i], expected);
        test_failures++;
    }
}

/* Keep values clear of the kinks: a ReLU's input is never near 0 (a residual of +-4, or a beta of
 * +-6 a channel), and no two values of a pooling window are nearer than a step. */
static void clear_kinks(const struct op_case *c, struct rig_data *data)
{
    struct rig_array *residual = &data->inputs[RIG_RESIDUAL], *beta = &data->inputs[RIG_BETA];

    for (size_t i = 0; i < residual->count; i++)
        residual->values[i] += residual->values[i] < 0 ? -6.0F : 6.0F;
    for (size_t i = 0; c->relu && !c->residual && !c->sums && i < beta->count; i++)
        beta->values[i] += beta->values[i] < 0 ? -8.0F : 8.0F;
    for (size_t i = 0; c->kind == OP_MAX_POOL && i < data->inputs[RIG_IN].count; i++)
        data->inputs[RIG_IN].values[i] = (float)((i * 7919) % 1009) / 100.0F;
}

static void ref_is_its_central_difference(void)
{
    static const struct op_case small[] = {
        CONV(2, 3, 9, 7, 5, 7, 2, 3, .in_slot = 0),
        CONV(2, 4, 5, 6, 3, 3, 1, 1, .in_slot = 0),
        CONV(2, 4, 7, 5, 6, 3, 2, 1, .readers = 2),
        CONV(1, 3, 5, 5, 2, 1, 2, 0, .in_slot = 0),
        NORM(2, 3, 4, 5, .relu = true, .residual = true, .readers = 2),
        NORM(3, 4, 3, 2, .relu = true),
        NORM(4, 5, 1, 1, .readers = 1),
        NORM_CONV(2, 4, 6, 5, 3, 3, 1, 1, .readers = 2),
        NORM_CONV(3, 3, 4, 4, 5, 1, 2, 0, .readers = 1),
        MAX_POOL(2, 3, 7, 6, .readers = 2),
        MEAN_POOL(2, 3, 4, 5, .readers = 1),
        LINEAR(3, 7, 5, .readers = 1),
        LOSS(4, 6, .smoothing = 0.1F),
        LOSS(5, 3, .rows = 2),
    };
    static const struct {
        enum rig_input input;
        enum rig_output output;
    } pairs[] = {
        {RIG_IN,       RIG_IN_GRADIENT      },
        {RIG_RESIDUAL, RIG_RESIDUAL_GRADIENT},
        {RIG_WEIGHT,   RIG_WEIGHT_GRADIENT  },
        {RIG_BIAS,     RIG_BIAS_GRADIENT    },
        {RIG_GAMMA,    RIG_GAMMA_GRADIENT   },
        {RIG_BETA,     RIG_BETA_GRADIENT    },
    };
    struct device *ref = open_ref();

    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        struct rig_data data;
        struct rig_results results;

        rig_data_open(&data, &small[i], 100 + i);
        clear_kinks(&small[i], &data);
        rig_run(&backend_ref, ref, &small[i], &data, &results);
        for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
            if (data.inputs[pairs[k].input].count)
                check_differences(ref, &small[i], &data, pairs[k].input,
                                  &results.outputs[pairs[k].output], 1.0 / 256);
        rig_results_close(&results);
        rig_data_close(&data);
    }
    backend_ref.close(ref);
}

/* ---- ref against first principles ---- */

/* Convolution by its definition, element by element, from host values. */
static double convolve_at(const struct op_case *c, const struct rig_data *data, int n, int o, int y,
                          int x)
{
    const float *in = data->inputs[RIG_IN].values, *weight = data->inputs[RIG_WEIGHT].values;
    double sum = 0;

    for (int i = 0; i < c->c; i++)
        for (int ky = 0; ky < c->kernel; ky++)
            for (int kx = 0; kx < c->kernel; kx++) {
                int iy = y * c->stride + ky - c->padding, ix = x * c->stride + kx - c->padding;

                if (iy >= 0 && iy < c->h && ix >= 0 && ix < c->w)
                    sum += (double)in[((n * c->c + i) * c->h + iy) * c->w + ix] *
                           (double)weight[((o * c->c + i) * c->kernel + ky) * c->kernel + kx];
            }
    return sum;
}

/* OP_CONV and OP_CONV_NORM of ref: the convolution's definition, then the normalisation by running
 * statistics, residual and ReLU written out. */
static void conv_norm_is_conv_then_norm(void)
{
    static const struct op_case small[] = {
        CONV(2, 5, 7, 6, 4, 3, 2, 1, .in_slot = 0),
        CONV_NORM(2, 5, 7, 6, 4, 3, 2, 1, .relu = true, .residual = true),
        CONV_NORM(1, 3, 9, 9, 7, 7, 2, 3, .relu = true),
        CONV_NORM(2, 4, 3, 5, 6, 1, 1, 0, .residual = true),
    };
    struct device *ref = open_ref();

    for (size_t k = 0; k < sizeof small / sizeof *small; k++) {
        const struct op_case *c = &small[k];
        struct rig_data data;
        struct rig_results got;
        int out_h = (c->h + 2 * c->padding - c->kernel) / c->stride + 1;
        int out_w = (c->w + 2 * c->padding - c->kernel) / c->stride + 1;

        rig_data_open(&data, c, 200 + k);
        rig_run(&backend_ref, ref, c, &data, &got);
        const float *out = got.outputs[RIG_OUT].values;
        CHECK(out);
        for (int i = 0; out && i < c->n * c->out_c * out_h * out_w; i++) {
            int x = i % out_w, y = i / out_w % out_h, o = i / (out_w * out_h) % c->out_c;
            double value = convolve_at(c, &data, i / (out_w * out_h * c->out_c), o, y, x);

            if (c->kind == OP_CONV_NORM)
                value = (value - data.inputs[RIG_RUNNING_MEAN].values[o]) /
                            sqrt(data.inputs[RIG_RUNNING_VAR].values[o] + 1e-5) *
                            data.inputs[RIG_GAMMA].values[o] +
                        data.inputs[RIG_BETA].values[o];
            if (c->residual)
                value += data.inputs[RIG_RESIDUAL].values[i];
            CHECK_CLOSE(out[i], c->relu ? fmax(value, 0) : value, 1e-6);
        }
        rig_results_close(&got);
        rig_data_close(&data);
    }
    backend_ref.close(ref);
}

/* What output (n, k, y, x) of a pooling op must be. */
static double pool_at(const struct op_case *c, const float *in, int plane, int y, int x)
{
    const float *values = in + (size_t)plane * (size_t)(c->h * c->w);
    double largest = -INFINITY, sum = 0;

    for (int iy = 0; iy < c->h; iy++)
        for (int ix = 0; ix < c->w; ix++) {
            int ky = iy - (y * c->stride - c->padding), kx = ix - (x * c->stride - c->padding);

            sum += values[iy * c->w + ix];
            if (ky >= 0 && ky < c->kernel && kx >= 0 && kx < c->kernel)
                largest = fmax(largest, values[iy * c->w + ix]);
        }
    return c->kind == OP_MAX_POOL ? largest : sum / (c->h * c->w);
}

static double linear_at(const struct op_case *c, const struct rig_data *data, int n, int k)
{
    const float *in = data->inputs[RIG_IN].values + (size_t)n * (size_t)c->c;
    const float *weight = data->inputs[RIG_WEIGHT].values + (size_t)k * (size_t)c->c;
    double sum = data->inputs[RIG_BIAS].values[k];

    for (int i = 0; i < c->c; i++)
        sum += (double)in[i] * (double)weight[i];
    return sum;
}

static void pooling_and_linear_by_definition(void)
{
    static const struct op_case small[] = {
        MAX_POOL(2, 3, 7, 6, .readers = 1),
        MAX_POOL(1, 2, 1, 4, .readers = 1),
        MEAN_POOL(2, 3, 4, 5, .readers = 1),
        LINEAR(3, 9, 11, .readers = 1),
    };
    struct device *ref = open_ref();

    for (size_t k = 0; k < sizeof small / sizeof *small; k++) {
        const struct op_case *c = &small[k];
        bool max = c->kind == OP_MAX_POOL;
        int out_h = max ? (c->h - 1) / 2 + 1 : 1, out_w = max ? (c->w - 1) / 2 + 1 : 1;
        struct rig_data data;
        struct rig_results got;

        rig_data_open(&data, c, 250 + k);
        /* All below 0, so that padding taken for 0 shows. */
        for (size_t i = 0; max && i < data.inputs[RIG_IN].count; i++)
            data.inputs[RIG_IN].values[i] -= 2;
        rig_run(&backend_ref, ref, c, &data, &got);
        const float *out = got.outputs[RIG_OUT].values;
        for (int i = 0; out && i < (int)got.outputs[RIG_OUT].count; i++) {
            int plane = i / (out_w * out_h), y = i / out_w % out_h, x = i % out_w;

            CHECK_CLOSE(out[i],
                        c->kind == OP_LINEAR ? linear_at(c, &data, i / c->out_c, i % c->out_c)
                                             : pool_at(c, data.inputs[RIG_IN].values, plane, y, x),
                        1e-6);
        }
        rig_results_close(&got);
        rig_data_close(&data);
    }
    backend_ref.close(ref);
}

/* PyTorch's batch_norm on four values: [1, 2, 3, 6] has mean 3, biased variance 3.5, unbiased 14/3.
 */
static void norm_keeps_pytorchs_running_statistics(void)
{
    static const struct op_case c = NORM(2, 1, 1, 2, .readers = 1);
    struct device *ref = open_ref();
    struct rig_data data;
    struct rig_results got;

    rig_data_open(&data, &c, 300);
    memcpy(data.inputs[RIG_IN].values, (float[]){1, 2, 3, 6}, 4 * sizeof(float));
    data.inputs[RIG_GAMMA].values[0] = 2;
    data.inputs[RIG_BETA].values[0] = -1;
    data.inputs[RIG_RUNNING_MEAN].values[0] = 10;
    data.inputs[RIG_RUNNING_VAR].values[0] = 20;
    rig_run(&backend_ref, ref, &c, &data, &got);
    CHECK_CLOSE(got.outputs[RIG_OUT].values[0], -2 * 2 / sqrt(3.5 + 1e-5) - 1, 1e-6);
    CHECK_CLOSE(got.outputs[RIG_OUT].values[3], 3 * 2 / sqrt(3.5 + 1e-5) - 1, 1e-6);
    CHECK_CLOSE(got.outputs[RIG_NEW_MEAN].values[0], 0.9 * 10 + 0.1 * 3, 1e-6);
    CHECK_CLOSE(got.outputs[RIG_NEW_VAR].values[0], 0.9 * 20 + 0.1 * 14 / 3, 1e-6);
    rig_results_close(&got);
    rig_data_close(&data);
    backend_ref.close(ref);
}

/* ---- loss: hits, ties, NaN ---- */

static void loss_of(const struct backend *backend, struct device *device, int n, int classes,
                    const float *logits, const int32_t *labels, struct loss_result *out)
{
    struct op_case c = LOSS(n, classes, .evaluation = true);
    struct rig_data data;
    struct rig_results results;

    rig_data_open(&data, &c, 1);
    memcpy(data.inputs[RIG_IN].values, logits, (size_t)(n * classes) * sizeof *logits);
    memcpy(data.labels, labels, (size_t)n * sizeof *labels);
    rig_run(backend, device, &c, &data, &results);
    *out = results.loss;
    rig_results_close(&results);
    rig_data_close(&data);
}

static void loss_counts_hits(void)
{
    for (int d = 0; d < RIG_DEVICES; d++) {
        struct device *device = NULL;
        const struct backend *backend = rig_open_device(&rig_devices[d], &device);
        struct loss_result got;

        if (!backend)
            continue;
        /* All the same: the lower index stands first. */
        const float same[3 * 7] = {0};
        loss_of(backend, device, 3, 7, same, (int32_t[]){0, 4, 5}, &got);
        CHECK_INT(got.top1, 1);
        CHECK_INT(got.top5, 2);
        CHECK_CLOSE(got.loss, log(7), 1e-6);
        /* Fewer than five classes: always among the first five. */
        const float few[4] = {1, 2, 3, -4};
        loss_of(backend, device, 2, 2, few, (int32_t[]){0, 1}, &got);
        CHECK_INT(got.top1, 0);
        CHECK_INT(got.top5, 2);
        /* Large logits do not overflow; a NaN is a NaN, and no hit. */
        const float large[4] = {1e4F, 0, -1e4F, 3e4F};
        loss_of(backend, device, 2, 2, large, (int32_t[]){0, 1}, &got);
        CHECK_CLOSE(got.loss, 0, 1e-6);
        CHECK_INT(got.top1, 2);
        const float nan[6] = {NAN, 0, 1, 2, 3, 4};
        loss_of(backend, device, 1, 6, nan, (int32_t[]){0}, &got);
        CHECK(isnan(got.loss));
        CHECK_INT(got.top1, 0);
        CHECK_INT(got.top5, 0);
        backend->close(device);
    }
}

static const struct test tests[] = {
    {"every_op_is_as_ref",                     every_op_is_as_ref                    },
    {"ref_is_its_central_difference",          ref_is_its_central_difference         },
    {"conv_norm_is_conv_then_norm",            conv_norm_is_conv_then_norm           },
    {"pooling_and_linear_by_definition",       pooling_and_linear_by_definition      },
    {"norm_keeps_pytorchs_running_statistics", norm_keeps_pytorchs_running_statistics},
    {"loss_counts_hits",                       loss_counts_hits                      },
};
TEST_MAIN(tests)
