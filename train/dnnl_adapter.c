/*
 * dnnl_adapter.c - see the header. The head of the file holds all that differs between oneDNN 2.x
 * (memory descriptors are structs, a primitive is described by an operation descriptor) and 3.x
 * (both are opaque).
 */
#include "train/dnnl_adapter.h"

#include <stdio.h>
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

#include "common/err.h"
#include "common/mem.h"

struct adapter {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

struct adapter_weights {
    dnnl_memory_desc_t desc;
    bool set;
};

/* Everything that a primitive reads or writes; enough for a convolution with bias and residual. */
#define MAX_ARGUMENTS 6

struct adapter_conv {
    struct adapter *adapter;
    struct adapter_conv_settings settings;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    struct adapter_weights weights;
    dnnl_exec_arg_t arguments[MAX_ARGUMENTS];
    int argument_count;
    size_t scratchpad;
    const char *code;
};

struct adapter_reorder {
    struct adapter *adapter;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t from, to, scratchpad;
    size_t scratchpad_bytes;
};

/* What describes one direction of a convolution before its primitive exists. */
struct conv_description {
    struct adapter_weights in, weights, gradient, bias, out; /* gradient: of the weights */
    dnnl_primitive_attr_t attributes;
    dnnl_alg_kind_t algorithm;
    dnnl_dims_t strides, dilations, padding;
    bool residual, short_rows;
};

static int check(dnnl_status_t status, const char *what)
{
    switch (status) {
    case dnnl_success:
        return 0;
    case dnnl_out_of_memory:
        return err_set(ERR_MEMORY, "oneDNN: %s: out of memory", what);
    case dnnl_unimplemented:
        return err_set(ERR_DEVICE, "oneDNN: %s: not implemented on this machine", what);
    default:
        return err_set(ERR_DEVICE, "oneDNN: %s failed with status %d", what, (int)status);
    }
}

/* Implementations that compute something else, found by tests/test_ops.c; the next one is right, if
 * slower. Neither happens in a ResNet of 32 or more pixels on a CPU with AVX2. */
static bool is_wrong(const_dnnl_primitive_desc_t desc, enum adapter_pass pass,
                     const struct conv_description *d)
{
    const char *code = "";

    if (dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &code) != dnnl_success)
        return false;
    /* 2.6 adds a wrong piece of the residual from the second picture on. */
    if (d->residual && strstr(code, "gemm"))
        return true;
    /* 2.6 and 3.2 read beyond the row when it is shorter than a step. */
    return pass == ADAPTER_BACKWARD_WEIGHTS && d->short_rows && strncmp(code, "jit_bf16", 8) == 0;
}

/* ---- What differs between 2.x and 3.x ---- */

#if DNNL_VERSION_MAJOR >= 3

static dnnl_status_t desc_init(dnnl_memory_desc_t *desc, int rank, const dnnl_dims_t dims,
                               dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(desc, rank, dims, type, tag);
}

static dnnl_status_t desc_copy(dnnl_memory_desc_t *desc, const_dnnl_memory_desc_t from)
{
    return dnnl_memory_desc_clone(desc, from);
}

static void desc_release(dnnl_memory_desc_t *desc)
{
    dnnl_memory_desc_destroy(*desc);
}

static const_dnnl_memory_desc_t desc_of(const struct adapter_weights *weights)
{
    return weights->set ? weights->desc : NULL;
}

static dnnl_status_t append_relu(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_eltwise(post_ops, dnnl_eltwise_relu, 0.0F, 0.0F);
}

