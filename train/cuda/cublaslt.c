/*
 * cublaslt.c - cuBLASLt's matrices lie column by column and ours row by row, so it is asked for the
 * transposed product: C^T (n x m) = B^T A^T. Its first operand is our B, its second our A, and its
 * bias along the rows of C^T is ours along the columns of C.
 */
#include "train/cuda/cublaslt.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <cublasLt.h>

#include "common/err.h"
#include "common/mem.h"

#define TEXT_OF(number) TEXT_OF_(number)
#define TEXT_OF_(number) #number

static struct {
    size_t (*version)(void);
    const char *(*status_string)(cublasStatus_t status);
    cublasStatus_t (*create)(cublasLtHandle_t *handle);
    cublasStatus_t (*destroy)(cublasLtHandle_t handle);
    cublasStatus_t (*desc_create)(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                  cudaDataType_t scale);
    cublasStatus_t (*desc_destroy)(cublasLtMatmulDesc_t desc);
    cublasStatus_t (*desc_set)(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                               const void *value, size_t bytes);
    cublasStatus_t (*layout_create)(cublasLtMatrixLayout_t *layout, cudaDataType type,
                                    uint64_t rows, uint64_t columns, int64_t ld);
    cublasStatus_t (*layout_destroy)(cublasLtMatrixLayout_t layout);
    cublasStatus_t (*preference_create)(cublasLtMatmulPreference_t *preference);
    cublasStatus_t (*preference_destroy)(cublasLtMatmulPreference_t preference);
    cublasStatus_t (*preference_set)(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                     size_t bytes);
    cublasStatus_t (*heuristics)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                 cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                 cublasLtMatmulPreference_t preference, int wanted,
                                 cublasLtMatmulHeuristicResult_t *results, int *count);
    cublasStatus_t (*check)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                            cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                            const cublasLtMatmulAlgo_t *algorithm,
                            cublasLtMatmulHeuristicResult_t *result);
    cublasStatus_t (*multiply)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                               const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                               const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                               const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                               cublasLtMatrixLayout_t d_layout,
                               const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes,
                               cudaStream_t stream);
} library;
static struct err library_error;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

struct cublaslt {
    cublasLtHandle_t handle;
};

/* A graph that cuBLASLt can do: c = a b, then y = c + bias where there is one. */
struct product {
    const struct door_tensor *a, *b, *bias /* or NULL */, *out;
    enum door_cores cores;
};

struct cublaslt_plan {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, out; /* of our tensors */
    cublasLtMatmulAlgo_t algorithm;
    int64_t a_uid, b_uid, bias_uid, out_uid; /* bias 0: none */
    struct door_plan_info info;
    char *name; /* the graph's */
};

/* ---- the library -------------------------------------------------------------------------- */

static void open_library(void)
{
    static const char name[] = "libcublasLt.so." TEXT_OF(CUBLAS_VER_MAJOR);
    const struct {
        const char *name;
        void *place; /* of a function pointer */
    } symbols[] = {
        {"cublasLtGetVersion",                   &library.version           },
        {"cublasLtGetStatusString",              &library.status_string     },
        {"cublasLtCreate",                       &library.create            },
        {"cublasLtDestroy",                      &library.destroy           },
        {"cublasLtMatmulDescCreate",             &library.desc_create       },
        {"cublasLtMatmulDescDestroy",            &library.desc_destroy      },
        {"cublasLtMatmulDescSetAttribute",       &library.desc_set          },
        {"cublasLtMatrixLayoutCreate",           &library.layout_create     },
        {"cublasLtMatrixLayoutDestroy",          &library.layout_destroy    },
        {"cublasLtMatmulPreferenceCreate",       &library.preference_create },
        {"cublasLtMatmulPreferenceDestroy",      &library.preference_destroy},
        {"cublasLtMatmulPreferenceSetAttribute", &library.preference_set    },
        {"cublasLtMatmulAlgoGetHeuristic",       &library.heuristics        },
        {"cublasLtMatmulAlgoCheck",              &library.check             },
        {"cublasLtMatmul",                       &library.multiply          },
    };
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    int rc = handle ? 0 : err_set(ERR_DEVICE, "cuBLASLt cannot be opened (%s)", dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols && !rc; i++) {
        void *address = dlsym(handle, symbols[i].name);
        memcpy(symbols[i].place, &address, sizeof address);
        if (!address)
            rc = err_set(ERR_DEVICE, "%s has no %s", name, symbols[i].name);
    }
    err_take(rc, &library_error);
}

