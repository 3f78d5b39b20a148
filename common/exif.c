#include "common/exif.h"

#include <stdbool.h>
#include <string.h>

enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, ENTRY_BYTES = 12 };

static uint32_t number(const uint8_t *at, int bytes, bool big_endian)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | at[big_endian ? i : bytes - 1 - i];
    return value;
}

int exif_orientation(const uint8_t *bytes, size_t size)
{
    if (size < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0))
        return 0;
    bool big_endian = bytes[0] == 'M';
    size_t directory = number(bytes + 4, 4, big_endian);
    if (directory > size - 2)
        return 0;
    size_t entries = number(bytes + directory, 2, big_endian);
    for (size_t i = 0; i < entries; i++) {
        size_t at = directory + 2 + i * ENTRY_BYTES;
        if (at + ENTRY_BYTES > size)
            return 0;
        if (number(bytes + at, 2, big_endian) == TAG_ORIENTATION &&
            number(bytes + at + 2, 2, big_endian) == TYPE_SHORT &&
            number(bytes + at + 4, 4, big_endian) == 1)
            return (int)number(bytes + at + 8, 2, big_endian);
    }
    return 0;
}
