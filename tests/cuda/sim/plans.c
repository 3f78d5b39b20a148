/*
 * plans.c - plans of the simulated device. A graph has several engines, as with cuDNN: some with
 * tensor cores (TF32 where the operands are f32), some that sum in another order each time, each of
 * the others in an order of its own, with workspaces of odd sizes. As with cuDNN (shared
 * experiments with 9.19), some graphs have no plan in some types.
 *
 * A saved plan is one line: "sim-plan 1 <library> <version> <device> <graph> <engine> <digest of
 * all this>".
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

struct door_plan {
    struct sim_core *core;
};

static const struct engine {
    int index;           /* -1: cuBLASLt */
    bool product, other; /* for graphs with a convolution or matrix product; for the rest */
    bool cores, deterministic;
    size_t workspace; /* 0, or odd; what a graph's digest adds is even */
} engines[] = {
    {-1, true,  false, true,  true,  4097  },
    {45, true,  false, true,  true,  131   },
    {62, true,  false, true,  false, 70003 },
    {28, true,  false, false, true,  517   },
    {29, true,  false, false, true,  1029  },
    {1,  true,  false, false, false, 262147},
    {3,  false, true,  false, false, 1031  },
    {0,  false, true,  false, true,  53    },
    {7,  false, true,  false, true,  0     },
};
enum { ENGINES = sizeof engines / sizeof *engines };

/* ---- graphs ---- */

static uint64_t digest_of(const struct door_graph *graph)
{
    int64_t fields[16 * (DOOR_MAX_TENSORS + DOOR_MAX_NODES * 4)];
    size_t count = 0;
    for (int i = 0; i < graph->tensor_count; i++) {
        const struct door_tensor *t = &graph->tensors[i];
        const int64_t head[] = {t->uid,       (int64_t)t->type, t->rank,
                                t->alignment, t->is_virtual,    t->by_value};
        memcpy(fields + count, head, sizeof head);
        count += sizeof head / sizeof *head;
        for (int k = 0; k < t->rank; k++) {
            fields[count++] = t->dims[k];
            fields[count++] = t->strides[k];
        }
    }
    for (int i = 0; i < graph->node_count; i++) {
        const struct door_node *n = &graph->nodes[i];
        const int64_t head[] = {(int64_t)n->kind, (int64_t)n->pointwise, (int64_t)n->resample,
                                (int64_t)n->reduction, n->training};
        memcpy(fields + count, head, sizeof head);
        count += sizeof head / sizeof *head;
        for (int k = 0; k < 2; k++) {
            fields[count++] = n->window[k];
            fields[count++] = n->stride[k];
            fields[count++] = n->dilation[k];
            fields[count++] = n->pre_padding[k];
            fields[count++] = n->post_padding[k];
        }
        memcpy(fields + count, n->uids, sizeof n->uids);
        count += DOOR_ROLES;
    }
    return digest64(fields, count * sizeof *fields);
}

static bool is_product(enum door_kind kind)
{
    return kind == DOOR_CONV_FORWARD || kind == DOOR_CONV_BACKWARD_DATA ||
           kind == DOOR_CONV_BACKWARD_FILTER || kind == DOOR_MATMUL;
}

/* The node that is a product, or NULL. */
static const struct door_node *product_of(const struct door_graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        if (is_product(graph->nodes[i].kind))
            return &graph->nodes[i];
    }
    return NULL;
}

/* The type that activations have: of the first tensor that is not f32. */
static enum door_type type_of(const struct door_graph *graph)
{
    for (int i = 0; i < graph->tensor_count; i++) {
        enum door_type type = graph->tensors[i].type;
        if (type == DOOR_F16 || type == DOOR_BF16)
            return type;
    }
    return DOOR_F32;
}

/* What cuDNN 9.19 has no engine for; NULL: it has one. */
static const char *no_engine(const struct door_graph *graph)
{
    const enum door_type type = type_of(graph);
    if (sim_settings()->all_plans)
        return NULL;
    for (int i = 0; i < graph->node_count; i++) {
        const struct door_node *n = &graph->nodes[i];
        if (n->kind == DOOR_BN_BACKWARD_WEIGHTS && type != DOOR_F16)
            return "getDataType() != CUDNN_DATA_HALF";
        if (n->kind == DOOR_CONV_BACKWARD_FILTER && i > 0 && type != DOOR_F16)
            return "matcher_casted == nullptr";
        if (n->kind == DOOR_NORM_FORWARD && !n->training && graph->node_count == 1)
            return "matcher_casted == nullptr";
    }
    return NULL;
}

