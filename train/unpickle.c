#include "train/unpickle.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "train/pickle.h"

/* Kinds that exist only while a pickle is read; none is left in a finished tree. */
#define KIND_GLOBAL ((enum pth_kind)(PTH_TENSOR + 1))  /* integer: position in globals */
#define KIND_STORAGE ((enum pth_kind)(PTH_TENSOR + 2)) /* integer: the host's number */

enum { MARK_LIMIT = 4 * PICKLE_DEPTH_LIMIT, TEXT_IN_MESSAGE = 100 };

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
    {"torch._utils", "_rebuild_parameter", USE_PARAMETER,    0       },
    {"torch",        "FloatStorage",       USE_STORAGE,      PTH_F32 },
    {"torch",        "HalfStorage",        USE_STORAGE,      PTH_F16 },
    {"torch",        "BFloat16Storage",    USE_STORAGE,      PTH_BF16},
    {"torch",        "LongStorage",        USE_STORAGE,      PTH_I64 },
    {"torch",        "IntStorage",         USE_STORAGE,      PTH_I32 },
    {"torch",        "ByteStorage",        USE_STORAGE,      PTH_U8  },
};
enum { GLOBAL_COUNT = sizeof globals / sizeof *globals };

/* ---- the reading machine ---- */

struct machine {
    const uint8_t *bytes;
    size_t size, at; /* of the next byte */
    size_t opcode_at;
    struct mem_arena *arena;
    const struct unpickle_host *host;
    struct pth_value **stack;
    size_t count, capacity;
    size_t marks[MARK_LIMIT]; /* heights of the stack */
    size_t mark_count;
    struct pth_value **memo;
    size_t memo_capacity;
    size_t memoized; /* set ones: MEMOIZE's next index */
    size_t tensors;
    struct pth_value *root; /* set by STOP */
};

/* ERR_INPUT at the opcode that is being run. */
__attribute__((format(printf, 2, 3))) static int bad(const struct machine *m, const char *format,
                                                     ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    err_set(ERR_INPUT, "data.pkl, byte %zu: %s", m->opcode_at, text);
    return -ERR_INPUT;
}

/* *OUT = the next SIZE bytes. */
static int take(struct machine *m, size_t size, const uint8_t **out)
{
    *out = m->bytes + m->at;
    if (size > m->size - m->at)
        return bad(m, "the pickle is cut short (%zu bytes more are needed)",
                   size - (m->size - m->at));
    m->at += size;
    return 0;
}

