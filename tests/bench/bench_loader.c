/*
 * bench_loader.c - how many augmented pictures a second one loader thread makes of a data set:
 * one line of pictures per second for each round; with BENCH_CPU_TIME in the environment: per
 * second of this program's CPU time.
 *
 * usage: bench_loader DB SIZE BATCHES ROUNDS
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/dataset.h"
#include "common/err.h"
#include "train/loader.h"

enum { BATCH = 64 };

static clockid_t clock_used = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec time;
    clock_gettime(clock_used, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int run(struct loader *loader, int batches, int rounds)
{
    const struct batch *batch;
    int rc = loader_start(loader, 0, 0);
    for (int round = 0; round < rounds && rc >= 0; round++) {
        double begin = now();
        for (int i = 0; i < batches && rc >= 0; i++)
            rc = loader_next(loader, &batch);
        if (rc >= 0)
            printf("%.1f\n", batches * BATCH / (now() - begin));
    }
    return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
    struct dataset *dataset = NULL;
    struct loader *loader = NULL;
    if (argc != 5) {
        fprintf(stderr, "usage: bench_loader DB SIZE BATCHES ROUNDS\n");
        return 2;
    }
    if (getenv("BENCH_CPU_TIME"))
        clock_used = CLOCK_PROCESS_CPUTIME_ID;
    struct loader_settings settings = {
        .training = true, .size = atoi(argv[2]), .batch = BATCH, .workers = 1, .classes = 1 << 20};
    int rc = dataset_open(&dataset, argv[1]);
    if (!rc && !(rc = loader_open(&loader, dataset, &settings)))
        rc = run(loader, atoi(argv[3]), atoi(argv[4]));
    if (rc)
        fprintf(stderr, "bench_loader: %s\n", err_text());
    loader_close(loader);
    dataset_close(dataset);
    return err_exit_code(rc);
}
