/*
 * Checkpoints: a state written and read back, equal bytes for equal states, what is refused; the
 * run's folder, after whatever an interrupted publication leaves, and with damaged files; the
 * models that are kept. With arguments it serves test_torch.sh: test_checkpoint --write FOLDER ARCH
 * CLASSES MODE    publish a checkpoint and a model of a real network; MODE is step, cosine or
 * no-decay
 */
#include "train/checkpoint.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "common/files.h"
#include "common/mem.h"
#include "tests/checkpoint_rig.h"
#include "tests/test.h"
#include "train/model.h"
#include "train/pth.h"

/* ---- one file ---- */

static void check_equal(const struct checkpoint *a, const struct checkpoint *b)
{
    CHECK_TEXT(a->arch, b->arch);
    CHECK_TEXT(a->class_digest, b->class_digest);
    CHECK_TEXT(a->data_digest, b->data_digest);
    CHECK_INT(a->class_count, b->class_count);
    for (size_t i = 0; i < a->class_count; i++) {
        CHECK_TEXT(a->classes[i].name, b->classes[i].name);
        CHECK_TEXT(a->classes[i].words, b->classes[i].words);
    }
    CHECK_INT(a->seed, b->seed);
    CHECK_INT(a->epoch, b->epoch);
    CHECK_INT(a->step, b->step);
    CHECK_INT(a->global_step, b->global_step);
    CHECK_INT(a->evaluated, b->evaluated);
    CHECK_INT(a->batches_tracked, b->batches_tracked);
    CHECK(a->best_accuracy == b->best_accuracy && a->best_epoch == b->best_epoch);
    CHECK(a->momentum == b->momentum && a->weight_decay == b->weight_decay);
    CHECK(a->schedule.kind == b->schedule.kind && a->schedule.period == b->schedule.period &&
          a->schedule.gamma == b->schedule.gamma && a->schedule.base_lr == b->schedule.base_lr &&
          a->schedule.lr == b->schedule.lr && a->schedule.steps == b->schedule.steps);
    CHECK_INT(a->setting_count, b->setting_count);
    for (size_t i = 0; i < a->setting_count; i++) {
        CHECK_TEXT(a->settings[i].name, b->settings[i].name);
        CHECK_TEXT(a->settings[i].text, b->settings[i].text);
    }
    CHECK_INT(a->number_count, b->number_count);
    for (size_t i = 0; i < a->number_count; i++) {
        CHECK_TEXT(a->numbers[i].name, b->numbers[i].name);
        CHECK(a->numbers[i].value == b->numbers[i].value);
    }
    CHECK_INT(a->tensor_count, b->tensor_count);
    for (size_t i = 0; i < a->tensor_count; i++) {
        const struct checkpoint_tensor *x = &a->tensors[i], *y = checkpoint_find(b, x->name);
        CHECK(y && x->rank == y->rank && x->no_decay == y->no_decay);
        if (!y || x->rank != y->rank)
            continue;
        CHECK(!memcmp(x->shape, y->shape, (size_t)x->rank * sizeof *x->shape));
        CHECK(same_floats(x->value, y->value, count_of(x)));
        CHECK(!x->momentum == !y->momentum);
        if (x->momentum && y->momentum)
            CHECK(same_floats(x->momentum, y->momentum, count_of(x)));
    }
}