static int fail(cublasStatus_t status, const char *name, const char *what)
{
    return err_set(status == CUBLAS_STATUS_ALLOC_FAILED ? ERR_MEMORY : ERR_DEVICE,
                   "%s: cuBLASLt, %s: %s", name, what, library.status_string(status));
}

int cublaslt_open(struct cublaslt **out)
{
    pthread_once(&library_once, open_library);
    if (library_error.kind != ERR_NONE)
        return err_raise(&library_error);
    struct cublaslt *lt = mem_array(1, sizeof *lt, "cuBLASLt's handle");
    if (!lt)
        return -ERR_MEMORY;
    cublasStatus_t status = library.create(&lt->handle);
    if (status) {
        mem_free(lt);
        return fail(status, "the device", "opening it");
    }
    *out = lt;
    return 0;
}

void cublaslt_close(struct cublaslt *lt)
{
    if (!lt)
        return;
    library.destroy(lt->handle);
    mem_free(lt);
}

size_t cublaslt_version(const struct cublaslt *lt)
{
    return lt ? library.version() : 0;
}

/* ---- what it is asked for -------------------------------------------------------------------- */

static bool find_product(const struct door_graph *graph, struct product *out)
{
    const struct door_node *m = &graph->nodes[0], *add = &graph->nodes[1];
    if (m->kind != DOOR_MATMUL || graph->node_count > 2)
        return false;
    *out = (struct product){.a = door_graph_tensor(graph, m->uids[DOOR_A]),
                            .b = door_graph_tensor(graph, m->uids[DOOR_B]),
                            .out = door_graph_tensor(graph, m->uids[DOOR_C])};
    if (graph->node_count == 2) {
        if (add->kind != DOOR_POINTWISE || add->pointwise != DOOR_ADD ||
            add->uids[DOOR_X] != m->uids[DOOR_C] || !out->out->is_virtual)
            return false;
        out->bias = door_graph_tensor(graph, add->uids[DOOR_B]);
        out->out = door_graph_tensor(graph, add->uids[DOOR_Y]);
        if (out->bias->rank != 3 || out->bias->dims[1] != 1 ||
            out->bias->dims[2] != out->out->dims[2] || out->bias->type != out->out->type ||
            (out->bias->strides[2] != 1 && out->bias->dims[2] > 1))
            return false;
    }
    bool types = out->a->type == out->b->type &&
                 (out->out->type == DOOR_F32 || out->out->type == out->a->type);
    return types && !out->a->is_virtual && !out->b->is_virtual && !out->out->is_virtual;
}

static cudaDataType data_type(enum door_type type)
{
    return type == DOOR_F32 ? CUDA_R_32F : type == DOOR_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* T as cuBLASLt sees it: rows that follow each other in memory are its columns. *TURNED: our
 * columns follow each other instead. False: neither does. */
static bool make_layout(const struct door_tensor *t, cublasLtMatrixLayout_t *out, bool *turned)
{
    int64_t rows = t->dims[1], columns = t->dims[2];
    bool by_rows = t->strides[2] == 1 || columns == 1;
    if (!by_rows && t->strides[1] != 1 && rows > 1)
        return false;
    *turned = !by_rows;
    int64_t inner = by_rows ? columns : rows, outer = by_rows ? rows : columns;
    int64_t ld = outer > 1 ? t->strides[by_rows ? 1 : 2] : inner;
    return ld >= inner && library.layout_create(out, data_type(t->type), (uint64_t)inner,
                                                (uint64_t)outer, ld) == CUBLAS_STATUS_SUCCESS;
}

static bool describe(struct cublaslt_plan *plan, const struct product *p)
{
    /* f32 without tensor cores unless they are wanted; products of 16 bits are exact in both. */
    bool tf32 = p->a->type == DOOR_F32 && p->cores != DOOR_CORES_NEVER;
    bool a_turned, b_turned, out_turned;
    cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    if (p->a->type != DOOR_F32 && p->cores == DOOR_CORES_NEVER)
        return false;
    if (!make_layout(p->a, &plan->a, &a_turned) || !make_layout(p->b, &plan->b, &b_turned) ||
        !make_layout(p->out, &plan->out, &out_turned) || out_turned)
        return false;
    cublasOperation_t first = b_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = a_turned ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (library.desc_create(&plan->desc, compute, CUDA_R_32F) ||
        library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) ||
        library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second))
        return false;
    if (p->bias) {
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        int32_t type = (int32_t)data_type(p->bias->type);
        /* Heuristics look at the address for its alignment alone. */
        const void *aligned = (const void *)(uintptr_t)p->bias->alignment;
        if (library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                             sizeof epilogue) ||
            library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type) ||
            library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned,
                             sizeof aligned))
            return false;
    }
    plan->a_uid = p->a->uid;
    plan->b_uid = p->b->uid;
    plan->bias_uid = p->bias ? p->bias->uid : 0;
    plan->out_uid = p->out->uid;
    return true;
}

