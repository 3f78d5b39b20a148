/*
 * The definition of the resize's inner loops: Pillow's arithmetic, as plain as it gets.
 */
#include "common/resample_rows.h"

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
        for (int x = 0; x < axis->count; x++) {
            const int32_t *weights = axis->weights + (size_t)x * (size_t)axis->taps;
            const uint8_t *from = in[row] + 3 * (size_t)axis->starts[x];
            int32_t sum[3] = {1 << (WEIGHT_BITS - 1), 1 << (WEIGHT_BITS - 1),
                              1 << (WEIGHT_BITS - 1)};
            for (int t = 0; t < axis->counts[x]; t++)
                for (int c = 0; c < 3; c++)
                    sum[c] += from[3 * t + c] * weights[t];
            for (int c = 0; c < 3; c++)
                out[row][3 * (size_t)x + (size_t)c] = finish(sum[c]);
        }
    }
}

static void down(const struct resample_axis *axis, int y, const uint8_t *const *rows, size_t size,
                 uint8_t *out)
{
    const int32_t *weights = axis->weights + (size_t)y * (size_t)axis->taps;
    for (size_t x = 0; x < size; x++) {
        int32_t sum = 1 << (WEIGHT_BITS - 1);
        for (int t = 0; t < axis->counts[y]; t++)
            sum += rows[t][x] * weights[t];
        out[x] = finish(sum);
    }
}

const struct resample_loops resample_portable = {across, down};
