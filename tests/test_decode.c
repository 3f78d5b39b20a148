/*
 * The decoder against Pillow (tests/oracle/kinds.txt, pictures.txt), the verdicts on the shared odd
 * files, limits, damaged and hostile bytes, and writing.
 */
#include "common/decode.h"

#include <string.h>

#include "common/mem.h"
#include "common/resample.h"
#include "common/rng.h"
#include "tests/kinds.h"
#include "tests/pixels.h"
#include "tests/window.h"
#include "tests/test.h"

static struct decoder *decoder;
static struct picture picture;
static struct decode_info info;

static int read_bytes(const uint8_t *bytes, size_t size)
{
    return decoder_read(decoder, bytes, size, &decode_default_limits, &picture, &info);
}

static uint64_t picture_hash(void)
{
    return pixel_hash(picture.rgb, (size_t)picture.width * (size_t)picture.height * 3);
}

/* ---- pixels ---- */

static void test_kinds(void)
{
    for (int i = 0; i < kind_count; i++) {
        const struct kind *kind = &kinds[i];
        int before = test_failures, width = 0, height = 0;
        CHECK_INT(read_bytes(kind->bytes, kind->size), 0);
        CHECK_INT(info.verdict, DECODE_PACK);
        CHECK_TEXT(info.reason, "");
        CHECK_INT(picture.width, kind->width);
        CHECK_INT(picture.height, kind->height);
        CHECK_INT(picture_hash(), kind->hash);
        CHECK_INT(decoder_size(decoder, kind->bytes, kind->size, &width, &height), 0);
        CHECK_INT(width, kind->width);
        CHECK_INT(height, kind->height);
        CHECK_INT(info.png, strncmp(kind->name, "png", 3) == 0);
        CHECK_INT(info.gray, strstr(kind->name, "gray") || strstr(kind->name, "color0") ||
                                 strstr(kind->name, "color4"));
        CHECK_INT(info.cmyk, strstr(kind->name, "cmyk") != NULL);
        CHECK_INT(info.stored_rgb, strstr(kind->name, "rgb_stored") != NULL);
        CHECK_INT(info.progressive, strstr(kind->name, "progressive") != NULL);
        CHECK_INT(info.palette, strstr(kind->name, "color3") || strstr(kind->name, "palette"));
        CHECK_INT(info.alpha, strstr(kind->name, "color4") || strstr(kind->name, "color6") ||
                                  strstr(kind->name, "trns"));
        CHECK_INT(info.sixteen_bit, strstr(kind->name, "16bit") != NULL);
        CHECK_INT(info.exif_orientation, strstr(kind->name, "exif") ? 6 : 0);
        CHECK_INT(info.icc, strstr(kind->name, "icc") != NULL);
        CHECK(!info.arithmetic);
        if (test_failures != before)
            printf("  in %s\n", kind->name);
    }
}

static uint64_t resized_hash(struct resampler *resampler)
{
    struct pixels in = {picture.rgb, picture.width, picture.height, (size_t)picture.width * 3};
    struct resample_window window = {0};
    resample_size(in.width, in.height, 256, false, &window.full_width, &window.full_height);
    window.width = window.full_width;
    window.height = window.full_height;
    size_t stride = (size_t)window.width * 3, size = stride * (size_t)window.height;
    uint8_t *out = malloc(size);
    CHECK_INT(resampler_run(resampler, &in, &window, false, out, stride), 0);
    uint64_t hash = pixel_hash(out, size);
    free(out);
    return hash;
}

/* Pixels, windows and torchvision's Resize(256) of all shared pictures that are to be packed:
 * photographs of all kinds of cameras and programs, and odd files. */