static void test_round_trip(void)
{
    static struct state state;
    struct checkpoint_file *file;
    const struct checkpoint *back;
    uint8_t *first, *second;
    size_t size, again;
    fill_state(&state, 3, 5);
    for (int variant = 0; variant < 3; variant++) {
        if (variant == 1)
            state.checkpoint.schedule =
                (struct checkpoint_schedule){CHECKPOINT_COSINE, 90, 0, 0.4, 0.2, 45};
        for (int i = 0; variant == 2 && i < TENSORS; i++)
            state.tensors[i].no_decay = false;
        CHECK_INT(checkpoint_save(place("a.pth"), &state.checkpoint), 0);
        CHECK_INT(checkpoint_verify(place("a.pth")), 0);
        CHECK_INT(checkpoint_open(&file, place("a.pth"), &back), 0);
        if (!back)
            return;
        check_equal(&state.checkpoint, back);
        CHECK(!back->model_only);
        /* What was read, in another order of tensors, makes the same bytes. */
        CHECK_INT(checkpoint_save(place("other name.pth"), back), 0);
        CHECK_INT(files_read(place("a.pth"), 1 << 20, &first, &size), 0);
        CHECK_INT(files_read(place("other name.pth"), 1 << 20, &second, &again), 0);
        CHECK(size == again && !memcmp(first, second, size));
        mem_free(first);
        mem_free(second);
        CHECK_TEXT(checkpoint_setting(back, "batch_size"), "16");
        CHECK(!checkpoint_setting(back, "batch-size") && !checkpoint_number(back, "loss"));
        CHECK(*checkpoint_number(back, "loss_sum") == 1234.0625);
        CHECK(!checkpoint_find(back, "bn1.num_batches_tracked"));
        checkpoint_close(file);
    }
    checkpoint_close(NULL);
}

/* The keys as PyTorch's users know them. */
static void test_layout(void)
{
    static struct state state;
    static const char *const order[] = {"conv1.weight",
                                        "bn1.weight",
                                        "bn1.bias",
                                        "bn1.running_mean",
                                        "bn1.running_var",
                                        "bn1.num_batches_tracked",
                                        "fc.weight",
                                        "fc.bias",
                                        "one.bias",
                                        "one.running_mean",
                                        "one.num_batches_tracked"};
    static const char *const keys[] = {"format",       "model",       "epoch",
                                       "arch",         "classes",     "class_words",
                                       "class_digest", "data_digest", "batches_tracked",
                                       "best",         "optimizer",   "lr_scheduler",
                                       "params",       "numbers",     "seed",
                                       "position",     "digest"};
    struct pth_file *file;
    const struct pth_value *root;
    fill_state(&state, 3, 0);
    CHECK_INT(checkpoint_save(place("a.pth"), &state.checkpoint), 0);
    CHECK_INT(pth_open(&file, place("a.pth"), &root), 0);
    CHECK_INT(root->count / 2, sizeof keys / sizeof *keys);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        CHECK_TEXT(root->items[2 * i]->text, keys[i]);
    const struct pth_value *model = pth_find(root, "model");
    CHECK_INT(model->kind, PTH_ORDERED_DICT);
    CHECK_INT(model->count / 2, sizeof order / sizeof *order);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        CHECK_TEXT(model->items[2 * i]->text, order[i]);
    const struct pth_value *tracked = pth_find(model, "bn1.num_batches_tracked");
    CHECK(tracked->tensor.type == PTH_I64 && tracked->tensor.rank == 0);
    CHECK_INT(*(const int64_t *)tracked->tensor.data, 30);
    CHECK_INT(pth_find(root, "epoch")->integer,
              2); /* the last finished one, as the notebook has it */
    const struct pth_value *groups = pth_find(pth_find(root, "optimizer"), "param_groups");
    CHECK_INT(groups->count, 2);
    CHECK_TEXT(pth_find(groups->items[0], "param_names")->items[1]->text, "fc.weight");
    CHECK_TEXT(pth_find(groups->items[1], "param_names")->items[0]->text, "bn1.weight");
    CHECK_INT(pth_find(groups->items[1], "params")->items[0]->integer, 3);
    CHECK(pth_find(groups->items[0], "weight_decay")->real == 1e-4);
    CHECK(pth_find(groups->items[1], "weight_decay")->real == 0);
    const struct pth_value *states = pth_find(pth_find(root, "optimizer"), "state");
    const struct pth_value *buffer = pth_find(states->items[7], "momentum_buffer");
    CHECK(buffer && same_floats(buffer->tensor.data, state.momenta[1], 4));
    pth_close(file);
}

