/*
 * rng.h - random numbers from a counter: Philox4x32-10 (Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). Each value is a function of (seed, stream, epoch, index, position)
 * and never of the order of execution, so any number of threads, machines and resumes see the same
 * numbers. data-spec/30-order.md.
 */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdint.h>

/* What a number is for; part of the counter, so streams never meet. Values are fixed for ever
 * (data-spec). */
enum rng_stream {
    RNG_PACK_ORDER = 1, /* order of records in a data set */
    RNG_SAMPLE = 2,     /* drawn pictures of prep sample */
    RNG_EPOCH_ORDER = 3,
    RNG_CROP = 4,
    RNG_FLIP = 5,
    RNG_WEIGHTS = 6,
    RNG_TEST = 7
};

/* One block: four numbers for key and counter. */
void rng_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]);

/* A sequence of numbers for one (seed, stream, epoch, index). A plain value: copy it to remember a
 * position. */
struct rng {
    uint32_t key[2];     /* seed */
    uint32_t counter[4]; /* block number; epoch | stream << 24; index low; index high */
    uint32_t block[4];
    unsigned used; /* of block; 4 = make the next */
};

/* EPOCH < 2^24. */
void rng_init(struct rng *r, uint64_t seed, enum rng_stream stream, uint32_t epoch, uint64_t index);

uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, LIMIT), exactly (numbers that would bias it are drawn again); LIMIT > 0. */
uint64_t rng_below(struct rng *r, uint64_t limit);
/* Uniform in [0, 1) with 53 bits. */
double rng_double(struct rng *r);
/* Standard normal (Box-Muller on two rng_double; one value a call). */
double rng_normal(struct rng *r);

/* Fill ORDER[COUNT] with a uniform permutation of 0..COUNT-1 (Fisher-Yates from the end). */
void rng_permutation(struct rng *r, uint32_t *order, uint32_t count);

#endif
