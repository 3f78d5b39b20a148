#include "prep/pack.h"

#include <inttypes.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <jansson.h>

#include "common/dataset.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/opts.h"
#include "common/work.h"
#include "prep/convert.h"
#include "prep/devkit.h"
#include "prep/estimate.h"
#include "prep/journal.h"
#include "prep/pack_shards.h"
#include "prep/plan.h"
#include "prep/source.h"
#include "common/stop.h"
#include "prep/tally.h"
#include "version.h"

#define LOCK ".lock" /* in the data set; stays there, empty */

/* ---- options ---- */

struct settings {
    int encoding; /* enum record_encoding */
    int64_t quality, short_side;
    uint64_t shard_size;
    int64_t seed, per_class, max_bad, jobs;
    const char *classes, *devkit;
    bool strict;
};

#define AT(field) offsetof(struct settings, field)
static const struct opts_row rows[] = {
    {"encoding",   NULL,   OPTS_CHOICE, AT(encoding),   "rgb",  0,       0,               "rgb|jpeg", "What is stored",
     "rgb: exact pixels, about 257 KB a picture; jpeg: about a sixth, decoded again while "
     "training"                                                                                                                                      },
    {"quality",    "N",    OPTS_INT,    AT(quality),    "95",   1,       100,             NULL,       "What is stored",
     "JPEG quality, with --encoding jpeg"                                                                                                            },
    {"short-side", "N",    OPTS_INT,    AT(short_side), "256",  0,       65500,           NULL,       "What is stored",
     "resize the shorter side to this many pixels; 0 keeps the size; never enlarged"                                                                 },
    {"devkit",     "DIR",  OPTS_TEXT,   AT(devkit),     NULL,   0,       0,               NULL,       "What is stored",
     "store the WordNet words of the classes from this development kit"                                                                              },
    {"classes",    "LIST", OPTS_TEXT,   AT(classes),    NULL,   0,       0,               NULL,       "Which pictures",
     "only these classes: a,b,c, or a file with one class a line"                                                                                    },
    {"per-class",  "N",    OPTS_INT,    AT(per_class),  "0",    0,       1e9,             NULL,       "Which pictures",
     "only the first so many files of each class by name; 0 takes all"                                                                               },
    {"max-bad",    "N",    OPTS_INT,    AT(max_bad),    "0",    0,       1e10,            NULL,       "Which pictures",
     "finish even if so many pictures are bad and left out"                                                                                          },
    {"strict",     NULL,   OPTS_FLAG,   AT(strict),     "no",   0,       0,               NULL,       "Which pictures",
     "a picture that the decoder warned about is bad"                                                                                                },
    {"shard-size", "SIZE", OPTS_SIZE,   AT(shard_size), "1GiB", 1 << 20, 1099511627776.0, NULL,       "How",
     "aim at shards of this size"                                                                                                                    },
    {"seed",       "N",    OPTS_INT,    AT(seed),       "0",    0,       9e15,            NULL,       "How",            "of the order of the records"},
    {"jobs",       "N",    OPTS_INT,    AT(jobs),       "0",    0,       1024,            NULL,       "How",
     "converting threads; 0 takes all cores; changes nothing in the result"                                                                          },
    OPTS_END
};

const struct opts_command pack_command = {
    .program = "prep pack",
    .arguments = "SRC OUT.lmdb",
    .summary = "Packs the pictures in SRC/CLASS/ into the data set OUT.lmdb. Interrupted, the same "
               "command goes on; finished shards are kept.",
    .rows = rows,
    .minimum_arguments = 2,
    .maximum_arguments = 2,
};

/* ---- one run ---- */

struct pack {
    struct settings settings;
    struct convert_settings convert;
    const char *from, *to;
    struct files_lock *lock;
    struct source *source;
    struct devkit *devkit;
    struct plan plan;
    json_t *identity; /* what must be the same when a run goes on */
    uint64_t record_bytes;
    uint32_t *unfinished, unfinished_count;
    uint64_t pictures_before, bad_before; /* in shards that were finished at the start */
    struct shard_facts *facts;            /* of all shards, at the end */
    struct tally tally;                   /* of all shards, at the end */
};

