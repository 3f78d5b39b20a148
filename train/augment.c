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

void augment_plan_train(const struct crop *crop, int size, struct augment_plan *out)
{
    *out = (struct augment_plan){
        .across = {.from = crop->left, .in = crop->width,  .full = size, .count = size},
        .down = {.from = crop->top,  .in = crop->height, .full = size, .count = size},
        .flip = crop->flip,
    };
}

/* IN pixels become FULL, of which SIZE at the centre count. */
static struct augment_axis center_axis(int in, int full, int size)
{
    struct augment_axis axis = {.in = in, .full = full};
    axis.first = full >= size ? resample_center(full, size) : 0;
    axis.to = full >= size ? 0 : (size - full) / 2;
    axis.count = full >= size ? size : full;
    return axis;
}

int augment_plan_validate(int width, int height, int resize, int size, struct augment_plan *out)
{
    const int shorter = width < height ? width : height;
    const int longer = width < height ? height : width;
    int full_width, full_height;
    if ((int64_t)resize * longer / shorter > 65535)
        return err_set(ERR_INPUT,
                       "a picture of %d x %d cannot be resized to a shorter side of %d: its longer "
                       "side would be above 65,535",
                       width, height, resize);
    resample_size(width, height, resize, false, &full_width, &full_height);
    *out = (struct augment_plan){
        .across = center_axis(width, full_width, size),
        .down = center_axis(height, full_height, size),
    };
    return 0;
}

void augment_inputs(const struct augment_axis *axis, int *first, int *end)
{
    const struct resample_span begin = resample_inputs(axis->in, axis->full, axis->first);
    const struct resample_span last =
        resample_inputs(axis->in, axis->full, axis->first + axis->count - 1);
    *first = begin.first;
    *end = last.first + last.count;
}

int augment_run(struct resampler *resampler, const struct pixels *picture,
                const struct augment_plan *plan, int size, uint8_t *out)
{
    const struct augment_axis *across = &plan->across, *down = &plan->down;
    const size_t offset = (size_t)down->from * picture->stride + (size_t)across->from * 3;
    const struct pixels cut = {picture->rgb + offset, across->in, down->in, picture->stride};
    const struct resample_window window = {across->full, down->full,    across->first,
                                           down->first,  across->count, down->count};
    const int left = plan->flip ? size - across->to - across->count : across->to;
    if (across->count < size || down->count < size)
        memset(out, 0, (size_t)size * (size_t)size * 3);
    return resampler_run(resampler, &cut, &window, plan->flip,
                         out + ((size_t)down->to * (size_t)size + (size_t)left) * 3,
                         (size_t)size * 3);
}

int augment_train(struct resampler *resampler, const struct pixels *picture,
                  const struct crop *crop, int size, uint8_t *out)
{
    struct augment_plan plan;
    augment_plan_train(crop, size, &plan);
    return augment_run(resampler, picture, &plan, size, out);
}

int augment_validate(struct resampler *resampler, const struct pixels *picture, int resize,
                     int size, uint8_t *out)
{
    struct augment_plan plan = {0};
    int rc = augment_plan_validate(picture->width, picture->height, resize, size, &plan);
    return rc ? rc : augment_run(resampler, picture, &plan, size, out);
}
