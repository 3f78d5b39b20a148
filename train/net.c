/*
 * net.c - a network on a device: setting up its ops, the plan of where everything lies, its memory,
 * and its parameters. net_walk.c computes with it.
 *
 * Steps of the training list of T ops, for lifetimes: 0 feeds the pictures, 1 .. T are the forward
 * calls, T + 1 .. 2T the backward calls in reverse order. Of the evaluation list of E ops: 0 feeds,
 * 1 .. E forward. One step more comes after each, when logits and result are read. Preparing packed
 * weights comes before step 0, when the arena holds nothing but the evaluation list's packed
 * weights; these are made anew after every net_train, which uses the same bytes.
 */
#include "train/net.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/memory_plan.h"
#include "train/net_fit.h"
#include "train/net_inside.h"

static const char *const part_names[PARTS] = {"activation of", "gradient by", "saved bytes of",
                                              "workspace of", "packed weights of"};

/* ---- messages ---- */

static void shape_text(const struct tensor *t, char out[64])
{
    snprintf(out, 64, "%dx%dx%dx%d", t->n, t->c, t->h, t->w);
}

int net_op_failed(const struct net *net, const struct op *op, const char *what, int rc)
{
    char in[64], out[64] = "no tensor";

    shape_text(op->in, in);
    if (op->out)
        shape_text(op->out, out);
    return err_add(rc, "%s: %s of %s (%s, %s to %s)", net->backend->name, what, op->name,
                   op_kind_names[op->kind], in, out);
}

/* ---- setting up ---- */

