#include "train/row.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/resample.h"
#include "common/work.h"
#include "train/augment.h"

#define SIDE_LIMIT 65535

struct row_maker {
    struct dataset *dataset;
    const struct manifest *manifest;
    const struct loader_settings *settings;
    struct decoder *decoder; /* NULL where pictures are stored as pixels */
    struct resampler *resampler;
    struct picture picture; /* decoded */
    uint64_t memory;
};

int row_maker_open(struct row_maker **out, struct dataset *dataset,
                   const struct loader_settings *settings)
{
    const struct manifest *manifest = dataset_manifest(dataset);
    const uint32_t width = manifest->largest_width, height = manifest->largest_height;
    int rc = -ERR_MEMORY;
    if (width < 1 || width > SIDE_LIMIT || height < 1 || height > SIDE_LIMIT)
        return err_set(ERR_INPUT,
                       "the manifest says that the largest picture is %u x %u: sides are 1 to "
                       "65,535; pack the data set again",
                       width, height);
    struct row_maker *maker = mem_array(1, sizeof *maker, "loader thread");
    if (!maker)
        return rc;
    maker->dataset = dataset;
    maker->manifest = manifest;
    maker->settings = settings;
    if ((rc = resampler_open(&maker->resampler, false)) ||
        (rc = resampler_reserve(maker->resampler, (int)width, (int)height, settings->size,
                                settings->size)))
        goto fail;
    if (manifest->encoding == RECORD_JPEG &&
        ((rc = decoder_open(&maker->decoder)) ||
         (rc = picture_resize(&maker->picture, (int)width, (int)height))))
        goto fail;
    *out = maker;
    return 0;

fail:
    row_maker_close(maker);
    return rc;
}

void row_maker_close(struct row_maker *maker)
{
    if (!maker)
        return;
    decoder_close(maker->decoder);
    resampler_close(maker->resampler);
    picture_release(&maker->picture);
    mem_free(maker);
}

uint64_t row_maker_memory(const struct row_maker *maker)
{
    const uint64_t width = maker->manifest->largest_width, height = maker->manifest->largest_height;
    const uint64_t size = (uint64_t)maker->settings->size;
    /* The resampler: each input row made SIZE wide, tables of weights, pointers. */
    uint64_t bytes =
        sizeof *maker + (height + 8) * (3 * size + 128) + 64 * (width + height) + 128 * size;
    /* libjpeg: tables, and some rows of blocks. */
    if (maker->decoder)
        bytes += maker->picture.capacity + 65536 + 200 * width;
    return bytes;
}

void row_name(struct dataset *dataset, uint64_t record, char out[600])
{
    char name[RECORD_NAME_LIMIT + 1];
    struct record found;
    if (dataset_get(dataset, record, false, &found)) {
        snprintf(out, 600, "record %llu", (unsigned long long)record);
        return;
    }
    memcpy(name, found.name, found.name_size);
    name[found.name_size] = 0;
    err_quote(out, 600, name);
}

void row_tell_wait(struct dataset *dataset, const uint64_t *plan, int ready, int rows,
                   double seconds)
{
    char text[32], place[FILES_PATH_SIZE] = "";
    size_t shard;
    uint32_t number;
    if (plan) {
        dataset_place(dataset, plan[ready], &shard, &number);
        snprintf(place, sizeof place, ", now at record %u of %s or near it", number,
                 dataset_manifest(dataset)->shards[shard].file);
    }
    log_warning("waiting for pictures for %s: %d of %d of the next batch are there%s; the disk of "
                "%s is slow or does not answer",
                log_seconds(text, seconds), ready, rows, place, dataset_folder(dataset));
}

void row_give_back(const struct record *record)
{
    const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    const uintptr_t begin = (uintptr_t)record->payload & ~mask;
    const uintptr_t end = ((uintptr_t)record->payload + record->payload_size + mask) & ~mask;
    madvise((void *)begin, end - begin,
            MADV_DONTNEED); /* if refused, memory looks fuller: no more */
}

