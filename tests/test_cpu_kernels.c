/*
 * test_cpu_kernels.c - the CPU backend's own passes: every instruction set gives the bytes of the
 * plain code, and bf16 is rounded to even. That they compute the right thing is test_ops.c's.
 */
#include "common/rng.h"
#include "tests/test.h"

#ifdef HAVE_DNNL
#include "train/cpu_kernels.h"

enum { IMAGES = 2, HEIGHT = 9, WIDTH = 8, PIXELS = HEIGHT * WIDTH, CHANNELS = 32, ROWS_WIDTH = 48 };
enum { NUMBERS = IMAGES * PIXELS * CHANNELS, TRACE_BYTES = 1 << 20 };

/* Everything a table's functions wrote, in order. */
struct trace {
    unsigned char bytes[TRACE_BYTES];
    size_t used;
};

static void note(struct trace *trace, const void *from, size_t bytes)
{
    if (trace->used + bytes > TRACE_BYTES) {
        printf("the trace is full\n");
        exit(1);
    }
    memcpy(trace->bytes + trace->used, from, bytes);
    trace->used += bytes;
}

static struct cpu_grid grid(int channels, bool blocked, bool bf16)
{
    return (struct cpu_grid){
        .images = IMAGES,
        .channels = channels,
        .columns = (channels + CPU_LANES - 1) / CPU_LANES,
        .height = HEIGHT,
        .width = WIDTH,
        .image_step = (size_t)PIXELS * (size_t)channels,
        .column_step = blocked ? (size_t)PIXELS * CPU_LANES : CPU_LANES,
        .pixel_step = blocked ? CPU_LANES : (size_t)channels,
        .bf16 = bf16,
    };
}

struct inputs {
    float wide[4][NUMBERS];
    uint16_t narrow[4][NUMBERS] __attribute__((aligned(64)));
    float rows[7][ROWS_WIDTH];
};

static void fill_inputs(struct inputs *in)
{
    struct rng rng;

    rng_init(&rng, 3, RNG_TEST, 0, 0);
    for (int k = 0; k < 4; k++)
        for (size_t i = 0; i < NUMBERS; i++) {
            uint32_t bits;

            in->wide[k][i] = (float)(rng_double(&rng) * 4 - 2);
            memcpy(&bits, &in->wide[k][i], sizeof bits);
            in->narrow[k][i] = (uint16_t)(bits >> 16);
        }
    for (int k = 0; k < 7; k++)
        for (size_t i = 0; i < ROWS_WIDTH; i++)
            in->rows[k][i] = (float)(rng_double(&rng) + 0.1);
}

static void trace_norm(const struct cpu_kernels *kernels, const struct inputs *in,
                       struct cpu_grid g, bool relu, bool residual, struct trace *trace)
{
    static float outs[3][NUMBERS] __attribute__((aligned(64)));
    float sums[2][ROWS_WIDTH] = {{0}};
    const void *source[4];

    memset(outs, 0, sizeof outs);
    for (int k = 0; k < 4; k++)
        source[k] = g.bf16 ? (const void *)in->narrow[k] : in->wide[k];
    struct cpu_norm norm = {
        .grid = g,
        .relu = relu,
        .past_caches = g.channels % CPU_LANES == 0,
        .in = source[0],
        .residual = residual ? source[1] : NULL,
        .out = outs[0],
        .result = outs[0],
        .gradients = {source[2], residual ? source[3] : NULL},
        .in_gradient = outs[1],
        .residual_gradient = residual ? outs[2] : NULL,
        .mean = in->rows[0],
        .scale = in->rows[1],
        .shift = in->rows[2],
        .of_gradient = in->rows[3],
        .of_in = in->rows[4],
        .constant = in->rows[5],
    };
    /* All but the first pixels, in two images. */
    for (int image = 0; image < IMAGES; image++) {
        const struct cpu_tile tile = {image, 0, g.columns, 3, PIXELS - 3};

        kernels->norm_measure(&norm, &tile, sums[0], sums[1]);
        note(trace, sums, sizeof sums);
        kernels->norm_apply(&norm, &tile);
        kernels->norm_backward_measure(&norm, &tile, sums[0], sums[1]);
        note(trace, sums, sizeof sums);
        kernels->norm_backward_apply(&norm, &tile);
    }
    for (int k = 0; k < 3; k++)
        note(trace, outs[k], NUMBERS * (g.bf16 ? sizeof(uint16_t) : sizeof(float)));
}

