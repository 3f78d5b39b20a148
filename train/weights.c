#include "train/weights.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/imagenet_classes.h"
#include "train/pth_stream.h"
#include "train/safetensors.h"

enum { NEST_LIMIT = 4, STAGES = 4, HEAD_BYTES = 64 };

struct open_weights {
    struct weights weights; /* first */
    char quoted[FILES_PATH_SIZE];
    struct pth_file *pth;
    struct pth_stream *stream;
    struct safetensors *safetensors;
    struct mem_arena arena;
};

/* ---- opening ---- */

/* The first bytes of PATH. */
static int read_head(const char *path, const char *quoted, uint8_t head[HEAD_BYTES], size_t *size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return err_errno("cannot open %s", quoted);
    ssize_t got = pread(file, head, HEAD_BYTES, 0);
    int rc = got < 0 ? err_errno("cannot read %s", quoted) : 0;
    *size = got < 0 ? 0 : (size_t)got;
    close(file);
    return rc;
}

static int open_file(struct open_weights *w, const char *path)
{
    uint8_t head[HEAD_BYTES] = {0};
    size_t size = 0;
    int rc = read_head(path, w->quoted, head, &size);
    if (rc)
        return rc;
    if (pth_stream_begins(head, size)) {
        w->weights.format = "a PyTorch file from before version 1.6";
        return pth_stream_open(&w->stream, path, &w->weights.root);
    }
    if (size > 8 && head[8] == '{') {
        w->weights.format = "a safetensors file";
        return safetensors_open(&w->safetensors, path, &w->weights.root);
    }
    w->weights.format = "a PyTorch file";
    return pth_open_foreign(&w->pth, path, &w->weights.root);
}

/* ---- the state dict ---- */

static bool is_dict(const struct pth_value *value)
{
    return value && (value->kind == PTH_DICT || value->kind == PTH_ORDERED_DICT);
}

static bool holds_tensors(const struct pth_value *dict)
{
    for (size_t i = 0; is_dict(dict) && i + 1 < dict->count; i += 2)
        if (dict->items[i]->kind == PTH_TEXT && dict->items[i + 1]->kind == PTH_TENSOR &&
            dict->items[i + 1]->tensor.rank == 4)
            return true;
    return false;
}

/* The dict of tensors inside VALUE, under the names that trainers give it. */
static const struct pth_value *find_state(const struct pth_value *value, int depth)
{
    static const char *const keys[] = {
        "model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema", "net", "network"};
    if (holds_tensors(value))
        return value;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && depth < NEST_LIMIT; i++) {
        const struct pth_value *found = find_state(pth_find(value, keys[i]), depth + 1);
        if (found)
            return found;
    }
    return NULL;
}

/* NAME without what DistributedDataParallel and torch.compile put in front. */
static const char *strip(const char *name)
{
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    for (int i = 0; i < 2; i++)
        if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
            return strip(name + strlen(prefixes[i]));
    return name;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && !strcmp(text + length - end_length, end);
}

/* What a network does not need: counters. */
static bool is_counter(const char *name)
{
    return ends_with(name, ".num_batches_tracked") || !strcmp(name, "n_averaged");
}

