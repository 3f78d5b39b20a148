#include "train/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"

enum { TEXT_IN_MESSAGE = 100 };

size_t pickle_element_size(enum pth_type type)
{
    static const size_t sizes[] = {
        [PTH_F32] = 4, [PTH_F16] = 2, [PTH_BF16] = 2, [PTH_I64] = 8, [PTH_I32] = 4, [PTH_U8] = 1};
    return sizes[type];
}

size_t pickle_utf8_step(const char *text, size_t left)
{
    const uint8_t *p = (const uint8_t *)text;
    if (!left)
        return 0;
    size_t length = *p < 0x80   ? 1
                    : *p < 0xc2 ? 0
                    : *p < 0xe0 ? 2
                    : *p < 0xf0 ? 3
                    : *p < 0xf5 ? 4
                                : 0;
    if (length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return length;
}

int pickle_escaped_byte(const char *text, size_t left)
{
    const uint8_t *p = (const uint8_t *)text;
    bool is_escape =
        left >= 3 && p[0] == 0xed && (p[1] == 0xb2 || p[1] == 0xb3) && (p[2] & 0xc0) == 0x80;
    return is_escape ? (p[1] & 3) << 6 | (p[2] & 0x3f) : -1;
}

bool pickle_is_utf8(const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t step = pickle_utf8_step(text + at, size - at);
        if (!step && pickle_escaped_byte(text + at, size - at) < 0)
            return false;
        at += step ? step : 3;
    }
    return true;
}

/* ---- trees ---- */

static bool is_dict(const struct pth_value *value)
{
    return value->kind == PTH_DICT || value->kind == PTH_ORDERED_DICT;
}

static int compare_keys(const void *a, const void *b)
{
    const struct pth_value *x = *(struct pth_value *const *)a, *y = *(struct pth_value *const *)b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->kind == PTH_INT)
        return (x->integer > y->integer) - (x->integer < y->integer);
    if (x->text_size != y->text_size)
        return x->text_size < y->text_size ? -1 : 1;
    return memcmp(x->text, y->text, x->text_size);
}

static int check_keys(const struct pth_value *dict)
{
    size_t count = dict->count / 2;
    struct pth_value **keys = mem_array(count, sizeof(void *), "dict keys");
    int rc = 0;
    if (!keys)
        return -ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        keys[i] = dict->items[2 * i];
    qsort(keys, count, sizeof(void *), compare_keys);
    for (size_t i = 1; i < count && !rc; i++) {
        char quoted[4 * TEXT_IN_MESSAGE];
        if (compare_keys(&keys[i - 1], &keys[i]) != 0)
            continue;
        if (keys[i]->kind == PTH_INT)
            rc = err_set(ERR_FAULT, "a dict with the key %lld twice", (long long)keys[i]->integer);
        else
            rc = err_set(ERR_FAULT, "a dict with the key \"%.*s\" twice", TEXT_IN_MESSAGE,
                         err_quote(quoted, sizeof quoted, keys[i]->text));
    }
    mem_free(keys);
    return rc;
}

/* Values may be shared, so a small pickle can stand for an endless or exploding tree: walk it
 * within a BUDGET. */
static int check_tree(const struct pth_value *value, bool foreign, int depth, size_t *budget)
{
    int rc = 0;
    if (!(*budget)--)
        return err_set(ERR_FAULT, "more than %d values", PICKLE_OPCODE_LIMIT);
    if ((int)value->kind > (foreign ? PTH_OPAQUE : PTH_TENSOR))
        return err_set(ERR_FAULT, "a bare global or storage as a value");
    if (value->count && depth == PICKLE_DEPTH_LIMIT)
        return err_set(ERR_FAULT, "nested deeper than %d levels", PICKLE_DEPTH_LIMIT);
    if (value->kind == PTH_TEXT && !pickle_is_utf8(value->text, value->text_size))
        return err_set(ERR_FAULT, "a text that is not UTF-8");
    if (value->kind == PTH_TENSOR && (value->tensor.rank < 0 || value->tensor.rank > 8))
        return err_set(ERR_FAULT, "a tensor of rank %d", value->tensor.rank);
    if (is_dict(value) && value->count && (rc = check_keys(value)))
        return rc;
    for (size_t i = 0; i < value->count && !rc; i++)
        rc = check_tree(value->items[i], foreign, depth + 1, budget);
    return rc;
}

int pickle_check(const struct pth_value *root, bool foreign)
{
    size_t budget = PICKLE_OPCODE_LIMIT;
    return check_tree(root, foreign, 0, &budget);
}

/* ---- writing ---- */

/* What is written by name; the texts are what the GLOBAL opcode takes. */
enum name {
    NAME_ORDERED_DICT,
    NAME_REBUILD,
    NAME_STORAGES,
    NAME_COUNT = NAME_STORAGES + PTH_U8 + 1
};
static const char *const names[NAME_COUNT] = {
    [NAME_ORDERED_DICT] = "collections\nOrderedDict\n",
    [NAME_REBUILD] = "torch._utils\n_rebuild_tensor_v2\n",
    [NAME_STORAGES + PTH_F32] = "torch\nFloatStorage\n",
    [NAME_STORAGES + PTH_F16] = "torch\nHalfStorage\n",
    [NAME_STORAGES + PTH_BF16] = "torch\nBFloat16Storage\n",
    [NAME_STORAGES + PTH_I64] = "torch\nLongStorage\n",
    [NAME_STORAGES + PTH_I32] = "torch\nIntStorage\n",
    [NAME_STORAGES + PTH_U8] = "torch\nByteStorage\n",
};

