/*
 * wire.h - writes Protocol Buffers messages: the few kinds of fields that ONNX files and
 * TensorBoard's events need. A message is bytes that grow; one that goes into another is made
 * first. Memory that runs out is told once, at the end.
 * https://protobuf.dev/programming-guides/encoding/
 */
#ifndef TRAIN_WIRE_H
#define TRAIN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise before use. */
struct wire {
    uint8_t *bytes;
    size_t size, capacity;
    bool failed; /* memory was short: bytes are not whole */
};

void wire_int(struct wire *message, int field, int64_t value); /* int32, int64, enum, bool */
void wire_float(struct wire *message, int field, float value);
void wire_double(struct wire *message, int field, double value);
void wire_bytes(struct wire *message, int field, const void *bytes, size_t size);
void wire_text(struct wire *message, int field, const char *text);
/* INNER as a field of MESSAGE; INNER is emptied, to be used again. */
void wire_message(struct wire *message, int field, struct wire *inner);
/* The head alone of a field of SIZE bytes that the caller writes behind it. */
void wire_head(struct wire *message, int field, uint64_t size);
/* Bytes that wire_head takes. */
size_t wire_head_size(int field, uint64_t size);

/* 0, or ERR_MEMORY when any call on MESSAGE failed. */
int wire_check(const struct wire *message);
void wire_release(struct wire *message);

#endif
