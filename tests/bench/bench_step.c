/*
 * bench_step.c - the time of training steps or evaluated batches on random pictures, one line of
 * milliseconds each, then "peak N" in MiB. What tests/bench/bench.py holds against PyTorch. With
 * BENCH_CPU_TIME in the environment: of CPU time.
 *
 * usage: bench_step DEVICE PRECISION train|eval ARCH BATCH SIZE CLASSES WARMUP STEPS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "common/err.h"
#include "common/mem.h"
#include "common/rng.h"
#include "train/net.h"

struct bench {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
    struct batch batch;
    uint8_t *pixels;
    int32_t *labels;
    uint64_t *records;
    float *values;
};

static double now_ms(void)
{
    static clockid_t id = -1;
    struct timespec time;
    if (id < 0)
        id = getenv("BENCH_CPU_TIME") ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC;
    clock_gettime(id, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec * 1e-6;
}

static int make_batch(struct bench *b, int n, int size, int classes)
{
    size_t bytes = (size_t)n * (size_t)size * (size_t)size * 3;
    if (!(b->pixels = malloc(bytes)) || !(b->labels = malloc((size_t)n * sizeof *b->labels)) ||
        !(b->records = calloc((size_t)n, sizeof *b->records)))
        return err_set(ERR_MEMORY, "no memory for %zu bytes of pictures", bytes);
    srand(1);
    for (size_t i = 0; i < bytes; i++)
        b->pixels[i] = (uint8_t)rand();
    for (int i = 0; i < n; i++)
        b->labels[i] = rand() % classes;
    b->batch = (struct batch){
        .rows = n, .size = size, .pixels = b->pixels, .labels = b->labels, .records = b->records};
    return 0;
}

static int set_parameters(struct bench *b)
{
    size_t most = 0;
    for (size_t i = 0; i < b->model->parameter_count; i++)
        if (b->model->parameters[i].count > most)
            most = b->model->parameters[i].count;
    if (!(b->values = malloc(most * sizeof *b->values)))
        return err_set(ERR_MEMORY, "no memory for a parameter");
    for (size_t i = 0; i < b->model->parameter_count; i++) {
        const struct parameter *p = &b->model->parameters[i];
        model_initialise(b->model, p, 1, false, b->values);
        int rc = net_set(b->net, NET_VALUE, p, b->values);
        if (rc)
            return rc;
    }
    free(b->values);
    b->values = NULL;
    return 0;
}

static int run_steps(struct bench *b, bool training, int warmup, int steps)
{
    const struct sgd first = {.lr = 1e-3,
                              .momentum = 0.9,
                              .weight_decay = 1e-4,
                              .gradient_scale = 1,
                              .decay_norm = true,
                              .first_step = true};
    for (int i = 0; i < warmup + steps; i++) {
        struct loss_result result;
        struct sgd sgd = first;
        double begin = now_ms();
        sgd.first_step = i == 0;
        int rc = training ? net_train(b->net, &b->batch, &sgd, &result)
                          : net_evaluate(b->net, &b->batch, &result);
        if (!rc)
            rc = b->backend->sync(b->device);
        if (rc)
            return rc;
        if (i >= warmup)
            printf("%.3f\n", now_ms() - begin);
    }
    return 0;
}

static int run(struct bench *b, char **argv)
{
    const bool training = !strcmp(argv[3], "train");
    const struct model_settings model = {
        .arch = argv[4],
        .batch = atoi(argv[5]),
        .image_size = atoi(argv[6]),
        .classes = atoi(argv[7]),
    };
    const struct net_settings net = {.training = training};
    struct device_settings device = {0};
    int rc;
    for (int i = 0; i < PRECISIONS; i++)
        if (!strcmp(precision_names[i], argv[2]))
            device.precision = (enum precision)i;
    if (!(b->backend = backend_find(argv[1])))
        return -ERR_USAGE;
    if ((rc = b->backend->open(&b->device, &device)) || (rc = model_open(&b->model, &model)) ||
        (rc = net_open(&b->net, b->backend, b->device, b->model, &net)) ||
        (rc = set_parameters(b)) ||
        (rc = make_batch(b, model.batch, model.image_size, model.classes)))
        return rc;
    fprintf(stderr, "%s\n", b->backend->describe(b->device));
    return run_steps(b, training, atoi(argv[8]), atoi(argv[9]));
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct rusage usage;
    if (argc != 10) {
        fprintf(stderr, "usage: bench_step DEVICE PRECISION train|eval ARCH BATCH SIZE CLASSES "
                        "WARMUP STEPS\n");
        return 2;
    }
    int rc = run(&b, argv);
    if (rc)
        fprintf(stderr, "bench_step: %s\n", err_text());
    getrusage(RUSAGE_SELF, &usage);
    printf("peak %ld\n", usage.ru_maxrss / 1024);
    net_close(b.net);
    model_close(b.model);
    if (b.device)
        b.backend->close(b.device);
    free(b.pixels);
    free(b.labels);
    free(b.records);
    free(b.values);
    return err_exit_code(rc);
}
