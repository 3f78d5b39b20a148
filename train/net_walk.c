/*
 * net_walk.c - computing with a network: forward, backward, sums and update, results, and where the
 * time goes.
 */
#include "common/err.h"
#include "common/work.h"
#include "train/net_inside.h"

/* ---- profile ---- */

/* While measuring, the time of every call goes to *SUM: the device's, from mark to mark, or the
 * host's since SINCE when the call has been waited for. */
static int measure(struct net *net, double since, double *sum)
{
    const struct backend *backend = net->backend;
    int rc;

    if (!net->profiling)
        return 0;
    if (backend->mark && net->mark_count < MARKS) {
        net->marked[net->mark_count] = sum;
        return backend->mark(net->device, ++net->mark_count);
    }
    if ((rc = backend->sync(net->device)))
        return rc;
    *sum += work_seconds() - since;
    return 0;
}

/* From now on calls are measured, from the first mark on. */
static int begin_marks(struct net *net)
{
    net->mark_count = 0;
    return net->profiling && net->backend->mark ? net->backend->mark(net->device, 0) : 0;
}

static int collect_marks(struct net *net)
{
    int rc = net->profiling && net->mark_count ? net->backend->sync(net->device) : 0;

    for (int i = 0; i < net->mark_count && !rc; i++) {
        double seconds = 0;

        rc = net->backend->marked(net->device, i + 1, &seconds);
        *net->marked[i] += seconds;
    }
    net->mark_count = 0;
    return rc;
}

void net_profile_start(struct net *net)
{
    net->profile = (struct net_profile){0};
    net->profiling = true;
}

const struct net_profile *net_profile(const struct net *net)
{
    return &net->profile;
}

/* ---- walking ---- */

static int prepare_list(struct net *net, struct list *list)
{
    if (!list->stale)
        return 0;
    for (struct op *op = list->ops; op < list->ops + list->count; op++) {
        double since = work_seconds();
        int rc = net->backend->prepare(net->device, op, net->blocks[BLOCK_VALUES]);

        if (rc || (rc = measure(net, since, &net->profile.prepare[op->kind])))
            return net_op_failed(net, op, "packing of weights", rc);
    }
    list->stale = false;
    return 0;
}

static int feed(struct net *net, const struct list *list, const struct batch *batch)
{
    struct tensor *pictures = list->ops[0].in;
    int least = list->training ? pictures->n : 1;
    double since = work_seconds();

    if (batch->size != pictures->h || batch->rows < least || batch->rows > pictures->n)
        return err_set(ERR_FAULT,
                       "a batch of %d pictures of %d pixels does not fit a network for %d of %d",
                       batch->rows, batch->size, pictures->n, pictures->h);
    int rc = net->backend->feed(net->device, batch, pictures);
    if (rc || (rc = measure(net, since, &net->profile.feed)))
        return err_add(rc, "%s: feeding a batch", net->backend->name);
    return 0;
}

static int walk_forward(struct net *net, struct list *list)
{
    for (struct op *op = list->ops; op < list->ops + list->count; op++) {
        double since = work_seconds();
        int rc = net->backend->forward(net->device, op, net->blocks[BLOCK_VALUES]);

        if (rc || (rc = measure(net, since, &net->profile.forward[op->kind])))
            return net_op_failed(net, op, "forward pass", rc);
    }
    net->last_walked = list;
    return 0;
}

static int walk_backward(struct net *net, struct list *list)
{
    for (struct op *op = list->ops + list->count; op-- > list->ops;) {
        double since = work_seconds();
        int rc = net->backend->backward(net->device, op, net->blocks[BLOCK_VALUES],
                                        net->blocks[BLOCK_GRADIENTS]);

        if (rc || (rc = measure(net, since, &net->profile.backward[op->kind])))
            return net_op_failed(net, op, "backward pass", rc);
    }
    return 0;
}

int net_result(struct net *net, struct loss_result *result)
{
    if (net->collected == net->posted)
        return err_set(ERR_FAULT, "no result of the network is outstanding");
    int rc = net->backend->result(net->device, (int)(net->collected % NET_RESULTS), result);

    if (rc)
        return err_add(rc, "%s: the loss of a batch", net->backend->name);
    net->collected++;
    return 0;
}

/* Keep the result of LIST's walk; *RESULT, unless NULL, gets it at once. */
static int post_result(struct net *net, const struct list *list, struct loss_result *result)
{
    const struct op *loss = &list->ops[list->count - 1];

    if (result)
        net->collected = net->posted;
    else if (net->posted - net->collected == NET_RESULTS)
        net->collected++;
    int rc = net->backend->post(net->device, loss, (int)(net->posted % NET_RESULTS));
    if (rc)
        return net_op_failed(net, loss, "result", rc);
    net->posted++;
    return result ? net_result(net, result) : 0;
}

