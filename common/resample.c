/*
 * With the horizontal pass first, rows are made across as the vertical pass asks for them and live
 * in a ring that holds what one output row needs, so that they are still in the cache then. With
 * the vertical pass first, rows go through both in fours. A mirrored picture is a mirrored table of
 * weights.
 */
#include "common/resample.h"

#include <limits.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/resample_rows.h"

enum { SIDE_LIMIT = 65535 };

struct resampler {
    const struct resample_loops *loops;
    struct resample_axis across, down;
    uint8_t *ring; /* rows made across: row r in slot r % ring_rows */
    size_t ring_capacity, ring_stride;
    int ring_rows;
    uint8_t *lines; /* copies of input rows that across may not look behind */
    size_t lines_capacity;
    const uint8_t **rows; /* the rows of one output row */
    size_t rows_capacity;
};

int resampler_open_with(struct resampler **out, const struct resample_loops *loops)
{
    struct resampler *resampler = mem_array(1, sizeof *resampler, "resampler");
    *out = resampler;
    if (!resampler)
        return -ERR_MEMORY;
    resampler->loops = loops;
    return 0;
}

int resampler_open(struct resampler **out, bool portable)
{
    const struct resample_loops *loops = NULL;
    if (!portable && !(loops = resample_avx512()))
        loops = resample_avx2();
    return resampler_open_with(out, loops ? loops : &resample_portable);
}

static void axis_release(struct resample_axis *axis)
{
    mem_free(axis->starts);
    mem_free(axis->counts);
    mem_free(axis->weights);
    mem_free(axis->pairs);
}

void resampler_close(struct resampler *resampler)
{
    if (!resampler)
        return;
    axis_release(&resampler->across);
    axis_release(&resampler->down);
    mem_free(resampler->ring);
    mem_free(resampler->lines);
    mem_free(resampler->rows);
    mem_free(resampler);
}

/* ---- memory ---- */

/* Room for COUNT elements of SIZE bytes; what was there is lost. */
static int make_room(void **block, size_t *capacity, size_t count, size_t size)
{
    size_t bytes;
    if (*block && count <= *capacity)
        return 0;
    mem_free(*block);
    *capacity = 0;
    *block = mem_multiply(count, size, &bytes) ? mem_aligned(bytes, "resize") : NULL;
    if (!*block) {
        err_set(ERR_MEMORY, "no memory for a resize (%zu x %zu bytes)", count, size);
        return -ERR_MEMORY;
    }
    *capacity = count;
    return 0;
}

static int axis_room(struct resample_axis *axis, size_t outputs, size_t entries)
{
    size_t starts = axis->outputs, counts = axis->outputs;
    size_t weights = axis->entries, pairs = axis->entries;
    int rc;
    if (outputs > axis->outputs || entries > axis->entries)
        axis->in = 0; /* the table is lost */
    axis->outputs = axis->entries = 0;
    if ((rc = make_room((void **)&axis->starts, &starts, outputs, sizeof *axis->starts)) ||
        (rc = make_room((void **)&axis->counts, &counts, outputs, sizeof *axis->counts)) ||
        (rc = make_room((void **)&axis->weights, &weights, entries, sizeof *axis->weights)) ||
        (rc = make_room((void **)&axis->pairs, &pairs, entries, sizeof *axis->pairs)))
        return rc;
    axis->outputs = starts;
    axis->entries = weights;
    return 0;
}

/* Bytes of a row of pixels with slack behind it. */
static size_t row_stride(int width)
{
    return ((size_t)width * 3 + ROW_SLACK + 63) / 64 * 64;
}

static int make_ring(struct resampler *resampler, int rows, int width)
{
    resampler->ring_rows = rows;
    resampler->ring_stride = row_stride(width);
    return make_room((void **)&resampler->ring, &resampler->ring_capacity,
                     (size_t)rows * resampler->ring_stride, 1);
}

static int make_lines(struct resampler *resampler, int width)
{
    return make_room((void **)&resampler->lines, &resampler->lines_capacity,
                     ACROSS_ROWS * row_stride(width), 1);
}

static int check_window(const struct resample_window *window)
{
    if (window->width >= 1 && window->left >= 0 &&
        window->width <= window->full_width - window->left && window->height >= 1 &&
        window->top >= 0 && window->height <= window->full_height - window->top)
        return 0;
    return err_set(ERR_FAULT, "a window of %d x %d at (%d, %d) is not inside %d x %d pixels",
                   window->width, window->height, window->left, window->top, window->full_width,
                   window->full_height);
}

