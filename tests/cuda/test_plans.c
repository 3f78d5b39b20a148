/*
 * test_plans.c - the real cuDNN makes plans for GPUs that are not here, of the very graphs that the
 * trainer makes (train/cuda/graphs.c) from its op lists: ResNet-18, 50 and 152, batches of 16, 64
 * and 256, bf16, fp16, tf32 and f32, for the A100, RTX 4090, H100, B200 and RTX 5090. What must be
 * refused is, with cuDNN's own reason. No number is computed here: the simulator's tests do that
 * with the same graphs.
 *
 * Engines that cuDNN brings compiled are asked for whole; of those that are compiled at run time
 * (0.2 to 2 s each) every device plans a share, another one each. `test_plans --all` makes all of
 * them (more than an hour on two cores). Cases run in processes of their own: cuDNN keeps what it
 * has loaded, above all whether there is a driver, and the stand-in for one must not be there for
 * the others.
 */
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/mem.h"
#include "common/work.h"
#include "tests/cuda/sketch.h"
#include "tests/test.h"
#include "train/cuda/devices.h"
#include "train/cuda/plan_store.h"

/* cuBLASLt and cuDNN keep memory that they never give back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0:allocator_may_return_null=1";
}

#define MIB ((size_t)1 << 20)
#define CAP (512 * MIB)

static bool all;

static const struct door_wish wish_any = {.workspace_cap = CAP};

/* ---- the graph check ---------------------------------------------------------------------- */

static const struct sketch_conv small = {8, 64, 56, 56, 64, 3, 1, DOOR_BF16};

static void test_check(void)
{
    struct sketch s;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    CHECK_INT(door_graph_check(&s.graph), 0);
    CHECK_INT(door_tensor_bytes(&s.tensors[0]), 8 * 64 * 56 * 56 * 2);

    s.tensors[0].strides[3] = 63; /* 64 channels in 63 places */
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "two elements at one place");

    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.tensors[1].dims[1] = 32; /* cuDNN would take it for a grouped convolution */
    s.tensors[1].strides[3] = 32, s.tensors[1].strides[2] = 96, s.tensors[1].strides[0] = 288;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "channels do not agree");

    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.nodes[0].pre_padding[0] = 0;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "56 rows through a window of 3 do not give 56");

    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.nodes[0].uids[DOOR_W] = 99;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "there is no tensor 99");

    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.nodes[0].uids[DOOR_SCALE] = 2;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "it has a scale, which is not for it");

    sketch_norm_forward(&s, &small);
    CHECK_INT(door_graph_check(&s.graph), 0);
    CHECK_INT(door_tensor_bytes(&s.tensors[s.graph.tensor_count - 1]), 8 * 64 * 56 * 56 / 8);
    s.nodes[1].uids[DOOR_X] = s.nodes[2].uids[DOOR_Y]; /* the sum reads what comes after it */
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);

    sketch_norm_forward(&s, &small);
    s.nodes[0].uids[DOOR_RUNNING_VAR_OUT] = 0;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "running statistics");

    sketch_max_pool(&s, DOOR_RESAMPLE_BACKWARD, &small);
    CHECK_INT(door_graph_check(&s.graph), 0);
    s.nodes[0].uids[DOOR_INDEX] = 0; /* cuDNN 9.19 crashes on it */
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "the way back needs the index");

    struct sketch_conv linear = {16, 512, 1, 1, 37, 1, 1, DOOR_BF16};
    sketch_linear(&s, &linear);
    CHECK_INT(door_graph_check(&s.graph), 0);
    s.tensors[1].dims[1] = 511;
    CHECK_INT(door_graph_check(&s.graph), -ERR_FAULT);
    CHECK_HAS(err_text(), "16x512 by 511x37 is not 16x37");
}

static void test_devices(void)
{
    char json[DEVICES_JSON_SIZE];
    CHECK_TEXT(devices_find("H100")->name, "NVIDIA H100 80GB HBM3");
    CHECK_TEXT(devices_find("sm_90")->spelling, "h100");
    CHECK(!devices_find("v100"));
    CHECK_HAS(err_text(), "h200 (sm_90)");
    for (size_t i = 0; i < devices_count; i++)
        CHECK(devices_json(&devices[i], json, sizeof json) < (int)sizeof json);
}

