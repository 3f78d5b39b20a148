/*
 * kernel_values.c - own kernels against plain C in doubles, and augmentation against the
 * resampler's bytes, over awkward shapes. Compiled by test_kernels.sh with the kernels as C++
 * (shim.h), so that "device memory" is malloc's, in blocks of exactly the size a kernel may touch.
 */
#include "kernels/kernels.h"

#include "common/resample.h"
#include "tests/cuda/shim_hook.h"
#include "tests/pixels.h"
#include "tests/test.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const enum kernel_type types[] = {KERNEL_F32, KERNEL_BF16, KERNEL_F16};
static uint32_t drawn;

/* ---- memory and types ---- */

/* COUNT bytes-of-SIZE elements that hold NaNs; the block ends where they end. */
static void *take(size_t count, size_t size)
{
    void *block = malloc(count && size ? count * size : 1);
    if (!block)
        abort();
    memset(block, 0xFF, count * size);
    return block;
}

static size_t size_of(enum kernel_type type)
{
    return type == KERNEL_F32 ? 4 : 2;
}

/* In [-1, 1), of 24 bits. */
static float draw(void)
{
    drawn = drawn * 1664525u + 1013904223u;
    uint32_t h = (drawn ^ drawn >> 15) * 0x2C1B3C6Du;
    return (float)((h ^ h >> 16) >> 8) / 8388608.0f - 1.0f;
}

static float *draw_floats(size_t count, float scale)
{
    float *out = take(count, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = draw() * scale;
    return out;
}

/* To the nearest, ties to the even, by the definition: no shared code with the kernels. */
static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)
        return 0x7FFF;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint16_t to_f16(float x)
{
    double a = fabs((double)x);
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    int e;
    if (isnan(x))
        return 0x7FFF;
    if (a >= 65520)
        return sign | 0x7C00;
    frexp(a, &e);
    e = e < -13 ? -13 : e; /* the smallest normal is 2^-14 */
    double mantissa = nearbyint(ldexp(a, 11 - e));
    return sign | (uint16_t)((mantissa >= 1024 ? (e + 13) * 1024 : 0) + (int)mantissa);
}

static double value_at(enum kernel_type type, const void *block, size_t i)
{
    const uint16_t *half = block;
    uint32_t bits = type == KERNEL_BF16 ? (uint32_t)half[i] << 16 : 0;
    float x;
    if (type == KERNEL_F32)
        return ((const float *)block)[i];
    memcpy(&x, &bits, sizeof x);
    if (type == KERNEL_BF16)
        return x;
    int e = half[i] >> 10 & 31, m = half[i] & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(m + 1024, e - 25) : ldexp(m, -24);
    return half[i] & 0x8000 ? -v : v;
}

/* FLOATS as TYPE, and rounded to it in place. */
static void *typed(enum kernel_type type, float *floats, size_t count)
{
    void *out = take(count, size_of(type));
    for (size_t i = 0; i < count; i++) {
        if (type == KERNEL_F32)
            ((float *)out)[i] = floats[i];
        else
            ((uint16_t *)out)[i] = type == KERNEL_BF16 ? to_bf16(floats[i]) : to_f16(floats[i]);
        floats[i] = (float)value_at(type, out, i);
    }
    return out;
}

static double tolerance_of(enum kernel_type type)
{
    return type == KERNEL_F32 ? 2e-6 : type == KERNEL_BF16 ? 4.1e-3 : 5.2e-4;
}

/* Element I of OUT is WANTED, but for the rounding of TYPE and SLACK of computing. */
static void check_value(const char *what, enum kernel_type type, const void *out, size_t i,
                        double wanted, double slack)
{
    double actual = value_at(type, out, i);
    if (!(fabs(actual - wanted) <= tolerance_of(type) * fabs(wanted) + slack) &&
        !(isnan(actual) && isnan(wanted))) {
        if (test_failures++ < 20)
            printf("%s, type %d: element %zu is %.9g, not %.9g\n", what, (int)type, i, actual,
                   wanted);
    }
}

/* ---- update.cu ---- */

