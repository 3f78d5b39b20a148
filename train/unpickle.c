#include "train/unpickle.h"

#include <stdlib.h>

#include "train/unpickle_machine.h"

/* ---- plain values ---- */

static int run_proto(struct machine *m, int unused)
{
    (void)unused;
    uint64_t version;
    int rc = machine_number(m, 1, &version);
    if (!rc && m->opcode_at != 0)
        rc = machine_bad(m, "PROTO inside the pickle");
    if (!rc && (version < 2 || version > 5))
        rc = machine_bad(m, "pickle protocol %u; 2 to 5 are read", (unsigned)version);
    return rc;
}

static int run_frame(struct machine *m, int unused)
{
    (void)unused;
    uint64_t size;
    int rc = machine_number(m, 8, &size);
    if (!rc && size > m->size - m->at)
        rc = machine_bad(m, "a frame reaches behind the pickle");
    return rc;
}

static int run_stop(struct machine *m, int unused)
{
    (void)unused;
    if (m->mark_count || m->count != 1)
        return machine_bad(m, "STOP with %zu values and %zu marks on the stack", m->count,
                           m->mark_count);
    if (m->at != m->size && !m->more)
        return machine_bad(m, "%zu bytes behind STOP", m->size - m->at);
    m->root = m->stack[0];
    return 0;
}

/* An empty container or a plain constant: a value of KIND that needs no bytes. */
static int run_constant(struct machine *m, int kind)
{
    return machine_push(m, machine_value(m, (enum pth_kind)kind, 0));
}

static int run_true(struct machine *m, int unused)
{
    (void)unused;
    return machine_push(m, machine_value(m, PTH_BOOL, 1));
}

/* An int of SIZE bytes, negative size: with a sign. */
static int run_int(struct machine *m, int signed_size)
{
    bool is_signed = signed_size < 0;
    size_t size = (size_t)abs(signed_size);
    uint64_t bits;
    int rc = machine_number(m, size, &bits);
    if (rc)
        return rc;
    if (is_signed && size && size < 8 && bits >> (8 * size - 1))
        bits |= UINT64_MAX << 8 * size;
    return machine_push(m, machine_value(m, PTH_INT, (int64_t)bits));
}

/* Pass over SIZE bytes; WHAT stands for them. */
static int skip(struct machine *m, uint64_t size, const char *what)
{
    const uint8_t *p;
    int rc = size > m->size ? machine_bad(m, "%s of %llu bytes", what, (unsigned long long)size)
                            : machine_take(m, (size_t)size, &p);
    return rc ? rc : machine_push(m, unpickle_opaque(m, what));
}

static int run_long1(struct machine *m, int unused)
{
    (void)unused;
    uint64_t size;
    int rc = machine_number(m, 1, &size);
    if (!rc && size > 8 && m->host->foreign)
        return skip(m, size, "int");
    if (!rc && size > 8)
        rc = machine_bad(m, "an integer of %u bytes; up to 8 are read", (unsigned)size);
    return rc ? rc : run_int(m, -(int)size);
}

/* Bytes behind their length in LENGTH_BYTES bytes, which nobody needs. */
static int run_bytes(struct machine *m, int length_bytes)
{
    uint64_t size;
    int rc = machine_number(m, (size_t)length_bytes, &size);
    return rc ? rc : skip(m, size, "bytes");
}

/* A value of a kind that needs no more than its name. */
static int run_set(struct machine *m, int unused)
{
    (void)unused;
    return machine_push(m, unpickle_opaque(m, "set"));
}

static int run_float(struct machine *m, int unused)
{
    (void)unused;
    const uint8_t *p;
    uint64_t bits = 0;
    int rc = machine_take(m, 8, &p);
    if (rc)
        return rc;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    struct pth_value *value = machine_value(m, PTH_REAL, 0);
    if (value)
        memcpy(&value->real, &bits, sizeof bits);
    return machine_push(m, value);
}

