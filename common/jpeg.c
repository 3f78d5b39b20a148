/*
 * Each picture gets a libjpeg object of its own: the library keeps quantisation and Huffman tables
 * from picture to picture, and a file that lacks some would be decoded with its predecessor's,
 * differently in every run. Making the object takes 0.1 us, decoding an ImageNet photo 1.3 ms.
 *
 * The library reports errors by a call that must not return. Here it jumps back to the function
 * that made the object; everything that can jump lives in functions below it and owns nothing, so
 * nothing is lost.
 */
#include "common/jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "common/err.h"
#include "common/jpeg_header.h"
#include "common/mem.h"
#include "common/verdict.h"

enum {
    ROWS = 2,   /* rows asked for at once: libjpeg gives one group, 1 of 4:4:4 or 2 of 4:2:0 */
    MARGIN = 2, /* columns decoded on either side of a window */
    FIRST_CAPACITY = 1 << 16 /* bytes of a written file */
};

struct jpeg {
    union {
        struct jpeg_common_struct common;
        struct jpeg_decompress_struct decompress;
        struct jpeg_compress_struct compress;
    } object;
    struct jpeg_error_mgr error;
    struct jpeg_source_mgr source;
    struct jpeg_destination_mgr destination;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    int rc; /* why the jump was made */
    int scan_limit;
    struct decode_info *info;
    uint8_t **bytes; /* the written file */
    size_t *capacity;
};

int jpeg_open(struct jpeg **out)
{
    *out = mem_array(1, sizeof **out, "JPEG decoder");
    return *out ? 0 : -ERR_MEMORY;
}

void jpeg_close(struct jpeg *jpeg)
{
    mem_free(jpeg);
}

/* ---- what the library calls ---- */

static _Noreturn void stop(struct jpeg *jpeg, int rc)
{
    jpeg->rc = rc;
    longjmp(jpeg->jump, 1);
}

static _Noreturn void stop_bad(struct jpeg *jpeg, const char *reason, const char *detail)
{
    stop(jpeg, verdict_bad(jpeg->info, reason, detail));
}

static void on_error(j_common_ptr object)
{
    struct jpeg *jpeg = object->client_data;
    char text[JMSG_LENGTH_MAX];
    object->err->format_message(object, text);
    if (object->err->msg_code == JERR_OUT_OF_MEMORY)
        stop(jpeg, err_set(ERR_MEMORY, "no memory for a JPEG file: %s", text));
    if (object->err->msg_code == JERR_NO_BACKING_STORE)
        stop_bad(jpeg, "over the memory limit", NULL);
    stop_bad(jpeg, text, NULL);
}

/* Levels below 0 are warnings, the others traces. */
static void on_message(j_common_ptr object, int level)
{
    struct jpeg *jpeg = object->client_data;
    char text[JMSG_LENGTH_MAX];
    if (level >= 0 || jpeg->info->verdict != DECODE_PACK)
        return;
    object->err->format_message(object, text);
    verdict_warn(jpeg->info, text);
}

static void on_progress(j_common_ptr object)
{
    struct jpeg *jpeg = object->client_data;
    if (jpeg->object.decompress.input_scan_number > jpeg->scan_limit)
        stop_bad(jpeg, "over the scan limit", NULL);
}

static void source_start(j_decompress_ptr object)
{
    (void)object;
}

/* The whole file was given at the start, so that there is never more. To say so ("suspend") instead
 * of inventing an end, as libjpeg's own sources do, is how Pillow tells a truncated file from one
 * with damaged data. */
static boolean source_fill(j_decompress_ptr object)
{
    (void)object;
    return FALSE;
}

static void source_skip(j_decompress_ptr object, long count)
{
    struct jpeg_source_mgr *source = object->src;
    size_t skipped = count < 0 ? 0 : (size_t)count;
    if (skipped > source->bytes_in_buffer)
        skipped = source->bytes_in_buffer;
    source->next_input_byte += skipped;
    source->bytes_in_buffer -= skipped;
}

/* Make room behind the first USED bytes of the written file. */
static void destination_grow(struct jpeg *jpeg, size_t used)
{
    size_t capacity = used < FIRST_CAPACITY ? FIRST_CAPACITY : used;
    void *bytes = *jpeg->bytes;
    if (used && !mem_multiply(capacity, 2, &capacity))
        stop(jpeg, err_set(ERR_MEMORY, "no memory for a JPEG file of %zu bytes", used));
    int rc = mem_grow(&bytes, *jpeg->capacity, capacity, 1, "JPEG file");
    if (rc)
        stop(jpeg, rc);
    *jpeg->bytes = bytes;
    *jpeg->capacity = capacity > *jpeg->capacity ? capacity : *jpeg->capacity;
    jpeg->destination.next_output_byte = *jpeg->bytes + used;
    jpeg->destination.free_in_buffer = *jpeg->capacity - used;
}

