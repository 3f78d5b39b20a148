/*
 * pool.cu - the global mean pool and its gradient, and the sum of two gradients. NHWC.
 *
 * Numbers: a mean is summed in f32 from the first pixel to the last, then divided by their number;
 * the sum of two gradients is made in f32 and rounded once.
 *
 * Roofline: one flop an element: memory alone counts. Forward, ResNet-50, batch 256, 16 bits: 51 MB
 * in, 1 MB out, 26 us at 2 TB/s; a thread takes 8 neighbouring channels (16 bytes) of one picture
 * and walks its 49 pixels: a warp reads 512 bytes in a row, and 65,536 threads are enough. The sum
 * needs no other thread, so there is nothing to share. Backward is the same 51 MB the other way,
 * one thread for every 8 elements written (the 1 MB it reads comes from the cache). The sum of two
 * moves 6 bytes an element.
 */
#include "kernels/device.cuh"

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    mean_pool(size_t packs, int area, int c, const T *in, T *out)
{
    size_t i = thread_index();
    if (i >= packs)
        return;
    const size_t row = (size_t)c / PACK, picture = i / row, channel = i % row * PACK;
    const T *from = in + picture * (size_t)area * (size_t)c + channel;
    float sum[PACK] = {};
    for (int pixel = 0; pixel < area; pixel++, from += c) {
        float x[PACK];
        load_pack(from, x);
        KERNEL_UNROLL
        for (int k = 0; k < PACK; k++)
            sum[k] += x[k];
    }
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        sum[k] /= (float)area;
    store_pack(sum, out + i * PACK);
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    mean_pool_backward(size_t packs, int area, int c, const T *out_gradient, T *in_gradient)
{
    size_t i = thread_index();
    if (i >= packs)
        return;
    const size_t row = (size_t)c / PACK, picture = i / (row * (size_t)area);
    float x[PACK];
    load_pack(out_gradient + picture * (size_t)c + i % row * PACK, x);
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        x[k] /= (float)area;
    store_pack(x, in_gradient + i * PACK);
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS) sum_two(size_t packs, const T *a, const T *b, T *out)
{
    size_t i = thread_index();
    float x[PACK], y[PACK];
    if (i >= packs)
        return;
    load_pack(a + i * PACK, x);
    load_pack(b + i * PACK, y);
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        x[k] += y[k];
    store_pack(x, out + i * PACK);
}

template <class T>
static int launch_pool(void *stream, size_t packs, int area, int c, const void *in, void *out)
{
    return KERNEL_EACH(mean_pool<T>, packs, stream, packs, area, c, static_cast<const T *>(in),
                       static_cast<T *>(out));
}

template <class T>
static int launch_pool_backward(void *stream, size_t packs, int area, int c, const void *in,
                                void *out)
{
    return KERNEL_EACH(mean_pool_backward<T>, packs, stream, packs, area, c,
                       static_cast<const T *>(in), static_cast<T *>(out));
}

template <class T>
static int launch_sum(void *stream, size_t packs, const void *a, const void *b, void *out)
{
    return KERNEL_EACH(sum_two<T>, packs, stream, packs, static_cast<const T *>(a),
                       static_cast<const T *>(b), static_cast<T *>(out));
}

extern "C" int kernel_mean_pool(void *stream, enum kernel_type type, int n, int area, int c,
                                const void *in, void *out)
{
    if (n < 1 || area < 1 || c < 1 || c % PACK)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_pool, stream, (size_t)n * (size_t)(c / PACK), area, c, in,
                          out);
}

extern "C" int kernel_mean_pool_backward(void *stream, enum kernel_type type, int n, int area,
                                         int c, const void *out_gradient, void *in_gradient)
{
    if (n < 1 || area < 1 || c < 1 || c % PACK)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_pool_backward, stream,
                          (size_t)n * (size_t)area * (size_t)(c / PACK), area, c, out_gradient,
                          in_gradient);
}

extern "C" int kernel_sum(void *stream, enum kernel_type type, size_t count, const void *a,
                          const void *b, void *out)
{
    return count % PACK ? INVALID
                        : KERNEL_OF_TYPE(type, launch_sum, stream, count / PACK, a, b, out);
}