static size_t aligned(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Floats are placed in the order of the parameters, each at a multiple of 64 bytes. */
static int set_up_parameters(struct net *net)
{
    struct model *m = net->model;

    for (size_t i = 0; i < m->parameter_count; i++) {
        struct parameter *p = &m->parameters[i];
        int rc = net->backend->parameter_setup(net->device, p);

        if (rc)
            return err_add(rc, "%s: parameter %s", net->backend->name, p->name);
        p->offset = net->floats;
        net->floats += aligned(p->stored * sizeof(float)) / sizeof(float);
        if (i + 1 == m->trained_count)
            net->trained_floats = net->floats;
    }
    return 0;
}

/* A normalisation needs two values a channel: the unbiased variance divides by their number less 1.
 */
static int check_norm(const struct op *op)
{
    const struct tensor *t = op->in;

    bool norm = op->kind == OP_NORM || op->kind == OP_NORM_CONV;

    if (!norm || (int64_t)t->n * t->h * t->w >= 2)
        return 0;
    return err_set(
        ERR_USAGE,
        "a batch of %d leaves %dx%d values a channel at %s, too few to normalise: take a "
        "larger batch or larger pictures",
        t->n, t->h, t->w, op->name);
}

static int set_up_ops(struct net *net, struct list *list)
{
    int rc;

    for (struct op *op = list->ops; op < list->ops + list->count; op++) {
        if (list->training && (rc = check_norm(op)))
            return rc;
        op->packed_bytes = op->saved_bytes = op->workspace_bytes = 0;
        op->backward_reads_in = op->backward_reads_out = false;
        op->state = op->packed = op->saved = op->workspace = NULL;
    }
    if (net->backend->list_setup &&
        (rc = net->backend->list_setup(net->device, list->ops, list->count, list->training)))
        return err_add(rc, "%s", net->backend->name);
    for (struct op *op = list->ops; op < list->ops + list->count; op++) {
        if ((rc = net->backend->op_setup(net->device, op, list->training)))
            return net_op_failed(net, op, "setup", rc);
        list->set_up++;
    }
    return 0;
}

static int set_up(struct net *net)
{
    struct model *m = net->model;
    int rc;

    for (size_t i = 0; i < m->tensor_count; i++) {
        m->tensors[i].on_device = false;
        if ((rc = net->backend->tensor_setup(net->device, &m->tensors[i])))
            return err_add(rc, "%s: a tensor", net->backend->name);
    }
    if ((rc = set_up_parameters(net)))
        return rc;
    if (net->settings.training && (rc = set_up_ops(net, &net->training)))
        return rc;
    return set_up_ops(net, &net->evaluation);
}

/* ---- lifetimes ---- */

static struct memory_thing *add_thing(struct list *list, enum part part, const struct op *owner,
                                      size_t bytes, void **place, int first, int last)
{
    size_t at = list->thing_count++;
    struct memory_thing *thing = &list->things[at];

    *thing = (struct memory_thing){.what = part_names[part],
                                   .owner = owner->name,
                                   .bytes = bytes,
                                   .spans = 1,
                                   .span = {{first, last}}};
    list->parts[at] = part;
    list->places[at] = place;
    return thing;
}

static int forward_step(size_t i)
{
    return (int)i + 1;
}

static int backward_step(const struct list *list, size_t i)
{
    return 2 * (int)list->count - (int)i;
}

/* The step after the calls, and the last. */
static int end_step(const struct list *list)
{
    return (list->training ? 2 : 1) * (int)list->count + 1;
}

static bool reads(const struct op *op, const struct tensor *t)
{
    return op->in == t || op->residual == t;
}

/* What op I makes lives until the last op that reads it, forward or backward; its gradients from
 * the backward call that writes each to the one of op I. MADE: the op's out; for I -1 the pictures.
 */
static void add_tensor(struct list *list, int i, struct tensor *made)
{
    const struct op *owner = &list->ops[i < 0 ? 0 : i];
    int first = i < 0 ? 0 : forward_step((size_t)i), last = first;

    if (i >= 0 && list->training && owner->backward_reads_out)
        last = backward_step(list, (size_t)i);
    for (size_t k = i < 0 ? 0 : (size_t)i + 1; k < list->count; k++) {
        const struct op *op = &list->ops[k];
        int end = list->training && op->in == made && op->backward_reads_in ? backward_step(list, k)
                                                                            : forward_step(k);

        if (reads(op, made) && end > last)
            last = end;
        if (!list->training || i < 0)
            continue;
        if (op->in == made && op->in_slot >= 0)
            add_thing(list, PART_GRADIENT, op, made->bytes, &made->gradients[op->in_slot],
                      backward_step(list, k), backward_step(list, (size_t)i));
        if (op->residual == made && op->residual_slot >= 0)
            add_thing(list, PART_GRADIENT, op, made->bytes, &made->gradients[op->residual_slot],
                      backward_step(list, k), backward_step(list, (size_t)i));
    }
    if (made->role == TENSOR_LOGITS)
        last = end_step(list);
    add_thing(list, PART_ACTIVATION, owner, made->on_device ? 0 : made->bytes, &made->data, first,
              last);
}

/* Saved bytes live from forward to backward, the loss's until the result is read, at the end. */
static void add_op_things(struct list *list, size_t i)
{
    struct op *op = &list->ops[i];
    int forward = forward_step(i), end = end_step(list);
    int saved_until = op->kind == OP_LOSS ? end : list->training ? backward_step(list, i) : forward;
    struct memory_thing *workspace =
        add_thing(list, PART_WORKSPACE, op, op->workspace_bytes, &op->workspace, forward, forward);

    if (list->training) {
        workspace->spans = 2;
        workspace->span[1].first = workspace->span[1].last = backward_step(list, i);
    } else {
        add_thing(list, PART_PACKED, op, op->packed_bytes, &op->packed, 0, end);
    }
    add_thing(list, PART_SAVED, op, op->saved_bytes, &op->saved, forward, saved_until);
}

static int plan_list(struct list *list)
{
    /* Pictures; of each op its tensor, two gradients, workspace, saved and packed bytes. */
    size_t limit = 1 + 6 * list->count;

    list->things = mem_array(limit, sizeof *list->things, "the memory plan");
    list->parts = mem_array(limit, sizeof *list->parts, "the memory plan");
    list->places = mem_array(limit, sizeof *list->places, "the memory plan");
    if (!list->things || !list->parts || !list->places)
        return -ERR_MEMORY;
    add_tensor(list, -1, list->ops[0].in);
    for (size_t i = 0; i < list->count; i++) {
        if (list->ops[i].out)
            add_tensor(list, (int)i, list->ops[i].out);
        add_op_things(list, i);
    }
    return memory_plan_place(list->things, list->thing_count, &list->arena);
}

/* What the arena holds at its fullest moment. */
static void describe_fullest(struct net *net, const struct list *list)
{
    uint64_t sums[PARTS] = {0};
    int fullest = 0;

    memory_plan_floor(list->things, list->thing_count, end_step(list) + 1, &fullest);
    for (size_t i = 0; i < list->thing_count; i++)
        if (memory_plan_lives(&list->things[i], fullest))
            sums[list->parts[i]] += list->things[i].bytes;
    net->plan.activations = sums[PART_ACTIVATION];
    net->plan.activation_gradients = sums[PART_GRADIENT];
    net->plan.saved = sums[PART_SAVED];
    net->plan.workspace = sums[PART_WORKSPACE];
}

static int plan(struct net *net)
{
    struct net_plan *p = &net->plan;
    bool training = net->settings.training;
    int rc;

    if ((training && (rc = plan_list(&net->training))) || (rc = plan_list(&net->evaluation)))
        return rc;
    p->values = net->floats * sizeof(float);
    if (training) {
        p->gradients = p->momenta = net->trained_floats * sizeof(float);
        p->accumulated = net->settings.accumulate ? p->gradients : 0;
        for (size_t i = 0; i < net->training.count; i++)
            p->packed += aligned(net->training.ops[i].packed_bytes);
    }
    bool fuller = training && net->training.arena >= net->evaluation.arena;
    p->arena = fuller ? net->training.arena : net->evaluation.arena;
    describe_fullest(net, fuller ? &net->training : &net->evaluation);
    if (net->backend->reserve &&
        (rc = net->backend->reserve(net->device, net->model->parameters, net->model->trained_count,
                                    net->trained_floats, net->settings.packed_bytes, training, true,
                                    &p->own)))
        return rc;
    p->total = p->values + p->gradients + p->momenta + p->accumulated + p->packed + p->arena +
               p->own.copies + p->own.staging;
    return 0;
}

/* ---- memory ---- */

/* Refuse what does not fit before anything is taken. */
static int check_room(const struct net *net)
{
    uint64_t free_bytes;
    char text[32];
    int fitting,
        rc = net->backend->free_bytes ? net->backend->free_bytes(net->device, &free_bytes) : 0;

    if (rc || !net->backend->free_bytes || net->plan.total <= free_bytes ||
        (rc = net_largest_batch(net->backend, net->device, &net->model->settings, &net->settings,
                                free_bytes, &fitting)))
        return rc;
    log_bytes(text, (double)free_bytes);
    if (!fitting)
        return err_set(ERR_MEMORY, "%s are free, not enough for a smaller batch either", text);
    return err_set(ERR_MEMORY,
                   "%s are free: the largest batch that fits is %d, with workspaces as large as "
                   "those of %d",
                   text, fitting, net->model->settings.batch);
}

static int allocate(struct net *net)
{
    const struct net_plan *p = &net->plan;
    const uint64_t bytes[BLOCKS] = {[BLOCK_VALUES] = p->values,   [BLOCK_GRADIENTS] = p->gradients,
                                    [BLOCK_MOMENTA] = p->momenta, [BLOCK_SUMS] = p->accumulated,
                                    [BLOCK_PACKED] = p->packed,   [BLOCK_ARENA] = p->arena};
    char total[32], weights[32], arena[32];
    int rc = check_room(net);

    for (int i = 0; i < BLOCKS && !rc; i++)
        if (bytes[i])
            rc = net->backend->alloc(net->device, (size_t)bytes[i], &net->blocks[i]);
    if (!rc && net->backend->reserve)
        rc = net->backend->reserve(net->device, net->model->parameters, net->model->trained_count,
                                   net->trained_floats, net->settings.packed_bytes,
                                   net->settings.training, false, &net->plan.own);
    if (!rc)
        return 0;
    return err_add(
        rc,
        "%s with batches of %d pictures of %d pixels needs %s of memory on device %s (%s "
        "for weights, gradients and momenta, %s for activations); take a smaller batch",
        net->model->settings.arch, net->model->settings.batch, net->model->settings.image_size,
        log_bytes(total, (double)p->total), net->backend->name,
        log_bytes(weights, (double)(p->total - p->arena)), log_bytes(arena, (double)p->arena));
}

static void bind(struct net *net)
{
    struct list *lists[] = {&net->training, &net->evaluation};
    char *packed = net->blocks[BLOCK_PACKED], *arena = net->blocks[BLOCK_ARENA];

    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l]->thing_count; i++)
            if (lists[l]->things[i].bytes)
                *lists[l]->places[i] = arena + lists[l]->things[i].offset;
    for (size_t i = 0; i < net->training.count && net->settings.training; i++) {
        struct op *op = &net->training.ops[i];

        op->packed = op->packed_bytes ? packed : NULL;
        packed += aligned(op->packed_bytes);
    }
}