/* A text behind its length in LENGTH_BYTES bytes. */
static int run_text(struct machine *m, int length_bytes)
{
    uint64_t size;
    const uint8_t *p;
    int rc = machine_number(m, (size_t)length_bytes, &size);
    if (rc || (rc = machine_take(m, (size_t)size, &p)))
        return rc;
    if (m->host->foreign && !pickle_is_utf8((const char *)p, (size_t)size))
        return machine_push(m, unpickle_opaque(m, "text"));
    if (!pickle_is_utf8((const char *)p, (size_t)size))
        return machine_bad(m, "a text that is not UTF-8");
    struct pth_value *value = machine_value(m, PTH_TEXT, 0);
    if (!value || !(value->text = mem_arena_text(m->arena, (const char *)p, (size_t)size)))
        return -ERR_MEMORY;
    value->text_size = (size_t)size;
    return machine_push(m, value);
}

/* ---- containers ---- */

static int run_mark(struct machine *m, int unused)
{
    (void)unused;
    if (m->mark_count == MARK_LIMIT)
        return machine_bad(m, "more than %d open marks", MARK_LIMIT);
    m->marks[m->mark_count++] = m->count;
    return 0;
}

/* Replace the last COUNT values by a tuple of them. */
static int make_tuple(struct machine *m, size_t count)
{
    struct pth_value *tuple = machine_value(m, PTH_TUPLE, 0);
    if (!tuple || !(tuple->items = mem_arena_alloc(m->arena, count * sizeof(void *), "tuple")))
        return -ERR_MEMORY;
    m->count -= count;
    if (count)
        memcpy(tuple->items, m->stack + m->count, count * sizeof(void *));
    tuple->count = tuple->capacity = count;
    return machine_push(m, tuple);
}

static int run_tuple(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = machine_pop_mark(m, &first, &count);
    return rc ? rc : make_tuple(m, count);
}

static int run_short_tuple(struct machine *m, int count)
{
    int rc = machine_need(m, (size_t)count);
    return rc ? rc : make_tuple(m, (size_t)count);
}

/* A dict's key that we keep. */
static bool is_key(const struct pth_value *value)
{
    return value->kind == PTH_TEXT || value->kind == PTH_INT;
}

/* Add COUNT items (keys and values in turn for a dict) to CONTAINER; an opaque one takes anything.
 */
static int extend(struct machine *m, struct pth_value *container, struct pth_value **items,
                  size_t count)
{
    size_t step = machine_is_dict(container) ? 2 : 1;
    if (container->kind == PTH_OPAQUE)
        return 0;
    for (size_t i = 0; i < count; i += step) {
        if (step == 2 && !is_key(items[i])) {
            if (m->host->foreign)
                continue;
            return machine_bad(m, "a dict key that is neither text nor int");
        }
        for (size_t k = i; k < i + step; k++)
            if (!pth_append(m->arena, container, items[k]))
                return -ERR_MEMORY;
    }
    return 0;
}

/* VALUE takes what a list or, with DICT, a dict takes. */
static bool takes(const struct pth_value *value, bool dict)
{
    return value->kind == PTH_OPAQUE || (dict ? machine_is_dict(value) : value->kind == PTH_LIST);
}

static int run_append(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 2);
    if (rc)
        return rc;
    struct pth_value *item = machine_pop(m);
    if (!takes(machine_top(m), false))
        return machine_bad(m, "APPEND to something that is not a list");
    return extend(m, machine_top(m), &item, 1);
}

static int run_appends(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = machine_pop_mark(m, &first, &count);
    if (rc)
        return rc;
    m->count -= count;
    if ((rc = machine_need(m, 1)))
        return rc;
    if (!takes(machine_top(m), false))
        return machine_bad(m, "APPENDS to something that is not a list");
    return extend(m, machine_top(m), first, count);
}

static int run_setitem(struct machine *m, int unused)
{
    (void)unused;
    int rc = machine_need(m, 3);
    if (rc)
        return rc;
    m->count -= 2;
    if (!takes(machine_top(m), true))
        return machine_bad(m, "SETITEM on something that is not a dict");
    return extend(m, machine_top(m), m->stack + m->count, 2);
}

static int run_setitems(struct machine *m, int unused)
{
    (void)unused;
    struct pth_value **first;
    size_t count;
    int rc = machine_pop_mark(m, &first, &count);
    if (rc)
        return rc;
    m->count -= count;
    if ((rc = machine_need(m, 1)))
        return rc;
    if (!takes(machine_top(m), true))
        return machine_bad(m, "SETITEMS on something that is not a dict");
    if (count % 2)
        return machine_bad(m, "SETITEMS with a key that has no value");
    return extend(m, machine_top(m), first, count);
}