/* Add the gradients to the sums of this update. */
static int accumulate(struct net *net)
{
    double since = work_seconds();
    int rc = net->backend->accumulate(net->device, net->trained_floats, net->micro_batches == 0,
                                      net->blocks[BLOCK_GRADIENTS], net->blocks[BLOCK_SUMS]);

    if (rc || (rc = measure(net, since, &net->profile.update)))
        return err_add(rc, "%s: adding up gradients", net->backend->name);
    return 0;
}

static int update(struct net *net)
{
    double since = work_seconds();
    int rc = net->backend->update(net->device, net->model->parameters, net->model->trained_count,
                                  net->blocks[BLOCK_VALUES], net_update_gradients(net),
                                  net->blocks[BLOCK_MOMENTA]);

    if (rc || (rc = measure(net, since, &net->profile.update)))
        return err_add(rc, "%s: update of the weights", net->backend->name);
    return 0;
}

/* The calls of one micro-batch, in the order in which they are recorded. */
static int walk_calls(struct net *net, int walk)
{
    int rc = walk_forward(net, &net->training);

    if (!rc)
        rc = walk_backward(net, &net->training);
    if (!rc && net->settings.accumulate)
        rc = accumulate(net);
    return rc || !(walk & WALK_LAST) ? rc : update(net);
}

/* Forward, backward, sums, update: made call by call, or a recording of it. */
static int walk_training(struct net *net, int walk)
{
    const struct backend *backend = net->backend;
    bool recording = backend->walk_begin && !net->profiling, again = false;
    int rc;

    do {
        bool played = false;

        again = false;
        if (recording && (rc = backend->walk_begin(net->device, walk, &played)))
            return err_add(rc, "%s: a step", backend->name);
        rc = played ? 0 : walk_calls(net, walk);
        if (recording)
            rc = backend->walk_end(net->device, walk, rc, &again);
    } while (!rc && again);
    net->last_walked = &net->training;
    return rc;
}

/* The numbers of the update that ends this walk. */
static int set_sgd(struct net *net, const struct sgd *sgd)
{
    struct sgd scaled = *sgd;

    if (net->settings.accumulate)
        scaled.gradient_scale /= net->micro_batches + 1;
    int rc = net->backend->sgd_set(net->device, &scaled);
    return rc ? err_add(rc, "%s: the numbers of an update", net->backend->name) : 0;
}

/* ERR_FAULT when the network was opened for less. */
static int check_use(const struct net *net, bool training)
{
    if (net->settings.plan_only || (training && !net->settings.training))
        return err_set(ERR_FAULT, "this network was opened %s",
                       net->settings.plan_only ? "to plan its memory only" : "for evaluation only");
    return 0;
}

int net_upload(struct net *net, const struct batch *batch)
{
    int rc = net->backend->upload ? net->backend->upload(net->device, batch) : 0;

    return rc ? err_add(rc, "%s: bringing a batch to the device", net->backend->name) : 0;
}

int net_train(struct net *net, const struct batch *batch, const struct sgd *update,
              struct loss_result *result)
{
    struct list *list = &net->training;
    const int walk = (net->micro_batches ? 0 : WALK_FIRST) | (update ? WALK_LAST : 0);
    int rc = check_use(net, true);

    if (rc)
        return rc;
    /* The arena loses the folded weights, and the running statistics move. */
    net->evaluation.stale = true;
    if ((rc = begin_marks(net)) || (rc = prepare_list(net, list)) ||
        (rc = feed(net, list, batch)) || (update && (rc = set_sgd(net, update))) ||
        (rc = walk_training(net, walk)) || (rc = collect_marks(net)))
        return rc;
    net->micro_batches = net->settings.accumulate && !update ? net->micro_batches + 1 : 0;
    if (update)
        net->training.stale = true;
    net->profile.steps++;
    return post_result(net, list, result);
}

int net_evaluate(struct net *net, const struct batch *batch, struct loss_result *result)
{
    struct list *list = &net->evaluation;
    int rc;

    if ((rc = check_use(net, false)) || (rc = begin_marks(net)) || (rc = prepare_list(net, list)) ||
        (rc = feed(net, list, batch)) || (rc = walk_forward(net, list)) ||
        (rc = collect_marks(net)))
        return rc;
    return post_result(net, list, result);
}

int net_logits(struct net *net, float *out)
{
    if (!net->last_walked)
        return err_set(ERR_FAULT, "no pictures have gone through the network yet");
    const struct tensor *logits = net->last_walked->ops[net->last_walked->count - 1].in;
    int rc = net->backend->tensor_get(net->device, logits, logits->data, out);

    return rc ? err_add(rc, "%s: reading the logits", net->backend->name) : 0;
}
