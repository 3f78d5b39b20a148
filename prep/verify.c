#include "prep/verify.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/dataset.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/work.h"

/* A record's name, for finding equal ones. */
struct name {
    uint64_t hash;
    uint64_t index; /* of the record in the data set */
};

struct verify {
    struct dataset *dataset;
    const struct manifest *manifest;
    struct verify_report *report;
    uint64_t all_bytes;
    uint64_t *first; /* index in the data set of each shard's first record */
    double begin;
    atomic_size_t next; /* shard to take */
    atomic_uint_fast64_t bytes, records;
    atomic_uint_fast64_t *labels; /* records of each class */
    struct name *names;           /* of each record: every thread writes its own shards' */
    pthread_mutex_t mutex;        /* of the report */
};

/* One shard at work. */
struct task {
    struct verify *verify;
    size_t shard;
    uint64_t first;   /* index of its first record in the data set */
    uint64_t damages; /* told so far */
    int rc;           /* the first error that is not damage */
};

/* ---- findings ---- */

static int keep(struct verify_report *report, size_t shard, int64_t record, const char *text)
{
    if (report->count == report->capacity) {
        size_t capacity = report->capacity ? report->capacity * 2 : 16;
        int rc = mem_grow((void **)&report->findings, report->capacity, capacity,
                          sizeof *report->findings, "list of damage");
        if (rc)
            return rc;
        report->capacity = capacity;
    }
    const char *copy = mem_arena_text(&report->texts, text, strlen(text));
    if (!copy)
        return -ERR_MEMORY;
    report->findings[report->count++] = (struct verify_finding){shard, record, copy};
    return 0;
}

/* err_text() says what is wrong with RECORD, or the file. */
static void tell_damage(void *context, int64_t record)
{
    struct task *task = context;
    struct verify *verify = task->verify;
    pthread_mutex_lock(&verify->mutex);
    verify->report->damages++;
    verify->report->bad_shards += task->damages == 0;
    if (task->damages++ < VERIFY_FINDINGS_LIMIT && !task->rc)
        task->rc = keep(verify->report, task->shard, record, err_text());
    pthread_mutex_unlock(&verify->mutex);
}

