#include "common/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char text[ERR_TEXT_SIZE];

int err_set(enum err_kind kind, const char *format, ...)
{
    /* The new text may quote the old one, so it is made beside it. */
    char made[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(made, sizeof made, format, arguments);
    va_end(arguments);
    memcpy(text, made, sizeof text);
    return -(int)kind;
}

int err_errno(const char *format, ...)
{
    int number = errno;
    char made[ERR_TEXT_SIZE], words[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(made, sizeof made, format, arguments);
    va_end(arguments);
    const char *reason = strerror_r(number, words, sizeof words);
    return err_set(number == ENOMEM ? ERR_MEMORY : ERR_IO, "%s: %s", made, reason);
}

int err_add(int rc, const char *format, ...)
{
    char made[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(made, sizeof made, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof made)
        snprintf(made + length, sizeof made - (size_t)length, ": %s", text);
    memcpy(text, made, sizeof text);
    return rc;
}

const char *err_text(void)
{
    return text;
}

void err_take(int rc, struct err *out)
{
    out->kind = (enum err_kind) - rc;
    memcpy(out->text, text, sizeof text);
}

int err_raise(const struct err *from)
{
    if (from->kind == ERR_NONE)
        return 0;
    memcpy(text, from->text, sizeof text);
    return -(int)from->kind;
}

int err_exit_code(int rc)
{
    return -rc;
}

char *err_quote(char *out, unsigned long size, const char *name)
{
    unsigned long used = 0;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        bool plain = *c >= 0x20 && *c < 0x7f && *c != '\\';
        unsigned long step = plain ? 1 : 4;
        if (used + step + 1 > size)
            break;
        if (plain)
            out[used] = (char)*c;
        else
            snprintf(out + used, 5, "\\x%02x", *c);
        used += step;
    }
    if (size)
        out[used] = 0;
    return out;
}