static void check_refused(const struct checkpoint *checkpoint, int rc, const char *message)
{
    CHECK_INT(checkpoint_save(place("refused.pth"), checkpoint), rc);
    CHECK_HAS(err_text(), message);
    CHECK(access(place("refused.pth"), F_OK) != 0);
    CHECK(access(place(".refused.pth.partial"), F_OK) != 0);
}

static void test_refused_states(void)
{
    static struct state s;
    static const struct checkpoint_setting twice[] = {
        {"lr", "1"},
        {"lr", "2"}
    };
    static const struct checkpoint_number infinite[] = {
        {"sum", INFINITY}
    };
    fill_state(&s, 1, 0);
    s.values[3][7] = NAN;
    check_refused(&s.checkpoint, -ERR_NOT_FINITE, "the value of fc.weight holds nan at element 7");
    fill_state(&s, 1, 0);
    s.momenta[0][1] = -INFINITY;
    check_refused(&s.checkpoint, -ERR_NOT_FINITE, "the momentum of conv1.weight holds -inf");
    fill_state(&s, 1, 0);
    s.values[5][3] = INFINITY;
    check_refused(&s.checkpoint, -ERR_NOT_FINITE, "bn1.running_mean");
    fill_state(&s, 1, 0);
    s.checkpoint.numbers = infinite;
    s.checkpoint.number_count = 1;
    check_refused(&s.checkpoint, -ERR_NOT_FINITE, "sum is not a finite number");
    fill_state(&s, 1, 0);
    s.checkpoint.schedule.lr = NAN;
    check_refused(&s.checkpoint, -ERR_NOT_FINITE, "not finite");
    fill_state(&s, 1, 0);
    s.checkpoint.settings = twice;
    s.checkpoint.setting_count = 2;
    check_refused(&s.checkpoint, -ERR_FAULT, "two settings are called lr");
    fill_state(&s, 1, 0);
    s.tensors[4].name = "fc.weight";
    check_refused(&s.checkpoint, -ERR_FAULT, "two tensors are called fc.weight");
    fill_state(&s, 1, 0);
    s.tensors[0].momentum = NULL;
    check_refused(&s.checkpoint, -ERR_FAULT, "parameter conv1.weight has no momentum");
    fill_state(&s, 1, 0);
    s.tensors[5].momentum = s.momenta[5];
    check_refused(&s.checkpoint, -ERR_FAULT, "statistic bn1.running_mean");
    fill_state(&s, 1, 0);
    s.tensors[5].name = "bn2.running_mean";
    check_refused(&s.checkpoint, -ERR_FAULT, "1 statistics belong to no normalisation");
    fill_state(&s, 1, 0);
    s.tensors[0].shape[2] = -1;
    check_refused(&s.checkpoint, -ERR_FAULT, "a side of -1");
    fill_state(&s, 1, 0);
    s.checkpoint.seed = (uint64_t)INT64_MAX + 1;
    check_refused(&s.checkpoint, -ERR_FAULT, "out of range");
    fill_state(&s, -1, 0);
    check_refused(&s.checkpoint, -ERR_FAULT, "out of range");
}

/* ---- files of others ---- */

