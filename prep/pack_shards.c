#include "prep/pack_shards.h"

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/shard.h"
#include "common/work.h"
#include "prep/estimate.h"
#include "prep/journal.h"
#include "common/stop.h"
#include "prep/tally.h"

enum { BAD_SHOWN = 10 };
/* Bytes of a shard file in the format; what pictures really take is not known before. */
#define SHARD_LIMIT ((uint64_t)1 << 42)

struct run {
    const struct pack_work *work;
    struct pack_result *result;
    struct pipeline *pipeline;
    struct tally tally;          /* of the shard at work */
    struct shard_writer *writer; /* NULL before its first record */
    uint32_t *files, file_count; /* of all unfinished shards, in the plan's order */
    uint32_t finished;           /* shards, in this run */
    double begin;
};

/* ---- progress ---- */

static void show_progress(const struct run *run)
{
    const struct pack_result *result = run->result;
    double seconds = work_seconds() - run->begin;
    uint64_t done = run->work->pictures_before + result->pictures;
    uint32_t all = run->work->plan->files;
    char counts[3][32], bytes[2][32], left[32];
    log_progress("packing: %s of %s pictures (%d %%), %.0f images/s, %s/s read, %s/s stored, "
                 "%s left, %s bad",
                 log_count(counts[0], (int64_t)done), log_count(counts[1], all),
                 (int)(done * 100 / all), (double)result->pictures / seconds,
                 log_bytes(bytes[0], (double)result->input_bytes / seconds),
                 log_bytes(bytes[1], (double)result->payload_bytes / seconds),
                 result->pictures
                     ? log_seconds(left, seconds * (double)(all - done) / (double)result->pictures)
                     : "?",
                 log_count(counts[2], (int64_t)(run->work->bad_before + result->bad)));
}

static void show_bad(const struct run *run, const char *name, const struct converted *converted)
{
    char quoted[ERR_TEXT_SIZE];
    if (run->result->bad <= BAD_SHOWN)
        log_line("bad: %s: %s", err_quote(quoted, sizeof quoted, name), converted->info.reason);
    if (run->result->bad == BAD_SHOWN)
        log_line("bad: more are only counted here; bad.tsv will list them all");
}

/* ---- one shard ---- */

static int open_writer(struct run *run, uint32_t shard)
{
    char name[MANIFEST_SHARD_FILE_SIZE], path[FILES_PATH_SIZE];
    plan_shard_name(shard, name);
    int rc = files_join(path, run->work->folder, name);
    return rc ? rc : shard_writer_open(&run->writer, path, SHARD_LIMIT);
}

/* Wait for the next picture, with an eye on the clock and on the request to stop. */
static int next_item(struct run *run, struct pipeline_item *item)
{
    for (;;) {
        int rc = pipeline_next(run->pipeline, item);
        if (stop_requested())
            return err_set(ERR_STOPPED, "stopped on request; the same command goes on");
        if (rc < 0)
            return rc;
        if (log_progress_due(false))
            show_progress(run);
        if (rc)
            return 0;
    }
}

static int store(struct run *run, uint32_t shard, const struct pipeline_item *item)
{
    const struct source_file *file = source_file(run->work->source, item->file);
    const struct converted *converted = item->converted;
    char name[RECORD_NAME_LIMIT + 1];
    uint32_t name_size = source_name(run->work->source, item->file, name);
    run->result->pictures++;
    run->result->input_bytes += file->size;
    int rc = tally_add(&run->tally, item->file, file->label, shard, (uint32_t)run->tally.records,
                       converted);
    if (rc)
        return rc;
    if (converted->info.verdict == DECODE_BAD) {
        run->result->bad++;
        show_bad(run, name, converted);
        return 0;
    }
    run->result->payload_bytes += converted->size;
    if (!run->writer && (rc = open_writer(run, shard)))
        return rc;
    struct record record = {
        .label = file->label,
        .width = converted->width,
        .height = converted->height,
        .original_width = converted->original_width,
        .original_height = converted->original_height,
        .encoding = run->work->settings->encoding,
        .name = name,
        .name_size = name_size,
        .payload = converted->payload,
        .payload_size = converted->size,
    };
    return shard_append(run->writer, &record);
}

static int finish_shard(struct run *run, uint32_t shard)
{
    struct shard_facts facts = {.digest = ""};
    if (run->writer) {
        int rc = shard_publish(run->writer, &facts);
        run->writer = NULL;
        if (rc)
            return rc;
    }
    return journal_write_shard(run->work->folder, shard, &facts, &run->tally);
}

static int pack_shard(struct run *run, uint32_t shard)
{
    uint32_t first, count;
    int rc = 0;
    double begin;
    plan_range(run->work->plan, shard, &first, &count);
    tally_reset(&run->tally);
    for (uint32_t i = 0; i < count; i++) {
        struct pipeline_item item;
        if ((rc = next_item(run, &item)))
            return rc;
        begin = work_seconds();
        rc = store(run, shard, &item);
        run->result->write_seconds += work_seconds() - begin;
        pipeline_release(run->pipeline);
        if (rc)
            return rc;
    }
    begin = work_seconds();
    rc = finish_shard(run, shard);
    run->result->write_seconds += work_seconds() - begin;
    run->finished += !rc;
    return rc;
}

/* ---- all ---- */

static int list_files(struct run *run)
{
    const struct pack_work *work = run->work;
    uint32_t first, count;
    uint64_t all = 0;
    for (uint32_t i = 0; i < work->shard_count; i++) {
        plan_range(work->plan, work->shards[i], &first, &count);
        all += count;
    }
    if (!(run->files = mem_array(all, sizeof *run->files, "pictures to pack")))
        return -ERR_MEMORY;
    for (uint32_t i = 0; i < work->shard_count; i++) {
        plan_range(work->plan, work->shards[i], &first, &count);
        for (uint32_t k = 0; k < count; k++)
            run->files[run->file_count++] = work->plan->order[first + k];
    }
    return 0;
}

static int open_pipeline(struct run *run)
{
    struct pipeline_task task = {
        .source = run->work->source,
        .settings = run->work->settings,
        .files = run->files,
        .count = run->file_count,
        .jobs = run->work->jobs,
    };
    return pipeline_open(&run->pipeline, &task);
}

int pack_shards(const struct pack_work *work, struct pack_result *result)
{
    struct run run = {.work = work, .result = result, .begin = work_seconds()};
    *result = (struct pack_result){0};
    int rc = list_files(&run);
    if (rc || (rc = tally_open(&run.tally, source_class_count(work->source))) ||
        (rc = open_pipeline(&run)))
        goto done;
    for (uint32_t i = 0; i < work->shard_count && !rc; i++)
        rc = pack_shard(&run, work->shards[i]);
    result->seconds = work_seconds() - run.begin;
    pipeline_get_times(run.pipeline, &result->stages);
    log_progress_end();
    if (rc)
        log_line("%u of %u shards are finished and kept; the same command goes on",
                 work->plan->shards - work->shard_count + run.finished, work->plan->shards);

done:
    shard_writer_discard(run.writer);
    pipeline_close(run.pipeline);
    tally_close(&run.tally);
    mem_free(run.files);
    return rc;
}
