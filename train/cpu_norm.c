/*
 * cpu_norm.c - OP_NORM of the CPU backend: batch normalisation in training with ReLU and residual
 * add, in two passes over memory forward and two backward.
 *
 * A tensor is cut into pieces of one image, some pixels and some columns of channels. The first
 * pass leaves two sums of each piece, which are combined in double in the order of the pieces; the
 * second pass uses the result. The cut depends on shapes alone, so the result does not depend on
 * the number of threads. Channels are taken in groups that fit the cache, so that the second pass
 * finds there what the first one read.
 *
 * Saved: mean and 1/sqrt(variance + epsilon) of each channel. Workspace: six rows of a number for
 * each channel, the pixel counts of pieces, and two rows for each piece.
 */
#include <math.h>

#include "train/cpu_device.h"
#include "train/cpu_team.h"

/* A piece has at most this many pixels, so that sums of floats stay short, and this many bytes, so
 * that it stays in the second-level cache between the two steps of its measurement. */
#define PIECE_PIXELS 1024
#define PIECE_BYTES (128 << 10)
/* Columns that are taken together where channels of a pixel lie side by side: 2 KiB of f32. */
#define SEGMENT_COLUMNS 32

enum { ROW_SCALE, ROW_SHIFT, ROW_OF_GRADIENT, ROW_OF_IN, ROW_CONSTANT, ROWS };

/* How a normalisation is cut, and the memory for its sums. */
struct norm_cut {
    size_t width; /* floats of a row: 16 x columns */
    int segment_columns, segments;
    int chunk_pixels, chunks; /* of an image */
    int pieces;               /* images x chunks, of each segment */
    int group_segments;
    size_t workspace_bytes;
};

struct norm_work {
    struct device *device;
    struct op *op;
    float *values, *gradients;
    struct norm_cut cut;
    struct cpu_norm norm;
    float *mean, *inverse; /* saved */
    float *rows[ROWS];
    float *counts, *first, *second; /* of pieces: pixels, and two rows of sums */
    int segment, segment_end;       /* the group */
};

static struct norm_cut norm_cut(const struct device *device, const struct op *op)
{
    const struct cpu_grid grid = cpu_grid(device, op->in);
    const size_t number = cpu_number_bytes(device, op->in);
    const int pixels = grid.height * grid.width;
    struct norm_cut cut = {.width = (size_t)grid.columns * CPU_LANES};

    cut.segment_columns = grid.pixel_step == CPU_LANES     ? 1
                          : grid.columns < SEGMENT_COLUMNS ? grid.columns
                                                           : SEGMENT_COLUMNS;
    cut.segments = (grid.columns + cut.segment_columns - 1) / cut.segment_columns;

    const size_t pixel_bytes = (size_t)cut.segment_columns * CPU_LANES * number;
    const int most = (int)(PIECE_BYTES / pixel_bytes);
    cut.chunk_pixels = most < PIECE_PIXELS ? most : PIECE_PIXELS;
    cut.chunks = (pixels + cut.chunk_pixels - 1) / cut.chunk_pixels;
    cut.chunk_pixels = (pixels + cut.chunks - 1) / cut.chunks;
    cut.chunks = (pixels + cut.chunk_pixels - 1) / cut.chunk_pixels;
    cut.pieces = grid.images * cut.chunks;

    /* Four tensors, about: in, out or residual, a gradient, and the one that is written. */
    const size_t segment_bytes = (size_t)grid.images * (size_t)pixels * pixel_bytes * 4;
    cut.group_segments =
        segment_bytes > device->cache_bytes ? 1 : (int)(device->cache_bytes / segment_bytes);
    if (cut.group_segments > cut.segments)
        cut.group_segments = cut.segments;

    cut.workspace_bytes = cpu_align((size_t)cut.pieces * sizeof(float)) +
                          (ROWS + 2 * (size_t)cut.pieces) * cut.width * sizeof(float);
    return cut;
}

static int norm_setup(struct device *device, struct op *op, bool training)
{
    const struct norm_cut cut = norm_cut(device, op);

    (void)training;
    op->saved_bytes = 2 * cut.width * sizeof(float);
    op->workspace_bytes = cut.workspace_bytes;
    op->backward_reads_in = true;
    /* Without a residual, where the ReLU cut is computed again from in. */
    op->backward_reads_out = op->relu && op->residual;
    return 0;
}