int net_open(struct net **out, const struct backend *backend, struct device *device,
             struct model *model, const struct net_settings *settings)
{
    struct net *net = mem_array(1, sizeof *net, "the network");
    int rc;

    if (!net)
        return -ERR_MEMORY;
    net->backend = backend;
    net->device = device;
    net->model = model;
    net->settings = *settings;
    net->training = (struct list){
        .ops = model->training, .count = model->training_count, .training = true, .stale = true};
    net->evaluation =
        (struct list){.ops = model->evaluation, .count = model->evaluation_count, .stale = true};
    if ((rc = set_up(net)) || (rc = plan(net)) || (!settings->plan_only && (rc = allocate(net))))
        goto fail;
    if (!settings->plan_only)
        bind(net);
    *out = net;
    return 0;

fail:
    net_close(net);
    return rc;
}

static int try_model(struct net **out, struct model **model, const struct backend *backend,
                     struct device *device, const struct model_settings *model_settings,
                     const struct net_settings *settings)
{
    int rc = model_open(model, model_settings);

    if (rc || !(rc = net_open(out, backend, device, *model, settings)))
        return rc;
    model_close(*model);
    *model = NULL;
    return rc;
}

int net_open_model(struct net **out, struct model **model, const struct backend *backend,
                   struct device *device, const struct model_settings *model_settings,
                   const struct net_settings *settings)
{
    struct model_settings wish = *model_settings;
    int rc;

    *model = NULL;
    wish.fused = backend->fuses && backend->fuses(device);
    rc = try_model(out, model, backend, device, &wish, settings);
    if (rc == -ERR_DEVICE && wish.fused) {
        log_line("fusion level b cannot be had: %s", err_text());
        wish.fused = false;
        rc = try_model(out, model, backend, device, &wish, settings);
    }
    if (!rc && backend->fuses)
        log_line("fusion: level %s", wish.fused ? "b: convolutions normalise what they read and "
                                                  "sum what they write"
                                                : "a: a normalisation with its sum, ReLU and mask");
    return rc;
}

