#include "train/checkpoint_tree.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "train/pickle.h"

static const char running_mean[] = ".running_mean", running_var[] = ".running_var",
                  batches_tracked[] = ".num_batches_tracked";

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && !strcmp(text + length - end_length, end);
}

static bool is_statistic(const char *name)
{
    return ends_with(name, running_mean) || ends_with(name, running_var);
}

/* ---- making ---- */

static struct pth_value *tensor_value(struct mem_arena *a, const struct checkpoint_tensor *tensor,
                                      const float *data)
{
    return pth_tensor(a, PTH_F32, tensor->rank, tensor->shape, data);
}

static int check_tensors(const struct checkpoint *c, bool model_only)
{
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct checkpoint_tensor *tensor = &c->tensors[i];
        bool statistic = is_statistic(tensor->name);
        if (tensor->rank < 1 || tensor->rank > 4 || !tensor->value)
            return err_set(ERR_FAULT, "tensor %s has rank %d, or no value", tensor->name,
                           tensor->rank);
        for (int k = 0; k < tensor->rank; k++)
            if (tensor->shape[k] < 1 || tensor->shape[k] > INT32_MAX)
                return err_set(ERR_FAULT, "tensor %s has a side of %lld", tensor->name,
                               (long long)tensor->shape[k]);
        if (statistic && (tensor->momentum || tensor->no_decay))
            return err_set(ERR_FAULT, "statistic %s has a momentum buffer", tensor->name);
        if (!statistic && !model_only && !tensor->momentum)
            return err_set(ERR_FAULT, "parameter %s has no momentum buffer", tensor->name);
        for (size_t k = 0; k < i; k++)
            if (!strcmp(c->tensors[k].name, tensor->name))
                return err_set(ERR_FAULT, "two tensors are called %s", tensor->name);
    }
    return 0;
}

/* Put the statistics of the normalisation whose bias is called BIAS behind it; adds their number to
 * *PUT. */
static struct pth_value *put_statistics(struct mem_arena *a, struct pth_value *model,
                                        const struct checkpoint *c, const char *bias, size_t *put)
{
    const char *const ends[] = {running_mean, running_var};
    int length = (int)(strlen(bias) - strlen(".bias"));
    char name[256];
    bool any = false;
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%.*s%s", length, bias, ends[i]);
        const struct checkpoint_tensor *tensor = checkpoint_find(c, name);
        if (!tensor)
            continue;
        model = pth_put(a, model, name, tensor_value(a, tensor, tensor->value));
        any = true;
        ++*put;
    }
    snprintf(name, sizeof name, "%.*s%s", length, bias, batches_tracked);
    if (any)
        model = pth_put(a, model, name, pth_tensor(a, PTH_I64, 0, NULL, &c->batches_tracked));
    return model;
}

/* *OUT = the state dict in torchvision's order. */
static int make_model(struct mem_arena *a, const struct checkpoint *c, struct pth_value **out)
{
    struct pth_value *model = pth_dict(a, true);
    size_t put = 0;
    for (size_t i = 0; i < c->tensor_count; i++) {
        const struct checkpoint_tensor *tensor = &c->tensors[i];
        if (is_statistic(tensor->name))
            continue;
        model = pth_put(a, model, tensor->name, tensor_value(a, tensor, tensor->value));
        put++;
        if (ends_with(tensor->name, ".bias"))
            model = put_statistics(a, model, c, tensor->name, &put);
    }
    if (put != c->tensor_count)
        return err_set(ERR_FAULT, "%zu statistics belong to no normalisation with a bias",
                       c->tensor_count - put);
    *out = model;
    return model ? 0 : -ERR_MEMORY;
}

