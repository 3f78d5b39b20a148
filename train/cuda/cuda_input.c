/*
 * cuda_input.c - batches to the device and results back, without a wait in the steady loop.
 *
 * A batch is sent on the transfer stream into one of two stages (header: pictures, labels, rows;
 * block: pixels and tables), and the augmentation, behind it on the same stream, makes the pictures
 * tensor of it in that stage, all while the compute stream works on the batch before. feed then
 * makes the compute stream wait for the stage (event `arrived`) and points to it: a step reads its
 * pictures, labels and rows where they are, and nothing is copied. A stage is read until the last
 * convolution's filter gradient, so it may be written again behind what was queued before the next
 * batch was fed (event `taken`). Headers and results pass through rings of pinned memory; an event
 * stands behind each place, so that it is only written again when it has been read.
 *
 * A batch of finished squares (tests, single pictures) is packed here, with tables that change
 * nothing, and waited for.
 */
#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cuda/cuda_device.h"
#include "train/packed.h"

_Static_assert(sizeof(struct packed_picture) == sizeof(struct kernel_picture) &&
                   offsetof(struct packed_picture, stride) ==
                       offsetof(struct kernel_picture, stride) &&
                   offsetof(struct packed_picture, down_first) ==
                       offsetof(struct kernel_picture, down_first) &&
                   offsetof(struct packed_picture, across) ==
                       offsetof(struct kernel_picture, across) &&
                   offsetof(struct packed_picture, down) == offsetof(struct kernel_picture, down) &&
                   offsetof(struct packed_axis, taps) == offsetof(struct kernel_axis, taps),
               "a packed picture goes to the device as it is");

/* ImageNet's mean and standard deviation of R, G, B in 0..1, as torchvision's recipes. */
static const double picture_mean[3] = {0.485, 0.456, 0.406};
static const double picture_deviation[3] = {0.229, 0.224, 0.225};

enum { TABLE_FLOATS = 256 * 3, STORED_CHANNELS = 8 };

/* ---- memory ---- */

/* A header is N pictures, N labels, rows. */
static size_t labels_at(const struct device *device)
{
    return (size_t)device->pictures * sizeof(struct packed_picture);
}

static size_t rows_at(const struct device *device)
{
    return labels_at(device) + (size_t)device->pictures * sizeof(int32_t);
}

static int find_sizes(struct device *device, size_t packed_bytes)
{
    const int n = device->pictures ? device->pictures : 1, size = device->size ? device->size : 1;
    int rc = packed_bytes ? 0 : packed_capacity(n, size, 0, 0, &packed_bytes);

    if (rc)
        return rc;
    device->pictures = n;
    device->size = size;
    device->block_bytes = packed_bytes;
    device->header_bytes = cuda_align(rows_at(device) + sizeof(int32_t));
    return 0;
}

/* A stage is header, block, pictures tensor. */
static size_t tensor_at(const struct device *device)
{
    return device->header_bytes + cuda_align(device->block_bytes);
}

static size_t stage_bytes(const struct device *device)
{
    const size_t pixels = (size_t)device->pictures * (size_t)device->size * (size_t)device->size;

    return tensor_at(device) + cuda_align(pixels * STORED_CHANNELS * cuda_number_bytes(device));
}

static int open_events(struct device *device)
{
    int rc = 0;

    for (int i = 0; i < CUDA_STAGES && !rc; i++)
        if (!(rc = door_event_open(device->door, false, &device->stages[i].arrived)))
            rc = door_event_open(device->door, false, &device->stages[i].taken);
    for (int i = 0; i < CUDA_RING && !rc; i++)
        if (!(rc = door_event_open(device->door, false, &device->header_events[i])))
            rc = door_event_open(device->door, false, &device->result_events[i]);
    return rc;
}

static int write_table(struct device *device)
{
    float table[TABLE_FLOATS];

    for (int byte = 0; byte < 256; byte++)
        for (int channel = 0; channel < 3; channel++)
            table[3 * byte + channel] =
                (float)((byte / 255.0 - picture_mean[channel]) / picture_deviation[channel]);
    return cuda_write(device, device->table, table, sizeof table);
}

