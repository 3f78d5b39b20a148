/*
 * Pickles: what pickle_write makes, unpickle reads; what others craft is refused with its place,
 * within bounds.
 */
#include "train/pickle.h"
#include "train/unpickle.h"

#include "common/rng.h"
#include "tests/test.h"

/* A host with storages of any name and 100 elements. */
static struct mem_arena arena;
static enum pth_type types[100];

static int any_storage(void *context, const char *key, enum pth_type type, uint64_t count,
                       size_t *index)
{
    (void)context;
    *index = (size_t)atoi(key) % 100;
    types[*index] = type;
    return count <= 100 ? 0 : err_set(ERR_INPUT, "storage %s is too small", key);
}

static int any_tensor(void *context, size_t index, uint64_t offset, int rank, const int64_t *shape,
                      const int64_t *stride, struct pth_value **out)
{
    static const double data[100];
    (void)context;
    (void)offset;
    (void)stride;
    *out = pth_tensor(&arena, types[index], rank, shape, data);
    return *out ? 0 : err_set(ERR_INPUT, "a shape too large");
}

static const struct unpickle_host host = {.storage = any_storage, .tensor = any_tensor};

static int read_pickle(const void *bytes, size_t size, struct pth_value **root)
{
    struct pth_value *value = NULL;
    int rc = unpickle(bytes, size, &arena, &host, &value);
    if (root)
        *root = value;
    return rc;
}

static uint64_t bits(double value)
{
    uint64_t out;
    memcpy(&out, &value, sizeof out);
    return out;
}

/* A is B, all the way down; tensors by type and shape only. */
static bool equal(const struct pth_value *a, const struct pth_value *b)
{
    if (!a || !b || a->kind != b->kind || a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!equal(a->items[i], b->items[i]))
            return false;
    switch (a->kind) {
    case PTH_BOOL:
        return a->boolean == b->boolean;
    case PTH_INT:
        return a->integer == b->integer;
    case PTH_REAL:
        return bits(a->real) == bits(b->real);
    case PTH_TEXT:
        return a->text_size == b->text_size && !memcmp(a->text, b->text, a->text_size);
    case PTH_TENSOR:
        return a->tensor.type == b->tensor.type && a->tensor.rank == b->tensor.rank &&
               !memcmp(a->tensor.shape, b->tensor.shape, (size_t)a->tensor.rank * 8);
    default:
        return true;
    }
}

/* A tree with every kind, ints at their borders, texts shared and many. */
static struct pth_value *make_tree(void)
{
    static const int64_t integers[] = {0,
                                       1,
                                       255,
                                       256,
                                       65535,
                                       65536,
                                       -1,
                                       INT32_MAX,
                                       INT32_MIN,
                                       (int64_t)INT32_MAX + 1,
                                       (int64_t)INT32_MIN - 1,
                                       INT64_MAX,
                                       INT64_MIN};
    static const double reals[] = {0.0, -0.0, 0.1, 1e300, -5e-324, INFINITY, NAN};
    static const int64_t shape[8] = {2, 3, 1, 0, 7, 1, 1, 4};
    struct mem_arena *a = &arena;
    struct pth_value *root = pth_dict(a, false), *list = pth_list(a), *tensors = pth_dict(a, true);
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        pth_append(a, list, pth_int(a, integers[i]));
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        pth_append(a, list, pth_real(a, reals[i]));
    pth_append(a, list, pth_none(a));
    pth_append(a, list, pth_bool(a, true));
    pth_append(a, list, pth_bool(a, false));
    pth_append(a, list, pth_text(a, ""));
    pth_append(a, list, pth_text(a, "Zürich \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x90\xa7"));
    pth_put(a, root, "list", list);
    for (int n = 0; n <= 5; n++) {
        struct pth_value *tuple = pth_tuple(a);
        for (int i = 0; i < n; i++)
            pth_append(a, tuple, pth_int(a, i));
        pth_append(a, list, tuple);
    }
    for (int rank = 0; rank <= 8; rank++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", rank);
        pth_put(a, tensors, name, pth_tensor(a, rank % 6, rank, shape, ""));
    }
    pth_put(a, root, "tensors", tensors);
    struct pth_value *many = pth_dict(a, false);
    for (int i = 0; i < 2000; i++) {
        char text[32];
        snprintf(text, sizeof text, "text %d", i % 1500);
        pth_put_int(a, many, i - 1000, pth_text(a, text));
    }
    pth_put(a, root, "many", many);
    pth_put(a, root, "empty list", pth_list(a));
    pth_put(a, root, "empty dict", pth_dict(a, false));
    pth_put(a, root, "empty ordered", pth_dict(a, true));
    return root;
}