static void release(struct pack *pack)
{
    tally_close(&pack->tally);
    mem_free(pack->facts);
    mem_free(pack->unfinished);
    json_decref(pack->identity);
    plan_close(&pack->plan);
    devkit_close(pack->devkit);
    source_close(pack->source);
    files_unlock(pack->lock);
}

/* Is FOLDER something that pack may write into: nothing, empty, or begun by it? */
static int check_folder(const char *folder)
{
    struct files_list list;
    enum files_type type;
    const char *foreign = NULL;
    char quoted[300];
    int rc = files_type(folder, &type, NULL);
    if (rc || type == FILES_NOTHING)
        return rc;
    if (type != FILES_FOLDER)
        return err_set(ERR_USAGE, "%s exists and is not a folder; choose another name", folder);
    if ((rc = files_list(folder, &list)))
        return rc;
    for (size_t i = 0; i < list.count; i++) {
        const char *name = list.names[i];
        if (!strcmp(name, "plan.json") || !strcmp(name, MANIFEST_FILE)) {
            foreign = NULL;
            break;
        }
        if (strcmp(name, LOCK) != 0 && strcmp(name, ".plan.json.partial") != 0)
            foreign = name;
    }
    if (foreign)
        rc = err_set(ERR_USAGE,
                     "%s exists and holds other things (%s); choose another name for the data set",
                     folder, err_quote(quoted, sizeof quoted, foreign));
    files_list_release(&list);
    return rc;
}

static int take_folder(struct pack *pack)
{
    char path[FILES_PATH_SIZE];
    enum files_type type;
    int rc = files_type(pack->from, &type, NULL);
    if (rc)
        return rc;
    if (type != FILES_FOLDER)
        return err_set(ERR_INPUT, "%s %s", pack->from,
                       type == FILES_NOTHING ? "does not exist" : "is not a folder");
    if ((rc = check_folder(pack->to)) || (rc = files_make_folder(pack->to)) ||
        (rc = files_join(path, pack->to, LOCK)) || (rc = files_lock(&pack->lock, path)))
        return rc;
    return journal_clean(pack->to, false);
}

/* ---- what is packed ---- */

/* OUT = digest of all classes' words, "none" without a devkit. */
static int digest_words(const struct pack *pack, char out[33])
{
    struct digest *digest;
    uint32_t missing = 0;
    snprintf(out, 33, "none");
    if (!pack->devkit)
        return 0;
    int rc = digest_open(&digest);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < source_class_count(pack->source); i++) {
        const char *words = devkit_words(pack->devkit, source_class_name(pack->source, i));
        missing += !*words;
        digest_add(digest, words, strlen(words) + 1);
    }
    digest_value128(digest, out);
    digest_close(digest);
    if (missing)
        log_warning("%s has no words for %u of %u classes", pack->settings.devkit, missing,
                    source_class_count(pack->source));
    return 0;
}

/* Everything that shapes the bytes of the data set, and nothing else. */
static int make_identity(struct pack *pack)
{
    const struct settings *s = &pack->settings;
    char words[33];
    int rc = digest_words(pack, words);
    if (rc)
        return rc;
    json_t *settings = json_pack(
        "{s:s, s:I, s:I, s:b, s:I, s:I}", "encoding", record_encoding_names[s->encoding],
        "short_side", (json_int_t)s->short_side, "per_class", (json_int_t)s->per_class, "strict",
        s->strict, "seed", (json_int_t)s->seed, "shard_size", (json_int_t)s->shard_size);
    if (s->encoding == RECORD_JPEG) { /* its bytes are the library's work */
        json_object_set_new(settings, "quality", json_integer((json_int_t)s->quality));
        json_object_set_new(settings, "jpeg_library", json_string(decode_libraries()));
    }
    pack->identity = json_pack("{s:o, s:{s:I, s:I, s:I, s:s, s:s}}", "settings", settings, "source",
                               "classes", (json_int_t)source_class_count(pack->source), "files",
                               (json_int_t)source_file_count(pack->source), "file_bytes",
                               (json_int_t)source_bytes(pack->source), "list_digest",
                               source_digest(pack->source), "words_digest", words);
    return pack->identity ? 0 : err_set(ERR_MEMORY, "no memory for the settings");
}