/* Save the tree of a good checkpoint with one key changed, as another program would. */
static void check_changed(const char *dict, const char *key, struct pth_value *value, int rc,
                          const char *message, bool fresh_digest)
{
    struct mem_arena arena = {0};
    struct pth_file *file;
    struct checkpoint_file *opened;
    const struct checkpoint *checkpoint;
    const struct pth_value *read;
    char digest[33];
    CHECK_INT(pth_open(&file, place("good.pth"), &read), 0);
    struct pth_value root = *read, *inner = &root;
    if (dict)
        for (size_t i = 0; i < root.count; i += 2)
            if (!strcmp(root.items[i]->text, dict))
                inner = root.items[i + 1];
    for (size_t i = 0; i < inner->count; i += 2)
        if (!strcmp(inner->items[i]->text, key) && value)
            inner->items[i + 1] = value;
        else if (!strcmp(inner->items[i]->text, key)) {
            memmove(inner->items + i, inner->items + i + 2,
                    (inner->count - i - 2) * sizeof(void *));
            inner->count -= 2;
        }
    if (fresh_digest) {
        struct pth_value rest = root;
        rest.count -= 2;
        CHECK_INT(pth_digest(NULL, &rest, digest), 0);
        root.items[root.count - 1] = pth_text(&arena, digest);
    }
    CHECK_INT(pth_write(place("changed.pth"), "checkpoint", &root), 0);
    CHECK_INT(checkpoint_open(&opened, place("changed.pth"), &checkpoint), rc);
    if (rc) {
        CHECK_HAS(err_text(), message);
        CHECK_HAS(err_text(), "changed.pth");
    }
    if (!fresh_digest)
        CHECK_INT(checkpoint_verify(place("changed.pth")), rc);
    checkpoint_close(opened);
    pth_close(file);
    mem_arena_release(&arena);
}

static void test_changed_files(void)
{
    static struct state s;
    static const int64_t shape = 4, tracked = 1;
    struct mem_arena a = {0};
    fill_state(&s, 1, 0);
    CHECK_INT(checkpoint_save(place("good.pth"), &s.checkpoint), 0);
    check_changed(NULL, "none of them", NULL, 0, "", true);
    /* Without our digest a change is damage. */
    check_changed(NULL, "epoch", pth_int(&a, 7), -ERR_INPUT, "another program changed it", false);
    check_changed("params", "lr", pth_text(&a, "0.2"), -ERR_INPUT, "its digest is", false);
    check_changed("model", "fc.bias", pth_tensor(&a, PTH_F32, 1, &shape, s.momenta[0]), -ERR_INPUT,
                  "its digest is", false);
    check_changed(NULL, "digest", NULL, -ERR_MISMATCH, "not a checkpoint of this program", false);
    check_changed(NULL, "format", NULL, -ERR_MISMATCH, "not a checkpoint of this program", false);
    /* With it, the layout is checked. */
    check_changed(NULL, "format", pth_int(&a, 2), -ERR_MISMATCH, "its format is 2", true);
    check_changed(NULL, "arch", NULL, -ERR_MISMATCH, "it has no key \"arch\"", true);
    check_changed(NULL, "seed", pth_text(&a, "1"), -ERR_MISMATCH,
                  "\"seed\" holds a text, not a int", true);
    check_changed(NULL, "class_words", pth_list(&a), -ERR_MISMATCH, "words for 0", true);
    check_changed(NULL, "lr_scheduler", NULL, -ERR_MISMATCH, "no key \"lr_scheduler\"", true);
    check_changed(NULL, "numbers", pth_dict(&a, true), -ERR_MISMATCH, "a OrderedDict", true);
    check_changed("model", "bn1.bias", pth_int(&a, 1), -ERR_MISMATCH, "not a state dict", true);
    check_changed("model", "bn1.bias", pth_tensor(&a, PTH_I64, 0, NULL, &tracked), -ERR_MISMATCH,
                  "bn1.bias is not of type f32", true);
    check_changed("model", "bn1.num_batches_tracked", pth_tensor(&a, PTH_I64, 0, NULL, &tracked),
                  -ERR_MISMATCH, "bn1.num_batches_tracked is not 10", true);
    check_changed("model", "fc.bias", NULL, -ERR_MISMATCH, "its optimizer has a parameter fc.bias",
                  true);
    check_changed("model", "fc.bias", pth_tensor(&a, PTH_F32, 1, &shape, s.momenta[0]),
                  -ERR_MISMATCH, "momentum buffer of fc.bias", true);
    check_changed("optimizer", "state", pth_dict(&a, false), -ERR_MISMATCH,
                  "momentum buffer of conv1.weight is missing", true);
    check_changed("optimizer", "param_groups", pth_list(&a), -ERR_MISMATCH, "0 groups", true);
    check_changed("position", "step", pth_int(&a, -1), -ERR_MISMATCH, "its position", true);
    check_changed("position", "epoch", pth_int(&a, 9), -ERR_MISMATCH, "its position", true);
    check_changed("params", "lr", pth_int(&a, 1), -ERR_MISMATCH, "not texts", true);
    mem_arena_release(&a);
}