/* A text that stands in the memo already. */
struct slot {
    const char *text; /* borrowed from the tree; NULL: free */
    size_t size;
    uint32_t index;
};

struct writer {
    struct pickle *out;
    uint32_t memoized;
    bool named[NAME_COUNT];
    uint32_t name_index[NAME_COUNT];
    struct slot *slots;     /* open addressing by digest64 */
    size_t texts, capacity; /* capacity: a power of two, at least twice the texts */
};

static int append(struct writer *w, const void *bytes, size_t size)
{
    struct pickle *out = w->out;
    size_t total;
    if (!mem_sum(out->size, size, &total) || total > PICKLE_LIMIT)
        return err_set(ERR_FAULT, "a pickle longer than %u bytes", PICKLE_LIMIT);
    if (total > out->capacity) {
        size_t capacity = total + total / 2 + 4096;
        int rc = mem_grow((void **)&out->bytes, out->capacity, capacity, 1, "pickle");
        if (rc)
            return rc;
        out->capacity = capacity;
    }
    if (size)
        memcpy(out->bytes + out->size, bytes, size);
    out->size = total;
    return 0;
}

/* Opcodes without arguments, one a character. */
static int append_opcodes(struct writer *w, const char *opcodes)
{
    return append(w, opcodes, strlen(opcodes));
}

/* OPCODE and VALUE as a little-endian number of SIZE bytes. */
static int append_number(struct writer *w, uint8_t opcode, uint64_t value, size_t size)
{
    uint8_t bytes[9] = {opcode};
    for (size_t i = 0; i < size; i++)
        bytes[1 + i] = (uint8_t)(value >> 8 * i);
    return append(w, bytes, 1 + size);
}

static int append_integer(struct writer *w, int64_t value)
{
    uint8_t bytes[10] = {0x8a, 8}; /* LONG1 */
    if (value >= 0 && value <= 0xff)
        return append_number(w, 'K', (uint64_t)value, 1);
    if (value >= 0 && value <= 0xffff)
        return append_number(w, 'M', (uint64_t)value, 2);
    if (value >= INT32_MIN && value <= INT32_MAX)
        return append_number(w, 'J', (uint64_t)value, 4);
    for (int i = 0; i < 8; i++)
        bytes[2 + i] = (uint8_t)((uint64_t)value >> 8 * i);
    return append(w, bytes, sizeof bytes);
}

static int append_real(struct writer *w, double value)
{
    uint8_t bytes[9] = {'G'};
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; i++)
        bytes[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
    return append(w, bytes, sizeof bytes);
}

/* Put what was just written into the memo under the next index. */
static int append_put(struct writer *w)
{
    uint32_t index = w->memoized++;
    return append_number(w, index < 256 ? 'q' : 'r', index, index < 256 ? 1 : 4);
}

static int append_get(struct writer *w, uint32_t index)
{
    return append_number(w, index < 256 ? 'h' : 'j', index, index < 256 ? 1 : 4);
}

static int append_name(struct writer *w, enum name name)
{
    int rc;
    if (w->named[name])
        return append_get(w, w->name_index[name]);
    w->named[name] = true;
    w->name_index[name] = w->memoized;
    if ((rc = append_opcodes(w, "c")) || (rc = append(w, names[name], strlen(names[name]))))
        return rc;
    return append_put(w);
}

/* The text's place in the table: its own, or a free one. */
static struct slot *find_slot(const struct writer *w, const char *text, size_t size)
{
    size_t at = (size_t)digest64(text, size) & (w->capacity - 1);
    while (w->slots[at].text &&
           (w->slots[at].size != size || memcmp(w->slots[at].text, text, size) != 0))
        at = (at + 1) & (w->capacity - 1);
    return &w->slots[at];
}

static int grow_slots(struct writer *w)
{
    size_t old_capacity = w->capacity;
    struct slot *old = w->slots, *slots;
    size_t capacity = old_capacity ? old_capacity * 2 : 1024;
    if (!(slots = mem_array(capacity, sizeof *slots, "pickle memo")))
        return -ERR_MEMORY;
    w->slots = slots;
    w->capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].text)
            *find_slot(w, old[i].text, old[i].size) = old[i];
    mem_free(old);
    return 0;
}

static int append_text(struct writer *w, const char *text, size_t size)
{
    int rc = w->capacity < 2 * (w->texts + 1) ? grow_slots(w) : 0;
    if (rc)
        return rc;
    struct slot *slot = find_slot(w, text, size);
    if (slot->text)
        return append_get(w, slot->index);
    *slot = (struct slot){.text = text, .size = size, .index = w->memoized};
    w->texts++;
    if ((rc = append_number(w, 'X', size, 4)) || (rc = append(w, text, size)))
        return rc;
    return append_put(w);
}

