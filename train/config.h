/*
 * config.h - settings from a JSON file: an object whose keys are the options' names (hyphens or
 * underscores), or a run's settings.json, whose "settings" are taken. data-spec/40-metrics.md, 2.
 */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include <stdbool.h>

#include "common/mem.h"
#include "common/opts.h"

#define CONFIG_LIMIT (1u << 20) /* bytes */

/* Set the fields of SETTINGS that PATH names; rows that are marked in GIVEN stay as they are. Texts
 * live in TEXTS. ERR_USAGE names file, line or key: not JSON, an unknown key (with the nearest
 * name) or one that stands twice, a value that the option would refuse. ERR_INPUT, ERR_IO: not
 * readable. */
int config_read(const char *path, const struct opts_row *rows, void *settings, const bool *given,
                struct mem_arena *texts);

#endif
