#include "train/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/opts.h"
#include "train/net.h"
#include "train/roofline.h"

struct plan_settings {
    int arch; /* position in model_archs */
    int64_t classes, batch_size, image_size, accumulate, threads;
    const char *device;
    int precision;
    bool json, roofline;
};

#define AT(field) offsetof(struct plan_settings, field)

static const struct opts_row rows[] = {
    {.name = "arch",
     .type = OPTS_CHOICE,
     .offset = AT(arch),
     .fallback = "resnet152",
     .choices = "resnet18|resnet34|resnet50|resnet101|resnet152",
     .group = "Network",
     .help = "the network"},
    {.name = "classes",
     .value = "N",
     .type = OPTS_INT,
     .offset = AT(classes),
     .fallback = "1000",
     .minimum = 1,
     .maximum = MODEL_CLASSES_MOST,
     .group = "Network",
     .help = "of the training data set"},
    {.name = "batch-size",
     .value = "N",
     .type = OPTS_INT,
     .offset = AT(batch_size),
     .fallback = "16",
     .minimum = 1,
     .maximum = 8192,
     .group = "Network",
     .help = "pictures a step takes at once"},
    {.name = "image-size",
     .value = "N",
     .type = OPTS_INT,
     .offset = AT(image_size),
     .fallback = "224",
     .minimum = 32,
     .maximum = 1024,
     .group = "Network",
     .help = "pixels of a side of what the network sees"},
    {.name = "accumulate",
     .value = "N",
     .type = OPTS_INT,
     .offset = AT(accumulate),
     .fallback = "1",
     .minimum = 1,
     .maximum = 1024,
     .group = "Network",
     .help = "batches whose gradients are averaged into one update"},
    {.name = "device",
     .value = "NAME",
     .type = OPTS_TEXT,
     .offset = AT(device),
     .fallback = "auto",
     .group = "Device",
     .help =
         "as train's --device, or a GPU that is not here: cuda:sm_90, h100, a100, rtx4090, b200"},
    {.name = "precision",
     .type = OPTS_CHOICE,
     .offset = AT(precision),
     .fallback = "auto",
     .choices = "auto|f32|bf16|fp16|tf32",
     .group = "Device",
     .help = "as train's --precision"},
    {.name = "threads",
     .value = "N",
     .type = OPTS_INT,
     .offset = AT(threads),
     .fallback = "0",
     .minimum = 0,
     .maximum = 1024,
     .group = "Device",
     .help = "computing threads of a CPU; 0 is all cores"},
    {.name = "json",
     .type = OPTS_FLAG,
     .offset = AT(json),
     .fallback = "no",
     .group = "Output",
     .help = "print JSON"                                                                          },
    {.name = "roofline",
     .type = OPTS_FLAG,
     .offset = AT(roofline),
     .fallback = "no",
     .group = "Output",
     .help = "instead: what the GPU's memory and arithmetic allow each op and a step, on paper"                                                                            },
    OPTS_END,
};

const struct opts_command plan_command = {
    .program = "train plan",
    .arguments = "",
    .summary =
        "Prints the memory that training takes on a device, before and without taking it. The GPU "
        "need not be there.",
    .rows = rows,
};

/* Is NAME a device as train takes it (a name, or cuda and a number), and not one of the table of
 * GPUs? */
static bool is_here(const char *name)
{
    const char *const *known = (const char *const[]){"auto", "cuda", "cpu", "ref", NULL};

    if (!strncmp(name, "cuda:", 5))
        return name[5 + strspn(name + 5, "0123456789")] == 0;
    while (*known && strcmp(*known, name) != 0)
        known++;
    return *known;
}

static int open_device(const struct plan_settings *settings, const struct backend **backend,
                       struct device **device)
{
    const char *name = settings->device;
    struct device_settings wish = {.threads = (int)settings->threads,
                                   .precision = (enum precision)settings->precision};

    if (is_here(name))
        return backend_open(name, &wish, backend, device);
    wish.absent = strncmp(name, "cuda:", 5) ? name : name + 5;
    if (!(*backend = backend_find("cuda")))
        return err_add(-ERR_USAGE, "--device %s", name);
    return (*backend)->open(device, &wish);
}

/* ---- output ---- */

struct part {
    const char *name, *key;
    uint64_t bytes;
};
enum { PARTS = 9 };