/* What a machine like this one, without a GPU, is told. */
static void test_no_gpu(void)
{
    struct door *door = NULL;
    int count = -1, rc = door_count(&count);
    if (rc == 0)
        TEST_SKIP("there is a GPU");
    CHECK_INT(rc, -ERR_DEVICE);
    CHECK_INT(count, 0);
    CHECK_HAS(err_text(), "--device cpu");
    CHECK(!strchr(err_text(), '\n'));
    printf("     without a GPU: %s\n", err_text());
    CHECK_INT(door_open(&door, 0), -ERR_DEVICE);
    CHECK(!door);
}

/* A machine without cuDNN, or where no file can be opened. */
static void test_no_cudnn(void)
{
    struct rlimit before, none;
    struct door *door = NULL;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_INT(door_open_absent(&door, devices), -ERR_DEVICE);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK_HAS(err_text(), "libcudnn.so.9");
    CHECK_HAS(err_text(), "LD_LIBRARY_PATH");
    CHECK(!strchr(err_text(), '\n'));
    printf("     without cuDNN: %s\n", err_text());
}

/* ---- an absent device --------------------------------------------------------------------- */

static struct door *open_absent(const char *name)
{
    struct door *door = NULL;
    CHECK_INT(door_open_absent(&door, devices_find(name)), 0);
    return door;
}

/* Plan S; print and count a refusal. Returns the plan's workspace. */
static size_t plan_one(struct door *door, const struct sketch *s, const struct door_wish *wish,
                       struct door_plan_info *info)
{
    struct door_plan *plan;
    int count = 0;
    int rc = door_plans_open(door, &s->graph, wish, 1, &plan, &count);
    if (rc) {
        printf("FAIL on %s: %s\n", door_properties(door)->name, err_text());
        test_failures++;
        return 0;
    }
    size_t bytes = door_plan_info(plan)->workspace_bytes;
    CHECK_INT(count, 1);
    CHECK(bytes <= wish->workspace_cap);
    if (info)
        *info = *door_plan_info(plan);
    door_plan_close(door, plan);
    return bytes;
}

/* ---- the trainer's graphs ------------------------------------------------------------------ */

static const struct precision_row {
    const char *name;
    enum door_type type;
    enum door_cores cores;
} precisions[] = {
    {"bf16", DOOR_BF16, DOOR_CORES_PREFER},
    {"fp16", DOOR_F16,  DOOR_CORES_PREFER},
    {"tf32", DOOR_F32,  DOOR_CORES_PREFER},
    {"f32",  DOOR_F32,  DOOR_CORES_NEVER }
};
static const int batches[] = {16, 64, 256};

/* cuDNN's answers for the H200 are the H100's. */
static const char *const planned[] = {"a100", "rtx4090", "h100", "b200", "rtx5090"};
enum { PLANNED = sizeof planned / sizeof *planned, MOST_GRAPHS = 512 };

/* The distinct graphs of the networks, for one batch and type. */
static struct graph graphs[MOST_GRAPHS];
static int graph_count;

static void add_graph(enum graph_kind kind, const struct op *op, enum door_type type)
{
    struct graph graph;
    int i = 0;
    if (graph_make(&graph, kind, op, type)) {
        printf("FAIL %s: %s\n", op->name, err_text());
        test_failures++;
        return;
    }
    while (i < graph_count && !graph_equal(&graphs[i], &graph))
        i++;
    CHECK(i < MOST_GRAPHS);
    if (i == graph_count && i < MOST_GRAPHS)
        graph_copy(&graphs[graph_count++], &graph);
}

static void add_op(const struct op *op, enum door_type type)
{
    static const struct {
        enum op_kind op;
        enum graph_kind from, to;
    } kinds[] = {
        {OP_CONV,      GRAPH_CONV,      GRAPH_CONV_FILTER     },
        {OP_NORM,      GRAPH_NORM,      GRAPH_NORM_BACKWARD   },
        {OP_MAX_POOL,  GRAPH_MAX_POOL,  GRAPH_MAX_POOL_PLAIN  },
        {OP_LINEAR,    GRAPH_LINEAR,    GRAPH_LINEAR_FILTER   },
        {OP_NORM_CONV, GRAPH_NORM_CONV, GRAPH_NORM_CONV_FILTER},
        {OP_NORM_CONV, GRAPH_FINALIZE,  GRAPH_FINALIZE        }
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].op != op->kind)
            continue;
        for (int kind = kinds[i].from; kind <= (int)kinds[i].to; kind++)
            if (kind != GRAPH_CONV_DATA || op->in_slot >= 0)
                add_graph((enum graph_kind)kind, op, type);
    }
    if (op->kind == OP_NORM && op->in->sums) {
        add_graph(GRAPH_FINALIZE, op, type);
        add_graph(GRAPH_APPLY, op, type);
    }
}

