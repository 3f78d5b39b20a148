#include "train/onnx.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "train/wire.h"
#include "version.h"

/* Field numbers and types of onnx.proto. */
enum {
    MODEL_IR_VERSION = 1,
    MODEL_PRODUCER = 2,
    MODEL_PRODUCER_VERSION = 3,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTRIBUTE = 5,
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_FLOAT = 2,
    ATTRIBUTE_INT = 3,
    ATTRIBUTE_INTS = 8,
    ATTRIBUTE_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    TYPE_FLOAT = 1,
    TYPE_UINT8 = 2,
    KIND_FLOAT = 1,
    KIND_INT = 2,
    KIND_INTS = 7
};

struct onnx {
    const struct model *model;
    const struct weights *weights;
    struct wire graph, node, part,
        inner;                        /* inner goes into part, part into node, node into graph */
    char value[MODEL_NAME_SIZE + 16]; /* name of what the last node made */
};

/* ---- nodes ---- */

static void attribute(struct onnx *o, const char *name, int kind)
{
    wire_text(&o->part, ATTRIBUTE_NAME, name);
    wire_int(&o->part, ATTRIBUTE_TYPE, kind);
    wire_message(&o->node, NODE_ATTRIBUTE, &o->part);
}

static void attribute_int(struct onnx *o, const char *name, int64_t value)
{
    wire_int(&o->part, ATTRIBUTE_INT, value);
    attribute(o, name, KIND_INT);
}

static void attribute_ints(struct onnx *o, const char *name, int count, const int64_t *values)
{
    for (int i = 0; i < count; i++)
        wire_int(&o->part, ATTRIBUTE_INTS, values[i]);
    attribute(o, name, KIND_INTS);
}

/* End the node: KIND makes OUTPUT, which the next node may take as o->value. */
static void finish(struct onnx *o, const char *kind, const char *output)
{
    wire_text(&o->node, NODE_OUTPUT, output);
    wire_text(&o->node, NODE_NAME, output);
    wire_text(&o->node, NODE_OP, kind);
    wire_message(&o->graph, GRAPH_NODE, &o->node);
    snprintf(o->value, sizeof o->value, "%s", output);
}

static void input(struct onnx *o, const char *name)
{
    wire_text(&o->node, NODE_INPUT, name);
}

static void window(struct onnx *o, const struct op *op)
{
    const int64_t kernel[2] = {op->kernel, op->kernel}, stride[2] = {op->stride, op->stride},
                  pads[4] = {op->padding, op->padding, op->padding, op->padding};
    attribute_ints(o, "kernel_shape", 2, kernel);
    attribute_ints(o, "strides", 2, stride);
    attribute_ints(o, "pads", 4, pads);
}

/* The name under which TENSOR is known: that of the op that makes it. */
static void tensor_name(const struct onnx *o, const struct tensor *tensor,
                        char out[MODEL_NAME_SIZE + 16])
{
    snprintf(out, MODEL_NAME_SIZE + 16, "pictures");
    for (size_t i = 0; i < o->model->training_count; i++)
        if (o->model->training[i].out == tensor)
            snprintf(out, MODEL_NAME_SIZE + 16, "%s.out", o->model->training[i].name);
}

static void add_norm(struct onnx *o, const struct op *op, const char *output)
{
    const struct parameter *const parameters[] = {op->gamma, op->beta, op->running_mean,
                                                  op->running_var};
    char residual[MODEL_NAME_SIZE + 16], name[MODEL_NAME_SIZE + 16];
    for (int i = 0; i < 4; i++)
        input(o, parameters[i]->name);
    wire_float(&o->part, ATTRIBUTE_FLOAT, op->epsilon);
    attribute(o, "epsilon", KIND_FLOAT);
    snprintf(name, sizeof name, "%s.norm", op->name);
    finish(o, "BatchNormalization", op->residual || op->relu ? name : output);
    if (op->residual) {
        tensor_name(o, op->residual, residual);
        input(o, o->value);
        input(o, residual);
        snprintf(name, sizeof name, "%s.sum", op->name);
        finish(o, "Add", op->relu ? name : output);
    }
    if (op->relu) {
        input(o, o->value);
        finish(o, "Relu", output);
    }
}

