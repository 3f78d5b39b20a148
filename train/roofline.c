#include "train/roofline.h"

#include <math.h>
#include <stdio.h>

const char *const roofline_level_names[ROOFLINE_LEVELS] = {"unfused", "a", "b"};

enum { ELEMENT = 2, INPUT_CHANNELS = 8 };

/* A stored picture (shorter side 256, 4:3) and the average area share of a random crop. */
static const double stored_pixels = 256.0 * 343.0, crop_share = 0.54;

static double tensor_bytes(const struct tensor *t)
{
    int c = t->role == TENSOR_PICTURES ? INPUT_CHANNELS : t->c;
    return (double)c * t->h * t->w * ELEMENT;
}

static void add_everywhere(struct roofline_op *op, double bytes)
{
    for (int level = 0; level < ROOFLINE_LEVELS; level++)
        op->bytes[level] += bytes;
}

static struct roofline_op convolution(const struct op *op)
{
    const double in = tensor_bytes(op->in), out = tensor_bytes(op->out);
    const double products =
        (double)op->in->c * op->kernel * op->kernel * op->out->c * (double)op->out->h * op->out->w;
    struct roofline_op result = {0};
    const bool dgrad = op->in_slot >= 0;
    result.flops = 2 * products * (dgrad ? 3 : 2);
    add_everywhere(&result, 2 * (in + out) + (dgrad ? in + out : 0));
    /* ReLU's gradient and the sums of the normalisation before it need that one's input. */
    if (dgrad)
        result.bytes[ROOFLINE_B] += in;
    return result;
}

static struct roofline_op normalisation(const struct op *op)
{
    const double x = tensor_bytes(op->out), mask = op->relu ? x / (8 * ELEMENT) : 0;
    struct roofline_op result = {0};
    result.bytes[ROOFLINE_UNFUSED] = 8 * x + (op->relu ? 5 * x : 0) + (op->residual ? 5 * x : 0);
    result.bytes[ROOFLINE_A] = 8 * x + 2 * mask + (op->residual ? 2 * x : 0);
    result.bytes[ROOFLINE_B] = 3 * x + (op->residual ? 5 * x : 0);
    return result;
}

struct roofline_op roofline_op(const struct op *op)
{
    struct roofline_op result = {0};
    switch (op->kind) {
    case OP_CONV:
        return convolution(op);
    case OP_NORM:
        return normalisation(op);
    case OP_LINEAR:
        result.flops = 2.0 * op->in->c * op->out->c * 3;
        add_everywhere(&result, 3 * (tensor_bytes(op->in) + tensor_bytes(op->out)));
        break;
    case OP_MAX_POOL:
    case OP_MEAN_POOL:
        add_everywhere(&result, 2 * (tensor_bytes(op->in) + tensor_bytes(op->out)));
        break;
    case OP_LOSS:
        add_everywhere(&result, 2 * tensor_bytes(op->in));
        break;
    default:
        break;
    }
    return result;
}

/* Seconds of an op's arithmetic and memory for one picture. */
static double arithmetic(const struct roofline_op *op, const struct device_row *device)
{
    return op->flops / (device->tensor16_tflops * 1e12 * ROOFLINE_TENSOR_SHARE);
}

static double memory(double bytes, const struct device_row *device)
{
    return bytes / (device->memory_gb_s * 1e9 * ROOFLINE_MEMORY_SHARE);
}

