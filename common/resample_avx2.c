/*
 * The resize's inner loops for AVX2.
 *
 * A weight has 23 bits, a product with a pixel 31: too wide for the fast multiplication of 16-bit
 * pairs. So each weight is split into high * 2^11 + low; vpmaddwd multiplies and adds pairs of taps
 * with either half; and (sum of high parts << 11) + sum of low parts is, modulo 2^32, the sum that
 * the portable loops make. That sum is below 2^31, so that wrapping on the way there does no harm.
 */
#include "common/resample_rows.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline

/* What the sums of low parts start with: the half that rounds. */
AVX2_INLINE __m256i half(void)
{
    return _mm256_set1_epi32(1 << (WEIGHT_BITS - 1));
}

AVX2_INLINE __m256i finish(__m256i high, __m256i low)
{
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, SPLIT_BITS), low);
    return _mm256_srli_epi32(sum, WEIGHT_BITS);
}

AVX2_INLINE __m256i pair(const uint32_t *pairs)
{
    return _mm256_set1_epi32((int)*pairs);
}

/* 16 bytes of one row below 16 bytes of another. */
AVX2_INLINE __m256i load_two(const uint8_t *low, const uint8_t *high)
{
    __m256i bytes = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low));
    return _mm256_inserti128_si256(bytes, _mm_loadu_si128((const __m128i *)high), 1);
}

/* ---- across: one pixel of four rows; lanes R G B - of one row, then R G B - of the next ---- */

struct four {
    __m256i first, second; /* rows 0 and 1, rows 2 and 3 */
};

AVX2_INLINE struct four weigh(const struct resample_axis *axis, int x, int taps,
                              const uint8_t *const in[4])
{
    /* From 4 pixels of 3 bytes: taps 0 and 1, taps 2 and 3 of each colour as pairs of 16 bits. */
    const __m256i pick01 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i pick23 = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const uint32_t *pairs = axis->pairs + (size_t)x * (size_t)taps;
    size_t at = 3 * (size_t)axis->starts[x];
    __m256i high0 = _mm256_setzero_si256(), high1 = high0, low0 = half(), low1 = low0;

    for (int t = 0; t < taps; t += TAPS_STEP, pairs += TAPS_STEP, at += 3 * TAPS_STEP) {
        __m256i bytes0 = load_two(in[0] + at, in[1] + at);
        __m256i bytes1 = load_two(in[2] + at, in[3] + at);
        __m256i a0 = _mm256_shuffle_epi8(bytes0, pick01), b0 = _mm256_shuffle_epi8(bytes0, pick23);
        __m256i a1 = _mm256_shuffle_epi8(bytes1, pick01), b1 = _mm256_shuffle_epi8(bytes1, pick23);
        high0 = _mm256_add_epi32(high0, _mm256_add_epi32(_mm256_madd_epi16(a0, pair(pairs)),
                                                         _mm256_madd_epi16(b0, pair(pairs + 1))));
        low0 = _mm256_add_epi32(low0, _mm256_add_epi32(_mm256_madd_epi16(a0, pair(pairs + 2)),
                                                       _mm256_madd_epi16(b0, pair(pairs + 3))));
        high1 = _mm256_add_epi32(high1, _mm256_add_epi32(_mm256_madd_epi16(a1, pair(pairs)),
                                                         _mm256_madd_epi16(b1, pair(pairs + 1))));
        low1 = _mm256_add_epi32(low1, _mm256_add_epi32(_mm256_madd_epi16(a1, pair(pairs + 2)),
                                                       _mm256_madd_epi16(b1, pair(pairs + 3))));
    }
    return (struct four){finish(high0, low0), finish(high1, low1)};
}

/* Four pixels of two rows, R G B - each, to 12 bytes (and 4 of rubbish) of either row. */
AVX2_INLINE void store_two(__m256i v0, __m256i v1, __m256i v2, __m256i v3, uint8_t *low,
                           uint8_t *high)
{
    const __m256i close = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(v0, v1), _mm256_packs_epi32(v2, v3));
    bytes = _mm256_shuffle_epi8(bytes, close);
    _mm_storeu_si128((__m128i *)low, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)high, _mm256_extracti128_si256(bytes, 1));
}

