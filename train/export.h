/*
 * export.h - `train export`: weights for other programs, as PyTorch's .pth, safetensors or ONNX.
 */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include "common/opts.h"

extern const struct opts_command export_command;
int export_main(int argc, char **argv);

#endif
