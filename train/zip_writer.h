/*
 * zip_writer.h - writes the zip archives in which PyTorch keeps its files, whole or not at all
 * (files.h): stored entries in one inner folder, aligned to 64 bytes through an extra field, sizes
 * and CRC in front of the data, all times 0; ZIP64 only where a size, an offset or the count needs
 * it. Same entries, same bytes. data-spec/50-checkpoint.md, 50.1.
 */
#ifndef TRAIN_ZIP_WRITER_H
#define TRAIN_ZIP_WRITER_H

#include <stddef.h>

struct zip_writer;
/* Begin PATH's temporary file (files.h). FOLDER is the inner folder of all entries. */
int zip_writer_open(struct zip_writer **out, const char *path, const char *folder);
/* Append an entry FOLDER/NAME. BYTES is read twice: for the CRC, then to be written. */
int zip_writer_add(struct zip_writer *writer, const char *name, const void *bytes, size_t size);
/* Write sizes, offsets and the count as if each were too large for the classic fields; before the
 * first entry. For tests. */
void zip_writer_force_zip64(struct zip_writer *writer);
/* Directory and end record, then files_publish. The writer is closed in any case. */
int zip_writer_publish(struct zip_writer *writer);
/* Remove the temporary file and close; NULL is fine. */
void zip_writer_discard(struct zip_writer *writer);

#endif
