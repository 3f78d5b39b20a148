/*
 * safetensors.h - reads and writes safetensors files: a length, a JSON header with each tensor's
 * type, shape and place, the data. Read as strictly as the format's own reader: no holes, no
 * overlaps, no double names, nothing behind the end. https://github.com/huggingface/safetensors,
 * "Format".
 */
#ifndef TRAIN_SAFETENSORS_H
#define TRAIN_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "train/pth.h"

#define SAFETENSORS_HEADER_LIMIT (16u << 20) /* bytes */
#define SAFETENSORS_METADATA "__metadata__"

struct safetensors;
/* Read PATH. *ROOT is a dict of tensors by name, in the order of their data; under
 * SAFETENSORS_METADATA a dict of texts, where there is one. Tensors of other types than pth.h's are
 * opaque values. All live until safetensors_close. Takes as much memory as the file is long.
 * ERR_INPUT with file and reason. */
int safetensors_open(struct safetensors **out, const char *path, const struct pth_value **root);
void safetensors_close(struct safetensors *file); /* NULL is fine */

/* Write PATH whole or not at all: the COUNT tensors (data contiguous, little-endian) under NAMES,
 * and METADATA (a dict of texts, or NULL). Same tensors, same bytes. */
int safetensors_write(const char *path, const char *const *names,
                      const struct pth_value *const *tensors, size_t count,
                      const struct pth_value *metadata);

#endif
