#include "train/cuda/devices.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"

/* Order: of two rows with one compute capability the first is meant by sm_<n>. */
const struct device_row devices[] = {
    {.spelling = "a100",
     .name = "NVIDIA A100-SXM4-80GB",
     .sm = 80,
     .multiprocessors = 108,
     .shared_bytes = 166912,
     .blocks_per_multiprocessor = 32,
     .threads_per_multiprocessor = 2048,
     .l2_bytes = 41943040,
     .clock_khz = 1410000,
     .memory_clock_khz = 1593000,
     .memory_bytes = 85094367232,
     .tensor16_tflops = 312,
     .tf32_tflops = 156,
     .f32_tflops = 19.5,
     .memory_gb_s = 2039,
     .pcie_gb_s = 32},
    {.spelling = "rtx4090",
     .name = "NVIDIA GeForce RTX 4090",
     .sm = 89,
     .multiprocessors = 128,
     .shared_bytes = 101376,
     .blocks_per_multiprocessor = 24,
     .threads_per_multiprocessor = 1536,
     .l2_bytes = 75497472,
     .clock_khz = 2520000,
     .memory_clock_khz = 10501000,
     .memory_bytes = 25393692672,
     .tensor16_tflops = 165.2,
     .tf32_tflops = 82.6,
     .f32_tflops = 82.6,
     .memory_gb_s = 1008,
     .pcie_gb_s = 32},
    {.spelling = "h100",
     .name = "NVIDIA H100 80GB HBM3",
     .sm = 90,
     .multiprocessors = 132,
     .shared_bytes = 232448,
     .blocks_per_multiprocessor = 32,
     .threads_per_multiprocessor = 2048,
     .l2_bytes = 52428800,
     .clock_khz = 1980000,
     .memory_clock_khz = 2619000,
     .memory_bytes = 85017624576,
     .tensor16_tflops = 989.4,
     .tf32_tflops = 494.7,
     .f32_tflops = 66.9,
     .memory_gb_s = 3352,
     .pcie_gb_s = 64},
    {.spelling = "h200",
     .name = "NVIDIA H200",
     .sm = 90,
     .multiprocessors = 132,
     .shared_bytes = 232448,
     .blocks_per_multiprocessor = 32,
     .threads_per_multiprocessor = 2048,
     .l2_bytes = 62914560,
     .clock_khz = 1980000,
     .memory_clock_khz = 3201000,
     .memory_bytes = 150109880320,
     .tensor16_tflops = 989.4,
     .tf32_tflops = 494.7,
     .f32_tflops = 66.9,
     .memory_gb_s = 4800,
     .pcie_gb_s = 64},
    {.spelling = "b200",
     .name = "NVIDIA B200",
     .sm = 100,
     .multiprocessors = 148,
     .shared_bytes = 232448,
     .blocks_per_multiprocessor = 32,
     .threads_per_multiprocessor = 2048,
     .l2_bytes = 132644864,
     .clock_khz = 1965000,
     .memory_clock_khz = 3996000,
     .memory_bytes = 191510282240,
     .tensor16_tflops = 2250,
     .tf32_tflops = 1125,
     .f32_tflops = 75,
     .memory_gb_s = 8000,
     .pcie_gb_s = 64},
    {.spelling = "rtx5090",
     .name = "NVIDIA GeForce RTX 5090",
     .sm = 120,
     .multiprocessors = 170,
     .shared_bytes = 101376,
     .blocks_per_multiprocessor = 24,
     .threads_per_multiprocessor = 1536,
     .l2_bytes = 100663296,
     .clock_khz = 2407000,
     .memory_clock_khz = 14001000,
     .memory_bytes = 33668988928,
     .tensor16_tflops = 209.5,
     .tf32_tflops = 104.8,
     .f32_tflops = 104.8,
     .memory_gb_s = 1792,
     .pcie_gb_s = 64},
};

const size_t devices_count = sizeof devices / sizeof *devices;

const struct device_row *devices_find(const char *name)
{
    for (size_t i = 0; i < devices_count; i++) {
        char sm[16];
        snprintf(sm, sizeof sm, "sm_%d", devices[i].sm);
        if (strcasecmp(name, devices[i].spelling) == 0 || strcasecmp(name, sm) == 0)
            return &devices[i];
    }
    char quoted[100], known[300];
    size_t length = 0;
    for (size_t i = 0; i < devices_count && length < sizeof known; i++)
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s (sm_%d)",
                                   i ? ", " : "", devices[i].spelling, devices[i].sm);
    err_set(ERR_USAGE, "the device table has no \"%s\"; it has %s",
            err_quote(quoted, sizeof quoted, name), known);
    return NULL;
}

int devices_json(const struct device_row *row, char *out, size_t size)
{
    /* What is the same on every GPU of the table stands in the text. */
    return snprintf(out, size,
                    "{\"cudaDeviceId\":0,\"deviceName\":\"%s\",\"deviceVer\":%d,"
                    "\"driverVer\":13000,\"isTccDriver\":0,\"l2CacheSize\":%d,"
                    "\"maxBlockSize\":[1024,1024,64],\"maxCtasPerSM\":%d,"
                    "\"maxGridSize\":[2147483647,65535,65535],\"maxRegistersPerSM\":65536,"
                    "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,"
                    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"memClockRateKHz\":%d,"
                    "\"multiProcessorCount\":%d,\"pciDeviceId\":0,\"regsPerBlock\":65536,"
                    "\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":%d,"
                    "\"supportCoopLaunch\":1,\"totalGlobalMem\":%" PRId64 ",\"warpSize\":32}",
                    row->name, row->sm * 10, row->l2_bytes, row->blocks_per_multiprocessor,
                    row->shared_bytes, row->threads_per_multiprocessor, row->memory_clock_khz,
                    row->multiprocessors, row->clock_khz, row->memory_bytes);
}
