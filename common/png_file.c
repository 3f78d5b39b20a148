/*
 * The chunks before the image data are walked here first, for what the program counts and for the
 * limits; libpng then reads the same bytes, is told to skip every ancillary chunk, and so keeps no
 * more than a few rows (a row is at most 65,535 pixels of 8 bytes).
 */
#include "common/png_file.h"

#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "common/err.h"
#include "common/exif.h"
#include "common/mem.h"
#include "common/verdict.h"

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_HEADER_BYTES = 8, /* length and name */
    CHUNK_CRC_BYTES = 4,
    SIDE_LIMIT = 65535 /* pixels; what the resampler and the record format take */
};

struct png_file {
    jmp_buf jump;
    int rc;
    struct decode_info *info;
    const uint8_t *bytes; /* the file that is read, SIZE bytes, of which AT are used */
    size_t size, at;
    size_t cut_at;      /* offset of the chunk that the end of the file cuts */
    int64_t rows_left;  /* over all passes, until the picture is complete */
    size_t complete_at; /* AT when it was */
    bool cut_gray;      /* see on_row */
    uint8_t **written;  /* the file that is written, SIZE bytes */
    size_t *capacity;
};

static int damaged(struct decode_info *info, const char *detail)
{
    return verdict_bad(info, "damaged PNG", detail);
}

/* ---- the chunks before the image data ---- */

struct chunk {
    const char *name; /* 4 bytes, no end */
    const uint8_t *data;
    size_t length;
};

