#include "common/dataset.h"

#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"

enum { MANIFEST_LIMIT = 256 << 20 }; /* bytes of the file */

struct dataset {
    char *folder;
    struct manifest manifest;
    char class_digest[33];
    uint64_t *first; /* first[k]: index of shard k's first record; one entry more at the end */
    struct shard **shards; /* NULL when only the manifest was opened */
};

int dataset_publish(const char *folder, const struct manifest *manifest)
{
    char path[FILES_PATH_SIZE];
    int rc = files_join(path, folder, MANIFEST_FILE);
    return rc ? rc : manifest_write(path, manifest);
}

/* ---- opening ---- */

/* There is no manifest in FOLDER: say what is there instead. */
static int explain_missing(const char *folder)
{
    enum files_type type;
    struct files_list list;
    int rc = files_type(folder, &type, NULL);
    if (rc)
        return rc;
    if (type == FILES_NOTHING)
        return err_set(ERR_INPUT, "%s does not exist; make the data set with: prep pack SRC %s",
                       folder, folder);
    if (type != FILES_FOLDER)
        return err_set(ERR_INPUT, "%s is not a folder, so it is no data set", folder);
    if ((rc = files_list(folder, &list)))
        return rc;
    bool begun = false;
    for (size_t i = 0; i < list.count; i++)
        begun |= strstr(list.names[i], "shard-") || !strcmp(list.names[i], "plan.json");
    files_list_release(&list);
    if (begun)
        return err_set(ERR_INPUT,
                       "%s is not finished: prep pack was interrupted, or refused pictures; run "
                       "the same prep pack again",
                       folder);
    return err_set(ERR_INPUT,
                   "%s is no data set: it has no " MANIFEST_FILE
                   "; pack a folder of class folders with: prep pack SRC OUT.lmdb",
                   folder);
}

/* Where each shard's records begin. */
static int count_records(struct dataset *dataset)
{
    const struct manifest *manifest = &dataset->manifest;
    dataset->first = mem_array(manifest->shard_count + 1, sizeof *dataset->first, "shard table");
    if (!dataset->first)
        return -ERR_MEMORY;
    for (size_t i = 0; i < manifest->shard_count; i++)
        dataset->first[i + 1] = dataset->first[i] + manifest->shards[i].records;
    return 0;
}

static int digest_classes(struct dataset *dataset)
{
    const struct manifest *manifest = &dataset->manifest;
    struct digest *digest;
    int rc = digest_open(&digest);
    if (rc)
        return rc;
    for (size_t i = 0; i < manifest->class_count; i++)
        digest_add(digest, manifest->classes[i].name, strlen(manifest->classes[i].name) + 1);
    digest_value128(digest, dataset->class_digest);
    digest_close(digest);
    return 0;
}

/* Read FOLDER's manifest into *TEXT (mem_free it), or say why there is none. */
static int read_text(const char *folder, char path[FILES_PATH_SIZE], uint8_t **text, size_t *size)
{
    enum files_type type;
    int rc = files_join(path, folder, MANIFEST_FILE);
    if (rc || (rc = files_type(path, &type, NULL)))
        return rc;
    if (type == FILES_NOTHING)
        return explain_missing(folder);
    return files_read(path, MANIFEST_LIMIT, text, size);
}

int dataset_open_manifest(struct dataset **out, const char *folder)
{
    char path[FILES_PATH_SIZE];
    uint8_t *text = NULL;
    size_t size = 0;
    struct dataset *dataset = mem_array(1, sizeof *dataset, "data set");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!dataset || !(dataset->folder = mem_text(folder)))
        goto fail;
    if ((rc = read_text(folder, path, &text, &size)) ||
        (rc = manifest_read(&dataset->manifest, path, (const char *)text, size)) ||
        (rc = count_records(dataset)) || (rc = digest_classes(dataset)))
        goto fail;
    mem_free(text);
    *out = dataset;
    return 0;

