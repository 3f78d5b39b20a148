#include "train/doctor.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "common/decode.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/log.h"
#include "common/shard.h"
#include "common/work.h"
#include "train/backend.h"
#include "train/zip_format.h"
#include "version.h"

/* To add a row to what is printed: a function here, and a call in doctor_main. */

/* clang-format off */
static const struct opts_row rows[] = {
    OPTS_END,
};
/* clang-format on */

const struct opts_command doctor_command = {
    "train doctor",
    "",
    "Prints the CPU's features, libraries and their versions, what is built in, free memory, "
    "devices, and what is missing.",
    rows,
    0,
    0,
};

/* *OUT = what stands behind "NAME :" or "NAME:" in PATH; "" where it is not there. */
static void read_line(const char *path, const char *name, char *out, size_t size)
{
    char line[512];
    FILE *file = fopen(path, "re");
    out[0] = 0;
    while (file && !out[0] && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, name, strlen(name)) != 0 || !colon)
            continue;
        char *text = colon + 1 + strspn(colon + 1, " \t");
        text[strcspn(text, "\n")] = 0;
        snprintf(out, size, "%s", text);
    }
    if (file)
        fclose(file);
}

void doctor_cpu(char *out, size_t size)
{
    char name[200];
    read_line("/proc/cpuinfo", "model name", name, sizeof name);
    int used = snprintf(out, size, "%s, %d cores", name[0] ? name : "unknown", work_cores());
#if defined(__x86_64__)
#define FEATURE(NAME)                                                                              \
    if (__builtin_cpu_supports(NAME) && (size_t)used < size)                                       \
    used += snprintf(out + used, size - (size_t)used, " " NAME)
    if ((size_t)used < size)
        used += snprintf(out + used, size - (size_t)used, ":");
    FEATURE("sse4.2");
    FEATURE("avx");
    FEATURE("fma");
    FEATURE("avx2");
    FEATURE("avx512f");
    FEATURE("avx512bw");
    FEATURE("avx512vl");
    FEATURE("avx512vnni");
    FEATURE("avx512bf16");
#undef FEATURE
#endif
}

void doctor_libraries(char *out, size_t size)
{
    char lmdb[64], xxhash[64], zlib[64];
    snprintf(out, size, "%s, jansson %s, %s, %s, %s", decode_libraries(), JANSSON_VERSION,
             shard_library(lmdb), digest_library(xxhash), zip_library(zlib));
}

static void print_memory(void)
{
    char all[64], left[64];
    read_line("/proc/meminfo", "MemTotal", all, sizeof all);
    read_line("/proc/meminfo", "MemAvailable", left, sizeof left);
    printf("memory     %s, of it free %s\n", all[0] ? all : "unknown", left[0] ? left : "unknown");
}

/* Each backend: opened with its own precision, or why it cannot be. */
static void print_devices(void)
{
    for (size_t i = 0; backends[i]; i++) {
        const struct device_settings wish = {.precision = PRECISION_AUTO};
        struct device *device = NULL;
        int rc = backends[i]->available ? backends[i]->available() : 0;
        if (!rc)
            rc = backends[i]->open(&device, &wish);
        printf("%-10s %s\n", backends[i]->name, rc ? err_text() : backends[i]->describe(device));
        if (!rc)
            backends[i]->close(device);
    }
#ifndef HAVE_DNNL
    printf("cpu        not built in: oneDNN was not found (apt-get install libdnnl-dev), or "
           "-DWITH_DNNL=OFF\n");
#endif
#ifndef HAVE_CUDA
    printf("cuda       not built in: CUDA and cuDNN were not found, or -DWITH_CUDA=OFF (README.md, "
           "\"Install\")\n");
#endif
}

int doctor_main(int argc, char **argv)
{
    char text[1024];
    struct opts_result parsed;
    int none, rc = opts_parse(&doctor_command, argc, argv, &none, NULL, &parsed);
    if (rc)
        return rc;
    if (parsed.help) {
        opts_help(&doctor_command);
        return 0;
    }
    printf("train      %s (%s)\n", TOOL_VERSION, TOOL_REVISION);
    doctor_cpu(text, sizeof text);
    printf("cpu        %s\n", text);
    print_memory();
    doctor_libraries(text, sizeof text);
    printf("libraries  %s\n", text);
    printf("devices, the best first:\n");
    print_devices();
    return 0;
}
