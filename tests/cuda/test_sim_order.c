/*
 * test_sim_order.c - what the simulated device makes of a program's order and of its mistakes:
 * correct programs give the same bytes under every schedule, and each kind of misuse of
 * train/cuda/door.h is found. Races are found under every schedule, for they are looked for in the
 * order of queueing; what the host does too early is found by the schedules that hold work back.
 */
#include <sys/wait.h>
#include <time.h>

#include "common/mem.h"
#include "kernels/kernels.h"
#include "tests/cuda/sim/sim.h"
#include "tests/cuda/sketch.h"
#include "tests/test.h"

enum { SEEDS = 40, BYTES = 4096, LATE = 4, EARLY = 5 };

/* A device with three streams, four events, three device buffers and two pinned ones. */
static struct door *door;
static struct door_stream *one, *two, *three;
static struct door_event *first, *second, *used, *down;
static unsigned char *a, *b, *c, *host, *back;

static void begin(uint64_t seed)
{
    sim_set_seed(seed);
    CHECK_INT(door_open(&door, 0), 0);
    CHECK_INT(door_stream_open(door, &one), 0);
    CHECK_INT(door_stream_open(door, &two), 0);
    CHECK_INT(door_stream_open(door, &three), 0);
    CHECK_INT(door_event_open(door, false, &used), 0);
    CHECK_INT(door_event_open(door, false, &down), 0);
    CHECK_INT(door_event_open(door, false, &first), 0);
    CHECK_INT(door_event_open(door, false, &second), 0);
    CHECK_INT(door_alloc(door, BYTES, "buffer a", (void **)&a), 0);
    CHECK_INT(door_alloc(door, BYTES, "buffer b", (void **)&b), 0);
    CHECK_INT(door_alloc(door, BYTES, "buffer c", (void **)&c), 0);
    CHECK_INT(door_host_alloc(door, BYTES, "pinned source", (void **)&host), 0);
    CHECK_INT(door_host_alloc(door, BYTES, "pinned target", (void **)&back), 0);
    for (int i = 0; i < BYTES; i++)
        host[i] = (unsigned char)(i * 7);
}

/* FAULT: part of the sentence that must have been said; NULL: none. */
static void end(const char *fault)
{
    const char *said = sim_take_fault();
    if (fault)
        CHECK_HAS(said, fault);
    else
        CHECK_TEXT(said, "");
    door_stream_sync(door, one);
    door_stream_sync(door, two);
    door_stream_sync(door, three);
    door_event_close(door, used);
    door_event_close(door, down);
    door_event_close(door, first);
    door_event_close(door, second);
    door_free(door, a);
    door_free(door, b);
    door_free(door, c);
    door_host_free(door, host);
    door_host_free(door, back);
    door_stream_close(door, one);
    door_stream_close(door, two);
    door_stream_close(door, three);
    door_close(door);
    if (!fault)
        CHECK_TEXT(sim_take_fault(), "");
    sim_take_fault();
}

/* ---- schedules ---- */

/* Round ROUND: up on stream one, through the device on two, down on three, so that the next round's
 * way up overlaps this round's way down. FORGET leaves one of the four orders out: 1 a's upload
 * before its use, 2 the result before its way down, 3 the last round's use of a before the next
 * upload, 4 the last round's way down before the next result. */
static void pipeline_round(int round, int forget)
{
    if (round > 0 && forget != 3)
        door_stream_wait(door, one, used);
    door_copy(door, one, DOOR_IN, a, host, BYTES);
    door_event_record(door, first, one);
    if (forget != 1)
        door_stream_wait(door, two, first);
    door_copy(door, two, DOOR_ON, b, a, BYTES);
    door_event_record(door, used, two);
    if (round > 0 && forget != 4)
        door_stream_wait(door, two, down);
    kernel_sum(two, KERNEL_F32, BYTES / 8, b, b + BYTES / 2, c);
    door_copy(door, two, DOOR_ON, c + BYTES / 2, c, BYTES / 2);
    door_event_record(door, second, two);
    if (forget != 2)
        door_stream_wait(door, three, second);
    door_copy(door, three, DOOR_OUT, back, c, BYTES);
    door_event_record(door, down, three);
}