static void trace_max_pool(const struct cpu_kernels *kernels, const struct inputs *in,
                           const struct cpu_pool *pool, struct trace *trace)
{
    static float outs[2][NUMBERS] __attribute__((aligned(64)));
    static uint8_t indices[NUMBERS];
    const bool bf16 = pool->in.bf16;
    const void *source = bf16 ? (const void *)in->narrow[0] : in->wide[0];
    const void *const gradients[2] = {bf16 ? (const void *)in->narrow[1] : in->wide[1], NULL};

    memset(outs, 0, sizeof outs);
    memset(indices, 0, sizeof indices);
    for (int row = 0; row < pool->out.height; row++)
        kernels->max_pool(pool, 1, row, 0, pool->in.columns, source, outs[0], indices);
    for (int row = 0; row < pool->in.height; row++)
        kernels->max_pool_backward(pool, 1, row, 0, pool->in.columns, gradients, indices, outs[1]);
    for (int k = 0; k < 2; k++)
        note(trace, outs[k], NUMBERS * (bf16 ? sizeof(uint16_t) : sizeof(float)));
    note(trace, indices, NUMBERS);
}

static void trace_pools(const struct cpu_kernels *kernels, const struct inputs *in,
                        struct cpu_grid g, struct trace *trace)
{
    static float outs[2][NUMBERS];
    const void *source = g.bf16 ? (const void *)in->narrow[0] : in->wide[0];
    const void *const gradients[2] = {g.bf16 ? (const void *)in->narrow[1] : in->wide[1], NULL};
    struct cpu_pool pool = {.in = g, .out = g, .past_caches = g.channels % CPU_LANES == 0};

    memset(outs, 0, sizeof outs);
    pool.out.height = pool.out.width = 1;
    kernels->mean_pool(&pool, 0, 0, g.columns, source, outs[0]);
    kernels->mean_pool_backward(&pool, 0, 0, g.columns, gradients, outs[1]);
    for (int k = 0; k < 2; k++)
        note(trace, outs[k], NUMBERS * (g.bf16 ? sizeof(uint16_t) : sizeof(float)) / 4);
    /* ResNet's, and one that is not compiled with its numbers. */
    pool.out.width = WIDTH / 2;
    for (int kernel = 3; kernel >= 2; kernel--) {
        pool.out.height = (HEIGHT + kernel - 2) / 2;
        pool.kernel = kernel;
        pool.stride = 2;
        pool.padding = kernel - 2;
        trace_max_pool(kernels, in, &pool, trace);
    }
}

static void trace_rows(const struct cpu_kernels *kernels, const struct inputs *in,
                       struct trace *trace)
{
    const struct cpu_sgd sgd = {
        .lr = 0.1F, .momentum = 0.9F, .decay = 1e-4F, .gradient_scale = 0.5F};
    float out[ROWS_WIDTH] = {0}, values[ROWS_WIDTH], momenta[ROWS_WIDTH];
    double mean[CPU_LANES], deviation[CPU_LANES];

    memcpy(values, in->rows[5], sizeof values);
    memcpy(momenta, in->rows[6], sizeof momenta);
    kernels->dots(in->rows[0], in->rows[0], 7, ROWS_WIDTH, out);
    kernels->dots(in->rows[0], in->rows[1], 5, ROWS_WIDTH - 5, out + 8);
    note(trace, out, sizeof out);
    kernels->blend(in->rows[0], 3, in->rows[1], ROWS_WIDTH, 6, ROWS_WIDTH - 3, out);
    note(trace, out, sizeof out);
    kernels->sgd(&sgd, ROWS_WIDTH - 7, values, in->rows[4], momenta);
    note(trace, values, sizeof values);
    note(trace, momenta, sizeof momenta);
    kernels->norm_combine(in->rows[0], in->rows[1], ROWS_WIDTH, in->rows[5], 3, mean, deviation);
    note(trace, mean, sizeof mean);
    note(trace, deviation, sizeof deviation);
    kernels->sum_pieces(in->rows[0], ROWS_WIDTH, 7, mean);
    note(trace, mean, sizeof mean);
}

