#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/work.h"
#include "train/board.h"
#include "train/evaluate.h"
#include "train/import.h"
#include "train/metrics.h"
#include "train/report.h"
#include "train/run_folder.h"
#include "train/saver.h"
#include "train/schedule.h"
#include "train/state.h"
#include "train/weights.h"
#include "common/stop.h"

enum {
    FIRST_LINES = 20, /* updates at the begin that all have a line in metrics.jsonl */
    NAMED_RECORDS = 8,
    LAG = 1 /* batches that are computed before the result of one is waited for; LOADER_LENT is LAG
               + 2 */
};

/* A batch whose result is not read yet. */
struct under_way {
    const struct batch *batch;
    double lr;
    bool last;                 /* of its update */
    struct report_mark queued; /* results are read some at once, so rates go by this */
};

struct trainer {
    const struct settings *settings;
    struct run_folder folder;
    const struct backend *backend;
    struct device *device;
    enum precision precision;
    struct dataset *db, *val;
    int32_t *val_labels; /* val's label -> the network's class, or -1 */
    struct model *model;
    struct net *net;
    struct loader *batches, *val_batches;
    struct state *state;
    struct saver *saver;
    struct position position; /* behind the last update whose result is read */
    /* The device works ahead of it: where the updates stand that are queued, the batches of which
     * the result is not read (they lie in the loader's slots meanwhile), and the next one, on its
     * way to the device. Only a position that is settled, with nothing under way, is saved. */
    int64_t queued_epoch, queued_step, queued_global;
    struct under_way under_way[LAG + 1];
    int under_way_count;
    const struct batch *next;
    double update_loss; /* of the batches of the update that is being read */
    int update_batches;
    struct metrics *metrics;
    struct board *board;
    int64_t steps;      /* updates an epoch */
    double train_begin; /* on work_seconds' clock */
    struct report_mark line_mark,
        progress_mark; /* since the last metrics line; since the epoch began */
    int64_t line_images, progress_images;
    double last_loss;
};

/* ---- opening ---- */

static int open_device(struct trainer *t)
{
    const struct settings *settings = t->settings;
    const struct device_settings wish = {.threads = (int)settings->threads,
                                         .precision = (enum precision)settings->precision,
                                         .deterministic = settings->deterministic};
    int rc = backend_open(settings->device, &wish, &t->backend, &t->device);
    if (rc)
        return rc;
    t->precision = wish.precision == PRECISION_AUTO ? t->backend->precision : wish.precision;
    log_line("device: %s", t->backend->describe(t->device));
    return 0;
}

static void describe_data(const char *option, const struct dataset *dataset)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    uint64_t bytes = 0;
    char images[32], size[32];
    for (size_t i = 0; i < manifest->shard_count; i++)
        bytes += manifest->shards[i].bytes;
    log_line("%s %s: %s pictures of %zu classes as %s, %s", option, dataset_folder(dataset),
             log_count(images, (int64_t)manifest->images), manifest->class_count,
             record_encoding_names[manifest->encoding], log_bytes(size, (double)bytes));
}

/* Which of the network's classes each of val's is, by name. Both tables are in byte order. */
static int match_classes(struct trainer *t)
{
    const struct manifest *db = dataset_manifest(t->db), *val = dataset_manifest(t->val);
    size_t known = 0, matched = 0;
    if (!(t->val_labels = mem_array(val->class_count, sizeof *t->val_labels, "class map")))
        return -ERR_MEMORY;
    for (size_t i = 0; i < val->class_count; i++) {
        while (known < db->class_count && strcmp(db->classes[known].name, val->classes[i].name) < 0)
            known++;
        bool same =
            known < db->class_count && !strcmp(db->classes[known].name, val->classes[i].name);
        t->val_labels[i] = same ? (int32_t)known : -1;
        matched += same;
    }
    if (matched)
        return 0;
    char trained[80], found[80];
    return err_set(
        ERR_MISMATCH,
        "no class of %s is a class of %s: the first ones are %s and %s; pack both from folders "
        "that are named alike (prep sort-val sorts the validation pictures by WNID)",
        t->settings->val, t->settings->db, err_quote(found, sizeof found, val->classes[0].name),
        err_quote(trained, sizeof trained, db->classes[0].name));
}