static void test_schedules(void)
{
    unsigned char wanted[BYTES];
    uint64_t schedules[SEEDS];
    int different = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        for (int i = 0; i < BYTES / 4; i++)
            ((float *)(void *)host)[i] = (float)i;
        for (int round = 0; round < 4; round++)
            pipeline_round(round, 0);
        CHECK_INT(door_stream_sync(door, three), 0);
        CHECK_INT(sim_work_done(), 4 * 5);
        schedules[seed] = sim_schedule();
        bool is_new = true;
        for (uint64_t k = 0; k < seed; k++)
            is_new &= schedules[k] != schedules[seed];
        different += is_new;
        if (seed == 0)
            memcpy(wanted, back, BYTES);
        CHECK(memcmp(wanted, back, BYTES) == 0);
        CHECK_CLOSE(((float *)(void *)back)[3], 3 + 512 + 3, 0);
        end(NULL);
    }
    if (different < SEEDS / 4)
        printf("only %d schedules in %d seeds\n", different, SEEDS);
    CHECK(different >= SEEDS / 4);
}

/* Two streams that nothing orders, and that touch nothing of each other: many orders. */
static void test_free_streams(void)
{
    uint64_t schedules[SEEDS];
    int different = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        for (int i = 0; i < 8; i++) {
            CHECK_INT(door_fill(door, one, a, (uint8_t)i, BYTES), 0);
            CHECK_INT(door_fill(door, two, b, (uint8_t)i, BYTES), 0);
        }
        CHECK_INT(door_stream_sync(door, two), 0);
        CHECK_INT(door_stream_sync(door, one), 0);
        schedules[seed] = sim_schedule();
        bool is_new = true;
        for (uint64_t k = 0; k < seed; k++)
            is_new &= schedules[k] != schedules[seed];
        different += is_new;
        end(NULL);
    }
    if (different < SEEDS / 2)
        printf("only %d schedules in %d seeds\n", different, SEEDS);
    CHECK(different >= SEEDS / 2);
}

static void test_forgotten_events(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        for (int forget = 1; forget <= 4; forget++) {
            begin(seed);
            for (int round = 0; round < 2; round++)
                pipeline_round(round, forget);
            end("race: ");
        }
    }
}

/* The host is a part of the order, too: what it waited for is behind what it queues. */
static void test_host_orders(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        bool done = false;
        begin(seed);
        door_fill(door, one, a, 1, BYTES);
        door_event_record(door, first, one);
        if (seed % 3 == 0)
            CHECK_INT(door_event_sync(door, first), 0);
        else if (seed % 3 == 1)
            CHECK_INT(door_stream_sync(door, one), 0);
        while (seed % 3 == 2 && !done)
            CHECK_INT(door_event_done(door, first, &done), 0);
        CHECK_INT(door_fill(door, two, a, 2, BYTES), 0);
        end(NULL);
    }
}

/* Milliseconds that some work takes on the device, while the host is as slow as it likes. */
static float time_work(uint64_t seed, long host_ns)
{
    struct door_event *from, *to;
    float milliseconds = 0;
    begin(seed);
    CHECK_INT(door_event_open(door, true, &from), 0);
    CHECK_INT(door_event_open(door, true, &to), 0);
    CHECK_INT(door_event_record(door, from, one), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(door_fill(door, one, a, (uint8_t)i, BYTES), 0);
        nanosleep(&(struct timespec){.tv_nsec = host_ns}, NULL);
    }
    CHECK_INT(door_event_record(door, to, one), 0);
    CHECK_INT(door_event_sync(door, to), 0);
    CHECK_INT(door_event_elapsed(door, from, to, &milliseconds), 0);
    door_event_close(door, from);
    door_event_close(door, to);
    end(NULL);
    return milliseconds;
}

