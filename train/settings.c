#include "train/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/work.h"
#include "train/checkpoint.h"
#include "train/model.h"

#define AT(field) offsetof(struct settings, field)
#define DATA "Data"
#define NETWORK "Network"
#define OPTIMISATION "Optimisation"
#define DEVICE "Device"
#define RUN "Run"

/* To add an option: a field in struct settings and a row here. Does it shape the numbers? Then also
 * its name in `shaping` below. */
static const struct opts_row rows[] = {
    {"db",               "FOLDER",                   OPTS_TEXT,   AT(db),               NULL,        0,  0,      NULL,                      DATA,
     "training data set, made by prep pack; required"                                                                                                                                        },
    {"val",              "FOLDER",                   OPTS_TEXT,   AT(val),              NULL,        0,  0,      NULL,                      DATA,
     "validation data set; without it nothing is validated"                                                                                                                                  },
    {"image-size",       "N",                        OPTS_INT,    AT(image_size),       "224",       32, 1024,   NULL,                      DATA,
     "pixels of a side of what the network sees"                                                                                                                                             },
    {"val-resize",       "N",                        OPTS_INT,    AT(val_resize),       "0",         0,  2048,   NULL,                      DATA,
     "validation: shorter side before the centre crop; 0 is image-size x 256/224"                                                                                                            },
    {"workers",          "N",                        OPTS_INT,    AT(workers),          "4",         1,  256,    NULL,                      DATA,
     "threads that read, decode and augment; the numbers do not depend on it"                                                                                                                },
    {"shuffle",          NULL,                       OPTS_CHOICE, AT(shuffle),          "full",      0,  0,      "full|shards",             DATA,
     "full: any record at any time; shards: windows of some shards, for slow disks"                                                                                                          },
    {"arch",             NULL,                       OPTS_CHOICE, AT(arch),             "resnet152", 0,  0,
     "resnet18|resnet34|resnet50|resnet101|resnet152",                                                                                      NETWORK,      "the network"                      },
    {"zero-gamma",       NULL,                       OPTS_FLAG,   AT(zero_gamma),       "no",        0,  0,      NULL,                      NETWORK,
     "begin with 0 in the last normalisation of each block"                                                                                                                                  },
    {"epochs",           "N",                        OPTS_INT,    AT(epochs),           "100",       1,  100000, NULL,                      OPTIMISATION,
     "passes over the training data"                                                                                                                                                         },
    {"batch-size",       "N",                        OPTS_INT,    AT(batch_size),       "16",        1,  8192,   NULL,                      OPTIMISATION,
     "pictures a step takes at once"                                                                                                                                                         },
    {"accumulate",       "N",                        OPTS_INT,    AT(accumulate),       "1",         1,  1024,   NULL,                      OPTIMISATION,
     "batches whose gradients are averaged into one update"                                                                                                                                  },
    {"max-steps",        "N",                        OPTS_INT,    AT(max_steps),        "0",         0,  1e12,   NULL,                      OPTIMISATION,
     "stop after N updates in all, validate and save; 0 is no limit"                                                                                                                         },
    {"lr",               "X",                        OPTS_REAL,   AT(lr),               "0.1",       0,  1000,   NULL,                      OPTIMISATION,
     "learning rate at its highest"                                                                                                                                                          },
    {"momentum",         "X",                        OPTS_REAL,   AT(momentum),         "0.9",       0,  1,      NULL,                      OPTIMISATION, "momentum of SGD"                  },
    {"weight-decay",     "X",                        OPTS_REAL,   AT(weight_decay),     "0.0001",    0,  1,      NULL,                      OPTIMISATION,
     "L2 penalty of SGD"                                                                                                                                                                     },
    {"decay-norm",       NULL,                       OPTS_FLAG,   AT(decay_norm),       "yes",       0,  0,      NULL,                      OPTIMISATION,
     "no weight decay for normalisations and biases"                                                                                                                                         },
    {"label-smoothing",  "X",                        OPTS_REAL,   AT(label_smoothing),  "0",         0,  0.999,  NULL,                      OPTIMISATION,
     "share of the target that is spread over all classes"                                                                                                                                   },
    {"schedule",         NULL,                       OPTS_CHOICE, AT(schedule),         "step",      0,  0,      "step|cosine",             OPTIMISATION,
     "step: lr x lr-gamma every lr-step-size epochs; cosine: to 0 at the end"                                                                                                                },
    {"schedule-unit",    NULL,                       OPTS_CHOICE, AT(schedule_unit),    "epoch",     0,  0,      "epoch|step",
     OPTIMISATION,                                                                                                                                        "how often cosine changes the rate"},
    {"lr-step-size",     "N",                        OPTS_INT,    AT(lr_step_size),     "30",        1,  100000, NULL,                      OPTIMISATION,
     "epochs between two falls of the rate"                                                                                                                                                  },
    {"lr-gamma",         "X",                        OPTS_REAL,   AT(lr_gamma),         "0.1",       0,  1,      NULL,                      OPTIMISATION,
     "what the rate is multiplied by then"                                                                                                                                                   },
    {"warmup-epochs",    "N",                        OPTS_INT,    AT(warmup_epochs),    "0",         0,  1000,   NULL,                      OPTIMISATION,
     "epochs in which the rate grows from near 0; the schedule begins after them"                                                                                                            },
    {"seed",             "N",                        OPTS_INT,    AT(seed),             "1",         0,  9e18,   NULL,                      OPTIMISATION,
     "first weights, order, crops and flips are a function of it"                                                                                                                            },
    {"device",           "auto|cuda|cuda:N|cpu|ref", OPTS_TEXT,   AT(device),           "auto",      0,  0,      NULL,                      DEVICE,
     "cuda: a GPU (the first, or number N); cpu: oneDNN; ref: plain C, slow; auto: the best there "
     "is"                                                                                                                                                                                    },
    {"precision",        NULL,                       OPTS_CHOICE, AT(precision),        "auto",      0,  0,      "auto|f32|bf16|fp16|tf32", DEVICE,
     "arithmetic of the convolutions; auto: bf16 on a GPU, f32 on a CPU; fp16 scales the loss; a "
     "CPU has f32, some bf16"                                                                                                                                                                },
    {"deterministic",    NULL,                       OPTS_FLAG,   AT(deterministic),    "no",        0,  0,      NULL,                      DEVICE,
     "only what gives the same bits each time (a CPU always does)"                                                                                                                           },
    {"threads",          "N",                        OPTS_INT,    AT(threads),          "0",         0,  1024,   NULL,                      DEVICE,
     "computing threads; 0 is all cores; another number rounds differently"                                                                                                                  },
    {"config",           "FILE",                     OPTS_TEXT,   AT(config),           NULL,        0,  0,      NULL,                      RUN,
     "settings from a JSON file with the options' names as keys, also a run's settings.json; the "
     "command line wins"                                                                                                                                                                     },
    {"name",             "NAME",                     OPTS_TEXT,   AT(name),             NULL,        0,  0,      NULL,                      RUN,
     "of the run and its folders (default <arch>_sgd1_local)"                                                                                                                                },
    {"output",           "FOLDER",                   OPTS_TEXT,   AT(output),           ".",         0,  0,      NULL,                      RUN,
     "where checkpoints/NAME and runs/NAME are made"                                                                                                                                         },
    {"resume",           "auto|no|FILE",             OPTS_TEXT,   AT(resume),           "auto",      0,  0,      NULL,                      RUN,
     "auto: go on where the run of this name stopped; no: move it aside and begin anew; FILE: "
     "go on from that checkpoint, of train or of PyTorch"                                                                                                                                    },
    {"init",             "FILE",                     OPTS_TEXT,   AT(init),             NULL,        0,  0,      NULL,                      RUN,
     "begin a new run from the weights in FILE (.pth or .safetensors, also torchvision's); a last "
     "layer of other classes stays at its initial values"                                                                                                                                    },
    {"keep",             "all|N",                    OPTS_TEXT,   AT(keep),             "5",         0,  0,      NULL,                      RUN,
     "how many model_<epoch>.pth files stay, beside the best"                                                                                                                                },
    {"checkpoint-steps", "N",                        OPTS_INT,    AT(checkpoint_steps), "0",         0,  1e12,   NULL,                      RUN,
     "save every N updates too, not only after each epoch; 0 is never"                                                                                                                       },
    {"first-validation", NULL,                       OPTS_FLAG,   AT(first_validation), "yes",       0,  0,      NULL,                      RUN,
     "do not validate before the first step"                                                                                                                                                 },
    {"log-every",        "N",                        OPTS_INT,    AT(log_every),        "50",        1,  1e9,    NULL,                      RUN,
     "updates between two training lines in metrics.jsonl (the first 20 all have one)"                                                                                                       },
    {"profile",          NULL,                       OPTS_FLAG,   AT(profile),          "no",        0,  0,      NULL,                      RUN,
     "print the step's time per kind of op at the end"                                                                                                                                       },
    OPTS_END,
};

