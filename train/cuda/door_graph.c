/*
 * door_graph.c - is a graph well made? What cuDNN would accept silently, or refuse with a riddle,
 * is said here with the graph's and the node's name. Both sides of the door (cuDNN and the
 * simulator) ask before anything else, so that neither meets a graph the other would not.
 */
#include "train/cuda/door.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/mem.h"

/* What a role's tensor must look like: anything that the kind's own check finds right; per channel
 * values (f32, or any floating type); a by-value scalar. */
enum shape { ANY, CHANNEL_F32, CHANNEL_FLOAT, SCALAR_F32, SCALAR_I64 };
enum side { IN, OUT, IN_MAYBE, OUT_MAYBE };

struct rule {
    enum door_role role;
    enum side side;
    enum shape shape;
};

static const struct kind_rules {
    const char *name;
    int count;
    struct rule rules[16];
} kinds[DOOR_KINDS] = {
    [DOOR_CONV_FORWARD] = {"conv forward",
                           3,                         {{DOOR_X, IN, ANY}, {DOOR_W, IN, ANY}, {DOOR_Y, OUT, ANY}}  },
    [DOOR_CONV_BACKWARD_DATA] = {"conv backward data",
                           3,                         {{DOOR_DY, IN, ANY}, {DOOR_W, IN, ANY}, {DOOR_DX, OUT, ANY}}},
    [DOOR_CONV_BACKWARD_FILTER] = {"conv backward filter",
                           3,                         {{DOOR_X, IN, ANY}, {DOOR_DY, IN, ANY}, {DOOR_DW, OUT, ANY}}},
 /* Which of these a node has is said by its mode: check_pointwise. */
    [DOOR_POINTWISE] = {"pointwise",
                           5,                         {{DOOR_X, IN, ANY},
                         {DOOR_B, IN_MAYBE, ANY},
                         {DOOR_DY, IN_MAYBE, ANY},
                         {DOOR_Y, OUT_MAYBE, ANY},
                         {DOOR_DX, OUT_MAYBE, ANY}}                                  },
    [DOOR_GEN_STATS] = {"gen stats",
                           3,                         {{DOOR_X, IN, ANY},
                         {DOOR_SUM, OUT, CHANNEL_F32},
                         {DOOR_SQSUM, OUT, CHANNEL_F32}}                             },
    [DOOR_BN_FINALIZE] = {"bn finalize",
                           15,                        {{DOOR_SUM, IN, CHANNEL_F32},
                           {DOOR_SQSUM, IN, CHANNEL_F32},
                           {DOOR_SCALE, IN, CHANNEL_F32},
                           {DOOR_BIAS, IN, CHANNEL_F32},
                           {DOOR_RUNNING_MEAN_IN, IN, CHANNEL_F32},
                           {DOOR_RUNNING_VAR_IN, IN, CHANNEL_F32},
                           {DOOR_COUNT, IN, SCALAR_I64},
                           {DOOR_EPSILON, IN, SCALAR_F32},
                           {DOOR_MOMENTUM, IN, SCALAR_F32},
                           {DOOR_RUNNING_MEAN_OUT, OUT, CHANNEL_F32},
                           {DOOR_RUNNING_VAR_OUT, OUT, CHANNEL_F32},
                           {DOOR_MEAN, OUT, CHANNEL_F32},
                           {DOOR_INVSTD, OUT, CHANNEL_F32},
                           {DOOR_EQ_SCALE, OUT, CHANNEL_FLOAT},
                           {DOOR_EQ_BIAS, OUT, CHANNEL_FLOAT}}                      },
 /* MEAN and INVSTD are outputs of training and inputs otherwise: side_of. */
    [DOOR_NORM_FORWARD] = {"norm forward",
                           12,                        {{DOOR_X, IN, ANY},
                            {DOOR_SCALE, IN, CHANNEL_F32},
                            {DOOR_BIAS, IN, CHANNEL_F32},
                            {DOOR_MEAN, OUT, CHANNEL_F32},
                            {DOOR_INVSTD, OUT, CHANNEL_F32},
                            {DOOR_EPSILON, IN_MAYBE, SCALAR_F32},
                            {DOOR_MOMENTUM, IN_MAYBE, SCALAR_F32},
                            {DOOR_RUNNING_MEAN_IN, IN_MAYBE, CHANNEL_F32},
                            {DOOR_RUNNING_VAR_IN, IN_MAYBE, CHANNEL_F32},
                            {DOOR_RUNNING_MEAN_OUT, OUT_MAYBE, CHANNEL_F32},
                            {DOOR_RUNNING_VAR_OUT, OUT_MAYBE, CHANNEL_F32},
                            {DOOR_Y, OUT, ANY}}                                     },
    [DOOR_NORM_BACKWARD] = {"norm backward",
                           8,                         {{DOOR_X, IN, ANY},
                             {DOOR_DY, IN, ANY},
                             {DOOR_MEAN, IN, CHANNEL_F32},
                             {DOOR_INVSTD, IN, CHANNEL_F32},
                             {DOOR_SCALE, IN, CHANNEL_F32},
                             {DOOR_DSCALE, OUT, CHANNEL_F32},
                             {DOOR_DBIAS, OUT, CHANNEL_F32},
                             {DOOR_DX, OUT, ANY}}                                    },
    [DOOR_BN_BACKWARD_WEIGHTS] = {"bn backward weights",
                           10,                        {{DOOR_X, IN, ANY},
                                   {DOOR_DY, IN, ANY},
                                   {DOOR_MEAN, IN, CHANNEL_F32},
                                   {DOOR_INVSTD, IN, CHANNEL_F32},
                                   {DOOR_SCALE, IN, CHANNEL_F32},
                                   {DOOR_DSCALE, OUT, CHANNEL_F32},
                                   {DOOR_DBIAS, OUT, CHANNEL_F32},
                                   {DOOR_EQ_DY_SCALE, OUT, CHANNEL_F32},
                                   {DOOR_EQ_X_SCALE, OUT, CHANNEL_F32},
                                   {DOOR_EQ_BIAS, OUT, CHANNEL_F32}}                },
    [DOOR_RESAMPLE_FORWARD] = {"resample forward",
                           3,                         {{DOOR_X, IN, ANY},
                                {DOOR_Y, OUT, ANY},
                                {DOOR_INDEX, OUT_MAYBE, ANY}}                        },
    [DOOR_RESAMPLE_BACKWARD] = {"resample backward",
                           3,                         {{DOOR_DY, IN, ANY},
                                 {DOOR_DX, OUT, ANY},
                                 {DOOR_INDEX, IN_MAYBE, ANY}}                        },
    [DOOR_MATMUL] = {"matmul",               3, {{DOOR_A, IN, ANY}, {DOOR_B, IN, ANY}, {DOOR_C, OUT, ANY}}  },
    [DOOR_REDUCTION] = {"reduction",            2, {{DOOR_X, IN, ANY}, {DOOR_Y, OUT, ANY}}                     },
};