struct roofline roofline_of(const struct model *model, const struct device_row *device)
{
    struct roofline result = {0};
    double in_turn[ROOFLINE_LEVELS] = {0}, overlapped[ROOFLINE_LEVELS] = {0}, weights = 0;
    for (size_t i = 0; i < model->trained_count; i++)
        weights += (double)model->parameters[i].count;
    for (size_t i = 0; i < model->training_count; i++) {
        const struct roofline_op op = roofline_op(&model->training[i]);
        const double flops = arithmetic(&op, device);
        result.picture.flops += op.flops;
        for (int level = 0; level < ROOFLINE_LEVELS; level++) {
            const double bytes = memory(op.bytes[level], device);
            result.picture.bytes[level] += op.bytes[level];
            in_turn[level] += flops + bytes;
            overlapped[level] += fmax(flops, bytes);
        }
    }
    /* 2 reads and a copy of 2 bytes; gradient, value and momentum of 4 bytes each read and written.
     */
    result.step_bytes = weights * (3 * 2 + 6 * 4);
    result.crop_bytes = 3 * stored_pixels * crop_share;
    result.input_bytes =
        (double)model->settings.image_size * model->settings.image_size * INPUT_CHANNELS * ELEMENT;
    const double input = memory(result.crop_bytes + result.input_bytes, device);
    const double once = memory(result.step_bytes, device) / model->settings.batch + input;
    for (int level = 0; level < ROOFLINE_LEVELS; level++) {
        result.in_turn[level] = 1 / (in_turn[level] + once);
        result.overlapped[level] = 1 / (overlapped[level] + once);
    }
    result.augmented = 1 / input;
    result.uploaded = device->pcie_gb_s * 1e9 * ROOFLINE_PCIE_SHARE / result.crop_bytes;
    return result;
}

static void print_op(const struct op *op, const struct device_row *device)
{
    const struct roofline_op line = roofline_op(op);
    const double flops = arithmetic(&line, device);
    char shape[48] = "";
    if (op->out)
        snprintf(shape, sizeof shape, "%d x %d x %d", op->out->c, op->out->h, op->out->w);
    printf("%-22s %-14s %-14s %8.3f", op->name, op_kind_names[op->kind], shape, line.flops / 1e9);
    for (int level = 0; level < ROOFLINE_LEVELS; level++)
        printf(" %8.2f", line.bytes[level] / 1e6);
    for (int level = ROOFLINE_A; level < ROOFLINE_LEVELS; level++)
        printf(" %8.2f", 1e6 * fmax(flops, memory(line.bytes[level], device)));
    printf("  %s\n", flops > memory(line.bytes[ROOFLINE_A], device) ? "arithmetic" : "memory");
}

void roofline_print(const struct model *model, const struct device_row *device)
{
    const struct roofline all = roofline_of(model, device);
    printf(
        "%s: %.0f GB/s of memory, %.0f TFLOP/s of 16-bit products, %.0f GB/s of PCIe, counted at "
        "%.0f, %.0f and %.0f %%\n",
        device->name, device->memory_gb_s, device->tensor16_tflops, device->pcie_gb_s,
        100 * ROOFLINE_MEMORY_SHARE, 100 * ROOFLINE_TENSOR_SHARE, 100 * ROOFLINE_PCIE_SHARE);
    printf("%s, %d pictures of %d x %d a step; an op's numbers are of one picture, forward and "
           "backward\n\n",
           model->settings.arch, model->settings.batch, model->settings.image_size,
           model->settings.image_size);
    printf("%-22s %-14s %-14s %8s %26s %17s\n", "", "", "", "", "MB at level", "floor, us");
    printf("%-22s %-14s %-14s %8s %8s %8s %8s %8s %8s  %s\n", "op", "kind", "output", "GFLOP",
           roofline_level_names[0], "a", "b", "a", "b", "bound by (a)");
    for (size_t i = 0; i < model->training_count; i++)
        print_op(&model->training[i], device);
    printf("%-22s %-14s %-14s %8.3f", "all", "", "", all.picture.flops / 1e9);
    for (int level = 0; level < ROOFLINE_LEVELS; level++)
        printf(" %8.2f", all.picture.bytes[level] / 1e6);
    printf("\n\npredicted pictures a second     arithmetic and memory in turn   overlapped in each "
           "op\n");
    for (int level = 0; level < ROOFLINE_LEVELS; level++)
        printf("  %-8s %52.0f %23.0f\n", roofline_level_names[level], all.in_turn[level],
               all.overlapped[level]);
    printf("weights, gradients, momenta: %.0f MB a step\n", all.step_bytes / 1e6);
    printf("augmentation: reads %.2f MB, writes %.2f MB a picture: memory allows %.0f pictures a "
           "second\n",
           all.crop_bytes / 1e6, all.input_bytes / 1e6, all.augmented);
    printf("upload: %.2f MB a picture: PCIe allows %.0f pictures a second\n", all.crop_bytes / 1e6,
           all.uploaded);
}
