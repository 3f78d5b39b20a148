/*
 * test_products.c - matrix products through cublaslt.c, with the stand-in for cuBLASLt that takes
 * every description by the book and computes on the CPU (the real one opens with a GPU only): rows
 * and columns, transposition, gaps between rows and the bias come out right, and what is nothing
 * for cuBLASLt is left to cuDNN.
 */
#include <dlfcn.h>

#include "common/mem.h"
#include "tests/cuda/sketch.h"
#include "tests/test.h"
#include "train/cuda/cublaslt.h"

static const struct door_wish wish_any = {.workspace_cap = (size_t)1 << 22};

static struct cublaslt *open_stand_in(void)
{
    struct cublaslt *lt = NULL;
    /* Its soname answers the search for the real one. */
    if (!dlopen(STAND_IN_CUBLASLT, RTLD_NOW))
        printf("%s\n", dlerror());
    CHECK_INT(cublaslt_open(&lt), 0);
    CHECK_INT(cublaslt_version(lt), 130100);
    return lt;
}

#define M 5
#define N 7
#define K 3
#define GAP 2 /* elements between two rows (or columns) of an input */

static float number(int seed, int i)
{
    return (float)((seed * 31 + i * 7) % 17 - 8) / 4; /* exact in bf16 */
}

static void store(void *to, enum door_type type, int64_t i, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (type == DOOR_F32)
        ((float *)to)[i] = value;
    else
        ((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
}

/* A rows x columns matrix with a gap; returns its uid and fills MEMORY. */
static int64_t matrix(struct sketch *s, enum door_type type, int rows, int columns, bool turned,
                      int seed, void *memory)
{
    int64_t uid = sketch_matrix(s, type, rows, columns, turned, REAL);
    struct door_tensor *t = &s->tensors[uid - 1];
    t->strides[turned ? 2 : 1] += GAP;
    t->strides[0] = (int64_t)(rows + GAP) * (columns + GAP);
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++)
            store(memory, type, r * t->strides[1] + c * t->strides[2],
                  number(seed, r * columns + c));
    }
    return uid;
}

static void one_product(struct cublaslt *lt, enum door_type type, bool a_turned, bool b_turned,
                        bool with_bias)
{
    static float a[200], b[200], out[M * N + 1], workspace[(1 << 20) / 4];
    float bias[N];
    struct sketch s;
    struct cublaslt_plan *plans[4], *again;
    int count = 0;
    char *text = NULL;
    sketch_open(&s, "a product");
    struct door_node *product = sketch_node(&s, DOOR_MATMUL);
    product->uids[DOOR_A] = matrix(&s, type, M, K, a_turned, 1, a);
    product->uids[DOOR_B] = matrix(&s, type, K, N, b_turned, 2, b);
    int64_t c = sketch_matrix(&s, DOOR_F32, M, N, false, with_bias ? VIRTUAL : REAL);
    product->uids[DOOR_C] = c;
    struct door_pointer pointers[4] = {
        {1, a  },
        {2, b  },
        {c, out}
    };
    if (with_bias) {
        int64_t uid = sketch_matrix(&s, DOOR_F32, 1, N, false, REAL);
        pointers[3] = (struct door_pointer){uid, bias};
        pointers[2].uid = sketch_pointwise(&s, DOOR_ADD, c, uid, DOOR_F32, REAL);
    }
    for (int i = 0; i < N; i++)
        bias[i] = with_bias ? number(3, i) : 0;
    CHECK_INT(door_graph_check(&s.graph), 0);
    CHECK_INT(cublaslt_plans_open(lt, &s.graph, &wish_any, 4, plans, &count), 0);
    CHECK_INT(count, 2);
    if (count != 2)
        return;
    CHECK_INT(cublaslt_plan_info(plans[0])->workspace_bytes, 1 << 20);
    CHECK_INT(cublaslt_plan_save(plans[0], &text), 0);
    CHECK_INT(cublaslt_plan_load(lt, &s.graph, text, cublaslt_plan_info(plans[0]), &again), 0);
    struct cublaslt_plan *runs[3] = {plans[0], plans[1], again};
    for (int run = 0; run < 3; run++) {
        memset(out, 0xff, sizeof out);
        CHECK_INT(cublaslt_plan_run(lt, runs[run], NULL, pointers, with_bias ? 4 : 3, workspace),
                  0);
        for (int i = 0; i < M * N; i++) {
            double expected = bias[i % N];
            for (int k = 0; k < K; k++)
                expected += number(1, i / N * K + k) * number(2, k * N + i % N);
            CHECK_CLOSE(out[i], expected, 1e-6);
        }
        CHECK(isnan(out[M * N])); /* nothing is written behind it */
    }
    CHECK_INT(cublaslt_plan_run(lt, plans[1], NULL, pointers, 2, workspace), -ERR_FAULT);
    CHECK_HAS(err_text(), "no pointer for tensor");
    text[0] = text[0] == '0' ? '1' : '0';
    CHECK_INT(cublaslt_plan_load(lt, &s.graph, text, cublaslt_plan_info(plans[0]), &again),
              -ERR_MISMATCH);
    mem_free(text);
    for (int run = 0; run < 3; run++)
        cublaslt_plan_close(runs[run]);
}

static void test_products(void)
{
    struct cublaslt *lt = open_stand_in();
    for (int i = 0; lt && i < 16; i++)
        one_product(lt, i & 8 ? DOOR_F32 : DOOR_BF16, i & 1, i & 2, i & 4);
    cublaslt_close(lt);
}

static int count_plans(struct cublaslt *lt, const struct sketch *s, const struct door_wish *wish)
{
    struct cublaslt_plan *plans[4];
    int count = -1;
    CHECK_INT(cublaslt_plans_open(lt, &s->graph, wish, 4, plans, &count), 0);
    for (int i = 0; i < count; i++)
        cublaslt_plan_close(plans[i]);
    return count;
}

static void test_wishes(void)
{
    const struct sketch_conv linear = {16, 512, 1, 1, 37, 1, 1, DOOR_BF16};
    const struct sketch_conv conv = {8, 64, 56, 56, 64, 3, 1, DOOR_BF16};
    struct cublaslt *lt = open_stand_in();
    struct door_wish wish = wish_any;
    struct sketch s;
    if (!lt)
        return;
    sketch_linear(&s, &linear);
    CHECK_INT(count_plans(lt, &s, &wish), 2);
    wish.deterministic = true; /* no partial sums in place */
    CHECK_INT(count_plans(lt, &s, &wish), 1);
    wish = (struct door_wish){.workspace_cap = 1000};
    CHECK_INT(count_plans(lt, &s, &wish), 1);
    /* Nothing for cuBLASLt: 16 bits without tensor cores, another sum, a bias of another type, a
     * convolution. */
    wish = wish_any;
    wish.cores = DOOR_CORES_NEVER;
    CHECK_INT(count_plans(lt, &s, &wish), 0);
    s.nodes[1].pointwise = DOOR_SUB;
    CHECK_INT(count_plans(lt, &s, &wish_any), 0);
    sketch_linear(&s, &linear);
    s.tensors[3].type = DOOR_BF16;
    CHECK_INT(count_plans(lt, &s, &wish_any), 0);
    sketch_convolution(&s, DOOR_CONV_FORWARD, &conv);
    CHECK_INT(count_plans(lt, &s, &wish_any), 0);
    cublaslt_close(lt);
}

static const struct test tests[] = {
    {"products", test_products},
    {"wishes",   test_wishes  },
};
TEST_MAIN(tests)