/* ---- the folder ---- */

static void test_publish(void)
{
    char *folder = run_folder("publish");
    char missing[4200];
    snprintf(missing, sizeof missing, "%s/nothing", folder);
    CHECK_INT(latest_step(missing), -1);
    CHECK_INT(latest_step(folder), -1);
    for (int64_t step = 1; step <= 3; step++) {
        publish(folder, 0, step);
        CHECK_INT(latest_step(folder), step);
        CHECK(there(folder, CHECKPOINT_NEWEST) && !there(folder, CHECKPOINT_NEXT));
        CHECK_INT(there(folder, CHECKPOINT_PREVIOUS), step > 1);
    }
    struct files_list list;
    CHECK_INT(files_list(folder, &list), 0);
    CHECK_INT(list.count, 2); /* nothing else lies about */
    files_list_release(&list);
}

static void test_fall_back(void)
{
    char *folder = run_folder("fall_back");
    publish(folder, 0, 1);
    publish(folder, 0, 2);
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 1);
    CHECK(there(folder, CHECKPOINT_DAMAGED) && !there(folder, CHECKPOINT_NEWEST));
    CHECK_INT(latest_step(folder), 1);
    /* The next publication must not put the damaged one over the good previous one. */
    publish(folder, 0, 2);
    CHECK_INT(latest_step(folder), 2);
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 1);
    /* Nothing whole: an error, and everything stays where it is. */
    publish(folder, 0, 2);
    damage(folder, CHECKPOINT_NEWEST);
    damage(folder, CHECKPOINT_PREVIOUS);
    CHECK_INT(latest_step(folder), -2);
    CHECK_HAS(err_text(), "no checkpoint in");
    CHECK_HAS(err_text(), CHECKPOINT_NEWEST);
    CHECK(there(folder, CHECKPOINT_NEWEST) && there(folder, CHECKPOINT_PREVIOUS));
}

/* A file of another format is whole, so nothing falls back silently. */
static void test_newer_format(void)
{
    static struct state s;
    struct mem_arena arena = {0};
    char *folder = run_folder("newer"), path[FILES_PATH_SIZE];
    publish(folder, 0, 1);
    fill_state(&s, 0, 2);
    CHECK_INT(checkpoint_save(place("good.pth"), &s.checkpoint), 0);
    check_changed(NULL, "format", pth_int(&arena, 2), -ERR_MISMATCH, "its format is 2", true);
    publish(folder, 0, 2);
    files_join(path, folder, CHECKPOINT_NEWEST);
    CHECK_INT(rename(place("changed.pth"), path), 0);
    CHECK_INT(latest_step(folder), -2);
    CHECK_HAS(err_text(), "this program reads 1");
    CHECK(there(folder, CHECKPOINT_NEWEST) && !there(folder, CHECKPOINT_DAMAGED));
    mem_arena_release(&arena);
}

