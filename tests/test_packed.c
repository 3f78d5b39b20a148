/*
 * test_packed.c - packed pictures, evaluated here in plain C, are the bytes that augment_train and
 * augment_validate make: over awkward sizes, flips, padding, a full block, several threads.
 */
#include "tests/test.h"

#include <pthread.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/unpack.h"
#include "train/packed.h"

enum { LONGEST = 700 };

/* LONGEST x LONGEST pixels, from any of the first 50 on. */
static uint8_t *noise;
#define NOISE_BYTES (3 * ((size_t)LONGEST * LONGEST + 50))

static void make_noise(void)
{
    struct rng rng;

    if (noise)
        return;
    noise = malloc(NOISE_BYTES);
    rng_init(&rng, 7, RNG_TEST, 0, 0);
    for (size_t i = 0; i < NOISE_BYTES; i++)
        noise[i] = (uint8_t)rng_u32(&rng);
}

static struct pixels picture_of(int width, int height, uint32_t which)
{
    return (struct pixels){noise + 3 * (which % 50), width, height, 3 * (size_t)LONGEST};
}

struct fixture {
    struct packed_block block;
    struct packed packed;
    struct resampler *resampler;
    int batch, size;
};

static void fixture_open(struct fixture *f, int batch, int size, uint32_t width, uint32_t height)
{
    make_noise();
    *f = (struct fixture){.batch = batch, .size = size};
    CHECK_INT(packed_capacity(batch, size, width, height, &f->block.capacity), 0);
    f->block.bytes = mem_aligned(f->block.capacity, "block");
    memset(f->block.bytes, 0xEE, f->block.capacity);
    f->block.pictures = mem_array((size_t)batch, sizeof *f->block.pictures, "pictures");
    f->packed = (struct packed){.pictures = f->block.pictures, .block = f->block.bytes};
    CHECK_INT(resampler_open(&f->resampler, false), 0);
    packed_begin(&f->block, batch, size);
}

static void fixture_close(struct fixture *f)
{
    resampler_close(f->resampler);
    mem_free(f->block.bytes);
    mem_free(f->block.pictures);
}

/* Picture ROW is what PLAN makes on the CPU. */
static void check_picture(struct fixture *f, int row, const struct pixels *picture,
                          const struct augment_plan *plan)
{
    size_t bytes = 3 * (size_t)f->size * (size_t)f->size;
    uint8_t *expected = calloc(bytes, 1), *got = malloc(bytes);

    f->packed.bytes = atomic_load(&f->block.used);
    CHECK(f->packed.bytes <= f->block.capacity);
    CHECK_INT(augment_run(f->resampler, picture, plan, f->size, expected), 0);
    unpack_picture(&f->packed, row, f->size, got);
    if (memcmp(expected, got, bytes) != 0) {
        size_t at = 0;
        while (expected[at] == got[at])
            at++;
        printf("%d x %d to %d, flip %d: byte %zu is %d, not %d\n", picture->width, picture->height,
               f->size, plan->flip, at, got[at], expected[at]);
        test_failures++;
    }
    free(expected);
    free(got);
}

static void add_and_check(struct fixture *f, int row, const struct pixels *picture,
                          const struct augment_plan *plan)
{
    CHECK_INT(packed_add(&f->block, row, f->resampler, picture, plan, f->size), 0);
    check_picture(f, row, picture, plan);
}

static const int sides[] = {1, 2, 3, 7, 31, 32, 33, 64, 97, 255, 256, 333, 700};
enum { SIDES = sizeof sides / sizeof *sides };

static void training_crops_are_the_cpus(void)
{
    const int sizes[] = {32, 33, 57, 224};

    for (int s = 0; s < 4; s++)
        for (int w = 0; w < SIDES; w++) {
            struct fixture f;

            fixture_open(&f, SIDES, sizes[s], 0, 0);
            for (int h = 0; h < SIDES; h++) {
                struct pixels picture = picture_of(sides[w], sides[h], (uint32_t)(w * h));
                struct crop crop =
                    augment_random_crop(3, 1, (uint64_t)w * 100 + (uint64_t)h, sides[w], sides[h]);
                struct augment_plan plan;

                crop.flip = (w + h) % 2;
                augment_plan_train(&crop, sizes[s], &plan);
                add_and_check(&f, h, &picture, &plan);
            }
            fixture_close(&f);
        }
}

static void validation_crops_are_the_cpus(void)
{
    /* The last two resize below the size: what is missing is 0. */
    const int resizes[] = {36, 64, 256, 33, 20, 1}, sizes[] = {32, 57, 224, 33, 32, 33};

    for (int s = 0; s < 6; s++)
        for (int w = 0; w < SIDES; w++) {
            struct fixture f;

            fixture_open(&f, SIDES, sizes[s], 0, 0);
            for (int h = 0; h < SIDES; h++) {
                struct pixels picture = picture_of(sides[w], sides[h], (uint32_t)(w + h));
                struct augment_plan plan;

                if ((int64_t)resizes[s] * (sides[w] > sides[h] ? sides[w] : sides[h]) /
                        (sides[w] < sides[h] ? sides[w] : sides[h]) >
                    4000)
                    continue;
                CHECK_INT(augment_plan_validate(sides[w], sides[h], resizes[s], sizes[s], &plan),
                          0);
                add_and_check(&f, h, &picture, &plan);
                plan.flip = true;
                packed_begin(&f.block, f.batch, f.size);
                add_and_check(&f, h, &picture, &plan);
                packed_begin(&f.block, f.batch, f.size);
            }
            fixture_close(&f);
        }
}

