#include "train/state.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/schedule.h"

enum { STATE_NUMBERS = 4 }; /* a device has no more of its own */

struct state {
    struct net *net;
    const struct model *model;
    const struct settings *settings;
    struct dataset *dataset;
    int64_t steps;
    struct checkpoint_class *classes;
    struct settings_pair pairs[SETTINGS_PAIR_LIMIT];
    struct checkpoint_setting pair_texts[SETTINGS_PAIR_LIMIT];
    size_t pair_count;
    struct checkpoint_tensor *tensors; /* as the model's parameters; they point into `copies` */
    float *copies;
    size_t floats;
    struct checkpoint_number numbers[2 + STATE_NUMBERS];
    struct checkpoint snapshot; /* of all the above, at one position */
};

/* Each parameter's place in the host copies: values, then momenta of the trained ones. */
static int place_tensors(struct state *state)
{
    const struct model *model = state->model;
    for (size_t i = 0; i < model->parameter_count; i++)
        state->floats += model->parameters[i].count * (i < model->trained_count ? 2 : 1);
    state->tensors =
        mem_array(model->parameter_count, sizeof *state->tensors, "checkpoint tensors");
    state->copies =
        mem_pages(state->floats * sizeof *state->copies, "host copies of the parameters");
    if (!state->tensors || !state->copies)
        return -ERR_MEMORY;
    float *place = state->copies;
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        struct checkpoint_tensor *tensor = &state->tensors[i];
        tensor->name = p->name;
        tensor->rank = p->rank;
        memcpy(tensor->shape, p->shape, sizeof tensor->shape);
        tensor->value = place;
        place += p->count;
        if (i < model->trained_count) {
            tensor->momentum = place;
            place += p->count;
        }
        bool norm =
            p->role == PARAMETER_GAMMA || p->role == PARAMETER_BETA || p->role == PARAMETER_BIAS;
        tensor->no_decay = norm && !state->settings->decay_norm;
    }
    return 0;
}

int state_open(struct state **out, struct net *net, const struct model *model,
               const struct settings *settings, struct dataset *dataset, const char *device,
               const char *precision, int64_t steps)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    struct state *state = mem_array(1, sizeof *state, "run state");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!state)
        return rc;
    state->net = net;
    state->model = model;
    state->settings = settings;
    state->dataset = dataset;
    state->steps = steps;
    if (!(state->classes = mem_array(manifest->class_count, sizeof *state->classes, "class table")))
        goto fail;
    for (size_t i = 0; i < manifest->class_count; i++)
        state->classes[i] =
            (struct checkpoint_class){manifest->classes[i].name, manifest->classes[i].words};
    state->pair_count = settings_pairs(settings, device, precision, state->pairs);
    for (size_t i = 0; i < state->pair_count; i++)
        state->pair_texts[i] =
            (struct checkpoint_setting){state->pairs[i].name, state->pairs[i].text};
    if ((rc = place_tensors(state)))
        goto fail;
    *out = state;
    return 0;

fail:
    state_close(state);
    return rc;
}

void state_close(struct state *state)
{
    if (!state)
        return;
    mem_pages_free(state->copies);
    mem_free(state->tensors);
    mem_free(state->classes);
    mem_free(state);
}

uint64_t state_memory(const struct state *state)
{
    return state->floats * sizeof(float);
}

/* ---- into the net ---- */

int state_begin(struct state *state, struct position *out)
{
    const struct model *model = state->model;
    *out = (struct position){.evaluated = !state->settings->first_validation, .best_epoch = -1};
    /* Not in turns: a device's own threads go on spinning for a while after each transfer, on the
     * cores that draw the next numbers. */
    for (size_t i = 0; i < model->parameter_count; i++)
        model_initialise(model, &model->parameters[i], (uint64_t)state->settings->seed,
                         state->settings->zero_gamma, (float *)state->tensors[i].value);
    for (size_t i = 0; i < model->parameter_count; i++) {
        int rc = net_set(state->net, NET_VALUE, &model->parameters[i], state->tensors[i].value);
        if (rc)
            return rc;
    }
    return 0;
}

/* A list of differences that grows to the size of an error text. */
struct differences {
    char text[ERR_TEXT_SIZE - 200];
    size_t used;
    int count, hidden;
};