fail:
    mem_free(text);
    dataset_close(dataset);
    return rc;
}

/* After an ERR_INPUT: say what to do about a damaged data set. */
static int advise(const struct dataset *dataset, int rc)
{
    if (rc != -ERR_INPUT)
        return rc;
    return err_set(ERR_INPUT,
                   "%s; prep verify %s lists all damage; copy the file again, or pack again",
                   err_text(), dataset->folder);
}

static int open_shards(struct dataset *dataset)
{
    const struct manifest *manifest = &dataset->manifest;
    dataset->shards = mem_array(manifest->shard_count, sizeof(struct shard *), "shards");
    if (!dataset->shards)
        return -ERR_MEMORY;
    for (size_t i = 0; i < manifest->shard_count; i++) {
        const struct dataset_shard *shard = &manifest->shards[i];
        char path[FILES_PATH_SIZE];
        int rc = files_join(path, dataset->folder, shard->file);
        if (rc)
            return rc;
        if ((rc = shard_open(&dataset->shards[i], path, shard->records, shard->bytes,
                             (uint32_t)manifest->class_count)))
            return advise(dataset, rc);
    }
    return 0;
}

int dataset_open(struct dataset **out, const char *folder)
{
    int rc = dataset_open_manifest(out, folder);
    if (!rc && (rc = open_shards(*out))) {
        dataset_close(*out);
        *out = NULL;
    }
    return rc;
}

void dataset_close(struct dataset *dataset)
{
    if (!dataset)
        return;
    if (dataset->shards)
        for (size_t i = 0; i < dataset->manifest.shard_count; i++)
            shard_close(dataset->shards[i]);
    mem_free(dataset->shards);
    mem_free(dataset->first);
    manifest_release(&dataset->manifest);
    mem_free(dataset->folder);
    mem_free(dataset);
}

/* ---- using ---- */

const struct manifest *dataset_manifest(const struct dataset *dataset)
{
    return &dataset->manifest;
}

const char *dataset_folder(const struct dataset *dataset)
{
    return dataset->folder;
}

const char *dataset_class_digest(const struct dataset *dataset)
{
    return dataset->class_digest;
}

const char *dataset_digest(const struct dataset *dataset)
{
    return dataset->manifest.digest;
}

void dataset_place(const struct dataset *dataset, uint64_t index, size_t *shard, uint32_t *record)
{
    size_t low = 0, high = dataset->manifest.shard_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (dataset->first[middle] <= index)
            low = middle;
        else
            high = middle;
    }
    *shard = low;
    *record = (uint32_t)(index - dataset->first[low]);
}

int dataset_get(struct dataset *dataset, uint64_t index, bool check, struct record *out)
{
    const struct manifest *manifest = &dataset->manifest;
    size_t shard;
    uint32_t record;
    if (index >= manifest->images || !dataset->shards)
        return err_set(ERR_FAULT, "%s: record %llu of %llu was asked for", dataset->folder,
                       (unsigned long long)index, (unsigned long long)manifest->images);
    dataset_place(dataset, index, &shard, &record);
    int rc = shard_get(dataset->shards[shard], record, check, out);
    if (!rc &&
        (out->encoding != manifest->encoding || out->width > manifest->largest_width ||
         out->height > manifest->largest_height || out->payload_size > manifest->largest_payload))
        rc = err_set(ERR_INPUT,
                     "%s/%s: damaged: record %u: its size or encoding is not within the manifest's",
                     dataset->folder, manifest->shards[shard].file, record);
    return advise(dataset, rc);
}

void dataset_will_need(struct dataset *dataset, uint64_t index)
{
    size_t shard;
    uint32_t record;
    if (index >= dataset->manifest.images || !dataset->shards)
        return;
    dataset_place(dataset, index, &shard, &record);
    shard_will_need(dataset->shards[shard], record);
}