static int add_op(struct onnx *o, const struct op *op)
{
    char output[MODEL_NAME_SIZE + 16], in[MODEL_NAME_SIZE + 16];
    if (op->kind == OP_LOSS)
        return 0;
    tensor_name(o, op->in, in);
    tensor_name(o, op->out, output);
    input(o, in);
    switch (op->kind) {
    case OP_CONV:
        input(o, op->weight->name);
        window(o, op);
        finish(o, "Conv", output);
        return 0;
    case OP_NORM:
        add_norm(o, op, output);
        return 0;
    case OP_MAX_POOL:
        window(o, op);
        finish(o, "MaxPool", output);
        return 0;
    case OP_MEAN_POOL:
        finish(o, "GlobalAveragePool", "avgpool.mean");
        input(o, o->value);
        attribute_int(o, "axis", 1);
        finish(o, "Flatten", output);
        return 0;
    case OP_LINEAR:
        input(o, op->weight->name);
        input(o, op->bias->name);
        attribute_int(o, "transB", 1);
        finish(o, "Gemm", "logits");
        return 0;
    default:
        return err_set(ERR_FAULT, "ONNX has no form for op %s", op->name);
    }
}

/* ---- inputs, outputs, constants ---- */

/* A field of the graph: NAME of TYPE with RANK sizes; -1 is the number of pictures. */
static void add_value(struct onnx *o, int field, const char *name, int type, int rank,
                      const int64_t *shape)
{
    struct wire dims = {0};
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0)
            wire_text(&o->inner, 2, "N");
        else
            wire_int(&o->inner, 1, shape[i]);
        wire_message(&dims, 1, &o->inner);
    }
    wire_int(&o->part, 1, type);
    wire_message(&o->part, 2, &dims);
    wire_message(&o->inner, 1, &o->part); /* tensor_type */
    wire_text(&o->node, 1, name);
    wire_message(&o->node, 2, &o->inner);
    wire_message(&o->graph, field, &o->node);
    wire_release(&dims);
}

static void add_constant(struct onnx *o, const char *name, int count, const float *values)
{
    const int64_t shape[4] = {1, count, 1, 1};
    for (int i = 0; i < 4; i++)
        wire_int(&o->node, TENSOR_DIMS, shape[i]);
    wire_int(&o->node, TENSOR_TYPE, TYPE_FLOAT);
    wire_text(&o->node, TENSOR_NAME, name);
    wire_bytes(&o->node, TENSOR_RAW, values, (size_t)count * sizeof *values);
    wire_message(&o->graph, GRAPH_INITIALIZER, &o->node);
}

/* From pixels to pictures: (v - 255 mean) / (255 std), channels first. */
static void add_preprocessing(struct onnx *o)
{
    static const float mean[3] = {0.485F * 255, 0.456F * 255, 0.406F * 255},
                       deviation[3] = {0.229F * 255, 0.224F * 255, 0.225F * 255};
    static const int64_t order[4] = {0, 3, 1, 2};
    add_constant(o, "mean", 3, mean);
    add_constant(o, "deviation", 3, deviation);
    input(o, "pixels");
    attribute_int(o, "to", TYPE_FLOAT);
    finish(o, "Cast", "pixels.float");
    input(o, o->value);
    attribute_ints(o, "perm", 4, order);
    finish(o, "Transpose", "pixels.planes");
    input(o, o->value);
    input(o, "mean");
    finish(o, "Sub", "pixels.centred");
    input(o, o->value);
    input(o, "deviation");
    finish(o, "Div", "pictures");
}

static int make_graph(struct onnx *o, bool preprocessing)
{
    const int64_t size = o->model->settings.image_size;
    const int64_t pictures[4] = {-1, 3, size, size}, pixels[4] = {-1, size, size, 3},
                  logits[2] = {-1, o->model->settings.classes};
    if (preprocessing)
        add_preprocessing(o);
    for (size_t i = 0; i < o->model->training_count; i++) {
        int rc = add_op(o, &o->model->training[i]);
        if (rc)
            return rc;
    }
    wire_text(&o->graph, GRAPH_NAME, o->weights->arch);
    if (preprocessing)
        add_value(o, GRAPH_INPUT, "pixels", TYPE_UINT8, 4, pixels);
    else
        add_value(o, GRAPH_INPUT, "pictures", TYPE_FLOAT, 4, pictures);
    add_value(o, GRAPH_OUTPUT, "logits", TYPE_FLOAT, 2, logits);
    return wire_check(&o->graph);
}

