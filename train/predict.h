/*
 * predict.h - `train predict`: the likeliest classes of picture files, with validation's pixels.
 */
#ifndef TRAIN_PREDICT_H
#define TRAIN_PREDICT_H

#include "common/opts.h"

extern const struct opts_command predict_command;
int predict_main(int argc, char **argv);

#endif