static const char *const role_names[DOOR_ROLES] = {
    [DOOR_X] = "x",
    [DOOR_W] = "w",
    [DOOR_Y] = "y",
    [DOOR_DX] = "dx",
    [DOOR_DW] = "dw",
    [DOOR_DY] = "dy",
    [DOOR_A] = "a",
    [DOOR_B] = "b",
    [DOOR_C] = "c",
    [DOOR_INDEX] = "index",
    [DOOR_SUM] = "sum",
    [DOOR_SQSUM] = "sqsum",
    [DOOR_MEAN] = "mean",
    [DOOR_INVSTD] = "invstd",
    [DOOR_SCALE] = "scale",
    [DOOR_BIAS] = "bias",
    [DOOR_DSCALE] = "dscale",
    [DOOR_DBIAS] = "dbias",
    [DOOR_RUNNING_MEAN_IN] = "running mean in",
    [DOOR_RUNNING_VAR_IN] = "running variance in",
    [DOOR_RUNNING_MEAN_OUT] = "running mean out",
    [DOOR_RUNNING_VAR_OUT] = "running variance out",
    [DOOR_EQ_SCALE] = "eq scale",
    [DOOR_EQ_BIAS] = "eq bias",
    [DOOR_EQ_DY_SCALE] = "eq dy scale",
    [DOOR_EQ_X_SCALE] = "eq x scale",
    [DOOR_EPSILON] = "epsilon",
    [DOOR_MOMENTUM] = "momentum",
    [DOOR_COUNT] = "count",
};