static int check_sides(int width, int height)
{
    if (width >= 1 && height >= 1 && width <= SIDE_LIMIT && height <= SIDE_LIMIT)
        return 0;
    return err_set(ERR_INPUT, "%d x %d pixels cannot be resized: sides are 1 to %d", width, height,
                   SIDE_LIMIT);
}

int resampler_reserve(struct resampler *resampler, int in_width, int in_height, int out_width,
                      int out_height)
{
    /* An output takes at most 2 * in / out + 4 inputs, and all inputs at most; padding and copies
     * come on top. */
    size_t wide = 5 * (size_t)in_width + 8 * (size_t)out_width + 64;
    size_t high = 5 * (size_t)in_height + 8 * (size_t)out_height + 64;
    int rc = check_sides(in_width, in_height);
    if (rc || (rc = check_sides(out_width, out_height)) ||
        (rc = axis_room(&resampler->across, (size_t)out_width + 3, wide)) ||
        (rc = axis_room(&resampler->down, (size_t)out_height + 3, high)) ||
        (rc = make_room((void **)&resampler->rows, &resampler->rows_capacity,
                        (size_t)in_height + TAPS_STEP, sizeof *resampler->rows)) ||
        (rc = make_lines(resampler, in_width)))
        return rc;
    return make_ring(resampler, in_height + TAPS_STEP + ACROSS_ROWS, out_width);
}

/* ---- weights: Pillow's precompute_coeffs and normalize_coeffs_8bpc for the bilinear filter ----
 */

struct axis_step {
    double center; /* of the output, in inputs */
    double scale, support;
};

static struct axis_step find_step(int in, int full, int output)
{
    struct axis_step step = {.scale = (double)in / full};
    step.support = step.scale < 1.0 ? 1.0 : step.scale;
    step.center = (output + 0.5) * step.scale;
    return step;
}

struct resample_span resample_inputs(int in, int full, int output)
{
    const struct axis_step step = find_step(in, full, output);
    struct resample_span span = {.first = (int)(step.center - step.support + 0.5)};
    if (span.first < 0)
        span.first = 0;
    int end = (int)(step.center + step.support + 0.5);
    span.count = (end > in ? in : end) - span.first;
    return span;
}

