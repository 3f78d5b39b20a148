/*
 * stop.h - ending a long command on request. SIGINT, SIGTERM and SIGHUP set a flag that the command
 * looks at between two pictures; it then ends with ERR_STOPPED, and the same command goes on. A
 * second signal of a kind ends the process at once, as if nothing had been set up: what is on disk
 * is whole at any moment anyway. SIGPIPE and SIGXFSZ are ignored meanwhile: a closed terminal and a
 * limit on file sizes are error values of a write, not the process's end.
 */
#ifndef COMMON_STOP_H
#define COMMON_STOP_H

#include <stdbool.h>

/* Catch the signals (one that is ignored, as under nohup, stays ignored) and forget an earlier
 * request. Main thread only. */
void stop_catch(void);
/* Put back what stood there before stop_catch. */
void stop_release(void);
/* Has a signal come since stop_catch? Any thread may ask. */
bool stop_requested(void);

#endif
