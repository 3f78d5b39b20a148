#include "common/json_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <jansson.h>

#include "common/err.h"

/* jansson's functions for memory have no context. */
static const char *program_name;

static struct iovec piece(const char *text)
{
    return (struct iovec){(void *)text, strlen(text)};
}

static void *take(size_t size)
{
    void *block = malloc(size);
    if (block)
        return block;
    const struct iovec line[] = {
        piece(program_name),
        piece(": error: no memory for a few bytes of JSON; make room, then run the same command\n"),
    };
    if (writev(STDERR_FILENO, line, sizeof line / sizeof *line) < 0)
        _exit(ERR_MEMORY); /* nobody listens: the exit code tells it */
    _exit(ERR_MEMORY);
}

void json_memory_catch(const char *program)
{
    program_name = program;
    json_set_alloc_funcs(take, free);
}
