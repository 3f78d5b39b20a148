/*
 * The loader: what is in a batch, computed here a second time one record after the other; the same
 * bytes for any number of threads, depth and place of resuming; validation, classes left out.
 */
#include "tests/loader_set.h"

/* ---- what is in a batch ---- */

/* What the loader asks of a backend that cuts and resizes pictures itself. */
static const struct backend packing = {.name = "packing", .packs = true};

static void check_epochs(struct dataset *dataset, const struct loader_settings *settings)
{
    const uint32_t shard_sizes[] = {13, 9, 14, 2, 12};
    const struct order_settings order_settings = {
        settings->shuffle, settings->seed, (uint32_t)settings->batch, NULL, 50, shard_sizes, 5};
    struct order *order;
    struct loader *loader = open_loader(dataset, settings);
    CHECK_INT(order_open(&order, &order_settings), 0);
    CHECK_INT(loader_batches(loader), 6);
    CHECK_INT(loader_images(loader), 50);
    CHECK_INT(loader_left_out(loader), 0);
    CHECK_INT(loader_start(loader, 3, 0), 0);
    for (uint32_t epoch = 3; epoch < 5; epoch++) {
        order_epoch(order, epoch);
        for (uint32_t b = 0; b < 6; b++) {
            const struct batch *batch = NULL;
            CHECK_INT(loader_next(loader, &batch), 1);
            CHECK_INT(batch->rows, 8);
            CHECK_INT(batch->size, 24);
            for (int row = 0; row < 8; row++)
                check_row(dataset, settings, epoch, batch, row,
                          order_record(order, b * 8 + (uint32_t)row));
        }
    }
    order_close(order);
    loader_close(loader);
}

static void content(void)
{
    const struct recipe *recipes[] = {&rgb_set, &jpeg_set};
    for (int r = 0; r < 2; r++) {
        struct dataset *dataset = open_set(recipes[r]);
        struct loader_settings settings = training_settings();
        check_epochs(dataset, &settings);
        settings.shuffle = ORDER_SHARDS;
        check_epochs(dataset, &settings);
        settings.backend = &packing;
        check_epochs(dataset, &settings);
        dataset_close(dataset);
    }
}

/* Batches of two epochs and a half are the same bytes for every number of workers, slots and
 * borrowed batches, packed or not. */
static void any_workers(void)
{
    const int workers[] = {1, 2, 5, 2, 3, 1}, depths[] = {0, 0, 0, 1, 2, 7};
    const int lent[] = {0, 3, 1, 1, 2, 4};
    const struct recipe *recipes[] = {&rgb_set, &jpeg_set};
    for (int r = 0; r < 2; r++) {
        struct dataset *dataset = open_set(recipes[r]);
        uint64_t expected[15];
        for (int k = 0; k < 6; k++) {
            struct loader_settings settings = training_settings();
            int differ = 0;
            settings.workers = workers[k];
            settings.depth = depths[k];
            settings.lent = lent[k];
            settings.backend = k % 2 ? &packing : NULL;
            struct loader *loader = open_loader(dataset, &settings);
            const struct batch *kept[15];
            uint64_t digests[15];
            CHECK_INT(loader_start(loader, 0, 0), 0);
            for (int b = 0; b < 15; b++) {
                CHECK_INT(loader_next(loader, &kept[b]), 1);
                const uint64_t digest = digests[b] = batch_digest(kept[b], 8);
                /* Those before it that are still borrowed are as they were. */
                for (int before = b - 1; before >= 0 && before > b - lent[k]; before--)
                    CHECK(batch_digest(kept[before], 8) == digests[before]);
                if (k == 0)
                    expected[b] = digest;
                differ += digest != expected[b];
            }
            CHECK_INT(differ, 0);
            loader_close(loader);
        }
        dataset_close(dataset);
    }
}