/* cuBLASLt takes a product of matrices, alone or with a bias behind it. */
static bool for_cublaslt(const struct door_graph *graph)
{
    if (graph->nodes[0].kind != DOOR_MATMUL || graph->node_count > 2)
        return false;
    return graph->node_count == 1 ||
           (graph->nodes[1].kind == DOOR_POINTWISE && graph->nodes[1].pointwise == DOOR_ADD);
}

/* ---- opening ---- */

static int core_new(const struct door *door, const struct door_graph *graph, int engine,
                    struct door_plan **out)
{
    const struct engine *e = &engines[engine];
    struct sim_core *core = mem_array(1, sizeof *core, "a plan");
    struct door_plan *plan = mem_array(1, sizeof *plan, "a plan");
    if (!core || !plan) {
        mem_free(core);
        mem_free(plan);
        return -ERR_MEMORY;
    }
    (void)door;
    memcpy(core->tensors, graph->tensors, (size_t)graph->tensor_count * sizeof *core->tensors);
    memcpy(core->nodes, graph->nodes, (size_t)graph->node_count * sizeof *core->nodes);
    snprintf(core->name, sizeof core->name, "%s", graph->name);
    core->references = 1;
    core->graph = (struct door_graph){core->name, core->tensors, graph->tensor_count, core->nodes,
                                      graph->node_count};
    core->digest = digest_of(graph);
    core->engine = engine;
    struct door_plan_info *info = &core->info;
    info->workspace_bytes = e->workspace ? e->workspace + core->digest % 100 * 2 : 0;
    info->compiled = graph->node_count > 1 || !e->product;
    info->tensor_cores = e->cores;
    info->deterministic = e->deterministic;
    info->index = e->index;
    if (e->index < 0)
        snprintf(info->engine, sizeof info->engine, "cuBLASLt algorithm 0 (simulated)");
    else
        snprintf(info->engine, sizeof info->engine, "engine %d%s, heuristics A (simulated)",
                 e->index, e->cores ? ", tensor cores" : "");
    core->tf32 = e->cores && type_of(graph) == DOOR_F32;
    plan->core = core;
    *out = plan;
    return 0;
}

void sim_core_drop(struct sim_core *core)
{
    if (core && !--core->references)
        mem_free(core);
}

/* NULL: ENGINE is fine for the wish; else the part of it that refuses. */
static const char *refused(const struct engine *e, const struct door_graph *graph,
                           const struct door_wish *wish)
{
    const bool product = product_of(graph) != NULL;
    if (wish->deterministic && !e->deterministic)
        return "the wish for a deterministic engine";
    if (product && wish->cores == DOOR_CORES_ONLY && !e->cores)
        return "the wish for tensor cores";
    if (product && wish->cores == DOOR_CORES_NEVER && e->cores)
        return "the wish for no tensor cores";
    size_t workspace = e->workspace ? e->workspace + digest_of(graph) % 100 * 2 : 0;
    if (workspace > wish->workspace_cap)
        return "the cap on its workspace";
    return NULL;
}

/* Is the engine one for graphs like this, on this device? */
static bool offered(const struct door *door, const struct engine *e, const struct door_graph *graph)
{
    if (e->index < 0)
        return door->properties.cublaslt && for_cublaslt(graph);
    return product_of(graph) ? e->product : e->other;
}

int door_plans_open(struct door *door, const struct door_graph *graph, const struct door_wish *wish,
                    int limit, struct door_plan **out, int *count)
{
    const char *why = NULL;
    enum sim_how how = sim_called(SIM_PLANS_OPEN, graph->name, (size_t)limit);
    int rc = door_graph_check(graph);
    *count = 0;
    if (rc)
        return rc;
    if (sim_faulted())
        return sim_fault("%s", graph->name);
    if (door->lost)
        return err_set(ERR_DEVICE, "%s: the GPU is lost; nothing on it can be saved", graph->name);
    if (door->recordings)
        return sim_fault("%s: a plan was opened between the two ends of a capture", graph->name);
    if (limit < 1 || !wish)
        return err_set(ERR_FAULT, "%s: no plan is wished for", graph->name);
    if (how != SIM_FINE)
        return err_set(ERR_DEVICE, "%s: no plan: refused by script", graph->name);
    if ((why = no_engine(graph)))
        return err_set(ERR_DEVICE, "%s: cuDNN has no plan: %s (simulated)", graph->name, why);
    for (int i = 0; i < ENGINES && *count < limit && !rc; i++) {
        if (!offered(door, &engines[i], graph))
            continue;
        const char *refusal = refused(&engines[i], graph, wish);
        why = refusal ? refusal : why;
        if (!refusal && !(rc = core_new(door, graph, i, &out[*count])))
            ++*count;
    }
    while (rc && *count > 0)
        door_plan_close(door, out[--*count]);
    if (!rc && !*count)
        rc = err_set(ERR_DEVICE, "%s: no plan: the last one was refused by %s", graph->name, why);
    return rc;
}