static void test_pictures(void)
{
    FILE *oracle = fopen(TEST_SOURCE "/tests/oracle/pictures.txt", "r");
    struct resampler *resampler;
    char line[512], name[256], path[4096];
    int seen = 0;
    CHECK(oracle != NULL);
    if (!oracle)
        return;
    if (!test_data_exists("fullsize") || !test_data_exists("oddities")) {
        fclose(oracle);
        TEST_SKIP("no shared pictures in %s", TEST_DATA);
    }
    CHECK_INT(resampler_open(&resampler, false), 0);
    while (fgets(line, sizeof line, oracle)) {
        int width, height, before = test_failures;
        unsigned long long hash, hash256;
        size_t size = 0;
        if (sscanf(line, "%255s %d %d %llx %llx", name, &width, &height, &hash, &hash256) != 5)
            continue;
        snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
        uint8_t *bytes = read_whole(path, &size);
        CHECK(bytes != NULL);
        if (!bytes)
            continue;
        CHECK_INT(read_bytes(bytes, size), 0);
        CHECK_INT(picture.width, width);
        CHECK_INT(picture.height, height);
        CHECK_INT(picture_hash(), hash);
        CHECK_INT(resized_hash(resampler), hash256);
        for (uint64_t i = 0; i < 2; i++)
            CHECK(window_same(decoder, bytes, size, &decode_default_limits, &picture,
                              2 * (uint64_t)seen + i));
        if (test_failures != before)
            printf("  in %s\n", name);
        free(bytes);
        seen++;
    }
    fclose(oracle);
    resampler_close(resampler);
    CHECK_INT(seen, 225);
}

/* ---- verdicts ---- */

enum { COLUMNS = 14 };
static const char *const verdict_names[] = {"pack", "warn", "bad"};

static void check_oddity(char *column[COLUMNS])
{
    char path[4096], reason[61];
    size_t size = 0;
    int before = test_failures;
    snprintf(path, sizeof path, "%s/oddities/%s", TEST_DATA, column[0]);
    uint8_t *bytes = read_whole(path, &size);
    CHECK(bytes != NULL);
    if (!bytes)
        return;
    int rc = read_bytes(bytes, size);
    CHECK_TEXT(verdict_names[info.verdict], column[2]);
    CHECK_INT(rc, info.verdict == DECODE_BAD ? -ERR_INPUT : 0);
    snprintf(reason, sizeof reason, "%.60s", info.reason); /* the table cuts there */
    CHECK_TEXT(reason, column[3]);
    if (info.verdict != DECODE_BAD) {
        CHECK_INT(info.png, strncmp(column[4], "PNG", 3) == 0);
        CHECK_INT(info.progressive, strstr(column[4], "prog") != NULL);
        CHECK_INT(info.arithmetic, strstr(column[4], "arith") != NULL);
        CHECK_INT(info.exif_orientation, atoi(column[8]));
        CHECK_INT(info.cmyk, strcmp(column[10], "CMYK") == 0);
        CHECK_INT(info.gray, strcmp(column[10], "L") == 0 || strcmp(column[10], "I;16") == 0);
    } else {
        CHECK_HAS(err_text(), info.reason);
    }
    if (test_failures != before)
        printf("  in %s\n", column[0]);
    free(bytes);
}

static void test_oddities(void)
{
    char line[2048];
    int seen = 0;
    if (!test_data_exists("oddities.tsv"))
        TEST_SKIP("no oddities.tsv in %s", TEST_DATA);
    FILE *table = fopen(TEST_DATA "/oddities.tsv", "r");
    CHECK(table && fgets(line, sizeof line, table));
    while (table && fgets(line, sizeof line, table)) {
        char *column[COLUMNS], *rest = line;
        for (int i = 0; i < COLUMNS; i++)
            column[i] = rest ? strsep(&rest, "\t\n") : "";
        check_oddity(column);
        seen++;
    }
    if (table)
        fclose(table);
    CHECK_INT(seen, 102);
}

static void check_bad(const char *bytes, size_t size, const char *reason)
{
    int width, height;
    CHECK_INT(read_bytes((const uint8_t *)bytes, size), -ERR_INPUT);
    CHECK_INT(info.verdict, DECODE_BAD);
    CHECK_TEXT(info.reason, reason);
    CHECK_HAS(err_text(), reason);
    CHECK_INT(decoder_size(decoder, (const uint8_t *)bytes, size, &width, &height), -ERR_INPUT);
}

#define CHECK_BAD(bytes, reason) check_bad(bytes, sizeof(bytes) - 1, reason)

