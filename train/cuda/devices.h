/*
 * devices.h - the one table of GPUs that this program knows on paper: enough for cuDNN to make
 * plans for one that is not there (door_open_absent), for the memory plan and for the roofline.
 * Commonly published numbers, none read from a device; an open device tells its own.
 */
#ifndef TRAIN_CUDA_DEVICES_H
#define TRAIN_CUDA_DEVICES_H

#include <stddef.h>
#include <stdint.h>

struct device_row {
    const char *spelling;          /* "h100" */
    const char *name;              /* "NVIDIA H100 80GB HBM3" */
    int sm;                        /* compute capability * 10: 90 */
    int multiprocessors;           /* SMs */
    int shared_bytes;              /* shared memory a block may ask for */
    int blocks_per_multiprocessor; /* most that run at once; and threads */
    int threads_per_multiprocessor;
    int l2_bytes;
    int clock_khz, memory_clock_khz;
    int64_t memory_bytes;
    /* Peaks, dense, for the roofline. tensor16: bf16 or fp16 products summed in f32. */
    double tensor16_tflops, tf32_tflops, f32_tflops;
    double memory_gb_s; /* 10^9 bytes a second */
    double pcie_gb_s;   /* from the host, one way, as the bus is rated */
};

extern const struct device_row devices[];
extern const size_t devices_count;

/* The row that NAME means: a spelling ("h100", in any case), or "sm_90", for which the first row of
 * that compute capability stands. NULL with ERR_USAGE, which lists what is known. */
const struct device_row *devices_find(const char *name);

/* cuDNN's JSON for a row: all of the keys that a DEVICEPROP descriptor demands. Writes at most SIZE
 * bytes with the ending 0; returns the length without it. */
#define DEVICES_JSON_SIZE 1024
int devices_json(const struct device_row *row, char *out, size_t size);

#endif
