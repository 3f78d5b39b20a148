/* prep pack as a whole, in this process: what is stored, the same bytes for any jobs, what is
 * refused, bad pictures, bounded memory. Draws its own pictures. */
#include "prep/pack.h"

#include <sys/resource.h>

#include "common/dataset.h"
#include "common/resample.h"
#include "prep/pipeline.h"
#include "prep/plan.h"
#include "prep/source.h"
#include "tests/pack_tree.h"

/* ---- what is stored ---- */

struct expected {
    struct decoder *decoder;
    struct resampler *resampler;
    struct picture picture, resized;
};

/* RECORD holds what decode and resample make of its file. */
static void check_record(struct expected *expected, const struct record *record, bool *seen)
{
    char name[RECORD_NAME_LIMIT + 1], path[FILES_PATH_SIZE];
    struct decode_info info;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int width, height, class_number = -1, number = -1;
    snprintf(name, sizeof name, "%.*s", (int)record->name_size, record->name);
    CHECK_INT(sscanf(name, "c%d/%d.JPEG", &class_number, &number), 2);
    CHECK(number >= 0 && number < PICTURES && !seen[number]);
    seen[number >= 0 ? number % PICTURES : 0] = true;
    CHECK_INT(record->label, class_number);
    CHECK_INT(files_join(path, tree(), name), 0);
    CHECK_INT(files_read(path, 1 << 24, &bytes, &size), 0);
    CHECK_INT(decoder_read(expected->decoder, bytes, size, &decode_default_limits,
                           &expected->picture, &info),
              0);
    struct picture *picture = &expected->picture, *resized = &expected->resized;
    resample_size(picture->width, picture->height, 256, true, &width, &height);
    struct pixels pixels = {picture->rgb, picture->width, picture->height,
                            (size_t)picture->width * 3};
    struct resample_window window = {width, height, 0, 0, width, height};
    CHECK_INT(picture_resize(resized, width, height), 0);
    CHECK_INT(resampler_run(expected->resampler, &pixels, &window, false, resized->rgb,
                            (size_t)width * 3),
              0);
    CHECK_INT(record->width, width);
    CHECK_INT(record->height, height);
    CHECK_INT(record->original_width, picture->width);
    CHECK_INT(record->original_height, picture->height);
    CHECK_INT(record->payload_size, (uint64_t)width * (uint64_t)height * 3);
    CHECK(!memcmp(record->payload, resized->rgb, (size_t)width * (size_t)height * 3));
    mem_free(bytes);
}

static void test_content(void)
{
    struct dataset *dataset;
    struct expected expected = {0};
    bool seen[PICTURES] = {false};
    int neighbours = 0;
    uint32_t last = UINT32_MAX;
    CHECK_INT(dataset_open(&dataset, reference()), 0);
    if (!dataset)
        return;
    CHECK_INT(decoder_open(&expected.decoder), 0);
    CHECK_INT(resampler_open(&expected.resampler, true), 0);
    const struct manifest *manifest = dataset_manifest(dataset);
    CHECK_INT(manifest->images, PICTURES);
    CHECK_INT(manifest->class_count, CLASSES);
    CHECK_INT(manifest->classes[2].images, PER_CLASS);
    CHECK_TEXT(manifest->classes[2].name, "c2");
    CHECK(manifest->shard_count >= 10);
    for (size_t i = 0; i < manifest->shard_count; i++)
        CHECK(manifest->shards[i].bytes <= 5 << 18); /* 1 MiB, give or take a record */
    for (uint64_t i = 0; i < manifest->images; i++) {
        struct record record;
        CHECK_INT(dataset_get(dataset, i, true, &record), 0);
        check_record(&expected, &record, seen);
        neighbours += record.label == last;
        last = record.label;
    }
    CHECK(neighbours < PICTURES / 3); /* of a random order: 9; of a sorted one: 54 */
    const json_t *stored = json_object_get(manifest->source, "stored");
    CHECK_INT(json_integer_value(json_object_get(stored, "png")), PICTURES / 10);
    CHECK_INT(json_integer_value(json_object_get(stored, "resized")), PICTURES);
    char *list = read_text(reference(), "bad.tsv");
    CHECK_TEXT(list, "verdict\tfile\treason\tplace\n");
    mem_free(list);
    list = read_text(reference(), ".lock");
    CHECK_TEXT(list, "");
    mem_free(list);
    CHECK_INT(count_names(reference()), manifest->shard_count + 3);
    picture_release(&expected.picture);
    picture_release(&expected.resized);
    decoder_close(expected.decoder);
    resampler_close(expected.resampler);
    dataset_close(dataset);
}

