/*
 * test_sim_plans.c - plans of the simulated device: engines, wishes, text and back, absent devices;
 * and own kernels through it.
 */
#include "kernels/kernels.h"
#include "tests/cuda/plain_graph.h"
#include "train/cuda/devices.h"

/* ---- plans ---- */

static void test_wishes(void)
{
    struct sketch s;
    struct door_plan *plans[16];
    struct door_wish wish = {(size_t)1 << 20, true, DOOR_CORES_PREFER};
    const struct sketch_conv conv = shapes[0];
    int count;
    if (!begin())
        return;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &conv);
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), 0);
    for (int i = 0; i < count; i++) {
        CHECK(door_plan_info(plans[i])->deterministic);
        door_plan_close(door, plans[i]);
    }
    wish = (struct door_wish){1 << 20, false, DOOR_CORES_NEVER};
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), 0);
    for (int i = 0; i < count; i++) {
        CHECK(!door_plan_info(plans[i])->tensor_cores);
        door_plan_close(door, plans[i]);
    }
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 1, plans, &count), 0);
    CHECK_INT(count, 1);
    door_plan_close(door, plans[0]);
    wish = (struct door_wish){130, false, DOOR_CORES_PREFER};
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), "the cap on its workspace");
    /* no plan in bf16, as with cuDNN */
    struct sketch_conv bf16 = conv;
    bf16.type = DOOR_BF16;
    wish.workspace_cap = 1 << 20;
    sketch_fused_filter(&s, &bf16);
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), -ERR_DEVICE);
    CHECK_HAS(err_text(), "matcher_casted == nullptr");
    s.tensors[2].dims[1]++;
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), -ERR_FAULT);
    end();
}

/* The engine that is not deterministic gives other bytes on the second run, the others the same. */
static void test_determinism(void)
{
    const struct door_wish wish = {(size_t)1 << 20, false, DOOR_CORES_PREFER};
    struct sketch_conv conv = {4, 64, 8, 8, 16, 3, 1, DOOR_F32};
    struct seat seats[DOOR_MAX_TENSORS] = {{.bytes = 0}};
    struct door_plan *plans[16];
    struct sketch s;
    int count;
    if (!begin())
        return;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &conv);
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), 0);
    seats_open(&s.graph, seats);
    void *first = mem_array(seats[2].bytes, 1, "bytes");
    for (int i = 0; i < count && seats[2].host && first; i++) {
        CHECK_INT(run_plan(&s.graph, seats, plans[i]), 0);
        memcpy(first, seats[2].host, seats[2].bytes);
        CHECK_INT(run_plan(&s.graph, seats, plans[i]), 0);
        CHECK_INT(memcmp(first, seats[2].host, seats[2].bytes) == 0,
                  door_plan_info(plans[i])->deterministic);
        door_plan_close(door, plans[i]);
    }
    mem_free(first);
    seats_close(&s.graph, seats);
    end();
}

static void test_saved_plans(void)
{
    const struct door_wish wish = {(size_t)1 << 20, false, DOOR_CORES_PREFER};
    struct door_plan *plans[16], *again = NULL;
    struct door *absent;
    struct sketch s, other;
    char *text;
    int count;
    if (!begin())
        return;
    sketch_convolution(&s, DOOR_CONV_FORWARD, &shapes[0]);
    sketch_convolution(&other, DOOR_CONV_FORWARD, &shapes[1]);
    CHECK_INT(door_plans_open(door, &s.graph, &wish, 16, plans, &count), 0);
    for (int i = 0; i < count; i++) {
        CHECK_INT(door_plan_save(door, plans[i], &text), 0);
        CHECK_INT(door_plan_load(door, &s.graph, text, &again), 0);
        CHECK_TEXT(door_plan_info(again)->engine, door_plan_info(plans[i])->engine);
        CHECK_INT(door_plan_info(again)->workspace_bytes,
                  door_plan_info(plans[i])->workspace_bytes);
        door_plan_close(door, again);
        CHECK_INT(door_plan_load(door, &other.graph, text, &again), -ERR_MISMATCH);
        CHECK_INT(door_open_absent(&absent, devices_find("a100")), 0);
        CHECK_INT(door_plan_load(absent, &s.graph, text, &again), -ERR_MISMATCH);
        door_close(absent);
        text[20]++;
        CHECK_INT(door_plan_load(door, &s.graph, text, &again), -ERR_MISMATCH);
        mem_free(text);
        door_plan_close(door, plans[i]);
    }
    end();
}

static void test_absent(void)
{
    const struct door_wish wish = {(size_t)1 << 20, false, DOOR_CORES_PREFER};
    struct door_plan *plan;
    struct door_stream *none;
    struct door *absent;
    struct sketch s;
    void *memory;
    int count;
    CHECK_INT(door_open_absent(&absent, devices_find("h100")), 0);
    CHECK_INT(door_properties(absent)->sm, 90);
    CHECK_INT(door_properties(absent)->index, -1);
    CHECK_INT(door_alloc(absent, 8, "memory", &memory), -ERR_FAULT);
    CHECK_INT(door_stream_open(absent, &none), -ERR_FAULT);
    sketch_norm_forward(&s, &shapes[0]);
    CHECK_INT(door_plans_open(absent, &s.graph, &wish, 1, &plan, &count), 0);
    CHECK(door_plan_info(plan)->workspace_bytes % 2 == 1);
    door_plan_close(absent, plan);
    door_close(absent);
    CHECK_TEXT(sim_take_fault(), "");
}

/* ---- own kernels ---- */

/* Queued like everything else: the sum of two arrays that are uploaded just before. */
static void test_kernels(void)
{
    enum { COUNT = 1000 };
    float *host;
    void *memory;
    if (!begin())
        return;
    CHECK_INT(door_host_alloc(door, 3 * COUNT * sizeof(float), "three arrays", (void **)&host), 0);
    CHECK_INT(door_alloc(door, 3 * COUNT * sizeof(float), "three arrays", &memory), 0);
    float *device = memory;
    for (int i = 0; i < 2 * COUNT; i++)
        host[i] = (float)i;
    CHECK_INT(door_copy(door, stream, DOOR_IN, device, host, 2 * COUNT * sizeof(float)), 0);
    CHECK_INT(kernel_sum(stream, KERNEL_F32, COUNT, device, device + COUNT, device + 2 * COUNT), 0);
    CHECK_INT(door_copy(door, stream, DOOR_OUT, host + 2 * COUNT, device + 2 * COUNT,
                        COUNT * sizeof(float)),
              0);
    CHECK(isnan(host[2 * COUNT]) || host[2 * COUNT] == COUNT);
    CHECK_INT(door_stream_sync(door, stream), 0);
    for (int i = 0; i < COUNT; i++)
        CHECK_CLOSE(host[2 * COUNT + i], 2 * i + COUNT, 0);
    /* a sum in place, and one that overlaps by halves */
    CHECK_INT(kernel_sum(stream, KERNEL_F32, COUNT, device, device + COUNT, device), 0);
    CHECK_INT(kernel_sum(stream, KERNEL_F32, COUNT, device, device + COUNT, device + 500), 719);
    CHECK_HAS(sim_take_fault(), "kernel_sum: out and a share memory");
    CHECK_INT(door_stream_sync(door, stream), 0);
    door_free(door, memory);
    door_host_free(door, host);
    end();
}

static const struct test tests[] = {
    {"wishes",      test_wishes     },
    {"determinism", test_determinism},
    {"saved_plans", test_saved_plans},
    {"absent",      test_absent     },
    {"kernels",     test_kernels    },
};
TEST_MAIN(tests)
