/*
 * decoder_read_window: the same bytes as those of the whole picture, for every border of a window
 * and every kind of file; nothing but what is needed is decoded, and the rest of a file is not
 * looked at.
 */
#include "tests/test.h"

#include "common/mem.h"
#include "tests/kinds.h"
#include "tests/pixels.h"
#include "tests/window.h"

static struct decoder *decoder;
static struct picture whole, cut;
static struct decode_info info;

/* One window of the file that WHOLE was decoded from. CELL: the side of the blocks whose codes hang
 * together, of which a file is cut; 0: a file that is decoded whole. */
static void check_window(const uint8_t *bytes, size_t size, const struct decode_window *window,
                         int cell)
{
    const int first = window->left > 2 && cell ? (window->left - 2) / cell * cell : 0;
    const int right = window->left + window->width, bottom = window->top + window->height;
    int64_t beside = 0, missing = 0;
    bool same = window_holds(decoder, bytes, size, &decode_default_limits, &whole, window, &cut);
    for (int y = 0; y < whole.height; y++)
        for (int x = 0; x < whole.width; x++) {
            const size_t at = ((size_t)y * (size_t)whole.width + (size_t)x) * 3;
            bool needed = y >= window->top && y < bottom && x >= first && x < right + 2;
            beside += !needed && (cut.rgb[at] ^ whole.rgb[at]) != 0xFF;
            missing += !cell && cut.rgb[at] != whole.rgb[at];
        }
    if (same && !missing && !(cell && beside))
        return;
    CHECK(!"a window has the whole picture's bytes, and only what is needed is decoded");
    printf("  %d x %d at (%d, %d) of %d x %d pixels, %lld beside it, %lld missing\n", window->width,
           window->height, window->left, window->top, whole.width, whole.height, (long long)beside,
           (long long)missing);
}

static int read_picture(const uint8_t *bytes, size_t size)
{
    return decoder_read(decoder, bytes, size, &decode_default_limits, &whole, &info);
}

/* All pairs of left and right borders, and all of upper and lower ones, with some of the other
 * axis. */
static void check_borders(int width, int height, int quality)
{
    struct picture drawn = {0};
    uint8_t *bytes = NULL;
    size_t capacity = 0, size = 0;
    struct rng rng;
    const int cell = quality < 90 ? 16 : 8, before = test_failures;
    rng_init(&rng, (uint64_t)width, RNG_TEST, 0, (uint64_t)height);
    CHECK_INT(picture_resize(&drawn, width, height), 0);
    draw_pixels(drawn.rgb, width, height, 0);
    CHECK_INT(decoder_write_jpeg(decoder, &drawn, quality, &bytes, &capacity, &size), 0);
    CHECK_INT(read_picture(bytes, size), 0);
    for (int begin = 0; begin < width && test_failures == before; begin++)
        for (int end = begin + 1; end <= width; end++) {
            struct decode_window window = random_window(&rng, width, height);
            window.left = begin;
            window.width = end - begin;
            check_window(bytes, size, &window, cell);
        }
    for (int begin = 0; begin < height && test_failures == before; begin++)
        for (int end = begin + 1; end <= height; end++) {
            struct decode_window window = random_window(&rng, width, height);
            window.top = begin;
            window.height = end - begin;
            check_window(bytes, size, &window, cell);
        }
    picture_release(&drawn);
    mem_free(bytes);
}

static void borders(void)
{
    for (int quality = 89; quality <= 90; quality++) { /* 4:2:0, 4:4:4 */
        for (int side = 1; side <= 36; side++)
            check_borders(side, 37 - side, quality);
        check_borders(50, 49, quality);
    }
}

/* Windows of a small file that was read. FRAME: the marker of its frame, in a JPEG; only baseline
 * ones in YCbCr, colours of half or full size, are cut. */
static void check_kind(const struct kind *kind, const uint8_t *bytes, const uint8_t *frame)
{
    static const char *const other[] = {"png", "progressive", "gray", "cmyk", "rgb"};
    int before = test_failures, cell = 0;
    struct rng rng;
    if (frame && frame[14] == 0x11 && frame[17] == 0x11)
        cell = frame[11] == 0x11 ? 8 : frame[11] == 0x22 ? 16 : 0;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (strstr(kind->name, other[i]))
            cell = 0;
    rng_init(&rng, 5, RNG_TEST, 0, frame ? frame[11] : 0);
    for (int i = 0; i < 25; i++) {
        const struct decode_window window = random_window(&rng, whole.width, whole.height);
        check_window(bytes, kind->size, &window, cell);
    }
    if (test_failures != before)
        printf("  in %s, sampling %x and %x\n", kind->name, frame ? frame[11] : 0,
               frame ? frame[14] : 0);
}

/* The small files of all kinds; the JPEG ones also with each sampling written into their frames:
 * noise then, but noise that the library decodes. */