AVX2_INLINE void across_taps(const struct resample_axis *axis, int taps,
                             const uint8_t *const in[ACROSS_ROWS], uint8_t *const out[ACROSS_ROWS])
{
    for (int x = 0; x < axis->count; x += 4) {
        struct four p0 = weigh(axis, x, taps, in), p1 = weigh(axis, x + 1, taps, in);
        struct four p2 = weigh(axis, x + 2, taps, in), p3 = weigh(axis, x + 3, taps, in);
        size_t at = 3 * (size_t)x;
        store_two(p0.first, p1.first, p2.first, p3.first, out[0] + at, out[1] + at);
        store_two(p0.second, p1.second, p2.second, p3.second, out[2] + at, out[3] + at);
    }
}

AVX2 static void across(const struct resample_axis *axis, const uint8_t *const in[ACROSS_ROWS],
                        uint8_t *const out[ACROSS_ROWS])
{
    /* Most pictures shrink to no less than half: four taps, for which the compiler drops the loop
     * over them. */
    if (axis->taps == TAPS_STEP)
        across_taps(axis, TAPS_STEP, in, out);
    else
        across_taps(axis, axis->taps, in, out);
}

/* ---- down: 32 bytes of one output row ---- */

/* The sums of 8 bytes, as 32-bit numbers. */
struct eight {
    __m256i high, low;
};

/* Add 8 pairs of bytes (16 bits each) with their weights. */
AVX2_INLINE void add_pairs(struct eight *sums, __m256i bytes, __m256i high, __m256i low)
{
    sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(bytes, high));
    sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(bytes, low));
}

AVX2_INLINE void weigh_rows(const uint32_t *pairs, int taps, const uint8_t *const *rows, size_t at,
                            uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256();
    struct eight s0 = {zero, half()}, s1 = s0, s2 = s0, s3 = s0;

    for (int t = 0; t < taps; t += 2) {
        const uint32_t *weights = pairs + (t & ~3) + (t >> 1 & 1);
        __m256i high = pair(weights), low = pair(weights + 2);
        __m256i a = _mm256_loadu_si256((const __m256i *)(rows[t] + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(rows[t + 1] + at));
        __m256i ab0 = _mm256_unpacklo_epi8(a, b), ab1 = _mm256_unpackhi_epi8(a, b);
        add_pairs(&s0, _mm256_unpacklo_epi8(ab0, zero), high, low);
        add_pairs(&s1, _mm256_unpackhi_epi8(ab0, zero), high, low);
        add_pairs(&s2, _mm256_unpacklo_epi8(ab1, zero), high, low);
        add_pairs(&s3, _mm256_unpackhi_epi8(ab1, zero), high, low);
    }
    __m256i words0 = _mm256_packs_epi32(finish(s0.high, s0.low), finish(s1.high, s1.low));
    __m256i words1 = _mm256_packs_epi32(finish(s2.high, s2.low), finish(s3.high, s3.low));
    _mm256_storeu_si256((__m256i *)(out + at), _mm256_packus_epi16(words0, words1));
}

AVX2 static void down(const struct resample_axis *axis, int y, const uint8_t *const *rows,
                      size_t size, uint8_t *out)
{
    const uint32_t *pairs = axis->pairs + (size_t)y * (size_t)axis->taps;
    int taps = (axis->counts[y] + 1) & ~1;
    if (size < 32) {
        resample_portable.down(axis, y, rows, size, out);
        return;
    }
    for (size_t at = 0; at + 32 < size; at += 32)
        weigh_rows(pairs, taps, rows, at, out);
    weigh_rows(pairs, taps, rows, size - 32, out);
}

static const struct resample_loops loops = {across, down};

const struct resample_loops *resample_avx2(void)
{
    return __builtin_cpu_supports("avx2") ? &loops : NULL;
}

#else

const struct resample_loops *resample_avx2(void)
{
    return NULL;
}

#endif
