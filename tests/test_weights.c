/*
 * Weights from files of all kinds, and what begins a run from them. With --steps FILE CLASSES SIZE:
 * goes on from a checkpoint, of ours or of PyTorch's, for five updates on pictures that are a
 * formula, and prints the losses (for tests/test_torch_weights.sh).
 */
#include "tests/test.h"

#include "common/files.h"
#include "common/mem.h"
#include "common/sha256.h"
#include "train/checkpoint.h"
#include "train/import.h"
#include "train/inference.h"
#include "train/published.h"
#include "train/safetensors.h"
#include "train/weights.h"

enum { CLASSES = 3, BATCH = 8 };

static const char *path_of(const char *name)
{
    static char path[FILES_PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static struct model *open_model(const char *arch, int classes, int batch, int size)
{
    const struct model_settings wish = {
        .arch = arch, .classes = classes, .batch = batch, .image_size = size};
    struct model *model;
    CHECK_INT(model_open(&model, &wish), 0);
    return model;
}

/* A ResNet-18's state dict in ARENA, as TYPE, with PREFIX before each name; values are small whole
 * numbers over 256, exact in every type. */
static struct pth_value *make_state(struct mem_arena *a, enum pth_type type, const char *prefix)
{
    struct model *model = open_model("resnet18", CLASSES, 1, 32);
    struct pth_value *state = pth_dict(a, true);
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        char name[100];
        float *data = mem_arena_alloc(a, p->count * 4, "test data");
        uint16_t *halves = (uint16_t *)data;
        for (size_t k = 0; k < p->count; k++) {
            float value = (float)((k * 7 + i) % 15 + 1) / 256;
            uint32_t bits;
            memcpy(&bits, &value, 4);
            if (type == PTH_F32)
                data[k] = value;
            else /* f16: exponent and three bits of the fraction are enough here */
                halves[k] = type == PTH_BF16
                                ? (uint16_t)(bits >> 16)
                                : (uint16_t)(((bits >> 23) - 112) << 10 | (bits >> 13 & 1023));
        }
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        pth_put(a, state, name, pth_tensor(a, type, p->rank, p->shape, data));
    }
    model_close(model);
    return state;
}

static struct pth_value *nest(struct mem_arena *a, const char *key, struct pth_value *value)
{
    return pth_put(a, pth_put(a, pth_dict(a, false), "epoch", pth_int(a, 3)), key, value);
}

/* FILE reads as make_state made it. */
static void check_file(const char *path)
{
    struct weights *w;
    CHECK_INT(weights_open(&w, path, NULL), 0);
    if (!w)
        return;
    CHECK_TEXT(w->arch, "resnet18");
    CHECK_INT(w->classes, CLASSES);
    CHECK(!w->ours && !w->class_names);
    struct model *model = open_model("resnet18", CLASSES, 1, 32);
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        const struct weights_tensor *t = weights_find(w, p->name);
        size_t wrong = 0;
        for (size_t k = 0; t && k < p->count; k++)
            wrong += t->value[k] != (float)((k * 7 + i) % 15 + 1) / 256;
        CHECK(t && wrong == 0);
    }
    model_close(model);
    weights_close(w);
}

static void found_wherever_it_stands(void)
{
    static const char *const keys[] = {"model", "state_dict", "model_ema", NULL};
    static const enum pth_type types[] = {PTH_F32, PTH_F16, PTH_BF16};
    static const char *const prefixes[] = {"", "module.", "_orig_mod.", "module._orig_mod."};
    struct mem_arena a = {0};
    for (size_t i = 0; i < 4; i++) {
        struct pth_value *state = make_state(&a, types[i % 3], prefixes[i]);
        for (int k = 0; k < 4; k++) {
            if (i > 1 && k != (int)i)
                continue;
            CHECK_INT(
                pth_write(path_of("state.pth"), "x", keys[k] ? nest(&a, keys[k], state) : state),
                0);
            check_file(path_of("state.pth"));
        }
    }
    CHECK_INT(pth_write(path_of("deep.pth"), "x",
                        nest(&a, "state_dict", nest(&a, "model", make_state(&a, PTH_F32, "")))),
              0);
    check_file(path_of("deep.pth"));
    mem_arena_release(&a);
}

