/*
 * The loader: what is in a batch, computed here a second time one record after the other; the same
 * bytes for any number of threads, depth and place of resuming; validation, classes left out,
 * damage, tiny sets; and that it allocates nothing while it runs. The data sets are made here.
 */
#include "tests/test.h"

#include "common/decode.h"
#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/resample.h"
#include "common/work.h"
#include "tests/unpack.h"
#include "train/augment.h"
#include "train/loader.h"

/* ---- data sets ---- */

enum { CLASSES = 5 };

/* A small data set to be made. */
struct recipe {
    const char *name;
    enum record_encoding encoding;
    uint32_t shards[8];     /* records of each, ended by 0 */
    uint32_t width, height; /* of all pictures; 0: all kinds of sizes */
    uint32_t lie;           /* added to the width that records claim */
};

static uint32_t recipe_label(uint32_t index)
{
    return index * 7 % CLASSES;
}

/* Picture INDEX: a formula's, soft enough for JPEG. */
static void draw(struct picture *picture, const struct recipe *recipe, uint32_t index)
{
    int width = recipe->width ? (int)recipe->width : 30 + (int)(index * 13 % 41);
    int height = recipe->height ? (int)recipe->height : 28 + (int)(index * 29 % 37);
    size_t at = 0;
    CHECK_INT(picture_resize(picture, width, height), 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                picture->rgb[at++] = (uint8_t)(128 + 100 * sin(0.07 * x * (c + 1) + index) *
                                                         cos(0.09 * y + index * (c + 2)));
}

static void append(struct shard_writer *writer, struct decoder *decoder,
                   const struct recipe *recipe, struct manifest *manifest, uint32_t index)
{
    struct picture picture = {0};
    uint8_t *jpeg = NULL;
    size_t capacity = 0, size = 0;
    char name[64];
    draw(&picture, recipe, index);
    struct record record = {
        .label = recipe_label(index),
        .width = (uint32_t)picture.width,
        .height = (uint32_t)picture.height,
        .original_width = (uint32_t)picture.width,
        .original_height = (uint32_t)picture.height,
        .encoding = recipe->encoding,
        .name = name,
        .name_size = (uint32_t)snprintf(name, sizeof name, "class_%u/picture \\ %u.JPEG",
                                        recipe_label(index), index),
        .payload = picture.rgb,
        .payload_size = (uint64_t)picture.width * (uint64_t)picture.height * 3,
    };
    if (recipe->encoding == RECORD_JPEG) {
        CHECK_INT(decoder_write_jpeg(decoder, &picture, 90, &jpeg, &capacity, &size), 0);
        record.width += recipe->lie;
        record.payload = jpeg;
        record.payload_size = size;
    }
    CHECK_INT(shard_append(writer, &record), 0);
    manifest->classes[record.label].images++;
    manifest->images++;
    manifest->largest_width =
        record.width > manifest->largest_width ? record.width : manifest->largest_width;
    manifest->largest_height =
        record.height > manifest->largest_height ? record.height : manifest->largest_height;
    if (record.payload_size > manifest->largest_payload)
        manifest->largest_payload = record.payload_size;
    picture_release(&picture);
    mem_free(jpeg);
}

static void write_shard(const char *folder, struct decoder *decoder, const struct recipe *recipe,
                        struct manifest *manifest, size_t number)
{
    struct dataset_shard *shard = &manifest->shards[number];
    struct shard_writer *writer;
    struct shard_facts facts;
    char path[FILES_PATH_SIZE];
    uint32_t records = recipe->shards[number];
    CHECK_INT(files_join(path, folder, shard->file), 0);
    CHECK_INT(shard_writer_open(&writer, path,
                                shard_size_limit(records, records * UINT64_C(300000), 300000)),
              0);
    for (uint32_t i = 0; i < records; i++)
        append(writer, decoder, recipe, manifest, (uint32_t)manifest->images);
    CHECK_INT(shard_publish(writer, &facts), 0);
    shard->records = facts.records;
    shard->bytes = facts.bytes;
    memcpy(shard->digest, facts.digest, sizeof facts.digest);
}

/* Make the data set in FOLDER (FILES_PATH_SIZE bytes, written here); CHANGE may change the
 * manifest. */
static void make_set(const struct recipe *recipe, char *folder, void (*change)(struct manifest *))
{
    static const char *const class_names[CLASSES] = {"class_0", "class_1", "class_2", "class_3",
                                                     "class_4"};
    static const char *const shard_names[8] = {
        "shard-00000.mdb", "shard-00001.mdb", "shard-00002.mdb", "shard-00003.mdb",
        "shard-00004.mdb", "shard-00005.mdb", "shard-00006.mdb", "shard-00007.mdb"};
    struct dataset_class classes[CLASSES] = {0};
    struct dataset_shard shards[8] = {0};
    struct manifest manifest = {.classes = classes,
                                .class_count = CLASSES,
                                .shards = shards,
                                .encoding = recipe->encoding,
                                .settings = json_object(),
                                .source = json_object()};
    struct decoder *decoder;
    CHECK_INT(decoder_open(&decoder), 0);
    CHECK_INT(files_join(folder, test_folder(), recipe->name), 0);
    CHECK_INT(files_make_folder(folder), 0);
    for (int c = 0; c < CLASSES; c++) {
        classes[c].name = class_names[c];
        classes[c].words = "";
    }
    for (size_t s = 0; s < 8 && recipe->shards[s]; s++) {
        shards[s].file = shard_names[s];
        write_shard(folder, decoder, recipe, &manifest, s);
        manifest.shard_count++;
    }
    if (change)
        change(&manifest);
    CHECK_INT(dataset_publish(folder, &manifest), 0);
    json_decref(manifest.settings);
    json_decref(manifest.source);
    decoder_close(decoder);
}

static struct dataset *open_set(const struct recipe *recipe)
{
    char folder[FILES_PATH_SIZE];
    struct dataset *dataset = NULL;
    make_set(recipe, folder, NULL);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    return dataset;
}

/* 50 pictures of many sizes. */
static const struct recipe rgb_set = {
    .name = "rgb.lmdb", .encoding = RECORD_RGB, .shards = {13, 9, 14, 2, 12}
};
static const struct recipe jpeg_set = {
    .name = "jpeg.lmdb", .encoding = RECORD_JPEG, .shards = {13, 9, 14, 2, 12}
};

static struct loader_settings training_settings(void)
{
    return (struct loader_settings){.training = true,
                                    .size = 24,
                                    .batch = 8,
                                    .workers = 2,
                                    .seed = 11,
                                    .shuffle = ORDER_FULL,
                                    .classes = CLASSES};
}

static struct loader_settings validation_settings(void)
{
    return (struct loader_settings){
        .size = 24, .resize = 27, .batch = 8, .workers = 2, .classes = CLASSES};
}

static struct loader *open_loader(struct dataset *dataset, const struct loader_settings *settings)
{
    struct loader *loader = NULL;
    CHECK_INT(loader_open(&loader, dataset, settings), 0);
    return loader;
}

/* Everything in a batch as one number. */
static uint64_t batch_digest(const struct batch *batch, int n)
{
    const size_t bytes = (size_t)n * (size_t)batch->size * (size_t)batch->size * 3;
    uint8_t *unpacked = batch->packed ? mem_array(bytes, 1, "unpacked batch") : NULL;
    if (unpacked)
        unpack_batch(batch, n, unpacked);
    uint64_t parts[4] = {(uint64_t)batch->rows,
                         digest64(unpacked ? unpacked : batch->pixels, bytes),
                         digest64(batch->labels, (size_t)n * sizeof *batch->labels),
                         digest64(batch->records, (size_t)n * sizeof *batch->records)};
    mem_free(unpacked);
    return digest64(parts, sizeof parts);
}

static uint64_t next_digest(struct loader *loader, int n)
{
    const struct batch *batch;
    int rc = loader_next(loader, &batch);
    CHECK_INT(rc, 1);
    return rc == 1 ? batch_digest(batch, n) : 0;
}

/* ---- what is in a batch ---- */

/* What the loader asks of a backend that cuts and resizes pictures itself. */
static const struct backend packing = {.name = "packing", .packs = true};

/* One row, the straight way. */
static void check_row(struct dataset *dataset, const struct loader_settings *settings,
                      uint32_t epoch, const struct batch *batch, int row, uint64_t index)
{
    const size_t bytes = (size_t)settings->size * (size_t)settings->size * 3;
    struct record record;
    struct picture picture = {0};
    struct decode_info info;
    struct decoder *decoder;
    struct resampler *resampler;
    uint8_t *expected = mem_array(bytes, 1, "row");
    CHECK_INT(decoder_open(&decoder), 0);
    CHECK_INT(resampler_open(&resampler, true), 0);
    CHECK_INT(batch->records[row], index);
    CHECK_INT(batch->labels[row], recipe_label((uint32_t)index));
    CHECK_INT(dataset_get(dataset, index, true, &record), 0);
    struct pixels pixels = {record.payload, (int)record.width, (int)record.height,
                            record.width * (size_t)3};
    if (record.encoding == RECORD_JPEG) {
        CHECK_INT(decoder_read(decoder, record.payload, record.payload_size, &decode_default_limits,
                               &picture, &info),
                  0);
        pixels.rgb = picture.rgb;
    }
    if (settings->training) {
        struct crop crop =
            augment_random_crop(settings->seed, epoch, index, pixels.width, pixels.height);
        CHECK_INT(augment_train(resampler, &pixels, &crop, settings->size, expected), 0);
    } else {
        CHECK_INT(augment_validate(resampler, &pixels, settings->resize, settings->size, expected),
                  0);
    }
    if (batch->packed) {
        uint8_t *unpacked = mem_array(bytes, 1, "row");
        unpack_picture(batch->packed, row, settings->size, unpacked);
        CHECK(memcmp(expected, unpacked, bytes) == 0);
        mem_free(unpacked);
    } else {
        CHECK(memcmp(expected, batch->pixels + (size_t)row * bytes, bytes) == 0);
    }
    picture_release(&picture);
    decoder_close(decoder);
    resampler_close(resampler);
    mem_free(expected);
}

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

/* ---- damage ---- */

/* Change one byte of PATH where record INDEX's pixels stand. */
static void damage(const char *path, const struct recipe *recipe, uint32_t index)
{
    struct picture picture = {0};
    uint8_t *bytes;
    size_t size;
    draw(&picture, recipe, index);
    CHECK_INT(files_read(path, 64 << 20, &bytes, &size), 0);
    uint8_t *found = memmem(bytes, size, picture.rgb, 1000);
    CHECK(found != NULL);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    if (found && file) {
        fseek(file, found - bytes + 500, SEEK_SET);
        fputc(found[500] ^ 1, file);
    }
    if (file)
        fclose(file);
    mem_free(bytes);
    picture_release(&picture);
}

/* A label that is damaged so that its record comes into the classes that take part, or leaves them:
 * found before the first batch, though no checksum is looked at there. */
static void bad_label(void)
{
    const int32_t labels[CLASSES] = {1, -1, 0, -1, 2};
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct recipe recipe = rgb_set;
    recipe.name = "label.lmdb";
    make_set(&recipe, folder, NULL);
    CHECK_INT(files_join(path, folder, "shard-00001.mdb"), 0);
    for (uint32_t record = 18; record < 21; record += 2) { /* labels 1 and 0 */
        struct loader_settings settings = validation_settings();
        struct dataset *dataset;
        struct loader *loader = NULL;
        uint8_t *bytes;
        size_t size;
        struct picture picture = {0};
        draw(&picture, &recipe, record);
        CHECK_INT(files_read(path, 64 << 20, &bytes, &size), 0);
        uint8_t *pixels = memmem(bytes, size, picture.rgb, 1000), *head = NULL;
        for (uint8_t *at = bytes; pixels && at < pixels; at++)
            if (!memcmp(at, "REC1", 4))
                head = at;
        FILE *file = fopen(path, "r+b");
        CHECK(head != NULL && file != NULL);
        if (!head || !file)
            return;
        fseek(file, head + 4 - bytes, SEEK_SET);
        fputc(head[4] ^ 1, file);
        fclose(file);
        CHECK_INT(dataset_open(&dataset, folder), 0);
        settings.labels = labels;
        settings.classes = 3;
        CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
        CHECK_HAS(err_text(), "left out, but the manifest says 20");
        loader_close(loader);
        dataset_close(dataset);
        file = fopen(path, "wb");
        CHECK(file && fwrite(bytes, 1, size, file) == size);
        if (file)
            fclose(file);
        mem_free(bytes);
        picture_release(&picture);
    }
}

/* One changed bit: the batches before come whole, the error names the place, whatever the threads
 * do. */
static void bad_record(void)
{
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct recipe recipe = rgb_set;
    recipe.name = "bad.lmdb";
    make_set(&recipe, folder, NULL);
    CHECK_INT(files_join(path, folder, "shard-00001.mdb"), 0);
    damage(path, &recipe, 13 + 5); /* record 5 of shard 1 is record 18: batch 2 */
    damage(path, &recipe, 13 + 8); /* so is record 8; another worker may find it first */
    const int workers[] = {1, 2, 5, 5, 5};
    for (int k = 0; k < 5; k++) {
        struct loader_settings settings = validation_settings();
        struct dataset *dataset;
        const struct batch *batch;
        settings.workers = workers[k];
        settings.depth = 5;
        CHECK_INT(dataset_open(&dataset, folder), 0);
        struct loader *loader = open_loader(dataset, &settings);
        CHECK_INT(loader_start(loader, 0, 0), 0);
        CHECK_INT(loader_next(loader, &batch), 1);
        CHECK_INT(loader_next(loader, &batch), 1);
        for (int again = 0; again < 3; again++) {
            CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
            CHECK_HAS(err_text(), "shard-00001.mdb");
            CHECK_HAS(err_text(), "record 5");
        }
        CHECK_INT(loader_start(loader, 0, 3), 0);
        int more = 0;
        while (loader_next(loader, &batch) == 1)
            more++;
        CHECK_INT(more, 4);
        loader_close(loader);
        dataset_close(dataset);
    }
}

static void understate(struct manifest *manifest)
{
    manifest->largest_width = 40;
    manifest->largest_height = 40;
}

static void overstate(struct manifest *manifest)
{
    manifest->largest_width = 65536;
}

/* The first batch is refused with a text that holds PLACE and WHY. */
static void check_refused(const struct recipe *recipe, void (*change)(struct manifest *),
                          int resize, const char *place, const char *why)
{
    char folder[FILES_PATH_SIZE];
    struct dataset *dataset;
    struct loader_settings settings = validation_settings();
    const struct batch *batch;
    settings.resize = resize;
    make_set(recipe, folder, change);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
    CHECK_HAS(err_text(), place);
    CHECK_HAS(err_text(), why);
    loader_close(loader);
    dataset_close(dataset);
}

static void bad_sizes(void)
{
    const struct recipe lie = {.name = "lie.lmdb",
                               .encoding = RECORD_JPEG,
                               .shards = {1},
                               .width = 20,
                               .height = 10,
                               .lie = 1};
    const struct recipe line = {.name = "line.lmdb", .shards = {1}, .width = 300, .height = 1};
    struct recipe recipe = jpeg_set;
    char folder[FILES_PATH_SIZE];
    struct dataset *dataset;
    struct loader *loader = NULL;
    const struct loader_settings settings = validation_settings();

    recipe.name = "understated.lmdb";
    check_refused(&recipe, understate, 27, "understated.lmdb/shard-00000.mdb: ", "record 1");
    check_refused(&lie, NULL, 27, "lie.lmdb/shard-00000.mdb: record 0 (class_0/",
                  "20 x 10, not 21 x 10");
    check_refused(&line, NULL, 256, "line.lmdb/shard-00000.mdb: record 0 (class_0/", "300 x 1");

    recipe.name = "overstated.lmdb";
    make_set(&recipe, folder, overstate);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "overstated.lmdb: the manifest says that the largest picture is 65536 x");
    CHECK(loader == NULL);
    dataset_close(dataset);
}