/* What an interrupted publication can leave: the next file beside any state of the others. */
static void test_interrupted(void)
{
    char *folder = run_folder("interrupted");
    char next[FILES_PATH_SIZE], newest[FILES_PATH_SIZE], previous[FILES_PATH_SIZE];
    files_join(next, folder, CHECKPOINT_NEXT);
    files_join(newest, folder, CHECKPOINT_NEWEST);
    files_join(previous, folder, CHECKPOINT_PREVIOUS);
    /* The very first one. */
    publish(folder, 0, 1);
    CHECK_INT(rename(newest, next), 0);
    CHECK_INT(latest_step(folder), 1);
    CHECK(there(folder, CHECKPOINT_NEWEST) && !there(folder, CHECKPOINT_NEXT));
    /* Before the newest became the previous one. */
    publish(folder, 0, 2);
    CHECK_INT(rename(newest, next), 0);
    CHECK_INT(rename(previous, newest), 0);
    CHECK_INT(latest_step(folder), 2);
    CHECK(there(folder, CHECKPOINT_PREVIOUS) && !there(folder, CHECKPOINT_NEXT));
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 1);
    /* After it, with both names for one file; the temporary name may lie there too. */
    publish(folder, 0, 2);
    publish(folder, 0, 3);
    CHECK_INT(rename(newest, next), 0);
    CHECK_INT(link(previous, newest), 0);
    CHECK_INT(link(previous, place("interrupted/.checkpoint.previous.pth.partial")), 0);
    CHECK_INT(latest_step(folder), 3);
    CHECK(!there(folder, ".checkpoint.previous.pth.partial"));
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 2);
    /* The next file is damaged: the newest is taken, and the next publication goes on. */
    publish(folder, 0, 3);
    CHECK_INT(link(newest, place("interrupted/copy")), 0);
    publish(folder, 0, 4);
    CHECK_INT(rename(newest, next), 0);
    CHECK_INT(rename(place("interrupted/copy"), newest), 0);
    damage(folder, CHECKPOINT_NEXT);
    CHECK_INT(latest_step(folder), 3);
    CHECK(!there(folder, CHECKPOINT_NEXT) && there(folder, CHECKPOINT_DAMAGED));
    publish(folder, 0, 4);
    CHECK_INT(latest_step(folder), 4);
    /* The next file is good and the newest is damaged: it does not become the previous one. */
    publish(folder, 0, 5);
    publish(folder, 0, 6);
    CHECK_INT(rename(newest, next), 0);
    CHECK_INT(rename(previous, newest), 0);
    publish(run_folder("other"), 0, 4);
    CHECK_INT(rename(place("other/" CHECKPOINT_NEWEST), previous), 0);
    folder = run_folder("interrupted");
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 6);
    damage(folder, CHECKPOINT_NEWEST);
    CHECK_INT(latest_step(folder), 4);
}

/* ---- models ---- */

static void publish_model(const char *folder, int64_t epoch, int64_t best, int keep)
{
    static struct state state;
    fill_state(&state, epoch + 1, 0);
    state.checkpoint.best_epoch = best;
    CHECK_INT(checkpoint_publish_model(folder, &state.checkpoint, keep), 0);
}

/* The epochs whose models are there, "0 3 4". */
static const char *models(const char *folder)
{
    static char text[200];
    size_t used = 0;
    text[0] = 0;
    for (int epoch = 0; epoch < 30; epoch++) {
        char name[32];
        snprintf(name, sizeof name, "model_%d.pth", epoch);
        if (there(folder, name))
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%d", used ? " " : "", epoch);
    }
    return text;
}

