#include "train/doctor.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/decode.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/log.h"
#include "common/shard.h"
#include "common/work.h"
#include "train/backend.h"
#include "train/device_check.h"
#include "train/zip_format.h"
#include "version.h"

/* What is found goes into one JSON object; text prints the same as it is found. To add a row: a
 * call of tell in doctor_main. */
struct report {
    const struct doctor_settings *settings;
    json_t *object, *devices;
    int passed, failed;
    char failures[400]; /* their names, by commas */
};

struct doctor_settings {
    const char *device;
    int precision; /* PRECISION_AUTO: all */
    bool json;
};

static const struct opts_row rows[] = {
    {.name = "device",
     .value = "NAME",
     .type = OPTS_TEXT,
     .offset = offsetof(struct doctor_settings, device),
     .fallback = "all",
     .group = "Device",
     .help = "check only this one: cuda, cuda:1, cpu"},
    {.name = "precision",
     .type = OPTS_CHOICE,
     .offset = offsetof(struct doctor_settings,                            precision),
     .fallback = "all",
     .choices = "all|f32|bf16|fp16|tf32",
     .group = "Device",
     .help = "check only this one"},
    {.name = "json",
     .type = OPTS_FLAG,
     .offset = offsetof(struct doctor_settings, json),
     .fallback = "no",
     .group = "Output",
     .help = "print JSON"                   },
    OPTS_END,
};

