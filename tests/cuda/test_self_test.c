/*
 * test_self_test.c - the self-test on the simulated device: every graph that the trainer makes of
 * the op lists passes in every precision; a plan that computes anything else than its graph says is
 * found out and replaced; the augmentation's bytes are the CPU's.
 */
#include "common/files.h"
#include "tests/cuda/sim/sim.h"
#include "tests/test.h"
#include "train/cuda/self_test.h"

/* The op lists of a small network, and a store with a plan for each graph. */
struct rig {
    struct model *model;
    struct door *door;
    struct plan_store *store;
};

static void ask(struct rig *r, enum graph_kind kind, const struct op *op, enum door_type type,
                enum door_cores cores)
{
    struct door_wish wish = graph_wish(kind, type, cores, false);
    struct graph graph;
    int slot;

    CHECK_INT(graph_make(&graph, kind, op, type), 0);
    CHECK_INT(plan_store_request(r->store, &graph, &wish, false, &slot), 0);
}

static void ask_all(struct rig *r, enum door_type type, enum door_cores cores)
{
    for (size_t i = 0; i < r->model->training_count; i++) {
        const struct op *op = &r->model->training[i];
        static const struct {
            enum op_kind op;
            enum graph_kind kind;
        } kinds[] = {
            {OP_NORM_CONV, GRAPH_FINALIZE         },
            {OP_NORM_CONV, GRAPH_NORM_CONV        },
            {OP_NORM_CONV, GRAPH_NORM_CONV_DATA   },
            {OP_NORM_CONV, GRAPH_NORM_CONV_INPUT  },
            {OP_NORM_CONV, GRAPH_NORM_CONV_FILTER },
            {OP_CONV,      GRAPH_CONV             },
            {OP_CONV,      GRAPH_CONV_FILTER      },
            {OP_CONV,      GRAPH_CONV_DATA        },
            {OP_NORM,      GRAPH_NORM             },
            {OP_NORM,      GRAPH_NORM_BACKWARD    },
            {OP_MAX_POOL,  GRAPH_MAX_POOL         },
            {OP_MAX_POOL,  GRAPH_MAX_POOL_BACKWARD},
            {OP_MAX_POOL,  GRAPH_MAX_POOL_PLAIN   },
            {OP_LINEAR,    GRAPH_LINEAR           },
            {OP_LINEAR,    GRAPH_LINEAR_DATA      },
            {OP_LINEAR,    GRAPH_LINEAR_FILTER    },
        };

        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (op->kind == kinds[k].op && (kinds[k].kind != GRAPH_CONV_DATA || op->in_slot >= 0))
                ask(r, kinds[k].kind, op, type, cores);
    }
    for (size_t i = 0; i < r->model->training_count; i++)
        if (r->model->training[i].kind == OP_NORM && r->model->training[i].in->sums) {
            ask(r, GRAPH_FINALIZE, &r->model->training[i], type, cores);
            ask(r, GRAPH_APPLY, &r->model->training[i], type, cores);
        }
}

static void open_fused(struct rig *r, const char *arch, int batch, int size, int candidates,
                       bool fused)
{
    struct model_settings model = {
        .arch = arch, .classes = 10, .batch = batch, .image_size = size, .fused = fused};
    struct plan_store_settings settings = {.folder = "", .candidates = candidates, .threads = 2};

    *r = (struct rig){.model = NULL};
    sim_set_seed(1);
    CHECK_INT(door_open(&r->door, 0), 0);
    CHECK_INT(model_open(&r->model, &model), 0);
    CHECK_INT(plan_store_open(&r->store, r->door, &settings), 0);
}

static void open_rig(struct rig *r, const char *arch, int batch, int size, int candidates)
{
    open_fused(r, arch, batch, size, candidates, false);
}

static void close_rig(struct rig *r)
{
    plan_store_close(r->store);
    model_close(r->model);
    door_close(r->door);
    CHECK_TEXT(sim_take_fault(), "");
}

static void pass(const char *arch, int batch, int size, enum door_type type, enum door_cores cores,
                 bool fused)
{
    struct rig r;

    open_fused(&r, arch, batch, size, 1, fused);
    ask_all(&r, type, cores);
    CHECK_INT(plan_store_complete(r.store), 0);
    CHECK_INT(self_test_run(r.store), 0);
    for (int i = 0; i < plan_store_count(r.store); i++)
        CHECK(plan_store_passed(r.store, i));
    CHECK(self_test_bytes(r.store) > 0);
    close_rig(&r);
}

