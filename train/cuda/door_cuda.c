/*
 * door_cuda.c - the door on CUDA's runtime, which is linked statically: a program with it starts on
 * a machine without a driver and says so. Streams and events are CUDA's own under other names.
 */
#include "train/cuda/door_cuda.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cuda_runtime_api.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cuda/devices.h"

#define OLDEST_SM 80

/* ---- errors ------------------------------------------------------------------------------- */

/* Errors that no later call recovers from: the context is gone with all that was in it. */
static bool is_lost(cudaError_t code)
{
    switch (code) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorDevicesUnavailable:
    case cudaErrorCudartUnloading:
    case cudaErrorUnknown:
        return true;
    default:
        return false;
    }
}

static int fail(cudaError_t code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(cudaError_t code, const char *format, ...)
{
    char operation[300];
    va_list arguments;
    if (code == cudaSuccess)
        return 0;
    va_start(arguments, format);
    vsnprintf(operation, sizeof operation, format, arguments);
    va_end(arguments);
    cudaGetLastError(); /* forget it, where it can be forgotten */
    if (is_lost(code))
        return err_set(ERR_DEVICE,
                       "%s: the GPU is lost: %s (CUDA error %d); nothing on it can be saved",
                       operation, cudaGetErrorString(code), (int)code);
    return err_set(code == cudaErrorMemoryAllocation ? ERR_MEMORY : ERR_DEVICE,
                   "%s: %s (CUDA error %d)", operation, cudaGetErrorString(code), (int)code);
}

int door_check(struct door *door, int code, const char *format, ...)
{
    char operation[300];
    va_list arguments;
    (void)door;
    if (code == 0)
        return 0;
    va_start(arguments, format);
    vsnprintf(operation, sizeof operation, format, arguments);
    va_end(arguments);
    return fail((cudaError_t)code, "%s", operation);
}

int door_enter(const struct door *door, const char *what)
{
    /* A thread begins with cuda:0 as its device. */
    static _Thread_local int current = -1;
    int index = door->properties.index;
    if (index < 0)
        return err_set(ERR_FAULT, "%s: the device %s is absent, for plans alone", what,
                       door->properties.name);
    if (index == current)
        return 0;
    int rc = fail(cudaSetDevice(index), "%s: turning to cuda:%d", what, index);
    if (!rc)
        current = index;
    return rc;
}

/* ---- devices ------------------------------------------------------------------------------ */

int door_count(int *out)
{
    int count = 0, driver = 0;
    cudaError_t code = cudaGetDeviceCount(&count); /* an error leaves count as it was */
    cudaGetLastError();
    *out = 0;
    if (code == cudaErrorInsufficientDriver || code == cudaErrorStubLibrary) {
        cudaDriverGetVersion(&driver);
        if (driver == 0 || code == cudaErrorStubLibrary)
            return err_set(ERR_DEVICE,
                           "no NVIDIA driver is installed (libcuda.so.1); install one for CUDA "
                           "%d.%d or newer, or use --device cpu",
                           CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
        return err_set(ERR_DEVICE,
                       "the NVIDIA driver is too old: it knows CUDA %d.%d, and %d.%d is needed; "
                       "update it, or use --device cpu",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    }
    if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0))
        return err_set(ERR_DEVICE, "there is an NVIDIA driver but no GPU it can use (is "
                                   "CUDA_VISIBLE_DEVICES set?); use --device cpu");
    if (code != cudaSuccess)
        return fail(code, "looking for GPUs");
    int rc = cudnn_find();
    if (!rc)
        *out = count;
    return rc;
}

static int read_properties(struct door *door, int index)
{
    struct door_properties *p = &door->properties;
    struct cudaDeviceProp cuda;
    int rc =
        fail(cudaGetDeviceProperties(&cuda, index), "reading the properties of cuda:%d", index);
    if (rc)
        return rc;
    snprintf(p->name, sizeof p->name, "%s", cuda.name);
    p->index = index;
    p->sm = cuda.major * 10 + cuda.minor;
    p->multiprocessors = cuda.multiProcessorCount;
    p->memory_bytes = (int64_t)cuda.totalGlobalMem;
    cudaDriverGetVersion(&p->driver);
    if (p->sm < OLDEST_SM)
        return err_set(ERR_DEVICE,
                       "cuda:%d (%s) has compute capability %d.%d: %d.%d or newer is needed (A100, "
                       "RTX 30 and later); use --device cpu",
                       index, p->name, cuda.major, cuda.minor, OLDEST_SM / 10, OLDEST_SM % 10);
    return 0;
}

static struct door *door_new(void)
{
    struct door *door = mem_array(1, sizeof *door, "a device");
    if (door) {
        struct door_properties *p = &door->properties;
        p->index = -1;
        p->runtime = CUDART_VERSION;
        p->bf16 = p->fp16 = p->tf32 = p->f32 = true; /* all of them since 8.0 */
    }
    return door;
}

int door_open(struct door **out, int index)
{
    int count;
    int rc = door_count(&count);
    if (rc)
        return rc;
    if (index < 0 || index >= count)
        return err_set(ERR_DEVICE, "there is no cuda:%d; the GPUs are cuda:0 to cuda:%d", index,
                       count - 1);
    struct door *door = door_new();
    if (!door)
        return -ERR_MEMORY;
    if ((rc = read_properties(door, index)))
        goto fail;
    /* The host sleeps while it waits: its cores are needed for decoding. */
    if ((rc = fail(
             cudaInitDevice(index, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid),
             "opening cuda:%d", index)) ||
        (rc = door_enter(door, "opening the device")) ||
        (rc = cudnn_device_open(&door->cudnn, index, NULL)))
        goto fail;
    /* Without cuBLASLt, cuDNN's matmul plans do. */
    if (cublaslt_open(&door->cublaslt))
        door->cublaslt = NULL;
    door->properties.cudnn = cudnn_version();
    door->properties.cublaslt = cublaslt_version(door->cublaslt);
    door->properties.json = cudnn_device_json(door->cudnn);
    *out = door;
    return 0;

fail:
    door_close(door);
    return rc;
}

int door_open_absent(struct door **out, const struct device_row *row)
{
    char json[DEVICES_JSON_SIZE];
    struct door *door = door_new();
    if (!door)
        return -ERR_MEMORY;
    devices_json(row, json, sizeof json);
    int rc = cudnn_device_open(&door->cudnn, -1, json);
    if (rc) {
        door_close(door);
        return rc;
    }
    struct door_properties *p = &door->properties;
    snprintf(p->name, sizeof p->name, "%s", row->name);
    p->sm = row->sm;
    p->multiprocessors = row->multiprocessors;
    p->memory_bytes = row->memory_bytes;
    p->cudnn = cudnn_version();
    p->json = cudnn_device_json(door->cudnn);
    *out = door;
    return 0;
}

void door_close(struct door *door)
{
    if (!door)
        return;
    cublaslt_close(door->cublaslt);
    cudnn_device_close(door->cudnn);
    mem_free(door);
}

const struct door_properties *door_properties(const struct door *door)
{
    return &door->properties;
}

int door_free_bytes(struct door *door, size_t *out)
{
    size_t total;
    int rc = door_enter(door, "free memory");
    return rc ? rc : fail(cudaMemGetInfo(out, &total), "asking for free memory");
}

/* ---- memory ------------------------------------------------------------------------------- */

int door_alloc(struct door *door, size_t bytes, const char *what, void **out)
{
    size_t available = 0, total = 0;
    int rc = door_enter(door, what);
    if (rc)
        return rc;
    cudaError_t code = cudaMalloc(out, bytes);
    if (code != cudaErrorMemoryAllocation)
        return fail(code, "%zu bytes of device memory for %s", bytes, what);
    cudaGetLastError();
    cudaMemGetInfo(&available, &total);
    return err_set(ERR_MEMORY, "%s needs %zu bytes of device memory, and %zu of %zu are free", what,
                   bytes, available, total);
}

void door_free(struct door *door, void *memory)
{
    (void)door;
    cudaFree(memory);
    cudaGetLastError();
}

int door_host_alloc(struct door *door, size_t bytes, const char *what, void **out)
{
    int rc = door_enter(door, what);
    return rc ? rc
              : fail(cudaHostAlloc(out, bytes, cudaHostAllocDefault),
                     "%zu bytes of pinned host memory for %s", bytes, what);
}

void door_host_free(struct door *door, void *memory)
{
    (void)door;
    cudaFreeHost(memory);
    cudaGetLastError();
}

/* Streams and events are CUDA's own, whatever their names. */

static cudaStream_t native_stream(struct door_stream *stream)
{
    return (cudaStream_t)(void *)stream;
}

static cudaEvent_t native_event(struct door_event *event)
{
    return (cudaEvent_t)(void *)event;
}

int door_copy(struct door *door, struct door_stream *stream, enum door_way way, void *to,
              const void *from, size_t bytes)
{
    static const enum cudaMemcpyKind kinds[] = {[DOOR_IN] = cudaMemcpyHostToDevice,
                                                [DOOR_OUT] = cudaMemcpyDeviceToHost,
                                                [DOOR_ON] = cudaMemcpyDeviceToDevice};
    static const char *const words[] = {"to", "from", "on"};
    int rc = door_enter(door, "copying");
    return rc ? rc
              : fail(cudaMemcpyAsync(to, from, bytes, kinds[way], native_stream(stream)),
                     "copying %zu bytes %s the device", bytes, words[way]);
}

int door_fill(struct door *door, struct door_stream *stream, void *to, uint8_t value, size_t bytes)
{
    int rc = door_enter(door, "filling memory");
    return rc ? rc
              : fail(cudaMemsetAsync(to, value, bytes, native_stream(stream)),
                     "filling %zu bytes of the device", bytes);
}

/* ---- streams and events ------------------------------------------------------------------- */

int door_stream_open(struct door *door, struct door_stream **out)
{
    cudaStream_t stream = NULL;
    int rc = door_enter(door, "opening a stream");
    if (!rc)
        rc = fail(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "opening a stream");
    if (!rc)
        *out = (struct door_stream *)(void *)stream;
    return rc;
}

void door_stream_close(struct door *door, struct door_stream *stream)
{
    (void)door;
    if (!stream)
        return;
    cudaStreamSynchronize(native_stream(stream));
    cudaStreamDestroy(native_stream(stream));
    cudaGetLastError();
}

int door_stream_sync(struct door *door, struct door_stream *stream)
{
    int rc = door_enter(door, "waiting for a stream");
    return rc ? rc : fail(cudaStreamSynchronize(native_stream(stream)), "waiting for a stream");
}

int door_stream_wait(struct door *door, struct door_stream *stream, struct door_event *event)
{
    int rc = door_enter(door, "making a stream wait");
    return rc ? rc
              : fail(cudaStreamWaitEvent(native_stream(stream), native_event(event), 0),
                     "making a stream wait");
}

int door_event_open(struct door *door, bool timed, struct door_event **out)
{
    cudaEvent_t event = NULL;
    unsigned flags = cudaEventBlockingSync | (timed ? 0u : cudaEventDisableTiming);
    int rc = door_enter(door, "opening an event");
    if (!rc)
        rc = fail(cudaEventCreateWithFlags(&event, flags), "opening an event");
    if (!rc)
        *out = (struct door_event *)(void *)event;
    return rc;
}

void door_event_close(struct door *door, struct door_event *event)
{
    (void)door;
    if (!event)
        return;
    cudaEventDestroy(native_event(event));
    cudaGetLastError();
}

int door_event_record(struct door *door, struct door_event *event, struct door_stream *stream)
{
    int rc = door_enter(door, "recording an event");
    return rc ? rc
              : fail(cudaEventRecord(native_event(event), native_stream(stream)),
                     "recording an event");
}

int door_event_sync(struct door *door, struct door_event *event)
{
    int rc = door_enter(door, "waiting for an event");
    return rc ? rc : fail(cudaEventSynchronize(native_event(event)), "waiting for an event");
}

int door_event_done(struct door *door, struct door_event *event, bool *out)
{
    int rc = door_enter(door, "asking for an event");
    if (rc)
        return rc;
    cudaError_t code = cudaEventQuery(native_event(event));
    *out = code == cudaSuccess;
    if (code == cudaErrorNotReady) {
        cudaGetLastError();
        return 0;
    }
    return fail(code, "asking for an event");
}

int door_event_elapsed(struct door *door, struct door_event *from, struct door_event *to,
                       float *milliseconds)
{
    int rc = door_enter(door, "the time between two events");
    return rc ? rc
              : fail(cudaEventElapsedTime(milliseconds, native_event(from), native_event(to)),
                     "the time between two events");
}

/* ---- capture ------------------------------------------------------------------------------ */

int door_capture_begin(struct door *door, struct door_stream *stream)
{
    int rc = door_enter(door, "capturing");
    /* Other threads (loaders, compilers of plans) may go on calling CUDA. */
    return rc ? rc
              : fail(
                    cudaStreamBeginCapture(native_stream(stream), cudaStreamCaptureModeThreadLocal),
                    "starting to capture the step");
}

int door_capture_end(struct door *door, struct door_stream *stream, struct door_capture **out)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t executable = NULL;
    int rc = door_enter(door, "capturing");
    if (!rc)
        rc = fail(cudaStreamEndCapture(native_stream(stream), &graph), "capturing the step");
    if (!rc)
        rc = fail(cudaGraphInstantiate(&executable, graph, 0), "making a CUDA graph of the step");
    if (graph)
        cudaGraphDestroy(graph);
    if (!rc)
        *out = (struct door_capture *)(void *)executable;
    return rc;
}

int door_capture_launch(struct door *door, struct door_capture *capture, struct door_stream *stream)
{
    int rc = door_enter(door, "launching a capture");
    return rc ? rc
              : fail(cudaGraphLaunch((cudaGraphExec_t)(void *)capture, native_stream(stream)),
                     "launching the captured step");
}

void door_capture_close(struct door *door, struct door_capture *capture)
{
    (void)door;
    if (!capture)
        return;
    cudaGraphExecDestroy((cudaGraphExec_t)(void *)capture);
    cudaGetLastError();
}
