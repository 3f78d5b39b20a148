/*
 * The resize against Pillow and torchvision (tests/oracle/resample.txt), and its fast loops against
 * the plain ones.
 */
#include "common/resample.h"

#include <string.h>

#include "common/mem.h"
#include "common/resample_rows.h"
#include "common/rng.h"
#include "tests/pixels.h"
#include "tests/test.h"

static struct resampler *fast, *plain;

/* Row by row into a block with bytes of 0xA5 between and behind the rows; false when one of them
 * was touched. */
struct output {
    uint8_t *bytes;
    size_t stride;
    int width, height;
};

enum { GUARD = 7, GUARD_BYTE = 0xA5 };

static struct output output_make(int width, int height)
{
    struct output out = {.stride = (size_t)width * 3 + GUARD, .width = width, .height = height};
    out.bytes = malloc(out.stride * (size_t)height);
    memset(out.bytes, GUARD_BYTE, out.stride * (size_t)height);
    return out;
}

/* Closes the gaps; the number of guard bytes that were changed. */
static int output_close_gaps(struct output *out)
{
    int changed = 0;
    size_t size = (size_t)out->width * 3;
    for (int y = 0; y < out->height; y++) {
        uint8_t *row = out->bytes + (size_t)y * out->stride;
        for (int i = 0; i < GUARD; i++)
            changed += row[size + (size_t)i] != GUARD_BYTE;
        memmove(out->bytes + (size_t)y * size, row, size);
    }
    return changed;
}

struct resize {
    int width, height, kind, left, top;
    struct pixels crop;
    struct resample_window window;
    int flip;
};

/* The hash of the resized window. */
static uint64_t run(struct resampler *resampler, struct resize *resize)
{
    /* The crop's rows end where the block ends, so that a sanitizer sees every look behind it. */
    size_t stride = (size_t)resize->width * 3;
    size_t first = (size_t)resize->top * stride + (size_t)resize->left * 3;
    size_t size =
        first + (size_t)(resize->crop.height - 1) * stride + (size_t)resize->crop.width * 3;
    uint8_t *whole = malloc(stride * (size_t)resize->height);
    draw_pixels(whole, resize->width, resize->height, resize->kind);
    uint8_t *cut = malloc(size - first);
    memcpy(cut, whole + first, size - first);
    struct output out = output_make(resize->window.width, resize->window.height);
    resize->crop.rgb = cut;
    resize->crop.stride = stride;
    CHECK_INT(resampler_run(resampler, &resize->crop, &resize->window, resize->flip, out.bytes,
                            out.stride),
              0);
    CHECK_INT(output_close_gaps(&out), 0);
    uint64_t hash = pixel_hash(out.bytes, (size_t)out.width * 3 * (size_t)out.height);
    free(out.bytes);
    free(cut);
    free(whole);
    return hash;
}

static void print_resize(const struct resize *r)
{
    printf("  %d x %d kind %d, crop %d x %d at (%d, %d), to %d x %d, window %d x %d at (%d, %d), "
           "flip %d\n",
           r->width, r->height, r->kind, r->crop.width, r->crop.height, r->left, r->top,
           r->window.full_width, r->window.full_height, r->window.width, r->window.height,
           r->window.left, r->window.top, r->flip);
}

static void check_resize(const char *line)
{
    struct resize r = {0};
    struct resample_window *w = &r.window;
    unsigned long long expected;
    int found =
        sscanf(line, "resize %d %d %d %d %d %d %d %d %d %d %d %d %d %d %llx", &r.width, &r.height,
               &r.kind, &r.left, &r.top, &r.crop.width, &r.crop.height, &w->full_width,
               &w->full_height, &w->left, &w->top, &w->width, &w->height, &r.flip, &expected);
    CHECK_INT(found, 15);
    uint64_t with_plain = run(plain, &r), with_fast = run(fast, &r);
    if (with_plain != expected || with_fast != expected) {
        CHECK(!"the resize equals Pillow's");
        print_resize(&r);
        printf("  Pillow %016llx, plain %016llx, fast %016llx\n", expected,
               (unsigned long long)with_plain, (unsigned long long)with_fast);
    }
}

static uint64_t hash_numbers(uint64_t hash, int a)
{
    for (int i = 0; i < 4; i++)
        hash = hash * 0x9E3779B97F4A7C15u + ((uint32_t)a >> 8 * i & 255) + 1;
    return hash;
}

