/*
 * resample_rows.h - the two inner loops of the resize and the table of weights they share; private
 * to resample.c and its test. Three sets of loops exist, plain C, AVX2 and AVX-512, and give the
 * same bytes.
 */
#ifndef COMMON_RESAMPLE_ROWS_H
#define COMMON_RESAMPLE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WEIGHT_BITS = 22, /* a weight of 1.0 is 2^22 */
    SPLIT_BITS = 11,  /* weight = high * 2^11 + low: two numbers that fit in 16 bits */
    TAPS_STEP = 4,    /* taps are padded to a multiple of this, with weights of 0 */
    ACROSS_ROWS = 4,  /* rows and outputs that across makes at once */
    ROW_SLACK = 64    /* bytes behind a row that across writes to */
};

/* How COUNT outputs of one axis are made: output i is the sum over t < counts[i] of weights[i *
 * taps + t] times input starts[i] + t. */
struct resample_axis {
    int in, full, first, count; /* outputs FIRST to FIRST + COUNT - 1 of FULL, from IN inputs */
    bool mirrored;              /* the outputs stand in reverse order */
    int taps;                   /* a multiple of TAPS_STEP */
    size_t reach;         /* no output looks at bytes from here on, padding included (across) */
    int *starts, *counts; /* COUNT, and up to 3 copies of the last one behind it */
    int32_t *weights;
    uint32_t *pairs; /* per output and 4 taps: high 0|1, high 2|3, low 0|1, low 2|3, the first one
                        in the low half */
    size_t outputs, entries; /* allocated: of starts and counts; of weights and pairs */
};

struct resample_loops {
    /* ACROSS_ROWS rows of pixels along AXIS. Looks at reach bytes of each input row; writes count
     * pixels, then rubbish into the slack. */
    void (*across)(const struct resample_axis *axis, const uint8_t *const in[ACROSS_ROWS],
                   uint8_t *const out[ACROSS_ROWS]);
    /* Output Y of AXIS from rows of SIZE bytes; rows[] holds taps pointers. Writes SIZE bytes
     * exactly. */
    void (*down)(const struct resample_axis *axis, int y, const uint8_t *const *rows, size_t size,
                 uint8_t *out);
};

extern const struct resample_loops resample_portable;

/* NULL where the CPU or the compiler's target has no AVX2. */
const struct resample_loops *resample_avx2(void);
/* The same for AVX-512 with VNNI. */
const struct resample_loops *resample_avx512(void);

/* resampler_open with LOOPS. */
struct resampler;
int resampler_open_with(struct resampler **out, const struct resample_loops *loops);

#endif
