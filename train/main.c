/*
 * main.c - train, the trainer: finds the command, prints the error and turns it into the exit code.
 * Without a command's name it trains. Nothing else in train prints an error or exits.
 *
 * To add a command: a function `int NAME(int argc, char **argv)` that parses its own options
 * (argv[0] is the command's name) and returns 0 or a negative err code, and one row in the table
 * below.
 */
#include <stdio.h>
#include <string.h>

#include "common/bus.h"
#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/json_memory.h"
#include "common/stop.h"
#include "train/backend.h"
#include "train/config.h"
#include "train/doctor.h"
#include "train/eval.h"
#include "train/export.h"
#include "train/plan.h"
#include "train/predict.h"
#include "train/settings.h"
#include "train/trainer.h"
#include "version.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const struct opts_command *options;
    const char *summary;
};

/* Ends with a row without a name. */
static const struct command commands[] = {
    {"eval",    eval_main,    &eval_command,
     "the accuracy of weights (a checkpoint, torchvision's file) on a data set"                },
    {"predict", predict_main, &predict_command, "the likeliest classes of picture files"       },
    {"export",  export_main,  &export_command,
     "weights for other programs: .pth, .safetensors, .onnx"                                   },
    {"plan",    plan_run,     &plan_command,    "the memory that training takes, on any device"},
    {"doctor",  doctor_main,  &doctor_command,
     "what this machine and this build can do, and what is missing"                            },
    {NULL,      NULL,         NULL,             NULL                                           },
};

static void print_version(void)
{
    printf("train %s (%s)\nbackends:", TOOL_VERSION, TOOL_REVISION);
    for (size_t i = 0; backends[i]; i++)
        printf(" %s", backends[i]->name);
    printf("\n%s\n", decode_libraries());
}

static void print_help(void)
{
    opts_help(&settings_command);
    for (const struct command *c = commands; c->name; c++) {
        if (c == commands)
            printf("\nOther commands (train COMMAND --help):\n");
        printf("  %-10s %s\n", c->name, c->summary);
    }
}

/* The manual page train(1); made by the program when it is built. */
static void print_manual(void)
{
    printf(".TH TRAIN 1 \"\" \"train %s\"\n"
           ".SH NAME\ntrain \\- trains ResNets on data sets of prep(1)\n"
           ".SH SYNOPSIS\n\\fBtrain\\fR \\-\\-db \\fItrain.lmdb\\fR \\-\\-val \\fIval.lmdb\\fR "
           "[\\fIOPTIONS\\fR]\n.br\n\\fBtrain\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...\n.P\n"
           "\\fB\\-\\-help\\fR of the program and of each command says the same as this page; "
           "\\fB\\-\\-version\\fR names the version, the devices and the libraries.\n"
           ".SH COMMANDS\n",
           TOOL_VERSION);
    opts_manual(&settings_command);
    for (const struct command *c = commands; c->name; c++)
        opts_manual(c->options);
    printf(
        ".SH FILES\n"
        ".TP\n\\fIcheckpoints/NAME/\\fR\nthe run's checkpoints and models, files of PyTorch's "
        "kind\n"
        ".TP\n\\fIruns/NAME/\\fR\nmetrics.jsonl, TensorBoard's files, and settings.json, which "
        "\\-\\-config takes\n"
        ".SH EXIT STATUS\n0 done, 1 a fault of train, 2 command line or settings, 3 bad input, 4 "
        "input/output or space, 5 memory, 6 another run holds it, 7 device, 8 does not fit "
        "together, 9 the loss is not finite, 75 stopped: the same command goes on.\n"
        ".SH SEE ALSO\nprep(1)\n");
}

/* Settings from the command line, and from --config where the command line says nothing. */
static int train(int argc, char **argv)
{
    struct settings settings;
    struct opts_result result;
    struct mem_arena texts = {0};
    bool given[SETTINGS_ROW_LIMIT] = {false};
    char name[64];
    int rc = opts_parse(&settings_command, argc, argv, &settings, given, &result);
    if (rc)
        return rc;
    if (result.help) {
        print_help();
        return 0;
    }
    if (settings.config)
        rc = config_read(settings.config, settings_command.rows, &settings, given, &texts);
    if (!rc && !(rc = settings_complete(&settings, name))) {
        stop_catch();
        rc = trainer_run(&settings);
    }
    mem_arena_release(&texts);
    return rc;
}

static int run(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        print_version();
        return 0;
    }
    if (argc == 2 && !strcmp(argv[1], "--manual")) {
        print_manual();
        return 0;
    }
    for (const struct command *c = commands; argc > 1 && c->name; c++)
        if (!strcmp(argv[1], c->name))
            return c->run(argc - 1, argv + 1);
    return train(argc, argv);
}

int main(int argc, char **argv)
{
    int rc = files_open_standard();
    bus_catch("train");
    json_memory_catch("train");
    if (!rc)
        rc = run(argc, argv);
    /* A result that could not be written (a full disk behind a redirection) is not a success. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && !rc)
        rc = err_errno("standard output: the result could not be written");
    if (rc == -ERR_STOPPED)
        fprintf(stderr, "train: %s\n", err_text());
    else if (rc)
        fprintf(stderr, "train: error: %s\n", err_text());
    return err_exit_code(rc);
}