int cuda_input_open(struct device *device, uint64_t *staging, uint64_t *pinned, size_t packed_bytes,
                    bool plan_only)
{
    struct door *door = device->door;
    const size_t small = cuda_align(TABLE_FLOATS * sizeof(float));
    int rc = find_sizes(device, packed_bytes);

    if (rc)
        return rc;
    *staging += CUDA_STAGES * stage_bytes(device) + small;
    *pinned += CUDA_RING * (device->header_bytes + sizeof *device->results);
    if (plan_only)
        return 0;
    cuda_input_close(device);
    for (int i = 0; i < CUDA_STAGES; i++)
        if ((rc = door_alloc(door, stage_bytes(device), "a batch on its way",
                             (void **)&device->stages[i].memory)))
            return rc;
    if ((rc = door_alloc(door, small, "normalised bytes", (void **)&device->table)) ||
        (rc = door_host_alloc(door, CUDA_RING * device->header_bytes, "headers of batches",
                              (void **)&device->headers)) ||
        (rc = door_host_alloc(door, CUDA_RING * sizeof *device->results, "results",
                              (void **)&device->results)) ||
        (rc = open_events(device)))
        return rc;
    return write_table(device);
}

void cuda_input_close(struct device *device)
{
    struct door *door = device->door;

    for (int i = 0; i < CUDA_STAGES; i++) {
        door_event_close(door, device->stages[i].arrived);
        door_event_close(door, device->stages[i].taken);
        if (device->stages[i].memory)
            door_free(door, device->stages[i].memory);
        device->stages[i] = (struct cuda_stage){0};
    }
    for (int i = 0; i < CUDA_RING; i++) {
        door_event_close(door, device->header_events[i]);
        door_event_close(door, device->result_events[i]);
        device->header_events[i] = device->result_events[i] = NULL;
    }
    if (device->table)
        door_free(door, device->table);
    if (device->headers)
        door_host_free(door, device->headers);
    if (device->results)
        door_host_free(door, device->results);
    device->table = NULL;
    device->headers = NULL;
    device->results = NULL;
    device->labels = device->rows = NULL;
    device->on_its_way = NULL;
}

/* ---- in ---- */

/* A block of squares with one table for all, in pinned memory. */
static int pack_squares(struct device *device, const struct batch *batch, uint8_t *header,
                        size_t *bytes)
{
    const size_t square = 3 * (size_t)batch->size * (size_t)batch->size;
    const size_t table = 3 * (size_t)batch->size * sizeof(int32_t);
    struct packed_picture *pictures = (struct packed_picture *)header;
    int rc;

    *bytes = table + (size_t)batch->rows * square;
    if (*bytes > device->block_bytes)
        return err_set(ERR_FAULT, "%d pictures of %d pixels do not fit into a block of %zu bytes",
                       batch->rows, batch->size, device->block_bytes);
    if ((rc = cuda_bounce(device, *bytes)))
        return rc;
    packed_write_same(batch->size, device->bounce);
    memcpy((char *)device->bounce + table, batch->pixels, (size_t)batch->rows * square);
    for (int i = 0; i < batch->rows; i++)
        pictures[i] = (struct packed_picture){
            .at = table + (size_t)i * square,
            .stride = 3 * (uint32_t)batch->size,
            .across = {.taps = 1},
            .down = {.taps = 1},
        };
    return 0;
}

static int next_stage(const struct device *device)
{
    return (device->fed + 1) % CUDA_STAGES;
}

/* The header of BATCH, in place PLACE of the ring. */
static uint8_t *write_header(struct device *device, const struct batch *batch, int place)
{
    uint8_t *header = device->headers + (size_t)place * device->header_bytes;
    const int32_t rows = batch->rows;

    if (batch->packed)
        memcpy(header, batch->packed->pictures,
               (size_t)batch->rows * sizeof *batch->packed->pictures);
    memset(header + labels_at(device), 0, (size_t)device->pictures * sizeof(int32_t));
    memcpy(header + labels_at(device), batch->labels, (size_t)batch->rows * sizeof(int32_t));
    memcpy(header + rows_at(device), &rows, sizeof rows);
    return header;
}