/* One pass of a convolution; HINT: of its forward pass. */
static dnnl_status_t pass_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               enum adapter_pass pass, const struct conv_description *d,
                               const_dnnl_primitive_desc_t hint)
{
    dnnl_status_t status;

    if (pass == ADAPTER_BACKWARD_DATA)
        status = dnnl_convolution_backward_data_primitive_desc_create(
            out, engine, d->algorithm, desc_of(&d->in), desc_of(&d->weights), desc_of(&d->out),
            d->strides, d->dilations, d->padding, d->padding, hint, d->attributes);
    else if (pass == ADAPTER_BACKWARD_WEIGHTS)
        status = dnnl_convolution_backward_weights_primitive_desc_create(
            out, engine, d->algorithm, desc_of(&d->in), desc_of(&d->gradient), NULL,
            desc_of(&d->out), d->strides, d->dilations, d->padding, d->padding, hint,
            d->attributes);
    else
        status = dnnl_convolution_forward_primitive_desc_create(
            out, engine, pass == ADAPTER_INFERENCE ? dnnl_forward_inference : dnnl_forward_training,
            d->algorithm, desc_of(&d->in), desc_of(&d->weights), desc_of(&d->bias),
            desc_of(&d->out), d->strides, d->dilations, d->padding, d->padding, d->attributes);
    while (status == dnnl_success && is_wrong(*out, pass, d))
        status = dnnl_primitive_desc_next_impl(*out);
    return status;
}

#else

typedef const dnnl_memory_desc_t *const_dnnl_memory_desc_t;

static dnnl_status_t desc_init(dnnl_memory_desc_t *desc, int rank, const dnnl_dims_t dims,
                               dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(desc, rank, dims, type, tag);
}

static dnnl_status_t desc_copy(dnnl_memory_desc_t *desc, const_dnnl_memory_desc_t from)
{
    *desc = *from;
    return dnnl_success;
}

static void desc_release(dnnl_memory_desc_t *desc)
{
    (void)desc;
}

static const_dnnl_memory_desc_t desc_of(const struct adapter_weights *weights)
{
    return weights->set ? &weights->desc : NULL;
}

static dnnl_status_t append_relu(dnnl_post_ops_t post_ops)
{
    return dnnl_post_ops_append_eltwise(post_ops, 1.0F, dnnl_eltwise_relu, 0.0F, 0.0F);
}

/* One pass of a convolution; HINT: of its forward pass. */
static dnnl_status_t pass_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               enum adapter_pass pass, const struct conv_description *d,
                               const_dnnl_primitive_desc_t hint)
{
    dnnl_primitive_desc_iterator_t iterator;
    dnnl_convolution_desc_t desc;
    dnnl_status_t status;

    if (pass == ADAPTER_BACKWARD_DATA)
        status = dnnl_dilated_convolution_backward_data_desc_init(
            &desc, d->algorithm, desc_of(&d->in), desc_of(&d->weights), desc_of(&d->out),
            d->strides, d->dilations, d->padding, d->padding);
    else if (pass == ADAPTER_BACKWARD_WEIGHTS)
        status = dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, d->algorithm, desc_of(&d->in), desc_of(&d->gradient), NULL, desc_of(&d->out),
            d->strides, d->dilations, d->padding, d->padding);
    else
        status = dnnl_dilated_convolution_forward_desc_init(
            &desc, pass == ADAPTER_INFERENCE ? dnnl_forward_inference : dnnl_forward_training,
            d->algorithm, desc_of(&d->in), desc_of(&d->weights), desc_of(&d->bias),
            desc_of(&d->out), d->strides, d->dilations, d->padding, d->padding);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_iterator_create(&iterator, &desc, d->attributes, engine, hint);
    if (status != dnnl_success)
        return status;
    *out = dnnl_primitive_desc_iterator_fetch(iterator);
    while (*out && is_wrong(*out, pass, d)) {
        dnnl_primitive_desc_destroy(*out);
        status = dnnl_primitive_desc_iterator_next(iterator);
        *out = status == dnnl_success ? dnnl_primitive_desc_iterator_fetch(iterator) : NULL;
    }
    dnnl_primitive_desc_iterator_destroy(iterator);
    return *out ? dnnl_success : dnnl_unimplemented;
}

#endif

/* ---- The same for both ---- */

static dnnl_status_t conv_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                               enum adapter_pass pass, const struct conv_description *d)
{
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t status;

    if (pass == ADAPTER_FORWARD || pass == ADAPTER_INFERENCE)
        return pass_desc(out, engine, pass, d, NULL);
    status = pass_desc(&hint, engine, ADAPTER_FORWARD, d, NULL);
    if (status == dnnl_success) {
        status = pass_desc(out, engine, pass, d, hint);
        dnnl_primitive_desc_destroy(hint);
    }
    return status;
}

