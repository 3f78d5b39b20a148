/*
 * conv.c - convolutions and matrix products of the simulated device. Each is sums of products of
 * rows: what a window covers is a list of rows of channels, one for each of its places, and a row
 * of zeros where it hangs over the edge. A few products are summed in f32, these sums in f64, so
 * that the result is as good as f32 allows whatever the depth.
 */
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

#define ROWS 4
#define WIDE 16
#define HALF 8 /* a register of AVX2; other machines take several */
typedef float wide __attribute__((vector_size(HALF * sizeof(float)), aligned(4), may_alias));

/* ---- the two inner loops ---- */

/* sum[i][j] += a[i] * b[j] with sums in registers. */
#define SUMS(sum)                                                                                  \
    wide s00 = *(wide *)sum[0], s01 = *(wide *)(sum[0] + HALF), s10 = *(wide *)sum[1],             \
         s11 = *(wide *)(sum[1] + HALF), s20 = *(wide *)sum[2], s21 = *(wide *)(sum[2] + HALF),    \
         s30 = *(wide *)sum[3], s31 = *(wide *)(sum[3] + HALF)
#define ADD(a0, a1, a2, a3, b)                                                                     \
    do {                                                                                           \
        const wide b0 = *(const wide *)(b), b1 = *(const wide *)((b) + HALF);                      \
        s00 += (a0)*b0;                                                                            \
        s01 += (a0)*b1;                                                                            \
        s10 += (a1)*b0;                                                                            \
        s11 += (a1)*b1;                                                                            \
        s20 += (a2)*b0;                                                                            \
        s21 += (a2)*b1;                                                                            \
        s30 += (a3)*b0;                                                                            \
        s31 += (a3)*b1;                                                                            \
    } while (0)
#define KEEP(sum)                                                                                  \
    *(wide *)sum[0] = s00, *(wide *)(sum[0] + HALF) = s01, *(wide *)sum[1] = s10,                  \
           *(wide *)(sum[1] + HALF) = s11, *(wide *)sum[2] = s20, *(wide *)(sum[2] + HALF) = s21,  \
           *(wide *)sum[3] = s30, *(wide *)(sum[3] + HALF) = s31

/* sum[i][j] += rows[i][d] * weights[d][j], DEPTH of them. */
static inline __attribute__((always_inline)) void forward_body(const float *const rows[ROWS],
                                                               const float *weights, int64_t depth,
                                                               float sum[ROWS][WIDE])
{
    const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
    SUMS(sum);
    for (int64_t d = 0; d < depth; d++)
        ADD(r0[d], r1[d], r2[d], r3[d], weights + d * WIDE);
    KEEP(sum);
}

/* sum[i][j] += rows[p][at[i]] * gradients[p][j] over COUNT rows; NULL is a row of zeros. */
static inline __attribute__((always_inline)) void filter_body(const float *const *rows,
                                                              const int64_t at[ROWS],
                                                              const float *gradients, int64_t count,
                                                              float sum[ROWS][WIDE])
{
    const int64_t a0 = at[0], a1 = at[1], a2 = at[2], a3 = at[3];
    SUMS(sum);
    for (int64_t p = 0; p < count; p++) {
        const float *row = rows[p];
        if (row)
            ADD(row[a0], row[a1], row[a2], row[a3], gradients + p * WIDE);
    }
    KEEP(sum);
}

static void forward_any(const float *const rows[ROWS], const float *weights, int64_t depth,
                        float sum[ROWS][WIDE])
{
    forward_body(rows, weights, depth, sum);
}

static void filter_any(const float *const *rows, const int64_t at[ROWS], const float *gradients,
                       int64_t count, float sum[ROWS][WIDE])
{
    filter_body(rows, at, gradients, count, sum);
}

/* The same sums in the same order, on wider registers. */
#if defined __x86_64__
#define AVX2 __attribute__((target("avx2")))
AVX2 static void forward_avx2(const float *const rows[ROWS], const float *weights, int64_t depth,
                              float sum[ROWS][WIDE])
{
    forward_body(rows, weights, depth, sum);
}