/* *OUT = the next SIZE bytes (1 to 8) as a little-endian number. */
static int take_number(struct machine *m, size_t size, uint64_t *out)
{
    const uint8_t *p;
    int rc = take(m, size, &p);
    *out = 0;
    for (size_t i = 0; i < size && !rc; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return rc;
}

static int push(struct machine *m, struct pth_value *value)
{
    if (!value)
        return -ERR_MEMORY;
    if (m->count == m->capacity) {
        size_t capacity = m->capacity ? m->capacity * 2 : 256;
        int rc =
            mem_grow((void **)&m->stack, m->capacity, capacity, sizeof(void *), "pickle stack");
        if (rc)
            return rc;
        m->capacity = capacity;
    }
    m->stack[m->count++] = value;
    return 0;
}

/* Values that may be taken off: those above the last mark. */
static size_t available(const struct machine *m)
{
    return m->count - (m->mark_count ? m->marks[m->mark_count - 1] : 0);
}

static int need(struct machine *m, size_t count)
{
    if (available(m) < count)
        return bad(m, "the stack holds %zu values where %zu are needed", available(m), count);
    return 0;
}

static struct pth_value *pop(struct machine *m)
{
    return m->stack[--m->count];
}

static struct pth_value *top(struct machine *m)
{
    return m->stack[m->count - 1];
}

/* Take the last mark off: *FIRST = the values above it, *COUNT of them, which stay on the stack
 * until the caller drops them. */
static int pop_mark(struct machine *m, struct pth_value ***first, size_t *count)
{
    *first = m->stack;
    *count = 0;
    if (!m->mark_count)
        return bad(m, "no mark on the stack");
    size_t height = m->marks[--m->mark_count];
    *first = m->stack + height;
    *count = m->count - height;
    return 0;
}

static struct pth_value *make(struct machine *m, enum pth_kind kind, int64_t integer)
{
    struct pth_value *value = mem_arena_alloc(m->arena, sizeof *value, "pickle value");
    if (value) {
        value->kind = kind;
        value->integer = integer;
        value->boolean = integer != 0;
    }
    return value;
}

/* ---- plain values ---- */

static int run_proto(struct machine *m, int unused)
{
    (void)unused;
    uint64_t version;
    int rc = take_number(m, 1, &version);
    if (!rc && m->opcode_at != 0)
        rc = bad(m, "PROTO inside the pickle");
    if (!rc && (version < 2 || version > 5))
        rc = bad(m, "pickle protocol %u; 2 to 5 are read", (unsigned)version);
    return rc;
}

static int run_frame(struct machine *m, int unused)
{
    (void)unused;
    uint64_t size;
    int rc = take_number(m, 8, &size);
    if (!rc && size > m->size - m->at)
        rc = bad(m, "a frame reaches behind the pickle");
    return rc;
}

static int run_stop(struct machine *m, int unused)
{
    (void)unused;
    if (m->mark_count || m->count != 1)
        return bad(m, "STOP with %zu values and %zu marks on the stack", m->count, m->mark_count);
    if (m->at != m->size)
        return bad(m, "%zu bytes behind STOP", m->size - m->at);
    m->root = m->stack[0];
    return 0;
}

/* An empty container or a plain constant: a value of KIND that needs no bytes. */
static int run_constant(struct machine *m, int kind)
{
    return push(m, make(m, (enum pth_kind)kind, 0));
}

static int run_true(struct machine *m, int unused)
{
    (void)unused;
    return push(m, make(m, PTH_BOOL, 1));
}

/* An int of SIZE bytes, negative size: with a sign. */
static int run_int(struct machine *m, int signed_size)
{
    bool is_signed = signed_size < 0;
    size_t size = (size_t)abs(signed_size);
    uint64_t bits;
    int rc = take_number(m, size, &bits);
    if (rc)
        return rc;
    if (is_signed && size && size < 8 && bits >> (8 * size - 1))
        bits |= UINT64_MAX << 8 * size;
    return push(m, make(m, PTH_INT, (int64_t)bits));
}

static int run_long1(struct machine *m, int unused)
{
    (void)unused;
    uint64_t size;
    int rc = take_number(m, 1, &size);
    if (!rc && size > 8)
        rc = bad(m, "an integer of %u bytes; up to 8 are read", (unsigned)size);
    return rc ? rc : run_int(m, -(int)size);
}

static int run_float(struct machine *m, int unused)
{
    (void)unused;
    const uint8_t *p;
    uint64_t bits = 0;
    int rc = take(m, 8, &p);
    if (rc)
        return rc;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    struct pth_value *value = make(m, PTH_REAL, 0);
    if (value)
        memcpy(&value->real, &bits, sizeof bits);
    return push(m, value);
}

/* A text behind its length in LENGTH_BYTES bytes. */
static int run_text(struct machine *m, int length_bytes)
{
    uint64_t size;
    const uint8_t *p;
    int rc = take_number(m, (size_t)length_bytes, &size);
    if (rc || (rc = take(m, (size_t)size, &p)))
        return rc;
    if (!pickle_is_utf8((const char *)p, (size_t)size))
        return bad(m, "a text that is not UTF-8");
    struct pth_value *value = make(m, PTH_TEXT, 0);
    if (!value || !(value->text = mem_arena_text(m->arena, (const char *)p, (size_t)size)))
        return -ERR_MEMORY;
    value->text_size = (size_t)size;
    return push(m, value);
}

/* ---- containers ---- */

static int run_mark(struct machine *m, int unused)
{
    (void)unused;
    if (m->mark_count == MARK_LIMIT)
        return bad(m, "more than %d open marks", MARK_LIMIT);
    m->marks[m->mark_count++] = m->count;
    return 0;
}

/* Replace the last COUNT values by a tuple of them. */
static int make_tuple(struct machine *m, size_t count)
{
    struct pth_value *tuple = make(m, PTH_TUPLE, 0);
    if (!tuple || !(tuple->items = mem_arena_alloc(m->arena, count * sizeof(void *), "tuple")))
        return -ERR_MEMORY;
    m->count -= count;
    if (count)
        memcpy(tuple->items, m->stack + m->count, count * sizeof(void *));
    tuple->count = tuple->capacity = count;
    return push(m, tuple);
}

static int run_tuple(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = pop_mark(m, &first, &count);
    return rc ? rc : make_tuple(m, count);
}

static int run_short_tuple(struct machine *m, int count)
{
    int rc = need(m, (size_t)count);
    return rc ? rc : make_tuple(m, (size_t)count);
}

/* Add COUNT items (keys and values in turn for a dict) to CONTAINER. */
static int extend(struct machine *m, struct pth_value *container, struct pth_value **items,
                  size_t count)
{
    bool dict = container->kind == PTH_DICT || container->kind == PTH_ORDERED_DICT;
    for (size_t i = 0; dict && i < count; i += 2)
        if (items[i]->kind != PTH_TEXT && items[i]->kind != PTH_INT)
            return bad(m, "a dict key that is neither text nor int");
    for (size_t i = 0; i < count; i++)
        if (!pth_append(m->arena, container, items[i]))
            return -ERR_MEMORY;
    return 0;
}

static int run_append(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 2);
    if (rc)
        return rc;
    struct pth_value *item = pop(m);
    if (top(m)->kind != PTH_LIST)
        return bad(m, "APPEND to something that is not a list");
    return extend(m, top(m), &item, 1);
}