int adapter_open(struct adapter **out)
{
    struct adapter *adapter = mem_array(1, sizeof *adapter, "oneDNN");
    int rc;

    if (!adapter)
        return -ERR_MEMORY;
    if ((rc = check(dnnl_engine_create(&adapter->engine, dnnl_cpu, 0), "engine")) ||
        (rc =
             check(dnnl_stream_create(&adapter->stream, adapter->engine, dnnl_stream_default_flags),
                   "stream"))) {
        adapter_close(adapter);
        return rc;
    }
    *out = adapter;
    return 0;
}

void adapter_close(struct adapter *adapter)
{
    if (!adapter)
        return;
    if (adapter->stream)
        dnnl_stream_destroy(adapter->stream);
    if (adapter->engine)
        dnnl_engine_destroy(adapter->engine);
    mem_free(adapter);
}

void adapter_machine(struct adapter_machine *out)
{
    static const struct {
        unsigned isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_avx512_core_amx,  "avx512_core_amx" },
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core,      "avx512_core"     },
        {dnnl_cpu_isa_avx2,             "avx2"            },
        {dnnl_cpu_isa_avx,              "avx"             },
        {dnnl_cpu_isa_sse41,            "sse41"           },
    };
    /* The values are sets of bits: a newer set holds the older ones. */
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    const dnnl_version_t *version = dnnl_version();
    const char *name = "plain";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if ((isa & names[i].isa) == names[i].isa) {
            name = names[i].name;
            break;
        }
    }
    snprintf(out->name, sizeof out->name, "oneDNN %d.%d.%d, %s", version->major, version->minor,
             version->patch, name);
    out->avx2 = (isa & dnnl_cpu_isa_avx2) == dnnl_cpu_isa_avx2;
    out->avx512 = (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
    out->bf16 = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
    out->amx = (isa & dnnl_cpu_isa_avx512_core_amx) == dnnl_cpu_isa_avx512_core_amx;
}

static int weights_init(struct adapter_weights *weights, int rank, const dnnl_dims_t dims,
                        dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    int rc = check(desc_init(&weights->desc, rank, dims, type, tag), "memory description");
    weights->set = rc == 0;
    return rc;
}

static void weights_release(struct adapter_weights *weights)
{
    if (weights->set)
        desc_release(&weights->desc);
    weights->set = false;
}

static dnnl_format_tag_t layout_tag(enum adapter_layout layout)
{
    switch (layout) {
    case ADAPTER_NHWC:
        return dnnl_nhwc;
    case ADAPTER_BLOCKED:
        return dnnl_nChw16c;
    default:
        return dnnl_nchw;
    }
}

static int append_post_ops(struct conv_description *d, const struct adapter_conv_settings *s)
{
    dnnl_post_ops_t post_ops;
    int rc = check(dnnl_post_ops_create(&post_ops), "post-operations");
    if (rc)
        return rc;
    if (s->residual)
        rc = check(dnnl_post_ops_append_binary(post_ops, dnnl_binary_add, desc_of(&d->out)),
                   "residual");
    if (!rc && s->relu)
        rc = check(append_relu(post_ops), "ReLU");
    if (!rc)
        rc = check(dnnl_primitive_attr_set_post_ops(d->attributes, post_ops), "post-operations");
    dnnl_post_ops_destroy(post_ops);
    return rc;
}