static int list_pictures(struct pack *pack)
{
    const struct settings *s = &pack->settings;
    struct source_settings settings = {.classes = s->classes, .per_class = s->per_class};
    int rc;
    if (s->devkit && (rc = devkit_open(&pack->devkit, s->devkit)))
        return rc;
    if ((rc = source_open(&pack->source, pack->from, &settings)) ||
        (rc = plan_open(&pack->plan, source_file_count(pack->source), (uint64_t)s->seed)))
        return rc;
    return make_identity(pack);
}

/* ---- where the run stands ---- */

/* *FINISHED: there is a manifest, of the same input and options. */
static int check_finished(struct pack *pack, bool *finished)
{
    char path[FILES_PATH_SIZE], images[32], classes[32];
    enum files_type type;
    struct dataset *dataset;
    *finished = false;
    int rc = files_join(path, pack->to, MANIFEST_FILE);
    if (rc || (rc = files_type(path, &type, NULL)) || type == FILES_NOTHING)
        return rc;
    if ((rc = dataset_open(&dataset, pack->to)))
        return rc;
    const struct manifest *manifest = dataset_manifest(dataset);
    json_t *then =
        json_pack("{s:O, s:O}", "settings", manifest->settings, "source", manifest->source);
    rc = then ? journal_compare(pack->to, then, pack->identity)
              : err_set(ERR_MEMORY, "no memory to compare the settings");
    json_decref(then);
    /* The last step may have been cut short. */
    if (!rc && !(rc = journal_clean(pack->to, true))) {
        *finished = true;
        log_line("%s is already finished: %s pictures of %s classes in %zu shards", pack->to,
                 log_count(images, (int64_t)manifest->images),
                 log_count(classes, (int64_t)manifest->class_count), manifest->shard_count);
    }
    dataset_close(dataset);
    return rc;
}

/* The plan of an interrupted run, or a new one: plan cut into shards. *FRESH: nothing is on disk.
 */
static int cut_plan(struct pack *pack, bool *fresh)
{
    json_t *then;
    int rc = journal_read_plan(pack->to, &then, &pack->record_bytes);
    if (rc)
        return rc;
    *fresh = !then;
    rc = then ? journal_compare(pack->to, then, pack->identity)
              : estimate_record(pack->source, &pack->plan, &pack->convert, &pack->record_bytes);
    json_decref(then);
    return rc ? rc : plan_cut(&pack->plan, pack->settings.shard_size, pack->record_bytes);
}

static int find_unfinished(struct pack *pack)
{
    struct plan *plan = &pack->plan;
    struct tally before = {0};
    pack->unfinished = mem_array(plan->shards, sizeof *pack->unfinished, "shards");
    int rc = pack->unfinished ? tally_open(&before, source_class_count(pack->source)) : -ERR_MEMORY;
    for (uint32_t shard = 0; !rc && shard < plan->shards; shard++) {
        struct shard_facts facts;
        uint32_t first, count;
        bool finished;
        rc = journal_read_shard(pack->to, shard, plan->files, &facts, &before, &finished);
        plan_range(plan, shard, &first, &count);
        if (finished)
            pack->pictures_before += count;
        else
            pack->unfinished[pack->unfinished_count++] = shard;
    }
    pack->bad_before = before.bad;
    tally_close(&before);
    return rc;
}

/* ---- space ---- */

static uint64_t needed_bytes(const struct pack *pack, uint64_t record_bytes)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < pack->unfinished_count; i++) {
        uint32_t first, count;
        plan_range(&pack->plan, pack->unfinished[i], &first, &count);
        bytes += estimate_shard(count, record_bytes);
    }
    return bytes;
}