static void test_not_pictures(void)
{
    CHECK_BAD("", "empty");
    CHECK_BAD("x", "not a picture");
    CHECK_BAD("<!DOCTYPE html><html>", "not a picture");
    CHECK_BAD("GIF89a......", "GIF");
    CHECK_BAD("BM........", "BMP");
    CHECK_BAD("RIFF\x10\0\0\0WEBPVP8 ", "WebP");
    CHECK_BAD("II*\0\x08\0\0\0", "TIFF");
    CHECK_BAD("\xff\xd8", "truncated");
    CHECK_BAD("\xff\xd8\xff", "truncated");
    CHECK_BAD("\xff\xd8\xff\xd9", "JPEG datastream contains no image");
    CHECK_BAD("\xff\xd8 no", "not a picture");
    CHECK_BAD("\xff\xd8\xff\x01\xff\xd9", "Unsupported marker type 0x01");
    CHECK_BAD("\xff\xd8\xff\xc0\0\x03\x08", "Bogus marker length");
    CHECK_BAD("\xff\xd8\xff\xc0\0\x08\x0c\0\x01\0\x01\x01", "12-bit");
    CHECK_BAD("\xff\xd8\xff\xc0\0\x08\x08\0\x01\0\x01\x02", "2 components");
    CHECK_BAD("\xff\xd8\xff\xc3\0\x08\x08\0\x01\0\x01\x01", "lossless");
    CHECK_BAD("\x89PNG\r\n\x1a\n", "damaged PNG");
    CHECK_BAD("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\0\1\10\2\0\0\0....", "damaged PNG");
    CHECK_BAD("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\0\0\1\10\2\0\0\0....",
              "over the side limit of 65535");
}

/* The kind's file with other sides in its JPEG frame. */
static uint8_t *with_sides(const struct kind *kind, int width, int height)
{
    uint8_t *bytes = malloc(kind->size);
    memcpy(bytes, kind->bytes, kind->size);
    for (size_t i = 0; i + 9 < kind->size; i++) {
        if (bytes[i] == 0xFF && (bytes[i + 1] == 0xC0 || bytes[i + 1] == 0xC2)) {
            bytes[i + 5] = (uint8_t)(height >> 8);
            bytes[i + 6] = (uint8_t)height;
            bytes[i + 7] = (uint8_t)(width >> 8);
            bytes[i + 8] = (uint8_t)width;
            break;
        }
    }
    return bytes;
}

static void check_limit(const char *name, struct decode_limits limits, const char *reason)
{
    const struct kind *kind = find_kind(name);
    int rc = decoder_read(decoder, kind->bytes, kind->size, &limits, &picture, &info);
    CHECK_INT(rc, reason ? -ERR_INPUT : 0);
    CHECK_TEXT(info.reason, reason ? reason : "");
}

static void test_limits(void)
{
    const struct decode_limits all = decode_default_limits;
    struct decode_limits limits = all;
    CHECK_INT(all.pixels, 178956970);
    limits.pixels = 21 * 13 - 1;
    check_limit("jpeg_420_baseline", limits, "over the pixel limit");
    check_limit("png_color2_8bit_plain", limits, "over the pixel limit");
    limits.pixels++;
    check_limit("jpeg_420_baseline", limits, NULL);
    check_limit("png_color2_8bit_plain", limits, NULL);
    limits = all;
    limits.scans = 9;
    check_limit("jpeg_420_progressive", limits, "over the scan limit");
    limits.scans = 10; /* libjpeg's standard script */
    check_limit("jpeg_420_progressive", limits, NULL);

    /* A progressive file keeps 2 bytes of each coefficient: 600 x 400 x 3 x 2. */
    const struct kind *kind = find_kind("jpeg_444_progressive");
    uint8_t *bytes = with_sides(kind, 600, 400);
    limits = all;
    limits.memory = 1400 << 10;
    CHECK_INT(decoder_read(decoder, bytes, kind->size, &limits, &picture, &info), -ERR_INPUT);
    CHECK_TEXT(info.reason, "over the memory limit");
    limits.memory = 1600 << 10;
    CHECK_INT(decoder_read(decoder, bytes, kind->size, &limits, &picture, &info), 0);
    CHECK_INT(info.verdict, DECODE_WARN);
    free(bytes);
}