static void test_bf16(void)
{
    pass("resnet18", 2, 64, DOOR_BF16, DOOR_CORES_PREFER, false);
    pass("resnet50", 3, 33, DOOR_BF16, DOOR_CORES_PREFER, false);
}

static void test_fp16(void)
{
    pass("resnet50", 2, 64, DOOR_F16, DOOR_CORES_PREFER, false);
    pass("resnet18", 5, 47, DOOR_F16, DOOR_CORES_PREFER, false);
}

static void test_f32(void)
{
    pass("resnet18", 2, 64, DOOR_F32, DOOR_CORES_NEVER, false);
    pass("resnet50", 2, 40, DOOR_F32, DOOR_CORES_ONLY, false);
}

/* Level (b). */
static void test_fused(void)
{
    pass("resnet18", 3, 64, DOOR_F16, DOOR_CORES_PREFER, true);
    pass("resnet50", 2, 47, DOOR_F16, DOOR_CORES_PREFER, true);
}

/* ---- plans that compute something else ---- */

static void pad_to_the_left(struct graph *g)
{
    g->nodes[0].pre_padding[1] = 2;
    g->nodes[0].post_padding[1] = 0;
}

static void swap_rows(struct graph *g)
{
    g->nodes[0].pre_padding[0] = 2;
    g->nodes[0].post_padding[0] = 0;
}

/* Read as N x C x H x W. */
static void other_layout(struct graph *g)
{
    for (int i = 0; i < g->graph.tensor_count; i++) {
        struct door_tensor *t = &g->tensors[i];

        if (t->uid == GRAPH_X || t->uid == GRAPH_DX) {
            t->strides[3] = 1;
            t->strides[2] = t->dims[3];
            t->strides[1] = t->dims[2] * t->dims[3];
        }
    }
}

static void swap_uids(struct graph *g, enum door_kind kind, enum door_role a, enum door_role b)
{
    for (int i = 0; i < g->graph.node_count; i++)
        if (g->nodes[i].kind == kind) {
            int64_t uid = g->nodes[i].uids[a];

            g->nodes[i].uids[a] = g->nodes[i].uids[b];
            g->nodes[i].uids[b] = uid;
        }
}

static void swap_gradients(struct graph *g)
{
    swap_uids(g, DOOR_NORM_BACKWARD, DOOR_DSCALE, DOOR_DBIAS);
}

static void swap_statistics(struct graph *g)
{
    swap_uids(g, DOOR_NORM_FORWARD, DOOR_RUNNING_MEAN_OUT, DOOR_RUNNING_VAR_OUT);
}

static void swap_sums(struct graph *g)
{
    swap_uids(g, DOOR_GEN_STATS, DOOR_SUM, DOOR_SQSUM);
}

static void swap_weights(struct graph *g)
{
    swap_uids(g, DOOR_BN_BACKWARD_WEIGHTS, DOOR_DSCALE, DOOR_DBIAS);
}

static void swap_moments(struct graph *g)
{
    swap_uids(g, DOOR_BN_FINALIZE, DOOR_MEAN, DOOR_INVSTD);
}

static void subtract(struct graph *g)
{
    for (int i = 0; i < g->graph.node_count; i++)
        if (g->nodes[i].kind == DOOR_POINTWISE && g->nodes[i].pointwise == DOOR_ADD)
            g->nodes[i].pointwise = DOOR_SUB;
}

static void no_relu(struct graph *g)
{
    for (int i = 0; i < g->graph.node_count; i++)
        if (g->nodes[i].kind == DOOR_POINTWISE && g->nodes[i].pointwise == DOOR_RELU_FWD)
            g->nodes[i].pointwise = DOOR_IDENTITY;
}

/* The filter's two spatial axes the other way round. */
static void turn_filter(struct graph *g)
{
    for (int i = 0; i < g->graph.tensor_count; i++) {
        struct door_tensor *t = &g->tensors[i];

        if (t->dims[2] == 3 && t->dims[3] == 3) {
            int64_t stride = t->strides[2];

            t->strides[2] = t->strides[3];
            t->strides[3] = stride;
        }
    }
}