/* Both forms of the training lists; the fused one in fp16 alone. */
static void list_graphs(int batch, enum door_type type)
{
    static const char *const archs[] = {"resnet18", "resnet50", "resnet152"};
    graph_count = 0;
    for (int a = 0; a < 6; a++) {
        struct model *model;
        struct model_settings settings = {.arch = archs[a / 2],
                                          .classes = 1000,
                                          .batch = batch,
                                          .image_size = 224,
                                          .fused = a % 2};
        if (settings.fused && type != DOOR_F16)
            continue;
        if (model_open(&model, &settings)) {
            CHECK(!"model_open");
            return;
        }
        for (size_t i = 0; i < model->training_count; i++)
            add_op(&model->training[i], type);
        model_close(model);
    }
}

/* Is its engine compiled at run time, on every device? */
static bool is_compiled(const struct graph *g)
{
    bool sums = door_graph_tensor(&g->graph, GRAPH_SUM) != NULL;
    if (((g->kind == GRAPH_CONV || g->kind == GRAPH_CONV_DATA) && !sums) ||
        g->kind == GRAPH_FINALIZE || g->kind == GRAPH_NORM_CONV_DATA)
        return false;
    return g->type != DOOR_F32 || (g->kind >= GRAPH_NORM && g->kind <= GRAPH_MAX_POOL_PLAIN);
}

static bool has_products(const struct graph *g)
{
    for (int i = 0; i < g->graph.node_count; i++)
        if (g->nodes[i].kind < DOOR_POINTWISE || g->nodes[i].kind == DOOR_MATMUL)
            return true;
    return false;
}

/* Plan those of the listed graphs that PICKED names, all at once. */
static int plan_listed(struct door *door, const struct precision_row *precision, bool deterministic,
                       const bool picked[MOST_GRAPHS], size_t *most)
{
    struct plan_store_settings settings = {.folder = ""};
    struct plan_store *store = NULL;
    int slot;
    CHECK_INT(plan_store_open(&store, door, &settings), 0);
    for (int i = 0; i < graph_count && store; i++) {
        struct door_wish wish =
            graph_wish(graphs[i].kind, precision->type, precision->cores, deterministic);
        if (picked[i])
            CHECK_INT(plan_store_request(store, &graphs[i], &wish, true, &slot), 0);
    }
    CHECK_INT(plan_store_complete(store), 0);
    int count = plan_store_count(store);
    for (int i = 0; i < count; i++) {
        const struct graph *g = plan_store_graph(store, i);
        const struct door_plan *plan = plan_store_plan(store, i);
        if (!plan) {
            printf("FAIL on %s, %s: %s\n", door_properties(door)->name, precision->name,
                   plan_store_reason(store, i));
            test_failures++;
            continue;
        }
        const struct door_plan_info *info = door_plan_info(plan);
        CHECK(info->workspace_bytes <=
              graph_wish(g->kind, g->type, precision->cores, false).workspace_cap);
        CHECK(!deterministic || info->deterministic);
        /* In tf32 some engines with cores want more workspace than they may have; fused ones use
         * cores and do not say so. */
        if (has_products(g) && g->kind < GRAPH_FINALIZE &&
            (g->type != DOOR_F32 || precision->cores == DOOR_CORES_NEVER))
            CHECK_INT(info->tensor_cores, g->type != DOOR_F32);
        CHECK(is_compiled(g) || !info->compiled);
        *most = info->workspace_bytes > *most ? info->workspace_bytes : *most;
    }
    plan_store_close(store);
    return count;
}