static int open_data(struct trainer *t)
{
    const struct settings *settings = t->settings;
    int rc = dataset_open(&t->db, settings->db);
    if (rc)
        return rc;
    describe_data("--db", t->db);
    if (!settings->val) {
        log_line("no --val: nothing will be validated");
        return 0;
    }
    if (!strcmp(settings->val, settings->db))
        return err_set(
            ERR_USAGE,
            "--val is the same data set as --db: an accuracy on training pictures says nothing");
    if ((rc = dataset_open(&t->val, settings->val)))
        return rc;
    describe_data("--val", t->val);
    return match_classes(t);
}

static int open_network(struct trainer *t)
{
    const struct settings *settings = t->settings;
    const struct model_settings wish = {
        .arch = settings_arch(settings),
        .classes = (int)dataset_manifest(t->db)->class_count,
        .batch = (int)settings->batch_size,
        .image_size = (int)settings->image_size,
        .label_smoothing = (float)settings->label_smoothing,
    };
    struct net_settings net = {.training = true, .accumulate = settings->accumulate > 1};
    size_t parameters = 0;
    char count[32];
    net.packed_bytes = loader_packed_bytes(t->batches);
    if (t->val_batches && loader_packed_bytes(t->val_batches) > net.packed_bytes)
        net.packed_bytes = loader_packed_bytes(t->val_batches);
    int rc = net_open_model(&t->net, &t->model, t->backend, t->device, &wish, &net);
    if (rc)
        return rc;
    for (size_t i = 0; i < t->model->trained_count; i++)
        parameters += t->model->parameters[i].count;
    log_line(
        "network: %s, %d classes, %d x %d pixels, %s parameters, %.2f G multiply-adds a picture",
        wish.arch, wish.classes, wish.image_size, wish.image_size,
        log_count(count, (int64_t)parameters), model_multiply_adds(t->model) / 1e9);
    return 0;
}

static int open_loaders(struct trainer *t)
{
    const struct settings *settings = t->settings;
    struct loader_settings wish = {
        .backend = t->backend,
        .device = t->device,
        .training = true,
        .size = (int)settings->image_size,
        .resize = (int)settings->val_resize,
        .batch = (int)settings->batch_size,
        .workers = (int)settings->workers,
        .seed = (uint64_t)settings->seed,
        .shuffle = (enum order_shuffle)settings->shuffle,
        .classes = (int)dataset_manifest(t->db)->class_count,
    };
    int rc = loader_open(&t->batches, t->db, &wish);
    if (rc)
        return err_add(rc, "--db %s", settings->db);
    t->steps = loader_batches(t->batches) / settings->accumulate;
    if (!t->steps)
        return err_set(
            ERR_INPUT,
            "--db %s: an epoch has %u batches of %lld pictures, fewer than --accumulate %lld",
            settings->db, loader_batches(t->batches), (long long)settings->batch_size,
            (long long)settings->accumulate);
    log_line("an epoch is %lld updates of %lld pictures", (long long)t->steps,
             (long long)settings->batch_size * settings->accumulate);
    if (!t->val)
        return 0;
    wish.training = false;
    wish.shuffle = ORDER_NONE;
    wish.labels = t->val_labels;
    if ((rc = loader_open(&t->val_batches, t->val, &wish)))
        return err_add(rc, "--val %s", settings->val);
    if (loader_left_out(t->val_batches))
        log_warning("%" PRIu64
                    " pictures of %s belong to classes that are not trained and are left out",
                    loader_left_out(t->val_batches), settings->val);
    return 0;
}

static void report_plan(const struct trainer *t)
{
    struct report_memory memory = {.net = *net_memory(t->net), .copies = state_memory(t->state)};
    memory.separate = t->backend->free_bytes;
    memory.board = board_memory(t->model, t->backend->packs);
    memory.loaders = loader_memory(t->batches);
    if (t->val_batches)
        memory.loaders += loader_memory(t->val_batches);
    report_measure(&memory);
    report_memory(&memory);
}

/* ---- resume ---- */

static int resume_from(struct trainer *t, const char *what, const struct checkpoint *from)
{
    int rc = state_resume(t->state, from, &t->position);
    if (rc)
        return err_add(
            rc,
            "the run cannot go on from %s (give the same settings, --resume no to begin anew, or "
            "another --name)",
            what);
    log_line("going on from %s: epoch %lld, update %lld of %lld (%lld in all)", what,
             (long long)t->position.epoch, (long long)t->position.step, (long long)t->steps,
             (long long)t->position.global_step);
    return 0;
}

/* Go on from a file that is none of our checkpoints; WHY: the error that says so, which stays for
 * damaged ones of ours. */