static void pool_up(struct graph *g)
{
    swap_rows(g);
    g->nodes[0].pre_padding[0] = 0;
    g->nodes[0].post_padding[0] = 2;
}

static const struct tampering {
    const char *name;
    enum graph_kind kind;
    void (*change)(struct graph *g);
} tamperings[] = {
    {"padding",             GRAPH_CONV,              pad_to_the_left},
    {"padding of dx",       GRAPH_CONV_DATA,         swap_rows      },
    {"padding of dw",       GRAPH_CONV_FILTER,       pad_to_the_left},
    {"layout of x",         GRAPH_CONV,              other_layout   },
    {"layout of dx",        GRAPH_CONV_DATA,         other_layout   },
    {"layout of w",         GRAPH_CONV,              turn_filter    },
    {"layout of dw",        GRAPH_CONV_FILTER,       turn_filter    },
    {"dgamma and dbeta",    GRAPH_NORM_BACKWARD,     swap_gradients },
    {"dy - dy2",            GRAPH_NORM_BACKWARD,     subtract       },
    {"layout of norm's x",  GRAPH_NORM,              other_layout   },
    {"statistics",          GRAPH_NORM,              swap_statistics},
    {"residual",            GRAPH_NORM,              subtract       },
    {"no relu",             GRAPH_NORM,              no_relu        },
    {"pool",                GRAPH_MAX_POOL,          pool_up        },
    {"layout of pool's dx", GRAPH_MAX_POOL_BACKWARD, other_layout   },
    {"prologue",            GRAPH_NORM_CONV,         subtract       },
    {"no relu before",      GRAPH_NORM_CONV,         no_relu        },
    {"sums",                GRAPH_NORM_CONV,         swap_sums      },
    {"sums of a gradient",  GRAPH_NORM_CONV_DATA,    swap_weights   },
    {"dw of a norm",        GRAPH_NORM_CONV_FILTER,  no_relu        },
    {"statistics of sums",  GRAPH_FINALIZE,          swap_moments   },
    {"the input's rest",    GRAPH_NORM_CONV_INPUT,   subtract       },
    {"bias",                GRAPH_LINEAR,            subtract       },
};

/* The first op of layer1 (a 3x3 convolution, a normalisation with a residual) or of the kind. */
static const struct op *op_for(const struct model *m, enum graph_kind kind)
{
    for (size_t i = 0; i < m->training_count; i++) {
        const struct op *op = &m->training[i];

        if ((kind <= GRAPH_CONV_FILTER && op->kind == OP_CONV && op->kernel == 3) ||
            ((kind == GRAPH_NORM || kind == GRAPH_NORM_BACKWARD) && op->kind == OP_NORM &&
             op->residual && op->out->readers == 2) ||
            (kind >= GRAPH_MAX_POOL && kind <= GRAPH_MAX_POOL_PLAIN && op->kind == OP_MAX_POOL) ||
            (kind == GRAPH_LINEAR && op->kind == OP_LINEAR) ||
            (kind >= GRAPH_FINALIZE && op->kind == OP_NORM_CONV && op->kernel == 3))
            return op;
    }
    return NULL;
}

/* The plan is made of the graph as it should be; what the self-test holds it against is changed.
 * The plan that replaces it is made of the changed graph: it passes. */
static void test_wrong_plans(void)
{
    for (size_t i = 0; i < sizeof tamperings / sizeof *tamperings; i++) {
        const struct tampering *t = &tamperings[i];
        char engine[160];
        struct rig r;

        open_fused(&r, "resnet18", 3, 64, 2, t->kind >= GRAPH_FINALIZE);
        ask(&r, t->kind, op_for(r.model, t->kind), DOOR_F16, DOOR_CORES_PREFER);
        CHECK_INT(plan_store_complete(r.store), 0);
        CHECK(plan_store_plan(r.store, 0) != NULL);
        snprintf(engine, sizeof engine, "%s", door_plan_info(plan_store_plan(r.store, 0))->engine);
        /* The store's own graph, behind its back. */
        t->change((struct graph *)(uintptr_t)plan_store_graph(r.store, 0));
        CHECK_INT(self_test_run(r.store), 0);
        if (strcmp(engine, door_plan_info(plan_store_plan(r.store, 0))->engine) == 0) {
            printf("%s: was not found out\n", t->name);
            test_failures++;
        }
        close_rig(&r);
    }
}

