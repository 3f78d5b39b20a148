#include "train/unpickle_machine.h"

/* What a global is for. */
enum global_use { USE_ORDERED_DICT, USE_TENSOR, USE_PARAMETER, USE_STORAGE };

/* The only names that a pickle may call. */
static const struct {
    const char *module, *name;
    enum global_use use;
    enum pth_type type; /* of a storage */
} globals[] = {
    {"collections",  "OrderedDict",        USE_ORDERED_DICT, 0       },
    {"torch._utils", "_rebuild_tensor_v2", USE_TENSOR,       0       },
    {"torch._utils", "_rebuild_tensor",    USE_TENSOR,       0       },
    {"torch._utils", "_rebuild_parameter", USE_PARAMETER,    0       },
    {"torch",        "FloatStorage",       USE_STORAGE,      PTH_F32 },
    {"torch",        "HalfStorage",        USE_STORAGE,      PTH_F16 },
    {"torch",        "BFloat16Storage",    USE_STORAGE,      PTH_BF16},
    {"torch",        "LongStorage",        USE_STORAGE,      PTH_I64 },
    {"torch",        "IntStorage",         USE_STORAGE,      PTH_I32 },
    {"torch",        "ByteStorage",        USE_STORAGE,      PTH_U8  },
};
enum { GLOBAL_COUNT = sizeof globals / sizeof *globals };

/* ---- globals, storages, tensors ---- */

struct pth_value *unpickle_opaque(struct machine *m, const char *what)
{
    struct pth_value *value = machine_value(m, PTH_OPAQUE, (int64_t)(m->host->base + m->opcode_at));
    if (!value || !(value->text = mem_arena_text(m->arena, what, strlen(what))))
        return NULL;
    value->text_size = strlen(what);
    return value;
}

static int push_global(struct machine *m, const char *module, const char *name)
{
    char quoted_module[4 * TEXT_IN_MESSAGE], quoted_name[4 * TEXT_IN_MESSAGE];
    for (int i = 0; i < GLOBAL_COUNT; i++)
        if (!strcmp(module, globals[i].module) && !strcmp(name, globals[i].name))
            return machine_push(m, machine_value(m, KIND_GLOBAL, i));
    if (m->host->foreign) {
        char whole[600];
        snprintf(whole, sizeof whole, "%s.%s", module, name);
        return machine_push(m, unpickle_opaque(m, whole));
    }
    return machine_bad(m, "%.*s.%.*s is not among the names that a checkpoint may use",
                       TEXT_IN_MESSAGE, err_quote(quoted_module, sizeof quoted_module, module),
                       TEXT_IN_MESSAGE, err_quote(quoted_name, sizeof quoted_name, name));
}

/* OUT = the bytes up to the next line feed, as text. */
static int take_line(struct machine *m, char *out, size_t size)
{
    const uint8_t *p = m->bytes + m->at;
    const uint8_t *end = memchr(p, '\n', m->size - m->at);
    if (!end || (size_t)(end - p) >= size || memchr(p, 0, (size_t)(end - p)))
        return machine_bad(m, "a global's name that is too long, or not ended");
    memcpy(out, p, (size_t)(end - p));
    out[end - p] = 0;
    m->at += (size_t)(end - p) + 1;
    return 0;
}

int unpickle_global(struct machine *m, int unused)
{
    (void)unused;
    char module[256], name[256];
    int rc;
    if ((rc = take_line(m, module, sizeof module)) || (rc = take_line(m, name, sizeof name)))
        return rc;
    return push_global(m, module, name);
}

int unpickle_stack_global(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *name = machine_pop(m), *module = machine_pop(m);
    if (name->kind != PTH_TEXT || module->kind != PTH_TEXT ||
        strlen(name->text) != name->text_size || strlen(module->text) != module->text_size)
        return machine_bad(m, "STACK_GLOBAL of something that is not two names");
    return push_global(m, module->text, name->text);
}

/* VALUE is an int of 0 or more. */
static bool is_size(const struct pth_value *value)
{
    return value->kind == PTH_INT && value->integer >= 0;
}

static bool is_key(const struct pth_value *value)
{
    return value->kind == PTH_TEXT && value->text_size >= 1 && value->text_size <= 20 &&
           strspn(value->text, "0123456789") == value->text_size;
}

/* ('storage', torch.FloatStorage, '0', 'cpu', elements): the only persistent id there is; before
 * PyTorch 1.6 with a None behind it. */
static bool is_storage_id(const struct machine *m, const struct pth_value *id)
{
    if (id->kind != PTH_TUPLE || id->count < 5 || id->count > 6 ||
        (id->count == 6 && (!m->host->part || id->items[5]->kind != PTH_NONE)))
        return false;
    const struct pth_value *type = id->items[1];
    bool known = type->kind == KIND_GLOBAL && globals[type->integer].use == USE_STORAGE;
    return id->items[0]->kind == PTH_TEXT && !strcmp(id->items[0]->text, "storage") &&
           (known || type->kind == PTH_OPAQUE) && is_key(id->items[2]) &&
           id->items[3]->kind == PTH_TEXT && is_size(id->items[4]);
}