AVX2 static void filter_avx2(const float *const *rows, const int64_t at[ROWS],
                             const float *gradients, int64_t count, float sum[ROWS][WIDE])
{
    filter_body(rows, at, gradients, count, sum);
}
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#else
#define forward_avx2 forward_any
#define filter_avx2 filter_any
#define HAS_AVX2 0
#endif

static void add_sums(double total[ROWS][WIDE], float sum[ROWS][WIDE])
{
    for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < WIDE; j++)
            total[i][j] += (double)sum[i][j];
    }
    memset(sum, 0, ROWS * sizeof *sum);
}

/* ---- products of rows ---- */

/* out[r][j] = sum over place, d of row(r, place)[d] * weights[place][d][j]. */
struct product {
    int64_t rows, places, depth, width;
    const float **row;    /* rows x places; NULL: zeros */
    const float *weights; /* packed: width / WIDE blocks of places x depth x WIDE */
    const float *zeros;   /* depth of them */
    int chunk;
    float *out; /* rows x width */
};

static void multiply_block(const struct product *p, int64_t r, int64_t block)
{
    const float *weights = p->weights + block * p->places * p->depth * WIDE;
    const int64_t high = p->rows - r < ROWS ? p->rows - r : ROWS;
    const int64_t left = p->width - block * WIDE, width = left < WIDE ? left : WIDE;
    double total[ROWS][WIDE] = {{0}};
    float sum[ROWS][WIDE];
    int64_t summed = 0;
    memset(sum, 0, sizeof sum);
    for (int64_t place = 0; place < p->places; place++) {
        const float *rows[ROWS];
        bool any = false;
        for (int64_t i = 0; i < ROWS; i++) {
            rows[i] = i < high ? p->row[(r + i) * p->places + place] : NULL;
            any |= rows[i] != NULL;
            rows[i] = rows[i] ? rows[i] : p->zeros;
        }
        for (int64_t d = 0; any && d < p->depth;) {
            int64_t count = p->depth - d < p->chunk - summed ? p->depth - d : p->chunk - summed;
            const float *const at[ROWS] = {rows[0] + d, rows[1] + d, rows[2] + d, rows[3] + d};
            (HAS_AVX2 ? forward_avx2 : forward_any)(at, weights + (place * p->depth + d) * WIDE,
                                                    count, sum);
            d += count;
            if ((summed += count) >= p->chunk) {
                add_sums(total, sum);
                summed = 0;
            }
        }
    }
    add_sums(total, sum);
    for (int64_t i = 0; i < high; i++) {
        for (int64_t j = 0; j < width; j++)
            p->out[(r + i) * p->width + block * WIDE + j] = (float)total[i][j];
    }
}

static void multiply(const struct product *p)
{
    for (int64_t block = 0; block * WIDE < p->width; block++) {
        for (int64_t r = 0; r < p->rows; r += ROWS)
            multiply_block(p, r, block);
    }
}

static int64_t blocks_of(int64_t width)
{
    return (width + WIDE - 1) / WIDE;
}

/* To the 10 bits of a tensor core's TF32. */
static float to_tf32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7F800000) != 0x7F800000)
        bits = (bits + 0xFFF + (bits >> 13 & 1)) & ~(uint32_t)0x1FFF;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

static void operand(const struct sim_run *run, const struct sim_value *value)
{
    for (size_t i = 0; run->tf32 && i < value->count; i++)
        value->at[i] = to_tf32(value->at[i]);
}

/* ---- convolutions ---- */

/* The sizes of all three; X, Y as forward has them. */
struct conv {
    const struct door_node *node;
    const struct sim_value *x, *w, *y;
    int64_t places, rows_x, rows_y; /* windows' places; pixels of x and y */
};

