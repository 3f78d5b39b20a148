/*
 * pth_stream.h - reads what torch.save wrote before version 1.6, and still does with
 * _use_new_zipfile_serialization=False: three small pickles (a magic number, the protocol's
 * version, facts of the machine), the pickle of the tree, a pickle with the list of storages, and
 * then each storage's elements. There is no checksum in it. data-spec/50-checkpoint.md, 50.8.
 */
#ifndef TRAIN_PTH_STREAM_H
#define TRAIN_PTH_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "train/pth.h"

/* Do a file's first SIZE bytes belong to such a file? */
bool pth_stream_begins(const uint8_t *head, size_t size);

struct pth_stream;
/* Read PATH; *ROOT and all tensor data live until pth_stream_close. The file counts as foreign
 * (pth_open_foreign). Takes as much memory as the file is long, and up to PTH_COPY_LIMIT times that
 * for views. ERR_INPUT with file, byte and reason. */
int pth_stream_open(struct pth_stream **out, const char *path, const struct pth_value **root);
void pth_stream_close(struct pth_stream *stream); /* NULL is fine */

#endif
