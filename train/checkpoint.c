#include "train/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/checkpoint_tree.h"
#include "train/pth.h"

enum {
    SPARE_BYTES = 1 << 20,       /* beside the tensors: the pickle, the class table */
    SPARE_BYTES_PER_TENSOR = 512 /* headers, padding, directory */
};

const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *checkpoint,
                                                const char *name)
{
    for (size_t i = 0; i < checkpoint->tensor_count; i++)
        if (!strcmp(checkpoint->tensors[i].name, name))
            return &checkpoint->tensors[i];
    return NULL;
}

const char *checkpoint_setting(const struct checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->setting_count; i++)
        if (!strcmp(checkpoint->settings[i].name, name))
            return checkpoint->settings[i].text;
    return NULL;
}

const double *checkpoint_number(const struct checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->number_count; i++)
        if (!strcmp(checkpoint->numbers[i].name, name))
            return &checkpoint->numbers[i].value;
    return NULL;
}

/* ---- writing ---- */

static size_t count_elements(const struct checkpoint_tensor *tensor)
{
    size_t count = 1;
    for (int i = 0; i < tensor->rank; i++)
        count *= (size_t)tensor->shape[i];
    return count;
}

static int check_finite(const struct checkpoint_tensor *tensor, const float *data, const char *what)
{
    size_t count = count_elements(tensor);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(data[i]))
            return err_set(ERR_NOT_FINITE,
                           "%s of %s holds %g at element %zu: this state is not saved, the last "
                           "checkpoint stays",
                           what, tensor->name, (double)data[i], i);
    return 0;
}

/* All data are finite; *BYTES = what the file will take, rounded up. */
static int check_data(const struct checkpoint *c, bool model_only, uint64_t *bytes)
{
    int rc = 0;
    *bytes = SPARE_BYTES;
    for (size_t i = 0; i < c->tensor_count && !rc; i++) {
        const struct checkpoint_tensor *tensor = &c->tensors[i];
        bool momentum = !model_only && tensor->momentum;
        *bytes +=
            (count_elements(tensor) * sizeof(float) + SPARE_BYTES_PER_TENSOR) * (momentum ? 2 : 1);
        rc = check_finite(tensor, tensor->value, "the value");
        if (!rc && momentum)
            rc = check_finite(tensor, tensor->momentum, "the momentum");
    }
    for (size_t i = 0; i < c->class_count; i++)
        *bytes += strlen(c->classes[i].name) + strlen(c->classes[i].words) + 32;
    return rc;
}

static int check_space(const char *path, uint64_t bytes)
{
    uint64_t free_bytes, inodes;
    char needed[32], found[32];
    int rc = files_free_space(path, &free_bytes, &inodes);
    if (rc)
        return rc;
    if (free_bytes < bytes)
        return err_set(ERR_IO, "%s needs %s, but %s are free: make room; the last checkpoint stays",
                       path, log_bytes(needed, (double)bytes),
                       log_bytes(found, (double)free_bytes));
    if (inodes == 0)
        return err_set(ERR_IO, "%s: the file system has no inode left; the last checkpoint stays",
                       path);
    return 0;
}

static int save(const char *path, const struct checkpoint *c, bool model_only)
{
    struct mem_arena arena = {0};
    struct pth_value *root;
    uint64_t bytes;
    char digest[33];
    int rc = checkpoint_tree_make(&arena, c, model_only, &root);
    if (!rc && !(rc = check_data(c, model_only, &bytes)) && !(rc = check_space(path, bytes)) &&
        !(rc = pth_digest(NULL, root, digest))) {
        root = pth_put(&arena, root, "digest", pth_text(&arena, digest));
        rc = root ? pth_write(path, "checkpoint", root) : -ERR_MEMORY;
    }
    mem_arena_release(&arena);
    return rc;
}

int checkpoint_save(const char *path, const struct checkpoint *checkpoint)
{
    return save(path, checkpoint, false);
}

/* ---- reading ---- */

/* ROOT ends with the key "digest", which is the digest of all before it. FILE: as pth_digest. */
static int check_digest(struct pth_file *file, const struct pth_value *root)
{
    const struct pth_value *stored = pth_find(root, "digest");
    char digest[33];
    if (!pth_find(root, "format") || !stored || stored->kind != PTH_TEXT ||
        root->items[root->count - 1] != stored)
        return err_set(ERR_MISMATCH, "a PyTorch file, but not a checkpoint of this program: it has "
                                     "no \"format\" and \"digest\"");
    struct pth_value rest = *root;
    rest.count -= 2;
    int rc = pth_digest(file, &rest, digest);
    if (!rc && strcmp(digest, stored->text) != 0)
        rc = err_set(ERR_INPUT,
                     "its digest is %s, not %.40s: it is damaged, or another program changed it",
                     digest, stored->text);
    return rc;
}

