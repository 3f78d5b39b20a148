/*
 * state.h - where a run stands, and the way between a net and a checkpoint file.
 */
#ifndef TRAIN_STATE_H
#define TRAIN_STATE_H

#include "common/dataset.h"
#include "train/checkpoint.h"
#include "train/net.h"
#include "train/settings.h"

/* Between two updates. Everything here is in the checkpoint. */
struct position {
    int64_t epoch, step; /* STEP updates of EPOCH (0-based) are done */
    int64_t global_step; /* updates in all */
    bool evaluated;      /* the validation that belongs here is done */
    double loss_sum;     /* of the batches of this epoch so far */
    int64_t loss_batches;
    double best_accuracy; /* top-1 in percent; 0 while there is none */
    int64_t best_epoch;   /* -1 while there is none */
};

/* What saving needs: room on the host for one snapshot of all parameters and momenta, made once. */
struct state;
/* All arguments are borrowed and outlive the state. DEVICE, PRECISION: as settings_pairs. STEPS:
 * updates an epoch. */
int state_open(struct state **out, struct net *net, const struct model *model,
               const struct settings *settings, struct dataset *dataset, const char *device,
               const char *precision, int64_t steps);
void state_close(struct state *state); /* NULL is fine */
/* Bytes of the host copies. */
uint64_t state_memory(const struct state *state);

/* First weights into the net, and the first position. */
int state_begin(struct state *state, struct position *out);
/* A checkpoint into the net and *OUT. ERR_MISMATCH lists every setting, class or tensor that
 * differs; settings that only round differently are warned of. */
int state_resume(struct state *state, const struct checkpoint *from, struct position *out);
/* Copy what a checkpoint of POSITION holds: from here on the net may go on training. */
int state_snapshot(struct state *state, const struct position *position);
/* The snapshot to FOLDER/checkpoint.pth; with MODEL also to model_<epoch - 1>.pth. Touches neither
 * the net nor anything else that training changes, so that another thread may call it; no new
 * snapshot meanwhile. */
int state_write(const struct state *state, const char *folder, bool model);

#endif
