#include "train/cuda/cudnn_graph.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/err.h"

#define ATTRIBUTE(name, type, count, values)                                                       \
    (struct cudnn_attribute)                                                                       \
    {                                                                                              \
        CUDNN_ATTR_##name, CUDNN_TYPE_##type, count, values                                        \
    }

/* Which attribute of its operation names a role's tensor. */
static const struct kind_names {
    cudnnBackendDescriptorType_t type;
    struct {
        enum door_role role;
        cudnnBackendAttributeName_t name;
    } roles[16];
    int count;
} kinds[DOOR_KINDS] = {
#define ROLE(role, name)                                                                           \
    {                                                                                              \
        DOOR_##role, CUDNN_ATTR_OPERATION_##name                                                   \
    }
    [DOOR_CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                            {ROLE(X, CONVOLUTION_FORWARD_X), ROLE(W, CONVOLUTION_FORWARD_W),
                            ROLE(Y, CONVOLUTION_FORWARD_Y)},
                            3 },
    [DOOR_CONV_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                            {ROLE(DY, CONVOLUTION_BWD_DATA_DY),
                                  ROLE(W, CONVOLUTION_BWD_DATA_W),
                                  ROLE(DX, CONVOLUTION_BWD_DATA_DX)},
                            3 },
    [DOOR_CONV_BACKWARD_FILTER] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                            {ROLE(X, CONVOLUTION_BWD_FILTER_X),
                                    ROLE(DY, CONVOLUTION_BWD_FILTER_DY),
                                    ROLE(DW, CONVOLUTION_BWD_FILTER_DW)},
                            3 },
    [DOOR_POINTWISE] = {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
                            {ROLE(X, POINTWISE_XDESC), ROLE(B, POINTWISE_BDESC),
                         ROLE(Y, POINTWISE_YDESC), ROLE(DY, POINTWISE_DYDESC),
                         ROLE(DX, POINTWISE_DXDESC)},
                            5 },
    [DOOR_GEN_STATS] = {CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR,
                            {ROLE(X, GENSTATS_XDESC), ROLE(SUM, GENSTATS_SUMDESC),
                         ROLE(SQSUM, GENSTATS_SQSUMDESC)},
                            3 },
    [DOOR_BN_FINALIZE] =
        {CUDNN_BACKEND_OPERATION_BN_FINALIZE_STATISTICS_DESCRIPTOR,
                            {ROLE(SUM, BN_FINALIZE_Y_SUM_DESC), ROLE(SQSUM, BN_FINALIZE_Y_SQ_SUM_DESC),
          ROLE(SCALE, BN_FINALIZE_SCALE_DESC), ROLE(BIAS, BN_FINALIZE_BIAS_DESC),
          ROLE(RUNNING_MEAN_IN, BN_FINALIZE_PREV_RUNNING_MEAN_DESC),
          ROLE(RUNNING_VAR_IN, BN_FINALIZE_PREV_RUNNING_VAR_DESC),
          ROLE(RUNNING_MEAN_OUT, BN_FINALIZE_UPDATED_RUNNING_MEAN_DESC),
          ROLE(RUNNING_VAR_OUT, BN_FINALIZE_UPDATED_RUNNING_VAR_DESC),
          ROLE(MEAN, BN_FINALIZE_SAVED_MEAN_DESC), ROLE(INVSTD, BN_FINALIZE_SAVED_INV_STD_DESC),
          ROLE(EQ_SCALE, BN_FINALIZE_EQ_SCALE_DESC), ROLE(EQ_BIAS, BN_FINALIZE_EQ_BIAS_DESC),
          ROLE(COUNT, BN_FINALIZE_ACCUM_COUNT_DESC), ROLE(EPSILON, BN_FINALIZE_EPSILON_DESC),
          ROLE(MOMENTUM, BN_FINALIZE_EXP_AVERATE_FACTOR_DESC)},
                            15},
    [DOOR_NORM_FORWARD] = {CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR,
                            {ROLE(X, NORM_FWD_XDESC), ROLE(MEAN, NORM_FWD_MEAN_DESC),
                            ROLE(INVSTD, NORM_FWD_INV_VARIANCE_DESC),
                            ROLE(SCALE, NORM_FWD_SCALE_DESC), ROLE(BIAS, NORM_FWD_BIAS_DESC),
                            ROLE(EPSILON, NORM_FWD_EPSILON_DESC),
                            ROLE(MOMENTUM, NORM_FWD_EXP_AVG_FACTOR_DESC),
                            ROLE(RUNNING_MEAN_IN, NORM_FWD_INPUT_RUNNING_MEAN_DESC),
                            ROLE(RUNNING_VAR_IN, NORM_FWD_INPUT_RUNNING_VAR_DESC),
                            ROLE(RUNNING_MEAN_OUT, NORM_FWD_OUTPUT_RUNNING_MEAN_DESC),
                            ROLE(RUNNING_VAR_OUT, NORM_FWD_OUTPUT_RUNNING_VAR_DESC),
                            ROLE(Y, NORM_FWD_YDESC)},
                            12},
    [DOOR_NORM_BACKWARD] = {CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR,
                            {ROLE(X, NORM_BWD_XDESC), ROLE(DY, NORM_BWD_DYDESC),
                             ROLE(MEAN, NORM_BWD_MEAN_DESC),
                             ROLE(INVSTD, NORM_BWD_INV_VARIANCE_DESC),
                             ROLE(SCALE, NORM_BWD_SCALE_DESC), ROLE(DSCALE, NORM_BWD_DSCALE_DESC),
                             ROLE(DBIAS, NORM_BWD_DBIAS_DESC), ROLE(DX, NORM_BWD_DXDESC)},
                            8 },
    [DOOR_BN_BACKWARD_WEIGHTS] =
        {CUDNN_BACKEND_OPERATION_BN_BWD_WEIGHTS_DESCRIPTOR,
                            {ROLE(X, BN_BWD_WEIGHTS_X_DESC), ROLE(DY, BN_BWD_WEIGHTS_DY_DESC),
          ROLE(MEAN, BN_BWD_WEIGHTS_MEAN_DESC), ROLE(INVSTD, BN_BWD_WEIGHTS_INVSTD_DESC),
          ROLE(SCALE, BN_BWD_WEIGHTS_BN_SCALE_DESC), ROLE(DSCALE, BN_BWD_WEIGHTS_DBN_SCALE_DESC),
          ROLE(DBIAS, BN_BWD_WEIGHTS_DBN_BIAS_DESC),
          ROLE(EQ_DY_SCALE, BN_BWD_WEIGHTS_EQ_DY_SCALE_DESC),
          ROLE(EQ_X_SCALE, BN_BWD_WEIGHTS_EQ_X_SCALE_DESC), ROLE(EQ_BIAS, BN_BWD_WEIGHTS_EQ_BIAS)},
                            10},
    [DOOR_RESAMPLE_FORWARD] = {CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR,
                            {ROLE(X, RESAMPLE_FWD_XDESC), ROLE(Y, RESAMPLE_FWD_YDESC),
                                ROLE(INDEX, RESAMPLE_FWD_IDXDESC)},
                            3 },
    [DOOR_RESAMPLE_BACKWARD] = {CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR,
                            {ROLE(DX, RESAMPLE_BWD_DXDESC), ROLE(DY, RESAMPLE_BWD_DYDESC),
                                 ROLE(INDEX, RESAMPLE_BWD_IDXDESC)},
                            3 },
    [DOOR_MATMUL] = {CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR,
                            {ROLE(A, MATMUL_ADESC), ROLE(B, MATMUL_BDESC), ROLE(C, MATMUL_CDESC)},
                            3 },
    [DOOR_REDUCTION] = {CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR,
                            {ROLE(X, REDUCTION_XDESC), ROLE(Y, REDUCTION_YDESC)},
                            2 },
