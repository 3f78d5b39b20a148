/*
 * sample.c - what is drawn where. Every picture is a function of (seed, train or val, its number),
 * so that the same settings give the same bytes, and an interrupted run is completed file by file.
 * sample.txt in DIR says the settings.
 */
#include "prep/sample.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/opts.h"
#include "common/rng.h"
#include "prep/draw.h"
#include "prep/meta_mat.h"
#include "prep/sample_jpeg.h"

/* What the epoch of a random sequence is used for here. */
enum { TRAIN = 0, VAL = 1, IDS = 2, VAL_ORDER = 3 };

enum { SIDE_LIMIT = 400, TEXT_SIZE = 64, GROUPS = 2 };

struct settings {
    int64_t classes, train_per_class, val_per_class, seed;
};

static const struct opts_row rows[] = {
    {.name = "classes",
     .value = "N",
     .type = OPTS_INT,
     .offset = offsetof(struct settings, classes),
     .fallback = "10",
     .minimum = 2,
     .maximum = DRAW_CLASS_LIMIT,
     .group = "Options",
     .help = "classes; the first ten differ in shape and in texture"         },
    {.name = "train-per-class",
     .value = "N",
     .type = OPTS_INT,
     .offset = offsetof(struct settings, train_per_class),
     .fallback = "100",
     .minimum = 1,
     .maximum = 60000,
     .group = "Options",
     .help = "training pictures of each class"                               },
    {.name = "val-per-class",
     .value = "N",
     .type = OPTS_INT,
     .offset = offsetof(struct settings, val_per_class),
     .fallback = "30",
     .minimum = 1,
     .maximum = 60000,
     .group = "Options",
     .help = "validation pictures of each class"                             },
    {.name = "seed",
     .value = "N",
     .type = OPTS_INT,
     .offset = offsetof(struct settings, seed),
     .fallback = "1",
     .minimum = 0,
     .maximum = 1e15,
     .group = "Options",
     .help = "another seed draws other pictures; the same one the same bytes"},
    OPTS_END,
};

const struct opts_command sample_command = {
    .program = "prep sample",
    .arguments = "DIR",
    .summary = "Draws a small data set in the shape of ILSVRC 2012, to try everything without a "
               "download: DIR/train/<wnid>/, DIR/val/ (flat) and DIR/devkit/. A class is a shape "
               "with a texture; place, size, turn, colours, background, and the kinds of JPEG "
               "vary. An interrupted run is completed by the same command.",
    .rows = rows,
    .minimum_arguments = 1,
    .maximum_arguments = 1,
};

struct sample {
    struct settings settings;
    const char *folder;
    uint32_t *ids; /* ILSVRC2012_ID of class i */
    uint32_t *val; /* class of validation picture i + 1 */
    uint32_t val_count;
    uint8_t *rgb;       /* the picture being drawn */
    int64_t made, kept; /* pictures */
    uint64_t bytes;
};

/* ---- names ---- */

/* In byte order as in number order; far from any real one. */
static void make_wnid(int number, char out[10])
{
    snprintf(out, 10, "n9%07d", 1000 + number * 37);
}

static int make_path(const struct sample *sample, char *out, const char *name)
{
    return files_join(out, sample->folder, name);
}

/* ---- the devkit ---- */

/* IDs in another order than the WNIDs', as in the official devkit: whoever takes one for the other
 * is found out. */
static int make_ids(struct sample *sample)
{
    uint32_t count = (uint32_t)sample->settings.classes;
    struct rng random;
    bool sorted = true;
    sample->ids = mem_array(count, sizeof *sample->ids, "class IDs");
    if (!sample->ids)
        return -ERR_MEMORY;
    rng_init(&random, (uint64_t)sample->settings.seed, RNG_SAMPLE, IDS, 0);
    rng_permutation(&random, sample->ids, count);
    for (uint32_t i = 0; i < count; i++)
        sorted &= sample->ids[i] == i;
    for (uint32_t i = 0; i < count; i++)
        sample->ids[i] = sorted ? count - i : sample->ids[i] + 1;
    return 0;
}

