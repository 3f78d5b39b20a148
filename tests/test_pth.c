/*
 * PyTorch files: trees of values and tensors written and read back; views, entries and sizes that
 * do not fit refused; every cut and change of a file noticed. With arguments it serves the scripts
 * beside it: test_pth --write FILE     write a file that holds every kind of value test_pth --print
 * FILE     print what a file holds, one line (tests/tools/pth_reader.py prints the same)
 *     test_pth --digest FILE    print the digest of what it holds
 */
#include "train/pth.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/files.h"
#include "tests/test.h"
#include "train/zip_writer.h"

static const char *place(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

/* ---- printing ---- */

static void print_hex(FILE *out, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        fprintf(out, "%02x", ((const uint8_t *)bytes)[i]);
}

static void print_tensor(FILE *out, const struct pth_value *value)
{
    static const char *const types[] = {"f32", "f16", "bf16", "i64", "i32", "u8"};
    static const size_t sizes[] = {4, 2, 2, 8, 4, 1};
    fprintf(out, "%s[", types[value->tensor.type]);
    for (int i = 0; i < value->tensor.rank; i++)
        fprintf(out, "%s%" PRId64, i ? "," : "", value->tensor.shape[i]);
    fprintf(out, "]=");
    print_hex(out, value->tensor.data, value->tensor.count * sizes[value->tensor.type]);
}

static void print_value(FILE *out, const struct pth_value *value)
{
    static const char *const open[] = {
        [PTH_LIST] = "[", [PTH_TUPLE] = "(", [PTH_DICT] = "{", [PTH_ORDERED_DICT] = "<"};
    static const char *const close[] = {
        [PTH_LIST] = "]", [PTH_TUPLE] = ")", [PTH_DICT] = "}", [PTH_ORDERED_DICT] = ">"};
    uint64_t bits;
    switch (value->kind) {
    case PTH_NONE:
        fprintf(out, "none");
        break;
    case PTH_BOOL:
        fprintf(out, "%s", value->boolean ? "true" : "false");
        break;
    case PTH_INT:
        fprintf(out, "%" PRId64, value->integer);
        break;
    case PTH_REAL:
        memcpy(&bits, &value->real, sizeof bits);
        fprintf(out, "r%016" PRIx64, bits);
        break;
    case PTH_TEXT:
        fprintf(out, "t");
        print_hex(out, value->text, value->text_size);
        break;
    case PTH_TENSOR:
        print_tensor(out, value);
        break;
    default:
        fprintf(out, "%s", open[value->kind]);
        for (size_t i = 0; i < value->count; i++) {
            print_value(out, value->items[i]);
            fprintf(out, " ");
        }
        fprintf(out, "%s", close[value->kind]);
    }
}

static char *print_text(const struct pth_value *value)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    print_value(out, value);
    fclose(out);
    return text;
}

/* ---- a tree with everything ---- */

static float numbers[24];
static int64_t longs[3] = {INT64_MIN, -1, INT64_MAX};
static uint16_t halves[4] = {0x3c00, 0xc000, 0x7bff, 0x0001};
static int32_t ints[2] = {INT32_MIN, 7};
static uint8_t octets[5] = {0, 1, 127, 128, 255};

static struct pth_value *make_tree(struct mem_arena *a)
{
    static const int64_t cube[4] = {2, 3, 2, 2}, three = 3, four = 4, two = 2, five = 5;
    static const int64_t none[2] = {0, 5};
    for (int i = 0; i < 24; i++)
        numbers[i] = (float)i * 0.25f - 3;
    struct pth_value *root = pth_dict(a, false), *model = pth_dict(a, true), *list = pth_list(a),
                     *tuple = pth_tuple(a), *state = pth_dict(a, false);
    pth_put(a, model, "conv.weight", pth_tensor(a, PTH_F32, 4, cube, numbers));
    pth_put(a, model, "scalar", pth_tensor(a, PTH_I64, 0, NULL, &longs[2]));
    pth_put(a, model, "longs", pth_tensor(a, PTH_I64, 1, &three, longs));
    pth_put(a, model, "halves", pth_tensor(a, PTH_F16, 1, &four, halves));
    pth_put(a, model, "bfloats", pth_tensor(a, PTH_BF16, 1, &four, halves));
    pth_put(a, model, "ints", pth_tensor(a, PTH_I32, 1, &two, ints));
    pth_put(a, model, "octets", pth_tensor(a, PTH_U8, 1, &five, octets));
    pth_put(a, model, "nothing", pth_tensor(a, PTH_F32, 2, none, NULL));
    pth_put(a, root, "model", model);
    pth_put(a, root, "epoch", pth_int(a, 7));
    pth_put(a, root, "negative", pth_int(a, -70000));
    pth_put(a, root, "large", pth_int(a, INT64_MIN));
    pth_put(a, root, "rate", pth_real(a, 0.1));
    pth_put(a, root, "none", pth_none(a));
    pth_put(a, root, "yes", pth_bool(a, true));
    pth_put(a, root, "words", pth_text(a, "na\xc3\xafve, model"));
    pth_append(a, tuple, pth_int(a, 1));
    pth_append(a, tuple, pth_text(a, "model"));
    pth_append(a, list, tuple);
    pth_append(a, list, pth_tuple(a));
    pth_append(a, list, pth_list(a));
    pth_append(a, list, pth_dict(a, false));
    pth_put(a, root, "list", list);
    pth_put_int(a, state, 0, pth_tensor(a, PTH_F32, 1, &three, numbers + 1));
    pth_put_int(a, state, 300, pth_bool(a, false));
    pth_put(a, root, "state", state);
    return root;
}