/* Everything that cuDNN brings compiled, on every device: no driver of any kind is needed. */
static void test_precompiled(void)
{
    static bool picked[MOST_GRAPHS];
    double start = work_seconds();
    int plans = 0;
    for (int d = 0; d < PLANNED; d++) {
        struct door *door = open_absent(planned[d]);
        for (int p = 0; p < 4 && door; p++) {
            size_t most = 0;
            for (int b = 0; b < 3; b++) {
                list_graphs(batches[b], precisions[p].type);
                for (int i = 0; i < graph_count; i++)
                    picked[i] = !is_compiled(&graphs[i]);
                plans += plan_listed(door, &precisions[p], false, picked, &most);
                if (b == 1 || all)
                    plans += plan_listed(door, &precisions[p], true, picked, &most);
            }
            printf("     %-8s %s: largest workspace %.1f MB\n", planned[d], precisions[p].name,
                   (double)most / 1e6);
        }
        door_close(door);
    }
    printf("     %d plans in %.1f s\n", plans, work_seconds() - start);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void test_refusals(void)
{
    struct door *door = open_absent("h100");
    struct door_plan *plan = NULL;
    struct sketch s;
    struct door_wish wish = wish_any;
    struct sketch_conv conv = {64, 8, 224, 224, 64, 7, 2, DOOR_F32};
    int count = 1;
    if (!door)
        return;
    /* The weight gradient of the stem in f32 needs some megabytes on every engine with cores. */
    sketch_convolution(&s, DOOR_CONV_BACKWARD_FILTER, &conv);
    wish.workspace_cap = 16;
    wish.cores = DOOR_CORES_ONLY;
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 1, &plan, &count), -ERR_DEVICE);
    CHECK_INT(count, 0);
    CHECK_HAS(err_text(), s.name);
    CHECK_HAS(err_text(), "more workspace than 16 bytes, the least ");
    printf("     over the cap: %s\n", err_text());

    /* A pointer that need not be aligned to its elements. */
    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.tensors[0].alignment = 1;
    CHECK_INT(door_plans_open(door, &s.graph, &wish_any, 1, &plan, &count), -ERR_FAULT);

    /* Types that do not go together: cuDNN's own reason is in the text. */
    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    s.tensors[1].type = DOOR_F16;
    CHECK_INT(door_plans_open(door, &s.graph, &wish_any, 1, &plan, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), s.name);
    CHECK_HAS(err_text(), "has no plan for it: ");
    CHECK(!strstr(err_text(), "no engine is offered"));
    printf("     bf16 by fp16: %s\n", err_text());

    /* Three channels: cuDNN pads them in the workspace at every step; eight need none. */
    conv = (struct sketch_conv){64, 3, 224, 224, 64, 7, 2, DOOR_BF16};
    wish = (struct door_wish){.workspace_cap = 16 * MIB, .cores = DOOR_CORES_ONLY};
    sketch_convolution(&s, DOOR_CONV_FORWARD, &conv);
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 1, &plan, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), "workspace");
    printf("     3 channels: %s\n", err_text());
    conv.c = 8;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &conv);
    plan_one(door, &s, &wish, NULL);

    /* An absent device does nothing else. */
    void *memory = NULL;
    CHECK_INT(door_alloc(door, 16, "a test", &memory), -ERR_FAULT);
    CHECK_HAS(err_text(), "absent");
    CHECK_INT(door_copy(door, NULL, DOOR_IN, &memory, &memory, 1), -ERR_FAULT);
    door_close(door);
}

/* ---- plans as text ------------------------------------------------------------------------ */