/* SIZES as a tuple of ints. */
static int append_sizes(struct writer *w, const int64_t *sizes, int count)
{
    static const char *const tuples[] = {")", "\x85", "\x86", "\x87"};
    int rc = count > 3 ? append_opcodes(w, "(") : 0;
    for (int i = 0; i < count && !rc; i++)
        rc = append_integer(w, sizes[i]);
    return rc ? rc : append_opcodes(w, count > 3 ? "t" : tuples[count]);
}

/* _rebuild_tensor_v2((storage id), 0, shape, stride, False, OrderedDict()), as torch.save writes a
 * detached tensor. */
static int append_tensor(struct writer *w, const struct pth_value *value)
{
    struct pickle *out = w->out;
    int rank = value->tensor.rank, rc;
    int64_t stride[8], step = 1;
    char key[24];
    if (out->tensor_count == PICKLE_TENSOR_LIMIT)
        return err_set(ERR_FAULT, "more than %d tensors", PICKLE_TENSOR_LIMIT);
    if (out->tensor_count == out->tensor_capacity) {
        size_t capacity = out->tensor_capacity ? out->tensor_capacity * 2 : 256;
        if ((rc = mem_grow((void **)&out->tensors, out->tensor_capacity, capacity, sizeof(void *),
                           "list of tensors")))
            return rc;
        out->tensor_capacity = capacity;
    }
    for (int i = rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= value->tensor.shape[i] > 1 ? value->tensor.shape[i] : 1;
    }
    int key_size = snprintf(key, sizeof key, "%zu", out->tensor_count);
    out->tensors[out->tensor_count++] = value;
    if ((rc = append_name(w, NAME_REBUILD)) || (rc = append_opcodes(w, "((")) ||
        (rc = append_text(w, "storage", 7)) ||
        (rc = append_name(w, NAME_STORAGES + value->tensor.type)) ||
        (rc = append_number(w, 'X', (uint64_t)key_size, 4)) ||
        (rc = append(w, key, (size_t)key_size)) || (rc = append_text(w, "cpu", 3)) ||
        (rc = append_integer(w, (int64_t)value->tensor.count)) || (rc = append_opcodes(w, "tQK")) ||
        (rc = append(w, "", 1)) || (rc = append_sizes(w, value->tensor.shape, rank)) ||
        (rc = append_sizes(w, stride, rank)) || (rc = append_opcodes(w, "\x89")) ||
        (rc = append_name(w, NAME_ORDERED_DICT)))
        return rc;
    return append_opcodes(w, ")RtR");
}

static int append_value(struct writer *w, const struct pth_value *value);

static int append_items(struct writer *w, const struct pth_value *value)
{
    int rc = 0;
    for (size_t i = 0; i < value->count && !rc; i++)
        rc = append_value(w, value->items[i]);
    return rc;
}

/* OPEN makes the empty container, CLOSE takes its items from the mark. */
static int append_container(struct writer *w, const struct pth_value *value, const char *open,
                            const char *close)
{
    int rc = append_opcodes(w, open);
    if (rc || !value->count)
        return rc;
    if ((rc = append_opcodes(w, "(")) || (rc = append_items(w, value)))
        return rc;
    return append_opcodes(w, close);
}

static int append_value(struct writer *w, const struct pth_value *value)
{
    int rc;
    switch (value->kind) {
    case PTH_NONE:
        return append_opcodes(w, "N");
    case PTH_BOOL:
        return append_opcodes(w, value->boolean ? "\x88" : "\x89");
    case PTH_INT:
        return append_integer(w, value->integer);
    case PTH_REAL:
        return append_real(w, value->real);
    case PTH_TEXT:
        return append_text(w, value->text, value->text_size);
    case PTH_LIST:
        return append_container(w, value, "]", "e");
    case PTH_TUPLE:
        if (!value->count)
            return append_opcodes(w, ")");
        if ((rc = append_opcodes(w, "(")) || (rc = append_items(w, value)))
            return rc;
        return append_opcodes(w, "t");
    case PTH_DICT:
        return append_container(w, value, "}", "u");
    case PTH_ORDERED_DICT:
        if ((rc = append_name(w, NAME_ORDERED_DICT)))
            return rc;
        return append_container(w, value, ")R", "u");
    case PTH_OPAQUE:
        break;
    case PTH_TENSOR:
        return append_tensor(w, value);
    }
    return err_set(ERR_FAULT, "a value of kind %d", (int)value->kind);
}

int pickle_write(const struct pth_value *root, struct pickle *out)
{
    struct writer w = {.out = out};
    int rc = pickle_check(root, false);
    *out = (struct pickle){0};
    if (!rc && !(rc = append_opcodes(&w, "\x80\x02")) && !(rc = append_value(&w, root)))
        rc = append_opcodes(&w, ".");
    mem_free(w.slots);
    return rc;
}

void pickle_release(struct pickle *pickle)
{
    mem_free(pickle->bytes);
    mem_free(pickle->tensors);
    *pickle = (struct pickle){0};
}