/* One of torch.optim.SGD's groups, with the names and numbers of its parameters. */
static struct pth_value *make_group(struct mem_arena *a, const struct checkpoint *c, bool no_decay,
                                    int64_t *next)
{
    struct pth_value *group = pth_dict(a, false), *names = pth_list(a), *params = pth_list(a);
    group = pth_put(a, group, "lr", pth_real(a, c->schedule.lr));
    group = pth_put(a, group, "momentum", pth_real(a, c->momentum));
    group = pth_put(a, group, "dampening", pth_int(a, 0));
    group = pth_put(a, group, "weight_decay", pth_real(a, no_decay ? 0 : c->weight_decay));
    group = pth_put(a, group, "nesterov", pth_bool(a, false));
    group = pth_put(a, group, "maximize", pth_bool(a, false));
    group = pth_put(a, group, "foreach", pth_none(a));
    group = pth_put(a, group, "differentiable", pth_bool(a, false));
    group = pth_put(a, group, "fused", pth_none(a));
    group = pth_put(a, group, "initial_lr", pth_real(a, c->schedule.base_lr));
    for (size_t i = 0; i < c->tensor_count && names && params; i++) {
        const struct checkpoint_tensor *tensor = &c->tensors[i];
        if (is_statistic(tensor->name) || tensor->no_decay != no_decay)
            continue;
        names = pth_append(a, names, pth_text(a, tensor->name));
        params = pth_append(a, params, pth_int(a, (*next)++));
    }
    group = pth_put(a, group, "param_names", names);
    return pth_put(a, group, "params", params);
}

static bool any_without_decay(const struct checkpoint *c)
{
    for (size_t i = 0; i < c->tensor_count; i++)
        if (c->tensors[i].no_decay)
            return true;
    return false;
}

/* torch.optim.SGD's state_dict: the buffers numbered through the first group, then the second. */
static struct pth_value *make_optimizer(struct mem_arena *a, const struct checkpoint *c)
{
    struct pth_value *state = pth_dict(a, false), *groups = pth_list(a);
    int64_t numbered = 0, buffers = 0;
    int count = any_without_decay(c) ? 2 : 1;
    for (int g = 0; g < count && groups; g++) {
        groups = pth_append(a, groups, make_group(a, c, g == 1, &numbered));
        for (size_t i = 0; i < c->tensor_count && state; i++) {
            const struct checkpoint_tensor *tensor = &c->tensors[i];
            if (is_statistic(tensor->name) || tensor->no_decay != (g == 1))
                continue;
            struct pth_value *buffer = tensor_value(a, tensor, tensor->momentum);
            state = pth_put_int(a, state, buffers++,
                                pth_put(a, pth_dict(a, false), "momentum_buffer", buffer));
        }
    }
    return pth_put(a, pth_put(a, pth_dict(a, false), "state", state), "param_groups", groups);
}

static struct pth_value *repeat_real(struct mem_arena *a, double value, int count)
{
    struct pth_value *list = pth_list(a);
    for (int i = 0; i < count; i++)
        list = pth_append(a, list, pth_real(a, value));
    return list;
}

/* The state_dict of StepLR or CosineAnnealingLR. */
static struct pth_value *make_scheduler(struct mem_arena *a, const struct checkpoint *c)
{
    const struct checkpoint_schedule *schedule = &c->schedule;
    struct pth_value *dict = pth_dict(a, false);
    int groups = any_without_decay(c) ? 2 : 1;
    if (schedule->kind == CHECKPOINT_STEP) {
        dict = pth_put(a, dict, "step_size", pth_int(a, schedule->period));
        dict = pth_put(a, dict, "gamma", pth_real(a, schedule->gamma));
    } else {
        dict = pth_put(a, dict, "T_max", pth_int(a, schedule->period));
        dict = pth_put(a, dict, "eta_min", pth_real(a, 0));
    }
    dict = pth_put(a, dict, "base_lrs", repeat_real(a, schedule->base_lr, groups));
    dict = pth_put(a, dict, "last_epoch", pth_int(a, schedule->steps));
    dict = pth_put(a, dict, "_step_count", pth_int(a, schedule->steps + 1));
    dict = pth_put(a, dict, "_is_initial", pth_bool(a, false));
    dict = pth_put(a, dict, "_get_lr_called_within_step", pth_bool(a, false));
    return pth_put(a, dict, "_last_lr", repeat_real(a, schedule->lr, groups));
}