static void check_sizes(const char *line)
{
    int short_side, most, width, height;
    unsigned long long expected;
    uint64_t hash = 0;
    CHECK_INT(sscanf(line, "sizes %d %d %llx", &short_side, &most, &expected), 3);
    for (int w = 1; w <= most; w++)
        for (int h = 1; h <= most; h++) {
            resample_size(w, h, short_side, false, &width, &height);
            hash = hash_numbers(hash_numbers(hash, width), height);
        }
    CHECK_INT(hash, expected);
}

static void check_size(const char *line)
{
    int w, h, short_side, expected_width, expected_height, width, height;
    CHECK_INT(
        sscanf(line, "size %d %d %d %d %d", &w, &h, &short_side, &expected_width, &expected_height),
        5);
    resample_size(w, h, short_side, false, &width, &height);
    CHECK_INT(width, expected_width);
    CHECK_INT(height, expected_height);
    resample_size(w, h, short_side, true, &width, &height);
    bool shrinks = (w < h ? w : h) > short_side;
    CHECK_INT(width, shrinks ? expected_width : w);
    CHECK_INT(height, shrinks ? expected_height : h);
}

static void check_centers(const char *line)
{
    int most;
    unsigned long long expected;
    uint64_t hash = 0;
    CHECK_INT(sscanf(line, "centers %d %llx", &most, &expected), 2);
    for (int side = 1; side <= most; side++)
        for (int crop = 1; crop <= side; crop++)
            hash = hash_numbers(hash, resample_center(side, crop));
    CHECK_INT(hash, expected);
}

static void test_oracle(void)
{
    FILE *oracle = fopen(TEST_SOURCE "/tests/oracle/resample.txt", "r");
    char line[512];
    int lines = 0;
    CHECK(oracle != NULL);
    if (!oracle)
        return;
    while (fgets(line, sizeof line, oracle)) {
        lines++;
        if (strncmp(line, "resize ", 7) == 0)
            check_resize(line);
        else if (strncmp(line, "sizes ", 6) == 0)
            check_sizes(line);
        else if (strncmp(line, "size ", 5) == 0)
            check_size(line);
        else if (strncmp(line, "centers ", 8) == 0)
            check_centers(line);
        else
            CHECK(line[0] == '#');
    }
    fclose(oracle);
    CHECK(lines > 200);
}

/* Uniform from LOW to HIGH. */
static int draw(struct rng *r, int low, int high)
{
    return low + (int)rng_below(r, (uint64_t)high - (uint64_t)low + 1);
}

/* Small sides more often than large ones. */
static int draw_side(struct rng *r, int most)
{
    return draw(r, 1, draw(r, 1, most));
}

/* Any crop, window and flip: the same bytes from FAST_SET and the plain loops, and no byte beside
 * them. */
static void check_agreement(struct resampler *fast_set)
{
    struct rng r;
    rng_init(&r, 1, RNG_TEST, 0, 0);
    for (int i = 0; i < 400; i++) {
        struct resize resize = {.width = draw_side(&r, 300), .height = draw_side(&r, 300)};
        struct resample_window *w = &resize.window;
        if (i % 10 == 0) /* extreme aspects */
            resize.width = draw_side(&r, 20000), resize.height = draw_side(&r, 4);
        if (i % 10 == 1)
            resize.width = draw_side(&r, 4), resize.height = draw_side(&r, 20000);
        resize.kind = draw(&r, 0, 3);
        resize.crop.width = draw(&r, 1, resize.width);
        resize.crop.height = draw(&r, 1, resize.height);
        resize.left = draw(&r, 0, resize.width - resize.crop.width);
        resize.top = draw(&r, 0, resize.height - resize.crop.height);
        w->full_width = draw(&r, 0, 4) ? draw_side(&r, 300) : resize.crop.width;
        w->full_height = draw(&r, 0, 4) ? draw_side(&r, 300) : resize.crop.height;
        w->width = draw(&r, 1, w->full_width);
        w->height = draw(&r, 1, w->full_height);
        w->left = draw(&r, 0, w->full_width - w->width);
        w->top = draw(&r, 0, w->full_height - w->height);
        resize.flip = draw(&r, 0, 1);
        if (run(plain, &resize) != run(fast_set, &resize)) {
            CHECK(!"both sets of loops give the same bytes");
            print_resize(&resize);
        }
    }
}

static void test_loops_agree(void)
{
    const struct resample_loops *sets[] = {resample_avx2(), resample_avx512()};
    int had = 0;
    for (int i = 0; i < 2; i++) {
        struct resampler *resampler;
        if (!sets[i])
            continue;
        had++;
        CHECK_INT(resampler_open_with(&resampler, sets[i]), 0);
        check_agreement(resampler);
        resampler_close(resampler);
    }
    if (!had)
        TEST_SKIP("this CPU has only the plain loops");
}