/* Nothing is left: the run stops, and the text says what was wrong. */
static void test_no_engine_left(void)
{
    struct rig r;

    open_rig(&r, "resnet18", 2, 64, 0);
    ask(&r, GRAPH_CONV, op_for(r.model, GRAPH_CONV), DOOR_BF16, DOOR_CORES_PREFER);
    CHECK_INT(plan_store_complete(r.store), 0);
    pad_to_the_left((struct graph *)(uintptr_t)plan_store_graph(r.store, 0));
    sim_set_script("plans_open:1");
    CHECK_INT(self_test_run(r.store), -ERR_DEVICE);
    close_rig(&r);

    open_rig(&r, "resnet18", 2, 64, 0);
    ask(&r, GRAPH_CONV, op_for(r.model, GRAPH_CONV), DOOR_BF16, DOOR_CORES_PREFER);
    CHECK_INT(plan_store_complete(r.store), 0);
    sim_set_script("plan_run:1:sticky");
    CHECK_INT(self_test_run(r.store), -ERR_DEVICE);
    close_rig(&r);
}

/* Memory that is short for timing is a line, for the self-test an error. */
static void test_memory(void)
{
    struct rig r;

    open_rig(&r, "resnet18", 2, 64, 0);
    ask(&r, GRAPH_CONV, op_for(r.model, GRAPH_CONV), DOOR_BF16, DOOR_CORES_PREFER);
    sim_set_script("alloc:1");
    CHECK_INT(plan_store_complete(r.store), 0);
    sim_set_script("alloc:1");
    CHECK_INT(self_test_run(r.store), -ERR_MEMORY);
    CHECK_INT(self_test_run(r.store), 0);
    close_rig(&r);
}

/* ---- the cache, with timed plans ---- */

static void test_kept(void)
{
    char first[160];
    struct plan_store_settings settings = {.folder = test_folder(), .threads = 2};
    struct rig r;
    uint64_t before[SIM_CALLS], after[SIM_CALLS];

    open_rig(&r, "resnet18", 2, 64, 0);
    for (int start = 0; start < 2; start++) {
        plan_store_close(r.store);
        r.store = NULL;
        CHECK_INT(plan_store_open(&r.store, r.door, &settings), 0);
        ask(&r, GRAPH_CONV, op_for(r.model, GRAPH_CONV), DOOR_F16, DOOR_CORES_PREFER);
        ask(&r, GRAPH_NORM, op_for(r.model, GRAPH_NORM), DOOR_F16, DOOR_CORES_PREFER);
        sim_get_counts(before);
        CHECK_INT(plan_store_complete(r.store), 0);
        sim_get_counts(after);
        /* The second start asks no heuristics and times nothing. */
        CHECK_INT(after[SIM_PLANS_OPEN] - before[SIM_PLANS_OPEN], start ? 0 : 2);
        CHECK_INT(after[SIM_PLAN_LOAD] - before[SIM_PLAN_LOAD], start ? 2 : 0);
        CHECK((after[SIM_PLAN_RUN] > before[SIM_PLAN_RUN]) == !start);
        if (start)
            CHECK_TEXT(door_plan_info(plan_store_plan(r.store, 0))->engine, first);
        snprintf(first, sizeof first, "%s", door_plan_info(plan_store_plan(r.store, 0))->engine);
        CHECK_INT(self_test_run(r.store), 0);
        plan_store_keep(r.store);
    }
    close_rig(&r);
}

/* ---- augmentation ---- */

static void test_augment(void)
{
    static const enum door_type types[] = {DOOR_F32, DOOR_BF16, DOOR_F16};
    struct door *door = NULL;

    sim_set_seed(1);
    CHECK_INT(door_open(&door, 0), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(self_test_augment(door, types[i], i == 0 ? 64 : 41), 0);
    door_close(door);
    CHECK_TEXT(sim_take_fault(), "");
}

static const struct test tests[] = {
    {"bf16",           test_bf16          },
    {"fp16",           test_fp16          },
    {"f32",            test_f32           },
    {"fused",          test_fused         },
    {"wrong_plans",    test_wrong_plans   },
    {"no_engine_left", test_no_engine_left},
    {"memory",         test_memory        },
    {"kept",           test_kept          },
    {"augment",        test_augment       },
};

TEST_MAIN(tests)
