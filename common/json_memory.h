/*
 * json_memory.h - what happens when jansson gets no memory. It would leave out what it has no room
 * for, and few of its calls tell: a journal or manifest without one of its members. So the process
 * ends there, in one line and with the exit code of memory, as by kill -9: what is on disk is whole
 * at every instant (files.h), and the same command goes on.
 */
#ifndef COMMON_JSON_MEMORY_H
#define COMMON_JSON_MEMORY_H

/* From here on, for the whole process; before the first use of jansson. PROGRAM is for the line:
 * "prep". */
void json_memory_catch(const char *program);

#endif