static void test_saved(void)
{
    struct door *door = open_absent("a100"), *other = open_absent("b200");
    struct door_plan *plans[4] = {NULL}, *again = NULL;
    struct sketch s, t;
    char *text = NULL;
    int count = 0;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &small);
    if (!door || !other || door_plans_open(door, &s.graph, &wish_any, 4, plans, &count)) {
        CHECK(!"no plan");
        return;
    }
    CHECK(count > 1 && count <= 4);
    for (int i = 0; i < count; i++)
        printf("     %d: %s, %zu bytes\n", i, door_plan_info(plans[i])->engine,
               door_plan_info(plans[i])->workspace_bytes);
    CHECK_INT(door_plan_save(door, plans[0], &text), 0);
    CHECK_INT(door_plan_load(door, &s.graph, text, &again), 0);
    if (again) {
        CHECK_TEXT(door_plan_info(again)->engine, door_plan_info(plans[0])->engine);
        CHECK_INT(door_plan_info(again)->workspace_bytes,
                  door_plan_info(plans[0])->workspace_bytes);
        CHECK_INT(door_plan_info(again)->tensor_cores, door_plan_info(plans[0])->tensor_cores);
        char *twice = NULL;
        CHECK_INT(door_plan_save(door, again, &twice), 0);
        CHECK_TEXT(twice, text);
        mem_free(twice);
    }
    door_plan_close(door, again);

    CHECK_INT(door_plan_load(other, &s.graph, text, &again), -ERR_MISMATCH);
    printf("     another device: %s\n", err_text());
    sketch_convolution(&t, DOOR_CONV_FORWARD, &small);
    t.nodes[0].uids[DOOR_X] = 1, t.tensors[0].alignment = 32;
    CHECK_INT(door_plan_load(door, &t.graph, text, &again), -ERR_MISMATCH);
    CHECK_HAS(err_text(), "another graph's");
    text[strlen(text) / 2] ^= 1;
    CHECK_INT(door_plan_load(door, &s.graph, text, &again), -ERR_MISMATCH);
    CHECK_HAS(err_text(), "damaged");
    CHECK_INT(door_plan_load(door, &s.graph, "", &again), -ERR_MISMATCH);
    mem_free(text);
    for (int i = 0; i < count; i++)
        door_plan_close(door, plans[i]);
    door_close(other);
    door_close(door);
}

/* ---- several threads ---------------------------------------------------------------------- */

static struct door *shared_door;

static int plan_many(void *argument)
{
    struct sketch_conv conv = small;
    int rc = 0;
    conv.k = 64 * *(const int *)argument;
    for (int kind = DOOR_CONV_FORWARD; kind <= DOOR_CONV_BACKWARD_FILTER && !rc; kind++) {
        struct sketch s;
        struct door_plan *plan;
        int count;
        sketch_convolution(&s, (enum door_kind)kind, &conv);
        rc = door_plans_open(shared_door, &s.graph, &wish_any, 1, &plan, &count);
        if (!rc)
            door_plan_close(shared_door, plan);
    }
    return rc;
}

static void test_threads(void)
{
    static const int numbers[] = {1, 2, 3, 4};
    struct work_crew *crew;
    shared_door = open_absent("h100");
    CHECK_INT(work_crew_open(&crew, NULL, NULL), 0);
    for (int i = 0; i < 4 && shared_door; i++)
        CHECK_INT(work_crew_start(crew, "plans", plan_many, (void *)(uintptr_t)&numbers[i]), 0);
    CHECK_INT(work_crew_join(crew), 0);
    work_crew_close(crew);
    door_close(shared_door);
}

/* ---- engines that are compiled at run time ------------------------------------------------ */

/* Is graph I, the NUMBER-th of its kind, planned for device D in precision P by default? */
static bool is_share(int i, int number, int d, int p)
{
    int of_kind = 0;
    for (int k = 0; k < graph_count; k++)
        of_kind += graphs[k].kind == graphs[i].kind;
    /* Half the kinds in each precision. */
    return ((int)graphs[i].kind + d + p) % 2 == 0 && number == (3 * d + p) % of_kind;
}

static bool stand_in(void)
{
    if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL))
        return true;
    if (dlopen(STAND_IN_DRIVER, RTLD_NOW | RTLD_GLOBAL))
        return true;
    printf("%s\n", dlerror());
    return false;
}

/* fp16 has engines for it, bf16 none: fusion levels are chosen by such answers. */
static void test_fused(void)
{
    const struct sketch_conv conv = {64, 64, 56, 56, 64, 3, 1, DOOR_F16};
    struct sketch_conv other = conv;
    struct door *door = open_absent("a100");
    struct door_plan *plan;
    struct sketch s;
    int count;
    CHECK(stand_in());
    if (!door)
        return;
    sketch_fused_filter(&s, &conv);
    plan_one(door, &s, &wish_any, NULL);
    other.type = DOOR_BF16;
    sketch_fused_filter(&s, &other);
    CHECK_INT(door_plans_open(door, &s.graph, &wish_any, 1, &plan, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), "has no plan for it: ");
    CHECK(!strstr(err_text(), "libcuda"));
    printf("     bf16: %s\n", err_text());
    door_close(door);

    /* The B200's first engine for a convolution with statistics adds in any order. */
    struct door_wish wish = wish_any;
    struct door_plan_info info = {.deterministic = true};
    if (!(door = open_absent("b200")))
        return;
    sketch_conv_stats(&s, &conv);
    plan_one(door, &s, &wish, &info);
    CHECK(!info.deterministic);
    wish.deterministic = true;
    plan_one(door, &s, &wish, &info);
    CHECK(info.deterministic);
    door_close(door);
}