static int run_appends(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = pop_mark(m, &first, &count);
    if (rc)
        return rc;
    m->count -= count;
    if ((rc = need(m, 1)))
        return rc;
    if (top(m)->kind != PTH_LIST)
        return bad(m, "APPENDS to something that is not a list");
    return extend(m, top(m), first, count);
}

static bool is_dict(const struct pth_value *value)
{
    return value->kind == PTH_DICT || value->kind == PTH_ORDERED_DICT;
}

static int run_setitem(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 3);
    if (rc)
        return rc;
    m->count -= 2;
    if (!is_dict(top(m)))
        return bad(m, "SETITEM on something that is not a dict");
    return extend(m, top(m), m->stack + m->count, 2);
}

static int run_setitems(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = pop_mark(m, &first, &count);
    if (rc)
        return rc;
    m->count -= count;
    if ((rc = need(m, 1)))
        return rc;
    if (!is_dict(top(m)))
        return bad(m, "SETITEMS on something that is not a dict");
    if (count % 2)
        return bad(m, "SETITEMS with a key that has no value");
    return extend(m, top(m), first, count);
}

/* ---- memo ---- */

static int remember(struct machine *m, uint64_t index)
{
    int rc = need(m, 1);
    if (rc)
        return rc;
    if (index >= PICKLE_OPCODE_LIMIT)
        return bad(m, "memo index %llu", (unsigned long long)index);
    if (index >= m->memo_capacity) {
        size_t capacity = (size_t)index + 256 + (size_t)index / 2;
        if ((rc = mem_grow((void **)&m->memo, m->memo_capacity, capacity, sizeof(void *),
                           "pickle memo")))
            return rc;
        m->memo_capacity = capacity;
    }
    if (!m->memo[index])
        m->memoized++;
    m->memo[index] = top(m);
    return 0;
}

