/*
 * doctor.h - `train doctor`: what this machine and this build can do, and what is missing.
 */
#ifndef TRAIN_DOCTOR_H
#define TRAIN_DOCTOR_H

#include "common/opts.h"

extern const struct opts_command doctor_command;
int doctor_main(int argc, char **argv);

/* OUT = "Xeon ..., 2 cores: sse4.2 avx avx2 ..." */
void doctor_cpu(char *out, size_t size);
/* OUT = the libraries with their versions, comma-separated. */
void doctor_libraries(char *out, size_t size);

#endif
