/*
 * bench_step.c - the time of training steps or evaluated batches on random pictures, one line of
 * milliseconds each, then "peak N" in MiB: of the process, or, where the device has memory of its
 * own, of that. What tests/bench/bench.py and bench_gpu.py hold against PyTorch. With
 * BENCH_CPU_TIME in the environment: of CPU time.
 *
 * As in training a batch is sent to the device while the one before it is computed, and a result is
 * waited for one batch late: a line is the time from one result to the next.
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
#include "common/resample.h"
#include "train/augment.h"
#include "train/net.h"
#include "train/packed.h"

/* Pictures as most of ImageNet's are packed, for a device that cuts them itself. */
enum { BATCHES = 2, WIDTH = 341, HEIGHT = 256 };

struct bench {
    const struct backend *backend;
    struct device *device;
    struct model *model;
    struct net *net;
    struct batch batches[BATCHES];
    uint8_t *pixels;
    int32_t *labels;
    uint64_t *records;
    float *values;
    struct packed packed[BATCHES];
    struct packed_picture *pictures;
    void *blocks[BATCHES];
    size_t packed_bytes;
    uint64_t free_bytes; /* of the device, before the net */
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

/* A random crop of the one random picture for each of batch WHICH. */
static int pack_batch(struct bench *b, int which, int n, int size)
{
    const struct pixels picture = {
        .width = WIDTH, .height = HEIGHT, .stride = (size_t)WIDTH * 3, .rgb = b->pixels};
    struct packed_block block = {.capacity = b->packed_bytes,
                                 .pictures = b->pictures + (size_t)which * (size_t)n};
    struct resampler *resampler;
    int rc = b->backend->host_alloc(b->device, b->packed_bytes, &b->blocks[which]);
    if (rc || (rc = resampler_open(&resampler, false)))
        return rc;
    block.bytes = b->blocks[which];
    packed_begin(&block, n, size);
    for (int i = 0; i < n && !rc; i++) {
        const struct crop crop = augment_random_crop(1, 0, (uint64_t)i, WIDTH, HEIGHT);
        struct augment_plan plan;
        augment_plan_train(&crop, size, &plan);
        rc = packed_add(&block, i, resampler, &picture, &plan, size);
    }
    resampler_close(resampler);
    b->packed[which] =
        (struct packed){.pictures = block.pictures, .block = block.bytes, .bytes = block.used};
    b->batches[which].packed = &b->packed[which];
    b->batches[which].pixels = NULL;
    return rc;
}

static int make_batches(struct bench *b, int n, int size, int classes)
{
    const size_t square = (size_t)size * (size_t)size * 3, picture = (size_t)WIDTH * HEIGHT * 3;
    const size_t bytes = b->backend->packs ? picture : (size_t)n * square;
    int rc = 0;
    if (!(b->pixels = malloc(bytes)) || !(b->labels = malloc((size_t)n * sizeof *b->labels)) ||
        !(b->records = calloc((size_t)n, sizeof *b->records)) ||
        !(b->pictures = calloc((size_t)n * BATCHES, sizeof *b->pictures)))
        return err_set(ERR_MEMORY, "no memory for %zu bytes of pictures", bytes);
    srand(1);
    for (size_t i = 0; i < bytes; i++)
        b->pixels[i] = (uint8_t)rand();
    for (int i = 0; i < n; i++)
        b->labels[i] = rand() % classes;
    for (int which = 0; which < BATCHES && !rc; which++) {
        b->batches[which] = (struct batch){.rows = n,
                                           .size = size,
                                           .pixels = b->pixels,
                                           .labels = b->labels,
                                           .records = b->records};
        if (b->backend->packs)
            rc = pack_batch(b, which, n, size);
    }
    return rc;
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

/* Queue batch STEP, and send the next one after it. */
static int queue_step(struct bench *b, bool training, int step)
{
    const struct batch *batch = &b->batches[step % BATCHES];
    const struct sgd sgd = {.lr = 1e-3,
                            .momentum = 0.9,
                            .weight_decay = 1e-4,
                            .gradient_scale = 1,
                            .decay_norm = true,
                            .first_step = step == 0};
    int rc = training ? net_train(b->net, batch, &sgd, NULL) : net_evaluate(b->net, batch, NULL);
    return rc ? rc : net_upload(b->net, &b->batches[(step + 1) % BATCHES]);
}

static int run_steps(struct bench *b, bool training, int warmup, int steps)
{
    struct loss_result result;
    int rc = queue_step(b, training, 0);
    double begin = now_ms();
    for (int i = 1; i <= warmup + steps && !rc; i++) {
        if ((rc = queue_step(b, training, i)) || (rc = net_result(b->net, &result)))
            return rc;
        const double end = now_ms();
        if (i > warmup)
            printf("%.3f\n", end - begin);
        begin = end;
    }
    return rc ? rc : b->backend->sync(b->device);
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
    struct net_settings net = {.training = training};
    struct device_settings device = {0};
    int rc;
    for (int i = 0; i < PRECISIONS; i++)
        if (!strcmp(precision_names[i], argv[2]))
            device.precision = (enum precision)i;
    if (!(b->backend = backend_find(argv[1])))
        return -ERR_USAGE;
    if ((rc = packed_capacity(model.batch, model.image_size, 0, 0, &b->packed_bytes)) ||
        (rc = b->backend->open(&b->device, &device)) ||
        (b->backend->free_bytes && (rc = b->backend->free_bytes(b->device, &b->free_bytes))))
        return rc;
    net.packed_bytes = b->backend->packs ? b->packed_bytes : 0;
    if ((rc = net_open_model(&b->net, &b->model, b->backend, b->device, &model, &net)) ||
        (rc = set_parameters(b)) ||
        (rc = make_batches(b, model.batch, model.image_size, model.classes)))
        return rc;
    fprintf(stderr, "%s\n", b->backend->describe(b->device));
    return run_steps(b, training, atoi(argv[8]), atoi(argv[9]));
}

static void print_peak(const struct bench *b)
{
    struct rusage usage;
    uint64_t left;
    if (b->free_bytes && !b->backend->free_bytes(b->device, &left)) {
        printf("peak %llu\n", (unsigned long long)(b->free_bytes - left) >> 20);
        return;
    }
    getrusage(RUSAGE_SELF, &usage);
    printf("peak %ld\n", usage.ru_maxrss / 1024);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    if (argc != 10) {
        fprintf(stderr, "usage: bench_step DEVICE PRECISION train|eval ARCH BATCH SIZE CLASSES "
                        "WARMUP STEPS\n");
        return 2;
    }
    int rc = run(&b, argv);
    if (rc)
        fprintf(stderr, "bench_step: %s\n", err_text());
    else
        print_peak(&b);
    net_close(b.net);
    model_close(b.model);
    for (int i = 0; i < BATCHES; i++)
        if (b.blocks[i])
            b.backend->host_release(b.device, b.blocks[i]);
    if (b.device)
        b.backend->close(b.device);
    free(b.pixels);
    free(b.labels);
    free(b.records);
    free(b.pictures);
    free(b.values);
    return err_exit_code(rc);
}