/* The device's time is the seed's: a machine under load makes no other engine the fastest. */
static void test_clock(void)
{
    float before = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        const float once = time_work(seed, 0), slow = time_work(seed, 3000000);
        CHECK(once > 0 && once < 4);
        CHECK_CLOSE(slow, once, 0);
        CHECK(once != before);
        before = once;
    }
}

/* ---- what the host does too early ---- */

static void test_source_changed(void)
{
    int found = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        door_copy(door, one, DOOR_IN, a, host, BYTES);
        host[BYTES - 1]++;
        door_stream_sync(door, one);
        if (seed == LATE)
            CHECK_HAS(err_text(), "the host changed its source before the copy ran");
        const char *said = sim_take_fault();
        found += *said != 0;
        end(NULL);
    }
    CHECK(found >= SEEDS / 4);
}

static void test_target_read_early(void)
{
    begin(LATE);
    memset(back, 1, BYTES);
    door_fill(door, one, a, 2, BYTES);
    door_copy(door, one, DOOR_OUT, back, a, BYTES);
    CHECK_INT(back[0], 0xFF);
    CHECK_INT(door_stream_sync(door, one), 0);
    CHECK_INT(back[0], 2);
    end(NULL);
    begin(EARLY);
    door_fill(door, one, a, 2, BYTES);
    door_copy(door, one, DOOR_OUT, back, a, BYTES);
    CHECK_INT(back[0], 2);
    end(NULL);
}

/* ---- memory ---- */

static void test_memory(void)
{
    void *memory;
    begin(2);
    CHECK_INT(a[0], 0xFF); /* anything, and never 0 by chance */
    CHECK_INT((uintptr_t)a % 512, 256);
    door_fill(door, one, a, 0, BYTES + 1);
    end("its target takes 4097 bytes, and buffer a ends after 4096");
    begin(2);
    door_fill(door, one, host, 0, BYTES);
    end("its target is in pinned source, which is pinned host memory");
    begin(2);
    door_copy(door, one, DOOR_IN, a, b, BYTES);
    end("its source is in buffer b, which is device memory");
    begin(2);
    door_copy(door, one, DOOR_ON, a, a + BYTES / 2 - 1, BYTES / 2);
    end("source and target overlap");
    begin(2);
    CHECK_INT(door_alloc(door, 100, "short-lived", &memory), 0);
    door_free(door, memory);
    door_fill(door, one, memory, 0, 100);
    end("where no live buffer is");
    begin(2);
    CHECK_INT(door_alloc(door, 100, "short-lived", &memory), 0);
    door_fill(door, one, memory, 0, 100);
    door_free(door, memory);
    end("short-lived was freed, but the host has not waited for \"fill of 100 bytes\"");
    begin(EARLY); /* even when it has run by chance */
    CHECK_INT(door_host_alloc(door, 100, "short-lived", &memory), 0);
    door_copy(door, one, DOOR_IN, a, memory, 100);
    door_host_free(door, memory);
    end("short-lived was freed, but the host has not waited for \"copy in of 100 bytes\"");
    begin(2);
    CHECK_INT(door_alloc(door, 100, "short-lived", &memory), 0);
    door_free(door, memory);
    door_free(door, memory);
    end("freed twice?");
    begin(2);
    a[BYTES + 3] = 0;
    door_stream_sync(door, one);
    end("buffer a (4096 bytes): somebody wrote 4 bytes behind it");
    begin(2);
    door_stream_close(door, two);
    door_fill(door, two, a, 0, 1);
    CHECK_HAS(sim_take_fault(), "is no open stream");
    CHECK_INT(door_stream_open(door, &two), 0);
    end(NULL);
}

