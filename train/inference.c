#include "train/inference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/work.h"

/* A number that the run of WEIGHTS had; FALLBACK where it is not known. */
static int64_t remembered(const struct weights *weights, const char *name, int64_t fallback)
{
    const char *text = weights_setting(weights, name);
    long long value = text ? strtoll(text, NULL, 10) : 0;
    return value > 0 ? value : fallback;
}

int inference_complete(struct inference_settings *s, const struct weights *weights)
{
    const char *precision = weights_setting(weights, "precision");
    if (!s->image_size)
        s->image_size = remembered(weights, "image-size", 224);
    if (s->image_size < MODEL_IMAGE_LEAST || s->image_size > 1024)
        return err_set(ERR_USAGE, "--image-size: %lld is not in the range %d to 1024",
                       (long long)s->image_size, MODEL_IMAGE_LEAST);
    if (!s->val_resize)
        s->val_resize = s->image_size * 256 / 224;
    if (s->val_resize < s->image_size)
        return err_set(ERR_USAGE, "--val-resize %lld is less than --image-size %lld",
                       (long long)s->val_resize, (long long)s->image_size);
    if (!s->batch_size)
        s->batch_size = remembered(weights, "batch-size", 32);
    if (s->batch_size > 8192)
        s->batch_size = 32;
    if (!s->threads)
        s->threads = work_cores();
    for (int p = PRECISION_F32; p < PRECISIONS && s->precision == PRECISION_AUTO; p++)
        if (precision && !strcmp(precision, precision_names[p]))
            s->precision = p;
    if (s->precision == PRECISION_AUTO)
        s->precision = PRECISION_F32;
    return 0;
}

static int open_device(struct inference *i, const struct inference_settings *settings)
{
    const struct device_settings wish = {.threads = (int)settings->threads,
                                         .precision = (enum precision)settings->precision};
    int rc = backend_open(settings->device, &wish, &i->backend, &i->device);
    if (!rc)
        log_line("device: %s", i->backend->describe(i->device));
    return rc;
}

/* The parameter's values, or the wanted rows of the last layer's. */
static int set_parameter(struct inference *i, const struct parameter *p, const float *value,
                         const int32_t *rows)
{
    if (!rows || (p->role != PARAMETER_LINEAR && p->role != PARAMETER_BIAS))
        return net_set(i->net, NET_VALUE, p, value);
    size_t width = p->count / (size_t)p->shape[0];
    float *copy = mem_array(p->count, sizeof *copy, "last layer");
    if (!copy)
        return -ERR_MEMORY;
    for (int64_t k = 0; k < p->shape[0]; k++)
        memcpy(copy + (size_t)k * width, value + (size_t)rows[k] * width, width * sizeof *copy);
    int rc = net_set(i->net, NET_VALUE, p, copy);
    mem_free(copy);
    return rc;
}

int inference_open(struct inference *out, const struct inference_settings *settings,
                   const struct weights *weights, const int32_t *rows, size_t count)
{
    const struct model_settings wish = {
        .arch = weights->arch,
        .classes = rows ? (int)count : (int)weights->classes,
        .batch = (int)settings->batch_size,
        .image_size = (int)settings->image_size,
    };
    const struct net_settings net = {.training = false};
    int rc;
    *out = (struct inference){.net = NULL};
    if ((rc = open_device(out, settings)) || (rc = model_open(&out->model, &wish)) ||
        (rc = net_open(&out->net, out->backend, out->device, out->model, &net)))
        goto fail;
    for (size_t k = 0; k < out->model->parameter_count && !rc; k++) {
        const struct parameter *p = &out->model->parameters[k];
        rc = set_parameter(out, p, weights_find(weights, p->name)->value, rows);
    }
    if (!rc)
        return 0;

fail:
    inference_close(out);
    return rc;
}

void inference_close(struct inference *inference)
{
    net_close(inference->net);
    model_close(inference->model);
    if (inference->device)
        inference->backend->close(inference->device);
    *inference = (struct inference){.net = NULL};
}
