#include "common/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

/* A signal handler can reach nothing but globals. */
static atomic_bool requested;

static void request(int number)
{
    (void)number;
    atomic_store(&requested, true);
}

static struct {
    int number;
    void (*handler)(int);
    struct sigaction earlier;
} signals[] = {
    {SIGINT,  request, {.sa_flags = 0}},
    {SIGTERM, request, {.sa_flags = 0}},
    {SIGHUP,  request, {.sa_flags = 0}},
    {SIGPIPE, SIG_IGN, {.sa_flags = 0}},
    {SIGXFSZ, SIG_IGN, {.sa_flags = 0}},
};
enum { SIGNALS = sizeof signals / sizeof *signals };

void stop_catch(void)
{
    atomic_store(&requested, false);
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction action = {.sa_handler = signals[i].handler,
                                   .sa_flags = SA_RESTART | (int)SA_RESETHAND};
        sigaction(signals[i].number, NULL, &signals[i].earlier);
        if (signals[i].earlier.sa_handler != SIG_IGN)
            sigaction(signals[i].number, &action, NULL);
    }
}

void stop_release(void)
{
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i].number, &signals[i].earlier, NULL);
}

bool stop_requested(void)
{
    return atomic_load_explicit(&requested, memory_order_relaxed);
}