/* Names of classes and values of settings are bytes, a pickle's text is not: bytes that are not
 * UTF-8 are written as Python's os.fsdecode does. */
static struct pth_value *escape_text(struct mem_arena *a, const char *text)
{
    size_t size = strlen(text), used = 0;
    char *out = mem_arena_alloc(a, 3 * size + 1, "escaped text");
    if (!out)
        return NULL;
    for (size_t at = 0; at < size;) {
        size_t step = pickle_utf8_step(text + at, size - at);
        unsigned byte = (unsigned char)text[at];
        if (step) {
            memcpy(out + used, text + at, step);
        } else {
            out[used] = (char)0xed;
            out[used + 1] = (char)(0xb0 | byte >> 6);
            out[used + 2] = (char)(0x80 | (byte & 0x3f));
        }
        used += step ? step : 3;
        at += step ? step : 1;
    }
    return pth_text(a, out);
}

static int make_settings(struct mem_arena *a, const struct checkpoint *c, struct pth_value **out)
{
    struct pth_value *params = pth_dict(a, false);
    for (size_t i = 0; i < c->setting_count; i++) {
        if (pth_find(params, c->settings[i].name))
            return err_set(ERR_FAULT, "two settings are called %s", c->settings[i].name);
        params = pth_put(a, params, c->settings[i].name, escape_text(a, c->settings[i].text));
    }
    *out = params;
    return params ? 0 : -ERR_MEMORY;
}

static int make_numbers(struct mem_arena *a, const struct checkpoint *c, struct pth_value **out)
{
    struct pth_value *numbers = pth_dict(a, false);
    for (size_t i = 0; i < c->number_count; i++) {
        if (pth_find(numbers, c->numbers[i].name))
            return err_set(ERR_FAULT, "two numbers are called %s", c->numbers[i].name);
        if (!isfinite(c->numbers[i].value))
            return err_set(ERR_NOT_FINITE, "%s is not a finite number", c->numbers[i].name);
        numbers = pth_put(a, numbers, c->numbers[i].name, pth_real(a, c->numbers[i].value));
    }
    *out = numbers;
    return numbers ? 0 : -ERR_MEMORY;
}

static struct pth_value *put_classes(struct mem_arena *a, struct pth_value *root,
                                     const struct checkpoint *c)
{
    struct pth_value *names = pth_list(a), *words = pth_list(a);
    for (size_t i = 0; i < c->class_count; i++) {
        names = pth_append(a, names, escape_text(a, c->classes[i].name));
        words = pth_append(a, words, escape_text(a, c->classes[i].words));
    }
    root = pth_put(a, root, "classes", names);
    root = pth_put(a, root, "class_words", words);
    root = pth_put(a, root, "class_digest", pth_text(a, c->class_digest));
    return pth_put(a, root, "data_digest", pth_text(a, c->data_digest));
}

static struct pth_value *make_position(struct mem_arena *a, const struct checkpoint *c)
{
    struct pth_value *position = pth_dict(a, false);
    position = pth_put(a, position, "epoch", pth_int(a, c->epoch));
    position = pth_put(a, position, "step", pth_int(a, c->step));
    position = pth_put(a, position, "global_step", pth_int(a, c->global_step));
    return pth_put(a, position, "evaluated", pth_bool(a, c->evaluated));
}

static int check_numbers(const struct checkpoint *c, bool model_only)
{
    const double reals[] = {c->best_accuracy,  c->momentum,         c->weight_decay,
                            c->schedule.gamma, c->schedule.base_lr, c->schedule.lr};
    if (c->epoch < 0 || c->step < 0 || c->global_step < 0 || c->batches_tracked < 0 ||
        c->best_epoch < -1 || c->seed > INT64_MAX || c->schedule.steps < 0 ||
        c->schedule.steps == INT64_MAX)
        return err_set(ERR_FAULT, "a checkpoint's position or seed is out of range");
    for (size_t i = 0; i < (model_only ? 1 : sizeof reals / sizeof *reals); i++)
        if (!isfinite(reals[i]))
            return err_set(ERR_NOT_FINITE, "a checkpoint's rate, decay or accuracy is not finite");
    return 0;
}

