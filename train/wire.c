#include "train/wire.h"

#include <string.h>

#include "common/err.h"
#include "common/mem.h"

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };
enum { VARINT_BYTES = 10 };

static void append(struct wire *message, const void *bytes, size_t size)
{
    if (message->failed || !size)
        return;
    if (message->capacity - message->size < size) {
        size_t capacity = 2 * message->capacity + size + 256;
        if (mem_grow((void **)&message->bytes, message->capacity, capacity, 1, "message")) {
            message->failed = true;
            return;
        }
        message->capacity = capacity;
    }
    memcpy(message->bytes + message->size, bytes, size);
    message->size += size;
}

static size_t encode(uint64_t value, uint8_t out[VARINT_BYTES])
{
    size_t size = 0;
    do {
        out[size] = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        value >>= 7;
        size++;
    } while (value);
    return size;
}

static void append_varint(struct wire *message, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES];
    append(message, bytes, encode(value, bytes));
}

static void append_tag(struct wire *message, int field, enum wire_type type)
{
    append_varint(message, (uint64_t)field << 3 | type);
}

void wire_int(struct wire *message, int field, int64_t value)
{
    append_tag(message, field, WIRE_VARINT);
    append_varint(message, (uint64_t)value);
}

void wire_float(struct wire *message, int field, float value)
{
    append_tag(message, field, WIRE_FIXED32);
    append(message, &value, sizeof value);
}

void wire_double(struct wire *message, int field, double value)
{
    append_tag(message, field, WIRE_FIXED64);
    append(message, &value, sizeof value);
}

void wire_head(struct wire *message, int field, uint64_t size)
{
    append_tag(message, field, WIRE_LENGTH);
    append_varint(message, size);
}

size_t wire_head_size(int field, uint64_t size)
{
    uint8_t bytes[VARINT_BYTES];
    return encode((uint64_t)field << 3, bytes) + encode(size, bytes);
}

void wire_bytes(struct wire *message, int field, const void *bytes, size_t size)
{
    wire_head(message, field, size);
    append(message, bytes, size);
}

void wire_text(struct wire *message, int field, const char *text)
{
    wire_bytes(message, field, text, strlen(text));
}

void wire_message(struct wire *message, int field, struct wire *inner)
{
    wire_bytes(message, field, inner->bytes, inner->size);
    message->failed |= inner->failed;
    inner->size = 0;
}

int wire_check(const struct wire *message)
{
    return message->failed ? err_set(ERR_MEMORY, "no memory for a message") : 0;
}

void wire_release(struct wire *message)
{
    mem_free(message->bytes);
    *message = (struct wire){0};
}