/* The batch's pictures tensor of its header and block, in their stage. */
static int augment(struct device *device, const struct cuda_stage *stage, const struct batch *batch)
{
    const uint8_t *block = stage->memory + device->header_bytes;

    return door_check(
        device->door,
        kernel_augment(device->transfer, device->kernel, device->pictures, batch->size,
                       (const int32_t *)(stage->memory + rows_at(device)),
                       (const struct kernel_picture *)stage->memory, (const int32_t *)block, block,
                       device->table, stage->memory + tensor_at(device)),
        "augmentation of %d pictures of %d pixels", batch->rows, batch->size);
}

int cuda_upload(struct device *device, const struct batch *batch)
{
    struct door *door = device->door;
    struct cuda_stage *stage = &device->stages[next_stage(device)];
    const int place = (int)(device->uploads % CUDA_RING);
    const void *block;
    size_t bytes;
    int rc;

    if (batch->rows < 1 || batch->rows > device->pictures || batch->size > device->size ||
        (batch->packed && batch->packed->bytes > device->block_bytes))
        return err_set(ERR_FAULT, "a batch of %d pictures of %d pixels does not fit %d of %d",
                       batch->rows, batch->size, device->pictures, device->size);
    if ((rc = door_event_sync(door, device->header_events[place])))
        return rc;
    uint8_t *header = write_header(device, batch, place);
    if (batch->packed) {
        block = batch->packed->block;
        bytes = batch->packed->bytes;
    } else {
        if ((rc = pack_squares(device, batch, header, &bytes)))
            return rc;
        block = device->bounce;
    }
    if ((rc = door_stream_wait(door, device->transfer, stage->taken)) ||
        (rc = door_copy(door, device->transfer, DOOR_IN, stage->memory, header,
                        device->header_bytes)) ||
        (rc = door_event_record(door, device->header_events[place], device->transfer)) ||
        (rc = door_copy(door, device->transfer, DOOR_IN, stage->memory + device->header_bytes,
                        block, bytes)) ||
        (rc = augment(device, stage, batch)) ||
        (rc = door_event_record(door, stage->arrived, device->transfer)))
        return rc;
    device->uploads++;
    device->on_its_way = batch;
    return batch->packed ? 0 : door_stream_sync(door, device->transfer);
}

int cuda_feed(struct device *device, const struct batch *batch, struct tensor *pictures)
{
    struct door *door = device->door;
    int rc;

    if (batch->rows < 1 || batch->rows > pictures->n || batch->size != pictures->h)
        return err_set(ERR_FAULT, "a batch of %d pictures of %d pixels does not fit %d of %d",
                       batch->rows, batch->size, pictures->n, pictures->h);
    if (device->on_its_way != batch && (rc = cuda_upload(device, batch)))
        return rc;
    device->on_its_way = NULL;
    /* All that reads the batch before is queued. */
    if ((rc = door_event_record(door, device->stages[device->fed].taken, device->compute)))
        return rc;
    device->fed = next_stage(device);
    const struct cuda_stage *stage = &device->stages[device->fed];
    pictures->data = stage->memory + tensor_at(device);
    device->labels = (const int32_t *)(stage->memory + labels_at(device));
    device->rows = (const int32_t *)(stage->memory + rows_at(device));
    return door_stream_wait(door, device->compute, stage->arrived);
}

/* ---- out ---- */

int cuda_post(struct device *device, const struct op *loss, int slot)
{
    int rc = door_copy(device->door, device->compute, DOOR_OUT, &device->results[slot], loss->saved,
                       sizeof *device->results);

    return rc ? rc : door_event_record(device->door, device->result_events[slot], device->compute);
}

int cuda_result(struct device *device, int slot, struct loss_result *out)
{
    const struct kernel_loss *found = &device->results[slot];
    int rc = door_event_sync(device->door, device->result_events[slot]);

    if (rc)
        return rc;
    if (found->error)
        return err_set(ERR_FAULT, "the loss of a batch: %s %lld",
                       found->error < 0 ? "its rows are out of range:"
                                        : "a label is out of range, in row",
                       found->error < 0 ? -1LL : (long long)found->error - 1);
    *out = (struct loss_result){.loss = found->loss, .top1 = found->top1, .top5 = found->top5};
    return 0;
}
