/*
 * test_sim_nodes.c - what the simulated device computes (tests/cuda/sim), against plain_graph.h:
 * every kind of node, on awkward shapes, in every type, and with tensors that lie in memory in
 * other orders and with gaps.
 */
#include "tests/cuda/plain_graph.h"

/* ---- other places in memory ---- */

/* N,C,H,W order with gaps: a row of pixels takes one element more, a channel three more. */
static void turn(struct sketch *s, int64_t uid)
{
    struct door_tensor *t = &s->tensors[uid - 1];
    t->strides[3] = 1;
    t->strides[2] = t->dims[3] + 1;
    t->strides[1] = t->strides[2] * t->dims[2] + 3;
    t->strides[0] = t->strides[1] * t->dims[1] + 5;
}

static void test_convolutions(void)
{
    struct sketch s;
    if (!begin())
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int kind = DOOR_CONV_FORWARD; kind <= DOOR_CONV_BACKWARD_FILTER; kind++) {
            for (int type = 0; type < 3; type++) {
                struct sketch_conv conv = shapes[i];
                conv.type = types[type];
                sketch_convolution(&s, (enum door_kind)kind, &conv);
                check_graph(&s.graph);
                for (int64_t uid = 1; uid <= 3 && i < 3; uid++) {
                    turn(&s, uid);
                    check_graph(&s.graph);
                }
            }
        }
    }
    /* dilated, padded on one side only, another stride each way; f32 weights' gradient */
    for (int kind = DOOR_CONV_FORWARD; kind <= DOOR_CONV_BACKWARD_FILTER; kind++) {
        struct sketch_conv conv = {2, 6, 11, 10, 5, 3, 1, DOOR_BF16};
        sketch_convolution(&s, (enum door_kind)kind, &conv);
        s.nodes[0].dilation[0] = 2;
        s.nodes[0].pre_padding[0] = 0;
        s.nodes[0].post_padding[1] = 3;
        s.nodes[0].stride[1] = 2;
        s.tensors[2].dims[2] = 11 + 1 - 4;
        s.tensors[2].dims[3] = (10 + 1 + 3 - 3) / 2 + 1;
        turn(&s, 3);
        if (kind == DOOR_CONV_BACKWARD_FILTER)
            s.tensors[1].type = DOOR_F32;
        check_graph(&s.graph);
    }
    end();
}

static void test_norms(void)
{
    struct sketch s;
    if (!begin())
        return;
    sim_set_all_plans(true);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int type = 0; type < 3; type++) {
            struct sketch_conv conv = shapes[i];
            conv.type = types[type];
            sketch_norm_forward(&s, &conv);
            check_graph(&s.graph);
            turn(&s, s.nodes[0].uids[DOOR_X]);
            check_graph(&s.graph);
            sketch_norm_backward(&s, &conv);
            check_graph(&s.graph);
            sketch_conv_stats(&s, &conv);
            check_graph(&s.graph);
            sketch_fused_filter(&s, &conv);
            check_graph(&s.graph);
        }
    }
    sim_set_all_plans(false);
    end();
}

/* BN finalize; BN's backward weights; normalisation by given statistics. */
static void test_norm_parts(void)
{
    struct sketch s;
    if (!begin())
        return;
    sim_set_all_plans(true);
    sketch_open(&s, "bn finalize");
    struct door_node *node = sketch_node(&s, DOOR_BN_FINALIZE);
    static const enum door_role channels[] = {DOOR_SUM,
                                              DOOR_SQSUM,
                                              DOOR_SCALE,
                                              DOOR_BIAS,
                                              DOOR_RUNNING_MEAN_IN,
                                              DOOR_MEAN,
                                              DOOR_INVSTD,
                                              DOOR_RUNNING_VAR_IN,
                                              DOOR_RUNNING_MEAN_OUT,
                                              DOOR_RUNNING_VAR_OUT,
                                              DOOR_EQ_SCALE,
                                              DOOR_EQ_BIAS};
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        node->uids[channels[i]] = sketch_channels(&s, DOOR_F32, 19);
    node->uids[DOOR_COUNT] = sketch_tensor(&s, DOOR_I64, 1, 1, 1, 1, BY_VALUE);
    node->uids[DOOR_EPSILON] = sketch_tensor(&s, DOOR_F32, 1, 1, 1, 1, BY_VALUE);
    node->uids[DOOR_MOMENTUM] = sketch_tensor(&s, DOOR_F32, 1, 1, 1, 1, BY_VALUE);
    check_graph(&s.graph);

    static const enum door_role weights[] = {DOOR_MEAN,    DOOR_INVSTD,    DOOR_SCALE,
                                             DOOR_DSCALE,  DOOR_DBIAS,     DOOR_EQ_DY_SCALE,
                                             DOOR_EQ_BIAS, DOOR_EQ_X_SCALE};
    sketch_open(&s, "bn backward weights");
    node = sketch_node(&s, DOOR_BN_BACKWARD_WEIGHTS);
    node->uids[DOOR_X] = sketch_tensor(&s, DOOR_F16, 2, 19, 5, 3, REAL);
    node->uids[DOOR_DY] = sketch_tensor(&s, DOOR_F16, 2, 19, 5, 3, REAL);
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        node->uids[weights[i]] = sketch_channels(&s, DOOR_F32, 19);
    check_graph(&s.graph);

    sketch_open(&s, "norm by given statistics > relu backward");
    node = sketch_node(&s, DOOR_NORM_FORWARD);
    node->uids[DOOR_X] = sketch_tensor(&s, DOOR_BF16, 2, 19, 5, 3, REAL);
    node->uids[DOOR_Y] = sketch_tensor(&s, DOOR_F32, 2, 19, 5, 3, VIRTUAL);
    node->uids[DOOR_MEAN] = sketch_channels(&s, DOOR_F32, 19);
    node->uids[DOOR_INVSTD] = sketch_channels(&s, DOOR_F32, 19);
    node->uids[DOOR_SCALE] = sketch_channels(&s, DOOR_F32, 19);
    node->uids[DOOR_BIAS] = sketch_channels(&s, DOOR_F32, 19);
    node = sketch_node(&s, DOOR_POINTWISE);
    node->pointwise = DOOR_RELU_BWD;
    node->uids[DOOR_X] = 2;
    node->uids[DOOR_DY] = sketch_tensor(&s, DOOR_BF16, 2, 19, 5, 3, REAL);
    node->uids[DOOR_DX] = sketch_tensor(&s, DOOR_BF16, 2, 19, 5, 3, REAL);
    check_graph(&s.graph);
    sim_set_all_plans(false);
    end();
}