/* A header that promises 65,500 x 65,500 must cost nothing. */
static void test_bomb(void)
{
    const struct kind *kind = find_kind("jpeg_420_baseline");
    uint8_t *bytes = with_sides(kind, 65500, 65500);
    uint64_t before = mem_allocations();
    CHECK_INT(read_bytes(bytes, kind->size), -ERR_INPUT);
    CHECK_TEXT(info.reason, "over the pixel limit");
    CHECK_INT(mem_allocations() - before, 0);
    free(bytes);
}

/* Quantisation and Huffman tables of one file must not serve the next one. */
static void test_no_memory_of_tables(void)
{
    const struct kind *kind = find_kind("jpeg_420_baseline");
    uint8_t *cut = malloc(kind->size);
    for (int marker = 0xC4; marker <= 0xDB; marker += 0xDB - 0xC4) { /* DHT, DQT */
        size_t at = 2, size = 2;
        memcpy(cut, kind->bytes, 2);
        while (at + 4 < kind->size && kind->bytes[at + 1] != 0xDA) {
            size_t length = 2 + ((size_t)kind->bytes[at + 2] << 8) + kind->bytes[at + 3];
            if (kind->bytes[at + 1] != marker) {
                memcpy(cut + size, kind->bytes + at, length);
                size += length;
            }
            at += length;
        }
        memcpy(cut + size, kind->bytes + at, kind->size - at);
        size += kind->size - at;

        struct decoder *fresh;
        struct decode_info first;
        CHECK_INT(decoder_open(&fresh), 0);
        int rc = decoder_read(fresh, cut, size, &decode_default_limits, &picture, &first);
        uint64_t hash = rc ? 0 : picture_hash();
        decoder_close(fresh);
        CHECK_INT(read_bytes(kind->bytes, kind->size), 0);
        CHECK_INT(read_bytes(cut, size), rc);
        CHECK_TEXT(info.reason, first.reason);
        CHECK_INT(rc ? 0 : picture_hash(), hash);
        CHECK(hash != kind->hash);
    }
    free(cut);
}

/* The start of the chunk NAME in a PNG kind. */
static size_t find_png_chunk(const struct kind *kind, const char *name)
{
    for (size_t at = 8; at + 12 <= kind->size;) {
        if (memcmp(kind->bytes + at + 4, name, 4) == 0)
            return at;
        at += 12 + ((size_t)kind->bytes[at + 2] << 8) + kind->bytes[at + 3];
    }
    printf("%s has no chunk %s\n", kind->name, name);
    exit(1);
}

/* Decode SIZE bytes of KIND with byte AT changed (none for SIZE): VERDICT and REASON come out, and
 * of a picture the same pixels. */
static void check_png(const struct kind *kind, size_t size, size_t at, enum decode_verdict verdict,
                      const char *reason)
{
    int before = test_failures;
    uint8_t *bytes = malloc(size);
    memcpy(bytes, kind->bytes, size);
    if (at < size)
        bytes[at] ^= 1;
    int rc = read_bytes(bytes, size);
    CHECK_INT(info.verdict, verdict);
    CHECK_TEXT(info.reason, reason);
    if (!rc)
        CHECK_INT(picture_hash(), kind->hash);
    if (test_failures != before)
        printf("  byte %zu of %zu\n", at, size);
    free(bytes);
}

/* As Pillow: checksums count before the image data; behind the last row only chunks that are cut
 * do. */
static void test_png_damage(void)
{
    const struct kind *kind = find_kind("png_gray_trns");
    size_t trns = find_png_chunk(kind, "tRNS"), image = find_png_chunk(kind, "IDAT");
    size_t end = find_png_chunk(kind, "IEND");
    check_png(kind, kind->size, kind->size, DECODE_PACK, "");
    check_png(kind, kind->size, 29, DECODE_BAD, "damaged PNG");        /* IHDR's checksum */
    check_png(kind, kind->size, trns + 10, DECODE_BAD, "damaged PNG"); /* tRNS's checksum */
    check_png(kind, kind->size, image + 20, DECODE_BAD, "damaged PNG");
    check_png(kind, kind->size, end - 1, DECODE_WARN, "IDAT: CRC error");
    check_png(kind, kind->size, kind->size - 1, DECODE_PACK, ""); /* IEND's checksum */
    check_png(kind, end, end, DECODE_WARN, "the end chunk is missing");
    check_png(kind, end - 2, end, DECODE_WARN, "the file ends too early");
    check_png(kind, end - 6, end, DECODE_WARN, "the file ends too early");
    check_png(kind, image + 20, kind->size, DECODE_BAD, "damaged PNG");
    check_png(kind, image, kind->size, DECODE_BAD, "damaged PNG");
}