static void test_round_trip(void)
{
    struct pth_value *tree = make_tree(), *back;
    struct pickle pickle, again;
    CHECK_INT(pickle_write(tree, &pickle), 0);
    CHECK_INT(pickle.tensor_count, 9);
    CHECK_INT(read_pickle(pickle.bytes, pickle.size, &back), 0);
    CHECK(equal(tree, back));
    CHECK_INT(pickle_write(back, &again), 0);
    CHECK(pickle.size == again.size && !memcmp(pickle.bytes, again.bytes, pickle.size));
    CHECK(pth_find(tree, "tensors") && !pth_find(tree, "tensor") && !pth_find(NULL, "tensors"));
    /* A shared text is written once. */
    CHECK(pickle.size < 2000 * 20 + 1000);
    pickle_release(&pickle);
    pickle_release(&again);
    mem_arena_release(&arena);
}

/* ---- what others write ---- */

#define BYTES(text) text, sizeof(text) - 1
#define P2 "\x80\x02"
#define ID                                                                                         \
    "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                            \
    "0X\3\0\0\0cpuKdtQ"
#define DICT_CLASS "ccollections\nOrderedDict\n"
#define TENSOR "ctorch._utils\n_rebuild_tensor_v2\n" ID

struct craft {
    const char *bytes;
    size_t size;
    const char *message; /* NULL: is read */
};