int checkpoint_tree_make(struct mem_arena *a, const struct checkpoint *c, bool model_only,
                         struct pth_value **out)
{
    struct pth_value *root = pth_dict(a, false), *best = pth_dict(a, false);
    struct pth_value *model = NULL, *params = NULL, *numbers = NULL;
    int rc;
    *out = NULL;
    if ((rc = check_numbers(c, model_only)) || (rc = check_tensors(c, model_only)) ||
        (rc = make_model(a, c, &model)) || (rc = make_settings(a, c, &params)) ||
        (rc = make_numbers(a, c, &numbers)))
        return rc;
    root = pth_put(a, root, "format", pth_int(a, CHECKPOINT_FORMAT));
    root = pth_put(a, root, "model", model);
    root = pth_put(a, root, "epoch", pth_int(a, c->epoch - 1));
    root = pth_put(a, root, "arch", pth_text(a, c->arch));
    root = put_classes(a, root, c);
    root = pth_put(a, root, "batches_tracked", pth_int(a, c->batches_tracked));
    best = pth_put(a, best, "accuracy", pth_real(a, c->best_accuracy));
    best = pth_put(a, best, "epoch", pth_int(a, c->best_epoch));
    root = pth_put(a, root, "best", best);
    if (model_only) { /* train eval takes sizes and precision from them */
        root = pth_put(a, root, "params", params);
    } else {
        root = pth_put(a, root, "optimizer", make_optimizer(a, c));
        root = pth_put(a, root, "lr_scheduler", make_scheduler(a, c));
        root = pth_put(a, root, "params", params);
        root = pth_put(a, root, "numbers", numbers);
        root = pth_put(a, root, "seed", pth_int(a, (int64_t)c->seed));
        root = pth_put(a, root, "position", make_position(a, c));
    }
    *out = root;
    return root ? 0 : -ERR_MEMORY;
}

/* ---- reading ---- */

static const char *const kind_names[] = {"None", "bool",  "int",  "float",       "text",
                                         "list", "tuple", "dict", "OrderedDict", "tensor"};

/* *OUT = DICT's value for KEY, which must be of KIND. */
static int get(const struct pth_value *dict, const char *key, enum pth_kind kind,
               const struct pth_value **out)
{
    *out = pth_find(dict, key);
    if (*out && (*out)->kind == kind)
        return 0;
    if (!*out)
        err_set(ERR_MISMATCH, "it has no key \"%s\"", key);
    else
        err_set(ERR_MISMATCH, "its key \"%s\" holds a %s, not a %s", key, kind_names[(*out)->kind],
                kind_names[kind]);
    return -ERR_MISMATCH;
}

static int get_int(const struct pth_value *dict, const char *key, int64_t *out)
{
    const struct pth_value *value;
    int rc = get(dict, key, PTH_INT, &value);
    if (!rc)
        *out = value->integer;
    return rc;
}

static int get_bool(const struct pth_value *dict, const char *key, bool *out)
{
    const struct pth_value *value;
    int rc = get(dict, key, PTH_BOOL, &value);
    if (!rc)
        *out = value->boolean;
    return rc;
}

static int get_real(const struct pth_value *dict, const char *key, double *out)
{
    const struct pth_value *value;
    int rc = get(dict, key, PTH_REAL, &value);
    if (!rc)
        *out = value->real;
    return rc;
}

static int get_text(const struct pth_value *dict, const char *key, const char **out)
{
    const struct pth_value *value;
    int rc = get(dict, key, PTH_TEXT, &value);
    if (!rc)
        *out = value->text;
    return rc;
}

/* *OUT = DICT's list for KEY, all of whose items are of KIND. */
static int get_list(const struct pth_value *dict, const char *key, enum pth_kind kind,
                    const struct pth_value **out)
{
    int rc = get(dict, key, PTH_LIST, out);
    if (rc)
        return rc;
    for (size_t i = 0; i < (*out)->count; i++)
        if ((*out)->items[i]->kind != kind)
            return err_set(ERR_MISMATCH, "item %zu of its \"%s\" is a %s, not a %s", i, key,
                           kind_names[(*out)->items[i]->kind], kind_names[kind]);
    return 0;
}