static void test_convert(void)
{
    const float special[] = {0.0f,        -0.0f,       1.0f,           65504.0f,       65519.9f,
                             65520.0f,    1e-8f,       6e-8f,          2.98e-8f,       6.1e-5f,
                             6.097e-5f,   3.4e38f,     INFINITY,       -INFINITY,      NAN,
                             1.00390625f, 1.01171875f, 1.00048828125f, 1.00146484375f, 1e-40f};
    const size_t counts[] = {1, 255, 256, 257, 1000};
    for (size_t t = 0; t < 3; t++)
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            size_t count = counts[c], bytes = count * size_of(types[t]);
            float *in = draw_floats(count, 100.0f), *rounded = take(count, sizeof *in);
            for (size_t i = 0; i < COUNT_OF(special) && i < count; i++)
                in[i] = special[i];
            void *out = take(count, size_of(types[t]));
            memcpy(rounded, in, count * sizeof *in);
            void *wanted = typed(types[t], rounded, count);
            CHECK_INT(kernel_convert(NULL, types[t], count, in, out), 0);
            CHECK(memcmp(out, wanted, bytes) == 0);
            CHECK_INT(kernel_fill(NULL, types[t], count, -2.5f, out), 0);
            for (size_t i = 0; i < count; i++)
                check_value("fill", types[t], out, i, -2.5, 0);
            free(in), free(rounded), free(out), free(wanted);
        }
    CHECK(kernel_convert(NULL, KERNEL_F32, 1, NULL, &drawn) != 0);
    CHECK(kernel_fill(NULL, (enum kernel_type)7, 1, 0, &drawn) != 0);
}

/* What one segment of the flat block should hold after the update. */
static void check_update(const struct kernel_segment *s, const struct kernel_sgd *sgd,
                         const float *g0, const float *v0, const float *m0, float scale,
                         const float *v, const float *m)
{
    for (size_t i = s->begin; i < s->begin + s->floats; i++) {
        double g = (double)g0[i] * sgd->gradient_scale / scale +
                   (double)sgd->weight_decay * s->decay * v0[i];
        double wm = sgd->first_step ? g : (double)sgd->momentum * m0[i] + g;
        double step = sgd->nesterov ? g + (double)sgd->momentum * wm : wm;
        check_value("momentum", KERNEL_F32, m, i, wm, 1e-6);
        check_value("value", KERNEL_F32, v, i, v0[i] - (double)sgd->lr * step, 1e-6);
    }
}

static void run_update(enum kernel_type type, bool nesterov, bool first, int scaled)
{
    /* A whole segment, a short one, a gap that nobody owns, one in the middle of a round. */
    static const struct kernel_segment cases[] = {
        {0,    4096, 1.0f},
        {4096, 16,   0.0f},
        {4128, 1040, 1.0f},
        {5184, 64,   0.5f}
    };
    const size_t floats = 5248, bytes = floats * sizeof(float);
    struct kernel_segment *segments = take(COUNT_OF(cases), sizeof *segments);
    struct kernel_sgd sgd = {0.1f, 0.9f, 0.01f, 0.25f, nesterov, first};
    struct kernel_scaler scaler = {1024.0f, scaled == 2, 0, 0};
    float *g = draw_floats(floats, 3.0f), *v = draw_floats(floats, 1.0f);
    float *m = draw_floats(floats, 1.0f), *v0 = take(floats, 4), *m0 = take(floats, 4);
    void *copy = type == KERNEL_F32 ? NULL : take(floats, 2);
    memcpy(segments, cases, sizeof cases);
    memcpy(v0, v, bytes), memcpy(m0, m, bytes);
    CHECK_INT(kernel_update(NULL, type, segments, COUNT_OF(cases), &sgd, scaled ? &scaler : NULL, g,
                            v, m, copy),
              0);
    if (scaled == 2) {
        CHECK(memcmp(v, v0, bytes) == 0 && memcmp(m, m0, bytes) == 0);
    } else {
        for (size_t s = 0; s < COUNT_OF(cases); s++)
            check_update(&cases[s], &sgd, g, v0, m0, scaled ? 1024.0f : 1.0f, v, m);
        CHECK(memcmp(v + 4112, v0 + 4112, 64) == 0 && memcmp(m + 5168, m0 + 5168, 64) == 0);
        float *rounded = take(floats, 4);
        memcpy(rounded, v, bytes);
        uint16_t *wanted = typed(type, rounded, floats);
        memset(wanted + 4112, 0xFF, 32), memset(wanted + 5168, 0xFF, 32);
        CHECK(!copy || memcmp(copy, wanted, floats * 2) == 0);
        free(rounded), free(wanted);
    }
    free(segments), free(g), free(v), free(m), free(v0), free(m0), free(copy);
}