static uint32_t number(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool is_named(const struct chunk *chunk, const char *name)
{
    return memcmp(chunk->name, name, 4) == 0;
}

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/* The chunk at AT: 1; 0 when no chunk starts here; -1 when it starts and the file ends before its
 * data does. */
static int find_chunk(const uint8_t *bytes, size_t size, size_t at, struct chunk *out)
{
    if (at > size || size - at < CHUNK_HEADER_BYTES)
        return 0;
    out->name = (const char *)bytes + at + 4;
    out->data = bytes + at + CHUNK_HEADER_BYTES;
    out->length = number(bytes + at);
    for (int i = 0; i < 4; i++)
        if (!is_letter(out->name[i]))
            return 0;
    return out->length <= size - at - CHUNK_HEADER_BYTES ? 1 : -1;
}

/* Chunks that Pillow refuses when they are shorter than this. */
static const struct {
    const char *name;
    size_t bytes;
} least[] = {
    {"gAMA", 4 },
    {"cHRM", 32},
    {"sRGB", 1 },
    {"pHYs", 9 },
    {"acTL", 8 },
    {"fcTL", 26},
};

/* What the chunks before the image data say. */
struct header {
    int width, height;
    bool animated;
    size_t image_at; /* offset of the first IDAT chunk */
};

static int look_at_chunk(const struct chunk *chunk, const uint8_t *ihdr, struct header *out,
                         struct decode_info *info)
{
    for (size_t i = 0; i < sizeof least / sizeof *least; i++)
        if (is_named(chunk, least[i].name) && chunk->length < least[i].bytes)
            return damaged(info, "a chunk is too short");
    /* The first frame of an animation must be the whole picture. */
    if (is_named(chunk, "fcTL") && (memcmp(chunk->data + 4, ihdr, 8) != 0 ||
                                    number(chunk->data + 12) != 0 || number(chunk->data + 16) != 0))
        return damaged(info, "the first frame is not the picture");
    if (is_named(chunk, "acTL"))
        out->animated = true;
    else if (is_named(chunk, "iCCP"))
        info->icc = true;
    else if (is_named(chunk, "tRNS"))
        info->alpha = true;
    else if (is_named(chunk, "eXIf"))
        info->exif_orientation = exif_orientation(chunk->data, chunk->length);
    return 0;
}

static int read_header(const uint8_t *bytes, size_t size, struct header *out,
                       struct decode_info *info)
{
    struct chunk chunk;
    const uint8_t *ihdr;
    int found;
    *out = (struct header){.image_at = SIGNATURE_BYTES};
    if (find_chunk(bytes, size, out->image_at, &chunk) != 1 || !is_named(&chunk, "IHDR") ||
        chunk.length != 13)
        return damaged(info, "the header is not whole");
    ihdr = chunk.data;
    if (number(ihdr) < 1 || number(ihdr + 4) < 1)
        return damaged(info, "no pixels");
    if (number(ihdr) > SIDE_LIMIT || number(ihdr + 4) > SIDE_LIMIT)
        return verdict_bad(info, "over the side limit of 65535", NULL);
    out->width = (int)number(ihdr);
    out->height = (int)number(ihdr + 4);
    info->sixteen_bit = ihdr[8] == 16;
    info->gray = (ihdr[9] & ~PNG_COLOR_MASK_ALPHA) == 0;
    info->palette = ihdr[9] == PNG_COLOR_TYPE_PALETTE;
    info->alpha = (ihdr[9] & PNG_COLOR_MASK_ALPHA) != 0;
    do {
        int rc = look_at_chunk(&chunk, ihdr, out, info);
        if (rc)
            return rc;
        out->image_at += CHUNK_HEADER_BYTES + chunk.length + CHUNK_CRC_BYTES;
        found = find_chunk(bytes, size, out->image_at, &chunk);
        if (!found || is_named(&chunk, "IEND"))
            return damaged(info, "no image data");
    } while (found == 1 && !is_named(&chunk, "IDAT"));
    return 0;
}

int png_file_size(const uint8_t *bytes, size_t size, int *width, int *height,
                  struct decode_info *info)
{
    struct header header;
    int rc = read_header(bytes, size, &header, info);
    *width = header.width;
    *height = header.height;
    return rc;
}

/* ---- what libpng calls ---- */

static _Noreturn void stop(struct png_file *file, int rc)
{
    file->rc = rc;
    longjmp(file->jump, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    struct png_file *file = png_get_error_ptr(png);
    if (strcmp(text, "Out of memory") == 0)
        stop(file, err_set(ERR_MEMORY, "no memory for a PNG file"));
    if (file->rows_left)
        stop(file, damaged(file->info, text));
    /* Behind the last row Pillow looks at nothing; what is wrong there is a complaint. */
    verdict_warn(file->info, text);
    stop(file, 0);
}

static void on_warning(png_structp png, png_const_charp text)
{
    struct png_file *file = png_get_error_ptr(png);
    verdict_warn(file->info, text);
}

static void on_read(png_structp png, png_bytep out, size_t count)
{
    struct png_file *file = png_get_io_ptr(png);
    if (file->size - file->at < count)
        png_error(png, "the file ends too early");
    memcpy(out, file->bytes + file->at, count);
    /* Of a chunk that is cut, what there is: it may be enough for all rows. */
    if (file->at == file->cut_at && count == CHUNK_HEADER_BYTES)
        png_save_uint_32(out, (png_uint_32)(file->size - file->at - CHUNK_HEADER_BYTES));
    file->at += count;
}

static void on_write(png_structp png, png_bytep bytes, size_t count)
{
    struct png_file *file = png_get_io_ptr(png);
    size_t wanted;
    if (!mem_sum(file->size, count, &wanted))
        stop(file, err_set(ERR_MEMORY, "no memory for a PNG file"));
    if (wanted > *file->capacity) {
        void *grown = *file->written;
        size_t capacity = wanted + wanted / 2;
        int rc = mem_grow(&grown, *file->capacity, capacity, 1, "PNG file");
        if (rc)
            stop(file, rc);
        *file->written = grown;
        *file->capacity = capacity;
    }
    memcpy(*file->written + file->size, bytes, count);
    file->size += count;
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* The last conversion of a row, which is RGB by now: nothing but copying and the way to the next
 * row lies behind it. Pillow reads gray of 16 bits as I;16 and converts that to RGB by cutting at
 * 255. */
static void on_row(png_structp png, png_row_infop info, png_bytep row)
{
    struct png_file *file = png_get_error_ptr(png);
    if (--file->rows_left == 0)
        file->complete_at = file->at;
    for (size_t i = 0; file->cut_gray && i < (size_t)info->width * 3; i++)
        row[i] = row[2 * i] ? 255 : row[2 * i + 1];
}

/* ---- reading ---- */

/* Whatever the file holds comes out as 8-bit RGB. */
static void set_conversions(struct png_file *file, png_structp png, int color, int depth)
{
    file->cut_gray = depth == 16 && color == PNG_COLOR_TYPE_GRAY;
    if (color == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (color == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (depth == 16 && !file->cut_gray)
        png_set_strip_16(png);
    if (color & PNG_COLOR_MASK_ALPHA)
        png_set_strip_alpha(png);
    if (!(color & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(png);
    png_set_read_user_transform_fn(png, on_row);
    png_set_user_transform_info(png, NULL, 8, 3);
}

/* Rows that on_row will see. */
static int64_t count_rows(const struct picture *out, int passes)
{
    int64_t rows = passes == 1 ? out->height : 0;
    for (int pass = 0; passes > 1 && pass < passes; pass++)
        if (PNG_PASS_COLS((png_uint_32)out->width, pass))
            rows += PNG_PASS_ROWS((png_uint_32)out->height, pass);
    return rows;
}

static void read_rows(struct png_file *file, png_structp png, png_infop png_info,
                      struct picture *out)
{
    png_set_read_fn(png, file, on_read);
    png_set_user_limits(png, SIDE_LIMIT, SIDE_LIMIT);
    png_set_chunk_malloc_max(png, 0); /* none is kept, so that any length will do */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep) "tRNS", 1);
    /* As Pillow: checksums count before the image data, and not from there on. */
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(png, png_info);
    png_set_crc_action(png, PNG_CRC_WARN_USE, PNG_CRC_WARN_USE);
    set_conversions(file, png, png_get_color_type(png, png_info), png_get_bit_depth(png, png_info));
    int passes = png_set_interlace_handling(png);
    file->rows_left = count_rows(out, passes);
    png_read_update_info(png, png_info);
    if (png_get_rowbytes(png, png_info) != (size_t)out->width * 3)
        png_error(png, "not RGB");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < out->height; y++)
            png_read_row(png, out->rgb + (size_t)y * 3 * (size_t)out->width, NULL);
}

/* From the first chunk of image data to the end chunk; 0 when there is none. *CUT_AT: the chunk
 * that is cut. Of an animation the first frame is the picture. */
static bool find_end(const uint8_t *bytes, size_t size, const struct header *header, size_t *cut_at)
{
    struct chunk chunk;
    size_t at = header->image_at;
    int found;
    *cut_at = size;
    while ((found = find_chunk(bytes, size, at, &chunk))) {
        if (is_named(&chunk, "IEND") || (header->animated && is_named(&chunk, "fcTL")))
            return true;
        if (found < 0)
            *cut_at = at;
        at += CHUNK_HEADER_BYTES + chunk.length + CHUNK_CRC_BYTES;
    }
    return false;
}

int png_file_read(const uint8_t *bytes, size_t size, const struct decode_limits *limits,
                  struct picture *out, struct decode_info *info)
{
    /* Until the rows have been counted, some are missing. */
    struct png_file file = {.info = info, .bytes = bytes, .size = size, .rows_left = 1};
    struct header header;
    int rc = read_header(bytes, size, &header, info);
    if (rc)
        return rc;
    if ((int64_t)header.width * header.height > limits->pixels)
        return verdict_bad(info, "over the pixel limit", NULL);
    if ((rc = picture_resize(out, header.width, header.height)))
        return rc;
    bool ended = find_end(bytes, size, &header, &file.cut_at);
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &file, on_error, on_warning);
    png_infop png_info = png ? png_create_info_struct(png) : NULL;
    if (!png_info)
        file.rc = err_set(ERR_MEMORY, "no memory for a PNG file");
    else if (setjmp(file.jump) == 0)
        read_rows(&file, png, png_info, out);
    png_destroy_read_struct(&png, &png_info, NULL);
    if (file.rc)
        return file.rc;
    /* Behind the last row Pillow wants each chunk that begins to be whole, and no more. */
    if (file.complete_at <= file.cut_at && file.cut_at < size)
        return damaged(info, "the file ends inside a chunk");
    if (!ended)
        verdict_warn(info, "the end chunk is missing");
    return 0;
}

/* ---- writing ---- */

static void write_rows(struct png_file *file, png_structp png, png_infop png_info,
                       const struct picture *picture)
{
    png_set_write_fn(png, file, on_write, on_flush);
    png_set_IHDR(png, png_info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, png_info);
    for (int y = 0; y < picture->height; y++)
        png_write_row(png, picture->rgb + (size_t)y * 3 * (size_t)picture->width);
    png_write_end(png, png_info);
}

int png_file_write(const struct picture *picture, uint8_t **bytes, size_t *capacity, size_t *size)
{
    struct decode_info info = {0};
    struct png_file file = {.info = &info, .written = bytes, .capacity = capacity, .rows_left = 1};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &file, on_error, on_warning);
    png_infop png_info = png ? png_create_info_struct(png) : NULL;
    if (!png_info)
        file.rc = err_set(ERR_MEMORY, "no memory for a PNG file");
    else if (setjmp(file.jump) == 0)
        write_rows(&file, png, png_info, picture);
    png_destroy_write_struct(&png, &png_info);
    if (!file.rc)
        *size = file.size;
    return file.rc;
}

const char *png_file_library(void)
{
    return "libpng " PNG_LIBPNG_VER_STRING;
}
