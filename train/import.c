#include "train/import.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"

/* What differs between the file and the run. */
struct differences {
    char text[ERR_TEXT_SIZE - 300];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void differ(struct differences *list,
                                                         const char *format, ...)
{
    size_t room = sizeof list->text - list->used;
    va_list arguments;
    if (list->used && room > 3)
        list->used += (size_t)snprintf(list->text + list->used, room, "; ");
    room = sizeof list->text - list->used;
    va_start(arguments, format);
    int size = vsnprintf(list->text + list->used, room, format, arguments);
    va_end(arguments);
    list->used += (size_t)size < room ? (size_t)size : room - 1;
}

/* Are the file's outputs the classes of DATA? WHY (200 bytes) says what is not. */
static bool same_classes(const struct weights *weights, const struct manifest *data, char why[200])
{
    char was[80], is[80];
    if (weights->classes != data->class_count) {
        snprintf(why, 200, "it has %zu classes, the data set %zu", weights->classes,
                 data->class_count);
        return false;
    }
    for (size_t i = 0; weights->class_names && i < data->class_count; i++)
        if (strcmp(weights->class_names[i], data->classes[i].name) != 0) {
            snprintf(why, 200, "its class %zu is %s%s, the data set's is %s", i,
                     err_quote(was, 60, weights->class_names[i]),
                     weights->assumed ? " (as torchvision's)" : "",
                     err_quote(is, 60, data->classes[i].name));
            return false;
        }
    return true;
}

static bool is_head(const struct parameter *p)
{
    return p->role == PARAMETER_LINEAR || p->role == PARAMETER_BIAS;
}

static int set_values(struct net *net, const struct model *model, const struct weights *weights,
                      bool head)
{
    int rc = 0;
    for (size_t i = 0; i < model->parameter_count && !rc; i++) {
        const struct parameter *p = &model->parameters[i];
        if (head || !is_head(p))
            rc = net_set(net, NET_VALUE, p, weights_find(weights, p->name)->value);
    }
    return rc;
}

int import_init(struct net *net, const struct model *model, const struct weights *weights,
                const struct manifest *data)
{
    char why[200];
    bool head = same_classes(weights, data, why);
    int rc = set_values(net, model, weights, head);
    if (rc)
        return rc;
    if (head)
        log_line("--init: all weights are from %s (%s)", weights->format, weights->arch);
    else
        log_line("--init: weights are from %s (%s), but for the last layer, fc, which stays at its "
                 "initial values: %s",
                 weights->format, weights->arch, why);
    return 0;
}

/* ---- PyTorch's optimizer ---- */

static const struct pth_value *find_int(const struct pth_value *dict, int64_t key)
{
    for (size_t i = 0; dict && i + 1 < dict->count; i += 2)
        if (dict->items[i]->kind == PTH_INT && dict->items[i]->integer == key)
            return dict->items[i + 1];
    return NULL;
}

/* *OUT = the number under KEY. */
static bool get_number(const struct pth_value *dict, const char *key, double *out)
{
    const struct pth_value *value = pth_find(dict, key);
    if (!value || (value->kind != PTH_INT && value->kind != PTH_REAL))
        return false;
    *out = value->kind == PTH_INT ? (double)value->integer : value->real;
    return true;
}

static void compare(struct differences *list, const struct pth_value *dict, const char *key,
                    const char *option, double is)
{
    double was;
    if (get_number(dict, key, &was) && was != is)
        differ(list, "--%s was %g, is %g", option, was, is);
}

/* SGD's settings and the scheduler's against the run's. */
static void compare_settings(struct differences *list, const struct pth_value *root,
                             const struct pth_value *groups, const struct settings *settings)
{
    const struct pth_value *group = groups->items[0], *scheduler = pth_find(root, "lr_scheduler");
    const struct pth_value *nesterov = pth_find(group, "nesterov");
    double dampening = 0;
    compare(list, group, pth_find(group, "initial_lr") ? "initial_lr" : "lr", "lr", settings->lr);
    compare(list, group, "momentum", "momentum", settings->momentum);
    compare(list, group, "weight_decay", "weight-decay", settings->weight_decay);
    if (nesterov && nesterov->kind == PTH_BOOL && nesterov->boolean)
        differ(list, "its SGD uses Nesterov momentum, which train has not");
    if (get_number(group, "dampening", &dampening) && dampening != 0)
        differ(list, "its SGD has dampening %g, which train has not", dampening);
    if (groups->count != (settings->decay_norm ? 1 : 2))
        differ(list, "its optimizer has %zu parameter groups (--no-decay-norm has 2)",
               groups->count);
    if (pth_find(scheduler, "step_size") && settings->schedule != SCHEDULE_STEP)
        differ(list, "--schedule was step");
    if (pth_find(scheduler, "T_max") && settings->schedule != SCHEDULE_COSINE)
        differ(list, "--schedule was cosine");
    if (settings->schedule == SCHEDULE_STEP) {
        compare(list, scheduler, "step_size", "lr-step-size", (double)settings->lr_step_size);
        compare(list, scheduler, "gamma", "lr-gamma", settings->lr_gamma);
    }
}

/* The buffer called KEY as P's momentum; a parameter that was never updated has none. */
static int set_momentum(struct net *net, const struct parameter *p, const struct pth_value *state,
                        const struct pth_value *key)
{
    const struct pth_value *buffer =
        key->kind == PTH_INT ? pth_find(find_int(state, key->integer), "momentum_buffer") : NULL;
    if (!buffer || buffer->kind == PTH_NONE)
        return 0;
    if (buffer->kind != PTH_TENSOR || buffer->tensor.rank != p->rank ||
        memcmp(buffer->tensor.shape, p->shape, (size_t)p->rank * sizeof *p->shape) != 0)
        return err_set(ERR_MISMATCH,
                       "the momentum buffer %lld of its optimizer does not have the "
                       "shape of %s",
                       (long long)key->integer, p->name);
    float *copy = mem_array(p->count, sizeof *copy, "momentum");
    if (!copy)
        return -ERR_MEMORY;
    int rc = 0;
    for (size_t i = 0; i < p->count && !rc; i++) {
        copy[i] = weights_element(buffer, i);
        if (!isfinite(copy[i]))
            rc = err_set(ERR_INPUT, "the momentum of %s holds %g", p->name, (double)copy[i]);
    }
    if (!rc)
        rc = net_set(net, NET_MOMENTUM, p, copy);
    mem_free(copy);
    return rc;
}

/* The buffers are numbered in the order in which the groups list them: with two groups first the
 * parameters with decay. */
static int set_momenta(struct net *net, const struct model *model, const struct pth_value *state,
                       const struct pth_value *groups)
{
    for (size_t g = 0; g < groups->count; g++) {
        const struct pth_value *numbers = pth_find(groups->items[g], "params");
        size_t next = 0;
        int rc = 0;
        for (size_t i = 0; i < model->trained_count && !rc; i++) {
            const struct parameter *p = &model->parameters[i];
            if (groups->count == 2 && (p->rank > 1) != (g == 0))
                continue;
            if (!numbers || numbers->kind != PTH_LIST || next >= numbers->count)
                return err_set(
                    ERR_MISMATCH,
                    "its optimizer has fewer parameters than the network: %s is not in it",
                    p->name);
            rc = set_momentum(net, p, state, numbers->items[next++]);
        }
        if (rc)
            return rc;
        if (next != numbers->count)
            return err_set(ERR_MISMATCH,
                           "its optimizer has %zu parameters in group %zu, the "
                           "network %zu",
                           numbers->count, g, next);
    }
    return 0;
}

int import_resume(struct net *net, const struct model *model, const struct weights *weights,
                  const struct settings *settings, const struct manifest *data, int64_t steps,
                  struct position *out)
{
    const struct pth_value *optimizer = pth_find(weights->root, "optimizer"),
                           *epoch = pth_find(weights->root, "epoch"),
                           *groups = pth_find(optimizer, "param_groups");
    struct differences list = {.used = 0};
    char why[200];
    int rc;
    *out = (struct position){.evaluated = !settings->first_validation, .best_epoch = -1};
    if (!same_classes(weights, data, why))
        differ(&list, "%s (--init takes all but the last layer)", why);
    if (groups && (groups->kind != PTH_LIST || !groups->count))
        return err_set(ERR_MISMATCH, "its optimizer is not the state dict of torch.optim.SGD");
    if (groups)
        compare_settings(&list, weights->root, groups, settings);
    if (list.used)
        return err_set(ERR_MISMATCH, "%s", list.text);
    if ((rc = set_values(net, model, weights, true)))
        return rc;
    if (!groups) {
        log_line("it holds weights alone: training begins at the first update");
        return 0;
    }
    if (!epoch || epoch->kind != PTH_INT || epoch->integer < -1 || epoch->integer > 1000000)
        return err_set(ERR_MISMATCH, "its \"epoch\" is not the number of a finished epoch");
    out->epoch = epoch->integer + 1;
    out->global_step = out->epoch * steps;
    return set_momenta(net, model, pth_find(optimizer, "state"), groups);
}
