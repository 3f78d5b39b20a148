/*
 * cuda_step.c - what a step has beside ops: the update, sums of micro-batches, the loss scale,
 * recorded walks, marks.
 *
 * The walk of a micro-batch (forward, backward, sum, and the update when it is the last one) is
 * played once as it is, so that every plan has loaded its code, then recorded, once for each stage
 * that a batch may lie in, and from then on launched as one piece: a GPU graph. What changes from
 * step to step is in device memory: the batch in its stage, the loss scale, and the update's
 * numbers, which pass through a ring of pinned memory before the walk.
 *
 * fp16: the loss is multiplied by a scale, the update divides by it; where a gradient is not finite
 * nothing is updated and the scale halves (kernels/update.cu). The scale is part of a checkpoint.
 */
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/cuda/cuda_device.h"

enum { GROW_AFTER = 2000 }; /* good steps until the loss scale doubles; as torch.amp */
static const float first_scale = 65536;

/* ---- memory ---- */

static size_t segments_of(const struct parameter *p)
{
    return (p->stored + KERNEL_SEGMENT_FLOATS - 1) / KERNEL_SEGMENT_FLOATS;
}

static bool is_norm(enum parameter_role role)
{
    return role != PARAMETER_CONV && role != PARAMETER_LINEAR;
}

static int write_segments(struct device *device, const struct parameter *parameters, size_t count,
                          bool decay_norm)
{
    struct kernel_segment *segments =
        mem_array(device->segment_count, sizeof *segments, "segments of the weights");
    size_t at = 0;

    if (!segments)
        return -ERR_MEMORY;
    for (const struct parameter *p = parameters; p < parameters + count; p++)
        for (size_t begin = 0; begin < p->stored; begin += KERNEL_SEGMENT_FLOATS) {
            const size_t left = p->stored - begin;

            segments[at++] = (struct kernel_segment){
                .begin = p->offset + begin,
                .floats = (uint32_t)(left < KERNEL_SEGMENT_FLOATS ? left : KERNEL_SEGMENT_FLOATS),
                .decay = decay_norm || !is_norm(p->role) ? 1 : 0,
            };
        }
    int rc = cuda_write(device, device->segments[decay_norm], segments, at * sizeof *segments);
    mem_free(segments);
    return rc;
}

static int open_training(struct device *device, const struct parameter *parameters, size_t count)
{
    struct door *door = device->door;
    const size_t bytes = device->segment_count * sizeof **device->segments;
    int rc = 0;

    for (int i = 0; i < 2 && !rc; i++)
        if (!(rc = door_alloc(door, bytes, "segments", (void **)&device->segments[i])))
            rc = write_segments(device, parameters, count, i);
    if (rc || (rc = door_alloc(door, sizeof *device->sgd, "the update", (void **)&device->sgd)) ||
        (rc = door_host_alloc(door, CUDA_RING * sizeof *device->sgds, "updates",
                              (void **)&device->sgds)))
        return rc;
    for (int i = 0; i < CUDA_RING && !rc; i++)
        rc = door_event_open(door, false, &device->sgd_events[i]);
    if (rc || device->settings.precision != PRECISION_FP16)
        return rc;
    const struct kernel_scaler scaler = {.scale = first_scale};
    rc = door_alloc(door, sizeof scaler, "the loss scale", (void **)&device->scaler);
    return rc ? rc : cuda_write(device, device->scaler, &scaler, sizeof scaler);
}

int cuda_step_open(struct device *device, const struct parameter *parameters, size_t count,
                   size_t floats, bool training, bool plan_only, struct backend_memory *memory)
{
    int rc;

    device->segment_count = 0;
    for (size_t i = 0; i < count; i++)
        device->segment_count += segments_of(&parameters[i]);
    memory->copies = device->type == DOOR_F32 ? 0 : floats * 2;
    memory->staging +=
        training ? 2 * device->segment_count * sizeof **device->segments + sizeof *device->sgd : 0;
    memory->pinned += training ? CUDA_RING * sizeof *device->sgds : 0;
    if (plan_only)
        return 0;
    cuda_step_close(device);
    device->generation++; /* no copy is made yet */
    device->copy_floats = floats;
    if (memory->copies &&
        (rc = door_alloc(device->door, memory->copies, "weights in 16 bits", &device->copy)))
        return rc;
    return training && count ? open_training(device, parameters, count) : 0;
}

void cuda_step_close(struct device *device)
{
    struct door *door = device->door;
    void *const memory[] = {device->copy, device->segments[0], device->segments[1], device->sgd,
                            device->scaler};

    cuda_forget_walks(device);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i])
            door_free(door, memory[i]);
    if (device->sgds)
        door_host_free(door, device->sgds);
    for (int i = 0; i < CUDA_RING; i++) {
        door_event_close(door, device->sgd_events[i]);
        device->sgd_events[i] = NULL;
    }
    device->copy = NULL;
    device->segments[0] = device->segments[1] = NULL;
    device->sgd = device->sgds = NULL;
    device->scaler = NULL;
}

/* ---- update ---- */

/* Into device memory, behind the update before. What is no number is part of a recording: the
 * segments, by decay_norm, which a run does not change; where it changes, recordings are made anew.
 */
