/*
 * ref_matrix.c - the ops of `ref` that are matrix products: convolution, its evaluation form,
 * linear.
 *
 * A convolution is the product of a picture's patches (output pixels x kernel positions and input
 * channels) with the weights. Sums run in double along the inner dimension, in its order, picture
 * after picture.
 */
#include <math.h>
#include <string.h>

#include "train/ref.h"

/* The next BYTES of a block that begins at BASE, of which *USED are taken. With BASE NULL only
 * *USED means something: the same calls give a block's size and its parts. */
static void *carve(void *base, size_t *used, size_t bytes)
{
    uintptr_t at = (uintptr_t)base + *used;

    *used += (bytes + 63) & ~(size_t)63;
    return (void *)at;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- matrix product ---- */

/* C += A B with A rows x depth, B depth x columns, C rows x columns. */
struct product {
    size_t rows, columns, depth;
    const float *a;
    size_t a_row, a_step; /* A(r, k) = a[r * a_row + k * a_step] */
    const float *b;       /* rows of `columns` floats, one after the other */
    double *c;
    double *panel; /* scratch: depth * PANEL */
};

enum { PANEL = 8 };

/* Two doubles: what every x86-64 and ARM64 has in a register. With wider ones gcc spills. */
typedef double pair __attribute__((vector_size(16)));

/* Rows A (and the same again for B) times a panel of 8 columns: 2 x 8 sums over DEPTH, in its
 * order. */
static void multiply_panel(const float *a, const float *b, size_t step, size_t depth,
                           const double *panel, double out[2][PANEL])
{
    const pair *p = (const pair *)(const void *)panel;
    pair a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0}, b0 = {0}, b1 = {0}, b2 = {0}, b3 = {0};

    for (size_t k = 0; k < depth; k++, p += 4) {
        double x = a[k * step], y = b[k * step];
        a0 += x * p[0];
        a1 += x * p[1];
        a2 += x * p[2];
        a3 += x * p[3];
        b0 += y * p[0];
        b1 += y * p[1];
        b2 += y * p[2];
        b3 += y * p[3];
    }
    const pair sums[2][4] = {
        {a0, a1, a2, a3},
        {b0, b1, b2, b3}
    };
    memcpy(out, sums, sizeof sums);
}

static void multiply_add(const struct product *p)
{
    for (size_t first = 0; first < p->columns; first += PANEL) {
        size_t width = p->columns - first < PANEL ? p->columns - first : PANEL;

        for (size_t k = 0; k < p->depth; k++)
            for (size_t j = 0; j < PANEL; j++)
                p->panel[k * PANEL + j] = j < width ? p->b[k * p->columns + first + j] : 0.0;
        for (size_t r = 0; r < p->rows; r += 2) {
            size_t count = p->rows - r < 2 ? 1 : 2;
            double sums[2][PANEL];
            const float *a = p->a + r * p->a_row;

            multiply_panel(a, a + (count - 1) * p->a_row, p->a_step, p->depth, p->panel, sums);
            for (size_t i = 0; i < count; i++)
                for (size_t j = 0; j < width; j++)
                    p->c[(r + i) * p->columns + first + j] += sums[i][j];
        }
    }
}

/* ---- convolution ---- */

/* Shapes, and the parts of the workspace. Pictures go through the products in groups, so that small
 * ones make products with enough rows. */
struct conv {
    size_t group;                 /* pictures of a group; the last may be smaller */
    size_t in_pixels, out_pixels; /* of one picture */
    size_t in_c, out_c;
    size_t depth;        /* kernel positions x input channels: a patch */
    float *patches;      /* group x out_pixels x depth */
    float *out_gradient; /* group x out_pixels x out_c */
    double *sums;        /* group x out_pixels x max(depth, out_c) */
    double *in_gradient; /* group x in_pixels x in_c */
    double *weight_sums; /* out_c x depth */
    double *panel;       /* of the largest product */
    size_t workspace_bytes;
};

enum { ENOUGH_ROWS = 64 };

static struct conv conv_parts(const struct op *op, bool training)
{
    struct conv v = {
        .in_pixels = ref_pixels(op->in),
        .out_pixels = ref_pixels(op->out),
        .in_c = (size_t)op->in->c,
        .out_c = (size_t)op->out->c,
        .depth = (size_t)op->kernel * (size_t)op->kernel * (size_t)op->in->c,
    };
    void *base = op->workspace;
    size_t *used = &v.workspace_bytes;