/* Within the reserved sizes nothing is allocated, whatever comes in whatever order. */
static void test_reserve(void)
{
    enum { IN_WIDTH = 300, IN_HEIGHT = 200, OUT_WIDTH = 20, OUT_HEIGHT = 30 };
    static uint8_t picture[IN_WIDTH * IN_HEIGHT * 3], out[OUT_WIDTH * OUT_HEIGHT * 3];
    struct resampler *resampler;
    struct rng r;
    CHECK_INT(resampler_open(&resampler, false), 0);
    CHECK_INT(resampler_reserve(resampler, IN_WIDTH, IN_HEIGHT, OUT_WIDTH, OUT_HEIGHT), 0);
    draw_pixels(picture, IN_WIDTH, IN_HEIGHT, 0);
    uint64_t before = mem_allocations();
    rng_init(&r, 2, RNG_TEST, 0, 0);
    for (int i = 0; i < 2000; i++) {
        struct pixels in = {.rgb = picture, .stride = IN_WIDTH * 3};
        struct resample_window window = {0};
        in.width = draw(&r, 1, IN_WIDTH);
        in.height = draw(&r, 1, IN_HEIGHT);
        window.full_width = window.width = draw(&r, 1, OUT_WIDTH);
        window.full_height = window.height = draw(&r, 1, OUT_HEIGHT);
        CHECK_INT(resampler_run(resampler, &in, &window, i % 2, out, OUT_WIDTH * 3), 0);
    }
    CHECK_INT(mem_allocations() - before, 0);
    resampler_close(resampler);
    resampler_close(NULL);
}

static void test_refusals(void)
{
    uint8_t pixel[3] = {1, 2, 3}, out[3];
    struct pixels in = {.rgb = pixel, .width = 1, .height = 1, .stride = 3};
    struct resample_window window = {1, 1, 0, 0, 1, 1};
    CHECK_INT(resampler_run(plain, &in, &window, false, out, 3), 0);
    CHECK_INT(memcmp(out, pixel, 3), 0);
    window.left = 1;
    CHECK_INT(resampler_run(plain, &in, &window, false, out, 3), -ERR_FAULT);
    CHECK_HAS(err_text(), "window of 1 x 1 at (1, 0)");
    window = (struct resample_window){65536, 1, 0, 0, 1, 1};
    CHECK_INT(resampler_run(plain, &in, &window, false, out, 3), -ERR_INPUT);
    CHECK_HAS(err_text(), "65536 x 1");
    in.width = 0;
    CHECK_INT(resampler_run(plain, &in, &window, false, out, 3), -ERR_INPUT);
    CHECK_INT(resampler_reserve(plain, 1, 1, 0, 1), -ERR_INPUT);
}

/* The bytes after "NAME: " in the lines of data-spec/25-pixels.md that begin so. */
static size_t read_example(const char *name, uint8_t *out, size_t most)
{
    FILE *document = fopen(TEST_SOURCE "/data-spec/25-pixels.md", "r");
    char line[512];
    size_t count = 0;
    while (document && fgets(line, sizeof line, document)) {
        const char *at = line + strspn(line, " ");
        if (strncmp(at, name, strlen(name)) != 0)
            continue;
        at += strlen(name);
        for (char *end; count < most; at = end, count++) {
            unsigned long value = strtoul(at, &end, 16);
            if (end == at)
                break;
            out[count] = (uint8_t)value;
        }
    }
    if (document)
        fclose(document);
    return count;
}

static void test_document(void)
{
    uint8_t picture[100], expected[100], out[18] = {0};
    struct resample_window window = {3, 2, 0, 0, 3, 2};
    struct pixels in = {picture, 5, 4, 15};
    CHECK_INT(read_example("in:", picture, sizeof picture), 60);
    CHECK_INT(read_example("out:", expected, sizeof expected), sizeof out);
    CHECK_INT(resampler_run(fast, &in, &window, false, out, 9), 0);
    CHECK_INT(memcmp(out, expected, sizeof out), 0);
}

static const struct test tests[] = {
    {"oracle",      test_oracle     },
    {"loops_agree", test_loops_agree},
    {"reserve",     test_reserve    },
    {"refusals",    test_refusals   },
    {"document",    test_document   },
};

int main(int argc, char **argv)
{
    if (resampler_open(&plain, true) || resampler_open(&fast, false))
        return 1;
    int rc = test_main(argc, argv, tests, sizeof tests / sizeof *tests);
    resampler_close(plain);
    resampler_close(fast);
    return rc;
}
