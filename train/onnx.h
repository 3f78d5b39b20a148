/*
 * onnx.h - a ResNet with its weights as an ONNX file: opset 17, the number of pictures is free,
 * parameters keep torchvision's names. Output "logits", N x classes.
 */
#ifndef TRAIN_ONNX_H
#define TRAIN_ONNX_H

#include <stdbool.h>

#include "train/model.h"
#include "train/weights.h"

enum { ONNX_OPSET = 17, ONNX_IR_VERSION = 8 };

/* Write PATH whole or not at all. The input is "pictures", f32 N x 3 x size x size, normalised with
 * ImageNet's mean and standard deviation; PREPROCESSING: "pixels", u8 N x size x size x 3, RGB, and
 * the file normalises. MODEL: of the weights' arch and classes; its image size is the file's.
 * ERR_IO, ERR_MEMORY. */
int onnx_write(const char *path, const struct model *model, const struct weights *weights,
               bool preprocessing);

#endif