static void test_models(void)
{
    static struct state state;
    char *folder = run_folder("models"), path[FILES_PATH_SIZE];
    static const char *const foreign[] = {
        "model_x.pth",  "model_01.pth",   "model_1.pth.bak", "model_.pth",
        "model_-1.pth", "my_model_1.pth", "model_1e.pth",    "model_99999999999999999999.pth"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        files_join(path, folder, foreign[i]);
        FILE *file = fopen(path, "w");
        CHECK(file != NULL);
        if (file)
            fclose(file);
    }
    for (int epoch = 0; epoch < 5; epoch++)
        publish_model(folder, epoch, 0, 5);
    CHECK_TEXT(models(folder), "0 1 2 3 4");
    publish_model(folder, 5, 1, 5); /* the best beside the 5 newest */
    CHECK_TEXT(models(folder), "1 2 3 4 5");
    publish_model(folder, 6, 1, 5);
    CHECK_TEXT(models(folder), "1 2 3 4 5 6");
    publish_model(folder, 7, 5, 5);
    CHECK_TEXT(models(folder), "3 4 5 6 7");
    publish_model(folder, 8, 3, 1);
    CHECK_TEXT(models(folder), "3 8");
    publish_model(folder, 9, 3, CHECKPOINT_KEEP_ALL);
    CHECK_TEXT(models(folder), "3 8 9");
    publish_model(folder, 4, 3, 1); /* after going back to an older checkpoint */
    CHECK_TEXT(models(folder), "3 4 9");
    publish_model(folder, 10, -1, 2);
    CHECK_TEXT(models(folder), "9 10");
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        CHECK(there(folder, foreign[i]));

    /* What is in it. */
    struct checkpoint_file *file;
    const struct checkpoint *model;
    files_join(path, folder, "model_10.pth");
    CHECK_INT(checkpoint_open(&file, path, &model), 0);
    fill_state(&state, 11, 0);
    CHECK(model && model->model_only && model->epoch == 11 && model->class_count == 3);
    CHECK_INT(model->batches_tracked, 110);
    for (int i = 0; i < TENSORS; i++) {
        const struct checkpoint_tensor *tensor = checkpoint_find(model, state.tensors[i].name);
        CHECK(tensor && !tensor->momentum && !tensor->no_decay &&
              same_floats(tensor->value, state.values[i], count_of(tensor)));
    }
    checkpoint_close(file);
    state.checkpoint.step = 1;
    CHECK_INT(checkpoint_publish_model(folder, &state.checkpoint, 5), -ERR_FAULT);
    state.checkpoint.step = 0;
    CHECK_INT(checkpoint_publish_model(folder, &state.checkpoint, 0), -ERR_FAULT);
    state.checkpoint.epoch = 0;
    CHECK_INT(checkpoint_publish_model(folder, &state.checkpoint, 5), -ERR_FAULT);
}

/* ---- all of one file's bytes ---- */

static void test_every_byte(void)
{
    static struct state state;
    uint8_t *bytes;
    size_t size;
    fill_state(&state, 2, 3);
    CHECK_INT(checkpoint_save(place("bytes.pth"), &state.checkpoint), 0);
    CHECK_INT(files_read(place("bytes.pth"), 1 << 20, &bytes, &size), 0);
    int file = open(place("bytes.pth"), O_WRONLY);
    CHECK(file >= 0);
    for (size_t i = 0; i < size; i++) {
        uint8_t changed = bytes[i] ^ (uint8_t)(1 << i % 8);
        CHECK_INT(pwrite(file, &changed, 1, (off_t)i), 1);
        if (checkpoint_verify(place("bytes.pth")) != -ERR_INPUT) {
            printf("a changed byte %zu is not seen\n", i);
            test_failures++;
        }
        CHECK_INT(pwrite(file, &bytes[i], 1, (off_t)i), 1);
    }
    CHECK_INT(checkpoint_verify(place("bytes.pth")), 0);
    close(file);
    mem_free(bytes);
}

/* Saving and reading back take little memory beside the state itself. */
static void test_memory(void)
{
    static struct state state;
    size_t count = 8 << 20;
    float *large = mem_array(count, sizeof *large, "values");
    struct rusage before, after;
    fill_state(&state, 1, 0);
    for (size_t i = 0; i < count; i++)
        large[i] = (float)i;
    state.tensors[0].rank = 1;
    state.tensors[0].shape[0] = (int64_t)count;
    state.tensors[0].value = state.tensors[0].momentum = large;
    getrusage(RUSAGE_SELF, &before);
    CHECK_INT(checkpoint_publish(run_folder("memory"), &state.checkpoint), 0);
    getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < 16 << 10); /* KiB; the file has 64 MiB */
    mem_free(large);
}

