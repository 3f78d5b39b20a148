/* Settings, the learning rate, the metrics file: what surrounds the training loop. */
#include "tests/test.h"

#include <jansson.h>

#include "common/files.h"
#include "common/mem.h"
#include "train/metrics.h"
#include "train/schedule.h"
#include "train/settings.h"

static struct settings defaults(void)
{
    struct settings settings;
    static char name[64];
    opts_defaults(settings_command.rows, &settings);
    settings.db = "train.lmdb";
    CHECK_INT(settings_complete(&settings, name), 0);
    return settings;
}

static void the_table_is_sound(void)
{
    CHECK_INT(opts_check(settings_command.rows), 0);
    struct settings settings = defaults();
    CHECK_TEXT(settings.name, "resnet_152_sgd1_local");
    CHECK_TEXT(settings_arch(&settings), "resnet152");
    CHECK_TEXT(settings.device, "auto");
    CHECK_INT(settings.val_resize, 256);
    CHECK_INT(settings.batch_size, 16);
    CHECK_INT(settings.workers, 4);
    CHECK(settings.lr == 0.1 && settings.momentum == 0.9 && settings.weight_decay == 1e-4);
    CHECK(settings.threads >= 1);
    CHECK_INT(settings_keep(&settings), 5);
}

static int complete_with(const char *option, const char *value)
{
    struct settings settings;
    char name[64];
    opts_defaults(settings_command.rows, &settings);
    settings.db = "train.lmdb";
    CHECK_INT(opts_set(opts_find(settings_command.rows, option), &settings, value), 0);
    return settings_complete(&settings, name);
}

static void rules_between_options_hold(void)
{
    CHECK_INT(complete_with("keep", "all"), 0);
    CHECK_INT(complete_with("keep", "0"), -ERR_USAGE);
    CHECK_INT(complete_with("keep", "3x"), -ERR_USAGE);
    CHECK_INT(complete_with("name", "a/b"), -ERR_USAGE);
    CHECK_INT(complete_with("name", ".."), -ERR_USAGE);
    CHECK_INT(complete_with("val-resize", "200"), -ERR_USAGE);
    CHECK_INT(complete_with("warmup-epochs", "100"), -ERR_USAGE);
    CHECK_INT(complete_with("db", ""), 0);
}

static bool has_pair(const struct settings_pair *pairs, size_t count, const char *name,
                     const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(pairs[i].name, name))
            return !strcmp(pairs[i].text, text);
    return false;
}

static void pairs_shape_the_numbers(void)
{
    struct settings settings = defaults();
    struct settings_pair pairs[SETTINGS_PAIR_LIMIT];
    size_t count = settings_pairs(&settings, "cpu", "f32", pairs);
    CHECK(has_pair(pairs, count, "precision", "f32"));
    CHECK(has_pair(pairs, count, "lr", "0.1"));
    CHECK(has_pair(pairs, count, "device", "cpu"));
    CHECK(has_pair(pairs, count, "arch", "resnet152"));
    CHECK(!has_pair(pairs, count, "epochs", "100"));
    CHECK(!has_pair(pairs, count, "workers", "4"));
    settings.schedule = SCHEDULE_COSINE;
    count = settings_pairs(&settings, "cpu", "f32", pairs);
    CHECK(has_pair(pairs, count, "epochs", "100"));
}

