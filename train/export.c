#include "train/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/checkpoint_tree.h"
#include "train/inference.h"
#include "train/onnx.h"
#include "train/safetensors.h"
#include "train/weights.h"

struct export_settings {
    bool preprocessing;
    int64_t image_size;
};

#define AT(field) offsetof(struct export_settings, field)

/* clang-format off */
static const struct opts_row rows[] = {
    {"with-preprocessing", NULL, OPTS_FLAG, AT(preprocessing), "no", 0, 0, NULL, "ONNX",
     "the file takes pixels (u8, N x size x size x 3, RGB) and normalises them itself"},
    {"image-size", "N", OPTS_INT, AT(image_size), "0", 0, 1024, NULL, "ONNX",
     "pixels of a side; 0 is what it was trained with, else 224"},
    OPTS_END,
};
/* clang-format on */

const struct opts_command export_command = {
    "train export",
    "WEIGHTS OUT.pth|OUT.safetensors|OUT.onnx",
    "Writes weights for other programs: .pth is a state dict of torchvision's, .safetensors the "
    "same with the class table, .onnx the whole network (opset 17, any number of pictures).",
    rows,
    2,
    2,
};

/* *OUT = the state dict as torchvision orders it. */
static int make_state(struct mem_arena *arena, const struct weights *w,
                      const struct pth_value **out)
{
    struct checkpoint_tensor *tensors =
        mem_arena_alloc(arena, w->tensor_count * sizeof *tensors, "tensors");
    if (!tensors)
        return -ERR_MEMORY;
    for (size_t i = 0; i < w->tensor_count; i++) {
        const struct weights_tensor *t = &w->tensors[i];
        tensors[i] =
            (struct checkpoint_tensor){.name = t->name, .rank = t->rank, .value = t->value};
        memcpy(tensors[i].shape, t->shape, sizeof t->shape);
    }
    const struct checkpoint checkpoint = {
        .arch = w->arch,
        .class_digest = "",
        .data_digest = "",
        .best_epoch = -1,
        .tensors = tensors,
        .tensor_count = w->tensor_count,
    };
    struct pth_value *root;
    int rc = checkpoint_tree_make(arena, &checkpoint, true, &root);
    *out = rc ? NULL : pth_find(root, "model");
    return rc;
}

/* TEXTS as a JSON list in a text. */
static struct pth_value *make_list(struct mem_arena *arena, const char *const *texts, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *text = json_string(texts[i]);
        json_array_append_new(list, text ? text : json_string("?"));
    }
    char *dump = json_dumps(list, JSON_COMPACT);
    struct pth_value *value = dump ? pth_text(arena, dump) : NULL;
    free(dump);
    json_decref(list);
    return value;
}

static int write_safetensors(struct mem_arena *arena, const struct weights *w,
                             const struct pth_value *state, const char *path)
{
    size_t count = state->count / 2;
    const char **names = mem_arena_alloc(arena, count * sizeof *names, "names");
    const struct pth_value **tensors = mem_arena_alloc(arena, count * sizeof(void *), "tensors");
    struct pth_value *metadata = pth_dict(arena, false);
    if (!names || !tensors)
        return -ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        names[i] = state->items[2 * i]->text;
        tensors[i] = state->items[2 * i + 1];
    }
    metadata = pth_put(arena, metadata, "format", pth_text(arena, "pt"));
    metadata = pth_put(arena, metadata, "arch", pth_text(arena, w->arch));
    if (w->class_names) {
        metadata =
            pth_put(arena, metadata, "classes", make_list(arena, w->class_names, w->classes));
        metadata =
            pth_put(arena, metadata, "class_words", make_list(arena, w->class_words, w->classes));
    }
    return metadata ? safetensors_write(path, names, tensors, count, metadata) : -ERR_MEMORY;
}

static int write_onnx(const struct export_settings *settings, const struct weights *w,
                      const char *path)
{
    struct inference_settings sizes = {.image_size = settings->image_size, .threads = 1};
    struct model *model;
    int rc = inference_complete(&sizes, w);
    if (rc)
        return rc;
    const struct model_settings wish = {.arch = w->arch,
                                        .classes = (int)w->classes,
                                        .batch = 1,
                                        .image_size = (int)sizes.image_size};
    if ((rc = model_open(&model, &wish)))
        return rc;
    rc = onnx_write(path, model, w, settings->preprocessing);
    model_close(model);
    return rc;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && !strcmp(text + length - end_length, end);
}

static int run(const struct export_settings *settings, const char *from, const char *to)
{
    struct mem_arena arena = {0};
    const struct pth_value *state;
    struct weights *w = NULL;
    bool onnx = ends_with(to, ".onnx"), safetensors = ends_with(to, ".safetensors");
    if (!onnx && !safetensors && !ends_with(to, ".pth"))
        return err_set(ERR_USAGE, "%s: the name must end with .pth, .safetensors or .onnx", to);
    if (settings->preprocessing && !onnx)
        return err_set(ERR_USAGE,
                       "--with-preprocessing is for .onnx: other files hold weights alone");
    int rc = weights_open(&w, from, NULL);
    if (rc)
        return rc;
    if (onnx)
        rc = write_onnx(settings, w, to);
    else if (!(rc = make_state(&arena, w, &state)))
        rc =
            safetensors ? write_safetensors(&arena, w, state, to) : pth_write(to, "archive", state);
    if (!rc)
        printf("%s: %s, %zu classes, from %s\n", to, w->arch, w->classes, w->format);
    weights_close(w);
    mem_arena_release(&arena);
    return rc;
}

int export_main(int argc, char **argv)
{
    struct export_settings settings;
    struct opts_result parsed;
    int rc = opts_parse(&export_command, argc, argv, &settings, NULL, &parsed);
    if (rc)
        return rc;
    if (parsed.help) {
        opts_help(&export_command);
        return 0;
    }
    return run(&settings, parsed.arguments[0], parsed.arguments[1]);
}
