#include "train/augment.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "common/err.h"
#include "common/rng.h"

/* Fixed point: Qn is a value times 2^n. data-spec/30-order.md says why the products fit into 64
 * bits. */
#define SHARE_LEAST UINT64_C(343597384) /* 0.08 in Q32 */
#define LN_4_3 UINT64_C(308896273)      /* ln(4/3) in Q30 */
#define SQRT_3_4 UINT64_C(929887697)    /* sqrt(3/4) in Q30 */
#define TRIES 10
#define EXP_TERMS                                                                                  \
    10 /* of its Taylor series: the next one is below 2^-40 for exponents up to ln(4/3) */

/* The largest integer whose square is not above N: a bit at a time. */
static uint64_t integer_root(uint64_t n)
{
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 62; bit; bit >>= 2) {
        if (n >= root + bit) {
            n -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return root;
}

/* sqrt(3/4) * exp(u * ln(4/3)) in Q30 for u = NUMBER / 2^32: the root of a ratio whose logarithm is
 * uniform between those of 3/4 and 4/3. */
static uint64_t root_of_ratio(uint32_t number)
{
    const uint64_t one = UINT64_C(1) << 30;
    uint64_t x = (number * LN_4_3) >> 32, e = one;
    for (unsigned k = EXP_TERMS; k >= 1; k--)
        e = one + ((x * e) >> 30) / k;
    return (e * SQRT_3_4) >> 30;
}

/* The largest box at the centre whose ratio is within 3/4 .. 4/3. */
static void central_box(struct crop *crop, int width, int height)
{
    const int64_t w = width, h = height;
    crop->width = width;
    crop->height = height;
    if (4 * w < 3 * h)
        crop->height = (int)((8 * w + 3) / 6);
    else if (3 * w > 4 * h)
        crop->width = (int)((8 * h + 3) / 6);
    crop->left = (width - crop->width) / 2;
    crop->top = (height - crop->height) / 2;
}

static bool flips(uint64_t seed, uint32_t epoch, uint64_t record)
{
    struct rng rng;
    rng_init(&rng, seed, RNG_FLIP, epoch, record);
    return rng_u32(&rng) >> 31;
}

struct crop augment_random_crop(uint64_t seed, uint32_t epoch, uint64_t record, int width,
                                int height)
{
    const uint64_t half = UINT64_C(1) << 45; /* of Q46 */
    struct crop crop = {.flip = flips(seed, epoch, record)};
    struct rng rng;
    assert(width >= 1 && height >= 1 && width <= 65535 && height <= 65535);
    rng_init(&rng, seed, RNG_CROP, epoch, record);
    for (int i = 0; i < TRIES; i++) {
        uint64_t share =
            SHARE_LEAST + ((rng_u32(&rng) * ((UINT64_C(1) << 32) - SHARE_LEAST)) >> 32);
        uint64_t ratio_root = root_of_ratio(rng_u32(&rng));
        uint64_t side = integer_root((uint64_t)width * (uint64_t)height * share); /* Q16 */
        uint64_t w = (side * ratio_root + half) >> 46;
        uint64_t h = (side * ((UINT64_C(1) << 60) / ratio_root) + half) >> 46;
        if (w < 1 || w > (uint64_t)width || h < 1 || h > (uint64_t)height)
            continue;
        crop.width = (int)w;
        crop.height = (int)h;
        crop.top = (int)rng_below(&rng, (uint64_t)height - h + 1);
        crop.left = (int)rng_below(&rng, (uint64_t)width - w + 1);
        return crop;
    }
    central_box(&crop, width, height);
    return crop;
}

int augment_train(struct resampler *resampler, const struct pixels *picture,
                  const struct crop *crop, int size, uint8_t *out)
{
    const size_t offset = (size_t)crop->top * picture->stride + (size_t)crop->left * 3;
    const struct pixels cut = {picture->rgb + offset, crop->width, crop->height, picture->stride};
    const struct resample_window whole = {size, size, 0, 0, size, size};
    return resampler_run(resampler, &cut, &whole, crop->flip, out, (size_t)size * 3);
}

/* Along one axis: LENGTH pixels from FROM of SIDE go to TO of SIZE. */
static void center_axis(int side, int size, int *from, int *length, int *to)
{
    *from = side >= size ? resample_center(side, size) : 0;
    *to = side >= size ? 0 : (size - side) / 2;
    *length = side >= size ? size : side;
}

int augment_validate(struct resampler *resampler, const struct pixels *picture, int resize,
                     int size, uint8_t *out)
{
    const int shorter = picture->width < picture->height ? picture->width : picture->height;
    const int longer = picture->width < picture->height ? picture->height : picture->width;
    struct resample_window window;
    int to_x, to_y;
    if ((int64_t)resize * longer / shorter > 65535)
        return err_set(ERR_INPUT,
                       "a picture of %d x %d cannot be resized to a shorter side of %d: its longer "
                       "side would be above 65,535",
                       picture->width, picture->height, resize);
    resample_size(picture->width, picture->height, resize, false, &window.full_width,
                  &window.full_height);
    center_axis(window.full_width, size, &window.left, &window.width, &to_x);
    center_axis(window.full_height, size, &window.top, &window.height, &to_y);
    if (window.width < size || window.height < size)
        memset(out, 0, (size_t)size * (size_t)size * 3);
    return resampler_run(resampler, picture, &window, false,
                         out + ((size_t)to_y * (size_t)size + (size_t)to_x) * 3, (size_t)size * 3);
}
