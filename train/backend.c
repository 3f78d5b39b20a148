/*
 * backend.c - the list of backends that are built in, and the words the program has for them.
 */
#include "train/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"

const char *const precision_names[PRECISIONS] = {"auto", "f32", "bf16", "fp16", "tf32"};

const struct backend *const backends[] = {
#ifdef HAVE_CUDA
    &backend_cuda,
#endif
#ifdef HAVE_DNNL
    &backend_cpu,
#endif
    &backend_ref,
    NULL,
};

const struct backend *backend_find(const char *name)
{
    char quoted[128], known[128] = "";
    size_t used = 0;

    for (size_t i = 0; backends[i]; i++) {
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
        int written =
            snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", backends[i]->name);
        used += (size_t)written < sizeof known - used ? (size_t)written : 0;
    }
    err_set(ERR_USAGE, "there is no device \"%s\" in this build; it has: %s",
            err_quote(quoted, sizeof quoted, name), known);
    return NULL;
}

/* "cuda:1" is "cuda" and 1. */
static int split_name(const char *device, char name[32], int *index)
{
    const char *colon = strchr(device, ':');
    size_t length = colon ? (size_t)(colon - device) : strlen(device);
    char quoted[128], *end = NULL;

    *index = colon ? (int)strtol(colon + 1, &end, 10) : 0;
    if (length >= 32 || (colon && (*end || end == colon + 1 || *index < 0 || *index > 1023)))
        return err_set(ERR_USAGE, "--device: \"%s\" is not a device's name, or name:number",
                       err_quote(quoted, sizeof quoted, device));
    memcpy(name, device, length);
    name[length] = 0;
    return 0;
}

/* The first one that is there; the last one always is. */
static const struct backend *best_available(void)
{
    const struct backend *const *b = backends;

    for (; b[1] && (*b)->available && (*b)->available(); b++)
        log_line("device %s is not used: %s", (*b)->name, err_text());
    return *b;
}

int backend_open(const char *device, const struct device_settings *settings,
                 const struct backend **out, struct device **out_device)
{
    struct device_settings wish = *settings;
    char name[32];
    int rc = split_name(device, name, &wish.index);

    if (rc)
        return rc;
    const struct backend *backend = strcmp(name, "auto") ? backend_find(name) : best_available();
    if (!backend)
        return -ERR_USAGE;
    if (!strcmp(name, "auto") && backend == &backend_ref)
        log_warning("this build has no oneDNN: the plain C backend computes, slowly (see "
                    "README.md, \"Install\")");
    if (wish.precision == PRECISION_AUTO)
        wish.precision = backend->precision;
    if ((rc = backend->open(out_device, &wish)))
        return rc;
    *out = backend;
    return 0;
}