/* The same number of pictures of each class, in any order. */
static int make_val_order(struct sample *sample)
{
    struct rng random;
    sample->val_count = (uint32_t)(sample->settings.classes * sample->settings.val_per_class);
    sample->val = mem_array(sample->val_count, sizeof *sample->val, "validation order");
    if (!sample->val)
        return -ERR_MEMORY;
    rng_init(&random, (uint64_t)sample->settings.seed, RNG_SAMPLE, VAL_ORDER, 0);
    rng_permutation(&random, sample->val, sample->val_count);
    for (uint32_t i = 0; i < sample->val_count; i++)
        sample->val[i] %= (uint32_t)sample->settings.classes;
    return 0;
}

/* What the rows of meta.mat point to. */
struct synset_texts {
    char wnid[10], words[TEXT_SIZE], gloss[2 * TEXT_SIZE];
};

static void make_leaves(const struct sample *sample, struct meta_mat_synset *synsets,
                        struct synset_texts *texts)
{
    for (int i = 0; i < sample->settings.classes; i++) {
        struct synset_texts *text = texts + i;
        make_wnid(i, text->wnid);
        draw_words(i, text->words, sizeof text->words);
        snprintf(text->gloss, sizeof text->gloss, "drawn pictures that show a %s", text->words);
        synsets[sample->ids[i] - 1] = (struct meta_mat_synset){
            .id = sample->ids[i],
            .wnid = text->wnid,
            .words = text->words,
            .gloss = text->gloss,
            .num_train_images = (unsigned)sample->settings.train_per_class,
        };
    }
}

/* Inner nodes after the leaves: round shapes, shapes with corners, and all shapes above them.
 * CHILDREN has room for every leaf and group. */
static size_t make_nodes(const struct sample *sample, struct meta_mat_synset *synsets,
                         uint16_t *children)
{
    static const char *const words[GROUPS] = {"shape with corners", "round shape"};
    static const char *const wnids[GROUPS] = {"n90000002", "n90000003"};
    size_t leaves = (size_t)sample->settings.classes, count = leaves;
    uint16_t groups[GROUPS];
    size_t group_count = 0;
    for (int round = 0; round < GROUPS; round++) {
        uint16_t *first = children;
        for (int i = 0; i < sample->settings.classes; i++)
            if (draw_is_round(i) == round)
                *children++ = (uint16_t)sample->ids[i];
        if (children == first)
            continue;
        groups[group_count++] = (uint16_t)(count + 1);
        synsets[count] = (struct meta_mat_synset){.id = (unsigned)count + 1,
                                                  .wnid = wnids[round],
                                                  .words = words[round],
                                                  .gloss = "a group of drawn shapes",
                                                  .children = first,
                                                  .num_children = (size_t)(children - first),
                                                  .height = 1};
        count++;
    }
    memcpy(children, groups, group_count * sizeof *groups);
    synsets[count] = (struct meta_mat_synset){.id = (unsigned)count + 1,
                                              .wnid = "n90000001",
                                              .words = "shape, form",
                                              .gloss = "all drawn shapes",
                                              .children = children,
                                              .num_children = group_count,
                                              .height = 2};
    return count + 1;
}

static int write_meta(const struct sample *sample)
{
    char path[FILES_PATH_SIZE];
    size_t room = (size_t)sample->settings.classes + GROUPS + 1;
    struct meta_mat_synset *synsets = mem_array(room, sizeof *synsets, "synsets");
    struct synset_texts *texts = mem_array(room, sizeof *texts, "synsets");
    uint16_t *children = mem_array(room, sizeof *children, "synsets");
    int rc = -ERR_MEMORY;
    if (synsets && texts && children && !(rc = make_path(sample, path, "devkit/data/meta.mat"))) {
        make_leaves(sample, synsets, texts);
        rc = meta_mat_write(path, synsets, make_nodes(sample, synsets, children));
    }
    mem_free(synsets);
    mem_free(texts);
    mem_free(children);
    return rc;
}

/* Write TEXT's bytes whole. */
static int write_file(const char *path, const void *bytes, size_t size)
{
    struct files_writer *writer;
    int rc = files_writer_open(&writer, path);
    if (rc)
        return rc;
    if ((rc = files_write(writer, bytes, size))) {
        files_discard(writer);
        return rc;
    }
    return files_publish(writer);
}