static int resume_foreign(struct trainer *t, const char *path, int why)
{
    struct err ours;
    struct weights *weights;
    err_take(why, &ours);
    int rc = weights_open(&weights, path, settings_arch(t->settings));
    if (rc)
        return rc;
    if (weights->ours) {
        rc = err_raise(&ours);
    } else if ((rc = import_resume(t->net, t->model, weights, t->settings, dataset_manifest(t->db),
                                   t->steps, &t->position))) {
        err_add(rc, "the run cannot go on from %s", path);
    } else {
        log_line("going on from %s, %s: epoch %lld, update 0 of %lld", path, weights->format,
                 (long long)t->position.epoch, (long long)t->steps);
    }
    weights_close(weights);
    return rc;
}

/* A new run, from the weights of --init where they are given. */
static int begin(struct trainer *t)
{
    struct weights *weights;
    int rc = state_begin(t->state, &t->position);
    if (rc || !t->settings->init)
        return rc;
    if ((rc = weights_open(&weights, t->settings->init, settings_arch(t->settings))))
        return err_add(rc, "--init");
    rc = import_init(t->net, t->model, weights, dataset_manifest(t->db));
    weights_close(weights);
    return rc;
}

/* Set weights and position: from the run's own checkpoint, from a file, or new. */
static int find_position(struct trainer *t)
{
    const char *resume = t->settings->resume;
    struct checkpoint_file *file = NULL;
    const struct checkpoint *found = NULL;
    int rc = checkpoint_latest(t->folder.checkpoints, &file, &found);
    if (!rc && found) {
        rc = resume_from(t, t->folder.checkpoints, found);
    } else if (!rc && strcmp(resume, "auto") != 0 && strcmp(resume, "no") != 0) {
        rc = checkpoint_open(&file, resume, &found);
        if (rc == -ERR_INPUT || rc == -ERR_MISMATCH)
            rc = resume_foreign(t, resume, rc);
        else if (!rc)
            rc = resume_from(t, resume, found);
    } else if (!rc) {
        rc = begin(t);
    }
    checkpoint_close(file);
    return rc;
}

/* ---- validation ---- */

/* Training pictures seen at STEP updates of EPOCH: TensorBoard's steps. An epoch counts all
 * pictures, as in the notebook. */
static int64_t seen(const struct trainer *t, int64_t epoch, int64_t step)
{
    return epoch * (int64_t)dataset_manifest(t->db)->images +
           step * t->settings->batch_size * t->settings->accumulate;
}

/* Validate at this position; EPOCH: the last finished one, -1 before the first. COUNTS: it may
 * become the best. */
static int validate(struct trainer *t, int64_t epoch, bool counts)
{
    struct position *position = &t->position;
    struct evaluation result;
    if (t->val) {
        int rc = evaluate_run(t->net, t->val_batches, &result);
        if (rc)
            return rc;
        metrics_validation(t->metrics, epoch, position->global_step, &result);
        board_validation(t->board, seen(t, position->epoch, position->step), &result);
        if (epoch < 0)
            printf("before training: ");
        else if (position->loss_batches)
            printf("epoch %lld: train loss %.4f, ", (long long)epoch,
                   position->loss_sum / (double)position->loss_batches);
        else
            printf("epoch %lld: ", (long long)epoch);
        printf("val loss %.4f, top-1 %.2f %%, top-5 %.2f %% of %lld pictures in %.1f s\n",
               result.loss, result.top1, result.top5, (long long)result.images, result.seconds);
        fflush(stdout);
        if (counts && (position->best_epoch < 0 || result.top1 > position->best_accuracy)) {
            position->best_accuracy = result.top1;
            position->best_epoch = epoch;
        }
    }
    position->evaluated = true;
    /* The pass is not part of the training rates. */
    report_mark(&t->line_mark, t->batches);
    report_mark(&t->progress_mark, t->batches);
    t->line_images = t->progress_images = 0;
    return 0;
}

/* ---- training ---- */

static int refuse_loss(struct trainer *t, const struct batch *batch, double loss)
{
    char names[600], list[ERR_TEXT_SIZE - 300] = "";
    size_t used = 0;
    for (int i = 0; i < batch->rows && i < NAMED_RECORDS && used + 1 < sizeof list; i++) {
        loader_record_name(t->batches, batch->records[i], names);
        int size = snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", names);
        used = (size_t)size < sizeof list - used ? used + (size_t)size : sizeof list - 1;
    }
    return err_set(
        ERR_NOT_FINITE,
        "the loss is %g at update %lld (epoch %lld): try a lower --lr or --warmup-epochs; the last "
        "checkpoint stands in %s; the batch held %s%s",
        loss, (long long)t->position.global_step, (long long)t->position.epoch,
        t->folder.checkpoints, list, batch->rows > NAMED_RECORDS ? ", ..." : "");
}