/* A wrong checksum of image data that more of it follows. */
static void test_png_parts(void)
{
    const struct kind *kind = find_kind("png_two_parts");
    size_t first = find_png_chunk(kind, "IDAT");
    size_t length = ((size_t)kind->bytes[first + 2] << 8) + kind->bytes[first + 3];
    check_png(kind, kind->size, first + 8 + length, DECODE_WARN, "IDAT: CRC error");
    check_png(kind, first + 12 + length, kind->size, DECODE_BAD, "damaged PNG");
}

/* Chunks that Pillow looks into. Their checksums are wrong, but that comes later. */
static void check_chunk(const char *name, size_t length, const char *detail)
{
    const struct kind *kind = find_kind("png_color2_8bit_plain");
    size_t at = find_png_chunk(kind, "IDAT"), size = kind->size + 12 + length;
    uint8_t *bytes = calloc(1, size);
    memcpy(bytes, kind->bytes, at);
    bytes[at + 3] = (uint8_t)length;
    memcpy(bytes + at + 4, name, 4);
    memcpy(bytes + at + 12 + length, kind->bytes + at, kind->size - at);
    CHECK_INT(read_bytes(bytes, size), -ERR_INPUT);
    CHECK_TEXT(info.reason, "damaged PNG");
    CHECK_HAS(err_text(), detail);
    free(bytes);
}

static void test_png_chunks(void)
{
    check_chunk("gAMA", 3, "a chunk is too short");
    check_chunk("cHRM", 31, "a chunk is too short");
    check_chunk("fcTL", 25, "a chunk is too short");
    check_chunk("fcTL", 26, "the first frame is not the picture");
    check_chunk("gAMA", 4, "CRC error");
}

/* ---- hostile bytes ---- */

/* Any bytes: a verdict that fits the return code, in bounded memory. */
static void check_hostile(const uint8_t *bytes, size_t size, const char *name, int which)
{
    const struct decode_limits limits = {1 << 20, 50, 16 << 20};
    int before = test_failures;
    int rc = decoder_read(decoder, bytes, size, &limits, &picture, &info);
    CHECK(rc == 0 || rc == -ERR_INPUT);
    CHECK_INT(info.verdict == DECODE_BAD, rc != 0);
    CHECK_INT(info.reason[0] == 0, info.verdict == DECODE_PACK);
    if (!rc) {
        CHECK((int64_t)picture.width * picture.height <= limits.pixels);
        CHECK(window_same(decoder, bytes, size, &limits, &picture, (uint64_t)which));
    } else {
        const struct decode_window window = {3, 5, 7, 4};
        struct decode_info of_window;
        CHECK_HAS(err_text(), info.reason);
        rc = decoder_read_window(decoder, bytes, size, &limits, &window, &picture, &of_window);
        CHECK(rc == 0 || rc == -ERR_INPUT);
    }
    if (test_failures != before)
        printf("  in %s, %d\n", name, which);
}

/* All prefixes of some files. Of a whole JPEG none is whole; a PNG may lack what comes behind its
 * last row. */
static void test_truncations(void)
{
    static const char *const names[] = {"jpeg_420_baseline", "jpeg_422_progressive", "jpeg_cmyk",
                                        "png_color2_8bit_plain", "png_color3_4bit_interlaced"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const struct kind *kind = find_kind(names[n]);
        for (size_t size = 0; size < kind->size; size++) {
            /* A block of just that size, so that a sanitizer sees every look behind it. */
            uint8_t *bytes = malloc(size ? size : 1);
            memcpy(bytes, kind->bytes, size);
            check_hostile(bytes, size, kind->name, (int)size);
            bool whole = info.verdict != DECODE_BAD;
            if (whole && (!info.png || size + 24 < kind->size)) {
                CHECK(!"a truncated file is bad");
                printf("  %zu of %zu bytes of %s\n", size, kind->size, kind->name);
            }
            if (whole)
                CHECK_INT(picture_hash(), kind->hash);
            free(bytes);
        }
    }
}

