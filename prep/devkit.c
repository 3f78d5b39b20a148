#include "prep/devkit.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "prep/meta_mat.h"

#define ANSWERS_NAME "ILSVRC2012_validation_ground_truth.txt"
#define ANSWERS_BYTES ((size_t)DEVKIT_ANSWER_LIMIT * 12)

struct devkit {
    char meta_path[FILES_PATH_SIZE], answers_path[FILES_PATH_SIZE];
    struct devkit_class *synsets; /* in byte order of WNIDs */
    size_t count, leaf_count;
    size_t *of_id, *of_rank; /* places in synsets: leaf with ID i + 1, leaf of rank i */
    uint16_t *answers;       /* IDs; answers[0] is picture 1's */
    size_t answer_count;
    struct mem_arena texts;
};

/* ---- rows: nothing is taken on trust ---- */

/* LENGTH bytes of TEXT are UTF-8 as it should be (no overlong forms, no surrogates), without
 * control characters. */
static bool is_clean_utf8(const char *text, size_t length)
{
    const uint8_t *t = (const uint8_t *)text;
    for (size_t i = 0; i < length;) {
        size_t more = t[i] < 0x80 ? 0 : t[i] < 0xe0 ? 1 : t[i] < 0xf0 ? 2 : 3;
        if (t[i] < 0x20 || t[i] == 0x7f || (t[i] >= 0x80 && t[i] < 0xc2) || t[i] > 0xf4 ||
            more > length - i - 1)
            return false;
        uint32_t point = more ? t[i] & (0x3fU >> more) : t[i];
        for (size_t k = 1; k <= more; k++) {
            if ((t[i + k] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (t[i + k] & 0x3f);
        }
        if ((more == 1 && point < 0xa0) || (more == 2 && (point < 0x800 || point >> 11 == 0x1b)) ||
            (more == 3 && (point < 0x10000 || point > 0x10ffff)))
            return false;
        i += more + 1;
    }
    return true;
}

static bool is_wnid(const char *text, size_t length)
{
    if (length != 9 || text[0] != 'n')
        return false;
    for (size_t i = 1; i < length; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return true;
}

static int take_row(struct devkit *devkit, size_t row, const struct meta_mat_row *from)
{
    struct devkit_class *to = devkit->synsets + row;
    if (from->id < 1 || from->id > META_MAT_ROW_LIMIT)
        return err_set(ERR_INPUT, "synsets(%zu).ILSVRC2012_ID is %u, not in 1..%d", row + 1,
                       from->id, META_MAT_ROW_LIMIT);
    if (!is_wnid(from->wnid, from->wnid_length))
        return err_set(ERR_INPUT, "synsets(%zu).WNID is not n and 8 digits", row + 1);
    if (from->words_length >= sizeof from->words || !is_clean_utf8(from->words, from->words_length))
        return err_set(ERR_INPUT, "synsets(%zu).words is not UTF-8 of at most %d bytes", row + 1,
                       META_MAT_WORDS_SIZE - 1);
    if (from->num_children != from->children)
        return err_set(ERR_INPUT, "synsets(%zu).num_children is %u, but it has %u children",
                       row + 1, from->num_children, from->children);
    to->id = (int)from->id;
    memcpy(to->wnid, from->wnid, 9);
    to->num_children = from->num_children;
    to->num_train_images = from->num_train_images;
    to->words = mem_arena_text(&devkit->texts, from->words, from->words_length);
    return to->words ? 0 : -ERR_MEMORY;
}

static int compare_ids(const void *a, const void *b)
{
    const struct devkit_class *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static int compare_wnids(const void *a, const void *b)
{
    const struct devkit_class *x = a, *y = b;
    return strcmp(x->wnid, y->wnid);
}

/* IDs are unique, and those of the leaves are 1..N. */
static int check_ids(struct devkit *devkit)
{
    struct devkit_class *synsets = devkit->synsets;
    qsort(synsets, devkit->count, sizeof *synsets, compare_ids);
    for (size_t i = 1; i < devkit->count; i++)
        if (synsets[i].id == synsets[i - 1].id)
            return err_set(ERR_INPUT, "two synsets have the ILSVRC2012_ID %d", synsets[i].id);
    for (size_t i = 0; i < devkit->count; i++)
        if (synsets[i].num_children == 0 && synsets[i].id != (int)++devkit->leaf_count)
            return err_set(ERR_INPUT,
                           "the IDs of the leaves have a gap: %zu should be one, the next is %d",
                           devkit->leaf_count, synsets[i].id);
    if (!devkit->leaf_count)
        return err_set(ERR_INPUT, "no synset is a leaf (num_children 0): there are no classes");
    return 0;
}

/* Bring the synsets into their order and find the leaves in it. */
static int order_synsets(struct devkit *devkit)
{
    struct devkit_class *synsets = devkit->synsets;
    size_t rank = 0;
    qsort(synsets, devkit->count, sizeof *synsets, compare_wnids);
    for (size_t i = 0; i < devkit->count; i++) {
        if (i && strcmp(synsets[i].wnid, synsets[i - 1].wnid) == 0)
            return err_set(ERR_INPUT, "two synsets have the WNID %s", synsets[i].wnid);
        if (synsets[i].num_children == 0) {
            synsets[i].rank = rank;
            devkit->of_id[synsets[i].id - 1] = i;
            devkit->of_rank[rank++] = i;
        }
    }
    return 0;
}

static int take_rows(struct devkit *devkit, const struct meta_mat_row *rows)
{
    size_t count = devkit->count;
    devkit->synsets = mem_array(count, sizeof *devkit->synsets, "synsets");
    devkit->of_id = mem_array(count, sizeof *devkit->of_id, "classes");
    devkit->of_rank = mem_array(count, sizeof *devkit->of_rank, "classes");
    if (!devkit->synsets || !devkit->of_id || !devkit->of_rank)
        return -ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        int rc = take_row(devkit, i, rows + i);
        if (rc)
            return rc;
    }
    int rc = check_ids(devkit);
    return rc ? rc : order_synsets(devkit);
}

/* Where meta.mat and the answers lie: FOLDER/data as in the official archive, or FOLDER itself. */
static int find_files(struct devkit *devkit, const char *folder)
{
    static const char *const places[] = {"data/", ""};
    char name[128];
    enum files_type type;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(name, sizeof name, "%smeta.mat", places[i]);
        int rc = files_join(devkit->meta_path, folder, name);
        if (!rc)
            rc = files_type(devkit->meta_path, &type, NULL);
        snprintf(name, sizeof name, "%s" ANSWERS_NAME, places[i]);
        if (!rc)
            rc = files_join(devkit->answers_path, folder, name);
        if (rc)
            return rc;
        if (type != FILES_NOTHING)
            return 0;
    }
    return err_set(ERR_INPUT,
                   "%s: there is no data/meta.mat and no meta.mat; give the folder that "
                   "ILSVRC2012_devkit_t12.tar.gz unpacks to",
                   folder);
}

static int read_meta(struct devkit *devkit)
{
    struct meta_mat_row *rows = NULL;
    int rc = meta_mat_read(devkit->meta_path, &rows, &devkit->count);
    if (!rc && (rc = take_rows(devkit, rows)))
        err_add(rc, "%s", devkit->meta_path);
    mem_free(rows);
    return rc;
}

int devkit_open(struct devkit **out, const char *folder)
{
    struct devkit *devkit = mem_array(1, sizeof *devkit, "devkit");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!devkit)
        return rc;
    if ((rc = find_files(devkit, folder)) || (rc = read_meta(devkit)))
        goto fail;
    *out = devkit;
    return 0;
fail:
    devkit_close(devkit);
    return rc;
}

void devkit_close(struct devkit *devkit)
{
    if (!devkit)
        return;
    mem_free(devkit->synsets);
    mem_free(devkit->of_id);
    mem_free(devkit->of_rank);
    mem_free(devkit->answers);
    mem_arena_release(&devkit->texts);
    mem_free(devkit);
}

size_t devkit_class_count(const struct devkit *devkit)
{
    return devkit->leaf_count;
}

const struct devkit_class *devkit_class(const struct devkit *devkit, int id)
{
    return devkit->synsets + devkit->of_id[id - 1];
}

const struct devkit_class *devkit_ranked(const struct devkit *devkit, size_t rank)
{
    return devkit->synsets + devkit->of_rank[rank];
}

const struct devkit_class *devkit_find(const struct devkit *devkit, const char *wnid)
{
    struct devkit_class key = {0};
    if (strlen(wnid) >= sizeof key.wnid)
        return NULL;
    memcpy(key.wnid, wnid, strlen(wnid));
    return bsearch(&key, devkit->synsets, devkit->count, sizeof key, compare_wnids);
}

const char *devkit_words(const struct devkit *devkit, const char *wnid)
{
    const struct devkit_class *found = devkit_find(devkit, wnid);
    return found ? found->words : "";
}

/* ---- the ground truth ---- */

/* The ID in a line of LENGTH bytes: digits alone, without a leading 0, 1..MOST. 0 when it is
 * something else. */
static unsigned parse_id(const uint8_t *line, size_t length, size_t most)
{
    size_t id = 0;
    if (length < 1 || length > 7 || line[0] == '0')
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (line[i] < '0' || line[i] > '9')
            return 0;
        id = id * 10 + (size_t)(line[i] - '0');
    }
    return id <= most ? (unsigned)id : 0;
}

