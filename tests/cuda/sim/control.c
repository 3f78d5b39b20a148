/*
 * control.c - what the simulated device was told and what it tells: the environment, the script of
 * failures, counts and the trace, faults. Calls of any thread pass here (plans are opened by many
 * at once): one lock for all of it.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "tests/cuda/sim/inside.h"

const char *const sim_call_names[SIM_CALLS] = {
    "count",        "open",           "alloc",         "free",          "host_alloc",
    "host_free",    "free_bytes",     "copy",          "fill",          "stream_open",
    "stream_close", "stream_sync",    "stream_wait",   "event_open",    "event_close",
    "event_record", "event_sync",     "event_done",    "event_elapsed", "capture_begin",
    "capture_end",  "capture_launch", "capture_close", "plans_open",    "plan_close",
    "plan_run",     "plan_save",      "plan_load",     "kernel"};

#define SCRIPT 32
enum { WORK = SIM_CALLS }; /* a script's word for pieces of work */

static struct {
    pthread_mutex_t lock;
    bool begun;
    struct sim_settings settings;
    FILE *trace;
    uint64_t counts[SIM_CALLS + 1];
    struct failure {
        int call;
        uint64_t at; /* count at which it fails */
        enum sim_how how;
    } script[SCRIPT];
    int script_length;
    char fault[ERR_TEXT_SIZE], taken[ERR_TEXT_SIZE];
} control = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the environment ---- */

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* A program that did what it may not do does not end well, whatever it made of the error. */
static void leave(void)
{
    if (control.trace) {
        fprintf(control.trace, "work %llu\n", (unsigned long long)control.counts[WORK]);
        fclose(control.trace);
    }
    if (control.fault[0]) {
        fflush(NULL);
        _exit(SIM_EXIT);
    }
}

static int parse_failure(const char *text, size_t length, struct failure *out)
{
    static const char *const hows[] = {"", "error", "sticky", "hang"};
    char item[64], how[16] = "", call[32];
    unsigned long long at;
    snprintf(item, sizeof item, "%.*s", (int)length, text);
    if (sscanf(item, "%31[a-z_]:%llu:%15[a-z]", call, &at, how) < 2 || at < 1)
        return err_set(ERR_USAGE, "SIM_FAIL: \"%s\" is not CALL:N or CALL:N:HOW", item);
    *out = (struct failure){.call = -1, .how = SIM_ERROR};
    if (strcmp(call, "work") == 0 || strcmp(call, "hang") == 0)
        *out = (struct failure){.call = WORK, .how = call[0] == 'h' ? SIM_HANG : SIM_STICKY};
    for (int i = 0; i < SIM_CALLS; i++) {
        if (strcmp(call, sim_call_names[i]) == 0)
            out->call = i;
    }
    for (int i = 1; i < 4; i++) {
        if (strcmp(how, hows[i]) == 0)
            out->how = (enum sim_how)i;
    }
    if (out->call < 0 || (how[0] && strcmp(how, hows[out->how]) != 0) ||
        (out->how == SIM_HANG && out->call != WORK))
        return err_set(ERR_USAGE, "SIM_FAIL: \"%s\" names no such call or way to fail", item);
    out->at = control.counts[out->call] + at;
    return 0;
}

static int set_script(const char *text)
{
    control.script_length = 0;
    while (*text) {
        size_t length = strcspn(text, ",");
        if (control.script_length == SCRIPT)
            return err_set(ERR_USAGE, "SIM_FAIL: more than %d failures", SCRIPT);
        int rc = parse_failure(text, length, &control.script[control.script_length]);
        if (rc)
            return rc;
        control.script_length++;
        text += length + (text[length] == ',');
    }
    return 0;
}

static void begin(void)
{
    struct sim_settings *s = &control.settings;
    if (control.begun)
        return;
    control.begun = true;
    *s = (struct sim_settings){.seed = number("SIM_SEED", 2),
                               .memory = number("SIM_MEMORY", (uint64_t)8 << 30),
                               .devices = (int)number("SIM_DEVICES", 1),
                               .sm = (int)number("SIM_SM", 90),
                               .cudnn = number("SIM_CUDNN", 91900),
                               .cublaslt = number("SIM_CUBLASLT", 130100),
                               .all_plans = number("SIM_ALL_PLANS", 0) != 0};
    const char *script = getenv("SIM_FAIL"), *trace = getenv("SIM_TRACE");
    if (script && set_script(script)) {
        fprintf(stderr, "sim: %s\n", err_text());
        exit(2);
    }
    control.trace = trace && *trace ? fopen(trace, "w") : NULL;
    atexit(leave);
}

