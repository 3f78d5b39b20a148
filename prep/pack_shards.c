#include "prep/pack_shards.h"

#include <stdatomic.h>

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
    struct tally tallies[2], *tally; /* of two shards; of the one at work */
    struct shard_writer *writer;     /* NULL before its first record */
    uint32_t *files, file_count;     /* of all unfinished shards, in the plan's order */
    uint32_t finished;               /* shards, in this run */

    /* The shard before the one at work, until it is published. */
    struct work_crew *publisher;
    atomic_bool publisher_failed;
    struct {
        bool waits;
        uint32_t shard;
        struct shard_writer *writer; /* NULL: it has no records */
        struct tally *tally;
    } written;
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

/* ---- publishing ---- */

static int publish(void *argument)
{
    struct run *run = argument;
    struct shard_facts facts = {.digest = ""};
    int rc = run->written.writer ? shard_publish(run->written.writer, &facts) : 0;
    return rc ? rc
              : journal_write_shard(run->work->folder, run->written.shard, &facts,
                                    run->written.tally);
}

static void publisher_fails(void *argument)
{
    struct run *run = argument;
    atomic_store(&run->publisher_failed, true);
}

/* Wait for the shard that is being published, if one is. */
static int finish_publishing(struct run *run)
{
    int rc = work_crew_join(run->publisher);
    run->finished += run->written.waits && !rc;
    run->written.waits = false;
    return rc;
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
        if (atomic_load(&run->publisher_failed))
            return finish_publishing(run);
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
    int rc = tally_add(run->tally, item->file, file->label, shard, (uint32_t)run->tally->records,
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

/* All records of SHARD are appended: hand it to the publisher. Its last pages are written here, so
 * that the memory of two shards' pages is never needed at once. */
static int finish_shard(struct run *run, uint32_t shard)
{
    int rc = run->writer ? shard_commit(run->writer) : 0;
    if (rc || (rc = finish_publishing(run)))
        return rc;
    run->written.waits = true;
    run->written.shard = shard;
    run->written.writer = run->writer;
    run->written.tally = run->tally;
    run->writer = NULL;
    run->tally = &run->tallies[run->tally == run->tallies];
    if (!work_crew_start(run->publisher, "publish", publish, run))
        return 0;
    rc = publish(run); /* no thread can be made: here, then */
    run->written.waits = !rc;
    return rc;
}

static int pack_shard(struct run *run, uint32_t shard)
{
    uint32_t first, count;
    int rc = 0;
    double begin;
    plan_range(run->work->plan, shard, &first, &count);
    tally_reset(run->tally);
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

/* All shards. After an error, too, the one that is being published is waited for. */
static int pack_all(struct run *run)
{
    struct err kept;
    int rc = 0;
    for (uint32_t i = 0; i < run->work->shard_count && !rc; i++)
        rc = pack_shard(run, run->work->shards[i]);
    err_take(rc, &kept);
    rc = finish_publishing(run);
    return kept.kind ? err_raise(&kept) : rc;
}

int pack_shards(const struct pack_work *work, struct pack_result *result)
{
    struct run run = {.work = work, .result = result, .begin = work_seconds()};
    *result = (struct pack_result){0};
    uint32_t classes = source_class_count(work->source);
    int rc = list_files(&run);
    run.tally = run.tallies;
    if (rc || (rc = tally_open(&run.tallies[0], classes)) ||
        (rc = tally_open(&run.tallies[1], classes)) ||
        (rc = work_crew_open(&run.publisher, publisher_fails, &run)) || (rc = open_pipeline(&run)))
        goto done;
    rc = pack_all(&run);
    result->seconds = work_seconds() - run.begin;
    pipeline_get_times(run.pipeline, &result->stages);
    log_progress_end();
    if (rc)
        log_line("%u of %u shards are finished and kept; the same command goes on",
                 work->plan->shards - work->shard_count + run.finished, work->plan->shards);

done:
    shard_writer_discard(run.writer);
    pipeline_close(run.pipeline);
    work_crew_close(run.publisher);
    tally_close(&run.tallies[0]);
    tally_close(&run.tallies[1]);
    mem_free(run.files);
    return rc;
}