static void trace_table(const struct cpu_kernels *kernels, const struct inputs *in, bool bf16,
                        struct trace *trace)
{
    static const struct {
        int channels;
        bool blocked;
    } grids[] = {
        {CHANNELS, true },
        {CHANNELS, false},
        {21,       false}
    };

    trace->used = 0;
    for (size_t i = 0; i < 3; i++) {
        const struct cpu_grid g = grid(grids[i].channels, grids[i].blocked, bf16);

        trace_norm(kernels, in, g, i != 1, false, trace);
        trace_norm(kernels, in, g, i != 2, true, trace);
        trace_pools(kernels, in, g, trace);
    }
    trace_rows(kernels, in, trace);
}

/* The tables that this CPU can run, the plain one first. */
static size_t known_tables(const struct cpu_kernels *tables[4], const char *names[4])
{
    size_t count = 0;

    names[count] = "base";
    tables[count++] = &cpu_kernels_base;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        names[count] = "AVX2";
        tables[count++] = &cpu_kernels_avx2;
    }
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        names[count] = "AVX-512";
        tables[count++] = &cpu_kernels_avx512;
        if (__builtin_cpu_supports("avx512bf16")) {
            names[count] = "AVX512-BF16";
            tables[count++] = &cpu_kernels_avx512_bf16;
        }
    }
#endif
    return count;
}

static void instruction_sets_give_the_same_bytes(void)
{
    static struct trace first, other;
    static struct inputs in;
    const struct cpu_kernels *tables[4];
    const char *names[4];
    size_t count = known_tables(tables, names);

    fill_inputs(&in);
    for (int bf16 = 0; bf16 <= 1; bf16++) {
        trace_table(tables[0], &in, bf16 != 0, &first);
        for (size_t t = 1; t < count; t++) {
            trace_table(tables[t], &in, bf16 != 0, &other);
            CHECK_INT(other.used, first.used);
            for (size_t i = 0; i < first.used; i++)
                if (first.bytes[i] != other.bytes[i]) {
                    printf("%s, %s: byte %zu of %zu differs from the plain code's\n", names[t],
                           bf16 ? "bf16" : "f32", i, first.used);
                    test_failures++;
                    break;
                }
        }
    }
}

static void bf16_is_rounded_to_even(void)
{
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {
        {0x3F808000, 0x3F80}, /* a tie, to the even number below */
        {0x3F818000, 0x3F82}, /* and above */
        {0x3F808001, 0x3F81},
        {0x3F807FFF, 0x3F80},
        {0xBF808001, 0xBF81},
        {0x80000000, 0x8000},
        {0x7F7FFFFF, 0x7F80}, /* beyond the largest */
        {0x7F800000, 0x7F80},
        {0xFF800000, 0xFF80},
        {0x7FFFFFFF, 0x7FFF}, /* no numbers stay none */
        {0x7F800001, 0x7FC0},
        {0xFFC00000, 0xFFC0},
    };
    const struct cpu_kernels *tables[4];
    const char *names[4];
    size_t count = known_tables(tables, names);

    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            /* All lanes, and a last vector of one. */
            uint32_t from[17];
            uint16_t to[17] = {0};
            const void *const source[2] = {from, NULL};

            for (int k = 0; k < 17; k++)
                from[k] = cases[i].from;
            tables[t]->sum(source, false, 17, to, true);
            if (to[3] != cases[i].to || to[16] != cases[i].to) {
                printf("%s: %08x becomes %04x and %04x, not %04x\n", names[t], cases[i].from, to[3],
                       to[16], cases[i].to);
                test_failures++;
            }
        }
}

static const struct test tests[] = {
    {"instruction_sets_give_the_same_bytes", instruction_sets_give_the_same_bytes},
    {"bf16_is_rounded_to_even",              bf16_is_rounded_to_even             },
};

#else

static void cpu_backend_is_built_in(void)
{
    TEST_SKIP("built without oneDNN");
}

static const struct test tests[] = {
    {"cpu_backend_is_built_in", cpu_backend_is_built_in}
};

#endif

TEST_MAIN(tests)