static void norm_begin(struct norm_work *work, struct device *device, struct op *op)
{
    const struct norm_cut cut = norm_cut(device, op);
    const struct cpu_grid grid = cpu_grid(device, op->in);
    const int pixels = grid.height * grid.width;
    float *row = (float *)((char *)op->workspace + cpu_align((size_t)cut.pieces * sizeof(float)));

    *work = (struct norm_work){.device = device, .op = op, .cut = cut};
    work->mean = op->saved;
    work->inverse = work->mean + cut.width;
    work->counts = op->workspace;
    for (int piece = 0; piece < cut.pieces; piece++) {
        const int left = pixels - piece % cut.chunks * cut.chunk_pixels;
        work->counts[piece] = (float)(left < cut.chunk_pixels ? left : cut.chunk_pixels);
    }
    for (int i = 0; i < ROWS; i++, row += cut.width)
        work->rows[i] = row;
    work->first = row;
    work->second = row + (size_t)cut.pieces * cut.width;
    work->norm = (struct cpu_norm){
        .grid = grid,
        .relu = op->relu,
        .past_caches = op->in->bytes > device->cache_bytes,
        .in = op->in->data,
        .residual = op->residual ? op->residual->data : NULL,
        .out = op->out->data,
        .result = op->out->data,
        .mean = work->mean,
        .scale = work->rows[ROW_SCALE],
        .shift = work->rows[ROW_SHIFT],
        .of_gradient = work->rows[ROW_OF_GRADIENT],
        .of_in = work->rows[ROW_OF_IN],
        .constant = work->rows[ROW_CONSTANT],
    };
}

/* The tile of an item of the group: segment by segment, so that a thread's items lie together. */
static struct cpu_tile item_tile(const struct norm_work *work, size_t item, size_t *piece)
{
    const struct norm_cut *cut = &work->cut;
    const int pixels = work->norm.grid.height * work->norm.grid.width;
    const int segment = work->segment + (int)(item / (size_t)cut->pieces);
    struct cpu_tile tile;

    *piece = item % (size_t)cut->pieces;
    tile.image = (int)*piece / cut->chunks;
    tile.pixel = (int)*piece % cut->chunks * cut->chunk_pixels;
    tile.pixels = pixels - tile.pixel < cut->chunk_pixels ? pixels - tile.pixel : cut->chunk_pixels;
    tile.column = segment * cut->segment_columns;
    tile.columns = work->norm.grid.columns - tile.column < cut->segment_columns
                       ? work->norm.grid.columns - tile.column
                       : cut->segment_columns;
    return tile;
}

/* Call KERNEL on this part's tiles, with their rows of sums. */
static void measure_tiles(struct norm_work *work, int part, int parts,
                          void (*kernel)(const struct cpu_norm *, const struct cpu_tile *, float *,
                                         float *))
{
    const size_t items = (size_t)(work->segment_end - work->segment) * (size_t)work->cut.pieces;
    size_t first, last, piece;

    team_share(items, part, parts, &first, &last);
    for (size_t item = first; item < last; item++) {
        const struct cpu_tile tile = item_tile(work, item, &piece);
        kernel(&work->norm, &tile, work->first + piece * work->cut.width,
               work->second + piece * work->cut.width);
    }
}

/* The other way round: what was read last is still near. */
static void apply_tiles(struct norm_work *work, int part, int parts,
                        void (*kernel)(const struct cpu_norm *, const struct cpu_tile *))
{
    const size_t items = (size_t)(work->segment_end - work->segment) * (size_t)work->cut.pieces;
    size_t first, last, piece;

    team_share(items, part, parts, &first, &last);
    for (size_t item = last; item-- > first;) {
        const struct cpu_tile tile = item_tile(work, item, &piece);
        kernel(&work->norm, &tile);
    }
}

/* The columns of the group. */
static void group_columns(const struct norm_work *work, size_t *first, size_t *last)
{
    const size_t columns = (size_t)work->norm.grid.columns;

    *first = (size_t)work->segment * (size_t)work->cut.segment_columns;
    *last = (size_t)work->segment_end * (size_t)work->cut.segment_columns;
    if (*last > columns)
        *last = columns;
}

static size_t column_end(const struct norm_work *work, size_t column)
{
    const size_t end = (column + 1) * CPU_LANES, channels = (size_t)work->norm.grid.channels;
    return end < channels ? end : channels;
}

/* scale and shift of a channel, of the same operations forward and backward. */
static void set_scale(struct norm_work *work, size_t c)
{
    work->rows[ROW_SCALE][c] = work->values[work->op->gamma->offset + c] * work->inverse[c];
    work->rows[ROW_SHIFT][c] = work->values[work->op->beta->offset + c];
}

/* ---- forward ---- */

static void measure_part(void *context, int part, int parts)
{
    struct norm_work *work = context;
    measure_tiles(work, part, parts, work->device->kernels->norm_measure);
}