/* Of the data set as a whole; only the owner's thread calls it. */
__attribute__((format(printf, 2, 3))) static int add_finding(struct verify *verify,
                                                             const char *format, ...)
{
    char text[ERR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    verify->report->damages++;
    return keep(verify->report, verify->manifest->shard_count, -1, text);
}

/* ---- shards ---- */

/* What is wrong with a record whose checksum is right: it does not fit the manifest. */
static const char *find_misfit(const struct manifest *manifest, const struct record *record)
{
    const char *class = manifest->classes[record->label].name;
    size_t length = strlen(class);
    if (record->name_size < length + 2 || memcmp(record->name, class, length) != 0 ||
        record->name[length] != '/' || memchr(record->name, 0, record->name_size))
        return "its name is not one of its class";
    if (record->encoding != manifest->encoding)
        return "its encoding is not the manifest's";
    if (record->width > manifest->largest_width || record->height > manifest->largest_height ||
        record->payload_size > manifest->largest_payload)
        return "it is larger than the manifest's largest";
    return NULL;
}

static void take_record(void *context, uint32_t index, const struct record *record)
{
    struct task *task = context;
    struct verify *verify = task->verify;
    const char *misfit = find_misfit(verify->manifest, record);
    if (misfit) {
        (void)err_set(ERR_INPUT, "%s/%s: record %" PRIu32 ": %s", dataset_folder(verify->dataset),
                      verify->manifest->shards[task->shard].file, index, misfit);
        tell_damage(task, index);
        return;
    }
    verify->labels[record->label]++;
    verify->names[task->first + index] =
        (struct name){digest64(record->name, record->name_size), task->first + index};
    verify->records++;
}

static void take_progress(void *context, uint64_t bytes)
{
    struct verify *verify = ((struct task *)context)->verify;
    double all = (double)verify->all_bytes;
    double done = (double)(atomic_fetch_add(&verify->bytes, bytes) + bytes);
    char texts[4][32];
    if (!log_progress_due(false))
        return;
    double seconds = work_seconds() - verify->begin;
    log_progress("verifying: %s of %s (%d %%), %s/s, %s left", log_bytes(texts[0], done),
                 log_bytes(texts[1], all), (int)(done * 100 / all),
                 log_bytes(texts[2], done / seconds),
                 log_seconds(texts[3], seconds * (all - done) / done));
}

static int verify_one(struct verify *verify, size_t shard)
{
    const struct manifest *manifest = verify->manifest;
    const struct dataset_shard *entry = &manifest->shards[shard];
    struct shard_facts facts = {.records = entry->records, .bytes = entry->bytes};
    struct task task = {.verify = verify, .shard = shard, .first = verify->first[shard]};
    const struct shard_visitor visitor = {&task, take_record, tell_damage, take_progress};
    char path[FILES_PATH_SIZE];
    int rc = files_join(path, dataset_folder(verify->dataset), entry->file);
    if (rc)
        return rc;
    memcpy(facts.digest, entry->digest, sizeof facts.digest);
    rc = shard_verify(path, &facts, (uint32_t)manifest->class_count, &visitor);
    if (rc == -ERR_IO) { /* it was told; the other shards are read all the same */
        pthread_mutex_lock(&verify->mutex);
        verify->report->unreadable_shards++;
        pthread_mutex_unlock(&verify->mutex);
        rc = 0;
    }
    return rc ? rc : task.rc;
}

static int run_worker(void *argument)
{
    struct verify *verify = argument;
    for (;;) {
        size_t shard = verify->next++;
        if (shard >= verify->manifest->shard_count)
            return 0;
        int rc = verify_one(verify, shard);
        if (rc)
            return rc;
    }
}

static int verify_shards(struct verify *verify, int jobs)
{
    struct work_crew *crew;
    int rc = work_crew_open(&crew, NULL, NULL);
    if (rc)
        return rc;
    for (int i = 0; i < jobs && (size_t)i < verify->manifest->shard_count && !rc; i++)
        rc = work_crew_start(crew, "verify", run_worker, verify);
    int joined = work_crew_join(crew);
    work_crew_close(crew);
    log_progress_end();
    return rc ? rc : joined;
}

/* ---- the data set as a whole ---- */

/* Shards that the manifest does not know: left over from another run, or copied into the wrong
 * folder. */
static int check_folder(struct verify *verify)
{
    const struct manifest *manifest = verify->manifest;
    const char *folder = dataset_folder(verify->dataset);
    struct files_list list;
    int rc = files_list(folder, &list);
    if (rc)
        return rc;
    for (size_t i = 0; i < list.count && !rc; i++) {
        const char *name = list.names[i], *end = strrchr(name, '.');
        bool known = name[0] == '.' || !end || strcmp(end, ".mdb") != 0;
        for (size_t k = 0; k < manifest->shard_count && !known; k++)
            known = strcmp(manifest->shards[k].file, name) == 0;
        char quoted[256];
        if (!known)
            rc = add_finding(verify, "%s/%s: the manifest does not know this file", folder,
                             err_quote(quoted, sizeof quoted, name));
    }
    files_list_release(&list);
    return rc;
}

static int check_classes(struct verify *verify)
{
    const struct manifest *manifest = verify->manifest;
    int rc = 0;
    for (size_t i = 0; i < manifest->class_count && !rc; i++) {
        const struct dataset_class *class = &manifest->classes[i];
        char quoted[256];
        if (verify->labels[i] != class->images)
            rc = add_finding(verify,
                             "%s: class %s: the shards hold %" PRIu64
                             " pictures, but the manifest says %" PRIu64,
                             dataset_folder(verify->dataset),
                             err_quote(quoted, sizeof quoted, class->name),
                             (uint64_t)verify->labels[i], class->images);
    }
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Equal hashes side by side: are the names equal, too? */
static int compare_records(struct verify *verify, struct dataset *dataset, const struct name *pair)
{
    struct record records[2];
    char quoted[2 * RECORD_NAME_LIMIT], name[RECORD_NAME_LIMIT + 1];
    for (int i = 0; i < 2; i++) {
        int rc = dataset_get(dataset, pair[i].index, false, &records[i]);
        if (rc)
            return rc;
    }
    if (records[0].name_size != records[1].name_size ||
        memcmp(records[0].name, records[1].name, records[0].name_size) != 0)
        return 0;
    memcpy(name, records[0].name, records[0].name_size);
    name[records[0].name_size] = 0;
    return add_finding(verify, "%s: records %" PRIu64 " and %" PRIu64 " are both named %s",
                       dataset_folder(dataset), pair[0].index, pair[1].index,
                       err_quote(quoted, sizeof quoted, name));
}

/* A name is a key (prep show): no two records may have the same. */
static int check_names(struct verify *verify)
{
    uint64_t count = verify->manifest->images;
    struct dataset *dataset = NULL;
    int rc = 0;
    qsort(verify->names, count, sizeof *verify->names, compare_names);
    for (uint64_t i = 1; i < count && !rc; i++) {
        if (verify->names[i].hash != verify->names[i - 1].hash)
            continue;
        if (!dataset)
            rc = dataset_open(&dataset, dataset_folder(verify->dataset));
        if (!rc)
            rc = compare_records(verify, dataset, &verify->names[i - 1]);
    }
    dataset_close(dataset);
    return rc;
}

static int compare_findings(const void *a, const void *b)
{
    const struct verify_finding *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (x->record != y->record)
        return x->record < y->record ? -1 : 1;
    return strcmp(x->text, y->text);
}

static int run(struct verify *verify, int jobs)
{
    const struct manifest *manifest = verify->manifest;
    struct verify_report *report = verify->report;
    verify->first = mem_array(manifest->shard_count + 1, sizeof *verify->first, "shards");
    verify->labels = mem_array(manifest->class_count, sizeof *verify->labels, "class counts");
    verify->names = mem_array((size_t)manifest->images, sizeof *verify->names, "names");
    if (!verify->first || !verify->labels || !verify->names)
        return -ERR_MEMORY;
    for (size_t i = 0; i < manifest->shard_count; i++) {
        verify->first[i + 1] = verify->first[i] + manifest->shards[i].records;
        verify->all_bytes += manifest->shards[i].bytes;
    }
    int rc = verify_shards(verify, jobs);
    report->shards = manifest->shard_count;
    report->records = verify->records;
    report->bytes = verify->bytes;
    report->seconds = work_seconds() - verify->begin;
    /* Where records are missing, the sums say nothing new. */
    if (!rc && !report->damages && !(rc = check_classes(verify)))
        rc = check_names(verify);
    if (!rc)
        rc = check_folder(verify);
    if (report->count)
        qsort(report->findings, report->count, sizeof *report->findings, compare_findings);
    return rc;
}

int verify_data_set(const char *folder, int jobs, struct verify_report *out)
{
    struct verify verify = {.report = out, .begin = work_seconds()};
    *out = (struct verify_report){0};
    int rc = dataset_open_manifest(&verify.dataset, folder);
    if (rc)
        return rc;
    verify.manifest = dataset_manifest(verify.dataset);
    pthread_mutex_init(&verify.mutex, NULL);
    rc = run(&verify, jobs);
    pthread_mutex_destroy(&verify.mutex);
    mem_free(verify.first);
    mem_free(verify.labels);
    mem_free(verify.names);
    dataset_close(verify.dataset);
    return rc;
}

void verify_release(struct verify_report *report)
{
    mem_free(report->findings);
    mem_arena_release(&report->texts);
    *report = (struct verify_report){0};
}
