#include "train/report.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/work.h"

/* A size in /proc/self/status ("VmRSS" now, "VmHWM" at its highest), in bytes; 0 where /proc is not
 * there. */
static uint64_t status_bytes(const char *name)
{
    char line[128], pattern[32];
    unsigned long long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "re");
    if (!status)
        return 0;
    snprintf(pattern, sizeof pattern, "%s: %%llu kB", name);
    while (fgets(line, sizeof line, status) && sscanf(line, pattern, &kilobytes) != 1) {
    }
    fclose(status);
    return kilobytes * 1024;
}

void report_measure(struct report_memory *memory)
{
    /* The net's blocks are zeroed when they are made, so they are resident already. */
    uint64_t resident = status_bytes("VmRSS"), net = memory->separate ? 0 : memory->net.total;
    memory->program = resident > net ? resident - net : 0;
    memory->total = memory->program + net + memory->loaders + memory->copies + memory->board;
}

static void print_part(const char *name, uint64_t bytes)
{
    char text[32];
    if (bytes)
        log_line("  %-34s %10s", name, log_bytes(text, (double)bytes));
}

void report_memory(const struct report_memory *memory)
{
    const struct net_plan *net = &memory->net;
    log_line("memory plan:");
    print_part("weights and statistics", net->values);
    print_part("weights in 16 bits", net->own.copies);
    print_part("gradients", net->gradients);
    print_part("momentum", net->momenta);
    print_part("sums of --accumulate", net->accumulated);
    print_part("weights in other layouts", net->packed);
    print_part("activations, their gradients, work", net->arena);
    print_part("batches, two in turn", net->own.staging);
    if (memory->separate)
        print_part("total on the device", net->total);
    print_part("batches being loaded", memory->loaders);
    print_part("copies for checkpoints", memory->copies);
    print_part("curves and pictures", memory->board);
    print_part("program and libraries", memory->program);
    print_part(memory->separate ? "total on the host" : "total", memory->total);
}

uint64_t report_peak(void)
{
    return status_bytes("VmHWM");
}

void report_saves(const struct saver_times *times, double seconds)
{
    if (times->stood > 0)
        log_line(
            "saves: %lld, each %.2f s of writing beside training, which stood still for %.2f s "
            "in all (%.2f %% of the time)",
            (long long)times->saves, times->writing / (double)times->saves, times->stood,
            100 * times->stood / seconds);
}

void report_mark(struct report_mark *mark, const struct loader *loader)
{
    mark->seconds = work_seconds();
    loader_times(loader, &mark->times);
}

struct report_rate report_rate(const struct report_mark *from, const struct report_mark *to,
                               int64_t images)
{
    double seconds = to->seconds - from->seconds;
    double read = to->times.read - from->times.read;
    double work = to->times.decode - from->times.decode + to->times.augment - from->times.augment;
    struct report_rate rate = {.seconds = seconds};
    if (seconds > 0) {
        rate.img_per_s = (double)images / seconds;
        rate.data_wait = (to->times.wait - from->times.wait) / seconds;
    }
    /* A trainer that hardly waits is bound by its own arithmetic, whatever the loader's threads do.
     */
    rate.verdict = rate.data_wait < 0.05 ? "compute-bound"
                   : read > work         ? "disk-bound"
                                         : "decode-bound";
    return rate;
}

static void print_times(const char *name, double forward, double backward, double prepare,
                        double all, int64_t steps)
{
    double sum = forward + backward + prepare;
    if (sum > 0)
        printf("%-12s %10.2f %10.2f %10.2f %10.2f %6.1f %%\n", name, 1e3 * forward / (double)steps,
               1e3 * backward / (double)steps, 1e3 * prepare / (double)steps,
               1e3 * sum / (double)steps, 100 * sum / all);
}

void report_profile(const struct net_profile *profile)
{
    int64_t steps = profile->steps > 0 ? profile->steps : 1;
    double all = profile->update + profile->feed;
    for (int kind = 0; kind < OP_KINDS; kind++)
        all += profile->forward[kind] + profile->backward[kind] + profile->prepare[kind];
    printf("\nprofile of %lld steps, ms a step\n%-12s %10s %10s %10s %10s\n",
           (long long)profile->steps, "op", "forward", "backward", "prepare", "sum");
    for (int kind = 0; kind < OP_KINDS; kind++)
        print_times(op_kind_names[kind], profile->forward[kind], profile->backward[kind],
                    profile->prepare[kind], all, steps);
    print_times("feed", profile->feed, 0, 0, all, steps);
    print_times("update", profile->update, 0, 0, all, steps);
    printf("%-12s %43.2f\n", "all", 1e3 * all / (double)steps);
}