/* Updates that are left until the end of the run, from STEP of EPOCH on. */
static int64_t left_from(const struct trainer *t, int64_t epoch, int64_t step, int64_t global)
{
    int64_t left = (t->settings->epochs - epoch) * t->steps - step;
    int64_t limit = t->settings->max_steps - global;
    return t->settings->max_steps && limit < left ? limit : left;
}

static int64_t updates_left(const struct trainer *t)
{
    const struct position *position = &t->position;
    return left_from(t, position->epoch, position->step, position->global_step);
}

static bool at_end(const struct trainer *t)
{
    return updates_left(t) <= 0;
}

static void show_progress(struct trainer *t)
{
    struct report_mark now;
    report_mark(&now, t->batches);
    struct report_rate rate = report_rate(&t->progress_mark, &now, t->progress_images);
    int64_t images = t->settings->batch_size * t->settings->accumulate;
    char left[32];
    double seconds = rate.img_per_s > 0 ? (double)(updates_left(t) * images) / rate.img_per_s : 0;
    log_progress(
        "epoch %lld of %lld: update %lld of %lld, loss %.4f, %.1f img/s, %s left, %.0f %% waiting "
        "for data: %s",
        (long long)t->position.epoch, (long long)t->settings->epochs, (long long)t->position.step,
        (long long)t->steps, t->last_loss, rate.img_per_s, log_seconds(left, seconds),
        100 * rate.data_wait, rate.verdict);
}

/* One line in metrics.jsonl when it is due, and the progress line. LAST: of the update's batches.
 */
static void tell_step(struct trainer *t, const struct under_way *last)
{
    const struct position *position = &t->position;
    int64_t step = position->global_step;
    if (step <= FIRST_LINES || step % t->settings->log_every == 0) {
        struct report_rate rate = report_rate(&t->line_mark, &last->queued, t->line_images);
        const struct metrics_step line = {
            .epoch = position->step ? position->epoch : position->epoch - 1,
            .step = step,
            .loss = t->last_loss,
            .lr = last->lr,
            .img_per_s = rate.img_per_s,
            .data_wait = rate.data_wait,
        };
        metrics_train(t->metrics, &line);
        board_step(t->board, seen(t, position->epoch, position->step), &line);
        t->line_mark = last->queued;
        t->line_images = 0;
    }
    if (log_progress_due(false))
        show_progress(t);
}

static void advance(struct trainer *t)
{
    struct position *position = &t->position;
    position->evaluated = false;
    position->global_step++;
    position->step++;
    if (position->step == t->steps) {
        position->epoch++;
        position->step = 0;
    }
}

