/*
 * log.h - what the programs say to the person on standard error: lines, warnings, and one progress
 * line that is rewritten in place on a terminal and printed from time to time elsewhere. Standard
 * output is for results. Any thread may log. A closed standard error is not an error of the
 * program.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

/* A line as it is; a line that begins with "warning: ". The progress line is cleared first and
 * redrawn. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True when it is time for a new progress line: 5 times a second on a terminal, else after 10 s,
 * then ever rarer, up to every 60 s. FORCE makes it true (the last line of a phase). */
bool log_progress_due(bool force);
/* Show TEXT as the progress line. */
void log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Leave the progress line standing (terminal: a line feed) and begin anew. */
void log_progress_end(void);

/* OUT = "1.23 GiB", "12.3 MB/s"-style text, "2 h 03 min", "1,281,167". SIZE >= 32. Each returns
 * OUT. */
char *log_bytes(char out[32], double bytes);
char *log_seconds(char out[32], double seconds);
char *log_count(char out[32], int64_t count);

#endif
