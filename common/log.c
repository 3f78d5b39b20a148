#include "common/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/work.h"

enum { LINE_SIZE = 1400 };

/* The only writable globals beside the error text: one standard error, one progress line. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char progress[LINE_SIZE];
static double progress_next; /* on work_seconds' clock */
static double progress_wait = 10;

static bool on_terminal(void)
{
    return isatty(STDERR_FILENO);
}

/* One write call a line, so that lines of several processes do not mix. A failure (a closed
 * terminal) is ignored: talk is not worth ending a run. */
static void put(const char *text)
{
    size_t left = strlen(text);
    while (left) {
        ssize_t done = write(STDERR_FILENO, text, left);
        if (done <= 0)
            return;
        text += done;
        left -= (size_t)done;
    }
}

static void put_line(const char *prefix, const char *format, va_list arguments)
{
    char body[LINE_SIZE - 80], line[2 * LINE_SIZE];
    vsnprintf(body, sizeof body, format, arguments);
    pthread_mutex_lock(&mutex);
    bool redraw = progress[0] && on_terminal();
    snprintf(line, sizeof line, "%s%s%s\n%s", redraw ? "\r\033[K" : "", prefix, body,
             redraw ? progress : "");
    put(line);
    pthread_mutex_unlock(&mutex);
}

void log_line(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    put_line("", format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    put_line("warning: ", format, arguments);
    va_end(arguments);
}

bool log_progress_due(bool force)
{
    double now = work_seconds();
    pthread_mutex_lock(&mutex);
    if (progress_next == 0)
        progress_next = now + (on_terminal() ? 0.2 : progress_wait);
    bool due = force || now >= progress_next;
    if (due && on_terminal()) {
        progress_next = now + 0.2;
    } else if (due) {
        progress_wait = progress_wait * 1.5 < 60 ? progress_wait * 1.5 : 60;
        progress_next = now + progress_wait;
    }
    pthread_mutex_unlock(&mutex);
    return due;
}

void log_progress(const char *format, ...)
{
    char body[LINE_SIZE - 80], line[LINE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(body, sizeof body, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&mutex);
    if (on_terminal()) {
        snprintf(progress, sizeof progress, "%s", body);
        snprintf(line, sizeof line, "\r\033[K%s", body);
    } else {
        snprintf(line, sizeof line, "%s\n", body);
    }
    put(line);
    pthread_mutex_unlock(&mutex);
}

void log_progress_end(void)
{
    pthread_mutex_lock(&mutex);
    if (progress[0] && on_terminal())
        put("\n");
    progress[0] = 0;
    progress_next = 0;
    progress_wait = 10;
    pthread_mutex_unlock(&mutex);
}

char *log_bytes(char out[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        unit++;
    }
    int places = !unit ? 0 : bytes < 10 ? 2 : bytes < 100 ? 1 : 0;
    snprintf(out, 32, "%.*f %s", places, bytes, units[unit]);
    return out;
}

char *log_seconds(char out[32], double seconds)
{
    if (seconds < 10)
        snprintf(out, 32, "%.1f s", seconds);
    else if (seconds < 120)
        snprintf(out, 32, "%.0f s", seconds);
    else if (seconds < 7200)
        snprintf(out, 32, "%d min %02d s", (int)(seconds / 60), (int)seconds % 60);
    else if (seconds < 48 * 3600.0)
        snprintf(out, 32, "%d h %02d min", (int)(seconds / 3600), (int)(seconds / 60) % 60);
    else
        snprintf(out, 32, "%.1f days", seconds / 86400);
    return out;
}

char *log_count(char out[32], int64_t count)
{
    char digits[32];
    uint64_t size = count < 0 ? -(uint64_t)count : (uint64_t)count;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)size), used = 0;
    if (count < 0)
        out[used++] = '-';
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return out;
}
