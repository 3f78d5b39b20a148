#include "train/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/sha256.h"
#include "common/stop.h"
#include "train/evaluate.h"
#include "train/inference.h"
#include "train/published.h"
#include "train/safetensors.h"
#include "train/weights.h"

enum { FULL_SET = 50000, NO_CLASS = -1 };

struct eval_settings {
    const char *weights, *val, *logits;
    bool all_logits, json;
    int64_t workers;
    struct inference_settings inference;
};

#define AT(field) offsetof(struct eval_settings, field)

/* clang-format off */
static const struct opts_row rows[] = {
    {"weights", "FILE", OPTS_TEXT, AT(weights), NULL, 0, 0, NULL, "Data",
     "weights: a checkpoint of train, a .pth of PyTorch (torchvision's, also from before 1.6), .safetensors; required"},
    {"val", "FOLDER", OPTS_TEXT, AT(val), NULL, 0, 0, NULL, "Data", "data set to evaluate on, made by prep pack; required"},
    {"all-logits", NULL, OPTS_FLAG, AT(all_logits), "no", 0, 0, NULL, "Data",
     "let all of the network's classes compete, also those that the data set has not"},
    {"json", NULL, OPTS_FLAG, AT(json), "no", 0, 0, NULL, "Output", "the result as one JSON object"},
    {"logits", "FILE", OPTS_TEXT, AT(logits), NULL, 0, 0, NULL, "Output",
     "also write each picture's logits and label, in the data set's order, as .safetensors"},
    INFERENCE_ROWS(AT(inference)),
    {"workers", "N", OPTS_INT, AT(workers), "4", 1, 256, NULL, "Device", "threads that read and decode"},
    OPTS_END,
};
/* clang-format on */

const struct opts_command eval_command = {
    "train eval",
    "--weights FILE --val val.lmdb",
    "Prints the accuracy of weights on a data set. The network is found from the file. With "
    "torchvision's weights and the whole validation set it checks the data pipeline against the "
    "published numbers.",
    rows,
    0,
    0,
};

struct eval {
    const struct eval_settings *settings;
    struct weights *weights;
    struct dataset *val;
    struct inference inference;
    struct loader *loader;
    int32_t *labels;  /* the data set's class -> the network's output, or NO_CLASS */
    int32_t *outputs; /* the network's output -> the weights' class; NULL: all, in order */
    size_t output_count;
    size_t matched;
    char sha256[65];
    const struct published *published; /* this file's; NULL: not torchvision's */
    float *logits;                     /* of all pictures so far */
    int64_t *truth;
    size_t rows;
};

/* ---- classes ---- */

/* Position of NAME among the weights' classes. */
static int32_t find_class(const struct weights *weights, const char *name)
{
    for (size_t k = 0; k < weights->classes; k++)
        if (!strcmp(weights->class_names[k], name))
            return (int32_t)k;
    return NO_CLASS;
}

/* labels = the weights' class for each of the data set's. */
static int match_classes(struct eval *e)
{
    const struct manifest *val = dataset_manifest(e->val);
    const struct weights *w = e->weights;
    char first[80];
    if (!(e->labels = mem_array(val->class_count, sizeof *e->labels, "class map")))
        return -ERR_MEMORY;
    if (!w->class_names && w->classes != val->class_count)
        return err_set(ERR_MISMATCH,
                       "%s has %zu outputs and does not say of which classes; %s has %zu classes",
                       e->settings->weights, w->classes, e->settings->val, val->class_count);
    for (size_t i = 0; i < val->class_count; i++) {
        e->labels[i] = w->class_names ? find_class(w, val->classes[i].name) : (int32_t)i;
        e->matched += e->labels[i] != NO_CLASS;
    }
    if (!w->class_names)
        log_line("the file does not say which classes it knows: output k is taken as class k of "
                 "the data set");
    if (e->matched)
        return 0;
    return err_set(ERR_MISMATCH,
                   "no class of %s is one that %s knows%s: the first one is %s; pack from folders "
                   "named by WNID",
                   e->settings->val, e->settings->weights,
                   w->assumed ? " (taken as ILSVRC2012's 1,000)" : "",
                   err_quote(first, sizeof first, val->classes[0].name));
}

