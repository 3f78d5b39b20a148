/*
 * inspect.h - the commands that look at a finished data set: prep info, prep verify, prep show.
 * argv[0] is the command's name. Results go to standard output.
 */
#ifndef PREP_INSPECT_H
#define PREP_INSPECT_H

#include "common/opts.h"

extern const struct opts_command inspect_info_command, inspect_verify_command, inspect_show_command;

/* prep info OUT.lmdb [--json]: what the manifest says. No shard is opened. */
int inspect_info(int argc, char **argv);
/* prep verify OUT.lmdb [--jobs N]: read everything back (verify.h). ERR_INPUT, after the list on
 * standard output, when anything is damaged. */
int inspect_verify(int argc, char **argv);
/* prep show OUT.lmdb INDEX|KEY [-o FILE.png]: what one record is; its picture as a PNG file. KEY is
 * "class/file name". ERR_INPUT: there is no such record, or it is damaged. */
int inspect_show(int argc, char **argv);

#endif
