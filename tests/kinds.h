/*
 * kinds.h - the small files of every kind in tests/oracle/kinds.txt.
 */
#ifndef TESTS_KINDS_H
#define TESTS_KINDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS_MOST = 64, LINE_MOST = 1 << 14 };

/* The files of kinds.txt. */
static struct kind {
    char name[48];
    int width, height;
    unsigned long long hash;
    uint8_t *bytes;
    size_t size;
} kinds[KINDS_MOST];
static int kind_count;

static inline uint8_t *from_hex(const char *hex, size_t *size)
{
    *size = strlen(hex) / 2;
    uint8_t *bytes = malloc(*size);
    for (size_t i = 0; bytes && i < *size; i++) {
        unsigned value = 0;
        sscanf(hex + 2 * i, "%2x", &value);
        bytes[i] = (uint8_t)value;
    }
    return bytes;
}

static inline bool load_kinds(void)
{
    FILE *file = fopen(TEST_SOURCE "/tests/oracle/kinds.txt", "r");
    static char line[LINE_MOST], hex[LINE_MOST];
    if (!file)
        return false;
    while (kind_count < KINDS_MOST && fgets(line, sizeof line, file)) {
        struct kind *kind = &kinds[kind_count];
        if (line[0] == '#')
            continue;
        if (sscanf(line, "%47s %d %d %llx %16383s", kind->name, &kind->width, &kind->height,
                   &kind->hash, hex) != 5)
            break;
        kind->bytes = from_hex(hex, &kind->size);
        kind_count++;
    }
    fclose(file);
    return kind_count == 47;
}

static inline const struct kind *find_kind(const char *name)
{
    for (int i = 0; i < kind_count; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    printf("kinds.txt lacks %s\n", name);
    exit(1);
}

static inline void free_kinds(void)
{
    for (int i = 0; i < kind_count; i++)
        free(kinds[i].bytes);
}

#endif
