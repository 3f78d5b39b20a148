/* train - trains a ResNet on packed data sets. Parses the settings, runs, prints the error, exits
 * by its kind. */
#include <stdio.h>
#include <string.h>

#include "common/decode.h"
#include "common/err.h"
#include "train/backend.h"
#include "train/settings.h"
#include "common/stop.h"
#include "train/trainer.h"
#include "version.h"

static void print_version(void)
{
    printf("train %s (%s)\nbackends:", TOOL_VERSION, TOOL_REVISION);
    for (size_t i = 0; backends[i]; i++)
        printf(" %s", backends[i]->name);
    printf("\n%s\n", decode_libraries());
}

static int run(int argc, char **argv)
{
    struct settings settings;
    struct opts_result result;
    char name[64];
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        print_version();
        return 0;
    }
    int rc = opts_parse(&settings_command, argc, argv, &settings, NULL, &result);
    if (rc)
        return rc;
    if (result.help) {
        opts_help(&settings_command);
        return 0;
    }
    if ((rc = settings_complete(&settings, name)))
        return rc;
    stop_catch();
    return trainer_run(&settings);
}

int main(int argc, char **argv)
{
    int rc = run(argc, argv);
    if (rc == -ERR_STOPPED)
        fprintf(stderr, "train: %s\n", err_text());
    else if (rc)
        fprintf(stderr, "train: error: %s\n", err_text());
    return err_exit_code(rc);
}