#undef ROLE
};

static const cudnnDataType_t type_f32 = CUDNN_DATA_FLOAT;
static const int64_t two = 2;

static const cudnnDataType_t data_types[] = {
    [DOOR_F32] = CUDNN_DATA_FLOAT,     [DOOR_F16] = CUDNN_DATA_HALF,
    [DOOR_BF16] = CUDNN_DATA_BFLOAT16, [DOOR_I8] = CUDNN_DATA_INT8,
    [DOOR_I32] = CUDNN_DATA_INT32,     [DOOR_I64] = CUDNN_DATA_INT64,
    [DOOR_BOOL] = CUDNN_DATA_BOOLEAN,
};

static int make_tensor(struct cudnn_set *set, const struct door_tensor *t,
                       cudnnBackendDescriptor_t *out)
{
    const bool yes = true; /* cuDNN's BOOLEAN is C's bool */
    int64_t alignment = t->alignment;
    char what[64];
    snprintf(what, sizeof what, "tensor %" PRId64, t->uid);
    struct cudnn_attribute attributes[6] = {
        ATTRIBUTE(TENSOR_UNIQUE_ID, INT64, 1, &t->uid),
        ATTRIBUTE(TENSOR_DATA_TYPE, DATA_TYPE, 1, &data_types[t->type]),
        ATTRIBUTE(TENSOR_DIMENSIONS, INT64, t->rank, t->dims),
        ATTRIBUTE(TENSOR_STRIDES, INT64, t->rank, t->strides),
        ATTRIBUTE(TENSOR_BYTE_ALIGNMENT, INT64, 1, &alignment),
    };
    int count = 5;
    if (t->is_virtual)
        attributes[count++] = ATTRIBUTE(TENSOR_IS_VIRTUAL, BOOLEAN, 1, &yes);
    else if (t->by_value)
        attributes[count++] = ATTRIBUTE(TENSOR_IS_BY_VALUE, BOOLEAN, 1, &yes);
    return cudnn_set_make(set, CUDNN_BACKEND_TENSOR_DESCRIPTOR, what, attributes, count, out);
}

