/*
 * backend.c - the list of backends that are built in, and the words the program has for them.
 */
#include "train/backend.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"

const struct backend *const backends[] = {
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