/* There is too little space: say what is needed, also with the other encoding. */
static int refuse_space(struct pack *pack, uint64_t needed, uint64_t available)
{
    struct convert_settings other = pack->convert;
    uint64_t record_bytes;
    char bytes[3][32];
    other.encoding = other.encoding == RECORD_RGB ? RECORD_JPEG : RECORD_RGB;
    int rc = estimate_record(pack->source, &pack->plan, &other, &record_bytes);
    return rc ? rc
              : err_set(ERR_IO,
                        "%s: about %s are needed, but only %s are free; make room, or choose other "
                        "settings (--encoding %s would need about %s)",
                        pack->to, log_bytes(bytes[0], (double)needed),
                        log_bytes(bytes[1], (double)available),
                        record_encoding_names[other.encoding],
                        log_bytes(bytes[2], (double)needed_bytes(pack, record_bytes)));
}

static int check_space(struct pack *pack)
{
    uint64_t available, inodes, needed = needed_bytes(pack, pack->record_bytes);
    uint64_t names = 2 * (uint64_t)pack->unfinished_count + 4; /* shards, journals, lists */
    char counts[2][32], bytes[3][32];
    int rc = files_free_space(pack->to, &available, &inodes);
    if (rc || !pack->unfinished_count)
        return rc;
    log_line("%s pictures of %s classes, %s; %u of %u shards to pack will take about %s (%s); %s "
             "are free",
             log_count(counts[0], pack->plan.files),
             log_count(counts[1], source_class_count(pack->source)),
             log_bytes(bytes[0], (double)source_bytes(pack->source)), pack->unfinished_count,
             pack->plan.shards, log_bytes(bytes[1], (double)needed),
             record_encoding_names[pack->convert.encoding], log_bytes(bytes[2], (double)available));
    if (inodes < names)
        return err_set(ERR_IO,
                       "%s: %" PRIu64 " more files are needed, but the file system has room "
                       "for %" PRIu64 "; remove some files",
                       pack->to, names, inodes);
    return needed > available ? refuse_space(pack, needed, available) : 0;
}

/* ---- the end ---- */

/* Sum up all shards' journals; *SHARDS of them have records, and so a file. */
static int sum_up(struct pack *pack, uint32_t *shards)
{
    *shards = 0;
    pack->facts = mem_array(pack->plan.shards, sizeof *pack->facts, "shards");
    int rc = pack->facts ? tally_open(&pack->tally, source_class_count(pack->source)) : -ERR_MEMORY;
    for (uint32_t shard = 0; !rc && shard < pack->plan.shards; shard++) {
        bool finished;
        rc = journal_read_shard(pack->to, shard, pack->plan.files, &pack->facts[shard],
                                &pack->tally, &finished);
        if (!rc && !finished)
            rc = err_set(ERR_IO, "%s: shard %u vanished while the others were packed; run again",
                         pack->to, shard);
        *shards += pack->facts[shard].records > 0;
    }
    return rc;
}

static int refuse_bad(const struct pack *pack)
{
    const struct tally *tally = &pack->tally;
    char bad[32], files[32];
    log_count(bad, (int64_t)tally->bad);
    log_count(files, pack->plan.files);
    if (!tally->records)
        return err_set(ERR_INPUT, "%s: all %s pictures are bad; %s/bad.tsv says why", pack->from,
                       files, pack->to);
    return err_set(ERR_INPUT,
                   "%s of %s pictures are bad: %s/bad.tsv lists them; repair the pictures and pack "
                   "anew, or leave them out with the same command and --max-bad %" PRIu64
                   " (nothing is packed again)",
                   bad, files, pack->to, tally->bad);
}

