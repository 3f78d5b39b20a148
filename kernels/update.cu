/*
 * update.cu - passes over the flat blocks of f32 values: SGD, finite check, accumulation,
 * conversion.
 *
 * Numbers: all in f32, in the order that kernels.h writes the formulas in; the 16-bit copy is
 * rounded from the new value. Momenta and values of a skipped step (a gradient was not finite) stay
 * as they are, bit for bit. No sums, no order to keep.
 *
 * Roofline: SGD reads 12 and writes 8 bytes a parameter (10 with a 16-bit copy) for 6 flops: memory
 * alone counts. ResNet-50 (25.6 million): 563 MB, 0.28 ms at 2 TB/s, 0.17 ms at 3.35 TB/s. One
 * block of 256 threads takes one segment of at most 4096 floats, so that which decay applies is one
 * 16-byte load a block and no search; a thread makes up to four rounds of four floats (16-byte
 * accesses), few registers, 8 blocks a multiprocessor. The step's numbers are read from device
 * memory (24 bytes, cached): a captured graph needs no new arguments when the learning rate
 * changes. The finite check reads 4 bytes a parameter, accumulation moves 12, conversion 6.
 */
#include "kernels/device.cuh"

/* Four neighbours at once. */
enum { QUAD = 4 };
struct alignas(16) quad {
    float at[QUAD];
};
template <class T> struct alignas(QUAD * sizeof(T)) quad_of {
    T at[QUAD];
};

struct update_rates {
    float scale, decay, lr, momentum;
    bool nesterov, first;
};

static __device__ inline void update_one(const struct update_rates &r, float gradient, float *value,
                                         float *momentum)
{
    float g = gradient * r.scale + r.decay * *value;
    float m = r.first ? g : r.momentum * *momentum + g;
    *momentum = m;
    *value -= r.lr * (r.nesterov ? g + r.momentum * m : m);
}

template <class T, bool HAS_COPY>
static __global__ void KERNEL_THREADS(THREADS)
    update_segments(const struct kernel_segment *segments, const struct kernel_sgd *sgd,
                    const struct kernel_scaler *scaler, const float *gradients, float *values,
                    float *momenta, T *copy)
{
    const struct kernel_segment segment = segments[blockIdx.x];
    struct update_rates r;
    if (scaler && scaler->nonfinite)
        return;
    r.scale = scaler ? sgd->gradient_scale / scaler->scale : sgd->gradient_scale;
    r.decay = sgd->weight_decay * segment.decay;
    r.lr = sgd->lr;
    r.momentum = sgd->momentum;
    r.nesterov = sgd->nesterov != 0;
    r.first = sgd->first_step != 0;
    for (uint32_t i = threadIdx.x * QUAD; i < segment.floats; i += THREADS * QUAD) {
        const size_t at = segment.begin + i;
        const struct quad g = *reinterpret_cast<const struct quad *>(gradients + at);
        struct quad v = *reinterpret_cast<const struct quad *>(values + at);
        struct quad m = {};
        if (!r.first)
            m = *reinterpret_cast<const struct quad *>(momenta + at);
        KERNEL_UNROLL
        for (int k = 0; k < QUAD; k++)
            update_one(r, g.at[k], &v.at[k], &m.at[k]);
        *reinterpret_cast<struct quad *>(values + at) = v;
        *reinterpret_cast<struct quad *>(momenta + at) = m;
        if (HAS_COPY) {
            quad_of<T> c;
            KERNEL_UNROLL
            for (int k = 0; k < QUAD; k++)
                from_float(v.at[k], &c.at[k]);
            *reinterpret_cast<quad_of<T> *>(copy + at) = c;
        }
    }
}

