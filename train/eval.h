/*
 * eval.h - `train eval`: the accuracy of any file of weights on a validation set; with
 * torchvision's files the check of the whole data pipeline against published numbers.
 */
#ifndef TRAIN_EVAL_H
#define TRAIN_EVAL_H

#include "common/opts.h"

extern const struct opts_command eval_command;
int eval_main(int argc, char **argv);

#endif