/* Items into a set: nobody needs them. */
static int run_additems(struct machine *m, int frozen)
{
    struct pth_value **first;
    size_t count;
    int rc = machine_pop_mark(m, &first, &count);
    if (rc)
        return rc;
    m->count -= count;
    if (frozen)
        return run_set(m, 0);
    if ((rc = machine_need(m, 1)))
        return rc;
    return machine_top(m)->kind == PTH_OPAQUE
               ? 0
               : machine_bad(m, "ADDITEMS to something that is not a set");
}

/* ---- memo ---- */

static int remember(struct machine *m, uint64_t index)
{
    int rc = machine_need(m, 1);
    if (rc)
        return rc;
    if (index >= PICKLE_OPCODE_LIMIT)
        return machine_bad(m, "memo index %llu", (unsigned long long)index);
    if (index >= m->memo_capacity) {
        size_t capacity = (size_t)index + 256 + (size_t)index / 2;
        if ((rc = mem_grow((void **)&m->memo, m->memo_capacity, capacity, sizeof(void *),
                           "pickle memo")))
            return rc;
        m->memo_capacity = capacity;
    }
    if (!m->memo[index])
        m->memoized++;
    m->memo[index] = machine_top(m);
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
    int rc = machine_number(m, (size_t)size, &index);
    return rc ? rc : remember(m, index);
}

static int run_get(struct machine *m, int size)
{
    uint64_t index;
    int rc = machine_number(m, (size_t)size, &index);
    if (rc)
        return rc;
    if (index >= m->memo_capacity || !m->memo[index])
        return machine_bad(m, "memo %llu was never set", (unsigned long long)index);
    return machine_push(m, m->memo[index]);
}

/* ---- dispatch ---- */

/* Opcodes without a function are known and refused; those without a name are unknown. */
static const struct {
    const char *name;
    int (*run)(struct machine *m, int argument);
    int argument;
    bool foreign; /* only in files of other programs */
} opcodes[256] = {
  /* clang-format off */
    [0x80] = {"PROTO", run_proto, 0, false},
    [0x95] = {"FRAME", run_frame, 0, false},
    ['.'] = {"STOP", run_stop, 0, false},
    ['N'] = {"NONE", run_constant, PTH_NONE, false},
    [0x88] = {"NEWTRUE", run_true, 0, false},
    [0x89] = {"NEWFALSE", run_constant, PTH_BOOL, false},
    ['K'] = {"BININT1", run_int, 1, false},
    ['M'] = {"BININT2", run_int, 2, false},
    ['J'] = {"BININT", run_int, -4, false},
    [0x8a] = {"LONG1", run_long1, 0, false},
    ['G'] = {"BINFLOAT", run_float, 0, false},
    ['X'] = {"BINUNICODE", run_text, 4, false},
    [0x8c] = {"SHORT_BINUNICODE", run_text, 1, false},
    ['U'] = {"SHORT_BINSTRING", run_text, 1, false},
    ['('] = {"MARK", run_mark, 0, false},
    [']'] = {"EMPTY_LIST", run_constant, PTH_LIST, false},
    ['}'] = {"EMPTY_DICT", run_constant, PTH_DICT, false},
    [')'] = {"EMPTY_TUPLE", run_constant, PTH_TUPLE, false},
    ['t'] = {"TUPLE", run_tuple, 0, false},
    [0x85] = {"TUPLE1", run_short_tuple, 1, false},
    [0x86] = {"TUPLE2", run_short_tuple, 2, false},
    [0x87] = {"TUPLE3", run_short_tuple, 3, false},
    ['a'] = {"APPEND", run_append, 0, false},
    ['e'] = {"APPENDS", run_appends, 0, false},
    ['s'] = {"SETITEM", run_setitem, 0, false},
    ['u'] = {"SETITEMS", run_setitems, 0, false},
    [0x94] = {"MEMOIZE", run_memoize, 0, false},
    ['q'] = {"BINPUT", run_put, 1, false},
    ['r'] = {"LONG_BINPUT", run_put, 4, false},
    ['h'] = {"BINGET", run_get, 1, false},
    ['j'] = {"LONG_BINGET", run_get, 4, false},
    ['c'] = {"GLOBAL", unpickle_global, 0, false},
    [0x93] = {"STACK_GLOBAL", unpickle_stack_global, 0, false},
    ['Q'] = {"BINPERSID", unpickle_persistent_id, 0, false},
    ['R'] = {"REDUCE", unpickle_reduce, 0, false},
    ['b'] = {"BUILD", unpickle_build, 0, false},
    ['i'] = {"INST", NULL, 0, false},
    ['o'] = {"OBJ", NULL, 0, false},
    [0x81] = {"NEWOBJ", unpickle_new_object, 2, true},
    [0x92] = {"NEWOBJ_EX", unpickle_new_object, 3, true},
    [0x82] = {"EXT1", NULL, 0, false},
    [0x83] = {"EXT2", NULL, 0, false},
    [0x84] = {"EXT4", NULL, 0, false},
    ['P'] = {"PERSID", NULL, 0, false},
    ['I'] = {"INT", NULL, 0, false},
    ['L'] = {"LONG", NULL, 0, false},
    [0x8b] = {"LONG4", run_bytes, 4, true},
    ['B'] = {"BINBYTES", run_bytes, 4, true},
    ['C'] = {"SHORT_BINBYTES", run_bytes, 1, true},
    [0x8e] = {"BINBYTES8", run_bytes, 8, true},
    [0x96] = {"BYTEARRAY8", run_bytes, 8, true},
    [0x8d] = {"BINUNICODE8", run_text, 8, true},
    ['T'] = {"BINSTRING", run_text, 4, true},
    [0x8f] = {"EMPTY_SET", run_set, 0, true},
    [0x90] = {"ADDITEMS", run_additems, 0, true},
    [0x91] = {"FROZENSET", run_additems, 1, true},
    ['0'] = {"POP", NULL, 0, false},
    ['1'] = {"POP_MARK", NULL, 0, false},
    ['2'] = {"DUP", NULL, 0, false},
  /* clang-format on */
};