/* Let only the data set's classes compete: outputs, and labels as positions in them. */
static int restrict_outputs(struct eval *e)
{
    const struct weights *w = e->weights;
    const struct manifest *val = dataset_manifest(e->val);
    int32_t *position = mem_array(w->classes, sizeof *position, "class map");
    if (!(e->outputs = mem_array(w->classes, sizeof *e->outputs, "class map")) || !position) {
        mem_free(position);
        return -ERR_MEMORY;
    }
    for (size_t i = 0; i < val->class_count; i++)
        if (e->labels[i] != NO_CLASS)
            position[e->labels[i]] = 1;
    for (size_t k = 0; k < w->classes; k++)
        if (position[k]) {
            position[k] = (int32_t)e->output_count;
            e->outputs[e->output_count++] = (int32_t)k;
        }
    for (size_t i = 0; i < val->class_count; i++)
        if (e->labels[i] != NO_CLASS)
            e->labels[i] = position[e->labels[i]];
    mem_free(position);
    log_line("only the data set's %zu classes compete (--all-logits: all %zu)", e->output_count,
             w->classes);
    return 0;
}

/* ---- torchvision's files ---- */

/* What the file's hash says, and what its name says. */
static int identify(struct eval *e)
{
    const struct weights *w = e->weights;
    const char *path = e->settings->weights, *slash = strrchr(path, '/'),
               *name = slash ? slash + 1 : path, *dash = strrchr(name, '-');
    int rc = sha256_file(path, e->sha256);
    if (rc || w->ours || w->classes != 1000)
        return rc;
    e->published = published_find(e->sha256);
    if (dash && strspn(dash + 1, "0123456789abcdef") == 8 && dash[9] == '.' &&
        strncmp(dash + 1, e->sha256, 8) != 0)
        log_warning("the name says that the file's SHA-256 begins with %.8s, but it is %.8s...: "
                    "it is damaged, or another file",
                    dash + 1, e->sha256);
    const struct published *first = published_first(w->arch);
    if (e->published)
        log_line("SHA-256 %.8s...: torchvision's %s weights %s, published top-1 %.3f %%, top-5 "
                 "%.3f %%",
                 e->sha256, e->published->arch, e->published->table, e->published->top1,
                 e->published->top5);
    else
        log_line("SHA-256 %.8s...: not one of torchvision's files. To check the data pipeline, "
                 "fetch https://download.pytorch.org/models/%s-%s.pth (its SHA-256 begins with "
                 "%s; published top-1 %.3f %%, top-5 %.3f %%)",
                 e->sha256, first->arch, first->hash, first->hash, first->top1, first->top5);
    return 0;
}

/* Did the result see what the published number saw? */
static bool is_full_set(const struct eval *e, const struct evaluation *result)
{
    return e->published && result->images == FULL_SET && e->matched == 1000 &&
           e->settings->inference.image_size == 224;
}

/* ---- logits ---- */

static int keep_logits(void *context, const struct batch *batch)
{
    struct eval *e = context;
    size_t width = (size_t)e->inference.model->settings.classes;
    float *all =
        mem_array((size_t)e->inference.model->settings.batch * width, sizeof *all, "logits");
    if (!all)
        return -ERR_MEMORY;
    int rc = net_logits(e->inference.net, all);
    for (int i = 0; i < batch->rows && !rc; i++, e->rows++) {
        memcpy(e->logits + e->rows * width, all + (size_t)i * width, width * sizeof *all);
        e->truth[e->rows] = batch->labels[i];
    }
    mem_free(all);
    return rc;
}

static int write_logits(struct eval *e)
{
    struct mem_arena arena = {0};
    const int64_t shape[2] = {(int64_t)e->rows, e->inference.model->settings.classes};
    const char *const names[] = {"logits", "labels"};
    const struct pth_value *const tensors[] = {
        pth_tensor(&arena, PTH_F32, 2, shape, e->logits),
        pth_tensor(&arena, PTH_I64, 1, shape, e->truth),
    };
    int rc = tensors[0] && tensors[1]
                 ? safetensors_write(e->settings->logits, names, tensors, 2, NULL)
                 : -ERR_MEMORY;
    mem_arena_release(&arena);
    return rc;
}

/* ---- the command ---- */