    v.group = larger(1, ENOUGH_ROWS / v.out_pixels);
    if (v.group > (size_t)op->in->n)
        v.group = (size_t)op->in->n;
    size_t rows = v.group * v.out_pixels, longest = larger(v.depth, larger(v.out_c, rows));

    v.patches = carve(base, used, rows * v.depth * sizeof(float));
    v.sums = carve(base, used, rows * larger(v.depth, v.out_c) * sizeof(double));
    v.panel = carve(base, used, longest * PANEL * sizeof(double));
    if (training) {
        v.out_gradient = carve(base, used, rows * v.out_c * sizeof(float));
        v.in_gradient = carve(base, used, v.group * v.in_pixels * v.in_c * sizeof(double));
        v.weight_sums = carve(base, used, v.out_c * v.depth * sizeof(double));
    }
    return v;
}

/* The group that begins at picture FIRST: how many pictures it has. */
static size_t group_size(const struct op *op, const struct conv *v, size_t first)
{
    size_t left = (size_t)op->in->n - first;

    return left < v->group ? left : v->group;
}

/* The input pixel that output (Y, X) and kernel position (KY, KX) meet, or -1 outside. */
static int64_t input_pixel(const struct op *op, int y, int x, int ky, int kx)
{
    int iy = y * op->stride + ky - op->padding, ix = x * op->stride + kx - op->padding;

    if (iy < 0 || iy >= op->in->h || ix < 0 || ix >= op->in->w)
        return -1;
    return (int64_t)iy * op->in->w + ix;
}

/* PATCHES(output pixel, ky, kx, c) = the input that kernel position meets; 0 outside. */
static void gather_patches(const struct op *op, const float *picture, float *patches)
{
    size_t c = (size_t)op->in->c;

    for (int y = 0; y < op->out->h; y++)
        for (int x = 0; x < op->out->w; x++)
            for (int ky = 0; ky < op->kernel; ky++)
                for (int kx = 0; kx < op->kernel; kx++, patches += c) {
                    int64_t at = input_pixel(op, y, x, ky, kx);

                    if (at < 0)
                        memset(patches, 0, c * sizeof *patches);
                    else
                        memcpy(patches, picture + (size_t)at * c, c * sizeof *patches);
                }
}

/* The other way round: PICTURE += each patch at its place. */
static void scatter_patches(const struct op *op, const double *patches, double *picture)
{
    size_t c = (size_t)op->in->c;

    for (int y = 0; y < op->out->h; y++)
        for (int x = 0; x < op->out->w; x++)
            for (int ky = 0; ky < op->kernel; ky++)
                for (int kx = 0; kx < op->kernel; kx++, patches += c) {
                    int64_t at = input_pixel(op, y, x, ky, kx);

                    for (size_t i = 0; at >= 0 && i < c; i++)
                        picture[(size_t)at * c + i] += patches[i];
                }
}

static void gather_group(const struct op *op, const struct conv *v, size_t first)
{
    const float *in = op->in->data;

    for (size_t k = 0; k < group_size(op, v, first); k++)
        gather_patches(op, in + (first + k) * v->in_pixels * v->in_c,
                       v->patches + k * v->out_pixels * v->depth);
}

/* Packed weights for forward: O x (K K I) transposed, so that a row holds all output channels. */
static void transpose(const float *in, size_t rows, size_t columns, float *out)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            out[c * rows + r] = in[r * columns + c];
}

static void conv_setup(struct op *op, bool training)
{
    op->workspace = NULL;
    struct conv v = conv_parts(op, training);

    op->packed_bytes = v.depth * v.out_c * sizeof(float);
    op->workspace_bytes = v.workspace_bytes;
    op->backward_reads_in = true;
}

static void conv_prepare(struct op *op, const float *values)
{
    size_t depth = (size_t)op->kernel * (size_t)op->kernel * (size_t)op->in->c;

    transpose(values + op->weight->offset, (size_t)op->out->c, depth, op->packed);
}

/* v->sums = the convolution of the group that begins at picture FIRST; returns its elements. */
static size_t conv_group(const struct op *op, const struct conv *v, size_t first)
{
    size_t rows = group_size(op, v, first) * v->out_pixels;
    struct product product = {.rows = rows,
                              .columns = v->out_c,
                              .depth = v->depth,
                              .a = v->patches,
                              .a_row = v->depth,
                              .a_step = 1,
                              .b = op->packed,
                              .c = v->sums,
                              .panel = v->panel};

    gather_group(op, v, first);
    memset(v->sums, 0, rows * v->out_c * sizeof *v->sums);
    multiply_add(&product);
    return rows * v->out_c;
}