static void test_jobs(void)
{
    CHECK_INT(pack(tree(), at("jobs1.lmdb"), "--shard-size 1MiB --jobs 1"), 0);
    check_equal(reference(), at("jobs1.lmdb"));
    CHECK_INT(pack(tree(), at("jobs5.lmdb"), "--shard-size 1MiB --jobs 5"), 0);
    check_equal(reference(), at("jobs5.lmdb"));
    CHECK_INT(pack(tree(), at("jpeg1.lmdb"), "--encoding jpeg --jobs 1"), 0);
    CHECK_INT(pack(tree(), at("jpeg3.lmdb"), "--encoding jpeg --jobs 3"), 0);
    check_equal(at("jpeg1.lmdb"), at("jpeg3.lmdb"));
}

/* A JPEG record decodes to about the RGB record's pixels, and has its size. */
static void test_jpeg(void)
{
    struct dataset *rgb, *jpeg;
    struct decoder *decoder;
    struct picture picture = {0};
    struct decode_info info;
    CHECK_INT(pack(tree(), at("rgb.lmdb"), ""), 0);
    CHECK_INT(pack(tree(), at("jpeg.lmdb"), "--encoding jpeg --quality 95"), 0);
    CHECK_INT(dataset_open(&rgb, at("rgb.lmdb")), 0);
    CHECK_INT(dataset_open(&jpeg, at("jpeg.lmdb")), 0);
    CHECK_INT(decoder_open(&decoder), 0);
    for (uint64_t i = 0; rgb && jpeg && i < PICTURES; i++) {
        struct record a, b;
        uint64_t difference = 0;
        CHECK_INT(dataset_get(rgb, i, true, &a), 0);
        CHECK_INT(dataset_get(jpeg, i, true, &b), 0);
        CHECK(a.name_size == b.name_size && !memcmp(a.name, b.name, a.name_size));
        CHECK_INT(b.encoding, RECORD_JPEG);
        CHECK_INT(b.width, a.width);
        CHECK_INT(b.height, a.height);
        CHECK_INT(decoder_read(decoder, b.payload, b.payload_size, &decode_default_limits, &picture,
                               &info),
                  0);
        CHECK_INT(info.verdict, DECODE_PACK);
        CHECK_INT(picture.width, a.width);
        CHECK_INT(picture.height, a.height);
        for (uint64_t k = 0; k < a.payload_size; k++)
            difference += (uint64_t)abs(picture.rgb[k] - a.payload[k]);
        CHECK(difference < 3 * a.payload_size);
    }
    picture_release(&picture);
    decoder_close(decoder);
    dataset_close(rgb);
    dataset_close(jpeg);
}

/* ---- refusals ---- */

static void check_refused(const char *to, const char *settings, const char *was, const char *now)
{
    CHECK_INT(pack(tree(), to, settings), -ERR_MISMATCH);
    CHECK_HAS(err_text(), was);
    CHECK_HAS(err_text(), now);
}

static void test_other_options(void)
{
    const char *begun = at("options.lmdb");
    CHECK_INT(interrupt(tree(), begun, options, 6, SIGTERM), 75);
    const char *folders[] = {begun, reference()};
    /* What a killed run left takes no space from then on. */
    write_file(at("options.lmdb/.shard-00009.mdb.partial"), "x", 1);
    for (int i = 0; i < 2; i++) {
        check_refused(folders[i], "--shard-size 2MiB", "shard_size was 1048576", "now 2097152");
        check_refused(folders[i], "--shard-size 1MiB --seed 3", "seed was 0", "now 3");
        check_refused(folders[i], "--shard-size 1MiB --short-side 0", "short_side was 256",
                      "now 0");
        check_refused(folders[i], "--shard-size 1MiB --strict", "strict was false", "now true");
        check_refused(folders[i], "--shard-size 1MiB --encoding jpeg", "was \"rgb\"",
                      "now \"jpeg\"");
        check_refused(folders[i], "--shard-size 1MiB --per-class 3", "per_class was 0", "now 3");
        check_refused(folders[i], "--shard-size 1MiB --classes c1,c2", "classes was 6", "now 2");
    }
    CHECK(!exists(begun, ".shard-00009.mdb.partial"));
    char path[FILES_PATH_SIZE];
    snprintf(path, sizeof path, "%s/c0/new.jpg", tree());
    write_file(path, "x", 1);
    check_refused(begun, options, "files was 60", "now 61");
    CHECK_INT(unlink(path), 0);
    CHECK_INT(pack(tree(), begun, "--shard-size 1MiB --jobs 7 --max-bad 5 --quality 3"), 0);
    check_equal(reference(), begun);
}