/* clang-format off */
static const struct craft crafts[] = {
  /* What torch.save writes in protocols 2 to 5. */
    {BYTES(P2 "}q\0."), NULL},
    {BYTES("\x80\x05\x95\1\0\0\0\0\0\0\0N."), NULL},
    {BYTES("\x80\x04\x8c\1a\x94."), NULL},
    {BYTES("\x80\x03}\x8c\1aK\1s."), NULL},
    {BYTES(P2 TENSOR "K\0K\2K\3\x86K\3K\1\x86\x89" DICT_CLASS ")RtR."), NULL},
    {BYTES(P2 "ctorch._utils\n_rebuild_parameter\n" TENSOR "K\0))\x89" DICT_CLASS
              ")RtR\x88" DICT_CLASS ")R\x87R."),
     NULL},
    {BYTES("\x80\x04\x8c\x0b"
           "collections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94."),
     NULL},
    {BYTES(P2 DICT_CLASS ")R}X\1\0\0\0aK\1sb."), NULL},
    {BYTES(P2 "U\2ab."), NULL},
    {BYTES(P2 "\x8a\0."), NULL},
    {BYTES(P2 "\x8a\2\xff\xff."), NULL},
    {BYTES(P2 "]q\1(h\1h\1e."), "nested deeper"},
    /* The frame. */
    {"", 0, "cut short"},
    {BYTES("N."), "does not begin with PROTO"},
    {BYTES("\x80\1N."), "protocol 1"},
    {BYTES("\x80\6N."), "protocol 6"},
    {BYTES(P2 P2 "N."), "byte 2: PROTO inside"},
    {BYTES(P2 "N"), "cut short"},
    {BYTES(P2 "."), "STOP with 0 values"},
    {BYTES(P2 "NN."), "STOP with 2 values"},
    {BYTES(P2 "N(."), "1 marks"},
    {BYTES(P2 "N.N"), "1 bytes behind STOP"},
    {BYTES(P2 "\x95\xff\xff\xff\xff\xff\xff\xff\xffN."), "a frame reaches behind"},
    /* Opcodes. */
    {BYTES(P2 "\0."), "opcode without a name (0x00)"},
    {BYTES(P2 "\xff."), "(0xff)"},
    {BYTES(P2 "(i"
              "os\nsystem\n."),
     "byte 3: opcode INST"},
    {BYTES(P2 "(o."), "opcode OBJ"},
    {BYTES(P2 ")\x81."), "opcode NEWOBJ"},
    {BYTES(P2 "\x82\1."), "opcode EXT1"},
    {BYTES(P2 "P0\n."), "opcode PERSID"},
    {BYTES(P2 "N2."), "opcode DUP"},
    {BYTES(P2 "I1\n."), "opcode INT"},
    {BYTES("\x80\3C\1x."), "opcode SHORT_BINBYTES"},
    {BYTES("\x80\4\x8f."), "opcode EMPTY_SET"},
    {BYTES("\x80\5\x96\xff\xff\xff\xff\xff\xff\xff\xff."), "opcode BYTEARRAY8"},
    {BYTES("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\x7f."), "opcode BINUNICODE8"},
    /* Globals. */
    {BYTES(P2 "cos\nsystem\nX\2\0\0\0id\x85R."), "byte 2: os.system is not among"},
    {BYTES(P2 "c__builtin__\neval\n."), "__builtin__.eval"},
    {BYTES(P2 "ccollections\nOrderedDict.clear\n."), "collections.OrderedDict.clear"},
    {BYTES(P2 "ctorch\nDoubleStorage\n."), "torch.DoubleStorage"},
    {BYTES(P2 "ca\\\x1b[31m\nb\n."), "a\\x5c\\x1b[31m.b"},
    {BYTES("\x80\4\x8c\2os\x8c\6system\x93."), "os.system"},
    {BYTES("\x80\4K\1\x8c\6system\x93."), "STACK_GLOBAL of something"},
    {BYTES("\x80\4\x8c\x0d"
           "collections\0x\x8c\x0bOrderedDict\x93."),
     "STACK_GLOBAL of something"},
    {BYTES("\x80\4\x8c\2os\x93."), "the stack holds 1 values where 2 are needed"},
    {BYTES(P2 "ccollections"), "not ended"},
    {BYTES(P2 "ccollections\nOrderedDict"), "not ended"},
    {BYTES(P2 "ctorch\nFloatStorage\n."), "a bare global or storage"},
    {BYTES(P2 DICT_CLASS "."), "a bare global or storage"},
    {BYTES(P2 DICT_CLASS "\x85."), "a bare global or storage"},
    {BYTES(P2 ID "."), "STOP with"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0X\3\0\0\0cpuKdtQ."),
     "a bare global or storage"},
    /* REDUCE and BUILD. */
    {BYTES(P2 "N)R."), "REDUCE of something that is not a known global"},
    {BYTES(P2 DICT_CLASS "NR."), "REDUCE of something"},
    {BYTES(P2 DICT_CLASS "N\x85R."), "OrderedDict with arguments"},
    {BYTES(P2 "ctorch\nFloatStorage\n)R."), "REDUCE of a storage's type"},
    {BYTES(P2 "ctorch._utils\n_rebuild_parameter\nN\x88N\x87R."),
     "_rebuild_parameter of something"},
    {BYTES(P2 "ctorch._utils\n_rebuild_tensor_v2\n)R."), "_rebuild_tensor_v2 with arguments"},
    {BYTES(P2 "}}b."), "BUILD of something"},
    {BYTES(P2 DICT_CLASS ")RNb."), "BUILD of something"},
    {BYTES(P2 "]}b."), "BUILD of something"},
    /* Persistent ids and tensors. */
    {BYTES(P2 "NQ."), "a persistent id that is not"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\2\0\0\0..X\3\0\0\0cpuKdtQ."),
     "a persistent id that is not"},
    {BYTES(P2 "(X\7\0\0\0storage" DICT_CLASS "X\1\0\0\0"
              "0X\3\0\0\0cpuKdtQ."),
     "a persistent id that is not"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0X\3\0\0\0cpuM\0\1tQ."),
     "storage 0 is too small"},
    {BYTES(P2 "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
              "0X\3\0\0\0cpuJ\xff\xff\xff\xfftQ."),
     "a persistent id that is not"},
    {BYTES(P2 TENSOR "J\xff\xff\xff\xff))\x89" DICT_CLASS ")RtR."), "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0K\2\x85)\x89" DICT_CLASS ")RtR."), "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0J\xff\xff\xff\xff\x85K\1\x85\x89" DICT_CLASS ")RtR."),
     "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0K\1\x85J\xff\xff\xff\xff\x85\x89" DICT_CLASS ")RtR."),
     "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t\x89" DICT_CLASS
                     ")RtR."),
     "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0))\x89]tR."), "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0))K\1" DICT_CLASS ")RtR."), "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0K\0K\0\x89" DICT_CLASS ")RtR."), "make no plain tensor"},
    {BYTES(P2 TENSOR "K\0\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\2\x86K\1K\1\x86\x89" DICT_CLASS
                     ")RtR."),
     "a shape too large"},
    /* Containers. */
    {BYTES(P2 "t."), "no mark"},
    {BYTES(P2 "e."), "no mark"},
    {BYTES(P2 "u."), "no mark"},
    {BYTES(P2 "(e."), "where 1 are needed"},
    {BYTES(P2 "(u."), "where 1 are needed"},
    {BYTES(P2 "](\x85."), "where 1 are needed"},
    {BYTES(P2 "\x87."), "the stack holds 0 values where 3 are needed"},
    {BYTES(P2 "}Na."), "APPEND to something"},
    {BYTES(P2 ")(Ne."), "APPENDS to something"},
    {BYTES(P2 "Na."), "the stack holds 1 values where 2 are needed"},
    {BYTES(P2 "]NNs."), "SETITEM on something"},
    {BYTES(P2 "](K\1Nu."), "SETITEMS on something"},
    {BYTES(P2 "}(K\1u."), "a key that has no value"},
    {BYTES(P2 "}NNs."), "a dict key that is neither"},
    {BYTES(P2 "}(]Nu."), "a dict key that is neither"},
    {BYTES(P2 "}(K\1NK\1Nu."), "the key 1 twice"},
    {BYTES(P2 "}X\1\0\0\0aNsX\1\0\0\0aNs."), "the key \"a\" twice"},
    {BYTES(P2 "}(K\1NX\1\0\0\0"
              "1Nu."),
     NULL},
    /* Memo. */
    {BYTES(P2 "h\0."), "memo 0 was never set"},
    {BYTES(P2 "Nq\1h\2."), "memo 2 was never set"},
    {BYTES(P2 "j\xff\xff\xff\xff."), "memo 4294967295 was never set"},
    {BYTES(P2 "Nr\xff\xff\xff\xff."), "memo index 4294967295"},
    {BYTES(P2 "q\0."), "where 1 are needed"},
    {BYTES(P2 "N(q\0."), "where 1 are needed"},
    {BYTES("\x80\4\x94."), "where 1 are needed"},
    {BYTES(P2 "]q\0h\0a."), "nested deeper than 64"},
    {BYTES(P2 "}q\0K\1h\0s."), "nested deeper than 64"},
    /* Numbers and texts. */
    {BYTES(P2 "\x8a\x09\0\0\0\0\0\0\0\0\1."), "an integer of 9 bytes"},
    {BYTES(P2 "\x8a\xff."), "an integer of 255 bytes"},
    {BYTES(P2 "J\1\2\3"), "cut short (1 bytes"},
    {BYTES(P2 "G\0\0\0\0\0\0\0"), "cut short"},
    {BYTES(P2 "X\xff\xff\xff\xff"
              "ab."),
     "cut short"},
    {BYTES(P2 "X\1\0\0\0\xff."), "not UTF-8"},
    {BYTES(P2 "X\2\0\0\0\xc0\x80."), "not UTF-8"},
    {BYTES(P2 "X\3\0\0\0\xed\xa0\x80."), "not UTF-8"},
    {BYTES(P2 "X\3\0\0\0\xed\xb1\xbf."), "not UTF-8"},
    {BYTES(P2 "X\3\0\0\0\xed\xb2\x80."), NULL},
    {BYTES(P2 "X\3\0\0\0\xed\xb3\xbf."), NULL},
    {BYTES(P2 "X\2\0\0\0\xed\xb2."), "not UTF-8"},
    {BYTES(P2 "X\4\0\0\0\xf4\x90\x80\x80."), "not UTF-8"},
    {BYTES(P2 "X\1\0\0\0\xe6."), "not UTF-8"},
};
/* clang-format on */

