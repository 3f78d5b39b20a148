/*
 * test_plans.c - the real cuDNN makes plans for GPUs that are not here: every convolution of the
 * ResNets for every device of the table, in every precision and three batch sizes, and the graphs
 * whose engines are compiled at run time on some of them; what must be refused is, with cuDNN's own
 * reason. No number is computed here: the simulator's tests do that with the same node lists.
 *
 * `test_plans --all` makes all of the compiled graphs for all devices and precisions (minutes).
 * Cases run in processes of their own: cuDNN keeps what it has loaded, above all whether there is a
 * driver, and the stand-in for one must not be there for the others.
 */
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/mem.h"
#include "common/work.h"
#include "tests/cuda/sketch.h"
#include "tests/test.h"
#include "train/cuda/devices.h"
#include "train/model.h"

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

/* The distinct convolutions of the ResNets, from the trainer's own op lists; the stem's three
 * channels are padded to 8, as on the device. */
#define MOST_CONVS 64
static int list_convs(struct sketch_conv out[MOST_CONVS])
{
    static const char *const archs[] = {"resnet18", "resnet50", "resnet152"};
    int count = 0;
    for (int a = 0; a < 3; a++) {
        struct model *model;
        struct model_settings settings = {
            .arch = archs[a], .classes = 1000, .batch = 1, .image_size = 224};
        if (model_open(&model, &settings)) {
            CHECK(!"model_open");
            return 0;
        }
        for (size_t i = 0; i < model->training_count; i++) {
            const struct op *op = &model->training[i];
            if (op->kind != OP_CONV)
                continue;
            struct sketch_conv conv = {.c = (op->in->c + 7) / 8 * 8,
                                       .h = op->in->h,
                                       .w = op->in->w,
                                       .k = op->out->c,
                                       .window = op->kernel,
                                       .stride = op->stride};
            int k = 0;
            while (k < count && memcmp(&out[k], &conv, sizeof conv))
                k++;
            if (k == count && count < MOST_CONVS)
                out[count++] = conv;
        }
        model_close(model);
    }
    return count;
}

static const struct precision_row {
    const char *name;
    enum door_type type;
    enum door_cores cores;
    size_t cap; /* what convolutions of 256 pictures need at most, and a little */
} precisions[] = {
    {"bf16", DOOR_BF16, DOOR_CORES_ONLY,  64 * MIB },
    {"fp16", DOOR_F16,  DOOR_CORES_ONLY,  64 * MIB },
    {"tf32", DOOR_F32,  DOOR_CORES_ONLY,  640 * MIB},
    {"f32",  DOOR_F32,  DOOR_CORES_NEVER, 512 * MIB}
};

/* Every convolution, its two gradients, on every device: no driver of any kind is needed. */
static void test_convolutions(void)
{
    static const int64_t batches[] = {16, 64, 256};
    struct sketch_conv convs[MOST_CONVS];
    int count = list_convs(convs), plans = 0;
    double start = work_seconds();
    CHECK_INT(count, 29);
    for (size_t d = 0; d < devices_count; d++) {
        struct door *door = NULL;
        if (strcmp(devices[d].spelling, "h200") == 0) /* cuDNN's answers are the H100's */
            continue;
        CHECK_INT(door_open_absent(&door, &devices[d]), 0);
        for (int p = 0; p < 4 && door; p++) {
            struct door_wish wish = {.workspace_cap = precisions[p].cap,
                                     .cores = precisions[p].cores};
            size_t most = 0;
            for (int i = 0; i < count * 9; i++) {
                enum door_kind kind = (enum door_kind)(DOOR_CONV_FORWARD + i / 3 % 3);
                struct sketch_conv conv = convs[i / 9];
                struct door_plan_info info;
                struct sketch s;
                if (kind == DOOR_CONV_BACKWARD_DATA && conv.window == 7)
                    continue; /* nobody wants the pictures' gradient */
                conv.n = batches[i % 3];
                conv.type = precisions[p].type;
                sketch_convolution(&s, kind, &conv);
                info.tensor_cores = wish.cores == DOOR_CORES_ONLY;
                size_t bytes = plan_one(door, &s, &wish, &info);
                CHECK_INT(info.tensor_cores, wish.cores == DOOR_CORES_ONLY);
                most = bytes > most ? bytes : most;
                plans++;
            }
            printf("     %-8s %s: largest workspace %.1f MB\n", devices[d].spelling,
                   precisions[p].name, (double)most / 1e6);
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

static void compiled_graph(int which, enum door_type type, struct sketch *s)
{
    const struct sketch_conv conv = {64, 64, 56, 56, 64, 3, 1, type};
    const struct sketch_conv stem = {64, 64, 112, 112, 64, 3, 2, type};
    const struct sketch_conv linear = {64, 2048, 1, 1, 1000, 1, 1, type};
    switch (which) {
    case 0:
        sketch_norm_forward(s, &conv);
        break;
    case 1:
        sketch_norm_backward(s, &conv);
        break;
    case 2:
        sketch_max_pool(s, DOOR_RESAMPLE_FORWARD, &stem);
        break;
    case 3:
        sketch_max_pool(s, DOOR_RESAMPLE_BACKWARD, &stem);
        break;
    case 4:
        sketch_linear(s, &linear);
        break;
    default:
        sketch_conv_stats(s, &conv);
        break;
    }
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

static void test_compiled(void)
{
    double start = work_seconds();
    int plans = 0;
    CHECK(stand_in());
    for (size_t d = 0; d < devices_count; d++) {
        struct door *door = open_absent(devices[d].spelling);
        for (int p = 0; p < 4 && door; p++) {
            for (int which = 0; which < 6; which++) {
                /* By default: bf16, the H100 whole, two graphs of each of the others. */
                bool mine = p == 0 && (strcmp(devices[d].spelling, "h100") == 0 ||
                                       which == (int)d || which == ((int)d + 1) % 6);
                struct sketch s;
                /* True f32 has no engine with statistics: they are computed by a plan of their
                 * own. */
                if ((!all && !mine) || (which == 5 && p == 3))
                    continue;
                compiled_graph(which, precisions[p].type, &s);
                plan_one(door, &s, &wish_any, NULL);
                plans++;
            }
        }
        door_close(door);
    }
    printf("     %d plans in %.1f s\n", plans, work_seconds() - start);
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
    {"check",        test_check       },
    {"devices",      test_devices     },
    {"no_gpu",       test_no_gpu      },
    {"no_cudnn",     test_no_cudnn    },
    {"convolutions", test_convolutions},
    {"refusals",     test_refusals    },
    {"saved",        test_saved       },
    {"threads",      test_threads     },
    {"no_driver",    test_no_driver   },
    {"fused",        test_fused       },
    {"compiled",     test_compiled    },
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
