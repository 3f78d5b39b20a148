/*
 * run.c - a plan's nodes, one after the other: inputs from memory, a node's outputs rounded to
 * their types and written as soon as it is done.
 */
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "tests/cuda/sim/inside.h"

enum { CHUNK = 64, ALIGN = 16 };

static int (*const kinds[DOOR_KINDS])(const struct sim_run *run) = {
    [DOOR_CONV_FORWARD] = sim_conv_forward,
    [DOOR_CONV_BACKWARD_DATA] = sim_conv_backward_data,
    [DOOR_CONV_BACKWARD_FILTER] = sim_conv_backward_filter,
    [DOOR_POINTWISE] = sim_pointwise,
    [DOOR_GEN_STATS] = sim_gen_stats,
    [DOOR_BN_FINALIZE] = sim_bn_finalize,
    [DOOR_NORM_FORWARD] = sim_norm_forward,
    [DOOR_NORM_BACKWARD] = sim_norm_backward,
    [DOOR_BN_BACKWARD_WEIGHTS] = sim_bn_backward_weights,
    [DOOR_RESAMPLE_FORWARD] = sim_resample_forward,
    [DOOR_RESAMPLE_BACKWARD] = sim_resample_backward,
    [DOOR_MATMUL] = sim_matmul,
    [DOOR_REDUCTION] = sim_reduction,
};

/* As seeded_writes of train/cuda/seeded.c says it, written a second time on purpose: the simulated
 * device goes by the words of door.h and takes nothing from the backend that it tests. */
bool sim_is_output(const struct door_node *node, int role)
{
    switch (role) {
    case DOOR_Y:
    case DOOR_DX:
    case DOOR_DW:
    case DOOR_C:
    case DOOR_DSCALE:
    case DOOR_DBIAS:
    case DOOR_RUNNING_MEAN_OUT:
    case DOOR_RUNNING_VAR_OUT:
    case DOOR_EQ_SCALE:
    case DOOR_EQ_BIAS:
    case DOOR_EQ_DY_SCALE:
    case DOOR_EQ_X_SCALE:
        return true;
    case DOOR_INDEX:
        return node->kind == DOOR_RESAMPLE_FORWARD;
    case DOOR_SUM:
    case DOOR_SQSUM:
        return node->kind == DOOR_GEN_STATS;
    case DOOR_MEAN:
    case DOOR_INVSTD:
        return node->kind == DOOR_BN_FINALIZE ||
               (node->kind == DOOR_NORM_FORWARD && node->training);
    default:
        return false;
    }
}

/* Places for all tensors of the graph in the door's scratch, which only grows. */
static int place_values(struct door *door, const struct door_graph *graph, struct sim_value *values)
{
    size_t floats = 0;
    for (int i = 0; i < graph->tensor_count; i++) {
        sim_value_shape(&values[i], &graph->tensors[i]);
        floats += (values[i].count + ALIGN - 1) / ALIGN * ALIGN;
    }
    if (floats > door->scratch_floats) {
        mem_free(door->scratch);
        door->scratch_floats = 0;
        if (!(door->scratch = mem_aligned(floats * sizeof *door->scratch, "values of a plan")))
            return -ERR_MEMORY;
        door->scratch_floats = floats;
    }
    sim_poison(door->scratch, floats * sizeof *door->scratch);
    float *at = door->scratch;
    for (int i = 0; i < graph->tensor_count; i++) {
        values[i].at = at;
        at += (values[i].count + ALIGN - 1) / ALIGN * ALIGN;
    }
    return 0;
}

int sim_core_run(struct door *door, const struct sim_core *core, void *const *pointers,
                 uint64_t round)
{
    const struct door_graph *graph = &core->graph;
    struct sim_value values[DOOR_MAX_TENSORS];
    bool here[DOOR_MAX_TENSORS] = {false};
    /* An engine that is not deterministic sums in another order each time, others in their own. */
    const int chunk =
        core->info.deterministic ? CHUNK - 4 * core->engine : 8 + (int)(round * 7 % 41);
    int rc = place_values(door, graph, values);
    for (int i = 0; i < graph->node_count && !rc; i++) {
        struct sim_run run = {.node = &graph->nodes[i], .chunk = chunk, .tf32 = core->tf32};
        for (int role = 0; role < DOOR_ROLES; role++) {
            const struct door_tensor *t = door_graph_tensor(graph, run.node->uids[role]);
            if (!t)
                continue;
            size_t k = (size_t)(t - graph->tensors);
            run.roles[role] = &values[k];
            if (!here[k] && !sim_is_output(run.node, role))
                sim_value_load(&values[k], pointers[k]);
            here[k] = true;
        }
        if ((rc = kinds[run.node->kind](&run)))
            return rc;
        for (int role = 0; role < DOOR_ROLES; role++) {
            if (!run.roles[role] || !sim_is_output(run.node, role))
                continue;
            sim_value_round(run.roles[role]);
            if (!run.roles[role]->tensor->is_virtual)
                sim_value_store(run.roles[role], pointers[run.roles[role] - values]);
        }
    }
    return rc;
}