static void test_finished(void)
{
    const char *to = at("finished.lmdb");
    CHECK_INT(pack(tree(), to, options), 0);
    write_file(at("finished.lmdb/plan.json"), "{}", 2); /* as if killed before the last step */
    write_file(at("finished.lmdb/shard-00000.json"), "{}", 2);
    write_file(at("finished.lmdb/.bad.tsv.partial"), "{}", 2);
    CHECK_INT(pack(tree(), to, options), 0);
    check_equal(reference(), to);
    CHECK_INT(truncate(at("finished.lmdb/shard-00002.mdb"), 8192), 0);
    CHECK_INT(pack(tree(), to, options), -ERR_INPUT);
    CHECK_HAS(err_text(), "shard-00002.mdb");
}

static void test_foreign_folder(void)
{
    CHECK_INT(files_make_folder(at("home")), 0);
    write_file(at("home/thesis.tex"), "x", 1);
    CHECK_INT(pack(tree(), at("home"), options), -ERR_USAGE);
    CHECK_HAS(err_text(), "thesis.tex");
    CHECK_INT(count_names(at("home")), 1);
    CHECK_INT(pack(tree(), at("home/thesis.tex"), options), -ERR_USAGE);
    CHECK_INT(pack(tree(), tree(), options), -ERR_USAGE);
    CHECK_INT(pack(at("nowhere"), at("never.lmdb"), options), -ERR_INPUT);
    CHECK(!exists(test_folder(), "never.lmdb"));
    CHECK_INT(pack(tree(), at("never.lmdb"), "--shard-size 1MB"), -ERR_USAGE);
    CHECK_INT(pack(tree(), at("never.lmdb"), "--jobs -1"), -ERR_USAGE);
    CHECK_INT(pack(tree(), at("never.lmdb"), "--encoding webp"), -ERR_USAGE);
    CHECK(!exists(test_folder(), "never.lmdb"));
}

/* ---- bad pictures ---- */

/* A tree whose pictures at the positions of shards 2 and 5 are bad, and one in shard 0. */
static const char *make_bad_tree(void)
{
    static char from[FILES_PATH_SIZE];
    struct source_settings settings = {0};
    struct source *source;
    struct plan plan;
    char name[RECORD_NAME_LIMIT + 1], path[FILES_PATH_SIZE];
    if (from[0])
        return from;
    snprintf(from, sizeof from, "%s", make_tree("bad"));
    CHECK_INT(source_open(&source, from, &settings), 0);
    CHECK_INT(plan_open(&plan, PICTURES, 0), 0);
    /* 300 to 306 x 280 to 282 pixels make records of about 214,000 bytes: 5 a shard, 12 shards. */
    CHECK_INT(plan_cut(&plan, 1 << 20, 214000), 0);
    for (uint32_t shard = 0; shard < 6; shard++) {
        uint32_t first, count;
        plan_range(&plan, shard, &first, &count);
        for (uint32_t i = 0; i < (shard == 0 ? 1 : shard % 3 == 2 ? count : 0); i++) {
            source_name(source, plan.order[first + i], name);
            CHECK_INT(files_join(path, from, name), 0);
            write_file(path, "<html>", 6);
        }
    }
    plan_close(&plan);
    source_close(source);
    return from;
}