int unpickle_persistent_id(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 1);
    if (rc)
        return rc;
    const struct pth_value *id = machine_pop(m);
    if (!is_storage_id(m, id))
        return machine_bad(m, "a persistent id that is not a tensor's storage");
    size_t index;
    if (id->items[1]->kind == PTH_OPAQUE)
        return machine_push(m, unpickle_opaque(m, id->items[1]->text));
    if ((rc = m->host->storage(m->host->context, id->items[2]->text,
                               globals[id->items[1]->integer].type, (uint64_t)id->items[4]->integer,
                               &index)))
        return rc == -ERR_INPUT ? machine_bad(m, "%s", err_text()) : rc;
    return machine_push(m, machine_value(m, KIND_STORAGE, (int64_t)index));
}

/* SIZES = the ints of TUPLE, at most 8, none negative. */
static bool get_sizes(const struct pth_value *tuple, int64_t sizes[8])
{
    if (tuple->kind != PTH_TUPLE || tuple->count > 8)
        return false;
    for (size_t i = 0; i < tuple->count; i++) {
        if (!is_size(tuple->items[i]))
            return false;
        sizes[i] = tuple->items[i]->integer;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks[, metadata]), and its
 * first form, which ended with the strides. */
static int rebuild_tensor(struct machine *m, const struct pth_value *arguments)
{
    struct pth_value **a = arguments->items, *tensor;
    int64_t shape[8], stride[8];
    size_t count = arguments->count;
    if (count && a[0]->kind == PTH_OPAQUE)
        return machine_push(m, a[0]);
    if ((count != 4 && count != 6 && count != 7) || a[0]->kind != KIND_STORAGE || !is_size(a[1]) ||
        !get_sizes(a[2], shape) || !get_sizes(a[3], stride) || a[2]->count != a[3]->count ||
        (count > 4 && (a[4]->kind != PTH_BOOL || !machine_is_dict(a[5]) || a[5]->count)))
        return machine_bad(
            m, "_rebuild_tensor_v2 with arguments that make no plain tensor "
               "(storage, offset, at most 8 sizes and strides of 0 or more, flag, no hooks)");
    if (m->tensors++ == PICKLE_TENSOR_LIMIT)
        return machine_bad(m, "more than %d tensors", PICKLE_TENSOR_LIMIT);
    int rc = m->host->tensor(m->host->context, (size_t)a[0]->integer, (uint64_t)a[1]->integer,
                             (int)a[2]->count, shape, stride, &tensor);
    if (rc)
        return rc == -ERR_INPUT ? machine_bad(m, "%s", err_text()) : rc;
    return machine_push(m, tensor);
}

/* OrderedDict() or, from Python 2, OrderedDict([[key, value], ...]). */
static int make_ordered_dict(struct machine *m, const struct pth_value *arguments)
{
    struct pth_value *dict = machine_value(m, PTH_ORDERED_DICT, 0);
    const struct pth_value *pairs = arguments->count ? arguments->items[0] : NULL;
    if (!dict)
        return -ERR_MEMORY;
    if (arguments->count > 1 || (pairs && (!m->host->foreign || pairs->kind != PTH_LIST)))
        return machine_bad(m, "OrderedDict with arguments");
    for (size_t i = 0; pairs && i < pairs->count; i++) {
        const struct pth_value *pair = pairs->items[i];
        if ((pair->kind != PTH_LIST && pair->kind != PTH_TUPLE) || pair->count != 2 ||
            (pair->items[0]->kind != PTH_TEXT && pair->items[0]->kind != PTH_INT))
            return machine_bad(m, "OrderedDict with arguments that are no pairs");
        if (!pth_append(m->arena, pth_append(m->arena, dict, pair->items[0]), pair->items[1]))
            return -ERR_MEMORY;
    }
    return machine_push(m, dict);
}

/* The value of a global for arguments; nothing is called. */
int unpickle_reduce(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *arguments = machine_pop(m);
    struct pth_value *function = machine_pop(m);
    if (function->kind == PTH_OPAQUE)
        return machine_push(m, function);
    if (function->kind != KIND_GLOBAL || arguments->kind != PTH_TUPLE)
        return machine_bad(m, "REDUCE of something that is not a known global and a tuple");
    switch (globals[function->integer].use) {
    case USE_ORDERED_DICT:
        return make_ordered_dict(m, arguments);
    case USE_TENSOR:
        return rebuild_tensor(m, arguments);
    case USE_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (arguments->count != 3 ||
            (arguments->items[0]->kind != PTH_TENSOR && arguments->items[0]->kind != PTH_OPAQUE))
            return machine_bad(m, "_rebuild_parameter of something that is not a tensor");
        return machine_push(m, arguments->items[0]);
    case USE_STORAGE:
        break;
    }
    return machine_bad(m, "REDUCE of a storage's type");
}

/* An object of a foreign class, made of VALUES values: the class and its arguments. */
int unpickle_new_object(struct machine *m, int values)
{
    int rc = machine_need(m, (size_t)values);
    if (rc)
        return rc;
    m->count -= (size_t)values - 1;
    if (machine_top(m)->kind != PTH_OPAQUE)
        return machine_bad(m, "an object made of something that is not a foreign class");
    return 0;
}

/* An OrderedDict's attributes (a state dict's _metadata) are dropped, and so is all that a foreign
 * object is given. */
int unpickle_build(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *state = machine_pop(m);
    if (machine_top(m)->kind == PTH_OPAQUE)
        return 0;
    if (machine_top(m)->kind != PTH_ORDERED_DICT || state->kind != PTH_DICT)
        return machine_bad(m, "BUILD of something that is not an OrderedDict's attributes");
    return 0;
}
