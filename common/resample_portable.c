/*
 * The definition of the resize's inner loops: Pillow's arithmetic, as plain as it gets.
 */
#include "common/resample_rows.h"

enum { HALF = 1 << (WEIGHT_BITS - 1) };

/* Rounded, and cut to 8 bits: the rounding of thousands of weights may lift a sum above 255. */
static uint8_t finish(int32_t sum)
{
    int32_t value = sum >> WEIGHT_BITS;
    return value > 255 ? 255 : (uint8_t)value;
}

static void across(const struct resample_axis *axis, const uint8_t *const in[ACROSS_ROWS],
                   uint8_t *const out[ACROSS_ROWS])
{
    for (int row = 0; row < ACROSS_ROWS; row++) {
        uint8_t *to = out[row];
        for (int x = 0; x < axis->count; x++, to += 3) {
            const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->taps;
            const uint8_t *from = in[row] + 3 * (size_t)axis->starts[x];
            int32_t red = HALF, green = HALF, blue = HALF;
            for (int t = 0; t < axis->counts[x]; t++, from += 3) {
                red += from[0] * weights[t];
                green += from[1] * weights[t];
                blue += from[2] * weights[t];
            }
            to[0] = finish(red);
            to[1] = finish(green);
            to[2] = finish(blue);
        }
    }
}

static void down(const struct resample_axis *axis, int y, const uint8_t *const *rows, size_t size,
                 uint8_t *out)
{
    const int32_t *weights = axis->weights + (size_t)y * (size_t)axis->taps;
    const int count = axis->counts[y];
    for (size_t x = 0; x < size; x++) {
        int32_t sum = HALF;
        for (int t = 0; t < count; t++)
            sum += rows[t][x] * weights[t];
        out[x] = finish(sum);
    }
}

const struct resample_loops resample_portable = {across, down};