static void test_update(void)
{
    for (size_t t = 0; t < 3; t++)
        for (int k = 0; k < 12; k++)
            run_update(types[t], k & 1, k & 2, k / 4);
    struct kernel_segment segment = {0, 16, 1};
    struct kernel_sgd sgd = {0};
    float x[16] = {0};
    CHECK(kernel_update(NULL, KERNEL_BF16, &segment, 1, &sgd, NULL, x, x, x, NULL) != 0);
    CHECK(kernel_update(NULL, KERNEL_F32, &segment, 0, &sgd, NULL, x, x, x, NULL) != 0);
}

static void test_finite(void)
{
    const size_t counts[] = {1, 7, 8, 2047, 2049};
    const float bad[] = {INFINITY, -INFINITY, NAN};
    for (size_t c = 0; c < COUNT_OF(counts); c++) {
        float *x = draw_floats(counts[c], 3e38f);
        for (size_t b = 0; b < 4; b++) {
            const size_t at = b * 977 % counts[c];
            float saved = x[at];
            int32_t flag = 0;
            if (b < 3)
                x[at] = bad[b];
            CHECK_INT(kernel_finite(NULL, counts[c], x, &flag), 0);
            CHECK_INT(flag, b < 3);
            x[at] = saved;
        }
        const float last = x[counts[c] - 1];
        int32_t flag = 0;
        x[counts[c] - 1] = NAN;
        CHECK_INT(kernel_finite(NULL, counts[c], x, &flag), 0);
        CHECK_INT(flag, 1);
        x[counts[c] - 1] = last;
        CHECK_INT(kernel_finite(NULL, counts[c], x, &flag), 0);
        CHECK_INT(flag, 1); /* never cleared here */
        free(x);
    }
}

static void test_scaler(void)
{
    struct kernel_scaler s = {65536.0f, 0, 0, 0};
    CHECK_INT(kernel_scaler_step(NULL, &s, 2), 0);
    CHECK(s.scale == 65536.0f && s.good_steps == 1);
    CHECK_INT(kernel_scaler_step(NULL, &s, 2), 0);
    CHECK(s.scale == 131072.0f && s.good_steps == 0);
    CHECK_INT(kernel_scaler_step(NULL, &s, 2), 0);
    s.nonfinite = 1;
    CHECK_INT(kernel_scaler_step(NULL, &s, 2), 0);
    CHECK(s.scale == 65536.0f && s.good_steps == 0 && s.nonfinite == 0 && s.skipped == 1);
    for (int i = 0; i < 40; i++) {
        s.nonfinite = 1;
        CHECK_INT(kernel_scaler_step(NULL, &s, 1), 0);
    }
    CHECK(s.scale == 1.0f && s.skipped == 41);
    for (int i = 0; i < 40; i++)
        CHECK_INT(kernel_scaler_step(NULL, &s, 1), 0);
    CHECK(s.scale == 16777216.0f);
    CHECK(kernel_scaler_step(NULL, &s, 0) != 0);
}

static void test_accumulate(void)
{
    const size_t floats = 1031;
    float *a = draw_floats(floats, 1), *b = draw_floats(floats, 1), *sum = take(floats, 4);
    CHECK_INT(kernel_accumulate(NULL, floats, 1, a, sum), 0);
    CHECK(memcmp(sum, a, floats * 4) == 0);
    CHECK_INT(kernel_accumulate(NULL, floats, 0, b, sum), 0);
    for (size_t i = 0; i < floats; i++)
        CHECK(sum[i] == a[i] + b[i]);
    free(a), free(b), free(sum);
}

/* ---- pool.cu, norm.cu ---- */

static void run_pool(enum kernel_type type, int n, int area, int c)
{
    const size_t rows = (size_t)n * (size_t)c, count = rows * (size_t)area;
    float *x = draw_floats(count, 2), *dy = draw_floats(rows, 2);
    void *in = typed(type, x, count), *out_gradient = typed(type, dy, rows);
    void *out = take(rows, size_of(type)), *in_gradient = take(count, size_of(type));
    CHECK_INT(kernel_mean_pool(NULL, type, n, area, c, in, out), 0);
    CHECK_INT(kernel_mean_pool_backward(NULL, type, n, area, c, out_gradient, in_gradient), 0);
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t p = 0; p < (size_t)area; p++) {
            size_t at = (i / (size_t)c * (size_t)area + p) * (size_t)c + i % (size_t)c;
            sum += x[at];
            check_value("mean pool's gradient", type, in_gradient, at, dy[i] / (double)area, 0);
        }
        check_value("mean pool", type, out, i, sum / area, 1e-6);
    }
    free(x), free(dy), free(in), free(out_gradient), free(out), free(in_gradient);
}

