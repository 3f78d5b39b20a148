/*
 * inside.h - what the files of the simulated device share. Nothing outside tests/cuda/sim includes
 * it.
 *
 * Memory is made of buffers, work of jobs. A job is what a call asked for, with the spans of memory
 * it reads and writes; it stands as a piece of work in the queue of a lane (a stream, or an inner
 * branch of a captured graph), or as a step of a capture, to be queued at each launch.
 *
 * Order: every lane counts its works, and each work carries a vector clock: how far into each lane
 * it is ordered behind. Work A comes before work B when B's clock for A's lane has reached A. The
 * host has a clock too: what it waited for is behind everything queued later.
 */
#ifndef TESTS_CUDA_SIM_INSIDE_H
#define TESTS_CUDA_SIM_INSIDE_H

#include "tests/cuda/shim_hook.h"
#include "tests/cuda/sim/sim.h"
#include "train/cuda/door.h"

/* ---- control.c: faults, script, counts ------------------------------------------------------ */

enum sim_how { SIM_FINE, SIM_ERROR, SIM_STICKY, SIM_HANG };

struct sim_settings {
    uint64_t seed;
    size_t memory;
    int devices, sm;
    size_t cudnn, cublaslt;
    bool all_plans;
};
/* Reads the environment once. Borrowed. */
const struct sim_settings *sim_settings(void);

/* A sentence for what the caller did wrong. Returns -ERR_FAULT. */
int sim_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool sim_faulted(void);
/* The device is lost: every later call fails. Returns -ERR_DEVICE. */
int sim_lose(struct door *door, const char *what);
/* Count the call and write it to the trace; its failure by script. */
enum sim_how sim_called(enum sim_call call, const char *what, size_t bytes);
/* The same for a piece of work. */
enum sim_how sim_work_begins(void);
/* A call that needs a device that is there: counts it, and says why it cannot be made. */
int sim_enter(struct door *door, enum sim_call call, const char *what, size_t bytes);

/* ---- memory.c ------------------------------------------------------------------------------- */

#define SIM_LANES 64 /* 0: the host */
struct sim_clock {
    uint32_t at[SIM_LANES];
};
void sim_clock_join(struct sim_clock *clock, const struct sim_clock *other);

/* A stretch of memory that a job reads or writes. */
struct sim_span {
    const void *at;
    size_t bytes;
    bool write;
    const char *what; /* "x", "workspace", ... */
};

/* Who uses a span: a work's place in the order of things. */
struct sim_user {
    const char *name;
    int lane;
    uint32_t time;
    const struct sim_clock *clock;
};

/* BYTES of memory between guards, filled with NaNs. */
int sim_buffer_open(struct door *door, size_t bytes, bool host, const char *what, void **out);
/* A fault, when the host has not waited for all that uses it. */
void sim_buffer_close(struct door *door, void *memory, bool host);
void sim_buffers_close(struct door *door);
/* Is all of SPAN in one live buffer (on the host, on the device, anywhere), aligned to ALIGNMENT?
 */
enum sim_place { SIM_DEVICE, SIM_HOST, SIM_ANYWHERE };
int sim_span_check(const struct door *door, const struct sim_span *span, enum sim_place place,
                   size_t alignment, const char *name);
/* Note that USER uses SPAN; a fault when another use that conflicts is not ordered with it. */
int sim_span_use(struct door *door, const struct sim_span *span, const struct sim_user *user);
/* The bytes from AT to the end of its buffer; 0: no buffer is there. */
size_t sim_bytes_from(const struct door *door, const void *at);
/* Have the guards stayed as they were? */
int sim_guards_check(const struct door *door);
void sim_poison(void *memory, size_t bytes);
size_t sim_memory_used(const struct door *door);

/* ---- arena.c ------------------------------------------------------------------------------- */

struct sim_arena;
int sim_arena_open(struct sim_arena **out);
void sim_arena_close(struct sim_arena *arena);
/* Whoever uses device memory stands between these two; SHUT: nobody else may. */
void sim_arena_enter(struct sim_arena *arena);
void sim_arena_leave(struct sim_arena *arena, bool shut);
/* Whole pages; NULL: there are none left. */
unsigned char *sim_arena_take(struct sim_arena *arena, size_t bytes);
void sim_arena_give(struct sim_arena *arena, unsigned char *at, size_t bytes);

/* ---- queue.c -------------------------------------------------------------------------------- */

enum sim_kind { SIM_JOB_COPY, SIM_JOB_FILL, SIM_JOB_PLAN, SIM_JOB_KERNEL };
#define SIM_SPANS (DOOR_MAX_TENSORS + 2)

struct sim_job {
    int references;
    enum sim_kind kind;
    char name[200];
    struct sim_span spans[SIM_SPANS];
    int span_count;
    /* copies and fills */
    enum door_way way;
    void *to;
    const void *from;
    size_t bytes;
    uint8_t value;
    /* plans: pointers in the order of the graph's tensors, by-value ones to `values` */
    struct sim_core *core;
    void *pointers[DOOR_MAX_TENSORS];
    uint64_t values[DOOR_MAX_TENSORS];
    void *workspace;
    /* kernels: what they use beside `spans` is said by tables in device memory, when they run */
    struct shim_launch launch;
    bool has_launch;
    int (*more)(const struct door *door, const struct sim_job *job, struct sim_span *out);
    const void *arguments[5];
    int64_t numbers[2];
};

struct sim_job *sim_job_new(enum sim_kind kind, const char *name);
void sim_job_span(struct sim_job *job, const void *at, size_t bytes, bool write, const char *what);
void sim_job_drop(struct sim_job *job);

/* A queue that runs in order. */
struct sim_lane {
    int id;
    bool open;
    struct sim_work *first, *last;
    struct sim_clock clock;
    uint32_t time;
    uint64_t priority;
};