/* One graph of each kind for each device, in a precision, batch and shape of its own; or all. */
static void test_compiled(void)
{
    static bool picked[MOST_GRAPHS];
    double start = work_seconds();
    int plans = 0;
    CHECK(stand_in());
    for (int d = 0; d < PLANNED; d++) {
        struct door *door = open_absent(planned[d]);
        for (int p = 0; p < 4 && door; p++) {
            size_t most = 0;
            for (int b = 0; b < 3; b++) {
                int seen[GRAPH_KINDS] = {0};
                if (!all && b != (d + p) % 3)
                    continue;
                list_graphs(batches[b], precisions[p].type);
                for (int i = 0; i < graph_count; i++) {
                    int number = seen[graphs[i].kind]++;
                    picked[i] = is_compiled(&graphs[i]) && (all || is_share(i, number, d, p));
                }
                plans += plan_listed(door, &precisions[p], false, picked, &most);
            }
            CHECK(most < 64 * MIB || precisions[p].type == DOOR_F32);
            printf("     %-8s %s: %d plans in %.1f s\n", planned[d], precisions[p].name, plans,
                   work_seconds() - start);
        }
        door_close(door);
    }
}

/* Without any driver these engines are not offered, and the text says so. */
static void test_no_driver(void)
{
    struct door *door = open_absent("h100");
    struct door_plan *plan;
    struct sketch s;
    int count;
    if (dlopen("libcuda.so.1", RTLD_NOW))
        TEST_SKIP("there is a driver");
    sketch_norm_forward(&s, &small);
    CHECK_INT(door_plans_open(door, &s.graph, &wish_any, 1, &plan, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), s.name);
    printf("     without a driver: %s\n", err_text());
    door_close(door);
}

/* ---- the cases ---------------------------------------------------------------------------- */

static const struct test tests[] = {
    {"check",       test_check      },
    {"devices",     test_devices    },
    {"no_gpu",      test_no_gpu     },
    {"no_cudnn",    test_no_cudnn   },
    {"precompiled", test_precompiled},
    {"refusals",    test_refusals   },
    {"saved",       test_saved      },
    {"threads",     test_threads    },
    {"no_driver",   test_no_driver  },
    {"fused",       test_fused      },
    {"compiled",    test_compiled   },
};

/* Is cuDNN there? Says why not. */
static void probe(void)
{
    struct door *door;
    if (door_open_absent(&door, devices))
        TEST_SKIP("%s", err_text());
    door_close(door);
}

/* Run one case in a child; its exit status. */
static int run_child(const struct test *test)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exit(test_main(1, NULL, test, 1));
    if (child < 0 || waitpid(child, &status, 0) != child)
        return 1;
    if (WIFSIGNALED(status))
        printf("%s: killed by signal %d\n", test->name, WTERMSIG(status));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    static const struct test probing = {"cuDNN", probe};
    int failed = 0;
    bool named = false;
    setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef __SANITIZE_THREAD__
    /* Its locks are not seen, and what they guard is. */
    printf("skipped: cuDNN is not built for the thread sanitizer\n");
    return 77;
#endif
    for (int i = 1; i < argc; i++) {
        all |= strcmp(argv[i], "--all") == 0;
        named |= strcmp(argv[i], "--all") != 0;
    }
    bool have_cudnn = run_child(&probing) == 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        bool wanted = !named;
        for (int k = 1; k < argc; k++)
            wanted |= strcmp(argv[k], tests[i].name) == 0;
        if (!wanted ||
            (!have_cudnn && tests[i].function != test_check && tests[i].function != test_devices &&
             tests[i].function != test_no_gpu && tests[i].function != test_no_cudnn))
            continue;
        int status = run_child(&tests[i]);
        failed += status != 0 && status != 77;
    }
    return failed ? 1 : have_cudnn ? 0 : 77;
}