static void find_parts(const struct net_plan *p, struct part out[PARTS])
{
    const struct part parts[PARTS] = {
        {"weights and statistics",             "values_bytes",      p->values     },
        {"weights in 16 bits",                 "copies_bytes",      p->own.copies },
        {"gradients",                          "gradients_bytes",   p->gradients  },
        {"momentum",                           "momenta_bytes",     p->momenta    },
        {"sums of --accumulate",               "accumulated_bytes", p->accumulated},
        {"weights in other layouts",           "packed_bytes",      p->packed     },
        {"activations, their gradients, work", "arena_bytes",       p->arena      },
        {"batches, two in turn",               "staging_bytes",     p->own.staging},
        {"total",                              "total_bytes",       p->total      },
    };
    memcpy(out, parts, sizeof parts);
}

static void print_text(const char *device, const struct net_plan *p)
{
    struct part parts[PARTS];
    char text[32];

    find_parts(p, parts);
    printf("%s\n", device);
    for (int i = 0; i < PARTS; i++)
        if (parts[i].bytes)
            printf("  %-34s %10s\n", parts[i].name, log_bytes(text, (double)parts[i].bytes));
    printf("fullest moment: %s of activations", log_bytes(text, (double)p->activations));
    printf(", %s of their gradients", log_bytes(text, (double)p->activation_gradients));
    printf(", %s kept for the backward pass", log_bytes(text, (double)p->saved));
    printf(", %s of workspace\n", log_bytes(text, (double)p->workspace));
    if (p->own.pinned)
        printf("and %s of pinned host memory, beside batches\n",
               log_bytes(text, (double)p->own.pinned));
    if (p->own.capped)
        printf("some workspaces are their cap: cuDNN could not be asked for all of them here\n");
}

static int print_json(const struct plan_settings *settings, const char *device,
                      const char *precision, const struct net_plan *p)
{
    struct part parts[PARTS];
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:s, s:s, s:b, s:I, s:I}", "arch", model_archs[settings->arch],
        "classes", (json_int_t)settings->classes, "batch_size", (json_int_t)settings->batch_size,
        "image_size", (json_int_t)settings->image_size, "device", device, "precision", precision,
        "workspaces_are_caps", p->own.capped, "workspace_bytes", (json_int_t)p->workspace,
        "pinned_host_bytes", (json_int_t)p->own.pinned);

    find_parts(p, parts);
    for (int i = 0; json && i < PARTS; i++)
        if (json_object_set_new(json, parts[i].key, json_integer((json_int_t)parts[i].bytes))) {
            json_decref(json);
            json = NULL;
        }
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (!text)
        return err_set(ERR_MEMORY, "the plan as JSON");
    printf("%s\n", text);
    free(text);
    return 0;
}

static int run_roofline(const struct plan_settings *settings, const struct model_settings *wish)
{
    const char *name = settings->device;
    const struct device_row *row = devices_find(strncmp(name, "cuda:", 5) ? name : name + 5);
    struct model *model;
    if (!row)
        return err_add(-ERR_USAGE, "--roofline --device %s", name);
    int rc = model_open(&model, wish);
    if (rc)
        return rc;
    roofline_print(model, row);
    model_close(model);
    return 0;
}

static int run_plan(const struct plan_settings *settings, const struct model_settings *wish)
{
    const struct net_settings net_wish = {
        .training = true, .accumulate = settings->accumulate > 1, .plan_only = true};
    const struct backend *backend = NULL;
    struct device *device = NULL;
    struct model *model = NULL;
    struct net *net = NULL;
    int rc = open_device(settings, &backend, &device);

    if (rc || (rc = net_open_model(&net, &model, backend, device, wish, &net_wish)))
        goto out;
    const char *precision =
        precision_names[settings->precision ? (enum precision)settings->precision
                                            : backend->precision];
    if (settings->json)
        rc = print_json(settings, backend->describe(device), precision, net_memory(net));
    else
        print_text(backend->describe(device), net_memory(net));
out:
    net_close(net);
    model_close(model);
    if (device)
        backend->close(device);
    return rc;
}

int plan_run(int argc, char **argv)
{
    struct plan_settings settings;
    struct opts_result result;
    int rc = opts_parse(&plan_command, argc, argv, &settings, NULL, &result);

    if (rc)
        return rc;
    if (result.help) {
        opts_help(&plan_command);
        return 0;
    }
    const struct model_settings wish = {
        .arch = model_archs[settings.arch],
        .classes = (int)settings.classes,
        .batch = (int)settings.batch_size,
        .image_size = (int)settings.image_size,
    };
    return settings.roofline ? run_roofline(&settings, &wish) : run_plan(&settings, &wish);
}