void door_plan_close(struct door *door, struct door_plan *plan)
{
    if (!plan)
        return;
    sim_called(SIM_PLAN_CLOSE, plan->core->name, 0);
    if (door->recordings)
        sim_fault("%s: a plan was closed between the two ends of a capture", plan->core->name);
    plan->core->closed = true;
    sim_core_drop(plan->core);
    mem_free(plan);
}

const struct door_plan_info *door_plan_info(const struct door_plan *plan)
{
    return &plan->core->info;
}

/* ---- running ---- */

/* What the works of a plan use, by tensor. */
struct use {
    bool written;
    enum door_role role; /* the first */
};

static void find_uses(const struct door_graph *graph, struct use *uses)
{
    for (int i = graph->node_count - 1; i >= 0; i--) {
        for (int role = 0; role < DOOR_ROLES; role++) {
            const struct door_tensor *t = door_graph_tensor(graph, graph->nodes[i].uids[role]);
            if (!t)
                continue;
            struct use *u = &uses[t - graph->tensors];
            u->role = (enum door_role)role;
            u->written |= sim_is_output(&graph->nodes[i], role);
        }
    }
}

/* "tensor 3", for messages; static. */
static const char *tensor_text(int64_t uid)
{
    static char texts[DOOR_MAX_TENSORS + 1][24];
    size_t i = uid <= DOOR_MAX_TENSORS ? (size_t)uid : 0;
    if (i == 0)
        return "a tensor";
    snprintf(texts[i], sizeof texts[i], "tensor %" PRId64, uid);
    return texts[i];
}

static int take_pointers(const struct door *door, struct sim_job *job,
                         const struct door_pointer *pointers, int count)
{
    const struct door_graph *graph = &job->core->graph;
    struct use uses[DOOR_MAX_TENSORS] = {
        {false, DOOR_X}
    };
    int rc = 0;
    find_uses(graph, uses);
    for (int i = 0; i < count; i++) {
        const struct door_tensor *t = door_graph_tensor(graph, pointers[i].uid);
        if (!t || t->is_virtual)
            return sim_fault("%s: tensor %" PRId64 " is %s, but a pointer for it was given",
                             job->name, pointers[i].uid, t ? "virtual" : "not in the graph");
        if (job->pointers[t - graph->tensors])
            return sim_fault("%s: tensor %" PRId64 " was given two pointers", job->name, t->uid);
        if (!pointers[i].pointer)
            return sim_fault("%s: tensor %" PRId64 " was given NULL", job->name, t->uid);
        job->pointers[t - graph->tensors] = pointers[i].pointer;
    }
    for (int i = 0; i < graph->tensor_count && !rc; i++) {
        const struct door_tensor *t = &graph->tensors[i];
        if (t->is_virtual)
            continue;
        if (!job->pointers[i])
            return sim_fault("%s: tensor %" PRId64 " was given no pointer", job->name, t->uid);
        if (t->by_value) {
            memcpy(&job->values[i], job->pointers[i], door_type_bytes(t->type));
            job->pointers[i] = &job->values[i];
            continue;
        }
        sim_job_span(job, job->pointers[i], door_tensor_bytes(t), uses[i].written,
                     tensor_text(t->uid));
        rc = sim_span_check(door, &job->spans[job->span_count - 1], SIM_DEVICE,
                            (size_t)t->alignment, job->name);
    }
    return rc;
}

/* Is SPAN the tensor that ROLE names in a node of the graph? */
static bool has_role(const struct sim_job *job, const struct sim_span *span, enum door_role role)
{
    const struct door_graph *graph = &job->core->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const struct door_tensor *t = door_graph_tensor(graph, graph->nodes[i].uids[role]);
        if (t && job->pointers[t - graph->tensors] == span->at)
            return true;
    }
    return false;
}

/* Running statistics may be written where they were read. */
static bool may_share(const struct sim_job *job, const struct sim_span *a, const struct sim_span *b)
{
    return a->at == b->at && a->bytes == b->bytes && a->write != b->write &&
           ((has_role(job, a, DOOR_RUNNING_MEAN_IN) && has_role(job, b, DOOR_RUNNING_MEAN_OUT)) ||
            (has_role(job, a, DOOR_RUNNING_VAR_IN) && has_role(job, b, DOOR_RUNNING_VAR_OUT)));
}

