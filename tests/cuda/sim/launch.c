/*
 * launch.c - the launchers of kernels/kernels.h on the simulated device: each says what memory it
 * reads and writes, as kernels.h has it, then lets the real launcher (rename.h) make its launches,
 * which come back through shim_hook and are queued as work.
 */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "kernels/kernels.h"
#include "tests/cuda/sim/inside.h"

/* The real ones, compiled for the CPU. */
int sim_kernel_augment(void *stream, enum kernel_type type, int n, int size, const int32_t *rows,
                       const struct kernel_picture *pictures, const int32_t *tables,
                       const uint8_t *pixels, const float *table, void *out);
int sim_kernel_loss_forward(void *stream, int n, int classes, float label_smoothing,
                            const float *logits, const int32_t *labels, const int32_t *rows,
                            float *row_logs, float *row_losses, int32_t *row_ranks,
                            struct kernel_loss *result);
int sim_kernel_loss_backward(void *stream, enum kernel_type type, int n, int classes,
                             float label_smoothing, const float *logits, const int32_t *labels,
                             const int32_t *rows, const float *row_logs, const float *scale,
                             void *gradients);
int sim_kernel_update(void *stream, enum kernel_type type, const struct kernel_segment *segments,
                      size_t count, const struct kernel_sgd *sgd,
                      const struct kernel_scaler *scaler, const float *gradients, float *values,
                      float *momenta, void *copy);
int sim_kernel_finite(void *stream, size_t floats, const float *values, int32_t *flag);
int sim_kernel_scaler_step(void *stream, struct kernel_scaler *scaler, int grow_after);
int sim_kernel_accumulate(void *stream, size_t floats, int first, const float *gradients,
                          float *sum);
int sim_kernel_fill(void *stream, enum kernel_type type, size_t count, float value, void *out);
int sim_kernel_convert(void *stream, enum kernel_type type, size_t count, const float *in,
                       void *out);
int sim_kernel_mean_pool(void *stream, enum kernel_type type, int n, int area, int c,
                         const void *in, void *out);
int sim_kernel_mean_pool_backward(void *stream, enum kernel_type type, int n, int area, int c,
                                  const void *out_gradient, void *in_gradient);
int sim_kernel_sum(void *stream, enum kernel_type type, size_t count, const void *a, const void *b,
                   void *out);
int sim_kernel_norm_fold(void *stream, int c, float epsilon, const float *gamma, const float *beta,
                         const float *mean, const float *variance, float *scale, float *bias);
int sim_kernel_norm_apply(void *stream, enum kernel_type type, size_t pixels, int c, const void *in,
                          const float *scale, const float *bias, const void *residual, int relu,
                          void *out);
int sim_kernel_bias_gradient(void *stream, enum kernel_type type, int rows, int classes,
                             const void *out_gradient, float *gradient);

enum { LAUNCH_FAILURE = 719, OUT_OF_RESOURCES = 701 }; /* cudaError_t */

/* What the launcher under way said: each of its launches gets a copy. */
static struct sim_job now;
static bool in_place; /* an output may be exactly an input */

static size_t type_bytes(enum kernel_type type)
{
    return type == KERNEL_F32 ? 4 : 2;
}

static void reads(const void *at, size_t bytes, const char *what)
{
    sim_job_span(&now, at, bytes, false, what);
}

static void writes(const void *at, size_t bytes, const char *what)
{
    sim_job_span(&now, at, bytes, true, what);
}

static int begin(void *stream, const char *name)
{
    struct door_stream *s = sim_stream_of(stream);
    if (!s) {
        sim_fault("%s: %p is no open stream", name, stream);
        return LAUNCH_FAILURE;
    }
    now = (struct sim_job){.kind = SIM_JOB_KERNEL, .references = 1};
    snprintf(now.name, sizeof now.name, "%s", name);
    in_place = false;
    if (!sim_enter(s->door, SIM_KERNEL, name, 0))
        return 0;
    return s->door->lost || sim_faulted() ? LAUNCH_FAILURE : OUT_OF_RESOURCES;
}

static int check_spans(const struct door *door)
{
    for (int i = 0; i < now.span_count; i++) {
        const struct sim_span *a = &now.spans[i];
        int rc = sim_span_check(door, a, SIM_ANYWHERE, a->bytes > 4 ? 16 : 4, now.name);
        if (rc)
            return rc;
        for (int k = 0; k < i; k++) {
            const struct sim_span *b = &now.spans[k];
            bool apart = (const char *)a->at + a->bytes <= (const char *)b->at ||
                         (const char *)b->at + b->bytes <= (const char *)a->at;
            if (apart || (!a->write && !b->write) ||
                (in_place && a->at == b->at && a->bytes == b->bytes))
                continue;
            return sim_fault("%s: %s and %s share memory, and one of them is written", now.name,
                             a->what, b->what);
        }
    }
    return 0;
}