static void destination_start(j_compress_ptr object)
{
    destination_grow(object->client_data, 0);
}

static boolean destination_empty(j_compress_ptr object)
{
    struct jpeg *jpeg = object->client_data;
    destination_grow(jpeg, *jpeg->capacity);
    return TRUE;
}

static void destination_end(j_compress_ptr object)
{
    (void)object;
}

/* Before an object is made. */
static void prepare(struct jpeg *jpeg, struct decode_info *info)
{
    memset(&jpeg->object, 0, sizeof jpeg->object);
    jpeg->object.common.err = jpeg_std_error(&jpeg->error);
    jpeg->object.common.client_data = jpeg;
    jpeg->error.error_exit = on_error;
    jpeg->error.emit_message = on_message;
    jpeg->progress.progress_monitor = on_progress;
    jpeg->source.init_source = source_start;
    jpeg->source.fill_input_buffer = source_fill;
    jpeg->source.skip_input_data = source_skip;
    jpeg->source.resync_to_restart = jpeg_resync_to_restart;
    jpeg->source.term_source = source_start;
    jpeg->destination.init_destination = destination_start;
    jpeg->destination.empty_output_buffer = destination_empty;
    jpeg->destination.term_destination = destination_end;
    jpeg->info = info;
    jpeg->rc = 0;
}

/* ---- reading ---- */

/* The end of the data came too early. Had the decoder complained before, then that complaint is the
 * reason: a damaged scan header, for one, makes it look for data that never was. */
static _Noreturn void stop_truncated(struct jpeg *jpeg)
{
    struct decode_info before = *jpeg->info;
    if (before.verdict == DECODE_WARN)
        stop_bad(jpeg, before.reason, "and then the file ends too early");
    stop_bad(jpeg, "truncated", NULL);
}

/* Up to row END, straight into the picture: of each row what is not cut off, from column LEFT on.
 */
static void read_rgb(struct jpeg *jpeg, struct picture *out, JDIMENSION left, JDIMENSION end)
{
    j_decompress_ptr object = &jpeg->object.decompress;
    size_t stride = (size_t)out->width * 3;
    JSAMPROW rows[ROWS];
    while (object->output_scanline < end) {
        JDIMENSION count = end - object->output_scanline;
        count = count < ROWS ? count : ROWS;
        for (JDIMENSION i = 0; i < count; i++)
            rows[i] = out->rgb + (object->output_scanline + i) * stride + (size_t)left * 3;
        if (!jpeg_read_scanlines(object, rows, count))
            stop_truncated(jpeg);
    }
}

/* The files that are cut: those like write_file's, as all records are. One scan of Huffman's codes,
 * colours of full or half the size; that their bytes are equal, tests/test_window.c has looked at.
 * Any other is decoded whole. */
static bool can_cut(j_decompress_ptr object, const struct decode_window *window)
{
    const jpeg_component_info *parts = object->comp_info;
    const int factor = parts[0].h_samp_factor;
    if (jpeg_has_multiple_scans(object) || object->arith_code ||
        object->jpeg_color_space != JCS_YCbCr || factor > 2 || parts[0].v_samp_factor != factor)
        return false;
    for (int i = 1; i < 3; i++)
        if (parts[i].h_samp_factor != 1 || parts[i].v_samp_factor != 1)
            return false;
    return window->left >= 0 && window->top >= 0 && window->width >= 1 && window->height >= 1 &&
           window->width <= (int)object->output_width - window->left &&
           window->height <= (int)object->output_height - window->top;
}

/* Of what is above WINDOW and beside it only the codes are read, since each block's begin where the
 * last one's end; nothing below it is. A margin on either side: smooth upsampling takes the first
 * and last column that it is given for the picture's border, and is not smooth for a single column
 * of colours. Rows need none: the library reads those around by itself. */
static void read_window(struct jpeg *jpeg, struct picture *out, const struct decode_window *window)
{
    j_decompress_ptr object = &jpeg->object.decompress;
    const int right = window->left + window->width + MARGIN;
    JDIMENSION left = window->left > MARGIN ? (JDIMENSION)(window->left - MARGIN) : 0;
    JDIMENSION width = (JDIMENSION)(right < out->width ? right : out->width) - left;
    jpeg_crop_scanline(object, &left, &width); /* moves LEFT to a block's first column */
    jpeg_skip_scanlines(object, (JDIMENSION)window->top);
    read_rgb(jpeg, out, left, (JDIMENSION)(window->top + window->height));
}