static struct conv conv_of(const struct sim_run *run, enum door_role x, enum door_role w,
                           enum door_role y)
{
    struct conv c = {run->node, run->roles[x], run->roles[w], run->roles[y], 0, 0, 0};
    c.places = c.w->h * c.w->w;
    c.rows_x = c.x->n * c.x->h * c.x->w;
    c.rows_y = c.y->n * c.y->h * c.y->w;
    return c;
}

/* The pixel of x that pixel P,Q of y has at place R,S of its window; -1: outside. */
static int64_t pixel_under(const struct conv *c, int64_t n, int64_t p, int64_t q, int64_t place)
{
    const struct door_node *node = c->node;
    int64_t h = p * node->stride[0] - node->pre_padding[0] + place / c->w->w * node->dilation[0];
    int64_t w = q * node->stride[1] - node->pre_padding[1] + place % c->w->w * node->dilation[1];
    return h < 0 || w < 0 || h >= c->x->h || w >= c->x->w ? -1 : (n * c->x->h + h) * c->x->w + w;
}

/* rows[pixel of y][place] = row of x. */
static void rows_under(const struct conv *c, const float **rows)
{
    for (int64_t y = 0; y < c->rows_y; y++) {
        int64_t q = y % c->y->w, p = y / c->y->w % c->y->h, n = y / c->y->w / c->y->h;
        for (int64_t place = 0; place < c->places; place++) {
            int64_t x = pixel_under(c, n, p, q, place);
            rows[y * c->places + place] = x < 0 ? NULL : c->x->at + x * c->x->c;
        }
    }
}

static int run_product(struct product *p)
{
    float *zeros = mem_array((size_t)p->depth, sizeof *zeros, "zeros");
    if (!zeros)
        return -ERR_MEMORY;
    p->zeros = zeros;
    multiply(p);
    mem_free(zeros);
    return 0;
}

int sim_conv_forward(const struct sim_run *run)
{
    struct conv c = conv_of(run, DOOR_X, DOOR_W, DOOR_Y);
    const int64_t depth = c.x->c, k = c.w->n;
    int rc = -ERR_MEMORY;
    const float **rows = mem_array((size_t)(c.rows_y * c.places), sizeof *rows, "rows");
    float *packed =
        mem_array((size_t)(blocks_of(k) * WIDE * c.places * depth), sizeof *packed, "weights");
    operand(run, c.x);
    operand(run, c.w);
    if (rows && packed) {
        /* w is K x places x C */
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < c.places * depth; j++)
                packed[(i / WIDE * c.places * depth + j) * WIDE + i % WIDE] =
                    c.w->at[i * c.places * depth + j];
        }
        rows_under(&c, rows);
        rc = run_product(&(struct product){c.rows_y, c.places, depth, k, rows, packed, NULL,
                                           run->chunk, c.y->at});
    }
    mem_free(rows);
    mem_free(packed);
    return rc;
}

int sim_conv_backward_data(const struct sim_run *run)
{
    struct conv c = conv_of(run, DOOR_DX, DOOR_W, DOOR_DY);
    const int64_t depth = c.y->c, width = c.x->c;
    int rc = -ERR_MEMORY;
    const float **rows = mem_array((size_t)(c.rows_x * c.places), sizeof *rows, "rows");
    float *packed =
        mem_array((size_t)(blocks_of(width) * WIDE * c.places * depth), sizeof *packed, "weights");
    operand(run, c.y);
    operand(run, c.w);
    if (rows && packed) {
        for (int64_t k = 0; k < depth; k++) {
            for (int64_t place = 0; place < c.places; place++) {
                for (int64_t i = 0; i < width; i++)
                    packed[((i / WIDE * c.places + place) * depth + k) * WIDE + i % WIDE] =
                        c.w->at[(k * c.places + place) * width + i];
            }
        }
        /* Each pixel of x gets from the pixels of y whose windows cover it. */
        for (int64_t y = 0; y < c.rows_y; y++) {
            int64_t q = y % c.y->w, p = y / c.y->w % c.y->h, n = y / c.y->w / c.y->h;
            for (int64_t place = 0; place < c.places; place++) {
                int64_t x = pixel_under(&c, n, p, q, place);
                if (x >= 0)
                    rows[x * c.places + place] = c.y->at + y * depth;
            }
        }
        rc = run_product(&(struct product){c.rows_x, c.places, depth, width, rows, packed, NULL,
                                           run->chunk, c.x->at});
    }
    mem_free(rows);
    mem_free(packed);
    return rc;
}

