/*
 * sort_val.h - prep sort-val: the flat validation folder into class folders.
 */
#ifndef PREP_SORT_VAL_H
#define PREP_SORT_VAL_H

#include "common/opts.h"

extern const struct opts_command sort_val_command;

/* prep sort-val DEVKIT VAL OUT: every ILSVRC2012_val_<n>.JPEG of VAL to OUT/<WNID>/, by the number
 * in its name. The table goes to standard output. ERR_INPUT: the devkit is not readable, VAL has no
 * such picture, a picture was refused; ERR_MISMATCH: other bytes stand where a picture belongs, or
 * a picture stands in a wrong class; ERR_BUSY: another run works on OUT. argv[0] is the command's
 * name. */
int sort_val_main(int argc, char **argv);

#endif
