/*
 * The resize's inner loops for AVX-512 with VNNI: those of resample_avx2.c, whose head explains the
 * arithmetic, on vectors twice as wide, and with vpdpwssd, which multiplies pairs and adds to the
 * sums at once.
 */
#include "common/resample_rows.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define AVX512_INLINE                                                                              \
    __attribute__((target("avx512f,avx512bw,avx512vnni"), always_inline)) static inline

/* Sums of high parts; sums of low parts, which start with the half that rounds. */
struct sums {
    __m512i high, low;
};

AVX512_INLINE struct sums no_sums(void)
{
    return (struct sums){_mm512_setzero_si512(), _mm512_set1_epi32(1 << (WEIGHT_BITS - 1))};
}

/* Add pairs of 16 bits, weighted by the pair at WEIGHTS: high parts there, low ones two behind. */
AVX512_INLINE struct sums add_pairs(struct sums s, __m512i bytes, const uint32_t *weights)
{
    s.high = _mm512_dpwssd_epi32(s.high, bytes, _mm512_set1_epi32((int)weights[0]));
    s.low = _mm512_dpwssd_epi32(s.low, bytes, _mm512_set1_epi32((int)weights[2]));
    return s;
}

AVX512_INLINE __m512i finish(struct sums s)
{
    __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(s.high, SPLIT_BITS), s.low);
    return _mm512_srli_epi32(sum, WEIGHT_BITS);
}

/* ---- across: one pixel of four rows, R G B - of each ---- */

/* 16 bytes of each row. */
AVX512_INLINE __m512i load_rows(const uint8_t *const in[ACROSS_ROWS], size_t at)
{
    __m512i rows = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(in[0] + at)));
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[1] + at)), 1);
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[2] + at)), 2);
    return _mm512_inserti32x4(rows, _mm_loadu_si128((const __m128i *)(in[3] + at)), 3);
}

AVX512_INLINE __m512i weigh(const struct resample_axis *axis, int x, int taps,
                            const uint8_t *const in[ACROSS_ROWS])
{
    /* From 4 pixels of 3 bytes: taps 0 and 1, taps 2 and 3 of each colour as pairs of 16 bits. */
    const __m512i pick01 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m512i pick23 = _mm512_broadcast_i32x4(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const uint32_t *pairs = axis->pairs + (size_t)x * (size_t)taps;
    size_t at = 3 * (size_t)axis->starts[x];
    struct sums s = no_sums();

    for (int t = 0; t < taps; t += TAPS_STEP, pairs += TAPS_STEP, at += 3 * TAPS_STEP) {
        __m512i bytes = load_rows(in, at);
        s = add_pairs(s, _mm512_shuffle_epi8(bytes, pick01), pairs);
        s = add_pairs(s, _mm512_shuffle_epi8(bytes, pick23), pairs + 1);
    }
    return finish(s);
}

AVX512_INLINE void across_taps(const struct resample_axis *axis, int taps,
                               const uint8_t *const in[ACROSS_ROWS],
                               uint8_t *const out[ACROSS_ROWS])
{
    const __m512i close = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    for (int x = 0; x < axis->count; x += 4) {
        __m512i words0 = _mm512_packs_epi32(weigh(axis, x, taps, in), weigh(axis, x + 1, taps, in));
        __m512i words1 =
            _mm512_packs_epi32(weigh(axis, x + 2, taps, in), weigh(axis, x + 3, taps, in));
        /* Four pixels of each row: 12 bytes, and 4 of rubbish. */
        __m512i bytes = _mm512_shuffle_epi8(_mm512_packus_epi16(words0, words1), close);
        size_t at = 3 * (size_t)x;
        _mm_storeu_si128((__m128i *)(out[0] + at), _mm512_castsi512_si128(bytes));
        _mm_storeu_si128((__m128i *)(out[1] + at), _mm512_extracti32x4_epi32(bytes, 1));
        _mm_storeu_si128((__m128i *)(out[2] + at), _mm512_extracti32x4_epi32(bytes, 2));
        _mm_storeu_si128((__m128i *)(out[3] + at), _mm512_extracti32x4_epi32(bytes, 3));
    }
}

AVX512 static void across(const struct resample_axis *axis, const uint8_t *const in[ACROSS_ROWS],
                          uint8_t *const out[ACROSS_ROWS])
{
    /* Most pictures shrink to no less than half: four taps, for which the compiler drops the loop
     * over them. */
    if (axis->taps == TAPS_STEP)
        across_taps(axis, TAPS_STEP, in, out);
    else
        across_taps(axis, axis->taps, in, out);
}

/* ---- down: 64 bytes of one output row ---- */

AVX512_INLINE void weigh_rows(const uint32_t *pairs, int taps, const uint8_t *const *rows,
                              size_t at, uint8_t *out)
{
    const __m512i zero = _mm512_setzero_si512();
    struct sums s0 = no_sums(), s1 = s0, s2 = s0, s3 = s0;

    for (int t = 0; t < taps; t += 2) {
        const uint32_t *weights = pairs + (t & ~3) + (t >> 1 & 1);
        __m512i a = _mm512_loadu_si512(rows[t] + at), b = _mm512_loadu_si512(rows[t + 1] + at);
        __m512i ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
        s0 = add_pairs(s0, _mm512_unpacklo_epi8(ab0, zero), weights);
        s1 = add_pairs(s1, _mm512_unpackhi_epi8(ab0, zero), weights);
        s2 = add_pairs(s2, _mm512_unpacklo_epi8(ab1, zero), weights);
        s3 = add_pairs(s3, _mm512_unpackhi_epi8(ab1, zero), weights);
    }
    __m512i words0 = _mm512_packs_epi32(finish(s0), finish(s1));
    __m512i words1 = _mm512_packs_epi32(finish(s2), finish(s3));
    _mm512_storeu_si512(out + at, _mm512_packus_epi16(words0, words1));
}

AVX512 static void down(const struct resample_axis *axis, int y, const uint8_t *const *rows,
                        size_t size, uint8_t *out)
{
    const uint32_t *pairs = axis->pairs + (size_t)y * (size_t)axis->taps;
    int taps = (axis->counts[y] + 1) & ~1;
    if (size < 64) {
        resample_portable.down(axis, y, rows, size, out);
        return;
    }
    for (size_t at = 0; at + 64 < size; at += 64)
        weigh_rows(pairs, taps, rows, at, out);
    weigh_rows(pairs, taps, rows, size - 64, out);
}

static const struct resample_loops loops = {across, down};

const struct resample_loops *resample_avx512(void)
{
    bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vnni");
    return has ? &loops : NULL;
}

#else

const struct resample_loops *resample_avx512(void)
{
    return NULL;
}

#endif