static int describe_conv(struct conv_description *d, const struct adapter_conv_settings *s)
{
    const dnnl_data_type_t type = s->type == ADAPTER_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t in = {s->n, s->ic, s->ih, s->iw};
    const dnnl_dims_t weights = {s->oc, s->ic, s->kernel, s->kernel};
    const dnnl_dims_t bias = {s->oc};
    const dnnl_dims_t out = {s->n, s->oc, s->oh, s->ow};
    int rc;

    d->algorithm = s->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    d->residual = s->residual;
    d->short_rows = s->iw < s->stride;
    for (int i = 0; i < 2; i++) {
        d->strides[i] = s->stride;
        d->dilations[i] = 0;
        d->padding[i] = s->padding;
    }
    if ((rc = weights_init(&d->in, 4, in, type, layout_tag(s->in))) ||
        (rc = weights_init(&d->weights, 4, weights, type, dnnl_format_tag_any)) ||
        (rc = weights_init(&d->gradient, 4, weights, dnnl_f32, dnnl_format_tag_any)) ||
        (rc = weights_init(&d->out, 4, out, type, layout_tag(s->out))))
        return rc;
    if (s->pass == ADAPTER_INFERENCE && (rc = weights_init(&d->bias, 1, bias, dnnl_f32, dnnl_a)))
        return rc;
    if ((rc = check(dnnl_primitive_attr_create(&d->attributes), "attributes")) ||
        (rc = check(
             dnnl_primitive_attr_set_scratchpad_mode(d->attributes, dnnl_scratchpad_mode_user),
             "scratchpad mode")))
        return rc;
    return s->pass == ADAPTER_INFERENCE ? append_post_ops(d, s) : 0;
}

static int add_argument(struct adapter_conv *conv, int id, const_dnnl_memory_desc_t desc)
{
    dnnl_exec_arg_t *argument = &conv->arguments[conv->argument_count];
    int rc =
        check(dnnl_memory_create(&argument->memory, desc, conv->adapter->engine, DNNL_MEMORY_NONE),
              "memory");
    if (rc)
        return rc;
    argument->arg = id;
    conv->argument_count++;
    return 0;
}

static int add_arguments(struct adapter_conv *conv, const struct conv_description *d)
{
    const enum adapter_pass pass = conv->settings.pass;
    const bool data = pass == ADAPTER_BACKWARD_DATA, weights = pass == ADAPTER_BACKWARD_WEIGHTS;
    const int residual = DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1;
    int rc;

    if ((rc = add_argument(conv, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, desc_of(&d->in))) ||
        (rc = add_argument(conv, weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS,
                           desc_of(&conv->weights))) ||
        (rc = add_argument(conv, data || weights ? DNNL_ARG_DIFF_DST : DNNL_ARG_DST,
                           desc_of(&d->out))) ||
        (rc = add_argument(conv, DNNL_ARG_SCRATCHPAD,
                           dnnl_primitive_desc_query_md(conv->desc, dnnl_query_scratchpad_md, 0))))
        return rc;
    if (pass == ADAPTER_INFERENCE && (rc = add_argument(conv, DNNL_ARG_BIAS, desc_of(&d->bias))))
        return rc;
    if (conv->settings.residual)
        return add_argument(conv, residual, desc_of(&d->out));
    return 0;
}

static int open_conv(struct adapter_conv *conv, struct conv_description *d)
{
    const struct adapter_conv_settings *s = &conv->settings;
    const dnnl_query_t weights =
        s->pass == ADAPTER_BACKWARD_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    int rc;

    if ((rc = describe_conv(d, s)) ||
        (rc = check(conv_desc(&conv->desc, conv->adapter->engine, s->pass, d), "convolution")))
        return rc;
    if ((rc = check(
             desc_copy(&conv->weights.desc, dnnl_primitive_desc_query_md(conv->desc, weights, 0)),
             "memory description")))
        return rc;
    conv->weights.set = true;
    conv->scratchpad = dnnl_memory_desc_get_size(
        dnnl_primitive_desc_query_md(conv->desc, dnnl_query_scratchpad_md, 0));
    if ((rc = check(dnnl_primitive_desc_query(conv->desc, dnnl_query_impl_info_str, 0, &conv->code),
                    "convolution's name")) ||
        (rc = check(dnnl_primitive_create(&conv->primitive, conv->desc), "convolution")))
        return rc;
    return add_arguments(conv, d);
}