__attribute__((format(printf, 2, 3))) static void differ(struct differences *list,
                                                         const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    list->count++;
    int size = snprintf(list->text + list->used, sizeof list->text - list->used, "%s%s",
                        list->used ? "; " : "", line);
    if ((size_t)size < sizeof list->text - list->used) {
        list->used += (size_t)size;
    } else {
        list->text[list->used] = 0;
        list->hidden++;
    }
}

static void compare_settings(const struct state *state, const struct checkpoint *from,
                             struct differences *list)
{
    for (size_t i = 0; i < state->pair_count; i++) {
        const struct settings_pair *pair = &state->pairs[i];
        const char *saved = checkpoint_setting(from, pair->name);
        if (saved && !strcmp(saved, pair->text))
            continue;
        if (pair->inexact)
            log_warning("--%s was %s and is %s now: the run goes on, with other rounding than an "
                        "uninterrupted one",
                        pair->name, saved ? saved : "not said", pair->text);
        else if (!saved)
            differ(list, "--%s is not in it", pair->name);
        else
            differ(list, "--%s was %s, is %s", pair->name, saved, pair->text);
    }
}

static void compare_data(const struct state *state, const struct checkpoint *from,
                         struct differences *list)
{
    const struct manifest *manifest = dataset_manifest(state->dataset);
    if (strcmp(from->class_digest, dataset_class_digest(state->dataset)) != 0) {
        size_t i = 0;
        while (i < from->class_count && i < manifest->class_count &&
               !strcmp(from->classes[i].name, manifest->classes[i].name))
            i++;
        char was[80], is[80];
        err_quote(was, sizeof was, i < from->class_count ? from->classes[i].name : "(none)");
        err_quote(is, sizeof is, i < manifest->class_count ? manifest->classes[i].name : "(none)");
        differ(list, "class %zu was %s, is %s (%zu classes then, %zu now)", i, was, is,
               from->class_count, manifest->class_count);
    } else if (strcmp(from->data_digest, dataset_digest(state->dataset)) != 0) {
        differ(list, "the data set of --db is another one (same classes, other records or settings "
                     "of prep pack)");
    }
}

static void compare_tensors(const struct state *state, const struct checkpoint *from,
                            struct differences *list)
{
    for (size_t i = 0; i < state->model->parameter_count; i++) {
        const struct checkpoint_tensor *wanted = &state->tensors[i];
        const struct checkpoint_tensor *found = checkpoint_find(from, wanted->name);
        if (!found)
            differ(list, "tensor %s is missing", wanted->name);
        else if (found->rank != wanted->rank ||
                 memcmp(found->shape, wanted->shape,
                        (size_t)wanted->rank * sizeof *wanted->shape) != 0)
            differ(list, "tensor %s has another shape", wanted->name);
        else if (wanted->momentum && !found->momentum)
            differ(list, "tensor %s has no momentum", wanted->name);
    }
    if (from->tensor_count > state->model->parameter_count)
        differ(list, "it holds %zu tensors, the network %zu", from->tensor_count,
               state->model->parameter_count);
}

static double number_or_zero(const struct checkpoint *from, const char *name)
{
    const double *value = checkpoint_number(from, name);
    return value ? *value : 0;
}

/* The device's own numbers, where the checkpoint has them all (another precision may have none). */
static int resume_numbers(struct state *state, const struct checkpoint *from)
{
    const char *const *names = net_number_names(state->net);
    double values[STATE_NUMBERS];
    size_t count = 0;
    for (; names && names[count]; count++) {
        const double *value = checkpoint_number(from, names[count]);
        if (!value)
            return 0;
        values[count] = *value;
    }
    return count ? net_numbers_set(state->net, values) : 0;
}

