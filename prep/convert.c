#include "prep/convert.h"

#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/resample.h"

/* Memory of a decoded pixel: RGB, and a progressive JPEG's coefficients in full resolution. */
enum { PIXEL_BYTES = 9 };

struct converter {
    struct convert_settings settings;
    struct decoder *decoder;
    struct resampler *resampler;
    struct picture picture, resized;
};

int converter_open(struct converter **out, const struct convert_settings *settings)
{
    struct converter *converter = mem_array(1, sizeof *converter, "converter");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!converter)
        return rc;
    converter->settings = *settings;
    if ((rc = decoder_open(&converter->decoder)) ||
        (rc = resampler_open(&converter->resampler, false))) {
        converter_close(converter);
        return rc;
    }
    *out = converter;
    return 0;
}

void converter_close(struct converter *converter)
{
    if (!converter)
        return;
    picture_release(&converter->picture);
    picture_release(&converter->resized);
    resampler_close(converter->resampler);
    decoder_close(converter->decoder);
    mem_free(converter);
}

void converter_trim(struct converter *converter, size_t keep)
{
    if (converter->picture.capacity > keep)
        picture_release(&converter->picture);
    if (converter->resized.capacity > keep)
        picture_release(&converter->resized);
}

void converted_trim(struct converted *converted, size_t keep)
{
    if (converted->capacity <= keep)
        return;
    mem_free(converted->payload);
    converted->payload = NULL;
    converted->capacity = converted->size = 0;
}

/* Reasons come from libraries, which quote foreign bytes. */
static void quote_reason(struct decode_info *info, const char *reason)
{
    char quoted[sizeof info->reason];
    err_quote(quoted, sizeof quoted, reason);
    memcpy(info->reason, quoted, sizeof quoted);
}

void converted_refuse(struct converted *out, const char *reason)
{
    out->info.verdict = DECODE_BAD;
    quote_reason(&out->info, reason);
    out->size = 0;
}

/* The size a WIDTH x HEIGHT picture is stored at. */
static void stored_size(const struct convert_settings *settings, int width, int height,
                        int *out_width, int *out_height)
{
    *out_width = width;
    *out_height = height;
    if (settings->short_side)
        resample_size(width, height, settings->short_side, true, out_width, out_height);
}

/* The sizes that the header promises; false when the picture will be refused anyway. */
static bool promised_size(struct converter *converter, const uint8_t *bytes, size_t size,
                          int *width, int *height, int *out_width, int *out_height)
{
    if (decoder_size(converter->decoder, bytes, size, width, height) ||
        (int64_t)*width * *height > decode_default_limits.pixels)
        return false;
    stored_size(&converter->settings, *width, *height, out_width, out_height);
    return true;
}

uint64_t converter_rgb_size(struct converter *converter, const uint8_t *bytes, size_t size)
{
    int width, height, out_width, out_height;
    if (!promised_size(converter, bytes, size, &width, &height, &out_width, &out_height))
        return 0;
    return (uint64_t)out_width * (uint64_t)out_height * 3;
}

size_t converter_need(struct converter *converter, const uint8_t *bytes, size_t size)
{
    int width, height, out_width, out_height;
    if (!promised_size(converter, bytes, size, &width, &height, &out_width, &out_height))
        return size;
    return (size_t)width * (size_t)height * PIXEL_BYTES +
           (size_t)out_width * (size_t)out_height * 3;
}

static int resize(struct converter *converter, int width, int height, struct picture *out)
{
    const struct picture *in = &converter->picture;
    struct pixels pixels = {in->rgb, in->width, in->height, (size_t)in->width * 3};
    struct resample_window window = {width, height, 0, 0, width, height};
    int rc = picture_resize(out, width, height);
    return rc ? rc
              : resampler_run(converter->resampler, &pixels, &window, false, out->rgb,
                              (size_t)width * 3);
}

/* The converter's picture at its stored size becomes OUT's payload. */
static int store_rgb(struct converter *converter, bool resized, struct converted *out)
{
    struct picture payload = {.rgb = out->payload, .capacity = out->capacity};
    int rc = resized ? resize(converter, (int)out->width, (int)out->height, &payload)
                     : picture_resize(&payload, (int)out->width, (int)out->height);
    out->payload = payload.rgb;
    out->capacity = payload.capacity;
    if (rc)
        return rc;
    out->size = (size_t)out->width * out->height * 3;
    if (!resized) /* a copy: to change the two's memory would spread the largest over all slots */
        memcpy(out->payload, converter->picture.rgb, out->size);
    return 0;
}

static int store_jpeg(struct converter *converter, bool resized, struct converted *out)
{
    const struct picture *picture = &converter->picture;
    if (resized) {
        int rc = resize(converter, (int)out->width, (int)out->height, &converter->resized);
        if (rc)
            return rc;
        picture = &converter->resized;
    }
    return decoder_write_jpeg(converter->decoder, picture, converter->settings.quality,
                              &out->payload, &out->capacity, &out->size);
}

int converter_run(struct converter *converter, const uint8_t *bytes, size_t size,
                  struct converted *out)
{
    const struct convert_settings *settings = &converter->settings;
    int width, height;
    int rc = decoder_read(converter->decoder, bytes, size, &decode_default_limits,
                          &converter->picture, &out->info);
    if (rc && rc != -ERR_INPUT)
        return rc;
    quote_reason(&out->info, out->info.reason);
    if (rc || (settings->strict && out->info.verdict == DECODE_WARN)) {
        out->info.verdict = DECODE_BAD;
        return 0;
    }
    stored_size(settings, converter->picture.width, converter->picture.height, &width, &height);
    if (settings->encoding == RECORD_JPEG &&
        (width > CONVERT_JPEG_SIDE_LIMIT || height > CONVERT_JPEG_SIDE_LIMIT)) {
        converted_refuse(out, "a side is longer than the 65500 pixels of a JPEG");
        return 0;
    }
    bool resized = width != converter->picture.width || height != converter->picture.height;
    out->original_width = (uint32_t)converter->picture.width;
    out->original_height = (uint32_t)converter->picture.height;
    out->width = (uint32_t)width;
    out->height = (uint32_t)height;
    return settings->encoding == RECORD_JPEG ? store_jpeg(converter, resized, out)
                                             : store_rgb(converter, resized, out);
}