/* ---- plans ---- */

/* relu(a) > b, with the workspace in c. */
static struct door_plan *open_relu(struct sketch *s, int elements)
{
    const struct door_wish wish = {BYTES, false, DOOR_CORES_PREFER};
    struct door_plan *plans[8];
    int count = 0;
    sketch_open(s, "a relu");
    int64_t x = sketch_tensor(s, DOOR_F32, 1, elements, 1, 1, REAL);
    sketch_pointwise(s, DOOR_RELU_FWD, x, 0, DOOR_F32, REAL);
    CHECK_INT(door_plans_open(door, &s->graph, &wish, 8, plans, &count), 0);
    for (int i = 1; i < count; i++)
        door_plan_close(door, plans[i]);
    return plans[0];
}

static int run_relu(struct door_plan *plan, void *x, void *y, void *workspace)
{
    const struct door_pointer pointers[] = {
        {1, x},
        {2, y}
    };
    return door_plan_run(door, plan, one, pointers, 2, workspace);
}

static void test_plan_misuse(void)
{
    static const struct {
        int elements, x, y, workspace; /* offsets in a, b, c; -1: NULL */
        const char *said;
    } cases[] = {
        {256,  0,  0,    0,    NULL                                     },
        {1025, 0,  0,    0,    "tensor 1 takes 4100 bytes, and buffer a"},
        {256,  4,  0,    0,    "tensor 1 is not aligned to 16 bytes"    },
        {256,  0,  3088, 0,    "tensor 2 takes 1024 bytes, and buffer b"},
        {256,  0,  0,    3840, "its workspace takes "                   },
        {256,  0,  0,    128,  "its workspace is not aligned to 256"    },
        {256,  0,  0,    -1,   "no workspace was given"                 },
        {256,  -1, 0,    0,    "tensor 1 was given NULL"                },
    };
    struct sketch s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(2);
        struct door_plan *plan = open_relu(&s, cases[i].elements);
        door_fill(door, one, a, 1, BYTES);
        run_relu(plan, cases[i].x < 0 ? NULL : a + cases[i].x, b + cases[i].y,
                 cases[i].workspace < 0 ? NULL : c + cases[i].workspace);
        const char *said = sim_take_fault();
        if (cases[i].said)
            CHECK_HAS(said, cases[i].said);
        else
            CHECK_TEXT(said, "");
        door_stream_sync(door, one);
        door_plan_close(door, plan);
        end(NULL);
    }
    begin(2);
    struct door_plan *plan = open_relu(&s, 256);
    run_relu(plan, a, a + 512, c);
    CHECK_HAS(sim_take_fault(), "a relu: tensor 2 and tensor 1 share memory");
    run_relu(plan, a, b, a + 256);
    CHECK_HAS(sim_take_fault(), "a relu: its workspace and tensor 1 share memory");
    const struct door_pointer wrong[] = {
        {1, a},
        {3, b}
    };
    door_plan_run(door, plan, one, wrong, 2, c);
    CHECK_HAS(sim_take_fault(), "tensor 3 is not in the graph");
    door_plan_run(door, plan, one, wrong, 1, c);
    CHECK_HAS(sim_take_fault(), "tensor 2 was given no pointer");
    /* two plans of two streams in one workspace */
    const struct door_pointer right[] = {
        {1, a + 1024},
        {2, b + 1024}
    };
    CHECK_INT(run_relu(plan, a, b, c), 0);
    CHECK_INT(door_plan_run(door, plan, two, right, 2, c), -ERR_FAULT);
    CHECK_HAS(sim_take_fault(), "race: \"a relu\" writes buffer c");
    door_stream_sync(door, one);
    door_plan_close(door, plan);
    end(NULL);
    begin(LATE);
    plan = open_relu(&s, 256);
    run_relu(plan, a, b, c);
    door_plan_close(door, plan);
    door_stream_sync(door, one);
    end("the plan was closed before its work ran");
}

