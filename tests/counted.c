/*
 * counted.c - what tests/test_counts.sh counts instructions of: small, equal work on every machine.
 *
 * usage: counted draw FOLDER     PICTURES photographs by formula, as JPEG files
 *        counted decode FILE     decode it TIMES times
 *        counted resize          500 x 375 pixels to 341 x 256, TIMES times
 *        counted rows DB         each record once, cropped and resized to 224 for training
 *        counted feed            TIMES batches of one picture of 224, normalised by device cpu
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/resample.h"
#include "tests/pixels.h"
#include "train/backend.h"
#include "train/row.h"

enum { PICTURES = 8, TIMES = 4, WIDTH = 500, HEIGHT = 375, SIZE = 224 };

static int draw(const char *folder)
{
    static uint8_t rgb[WIDTH * HEIGHT * 3];
    struct picture picture = {.rgb = rgb, .width = WIDTH, .height = HEIGHT};
    struct decoder *decoder;
    uint8_t *bytes = NULL;
    size_t capacity = 0, size;
    int rc = decoder_open(&decoder);
    draw_pixels(rgb, WIDTH, HEIGHT, 2);
    for (int i = 0; i < PICTURES && !rc; i++) {
        char path[FILES_PATH_SIZE];
        FILE *file;
        snprintf(path, sizeof path, "%s/%d.JPEG", folder, i);
        rgb[i]++; /* no two alike */
        if ((rc = decoder_write_jpeg(decoder, &picture, 90, &bytes, &capacity, &size)))
            break;
        if (!(file = fopen(path, "wb")) || fwrite(bytes, 1, size, file) != size || fclose(file))
            rc = err_errno("cannot write %s", path);
    }
    mem_free(bytes);
    decoder_close(decoder);
    return rc;
}

static int decode(const char *path)
{
    struct picture picture = {0};
    struct decode_info info;
    struct decoder *decoder;
    size_t size = 0;
    uint8_t *bytes = read_whole(path, &size);
    int rc = bytes ? decoder_open(&decoder) : err_set(ERR_IO, "cannot read %s", path);
    for (int i = 0; i < TIMES && !rc; i++)
        rc = decoder_read(decoder, bytes, size, &decode_default_limits, &picture, &info);
    if (bytes)
        decoder_close(decoder);
    picture_release(&picture);
    free(bytes);
    return rc;
}

static int resize(void)
{
    enum { TO_WIDTH = 341, TO_HEIGHT = 256 };
    static uint8_t rgb[WIDTH * HEIGHT * 3], out[TO_WIDTH * TO_HEIGHT * 3];
    const struct pixels in = {rgb, WIDTH, HEIGHT, WIDTH * 3};
    const struct resample_window window = {TO_WIDTH, TO_HEIGHT, 0, 0, TO_WIDTH, TO_HEIGHT};
    struct resampler *resampler;
    int rc = resampler_open(&resampler, false);
    draw_pixels(rgb, WIDTH, HEIGHT, 2);
    for (int i = 0; i < TIMES && !rc; i++)
        rc = resampler_run(resampler, &in, &window, false, out, TO_WIDTH * 3);
    resampler_close(resampler);
    return rc;
}

static int rows(const char *folder)
{
    static uint8_t square[SIZE * SIZE * 3];
    const struct loader_settings settings = {
        .training = true, .size = SIZE, .seed = 1, .classes = 1};
    const struct row_place place = {.pixels = square};
    struct dataset *dataset = NULL;
    struct row_maker *maker = NULL;
    struct loader_times times = {0};
    int32_t label;
    int rc = dataset_open(&dataset, folder);
    if (!rc)
        rc = row_maker_open(&maker, dataset, &settings);
    for (uint64_t i = 0; i < PICTURES && !rc; i++)
        rc = row_make(maker, i, 0, &place, &label, &times);
    row_maker_close(maker);
    dataset_close(dataset);
    return rc;
}

static int feed(void)
{
    static uint8_t square[SIZE * SIZE * 3];
    const struct device_settings settings = {.threads = 1};
    const struct backend *backend = backend_find("cpu");
    struct tensor pictures = {.role = TENSOR_PICTURES, .n = 1, .c = 3, .h = SIZE, .w = SIZE};
    int32_t label = 0;
    uint64_t record = 0;
    const struct batch batch = {
        .rows = 1, .size = SIZE, .pixels = square, .labels = &label, .records = &record};
    struct device *device = NULL;
    int rc = backend ? backend->open(&device, &settings) : err_set(ERR_USAGE, "no device cpu");
    if (rc)
        return rc;
    draw_pixels(square, SIZE, SIZE, 2);
    if (!(rc = backend->tensor_setup(device, &pictures)) &&
        !(rc = backend->alloc(device, pictures.bytes, &pictures.data)))
        for (int i = 0; i < TIMES && !rc; i++)
            rc = backend->feed(device, &batch, &pictures);
    if (pictures.data)
        backend->release(device, pictures.data);
    backend->close(device);
    return rc;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *of = argc > 2 ? argv[2] : "";
    int rc = !strcmp(what, "draw")     ? draw(of)
             : !strcmp(what, "decode") ? decode(of)
             : !strcmp(what, "resize") ? resize()
             : !strcmp(what, "rows")   ? rows(of)
             : !strcmp(what, "feed")   ? feed()
                                       : err_set(ERR_USAGE, "counted draw|decode|resize|rows|feed");
    if (rc)
        fprintf(stderr, "counted: %s\n", err_text());
    return err_exit_code(rc);
}