/* dw[k][place][at..] for WIDE values of k, at one place. */
static void filter_block(const struct conv *c, const float *const *rows, const float *gradients,
                         int64_t block, int64_t place, int chunk)
{
    const int64_t channels = c->x->c, width = c->w->n;
    for (int64_t from = 0; from < channels; from += ROWS) {
        double total[ROWS][WIDE] = {{0}};
        float sum[ROWS][WIDE];
        int64_t at[ROWS];
        for (int i = 0; i < ROWS; i++)
            at[i] = from + i < channels ? from + i : from;
        memset(sum, 0, sizeof sum);
        for (int64_t p = 0; p < c->rows_y; p += chunk) {
            int64_t count = c->rows_y - p < chunk ? c->rows_y - p : chunk;
            (HAS_AVX2 ? filter_avx2 : filter_any)(rows + p, at, gradients + p * WIDE, count, sum);
            add_sums(total, sum);
        }
        for (int64_t i = 0; i < ROWS && from + i < channels; i++) {
            for (int64_t j = 0; j < WIDE && block * WIDE + j < width; j++)
                c->w->at[((block * WIDE + j) * c->places + place) * channels + from + i] =
                    (float)total[i][j];
        }
    }
}

int sim_conv_backward_filter(const struct sim_run *run)
{
    struct conv c = conv_of(run, DOOR_X, DOOR_DW, DOOR_DY);
    const int64_t k = c.w->n;
    int rc = -ERR_MEMORY;
    const float **rows = mem_array((size_t)(c.rows_y * c.places), sizeof *rows, "rows");
    const float **column = mem_array((size_t)c.rows_y, sizeof *column, "rows");
    float *packed = mem_array((size_t)(blocks_of(k) * WIDE * c.rows_y), sizeof *packed, "rows");
    operand(run, c.x);
    operand(run, c.y);
    if (rows && column && packed) {
        for (int64_t p = 0; p < c.rows_y; p++) {
            for (int64_t i = 0; i < k; i++)
                packed[(i / WIDE * c.rows_y + p) * WIDE + i % WIDE] = c.y->at[p * k + i];
        }
        rows_under(&c, rows);
        for (int64_t place = 0; place < c.places; place++) {
            for (int64_t p = 0; p < c.rows_y; p++)
                column[p] = rows[p * c.places + place];
            for (int64_t block = 0; block < blocks_of(k); block++)
                filter_block(&c, column, packed + block * c.rows_y * WIDE, block, place,
                             run->chunk);
        }
        rc = 0;
    }
    mem_free(rows);
    mem_free(column);
    mem_free(packed);
    return rc;
}

int sim_matmul(const struct sim_run *run)
{
    struct sim_value *a = run->roles[DOOR_A], *b = run->roles[DOOR_B], *m = run->roles[DOOR_C];
    const int64_t depth = a->c, width = b->c;
    int rc = -ERR_MEMORY;
    const float **rows = mem_array((size_t)a->w, sizeof *rows, "rows");
    float *packed = mem_array((size_t)(blocks_of(width) * WIDE * depth), sizeof *packed, "rows");
    operand(run, a);
    operand(run, b);
    if (rows && packed) {
        for (int64_t d = 0; d < depth; d++) {
            for (int64_t i = 0; i < width; i++)
                packed[(i / WIDE * depth + d) * WIDE + i % WIDE] = b->at[d * width + i];
        }
        for (int64_t r = 0; r < a->w; r++)
            rows[r] = a->at + r * depth;
        rc = run_product(
            &(struct product){a->w, 1, depth, width, rows, packed, NULL, run->chunk, m->at});
    }
    mem_free(rows);
    mem_free(packed);
    return rc;
}