/* ---- sizes and resources ---- */

static void tiny(void)
{
    const int32_t none[CLASSES] = {-1, -1, -1, -1, -1};
    const struct recipe one = {.name = "one.lmdb", .shards = {1}, .width = 9, .height = 5};
    struct dataset *dataset = open_set(&one);
    struct loader_settings settings = training_settings();
    struct loader *loader = NULL;
    const struct batch *batch;
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "one.lmdb: 1 pictures");
    CHECK_HAS(err_text(), "batch of 8");
    CHECK(loader == NULL);
    settings.labels = none;
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "no picture takes part");

    settings = training_settings();
    settings.batch = 1;
    settings.workers = 5;
    loader = open_loader(dataset, &settings);
    CHECK_INT(loader_batches(loader), 1);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    for (uint32_t epoch = 0; epoch < 20; epoch++) {
        CHECK_INT(loader_next(loader, &batch), 1);
        CHECK_INT(batch->rows, 1);
        check_row(dataset, &settings, epoch, batch, 0, 0);
    }
    loader_close(loader);

    settings = validation_settings();
    settings.batch = 300;
    loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(batch->rows, 1);
    check_row(dataset, &settings, 0, batch, 0, 0);
    CHECK_INT(loader_next(loader, &batch), 0);
    loader_close(loader);
    dataset_close(dataset);
}

