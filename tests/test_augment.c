/*
 * Crop boxes, flips and the validation transform: the boxes of data-spec/30-order.md and
 * oracle/order.txt, the distribution and the pixels of torchvision on Pillow pictures
 * (oracle/augment.txt).
 */
#include "tests/test.h"

#include "common/decode.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/resample.h"
#include "train/augment.h"

/* The CRC-32 of zip and PNG. */
static uint32_t crc32(const uint8_t *bytes, size_t size)
{
    static uint32_t table[256];
    uint32_t crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256 && !table[255]; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320 : 0);
    }
    for (size_t i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

/* The picture of the formula in oracle/augment.py; mem_free its pixels. */
static struct pixels formula_picture(int width, int height)
{
    uint8_t *rgb = mem_array((size_t)width * (size_t)height, 3, "a picture");
    size_t at = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                rgb[at++] = (uint8_t)(x * (5 + c) + y * (11 - 3 * c) + (x * y >> (2 + c)) +
                                      (x / 9 + y / 7) % 2 * 90);
    return (struct pixels){rgb, width, height, (size_t)width * 3};
}

/* Call CHECK_LINE for each line of PATH; how many it knew. */
static int check_lines(const char *path, bool (*check_line)(const char *))
{
    char line[1024];
    int lines = 0;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        lines += check_line(line + strspn(line, " "));
    }
    if (file)
        fclose(file);
    return lines;
}

static bool check_box(const char *line)
{
    unsigned long long seed, record;
    unsigned epoch;
    int width, height;
    char text[256];
    if (sscanf(line, "crop seed %llu epoch %u record %llu picture %dx%d:", &seed, &epoch, &record,
               &width, &height) != 5)
        return false;
    struct crop c = augment_random_crop(seed, epoch, record, width, height);
    snprintf(text, sizeof text, "%.*s left %d top %d width %d height %d flip %d",
             (int)(strchr(line, ':') + 1 - line), line, c.left, c.top, c.width, c.height, c.flip);
    CHECK_TEXT(text, line);
    return true;
}

static void golden_boxes(void)
{
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/order.txt", check_box), 77);
    CHECK_INT(check_lines(TEST_SOURCE "/data-spec/30-order.md", check_box), 10);
}

/* Mean and standard deviation of a column. */
struct column {
    double sum, squares;
    int count;
};

static void column_add(struct column *column, double value)
{
    column->sum += value;
    column->squares += value * value;
    column->count++;
}

/* Ours against torchvision's MEAN and DEVIATION of as many numbers: within 5 standard errors of the
 * difference of two such samples (the deviation of a deviation is at most that of the mean for
 * these bounded numbers). */
static void check_column(const char *line, const char *name, const struct column *column,
                         double mean, double deviation)
{
    double ours = column->sum / column->count;
    double spread = sqrt(column->squares / column->count - ours * ours);
    double bound = 5 * deviation * sqrt(2.0 / column->count) + 0.0001;
    if (!(fabs(ours - mean) <= bound) || !(fabs(spread - deviation) <= bound))
        printf("%.16s: %s: mean %.4f, deviation %.4f; torchvision: %.4f, %.4f; bound %.4f\n", line,
               name, ours, spread, mean, deviation, bound);
    CHECK(fabs(ours - mean) <= bound);
    CHECK(fabs(spread - deviation) <= bound);
}