static void write_tree(const char *path)
{
    struct mem_arena arena = {0};
    CHECK_INT(pth_write(path, "checkpoint", make_tree(&arena)), 0);
    mem_arena_release(&arena);
}

/* ---- cases ---- */

static void test_round_trip(void)
{
    struct mem_arena arena = {0};
    struct pth_value *tree = make_tree(&arena);
    const struct pth_value *back;
    struct pth_file *file;
    uint8_t *first, *second;
    size_t size, again;
    CHECK_INT(pth_write(place("all.pth"), "checkpoint", tree), 0);
    CHECK_INT(pth_open(&file, place("all.pth"), &back), 0);
    char *expected = print_text(tree), *actual = back ? print_text(back) : NULL;
    CHECK_TEXT(actual, expected);
    const struct pth_value *weight = pth_find(pth_find(back, "model"), "conv.weight");
    CHECK(weight && (uintptr_t)weight->tensor.data % 64 == 0);
    /* What was read makes the same bytes again; the name of the file is not in it. */
    CHECK_INT(pth_write(place("again.pth"), "checkpoint", back), 0);
    CHECK_INT(files_read(place("all.pth"), 1 << 20, &first, &size), 0);
    CHECK_INT(files_read(place("again.pth"), 1 << 20, &second, &again), 0);
    CHECK(size == again && !memcmp(first, second, size));
    free(expected);
    free(actual);
    mem_free(first);
    mem_free(second);
    pth_close(file);
    mem_arena_release(&arena);
}

static void test_digest(void)
{
    struct mem_arena arena = {0};
    struct pth_value *tree = make_tree(&arena);
    const struct pth_value *back;
    struct pth_file *file;
    char memory[33], loaded[33], streamed[33], changed[33];
    CHECK_INT(pth_digest(NULL, tree, memory), 0);
    write_tree(place("all.pth"));
    CHECK_INT(pth_open(&file, place("all.pth"), &back), 0);
    CHECK_INT(pth_digest(NULL, back, loaded), 0);
    CHECK_TEXT(loaded, memory);
    pth_close(file);
    CHECK_INT(pth_open_outline(&file, place("all.pth"), &back), 0);
    CHECK(pth_find(pth_find(back, "model"), "longs")->tensor.data == NULL);
    CHECK_INT(pth_digest(file, back, streamed), 0);
    CHECK_TEXT(streamed, memory);
    pth_close(file);
    /* Every part of a tree counts: data, shape, type, key, order of keys. */
    numbers[23] += 1;
    CHECK_INT(pth_digest(NULL, tree, changed), 0);
    CHECK(strcmp(changed, memory) != 0);
    numbers[23] -= 1;
    struct pth_value *tensor = tree->items[1]->items[1];
    tensor->tensor.shape[0] = 3;
    tensor->tensor.shape[1] = 2;
    CHECK_INT(pth_digest(NULL, tree, changed), 0);
    CHECK(strcmp(changed, memory) != 0);
    tensor->tensor.shape[0] = 2;
    tensor->tensor.shape[1] = 3;
    CHECK_INT(pth_digest(NULL, tree, changed), 0);
    CHECK_TEXT(changed, memory);
    struct pth_value *key = tree->items[2];
    tree->items[2] = tree->items[4];
    tree->items[4] = key;
    CHECK_INT(pth_digest(NULL, tree, changed), 0);
    CHECK(strcmp(changed, memory) != 0);
    mem_arena_release(&arena);
}