/* ---- types and tensors ----------------------------------------------------------------------- */

const char *door_type_name(enum door_type type)
{
    static const char *const names[] = {"f32", "f16", "bf16", "i8", "i32", "i64", "bool"};
    return names[type];
}

size_t door_type_bytes(enum door_type type)
{
    static const size_t bytes[] = {4, 2, 2, 1, 4, 8, 0};
    return bytes[type];
}

const char *door_kind_name(enum door_kind kind)
{
    return kinds[kind].name;
}

const struct door_tensor *door_graph_tensor(const struct door_graph *graph, int64_t uid)
{
    for (int i = 0; i < graph->tensor_count; i++) {
        if (graph->tensors[i].uid == uid)
            return &graph->tensors[i];
    }
    return NULL;
}

/* Elements from the first to the last in memory; false when no size_t holds their bits. */
static bool tensor_extent(const struct door_tensor *t, size_t *out)
{
    size_t extent = 1, part, bits;
    for (int i = 0; i < t->rank; i++) {
        if (!mem_multiply((size_t)(t->dims[i] - 1), (size_t)t->strides[i], &part) ||
            !mem_sum(extent, part, &extent))
            return false;
    }
    *out = extent;
    return mem_multiply(extent, 64, &bits);
}

size_t door_tensor_bytes(const struct door_tensor *tensor)
{
    size_t extent;
    if (tensor->is_virtual || !tensor_extent(tensor, &extent))
        return 0;
    return tensor->type == DOOR_BOOL ? (extent + 7) / 8 : extent * door_type_bytes(tensor->type);
}

static bool is_float(enum door_type type)
{
    return type == DOOR_F32 || type == DOOR_F16 || type == DOOR_BF16;
}

/* "(64,128,56,56)" */
static const char *dims_text(const struct door_tensor *t, char out[100])
{
    int length = 0;
    for (int i = 0; i < t->rank; i++)
        length +=
            snprintf(out + length, (size_t)(100 - length), "%c%" PRId64, i ? ',' : '(', t->dims[i]);
    snprintf(out + length, (size_t)(100 - length), ")");
    return out;
}

static int bad_tensor(const struct door_graph *g, const struct door_tensor *t, const char *what)
{
    return err_set(ERR_FAULT, "%s: tensor %" PRId64 ": %s", g->name, t->uid, what);
}

/* No two elements at one place: each stride passes over what the smaller ones span. */
static bool strides_apart(const struct door_tensor *t)
{
    for (int i = 0; i < t->rank; i++) {
        for (int j = 0; j < t->rank; j++) {
            if (i == j || t->dims[i] == 1 || t->dims[j] == 1)
                continue;
            bool outer = t->strides[i] > t->strides[j];
            if (t->strides[i] == t->strides[j] ||
                (outer && t->strides[i] / t->dims[j] < t->strides[j]))
                return false;
        }
    }
    return true;
}