static void test_pool(void)
{
    static const int shapes[][3] = {
        {1,  1,  8  },
        {3,  49, 64 },
        {5,  7,  24 },
        {2,  50, 264},
        {33, 4,  8  }
    };
    for (size_t t = 0; t < 3; t++)
        for (size_t s = 0; s < COUNT_OF(shapes); s++)
            run_pool(types[t], shapes[s][0], shapes[s][1], shapes[s][2]);
    CHECK(kernel_mean_pool(NULL, KERNEL_F32, 1, 1, 12, &drawn, &drawn) != 0);
    CHECK(kernel_mean_pool_backward(NULL, KERNEL_F32, 0, 1, 8, &drawn, &drawn) != 0);
}

static void test_sum(void)
{
    const size_t count = 2056;
    for (size_t t = 0; t < 3; t++) {
        float *x = draw_floats(count, 2), *y = draw_floats(count, 2);
        void *a = typed(types[t], x, count), *b = typed(types[t], y, count);
        void *out = take(count, size_of(types[t]));
        CHECK_INT(kernel_sum(NULL, types[t], count, a, b, out), 0);
        CHECK_INT(kernel_sum(NULL, types[t], count, a, b, b), 0);
        CHECK(memcmp(out, b, count * size_of(types[t])) == 0);
        for (size_t i = 0; i < count; i++)
            check_value("sum", types[t], out, i, (double)x[i] + y[i], 0);
        free(x), free(y), free(a), free(b), free(out);
    }
    CHECK(kernel_sum(NULL, KERNEL_F32, 9, &drawn, &drawn, &drawn) != 0);
}

static void run_norm(enum kernel_type type, size_t pixels, int c, bool has_residual, bool relu)
{
    const size_t count = pixels * (size_t)c;
    float *v[6], *x = draw_floats(count, 2), *r = draw_floats(count, 2);
    for (size_t k = 0; k < 6; k++)
        v[k] = draw_floats((size_t)c, 1);
    for (size_t k = 0; k < (size_t)c; k++)
        v[3][k] = v[3][k] * v[3][k] + 0.1f; /* a variance */
    void *in = typed(type, x, count), *residual = typed(type, r, count);
    void *out = take(count, size_of(type));
    if (count > 3)
        x[3] = r[3] = NAN;
    free(in), free(residual);
    in = typed(type, x, count), residual = typed(type, r, count);
    CHECK_INT(kernel_norm_fold(NULL, c, 1e-5f, v[0], v[1], v[2], v[3], v[4], v[5]), 0);
    CHECK_INT(kernel_norm_apply(NULL, type, pixels, c, in, v[4], v[5],
                                has_residual ? residual : NULL, relu, out),
              0);
    for (size_t i = 0; i < count; i++) {
        size_t k = i % (size_t)c;
        double y = (x[i] - (double)v[2][k]) / sqrt((double)v[3][k] + 1e-5) * v[0][k] + v[1][k];
        if (has_residual)
            y += r[i];
        check_value("norm", type, out, i, relu && y < 0 ? 0 : y, 1e-5);
    }
    for (size_t k = 0; k < 6; k++)
        free(v[k]);
    free(x), free(r), free(in), free(residual), free(out);
}

static void test_norm(void)
{
    for (size_t t = 0; t < 3; t++)
        for (int k = 0; k < 4; k++) {
            run_norm(types[t], 1, 8, k & 1, k & 2);
            run_norm(types[t], 49, 72, k & 1, k & 2);
        }
    CHECK(kernel_norm_apply(NULL, KERNEL_F32, 1, 4, &drawn, NULL, NULL, NULL, 0, &drawn) != 0);
}