static bool check_shares(const char *line)
{
    int width, height, samples, flips = 0;
    double expected[8];
    struct column area = {0}, ratio = {0}, left = {0}, top = {0};
    if (sscanf(line, "share %dx%d samples %d: area %lf %lf ratio %lf %lf left %lf %lf top %lf %lf",
               &width, &height, &samples, &expected[0], &expected[1], &expected[2], &expected[3],
               &expected[4], &expected[5], &expected[6], &expected[7]) != 11)
        return false;
    for (int i = 0; i < samples; i++) {
        struct crop c =
            augment_random_crop(42, (uint32_t)i / 1000, (uint64_t)i % 1000, width, height);
        column_add(&area, (double)c.width * c.height / ((double)width * height));
        column_add(&ratio, log((double)c.width / c.height));
        if (c.width < width)
            column_add(&left, (double)c.left / (width - c.width));
        if (c.height < height)
            column_add(&top, (double)c.top / (height - c.height));
        flips += c.flip;
    }
    check_column(line, "area", &area, expected[0], expected[1]);
    check_column(line, "ratio", &ratio, expected[2], expected[3]);
    check_column(line, "left", &left, expected[4], expected[5]);
    check_column(line, "top", &top, expected[6], expected[7]);
    CHECK(abs(2 * flips - samples) < 5 * sqrt(samples)); /* 5 standard deviations of a fair coin */
    return true;
}

static void distribution(void)
{
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/augment.txt", check_shares), 7);
}

/* Whatever the size: a box inside the picture, its ratio within a pixel of 3/4 .. 4/3 or forced by
 * the picture. */
static void boxes_inside(void)
{
    const int sides[] = {1, 2, 3, 4, 5, 7, 16, 100, 255, 256, 500, 4000, 65534, 65535};
    const int count = sizeof sides / sizeof *sides;
    int outside = 0, odd = 0;
    for (int a = 0; a < count; a++)
        for (int b = 0; b < count; b++)
            for (uint64_t record = 0; record < 200; record++) {
                struct crop c = augment_random_crop(8, 1, record, sides[a], sides[b]);
                outside += c.left < 0 || c.top < 0 || c.width < 1 || c.height < 1 ||
                           c.left + c.width > sides[a] || c.top + c.height > sides[b];
                odd += 4.0 * (c.width + 1) < 3.0 * (c.height - 1) ||
                       3.0 * (c.width - 1) > 4.0 * (c.height + 1);
            }
    CHECK_INT(outside, 0);
    CHECK_INT(odd, 0);
}

/* Another seed, epoch or record gives another box; the same gives the same, whatever was asked
 * before. */
static void depends_on_all(void)
{
    int same[3] = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        struct crop c = augment_random_crop(i, 5, 9, 500, 375);
        struct crop others[3] = {augment_random_crop(i + 1000, 5, 9, 500, 375),
                                 augment_random_crop(i, 6, 9, 500, 375),
                                 augment_random_crop(i, 5, 10, 500, 375)};
        struct crop again = augment_random_crop(i, 5, 9, 500, 375);
        CHECK(memcmp(&c.left, &again.left, 4 * sizeof(int)) == 0 && c.flip == again.flip);
        for (int k = 0; k < 3; k++)
            same[k] += others[k].left == c.left && others[k].top == c.top &&
                       others[k].width == c.width && others[k].height == c.height;
    }
    CHECK(same[0] < 10 && same[1] < 10 && same[2] < 10);
}

static struct resampler *resampler; /* of the cases below */

static bool check_train(const char *line)
{
    int width, height, size, flip;
    struct crop crop = {0};
    unsigned expected;
    if (sscanf(line, "train %dx%d box %d %d %d %d size %d flip %d: %x", &width, &height, &crop.left,
               &crop.top, &crop.width, &crop.height, &size, &flip, &expected) != 9)
        return false;
    struct pixels picture = formula_picture(width, height);
    size_t bytes = (size_t)size * (size_t)size * 3;
    uint8_t *out = mem_array(bytes + 1, 1, "a square");
    crop.flip = flip;
    out[bytes] = 77;
    CHECK_INT(augment_train(resampler, &picture, &crop, size, out), 0);
    if (crc32(out, bytes) != expected)
        printf("%s\n", line);
    CHECK_INT(crc32(out, bytes), expected);
    CHECK_INT(out[bytes], 77);
    mem_free((void *)picture.rgb);
    mem_free(out);
    return true;
}