/* The two ways to read a file's bytes: all in memory, and streamed. 0 when both accept them. */
static int read_both(const char *path)
{
    const struct pth_value *root;
    struct pth_file *file;
    char digest[33];
    int whole = pth_open(&file, path, &root), streamed;
    pth_close(file);
    if (!(streamed = pth_open_outline(&file, path, &root)))
        streamed = pth_digest(file, root, digest);
    pth_close(file);
    CHECK_INT(streamed, whole);
    return whole;
}

static void test_damage(void)
{
    uint8_t *bytes;
    size_t size;
    write_tree(place("all.pth"));
    CHECK_INT(read_both(place("all.pth")), 0);
    CHECK_INT(files_read(place("all.pth"), 1 << 20, &bytes, &size), 0);
    for (size_t i = 0; i < size; i++) {
        FILE *file = fopen(place("damaged.pth"), "wb");
        bytes[i] ^= (uint8_t)(1 << i % 8);
        CHECK(file && fwrite(bytes, 1, size, file) == size);
        bytes[i] ^= (uint8_t)(1 << i % 8);
        fclose(file);
        if (read_both(place("damaged.pth")) != -ERR_INPUT) {
            printf("a changed byte %zu of %zu is not refused\n", i, size);
            test_failures++;
        }
        CHECK_INT(truncate(place("damaged.pth"), (off_t)i), 0);
        if (read_both(place("damaged.pth")) != -ERR_INPUT) {
            printf("a cut to %zu of %zu bytes is not refused\n", i, size);
            test_failures++;
        }
    }
    mem_free(bytes);
}

/* ---- archives of other contents ---- */

struct part {
    const char *name, *bytes;
    size_t size;
};

#define PART(name, text)                                                                           \
    {                                                                                              \
        name, text, sizeof(text) - 1                                                               \
    }
#define MARKS PART("byteorder", "little"), PART("version", "3\n")
#define TENSOR(storage, count, rest)                                                               \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n" storage "\nX\1\0\0\0"          \
    "0X\3\0\0\0cpu" count "tQ" rest "\x89"                                                         \
    "ccollections\nOrderedDict\n)RtR"
#define FLOATS(count, rest) PART("data.pkl", "\x80\x02" TENSOR("FloatStorage", count, rest) ".")
#define DATA16 PART("data/0", "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40") /* 1 2 3 4 */

struct archive {
    struct part parts[5];
    const char *expected; /* what is printed, or what the error holds */
    bool good;
};