static void test_crafted(void)
{
    for (size_t i = 0; i < sizeof crafts / sizeof *crafts; i++) {
        const struct craft *craft = &crafts[i];
        /* A copy of its own, so that a sanitizer sees a read behind it. */
        uint8_t *bytes = mem_array(craft->size, 1, "pickle");
        memcpy(bytes, craft->bytes, craft->size);
        int before = test_failures;
        CHECK_INT(read_pickle(bytes, craft->size, NULL), craft->message ? -ERR_INPUT : 0);
        if (craft->message) {
            CHECK_HAS(err_text(), craft->message);
            CHECK_HAS(err_text(), "data.pkl");
        }
        if (test_failures != before)
            printf("... in craft %zu\n", i);
        mem_free(bytes);
        mem_arena_release(&arena);
    }
}

/* Bytes that COUNT repetitions of PART make, between HEAD and TAIL. */
static uint8_t *repeat(const char *head, size_t head_size, const char *part, size_t part_size,
                       size_t count, const char *tail, size_t *size)
{
    size_t tail_size = strlen(tail);
    uint8_t *bytes = mem_array(head_size + part_size * count + tail_size + 1, 1, "pickle");
    uint8_t *p = bytes;
    memcpy(p, head, head_size);
    p += head_size;
    for (size_t i = 0; i < count; i++, p += part_size)
        memcpy(p, part, part_size);
    memcpy(p, tail, tail_size + 1);
    *size = head_size + part_size * count + tail_size;
    return bytes;
}

