/*
 * loader_set.h - data sets for the loader's tests, made on the spot from a formula; settings; and a
 * batch as one number.
 */
#ifndef TESTS_LOADER_SET_H
#define TESTS_LOADER_SET_H

#include "tests/test.h"

#include "common/decode.h"
#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/resample.h"
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

static inline uint32_t recipe_label(uint32_t index)
{
    return index * 7 % CLASSES;
}

/* Picture INDEX: a formula's, soft enough for JPEG. */
static inline void draw(struct picture *picture, const struct recipe *recipe, uint32_t index)
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

static inline void append(struct shard_writer *writer, struct decoder *decoder,
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
        /* 4:2:0 and 4:4:4 by turns */
        CHECK_INT(
            decoder_write_jpeg(decoder, &picture, 89 + (int)index % 2, &jpeg, &capacity, &size), 0);
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

static inline void write_shard(const char *folder, struct decoder *decoder,
                               const struct recipe *recipe, struct manifest *manifest,
                               size_t number)
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
static inline void make_set(const struct recipe *recipe, char *folder,
                            void (*change)(struct manifest *))
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

static inline struct dataset *open_set(const struct recipe *recipe)
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

static inline struct loader_settings training_settings(void)
{
    return (struct loader_settings){.training = true,
                                    .size = 24,
                                    .batch = 8,
                                    .workers = 2,
                                    .seed = 11,
                                    .shuffle = ORDER_FULL,
                                    .classes = CLASSES};
}

static inline struct loader_settings validation_settings(void)
{
    return (struct loader_settings){
        .size = 24, .resize = 27, .batch = 8, .workers = 2, .classes = CLASSES};
}

static inline struct loader *open_loader(struct dataset *dataset,
                                         const struct loader_settings *settings)
{
    struct loader *loader = NULL;
    CHECK_INT(loader_open(&loader, dataset, settings), 0);
    return loader;
}

/* Everything in a batch as one number. */
static inline uint64_t batch_digest(const struct batch *batch, int n)
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

static inline uint64_t next_digest(struct loader *loader, int n)
{
    const struct batch *batch;
    int rc = loader_next(loader, &batch);
    CHECK_INT(rc, 1);
    return rc == 1 ? batch_digest(batch, n) : 0;
}

/* One row, the straight way. */
static inline void check_row(struct dataset *dataset, const struct loader_settings *settings,
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

#endif