static void test_flips(void)
{
    struct rng r;
    int verdicts[3] = {0};
    rng_init(&r, 3, RNG_TEST, 0, 0);
    for (int i = 0; i < 6000; i++) {
        const struct kind *kind = &kinds[rng_below(&r, (uint64_t)kind_count)];
        uint8_t *bytes = malloc(kind->size);
        memcpy(bytes, kind->bytes, kind->size);
        for (uint64_t flips = 1 + rng_below(&r, 4); flips; flips--)
            bytes[rng_below(&r, kind->size)] ^= (uint8_t)(1u << rng_below(&r, 8));
        check_hostile(bytes, kind->size, kind->name, i);
        verdicts[info.verdict]++;
        free(bytes);
    }
    for (int v = 0; v < 3; v++)
        CHECK(verdicts[v] > 100);
}

/* Noise behind a start that gets it past the first look. */
static void test_noise(void)
{
    static const char *const starts[] = {"\xff\xd8\xff", "\x89PNG\r\n\x1a\n", ""};
    struct rng r;
    rng_init(&r, 4, RNG_TEST, 0, 0);
    for (int i = 0; i < 1500; i++) {
        const char *start = starts[i % 3];
        size_t begun = strlen(start), size = begun + rng_below(&r, 300);
        uint8_t *bytes = malloc(size ? size : 1);
        for (size_t at = 0; at < size; at++) {
            bytes[at] = rng_below(&r, 6) ? (uint8_t)rng_u32(&r) : 0xFF;
            if (at < begun)
                bytes[at] = (uint8_t)start[at];
        }
        check_hostile(bytes, size, "noise", i);
        free(bytes);
    }
}

/* ---- writing ---- */

static const uint8_t *find_frame(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i + 16 < size; i++)
        if (bytes[i] == 0xFF && bytes[i + 1] == 0xC0)
            return bytes + i;
    return NULL;
}

static void test_write_jpeg(void)
{
    struct picture drawn = {0};
    uint8_t *bytes = NULL, *again = NULL;
    size_t capacity = 0, size = 0, capacity_again = 0, size_again = 0;
    CHECK_INT(picture_resize(&drawn, 203, 117), 0);
    draw_pixels(drawn.rgb, drawn.width, drawn.height, 2);
    static const struct {
        int quality, sampling;
        double error; /* mean, per value */
    } cases[] = {
        {100, 0x11, 1.0 },
        {95,  0x11, 3.0 },
        {90,  0x11, 6.0 },
        {89,  0x22, 18.0},
        {50,  0x22, 24.0}
    };
    size_t last = SIZE_MAX;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_INT(decoder_write_jpeg(decoder, &drawn, cases[i].quality, &bytes, &capacity, &size),
                  0);
        CHECK_INT(decoder_write_jpeg(decoder, &drawn, cases[i].quality, &again, &capacity_again,
                                     &size_again),
                  0);
        CHECK_INT(size_again, size);
        CHECK(memcmp(bytes, again, size) == 0);
        CHECK(size <= capacity && size < last);
        last = size;
        const uint8_t *frame = find_frame(bytes, size);
        CHECK(frame != NULL);
        CHECK_INT(frame ? frame[11] : 0, cases[i].sampling);
        CHECK_INT(read_bytes(bytes, size), 0);
        CHECK_INT(info.verdict, DECODE_PACK);
        CHECK_INT(picture.width, drawn.width);
        CHECK_INT(picture.height, drawn.height);
        double error = 0;
        size_t values = (size_t)drawn.width * (size_t)drawn.height * 3;
        for (size_t v = 0; v < values; v++)
            error += abs(picture.rgb[v] - drawn.rgb[v]);
        if (!(error / (double)values <= cases[i].error)) {
            CHECK(!"the written file is close to the picture");
            printf("  quality %d: mean error %.2f\n", cases[i].quality, error / (double)values);
        }
    }
    uint64_t before = mem_allocations();
    CHECK_INT(decoder_write_jpeg(decoder, &drawn, 95, &bytes, &capacity, &size), 0);
    CHECK_INT(mem_allocations() - before, 0);
    mem_free(bytes);
    mem_free(again);
    /* A file larger than the first block that is made for it. */
    bytes = NULL;
    capacity = 0;
    CHECK_INT(picture_resize(&drawn, 400, 300), 0);
    draw_pixels(drawn.rgb, drawn.width, drawn.height, 0);
    CHECK_INT(decoder_write_jpeg(decoder, &drawn, 100, &bytes, &capacity, &size), 0);
    CHECK(size > 1 << 17);
    CHECK_INT(read_bytes(bytes, size), 0);
    mem_free(bytes);
    picture_release(&drawn);
}