static int refuse_line(const struct devkit *devkit, size_t number, const uint8_t *line,
                       size_t length)
{
    char text[32], quoted[4 * sizeof text];
    snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text),
             (const char *)line);
    if (length == 0)
        return err_set(ERR_INPUT, "%s: line %zu is empty", devkit->answers_path, number);
    return err_set(ERR_INPUT, "%s: line %zu is \"%s\", not an ILSVRC2012_ID in 1..%zu",
                   devkit->answers_path, number, err_quote(quoted, sizeof quoted, text),
                   devkit->leaf_count);
}

/* One ID a line. A last line without an end counts; an empty one is an error, as every other oddity
 * is: a file that slipped by a line would give each picture its neighbour's class. */
static int parse_answers(struct devkit *devkit, const uint8_t *bytes, size_t size)
{
    size_t lines = 0;
    for (size_t at = 0; at < size; lines++) {
        const uint8_t *line = bytes + at, *end = memchr(line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        at += length + (end != NULL);
        if (end && length && line[length - 1] == '\r')
            length--;
        unsigned id = parse_id(line, length, devkit->leaf_count);
        if (!id)
            return refuse_line(devkit, lines + 1, line, length);
        if (lines == DEVKIT_ANSWER_LIMIT)
            return err_set(ERR_INPUT, "%s: there are more than %d lines", devkit->answers_path,
                           DEVKIT_ANSWER_LIMIT);
        devkit->answers[lines] = (uint16_t)id;
    }
    if (!lines)
        return err_set(ERR_INPUT, "%s: the file is empty", devkit->answers_path);
    devkit->answer_count = lines;
    return 0;
}

int devkit_read_answers(struct devkit *devkit)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = files_read(devkit->answers_path, ANSWERS_BYTES, &bytes, &size);
    if (rc)
        return rc;
    /* Two bytes a line at least, but for the last. */
    devkit->answers = mem_array(size / 2 + 1, sizeof *devkit->answers, "ground truth");
    rc = devkit->answers ? parse_answers(devkit, bytes, size) : -ERR_MEMORY;
    mem_free(bytes);
    return rc;
}

size_t devkit_answer_count(const struct devkit *devkit)
{
    return devkit->answer_count;
}

const struct devkit_class *devkit_answer(const struct devkit *devkit, size_t number)
{
    return devkit_class(devkit, devkit->answers[number - 1]);
}