static void run_bias(enum kernel_type type, int rows, int classes)
{
    const size_t count = (size_t)rows * (size_t)classes;
    float *x = draw_floats(count, 1), *out = take((size_t)classes, 4);
    void *in = typed(type, x, count);
    CHECK_INT(kernel_bias_gradient(NULL, type, rows, classes, in, out), 0);
    for (size_t k = 0; k < (size_t)classes; k++) {
        double sum = 0;
        for (size_t r = 0; r < (size_t)rows; r++)
            sum += x[r * (size_t)classes + k];
        check_value("bias gradient", KERNEL_F32, out, k, sum, 1e-5);
    }
    free(x), free(out), free(in);
}

static void test_bias(void)
{
    static const int shapes[][2] = {
        {1,  1  },
        {7,  10 },
        {8,  32 },
        {9,  33 },
        {67, 102}
    };
    for (size_t t = 0; t < 3; t++)
        for (size_t s = 0; s < COUNT_OF(shapes); s++)
            run_bias(types[t], shapes[s][0], shapes[s][1]);
    CHECK(kernel_bias_gradient(NULL, KERNEL_F32, 0, 1, &drawn, NULL) != 0);
}

/* ---- loss.cu ---- */

struct loss_case {
    int n, classes, rows;
    float smoothing, spread;
};

static double log_sum_exp(const float *x, int classes)
{
    double top = x[0], sum = 0;
    for (int k = 1; k < classes; k++)
        top = x[k] > top ? x[k] : top;
    for (int k = 0; k < classes; k++)
        sum += exp(x[k] - top);
    return top + log(sum);
}

/* What the rows find, and the gradient of each; SCALE multiplies it. */
static struct kernel_loss find_loss(const struct loss_case *c, const float *logits,
                                    const int32_t *labels, double scale, double *gradients)
{
    struct kernel_loss out = {0};
    for (int n = 0; n < c->n; n++, logits += c->classes, gradients += c->classes) {
        double all = log_sum_exp(logits, c->classes), mean = 0;
        int rank = 0, label = labels[n];
        bool used = n < c->rows;
        for (int k = 0; k < c->classes; k++) {
            double wanted = (double)c->smoothing / c->classes + (k == label ? 1 - c->smoothing : 0);
            gradients[k] = used ? (exp(logits[k] - all) - wanted) / c->rows * scale : 0;
            if (!used)
                continue;
            mean += (all - logits[k]) / c->classes;
            rank += logits[k] > logits[label] || (logits[k] == logits[label] && k < label);
        }
        if (!used)
            continue;
        out.loss += ((1 - c->smoothing) * (all - logits[label]) + c->smoothing * mean) / c->rows;
        out.top1 += rank < 1;
        out.top5 += rank < 5;
    }
    return out;
}

struct loss_memory {
    float *logits, *logs, *losses, scale;
    int32_t *labels, *ranks, rows;
    double *wanted;
    void *gradients;
};

static struct loss_memory open_loss(const struct loss_case *c)
{
    const size_t n = (size_t)c->n, count = n * (size_t)c->classes;
    struct loss_memory m = {draw_floats(count, c->spread),
                            take(n, 4),
                            take(n, 4),
                            64.0f,
                            take(n, 4),
                            take(n, 4),
                            c->rows,
                            take(count, 8),
                            take(count, 4)};
    for (size_t i = 0; i < count; i++) /* many ties */
        if (i % 3 == 0)
            m.logits[i] = nearbyintf(m.logits[i]);
    for (size_t i = 0; i < n; i++)
        m.labels[i] = i < (size_t)c->rows ? (int32_t)(i * 7919 % (size_t)c->classes) : -5;
    return m;
}

static void close_loss(struct loss_memory *m)
{
    free(m->logits), free(m->logs), free(m->losses), free(m->labels), free(m->ranks);
    free(m->wanted), free(m->gradients);
}

static int forward_loss(const struct loss_case *c, struct loss_memory *m, struct kernel_loss *out)
{
    memset(out, 0xFF, sizeof *out);
    return kernel_loss_forward(NULL, c->n, c->classes, c->smoothing, m->logits, m->labels, &m->rows,
                               m->logs, m->losses, m->ranks, out);
}