/* Put where record INDEX lies in front of this thread's error. */
static int add_place(const struct row_maker *maker, uint64_t index, int rc)
{
    struct err error;
    size_t shard;
    uint32_t record;
    char name[600];
    err_take(rc, &error);
    row_name(maker->dataset, index, name);
    err_raise(&error);
    dataset_place(maker->dataset, index, &shard, &record);
    return err_add(rc, "%s/%s: record %u (%s)", dataset_folder(maker->dataset),
                   maker->manifest->shards[shard].file, record, name);
}

static int map_label(const struct row_maker *maker, uint32_t label, int32_t *out)
{
    /* dataset_get has checked that LABEL is below the data set's class count. */
    const struct loader_settings *settings = maker->settings;
    const int64_t mapped = settings->labels ? settings->labels[label] : (int64_t)label;
    if (mapped < 0 || mapped >= settings->classes)
        return err_set(
            ERR_INPUT,
            "label %u would be class %lld of the network, which has %d classes: use data "
            "sets of the same classes",
            label, (long long)mapped, settings->classes);
    *out = (int32_t)mapped;
    return 0;
}

static int make_plan(const struct row_maker *maker, const struct record *record, uint64_t index,
                     uint32_t epoch, struct augment_plan *out)
{
    const struct loader_settings *settings = maker->settings;
    const int width = (int)record->width, height = (int)record->height;
    if (!settings->training)
        return augment_plan_validate(width, height, settings->resize, settings->size, out);
    const struct crop crop = augment_random_crop(settings->seed, epoch, index, width, height);
    augment_plan_train(&crop, settings->size, out);
    return 0;
}

/* The pixels of RECORD in *OUT, valid until the next record. Of a JPEG picture only those that PLAN
 * needs are decoded; what the others are does not matter. */
static int decode_record(struct row_maker *maker, const struct record *record,
                         const struct augment_plan *plan, struct pixels *out)
{
    out->width = (int)record->width;
    out->height = (int)record->height;
    out->stride = (size_t)record->width * 3;
    if (record->encoding == RECORD_RGB) {
        out->rgb = record->payload;
        return 0;
    }
    struct decode_limits limits = decode_default_limits;
    struct decode_info info;
    int left, right, top, bottom;
    limits.pixels = (int64_t)record->width * record->height;
    augment_inputs(&plan->across, &left, &right);
    augment_inputs(&plan->down, &top, &bottom);
    const struct decode_window window = {plan->across.from + left, plan->down.from + top,
                                         right - left, bottom - top};
    int rc = decoder_read_window(maker->decoder, record->payload, record->payload_size, &limits,
                                 &window, &maker->picture, &info);
    if (rc)
        return rc;
    if (maker->picture.width != out->width || maker->picture.height != out->height)
        return err_set(ERR_INPUT, "its JPEG picture is %d x %d, not %d x %d as its header says",
                       maker->picture.width, maker->picture.height, out->width, out->height);
    out->rgb = maker->picture.rgb;
    return 0;
}

static int cut_record(struct row_maker *maker, const struct pixels *pixels,
                      const struct augment_plan *plan, const struct row_place *place)
{
    const int size = maker->settings->size;
    if (place->pixels)
        return augment_run(maker->resampler, pixels, plan, size, place->pixels);
    return packed_add(place->block, place->row, maker->resampler, pixels, plan, size);
}

int row_make(struct row_maker *maker, uint64_t index, uint32_t epoch, const struct row_place *place,
             int32_t *label, struct loader_times *times)
{
    struct record record;
    struct augment_plan plan;
    struct pixels pixels;
    const double begin = work_seconds();
    int rc = dataset_get(maker->dataset, index, true, &record);
    if (rc)
        return rc; /* says where by itself; sizes are within the manifest's, as the buffers are */
    if ((rc = map_label(maker, record.label, label)) ||
        (rc = make_plan(maker, &record, index, epoch, &plan)))
        return add_place(maker, index, rc);
    const double read = work_seconds();
    if ((rc = decode_record(maker, &record, &plan, &pixels)))
        return add_place(maker, index, rc);
    const double decoded = work_seconds();
    if ((rc = cut_record(maker, &pixels, &plan, place)))
        return add_place(maker, index, rc);
    row_give_back(&record);
    times->read += read - begin;
    times->decode += decoded - read;
    times->augment += work_seconds() - decoded;
    return 0;
}