static void all_kinds(void)
{
    static const uint8_t colours[] = {0x11, 0x12, 0x21, 0x22};
    int samplings = 0;
    for (int k = 0; k < kind_count; k++) {
        const struct kind *kind = &kinds[k];
        CHECK_INT(read_picture(kind->bytes, kind->size), 0);
        if (info.png) {
            check_kind(kind, kind->bytes, NULL);
            continue;
        }
        uint8_t *bytes = malloc(kind->size), *frame = bytes;
        memcpy(bytes, kind->bytes, kind->size);
        while (frame[0] != 0xFF || (frame[1] != 0xC0 && frame[1] != 0xC2))
            frame++;
        check_kind(kind, bytes, frame);
        for (int i = 0; i < 64; i++) {
            frame[11] = (uint8_t)((1 + i % 4) << 4 | (1 + i / 4 % 4));
            if (frame[9] > 1)
                frame[14] = colours[i / 16];
            if (read_picture(bytes, kind->size))
                continue;
            check_kind(kind, bytes, frame);
            samplings++;
        }
        free(bytes);
    }
    CHECK(samplings > 100);
}

/* The file ends anywhere: above, in or behind the window's rows. */
static void check_cut_off(const uint8_t *bytes, size_t size, const struct decode_window *window)
{
    int read = 0, truncated = 0;
    for (size_t end = 0; end < size; end += 211) {
        memset(cut.rgb, 0, cut.capacity);
        int rc =
            decoder_read_window(decoder, bytes, end, &decode_default_limits, window, &cut, &info);
        CHECK(rc == 0 || rc == -ERR_INPUT);
        if (rc && end > 2) {
            CHECK_TEXT(info.reason, "truncated");
            truncated++;
        } else if (!rc) {
            CHECK(window_equals(&cut, &whole, window));
            read++;
        }
    }
    CHECK(read > 10 && truncated > 10);
}

/* Data behind the window's last row may be anything, or missing; in and above it, it counts. */
static void not_behind(void)
{
    struct picture drawn = {0};
    uint8_t *bytes = NULL;
    size_t capacity = 0, size = 0;
    CHECK_INT(picture_resize(&drawn, 200, 160), 0);
    draw_pixels(drawn.rgb, 200, 160, 0);
    CHECK_INT(decoder_write_jpeg(decoder, &drawn, 89, &bytes, &capacity, &size), 0);
    CHECK_INT(read_picture(bytes, size), 0);
    const struct decode_window upper = {30, 10, 20, 50}, lower = {30, 90, 20, 50};
    const size_t half = size / 2;
    CHECK(window_holds(decoder, bytes, half, &decode_default_limits, &whole, &upper, &cut));
    CHECK(!window_holds(decoder, bytes, half, &decode_default_limits, &whole, &lower, &cut));
    CHECK_HAS(err_text(), "truncated");
    check_cut_off(bytes, size, &upper);
    check_cut_off(bytes, size, &lower);
    CHECK_INT(read_picture(bytes, half), -ERR_INPUT);
    CHECK_INT(read_picture(bytes, size), 0);
    memset(bytes + half, 0xD9, size - half);
    CHECK(window_holds(decoder, bytes, size, &decode_default_limits, &whole, &upper, &cut));
    CHECK(!window_holds(decoder, bytes, size, &decode_default_limits, &whole, &lower, &cut));
    mem_free(bytes);
    picture_release(&drawn);
}

/* Windows that are not inside the picture: all of it. */
static void outside(void)
{
    static const struct decode_window windows[] = {
        {-1,        0,         5,         5        },
        {0,         -1,        5,         5        },
        {0,         0,         0,         5        },
        {0,         0,         5,         0        },
        {1,         0,         21,        13       },
        {0,         1,         21,        13       },
        {21,        0,         1,         1        },
        {1,         1,         INT32_MAX, 5        },
        {1,         1,         5,         INT32_MAX},
        {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}
    };
    const struct kind *kind = find_kind("jpeg_420_baseline");
    const struct decode_window all = {0, 0, kind->width, kind->height};
    CHECK_INT(read_picture(kind->bytes, kind->size), 0);
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        memset(cut.rgb, 0, cut.capacity);
        CHECK_INT(decoder_read_window(decoder, kind->bytes, kind->size, &decode_default_limits,
                                      &windows[i], &cut, &info),
                  0);
        CHECK(window_equals(&cut, &whole, &all));
    }
}

static const struct test tests[] = {
    {"borders",    borders   },
    {"all_kinds",  all_kinds },
    {"not_behind", not_behind},
    {"outside",    outside   },
};

int main(int argc, char **argv)
{
    if (!load_kinds() || decoder_open(&decoder)) {
        printf("tests/oracle/kinds.txt cannot be read, or no memory\n");
        return 1;
    }
    int rc = test_main(argc, argv, tests, sizeof tests / sizeof *tests);
    decoder_close(decoder);
    picture_release(&whole);
    picture_release(&cut);
    free_kinds();
    return rc;
}