/* Half precision, IEEE 754 binary16. */
static float half(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    double fraction = bits & 1023;
    double value = exponent == 31 ? (fraction > 0 ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                  : ldexp(fraction, -24);
    return (float)(bits >> 15 ? -value : value);
}

float weights_element(const struct pth_value *value, size_t index)
{
    const uint8_t *bytes = value->tensor.data;
    uint16_t two;
    uint32_t four;
    int64_t eight;
    float real = 0;
    switch (value->tensor.type) {
    case PTH_F32:
        memcpy(&real, bytes + 4 * index, 4);
        return real;
    case PTH_F16:
        memcpy(&two, bytes + 2 * index, 2);
        return half(two);
    case PTH_BF16:
        memcpy(&two, bytes + 2 * index, 2);
        four = (uint32_t)two << 16;
        memcpy(&real, &four, 4);
        return real;
    case PTH_I64:
        memcpy(&eight, bytes + 8 * index, 8);
        return (float)eight;
    case PTH_I32:
        memcpy(&four, bytes + 4 * index, 4);
        return (float)(int32_t)four;
    case PTH_U8:
        return (float)bytes[index];
    }
    return real;
}

/* One tensor as finite f32. */
static int take_tensor(struct open_weights *w, const char *name, const struct pth_value *value,
                       struct weights_tensor *out)
{
    size_t count = value->tensor.count;
    bool as_is = value->tensor.type == PTH_F32 && (uintptr_t)value->tensor.data % 4 == 0;
    float *copy = NULL;
    char quoted[400];
    out->name = name;
    out->rank = value->tensor.rank;
    memcpy(out->shape, value->tensor.shape, sizeof out->shape);
    out->value = value->tensor.data;
    if (!as_is && !(out->value = copy = mem_arena_alloc(&w->arena, count * 4 + 4, "weights")))
        return -ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        float element = as_is ? out->value[i] : weights_element(value, i);
        if (copy)
            copy[i] = element;
        if (!isfinite(element))
            return err_set(ERR_INPUT,
                           "%s: tensor %s holds %g at element %zu: these weights are "
                           "not used",
                           w->quoted, err_quote(quoted, sizeof quoted, name), (double)element, i);
    }
    return 0;
}

static int take_state(struct open_weights *w, const struct pth_value *state)
{
    struct weights *out = &w->weights;
    char quoted[400], type[400];
    if (!(out->tensors =
              mem_arena_alloc(&w->arena, (state->count / 2 + 1) * sizeof *out->tensors, "weights")))
        return -ERR_MEMORY;
    for (size_t i = 0; i + 1 < state->count; i += 2) {
        const struct pth_value *key = state->items[i], *value = state->items[i + 1];
        if (key->kind != PTH_TEXT || !strcmp(key->text, SAFETENSORS_METADATA))
            continue;
        const char *name = strip(key->text);
        if (is_counter(name))
            continue;
        err_quote(quoted, sizeof quoted, name);
        if (value->kind == PTH_OPAQUE)
            return err_set(ERR_INPUT,
                           "%s: %.200s is %.200s (byte %lld of the pickle), which is "
                           "not read; save plain f32, f16 or bf16 tensors",
                           w->quoted, quoted, err_quote(type, sizeof type, value->text),
                           (long long)value->integer);
        if (value->kind != PTH_TENSOR || value->tensor.rank > 4)
            return err_set(ERR_MISMATCH, "%s: %.200s is not a tensor of a ResNet", w->quoted,
                           quoted);
        if (weights_find(out, name))
            return err_set(ERR_INPUT, "%s: %.200s stands twice in the state dict", w->quoted,
                           quoted);
        int rc = take_tensor(w, name, value, &out->tensors[out->tensor_count++]);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- which network ---- */

/* BLOCKS = blocks of each stage that the names speak of. */
static void count_blocks(const struct weights *w, int blocks[STAGES])
{
    for (int s = 0; s < STAGES; s++)
        blocks[s] = 0;
    for (size_t i = 0; i < w->tensor_count; i++) {
        int stage, block;
        if (sscanf(w->tensors[i].name, "layer%1d.%3d.", &stage, &block) == 2 && stage >= 1 &&
            stage <= STAGES && block >= blocks[stage - 1])
            blocks[stage - 1] = block + 1;
    }
}

/* Set the network by its names, where they are those of one, or nearly. */
static void find_arch(struct open_weights *w)
{
    static const struct {
        const char *arch;
        int blocks[STAGES];
        bool bottleneck;
    } rows[] = {
        {"resnet18",  {2, 2, 2, 2},  false},
        {"resnet34",  {3, 4, 6, 3},  false},
        {"resnet50",  {3, 4, 6, 3},  true },
        {"resnet101", {3, 4, 23, 3}, true },
        {"resnet152", {3, 8, 36, 3}, true },
    };
    int blocks[STAGES];
    bool bottleneck = weights_find(&w->weights, "layer1.0.conv3.weight") != NULL;
    count_blocks(&w->weights, blocks);
    int nearest = 4; /* blocks too many or too few: then it is told what is wrong with them */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int distance = bottleneck == rows[i].bottleneck ? 0 : nearest;
        for (int s = 0; s < STAGES; s++)
            distance += abs(blocks[s] - rows[i].blocks[s]);
        if (distance < nearest) {
            nearest = distance;
            w->weights.arch = rows[i].arch;
        }
    }
}

static int refuse_arch(const struct open_weights *w)
{
    int blocks[STAGES];
    char first[200];
    count_blocks(&w->weights, blocks);
    err_quote(first, sizeof first, w->weights.tensor_count ? w->weights.tensors[0].name : "");
    return err_set(ERR_MISMATCH,
                   "%s: not a ResNet-18, 34, 50, 101 or 152 with torchvision's names (%zu tensors, "
                   "the first is \"%.100s\"; blocks %d, %d, %d, %d)",
                   w->quoted, w->weights.tensor_count, first, blocks[0], blocks[1], blocks[2],
                   blocks[3]);
}

static const char *shape_text(char out[100], int rank, const int64_t *shape)
{
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < rank && used + 24 < 100; i++)
        used +=
            (size_t)snprintf(out + used, 100 - used, "%s%lld", i ? " x " : "", (long long)shape[i]);
    if (!rank)
        snprintf(out, 100, "a scalar");
    return out;
}