/* The bytes of a text that escape_text made. */
static const char *unescape_text(struct mem_arena *a, const struct pth_value *value)
{
    char *out = mem_arena_text(a, value->text, value->text_size);
    size_t used = 0;
    for (size_t at = 0; out && at < value->text_size;) {
        int byte = pickle_escaped_byte(value->text + at, value->text_size - at);
        out[used++] = byte >= 0 ? (char)byte : value->text[at];
        at += byte >= 0 ? 3 : 1;
    }
    if (out)
        out[used] = 0;
    return out;
}

static int read_classes(struct mem_arena *a, const struct pth_value *root, struct checkpoint *out)
{
    const struct pth_value *names, *words;
    int rc;
    if ((rc = get_list(root, "classes", PTH_TEXT, &names)) ||
        (rc = get_list(root, "class_words", PTH_TEXT, &words)))
        return rc;
    if (names->count != words->count)
        return err_set(ERR_MISMATCH, "it has %zu classes, but words for %zu", names->count,
                       words->count);
    struct checkpoint_class *classes =
        mem_arena_alloc(a, names->count * sizeof *classes, "checkpoint classes");
    if (!classes)
        return -ERR_MEMORY;
    for (size_t i = 0; i < names->count; i++) {
        classes[i].name = unescape_text(a, names->items[i]);
        classes[i].words = unescape_text(a, words->items[i]);
        if (!classes[i].name || !classes[i].words)
            return -ERR_MEMORY;
    }
    out->classes = classes;
    out->class_count = names->count;
    return 0;
}

/* The f32 tensors of the state dict; the counters of the normalisations must all be OUT's. */
static int read_model(struct mem_arena *a, const struct pth_value *root, struct checkpoint *out,
                      struct checkpoint_tensor **tensors)
{
    const struct pth_value *model;
    int rc = get(root, "model", PTH_ORDERED_DICT, &model);
    if (rc)
        return rc;
    *tensors = mem_arena_alloc(a, model->count / 2 * sizeof **tensors, "checkpoint tensors");
    if (!*tensors)
        return -ERR_MEMORY;
    for (size_t i = 0; i + 1 < model->count; i += 2) {
        const struct pth_value *key = model->items[i], *value = model->items[i + 1];
        if (key->kind != PTH_TEXT || value->kind != PTH_TENSOR)
            return err_set(ERR_MISMATCH, "its \"model\" is not a state dict");
        if (ends_with(key->text, batches_tracked)) {
            int64_t count = -1;
            if (value->tensor.type == PTH_I64 && value->tensor.count == 1)
                memcpy(&count, value->tensor.data, sizeof count);
            if (count != out->batches_tracked)
                return err_set(ERR_MISMATCH, "its %s is not %lld", key->text,
                               (long long)out->batches_tracked);
            continue;
        }
        if (value->tensor.type != PTH_F32 || value->tensor.rank < 1 || value->tensor.rank > 4)
            return err_set(ERR_MISMATCH, "its %s is not of type f32 and rank 1 to 4", key->text);
        struct checkpoint_tensor *tensor = &(*tensors)[out->tensor_count++];
        tensor->name = key->text;
        tensor->rank = value->tensor.rank;
        memcpy(tensor->shape, value->tensor.shape, sizeof tensor->shape);
        tensor->value = value->tensor.data;
    }
    out->tensors = *tensors;
    return 0;
}

static const struct pth_value *find_int(const struct pth_value *dict, int64_t key)
{
    for (size_t i = 0; i + 1 < dict->count; i += 2)
        if (dict->items[i]->kind == PTH_INT && dict->items[i]->integer == key)
            return dict->items[i + 1];
    return NULL;
}