static const struct test tests[] = {
    {"round_trip",     test_round_trip    },
    {"layout",         test_layout        },
    {"refused_states", test_refused_states},
    {"changed_files",  test_changed_files },
    {"publish",        test_publish       },
    {"fall_back",      test_fall_back     },
    {"newer_format",   test_newer_format  },
    {"interrupted",    test_interrupted   },
    {"models",         test_models        },
    {"every_byte",     test_every_byte    },
    {"memory",         test_memory        },
};

/* ---- a real network for test_torch.sh ---- */

/* Element I of tensor NUMBER, which the script computes too: (I * 7 + NUMBER * 13) % 101 / 101 -
 * 0.5, and half of it for momenta; all exact in f32 after the division, which is done in double. */
static float formula(size_t i, size_t number)
{
    return (float)((double)((i * 7 + number * 13) % 101) / 101 - 0.5);
}

static int write_network(const char *folder, const char *arch, int class_count, const char *mode)
{
    struct model_settings want = {
        .arch = arch, .classes = class_count, .batch = 1, .image_size = 64};
    struct model *model;
    int rc = model_open(&model, &want);
    if (rc)
        return rc;
    struct checkpoint_tensor *tensors =
        mem_array(model->parameter_count, sizeof *tensors, "tensors");
    struct checkpoint_class *names = mem_array((size_t)class_count, sizeof *names, "classes");
    for (int i = 0; i < class_count; i++)
        names[i] = (struct checkpoint_class){"class", ""};
    for (size_t i = 0; i < model->parameter_count; i++) {
        const struct parameter *p = &model->parameters[i];
        float *value = mem_array(p->count, sizeof *value, "value");
        float *momentum = i < model->trained_count ? mem_array(p->count, sizeof *value, "m") : NULL;
        for (size_t k = 0; k < p->count; k++) {
            value[k] = formula(k, i);
            if (p->role == PARAMETER_RUNNING_VAR)
                value[k] += 1;
            if (momentum)
                momentum[k] = formula(k, i) / 2;
        }
        tensors[i] = (struct checkpoint_tensor){.name = p->name,
                                                .rank = p->rank,
                                                .value = value,
                                                .momentum = momentum,
                                                .no_decay = !strcmp(mode, "no-decay") && momentum &&
                                                            p->rank == 1};
        memcpy(tensors[i].shape, p->shape, sizeof p->shape);
    }
    static struct state state;
    fill_state(&state, 3, 0);
    state.checkpoint.arch = arch;
    state.checkpoint.classes = names;
    state.checkpoint.class_count = (size_t)class_count;
    state.checkpoint.tensors = tensors;
    state.checkpoint.tensor_count = model->parameter_count;
    if (!strcmp(mode, "cosine"))
        state.checkpoint.schedule =
            (struct checkpoint_schedule){CHECKPOINT_COSINE, 90, 0, 0.1, 0.075, 30};
    if (!(rc = files_make_folder(folder)) && !(rc = checkpoint_publish(folder, &state.checkpoint)))
        rc = checkpoint_publish_model(folder, &state.checkpoint, 5);
    for (size_t i = 0; i < model->parameter_count; i++) {
        mem_free((void *)tensors[i].value);
        mem_free((void *)tensors[i].momentum);
    }
    mem_free(tensors);
    mem_free(names);
    model_close(model);
    return rc;
}

static int write_small(const char *path)
{
    static struct state state;
    fill_state(&state, 3, 5);
    return checkpoint_save(path, &state.checkpoint);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--small"))
        return err_exit_code(write_small(argv[2]));
    if (argc == 6 && !strcmp(argv[1], "--write")) {
        int rc = write_network(argv[2], argv[3], atoi(argv[4]), argv[5]);
        if (rc)
            fprintf(stderr, "%s\n", err_text());
        return err_exit_code(rc);
    }
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