static void test_bad(void)
{
    const char *from = make_bad_tree(), *to = at("bad.lmdb"), *whole = at("bad-whole.lmdb");
    struct stat before, after;
    CHECK_INT(pack(from, to, options), -ERR_INPUT);
    CHECK_HAS(err_text(), "11 of 60 pictures are bad");
    CHECK_HAS(err_text(), "bad.tsv");
    CHECK_HAS(err_text(), "--max-bad 11");
    CHECK(!exists(to, "manifest.json"));
    CHECK(exists(to, "bad.tsv"));
    CHECK_INT(stat(at("bad.lmdb/shard-00000.mdb"), &before), 0);
    CHECK_INT(pack(from, to, "--shard-size 1MiB --max-bad 10"), -ERR_INPUT);
    CHECK_INT(pack(from, to, "--shard-size 1MiB --max-bad 11"), 0);
    CHECK_INT(stat(at("bad.lmdb/shard-00000.mdb"), &after), 0);
    CHECK_INT(after.st_ino, before.st_ino); /* not packed again */
    CHECK_INT(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);

    CHECK_INT(pack(from, whole, "--shard-size 1MiB --max-bad 60 --jobs 3"), 0);
    check_equal(whole, to);
    struct dataset *dataset;
    CHECK_INT(dataset_open(&dataset, to), 0);
    if (dataset) {
        CHECK_INT(dataset_manifest(dataset)->images, PICTURES - 11);
        CHECK_INT(dataset_manifest(dataset)->shard_count, 10); /* 12, less two of bad ones only */
    }
    for (uint64_t i = 0; dataset && i < PICTURES - 11; i++) {
        struct record record;
        CHECK_INT(dataset_get(dataset, i, true, &record), 0);
    }
    dataset_close(dataset);
    char *list = read_text(to, "bad.tsv"), *last = list;
    int lines = 0;
    for (char *line = strchr(list, '\n') + 1; *line; line = strchr(line, '\n') + 1, lines++) {
        CHECK(!strncmp(line, "bad\tc", 5));
        CHECK(strncmp(line, last, strcspn(line + 4, "\t") + 4) > 0 || lines == 0);
        CHECK_HAS(line, "\tnot a picture\t-\n");
        last = line;
    }
    CHECK_INT(lines, 11);
    mem_free(list);
}

/* kill -9 in the last steps, with bad pictures. */
static void test_bad_killed(void)
{
    const char *from = make_bad_tree(), *whole = at("end-whole.lmdb"), *to = at("end.lmdb");
    CHECK_INT(pack(from, whole, "--shard-size 1MiB --max-bad 60"), 0);
    size_t all = 2 + 2 * 12 + 2;
    for (size_t names = all - 6; names <= all; names++) {
        int code = interrupt(from, to, "--shard-size 1MiB --max-bad 60", names, SIGKILL);
        CHECK(code == 0 || code == -SIGKILL);
    }
    CHECK_INT(pack(from, to, "--shard-size 1MiB --max-bad 60"), 0);
    check_equal(whole, to);
}

static void test_all_bad(void)
{
    const char *from = at("allbad"), *to = at("allbad.lmdb");
    CHECK_INT(files_make_folder(at("allbad/c")), 0);
    write_file(at("allbad/c/1.jpg"), "", 0);
    write_file(at("allbad/c/2\t\n\xff.jpg"), "GIF89a", 6);
    CHECK_INT(pack(from, to, "--max-bad 5"), -ERR_INPUT);
    CHECK_HAS(err_text(), "all 2 pictures are bad");
    char *list = read_text(to, "bad.tsv");
    CHECK_HAS(list, "bad\tc/1.jpg\tempty\t-\nbad\tc/2\\x09\\x0a\\xff.jpg\tGIF\t-\n");
    mem_free(list);
}

/* ---- input that changes or cannot be read ---- */

static void test_unreadable(void)
{
    const char *from = at("unreadable"), *to = at("unreadable.lmdb");
    CHECK_INT(files_make_folder(at("unreadable/c")), 0);
    write_file(at("unreadable/c/1.jpg"), "x", 1);
    CHECK_INT(symlink("/proc/self/mem", at("unreadable/c/2.jpg")), 0); /* reading says EIO */
    CHECK_INT(pack(from, to, "--max-bad 9"), -ERR_IO);
    CHECK_HAS(err_text(), "c/2.jpg");
    CHECK(!exists(to, "bad.tsv"));
}

/* ---- the pipeline ---- */