_Static_assert(sizeof rows / sizeof *rows <= SETTINGS_ROW_LIMIT, "too many options");

const struct opts_command settings_command = {
    "train",
    "--db train.lmdb --val val.lmdb",
    "Trains a ResNet on packed data sets. The same command goes on where it was stopped. README.md "
    "explains "
    "what it prints and writes.",
    rows,
    0,
    0,
};

/* The rows that shape the numbers. `epochs` shapes them only through the cosine. */
static const struct {
    const char *name;
    bool inexact;
} shaping[] = {
    {"arch",            false},
    {"image-size",      false},
    {"zero-gamma",      false},
    {"epochs",          false},
    {"batch-size",      false},
    {"accumulate",      false},
    {"lr",              false},
    {"momentum",        false},
    {"weight-decay",    false},
    {"decay-norm",      false},
    {"label-smoothing", false},
    {"schedule",        false},
    {"schedule-unit",   false},
    {"lr-step-size",    false},
    {"lr-gamma",        false},
    {"warmup-epochs",   false},
    {"seed",            false},
    {"shuffle",         false},
    {"device",          true },
    {"precision",       true },
    {"threads",         true },
    {"deterministic",   true },
};

const char *settings_arch(const struct settings *settings)
{
    return model_archs[settings->arch];
}

