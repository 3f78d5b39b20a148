/*
 * door_plans.c - the door's plans: cuBLASLt for matrix products, where it is there, cuDNN for the
 * rest; and their form as text. The text is one line of what must agree, one of the engine's words,
 * and the library's own words for the plan:
 *
 *   door-plan 1 <library> <version> <graph> <payload> <index> <workspace> <compiled> <cores> <det>
 *
 * with XXH3-64 digests of the graph and of the payload, so that a damaged text, or another graph's,
 * is refused before a library sees it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/mem.h"
#include "train/cuda/door_cuda.h"

struct door_plan {
    /* one of the two */
    struct cudnn_plan *cudnn;
    struct cublaslt_plan *cublaslt;
    uint64_t graph;
};

static int wrap(struct cudnn_plan *cudnn, struct cublaslt_plan *cublaslt, uint64_t graph,
                struct door_plan **out)
{
    struct door_plan *plan = mem_array(1, sizeof *plan, "a plan");
    if (!plan) {
        cudnn_plan_close(cudnn);
        cublaslt_plan_close(cublaslt);
        return -ERR_MEMORY;
    }
    *plan = (struct door_plan){cudnn, cublaslt, graph};
    *out = plan;
    return 0;
}

#define PLANS 16 /* most that are opened at once */

int door_plans_open(struct door *door, const struct door_graph *graph, const struct door_wish *wish,
                    int limit, struct door_plan **out, int *count)
{
    struct cublaslt_plan *products[PLANS];
    struct cudnn_plan *plans[PLANS];
    int product_count = 0, plan_count = 0, made = 0;
    uint64_t digest = 0;
    int rc = door_graph_check(graph);
    *count = 0;
    if (!rc && door->properties.index >= 0)
        rc = door_enter(door, graph->name);
    if (!rc && (limit < 1 || !wish))
        rc = err_set(ERR_FAULT, "%s: no plan is wished for", graph->name);
    if (!rc)
        rc = door_graph_digest(graph, &digest);
    limit = limit < PLANS ? limit : PLANS;
    if (!rc && door->cublaslt)
        rc = cublaslt_plans_open(door->cublaslt, graph, wish, limit, products, &product_count);
    if (!rc && product_count < limit) {
        rc = cudnn_plans_open(door->cudnn, graph, wish, limit - product_count, plans, &plan_count);
        if (rc == -ERR_DEVICE && product_count)
            rc = 0;
    }
    for (int i = 0; i < product_count + plan_count; i++) {
        struct cublaslt_plan *product = i < product_count ? products[i] : NULL;
        struct cudnn_plan *plan = product ? NULL : plans[i - product_count];
        if (rc) {
            cublaslt_plan_close(product);
            cudnn_plan_close(plan);
        } else if (!(rc = wrap(plan, product, digest, &out[made]))) {
            made++;
        }
    }
    while (rc && made > 0)
        door_plan_close(door, out[--made]);
    *count = made;
    return rc;
}

void door_plan_close(struct door *door, struct door_plan *plan)
{
    (void)door;
    if (!plan)
        return;
    cudnn_plan_close(plan->cudnn);
    cublaslt_plan_close(plan->cublaslt);
    mem_free(plan);
}

const struct door_plan_info *door_plan_info(const struct door_plan *plan)
{
    return plan->cudnn ? cudnn_plan_info(plan->cudnn) : cublaslt_plan_info(plan->cublaslt);
}

int door_plan_run(struct door *door, struct door_plan *plan, struct door_stream *stream,
                  const struct door_pointer *pointers, int count, void *workspace)
{
    int rc = door_enter(door, "running a plan");
    if (rc)
        return rc;
    return plan->cudnn
               ? cudnn_plan_run(door->cudnn, plan->cudnn, stream, pointers, count, workspace)
               : cublaslt_plan_run(door->cublaslt, plan->cublaslt, stream, pointers, count,
                                   workspace);
}

