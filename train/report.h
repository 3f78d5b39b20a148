/*
 * report.h - what the trainer tells the person: the memory plan, the progress line with its
 * verdict, the profile.
 */
#ifndef TRAIN_REPORT_H
#define TRAIN_REPORT_H

#include <stdint.h>

#include "train/loader.h"
#include "train/net.h"
#include "train/saver.h"

/* Memory of the process, in bytes. PROGRAM: code, libraries and what they hold. SEPARATE: the net
 * lies in a device's own memory, and TOTAL is the host's alone. */
struct report_memory {
    struct net_plan net;
    bool separate;
    uint64_t loaders, copies, board, program, total;
};
/* Fill in program and total: after net_open, before loaders, copies and board are filled. */
void report_measure(struct report_memory *memory);
/* Print the plan, one line a part. */
void report_memory(const struct report_memory *memory);

/* Resident bytes of the process at its highest so far; pages of the data sets that are mapped count
 * too. */
uint64_t report_peak(void);

/* What the saves cost a run of SECONDS, in one line; none where training never stood still. */
void report_saves(const struct saver_times *times, double seconds);

/* The rates between two points in time. */
struct report_rate {
    double seconds, img_per_s;
    double data_wait;    /* share of the time the trainer waited for data, 0 to 1 */
    const char *verdict; /* "compute-bound", "decode-bound" or "disk-bound" */
};
/* A point in time. */
struct report_mark {
    double seconds;
    struct loader_times times;
};
void report_mark(struct report_mark *mark, const struct loader *loader);
/* Rates for IMAGES pictures between two marks. */
struct report_rate report_rate(const struct report_mark *from, const struct report_mark *to,
                               int64_t images);

/* Print the table of --profile. */
void report_profile(const struct net_profile *profile);

#endif