static void conv_forward(struct device *device, struct op *op, float *values)
{
    struct conv v = conv_parts(op, false);

    (void)device, (void)values;
    for (size_t first = 0; first < (size_t)op->in->n; first += v.group) {
        float *out = (float *)op->out->data + first * v.out_pixels * v.out_c;
        size_t count = conv_group(op, &v, first);

        for (size_t i = 0; i < count; i++)
            out[i] = (float)v.sums[i];
    }
}

/* A group's gradient of the input: patches of it = out_gradient x weights, each added at its place.
 */
static void conv_backward_in(const struct op *op, const struct conv *v, const float *weights,
                             size_t first)
{
    size_t pictures = group_size(op, v, first), rows = pictures * v->out_pixels;
    size_t picture = v->in_pixels * v->in_c;
    float *out = (float *)op->in->gradients[op->in_slot] + first * picture;
    struct product product = {.rows = rows,
                              .columns = v->depth,
                              .depth = v->out_c,
                              .a = v->out_gradient,
                              .a_row = v->out_c,
                              .a_step = 1,
                              .b = weights,
                              .c = v->sums,
                              .panel = v->panel};

    memset(v->sums, 0, rows * v->depth * sizeof *v->sums);
    multiply_add(&product);
    memset(v->in_gradient, 0, pictures * picture * sizeof *v->in_gradient);
    for (size_t k = 0; k < pictures; k++)
        scatter_patches(op, v->sums + k * v->out_pixels * v->depth, v->in_gradient + k * picture);
    for (size_t i = 0; i < pictures * picture; i++)
        out[i] = (float)v->in_gradient[i];
}

/* v->weight_sums += out_gradient transposed (channels x pixels) times patches, of ROWS pixels. */
static void conv_backward_weight(const struct conv *v, size_t rows)
{
    struct product product = {.rows = v->out_c,
                              .columns = v->depth,
                              .depth = rows,
                              .a = v->out_gradient,
                              .a_row = 1,
                              .a_step = v->out_c,
                              .b = v->patches,
                              .c = v->weight_sums,
                              .panel = v->panel};

    multiply_add(&product);
}

static void conv_backward(struct device *device, struct op *op, const float *values,
                          float *gradients)
{
    struct conv v = conv_parts(op, true);
    float *weight_gradient = gradients + op->weight->offset;

    (void)device;
    memset(v.weight_sums, 0, v.out_c * v.depth * sizeof *v.weight_sums);
    for (size_t first = 0; first < (size_t)op->in->n; first += v.group) {
        size_t rows = group_size(op, &v, first) * v.out_pixels;

        for (size_t i = 0; i < rows * v.out_c; i++)
            v.out_gradient[i] = ref_gradient(op->out, first * v.out_pixels * v.out_c + i);
        gather_group(op, &v, first);
        conv_backward_weight(&v, rows);
        if (op->in_slot >= 0)
            conv_backward_in(op, &v, values + op->weight->offset, first);
    }
    for (size_t i = 0; i < v.out_c * v.depth; i++)
        weight_gradient[i] = (float)v.weight_sums[i];
}

/* ---- convolution and normalisation by running statistics (evaluation) ---- */

/* Packed: the weights as in OP_CONV, then a scale and a shift for each channel. */
static size_t fold_offset(const struct op *op)
{
    size_t used = 0;

    carve(NULL, &used, op->weight->count * sizeof(float));
    return used;
}

static void conv_norm_setup(struct op *op, bool training)
{
    conv_setup(op, training);
    op->packed_bytes = fold_offset(op) + 2 * (size_t)op->out->c * sizeof(double);
}

static void conv_norm_prepare(struct op *op, const float *values)
{
    size_t c = (size_t)op->out->c;
    double *scale = (double *)(void *)((char *)op->packed + fold_offset(op)), *shift = scale + c;

    conv_prepare(op, values);
    for (size_t i = 0; i < c; i++) {
        double variance = values[op->running_var->offset + i];
        double mean = values[op->running_mean->offset + i];

        scale[i] = values[op->gamma->offset + i] / sqrt(variance + (double)op->epsilon);
        shift[i] = values[op->beta->offset + i] - mean * scale[i];
    }
}

static void conv_norm_forward(struct device *device, struct op *op, float *values)
{
    struct conv v = conv_parts(op, false);
    const double *scale = (const double *)(const void *)((char *)op->packed + fold_offset(op));
    const double *shift = scale + v.out_c;

    (void)device, (void)values;
    for (size_t first = 0; first < (size_t)op->in->n; first += v.group) {
        size_t count = conv_group(op, &v, first), at = first * v.out_pixels * v.out_c;
        float *out = (float *)op->out->data + at;
        const float *residual = op->residual ? (const float *)op->residual->data + at : NULL;

        for (size_t i = 0; i < count; i++) {
            double y = v.sums[i] * scale[i % v.out_c] + shift[i % v.out_c];

            if (residual)
                y += residual[i];
            out[i] = (float)(op->relu && y < 0 ? 0 : y);
        }
    }
}

