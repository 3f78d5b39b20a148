/*
 * import.h - begins a run from weights that another run, or another program, made: --init takes the
 * weights alone, --resume goes on from a file of PyTorch's side: {"model", "optimizer",
 * "lr_scheduler", "epoch", ...}, or a plain state dict.
 */
#ifndef TRAIN_IMPORT_H
#define TRAIN_IMPORT_H

#include "common/manifest.h"
#include "train/net.h"
#include "train/settings.h"
#include "train/state.h"
#include "train/weights.h"

/* The weights into the net, which has its first values already. The last layer stays at these where
 * the file's classes are not those of DATA, by number or by name; a log line says so. */
int import_init(struct net *net, const struct model *model, const struct weights *weights,
                const struct manifest *data);

/* Weights, momenta and position; STEPS: updates an epoch. A file without an optimizer begins at the
 * first step. ERR_MISMATCH lists what differs from SETTINGS and DATA. */
int import_resume(struct net *net, const struct model *model, const struct weights *weights,
                  const struct settings *settings, const struct manifest *data, int64_t steps,
                  struct position *out);

#endif