/* A log line for each tensor that is not as MODEL's; returns how many. */
static size_t compare(const struct weights *w, const struct model *model)
{
    size_t differences = 0;
    char is[100], wanted[100], quoted[400];
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        const struct weights_tensor *found = weights_find(w, p->name);
        shape_text(wanted, p->rank, p->shape);
        if (!found)
            log_line("  missing: %s (%s)", p->name, wanted);
        else if (found->rank != p->rank ||
                 memcmp(found->shape, p->shape, (size_t)p->rank * sizeof *p->shape) != 0)
            log_line("  wrong shape: %s is %s, not %s", p->name,
                     shape_text(is, found->rank, found->shape), wanted);
        else
            continue;
        differences++;
    }
    for (size_t i = 0; i < w->tensor_count; i++) {
        const struct weights_tensor *tensor = &w->tensors[i];
        size_t k = 0;
        while (k < model->parameter_count && strcmp(model->parameters[k].name, tensor->name) != 0)
            k++;
        if (k < model->parameter_count)
            continue;
        log_line("  unexpected: %s (%s)", err_quote(quoted, sizeof quoted, tensor->name),
                 shape_text(is, tensor->rank, tensor->shape));
        differences++;
    }
    return differences;
}

static int check_shapes(struct open_weights *w, const char *arch)
{
    const struct weights_tensor *head = weights_find(&w->weights, "fc.weight");
    struct model *model;
    if (head && head->rank == 2 && head->shape[0] >= 1 && head->shape[0] <= MODEL_CLASSES_MOST)
        w->weights.classes = (size_t)head->shape[0];
    const struct model_settings wish = {.arch = arch,
                                        .classes =
                                            w->weights.classes ? (int)w->weights.classes : 1000,
                                        .batch = 1,
                                        .image_size = 224};
    int rc = model_open(&model, &wish);
    if (rc)
        return rc;
    size_t differences = compare(&w->weights, model);
    model_close(model);
    if (differences)
        return err_set(ERR_MISMATCH,
                       "%s does not hold the weights of a %s: %zu tensors differ, listed above",
                       w->quoted, arch, differences);
    return 0;
}

/* ---- classes ---- */