/* Starting at any batch of two epochs gives what the straight run had there and after it. */
static void resume(void)
{
    enum { BATCHES = 6, ALL = 3 * BATCHES };
    const enum order_shuffle shuffles[] = {ORDER_FULL, ORDER_SHARDS};
    struct dataset *dataset = open_set(&rgb_set);
    for (int k = 0; k < 2; k++) {
        struct loader_settings settings = training_settings();
        settings.shuffle = shuffles[k];
        uint64_t straight[ALL];
        int differ = 0, equal = 0;
        struct loader *loader = open_loader(dataset, &settings);
        CHECK_INT(loader_start(loader, 7, 0), 0);
        for (int b = 0; b < ALL; b++) {
            straight[b] = next_digest(loader, 8);
            for (int before = 0; before < b; before++)
                equal += straight[before] == straight[b];
        }
        CHECK_INT(equal, 0);
        loader_close(loader);
        loader = open_loader(dataset, &settings);
        for (int from = 2 * BATCHES; from >= 0;
             from--) { /* 2 * BATCHES: one past the epoch's last */
            uint32_t epoch = from == 0 ? 0 : (uint32_t)(from - 1) / BATCHES;
            CHECK_INT(loader_start(loader, 7 + epoch, (uint32_t)from - epoch * BATCHES), 0);
            for (int b = from; b < from + 4; b++)
                differ += next_digest(loader, 8) != straight[b];
        }
        CHECK_INT(differ, 0);
        loader_close(loader);
    }
    dataset_close(dataset);
}

/* Start and close in every state: before anything, at once again, with a batch lent, after some. */
static void restarts(void)
{
    struct dataset *dataset = open_set(&jpeg_set);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    settings.workers = 3;
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_next(loader, &batch), 0); /* nothing was started */
    CHECK_INT(loader_start(loader, 0, 0), 0);
    uint64_t first = next_digest(loader, 8), second = next_digest(loader, 8);
    for (int i = 0; i < 60; i++) {
        CHECK_INT(loader_start(loader, (uint32_t)i, (uint32_t)i % 6), 0);
        for (int take = 0; take < i % 4; take++)
            CHECK_INT(loader_next(loader, &batch), 1);
        if (i % 5 == 0)
            usleep(300);
    }
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK(next_digest(loader, 8) == first);
    CHECK(next_digest(loader, 8) == second);
    CHECK_INT(loader_start(loader, 0, 7), -ERR_USAGE);
    CHECK_HAS(err_text(), "batch 7 of epoch 0");
    CHECK_INT(loader_start(loader, ORDER_EPOCH_LIMIT, 0), -ERR_USAGE);
    loader_close(loader);
    loader_close(NULL);
    for (int i = 0; i < 30; i++) {
        loader = open_loader(dataset, &settings);
        if (i % 3)
            CHECK_INT(loader_start(loader, 0, 0), 0);
        if (i % 3 == 2)
            CHECK_INT(loader_next(loader, &batch), 1);
        if (i % 2)
            usleep((unsigned)i * 50);
        loader_close(loader);
    }
    dataset_close(dataset);
}

/* The last epoch that the numbers' counter can hold ends; there is no next one. */
static void last_epoch(void)
{
    struct dataset *dataset = open_set(&rgb_set);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, ORDER_EPOCH_LIMIT - 1, 4), 0);
    CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(loader_next(loader, &batch), 0);
    loader_close(loader);
    dataset_close(dataset);
}

/* ---- validation ---- */

static void validation(void)
{
    const struct recipe *recipes[] = {&rgb_set, &jpeg_set};
    for (int r = 0; r < 2; r++) {
        struct dataset *dataset = open_set(recipes[r]);
        struct loader_settings settings = validation_settings();
        const struct batch *batch;
        settings.depth = 1 + r * 3;
        struct loader *loader = open_loader(dataset, &settings);
        CHECK_INT(loader_batches(loader), 7);
        for (uint32_t from = 0; from <= 7; from++) {
            uint64_t index = from * 8;
            CHECK_INT(loader_start(loader, 0, from), 0);
            while (loader_next(loader, &batch) == 1) {
                CHECK_INT(batch->rows, index < 48 ? 8 : 2);
                for (int row = 0; row < batch->rows; row++)
                    check_row(dataset, &settings, 0, batch, row, index++);
                size_t row_bytes = (size_t)24 * 24 * 3, used = 0;
                for (size_t i = (size_t)batch->rows * row_bytes; i < 8 * row_bytes; i++)
                    used += batch->pixels[i] != 0;
                for (int row = batch->rows; row < 8; row++)
                    used += batch->labels[row] || batch->records[row];
                CHECK_INT(used, 0);
            }
            CHECK_INT(index, from == 7 ? 56 : 50);
            CHECK_INT(loader_next(loader, &batch), 0); /* and stays at the end */
        }
        loader_close(loader);
        dataset_close(dataset);
    }
}