static void write_safetensors(struct mem_arena *a, const struct pth_value *state, const char *path)
{
    const char *names[200];
    const struct pth_value *tensors[200];
    size_t count = 0;
    for (size_t i = 0; i + 1 < state->count && count < 200; i += 2, count++) {
        names[count] = state->items[i]->text;
        tensors[count] = state->items[i + 1];
    }
    struct pth_value *metadata = pth_put(a, pth_dict(a, false), "format", pth_text(a, "pt"));
    CHECK_INT(safetensors_write(path, names, tensors, count, metadata), 0);
}

static void safetensors_come_back(void)
{
    struct mem_arena a = {0};
    write_safetensors(&a, make_state(&a, PTH_BF16, ""), path_of("state.safetensors"));
    check_file(path_of("state.safetensors"));
    mem_arena_release(&a);
}

/* ROOT is refused with RC, and the error has PART. */
static void refused(const struct pth_value *root, int rc, const char *part, const char *arch)
{
    struct weights *w;
    CHECK_INT(pth_write(path_of("bad.pth"), "x", root), 0);
    CHECK_INT(weights_open(&w, path_of("bad.pth"), arch), rc);
    CHECK(!w);
    CHECK_HAS(err_text(), part);
}

static void what_does_not_fit_is_refused(void)
{
    struct mem_arena a = {0};
    struct pth_value *state = make_state(&a, PTH_F32, "");
    refused(state, -ERR_MISMATCH, "holds a resnet18, not a resnet50", "resnet50");
    refused(pth_dict(&a, false), -ERR_MISMATCH, "without a state dict", NULL);
    float *data = (float *)pth_find(state, "layer2.0.bn1.running_var")->tensor.data;
    float kept = data[1];
    data[1] = NAN;
    refused(state, -ERR_INPUT, "layer2.0.bn1.running_var holds nan at element 1", NULL);
    data[1] = kept;
    struct pth_value *more = make_state(&a, PTH_F32, "");
    pth_put(&a, more, "extra", pth_find(state, "bn1.bias") ? pth_real(&a, 1) : NULL);
    refused(more, -ERR_MISMATCH, "extra is not a tensor", NULL);
    struct pth_value *wrong = make_state(&a, PTH_F32, "");
    const int64_t turned[2] = {512, CLASSES};
    pth_put(&a, wrong, "fc.weight",
            pth_tensor(&a, PTH_F32, 2, turned, pth_find(state, "fc.weight")->tensor.data));
    pth_put(&a, wrong, "unknown.weight",
            pth_tensor(&a, PTH_F32, 1, turned + 1, kept ? data : NULL));
    refused(wrong, -ERR_MISMATCH, "3 tensors differ",
            NULL); /* fc.weight, fc.bias and unknown.weight */
    struct pth_value *cut = make_state(&a, PTH_F32, "");
    cut->items[0] = pth_text(&a, "conv0.weight");
    refused(cut, -ERR_MISMATCH, "2 tensors differ", NULL);
    struct pth_value *small = make_state(&a, PTH_F32, "layer9.");
    refused(small, -ERR_MISMATCH, "not a ResNet-18", NULL);
    mem_arena_release(&a);
}

/* ---- safetensors' rules ---- */

static void header_refused(const char *header, size_t data, const char *part)
{
    struct safetensors *file;
    const struct pth_value *root;
    FILE *out = fopen(path_of("bad.safetensors"), "wb");
    uint64_t length = strlen(header);
    fwrite(&length, 8, 1, out);
    fputs(header, out);
    for (size_t i = 0; i < data; i++)
        fputc(0, out);
    fclose(out);
    int rc = safetensors_open(&file, path_of("bad.safetensors"), &root);
    CHECK_INT(rc, part ? -ERR_INPUT : 0);
    if (part)
        CHECK_HAS(err_text(), part);
    safetensors_close(file);
}

static void safetensors_are_read_strictly(void)
{
#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
    header_refused("{" A "}", 8, NULL);
    header_refused("{}", 0, NULL);
    header_refused("{" A "}   ", 8, NULL);
    header_refused("{" A "}", 9, "belong to no tensor");
    header_refused("{" A "}", 7, "do not lie within");
    header_refused("{" A "," A "}", 8, "duplicate");
    header_refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
                   "begin at 4");
    header_refused("{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[9,13]}}", 13,
                   "begin at 9");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
                   "takes 12");
    header_refused("{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
                   "unknown dtype");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8,
                   "shape");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8,
                   "its entry");
    header_refused(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,4],\"data_offsets\":[0,8]}}", 8,
        "does not fit");
    header_refused("{\"__metadata__\":{\"k\":1}}", 0, "not a text");
    header_refused("[]", 0, "does not begin with {");
    header_refused("{\"a\":", 0, "header, byte");
    header_refused("{\"\xff\":1}", 0, "header, byte");