/* Everything of a plan but its algorithm. *OUT is NULL when the graph is nothing for cuBLASLt. */
static int plan_open(const struct door_graph *graph, enum door_cores cores,
                     struct cublaslt_plan **out)
{
    struct product product;
    *out = NULL;
    if (!find_product(graph, &product))
        return 0;
    struct cublaslt_plan *plan = mem_array(1, sizeof *plan, "a plan of cuBLASLt");
    if (!plan)
        return -ERR_MEMORY;
    product.cores = cores;
    int rc = (plan->name = mem_text(graph->name)) ? 0 : -ERR_MEMORY;
    if (rc || !describe(plan, &product))
        cublaslt_plan_close(plan);
    else
        *out = plan;
    return rc;
}

void cublaslt_plan_close(struct cublaslt_plan *plan)
{
    if (!plan)
        return;
    if (plan->desc)
        library.desc_destroy(plan->desc);
    const cublasLtMatrixLayout_t layouts[] = {plan->a, plan->b, plan->out};
    for (int i = 0; i < 3; i++) {
        if (layouts[i])
            library.layout_destroy(layouts[i]);
    }
    mem_free(plan->name);
    mem_free(plan);
}

/* ---- algorithms --------------------------------------------------------------------------- */

#define ALGORITHMS 8