static json_t *describe_source(const struct pack *pack)
{
    const struct tally *tally = &pack->tally;
    json_t *source = json_deep_copy(json_object_get(pack->identity, "source"));
    json_t *kinds = json_object();
    for (int kind = 0; kind < TALLY_KINDS; kind++)
        json_object_set_new(kinds, tally_keys[kind], json_integer((json_int_t)tally->kinds[kind]));
    json_object_set_new(source, "bad", json_integer((json_int_t)tally->bad));
    json_object_set_new(source, "warned", json_integer((json_int_t)tally->warned));
    json_object_set_new(source, "payload_bytes", json_integer((json_int_t)tally->payload_bytes));
    json_object_set_new(source, "stored", kinds);
    return source;
}

/* Fill the tables of MANIFEST and write it. NAMES: room for the shards' file names. */
static int fill_manifest(const struct pack *pack, char (*names)[MANIFEST_SHARD_FILE_SIZE],
                         struct manifest *manifest)
{
    struct dataset_shard *out = manifest->shards;
    for (uint32_t shard = 0; shard < pack->plan.shards; shard++) {
        const struct shard_facts *facts = &pack->facts[shard];
        if (!facts->records)
            continue;
        plan_shard_name(shard, *names);
        out->file = *names++;
        out->records = facts->records;
        out->bytes = facts->bytes;
        memcpy(out->digest, facts->digest, sizeof out->digest);
        out++;
    }
    for (uint32_t i = 0; i < source_class_count(pack->source); i++) {
        const char *name = source_class_name(pack->source, i);
        manifest->classes[i] = (struct dataset_class){
            .name = name,
            .words = pack->devkit ? devkit_words(pack->devkit, name) : "",
            .images = pack->tally.class_images[i],
        };
    }
    return dataset_publish(pack->to, manifest);
}

static int write_manifest(const struct pack *pack, uint32_t shards)
{
    const struct tally *tally = &pack->tally;
    struct manifest manifest = {
        .class_count = source_class_count(pack->source),
        .shard_count = shards,
        .encoding = pack->convert.encoding,
        .images = tally->records,
        .largest_width = tally->largest_width,
        .largest_height = tally->largest_height,
        .largest_payload = tally->largest_payload,
        .settings = json_object_get(pack->identity, "settings"),
        .source = describe_source(pack),
        .tool = "prep " TOOL_VERSION,
    };
    manifest.classes = mem_array(manifest.class_count, sizeof *manifest.classes, "class table");
    manifest.shards = mem_array(shards, sizeof *manifest.shards, "shard table");
    char(*names)[MANIFEST_SHARD_FILE_SIZE] = mem_array(shards, sizeof *names, "shard names");
    int rc = manifest.classes && manifest.shards && names && manifest.source
                 ? fill_manifest(pack, names, &manifest)
                 : err_set(ERR_MEMORY, "no memory for the manifest");
    json_decref(manifest.source);
    mem_free(manifest.classes);
    mem_free(manifest.shards);
    mem_free(names);
    return rc;
}

/* All shards are finished: make a data set of them, or refuse for the bad pictures. */
static int publish(struct pack *pack)
{
    uint32_t shards;
    int rc = sum_up(pack, &shards);
    if (rc || (rc = tally_write_list(&pack->tally, pack->source, pack->to)))
        return rc;
    if (pack->tally.bad > (uint64_t)pack->settings.max_bad || !pack->tally.records)
        return refuse_bad(pack);
    rc = write_manifest(pack, shards);
    return rc ? rc : journal_clean(pack->to, true);
}

/* ---- summary ---- */

static void show_limits(const struct pack_result *result)
{
    static const char *const names[] = {"reading the pictures (disk)", "decoding (CPU)",
                                        "writing (disk)"};
    double total = result->seconds > 0 ? result->seconds : 1;
    double busy[3] = {
        result->stages.read / total,
        result->stages.convert / (total * (result->stages.jobs ? result->stages.jobs : 1)),
        result->write_seconds / total,
    };
    int most = 0;
    for (int i = 1; i < 3; i++)
        if (busy[i] > busy[most])
            most = i;
    log_line("limited by %s: the reader was busy %.0f %% of the time, %d converting threads %.0f "
             "%%, the writer %.0f %%",
             names[most], 100 * busy[0], result->stages.jobs, 100 * busy[1], 100 * busy[2]);
}