int adapter_conv_open(struct adapter_conv **out, struct adapter *adapter,
                      const struct adapter_conv_settings *settings)
{
    static const char *const passes[] = {"forward", "inference", "backward data",
                                         "backward weights"};
    const struct adapter_conv_settings *s = settings;
    struct adapter_conv *conv = mem_array(1, sizeof *conv, "oneDNN convolution");
    struct conv_description description = {0};
    int rc;

    if (!conv)
        return -ERR_MEMORY;
    conv->adapter = adapter;
    conv->settings = *settings;
    rc = open_conv(conv, &description);
    weights_release(&description.in);
    weights_release(&description.weights);
    weights_release(&description.gradient);
    weights_release(&description.bias);
    weights_release(&description.out);
    if (description.attributes)
        dnnl_primitive_attr_destroy(description.attributes);
    if (rc) {
        adapter_conv_close(conv);
        return err_add(rc, "%d x %d x %d x %d to %d channels, kernel %d, stride %d, %s %s", s->n,
                       s->ic, s->ih, s->iw, s->oc, s->kernel, s->stride,
                       s->type == ADAPTER_BF16 ? "bf16" : "f32", passes[s->pass]);
    }
    *out = conv;
    return 0;
}

void adapter_conv_close(struct adapter_conv *conv)
{
    if (!conv)
        return;
    for (int i = 0; i < conv->argument_count; i++)
        dnnl_memory_destroy(conv->arguments[i].memory);
    if (conv->primitive)
        dnnl_primitive_destroy(conv->primitive);
    weights_release(&conv->weights);
    if (conv->desc)
        dnnl_primitive_desc_destroy(conv->desc);
    mem_free(conv);
}

const struct adapter_weights *adapter_conv_weights(const struct adapter_conv *conv)
{
    return &conv->weights;
}

size_t adapter_conv_scratchpad(const struct adapter_conv *conv)
{
    return conv->scratchpad;
}

const char *adapter_conv_code(const struct adapter_conv *conv)
{
    return conv->code;
}

int adapter_conv_run(struct adapter_conv *conv, const struct adapter_conv_run *run)
{
    /* In the order of add_arguments. */
    void *const handles[MAX_ARGUMENTS] = {run->in,         run->weights, run->out,
                                          run->scratchpad, run->bias,    run->residual};
    int rc = 0;
    for (int i = 0; i < conv->argument_count && !rc; i++)
        rc = check(dnnl_memory_set_data_handle(conv->arguments[i].memory, handles[i]), "memory");
    if (!rc)
        rc = check(dnnl_primitive_execute(conv->primitive, conv->adapter->stream,
                                          conv->argument_count, conv->arguments),
                   "convolution");
    return rc ? rc : check(dnnl_stream_wait(conv->adapter->stream), "convolution");
}

static int new_weights(struct adapter_weights **out)
{
    *out = mem_array(1, sizeof **out, "description of weights");
    return *out ? 0 : -ERR_MEMORY;
}

int adapter_weights_plain(struct adapter_weights **out, int o, int i, int k)
{
    const dnnl_dims_t dims = {o, i, k, k};
    struct adapter_weights *weights;
    int rc;

    if ((rc = new_weights(&weights)))
        return rc;
    if ((rc = weights_init(weights, 4, dims, dnnl_f32, dnnl_oihw))) {
        adapter_weights_close(weights);
        return rc;
    }
    *out = weights;
    return 0;
}

int adapter_weights_copy(struct adapter_weights **out, const struct adapter_weights *from)
{
    struct adapter_weights *weights;
    int rc;

    if ((rc = new_weights(&weights)))
        return rc;
    if ((rc = check(desc_copy(&weights->desc, desc_of(from)), "memory description"))) {
        mem_free(weights);
        return rc;
    }
    weights->set = true;
    *out = weights;
    return 0;
}

void adapter_weights_close(struct adapter_weights *weights)
{
    if (!weights)
        return;
    weights_release(weights);
    mem_free(weights);
}

size_t adapter_weights_bytes(const struct adapter_weights *weights)
{
    return dnnl_memory_desc_get_size(desc_of(weights));
}

