/*
 * events.h - TensorBoard's event files: records of a length, its masked CRC-32C, a message of
 * Protocol Buffers, its masked CRC-32C. Each run of the program writes a new file, so that nothing
 * is ever appended behind a record that a crash cut off. A file that cannot be written is a
 * warning, once: training goes on. https://www.tensorflow.org/tutorials/load_data/tfrecord
 * ("TFRecords format details"), tensorflow/core/util/event.proto.
 */
#ifndef TRAIN_EVENTS_H
#define TRAIN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct events;
/* Create FOLDER/events.out.tfevents.<time>.<host>.<process>. Events of earlier files from step
 * FIRST on belong to an interrupted run: the file begins with the mark that makes TensorBoard drop
 * them. ERR_MEMORY; a file that cannot be made is a warning. */
int events_open(struct events **out, const char *folder, int64_t first);
void events_close(struct events *events); /* NULL is fine, also below */

void events_scalar(struct events *events, const char *tag, int64_t step, double value);
/* TEXT is Markdown. */
void events_text(struct events *events, const char *tag, int64_t step, const char *text);
/* A PNG file's bytes. */
void events_picture(struct events *events, const char *tag, int64_t step, int width, int height,
                    const void *png, size_t size);

/* CRC-32C (Castagnoli), masked as in the records. */
uint32_t events_crc(const void *bytes, size_t size);

#endif