static int run_memoize(struct machine *m, int unused)
{
    (void)unused;
    return remember(m, m->memoized);
}

/* The memo index in SIZE bytes. */
static int run_put(struct machine *m, int size)
{
    uint64_t index;
    int rc = take_number(m, (size_t)size, &index);
    return rc ? rc : remember(m, index);
}

static int run_get(struct machine *m, int size)
{
    uint64_t index;
    int rc = take_number(m, (size_t)size, &index);
    if (rc)
        return rc;
    if (index >= m->memo_capacity || !m->memo[index])
        return bad(m, "memo %llu was never set", (unsigned long long)index);
    return push(m, m->memo[index]);
}

/* ---- globals, storages, tensors ---- */

static int push_global(struct machine *m, const char *module, const char *name)
{
    char quoted_module[4 * TEXT_IN_MESSAGE], quoted_name[4 * TEXT_IN_MESSAGE];
    for (int i = 0; i < GLOBAL_COUNT; i++)
        if (!strcmp(module, globals[i].module) && !strcmp(name, globals[i].name))
            return push(m, make(m, KIND_GLOBAL, i));
    return bad(m, "%.*s.%.*s is not among the names that a checkpoint may use", TEXT_IN_MESSAGE,
               err_quote(quoted_module, sizeof quoted_module, module), TEXT_IN_MESSAGE,
               err_quote(quoted_name, sizeof quoted_name, name));
}

/* OUT = the bytes up to the next line feed, as text. */
static int take_line(struct machine *m, char *out, size_t size)
{
    const uint8_t *p = m->bytes + m->at;
    const uint8_t *end = memchr(p, '\n', m->size - m->at);
    if (!end || (size_t)(end - p) >= size || memchr(p, 0, (size_t)(end - p)))
        return bad(m, "a global's name that is too long, or not ended");
    memcpy(out, p, (size_t)(end - p));
    out[end - p] = 0;
    m->at += (size_t)(end - p) + 1;
    return 0;
}

static int run_global(struct machine *m, int unused)
{
    (void)unused;
    char module[256], name[256];
    int rc;
    if ((rc = take_line(m, module, sizeof module)) || (rc = take_line(m, name, sizeof name)))
        return rc;
    return push_global(m, module, name);
}