static bool make_preference(const struct product *p, const struct door_wish *wish,
                            cublasLtMatmulPreference_t *out)
{
    const uint32_t alignments[] = {(uint32_t)p->b->alignment, (uint32_t)p->a->alignment,
                                   (uint32_t)p->out->alignment, (uint32_t)p->out->alignment};
    const cublasLtMatmulPreferenceAttributes_t names[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    /* Partial sums that are added in place are added in any order. */
    const uint32_t schemes = wish->deterministic ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                                                       CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE
                                                 : CUBLASLT_REDUCTION_SCHEME_MASK;
    uint64_t bytes = wish->workspace_cap;
    if (library.preference_create(out) ||
        library.preference_set(*out, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                               sizeof bytes) ||
        library.preference_set(*out, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                               sizeof schemes))
        return false;
    for (int i = 0; i < 4; i++) {
        if (library.preference_set(*out, names[i], &alignments[i], sizeof alignments[i]))
            return false;
    }
    return true;
}

int cublaslt_plans_open(struct cublaslt *lt, const struct door_graph *graph,
                        const struct door_wish *wish, int limit, struct cublaslt_plan **out,
                        int *count)
{
    cublasLtMatmulHeuristicResult_t results[ALGORITHMS];
    cublasLtMatmulPreference_t preference = NULL;
    struct cublaslt_plan *plan = NULL;
    struct product product;
    int found = 0;
    *count = 0;
    int rc = plan_open(graph, wish->cores, &plan);
    if (rc || !plan)
        return rc;
    find_product(graph, &product);
    if (!make_preference(&product, wish, &preference) ||
        library.heuristics(lt->handle, plan->desc, plan->b, plan->a, plan->out, plan->out,
                           preference, limit < ALGORITHMS ? limit : ALGORITHMS, results, &found))
        found = 0;
    for (int i = 0; i < found && !rc; i++) {
        if (results[i].state || results[i].workspaceSize > wish->workspace_cap)
            continue;
        /* The first takes the plan that was asked with; the others are made as it was. */
        struct cublaslt_plan *one = plan;
        if (!one && ((rc = plan_open(graph, wish->cores, &one)) || !one))
            break;
        plan = NULL;
        one->algorithm = results[i].algo;
        one->info = (struct door_plan_info){.workspace_bytes = results[i].workspaceSize,
                                            .tensor_cores = product.a->type != DOOR_F32 ||
                                                            wish->cores != DOOR_CORES_NEVER,
                                            .deterministic = wish->deterministic,
                                            .index = -1};
        snprintf(one->info.engine, sizeof one->info.engine, "cuBLASLt, algorithm %d of %d%s", i + 1,
                 found, product.bias ? ", bias" : "");
        out[(*count)++] = one;
    }
    while (rc && *count > 0)
        cublaslt_plan_close(out[--*count]);
    if (preference)
        library.preference_destroy(preference);
    cublaslt_plan_close(plan);
    return rc;
}

const struct door_plan_info *cublaslt_plan_info(const struct cublaslt_plan *plan)
{
    return &plan->info;
}

#define ALGORITHM_WORDS (sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t))

int cublaslt_plan_save(const struct cublaslt_plan *plan, char **out)
{
    size_t size = ALGORITHM_WORDS * 17 + 1;
    if (!(*out = mem_array(size, 1, "a saved plan")))
        return -ERR_MEMORY;
    for (size_t i = 0; i < ALGORITHM_WORDS; i++)
        snprintf(*out + i * 17, size - i * 17, "%016" PRIx64 " ", plan->algorithm.data[i]);
    return 0;
}

int cublaslt_plan_load(struct cublaslt *lt, const struct door_graph *graph, const char *text,
                       const struct door_plan_info *info, struct cublaslt_plan **out)
{
    cublasLtMatmulHeuristicResult_t result;
    struct cublaslt_plan *plan = NULL;
    int rc = plan_open(graph, info->tensor_cores ? DOOR_CORES_PREFER : DOOR_CORES_NEVER, &plan);
    if (rc)
        return rc;
    bool good = plan != NULL;
    for (size_t i = 0; i < ALGORITHM_WORDS && good; i++, text += 17)
        good = sscanf(text, "%16" SCNx64 " ", &plan->algorithm.data[i]) == 1;
    if (!good ||
        library.check(lt->handle, plan->desc, plan->b, plan->a, plan->out, plan->out,
                      &plan->algorithm, &result) ||
        result.state || result.workspaceSize > info->workspace_bytes) {
        cublaslt_plan_close(plan);
        return err_set(ERR_MISMATCH, "%s: the saved plan of cuBLASLt is not for here", graph->name);
    }
    plan->info = *info;
    *out = plan;
    return 0;
}

int cublaslt_plan_run(struct cublaslt *lt, struct cublaslt_plan *plan, void *stream,
                      const struct door_pointer *pointers, int count, void *workspace)
{
    const int64_t uids[4] = {plan->a_uid, plan->b_uid, plan->out_uid, plan->bias_uid};
    void *address[4] = {NULL, NULL, NULL, NULL};
    const float one = 1, zero = 0;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < 4; k++) {
            if (pointers[i].uid == uids[k])
                address[k] = pointers[i].pointer;
        }
    }
    for (int k = 0; k < 4; k++) {
        if (uids[k] && !address[k])
            return err_set(ERR_FAULT, "%s: no pointer for tensor %" PRId64, plan->name, uids[k]);
    }
    if (plan->bias_uid)
        status = library.desc_set(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address[3],
                                  sizeof address[3]);
    if (!status)
        status = library.multiply(lt->handle, plan->desc, &one, address[1], plan->b, address[0],
                                  plan->a, &zero, address[2], plan->out, address[2], plan->out,
                                  &plan->algorithm, workspace, plan->info.workspace_bytes, stream);
    return status ? fail(status, plan->name, "the product") : 0;
}