/* Nothing is allocated after loader_open, over epochs, restarts and kinds of loaders. */
static void no_allocation(void)
{
    const struct recipe wide = {.name = "wide.lmdb", .shards = {40}, .width = 300, .height = 20};
    const struct recipe *recipes[] = {&rgb_set, &jpeg_set, &wide};
    for (int r = 0; r < 3; r++)
        for (int training = 0; training < 2; training++) {
            struct dataset *dataset = open_set(recipes[r]);
            struct loader_settings settings =
                training ? training_settings() : validation_settings();
            const struct batch *batch;
            struct loader *loader = open_loader(dataset, &settings);
            uint64_t before = mem_allocations();
            for (uint32_t start = 0; start < 5; start++) {
                CHECK_INT(loader_start(loader, start, 0), 0);
                for (uint32_t b = 0; b < loader_batches(loader); b++)
                    CHECK_INT(loader_next(loader, &batch), 1);
            }
            CHECK_INT(mem_allocations() - before, 0);
            loader_close(loader);
            dataset_close(dataset);
        }
}

/* What loader_memory says: the ring, which is most of it for large pictures, and some for each
 * worker. */
static void memory(void)
{
    struct dataset *dataset = open_set(&jpeg_set);
    struct loader_settings settings = training_settings();
    settings.size = 256;
    settings.depth = 4;
    const uint64_t ring = UINT64_C(4) * 8 * 256 * 256 * 3;
    struct loader *loader = open_loader(dataset, &settings);
    CHECK(loader_memory(loader) > ring);
    CHECK(loader_memory(loader) < ring + (1 << 20));
    settings.workers = 4;
    struct loader *more = open_loader(dataset, &settings);
    CHECK(loader_memory(more) > loader_memory(loader) + 2 * 100000);
    loader_close(more);
    loader_close(loader);
    dataset_close(dataset);
}