/* ---- linear ---- */

struct linear {
    size_t n, in_c, out_c;
    float *out_gradient; /* n x out_c */
    double *sums;        /* of the largest product */
    double *panel;
    size_t workspace_bytes;
};

static struct linear linear_parts(const struct op *op, bool training)
{
    struct linear v = {
        (size_t)op->in->n, (size_t)op->in->c, (size_t)op->out->c, NULL, NULL, NULL, 0};
    size_t *used = &v.workspace_bytes;
    size_t largest = larger(v.n * v.out_c, training ? larger(v.n, v.out_c) * v.in_c : 0);

    v.sums = carve(op->workspace, used, largest * sizeof(double));
    v.panel =
        carve(op->workspace, used, larger(v.n, larger(v.in_c, v.out_c)) * PANEL * sizeof(double));
    if (training)
        v.out_gradient = carve(op->workspace, used, v.n * v.out_c * sizeof(float));
    return v;
}

static void linear_setup(struct op *op, bool training)
{
    op->workspace = NULL;
    struct linear v = linear_parts(op, training);

    op->packed_bytes = v.in_c * v.out_c * sizeof(float);
    op->workspace_bytes = v.workspace_bytes;
    op->backward_reads_in = true;
}

static void linear_prepare(struct op *op, const float *values)
{
    transpose(values + op->weight->offset, (size_t)op->out->c, (size_t)op->in->c, op->packed);
}

/* sums = a product of the given shape. */
static void linear_multiply(const struct linear *v, struct product product)
{
    product.c = v->sums;
    product.panel = v->panel;
    memset(v->sums, 0, product.rows * product.columns * sizeof *v->sums);
    multiply_add(&product);
}

static void linear_forward(struct device *device, struct op *op, float *values)
{
    struct linear v = linear_parts(op, false);
    const float *bias = values + op->bias->offset;
    float *out = op->out->data;

    (void)device;
    linear_multiply(&v, (struct product){.rows = v.n,
                                         .columns = v.out_c,
                                         .depth = v.in_c,
                                         .a = op->in->data,
                                         .a_row = v.in_c,
                                         .a_step = 1,
                                         .b = op->packed});
    for (size_t i = 0; i < v.n * v.out_c; i++)
        out[i] = (float)(v.sums[i] + bias[i % v.out_c]);
}

static void linear_backward(struct device *device, struct op *op, const float *values,
                            float *gradients)
{
    struct linear v = linear_parts(op, true);
    float *weight_gradient = gradients + op->weight->offset;

    (void)device;
    for (size_t i = 0; i < v.n * v.out_c; i++)
        v.out_gradient[i] = ref_gradient(op->out, i);
    linear_multiply(&v, (struct product){.rows = v.out_c,
                                         .columns = v.in_c,
                                         .depth = v.n,
                                         .a = v.out_gradient,
                                         .a_row = 1,
                                         .a_step = v.out_c,
                                         .b = op->in->data});
    for (size_t i = 0; i < v.out_c * v.in_c; i++)
        weight_gradient[i] = (float)v.sums[i];
    for (size_t k = 0; k < v.out_c; k++) {
        double sum = 0;

        for (size_t n = 0; n < v.n; n++)
            sum += v.out_gradient[n * v.out_c + k];
        gradients[op->bias->offset + k] = (float)sum;
    }
    if (op->in_slot < 0)
        return;
    float *in_gradient = op->in->gradients[op->in_slot];
    linear_multiply(&v, (struct product){.rows = v.n,
                                         .columns = v.in_c,
                                         .depth = v.out_c,
                                         .a = v.out_gradient,
                                         .a_row = v.out_c,
                                         .a_step = 1,
                                         .b = values + op->weight->offset});
    for (size_t i = 0; i < v.n * v.in_c; i++)
        in_gradient[i] = (float)v.sums[i];
}

const struct ref_op ref_conv = {conv_setup, conv_prepare, conv_forward, conv_backward};
const struct ref_op ref_conv_norm = {conv_norm_setup, conv_norm_prepare, conv_norm_forward, NULL};
const struct ref_op ref_linear = {linear_setup, linear_prepare, linear_forward, linear_backward};