/* The descriptor that carries an operation's attributes, where its kind has one. */

static int make_convolution(struct cudnn_set *set, const struct door_node *n,
                            cudnnBackendDescriptor_t *out)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, &type_f32),
        ATTRIBUTE(CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, &mode),
        ATTRIBUTE(CONVOLUTION_SPATIAL_DIMS, INT64, 1, &two),
        ATTRIBUTE(CONVOLUTION_FILTER_STRIDES, INT64, 2, n->stride),
        ATTRIBUTE(CONVOLUTION_DILATIONS, INT64, 2, n->dilation),
        ATTRIBUTE(CONVOLUTION_PRE_PADDINGS, INT64, 2, n->pre_padding),
        ATTRIBUTE(CONVOLUTION_POST_PADDINGS, INT64, 2, n->post_padding),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution", attributes, 7,
                          out);
}

static int make_pointwise(struct cudnn_set *set, const struct door_node *n,
                          cudnnBackendDescriptor_t *out)
{
    static const cudnnPointwiseMode_t modes[] = {
        [DOOR_ADD] = CUDNN_POINTWISE_ADD,           [DOOR_SUB] = CUDNN_POINTWISE_SUB,
        [DOOR_MUL] = CUDNN_POINTWISE_MUL,           [DOOR_CMP_GT] = CUDNN_POINTWISE_CMP_GT,
        [DOOR_RELU_FWD] = CUDNN_POINTWISE_RELU_FWD, [DOOR_RELU_BWD] = CUDNN_POINTWISE_RELU_BWD,
        [DOOR_IDENTITY] = CUDNN_POINTWISE_IDENTITY,
    };
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(POINTWISE_MODE, POINTWISE_MODE, 1, &modes[n->pointwise]),
        ATTRIBUTE(POINTWISE_MATH_PREC, DATA_TYPE, 1, &type_f32),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise", attributes, 2, out);
}

static int make_resample(struct cudnn_set *set, const struct door_node *n,
                         cudnnBackendDescriptor_t *out)
{
    bool max = n->resample == DOOR_MAX;
    cudnnResampleMode_t mode =
        max ? CUDNN_RESAMPLE_MAXPOOL : CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING;
    cudnnPaddingMode_t padding = max ? CUDNN_NEG_INF_PAD : CUDNN_ZERO_PAD;
    cudnnFraction_t window[2], stride[2], pre[2], post[2];
    for (int i = 0; i < 2; i++) {
        window[i] = (cudnnFraction_t){n->window[i], 1};
        stride[i] = (cudnnFraction_t){n->stride[i], 1};
        pre[i] = (cudnnFraction_t){n->pre_padding[i], 1};
        post[i] = (cudnnFraction_t){n->post_padding[i], 1};
    }
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(RESAMPLE_MODE, RESAMPLE_MODE, 1, &mode),
        ATTRIBUTE(RESAMPLE_COMP_TYPE, DATA_TYPE, 1, &type_f32),
        ATTRIBUTE(RESAMPLE_PADDING_MODE, PADDING_MODE, 1, &padding),
        ATTRIBUTE(RESAMPLE_SPATIAL_DIMS, INT64, 1, &two),
        ATTRIBUTE(RESAMPLE_WINDOW_DIMS, FRACTION, 2, window),
        ATTRIBUTE(RESAMPLE_STRIDES, FRACTION, 2, stride),
        ATTRIBUTE(RESAMPLE_PRE_PADDINGS, FRACTION, 2, pre),
        ATTRIBUTE(RESAMPLE_POST_PADDINGS, FRACTION, 2, post),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_RESAMPLE_DESCRIPTOR, "resample", attributes, 8, out);
}

