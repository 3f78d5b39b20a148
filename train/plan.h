/*
 * plan.h - the command `train plan`: the memory that a training takes on a device, asked of the
 * same planner and the same backend that train uses; or, with --roofline, the time that a GPU of
 * cuda/devices.h needs at least.
 */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "common/opts.h"

extern const struct opts_command plan_command;

/* argv[0] is "plan". ERR_USAGE; ERR_DEVICE: no such device here. */
int plan_run(int argc, char **argv);

#endif
