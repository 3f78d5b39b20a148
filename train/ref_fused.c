/*
 * ref_fused.c - the op of `ref` that is two: normalisation with a ReLU, then a convolution. It is
 * computed by the two ops it is made of, with the activation between them kept from forward to
 * backward, so that both forms of a list give the same bytes.
 */
#include "train/ref.h"

/* The two ops, and the activation between them. */
struct parts {
    struct op norm, conv;
    struct tensor middle;
};

static size_t to_64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static void *at(void *base, size_t bytes)
{
    return (void *)((uintptr_t)base + bytes);
}

/* Saved: the activation, then what the normalisation saves. Workspace: the activation's gradient,
 * then what the larger of the two needs. */
static void split(struct op *op, struct parts *p)
{
    size_t bytes;

    p->middle = *op->in;
    p->middle.readers = 1;
    bytes = to_64(ref_elements(&p->middle) * sizeof(float));
    p->middle.data = op->saved;
    p->middle.gradients[0] = op->workspace;
    p->norm = p->conv = *op;
    p->norm.kind = OP_NORM;
    p->norm.relu = true;
    p->norm.out = &p->middle;
    p->norm.saved = at(op->saved, bytes);
    p->norm.workspace = p->conv.workspace = at(op->workspace, bytes);
    p->conv.kind = OP_CONV;
    p->conv.in = &p->middle;
    p->conv.in_slot = 0;
}

static void norm_conv_setup(struct op *op, bool training)
{
    struct parts p;

    split(op, &p);
    ref_norm.setup(&p.norm, training);
    ref_conv.setup(&p.conv, training);
    size_t bytes = to_64(ref_elements(&p.middle) * sizeof(float));
    op->packed_bytes = p.conv.packed_bytes;
    op->saved_bytes = bytes + p.norm.saved_bytes;
    op->workspace_bytes =
        bytes + (p.norm.workspace_bytes > p.conv.workspace_bytes ? p.norm.workspace_bytes
                                                                 : p.conv.workspace_bytes);
    op->backward_reads_in = true;
}

static void norm_conv_prepare(struct op *op, const float *values)
{
    struct parts p;

    split(op, &p);
    ref_conv.prepare(&p.conv, values);
}

static void norm_conv_forward(struct device *device, struct op *op, float *values)
{
    struct parts p;

    split(op, &p);
    ref_norm.forward(device, &p.norm, values);
    ref_conv.forward(device, &p.conv, values);
}

static void norm_conv_backward(struct device *device, struct op *op, const float *values,
                               float *gradients)
{
    struct parts p;

    split(op, &p);
    ref_conv.backward(device, &p.conv, values, gradients);
    ref_norm.backward(device, &p.norm, values, gradients);
}

const struct ref_op ref_norm_conv = {norm_conv_setup, norm_conv_prepare, norm_conv_forward,
                                     norm_conv_backward};