const struct opts_command doctor_command = {
    .program = "train doctor",
    .arguments = "",
    .summary = "Prints the CPU's features, libraries and their versions, free memory, each device "
               "and what is missing, and checks in every precision that each device computes what "
               "the plain C reference does. The exit code is 7 when one does not.",
    .rows = rows,
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

static void memory_text(char *out, size_t size)
{
    char all[64], left[64];
    read_line("/proc/meminfo", "MemTotal", all, sizeof all);
    read_line("/proc/meminfo", "MemAvailable", left, sizeof left);
    snprintf(out, size, "%s, of it free %s", all[0] ? all : "unknown", left[0] ? left : "unknown");
}

static void tell(struct report *r, const char *name, const char *text)
{
    json_object_set_new(r->object, name, json_string(text));
    if (!r->settings->json)
        printf("%-10s %s\n", name, text);
}

/* ---- devices ---- */

/* A new device in the report. OPEN: its memory can be asked. */
static json_t *tell_device(struct report *r, const char *name, const char *text,
                           const struct backend *backend, struct device *open)
{
    json_t *object = json_pack("{s:s, s:s, s:[]}", "name", name, "description", text, "checks");
    uint64_t bytes;
    char memory[32] = "", line[64] = "";
    if (open && backend->free_bytes && !backend->free_bytes(open, &bytes)) {
        snprintf(line, sizeof line, ", %s free", log_bytes(memory, (double)bytes));
        json_object_set_new(object, "free_bytes", json_integer((json_int_t)bytes));
    }
    json_array_append_new(r->devices, object);
    if (!r->settings->json)
        printf("%-10s %s%s\n", name, text, line);
    return object;
}

/* RESULT: "ok", "FAILED", or "--": this device cannot do it, which is no fault. */
static void tell_check(struct report *r, json_t *device, const char *what, const char *result,
                       const char *text)
{
    json_array_append_new(
        json_object_get(device, "checks"),
        json_pack("{s:s, s:s, s:s}", "check", what, "result", result, "text", text));
    if (!r->settings->json)
        printf("  %-6s   %-12s %s\n", result, what, text);
    fflush(stdout);
    r->passed += !strcmp(result, "ok");
    if (strcmp(result, "FAILED") != 0)
        return;
    const size_t used = strlen(r->failures);
    snprintf(r->failures + used, sizeof r->failures - used, "%s%s in %s", r->failed++ ? ", " : "",
             json_string_value(json_object_get(device, "name")), what);
}

/* The op lists of a small ResNet against ref's. */
static void check_list(struct report *r, json_t *object, const struct backend *backend,
                       struct device *device, enum precision precision, bool fused)
{
    struct device_check found;
    char what[32], count[32], text[ERR_TEXT_SIZE];
    const double begin = work_seconds();
    const int rc = device_check(backend, device, precision, "resnet18", fused, &found);
    snprintf(what, sizeof what, "%s%s", precision_names[precision], fused ? ", level b" : "");
    if (!rc)
        snprintf(text, sizeof text,
                 "%d ops of a small ResNet are as ref's: %s numbers, within %.1e of their norm, in "
                 "%.1f s",
                 found.ops, log_count(count, found.values), found.worst, work_seconds() - begin);
    else
        snprintf(text, sizeof text, "%s", err_text());
    /* Training does without the fused form where a device does not have it. */
    tell_check(r, object, what, rc ? fused && !found.set_up ? "--" : "FAILED" : "ok", text);
}

static void check_precision(struct report *r, json_t *object, const struct backend *backend,
                            int index, enum precision precision)
{
    const struct device_settings wish = {.precision = precision, .index = index};
    struct device *device = NULL;
    const int rc = backend->open(&device, &wish);
    if (rc) {
        tell_check(r, object, precision_names[precision], rc == -ERR_USAGE ? "--" : "FAILED",
                   err_text());
        return;
    }
    check_list(r, object, backend, device, precision, false);
    if (backend->fuses && backend->fuses(device))
        check_list(r, object, backend, device, precision, true);
    backend->close(device);
}

/* Is this device wished for? INDEX -1: any of the backend. */
static bool is_wished(const struct report *r, const struct backend *backend, int index)
{
    const char *wish = r->settings->device;
    const size_t length = strlen(backend->name);
    if (!strcmp(wish, "all") || !strcmp(wish, backend->name))
        return true;
    return !strncmp(wish, backend->name, length) && wish[length] == ':' &&
           (index < 0 || atoi(wish + length + 1) == index);
}

static void check_device(struct report *r, const struct backend *backend, int index)
{
    const struct device_settings wish = {.precision = backend->precision, .index = index};
    struct device *device = NULL;
    char name[32];
    snprintf(name, sizeof name, backend->count ? "%s:%d" : "%s", backend->name, index);
    const int rc = backend->open(&device, &wish);
    json_t *object =
        tell_device(r, name, rc ? err_text() : backend->describe(device), backend, device);
    if (rc) {
        tell_check(r, object, "open", "FAILED",
                   json_string_value(json_object_get(object, "description")));
        return;
    }
    backend->close(device);
    for (int p = PRECISION_F32; p < PRECISIONS && backend != &backend_ref; p++)
        if (!r->settings->precision || r->settings->precision == p)
            check_precision(r, object, backend, index, (enum precision)p);
}

static void check_devices(struct report *r)
{
    for (size_t i = 0; backends[i]; i++) {
        int count = 1;
        if (!is_wished(r, backends[i], -1))
            continue;
        if ((backends[i]->available && backends[i]->available()) ||
            (backends[i]->count && backends[i]->count(&count))) {
            tell_device(r, backends[i]->name, err_text(), backends[i], NULL);
            continue;
        }
        for (int index = 0; index < count; index++)
            if (is_wished(r, backends[i], index))
                check_device(r, backends[i], index);
    }
#ifndef HAVE_DNNL
    tell_device(r, "cpu",
                "not built in: oneDNN was not found (apt-get install libdnnl-dev), or "
                "-DWITH_DNNL=OFF",
                NULL, NULL);
#endif
#ifndef HAVE_CUDA
    tell_device(r, "cuda",
                "not built in: CUDA and cuDNN were not found, or -DWITH_CUDA=OFF "
                "(README.md, \"Install\")",
                NULL, NULL);
#endif
}

/* ---- the end ---- */

/* A device that was asked for by name must have been there. */
static int check_wish(const struct report *r)
{
    const char *wish = r->settings->device;
    char quoted[100];
    err_quote(quoted, sizeof quoted, wish);
    if (!strcmp(wish, "all") || r->passed || r->failed)
        return 0;
    if (!strcmp(wish, "ref"))
        return err_set(ERR_USAGE, "--device ref: it is what the others are held against");
    return err_set(ERR_DEVICE, "--device %s: nothing could be checked: %s", quoted,
                   json_array_size(r->devices) ? "it is not there, or has no such precision"
                                               : "there is no such device");
}

static int finish(struct report *r)
{
    int rc = check_wish(r);
    json_object_set_new(r->object, "passed", json_integer(r->passed));
    json_object_set_new(r->object, "failed", json_integer(r->failed));
    char *text = r->settings->json ? json_dumps(r->object, JSON_INDENT(2)) : NULL;
    if (r->settings->json && !text)
        return err_set(ERR_MEMORY, "no memory for the report");
    if (text)
        printf("%s\n", text);
    else if (!rc && !r->failed)
        printf("all %d checks passed\n", r->passed);
    free(text);
    if (rc || !r->failed)
        return rc;
    return err_set(ERR_DEVICE, "%d of %d checks failed: %s", r->failed, r->passed + r->failed,
                   r->failures);
}

int doctor_main(int argc, char **argv)
{
    char text[1024];
    struct doctor_settings settings;
    struct opts_result parsed;
    int rc = opts_parse(&doctor_command, argc, argv, &settings, NULL, &parsed);
    if (rc)
        return rc;
    if (parsed.help) {
        opts_help(&doctor_command);
        return 0;
    }
    struct report r = {.settings = &settings, .object = json_object(), .devices = json_array()};
    tell(&r, "train", TOOL_VERSION " (" TOOL_REVISION ")");
    doctor_cpu(text, sizeof text);
    tell(&r, "cpu", text);
    memory_text(text, sizeof text);
    tell(&r, "memory", text);
    doctor_libraries(text, sizeof text);
    tell(&r, "libraries", text);
    json_object_set(r.object, "devices", r.devices);
    if (!settings.json)
        printf("devices, the best first, and whether they compute what ref does:\n");
    check_devices(&r);
    rc = finish(&r);
    json_decref(r.devices);
    json_decref(r.object);
    return rc;
}