/* Bytes of files that are mapped and in memory, of this process. */
static long mapped_bytes(void)
{
    char line[256];
    long kilobytes = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "RssFile: %ld", &kilobytes);
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

static void check_mapped(long before, long limit)
{
    const long grown = mapped_bytes() - before;
    if (grown > limit)
        printf("%ld bytes of the data set are in memory\n", grown);
    CHECK(grown <= limit);
}

/* Of 14 MB that are read three times, less than half stays in this program's memory: the system
 * maps up to 64 KB around a page that is read, and some of that belongs to the records beside it.
 */
static void map_is_given_back(void)
{
    const int32_t labels[CLASSES] = {0, -1, 1, 2, 3};
    const struct recipe big = {
        .name = "big.lmdb", .shards = {30, 20},
             .width = 310, .height = 300
    };
    struct dataset *dataset = open_set(&big);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    const long before = mapped_bytes();
    if (before < 0)
        TEST_SKIP("/proc/self/status has no RssFile");
    for (int k = 0; k < 2; k++) {
        settings.labels = k ? labels : NULL;
        struct loader *loader = open_loader(dataset, &settings);
        check_mapped(before, 4 << 20);
        CHECK_INT(loader_start(loader, 0, 0), 0);
        for (uint32_t b = 0; b < 3 * loader_batches(loader); b++)
            CHECK_INT(loader_next(loader, &batch), 1);
        check_mapped(before, 7 << 20);
        loader_close(loader);
    }
    dataset_close(dataset);
}