static void combine(struct norm_work *work)
{
    const struct op *op = work->op;
    const double number = (double)op->in->n * op->in->h * op->in->w, share = (double)op->momentum;
    float *running_mean = work->values + op->running_mean->offset;
    float *running_var = work->values + op->running_var->offset;
    double mean[CPU_LANES], deviation[CPU_LANES];
    size_t first, last;

    group_columns(work, &first, &last);
    for (size_t column = first; column < last; column++) {
        const size_t start = column * CPU_LANES;
        work->device->kernels->norm_combine(work->first + start, work->second + start,
                                            work->cut.width, work->counts, work->cut.pieces, mean,
                                            deviation);
        for (size_t c = start; c < column_end(work, column); c++) {
            const double m = mean[c - start], d = deviation[c - start];
            work->mean[c] = (float)m;
            work->inverse[c] = (float)(1 / sqrt(d / number + (double)op->epsilon));
            running_mean[c] = (float)((1 - share) * (double)running_mean[c] + share * m);
            running_var[c] =
                (float)((1 - share) * (double)running_var[c] + share * (d / (number - 1)));
            set_scale(work, c);
        }
    }
}

static void apply_part(void *context, int part, int parts)
{
    struct norm_work *work = context;
    apply_tiles(work, part, parts, work->device->kernels->norm_apply);
}

/* Both passes for every group of segments. What stands between them takes microseconds, less than
 * to start a team. */
static void run_groups(struct norm_work *work, void (*measure)(void *, int, int),
                       void (*between)(struct norm_work *), void (*apply)(void *, int, int))
{
    const int threads = work->device->threads;

    for (int s = 0; s < work->cut.segments; s = work->segment_end) {
        work->segment = s;
        work->segment_end = s + work->cut.group_segments < work->cut.segments
                                ? s + work->cut.group_segments
                                : work->cut.segments;
        team_run(threads, measure, work);
        between(work);
        if (apply)
            team_run(threads, apply, work);
    }
}

static int norm_forward(struct device *device, struct op *op, float *values)
{
    struct norm_work work;

    norm_begin(&work, device, op);
    work.values = values;
    run_groups(&work, measure_part, combine, apply_part);
    return 0;
}

/* ---- backward ---- */

static void backward_measure_part(void *context, int part, int parts)
{
    struct norm_work *work = context;
    measure_tiles(work, part, parts, work->device->kernels->norm_backward_measure);
}

/* d in = scale (dz - mean(dz) - normal mean(dz normal)), normal = (in - mean) inverse. */
static void backward_combine(struct norm_work *work)
{
    const struct op *op = work->op;
    const struct cpu_kernels *kernels = work->device->kernels;
    const double number = (double)op->in->n * op->in->h * op->in->w;
    double sum[CPU_LANES], product[CPU_LANES];
    size_t first, last;

    group_columns(work, &first, &last);
    for (size_t column = first; column < last; column++) {
        const size_t start = column * CPU_LANES;
        kernels->sum_pieces(work->first + start, work->cut.width, work->cut.pieces, sum);
        kernels->sum_pieces(work->second + start, work->cut.width, work->cut.pieces, product);
        for (size_t c = start; c < column_end(work, column); c++) {
            const double inverse = (double)work->inverse[c],
                         scale = (double)work->rows[ROW_SCALE][c];
            const double of_normal = product[c - start] * inverse;
            work->gradients[op->beta->offset + c] = (float)sum[c - start];
            work->gradients[op->gamma->offset + c] = (float)of_normal;
            work->rows[ROW_OF_GRADIENT][c] = (float)scale;
            work->rows[ROW_OF_IN][c] = (float)(-scale * inverse * of_normal / number);
            work->rows[ROW_CONSTANT][c] = (float)(-scale * sum[c - start] / number);
        }
    }
}

static void backward_apply_part(void *context, int part, int parts)
{
    struct norm_work *work = context;
    apply_tiles(work, part, parts, work->device->kernels->norm_backward_apply);
}

static int norm_backward(struct device *device, struct op *op, const float *values,
                         float *gradients)
{
    const struct tensor *out = op->out;
    struct norm_work work;

    norm_begin(&work, device, op);
    work.values = (float *)(uintptr_t)values; /* only read here */
    work.gradients = gradients;
    for (int i = 0; i < out->readers; i++)
        work.norm.gradients[i] = out->gradients[i];
    if (op->in_slot >= 0)
        work.norm.in_gradient = op->in->gradients[op->in_slot];
    if (op->residual && op->residual_slot >= 0)
        work.norm.residual_gradient = op->residual->gradients[op->residual_slot];
    for (size_t c = 0; c < (size_t)op->in->c; c++)
        set_scale(&work, c);
    run_groups(&work, backward_measure_part, backward_combine,
               work.norm.in_gradient ? backward_apply_part : NULL);
    return 0;
}

const struct cpu_op cpu_norm_op = {norm_setup, NULL, NULL, norm_forward, norm_backward};
