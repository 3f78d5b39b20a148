#include "prep/sample_jpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <jpeglib.h>

#include "common/err.h"
#include "common/mem.h"

struct trap {
    struct jpeg_error_mgr manager;
    jmp_buf jump;
};

/* The library's way out of an error; the text is kept by the caller of setjmp. */
static void leave(j_common_ptr library)
{
    struct trap *trap = (struct trap *)library->err;
    char text[JMSG_LENGTH_MAX];
    trap->manager.format_message(library, text);
    err_set(ERR_FAULT, "libjpeg: %s", text);
    longjmp(trap->jump, 1);
}

/* One row as CMYK the way Adobe stores it: inverted, so that black is 0. All gray goes into K. */
static void to_cmyk(const uint8_t *rgb, int width, uint8_t *cmyk)
{
    for (int x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        int k = rgb[0] > rgb[1] ? rgb[0] : rgb[1];
        k = rgb[2] > k ? rgb[2] : k;
        for (int i = 0; i < 3; i++)
            cmyk[i] = (uint8_t)(k ? (rgb[i] * 255 + k / 2) / k : 255);
        cmyk[3] = (uint8_t)k;
    }
}

static void set_up(struct jpeg_compress_struct *jpeg, const struct sample_jpeg *kind)
{
    static const J_COLOR_SPACE spaces[] = {JCS_YCbCr, JCS_GRAYSCALE, JCS_CMYK, JCS_YCCK};
    bool four = kind->colours == SAMPLE_JPEG_CMYK || kind->colours == SAMPLE_JPEG_YCCK;
    jpeg->input_components = four ? 4 : 3;
    jpeg->in_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_colorspace(jpeg, spaces[kind->colours]);
    jpeg_set_quality(jpeg, kind->quality, TRUE);
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->optimize_coding = TRUE;
    if (kind->colours == SAMPLE_JPEG_YCC) {
        jpeg->comp_info[0].h_samp_factor = kind->across;
        jpeg->comp_info[0].v_samp_factor = kind->down;
    }
    if (kind->progressive)
        jpeg_simple_progression(jpeg);
}

static void write_rows(struct jpeg_compress_struct *jpeg, const uint8_t *rgb, uint8_t *row)
{
    size_t stride = (size_t)jpeg->image_width * 3;
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        const uint8_t *source = rgb + jpeg->next_scanline * stride;
        JSAMPROW rows = (JSAMPROW)source;
        if (jpeg->input_components == 4) {
            to_cmyk(source, (int)jpeg->image_width, row);
            rows = row;
        }
        jpeg_write_scanlines(jpeg, &rows, 1);
    }
    jpeg_finish_compress(jpeg);
}

int sample_jpeg_write(const struct sample_jpeg *kind, const uint8_t *rgb, int width, int height,
                      uint8_t **bytes, size_t *size)
{
    struct jpeg_compress_struct jpeg;
    struct trap trap;
    unsigned long length = 0;
    uint8_t *row = mem_array((size_t)width, 4, "a row of a picture");
    volatile int rc = -ERR_FAULT;
    *bytes = NULL;
    if (!row)
        return -ERR_MEMORY;
    jpeg.err = jpeg_std_error(&trap.manager);
    trap.manager.error_exit = leave;
    if (setjmp(trap.jump) == 0) {
        jpeg_create_compress(&jpeg);
        jpeg_mem_dest(&jpeg, bytes, &length);
        jpeg.image_width = (JDIMENSION)width;
        jpeg.image_height = (JDIMENSION)height;
        set_up(&jpeg, kind);
        write_rows(&jpeg, rgb, row);
        rc = 0;
    }
    jpeg_destroy_compress(&jpeg);
    mem_free(row);
    if (rc)
        *bytes = NULL; /* the library may have replaced it: what is there now is not known */
    *size = length;
    return rc;
}

void sample_jpeg_free(uint8_t *bytes)
{
    free(bytes);
}