static int open_eval(struct eval *e, struct eval_settings *settings)
{
    int rc;
    if ((rc = weights_open(&e->weights, settings->weights, NULL)))
        return rc;
    log_line("weights: %s, %s: %s, %zu classes%s", settings->weights, e->weights->format,
             e->weights->arch, e->weights->classes,
             e->weights->assumed ? ", taken as ILSVRC2012's in the order of their WNIDs" : "");
    if ((rc = identify(e)))
        return rc;
    if (e->published && !settings->inference.image_size && !settings->inference.val_resize)
        settings->inference.val_resize = e->published->resize;
    if ((rc = inference_complete(&settings->inference, e->weights)) ||
        (rc = dataset_open(&e->val, settings->val)) || (rc = match_classes(e)))
        return rc;
    if (!settings->all_logits && !e->weights->ours && e->matched < e->weights->classes &&
        (rc = restrict_outputs(e)))
        return rc;
    if ((rc = inference_open(&e->inference, &settings->inference, e->weights, e->outputs,
                             e->output_count)))
        return rc;
    const struct loader_settings wish = {
        .size = (int)settings->inference.image_size,
        .resize = (int)settings->inference.val_resize,
        .batch = (int)settings->inference.batch_size,
        .workers = (int)settings->workers,
        .shuffle = ORDER_NONE,
        .labels = e->labels,
        .classes = e->inference.model->settings.classes,
        .backend = e->inference.backend,
        .device = e->inference.device,
    };
    if ((rc = loader_open(&e->loader, e->val, &wish)))
        return err_add(rc, "--val %s", settings->val);
    if (loader_left_out(e->loader))
        log_warning("%llu pictures are of classes that the network does not know; they are left "
                    "out",
                    (unsigned long long)loader_left_out(e->loader));
    if (!settings->logits)
        return 0;
    size_t images = loader_images(e->loader);
    e->logits = mem_array(images, (size_t)wish.classes * sizeof *e->logits, "logits");
    e->truth = mem_array(images, sizeof *e->truth, "labels");
    return e->logits && e->truth ? 0 : -ERR_MEMORY;
}

static void print_text(const struct eval *e, const struct evaluation *result)
{
    printf("top-1 %.3f %%, top-5 %.3f %%, loss %.6f over %lld pictures in %.1f s (%.1f img/s)\n",
           result->top1, result->top5, result->loss, (long long)result->images, result->seconds,
           (double)result->images / result->seconds);
    if (is_full_set(e, result))
        printf("torchvision publishes %.3f %% and %.3f %%: the differences are %+.3f and %+.3f\n",
               e->published->top1, e->published->top5, result->top1 - e->published->top1,
               result->top5 - e->published->top5);
    else if (e->published)
        printf("torchvision's %.3f %% and %.3f %% are for all %d pictures of 1,000 classes: this "
               "is another set\n",
               e->published->top1, e->published->top5, FULL_SET);
}

static int print_json(const struct eval *e, const struct evaluation *result)
{
    json_t *published = json_null();
    if (e->published)
        published = json_pack("{s:s, s:f, s:f, s:b}", "weights", e->published->table, "top1",
                              e->published->top1, "top5", e->published->top5, "same_set",
                              is_full_set(e, result));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:b, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:I, s:I, s:o}", "arch",
        e->weights->arch, "weights_sha256", e->sha256, "format", e->weights->format, "classes",
        (json_int_t)e->weights->classes, "classes_matched", (json_int_t)e->matched, "all_logits",
        e->outputs == NULL, "top1", result->top1, "top5", result->top5, "loss", result->loss,
        "images", (json_int_t)result->images, "left_out", (json_int_t)loader_left_out(e->loader),
        "seconds", result->seconds, "img_per_s", (double)result->images / result->seconds,
        "image_size", (json_int_t)e->settings->inference.image_size, "val_resize",
        (json_int_t)e->settings->inference.val_resize, "published", published);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return err_set(ERR_MEMORY, "no memory for the result");
    printf("%s\n", text);
    free(text);
    return 0;
}

static int run(struct eval *e, struct eval_settings *settings)
{
    struct evaluation result;
    int rc = open_eval(e, settings);
    if (rc)
        return rc;
    if ((rc = evaluate_each(e->inference.net, e->loader, settings->logits ? keep_logits : NULL, e,
                            &result)))
        return rc;
    if (settings->logits && (rc = write_logits(e)))
        return rc;
    if (settings->json)
        return print_json(e, &result);
    print_text(e, &result);
    return 0;
}

int eval_main(int argc, char **argv)
{
    struct eval_settings settings;
    struct opts_result parsed;
    int rc = opts_parse(&eval_command, argc, argv, &settings, NULL, &parsed);
    if (rc)
        return rc;
    if (parsed.help) {
        opts_help(&eval_command);
        return 0;
    }
    if (!settings.weights || !settings.val)
        return err_set(ERR_USAGE, "--%s is missing; see train eval --help",
                       settings.weights ? "val" : "weights");
    struct eval e = {.settings = &settings};
    stop_catch();
    rc = run(&e, &settings);
    loader_close(e.loader);
    inference_close(&e.inference);
    dataset_close(e.val);
    weights_close(e.weights);
    mem_free(e.labels);
    mem_free(e.outputs);
    mem_free(e.logits);
    mem_free(e.truth);
    return rc;
}