static int write_answers(const struct sample *sample)
{
    enum { LINE = 8 };
    char path[FILES_PATH_SIZE];
    size_t size = 0, room = (size_t)sample->val_count * LINE;
    int rc = make_path(sample, path, "devkit/data/ILSVRC2012_validation_ground_truth.txt");
    char *text = mem_array(room, 1, "ground truth");
    if (!rc && !text)
        rc = -ERR_MEMORY;
    for (uint32_t i = 0; i < sample->val_count && !rc; i++)
        size += (size_t)snprintf(text + size, room - size, "%u\n", sample->ids[sample->val[i]]);
    if (!rc)
        rc = write_file(path, text, size);
    mem_free(text);
    return rc;
}

/* ---- pictures ---- */

/* Sides of 60 to 400 pixels, mostly 120 to 256, and proportions up to 2 to 1. */
static void choose_size(struct rng *random, int *width, int *height)
{
    uint64_t kind = rng_below(random, 12);
    int low = kind == 0   ? 60
              : kind < 10 ? 120
                          : 256,
        high = kind == 0   ? 119
               : kind < 10 ? 256
                           : 340;
    int shorter = low + (int)rng_below(random, (uint64_t)high - (uint64_t)low + 1);
    int percent = 100 + (int)rng_below(random, rng_below(random, 8) == 0 ? 101 : 41);
    int longer = shorter * percent / 100;
    longer = longer < SIDE_LIMIT ? longer : SIDE_LIMIT;
    bool upright = rng_below(random, 3) == 0;
    *width = upright ? shorter : longer;
    *height = upright ? longer : shorter;
}

/* INDEX is the picture's number in its class: the rare kinds come at fixed ones, so that small
 * samples have them. */
static struct sample_jpeg choose_jpeg(struct rng *random, uint64_t index)
{
    static const int across[] = {2, 2, 2, 2, 2, 2, 2, 1, 1, 1},
                     down[] = {2, 2, 2, 2, 2, 1, 1, 1, 1, 2};
    uint64_t sampling = rng_below(random, 10);
    struct sample_jpeg kind = {.quality = 72 + (int)rng_below(random, 24),
                               .across = across[sampling],
                               .down = down[sampling],
                               .progressive = rng_below(random, 5) == 0};
    if (index % 20 == 6)
        kind.colours = SAMPLE_JPEG_GRAY;
    if (index % 40 == 11)
        kind.colours = SAMPLE_JPEG_CMYK;
    if (index % 40 == 31)
        kind.colours = SAMPLE_JPEG_YCCK;
    return kind;
}

/* Draw and write one picture, unless an earlier run did. */
static int make_picture(struct sample *sample, const char *path, int split, uint64_t number,
                        int class, uint64_t index)
{
    struct rng random;
    enum files_type type;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int width, height, rc = files_type(path, &type, NULL);
    if (rc)
        return rc;
    if (type == FILES_REGULAR) {
        sample->kept++;
        return 0;
    }
    rng_init(&random, (uint64_t)sample->settings.seed, RNG_SAMPLE, (uint32_t)split, number);
    choose_size(&random, &width, &height);
    struct sample_jpeg kind = choose_jpeg(&random, index);
    draw_picture(&random, class, width, height, sample->rgb);
    rc = sample_jpeg_write(&kind, sample->rgb, width, height, &bytes, &size);
    if (!rc)
        rc = write_file(path, bytes, size);
    sample_jpeg_free(bytes);
    sample->made += !rc;
    sample->bytes += size;
    return rc;
}

static void show_progress(const struct sample *sample)
{
    const struct settings *s = &sample->settings;
    int64_t done = sample->made + sample->kept;
    int64_t all = s->classes * (s->train_per_class + s->val_per_class);
    if (log_progress_due(false))
        log_progress("sample: %lld of %lld pictures", (long long)done, (long long)all);
}