/* Give the tensor called NAME the momentum buffer that the optimizer keeps under NUMBER. */
static int read_momentum(const struct pth_value *state, const char *name, int64_t number,
                         bool no_decay, struct checkpoint *out, struct checkpoint_tensor *tensors)
{
    const struct pth_value *buffer = pth_find(find_int(state, number), "momentum_buffer");
    const struct checkpoint_tensor *found = checkpoint_find(out, name);
    if (!found || is_statistic(name) || found->momentum)
        return err_set(ERR_MISMATCH, "its optimizer has a parameter %s, its model has not", name);
    struct checkpoint_tensor *tensor = &tensors[found - out->tensors];
    if (!buffer || buffer->kind != PTH_TENSOR || buffer->tensor.type != PTH_F32 ||
        buffer->tensor.rank != tensor->rank ||
        memcmp(buffer->tensor.shape, tensor->shape, (size_t)tensor->rank * sizeof(int64_t)) != 0)
        return err_set(ERR_MISMATCH, "its momentum buffer of %s is missing or of another shape",
                       name);
    tensor->momentum = buffer->tensor.data;
    tensor->no_decay = no_decay;
    return 0;
}

static int read_group(const struct pth_value *state, const struct pth_value *group, bool no_decay,
                      struct checkpoint *out, struct checkpoint_tensor *tensors)
{
    const struct pth_value *names, *numbers;
    double decay = 0;
    int rc;
    if ((rc = get_real(group, "lr", &out->schedule.lr)) ||
        (rc = get_real(group, "initial_lr", &out->schedule.base_lr)) ||
        (rc = get_real(group, "momentum", &out->momentum)) ||
        (rc = get_real(group, "weight_decay", &decay)) ||
        (rc = get_list(group, "param_names", PTH_TEXT, &names)) ||
        (rc = get_list(group, "params", PTH_INT, &numbers)))
        return rc;
    if (names->count != numbers->count)
        return err_set(ERR_MISMATCH, "its optimizer names %zu parameters of %zu", names->count,
                       numbers->count);
    if (!no_decay)
        out->weight_decay = decay;
    for (size_t i = 0; i < names->count && !rc; i++)
        rc = read_momentum(state, names->items[i]->text, numbers->items[i]->integer, no_decay, out,
                           tensors);
    return rc;
}

static int read_optimizer(const struct pth_value *root, struct checkpoint *out,
                          struct checkpoint_tensor *tensors)
{
    const struct pth_value *optimizer, *state, *groups;
    int rc;
    if ((rc = get(root, "optimizer", PTH_DICT, &optimizer)) ||
        (rc = get(optimizer, "state", PTH_DICT, &state)) ||
        (rc = get_list(optimizer, "param_groups", PTH_DICT, &groups)))
        return rc;
    if (groups->count < 1 || groups->count > 2)
        return err_set(ERR_MISMATCH, "its optimizer has %zu groups", groups->count);
    for (size_t g = 0; g < groups->count && !rc; g++)
        rc = read_group(state, groups->items[g], g == 1, out, tensors);
    for (size_t i = 0; i < out->tensor_count && !rc; i++)
        if (!is_statistic(tensors[i].name) && !tensors[i].momentum)
            rc = err_set(ERR_MISMATCH, "its optimizer lacks the parameter %s", tensors[i].name);
    return rc;
}

static int read_scheduler(const struct pth_value *root, struct checkpoint_schedule *out)
{
    const struct pth_value *scheduler;
    int rc = get(root, "lr_scheduler", PTH_DICT, &scheduler);
    if (rc || (rc = get_int(scheduler, "last_epoch", &out->steps)))
        return rc;
    out->kind = pth_find(scheduler, "step_size") ? CHECKPOINT_STEP : CHECKPOINT_COSINE;
    if (out->kind == CHECKPOINT_COSINE)
        return get_int(scheduler, "T_max", &out->period);
    rc = get_int(scheduler, "step_size", &out->period);
    return rc ? rc : get_real(scheduler, "gamma", &out->gamma);
}