static int run(struct machine *m)
{
    for (size_t count = 0; !m->root; count++) {
        const uint8_t *p;
        m->opcode_at = m->at;
        int rc = machine_take(m, 1, &p);
        if (rc)
            return rc;
        if (count == PICKLE_OPCODE_LIMIT)
            return machine_bad(m, "more than %d opcodes", PICKLE_OPCODE_LIMIT);
        if (count == 0 && *p != 0x80)
            return machine_bad(m, "the pickle does not begin with PROTO");
        if (!opcodes[*p].run || (opcodes[*p].foreign && !m->host->foreign))
            return machine_bad(m, "opcode %s (0x%02x) is not among those that a checkpoint may use",
                               opcodes[*p].name ? opcodes[*p].name : "without a name", *p);
        if ((rc = opcodes[*p].run(m, opcodes[*p].argument)))
            return rc;
    }
    return 0;
}

static int read(struct machine *m, struct pth_value **root)
{
    const char *part = m->host->part ? m->host->part : "data.pkl";
    int rc = run(m);
    if (!rc && (rc = pickle_check(m->root, m->host->foreign)) && rc != -ERR_MEMORY)
        rc = err_add(-ERR_INPUT, "%s", part);
    if (!rc)
        *root = m->root;
    mem_free(m->stack);
    mem_free(m->memo);
    return rc;
}

int unpickle(const uint8_t *bytes, size_t size, struct mem_arena *arena,
             const struct unpickle_host *host, struct pth_value **root)
{
    struct machine m = {.bytes = bytes, .size = size, .arena = arena, .host = host};
    if (size > PICKLE_LIMIT)
        return err_set(ERR_INPUT, "data.pkl is %zu bytes long; up to %u are read", size,
                       PICKLE_LIMIT);
    return read(&m, root);
}

int unpickle_part(const uint8_t *bytes, size_t size, struct mem_arena *arena,
                  const struct unpickle_host *host, struct pth_value **root, size_t *used)
{
    struct machine m = {.bytes = bytes, .arena = arena, .host = host, .more = true};
    m.size = size < PICKLE_LIMIT ? size : PICKLE_LIMIT;
    int rc = read(&m, root);
    *used = m.at;
    return rc;
}