/* Expected rates: torch.optim.lr_scheduler's StepLR(30, 0.1) and CosineAnnealingLR(10), lr 0.1. */
static void rates_are_torchs(void)
{
    struct settings settings = defaults();
    CHECK(schedule_rate(&settings, 7, 29, 6) == 0.1);
    CHECK(schedule_rate(&settings, 7, 30, 0) == 0.010000000000000002);
    CHECK(schedule_rate(&settings, 7, 99, 0) == 0.00010000000000000003);
    settings.schedule = SCHEDULE_COSINE;
    settings.epochs = 10;
    CHECK(schedule_rate(&settings, 7, 0, 5) == 0.1);
    CHECK_CLOSE(schedule_rate(&settings, 7, 3, 0), 0.07938926261462367, 1e-15);
    CHECK_CLOSE(schedule_rate(&settings, 7, 9, 6), 0.002447174185242324, 1e-15);
    settings.schedule_unit = UNIT_STEP;
    CHECK_CLOSE(schedule_rate(&settings, 10, 3, 0), 0.07938926261462367, 1e-15);
    CHECK_CLOSE(schedule_rate(&settings, 10, 2, 10), 0.07938926261462367, 1e-15);
    settings.warmup_epochs = 2;
    CHECK_CLOSE(schedule_rate(&settings, 10, 0, 0), 0.1 / 20, 1e-15);
    CHECK_CLOSE(schedule_rate(&settings, 10, 1, 9), 0.1, 1e-15);
    CHECK_CLOSE(schedule_rate(&settings, 10, 2, 0), 0.1, 1e-15);
    CHECK_CLOSE(schedule_rate(&settings, 10, 6, 0), 0.05, 1e-15);
    struct checkpoint_schedule state = schedule_state(&settings, 10, 6, 3);
    CHECK_INT(state.kind, CHECKPOINT_COSINE);
    CHECK_INT(state.period, 80);
    CHECK_INT(state.steps, 43);
}

static void metrics_are_cut_back_to_the_checkpoint(void)
{
    char path[FILES_PATH_SIZE];
    struct metrics *metrics;
    uint8_t *text;
    size_t size;
    const struct evaluation evaluation = {
        .loss = 1.5, .top1 = 50, .top5 = 90, .images = 10, .seconds = 1};
    CHECK_INT(files_join(path, test_folder(), "metrics.jsonl"), 0);
    CHECK_INT(metrics_open(&metrics, path, 0, false), 0);
    metrics_validation(metrics, -1, 0, &evaluation);
    for (int step = 1; step <= 4; step++) {
        const struct metrics_step line = {
            .step = step, .loss = 1.0 / step, .lr = 0.1, .img_per_s = 10};
        metrics_train(metrics, &line);
    }
    metrics_validation(metrics, 0, 4, &evaluation);
    metrics_close(metrics);

    FILE *file = fopen(path, "a");
    CHECK(file && fputs("{\"split\": \"train\", \"step\": 4, \"lo", file) >= 0 && !fclose(file));
    CHECK_INT(metrics_open(&metrics, path, 4, false), 0);
    metrics_close(metrics);
    CHECK_INT(files_read(path, 1 << 20, &text, &size), 0);
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    CHECK_INT(lines, 5);
    json_t *first =
        json_loadb((char *)text, (size_t)(strchr((char *)text, '\n') - (char *)text), 0, NULL);
    CHECK_TEXT(json_string_value(json_object_get(first, "split")), "val");
    CHECK_INT(json_integer_value(json_object_get(first, "images")), 10);
    CHECK_CLOSE(json_number_value(json_object_get(first, "top1")), 50, 0);
    json_decref(first);
    mem_free(text);

    CHECK_INT(metrics_open(&metrics, path, 2, true), 0);
    metrics_close(metrics);
    CHECK_INT(files_read(path, 1 << 20, &text, &size), 0);
    CHECK(strstr((char *)text, "\"step\": 2,") && !strstr((char *)text, "\"step\": 3,"));
    mem_free(text);
}

static const struct test tests[] = {
    {"the_table_is_sound",                     the_table_is_sound                    },
    {"rules_between_options_hold",             rules_between_options_hold            },
    {"pairs_shape_the_numbers",                pairs_shape_the_numbers               },
    {"rates_are_torchs",                       rates_are_torchs                      },
    {"metrics_are_cut_back_to_the_checkpoint", metrics_are_cut_back_to_the_checkpoint},
};
TEST_MAIN(tests)
