/*
 * bench_input.c - the input path of a device that augments, without a step: pictures a second that
 * the loader's threads pack, and that the device takes in (upload, crop, resize, flip, normalise).
 *
 * usage: bench_input DEVICE DB SIZE BATCH WORKERS BATCHES
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/dataset.h"
#include "common/err.h"
#include "train/loader.h"
#include "train/net.h"

struct input {
    const struct backend *backend;
    struct device *device;
    struct dataset *dataset;
    struct loader *loader;
    struct model *model;
    struct net *net; /* for the memory that batches come into: it computes nothing here */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int open_input(struct input *in, char **argv)
{
    struct loader_settings loader = {.training = true,
                                     .size = atoi(argv[3]),
                                     .batch = atoi(argv[4]),
                                     .workers = atoi(argv[5]),
                                     .classes = 1 << 20};
    const struct model_settings model = {
        .arch = "resnet18", .classes = 10, .batch = loader.batch, .image_size = loader.size};
    const struct device_settings device = {0};
    struct net_settings net = {0};
    int rc = backend_open(argv[1], &device, &in->backend, &in->device);
    if (rc || (rc = dataset_open(&in->dataset, argv[2])))
        return rc;
    loader.backend = in->backend;
    loader.device = in->device;
    if ((rc = loader_open(&in->loader, in->dataset, &loader)))
        return rc;
    net.packed_bytes = loader_packed_bytes(in->loader);
    if (!net.packed_bytes)
        return err_set(ERR_USAGE, "%s does not cut pictures itself", argv[1]);
    return net_open_model(&in->net, &in->model, in->backend, in->device, &model, &net);
}

/* Pack BATCHES batches, after as many that the ring had room for; the last one to *LAST. */
static int time_loader(struct input *in, int batches, const struct batch **last)
{
    double begin = 0;
    int rc = loader_start(in->loader, 0, 0);
    for (int i = 0; i < 2 * batches && rc >= 0; i++) {
        if (i == batches)
            begin = now();
        rc = loader_next(in->loader, last);
    }
    if (rc < 0)
        return rc;
    printf("packed by the loader: %.0f img/s\n", batches * (*last)->rows / (now() - begin));
    return 0;
}

static int time_upload(struct input *in, int batches, const struct batch *batch)
{
    double begin = 0;
    int rc = 0;
    for (int i = 0; i < 2 * batches && !rc; i++) {
        if (i == batches) {
            rc = in->backend->sync(in->device);
            begin = now();
        }
        if (!rc)
            rc = net_upload(in->net, batch);
    }
    if (rc || (rc = in->backend->sync(in->device)))
        return rc;
    const double seconds = now() - begin;
    printf("uploaded and augmented: %.0f img/s, %.2f GB/s\n", batches * batch->rows / seconds,
           batches * (double)batch->packed->bytes / seconds / 1e9);
    return 0;
}

int main(int argc, char **argv)
{
    struct input in = {0};
    const struct batch *last;
    if (argc != 7) {
        fprintf(stderr, "usage: bench_input DEVICE DB SIZE BATCH WORKERS BATCHES\n");
        return 2;
    }
    int rc = open_input(&in, argv);
    if (!rc && !(rc = time_loader(&in, atoi(argv[6]), &last)))
        rc = time_upload(&in, atoi(argv[6]), last);
    if (rc)
        fprintf(stderr, "bench_input: %s\n", err_text());
    net_close(in.net);
    model_close(in.model);
    loader_close(in.loader);
    dataset_close(in.dataset);
    if (in.device)
        in.backend->close(in.device);
    return err_exit_code(rc);
}