/* clang-format off */
static const struct archive archives[] = {
  /* Views. */
    {{FLOATS("K\4", "K\0K\4\x85K\1\x85"), DATA16, MARKS},
     "f32[4]=0000803f000000400000404000008040", true },
    {{FLOATS("K\4", "K\1K\2\x85K\1\x85"), DATA16, MARKS}, "f32[2]=0000004000004040", true },
    {{FLOATS("K\4", "K\0K\2K\2\x86K\1K\2\x86"), DATA16, MARKS},
     "f32[2,2]=0000803f000040400000004000008040", true },
    {{FLOATS("K\4", "K\3K\2K\3\x86K\0K\0\x86"), DATA16, MARKS},
     "f32[2,3]=000080400000804000008040000080400000804000008040", true },
    {{FLOATS("K\4", "K\0K\2\x85K\2\x85"), DATA16, MARKS}, "f32[2]=0000803f00004040", true },
    {{FLOATS("K\4", "K\2))"), DATA16, MARKS}, "f32[]=00004040", true },
    {{FLOATS("K\4", "K\4K\0\x85K\1\x85"), DATA16, MARKS}, "f32[0]=", true },
    {{FLOATS("K\4", "K\0K\1K\4\x86M\xff\xffK\1\x86"), DATA16, MARKS},
     "f32[1,4]=0000803f000000400000404000008040", true },
    {{FLOATS("K\0", "K\0K\0\x85K\1\x85"), PART("data/0", ""), MARKS}, "f32[0]=", true },
    {{FLOATS("K\4", "K\4K\1\x85K\1\x85"), DATA16, MARKS}, "outside its storage of 4", false},
    {{FLOATS("K\4", "K\5K\0\x85K\1\x85"), DATA16, MARKS}, "outside its storage", false},
    {{FLOATS("K\4", "K\1K\4\x85K\1\x85"), DATA16, MARKS}, "outside its storage", false},
    {{FLOATS("K\4", "K\0K\2\x85K\4\x85"), DATA16, MARKS}, "outside its storage", false},
    {{FLOATS("K\4", "K\0K\2\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"), DATA16, MARKS},
     "outside its storage", false},
    {{FLOATS("K\4", "K\0K\3K\3\x86\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff"
                    "\xff\xff\xff\xff\x7f\x86"),
      DATA16, MARKS},
     "outside its storage", false},
    {{FLOATS("K\4", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\2\x85K\1\x85"), DATA16, MARKS},
     "outside its storage", false},
    {{FLOATS("K\4", "K\0\x8a\x08\0\0\0\0\0\0\0\x40\x85K\0\x85"), DATA16, MARKS},
     "outside its storage", false},
    {{FLOATS("K\4", "K\0K\5\x85\x8a\x08\0\0\0\0\0\0\0\x40\x85"), DATA16, MARKS},
     "outside its storage",
     false},
    /* A trillion elements out of one. */
    {{FLOATS("K\4", "K\0\x8a\x06\0\0\0\0\0\1\x85K\0\x85"), DATA16, MARKS},
     "more than 4 times the file's size", false},
    /* Storages. */
    {{FLOATS("K\5", "K\0))"), DATA16, MARKS}, "data/0 has 16 bytes, not 5 elements of 4", false},
    {{FLOATS("\x8a\x08\1\0\0\0\0\0\0\x40", "K\0))"), DATA16, MARKS}, "data/0 has 16 bytes", false},
    {{PART("data.pkl", "\x80\x02" TENSOR("ByteStorage", "K\4", "K\0))") "."), DATA16, MARKS},
     "not 4 elements of 1", false},
    {{FLOATS("K\4", "K\0))"), MARKS}, "there is no entry data/0", false},
    {{PART("data.pkl", "\x80\x02]" TENSOR("FloatStorage", "K\4",
                                          "K\0))") "a" TENSOR("IntStorage", "K\4", "K\0))") "a."),
      DATA16, MARKS},
     "data/0 is used as two types", false},
    {{PART("data.pkl", "\x80\x02N."), DATA16, MARKS}, "\"data/0\" is used by no tensor", false},
    /* Entries. */
    {{MARKS}, "not PyTorch's: it has no data.pkl", false},
    {{PART("data.pkl", "\x80\x02N."), PART("version", "3\n")}, "none", true },
    {{PART("data.pkl", "\x80\x02N."), PART("byteorder", "little")}, "version is \"\"", false},
    {{PART("data.pkl", "\x80\x02N."), PART("version", "11\n")}, "version is \"11", false},
    {{PART("data.pkl", "\x80\x02N."), PART("version", "3\n4")}, "version is \"3", false},
    {{PART("data.pkl", "\x80\x02N."), PART("version", "3\n"), PART("byteorder", "big")},
     "only little is read", false},
    {{PART("data.pkl", "\x80\x02N."), MARKS, PART(".format_version", "1"),
      PART(".storage_alignment", "64")},
     "none", true },
    {{PART("data.pkl", "\x80\x02N."), MARKS, PART("constants.pkl", "")},
     "is a TorchScript archive", false},
    {{PART("data.pkl", "\x80\x02N."), MARKS, PART("../evil", "")},
     "entry \"../evil\" is not one that torch.save writes", false},
    {{PART("data.pkl", "\x80\x02"
                       "cos\nsystem\n."),
      MARKS},
     "crafted.pth: data.pkl, byte 2: os.system", false},
};
/* clang-format on */

static int write_parts(const struct part *parts)
{
    struct zip_writer *zip;
    int rc = zip_writer_open(&zip, place("crafted.pth"), "archive");
    for (int i = 0; i < 5 && parts[i].name && !rc; i++)
        rc = zip_writer_add(zip, parts[i].name, parts[i].bytes, parts[i].size);
    return rc ? rc : zip_writer_publish(zip);
}

static void test_archives(void)
{
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        const struct archive *archive = &archives[i];
        const struct pth_value *root;
        struct pth_file *file;
        int before = test_failures;
        CHECK_INT(write_parts(archive->parts), 0);
        CHECK_INT(pth_open(&file, place("crafted.pth"), &root), archive->good ? 0 : -ERR_INPUT);
        if (archive->good && root) {
            char *text = print_text(root);
            CHECK_TEXT(text, archive->expected);
            free(text);
        } else {
            CHECK_HAS(err_text(), archive->expected);
            CHECK_HAS(err_text(), "crafted.pth");
        }
        pth_close(file);
        if (test_failures != before)
            printf("... in archive %zu\n", i);
    }
}

/* An outline streams whole storages only; a part of one is none of ours. */
static void test_outline_of_views(void)
{
    static const struct part parts[5] = {FLOATS("K\4", "K\1K\2\x85K\1\x85"), DATA16, MARKS};
    const struct pth_value *root;
    struct pth_file *file;
    char digest[33];
    CHECK_INT(write_parts(parts), 0);
    CHECK_INT(pth_open_outline(&file, place("crafted.pth"), &root), 0);
    CHECK_INT(pth_digest(file, root, digest), -ERR_INPUT);
    CHECK_HAS(err_text(), "not the whole of its storage");
    pth_close(file);
}

/* A file that cannot be written leaves the old one, and nothing else. */
static void test_no_space(void)
{
    uint8_t *before, *after;
    size_t size, again;
    static float large[1 << 16];
    static const int64_t shape = 1 << 16;
    write_tree(place("all.pth"));
    CHECK_INT(files_read(place("all.pth"), 1 << 20, &before, &size), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {100000, 100000};
        struct mem_arena arena = {0};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        int rc = pth_write(place("all.pth"), "checkpoint",
                           pth_tensor(&arena, PTH_F32, 1, &shape, large));
        _exit(-rc);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ERR_IO);
    CHECK_INT(files_read(place("all.pth"), 1 << 20, &after, &again), 0);
    CHECK(size == again && !memcmp(before, after, size));
    CHECK(access(place(".all.pth.partial"), F_OK) != 0);
    mem_free(before);
    mem_free(after);
}

/* The example of data-spec/50-checkpoint.md: its lines "offset: bytes" are what is written. */
static void test_example(void)
{
    struct mem_arena arena = {0};
    static const float weight[2] = {1, -2};
    static const int64_t shape = 2;
    struct pth_value *model = pth_dict(&arena, true), *root = pth_dict(&arena, false);
    char line[400], digest[33], expected[80];
    uint8_t *bytes;
    size_t size, at = 0;
    bool digest_seen = false;
    pth_put(&arena, model, "w", pth_tensor(&arena, PTH_F32, 1, &shape, weight));
    pth_put(&arena, pth_put(&arena, root, "model", model), "epoch", pth_int(&arena, 3));
    CHECK_INT(pth_write(place("example.pth"), "checkpoint", root), 0);
    CHECK_INT(pth_digest(NULL, root, digest), 0);
    CHECK_INT(files_read(place("example.pth"), 1 << 20, &bytes, &size), 0);
    FILE *file = fopen(TEST_SOURCE "/data-spec/50-checkpoint.md", "r");
    CHECK(file != NULL);
    snprintf(expected, sizeof expected, "digest of the example: `%s`", digest);
    while (file && fgets(line, sizeof line, file)) {
        unsigned offset;
        int used = 0;
        digest_seen = digest_seen || strstr(line, expected);
        if (sscanf(line, "    %4x: %n", &offset, &used) != 1 || !used)
            continue;
        CHECK_INT(offset, at);
        for (const char *p = line + used; isxdigit(p[0]) && isxdigit(p[1]); p += *p == ' ') {
            unsigned byte = (unsigned)strtoul((char[]){p[0], p[1], 0}, NULL, 16);
            if (at < size && byte != bytes[at]) {
                printf("byte %zu is %02x, in the document %02x\n", at, bytes[at], byte);
                test_failures++;
            }
            at++;
            p += 2;
        }
    }
    CHECK_INT(at, size);
    if (!digest_seen)
        printf("the document lacks \"%s\"\n", expected);
    CHECK(digest_seen);
    if (file)
        fclose(file);
    mem_free(bytes);
    mem_arena_release(&arena);
}

static const struct test tests[] = {
    {"round_trip", test_round_trip      },
    {"digest",     test_digest          },
    {"damage",     test_damage          },
    {"archives",   test_archives        },
    {"outline",    test_outline_of_views},
    {"no_space",   test_no_space        },
    {"example",    test_example         },
};

static int print_digest(const char *path)
{
    const struct pth_value *root;
    struct pth_file *file;
    char digest[33];
    int rc = pth_open(&file, path, &root);
    if (!rc && !(rc = pth_digest(NULL, root, digest)))
        printf("%s\n", digest);
    else
        fprintf(stderr, "%s\n", err_text());
    pth_close(file);
    return err_exit_code(rc);
}

/* What a file holds on standard output, or the error on standard error. */
static int print_file(const char *path)
{
    const struct pth_value *root;
    struct pth_file *file;
    int rc = pth_open(&file, path, &root);
    if (rc) {
        fprintf(stderr, "%s\n", err_text());
        return err_exit_code(rc);
    }
    print_value(stdout, root);
    printf("\n");
    pth_close(file);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--print"))
        return print_file(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "--digest"))
        return print_digest(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "--write")) {
        write_tree(argv[2]);
        return test_failures;
    }
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