/* A workspace holds nothing before, after, or across: what lay there is gone. */
static void test_workspace_is_scratch(void)
{
    struct sketch s;
    begin(2);
    struct door_plan *plan = open_relu(&s, 256);
    door_fill(door, one, c, 7, BYTES);
    CHECK_INT(run_relu(plan, a, b, c), 0);
    door_copy(door, one, DOOR_OUT, back, c, BYTES);
    CHECK_INT(door_stream_sync(door, one), 0);
    size_t bytes = door_plan_info(plan)->workspace_bytes;
    CHECK_INT(back[0], 0xFF);
    CHECK_INT(back[bytes - 1], 0xFF);
    CHECK_INT(back[bytes], 7);
    door_plan_close(door, plan);
    end(NULL);
}

/* ---- captures ---- */

/* One round of the pipeline captured. */
static struct door_capture *capture_round(void)
{
    struct door_capture *capture = NULL;
    CHECK_INT(door_capture_begin(door, one), 0);
    pipeline_round(0, 0);
    CHECK_INT(door_stream_wait(door, one, down), 0);
    CHECK_INT(door_capture_end(door, one, &capture), 0);
    return capture;
}

static void test_captures(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        for (int i = 0; i < BYTES / 4; i++)
            ((float *)(void *)host)[i] = (float)i;
        struct door_capture *capture = capture_round();
        CHECK_INT(sim_work_done(), 0);
        for (int launch = 0; launch < 3; launch++) {
            CHECK_INT(door_capture_launch(door, capture, one), 0);
            CHECK_INT(door_stream_sync(door, one), 0);
            CHECK_CLOSE(((float *)(void *)back)[3], 3 + 512 + 3 + 2 * launch, 0);
            ((float *)(void *)host)[3]++;
            ((float *)(void *)host)[515]++;
        }
        CHECK_INT(door_capture_launch(door, capture, one), 0);
        CHECK_INT(door_capture_launch(door, capture, one), 0); /* behind the first */
        CHECK_INT(sim_work_done() <= 25, 1);
        door_stream_sync(door, one);
        door_capture_close(door, capture);
        end(NULL);
    }
}

static void test_capture_race(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        begin(seed);
        CHECK_INT(door_capture_begin(door, one), 0);
        CHECK_INT(door_event_record(door, first, one), 0);
        CHECK_INT(door_stream_wait(door, two, first), 0);
        CHECK_INT(door_fill(door, one, a, 1, BYTES), 0);
        CHECK_INT(door_copy(door, two, DOOR_ON, b, a, BYTES), 0); /* not behind the fill */
        CHECK_INT(door_event_record(door, second, two), 0);
        CHECK_INT(door_stream_wait(door, one, second), 0);
        struct door_capture *capture = NULL;
        CHECK_INT(door_capture_end(door, one, &capture), 0);
        CHECK_INT(door_capture_launch(door, capture, one), -ERR_FAULT);
        CHECK_HAS(sim_take_fault(), "race: ");
        door_stream_sync(door, one);
        door_capture_close(door, capture);
        end(NULL);
    }
}

static void capture_misuse(int what)
{
    void *memory = NULL;
    struct door_stream *stream = NULL;
    struct door_event *event = NULL;
    bool done;
    switch (what) {
    case 0:
        door_alloc(door, 8, "inside", &memory);
        break;
    case 1:
        door_stream_open(door, &stream);
        break;
    case 2:
        door_event_open(door, false, &event);
        break;
    case 3:
        door_stream_sync(door, two);
        break;
    case 4:
        door_event_sync(door, second);
        break;
    case 5:
        door_event_done(door, second, &done);
        break;
    case 6: /* recorded outside */
        door_stream_wait(door, one, second);
        break;
    case 7:
        door_host_alloc(door, 8, "inside", &memory);
        break;
    default:
        break;
    }
}