int settings_keep(const struct settings *settings)
{
    return strcmp(settings->keep, "all") ? atoi(settings->keep) : CHECKPOINT_KEEP_ALL;
}

static int check_keep(const char *keep)
{
    char *end;
    long value = strtol(keep, &end, 10);
    if (strcmp(keep, "all") != 0 && (*end || end == keep || value < 1 || value > 1000000))
        return err_set(ERR_USAGE, "--keep: \"%.40s\" is not \"all\" or a number from 1 up", keep);
    return 0;
}

static int check_name(const char *name)
{
    size_t length = strlen(name);
    if (!length || length > 200 || strchr(name, '/') || name[0] == '.')
        return err_set(ERR_USAGE, "--name: \"%.40s\" is not a folder's name (no /, no leading dot)",
                       name);
    return 0;
}

int settings_complete(struct settings *settings, char name_storage[64])
{
    int rc;
    if (!settings->db)
        return err_set(
            ERR_USAGE,
            "--db is missing: the data set to train on, made by `prep pack`; see train --help");
    if (!settings->val_resize)
        settings->val_resize = settings->image_size * 256 / 224;
    if (settings->val_resize < settings->image_size)
        return err_set(ERR_USAGE, "--val-resize %lld is less than --image-size %lld",
                       (long long)settings->val_resize, (long long)settings->image_size);
    if (settings->warmup_epochs >= settings->epochs && settings->warmup_epochs > 0)
        return err_set(ERR_USAGE,
                       "--warmup-epochs %lld leaves no epoch of the %lld for the schedule",
                       (long long)settings->warmup_epochs, (long long)settings->epochs);
    if (!settings->threads)
        settings->threads = work_cores();
    if (!settings->name) {
        snprintf(name_storage, 64, "resnet_%s_sgd1_local",
                 settings_arch(settings) + strlen("resnet"));
        settings->name = name_storage;
    }
    if ((rc = check_name(settings->name)) || (rc = check_keep(settings->keep)))
        return rc;
    return 0;
}

size_t settings_pairs(const struct settings *settings, const char *device, const char *precision,
                      struct settings_pair out[SETTINGS_PAIR_LIMIT])
{
    size_t count = 0;
    _Static_assert(sizeof shaping / sizeof *shaping <= SETTINGS_PAIR_LIMIT,
                   "too many shaping settings");
    for (size_t i = 0; i < sizeof shaping / sizeof *shaping; i++) {
        struct settings_pair *pair = &out[count];
        if (!strcmp(shaping[i].name, "epochs") && settings->schedule != SCHEDULE_COSINE)
            continue;
        /* A CPU computes the same bits with it and without. */
        if (!strcmp(shaping[i].name, "deterministic") && strcmp(device, "cuda") != 0)
            continue;
        pair->name = shaping[i].name;
        pair->inexact = shaping[i].inexact;
        opts_value(opts_find(rows, pair->name), settings, pair->text, sizeof pair->text);
        if (!strcmp(pair->name, "device"))
            snprintf(pair->text, sizeof pair->text, "%s", device);
        if (!strcmp(pair->name, "precision"))
            snprintf(pair->text, sizeof pair->text, "%s", precision);
        count++;
    }
    return count;
}