/* ---- the file ---- */

/* The head of the parameter's tensor message in OUT, up to its data, which follow as they lie. */
static void tensor_head(struct wire *out, const struct parameter *p)
{
    out->size = 0;
    for (int i = 0; i < p->rank; i++)
        wire_int(out, TENSOR_DIMS, p->shape[i]);
    wire_int(out, TENSOR_TYPE, TYPE_FLOAT);
    wire_text(out, TENSOR_NAME, p->name);
    wire_head(out, TENSOR_RAW, p->count * sizeof(float));
}

static void add_metadata(struct onnx *o, struct wire *model, const char *key, const char *value)
{
    wire_text(&o->part, 1, key);
    wire_text(&o->part, 2, value);
    wire_message(model, MODEL_METADATA, &o->part);
}

/* Everything of the file but the parameters in HEAD; the graph's own bytes end it. */
static void make_head(struct onnx *o, struct wire *head)
{
    uint64_t bytes = o->graph.size;
    for (size_t i = 0; i < o->model->parameter_count; i++) {
        const struct parameter *p = &o->model->parameters[i];
        tensor_head(&o->part, p);
        uint64_t size = o->part.size + p->count * sizeof(float);
        bytes += wire_head_size(GRAPH_INITIALIZER, size) + size;
    }
    o->part.size = 0;
    wire_int(head, MODEL_IR_VERSION, ONNX_IR_VERSION);
    wire_text(head, MODEL_PRODUCER, "train");
    wire_text(head, MODEL_PRODUCER_VERSION, TOOL_VERSION);
    wire_int(&o->part, 2, ONNX_OPSET);
    wire_message(head, MODEL_OPSET, &o->part);
    add_metadata(o, head, "arch", o->weights->arch);
    for (size_t k = 0; o->weights->class_names && k < o->weights->classes; k++) {
        char key[32];
        snprintf(key, sizeof key, "class.%zu", k);
        add_metadata(o, head, key, o->weights->class_names[k]);
    }
    wire_head(head, MODEL_GRAPH, bytes);
}

static int write_parameters(struct onnx *o, struct files_writer *writer)
{
    struct wire head = {0};
    int rc = 0;
    for (size_t i = 0; i < o->model->parameter_count && !rc; i++) {
        const struct parameter *p = &o->model->parameters[i];
        tensor_head(&o->part, p);
        head.size = 0;
        wire_head(&head, GRAPH_INITIALIZER, o->part.size + p->count * sizeof(float));
        if ((rc = wire_check(&o->part)) || (rc = wire_check(&head)) ||
            (rc = files_write(writer, head.bytes, head.size)) ||
            (rc = files_write(writer, o->part.bytes, o->part.size)))
            break;
        rc =
            files_write(writer, weights_find(o->weights, p->name)->value, p->count * sizeof(float));
    }
    wire_release(&head);
    return rc;
}

int onnx_write(const char *path, const struct model *model, const struct weights *weights,
               bool preprocessing)
{
    struct onnx o = {.model = model, .weights = weights};
    struct wire head = {0};
    struct files_writer *writer = NULL;
    int rc = make_graph(&o, preprocessing);
    if (!rc) {
        make_head(&o, &head);
        rc = wire_check(&head);
    }
    if (!rc && !(rc = files_writer_open(&writer, path)) &&
        !(rc = files_write(writer, head.bytes, head.size)) &&
        !(rc = files_write(writer, o.graph.bytes, o.graph.size)) &&
        !(rc = write_parameters(&o, writer))) {
        rc = files_publish(writer);
        writer = NULL;
    }
    files_discard(writer);
    wire_release(&head);
    wire_release(&o.graph);
    wire_release(&o.node);
    wire_release(&o.part);
    wire_release(&o.inner);
    return rc;
}