bool adapter_weights_equal(const struct adapter_weights *a, const struct adapter_weights *b)
{
    return dnnl_memory_desc_equal(desc_of(a), desc_of(b)) != 0;
}

static int open_reorder(struct adapter_reorder *reorder, dnnl_primitive_attr_t attributes,
                        const struct adapter_weights *from, const struct adapter_weights *to)
{
    const dnnl_engine_t engine = reorder->adapter->engine;
    const_dnnl_memory_desc_t scratchpad;
    int rc;

    if ((rc = check(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user),
                    "scratchpad mode")) ||
        (rc = check(dnnl_reorder_primitive_desc_create(&reorder->desc, desc_of(from), engine,
                                                       desc_of(to), engine, attributes),
                    "reorder of weights")))
        return rc;
    scratchpad = dnnl_primitive_desc_query_md(reorder->desc, dnnl_query_scratchpad_md, 0);
    reorder->scratchpad_bytes = dnnl_memory_desc_get_size(scratchpad);
    if ((rc = check(dnnl_primitive_create(&reorder->primitive, reorder->desc),
                    "reorder of weights")) ||
        (rc = check(dnnl_memory_create(&reorder->from, desc_of(from), engine, DNNL_MEMORY_NONE),
                    "memory")) ||
        (rc = check(dnnl_memory_create(&reorder->to, desc_of(to), engine, DNNL_MEMORY_NONE),
                    "memory")))
        return rc;
    return check(dnnl_memory_create(&reorder->scratchpad, scratchpad, engine, DNNL_MEMORY_NONE),
                 "memory");
}

int adapter_reorder_open(struct adapter_reorder **out, struct adapter *adapter,
                         const struct adapter_weights *from, const struct adapter_weights *to)
{
    struct adapter_reorder *reorder = mem_array(1, sizeof *reorder, "oneDNN reorder");
    dnnl_primitive_attr_t attributes;
    int rc;

    if (!reorder)
        return -ERR_MEMORY;
    reorder->adapter = adapter;
    if (!(rc = check(dnnl_primitive_attr_create(&attributes), "attributes"))) {
        rc = open_reorder(reorder, attributes, from, to);
        dnnl_primitive_attr_destroy(attributes);
    }
    if (rc) {
        adapter_reorder_close(reorder);
        return rc;
    }
    *out = reorder;
    return 0;
}

void adapter_reorder_close(struct adapter_reorder *reorder)
{
    if (!reorder)
        return;
    if (reorder->from)
        dnnl_memory_destroy(reorder->from);
    if (reorder->to)
        dnnl_memory_destroy(reorder->to);
    if (reorder->scratchpad)
        dnnl_memory_destroy(reorder->scratchpad);
    if (reorder->primitive)
        dnnl_primitive_destroy(reorder->primitive);
    if (reorder->desc)
        dnnl_primitive_desc_destroy(reorder->desc);
    mem_free(reorder);
}

size_t adapter_reorder_scratchpad(const struct adapter_reorder *reorder)
{
    return reorder->scratchpad_bytes;
}

int adapter_reorder_run(struct adapter_reorder *reorder, const void *from, void *to,
                        void *scratchpad)
{
    const dnnl_exec_arg_t arguments[] = {
        {DNNL_ARG_FROM,       reorder->from      },
        {DNNL_ARG_TO,         reorder->to        },
        {DNNL_ARG_SCRATCHPAD, reorder->scratchpad},
    };
    const dnnl_stream_t stream = reorder->adapter->stream;
    int rc;

    /* oneDNN only reads from it, but takes plain pointers. */
    if ((rc = check(dnnl_memory_set_data_handle(reorder->from, (void *)(uintptr_t)from),
                    "memory")) ||
        (rc = check(dnnl_memory_set_data_handle(reorder->to, to), "memory")) ||
        (rc = check(dnnl_memory_set_data_handle(reorder->scratchpad, scratchpad), "memory")) ||
        (rc = check(dnnl_primitive_execute(reorder->primitive, stream, 3, arguments),
                    "reorder of weights")))
        return rc;
    return check(dnnl_stream_wait(stream), "reorder of weights");
}