extern "C" int kernel_update(void *stream, enum kernel_type type,
                             const struct kernel_segment *segments, size_t count,
                             const struct kernel_sgd *sgd, const struct kernel_scaler *scaler,
                             const float *gradients, float *values, float *momenta, void *copy)
{
    if (!count || count > 0x7FFFFFFF)
        return INVALID;
    if (type == KERNEL_F32 && !copy)
        return KERNEL_LAUNCH((update_segments<float, false>), count, THREADS, 0, stream, segments,
                             sgd, scaler, gradients, values, momenta,
                             static_cast<float *>(nullptr));
    if (type == KERNEL_BF16 && copy)
        return KERNEL_LAUNCH((update_segments<__nv_bfloat16, true>), count, THREADS, 0, stream,
                             segments, sgd, scaler, gradients, values, momenta,
                             static_cast<__nv_bfloat16 *>(copy));
    if (type == KERNEL_F16 && copy)
        return KERNEL_LAUNCH((update_segments<__half, true>), count, THREADS, 0, stream, segments,
                             sgd, scaler, gradients, values, momenta, static_cast<__half *>(copy));
    return INVALID;
}

/* ---- finite check ---- */

static __global__ void KERNEL_THREADS(THREADS)
    find_nonfinite(size_t floats, const float *values, int32_t *flag)
{
    const size_t first = thread_index() * PACK;
    float x[PACK] = {};
    bool found = false;
    if (first + PACK <= floats) {
        load_pack(values + first, x);
    } else {
        KERNEL_UNROLL
        for (int k = 0; k < PACK; k++)
            x[k] = first + k < floats ? values[first + k] : 0.0f;
    }
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        found |= !(fabsf(x[k]) <= 3.402823466e+38f);
    /* Whoever writes, writes the same. */
    if (found)
        *flag = 1;
}

extern "C" int kernel_finite(void *stream, size_t floats, const float *values, int32_t *flag)
{
    return KERNEL_EACH(find_nonfinite, (floats + PACK - 1) / PACK, stream, floats, values, flag);
}

static __global__ void scaler_step(struct kernel_scaler *scaler, int grow_after)
{
    struct kernel_scaler s = *scaler;
    if (threadIdx.x)
        return;
    if (s.nonfinite) {
        s.scale = s.scale > 2.0f ? s.scale / 2 : 1.0f;
        s.nonfinite = s.good_steps = 0;
        s.skipped++;
    } else if (++s.good_steps >= grow_after) {
        s.scale = s.scale < 8388608.0f ? s.scale * 2 : 16777216.0f;
        s.good_steps = 0;
    }
    *scaler = s;
}

extern "C" int kernel_scaler_step(void *stream, struct kernel_scaler *scaler, int grow_after)
{
    return grow_after < 1 ? INVALID
                          : KERNEL_LAUNCH(scaler_step, 1, 1, 0, stream, scaler, grow_after);
}

/* ---- accumulation, conversion: a thread takes one element, a warp neighbours ---- */

template <bool FIRST>
static __global__ void KERNEL_THREADS(THREADS)
    accumulate(size_t floats, const float *gradients, float *sum)
{
    size_t i = thread_index();
    if (i < floats)
        sum[i] = FIRST ? gradients[i] : sum[i] + gradients[i];
}

extern "C" int kernel_accumulate(void *stream, size_t floats, int first, const float *gradients,
                                 float *sum)
{
    return first ? KERNEL_EACH(accumulate<true>, floats, stream, floats, gradients, sum)
                 : KERNEL_EACH(accumulate<false>, floats, stream, floats, gradients, sum);
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    convert(size_t count, const float *in, float value, T *out)
{
    size_t i = thread_index();
    if (i < count)
        from_float(in ? in[i] : value, out + i);
}

template <class T>
static int launch_convert(void *stream, size_t count, const float *in, float value, void *out)
{
    return KERNEL_EACH(convert<T>, count, stream, count, in, value, static_cast<T *>(out));
}

extern "C" int kernel_fill(void *stream, enum kernel_type type, size_t count, float value,
                           void *out)
{
    return KERNEL_OF_TYPE(type, launch_convert, stream, count, nullptr, value, out);
}

extern "C" int kernel_convert(void *stream, enum kernel_type type, size_t count, const float *in,
                              void *out)
{
    return in ? KERNEL_OF_TYPE(type, launch_convert, stream, count, in, 0.0f, out) : INVALID;
}