static void run_loss(const struct loss_case *c, enum kernel_type type, bool scaled)
{
    const size_t count = (size_t)c->n * (size_t)c->classes;
    const double scale = scaled ? 64 : 1;
    struct loss_memory m = open_loss(c);
    struct kernel_loss wanted = find_loss(c, m.logits, m.labels, scale, m.wanted), found;
    CHECK_INT(forward_loss(c, &m, &found), 0);
    CHECK_CLOSE(found.loss, wanted.loss, 2e-6);
    CHECK_INT(found.top1, wanted.top1);
    CHECK_INT(found.top5, wanted.top5);
    CHECK_INT(found.error, 0);
    void *exact = realloc(m.gradients, count * size_of(type));
    m.gradients = memset(exact, 0xFF, count * size_of(type));
    CHECK_INT(kernel_loss_backward(NULL, type, c->n, c->classes, c->smoothing, m.logits, m.labels,
                                   &m.rows, m.logs, scaled ? &m.scale : NULL, m.gradients),
              0);
    for (size_t i = 0; i < count; i++)
        check_value("loss gradient", type, m.gradients, i, m.wanted[i],
                    (type == KERNEL_F16 ? 4e-8 : 0) + 4e-6 * scale / c->rows);
    close_loss(&m);
}

static void test_loss(void)
{
    static const struct loss_case cases[] = {
        {1, 1,    1, 0,    3 },
        {3, 2,    3, 0.1f, 3 },
        {4, 10,   3, 0,    5 },
        {2, 257,  2, 0.1f, 30},
        {3, 1000, 1, 0.1f, 8 },
        {2, 256,  2, 0,    80}
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        for (size_t t = 0; t < (i ? 1 : 3); t++)
            run_loss(&cases[i], types[t], i & 1);
    run_loss(&cases[2], KERNEL_BF16, true);
    run_loss(&cases[2], KERNEL_F16, true);
    CHECK(kernel_loss_forward(NULL, 1, 1, 1.0f, NULL, NULL, NULL, NULL, NULL, NULL, NULL) != 0);
}

/* A label out of range, a row count out of range, a NaN. */
static void test_loss_errors(void)
{
    static const struct loss_case c = {4, 10, 4, 0, 1};
    static const struct {
        int32_t row, label, rows, error;
    } cases[] = {
        {2, 10,        4,  3 },
        {1, -1,        4,  2 },
        {3, INT32_MAX, 4,  4 },
        {3, INT32_MIN, 3,  0 },
        {0, 0,         5,  -1},
        {0, 0,         0,  -1},
        {0, 0,         -7, -1}
    };
    struct loss_memory m = open_loss(&c);
    struct kernel_loss found;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const int32_t row = cases[i].row, saved = m.labels[row];
        float *gradients = m.gradients;
        m.labels[row] = cases[i].label;
        m.rows = cases[i].rows;
        CHECK_INT(forward_loss(&c, &m, &found), 0);
        CHECK_INT(found.error, cases[i].error);
        CHECK(isnan(found.loss) == (cases[i].error != 0));
        CHECK_INT(kernel_loss_backward(NULL, KERNEL_F32, c.n, c.classes, 0, m.logits, m.labels,
                                       &m.rows, m.logs, NULL, gradients),
                  0);
        for (int k = 0; k < c.classes && cases[i].label; k++)
            CHECK(gradients[row * c.classes + k] == 0);
        m.labels[row] = saved;
    }
    /* The label's logit is a NaN: last of all, and the loss says so. */
    m.rows = 1;
    m.logits[m.labels[0]] = NAN;
    CHECK_INT(forward_loss(&c, &m, &found), 0);
    CHECK_INT(found.top1, 0);
    CHECK_INT(found.top5, 0);
    CHECK(isnan(found.loss));
    CHECK_INT(found.error, 0);
    close_loss(&m);
}

/* ---- augment.cu ---- */

/* A picture of the batch: the part of it that is uploaded, resized, and where that lies in the
 * square. */
struct picture_case {
    int width, height, full_width, full_height; /* resized from, to */
    int left, top; /* of the square in the resized picture; < 0: padding */
    bool flip;
};

/* Tables of one axis of SIZE outputs into TABLES at *USED; LEFT outputs before it are left out. */
static struct kernel_axis make_axis(int in, int full, int left, bool flip, int size,
                                    int32_t *tables, size_t *used)
{
    const int first = left < 0 ? 0 : left, pad = left < 0 ? -left : 0;
    const int count = size - pad < full - first ? size - pad : full - first;
    const int at = flip ? size - pad - count : pad;
    struct kernel_axis axis = {*used, resample_taps(in, full, first, count), 0};
    int32_t *starts = tables + *used, *counts = starts + size, *weights = counts + size;
    const size_t entries = (size_t)size * (size_t)axis.taps;
    memset(starts, 0, 2 * (size_t)size * sizeof *starts);
    memset(weights, 0, entries * sizeof *weights);
    resample_table(in, full, first, count, flip, axis.taps, starts + at, counts + at,
                   weights + at * axis.taps);
    *used += 2 * (size_t)size + entries;
    return axis;
}