static int run_stack_global(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *name = pop(m), *module = pop(m);
    if (name->kind != PTH_TEXT || module->kind != PTH_TEXT ||
        strlen(name->text) != name->text_size || strlen(module->text) != module->text_size)
        return bad(m, "STACK_GLOBAL of something that is not two names");
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

/* ('storage', torch.FloatStorage, '0', 'cpu', elements): the only persistent id there is. */
static int run_persistent_id(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 1);
    if (rc)
        return rc;
    const struct pth_value *id = pop(m);
    if (id->kind != PTH_TUPLE || id->count != 5 || id->items[0]->kind != PTH_TEXT ||
        strcmp(id->items[0]->text, "storage") != 0 || id->items[1]->kind != KIND_GLOBAL ||
        globals[id->items[1]->integer].use != USE_STORAGE || !is_key(id->items[2]) ||
        id->items[3]->kind != PTH_TEXT || !is_size(id->items[4]))
        return bad(m, "a persistent id that is not a tensor's storage");
    size_t index;
    if ((rc = m->host->storage(m->host->context, id->items[2]->text,
                               globals[id->items[1]->integer].type, (uint64_t)id->items[4]->integer,
                               &index)))
        return rc == -ERR_INPUT ? bad(m, "%s", err_text()) : rc;
    return push(m, make(m, KIND_STORAGE, (int64_t)index));
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

/* _rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks[, metadata]). */
static int rebuild_tensor(struct machine *m, const struct pth_value *arguments)
{
    struct pth_value **a = arguments->items, *tensor;
    int64_t shape[8], stride[8];
    if (arguments->count < 6 || arguments->count > 7 || a[0]->kind != KIND_STORAGE ||
        !is_size(a[1]) || !get_sizes(a[2], shape) || !get_sizes(a[3], stride) ||
        a[2]->count != a[3]->count || a[4]->kind != PTH_BOOL || !is_dict(a[5]) || a[5]->count)
        return bad(m,
                   "_rebuild_tensor_v2 with arguments that make no plain tensor "
                   "(storage, offset, at most 8 sizes and strides of 0 or more, flag, no hooks)");
    if (m->tensors++ == PICKLE_TENSOR_LIMIT)
        return bad(m, "more than %d tensors", PICKLE_TENSOR_LIMIT);
    int rc = m->host->tensor(m->host->context, (size_t)a[0]->integer, (uint64_t)a[1]->integer,
                             (int)a[2]->count, shape, stride, &tensor);
    if (rc)
        return rc == -ERR_INPUT ? bad(m, "%s", err_text()) : rc;
    return push(m, tensor);
}

/* The value of a global for arguments; nothing is called. */
static int run_reduce(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *arguments = pop(m), *function = pop(m);
    if (function->kind != KIND_GLOBAL || arguments->kind != PTH_TUPLE)
        return bad(m, "REDUCE of something that is not a known global and a tuple");
    switch (globals[function->integer].use) {
    case USE_ORDERED_DICT:
        if (arguments->count)
            return bad(m, "OrderedDict with arguments");
        return push(m, make(m, PTH_ORDERED_DICT, 0));
    case USE_TENSOR:
        return rebuild_tensor(m, arguments);
    case USE_PARAMETER: /* (tensor, requires_grad, hooks) */
        if (arguments->count != 3 || arguments->items[0]->kind != PTH_TENSOR)
            return bad(m, "_rebuild_parameter of something that is not a tensor");
        return push(m, arguments->items[0]);
    case USE_STORAGE:
        break;
    }
    return bad(m, "REDUCE of a storage's type");
}

/* An OrderedDict's attributes (a state dict's _metadata) are dropped. */
static int run_build(struct machine *m, int unused)
{
    (void)unused;
    int rc = need(m, 2);
    if (rc)
        return rc;
    const struct pth_value *state = pop(m);
    if (top(m)->kind != PTH_ORDERED_DICT || state->kind != PTH_DICT)
        return bad(m, "BUILD of something that is not an OrderedDict's attributes");
    return 0;
}

/* ---- dispatch ---- */

/* Opcodes without a function are known and refused; those without a name are unknown. */
static const struct {
    const char *name;
    int (*run)(struct machine *m, int argument);
    int argument;
} opcodes[256] = {
  /* clang-format off */
    [0x80] = {"PROTO", run_proto, 0},
    [0x95] = {"FRAME", run_frame, 0},
    ['.'] = {"STOP", run_stop, 0},
    ['N'] = {"NONE", run_constant, PTH_NONE},
    [0x88] = {"NEWTRUE", run_true, 0},
    [0x89] = {"NEWFALSE", run_constant, PTH_BOOL},
    ['K'] = {"BININT1", run_int, 1},
    ['M'] = {"BININT2", run_int, 2},
    ['J'] = {"BININT", run_int, -4},
    [0x8a] = {"LONG1", run_long1, 0},
    ['G'] = {"BINFLOAT", run_float, 0},
    ['X'] = {"BINUNICODE", run_text, 4},
    [0x8c] = {"SHORT_BINUNICODE", run_text, 1},
    ['U'] = {"SHORT_BINSTRING", run_text, 1},
    ['('] = {"MARK", run_mark, 0},
    [']'] = {"EMPTY_LIST", run_constant, PTH_LIST},
    ['}'] = {"EMPTY_DICT", run_constant, PTH_DICT},
    [')'] = {"EMPTY_TUPLE", run_constant, PTH_TUPLE},
    ['t'] = {"TUPLE", run_tuple, 0},
    [0x85] = {"TUPLE1", run_short_tuple, 1},
    [0x86] = {"TUPLE2", run_short_tuple, 2},
    [0x87] = {"TUPLE3", run_short_tuple, 3},
    ['a'] = {"APPEND", run_append, 0},
    ['e'] = {"APPENDS", run_appends, 0},
    ['s'] = {"SETITEM", run_setitem, 0},
    ['u'] = {"SETITEMS", run_setitems, 0},
    [0x94] = {"MEMOIZE", run_memoize, 0},
    ['q'] = {"BINPUT", run_put, 1},
    ['r'] = {"LONG_BINPUT", run_put, 4},
    ['h'] = {"BINGET", run_get, 1},
    ['j'] = {"LONG_BINGET", run_get, 4},
    ['c'] = {"GLOBAL", run_global, 0},
    [0x93] = {"STACK_GLOBAL", run_stack_global, 0},
    ['Q'] = {"BINPERSID", run_persistent_id, 0},
    ['R'] = {"REDUCE", run_reduce, 0},
    ['b'] = {"BUILD", run_build, 0},
    ['i'] = {"INST", NULL, 0},
    ['o'] = {"OBJ", NULL, 0},
    [0x81] = {"NEWOBJ", NULL, 0},
    [0x92] = {"NEWOBJ_EX", NULL, 0},
    [0x82] = {"EXT1", NULL, 0},
    [0x83] = {"EXT2", NULL, 0},
    [0x84] = {"EXT4", NULL, 0},
    ['P'] = {"PERSID", NULL, 0},
    ['I'] = {"INT", NULL, 0},
    ['L'] = {"LONG", NULL, 0},
    [0x8b] = {"LONG4", NULL, 0},
    ['B'] = {"BINBYTES", NULL, 0},
    ['C'] = {"SHORT_BINBYTES", NULL, 0},
    [0x8e] = {"BINBYTES8", NULL, 0},
    [0x96] = {"BYTEARRAY8", NULL, 0},
    [0x8d] = {"BINUNICODE8", NULL, 0},
    ['T'] = {"BINSTRING", NULL, 0},
    [0x8f] = {"EMPTY_SET", NULL, 0},
    ['0'] = {"POP", NULL, 0},
    ['1'] = {"POP_MARK", NULL, 0},
    ['2'] = {"DUP", NULL, 0},
  /* clang-format on */
};

static int run(struct machine *m)
{
    for (size_t count = 0; !m->root; count++) {
        const uint8_t *p;
        m->opcode_at = m->at;
        int rc = take(m, 1, &p);
        if (rc)
            return rc;
        if (count == PICKLE_OPCODE_LIMIT)
            return bad(m, "more than %d opcodes", PICKLE_OPCODE_LIMIT);
        if (count == 0 && *p != 0x80)
            return bad(m, "the pickle does not begin with PROTO");
        if (!opcodes[*p].run)
            return bad(m, "opcode %s (0x%02x) is not among those that a checkpoint may use",
                       opcodes[*p].name ? opcodes[*p].name : "without a name", *p);
        if ((rc = opcodes[*p].run(m, opcodes[*p].argument)))
            return rc;
    }
    return 0;
}

int unpickle(const uint8_t *bytes, size_t size, struct mem_arena *arena,
             const struct unpickle_host *host, struct pth_value **root)
{
    struct machine m = {.bytes = bytes, .size = size, .arena = arena, .host = host};
    int rc = size > PICKLE_LIMIT
                 ? err_set(ERR_INPUT, "data.pkl is %zu bytes long; up to %u are read", size,
                           PICKLE_LIMIT)
                 : run(&m);
    if (!rc && (rc = pickle_check(m.root)) && rc != -ERR_MEMORY)
        rc = err_add(-ERR_INPUT, "data.pkl");
    if (!rc)
        *root = m.root;
    mem_free(m.stack);
    mem_free(m.memo);
    return rc;
}