/* A slow trainer makes the workers idle, a quick one waits. */
static void times(void)
{
    struct dataset *dataset = open_set(&jpeg_set);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    struct loader_times slow, fast;
    struct loader *loader = open_loader(dataset, &settings);
    loader_times(loader, &slow);
    CHECK(slow.wait == 0 && slow.read == 0 && slow.decode == 0 && slow.augment == 0 &&
          slow.idle == 0);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    for (int b = 0; b < 10; b++) {
        CHECK_INT(loader_next(loader, &batch), 1);
        usleep(20000);
    }
    loader_times(loader, &slow);
    CHECK(slow.read > 0 && slow.decode > 0 && slow.augment > 0);
    CHECK(slow.idle > 0.05);
    for (int b = 0; b < 100; b++)
        CHECK_INT(loader_next(loader, &batch), 1);
    loader_times(loader, &fast);
    CHECK(fast.wait > slow.wait);
    CHECK(fast.decode > slow.decode);
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
    {"content",           content          },
    {"any_workers",       any_workers      },
    {"resume",            resume           },
    {"restarts",          restarts         },
    {"last_epoch",        last_epoch       },
    {"validation",        validation       },
    {"left_out",          left_out         },
    {"label_range",       label_range      },
    {"bad_label",         bad_label        },
    {"bad_record",        bad_record       },
    {"bad_sizes",         bad_sizes        },
    {"tiny",              tiny             },
    {"no_allocation",     no_allocation    },
    {"memory",            memory           },
    {"map_is_given_back", map_is_given_back},
    {"times",             times            },
    {"names",             names            },
};

TEST_MAIN(tests)