/* ---- as text ------------------------------------------------------------------------------ */

int door_plan_save(struct door *door, const struct door_plan *plan, char **out)
{
    const struct door_plan_info *info = door_plan_info(plan);
    char *payload = NULL;
    int rc = plan->cudnn ? cudnn_plan_save(plan->cudnn, &payload)
                         : cublaslt_plan_save(plan->cublaslt, &payload);
    if (rc)
        return rc;
    size_t payload_size = strlen(payload), size = payload_size + sizeof info->engine + 300;
    char *text = mem_array(size, 1, "a saved plan");
    if (text)
        snprintf(text, size,
                 "door-plan 1 %s %zu %016" PRIx64 " %016" PRIx64 " %d %zu %d %d %d\n%s\n%s",
                 plan->cudnn ? "cudnn" : "cublaslt",
                 plan->cudnn ? door->properties.cudnn : door->properties.cublaslt, plan->graph,
                 digest64(payload, payload_size), info->index, info->workspace_bytes,
                 info->compiled, info->tensor_cores, info->deterministic, info->engine, payload);
    mem_free(payload);
    *out = text;
    return text ? 0 : -ERR_MEMORY;
}

/* The first two lines into what they say; the payload, or NULL when they are not a plan's. */
static const char *read_head(const char *text, char library[16], size_t *version, uint64_t *graph,
                             uint64_t *payload, struct door_plan_info *info)
{
    int compiled, cores, deterministic;
    const char *line = strchr(text, '\n'), *end = line ? strchr(line + 1, '\n') : NULL;
    *info = (struct door_plan_info){.index = 0};
    if (!end || (size_t)(end - line) > sizeof info->engine ||
        sscanf(text, "door-plan 1 %15s %zu %" SCNx64 " %" SCNx64 " %d %zu %d %d %d", library,
               version, graph, payload, &info->index, &info->workspace_bytes, &compiled, &cores,
               &deterministic) != 9)
        return NULL;
    info->compiled = compiled;
    info->tensor_cores = cores;
    info->deterministic = deterministic;
    memcpy(info->engine, line + 1, (size_t)(end - line - 1));
    return end + 1;
}

int door_plan_load(struct door *door, const struct door_graph *graph, const char *text,
                   struct door_plan **out)
{
    struct door_plan_info info;
    struct cudnn_plan *cudnn = NULL;
    struct cublaslt_plan *cublaslt = NULL;
    char library[16];
    uint64_t digest, of_graph, of_payload;
    size_t version;
    int rc = door_graph_check(graph);
    if (!rc && door->properties.index >= 0)
        rc = door_enter(door, graph->name);
    if (!rc)
        rc = door_graph_digest(graph, &digest);
    if (rc)
        return rc;
    const char *payload = read_head(text, library, &version, &of_graph, &of_payload, &info);
    bool by_cudnn = payload && strcmp(library, "cudnn") == 0;
    bool by_cublaslt = payload && strcmp(library, "cublaslt") == 0 && door->cublaslt;
    if ((!by_cudnn && !by_cublaslt) || digest64(payload, strlen(payload)) != of_payload)
        return err_set(ERR_MISMATCH, "%s: the saved plan is damaged, or of a library not here",
                       graph->name);
    if (of_graph != digest)
        return err_set(ERR_MISMATCH, "%s: the saved plan is another graph's", graph->name);
    if (version != (by_cudnn ? door->properties.cudnn : door->properties.cublaslt))
        return err_set(ERR_MISMATCH, "%s: the saved plan is of version %zu of %s", graph->name,
                       version, library);
    rc = by_cudnn ? cudnn_plan_load(door->cudnn, graph->name, payload, &info, &cudnn)
                  : cublaslt_plan_load(door->cublaslt, graph, payload, &info, &cublaslt);
    return rc ? rc : wrap(cudnn, cublaslt, digest, out);
}