/* The batches of an epoch that do not fill an update are passed over. */
static int drop_rest(struct trainer *t)
{
    const struct batch *batch;
    int64_t rest = loader_batches(t->batches) - t->steps * t->settings->accumulate;
    for (int64_t i = 0; i < rest; i++) {
        int rc = loader_next(t->batches, &batch);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Read the oldest result that is under way (waits for it); at the end of an update move on. */
static int read_result(struct trainer *t)
{
    const struct under_way oldest = t->under_way[0];
    struct position *position = &t->position;
    struct loss_result result;
    int rc = net_result(t->net, &result);
    if (rc)
        return rc;
    if (!isfinite(result.loss))
        return refuse_loss(t, oldest.batch, result.loss);
    t->under_way_count--;
    memmove(t->under_way, t->under_way + 1, (size_t)t->under_way_count * sizeof *t->under_way);
    t->update_loss += result.loss;
    t->update_batches++;
    t->line_images += oldest.batch->rows;
    t->progress_images += oldest.batch->rows;
    if (!oldest.last)
        return 0;
    if (position->step == 0) {
        position->loss_sum = 0;
        position->loss_batches = 0;
    }
    position->loss_sum += t->update_loss;
    position->loss_batches += t->update_batches;
    t->last_loss = t->update_loss / t->update_batches;
    t->update_loss = 0;
    t->update_batches = 0;
    advance(t);
    tell_step(t, &oldest);
    return 0;
}

/* Wait for everything that is queued. */
static int settle(struct trainer *t)
{
    int rc = 0;
    while (!rc && t->under_way_count)
        rc = read_result(t);
    return rc;
}

/* The next batch, which may be on its way to the device already. */
static int take_batch(struct trainer *t, const struct batch **out)
{
    int rc = 1;
    if (t->next)
        *out = t->next;
    else
        rc = loader_next(t->batches, out);
    t->next = NULL;
    return rc < 0 ? rc : 0;
}

static int fetch_next(struct trainer *t)
{
    int rc = loader_next(t->batches, &t->next);
    if (rc == 1)
        return net_upload(t->net, t->next);
    t->next = NULL;
    return rc;
}

/* Queue a micro-batch; UPDATE: it ends with that. TensorBoard shows pictures at the begin of an
 * epoch, the gradients now and then. */
static int queue_batch(struct trainer *t, const struct batch *batch, bool first,
                       const struct sgd *update)
{
    const bool gradients = update && (t->queued_global + 1) % t->settings->log_every == 0;
    int rc;
    if ((gradients && (rc = board_scale(t->board, t->net))) ||
        (rc = net_train(t->net, batch, update, NULL)))
        return rc;
    if (!t->queued_step && first &&
        (rc = board_pictures(t->board, seen(t, t->queued_epoch, 0), batch)))
        return rc;
    return gradients
               ? board_gradients(t->board, seen(t, t->queued_epoch, t->queued_step + 1), t->net)
               : 0;
}

/* Queue one update: accumulate batches forward and backward, the last with SGD. Behind each batch
 * the next one is sent to the device and then a result is waited for, of a batch before it. */
static int train_step(struct trainer *t)
{
    const struct settings *settings = t->settings;
    const double lr = schedule_rate(settings, t->steps, t->queued_epoch, t->queued_step);
    const struct sgd sgd = {
        .lr = lr,
        .momentum = settings->momentum,
        .weight_decay = settings->weight_decay,
        .gradient_scale = 1,
        .decay_norm = settings->decay_norm,
        .first_step = t->queued_global == 0,
    };
    const bool epoch_end = t->queued_step + 1 == t->steps;
    const bool end =
        left_from(t, t->queued_epoch, t->queued_step, t->queued_global) <= 1 || epoch_end;
    int rc;
    for (int64_t i = 0; i < settings->accumulate; i++) {
        const bool last = i + 1 == settings->accumulate;
        struct under_way *now = &t->under_way[t->under_way_count];
        *now = (struct under_way){.lr = lr, .last = last};
        if ((rc = take_batch(t, &now->batch)) ||
            (rc = queue_batch(t, now->batch, i == 0, last ? &sgd : NULL)))
            return rc;
        report_mark(&now->queued, t->batches);
        t->under_way_count++;
        if (!(last && end) && (rc = fetch_next(t)) < 0)
            return rc;
        if (t->under_way_count > LAG && (rc = read_result(t)))
            return rc;
    }
    t->queued_global++;
    t->queued_step = epoch_end ? 0 : t->queued_step + 1;
    t->queued_epoch += epoch_end;
    if (end && (rc = settle(t)))
        return rc;
    return epoch_end ? drop_rest(t) : 0;
}

/* ---- the run ---- */

/* Whether the position where the run stands is one that is validated. */
static bool validation_due(const struct trainer *t)
{
    return !t->position.evaluated && (t->position.step == 0 || at_end(t));
}

/* Validate what is due here, and save. */
static int finish_position(struct trainer *t)
{
    struct position *position = &t->position;
    bool epoch_end = position->step == 0 && position->global_step > 0;
    log_progress_end();
    int rc = validate(t, position->step == 0 ? position->epoch - 1 : position->epoch, epoch_end);
    if (rc)
        return rc;
    return at_end(t) ? saver_save_last(t->saver, position, epoch_end)
                     : saver_save(t->saver, position, epoch_end);
}

static int train_to_end(struct trainer *t)
{
    int64_t every = t->settings->checkpoint_steps;
    int rc = 0;
    for (;;) {
        if (stop_requested())
            return (rc = settle(t)) ? rc : err_set(ERR_STOPPED, "stopped by a signal");
        if ((rc = saver_check(t->saver)))
            return rc;
        if (validation_due(t) && (rc = finish_position(t)))
            return rc;
        if (at_end(t))
            return 0;
        if ((rc = train_step(t)))
            return rc;
        bool due = every && t->queued_global % every == 0;
        if (due && (rc = settle(t)))
            return rc;
        if (due && !validation_due(t) && (rc = saver_save(t->saver, &t->position, false)))
            return rc;
    }
}

/* What a stopped run says and does last. */
static int stop_and_save(struct trainer *t, int rc)
{
    struct err why;
    err_take(rc, &why);
    log_progress_end();
    int saved = saver_save_last(t->saver, &t->position, false);
    if (saved)
        return saved;
    return err_set(ERR_STOPPED, "%s; saved at update %lld in %s: the same command goes on",
                   why.text, (long long)t->position.global_step, t->folder.checkpoints);
}

static void tell_end(const struct trainer *t)
{
    const struct position *position = &t->position;
    char size[32];
    printf("finished: %lld updates, %lld epochs", (long long)position->global_step,
           (long long)position->epoch);
    if (position->best_epoch >= 0)
        printf(", best top-1 %.2f %% after epoch %lld", position->best_accuracy,
               (long long)position->best_epoch);
    printf("\ncheckpoint: %s/%s\nmetrics: %s/metrics.jsonl\n", t->folder.checkpoints,
           CHECKPOINT_NEWEST, t->folder.runs);
    if (t->settings->profile)
        report_profile(net_profile(t->net));
    fflush(stdout);
    log_line("peak memory: %s, with the pages of the data sets that are mapped",
             log_bytes(size, (double)report_peak()));
}

/* Everything up to the first step, in the order in which mistakes are cheapest to find. */
static int open_run(struct trainer *t)
{
    const struct settings *settings = t->settings;
    char path[FILES_PATH_SIZE];
    int rc;
    if ((rc = open_data(t)) || (rc = open_device(t)) || (rc = open_loaders(t)) ||
        (rc = run_folder_open(&t->folder, settings)) || (rc = open_network(t)) ||
        (rc = state_open(&t->state, t->net, t->model, settings, t->db, t->backend->name,
                         precision_names[t->precision], t->steps)))
        return rc;
    report_plan(t);
    if ((rc = find_position(t)) ||
        (rc = run_folder_record(&t->folder, settings, t->backend->describe(t->device),
                                dataset_digest(t->db), t->val ? dataset_digest(t->val) : NULL)) ||
        (rc = files_join(path, t->folder.runs, "metrics.jsonl")))
        return rc;
    if ((rc = metrics_open(&t->metrics, path, t->position.global_step, t->position.evaluated)) ||
        (at_end(t) && t->position.evaluated))
        return rc;
    if ((rc = board_open(&t->board, t->folder.runs, settings, t->model,
                         seen(t, t->position.epoch, t->position.step))))
        return rc;
    return saver_open(&t->saver, t->state, t->folder.checkpoints);
}

static int run(struct trainer *t)
{
    int rc = open_run(t);
    if (rc)
        return rc;
    if (at_end(t) && t->position.evaluated) {
        log_line("this run is finished: nothing to do (more --epochs or --max-steps goes on, "
                 "--resume no begins anew)");
        tell_end(t);
        return 0;
    }
    if ((rc = loader_start(t->batches, (uint32_t)t->position.epoch,
                           (uint32_t)(t->position.step * t->settings->accumulate))))
        return rc;
    t->queued_epoch = t->position.epoch;
    t->queued_step = t->position.step;
    t->queued_global = t->position.global_step;
    if (t->settings->profile)
        net_profile_start(t->net);
    report_mark(&t->line_mark, t->batches);
    report_mark(&t->progress_mark, t->batches);
    t->train_begin = work_seconds();
    rc = train_to_end(t);
    if (rc == -ERR_STOPPED)
        return stop_and_save(t, rc);
    if (rc == -ERR_DEVICE)
        return err_add(rc,
                       "update %lld: nothing is saved from a device that failed, the last "
                       "checkpoint stands in %s",
                       (long long)t->position.global_step, t->folder.checkpoints);
    if (!rc) {
        log_progress_end();
        tell_end(t);
        const struct saver_times saves = saver_times(t->saver);
        report_saves(&saves, work_seconds() - t->train_begin);
    }
    return rc;
}

int trainer_run(const struct settings *settings)
{
    struct trainer t = {.settings = settings};
    int rc = run(&t);
    saver_close(t.saver);
    metrics_close(t.metrics);
    board_close(t.board);
    state_close(t.state);
    loader_close(t.val_batches);
    loader_close(t.batches);
    net_close(t.net);
    model_close(t.model);
    if (t.device)
        t.backend->close(t.device);
    mem_free(t.val_labels);
    dataset_close(t.val);
    dataset_close(t.db);
    run_folder_close(&t.folder);
    return rc;
}
