/*
 * main.c - prep, the offline preprocessor: from the raw tree to a data set. Each command is one
 * function of the library; this file finds it by its name, prints the error and turns it into the
 * exit code. Nothing else in prep prints an error or exits.
 *
 * To add a command: a function `int NAME(int argc, char **argv)` that parses its own options
 * (argv[0] is the command's name) and returns 0 or a negative err code, and one row in the table
 * below.
 */
#include <stdio.h>
#include <string.h>

#include "common/bus.h"
#include "common/err.h"
#include "common/files.h"
#include "common/json_memory.h"
#include "prep/inspect.h"
#include "prep/pack.h"
#include "prep/sample.h"
#include "prep/sort_val.h"
#include "version.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const struct opts_command *options;
    const char *summary;
};

/* In the order of the work; ends with a row without a name. */
static const struct command commands[] = {
    {"sample",   sample_main,    &sample_command,
     "a small drawn data set in the shape of ImageNet, to try everything"                         },
    {"sort-val", sort_val_main,  &sort_val_command,
     "the flat validation pictures into class folders, by the devkit"                             },
    {"pack",     pack_main,      &pack_command,
     "a folder of class folders into a data set, which train reads"                               },
    {"info",     inspect_info,   &inspect_info_command,   "what a data set holds"                 },
    {"verify",   inspect_verify, &inspect_verify_command,
     "every record of a data set against its checksum"                                            },
    {"show",     inspect_show,   &inspect_show_command,   "one record of a data set as a PNG file"},
    {NULL,       NULL,           NULL,                    NULL                                    },
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: prep COMMAND [OPTIONS] ...\n"
                 "\n"
                 "Prepares ImageNet (ILSVRC 2012) or any folder of class folders for train.\n"
                 "\n"
                 "Commands:\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->summary);
    fprintf(
        out,
        "\n"
        "prep COMMAND --help tells a command's arguments and options; prep --version the version.\n"
        "Exit codes: 0 done, 1 a fault of prep, 2 command line, 3 bad input, 4 input/output or\n"
        "space, 5 memory, 6 another run is at work, 8 does not fit together, 75 stopped: run "
        "again.\n");
}

/* The manual page prep(1); made by the program when it is built. */
static void print_manual(void)
{
    printf(".TH PREP 1 \"\" \"prep %s\"\n"
           ".SH NAME\nprep \\- prepares ImageNet or any folder of class folders for train(1)\n"
           ".SH SYNOPSIS\n\\fBprep\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...\n.P\n"
           "\\fB\\-\\-help\\fR of the program and of each command says the same as this page; "
           "\\fB\\-\\-version\\fR names the version.\n"
           ".SH COMMANDS\n",
           TOOL_VERSION);
    for (const struct command *c = commands; c->name; c++)
        opts_manual(c->options);
    printf(".SH EXIT STATUS\n0 done, 1 a fault of prep, 2 command line, 3 bad input, 4 "
           "input/output or "
           "space, 5 memory, 6 another run is at work, 8 does not fit together, 75 stopped: run "
           "again.\n.SH SEE ALSO\ntrain(1)\n");
}

static const struct command *find_command(const char *name)
{
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return err_set(ERR_USAGE, "a command is missing");
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("prep %s (%s)\n", TOOL_VERSION, TOOL_REVISION);
        return 0;
    }
    if (strcmp(argv[1], "--manual") == 0) {
        print_manual();
        return 0;
    }
    const struct command *command = find_command(argv[1]);
    if (!command) {
        char name[64];
        return err_set(ERR_USAGE, "there is no command \"%s\"; prep --help lists them",
                       err_quote(name, sizeof name, argv[1]));
    }
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    int rc = files_open_standard();
    bus_catch("prep");
    json_memory_catch("prep");
    if (!rc)
        rc = run(argc, argv);
    /* A result that could not be written (a full disk behind a redirection) is not a success. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && !rc)
        rc = err_errno("standard output: the result could not be written");
    if (rc)
        fprintf(stderr, "prep: error: %s\n", err_text());
    return err_exit_code(rc);
}