/* A * B / 255, rounded. */
static int multiply_255(int a, int b)
{
    int product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

/* Pillow takes every four-component file as inverted (Adobe's habit), marker or not. */
static void read_cmyk(struct jpeg *jpeg, struct picture *out)
{
    j_decompress_ptr object = &jpeg->object.decompress;
    JSAMPARRAY row =
        object->mem->alloc_sarray((j_common_ptr)object, JPOOL_IMAGE, object->output_width * 4, 1);
    uint8_t *rgb = out->rgb;
    while (object->output_scanline < object->output_height) {
        if (!jpeg_read_scanlines(object, row, 1))
            stop_truncated(jpeg);
        for (int x = 0; x < out->width; x++) {
            const JSAMPLE *cmyk = row[0] + 4 * (size_t)x;
            for (int c = 0; c < 3; c++)
                *rgb++ = (uint8_t)(cmyk[3] - multiply_255(255 - cmyk[c], cmyk[3]));
        }
    }
}

static void read_file(struct jpeg *jpeg, const uint8_t *bytes, size_t size,
                      const struct decode_limits *limits, const struct decode_window *window,
                      struct picture *out)
{
    j_decompress_ptr object = &jpeg->object.decompress;
    struct decode_info *info = jpeg->info;
    int found;

    jpeg_create_decompress(object);
    object->src = &jpeg->source;
    object->progress = &jpeg->progress;
    object->mem->max_memory_to_use = (long)limits->memory;
    jpeg->source.next_input_byte = bytes;
    jpeg->source.bytes_in_buffer = size;
    jpeg->scan_limit = limits->scans;

    while ((found = jpeg_read_header(object, FALSE)) == JPEG_HEADER_TABLES_ONLY)
        ;
    if (found == JPEG_SUSPENDED)
        stop_truncated(jpeg);
    info->gray = object->num_components == 1;
    info->cmyk = object->num_components == 4;
    info->stored_rgb = object->jpeg_color_space == JCS_RGB;
    object->out_color_space = info->cmyk ? JCS_CMYK : JCS_RGB;
    if (!jpeg_start_decompress(object))
        stop_truncated(jpeg);
    int rc = picture_resize(out, (int)object->output_width, (int)object->output_height);
    if (rc)
        stop(jpeg, rc);
    if (window && can_cut(object, window)) {
        read_window(jpeg, out, window);
        return;
    }
    if (info->cmyk)
        read_cmyk(jpeg, out);
    else
        read_rgb(jpeg, out, 0, object->output_height);
    /* May find errors and warnings behind the last row. All pixels are there, so that an end of the
     * file before the end marker does not matter. */
    jpeg_finish_decompress(object);
}

int jpeg_read(struct jpeg *jpeg, const uint8_t *bytes, size_t size,
              const struct decode_limits *limits, const struct decode_window *window,
              struct picture *out, struct decode_info *info)
{
    struct jpeg_header header;
    int rc = jpeg_header_read(bytes, size, &header, info);
    if (rc)
        return rc;
    if ((int64_t)header.width * header.height > limits->pixels)
        return verdict_bad(info, "over the pixel limit", NULL);
    prepare(jpeg, info);
    if (setjmp(jpeg->jump) == 0)
        read_file(jpeg, bytes, size, limits, window, out);
    jpeg_destroy_decompress(&jpeg->object.decompress);
    return jpeg->rc;
}

/* ---- writing ---- */

static void write_file(struct jpeg *jpeg, const struct picture *picture, int quality)
{
    j_compress_ptr object = &jpeg->object.compress;
    size_t stride = (size_t)picture->width * 3;

    jpeg_create_compress(object);
    object->dest = &jpeg->destination;
    object->image_width = (JDIMENSION)picture->width;
    object->image_height = (JDIMENSION)picture->height;
    object->input_components = 3;
    object->in_color_space = JCS_RGB;
    jpeg_set_defaults(object);
    jpeg_set_quality(object, quality, TRUE);
    object->optimize_coding = TRUE;
    if (quality >= 90)
        object->comp_info[0].h_samp_factor = object->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(object, TRUE);
    while (object->next_scanline < object->image_height) {
        JSAMPROW row = picture->rgb + object->next_scanline * stride;
        jpeg_write_scanlines(object, &row, 1);
    }
    jpeg_finish_compress(object);
}

int jpeg_write(struct jpeg *jpeg, const struct picture *picture, int quality, uint8_t **bytes,
               size_t *capacity, size_t *size)
{
    struct decode_info info = {0};
    prepare(jpeg, &info);
    jpeg->bytes = bytes;
    jpeg->capacity = capacity;
    if (setjmp(jpeg->jump) == 0)
        write_file(jpeg, picture, quality);
    jpeg_destroy_compress(&jpeg->object.compress);
    if (!jpeg->rc)
        *size = *capacity - jpeg->destination.free_in_buffer;
    return jpeg->rc;
}

#define TEXT(x) #x
#define VALUE(x) TEXT(x)

const char *jpeg_library(void)
{
    return "libjpeg-turbo " VALUE(LIBJPEG_TURBO_VERSION);
}