struct checkpoint_file {
    struct pth_file *pth;
    struct mem_arena arena;
    struct checkpoint checkpoint;
};

int checkpoint_open(struct checkpoint_file **out, const char *path,
                    const struct checkpoint **checkpoint)
{
    char quoted[FILES_PATH_SIZE];
    const struct pth_value *root;
    struct checkpoint_file *file = mem_array(1, sizeof *file, "checkpoint");
    int rc = -ERR_MEMORY;
    *out = NULL;
    *checkpoint = NULL;
    if (!file)
        return rc;
    if ((rc = pth_open(&file->pth, path, &root)))
        goto fail;
    if ((rc = check_digest(NULL, root)) ||
        (rc = checkpoint_tree_read(&file->arena, root, &file->checkpoint))) {
        err_add(rc, "%s", err_quote(quoted, sizeof quoted, path));
        goto fail;
    }
    *out = file;
    *checkpoint = &file->checkpoint;
    return 0;

fail:
    checkpoint_close(file);
    return rc;
}

void checkpoint_close(struct checkpoint_file *file)
{
    if (!file)
        return;
    pth_close(file->pth);
    mem_arena_release(&file->arena);
    mem_free(file);
}

int checkpoint_verify(const char *path)
{
    char quoted[FILES_PATH_SIZE];
    const struct pth_value *root;
    struct pth_file *file;
    int rc = pth_open_outline(&file, path, &root);
    if (!rc && (rc = check_digest(file, root)))
        err_add(rc, "%s", err_quote(quoted, sizeof quoted, path));
    pth_close(file);
    return rc;
}

/* ---- the run's folder ---- */

struct folder {
    char newest[FILES_PATH_SIZE], previous[FILES_PATH_SIZE], next[FILES_PATH_SIZE],
        damaged[FILES_PATH_SIZE];
};

static int name_files(struct folder *out, const char *folder)
{
    int rc;
    if ((rc = files_join(out->newest, folder, CHECKPOINT_NEWEST)) ||
        (rc = files_join(out->previous, folder, CHECKPOINT_PREVIOUS)) ||
        (rc = files_join(out->next, folder, CHECKPOINT_NEXT)))
        return rc;
    return files_join(out->damaged, folder, CHECKPOINT_DAMAGED);
}

static int exists(const char *path, bool *out)
{
    enum files_type type;
    int rc = files_type(path, &type, NULL);
    *out = type != FILES_NOTHING;
    return rc;
}

static int rename_file(const char *from, const char *to)
{
    return rename(from, to) ? err_errno("cannot rename %s to %s", from, to) : 0;
}

/* Let the previous name stand for the newest file. The newest name keeps standing for it too where
 * the file system has hard links; elsewhere it is gone until the next one gets it, and the previous
 * and the next one are there. */
static int keep_previous(const struct folder *folder)
{
    char partial[FILES_PATH_SIZE];
    int rc = files_partial_name(partial, folder->previous);
    if (rc || (rc = files_remove(partial)))
        return rc;
    if (link(folder->newest, partial)) {
        if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS || errno == EMLINK)
            return rename_file(folder->newest, folder->previous);
        return err_errno("cannot link %s to %s", folder->newest, partial);
    }
    rc = rename_file(partial, folder->previous);
    /* Where both are one file already, rename leaves both names; as it does where it fails. */
    if (unlink(partial) && errno != ENOENT && !rc)
        rc = err_errno("cannot remove %s", partial);
    return rc;
}

/* The next file, which is verified, becomes the newest, and the newest the previous one. */
static int promote(const struct folder *folder, const char *path)
{
    bool newest;
    int rc = exists(folder->newest, &newest);
    /* The previous name is durable before the newest is taken: names may reach the disk in any
     * order, and the state between the two would be lost. */
    if (!rc && newest && !(rc = keep_previous(folder)))
        rc = files_sync_folder(path);
    if (rc || (rc = rename_file(folder->next, folder->newest)))
        return rc;
    return files_sync_folder(path);
}

int checkpoint_publish(const char *path, const struct checkpoint *checkpoint)
{
    struct folder folder;
    int rc = name_files(&folder, path);
    if (rc || (rc = save(folder.next, checkpoint, false)))
        return rc;
    if ((rc = checkpoint_verify(folder.next))) {
        rc = err_add(rc, "what was read back is not what was written");
        unlink(folder.next);
        return rc;
    }
    return promote(&folder, path);
}

/* ---- models ---- */