static void test_pools(void)
{
    struct sketch s;
    if (!begin())
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int type = 0; type < 3; type++) {
            struct sketch_conv conv = shapes[i];
            conv.type = types[type];
            sketch_max_pool(&s, DOOR_RESAMPLE_FORWARD, &conv);
            check_graph(&s.graph);
            sketch_max_pool(&s, DOOR_RESAMPLE_BACKWARD, &conv);
            check_graph(&s.graph);
            for (int kind = DOOR_RESAMPLE_FORWARD; kind <= DOOR_RESAMPLE_BACKWARD; kind++) {
                sketch_max_pool(&s, (enum door_kind)kind, &conv);
                s.nodes[0].resample = DOOR_AVERAGE;
                s.nodes[0].uids[DOOR_INDEX] = 0;
                s.graph.tensor_count--;
                check_graph(&s.graph);
            }
        }
    }
    end();
}

static void test_pointwise_and_sums(void)
{
    struct sketch s;
    if (!begin())
        return;
    for (int mode = DOOR_ADD; mode <= DOOR_IDENTITY; mode++) {
        if (mode == DOOR_RELU_BWD)
            continue;
        for (int type = 0; type < 3; type++) {
            bool one = mode == DOOR_RELU_FWD || mode == DOOR_IDENTITY;
            sketch_open(&s, "pointwise");
            int64_t x = sketch_tensor(&s, types[type], 2, 13, 3, 5, REAL);
            int64_t b = one ? 0 : sketch_channels(&s, types[type], 13);
            enum door_type out = mode == DOOR_CMP_GT ? DOOR_BOOL : types[(type + 1) % 3];
            sketch_pointwise(&s, (enum door_pointwise)mode, x, b, out, REAL);
            check_graph(&s.graph);
            turn(&s, s.graph.tensor_count);
            check_graph(&s.graph);
        }
    }
    sketch_open(&s, "sums over n, h and w");
    struct door_node *node = sketch_node(&s, DOOR_REDUCTION);
    node->uids[DOOR_X] = sketch_tensor(&s, DOOR_BF16, 3, 21, 4, 5, REAL);
    node->uids[DOOR_Y] = sketch_channels(&s, DOOR_F32, 21);
    check_graph(&s.graph);
    end();
}

static void test_matrices(void)
{
    struct sketch s;
    if (!begin())
        return;
    for (int type = 0; type < 3; type++) {
        struct sketch_conv conv = {.n = 7, .c = 130, .k = 37, .type = types[type]};
        sketch_linear(&s, &conv);
        check_graph(&s.graph);
        s.tensors[0].strides[1] = 1;
        s.tensors[0].strides[2] = 9; /* turned, with a gap */
        s.tensors[0].strides[0] = 9 * 130;
        check_graph(&s.graph);
    }
    end();
}

static const struct test tests[] = {
    {"convolutions",       test_convolutions      },
    {"norms",              test_norms             },
    {"norm_parts",         test_norm_parts        },
    {"pools",              test_pools             },
    {"pointwise_and_sums", test_pointwise_and_sums},
    {"matrices",           test_matrices          },
};
TEST_MAIN(tests)