static void check_repeat(const char *head, size_t head_size, const char *part, size_t part_size,
                         size_t count, const char *tail, const char *message)
{
    size_t size;
    uint8_t *bytes = repeat(head, head_size, part, part_size, count, tail, &size);
    int rc = read_pickle(bytes, size, NULL);
    CHECK_INT(rc, message ? -ERR_INPUT : 0);
    if (message)
        CHECK_HAS(err_text(), message);
    mem_free(bytes);
    mem_arena_release(&arena);
}

static void test_limits(void)
{
    /* Nesting: a list in a list in a list ... */
    check_repeat(BYTES(P2), BYTES("(]"), 0, "N.", NULL);
    for (size_t depth = 63; depth <= 66; depth++) {
        size_t size;
        uint8_t *lists = repeat(BYTES(P2), "]", 1, depth, "", &size);
        uint8_t *bytes = mem_array(size + depth + 1, 1, "pickle");
        memcpy(bytes, lists, size);
        memset(bytes + size, 'a', depth - 1);
        bytes[size + depth - 1] = '.';
        CHECK_INT(read_pickle(bytes, size + depth, NULL), depth <= 65 ? 0 : -ERR_INPUT);
        mem_free(lists);
        mem_free(bytes);
        mem_arena_release(&arena);
    }
    check_repeat(BYTES(P2), "(", 1, 300, "t.", "more than 256 open marks");
    check_repeat(BYTES(P2), "(", 1, 1000000, "t.", "more than 256 open marks");
    check_repeat(BYTES(P2), "]", 1, 1000000, ".", "STOP with 1000000 values");
    /* Opcodes: 4 M are read, with PROTO, NONE and STOP. */
    check_repeat(BYTES(P2 "N"), "q\0", 2, PICKLE_OPCODE_LIMIT - 3, ".", NULL);
    check_repeat(BYTES(P2 "N"), "q\0", 2, PICKLE_OPCODE_LIMIT - 2, ".",
                 "more than 4000000 opcodes");
    /* Ten references to a list of ten references to a list ... */
    check_repeat(BYTES(P2 "]q\0"), BYTES("](h\0h\0h\0h\0h\0h\0h\0h\0h\0h\0eq\0\x85\x85q\0"), 12,
                 ".", "STOP with");
    check_repeat(BYTES(P2 "(]q\0"), BYTES("](h\0h\0h\0h\0h\0h\0h\0h\0h\0h\0eq\0"), 12, "t.",
                 "more than 4000000 values");
    /* Tensors. */
    check_repeat(BYTES(P2 "("), BYTES(TENSOR "K\0))\x89" DICT_CLASS ")RtR"), 65536, "t.", NULL);
    check_repeat(BYTES(P2 "("), BYTES(TENSOR "K\0))\x89" DICT_CLASS ")RtR"), 65537, "t.",
                 "more than 65536 tensors");
    /* Bytes. */
    uint8_t byte = 0;
    CHECK_INT(read_pickle(&byte, (size_t)PICKLE_LIMIT + 1, NULL), -ERR_INPUT);
    CHECK_HAS(err_text(), "up to 67108864 are read");
}