static void close_list(struct net *net, struct list *list)
{
    for (size_t i = 0; i < list->set_up; i++)
        net->backend->op_release(net->device, &list->ops[i]);
    mem_free(list->things);
    mem_free(list->parts);
    mem_free(list->places);
}

void net_close(struct net *net)
{
    if (!net)
        return;
    for (int i = 0; i < BLOCKS; i++)
        if (net->blocks[i])
            net->backend->release(net->device, net->blocks[i]);
    close_list(net, &net->training);
    close_list(net, &net->evaluation);
    mem_free(net);
}

const struct net_plan *net_memory(const struct net *net)
{
    return &net->plan;
}

int net_check_plan(const struct net *net)
{
    const struct list *lists[] = {&net->training, &net->evaluation};
    int rc = 0;

    for (int l = 0; l < 2 && !rc; l++)
        rc = memory_plan_check(lists[l]->things, lists[l]->thing_count, net->plan.arena);
    return rc;
}

/* ---- parameters ---- */

const char *const *net_number_names(const struct net *net)
{
    return net->backend->numbers ? net->backend->numbers(net->device) : NULL;
}

int net_numbers_get(struct net *net, double *out)
{
    int rc = net->backend->numbers_get(net->device, out);

    return rc ? err_add(rc, "%s: reading the device's numbers", net->backend->name) : 0;
}

int net_numbers_set(struct net *net, const double *in)
{
    int rc = net->backend->numbers_set(net->device, in);

    return rc ? err_add(rc, "%s: writing the device's numbers", net->backend->name) : 0;
}

float *net_update_gradients(const struct net *net)
{
    return net->blocks[net->settings.accumulate ? BLOCK_SUMS : BLOCK_GRADIENTS];
}

/* The flat block, or NULL with ERR_FAULT set where it does not have the parameter. */
static float *block_of(const struct net *net, enum net_block block, const struct parameter *p)
{
    float *memory = block == NET_VALUE      ? net->blocks[BLOCK_VALUES]
                    : block == NET_MOMENTUM ? net->blocks[BLOCK_MOMENTA]
                                            : net_update_gradients(net);
    bool trained = p < net->model->parameters + net->model->trained_count;

    if (memory && (trained || block == NET_VALUE))
        return memory;
    err_set(ERR_FAULT, "%s has no %s in this network", p->name,
            block == NET_MOMENTUM ? "momentum" : "gradient");
    return NULL;
}

int net_get(struct net *net, enum net_block block, const struct parameter *p, float *out)
{
    const float *memory = block_of(net, block, p);

    if (!memory)
        return -ERR_FAULT;
    int rc = net->backend->parameter_get(net->device, p, memory, out);
    return rc ? err_add(rc, "%s: reading %s", net->backend->name, p->name) : 0;
}

int net_set(struct net *net, enum net_block block, const struct parameter *p, const float *in)
{
    float *memory = block_of(net, block, p);

    if (!memory)
        return -ERR_FAULT;
    net->training.stale = net->evaluation.stale = true;
    int rc = net->backend->parameter_set(net->device, p, in, memory);
    return rc ? err_add(rc, "%s: writing %s", net->backend->name, p->name) : 0;
}