static int check_tensor(const struct door_graph *g, const struct door_tensor *t)
{
    size_t extent;
    if (t->uid <= 0 || door_graph_tensor(g, t->uid) != t)
        return bad_tensor(g, t, "its uid is not positive, or another tensor's too");
    if (t->type < DOOR_F32 || t->type > DOOR_BOOL || t->rank < 3 || t->rank > 4)
        return bad_tensor(g, t, "no such type, or its rank is neither 3 nor 4");
    for (int i = 0; i < t->rank; i++) {
        if (t->dims[i] < 1 || t->strides[i] < 1)
            return bad_tensor(g, t, "a dimension or stride below 1");
    }
    if (!tensor_extent(t, &extent))
        return bad_tensor(g, t, "too large to be addressed");
    if (!strides_apart(t))
        return bad_tensor(g, t, "strides that put two elements at one place");
    size_t unit = t->type == DOOR_BOOL ? 1 : door_type_bytes(t->type);
    if (t->alignment < 1 || (size_t)t->alignment % unit || (t->alignment & (t->alignment - 1)))
        return bad_tensor(g, t, "an alignment that is no power of two or below its element's");
    if (t->by_value && (t->is_virtual || extent != 1))
        return bad_tensor(g, t, "by value, and not a scalar");
    return 0;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

struct check {
    const struct door_graph *graph;
    const struct door_node *node;
    int number;
    const struct door_tensor *roles[DOOR_ROLES]; /* of the node; NULL: absent */
};

static int bad_node(const struct check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int bad_node(const struct check *c, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return err_set(ERR_FAULT, "%s: node %d, %s: %s", c->graph->name, c->number,
                   kinds[c->node->kind].name, text);
}

static bool same_dims(const struct door_tensor *a, const struct door_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

static int check_dims(const struct check *c, enum door_role a, enum door_role b)
{
    char left[100], right[100];
    if (same_dims(c->roles[a], c->roles[b]))
        return 0;
    return bad_node(c, "%s is %s, but %s is %s", role_names[a], dims_text(c->roles[a], left),
                    role_names[b], dims_text(c->roles[b], right));
}

static int check_shape(const struct check *c, const struct rule *rule, int64_t channels)
{
    const struct door_tensor *t = c->roles[rule->role];
    const char *name = role_names[rule->role];
    char text[100];
    switch (rule->shape) {
    case ANY:
        return 0;
    case CHANNEL_F32:
    case CHANNEL_FLOAT:
        if (t->rank != 4 || t->dims[0] != 1 || t->dims[1] != channels || t->dims[2] != 1 ||
            t->dims[3] != 1 || t->by_value)
            return bad_node(c, "%s is %s, not one value for each of %" PRId64 " channels", name,
                            dims_text(t, text), channels);
        if (rule->shape == CHANNEL_F32 ? t->type != DOOR_F32 : !is_float(t->type))
            return bad_node(c, "%s is %s", name, door_type_name(t->type));
        return 0;
    case SCALAR_F32:
    case SCALAR_I64:
        if (!t->by_value || t->type != (rule->shape == SCALAR_F32 ? DOOR_F32 : DOOR_I64))
            return bad_node(c, "%s is not a by-value scalar of its type", name);
        return 0;
    }
    return 0;
}

/* Height (axis 0) and width of OUT follow from IN's and the window. */
static int check_window(const struct check *c, const struct door_tensor *in,
                        const struct door_tensor *out, const int64_t window[2])
{
    const struct door_node *n = c->node;
    for (int i = 0; i < 2; i++) {
        int64_t dilation = n->kind < DOOR_POINTWISE ? n->dilation[i] : 1;
        if (n->stride[i] < 1 || dilation < 1 || n->pre_padding[i] < 0 || n->post_padding[i] < 0)
            return bad_node(c, "a stride or dilation below 1, or a negative padding");
        int64_t left = in->dims[2 + i] + n->pre_padding[i] + n->post_padding[i] -
                       dilation * (window[i] - 1) - 1;
        if (window[i] < 1 || left < 0 || left / n->stride[i] + 1 != out->dims[2 + i])
            return bad_node(c,
                            "%" PRId64 " %s through a window of %" PRId64 " do not give %" PRId64,
                            in->dims[2 + i], i ? "columns" : "rows", window[i], out->dims[2 + i]);
    }
    return 0;
}

static int check_conv(const struct check *c)
{
    const struct door_tensor *x = c->roles[DOOR_X] ? c->roles[DOOR_X] : c->roles[DOOR_DX];
    const struct door_tensor *w = c->roles[DOOR_W] ? c->roles[DOOR_W] : c->roles[DOOR_DW];
    const struct door_tensor *y = c->roles[DOOR_Y] ? c->roles[DOOR_Y] : c->roles[DOOR_DY];
    char dx[100], dw[100], dy[100];
    if (x->rank != 4 || w->rank != 4 || y->rank != 4)
        return bad_node(c, "a tensor that is not of rank 4");
    if (!is_float(x->type) || !is_float(w->type) || !is_float(y->type))
        return bad_node(c, "a tensor that is not of a floating type");
    if (x->dims[0] != y->dims[0] || x->dims[1] != w->dims[1] || y->dims[1] != w->dims[0])
        return bad_node(c, "channels do not agree: x %s, w %s, y %s", dims_text(x, dx),
                        dims_text(w, dw), dims_text(y, dy));
    return check_window(c, x, y, w->dims + 2);
}

/* Each dim of IN is OUT's or 1. */
static bool broadcasts(const struct door_tensor *in, const struct door_tensor *out)
{
    for (int i = 0; i < out->rank; i++) {
        if (in->rank != out->rank || (in->dims[i] != out->dims[i] && in->dims[i] != 1))
            return false;
    }
    return true;
}

static int check_pointwise(const struct check *c)
{
    enum door_pointwise mode = c->node->pointwise;
    bool backward = mode == DOOR_RELU_BWD;
    bool two = mode == DOOR_ADD || mode == DOOR_SUB || mode == DOOR_MUL || mode == DOOR_CMP_GT;
    const struct door_tensor *b = c->roles[DOOR_B];
    const struct door_tensor *out = c->roles[backward ? DOOR_DX : DOOR_Y];
    if (mode < DOOR_ADD || mode > DOOR_IDENTITY)
        return bad_node(c, "no such mode");
    if (!b == two || !c->roles[DOOR_DY] == backward || !c->roles[DOOR_DX] == backward ||
        !c->roles[DOOR_Y] == !backward)
        return bad_node(c, "its tensors are not those of its mode");
    const struct door_tensor *ins[] = {c->roles[DOOR_X], b, c->roles[DOOR_DY]};
    for (int i = 0; i < 3; i++) {
        char left[100], right[100];
        if (!ins[i])
            continue;
        if (ins[i]->by_value ? ins[i]->type != DOOR_F32 : !broadcasts(ins[i], out))
            return bad_node(c, "an input is %s %s, the output %s", door_type_name(ins[i]->type),
                            dims_text(ins[i], left), dims_text(out, right));
        if (!is_float(ins[i]->type) && !(ins[i]->type == DOOR_BOOL && i == 1 && mode == DOOR_MUL))
            return bad_node(c, "an input of type %s", door_type_name(ins[i]->type));
    }
    if (mode == DOOR_CMP_GT ? out->type != DOOR_BOOL : !is_float(out->type))
        return bad_node(c, "an output of type %s", door_type_name(out->type));
    return 0;
}

static int check_norm(const struct check *c)
{
    const struct door_node *n = c->node;
    const struct door_tensor *const *roles = c->roles;
    if (n->kind == DOOR_NORM_FORWARD) {
        int running = 0;
        for (int i = DOOR_RUNNING_MEAN_IN; i <= DOOR_RUNNING_VAR_OUT; i++)
            running += roles[i] != NULL;
        if (!roles[DOOR_EPSILON] == n->training || !roles[DOOR_MOMENTUM] == (running > 0))
            return bad_node(c, "epsilon belongs to training, momentum to running statistics");
        if (running && (running != 4 || !n->training))
            return bad_node(c, "running statistics: all four, in training, or none");
        return check_dims(c, DOOR_X, DOOR_Y);
    }
    int rc = check_dims(c, DOOR_X, DOOR_DY);
    return rc || n->kind == DOOR_BN_BACKWARD_WEIGHTS ? rc : check_dims(c, DOOR_X, DOOR_DX);
}

static int check_resample(const struct check *c)
{
    const struct door_node *n = c->node;
    bool forward = n->kind == DOOR_RESAMPLE_FORWARD;
    enum door_role role = forward ? DOOR_Y : DOOR_DY;
    const struct door_tensor *x = c->roles[forward ? DOOR_X : DOOR_DX], *y = c->roles[role];
    const struct door_tensor *index = c->roles[DOOR_INDEX];
    if (x->rank != 4 || y->rank != 4 || x->dims[0] != y->dims[0] || x->dims[1] != y->dims[1])
        return bad_node(c, "pictures or channels do not agree");
    if (!is_float(x->type) || !is_float(y->type))
        return bad_node(c, "a tensor that is not of a floating type");
    if (index && (n->resample != DOOR_MAX || index->type != DOOR_I8 ||
                  memcmp(index->strides, y->strides, sizeof y->strides)))
        return bad_node(c, "an index is the largest's, i8, and lies as %s does", role_names[role]);
    if (index && check_dims(c, DOOR_INDEX, role))
        return -ERR_FAULT;
    if (!forward && n->resample == DOOR_MAX && !index)
        return bad_node(c, "the way back needs the index");
    if (n->window[0] * n->window[1] > 127 && index)
        return bad_node(c, "a window too large for an i8 index");
    return check_window(c, x, y, n->window);
}

static int check_matmul(const struct check *c)
{
    const int64_t *a = c->roles[DOOR_A]->dims, *b = c->roles[DOOR_B]->dims;
    const int64_t *m = c->roles[DOOR_C]->dims;
    for (int i = DOOR_A; i <= DOOR_C; i++) {
        if (c->roles[i]->rank != 3 || c->roles[i]->dims[0] != 1 || !is_float(c->roles[i]->type))
            return bad_node(c, "%s is not one matrix of a floating type", role_names[i]);
    }
    if (a[1] != m[1] || a[2] != b[1] || b[2] != m[2])
        return bad_node(
            c, "%" PRId64 "x%" PRId64 " by %" PRId64 "x%" PRId64 " is not %" PRId64 "x%" PRId64,
            a[1], a[2], b[1], b[2], m[1], m[2]);
    return 0;
}

static int check_kind(const struct check *c)
{
    switch (c->node->kind) {
    case DOOR_CONV_FORWARD:
    case DOOR_CONV_BACKWARD_DATA:
    case DOOR_CONV_BACKWARD_FILTER:
        return check_conv(c);
    case DOOR_POINTWISE:
        return check_pointwise(c);
    case DOOR_NORM_FORWARD:
    case DOOR_NORM_BACKWARD:
    case DOOR_BN_BACKWARD_WEIGHTS:
        return check_norm(c);
    case DOOR_RESAMPLE_FORWARD:
    case DOOR_RESAMPLE_BACKWARD:
        return check_resample(c);
    case DOOR_MATMUL:
        return check_matmul(c);
    case DOOR_REDUCTION:
        if (!broadcasts(c->roles[DOOR_Y], c->roles[DOOR_X]) || c->roles[DOOR_Y]->type != DOOR_F32)
            return bad_node(c, "y's dims are neither x's nor 1, or it is not f32");
        return 0;
    case DOOR_GEN_STATS:
    case DOOR_BN_FINALIZE:
    case DOOR_KINDS:
        return 0;
    }
    return 0;
}

/* ---- who writes what ------------------------------------------------------------------------- */

/* IN or OUT for a role that the node has; the rules' MAYBEs are resolved. */
static enum side side_of(const struct door_node *node, const struct rule *rule)
{
    bool statistics = rule->role == DOOR_MEAN || rule->role == DOOR_INVSTD;
    if (node->kind == DOOR_NORM_FORWARD && statistics)
        return node->training ? OUT : IN;
    return rule->side == IN || rule->side == IN_MAYBE ? IN : OUT;
}

/* Each tensor's use by the nodes that were looked at. */
struct use {
    bool written, read;
};

static int check_use(const struct check *c, const struct rule *rule, struct use *use)
{
    const struct door_tensor *t = c->roles[rule->role];
    struct use *u = &use[t - c->graph->tensors];
    const char *name = role_names[rule->role];
    if (side_of(c->node, rule) == IN) {
        if (t->is_virtual && !u->written)
            return bad_node(c, "%s (tensor %" PRId64 ") is virtual and read before it is written",
                            name, t->uid);
        u->read = true;
        return 0;
    }
    if (t->by_value)
        return bad_node(c, "%s is an output and by value", name);
    if (u->written || u->read)
        return bad_node(c, "%s (tensor %" PRId64 ") was %s before it is written here", name, t->uid,
                        u->written ? "written" : "read");
    u->written = true;
    return 0;
}

static int check_node(const struct door_graph *graph, int number, struct use *use)
{
    struct check c = {.graph = graph, .node = &graph->nodes[number], .number = number};
    if (c.node->kind < 0 || c.node->kind >= DOOR_KINDS)
        return err_set(ERR_FAULT, "%s: node %d has no kind", graph->name, number);
    const struct kind_rules *kind = &kinds[c.node->kind];
    bool known[DOOR_ROLES] = {false};
    int rc = 0;
    for (int i = 0; i < kind->count; i++) {
        const struct rule *rule = &kind->rules[i];
        int64_t uid = c.node->uids[rule->role];
        known[rule->role] = true;
        c.roles[rule->role] = uid ? door_graph_tensor(graph, uid) : NULL;
        if (uid && !c.roles[rule->role])
            return bad_node(&c, "%s: there is no tensor %" PRId64, role_names[rule->role], uid);
        if (!uid && (rule->side == IN || rule->side == OUT))
            return bad_node(&c, "it has no %s", role_names[rule->role]);
    }
    for (int i = 0; i < DOOR_ROLES; i++) {
        if (c.node->uids[i] && !known[i])
            return bad_node(&c, "it has a %s, which is not for it", role_names[i]);
    }
    const struct door_tensor *like = c.roles[DOOR_X] ? c.roles[DOOR_X] : c.roles[DOOR_SUM];
    for (int i = 0; i < kind->count && !rc; i++) {
        if (c.roles[kind->rules[i].role] &&
            !(rc = check_shape(&c, &kind->rules[i], like ? like->dims[1] : 0)))
            rc = check_use(&c, &kind->rules[i], use);
    }
    return rc ? rc : check_kind(&c);
}

int door_graph_check(const struct door_graph *graph)
{
    struct use use[DOOR_MAX_TENSORS] = {
        {false, false}
    };
    int rc = 0;
    if (graph->tensor_count < 1 || graph->tensor_count > DOOR_MAX_TENSORS ||
        graph->node_count < 1 || graph->node_count > DOOR_MAX_NODES)
        return err_set(ERR_FAULT, "%s: %d tensors and %d nodes are not 1 to %d and 1 to %d",
                       graph->name, graph->tensor_count, graph->node_count, DOOR_MAX_TENSORS,
                       DOOR_MAX_NODES);
    for (int i = 0; i < graph->tensor_count && !rc; i++)
        rc = check_tensor(graph, &graph->tensors[i]);
    for (int i = 0; i < graph->node_count && !rc; i++)
        rc = check_node(graph, i, use);
    for (int i = 0; i < graph->tensor_count && !rc; i++) {
        const struct door_tensor *t = &graph->tensors[i];
        if (!use[i].written && !use[i].read)
            rc = bad_tensor(graph, t, "no node uses it");
        else if (t->is_virtual && !use[i].read)
            rc = bad_tensor(graph, t, "it is virtual, and nobody reads it");
    }
    return rc;
}

/* ---- digest ---------------------------------------------------------------------------------- */

/* Field by field: structs have holes. */
int door_graph_digest(const struct door_graph *graph, uint64_t *out)
{
    struct digest *digest;
    int rc = digest_open(&digest);
    if (rc)
        return rc;
    for (int i = 0; i < graph->tensor_count; i++) {
        const struct door_tensor *t = &graph->tensors[i];
        int64_t fields[14] = {t->uid,       (int64_t)t->type, t->rank,
                              t->alignment, t->is_virtual,    t->by_value};
        for (int k = 0; k < t->rank; k++) {
            fields[6 + k] = t->dims[k];
            fields[10 + k] = t->strides[k];
        }
        digest_add(digest, fields, sizeof fields);
    }
    for (int i = 0; i < graph->node_count; i++) {
        const struct door_node *n = &graph->nodes[i];
        const int64_t fields[5] = {(int64_t)n->kind, (int64_t)n->pointwise, (int64_t)n->resample,
                                   (int64_t)n->reduction, n->training};
        digest_add(digest, fields, sizeof fields);
        digest_add(digest, n->window, sizeof n->window);
        digest_add(digest, n->stride, sizeof n->stride);
        digest_add(digest, n->dilation, sizeof n->dilation);
        digest_add(digest, n->pre_padding, sizeof n->pre_padding);
        digest_add(digest, n->post_padding, sizeof n->post_padding);
        digest_add(digest, n->uids, sizeof n->uids);
    }
    *out = digest_value64(digest);
    digest_close(digest);
    return 0;
}