static void train_pixels(void)
{
    CHECK_INT(resampler_open(&resampler, false), 0);
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/augment.txt", check_train), 44);
    resampler_close(resampler);
}

static void check_validated(const struct pixels *picture, int resize, int size, uint32_t expected,
                            const char *what)
{
    size_t bytes = (size_t)size * (size_t)size * 3;
    uint8_t *out = mem_array(bytes + 1, 1, "a square");
    memset(out, 77, bytes + 1);
    CHECK_INT(augment_validate(resampler, picture, resize, size, out), 0);
    if (crc32(out, bytes) != expected)
        printf("%s\n", what);
    CHECK_INT(crc32(out, bytes), expected);
    CHECK_INT(out[bytes], 77);
    mem_free(out);
}

static bool check_validate(const char *line)
{
    int width, height, resize, size;
    unsigned expected;
    if (sscanf(line, "validate %dx%d resize %d size %d: %x", &width, &height, &resize, &size,
               &expected) != 5)
        return false;
    struct pixels picture = formula_picture(width, height);
    check_validated(&picture, resize, size, expected, line);
    mem_free((void *)picture.rgb);
    return true;
}

static void validate_pixels(void)
{
    CHECK_INT(resampler_open(&resampler, false), 0);
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/augment.txt", check_validate), 112);

    const struct pixels line = {(const uint8_t[300 * 3]){0}, 300, 1, 900};
    uint8_t out[16 * 16 * 3];
    CHECK_INT(augment_validate(resampler, &line, 256, 16, out), -ERR_INPUT);
    CHECK_HAS(err_text(), "300 x 1");
    resampler_close(resampler);
}

static struct decoder *decoder; /* of the case below */

/* Both ways: from the original file, and from what prep packs with --short-side 256. */
static bool check_file(const char *line)
{
    char name[512], path[1024];
    unsigned expected;
    if (sscanf(line, "validate fullsize/%511s resize 256 size 224: %x", name, &expected) != 2)
        return false;
    struct files_buffer file = {0};
    struct picture picture = {0}, pack = {0};
    struct decode_info info;
    snprintf(path, sizeof path, "%s/fullsize/%s", TEST_DATA, name);
    CHECK_INT(files_read_into(path, 64 << 20, &file), 0);
    CHECK_INT(decoder_read(decoder, file.bytes, file.size, &decode_default_limits, &picture, &info),
              0);
    struct pixels pixels = {picture.rgb, picture.width, picture.height, (size_t)picture.width * 3};
    check_validated(&pixels, 256, 224, expected, line);

    struct resample_window window = {0};
    resample_size(picture.width, picture.height, 256, true, &window.full_width,
                  &window.full_height);
    window.width = window.full_width;
    window.height = window.full_height;
    CHECK_INT(picture_resize(&pack, window.width, window.height), 0);
    CHECK_INT(resampler_run(resampler, &pixels, &window, false, pack.rgb, (size_t)pack.width * 3),
              0);
    struct pixels packed = {pack.rgb, pack.width, pack.height, (size_t)pack.width * 3};
    check_validated(&packed, 256, 224, expected, line);
    picture_release(&picture);
    picture_release(&pack);
    mem_free(file.bytes);
    return true;
}

static void validate_files(void)
{
    if (!test_data_exists("fullsize"))
        TEST_SKIP("no pictures at %s/fullsize", TEST_DATA);
    CHECK_INT(resampler_open(&resampler, false), 0);
    CHECK_INT(decoder_open(&decoder), 0);
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/augment.txt", check_file), 150);
    decoder_close(decoder);
    resampler_close(resampler);
}

static const struct test tests[] = {
    {"golden_boxes",    golden_boxes   },
    {"distribution",    distribution   },
    {"boxes_inside",    boxes_inside   },
    {"depends_on_all",  depends_on_all },
    {"train_pixels",    train_pixels   },
    {"validate_pixels", validate_pixels},
    {"validate_files",  validate_files },
};

TEST_MAIN(tests)