/* TEXTS = the COUNT items of LIST, a list of texts; NULL when it is another thing. */
static const char *const *take_texts(struct open_weights *w, const struct pth_value *list,
                                     size_t count)
{
    if (!list || list->kind != PTH_LIST || list->count != count)
        return NULL;
    const char **texts = mem_arena_alloc(&w->arena, count * sizeof *texts, "class names");
    for (size_t i = 0; texts && i < count; i++) {
        if (list->items[i]->kind != PTH_TEXT)
            return NULL;
        texts[i] = list->items[i]->text;
    }
    return texts;
}

/* The list of texts that JSON stands for, as a value. */
static struct pth_value *parse_list(struct open_weights *w, const struct pth_value *json)
{
    struct pth_value *list = pth_list(&w->arena);
    json_t *array = json && json->kind == PTH_TEXT ? json_loads(json->text, 0, NULL) : NULL, *item;
    size_t i;
    json_array_foreach(array, i, item)
    {
        const char *text = json_string_value(item);
        list = pth_append(&w->arena, list, pth_text(&w->arena, text ? text : ""));
    }
    json_decref(array);
    return list;
}

static void find_classes(struct open_weights *w)
{
    struct weights *out = &w->weights;
    const struct pth_value *names = pth_find(out->root, "classes"),
                           *words = pth_find(out->root, "class_words"),
                           *metadata = pth_find(out->root, SAFETENSORS_METADATA);
    if (metadata && pth_find(metadata, "classes")) {
        names = parse_list(w, pth_find(metadata, "classes"));
        words = parse_list(w, pth_find(metadata, "class_words"));
    }
    out->class_names = take_texts(w, names, out->classes);
    out->class_words = out->class_names ? take_texts(w, words, out->classes) : NULL;
    if (!out->class_words)
        out->class_names = NULL;
    out->ours = out->class_names != NULL;
    if (!out->class_names && out->classes == IMAGENET_CLASS_COUNT) {
        out->class_names = imagenet_class_names;
        out->class_words = imagenet_class_words;
        out->assumed = true;
    }
}

int weights_open(struct weights **out, const char *path, const char *arch)
{
    struct open_weights *w = mem_array(1, sizeof *w, "weights");
    const struct pth_value *state;
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!w)
        return rc;
    err_quote(w->quoted, sizeof w->quoted, path);
    if ((rc = open_file(w, path)))
        goto fail;
    if (!(state = find_state(w->weights.root, 0))) {
        rc = err_set(ERR_MISMATCH,
                     "%s is %s without a state dict (neither at its top nor under "
                     "model, state_dict or model_ema)",
                     w->quoted, w->weights.format);
        goto fail;
    }
    if ((rc = take_state(w, state)))
        goto fail;
    find_arch(w);
    if (!w->weights.arch && !arch)
        rc = refuse_arch(w);
    else if (w->weights.arch && arch && strcmp(w->weights.arch, arch) != 0)
        rc = err_set(ERR_MISMATCH, "%s holds a %s, not a %s: give --arch %s", w->quoted,
                     w->weights.arch, arch, w->weights.arch);
    else
        rc = check_shapes(w, arch ? arch : w->weights.arch);
    if (rc)
        goto fail;
    find_classes(w);
    *out = &w->weights;
    return 0;

fail:
    weights_close(&w->weights);
    return rc;
}

void weights_close(struct weights *weights)
{
    struct open_weights *w = (struct open_weights *)weights;
    if (!w)
        return;
    pth_close(w->pth);
    pth_stream_close(w->stream);
    safetensors_close(w->safetensors);
    mem_arena_release(&w->arena);
    mem_free(w);
}

const struct weights_tensor *weights_find(const struct weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->tensor_count; i++)
        if (!strcmp(weights->tensors[i].name, name))
            return &weights->tensors[i];
    return NULL;
}

const char *weights_setting(const struct weights *weights, const char *name)
{
    const struct pth_value *params = weights->ours ? pth_find(weights->root, "params") : NULL;
    const struct pth_value *text = params ? pth_find(params, name) : NULL;
    return text && text->kind == PTH_TEXT ? text->text : NULL;
}
