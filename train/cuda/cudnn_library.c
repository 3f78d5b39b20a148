#include "train/cuda/cudnn_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

static struct cudnn library;
static struct err library_error; /* kind ERR_NONE: it is open */
static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* ---- why something was refused --------------------------------------------------------------- */

#define REASONS 48
#define REASON_SIZE 200

static _Thread_local struct {
    char text[REASON_SIZE];
    int count;
} reasons[REASONS];
static _Thread_local int reason_count;

static void add_reason(const char *text)
{
    int i = 0;
    while (i < reason_count && strncmp(reasons[i].text, text, REASON_SIZE - 1) != 0)
        i++;
    if (i == REASONS)
        return;
    if (i == reason_count) {
        snprintf(reasons[i].text, REASON_SIZE, "%s", text);
        for (char *c = reasons[i].text; *c; c++) {
            if (*c < 32 || *c > 126)
                *c = ' ';
        }
        reasons[i].count = 0;
        reason_count++;
    }
    reasons[i].count++;
}

/* A message is several strings, each ended by a 0, and one more 0. Called by cuDNN in the thread
 * that called it. */
static void on_message(cudnnSeverity_t severity, void *user, const cudnnDebug_t *debug,
                       const char *message)
{
    /* Lines that say only that something below failed, or that an engine is not for this graph. */
    static const char *const echoes[] = {
        "finalize_internal", "finalize()",  "isSupported()",  "NOT_INITIALIZED ==", "index -1",
        "configuration is",  "getStatus()", "Reason: status", "isValidSetting",     "initBackends"};
    (void)severity, (void)user, (void)debug;
    for (; *message; message += strlen(message) + 1) {
        const char *reason = strstr(message, "Reason: ");
        bool echo = !reason;
        for (size_t i = 0; i < sizeof echoes / sizeof *echoes && !echo; i++)
            echo = strstr(reason, echoes[i]) != NULL;
        if (!echo)
            add_reason(reason + strlen("Reason: "));
    }
}

void cudnn_reasons_clear(void)
{
    reason_count = 0;
}

const char *cudnn_reasons_best(void)
{
    int best = 0;
    for (int i = 1; i < reason_count; i++) {
        if (reasons[i].count > reasons[best].count)
            best = i;
    }
    return reason_count ? reasons[best].text : "";
}

int cudnn_fail(cudnnStatus_t status, const char *what)
{
    char words[400] = "";
    library.last_error(words, sizeof words);
    for (char *c = words; *c; c++) {
        if (*c < 32 || *c > 126)
            *c = ' ';
    }
    const char *reason = cudnn_reasons_best();
    bool more = *reason && !strstr(words, reason);
    enum err_kind kind =
        status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ? ERR_MEMORY : ERR_DEVICE;
    return err_set(kind, "cuDNN, %s: %s%s%s%s%s", what, library.error_string(status),
                   *words ? ": " : "", words, more ? "; " : "", more ? reason : "");
}

/* ---- the library ----------------------------------------------------------------------------- */

static void open_library(void)
{
    /* The name of the major version that the headers describe: no other can be used. */
    static const char name[] = "libcudnn.so.9";
    const struct {
        const char *name;
        void *place; /* of a function pointer */
    } symbols[] = {
        {"cudnnGetVersion",               &library.version     },
        {"cudnnGetErrorString",           &library.error_string},
        {"cudnnGetLastErrorString",       &library.last_error  },
        {"cudnnSetCallback",              &library.set_callback},
        {"cudnnCreate",                   &library.create      },
        {"cudnnDestroy",                  &library.destroy     },
        {"cudnnSetStream",                &library.set_stream  },
        {"cudnnBackendCreateDescriptor",  &library.make        },
        {"cudnnBackendDestroyDescriptor", &library.drop        },
        {"cudnnBackendFinalize",          &library.finalize    },
        {"cudnnBackendSetAttribute",      &library.set         },
        {"cudnnBackendGetAttribute",      &library.get         },
        {"cudnnBackendExecute",           &library.execute     },
    };
    static const char advice[] = "install cuDNN 9.11 or newer, or name its folder in "
                                 "LD_LIBRARY_PATH (PyTorch brings it: nvidia/cudnn/lib)";
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    int rc = 0;
    if (!handle)
        rc = err_set(ERR_DEVICE, "cuDNN cannot be opened (%s); %s", dlerror(), advice);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols && !rc; i++) {
        void *address = dlsym(handle, symbols[i].name);
        memcpy(symbols[i].place, &address, sizeof address);
        if (!address)
            rc = err_set(ERR_DEVICE, "%s has no %s; %s", name, symbols[i].name, advice);
    }
    if (!rc && library.version() < CUDNN_LIBRARY_OLDEST)
        rc = err_set(ERR_DEVICE, "cuDNN is of version %zu.%zu.%zu; %s", library.version() / 10000,
                     library.version() / 100 % 100, library.version() % 100, advice);
    if (!rc)
        library.set_callback(CUDNN_SEV_ERROR_EN | CUDNN_SEV_WARNING_EN, NULL, on_message);
    err_take(rc, &library_error);
}

int cudnn_library_open(const struct cudnn **out)
{
    pthread_once(&library_once, open_library);
    if (library_error.kind != ERR_NONE)
        return err_raise(&library_error);
    *out = &library;
    return 0;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

int cudnn_set_empty(struct cudnn_set *set, cudnnBackendDescriptorType_t type, const char *what,
                    cudnnBackendDescriptor_t *out)
{
    cudnnStatus_t status;
    if (set->count == CUDNN_SET_SIZE)
        return err_set(ERR_FAULT, "cuDNN, %s: more than %d descriptors", what, CUDNN_SET_SIZE);
    if ((status = library.make(type, out)))
        return cudnn_fail(status, what);
    set->all[set->count++] = *out;
    return 0;
}

int cudnn_set_make(struct cudnn_set *set, cudnnBackendDescriptorType_t type, const char *what,
                   const struct cudnn_attribute *attributes, int count,
                   cudnnBackendDescriptor_t *out)
{
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    int rc = cudnn_set_empty(set, type, what, out);
    if (rc)
        return rc;
    for (int i = 0; i < count && !status; i++)
        status = library.set(*out, attributes[i].name, attributes[i].type, attributes[i].count,
                             attributes[i].values);
    if (!status)
        status = library.finalize(*out);
    return status ? cudnn_fail(status, what) : 0;
}

void cudnn_set_release(struct cudnn_set *set, int keep)
{
    while (set->count > keep) {
        if (set->all[--set->count])
            library.drop(set->all[set->count]);
    }
}

void cudnn_set_take(struct cudnn_set *set, cudnnBackendDescriptor_t descriptor)
{
    for (int i = 0; i < set->count; i++) {
        if (set->all[i] == descriptor)
            set->all[i] = NULL;
    }
}