static void test_write_png(void)
{
    static const int sizes[][2] = {
        {1,   1  },
        {7,   300},
        {203, 117}
    };
    struct picture drawn = {0};
    uint8_t *bytes = NULL;
    size_t capacity = 0, size = 0;
    for (int kind = 0; kind < 3; kind++) {
        CHECK_INT(picture_resize(&drawn, sizes[kind][0], sizes[kind][1]), 0);
        draw_pixels(drawn.rgb, drawn.width, drawn.height, kind);
        CHECK_INT(decoder_write_png(&drawn, &bytes, &capacity, &size), 0);
        CHECK_INT(read_bytes(bytes, size), 0);
        CHECK_INT(info.verdict, DECODE_PACK);
        CHECK_INT(picture.width, drawn.width);
        CHECK_INT(picture.height, drawn.height);
        CHECK_INT(memcmp(picture.rgb, drawn.rgb, (size_t)drawn.width * (size_t)drawn.height * 3),
                  0);
    }
    uint64_t before = mem_allocations();
    CHECK_INT(decoder_write_png(&drawn, &bytes, &capacity, &size), 0);
    CHECK_INT(mem_allocations() - before, 0);
    mem_free(bytes);
    picture_release(&drawn);
}

/* Pictures keep their memory, and say so when there is none. */
static void test_picture(void)
{
    struct picture p = {0};
    CHECK_INT(picture_resize(&p, 100, 50), 0);
    CHECK_INT(p.capacity, 15000);
    uint8_t *block = p.rgb;
    CHECK_INT(picture_resize(&p, 10, 20), 0);
    CHECK(p.rgb == block && p.width == 10 && p.height == 20);
    CHECK_INT(picture_resize(&p, 0, 20), -ERR_MEMORY);
    CHECK_INT(picture_resize(&p, 2147483647, 2147483647), -ERR_MEMORY);
    picture_release(&p);
    CHECK(!p.rgb && !p.capacity);
    picture_release(&p);
    decoder_close(NULL);
    CHECK_HAS(decode_libraries(), "libjpeg-turbo ");
    CHECK_HAS(decode_libraries(), ", libpng 1.");
}

static const struct test tests[] = {
    {"kinds",               test_kinds              },
    {"pictures",            test_pictures           },
    {"oddities",            test_oddities           },
    {"not_pictures",        test_not_pictures       },
    {"limits",              test_limits             },
    {"bomb",                test_bomb               },
    {"no_memory_of_tables", test_no_memory_of_tables},
    {"png_damage",          test_png_damage         },
    {"png_parts",           test_png_parts          },
    {"png_chunks",          test_png_chunks         },
    {"truncations",         test_truncations        },
    {"flips",               test_flips              },
    {"noise",               test_noise              },
    {"write_jpeg",          test_write_jpeg         },
    {"write_png",           test_write_png          },
    {"picture",             test_picture            },
};

int main(int argc, char **argv)
{
    if (!load_kinds()) {
        printf("tests/oracle/kinds.txt cannot be read\n");
        return 1;
    }
    if (decoder_open(&decoder))
        return 1;
    int rc = test_main(argc, argv, tests, sizeof tests / sizeof *tests);
    decoder_close(decoder);
    picture_release(&picture);
    free_kinds();
    return rc;
}