static void test_capture_misuse(void)
{
    static const char *const said[] = {
        "inside: between the two ends of a capture",
        "opening a stream: between the two ends of a capture",
        "opening an event: between the two ends of a capture",
        "waiting for a stream: between the two ends of a capture",
        "waiting for an event: between the two ends of a capture",
        "asking for an event: between the two ends of a capture",
        "for an event recorded outside it",
        "inside: between the two ends of a capture",
    };
    struct door_capture *capture = NULL;
    for (int what = 0; what < 8; what++) {
        begin(2);
        door_event_record(door, second, two);
        CHECK_INT(door_capture_begin(door, one), 0);
        capture_misuse(what);
        CHECK_HAS(sim_take_fault(), said[what]);
        CHECK_INT(door_capture_end(door, one, &capture), 0);
        door_capture_close(door, capture);
        end(NULL);
    }
    begin(2); /* a branch that does not come back */
    CHECK_INT(door_capture_begin(door, one), 0);
    door_event_record(door, first, one);
    door_stream_wait(door, two, first);
    door_fill(door, two, a, 1, BYTES);
    CHECK_INT(door_capture_end(door, one, &capture), -ERR_FAULT);
    CHECK_HAS(sim_take_fault(), "a stream that took part was not waited for");
    /* and its event is nothing outside */
    CHECK_INT(door_stream_wait(door, two, first), -ERR_FAULT);
    end("the event was last recorded inside a capture");
}

/* ---- failures by script ---- */

static void test_script(void)
{
    void *memory = NULL;
    struct sketch s;
    begin(2);
    CHECK_INT(sim_set_script("alloc:2,copy:1,kernel:1:sticky"), 0);
    CHECK_INT(door_alloc(door, 8, "one", &memory), 0);
    door_free(door, memory);
    CHECK_INT(door_alloc(door, 8, "the second", &memory), -ERR_MEMORY);
    CHECK_HAS(err_text(), "the second needs 8 bytes of device memory");
    CHECK_INT(door_copy(door, one, DOOR_IN, a, host, BYTES), -ERR_DEVICE);
    CHECK_INT(door_copy(door, one, DOOR_IN, a, host, BYTES), 0);
    int code = kernel_sum(one, KERNEL_F32, 8, a, a + 64, b);
    CHECK_INT(code, 719);
    CHECK_INT(door_check(door, code, "summing"), -ERR_DEVICE);
    CHECK_HAS(err_text(), "summing: the GPU is lost");
    CHECK_INT(door_stream_sync(door, one), -ERR_DEVICE);
    CHECK_INT(door_alloc(door, 8, "memory", &memory), -ERR_DEVICE);
    end(NULL);

    begin(LATE);
    struct door_plan *plan = open_relu(&s, 256);
    CHECK_INT(sim_set_script("work:2"), 0);
    CHECK_INT(door_fill(door, one, a, 1, BYTES), 0);
    CHECK_INT(run_relu(plan, a, b, c), 0);
    CHECK_INT(door_stream_sync(door, one), -ERR_DEVICE);
    CHECK_HAS(err_text(), "a relu: the GPU is lost");
    door_plan_close(door, plan);
    end(NULL);

    begin(2);
    CHECK_INT(sim_set_script("hang:1"), 0);
    CHECK_INT(door_fill(door, one, a, 1, BYTES), 0);
    CHECK_INT(door_event_record(door, first, one), 0);
    CHECK_INT(door_event_sync(door, first), -ERR_DEVICE);
    CHECK_HAS(err_text(), "does not end");
    end(NULL);

    begin(2);
    sim_set_memory(4 * BYTES);
    CHECK_INT(door_alloc(door, BYTES + 1, "too much", &memory), -ERR_MEMORY);
    CHECK_HAS(err_text(), "too much needs 4097 bytes of device memory, and 4096 of 16384 are free");
    size_t left;
    CHECK_INT(door_free_bytes(door, &left), 0);
    CHECK_INT(left, BYTES);
    sim_set_memory((size_t)8 << 30);
    end(NULL);
    CHECK_INT(sim_set_script("alloc"), -ERR_USAGE);
    CHECK_INT(sim_set_script("nothing:1"), -ERR_USAGE);
    CHECK_INT(sim_set_script("alloc:1:hang"), -ERR_USAGE);
    CHECK_INT(sim_set_script(""), 0);
}