/* Cuts and changes of a good pickle: an error or another tree, never harm. */
static void test_mutants(void)
{
    struct pickle pickle;
    size_t refused = 0;
    CHECK_INT(pickle_write(make_tree(), &pickle), 0);
    mem_arena_release(&arena);
    /* The interesting opcodes are at both ends; the long middle is texts. */
    size_t head = 1200, tail = 60;
    uint8_t *bytes = mem_array(pickle.size, 1, "pickle");
    for (size_t cut = 0; cut < pickle.size; cut += cut < head ? 1 : 97) {
        uint8_t *part = mem_array(cut, 1, "pickle");
        memcpy(part, pickle.bytes, cut);
        CHECK_INT(read_pickle(part, cut, NULL), -ERR_INPUT);
        mem_free(part);
        mem_arena_release(&arena);
    }
    for (uint64_t i = 0; i < 20000; i++) {
        struct rng random;
        rng_init(&random, 2, RNG_TEST, 0, i);
        size_t size = head + tail;
        memcpy(bytes, pickle.bytes, head);
        memcpy(bytes + head, pickle.bytes + pickle.size - tail, tail);
        for (uint64_t n = 1 + rng_below(&random, 3); n-- > 0;) {
            static const char opcodes[] = ".N(]})te\x85\x86su\x94qrhjcQRb\x93\x80XKJ\x8a";
            uint8_t *at = &bytes[rng_below(&random, size)];
            *at = rng_below(&random, 2) ? (uint8_t)opcodes[rng_below(&random, sizeof opcodes - 1)]
                                        : (uint8_t)rng_u32(&random);
        }
        int rc = read_pickle(bytes, size, NULL);
        CHECK(rc == 0 || rc == -ERR_INPUT);
        refused += rc != 0;
        mem_arena_release(&arena);
    }
    CHECK(refused > 10000);
    mem_free(bytes);
    pickle_release(&pickle);
}

static void check_unwritable(struct pth_value *root, const char *message)
{
    struct pickle pickle;
    CHECK_INT(pickle_write(root, &pickle), -ERR_FAULT);
    CHECK_HAS(err_text(), message);
    pickle_release(&pickle);
}

static void test_writer_errors(void)
{
    struct mem_arena *a = &arena;
    struct pth_value *self = pth_list(a), *dict = pth_dict(a, false);
    check_unwritable(pth_text(a, "\xff"), "not UTF-8");
    pth_append(a, self, self);
    check_unwritable(self, "nested deeper");
    pth_append(a, pth_append(a, dict, pth_text(a, "k")), pth_none(a));
    pth_append(a, pth_append(a, dict, pth_text(a, "k")), pth_none(a));
    check_unwritable(dict, "\"k\" twice");
    /* pth_put replaces instead. */
    dict = pth_dict(a, false);
    pth_put(a, pth_put(a, dict, "k", pth_int(a, 1)), "k", pth_int(a, 2));
    CHECK(dict->count == 2 && pth_find(dict, "k")->integer == 2);
    CHECK(!pth_append(a, NULL, pth_none(a)) && !pth_append(a, self, NULL) &&
          !pth_put(a, dict, "x", NULL));
    const int64_t negative = -1, large[3] = {INT64_MAX, INT64_MAX, 2};
    CHECK(!pth_tensor(a, PTH_F32, 1, &negative, NULL));
    CHECK(!pth_tensor(a, PTH_U8, 3, large, NULL));
    CHECK(!pth_tensor(a, PTH_U8, 9, large, NULL));
    mem_arena_release(a);
}

static const struct test tests[] = {
    {"round_trip",    test_round_trip   },
    {"crafted",       test_crafted      },
    {"limits",        test_limits       },
    {"mutants",       test_mutants      },
    {"writer_errors", test_writer_errors},
};
TEST_MAIN(tests)
