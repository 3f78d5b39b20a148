/*
 * bus.h - maps of files that may become shorter, or unreadable, while they are in use. The system
 * then ends a process that touches them by SIGBUS; with bus_catch it says in one line which file it
 * was, and leaves with the exit code of bad input. Nothing is tidied up: what is on disk is whole
 * at every instant (files.h), so the last checkpoint or finished shard stays.
 */
#ifndef COMMON_BUS_H
#define COMMON_BUS_H

#include <stddef.h>

/* A map; the owner keeps it, its memory and PATH until bus_release. */
struct bus_map {
    const char *path;
    const void *start; /* NULL: not watched */
    size_t size;
    struct bus_map *_Atomic next; /* bus.c's */
};

/* From here on, for the whole process. PROGRAM is for the line: "prep". */
void bus_catch(const char *program);
/* Any thread; without bus_catch they change nothing. A map that is not watched is fine. While a
 * signal is handled, bus_release waits: for the end of the process, mostly. */
void bus_watch(struct bus_map *map);
void bus_release(struct bus_map *map);

#endif