/* The epoch of a file called model_<epoch>.pth; -1 for every other name. */
static int64_t model_epoch(const char *name)
{
    char again[64];
    char *end;
    if (strncmp(name, "model_", 6) != 0 || name[6] < '0' || name[6] > '9' || strlen(name) > 40)
        return -1;
    errno = 0;
    long long epoch = strtoll(name + 6, &end, 10);
    snprintf(again, sizeof again, "model_%lld.pth", epoch);
    return errno || strcmp(name, again) != 0 ? -1 : epoch;
}

static int compare_epochs(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y); /* the highest first */
}

/* Remove the models beyond the KEEP highest, but not those of the epochs NEW and BEST. */
static int prune(const char *folder, int64_t newest, int64_t best, int keep)
{
    struct files_list list;
    size_t count = 0;
    int rc = files_list(folder, &list);
    if (rc)
        return rc;
    int64_t *epochs = mem_array(list.count, sizeof *epochs, "list of models");
    for (size_t i = 0; epochs && i < list.count; i++)
        if (model_epoch(list.names[i]) >= 0)
            epochs[count++] = model_epoch(list.names[i]);
    files_list_release(&list);
    if (!epochs)
        return -ERR_MEMORY;
    qsort(epochs, count, sizeof *epochs, compare_epochs);
    for (size_t i = (size_t)keep; i < count; i++) {
        char name[64], path[FILES_PATH_SIZE];
        if (epochs[i] == newest || epochs[i] == best)
            continue;
        snprintf(name, sizeof name, "model_%" PRId64 ".pth", epochs[i]);
        if (files_join(path, folder, name) || files_remove(path))
            log_warning("an old model stays: %s", err_text());
    }
    mem_free(epochs);
    return 0;
}

int checkpoint_publish_model(const char *folder, const struct checkpoint *checkpoint, int keep)
{
    char name[64], path[FILES_PATH_SIZE];
    int rc;
    if (checkpoint->step != 0 || checkpoint->epoch < 1 || (keep < 1 && keep != CHECKPOINT_KEEP_ALL))
        return err_set(ERR_FAULT, "a model is kept at the end of an epoch, and at least one");
    snprintf(name, sizeof name, "model_%" PRId64 ".pth", checkpoint->epoch - 1);
    if ((rc = files_join(path, folder, name)) || (rc = save(path, checkpoint, true)))
        return rc;
    if ((rc = checkpoint_verify(path))) {
        rc = err_add(rc, "what was read back is not what was written");
        unlink(path);
        return rc;
    }
    if (keep == CHECKPOINT_KEEP_ALL)
        return 0;
    return prune(folder, checkpoint->epoch - 1, checkpoint->best_epoch, keep);
}

/* ---- the latest ---- */

/* Move a file that does not verify out of the way of the next publication, which would keep it as
 * the previous one. */
static int set_aside(const struct folder *folder, const char *path, const char *reason,
                     const char *instead)
{
    int rc = rename_file(path, folder->damaged);
    if (!rc)
        log_warning("%s; it was moved to %s, and %s is taken instead", reason, folder->damaged,
                    instead);
    return rc;
}

/* After an interrupted publication: NEXT verifies and is to become the newest. */
static int finish_publication(const struct folder *folder, const char *path)
{
    bool newest;
    int rc = exists(folder->newest, &newest);
    if (!rc && newest && (rc = checkpoint_verify(folder->newest)) == -ERR_INPUT)
        rc = set_aside(folder, folder->newest, err_text(), folder->next);
    return rc ? rc : promote(folder, path);
}

int checkpoint_latest(const char *path, struct checkpoint_file **out,
                      const struct checkpoint **checkpoint)
{
    struct folder folder;
    struct err reasons[3] = {0};
    int rc = name_files(&folder, path), good = 0;
    const char *const candidates[] = {folder.next, folder.newest, folder.previous};
    bool there[3] = {false}, any = false;
    *out = NULL;
    *checkpoint = NULL;
    for (int i = 0; i < 3 && !rc; i++) {
        rc = exists(candidates[i], &there[i]);
        any = any || there[i];
    }
    if (rc || !any)
        return rc;
    for (good = 0; good < 3; good++) {
        if (!there[good])
            continue;
        rc = checkpoint_open(out, candidates[good], checkpoint);
        if (rc != -ERR_INPUT)
            break;
        err_take(rc, &reasons[good]);
    }
    if (good == 3)
        return err_set(ERR_INPUT, "no checkpoint in %s can be used: %s", path,
                       there[0]   ? reasons[0].text
                       : there[1] ? reasons[1].text
                                  : reasons[2].text);
    for (int i = 0; i < good && !rc; i++)
        if (there[i])
            rc = set_aside(&folder, candidates[i], reasons[i].text, candidates[good]);
    if (!rc && good == 0)
        rc = finish_publication(&folder, path);
    if (rc) {
        checkpoint_close(*out);
        *out = NULL;
        *checkpoint = NULL;
    }
    return rc;
}