static int make_train(struct sample *sample)
{
    char wnid[10], name[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    int64_t count = sample->settings.train_per_class;
    int rc = 0;
    for (int class = 0; class < sample->settings.classes && !rc; class ++) {
        make_wnid(class, wnid);
        snprintf(name, sizeof name, "train/%s", wnid);
        if ((rc = make_path(sample, path, name)) || (rc = files_make_folder(path)))
            return rc;
        for (int64_t i = 0; i < count && !rc; i++) {
            snprintf(name, sizeof name, "train/%s/%s_%lld.JPEG", wnid, wnid, (long long)i + 1);
            rc = make_path(sample, path, name);
            if (!rc)
                rc = make_picture(sample, path, TRAIN, (uint64_t) class << 32 | (uint64_t)i, class,
                                  (uint64_t)i);
            show_progress(sample);
        }
    }
    return rc;
}

static int make_val(struct sample *sample)
{
    char name[TEXT_SIZE], path[FILES_PATH_SIZE];
    int rc = make_path(sample, path, "val");
    if (!rc)
        rc = files_make_folder(path);
    for (uint32_t i = 0; i < sample->val_count && !rc; i++) {
        snprintf(name, sizeof name, "val/ILSVRC2012_val_%08u.JPEG", i + 1);
        rc = make_path(sample, path, name);
        if (!rc)
            rc = make_picture(sample, path, VAL, i, (int)sample->val[i], i);
        show_progress(sample);
    }
    return rc;
}

/* ---- the command ---- */

static size_t make_note(const struct settings *s, char *out, size_t size)
{
    return (size_t)snprintf(out, size,
                            "prep sample, drawing 1\nclasses %lld\ntrain_per_class %lld\n"
                            "val_per_class %lld\nseed %lld\n",
                            (long long)s->classes, (long long)s->train_per_class,
                            (long long)s->val_per_class, (long long)s->seed);
}

/* DIR is new, empty, or holds a sample of these very settings. */
static int claim_folder(const struct sample *sample)
{
    char path[FILES_PATH_SIZE], note[256];
    uint8_t *old = NULL;
    size_t size = make_note(&sample->settings, note, sizeof note), old_size = 0;
    struct files_list list = {0};
    enum files_type type;
    int rc = files_make_folder(sample->folder);
    if (rc || (rc = make_path(sample, path, "sample.txt")) || (rc = files_type(path, &type, NULL)))
        return rc;
    if (type == FILES_REGULAR) {
        rc = files_read(path, sizeof note, &old, &old_size);
        if (!rc && (old_size != size || memcmp(old, note, size) != 0))
            rc = err_set(ERR_MISMATCH,
                         "%s holds a sample of other settings (see sample.txt there); remove it, "
                         "or take another folder",
                         sample->folder);
        mem_free(old);
        return rc;
    }
    rc = files_list(sample->folder, &list);
    /* What is left of a sample.txt that was interrupted does not count. */
    if (!rc && list.count &&
        !(list.count == 1 && strcmp(list.names[0], ".sample.txt.partial") == 0))
        rc = err_set(ERR_MISMATCH, "%s is not empty; take another folder", sample->folder);
    files_list_release(&list);
    return rc ? rc : write_file(path, note, size);
}

static void print_result(const struct sample *sample)
{
    char bytes[32];
    const struct settings *s = &sample->settings;
    const char *f = sample->folder;
    int64_t train = s->classes * s->train_per_class;
    printf("%lld classes, %lld training and %u validation pictures in %s", (long long)s->classes,
           (long long)train, sample->val_count, f);
    if (sample->kept)
        printf(" (%lld were there)", (long long)sample->kept);
    printf(", %s written\n", log_bytes(bytes, (double)sample->bytes));
    printf("next: prep sort-val %s/devkit %s/val %s/val_sorted\n", f, f, f);
}

static int run(struct sample *sample)
{
    char path[FILES_PATH_SIZE];
    int rc;
    sample->rgb = mem_array(SIDE_LIMIT * SIDE_LIMIT, 3, "the picture");
    if (!sample->rgb)
        return -ERR_MEMORY;
    if ((rc = make_ids(sample)) || (rc = make_val_order(sample)) || (rc = claim_folder(sample)) ||
        (rc = make_path(sample, path, "devkit/data")) || (rc = files_make_folder(path)) ||
        (rc = write_meta(sample)) || (rc = write_answers(sample)) || (rc = make_train(sample)))
        return rc;
    rc = make_val(sample);
    log_progress_end();
    if (!rc)
        print_result(sample);
    return rc;
}

int sample_main(int argc, char **argv)
{
    struct sample sample = {0};
    struct opts_result result;
    int rc = opts_parse(&sample_command, argc, argv, &sample.settings, NULL, &result);
    if (rc)
        return rc;
    if (result.help) {
        opts_help(&sample_command);
        return 0;
    }
    sample.folder = result.arguments[0];
    rc = run(&sample);
    mem_free(sample.ids);
    mem_free(sample.val);
    mem_free(sample.rgb);
    return rc;
}