/* ---- the environment: in processes of their own, before this one reads it ---- */

static int open_in_child(const char *name, const char *text, bool fault)
{
    fflush(stdout);
    pid_t child = fork();
    int status = 0;
    if (child == 0) {
        setenv(name, text, 1);
        int rc = door_open(&door, 0);
        void *memory;
        if (fault)
            door_alloc(door, 0, "nothing", &memory);
        exit(err_exit_code(rc));
    }
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void test_environment(void)
{
    CHECK_INT(open_in_child("SIM_DEVICES", "1", false), 0);
    CHECK_INT(open_in_child("SIM_DEVICES", "0", false), ERR_DEVICE);
    CHECK_INT(open_in_child("SIM_SM", "75", false), ERR_DEVICE);
    CHECK_INT(open_in_child("SIM_FAIL", "open:1", false), ERR_DEVICE);
    CHECK_INT(open_in_child("SIM_FAIL", "rubbish", false), 2);
    /* A program with a fault does not end well. */
    CHECK_INT(open_in_child("SIM_DEVICES", "1", true), SIM_EXIT);
}

/* A device pointer is not the host's to read or write. */
static void test_touch(void)
{
    for (int write = 0; write < 2; write++) {
        fflush(stdout);
        pid_t child = fork();
        int status = 0;
        if (child == 0) {
            begin(LATE);
            door_fill(door, one, a, 1, BYTES);
            door_stream_sync(door, one);
            volatile unsigned char *touched = a;
            if (write)
                touched[5] = 1;
            exit(touched[5]);
        }
        waitpid(child, &status, 0);
        CHECK_INT(WEXITSTATUS(status), SIM_EXIT);
    }
}

/* ---- counts ---- */

static void test_counts(void)
{
    uint64_t before[SIM_CALLS], after[SIM_CALLS];
    begin(2);
    sim_get_counts(before);
    for (int round = 0; round < 10; round++)
        pipeline_round(round, 0);
    sim_get_counts(after);
    CHECK_INT(after[SIM_COPY] - before[SIM_COPY], 40);
    CHECK_INT(after[SIM_KERNEL] - before[SIM_KERNEL], 10);
    CHECK_INT(after[SIM_ALLOC] - before[SIM_ALLOC], 0);
    CHECK_INT(after[SIM_STREAM_SYNC] - before[SIM_STREAM_SYNC], 0);
    CHECK_TEXT(sim_call_names[SIM_PLAN_RUN], "plan_run");
    CHECK_TEXT(sim_call_names[SIM_KERNEL], "kernel");
    end(NULL);
}

static const struct test tests[] = {
    {"environment",          test_environment         },
    {"schedules",            test_schedules           },
    {"free_streams",         test_free_streams        },
    {"forgotten_events",     test_forgotten_events    },
    {"host_orders",          test_host_orders         },
    {"clock",                test_clock               },
    {"source_changed",       test_source_changed      },
    {"target_read_early",    test_target_read_early   },
    {"memory",               test_memory              },
    {"plan_misuse",          test_plan_misuse         },
    {"workspace_is_scratch", test_workspace_is_scratch},
    {"captures",             test_captures            },
    {"capture_race",         test_capture_race        },
    {"capture_misuse",       test_capture_misuse      },
    {"script",               test_script              },
    {"touch",                test_touch               },
    {"counts",               test_counts              },
};
TEST_MAIN(tests)