/* ---- labels ---- */

static void left_out(void)
{
    const int32_t labels[CLASSES] = {1, -1, 0, -1, 2};
    const enum order_shuffle shuffles[] = {ORDER_FULL, ORDER_SHARDS};
    struct dataset *dataset = open_set(&rgb_set);
    struct loader_settings settings = validation_settings();
    const struct batch *batch;
    uint64_t last = 0;
    int rows = 0, wrong = 0;
    settings.labels = labels;
    settings.classes = 3;
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_images(loader), 30);
    CHECK_INT(loader_left_out(loader), 20);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    while (loader_next(loader, &batch) == 1)
        for (int row = 0; row < batch->rows; row++) {
            wrong += batch->labels[row] != labels[recipe_label((uint32_t)batch->records[row])];
            wrong += rows++ && batch->records[row] <= last;
            last = batch->records[row];
        }
    CHECK_INT(rows, 30);
    CHECK_INT(wrong, 0);
    loader_close(loader);

    for (int k = 0; k < 2; k++) {
        bool seen[50] = {false};
        settings = training_settings();
        settings.labels = labels;
        settings.classes = 3;
        settings.batch = 6; /* divides 30: each record once an epoch */
        settings.shuffle = shuffles[k];
        loader = open_loader(dataset, &settings);
        CHECK_INT(loader_batches(loader), 5);
        CHECK_INT(loader_start(loader, 2, 0), 0);
        for (int b = 0; b < 5; b++) {
            CHECK_INT(loader_next(loader, &batch), 1);
            for (int row = 0; row < batch->rows; row++) {
                uint64_t record = batch->records[row];
                CHECK(record < 50 && !seen[record]);
                seen[record] = true;
                CHECK_INT(batch->labels[row], labels[recipe_label((uint32_t)record)]);
                CHECK(batch->labels[row] >= 0);
            }
        }
        loader_close(loader);
    }
    dataset_close(dataset);
}

/* A label that the network does not have stops the run before any device sees it. */
static void label_range(void)
{
    const int32_t beyond[CLASSES] = {0, 1, 2, 3, 40};
    struct dataset *dataset = open_set(&rgb_set);
    struct loader_settings settings = validation_settings();
    const struct batch *batch;
    settings.batch = 2;
    settings.classes = 4; /* labels as stored: 4 is too large, first at record 2 of shard 0 */
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
    CHECK_HAS(err_text(), "shard-00000.mdb: record 2 (class_4/picture \\x5c 2.JPEG)");
    CHECK_HAS(err_text(), "label 4");
    CHECK_HAS(err_text(), "4 classes");
    loader_close(loader);
    settings.labels = beyond;
    settings.classes = 5;
    loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 1), 0);
    CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
    CHECK_HAS(err_text(), "label 4 would be class 40");
    loader_close(loader);
    dataset_close(dataset);
}

static void names(void)
{
    struct dataset *dataset = open_set(&rgb_set);
    struct loader_settings settings = training_settings();
    char name[600];
    struct loader *loader = open_loader(dataset, &settings);
    loader_record_name(loader, 24, name);
    CHECK_TEXT(name, "class_3/picture \\x5c 24.JPEG");
    loader_record_name(loader, 50, name);
    CHECK_TEXT(name, "record 50");
    loader_close(loader);
    dataset_close(dataset);
}

static const struct test tests[] = {
    {"content",     content    },
    {"any_workers", any_workers},
    {"resume",      resume     },
    {"restarts",    restarts   },
    {"last_epoch",  last_epoch },
    {"validation",  validation },
    {"left_out",    left_out   },
    {"label_range", label_range},
    {"names",       names      },
};
TEST_MAIN(tests)
