/*
 * norm.cu - batch normalisation with fixed statistics (evaluation) and the bias gradient of the
 * linear layer.
 *
 * Numbers: f32; scale * x, + bias, + residual, each rounded, then the ReLU, then the storage type.
 * The bias gradient of a class: eight sums of every eighth row, each from the first row on, added
 * up from the first to the eighth.
 *
 * Roofline: apply does 3 flops an element for 4 bytes in 16 bits (6 with a residual): memory alone
 * counts; a thread takes 8 channels of a pixel (16 bytes) and their 64 bytes of scale and bias,
 * which come from the cache. The bias gradient reads rows x classes once (0.5 MB at 256 x 1000 in
 * 16 bits): what counts is how long one thread walks, so a block takes 32 classes (a warp reads 64
 * or 128 bytes in a row) and each of its eight warps every eighth row: 32 loads deep at batch 256,
 * then 1 kB of shared memory and one barrier.
 */
#include "kernels/device.cuh"

static __global__ void KERNEL_THREADS(THREADS)
    norm_fold(int c, float epsilon, const float *gamma, const float *beta, const float *mean,
              const float *variance, float *scale, float *bias)
{
    size_t i = thread_index();
    if (i >= (size_t)c)
        return;
    float s = gamma[i] / sqrtf(variance[i] + epsilon);
    scale[i] = s;
    bias[i] = beta[i] - mean[i] * s;
}

extern "C" int kernel_norm_fold(void *stream, int c, float epsilon, const float *gamma,
                                const float *beta, const float *mean, const float *variance,
                                float *scale, float *bias)
{
    return c < 1 ? INVALID
                 : KERNEL_EACH(norm_fold, (size_t)c, stream, c, epsilon, gamma, beta, mean,
                               variance, scale, bias);
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    norm_apply(size_t packs, int c, const T *in, const float *scale, const float *bias,
               const T *residual, bool relu, T *out)
{
    size_t i = thread_index();
    float x[PACK], s[PACK], b[PACK];
    if (i >= packs)
        return;
    const size_t channel = i % ((size_t)c / PACK) * PACK;
    load_pack(in + i * PACK, x);
    load_pack(scale + channel, s);
    load_pack(bias + channel, b);
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        x[k] = s[k] * x[k] + b[k];
    if (residual) {
        load_pack(residual + i * PACK, b);
        KERNEL_UNROLL
        for (int k = 0; k < PACK; k++)
            x[k] += b[k];
    }
    KERNEL_UNROLL
    for (int k = 0; k < PACK; k++)
        x[k] = relu && x[k] < 0.0f ? 0.0f : x[k];
    store_pack(x, out + i * PACK);
}

template <class T>
static int launch_apply(void *stream, size_t packs, int c, const void *in, const float *scale,
                        const float *bias, const void *residual, int relu, void *out)
{
    return KERNEL_EACH(norm_apply<T>, packs, stream, packs, c, static_cast<const T *>(in), scale,
                       bias, static_cast<const T *>(residual), relu != 0, static_cast<T *>(out));
}

extern "C" int kernel_norm_apply(void *stream, enum kernel_type type, size_t pixels, int c,
                                 const void *in, const float *scale, const float *bias,
                                 const void *residual, int relu, void *out)
{
    if (c < 1 || c % PACK)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_apply, stream, pixels * (size_t)(c / PACK), c, in, scale,
                          bias, residual, relu, out);
}

/* ---- bias gradient ---- */

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    bias_gradient(int rows, int classes, const T *out_gradient, float *gradient)
{
    KERNEL_SHARED(float, sums); /* WARPS x 32 */
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const size_t k = (size_t)blockIdx.x * 32 + (size_t)lane;
    float sum = 0;
    for (int row = warp; k < (size_t)classes && row < rows; row += WARPS)
        sum += to_float(out_gradient[(size_t)row * (size_t)classes + k]);
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp || k >= (size_t)classes)
        return;
    for (int w = 1; w < WARPS; w++)
        sum += sums[w * 32 + lane];
    gradient[k] = sum;
}

template <class T>
static int launch_bias(void *stream, int rows, int classes, const void *out_gradient,
                       float *gradient)
{
    return KERNEL_LAUNCH(bias_gradient<T>, (classes - 1) / 32 + 1, THREADS, THREADS * sizeof(float),
                         stream, rows, classes, static_cast<const T *>(out_gradient), gradient);
}

extern "C" int kernel_bias_gradient(void *stream, enum kernel_type type, int rows, int classes,
                                    const void *out_gradient, float *gradient)
{
    if (rows < 1 || classes < 1)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_bias, stream, rows, classes, out_gradient, gradient);
}