/* One record of an event. */
struct sim_instance {
    int references;
    bool done;
    struct sim_lane *lane;
    double seconds;    /* when it happened */
    uint64_t launches; /* of captures, before it was recorded */
    struct sim_clock clock;
};

struct sim_recording; /* a capture under way */
struct sim_queue;
int sim_queue_open(struct sim_queue **out);
void sim_queue_close(struct sim_queue *queue);

struct door_stream {
    struct door *door;
    struct sim_lane *lane;
    struct sim_recording *recording; /* or NULL */
    int branch;                      /* of the recording */
    struct door_stream *next;
};

struct door_event {
    bool timed;
    struct sim_instance *instance;   /* the latest record; or NULL */
    struct sim_recording *recording; /* the capture under way that it was recorded in; or NULL */
    int slot;                        /* there */
    bool captured;                   /* its latest record is a capture's, under way or not */
    struct door_event *next;
};

enum sim_step { SIM_RUN, SIM_RECORD, SIM_WAIT };
/* Does the schedule run nothing before the host waits? */
bool sim_is_late(struct sim_queue *queue);
/* Queue a piece of work on a lane; owns JOB (SIM_RUN) or a reference of INSTANCE (the others). */
int sim_enqueue(struct door *door, struct sim_lane *lane, enum sim_step kind, struct sim_job *job,
                struct sim_instance *instance);
/* Run some of what is queued, as the seed has it. */
int sim_progress(struct door *door, bool at_least_one);
/* Run until LANE is empty; until INSTANCE has happened. */
int sim_wait_lane(struct door *door, struct sim_lane *lane);
int sim_wait_instance(struct door *door, struct sim_instance *instance);
/* Throw away what is queued. */
void sim_queue_drop(struct sim_queue *queue);

struct sim_lane *sim_lane_open(struct door *door);
struct sim_instance *sim_instance_new(void);
void sim_instance_drop(struct sim_instance *instance);

/* ---- capture.c ------------------------------------------------------------------------------ */

/* Queue a job on a stream, or note it for its capture; owns the reference. */
int sim_submit(struct door_stream *stream, struct sim_job *job);
/* The record of an event, and a wait for it, on a stream that is captured. */
int sim_record_captured(struct door_stream *stream, struct door_event *event);
int sim_wait_captured(struct door_stream *stream, struct door_event *event);
/* A fault when EVENT's latest record is a capture's; NAME says who asks. */
int sim_event_outside(const struct door_event *event, const char *name);

/* ---- plans.c, run.c, ... -------------------------------------------------------------------- */

/* What a plan is, for the works that use it: outlives door_plan_close. */
struct sim_core {
    int references; /* changed by the door's thread alone, once the plan is out */
    bool closed;
    struct door_graph graph; /* its own copy */
    struct door_tensor tensors[DOOR_MAX_TENSORS];
    struct door_node nodes[DOOR_MAX_NODES];
    char name[200];
    uint64_t digest;
    struct door_plan_info info;
    int engine; /* row of the table of engines */
    bool tf32;  /* operands of products are rounded to 10 bits */
};
void sim_core_drop(struct sim_core *core);
/* Is ROLE of NODE one of its outputs? */
bool sim_is_output(const struct door_node *node, int role);
/* Compute. ROUND: changes the order of sums where the engine is not deterministic. */
int sim_core_run(struct door *door, const struct sim_core *core, void *const *pointers,
                 uint64_t round);

/* ---- a tensor while it is computed with: dense f32 in the order N,H,W,C ---------------------- */

struct sim_value {
    const struct door_tensor *tensor;
    int64_t n, h, w, c;
    size_t count;
    float *at;
    double scalar; /* by value */
};
/* Matrices are W x C. */
void sim_value_shape(struct sim_value *value, const struct door_tensor *tensor);
void sim_value_load(struct sim_value *value, const void *memory);
void sim_value_store(const struct sim_value *value, void *memory);
/* To the nearest value of the type. */
void sim_value_round(struct sim_value *value);

/* What a node computes with; values by role, NULL: absent. */
struct sim_run {
    const struct door_node *node;
    struct sim_value *roles[DOOR_ROLES];
    int chunk; /* products that are summed in f32 before they join a sum in f64 */
    bool tf32;
};
int sim_conv_forward(const struct sim_run *run);
int sim_conv_backward_data(const struct sim_run *run);
int sim_conv_backward_filter(const struct sim_run *run);
int sim_matmul(const struct sim_run *run);
int sim_pointwise(const struct sim_run *run);
int sim_gen_stats(const struct sim_run *run);
int sim_bn_finalize(const struct sim_run *run);
int sim_norm_forward(const struct sim_run *run);
int sim_norm_backward(const struct sim_run *run);
int sim_bn_backward_weights(const struct sim_run *run);
int sim_resample_forward(const struct sim_run *run);
int sim_resample_backward(const struct sim_run *run);
int sim_reduction(const struct sim_run *run);

/* ---- launch.c ------------------------------------------------------------------------------- */

void sim_launch_begin(void); /* sets shim_hook */

/* ---- the door ------------------------------------------------------------------------------- */

struct door {
    struct door_properties properties;
    char json[1024];
    bool absent, lost;
    size_t memory_limit;
    struct sim_arena *arena;
    struct sim_buffer *buffers;
    struct sim_queue *queue;
    struct sim_clock host; /* what the host has waited for */
    struct door_stream *streams;
    struct door_event *events;
    int recordings; /* captures under way */
    float *scratch; /* of plans */
    size_t scratch_floats;
    uint64_t runs, launches; /* of plans, of captures */
};
/* The stream that a launcher was given, or NULL: none of ours. */
struct door_stream *sim_stream_of(void *stream);

#endif