/* The bytes that the CPU gives. */
static void resample_square(struct resampler *resampler, const struct picture_case *c, int size,
                            const uint8_t *rgb, uint8_t *out)
{
    const struct pixels in = {rgb, c->width, c->height, (size_t)c->width * 3};
    struct resample_window w = {
        c->full_width, c->full_height, c->left < 0 ? 0 : c->left, c->top < 0 ? 0 : c->top, 0, 0};
    int pad_x = c->left < 0 ? -c->left : 0, pad_y = c->top < 0 ? -c->top : 0;
    w.width = size - pad_x < w.full_width - w.left ? size - pad_x : w.full_width - w.left;
    w.height = size - pad_y < w.full_height - w.top ? size - pad_y : w.full_height - w.top;
    int x = c->flip ? size - pad_x - w.width : pad_x;
    memset(out, 0, (size_t)size * (size_t)size * 3);
    CHECK_INT(
        resampler_run(resampler, &in, &w, c->flip, out + (pad_y * size + x) * 3, (size_t)size * 3),
        0);
}

static void check_pixels(enum kernel_type type, int n, int size, const uint8_t *wanted,
                         const float *table, const void *out)
{
    const size_t pixels = (size_t)n * (size_t)size * (size_t)size, each = size_of(type);
    float *floats = take(pixels * 8, 4);
    for (size_t i = 0; i < pixels * 8; i++)
        floats[i] = i % 8 < 3 ? table[3 * wanted[i / 8 * 3 + i % 8] + i % 8] : 0.0f;
    char *exact = typed(type, floats, pixels * 8);
    for (size_t i = 0; i < pixels * 8; i++)
        if (memcmp(exact + i * each, (const char *)out + i * each, each) != 0) {
            printf("augment, size %d, type %d: picture %zu, pixel (%zu, %zu), channel %zu is %g, "
                   "not %g\n",
                   size, (int)type, i / 8 / (size_t)(size * size), i / 8 % (size_t)size,
                   i / 8 / (size_t)size % (size_t)size, i % 8, value_at(type, out, i),
                   value_at(type, exact, i));
            test_failures++;
            break;
        }
    free(floats), free(exact);
}

/* COUNT pictures, and one behind the batch's rows. */
static void run_augment(const struct picture_case *cases, size_t count, int size,
                        enum kernel_type type)
{
    size_t bytes = 0, entries = 0, used = 0, at = 0, square = (size_t)size * (size_t)size;
    for (size_t i = 0; i < count; i++) {
        bytes += 3 * (size_t)cases[i].width * (size_t)cases[i].height;
        entries += (size_t)size * (size_t)(2 * (cases[i].width + cases[i].height) + 4);
    }
    struct kernel_picture *pictures = take(count, sizeof *pictures);
    int32_t *tables = take(entries, sizeof *tables), rows = (int32_t)count;
    uint8_t *pixels = take(bytes, 1), *wanted = take((count + 1) * square, 3);
    float *table = take(768, sizeof *table);
    void *out = take((count + 1) * square * 8, size_of(type));
    struct resampler *resampler;
    CHECK_INT(resampler_open(&resampler, false), 0);
    for (int i = 0; i < 768; i++)
        table[i] = ((float)(i / 3) / 255.0f - 0.45f - 0.02f * (float)(i % 3)) / 0.225f;
    for (size_t i = 0; i < count; i++) {
        const struct picture_case *c = &cases[i];
        struct kernel_picture p = {.at = at, .stride = 3 * (uint32_t)c->width};
        p.down_first = resample_down_first(c->width, c->height, c->full_width, c->full_height);
        p.across = make_axis(c->width, c->full_width, c->left, c->flip, size, tables, &used);
        p.down = make_axis(c->height, c->full_height, c->top, false, size, tables, &used);
        pictures[i] = p;
        draw_pixels(pixels + at, c->width, c->height, (int)(i % 4));
        resample_square(resampler, c, size, pixels + at, wanted + i * square * 3);
        at += 3 * (size_t)c->width * (size_t)c->height;
    }
    CHECK(used <= entries);
    memset(wanted + count * square * 3, 0, square * 3);
    CHECK_INT(kernel_augment(NULL, type, (int)count + 1, size, &rows, pictures, tables, pixels,
                             table, out),
              0);
    check_pixels(type, (int)count + 1, size, wanted, table, out);
    resampler_close(resampler);
    free(pictures), free(tables), free(pixels), free(wanted), free(table), free(out);
}