static int hook(void *stream, const struct shim_launch *launch)
{
    struct door_stream *s = sim_stream_of(stream);
    struct sim_job *job = check_spans(s->door) ? NULL : sim_job_new(SIM_JOB_KERNEL, now.name);
    if (!job) {
        launch->release(launch->closure);
        return LAUNCH_FAILURE;
    }
    *job = now;
    job->launch = *launch;
    job->has_launch = true;
    return sim_submit(s, job) ? LAUNCH_FAILURE : 0;
}

void sim_launch_begin(void)
{
    shim_hook = hook;
}

/* ---- augment.cu ---- */

/* An axis's tables, and how far its inputs reach. */
static int axis_reach(const struct sim_job *job, const struct kernel_axis *axis, int64_t size,
                      int64_t *reach)
{
    const int32_t *starts = (const int32_t *)job->arguments[2] + axis->at;
    const int32_t *counts = starts + size;
    *reach = 0;
    for (int64_t i = 0; i < size; i++) {
        int64_t end = (int64_t)starts[i] + counts[i];
        if (starts[i] < 0 || counts[i] < 0 || counts[i] > axis->taps)
            return sim_fault("%s: a table has start %d, count %d of %d taps", job->name, starts[i],
                             counts[i], axis->taps);
        *reach = counts[i] && end > *reach ? end : *reach;
    }
    return 0;
}

/* The pictures that *rows counts, their tables and the parts of their pixels that these reach. */
static int augment_more(const struct door *door, const struct sim_job *job, struct sim_span *out)
{
    const int32_t rows = *(const int32_t *)job->arguments[0];
    const struct kernel_picture *pictures = job->arguments[1];
    const int64_t size = job->numbers[1];
    int rc = 0;
    if (rows < 0 || rows > job->numbers[0])
        return sim_fault("%s: *rows is %d of %lld", job->name, rows, (long long)job->numbers[0]);
    if (rows == 0)
        return 0;
    out[0] = (struct sim_span){pictures, (size_t)rows * sizeof *pictures, false, "pictures"};
    if ((rc = sim_span_check(door, &out[0], SIM_ANYWHERE, 16, job->name)))
        return rc;
    uint64_t tables_begin = UINT64_MAX, tables_end = 0, begin = UINT64_MAX, end = 0;
    for (int32_t i = 0; i < rows; i++) {
        const struct kernel_axis *axes[2] = {&pictures[i].across, &pictures[i].down};
        int64_t reach[2];
        for (int k = 0; k < 2; k++) {
            uint64_t ints = (uint64_t)size * (2 + (uint64_t)axes[k]->taps);
            struct sim_span table = {(const int32_t *)job->arguments[2] + axes[k]->at, 4 * ints,
                                     false, "a table"};
            if ((rc = sim_span_check(door, &table, SIM_ANYWHERE, 4, job->name)) ||
                (rc = axis_reach(job, axes[k], size, &reach[k])))
                return rc;
            tables_begin = axes[k]->at < tables_begin ? axes[k]->at : tables_begin;
            tables_end = axes[k]->at + ints > tables_end ? axes[k]->at + ints : tables_end;
        }
        if (!reach[0] || !reach[1])
            continue;
        uint64_t last =
            pictures[i].at + (uint64_t)(reach[1] - 1) * pictures[i].stride + (uint64_t)reach[0] * 3;
        begin = pictures[i].at < begin ? pictures[i].at : begin;
        end = last > end ? last : end;
    }
    out[1] = (struct sim_span){(const int32_t *)job->arguments[2] + tables_begin,
                               4 * (tables_end - tables_begin), false, "tables"};
    out[2] =
        (struct sim_span){(const uint8_t *)job->arguments[3] + begin, end - begin, false, "pixels"};
    return end > begin ? 3 : 2;
}

int kernel_augment(void *stream, enum kernel_type type, int n, int size, const int32_t *rows,
                   const struct kernel_picture *pictures, const int32_t *tables,
                   const uint8_t *pixels, const float *table, void *out)
{
    int rc = begin(stream, "kernel_augment");
    if (rc)
        return rc;
    reads(rows, sizeof *rows, "rows");
    reads(table, 3 * 256 * sizeof *table, "table");
    writes(out, (size_t)n * (size_t)size * (size_t)size * 8 * type_bytes(type), "out");
    now.more = augment_more;
    now.arguments[0] = rows;
    now.arguments[1] = pictures;
    now.arguments[2] = tables;
    now.arguments[3] = pixels;
    now.numbers[0] = n;
    now.numbers[1] = size;
    return sim_kernel_augment(stream, type, n, size, rows, pictures, tables, pixels, table, out);
}

