#include "train/net_fit.h"

#include "common/err.h"

/* What BATCH pictures take; UINT64_MAX: they are too few to normalise. */
static int total_of(const struct backend *backend, struct device *device,
                    const struct model_settings *model, const struct net_settings *settings,
                    int batch, uint64_t *out)
{
    struct model_settings few = *model;
    struct net_settings paper = *settings;
    struct model *smaller = NULL;
    struct net *net = NULL;

    few.batch = batch;
    paper.plan_only = true;
    paper.packed_bytes = settings->packed_bytes / (size_t)model->batch * (size_t)batch;
    *out = UINT64_MAX;
    if (backend->on_paper)
        backend->on_paper(device, true);
    int rc = model_open(&smaller, &few);
    if (!rc && !(rc = net_open(&net, backend, device, smaller, &paper)))
        *out = net_memory(net)->total;
    net_close(net);
    model_close(smaller);
    if (backend->on_paper)
        backend->on_paper(device, false);
    return rc == -ERR_USAGE ? 0 : rc;
}

int net_largest_batch(const struct backend *backend, struct device *device,
                      const struct model_settings *model, const struct net_settings *settings,
                      uint64_t free_bytes, int *out)
{
    int fits = 0, too_many = model->batch;

    while (too_many - fits > 1) {
        const int batch = fits + (too_many - fits) / 2;
        uint64_t total;
        int rc = total_of(backend, device, model, settings, batch, &total);

        if (rc)
            return rc;
        if (total <= free_bytes)
            fits = batch;
        else
            too_many = batch;
    }
    *out = fits;
    return 0;
}