static void test_augment(void)
{
    /* Down, up, one axis only, none, flipped; tall ones (the vertical pass first); a window of the
     * result; padding; scales that need more than one portion of shared memory, either way; one
     * pixel. */
    static const struct picture_case cases[] = {
        {60,  45,   35, 35, 0,  0,  false},
        {20,  11,   35, 35, 0,  0,  true },
        {35,  80,   35, 35, 0,  0,  false},
        {90,  35,   35, 35, 0,  0,  true },
        {35,  35,   35, 35, 0,  0,  true },
        {35,  35,   35, 35, 0,  0,  false},
        {50,  200,  35, 35, 0,  0,  true },
        {37,  160,  35, 35, 0,  0,  false},
        {80,  60,   53, 40, 9,  2,  true },
        {30,  30,   20, 20, -7, -8, true },
        {40,  90,   20, 45, -8, 5,  false},
        {700, 40,   35, 35, 0,  0,  false},
        {600, 1500, 35, 35, 0,  0,  true },
        {40,  700,  35, 36, 0,  1,  true },
        {1,   1,    35, 35, 0,  0,  true },
        {1,   300,  35, 35, 0,  0,  false}
    };
    run_augment(cases, COUNT_OF(cases), 35, KERNEL_BF16);
    run_augment(cases, 3, 35, KERNEL_F32);
    run_augment(cases + 6, 2, 35, KERNEL_F16);
    CHECK(kernel_augment(NULL, KERNEL_F32, 1, 0, NULL, NULL, NULL, NULL, NULL, &drawn) != 0);
}

/* Few blocks, either order of the passes: cheap enough for ThreadSanitizer. */
static void test_augment_small(void)
{
    static const struct picture_case tiny[] = {
        {3, 2,  1, 1, 0, 0, true },
        {9, 40, 1, 1, 0, 0, false}
    };
    run_augment(tiny, 2, 1, KERNEL_F32);
    static const struct picture_case tile[] = {
        {70, 60,  32, 32, 0, 0, false},
        {40, 170, 32, 32, 0, 0, true }
    };
    run_augment(tile, 2, 32, KERNEL_F16);
}

/* ---- the shim itself ---- */

static struct shim_launch kept;
static void *kept_stream;

static int keep_launch(void *stream, const struct shim_launch *launch)
{
    kept = *launch;
    kept_stream = stream;
    return 0;
}

/* A launch can be kept, run later and again. */
static void test_hook(void)
{
    float *g = draw_floats(16, 1), *sum = draw_floats(16, 1), *before = take(16, 4);
    memcpy(before, sum, 64);
    shim_hook = keep_launch;
    CHECK_INT(kernel_accumulate(g, 16, 0, g, sum), 0);
    shim_hook = NULL;
    CHECK(memcmp(sum, before, 64) == 0 && kept_stream == g);
    CHECK_INT(kept.blocks, 1);
    CHECK_INT(kept.shared_bytes, 0);
    CHECK_HAS(kept.kernel, "accumulate");
    kept.run(kept.closure);
    kept.run(kept.closure);
    kept.release(kept.closure);
    for (int i = 0; i < 16; i++)
        CHECK(sum[i] == before[i] + g[i] + g[i]);
    free(g), free(sum), free(before);
}

static const struct test tests[] = {
    {"convert",       test_convert      },
    {"update",        test_update       },
    {"finite",        test_finite       },
    {"scaler",        test_scaler       },
    {"accumulate",    test_accumulate   },
    {"pool",          test_pool         },
    {"sum",           test_sum          },
    {"norm",          test_norm         },
    {"bias",          test_bias         },
    {"loss",          test_loss         },
    {"loss_errors",   test_loss_errors  },
    {"augment",       test_augment      },
    {"augment_small", test_augment_small},
    {"hook",          test_hook         },
};
TEST_MAIN(tests)