/* A record that has the resize's size is not resampled: a square's bytes and no more. */
static void only_what_is_needed_goes_in(void)
{
    struct fixture f;
    struct pixels picture = picture_of(256, 256, 0);
    struct augment_plan plan;

    fixture_open(&f, 1, 224, 256, 256);
    CHECK_INT(augment_plan_validate(256, 256, 256, 224, &plan), 0);
    add_and_check(&f, 0, &picture, &plan);
    /* A pixel more on each side: its weight is 0. */
    CHECK(f.block.pictures[0].stride <= 226 * 3);
    CHECK(f.packed.bytes >= 224 * 224 * 3 && f.packed.bytes < 226 * 226 * 3 + 224 * 4 * 2 * 6);
    fixture_close(&f);
}

/* More than fits: the rest are squares, and all are the CPU's bytes. */
static void a_full_block_holds_squares(void)
{
    enum { BATCH = 9, SIZE = 32 };
    struct fixture f;
    int squares = 0;

    fixture_open(&f, BATCH, SIZE, 0, 0);
    for (int row = 0; row < BATCH; row++) {
        struct pixels picture = picture_of(90 - row, 85, (uint32_t)row);
        struct crop crop = {1, 2, 80 - row, 81, row % 2};
        struct augment_plan plan;

        augment_plan_train(&crop, SIZE, &plan);
        add_and_check(&f, row, &picture, &plan);
        squares += f.block.pictures[row].stride == 3 * SIZE;
    }
    printf("%d of %d were made squares\n", squares, BATCH);
    CHECK(squares > 0 && squares < BATCH);
    fixture_close(&f);
}

/* A block that was sized by the largest picture has room for it whole, each time. */
static void the_largest_pictures_fit(void)
{
    for (int w = 0; w < SIDES; w++)
        for (int h = 0; h < SIDES; h++) {
            struct fixture f;

            if (sides[w] * sides[h] > 9000)
                continue;
            fixture_open(&f, 3, 57, (uint32_t)sides[w], (uint32_t)sides[h]);
            for (int row = 0; row < 3; row++) {
                struct pixels picture = picture_of(sides[w], sides[h], (uint32_t)row);
                struct crop crop = {0, 0, sides[w], sides[h], row % 2};
                struct augment_plan plan;

                augment_plan_train(&crop, 57, &plan);
                add_and_check(&f, row, &picture, &plan);
            }
            CHECK(f.packed.bytes <= f.block.capacity);
            fixture_close(&f);
        }
}

struct filler {
    struct fixture *f;
    int first;
};

enum { FILLERS = 4, ROWS = 64 };

static void plan_row(int row, struct pixels *picture, struct augment_plan *plan)
{
    int side = 20 + row * 29 % 90;
    struct crop crop = {0, 0, side, side - 5, row % 2};

    *picture = picture_of(side, side, (uint32_t)row);
    augment_plan_train(&crop, 32, plan);
}

static void *fill(void *argument)
{
    const struct filler *filler = argument;
    struct resampler *resampler;

    if (resampler_open(&resampler, false))
        return argument;
    for (int row = filler->first; row < ROWS; row += FILLERS) {
        struct pixels picture;
        struct augment_plan plan;

        plan_row(row, &picture, &plan);
        if (packed_add(&filler->f->block, row, resampler, &picture, &plan, 32))
            return argument;
    }
    resampler_close(resampler);
    return NULL;
}

static void threads_fill_one_block(void)
{
    struct fixture f;
    struct filler fillers[FILLERS];
    pthread_t threads[FILLERS];

    fixture_open(&f, ROWS, 32, 0, 0);
    for (int t = 0; t < FILLERS; t++) {
        fillers[t] = (struct filler){&f, t};
        CHECK_INT(pthread_create(&threads[t], NULL, fill, &fillers[t]), 0);
    }
    for (int t = 0; t < FILLERS; t++) {
        void *failed;

        pthread_join(threads[t], &failed);
        CHECK(!failed);
    }
    for (int row = 0; row < ROWS; row++) {
        struct pixels picture;
        struct augment_plan plan;

        plan_row(row, &picture, &plan);
        check_picture(&f, row, &picture, &plan);
    }
    fixture_close(&f);
}

static const struct test tests[] = {
    {"training_crops_are_the_cpus",   training_crops_are_the_cpus  },
    {"validation_crops_are_the_cpus", validation_crops_are_the_cpus},
    {"only_what_is_needed_goes_in",   only_what_is_needed_goes_in  },
    {"a_full_block_holds_squares",    a_full_block_holds_squares   },
    {"the_largest_pictures_fit",      the_largest_pictures_fit     },
    {"threads_fill_one_block",        threads_fill_one_block       },
};
TEST_MAIN(tests)