int state_resume(struct state *state, const struct checkpoint *from, struct position *out)
{
    struct differences list = {.count = 0};
    if (from->model_only)
        return err_set(ERR_MISMATCH,
                       "it holds a model alone, without the optimizer: a run cannot go on from it");
    compare_settings(state, from, &list);
    compare_data(state, from, &list);
    if (!list.count)
        compare_tensors(state, from, &list);
    if (!list.count &&
        (from->seed != (uint64_t)state->settings->seed || from->step >= state->steps))
        differ(&list, "position: seed %" PRIu64 ", step %lld of an epoch of %lld", from->seed,
               (long long)from->step, (long long)state->steps);
    if (list.hidden)
        return err_set(ERR_MISMATCH, "%s; and %d more", list.text, list.hidden);
    if (list.count)
        return err_set(ERR_MISMATCH, "%s", list.text);
    for (size_t i = 0; i < state->model->parameter_count; i++) {
        const struct parameter *p = &state->model->parameters[i];
        const struct checkpoint_tensor *tensor = checkpoint_find(from, p->name);
        int rc = net_set(state->net, NET_VALUE, p, tensor->value);
        if (!rc && tensor->momentum)
            rc = net_set(state->net, NET_MOMENTUM, p, tensor->momentum);
        if (rc)
            return rc;
    }
    int rc = resume_numbers(state, from);
    if (rc)
        return rc;
    *out = (struct position){
        .epoch = from->epoch,
        .step = from->step,
        .global_step = from->global_step,
        .evaluated = from->evaluated,
        .loss_sum = number_or_zero(from, "loss_sum"),
        .loss_batches = (int64_t)number_or_zero(from, "loss_batches"),
        .best_accuracy = from->best_accuracy,
        .best_epoch = from->best_epoch,
    };
    return 0;
}

/* ---- out of the net ---- */

static int copy_parameters(struct state *state)
{
    for (size_t i = 0; i < state->model->parameter_count; i++) {
        const struct parameter *p = &state->model->parameters[i];
        const struct checkpoint_tensor *tensor = &state->tensors[i];
        int rc = net_get(state->net, NET_VALUE, p, (float *)tensor->value);
        if (!rc && tensor->momentum)
            rc = net_get(state->net, NET_MOMENTUM, p, (float *)tensor->momentum);
        if (rc)
            return rc;
    }
    return 0;
}

/* Add the device's own numbers. */
static int save_numbers(struct state *state, struct checkpoint_number *numbers, size_t *count)
{
    const char *const *names = net_number_names(state->net);
    double values[STATE_NUMBERS];
    int rc = names ? net_numbers_get(state->net, values) : 0;
    for (size_t i = 0; !rc && names && names[i]; i++)
        numbers[(*count)++] = (struct checkpoint_number){names[i], values[i]};
    return rc;
}

int state_snapshot(struct state *state, const struct position *position)
{
    const struct settings *settings = state->settings;
    size_t number_count = 2;
    state->numbers[0] = (struct checkpoint_number){"loss_sum", position->loss_sum};
    state->numbers[1] = (struct checkpoint_number){"loss_batches", (double)position->loss_batches};
    int rc = copy_parameters(state);
    if (rc || (rc = save_numbers(state, state->numbers, &number_count)))
        return rc;
    state->snapshot = (struct checkpoint){
        .arch = settings_arch(settings),
        .classes = state->classes,
        .class_count = dataset_manifest(state->dataset)->class_count,
        .class_digest = dataset_class_digest(state->dataset),
        .data_digest = dataset_digest(state->dataset),
        .seed = (uint64_t)settings->seed,
        .epoch = position->epoch,
        .step = position->step,
        .global_step = position->global_step,
        .evaluated = position->evaluated,
        .batches_tracked = position->global_step * settings->accumulate,
        .best_accuracy = position->best_accuracy,
        .best_epoch = position->best_epoch,
        .settings = state->pair_texts,
        .setting_count = state->pair_count,
        .numbers = state->numbers,
        .number_count = number_count,
        .momentum = settings->momentum,
        .weight_decay = settings->weight_decay,
        .schedule = schedule_state(settings, state->steps, position->epoch, position->step),
        .tensors = state->tensors,
        .tensor_count = state->model->parameter_count,
    };
    return 0;
}

int state_write(const struct state *state, const char *folder, bool model)
{
    /* The model first: a run that is killed between the two makes it again, since the checkpoint is
     * still the one before. */
    int rc =
        model ? checkpoint_publish_model(folder, &state->snapshot, settings_keep(state->settings))
              : 0;
    return rc ? rc : checkpoint_publish(folder, &state->snapshot);
}