/* ---- loss.cu ---- */

int kernel_loss_forward(void *stream, int n, int classes, float label_smoothing,
                        const float *logits, const int32_t *labels, const int32_t *rows,
                        float *row_logs, float *row_losses, int32_t *row_ranks,
                        struct kernel_loss *result)
{
    const size_t count = (size_t)n;
    int rc = begin(stream, "kernel_loss_forward");
    if (rc)
        return rc;
    reads(logits, count * (size_t)classes * sizeof *logits, "logits");
    reads(labels, count * sizeof *labels, "labels");
    reads(rows, sizeof *rows, "rows");
    writes(row_logs, count * sizeof *row_logs, "row_logs");
    writes(row_losses, count * sizeof *row_losses, "row_losses");
    writes(row_ranks, count * sizeof *row_ranks, "row_ranks");
    writes(result, sizeof *result, "result");
    return sim_kernel_loss_forward(stream, n, classes, label_smoothing, logits, labels, rows,
                                   row_logs, row_losses, row_ranks, result);
}

int kernel_loss_backward(void *stream, enum kernel_type type, int n, int classes,
                         float label_smoothing, const float *logits, const int32_t *labels,
                         const int32_t *rows, const float *row_logs, const float *scale,
                         void *gradients)
{
    const size_t count = (size_t)n;
    int rc = begin(stream, "kernel_loss_backward");
    if (rc)
        return rc;
    reads(logits, count * (size_t)classes * sizeof *logits, "logits");
    reads(labels, count * sizeof *labels, "labels");
    reads(rows, sizeof *rows, "rows");
    reads(row_logs, count * sizeof *row_logs, "row_logs");
    reads(scale, sizeof *scale, "scale");
    writes(gradients, count * (size_t)classes * type_bytes(type), "gradients");
    return sim_kernel_loss_backward(stream, type, n, classes, label_smoothing, logits, labels, rows,
                                    row_logs, scale, gradients);
}

/* ---- update.cu ---- */

/* From the first float that a segment names to the last. */
static int update_more(const struct door *door, const struct sim_job *job, struct sim_span *out)
{
    const struct kernel_segment *segments = job->arguments[0];
    const size_t wide = (size_t)job->numbers[1];
    uint64_t begin_at = UINT64_MAX, end = 0;
    (void)door;
    for (int64_t i = 0; i < job->numbers[0]; i++) {
        const struct kernel_segment *s = &segments[i];
        if (s->begin % 16 || s->floats % 16 || s->floats > KERNEL_SEGMENT_FLOATS)
            return sim_fault("%s: a segment of %u floats at %llu", job->name, s->floats,
                             (unsigned long long)s->begin);
        begin_at = s->begin < begin_at ? s->begin : begin_at;
        end = s->begin + s->floats > end ? s->begin + s->floats : end;
    }
    const size_t floats = (size_t)(end - begin_at);
    out[0] = (struct sim_span){(const float *)job->arguments[1] + begin_at, 4 * floats, false,
                               "gradients"};
    out[1] =
        (struct sim_span){(const float *)job->arguments[2] + begin_at, 4 * floats, true, "values"};
    out[2] =
        (struct sim_span){(const float *)job->arguments[3] + begin_at, 4 * floats, true, "momenta"};
    if (!job->arguments[4])
        return 3;
    out[3] = (struct sim_span){(const char *)job->arguments[4] + wide * begin_at, wide * floats,
                               true, "copy"};
    return 4;
}

int kernel_update(void *stream, enum kernel_type type, const struct kernel_segment *segments,
                  size_t count, const struct kernel_sgd *sgd, const struct kernel_scaler *scaler,
                  const float *gradients, float *values, float *momenta, void *copy)
{
    int rc = begin(stream, "kernel_update");
    if (rc)
        return rc;
    reads(segments, count * sizeof *segments, "segments");
    reads(sgd, sizeof *sgd, "sgd");
    reads(scaler, scaler ? sizeof *scaler : 0, "scaler");
    now.more = update_more;
    now.arguments[0] = segments;
    now.arguments[1] = gradients;
    now.arguments[2] = values;
    now.arguments[3] = momenta;
    now.arguments[4] = copy;
    now.numbers[0] = (int64_t)count;
    now.numbers[1] = (int64_t)type_bytes(type);
    return sim_kernel_update(stream, type, segments, count, sgd, scaler, gradients, values, momenta,
                             copy);
}

int kernel_finite(void *stream, size_t floats, const float *values, int32_t *flag)
{
    int rc = begin(stream, "kernel_finite");
    if (rc)
        return rc;
    reads(values, floats * sizeof *values, "values");
    writes(flag, sizeof *flag, "flag");
    return sim_kernel_finite(stream, floats, values, flag);
}

