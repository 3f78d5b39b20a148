/*
 * sample.h - prep sample: an ILSVRC-shaped tree of drawn pictures, made without a download.
 */
#ifndef PREP_SAMPLE_H
#define PREP_SAMPLE_H

#include "common/opts.h"

extern const struct opts_command sample_command;

/* prep sample DIR: train/<wnid>/<wnid>_<k>.JPEG, val/ILSVRC2012_val_%08d.JPEG, devkit/data/meta.mat
 * and the ground truth. A DIR of the same settings is completed, any other that is not empty is
 * refused (ERR_MISMATCH). ERR_USAGE in a build without matio. argv[0] is the command's name. */
int sample_main(int argc, char **argv);

#endif