const struct sim_settings *sim_settings(void)
{
    pthread_mutex_lock(&control.lock);
    begin();
    pthread_mutex_unlock(&control.lock);
    return &control.settings;
}

int sim_set_script(const char *text)
{
    pthread_mutex_lock(&control.lock);
    begin();
    int rc = set_script(text);
    pthread_mutex_unlock(&control.lock);
    return rc;
}

void sim_set_all_plans(bool all)
{
    sim_settings();
    control.settings.all_plans = all;
}

void sim_set_memory(size_t bytes)
{
    sim_settings();
    control.settings.memory = bytes;
}

/* ---- counts and failures ---- */

void sim_get_counts(uint64_t out[SIM_CALLS])
{
    pthread_mutex_lock(&control.lock);
    memcpy(out, control.counts, SIM_CALLS * sizeof *out);
    pthread_mutex_unlock(&control.lock);
}

static enum sim_how count(int call)
{
    uint64_t now = ++control.counts[call];
    for (int i = 0; i < control.script_length; i++) {
        if (control.script[i].call == call && control.script[i].at == now)
            return control.script[i].how;
    }
    return SIM_FINE;
}

enum sim_how sim_called(enum sim_call call, const char *what, size_t bytes)
{
    pthread_mutex_lock(&control.lock);
    begin();
    enum sim_how how = count((int)call);
    if (control.trace)
        fprintf(control.trace, "%s %zu %s\n", sim_call_names[call], bytes, what);
    pthread_mutex_unlock(&control.lock);
    return how;
}

enum sim_how sim_work_begins(void)
{
    pthread_mutex_lock(&control.lock);
    enum sim_how how = count(WORK);
    pthread_mutex_unlock(&control.lock);
    return how;
}

/* ---- faults ---- */

int sim_fault(const char *format, ...)
{
    char text[ERR_TEXT_SIZE - 32];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&control.lock);
    if (!control.fault[0]) {
        snprintf(control.fault, sizeof control.fault, "%s", text);
        fprintf(stderr, "sim: fault: %s\n", text);
    }
    pthread_mutex_unlock(&control.lock);
    return err_set(ERR_FAULT, "simulated device: %s", control.fault);
}

bool sim_faulted(void)
{
    pthread_mutex_lock(&control.lock);
    bool faulted = control.fault[0] != 0;
    pthread_mutex_unlock(&control.lock);
    return faulted;
}

const char *sim_take_fault(void)
{
    pthread_mutex_lock(&control.lock);
    memcpy(control.taken, control.fault, sizeof control.taken);
    control.fault[0] = 0;
    pthread_mutex_unlock(&control.lock);
    return control.taken;
}

int sim_lose(struct door *door, const char *what)
{
    door->lost = true;
    sim_queue_drop(door->queue);
    return err_set(ERR_DEVICE,
                   "%s: the GPU is lost: a simulated failure; nothing on it can be saved", what);
}

int sim_enter(struct door *door, enum sim_call call, const char *what, size_t bytes)
{
    enum sim_how how = sim_called(call, what, bytes);
    if (door->absent)
        return err_set(ERR_FAULT, "%s: the device %s is absent, for plans alone", what,
                       door->properties.name);
    if (sim_faulted())
        return sim_fault("%s", "");
    if (door->lost)
        return err_set(ERR_DEVICE, "%s: the GPU is lost; nothing on it can be saved", what);
    if (how == SIM_STICKY)
        return sim_lose(door, what);
    if (how == SIM_ERROR && (call == SIM_ALLOC || call == SIM_HOST_ALLOC))
        return err_set(ERR_MEMORY,
                       "%s needs %zu bytes of %s memory, and they are refused by script", what,
                       bytes, call == SIM_ALLOC ? "device" : "pinned host");
    if (how == SIM_ERROR)
        return err_set(ERR_DEVICE, "%s: refused by script (simulated CUDA error 999)", what);
    return 0;
}
