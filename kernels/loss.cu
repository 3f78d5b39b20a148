/*
 * loss.cu - softmax cross-entropy with label smoothing, the label's rank (top-1, top-5), gradient.
 *
 * Numbers: with top = the largest logit, sum = the sum of exp(x - top) and log = top + log(sum), a
 * row's loss is (1 - s) * (log - x[label]) + s * (log - mean(x)), and its gradient (exp(x - log) -
 * wanted)
 * * scale / rows. f32 with the accurate expf and logf. A thread sums every 256th class from the
 * first on, then a warp's butterfly, then the warps in order; rows are summed in f64, every 256th
 * by one thread, then the threads in order. The rank is the number of classes before the label:
 * larger, or the same with a lower index; a NaN at the label is last of all. A label out of range
 * is never used as an index.
 *
 * Roofline: 256 x 1000 logits are 1 MB: 0.5 us of memory, 3 flops and an exponential each: what
 * counts is the depth of one row. A block of 256 threads takes a row, so that 1000 classes are 4
 * loads a thread; it goes over the row twice (the second time in the cache) rather than keep it in
 * registers, whose number would bound the classes. 128 bytes of shared memory. Gradients are one
 * thread an element: the row's log is kept from the forward pass, so that no sum is made twice.
 */
#include "kernels/device.cuh"

/* Working memory of a block in both kernels: block_reduce's slots, of 4 and 8 bytes, one after the
 * other. */
enum { SLOT_BYTES = 4 * WARPS * (int)sizeof(float), SUM_BYTES = THREADS * 2 * (int)sizeof(double) };
enum { BAD_LABEL = -1 }; /* as a rank */

template <class T, T combine(T, T)> static __device__ inline T reduce_in(T value, float *slots)
{
    return block_reduce<T, combine>(value, reinterpret_cast<T *>(slots));
}

static __global__ void KERNEL_THREADS(THREADS)
    loss_rows(int classes, float smoothing, const float *logits, const int32_t *labels,
              const int32_t *rows, float *row_logs, float *row_losses, int32_t *row_ranks)
{
    KERNEL_SHARED(float, slots);
    const int n = (int)blockIdx.x;
    const float *row = logits + (size_t)n * (size_t)classes;
    const bool counts = n < *rows;
    const int label = counts ? labels[n] : 0;
    const bool good = label >= 0 && label < classes;
    const float wanted = good ? row[label] : 0.0f;
    float top = row[0], values = 0, sum = 0;
    int before = 0;

    for (int k = (int)threadIdx.x; k < classes; k += THREADS) {
        const float x = row[k];
        top = larger(x, top);
        values += x;
        before += x > wanted || (x == wanted && k < label);
    }
    top = reduce_in<float, larger>(top, slots);
    values = reduce_in<float, add<float>>(values, slots + WARPS);
    before = reduce_in<int, add<int>>(before, slots + 2 * WARPS);
    for (int k = (int)threadIdx.x; k < classes; k += THREADS)
        sum += expf(row[k] - top);
    sum = reduce_in<float, add<float>>(sum, slots + 3 * WARPS);
    if (threadIdx.x)
        return;
    const float log = top + logf(sum);
    row_logs[n] = log;
    row_losses[n] = counts && good ? (1 - smoothing) * (log - wanted) +
                                         smoothing * (log - values / (float)classes)
                                   : 0.0f;
    row_ranks[n] = !good ? (int)BAD_LABEL : wanted != wanted ? classes : before;
}

/* One block: what the rows found. */
static __global__ void KERNEL_THREADS(THREADS)
    loss_sum(int n, const int32_t *rows, const float *row_losses, const int32_t *row_ranks,
             struct kernel_loss *result)
{
    struct found {
        double loss;
        int32_t top1, top5;
    };
    KERNEL_SHARED(struct found, of_threads);
    const int used = *rows >= 1 && *rows <= n ? *rows : 0;
    struct found mine = {0, 0, 0};
    struct kernel_loss all = {0, 0, 0, 0};

    for (int i = (int)threadIdx.x; i < used; i += THREADS) {
        mine.loss += (double)row_losses[i];
        mine.top1 += row_ranks[i] < 1;
        mine.top5 += row_ranks[i] < 5;
    }
    of_threads[threadIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x)
        return;
    for (int i = 0; i < THREADS; i++) {
        all.loss += of_threads[i].loss;
        all.top1 += of_threads[i].top1;
        all.top5 += of_threads[i].top5;
    }
    for (int i = 0; i < used && !all.error; i++)
        all.error = row_ranks[i] == BAD_LABEL ? i + 1 : 0;
    if (!used)
        all.error = -1;
    all.loss = all.error ? (double)NAN : all.loss / used;
    *result = all;
}

extern "C" int kernel_loss_forward(void *stream, int n, int classes, float label_smoothing,
                                   const float *logits, const int32_t *labels, const int32_t *rows,
                                   float *row_logs, float *row_losses, int32_t *row_ranks,
                                   struct kernel_loss *result)
{
    if (n < 1 || classes < 1 || classes > 0x7FFFFFFF - 1024 || !(label_smoothing >= 0) ||
        label_smoothing >= 1)
        return INVALID;
    int rc = KERNEL_LAUNCH(loss_rows, n, THREADS, SLOT_BYTES, stream, classes, label_smoothing,
                           logits, labels, rows, row_logs, row_losses, row_ranks);
    return rc ? rc
              : KERNEL_LAUNCH(loss_sum, 1, THREADS, SUM_BYTES, stream, n, rows, row_losses,
                              row_ranks, result);
}

template <class T>
static __global__ void KERNEL_THREADS(THREADS)
    loss_gradient(size_t elements, int n, int classes, float smoothing, const float *logits,
                  const int32_t *labels, const int32_t *rows, const float *row_logs,
                  const float *scale, T *gradients)
{
    const size_t i = thread_index();
    if (i >= elements)
        return;
    const int row = (int)(i / (size_t)classes), k = (int)(i % (size_t)classes);
    const int used = *rows <= n ? *rows : n;
    const int label = row < used ? labels[row] : -1;
    float gradient = 0;
    if (label >= 0 && label < classes) {
        float wanted = smoothing / (float)classes;
        if (k == label)
            wanted += 1 - smoothing;
        gradient = (expf(logits[i] - row_logs[row]) - wanted) / (float)used;
        if (scale)
            gradient *= *scale;
    }
    from_float(gradient, gradients + i);
}

template <class T>
static int launch_gradient(void *stream, int n, int classes, float smoothing, const float *logits,
                           const int32_t *labels, const int32_t *rows, const float *row_logs,
                           const float *scale, void *gradients)
{
    const size_t elements = (size_t)n * (size_t)classes;
    return KERNEL_EACH(loss_gradient<T>, elements, stream, elements, n, classes, smoothing, logits,
                       labels, rows, row_logs, scale, static_cast<T *>(gradients));
}

extern "C" int kernel_loss_backward(void *stream, enum kernel_type type, int n, int classes,
                                    float label_smoothing, const float *logits,
                                    const int32_t *labels, const int32_t *rows,
                                    const float *row_logs, const float *scale, void *gradients)
{
    if (n < 1 || classes < 1 || classes > 0x7FFFFFFF - 1024 || !(label_smoothing >= 0) ||
        label_smoothing >= 1)
        return INVALID;
    return KERNEL_OF_TYPE(type, launch_gradient, stream, n, classes, label_smoothing, logits,
                          labels, rows, row_logs, scale, gradients);
}