int cuda_sgd_set(struct device *device, const struct sgd *sgd)
{
    int rc;

    if (!device->sgd)
        return err_set(ERR_FAULT, "an update on a device that was not opened for training");
    if (sgd->decay_norm != device->decay_norm)
        cuda_forget_walks(device);
    device->decay_norm = sgd->decay_norm;
    const int place = (int)(device->updates++ % CUDA_RING);
    struct kernel_sgd *to = &device->sgds[place];
    if ((rc = door_event_sync(device->door, device->sgd_events[place])))
        return rc;
    *to = (struct kernel_sgd){
        .lr = (float)sgd->lr,
        .momentum = (float)sgd->momentum,
        .weight_decay = (float)sgd->weight_decay,
        .gradient_scale = (float)sgd->gradient_scale,
        .first_step = sgd->first_step,
    };
    if ((rc = door_copy(device->door, device->compute, DOOR_IN, device->sgd, to, sizeof *to)))
        return rc;
    return door_event_record(device->door, device->sgd_events[place], device->compute);
}

int cuda_update(struct device *device, const struct parameter *parameters, size_t count,
                float *values, const float *gradients, float *momenta)
{
    const struct parameter *last = &parameters[count - 1];
    struct door *door = device->door;
    struct kernel_scaler *scaler = device->scaler;
    int rc;

    if ((scaler && (rc = door_check(door,
                                    kernel_finite(device->compute, last->offset + last->stored,
                                                  gradients, &scaler->nonfinite),
                                    "finite check of the gradients"))) ||
        (rc = door_check(
             door,
             kernel_update(device->compute, device->type == DOOR_F32 ? KERNEL_F32 : device->kernel,
                           device->segments[device->decay_norm], device->segment_count, device->sgd,
                           scaler, gradients, values, momenta, device->copy),
             "update of the weights")))
        return rc;
    return scaler ? door_check(door, kernel_scaler_step(device->compute, scaler, GROW_AFTER),
                               "loss scale")
                  : 0;
}

int cuda_accumulate(struct device *device, size_t floats, bool first, const float *gradients,
                    float *sum)
{
    return door_check(device->door,
                      kernel_accumulate(device->compute, floats, first, gradients, sum),
                      "sum of gradients");
}

/* ---- numbers for a checkpoint ---- */

const char *const *cuda_numbers(const struct device *device)
{
    static const char *const names[] = {"loss_scale", "loss_scale_good_steps", "loss_scale_skipped",
                                        NULL};

    return device->settings.precision == PRECISION_FP16 ? names : NULL;
}

int cuda_numbers_get(struct device *device, double *out)
{
    struct kernel_scaler scaler;
    int rc = cuda_read(device, &scaler, device->scaler, sizeof scaler);

    out[0] = scaler.scale;
    out[1] = scaler.good_steps;
    out[2] = scaler.skipped;
    return rc;
}

int cuda_numbers_set(struct device *device, const double *in)
{
    const struct kernel_scaler scaler = {
        .scale = (float)in[0], .good_steps = (int32_t)in[1], .skipped = (int32_t)in[2]};

    if (!(in[0] >= 1 && in[0] <= 16777216 && in[1] >= 0 && in[1] < GROW_AFTER && in[2] >= 0 &&
          in[2] <= INT32_MAX))
        return err_set(ERR_INPUT, "a loss scale of %g after %g good steps cannot be", in[0], in[1]);
    return cuda_write(device, device->scaler, &scaler, sizeof scaler);
}

/* ---- recorded walks ---- */

void cuda_forget_walks(struct device *device)
{
    for (int walk = 0; walk < WALKS; walk++) {
        for (int stage = 0; stage < CUDA_STAGES; stage++) {
            door_capture_close(device->door, device->captures[walk][stage]);
            device->captures[walk][stage] = NULL;
        }
        device->walked[walk] = false;
    }
}

/* Go on without recordings. */
static void give_up(struct device *device)
{
    log_line("the step is not recorded as one piece and is queued call by call: %s", err_text());
    device->no_recording = true;
}

int cuda_walk_begin(struct device *device, int walk, bool *played)
{
    struct door_capture *capture = device->captures[walk][device->fed];
    const bool first = !device->walked[walk];

    *played = capture;
    device->walked[walk] = true;
    if (capture)
        return door_capture_launch(device->door, capture, device->compute);
    if (device->no_recording || first)
        return 0;
    if (door_capture_begin(device->door, device->compute))
        give_up(device);
    else
        device->recording = true;
    return 0;
}

int cuda_walk_end(struct device *device, int walk, int rc, bool *again)
{
    struct door_capture *capture = NULL;
    struct err why = {.kind = ERR_NONE};

    if (!device->recording)
        return rc;
    device->recording = false;
    if (rc)
        err_take(rc, &why);
    int end = door_capture_end(device->door, device->compute, &capture);
    if (rc)
        err_raise(&why);
    if (rc || end) {
        door_capture_close(device->door, capture);
        give_up(device);
        *again = true;
        return 0;
    }
    device->captures[walk][device->fed] = capture;
    return door_capture_launch(device->door, capture, device->compute);
}

/* ---- marks ---- */

int cuda_mark(struct device *device, int number)
{
    int rc = 0;

    if (number >= device->mark_count) {
        rc = mem_grow((void **)&device->marks, (size_t)device->mark_count, (size_t)number + 1,
                      sizeof *device->marks, "marks of the profile");
        while (!rc && device->mark_count <= number)
            if (!(rc = door_event_open(device->door, true,
                                       &device->marks[device->mark_count].event)))
                device->mark_count++;
    }
    return rc ? rc : door_event_record(device->door, device->marks[number].event, device->compute);
}

int cuda_marked(struct device *device, int number, double *seconds)
{
    float milliseconds;
    int rc = door_event_elapsed(device->door, device->marks[number - 1].event,
                                device->marks[number].event, &milliseconds);

    if (!rc)
        *seconds = milliseconds / 1e3;
    return rc;
}