static int make_matmul(struct cudnn_set *set, cudnnBackendDescriptor_t *out)
{
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(MATMUL_COMP_TYPE, DATA_TYPE, 1, &type_f32),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "matmul", attributes, 1, out);
}

static int make_reduction(struct cudnn_set *set, cudnnBackendDescriptor_t *out)
{
    const cudnnReduceTensorOp_t add = CUDNN_REDUCE_TENSOR_ADD;
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, 1, &add),
        ATTRIBUTE(REDUCTION_COMP_TYPE, DATA_TYPE, 1, &type_f32),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction", attributes, 2, out);
}

#define MAX_ATTRIBUTES 24

/* A convolution's own attributes: the names differ by direction, the values do not. */
static int convolution_attributes(struct cudnn_set *set, const struct door_node *n,
                                  struct cudnn_attribute *list, cudnnBackendDescriptor_t *carrier)
{
    static const float one = 1, zero = 0;
    static const cudnnBackendAttributeName_t names[][3] = {
        [DOOR_CONV_FORWARD] = {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA   },
        [DOOR_CONV_BACKWARD_DATA] = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA  },
        [DOOR_CONV_BACKWARD_FILTER] = {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    int rc = make_convolution(set, n, carrier);
    list[0] =
        (struct cudnn_attribute){names[n->kind][0], CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, carrier};
    list[1] = (struct cudnn_attribute){names[n->kind][1], CUDNN_TYPE_FLOAT, 1, &one};
    list[2] = (struct cudnn_attribute){names[n->kind][2], CUDNN_TYPE_FLOAT, 1, &zero};
    return rc ? rc : 3;
}

/* Fill LIST with what a kind has beside its tensors; returns how many, or an error. CARRIER keeps
 * the descriptor that LIST may point to. */
static int own_attributes(struct cudnn_set *set, const struct door_node *n,
                          struct cudnn_attribute *list, cudnnBackendDescriptor_t *carrier)
{
    static const cudnnGenStatsMode_t sums = CUDNN_GENSTATS_SUM_SQSUM;
    static const cudnnBnFinalizeStatsMode_t finalize = CUDNN_BN_FINALIZE_STATISTICS_TRAINING;
    static const cudnnBackendNormMode_t batch_norm = CUDNN_BATCH_NORM;
    static const cudnnBackendNormFwdPhase_t phases[2] = {CUDNN_NORM_FWD_INFERENCE,
                                                         CUDNN_NORM_FWD_TRAINING};
    int rc = 0;
    switch (n->kind) {
    case DOOR_CONV_FORWARD:
    case DOOR_CONV_BACKWARD_DATA:
    case DOOR_CONV_BACKWARD_FILTER:
        return convolution_attributes(set, n, list, carrier);
    case DOOR_POINTWISE:
        rc = make_pointwise(set, n, carrier);
        list[0] = ATTRIBUTE(OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, carrier);
        return rc ? rc : 1;
    case DOOR_GEN_STATS:
        list[0] = ATTRIBUTE(OPERATION_GENSTATS_MODE, GENSTATS_MODE, 1, &sums);
        list[1] = ATTRIBUTE(OPERATION_GENSTATS_MATH_PREC, DATA_TYPE, 1, &type_f32);
        return 2;
    case DOOR_BN_FINALIZE:
        list[0] = ATTRIBUTE(OPERATION_BN_FINALIZE_STATS_MODE, BN_FINALIZE_STATS_MODE, 1, &finalize);
        list[1] = ATTRIBUTE(OPERATION_BN_FINALIZE_MATH_PREC, DATA_TYPE, 1, &type_f32);
        return 2;
    case DOOR_NORM_FORWARD:
        list[0] = ATTRIBUTE(OPERATION_NORM_FWD_MODE, NORM_MODE, 1, &batch_norm);
        list[1] = ATTRIBUTE(OPERATION_NORM_FWD_PHASE, NORM_FWD_PHASE, 1, &phases[n->training]);
        return 2;
    case DOOR_NORM_BACKWARD:
        list[0] = ATTRIBUTE(OPERATION_NORM_BWD_MODE, NORM_MODE, 1, &batch_norm);
        return 1;
    case DOOR_BN_BACKWARD_WEIGHTS:
        list[0] = ATTRIBUTE(OPERATION_BN_BWD_WEIGHTS_MATH_PREC, DATA_TYPE, 1, &type_f32);
        return 1;
    case DOOR_RESAMPLE_FORWARD:
        rc = make_resample(set, n, carrier);
        list[0] = ATTRIBUTE(OPERATION_RESAMPLE_FWD_DESC, BACKEND_DESCRIPTOR, 1, carrier);
        return rc ? rc : 1;
    case DOOR_RESAMPLE_BACKWARD:
        rc = make_resample(set, n, carrier);
        list[0] = ATTRIBUTE(OPERATION_RESAMPLE_BWD_DESC, BACKEND_DESCRIPTOR, 1, carrier);
        return rc ? rc : 1;
    case DOOR_MATMUL:
        rc = make_matmul(set, carrier);
        list[0] = ATTRIBUTE(OPERATION_MATMUL_DESC, BACKEND_DESCRIPTOR, 1, carrier);
        return rc ? rc : 1;
    case DOOR_REDUCTION:
        rc = make_reduction(set, carrier);
        list[0] = ATTRIBUTE(OPERATION_REDUCTION_DESC, BACKEND_DESCRIPTOR, 1, carrier);
        return rc ? rc : 1;
    case DOOR_KINDS:
        break;
    }
    return err_set(ERR_FAULT, "a node without a kind");
}

/* TENSORS: the descriptors of the graph's tensors, in their order. */
static int make_node(struct cudnn_set *set, const struct door_graph *graph, int number,
                     cudnnBackendDescriptor_t *tensors, cudnnBackendDescriptor_t *out)
{
    const struct door_node *n = &graph->nodes[number];
    const struct kind_names *kind = &kinds[n->kind];
    struct cudnn_attribute list[MAX_ATTRIBUTES];
    cudnnBackendDescriptor_t carrier = NULL;
    char what[64];
    snprintf(what, sizeof what, "node %d, %s", number, door_kind_name(n->kind));
    int count = own_attributes(set, n, list, &carrier);
    if (count < 0)
        return err_add(count, "%s", what);
    for (int i = 0; i < kind->count; i++) {
        int64_t uid = n->uids[kind->roles[i].role];
        if (!uid)
            continue;
        list[count++] =
            (struct cudnn_attribute){kind->roles[i].name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                     &tensors[door_graph_tensor(graph, uid) - graph->tensors]};
    }
    return cudnn_set_make(set, kind->type, what, list, count, out);
}

int cudnn_graph_make(struct cudnn_set *set, const struct door_graph *graph, cudnnHandle_t handle,
                     cudnnBackendDescriptor_t *out)
{
    cudnnBackendDescriptor_t tensors[DOOR_MAX_TENSORS], nodes[DOOR_MAX_NODES];
    int rc = 0;
    for (int i = 0; i < graph->tensor_count && !rc; i++)
        rc = make_tensor(set, &graph->tensors[i], &tensors[i]);
    for (int i = 0; i < graph->node_count && !rc; i++)
        rc = make_node(set, graph, i, tensors, &nodes[i]);
    if (rc)
        return rc;
    const struct cudnn_attribute attributes[] = {
        ATTRIBUTE(OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, graph->node_count, nodes),
        ATTRIBUTE(OPERATIONGRAPH_HANDLE, HANDLE, 1, &handle),
    };
    return cudnn_set_make(set, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "operation graph",
                          attributes, handle ? 2 : 1, out);
}
