/*
 * device.cuh - what the kernels share: the launch macro, shared memory, 16-bit types, reductions.
 *
 * Every .cu file is compiled twice: by nvcc, and as C++ for the CPU behind tests/cuda/shim.h, which
 * defines KERNEL_LAUNCH and friends before this file. So the rules are:
 * - launches go through KERNEL_LAUNCH, from one thread index and one block index (x only);
 * - a kernel that cooperates (barrier, shuffle) is launched with shared memory, a multiple of 32
 *   threads; one that is launched with 0 bytes of it may do neither;
 * - no thread returns before a barrier: guard the work, not the thread; shuffles name the whole
 * warp.
 */
#ifndef KERNELS_DEVICE_CUH
#define KERNELS_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

#ifndef KERNEL_LAUNCH
/* Queue KERNEL(...) on STREAM; its value is the launcher's result. */
/* clang-format takes the launch for comparisons and pulls it apart. */
/* clang-format off */
#define KERNEL_LAUNCH(kernel, blocks, threads, shared_bytes, stream, ...)                          \
    ((kernel)<<<(unsigned)(blocks), (unsigned)(threads), (shared_bytes),                           \
                (cudaStream_t)(stream)>>>(__VA_ARGS__),                                            \
     (int)cudaGetLastError())
/* clang-format on */
/* NAME points to the shared memory of the launch. */
#define KERNEL_SHARED(type, name)                                                                  \
    extern __shared__ __align__(16) unsigned char kernel_shared[];                                 \
    type *name = reinterpret_cast<type *>(kernel_shared)
#define KERNEL_THREADS(threads) __launch_bounds__(threads)
#define KERNEL_UNROLL _Pragma("unroll")
#endif

enum {
    THREADS = 256, /* of every block */
    WARPS = THREADS / 32,
    PACK = 8,   /* elements a thread of an element-wise kernel takes at once */
    INVALID = 1 /* cudaErrorInvalidValue */
};

/* ---- types ---- */

static __device__ inline float to_float(float x)
{
    return x;
}
static __device__ inline float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}
static __device__ inline float to_float(__half x)
{
    return __half2float(x);
}
static __device__ inline void from_float(float x, float *out)
{
    *out = x;
}
static __device__ inline void from_float(float x, __nv_bfloat16 *out)
{
    *out = __float2bfloat16_rn(x);
}
static __device__ inline void from_float(float x, __half *out)
{
    *out = __float2half_rn(x);
}

/* PACK elements: one 16-byte access in a 16-bit type, two in f32. */
template <class T> struct alignas(16) pack {
    T at[PACK];
};

template <class T> static __device__ inline void load_pack(const T *from, float out[PACK])
{
    const pack<T> p = *reinterpret_cast<const pack<T> *>(from);
    KERNEL_UNROLL
    for (int i = 0; i < PACK; i++)
        out[i] = to_float(p.at[i]);
}

template <class T> static __device__ inline void store_pack(const float in[PACK], T *to)
{
    pack<T> p;
    KERNEL_UNROLL
    for (int i = 0; i < PACK; i++)
        from_float(in[i], &p.at[i]);
    *reinterpret_cast<pack<T> *>(to) = p;
}

/* LAUNCHER<T>(...) for the C type of TYPE. */
#define KERNEL_OF_TYPE(type, launcher, ...)                                                        \
    ((type) == KERNEL_F32    ? launcher<float>(__VA_ARGS__)                                        \
     : (type) == KERNEL_BF16 ? launcher<__nv_bfloat16>(__VA_ARGS__)                                \
     : (type) == KERNEL_F16  ? launcher<__half>(__VA_ARGS__)                                       \
                             : INVALID)

/* ---- indices ---- */

/* Of this thread among all threads of the launch. */
static __device__ inline size_t thread_index(void)
{
    return (size_t)blockIdx.x * THREADS + threadIdx.x;
}

/* Blocks for COUNT threads; 0, which no launcher accepts, when the grid would be too large. */
static inline size_t blocks_for(size_t count)
{
    size_t blocks = (count + THREADS - 1) / THREADS;
    return blocks <= 0x7FFFFFFF ? blocks : 0;
}

/* Run KERNEL with one thread for each of COUNT. */
#define KERNEL_EACH(kernel, count, stream, ...)                                                    \
    (blocks_for(count) ? KERNEL_LAUNCH(kernel, blocks_for(count), THREADS, 0, stream, __VA_ARGS__) \
                       : INVALID)

/* ---- reductions over a block: every thread gets the result. SLOTS: WARPS values of shared memory,
 * free for the next reduction at once. The order is fixed: a butterfly in each warp, then the warps
 * from the first on. ---- */

#define WARP_ALL 0xFFFFFFFFu

template <class T> static __device__ inline T add(T a, T b)
{
    return a + b;
}
static __device__ inline float larger(float a, float b)
{
    return a > b ? a : b;
}

template <class T, T combine(T, T)> static __device__ inline T block_reduce(T value, T *slots)
{
    KERNEL_UNROLL
    for (int step = 16; step; step >>= 1)
        value = combine(value, __shfl_xor_sync(WARP_ALL, value, step));
    __syncthreads(); /* the reduction before this one has been read */
    if (threadIdx.x % 32 == 0)
        slots[threadIdx.x / 32] = value;
    __syncthreads();
    value = slots[0];
    KERNEL_UNROLL
    for (int warp = 1; warp < WARPS; warp++)
        value = combine(value, slots[warp]);
    return value;
}

#endif