#undef A
}

static void hashes(void)
{
    struct sha256 sha;
    char text[65];
    sha256_init(&sha);
    sha256_add(&sha, "abc", 3);
    sha256_value(&sha, text);
    CHECK_TEXT(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_init(&sha);
    for (int i = 0; i < 1000000; i += 8)
        sha256_add(&sha, "aaaaaaaa", 8);
    sha256_value(&sha, text);
    CHECK_TEXT(text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    CHECK_TEXT(published_find("394f9c45aa")->arch, "resnet152");
    CHECK(!published_find("cdc76e5c"));
    CHECK_TEXT(published_first("resnet50")->hash, "0676ba61");
}

/* ---- five steps from a checkpoint ---- */

static void set_ours(struct net *net, const struct model *model, const struct checkpoint *c)
{
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        const struct checkpoint_tensor *tensor = checkpoint_find(c, p->name);
        CHECK_INT(net_set(net, NET_VALUE, p, tensor->value), 0);
        if (tensor->momentum)
            CHECK_INT(net_set(net, NET_MOMENTUM, p, tensor->momentum), 0);
    }
}

/* Foreign files must come from SGD with the defaults of train and these classes. */
static void set_foreign(struct net *net, const struct model *model, const char *path, int classes)
{
    struct dataset_class *table = mem_array((size_t)classes, sizeof *table, "classes");
    struct manifest data = {.classes = table, .class_count = (size_t)classes};
    struct settings settings;
    struct position position;
    struct weights *w;
    opts_defaults(settings_command.rows, &settings);
    for (int i = 0; i < classes; i++)
        table[i].name = "unknown";
    CHECK_INT(weights_open(&w, path, "resnet18"), 0);
    if (w)
        CHECK_INT(import_resume(net, model, w, &settings, &data, 10, &position), 0);
    CHECK_INT(position.epoch, 4);
    weights_close(w);
    mem_free(table);
}

static int take_steps(const char *path, int classes, int size)
{
    struct checkpoint_file *file = NULL;
    const struct checkpoint *ours = NULL;
    struct model *model = open_model("resnet18", classes, BATCH, size);
    const struct device_settings device_wish = {.threads = 2};
    const struct net_settings net_wish = {.training = true};
    const struct backend *backend;
    struct device *device;
    struct net *net;
    uint8_t *pixels = mem_array((size_t)BATCH * size * size * 3, 1, "pixels");
    int32_t labels[BATCH];
    uint64_t records[BATCH] = {0};
    CHECK_INT(backend_open("auto", &device_wish, &backend, &device), 0);
    CHECK_INT(net_open(&net, backend, device, model, &net_wish), 0);
    if (checkpoint_open(&file, path, &ours) == 0)
        set_ours(net, model, ours);
    else
        set_foreign(net, model, path, classes);
    for (int step = 0; step < 5 && !test_failures; step++) {
        for (int i = 0; i < BATCH * size * size * 3; i++) {
            int c = i % 3, x = i / 3 % size, y = i / 3 / size % size, k = i / 3 / size / size;
            pixels[i] = (uint8_t)((x * x * (k + 1) + y * y * (9 - k) + x * y * c) / 64 % 160 +
                                  (int64_t)i * 7919 % 64 + step * 5);
        }
        for (int i = 0; i < BATCH; i++)
            labels[i] = i % classes;
        const struct batch batch = {
            .rows = BATCH, .size = size, .pixels = pixels, .labels = labels, .records = records};
        const struct sgd sgd = {.lr = 0.0001,
                                .momentum = 0.9,
                                .weight_decay = 1e-4,
                                .gradient_scale = 1,
                                .decay_norm = true};
        struct loss_result result = {0};
        CHECK_INT(net_train(net, &batch, &sgd, &result), 0);
        printf("%.9g\n", result.loss);
    }
    net_close(net);
    backend->close(device);
    model_close(model);
    checkpoint_close(file);
    mem_free(pixels);
    return test_failures ? 1 : 0;
}

static const struct test tests[] = {
    {"found_wherever_it_stands",      found_wherever_it_stands     },
    {"safetensors_come_back",         safetensors_come_back        },
    {"what_does_not_fit_is_refused",  what_does_not_fit_is_refused },
    {"safetensors_are_read_strictly", safetensors_are_read_strictly},
    {"hashes",                        hashes                       },
};

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "--steps"))
        return take_steps(argv[2], atoi(argv[3]), atoi(argv[4]));
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