static void show_summary(const struct pack *pack, const struct pack_result *result)
{
    const struct tally *tally = &pack->tally;
    char counts[4][32], bytes[4][32], seconds[32], text[1200];
    double total = result->seconds > 0 ? result->seconds : 1;
    if (result->pictures) {
        log_line("packed %s pictures in %s: %.1f images/s, %s read (%s/s), %s stored (%s/s)",
                 log_count(counts[0], (int64_t)result->pictures),
                 log_seconds(seconds, result->seconds), (double)result->pictures / total,
                 log_bytes(bytes[0], (double)result->input_bytes),
                 log_bytes(bytes[1], (double)result->input_bytes / total),
                 log_bytes(bytes[2], (double)result->payload_bytes),
                 log_bytes(bytes[3], (double)result->payload_bytes / total));
        show_limits(result);
    }
    tally_describe(tally, text, sizeof text);
    log_line("stored: %s", text);
    if (tally->bad || tally->warned)
        log_line("%s bad pictures left out, %s with warnings: %s/bad.tsv",
                 log_count(counts[1], (int64_t)tally->bad),
                 log_count(counts[2], (int64_t)tally->warned), pack->to);
    log_line("%s: %s pictures of %s classes", pack->to,
             log_count(counts[3], (int64_t)tally->records),
             log_count(counts[0], source_class_count(pack->source)));
}

/* ---- the command ---- */

static int pack_unfinished(struct pack *pack, struct pack_result *result)
{
    struct pack_work work = {
        .folder = pack->to,
        .source = pack->source,
        .plan = &pack->plan,
        .settings = &pack->convert,
        .shards = pack->unfinished,
        .shard_count = pack->unfinished_count,
        .pictures_before = pack->pictures_before,
        .bad_before = pack->bad_before,
        .jobs = pack->settings.jobs ? (int)pack->settings.jobs : work_cores(),
    };
    *result = (struct pack_result){0};
    return pack->unfinished_count ? pack_shards(&work, result) : 0;
}

static int run(struct pack *pack)
{
    struct pack_result result;
    bool finished, fresh;
    int rc;
    if ((rc = take_folder(pack)) || (rc = list_pictures(pack)) ||
        (rc = check_finished(pack, &finished)) || finished)
        return rc;
    if ((rc = cut_plan(pack, &fresh)) || (rc = find_unfinished(pack)) || (rc = check_space(pack)))
        return rc;
    if (fresh && (rc = journal_write_plan(pack->to, pack->identity, pack->record_bytes)))
        return rc;
    if ((rc = pack_unfinished(pack, &result)) || (rc = publish(pack)))
        return rc;
    show_summary(pack, &result);
    return 0;
}

/* Large pictures' memory goes back to the system at once. Left to itself, glibc learns to keep
 * blocks of up to 32 MiB in each thread's heap: 100 MB more with two jobs. Small blocks stay: LMDB
 * frees its pages at every commit (64 MiB) and takes them again, and to have the system make them
 * anew took 8 % of packing's time. */
static void set_memory_limits(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 96 << 20);
    mallopt(M_TOP_PAD, 1 << 20);
#endif
}

int pack_main(int argc, char **argv)
{
    struct pack pack = {0};
    struct opts_result result;
    int rc = opts_parse(&pack_command, argc, argv, &pack.settings, NULL, &result);
    if (rc)
        return rc;
    if (result.help) {
        opts_help(&pack_command);
        return 0;
    }
    pack.from = result.arguments[0];
    pack.to = result.arguments[1];
    pack.convert = (struct convert_settings){
        .short_side = (int)pack.settings.short_side,
        .encoding = (enum record_encoding)pack.settings.encoding,
        .quality = (int)pack.settings.quality,
        .strict = pack.settings.strict,
    };
    set_memory_limits();
    stop_catch();
    rc = run(&pack);
    release(&pack);
    stop_release();
    return rc;
}
