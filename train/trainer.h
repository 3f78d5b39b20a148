/*
 * trainer.h - a whole run: open the data and the network, go on from a checkpoint or begin, train,
 * validate, save.
 */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "train/settings.h"

/* Run to the end, or to --max-steps. Prints results to standard output, talk to standard error. 0:
 * the run is finished (also when it was before). ERR_STOPPED: stopped by a signal and saved.
 * ERR_NOT_FINITE: the loss is not a number; the last checkpoint stands. Others: err.h. */
int trainer_run(const struct settings *settings);

#endif