int kernel_scaler_step(void *stream, struct kernel_scaler *scaler, int grow_after)
{
    int rc = begin(stream, "kernel_scaler_step");
    if (rc)
        return rc;
    writes(scaler, sizeof *scaler, "scaler");
    return sim_kernel_scaler_step(stream, scaler, grow_after);
}

int kernel_accumulate(void *stream, size_t floats, int first, const float *gradients, float *sum)
{
    int rc = begin(stream, "kernel_accumulate");
    if (rc)
        return rc;
    reads(gradients, floats * sizeof *gradients, "gradients");
    writes(sum, floats * sizeof *sum, "sum");
    return sim_kernel_accumulate(stream, floats, first, gradients, sum);
}

int kernel_fill(void *stream, enum kernel_type type, size_t count, float value, void *out)
{
    int rc = begin(stream, "kernel_fill");
    if (rc)
        return rc;
    writes(out, count * type_bytes(type), "out");
    return sim_kernel_fill(stream, type, count, value, out);
}

int kernel_convert(void *stream, enum kernel_type type, size_t count, const float *in, void *out)
{
    int rc = begin(stream, "kernel_convert");
    if (rc)
        return rc;
    reads(in, count * sizeof *in, "in");
    writes(out, count * type_bytes(type), "out");
    return sim_kernel_convert(stream, type, count, in, out);
}

/* ---- pool.cu ---- */

int kernel_mean_pool(void *stream, enum kernel_type type, int n, int area, int c, const void *in,
                     void *out)
{
    const size_t count = (size_t)n * (size_t)c * type_bytes(type);
    int rc = begin(stream, "kernel_mean_pool");
    if (rc)
        return rc;
    reads(in, count * (size_t)area, "in");
    writes(out, count, "out");
    return sim_kernel_mean_pool(stream, type, n, area, c, in, out);
}

int kernel_mean_pool_backward(void *stream, enum kernel_type type, int n, int area, int c,
                              const void *out_gradient, void *in_gradient)
{
    const size_t count = (size_t)n * (size_t)c * type_bytes(type);
    int rc = begin(stream, "kernel_mean_pool_backward");
    if (rc)
        return rc;
    reads(out_gradient, count, "out_gradient");
    writes(in_gradient, count * (size_t)area, "in_gradient");
    return sim_kernel_mean_pool_backward(stream, type, n, area, c, out_gradient, in_gradient);
}

int kernel_sum(void *stream, enum kernel_type type, size_t count, const void *a, const void *b,
               void *out)
{
    const size_t bytes = count * type_bytes(type);
    int rc = begin(stream, "kernel_sum");
    if (rc)
        return rc;
    in_place = true;
    reads(a, bytes, "a");
    reads(b, bytes, "b");
    writes(out, bytes, "out");
    return sim_kernel_sum(stream, type, count, a, b, out);
}

/* ---- norm.cu ---- */

int kernel_norm_fold(void *stream, int c, float epsilon, const float *gamma, const float *beta,
                     const float *mean, const float *variance, float *scale, float *bias)
{
    const size_t bytes = (size_t)c * sizeof(float);
    int rc = begin(stream, "kernel_norm_fold");
    if (rc)
        return rc;
    reads(gamma, bytes, "gamma");
    reads(beta, bytes, "beta");
    reads(mean, bytes, "mean");
    reads(variance, bytes, "variance");
    writes(scale, bytes, "scale");
    writes(bias, bytes, "bias");
    return sim_kernel_norm_fold(stream, c, epsilon, gamma, beta, mean, variance, scale, bias);
}

int kernel_norm_apply(void *stream, enum kernel_type type, size_t pixels, int c, const void *in,
                      const float *scale, const float *bias, const void *residual, int relu,
                      void *out)
{
    const size_t bytes = pixels * (size_t)c * type_bytes(type);
    int rc = begin(stream, "kernel_norm_apply");
    if (rc)
        return rc;
    in_place = true;
    reads(in, bytes, "in");
    reads(residual, residual ? bytes : 0, "residual");
    reads(scale, (size_t)c * sizeof *scale, "scale");
    reads(bias, (size_t)c * sizeof *bias, "bias");
    writes(out, bytes, "out");
    return sim_kernel_norm_apply(stream, type, pixels, c, in, scale, bias, residual, relu, out);
}

int kernel_bias_gradient(void *stream, enum kernel_type type, int rows, int classes,
                         const void *out_gradient, float *gradient)
{
    int rc = begin(stream, "kernel_bias_gradient");
    if (rc)
        return rc;
    reads(out_gradient, (size_t)rows * (size_t)classes * type_bytes(type), "out_gradient");
    writes(gradient, (size_t)classes * sizeof *gradient, "gradient");
    return sim_kernel_bias_gradient(stream, type, rows, classes, out_gradient, gradient);
}
