/*
 * opts.h - options as rows of a table. From a row come the default, the parser, the range error,
 * --help, the line in the run record, and what other files make of it (settings file, man page,
 * completion).
 */
#ifndef COMMON_OPTS_H
#define COMMON_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opts_type {
    OPTS_FLAG,   /* bool; --name sets it, --no-name clears it; default "no" or "yes" */
    OPTS_INT,    /* int64_t */
    OPTS_REAL,   /* double */
    OPTS_SIZE,   /* uint64_t bytes: a number with B, KiB, MiB, GiB or TiB; a bare number is bytes */
    OPTS_TEXT,   /* const char *, borrowed from argv or the table; NULL when the default is NULL */
    OPTS_CHOICE, /* int: position in choices "ref|cpu|cuda" */
};

struct opts_row {
    const char *name;  /* "batch-size"; the option is --batch-size, the key in files batch_size */
    const char *value; /* how --help calls the value: "N", "FILE"; NULL for flags and choices */
    enum opts_type type;
    size_t offset;           /* of the field in the settings struct */
    const char *fallback;    /* the default, as it would be typed; NULL = none (text only) */
    double minimum, maximum; /* inclusive; for int, real and size */
    const char *choices;     /* for choices: "a|b|c" */
    const char *group;       /* heading in --help */
    const char *help;        /* one sentence without a full stop */
};

/* A table ends with a row whose name is NULL. */
#define OPTS_END                                                                                   \
    {                                                                                              \
        0                                                                                          \
    }

/* What a command takes beside options. */
struct opts_command {
    const char *program;   /* "prep pack" */
    const char *arguments; /* "SRC OUT.lmdb" */
    const char *summary;   /* what it does, one or two sentences */
    const struct opts_row *rows;
    int minimum_arguments, maximum_arguments;
};

struct opts_result {
    const char **arguments; /* the positional ones, borrowed from argv, in argv's storage */
    int argument_count;
    bool help; /* --help was given: nothing else was checked */
};

/* Set every field of *SETTINGS to its default. Aborts on a faulty table (opts_check finds those in
 * tests). */
void opts_defaults(const struct opts_row *rows, void *settings);

/* Parse argv[1..argc-1] (argv[0] is skipped) over defaults: `--name value`, `--name=value`, `--`
 * ends options; argv is reordered. ERR_USAGE names the option, what is wrong, the range or choices,
 * and for an unknown one the nearest name. The rows whose option was given are marked in GIVEN (one
 * bool per row), if not NULL. */
int opts_parse(const struct opts_command *command, int argc, char **argv, void *settings,
               bool *given, struct opts_result *result);

/* Set one field from text, as the parser would. */
int opts_set(const struct opts_row *row, void *settings, const char *text);
/* The row of that name, or NULL; NULL with ERR_USAGE set (naming the nearest) is not done here. */
const struct opts_row *opts_find(const struct opts_row *rows, const char *name);
/* The row whose name is nearest to NAME, a few letters away at most; NULL: none is. */
const struct opts_row *opts_nearest(const struct opts_row *rows, const char *name);
/* OUT = the field's value as it would be typed; "" for a NULL text. */
void opts_value(const struct opts_row *row, const void *settings, char *out, size_t size);

/* Print the help page to standard output. */
void opts_help(const struct opts_command *command);

/* Print the command's part of a manual page (man(7), roff) to standard output: what --help says. */
void opts_manual(const struct opts_command *command);

/* Check a table for mistakes: double names, defaults out of range, missing help. ERR_FAULT. */
int opts_check(const struct opts_row *rows);

#endif