static double triangle(const struct axis_step *step, double inverse, int input)
{
    double distance = (input - step->center + 0.5) * inverse;
    if (distance < 0.0)
        distance = -distance;
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

void resample_weights(int in, int full, int output, int32_t *weights)
{
    const struct axis_step step = find_step(in, full, output);
    const struct resample_span span = resample_inputs(in, full, output);
    const double inverse = 1.0 / step.support;
    double sum = 0.0;
    for (int t = 0; t < span.count; t++)
        sum += triangle(&step, inverse, span.first + t);
    for (int t = 0; t < span.count; t++) {
        double weight = triangle(&step, inverse, span.first + t);
        if (sum != 0.0)
            weight /= sum;
        weights[t] = (int32_t)(0.5 + weight * (1 << WEIGHT_BITS));
    }
}

int resample_taps(int in, int full, int first, int count)
{
    int most = 0;
    for (int i = first; i < first + count; i++) {
        int taps = resample_inputs(in, full, i).count;
        most = taps > most ? taps : most;
    }
    return most;
}

void resample_table(int in, int full, int first, int count, bool mirrored, int taps,
                    int32_t *starts, int32_t *counts, int32_t *weights)
{
    for (int i = 0; i < count; i++, weights += taps) {
        int output = mirrored ? first + count - 1 - i : first + i;
        struct resample_span span = resample_inputs(in, full, output);
        starts[i] = span.first;
        counts[i] = span.count;
        resample_weights(in, full, output, weights);
        memset(weights + span.count, 0, (size_t)(taps - span.count) * sizeof *weights);
    }
}

bool resample_down_first(int in_width, int in_height, int full_width, int full_height)
{
    /* Pillow's rule since 13.0. */
    int lost_rows = in_height - full_height, lost_columns = in_width - full_width;
    return lost_columns && lost_rows > 0 && lost_rows > 2 * lost_columns;
}

static int output_at(const struct resample_axis *axis, int i)
{
    return axis->mirrored ? axis->first + axis->count - 1 - i : axis->first + i;
}

static void make_output(struct resample_axis *axis, int i, int output)
{
    const struct resample_span span = resample_inputs(axis->in, axis->full, output);
    int32_t *weights = axis->weights + (size_t)i * (size_t)axis->taps;
    uint32_t *pairs = axis->pairs + (size_t)i * (size_t)axis->taps;
    /* Near the end of the row the padding would lie behind it: put it in front. */
    int shift = span.first + axis->taps - axis->in;
    shift = shift < 0 ? 0 : shift > span.first ? span.first : shift;
    memset(weights, 0, (size_t)axis->taps * sizeof *weights);
    resample_weights(axis->in, axis->full, output, weights + shift);
    axis->starts[i] = span.first - shift;
    axis->counts[i] = span.count + shift;
    for (int t = 0; t < axis->taps; t += 2, weights += 2) {
        uint32_t *at = pairs + (t & ~3) + (t >> 1 & 1);
        const int32_t low = (1 << SPLIT_BITS) - 1;
        at[0] = (uint32_t)(weights[0] >> SPLIT_BITS | (weights[1] >> SPLIT_BITS) << 16);
        at[2] = (uint32_t)((weights[0] & low) | (weights[1] & low) << 16);
    }
}

/* Make the table for outputs FIRST to FIRST + COUNT - 1, unless it is the one that is there. */
static int make_axis(struct resample_axis *axis, int in, int full, int first, int count,
                     bool mirrored)
{
    int rc;
    if (axis->in == in && axis->full == full && axis->first == first && axis->count == count &&
        axis->mirrored == mirrored)
        return 0;
    axis->in = in;
    axis->full = full;
    axis->first = first;
    axis->count = count;
    axis->mirrored = mirrored;
    axis->taps = (resample_taps(in, full, first, count) + TAPS_STEP - 1) / TAPS_STEP * TAPS_STEP;
    if ((rc = axis_room(axis, (size_t)count + 3, ((size_t)count + 3) * (size_t)axis->taps))) {
        axis->in = 0;
        return rc;
    }
    axis->in = in;
    for (int i = 0; i < count + 3; i++)
        make_output(axis, i, output_at(axis, i < count ? i : count - 1));
    axis->reach = 0;
    for (int i = 0; i < count; i++) {
        /* 16 bytes are loaded for each 4 taps of 12. */
        size_t end = 3 * (size_t)(axis->starts[i] + axis->taps) + 4;
        axis->reach = end > axis->reach ? end : axis->reach;
    }
    return 0;
}

/* ---- rows ---- */

static uint8_t *ring_row(const struct resampler *resampler, int row)
{
    return resampler->ring + (size_t)(row % resampler->ring_rows) * resampler->ring_stride;
}

/* Make input rows ROW to END - 1 (ACROSS_ROWS at most) across. Rows near the end of the picture are
 * copied first, since the loops look behind them. */
static void make_rows(struct resampler *resampler, const struct pixels *in, int row, int end)
{
    const uint8_t *from[ACROSS_ROWS];
    uint8_t *to[ACROSS_ROWS];
    size_t size = (size_t)in->width * 3;
    for (int i = 0; i < ACROSS_ROWS; i++) {
        int r = row + i < end ? row + i : end - 1;
        from[i] = in->rgb + (size_t)r * in->stride;
        to[i] = ring_row(resampler, r);
        if ((size_t)(in->height - 1 - r) * in->stride + size < resampler->across.reach) {
            uint8_t *line = resampler->lines + (size_t)i * row_stride(in->width);
            memcpy(line, from[i], size);
            from[i] = line;
        }
    }
    resampler->loops->across(&resampler->across, from, to);
}

/* Pointers to the rows that output Y of the vertical pass is made from, at byte OFFSET of the
 * input's rows or in the ring; padded with the last one. */
static void find_rows(struct resampler *resampler, const struct pixels *in, int y, bool from_ring,
                      size_t offset)
{
    const struct resample_axis *down = &resampler->down;
    for (int t = 0; t < down->taps; t++) {
        int row = down->starts[y] + (t < down->counts[y] ? t : down->counts[y] - 1);
        resampler->rows[t] =
            from_ring ? ring_row(resampler, row) : in->rgb + (size_t)row * in->stride + offset;
    }
}

/* Both passes, or one of them, the horizontal one first. */
static void run_across_first(struct resampler *resampler, const struct pixels *in,
                             const struct resample_window *window, bool is_across, uint8_t *out,
                             size_t out_stride)
{
    const struct resample_axis *down = &resampler->down;
    size_t size = (size_t)window->width * 3;
    int made = down->starts[0];
    int last = down->starts[down->count - 1] + down->counts[down->count - 1];
    for (int y = 0; y < window->height; y++, out += out_stride) {
        int end = down->starts[y] + down->counts[y];
        for (; is_across && made < end; made += ACROSS_ROWS)
            make_rows(resampler, in, made, made + ACROSS_ROWS < last ? made + ACROSS_ROWS : last);
        find_rows(resampler, in, y, is_across, 3 * (size_t)window->left);
        if (window->full_height != in->height)
            resampler->loops->down(down, y, resampler->rows, size, out);
        else
            memcpy(out, resampler->rows[window->top + y - down->starts[y]], size);
    }
}

/* Both passes, the vertical one first, and of that only the columns that the other one looks at. */
static void run_down_first(struct resampler *resampler, const struct pixels *in,
                           const struct resample_window *window, uint8_t *out, size_t out_stride)
{
    const struct resample_axis *across = &resampler->across;
    int first = across->starts[0], end = 0;
    for (int x = 0; x < across->count; x++) {
        first = across->starts[x] < first ? across->starts[x] : first;
        end = across->starts[x] + across->counts[x] > end ? across->starts[x] + across->counts[x]
                                                          : end;
    }
    size_t offset = 3 * (size_t)first, size = 3 * (size_t)(end - first);
    for (int y = 0; y < window->height; y += ACROSS_ROWS) {
        const uint8_t *from[ACROSS_ROWS];
        uint8_t *to[ACROSS_ROWS];
        int rows = window->height - y < ACROSS_ROWS ? window->height - y : ACROSS_ROWS;
        for (int i = 0; i < ACROSS_ROWS; i++) {
            uint8_t *line = resampler->lines + (size_t)i * row_stride(in->width);
            from[i] = line;
            to[i] = ring_row(resampler, i);
            if (i >= rows)
                continue;
            find_rows(resampler, in, y + i, false, offset);
            resampler->loops->down(&resampler->down, y + i, resampler->rows, size, line + offset);
        }
        resampler->loops->across(across, from, to);
        for (int i = 0; i < rows; i++, out += out_stride)
            memcpy(out, to[i], (size_t)window->width * 3);
    }
}

/* What both passes need for this picture. */
static int prepare(struct resampler *resampler, const struct pixels *in,
                   const struct resample_window *window, bool flip)
{
    int rc = make_axis(&resampler->across, in->width, window->full_width, window->left,
                       window->width, flip);
    if (rc ||
        (rc = make_axis(&resampler->down, in->height, window->full_height, window->top,
                        window->height, false)) ||
        (rc = make_room((void **)&resampler->rows, &resampler->rows_capacity,
                        (size_t)resampler->down.taps, sizeof *resampler->rows)) ||
        (rc = make_lines(resampler, in->width)))
        return rc;
    return make_ring(resampler, resampler->down.taps + ACROSS_ROWS, window->width);
}

int resampler_run(struct resampler *resampler, const struct pixels *in,
                  const struct resample_window *window, bool flip, uint8_t *out, size_t out_stride)
{
    int rc = check_sides(in->width, in->height);
    if (rc || (rc = check_sides(window->full_width, window->full_height)) ||
        (rc = check_window(window)) || (rc = prepare(resampler, in, window, flip)))
        return rc;
    if (resample_down_first(in->width, in->height, window->full_width, window->full_height))
        run_down_first(resampler, in, window, out, out_stride);
    else
        run_across_first(resampler, in, window, in->width != window->full_width || flip, out,
                         out_stride);
    return 0;
}

/* ---- torchvision's sizes ---- */

void resample_size(int width, int height, int short_side, bool only_shrink, int *out_width,
                   int *out_height)
{
    bool tall = width <= height;
    int shorter = tall ? width : height, longer = tall ? height : width;
    *out_width = width;
    *out_height = height;
    if (only_shrink && shorter <= short_side)
        return;
    double wanted = (double)((int64_t)short_side * longer) / shorter;
    int other = wanted < INT_MAX ? (int)wanted : INT_MAX;
    *out_width = tall ? short_side : other;
    *out_height = tall ? other : short_side;
}

int resample_center(int side, int crop)
{
    int room = side - crop;
    int half = room / 2;
    return room % 2 ? half + half % 2 : half;
}
