/*
 * stand_in_cublaslt.c - for tests alone: the parts of cuBLASLt that train/cuda/cublaslt.c calls, on
 * the CPU and by the book: matrices lie column by column, the bias runs along the rows of the
 * result. It knows nothing of who calls it: a product described the wrong way round comes out
 * wrong.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#define EXPORT __attribute__((visibility("default")))

struct layout {
    cudaDataType type;
    uint64_t rows, columns;
    int64_t ld;
};

struct desc {
    int32_t transposed[2]; /* of A, B */
    uint32_t epilogue;
    int32_t bias_type;
    const void *bias;
};

struct preference {
    uint64_t bytes;
    uint32_t schemes;
};

/* Two algorithms: a fast one that wants a workspace and adds in place, and a plain one. */
#define MAGIC 0x5afe5afe00000000u
static const size_t workspaces[2] = {1 << 20, 0};

EXPORT size_t cublasLtGetVersion(void)
{
    return 130100;
}

EXPORT const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status ? "refused by the stand-in" : "success";
}

EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc,
                                               cublasComputeType_t compute, cudaDataType_t scale)
{
    *desc = calloc(1, sizeof(struct desc));
    bool known = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    return known && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

EXPORT cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    free(desc);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                                     cublasLtMatmulDescAttributes_t name,
                                                     const void *value, size_t bytes)
{
    struct desc *d = (struct desc *)desc;
    void *place = name == CUBLASLT_MATMUL_DESC_TRANSA           ? (void *)&d->transposed[0]
                  : name == CUBLASLT_MATMUL_DESC_TRANSB         ? (void *)&d->transposed[1]
                  : name == CUBLASLT_MATMUL_DESC_EPILOGUE       ? (void *)&d->epilogue
                  : name == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE ? (void *)&d->bias_type
                  : name == CUBLASLT_MATMUL_DESC_BIAS_POINTER   ? (void *)&d->bias
                                                                : NULL;
    size_t size = name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : 4;
    if (!place || bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(place, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                                 uint64_t rows, uint64_t columns, int64_t ld)
{
    struct layout *layout = malloc(sizeof *layout);
    *layout = (struct layout){type, rows, columns, ld};
    *out = (cublasLtMatrixLayout_t)layout;
    return ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    struct preference *preference = malloc(sizeof *preference);
    *preference = (struct preference){0, CUBLASLT_REDUCTION_SCHEME_MASK};
    *out = (cublasLtMatmulPreference_t)preference;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    free(preference);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name,
    const void *value, size_t bytes)
{
    struct preference *p = (struct preference *)preference;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof p->bytes)
        memcpy(&p->bytes, value, bytes);
    else if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK && bytes == sizeof p->schemes)
        memcpy(&p->schemes, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t agree(const struct desc *d, const struct layout *a, const struct layout *b,
                            const struct layout *out)
{
    uint64_t m = d->transposed[0] ? a->columns : a->rows,
             k = d->transposed[0] ? a->rows : a->columns;
    uint64_t n = d->transposed[1] ? b->rows : b->columns,
             other = d->transposed[1] ? b->columns : b->rows;
    return k == other && m == out->rows && n == out->columns && a->type == b->type
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_INVALID_VALUE;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int wanted, cublasLtMatmulHeuristicResult_t results[],
    int *count)
{
    const struct preference *p = (const struct preference *)preference;
    (void)handle, (void)c;
    *count = 0;
    if (agree((struct desc *)desc, (struct layout *)a, (struct layout *)b, (struct layout *)d))
        return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < 2 && *count < wanted; i++) {
        if (workspaces[i] > p->bytes ||
            (i == 0 && !(p->schemes & CUBLASLT_REDUCTION_SCHEME_INPLACE)))
            continue;
        cublasLtMatmulHeuristicResult_t *result = &results[(*count)++];
        memset(result, 0, sizeof *result);
        result->algo.data[0] = MAGIC + (uint64_t)i;
        result->workspaceSize = workspaces[i];
    }
    return *count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              const cublasLtMatmulAlgo_t *algorithm,
                                              cublasLtMatmulHeuristicResult_t *result)
{
    (void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d;
    memset(result, 0, sizeof *result);
    if (algorithm->data[0] != MAGIC && algorithm->data[0] != MAGIC + 1)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    result->algo = *algorithm;
    result->workspaceSize = workspaces[algorithm->data[0] - MAGIC];
    return CUBLAS_STATUS_SUCCESS;
}

static float load(const void *from, cudaDataType type, int64_t i)
{
    float value;
    if (type == CUDA_R_32F)
        return ((const float *)from)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16; /* bf16 */
    memcpy(&value, &bits, sizeof value);
    return value;
}

EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                     const void *alpha, const void *a, cublasLtMatrixLayout_t la,
                                     const void *b, cublasLtMatrixLayout_t lb, const void *beta,
                                     const void *c, cublasLtMatrixLayout_t lc, void *d,
                                     cublasLtMatrixLayout_t ld,
                                     const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                                     size_t bytes, cudaStream_t stream)
{
    const struct desc *p = (const struct desc *)desc;
    const struct layout *x = (const struct layout *)la, *y = (const struct layout *)lb,
                        *out = (const struct layout *)ld;
    (void)handle, (void)c, (void)lc, (void)stream;
    size_t needed = workspaces[algorithm->data[0] - MAGIC];
    if (agree(p, x, y, out) || bytes < needed || (needed && !workspace) || *(float *)alpha != 1 ||
        *(float *)beta != 0 || out->type != CUDA_R_32F)
        return CUBLAS_STATUS_INVALID_VALUE;
    int64_t inner = (int64_t)(p->transposed[0] ? x->rows : x->columns);
    for (int64_t j = 0; j < (int64_t)out->columns; j++) {
        for (int64_t i = 0; i < (int64_t)out->rows; i++) {
            double sum = p->epilogue == CUBLASLT_EPILOGUE_BIAS
                             ? load(p->bias, (cudaDataType)p->bias_type, i)
                             : 0;
            for (int64_t k = 0; k < inner; k++)
                sum += load(a, x->type, p->transposed[0] ? k + i * x->ld : i + k * x->ld) *
                       load(b, y->type, p->transposed[1] ? j + k * y->ld : k + j * y->ld);
            ((float *)d)[i + j * out->ld] = (float)sum;
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}
