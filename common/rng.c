#include "common/rng.h"

#include <math.h>

void rng_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4])
{
    uint32_t k0 = key[0], k1 = key[1];
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53 * c0;
        uint64_t b = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_init(struct rng *r, uint64_t seed, enum rng_stream stream, uint32_t epoch, uint64_t index)
{
    r->key[0] = (uint32_t)seed;
    r->key[1] = (uint32_t)(seed >> 32);
    r->counter[0] = 0;
    r->counter[1] = (epoch & 0xFFFFFF) | (uint32_t)stream << 24;
    r->counter[2] = (uint32_t)index;
    r->counter[3] = (uint32_t)(index >> 32);
    r->used = 4;
}

uint32_t rng_u32(struct rng *r)
{
    if (r->used == 4) {
        rng_philox(r->key, r->counter, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t low = rng_u32(r);
    return low | (uint64_t)rng_u32(r) << 32;
}

uint64_t rng_below(struct rng *r, uint64_t limit)
{
    /* The top part of number * limit, after Lemire: numbers whose low part falls in the uneven rest
     * are drawn again. */
    if (limit <= UINT32_MAX) {
        uint32_t small = (uint32_t)limit, rest = (uint32_t)-small % small;
        uint64_t product;
        do {
            product = (uint64_t)rng_u32(r) * small;
        } while ((uint32_t)product < rest);
        return product >> 32;
    }
    uint64_t rest = -limit % limit, number;
    do {
        number = rng_u64(r);
    } while (number < rest);
    return number % limit;
}

double rng_double(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r)
{
    double radius = sqrt(-2.0 * log(1.0 - rng_double(r)));
    return radius * cos(6.283185307179586 * rng_double(r));
}

void rng_permutation(struct rng *r, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t left = count; left > 1; left--) {
        uint32_t pick = (uint32_t)rng_below(r, left);
        uint32_t last = order[left - 1];
        order[left - 1] = order[pick];
        order[pick] = last;
    }
}