static int check_overlaps(const struct sim_job *job)
{
    for (int i = 0; i < job->span_count; i++) {
        for (int k = 0; k < i; k++) {
            const struct sim_span *a = &job->spans[i], *b = &job->spans[k];
            bool apart = (const char *)a->at + a->bytes <= (const char *)b->at ||
                         (const char *)b->at + b->bytes <= (const char *)a->at;
            if (apart || (!a->write && !b->write) || may_share(job, a, b))
                continue;
            return sim_fault("%s: %s and %s share memory, and one of them is written", job->name,
                             a->what, b->what);
        }
    }
    return 0;
}

static int take_workspace(const struct door *door, struct sim_job *job, void *workspace)
{
    size_t bytes = job->core->info.workspace_bytes;
    if (!bytes)
        return workspace ? sim_fault("%s: a workspace was given, and there is none", job->name) : 0;
    if (!workspace)
        return sim_fault("%s: no workspace was given; it takes %zu bytes", job->name, bytes);
    job->workspace = workspace;
    sim_job_span(job, workspace, bytes, true, "its workspace");
    return sim_span_check(door, &job->spans[job->span_count - 1], SIM_DEVICE, 256, job->name);
}

int door_plan_run(struct door *door, struct door_plan *plan, struct door_stream *stream,
                  const struct door_pointer *pointers, int count, void *workspace)
{
    struct sim_core *core = plan->core;
    int rc = sim_enter(door, SIM_PLAN_RUN, core->name, core->info.workspace_bytes);
    if (rc)
        return rc;
    if (sim_stream_of(stream) != stream || stream->door != door)
        return sim_fault("%s: %p is no open stream", core->name, (void *)stream);
    struct sim_job *job = sim_job_new(SIM_JOB_PLAN, core->name);
    if (!job)
        return -ERR_MEMORY;
    job->core = core;
    core->references++;
    if ((rc = take_pointers(door, job, pointers, count)) ||
        (rc = take_workspace(door, job, workspace)) || (rc = check_overlaps(job))) {
        sim_job_drop(job);
        return rc;
    }
    return sim_submit(stream, job);
}

/* ---- as text ---- */

#define HEAD 160

static void write_head(const struct door *door, const struct sim_core *core, char out[HEAD])
{
    bool cublaslt = engines[core->engine].index < 0;
    snprintf(out, HEAD, "sim-plan 1 %s %zu %016" PRIx64 " %016" PRIx64 " %d",
             cublaslt ? "cublaslt" : "cudnn",
             cublaslt ? door->properties.cublaslt : door->properties.cudnn,
             digest64(door->json, strlen(door->json)), core->digest, core->engine);
}

int door_plan_save(struct door *door, const struct door_plan *plan, char **out)
{
    char head[HEAD], line[HEAD + 20];
    if (sim_called(SIM_PLAN_SAVE, plan->core->name, 0) != SIM_FINE)
        return err_set(ERR_DEVICE, "%s: saving the plan: refused by script", plan->core->name);
    write_head(door, plan->core, head);
    snprintf(line, sizeof line, "%s %016" PRIx64, head, digest64(head, strlen(head)));
    *out = mem_text(line);
    return *out ? 0 : -ERR_MEMORY;
}

int door_plan_load(struct door *door, const struct door_graph *graph, const char *text,
                   struct door_plan **out)
{
    char head[HEAD], wanted[HEAD];
    const char *last = strrchr(text, ' '), *engine_at;
    uint64_t digest = 0;
    enum sim_how how = sim_called(SIM_PLAN_LOAD, graph->name, 0);
    int rc = door_graph_check(graph), engine = -1;
    if (rc)
        return rc;
    if (door->recordings)
        return sim_fault("%s: a plan was loaded between the two ends of a capture", graph->name);
    size_t length = last ? (size_t)(last - text) : 0;
    if (!last || length >= sizeof head || sscanf(last, " %" SCNx64, &digest) != 1 ||
        digest64(text, length) != digest || how != SIM_FINE)
        return err_set(ERR_MISMATCH, "%s: the saved plan is damaged, or of a library not here",
                       graph->name);
    memcpy(head, text, length);
    head[length] = 0;
    engine_at = strrchr(head, ' ');
    if (!engine_at || sscanf(engine_at, " %d", &engine) != 1 || engine < 0 || engine >= ENGINES ||
        !offered(door, &engines[engine], graph))
        return err_set(ERR_MISMATCH, "%s: the saved plan is another graph's", graph->name);
    if ((rc = core_new(door, graph, engine, out)))
        return rc;
    write_head(door, (*out)->core, wanted);
    if (strcmp(head, wanted) == 0)
        return 0;
    mem_free((*out)->core);
    mem_free(*out);
    *out = NULL;
    return err_set(ERR_MISMATCH, "%s: the saved plan is another device's, version's or graph's",
                   graph->name);
}