/* Many pictures through few buffers: after the first round nothing is allocated. */
static void test_allocations(void)
{
    enum { ROUNDS = 20 };
    uint32_t files[PICTURES * ROUNDS];
    struct source_settings settings = {0};
    struct convert_settings convert = {.short_side = 64, .quality = 95};
    struct source *source;
    struct pipeline *pipeline;
    uint64_t before = 0;
    for (uint32_t i = 0; i < PICTURES * ROUNDS; i++)
        files[i] = i % PICTURES;
    CHECK_INT(source_open(&source, tree(), &settings), 0);
    struct pipeline_task task = {source, &convert, files, PICTURES * ROUNDS, 3};
    CHECK_INT(pipeline_open(&pipeline, &task), 0);
    for (uint32_t i = 0; pipeline && i < task.count;) {
        struct pipeline_item item;
        int rc = pipeline_next(pipeline, &item);
        CHECK(rc >= 0);
        if (rc < 0)
            break;
        if (!rc)
            continue;
        CHECK_INT(item.file, files[i]);
        CHECK_INT(item.converted->info.verdict, DECODE_PACK);
        pipeline_release(pipeline);
        if (++i == task.count * 3 / 4) /* by now every slot had the largest */
            before = mem_allocations();
    }
    CHECK_INT(mem_allocations(), before);
    pipeline_close(pipeline);
    source_close(source);
}

/* What is under way is bounded: of pictures of 48 MB each only a few are decoded ahead, although
 * there are slots and time for all. Runs in the child. */
static void decode_ahead(const char *from, int files)
{
    uint32_t numbers[12];
    struct source_settings settings = {0};
    struct convert_settings convert = {.short_side = 0};
    struct source *source;
    struct pipeline *pipeline;
    struct pipeline_item item;
    struct pipeline_times times = {0};
    double before = -1;
    if (source_open(&source, from, &settings))
        _exit(1);
    for (int i = 0; i < files; i++)
        numbers[i] = (uint32_t)i;
    struct pipeline_task task = {source, &convert, numbers, (uint32_t)files, 2};
    if (pipeline_open(&pipeline, &task))
        _exit(2);
    for (int i = 0; i < files; i++) {
        int rc;
        while ((rc = pipeline_next(pipeline, &item)) == 0)
            ;
        if (rc < 0)
            _exit(3);
        while (i == 0 && times.convert != before) { /* until nothing moves any more */
            before = times.convert;
            usleep(800000);
            pipeline_get_times(pipeline, &times);
        }
        pipeline_release(pipeline);
    }
    pipeline_close(pipeline);
    source_close(source);
    _exit(0);
}

static void test_memory(void)
{
    enum { FILES = 12 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    TEST_SKIP("a sanitizer takes memory of its own");
#endif
    struct picture picture = {0};
    struct decoder *decoder;
    struct rusage usage;
    uint8_t *bytes = NULL;
    size_t capacity = 0, size = 0;
    int status = 0;
    CHECK_INT(files_make_folder(at("large/c")), 0);
    CHECK_INT(decoder_open(&decoder), 0);
    draw(&picture, 4800, 3400, 1);
    CHECK_INT(decoder_write_jpeg(decoder, &picture, 95, &bytes, &capacity, &size), 0);
    write_file(at("large/c/0.jpg"), bytes, size);
    for (int i = 1; i < FILES; i++)
        CHECK_INT(link(at("large/c/0.jpg"), at("large/c/%d.jpg", i)), 0);
    mem_free(bytes);
    picture_release(&picture);
    decoder_close(decoder);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        decode_ahead(at("large"), FILES);
    CHECK_INT(wait4(child, &status, 0, &usage), child);
    CHECK_INT(status, 0);
    printf("%d pictures of 16.3 Mpixel: at most %ld MB\n", FILES, usage.ru_maxrss / 1000);
    CHECK(usage.ru_maxrss < 300000);
}

static const struct test tests[] = {
    {"memory",         test_memory        },
    {"content",        test_content       },
    {"jobs",           test_jobs          },
    {"jpeg",           test_jpeg          },
    {"other_options",  test_other_options },
    {"finished",       test_finished      },
    {"foreign_folder", test_foreign_folder},
    {"bad",            test_bad           },
    {"bad_killed",     test_bad_killed    },
    {"all_bad",        test_all_bad       },
    {"unreadable",     test_unreadable    },
    {"allocations",    test_allocations   },
};

TEST_MAIN(tests)
