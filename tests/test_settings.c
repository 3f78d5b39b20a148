/* Settings, the learning rate, the metrics file: what surrounds the training loop. */
#include "tests/test.h"

#include <jansson.h>

#include "common/files.h"
#include "common/mem.h"
#include "train/config.h"
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
    CHECK(!has_pair(pairs, count, "deterministic", "no"));
    count = settings_pairs(&settings, "cuda", "f32", pairs);
    CHECK(has_pair(pairs, count, "deterministic", "no"));
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

/* ---- --config ---- */

static int read_config(const char *text, size_t size, struct settings *settings,
                       struct mem_arena *texts)
{
    static bool given[SETTINGS_ROW_LIMIT];
    char path[FILES_PATH_SIZE];
    CHECK_INT(files_join(path, test_folder(), "config.json"), 0);
    FILE *file = fopen(path, "wb");
    fwrite(text, 1, size, file);
    fclose(file);
    opts_defaults(settings_command.rows, settings);
    given[opts_find(settings_command.rows, "momentum") - settings_command.rows] = true;
    return config_read(path, settings_command.rows, settings, given, texts);
}

static void a_config_sets_what_the_command_line_does_not(void)
{
    static const char text[] =
        "{\"batch_size\": 32, \"lr\": 0.25, \"zero-gamma\": true, \"decay-norm\": "
        "\"no\", \"arch\": \"resnet50\", \"val\": null, \"momentum\": 0.5}";
    struct mem_arena texts = {0};
    struct settings settings;
    CHECK_INT(read_config(text, sizeof text - 1, &settings, &texts), 0);
    CHECK_INT(settings.batch_size, 32);
    CHECK(settings.lr == 0.25 && settings.zero_gamma && !settings.decay_norm && !settings.val);
    CHECK_TEXT(settings_arch(&settings), "resnet50");
    CHECK(settings.momentum == 0.9); /* given on the command line */
    static const char saved[] =
        "{\"settings\": {\"batch-size\": \"8\", \"db\": \"a b.lmdb\"}, \"version\": 1}";
    CHECK_INT(read_config(saved, sizeof saved - 1, &settings, &texts), 0);
    CHECK_INT(settings.batch_size, 8);
    CHECK_TEXT(settings.db, "a b.lmdb");
    mem_arena_release(&texts);
}

static void a_bad_config_is_refused_by_name(void)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"{\"batchsize\": 1}",                   "did you mean \"batch-size\"?"},
        {"{\"nothing-like-it\": 1}",             "there is no setting"         },
        {"{\"lr\": 0.1, \"lr\": 0.2}",           "duplicate object key"        },
        {"{\"log_every\": 1, \"log-every\": 2}", "stands twice"                },
        {"{\"lr\": \"fast\"}",                   "is not a number"             },
        {"{\"lr\": -1}",                         "in the range"                },
        {"{\"lr\": 1e400}",                      "line 1"                      },
        {"{\"lr\": NaN}",                        "line 1"                      },
        {"{\"lr\": [1]}",                        "a list or an object"         },
        {"{\"batch-size\": 1.5}",                "is not a whole number"       },
        {"{\"batch-size\": null}",               "needs a value"               },
        {"{\"config\": \"x\"}",                  "there is no setting"         },
        {"{\"db\": \"a\\u0000b\"}",              "line 1"                      },
        {"{\"lr\":\n 0.1",                       "line 2"                      },
        {"[1]",                                  "not an object"               },
        {"{\"settings\": 3}",                    "not an object"               },
        {"",                                     "line"                        },
        {"\xef\xbb\xbf{}",                       "line 1"                      },
        {"{} x",                                 "line 1"                      },
    };
    struct mem_arena texts = {0};
    struct settings settings;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT(read_config(rows[i].text, strlen(rows[i].text), &settings, &texts), -ERR_USAGE);
        CHECK_HAS(err_text(), rows[i].part);
        CHECK_HAS(err_text(), "config.json");
    }
    size_t deep = 100000;
    char *nested = malloc(deep);
    memset(nested, '[', deep);
    CHECK_INT(read_config(nested, deep, &settings, &texts), -ERR_USAGE);
    free(nested);
    char *large = calloc(1, CONFIG_LIMIT + 1);
    CHECK_INT(read_config(large, CONFIG_LIMIT + 1, &settings, &texts), -ERR_INPUT);
    free(large);
    mem_arena_release(&texts);
}

static const struct test tests[] = {
    {"the_table_is_sound",                           the_table_is_sound                          },
    {"rules_between_options_hold",                   rules_between_options_hold                  },
    {"pairs_shape_the_numbers",                      pairs_shape_the_numbers                     },
    {"rates_are_torchs",                             rates_are_torchs                            },
    {"metrics_are_cut_back_to_the_checkpoint",       metrics_are_cut_back_to_the_checkpoint      },
    {"a_config_sets_what_the_command_line_does_not", a_config_sets_what_the_command_line_does_not},
    {"a_bad_config_is_refused_by_name",              a_bad_config_is_refused_by_name             },
};
TEST_MAIN(tests)