static int read_settings(struct mem_arena *a, const struct pth_value *root, struct checkpoint *out)
{
    const struct pth_value *params, *numbers;
    int rc;
    if ((rc = get(root, "params", PTH_DICT, &params)) ||
        (rc = get(root, "numbers", PTH_DICT, &numbers)))
        return rc;
    struct checkpoint_setting *setting =
        mem_arena_alloc(a, params->count / 2 * sizeof *setting, "checkpoint settings");
    struct checkpoint_number *number =
        mem_arena_alloc(a, numbers->count / 2 * sizeof *number, "checkpoint numbers");
    if (!setting || !number)
        return -ERR_MEMORY;
    out->settings = setting;
    out->setting_count = params->count / 2;
    out->numbers = number;
    out->number_count = numbers->count / 2;
    for (size_t i = 0; i + 1 < params->count; i += 2, setting++) {
        if (params->items[i]->kind != PTH_TEXT || params->items[i + 1]->kind != PTH_TEXT)
            return err_set(ERR_MISMATCH, "its \"params\" are not texts");
        setting->name = params->items[i]->text;
        if (!(setting->text = unescape_text(a, params->items[i + 1])))
            return -ERR_MEMORY;
    }
    for (size_t i = 0; i + 1 < numbers->count; i += 2, number++) {
        if (numbers->items[i]->kind != PTH_TEXT || numbers->items[i + 1]->kind != PTH_REAL)
            return err_set(ERR_MISMATCH, "its \"numbers\" are not floats");
        *number = (struct checkpoint_number){numbers->items[i]->text, numbers->items[i + 1]->real};
    }
    return 0;
}

static int read_position(const struct pth_value *root, struct checkpoint *out)
{
    const struct pth_value *position;
    int64_t epoch = 0, seed = 0;
    int rc;
    if ((rc = get_int(root, "seed", &seed)) || (rc = get(root, "position", PTH_DICT, &position)) ||
        (rc = get_int(position, "epoch", &epoch)) || (rc = get_int(position, "step", &out->step)) ||
        (rc = get_int(position, "global_step", &out->global_step)) ||
        (rc = get_bool(position, "evaluated", &out->evaluated)))
        return rc;
    if (epoch != out->epoch || out->step < 0 || out->global_step < 0 || seed < 0)
        return err_set(ERR_MISMATCH, "its position is not one that a run can have");
    out->seed = (uint64_t)seed;
    return 0;
}

int checkpoint_tree_read(struct mem_arena *a, const struct pth_value *root, struct checkpoint *out)
{
    const struct pth_value *best;
    struct checkpoint_tensor *tensors;
    int64_t format = 0, finished = 0;
    int rc;
    *out = (struct checkpoint){0};
    if ((rc = get_int(root, "format", &format)))
        return rc;
    if (format != CHECKPOINT_FORMAT)
        return err_set(ERR_MISMATCH, "its format is %lld; this program reads %d", (long long)format,
                       CHECKPOINT_FORMAT);
    if ((rc = get_int(root, "epoch", &finished)) || (rc = get_text(root, "arch", &out->arch)) ||
        (rc = read_classes(a, root, out)) ||
        (rc = get_text(root, "class_digest", &out->class_digest)) ||
        (rc = get_text(root, "data_digest", &out->data_digest)) ||
        (rc = get_int(root, "batches_tracked", &out->batches_tracked)) ||
        (rc = get(root, "best", PTH_DICT, &best)) ||
        (rc = get_real(best, "accuracy", &out->best_accuracy)) ||
        (rc = get_int(best, "epoch", &out->best_epoch)) ||
        (rc = read_model(a, root, out, &tensors)))
        return rc;
    if (finished < -1 || finished == INT64_MAX)
        return err_set(ERR_MISMATCH, "its epoch is %lld", (long long)finished);
    out->epoch = finished + 1;
    out->model_only = !pth_find(root, "optimizer");
    if (out->model_only)
        return 0;
    if ((rc = read_optimizer(root, out, tensors)) || (rc = read_scheduler(root, &out->schedule)) ||
        (rc = read_settings(a, root, out)))
        return rc;
    return read_position(root, out);
}
