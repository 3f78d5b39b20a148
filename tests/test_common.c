/* The base of both programs: err, mem, rng, digest, files, work, log, opts. */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/digest.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/opts.h"
#include "common/rng.h"
#include "common/work.h"

/* ---- err ---- */

static void err_carries_kind_and_text(void)
{
    CHECK_INT(err_set(ERR_INPUT, "%s: line %d", "a.txt", 3), -ERR_INPUT);
    CHECK_TEXT(err_text(), "a.txt: line 3");
    CHECK_INT(err_add(-ERR_INPUT, "reading %s", "devkit"), -ERR_INPUT);
    CHECK_TEXT(err_text(), "reading devkit: a.txt: line 3");
    CHECK_INT(err_set(ERR_IO, "again: %s", err_text()), -ERR_IO);
    CHECK_TEXT(err_text(), "again: reading devkit: a.txt: line 3");
    errno = ENOMEM;
    CHECK_INT(err_errno("map"), -ERR_MEMORY);
    errno = ENOSPC;
    CHECK_INT(err_errno("write"), -ERR_IO);
    CHECK_HAS(err_text(), "No space left");
    CHECK_INT(err_exit_code(-ERR_STOPPED), 75);
    char quoted[64], tight[6];
    CHECK_TEXT(err_quote(quoted, sizeof quoted, "a\nb\\\xff"), "a\\x0ab\\x5c\\xff");
    CHECK_TEXT(err_quote(tight, sizeof tight, "ab\ncd"), "ab");
}

/* ---- mem ---- */

static void mem_checks_sizes(void)
{
    size_t out = 7;
    CHECK(!mem_multiply(SIZE_MAX / 2, 3, &out) && out == 7);
    CHECK(!mem_sum(SIZE_MAX, 1, &out) && out == 7);
    CHECK(!mem_array(SIZE_MAX / 2, 4, "too much"));
    CHECK_HAS(err_text(), "too much");
    uint64_t before = mem_allocations();
    int *numbers = mem_array(3, sizeof *numbers, "numbers");
    CHECK(numbers && !numbers[2]);
    CHECK_INT(mem_grow((void **)&numbers, 3, 1000, sizeof *numbers, "numbers"), 0);
    CHECK(!numbers[999]);
    CHECK_INT(mem_grow((void **)&numbers, 1000, SIZE_MAX / 2, sizeof *numbers, "numbers"),
              -ERR_MEMORY);
    numbers[999] = 5;
    CHECK_INT(mem_allocations() - before, 3);
    mem_free(numbers);
    void *aligned = mem_aligned(100, "aligned");
    CHECK_INT((uintptr_t)aligned % 64, 0);
    mem_free(aligned);
}

static void arena_keeps_until_released(void)
{
    struct mem_arena arena = {0};
    char *texts[200];
    for (int i = 0; i < 200; i++) {
        char text[32];
        snprintf(text, sizeof text, "text %d", i);
        texts[i] = mem_arena_text(&arena, text, strlen(text));
        char *large = mem_arena_alloc(&arena, (size_t)i * 1000, "large");
        CHECK_INT((uintptr_t)large % 16, 0);
        memset(large, 0xff, (size_t)i * 1000);
    }
    CHECK_TEXT(texts[0], "text 0");
    CHECK_TEXT(texts[199], "text 199");
    CHECK(!mem_arena_alloc(&arena, SIZE_MAX - 3, "huge"));
    mem_arena_release(&arena);
}

/* ---- rng ---- */

static void philox_gives_the_published_numbers(void)
{
    /* Known answers of the authors' Random123 library, philox4x32-10. */
    uint32_t out[4];
    rng_philox((uint32_t[]){0, 0}, (uint32_t[]){0, 0, 0, 0}, out);
    CHECK(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c &&
          out[3] == 0x9b00dbd8);
    rng_philox((uint32_t[]){0xffffffff, 0xffffffff},
               (uint32_t[]){0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, out);
    CHECK(out[0] == 0x408f276d && out[1] == 0x41c83b0e && out[2] == 0xa20bc7c6 &&
          out[3] == 0x6d5451fd);
    rng_philox((uint32_t[]){0xa4093822, 0x299f31d0},
               (uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, out);
    CHECK(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 &&
          out[3] == 0x24126ea1);
}

static void rng_is_uniform_and_counted(void)
{
    struct rng r, again;
    rng_init(&r, 42, RNG_TEST, 3, 1ull << 40);
    again = r;
    double sum = 0, squares = 0;
    for (int i = 0; i < 20000; i++) {
        double value = rng_normal(&r);
        sum += value;
        squares += value * value;
    }
    CHECK_CLOSE(sum / 20000, 0, 0.03);
    CHECK_CLOSE(squares / 20000, 1, 0.03);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++)
        counts[rng_below(&again, 7)]++;
    for (int i = 0; i < 7; i++)
        CHECK_CLOSE(counts[i] / 10000.0, 1, 0.05);
    CHECK(rng_below(&again, 1) == 0);
    CHECK(rng_below(&again, 1ull << 60) < 1ull << 60);
    uint32_t order[100];
    bool seen[100] = {0};
    rng_permutation(&again, order, 100);
    for (int i = 0; i < 100; i++)
        seen[order[i]] = true;
    for (int i = 0; i < 100; i++)
        CHECK(seen[i]);
    struct rng a, b;
    rng_init(&a, 42, RNG_CROP, 0, 5);
    rng_init(&b, 42, RNG_FLIP, 0, 5);
    CHECK(rng_u32(&a) != rng_u32(&b));
}

/* ---- digest ---- */

static void digest_is_xxh3(void)
{
    char out[33];
    struct digest *digest;
    CHECK_INT(digest64("", 0), 0x2d06800538d394c2ull);
    CHECK_INT(digest_open(&digest), 0);
    digest_value128(digest, out);
    CHECK_TEXT(out, "99aa06d3014798d86001c324468d497f");
    char bytes[5000];
    memset(bytes, 'x', sizeof bytes);
    digest_add(digest, bytes, 17);
    digest_add(digest, bytes, sizeof bytes - 17);
    CHECK_INT(digest_value64(digest), digest64(bytes, sizeof bytes));
    digest_close(digest);
}

/* ---- files ---- */

static void path_in_test_folder(char *out, const char *name)
{
    CHECK_INT(files_join(out, test_folder(), name), 0);
}

static void files_appear_whole(void)
{
    char path[FILES_PATH_SIZE], partial[FILES_PATH_SIZE];
    struct files_writer *writer;
    uint8_t *bytes;
    size_t size;
    enum files_type type;
    path_in_test_folder(path, "whole.bin");
    CHECK_INT(files_partial_name(partial, path), 0);
    CHECK_HAS(partial, "/.whole.bin.partial");
    CHECK_INT(files_writer_open(&writer, path), 0);
    char *large = mem_array(3 << 20, 1, "large");
    memset(large, 'L', 3 << 20);
    CHECK_INT(files_write(writer, "abc", 3), 0);
    CHECK_INT(files_write(writer, large, 3 << 20), 0);
    CHECK_INT(files_write(writer, "xyz", 3), 0);
    CHECK_INT(files_written(writer), (3 << 20) + 6);
    CHECK_INT(files_type(path, &type, NULL), 0);
    CHECK_INT(type, FILES_NOTHING);
    CHECK_INT(files_publish(writer), 0);
    CHECK_INT(files_read(path, 1 << 30, &bytes, &size), 0);
    CHECK_INT(size, (3 << 20) + 6);
    CHECK(!memcmp(bytes, "abcLLL", 6) && !memcmp(bytes + size - 4, "Lxyz", 4) && !bytes[size]);
    mem_free(bytes);
    mem_free(large);
    CHECK_INT(files_type(partial, &type, NULL), 0);
    CHECK_INT(type, FILES_NOTHING);

    CHECK_INT(files_writer_open(&writer, path), 0);
    CHECK_INT(files_write(writer, "new", 3), 0);
    files_discard(writer);
    CHECK_INT(files_type(partial, &type, NULL), 0);
    CHECK_INT(type, FILES_NOTHING);
    CHECK_INT(files_read(path, 100, &bytes, &size), -ERR_INPUT);
    CHECK_HAS(err_text(), "limit");
}

static void full_disk_leaves_the_old_file(void)
{
    char path[FILES_PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    struct files_writer *writer;
    path_in_test_folder(path, "kept.txt");
    CHECK_INT(files_writer_open(&writer, path), 0);
    CHECK_INT(files_write(writer, "old", 3), 0);
    CHECK_INT(files_publish(writer), 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {1 << 16, 1 << 16};
        char block[1 << 12] = {0};
        int rc = 0;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (files_writer_open(&writer, path))
            _exit(100);
        for (int i = 0; i < 1000 && !rc; i++)
            rc = files_write(writer, block, sizeof block);
        if (rc)
            files_discard(writer);
        else
            rc = files_publish(writer);
        _exit(err_exit_code(rc));
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), ERR_IO);
    CHECK_INT(files_read(path, 100, &bytes, &size), 0);
    CHECK_INT(size, 3);
    mem_free(bytes);
}

static void reading_never_blocks(void)
{
    char path[FILES_PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    path_in_test_folder(path, "fifo");
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK_INT(files_read(path, 100, &bytes, &size), -ERR_INPUT);
    CHECK_HAS(err_text(), "not a regular file");
    CHECK_INT(files_read(test_folder(), 100, &bytes, &size), -ERR_INPUT);
    /* A file that is longer than it says. */
    CHECK_INT(files_read("/proc/self/status", 1 << 20, &bytes, &size), -ERR_INPUT);
    CHECK_HAS(err_text(), "changed its size");
    path_in_test_folder(path, "absent");
    CHECK_INT(files_read(path, 100, &bytes, &size), -ERR_IO);
}

static void lists_are_in_byte_order(void)
{
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    static const char *const names[] = {"b", "a", "\xff", "B", ".hidden", "a b\n"};
    path_in_test_folder(folder, "list/deep");
    CHECK_INT(files_make_folder(folder), 0);
    CHECK_INT(files_make_folder(folder), 0);
    for (size_t i = 0; i < 6; i++) {
        CHECK_INT(files_join(path, folder, names[i]), 0);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    struct files_list list;
    CHECK_INT(files_list(folder, &list), 0);
    CHECK_INT(list.count, 6);
    for (size_t i = 1; i < list.count; i++)
        CHECK(strcmp(list.names[i - 1], list.names[i]) < 0);
    files_list_release(&list);
    CHECK_INT(files_make_folder(path), -ERR_IO);
    CHECK_INT(files_remove(path), 0);
    CHECK_INT(files_remove(path), 0);
    uint64_t bytes, inodes;
    CHECK_INT(files_free_space("/proc/self/absent/deeper", &bytes, &inodes), 0);
    CHECK_INT(files_free_space(path, &bytes, &inodes), 0);
    CHECK(bytes > 0);
}

static void one_lock_at_a_time(void)
{
    char path[FILES_PATH_SIZE];
    struct files_lock *lock, *second;
    path_in_test_folder(path, "lock");
    CHECK_INT(files_lock(&lock, path), 0);
    CHECK_INT(files_lock(&second, path), -ERR_BUSY);
    CHECK_HAS(err_text(), "another run");
    files_unlock(lock);
    CHECK_INT(files_lock(&lock, path), 0);
    files_unlock(lock);
}

/* ---- work ---- */

struct pipeline {
    struct work_queue *queue;
    atomic_long sum;
    long fail_at;
};

static int add_items(void *argument)
{
    struct pipeline *pipeline = argument;
    void *item;
    while (work_queue_take(pipeline->queue, &item)) {
        long value = (long)(intptr_t)item;
        if (value == pipeline->fail_at)
            return err_set(ERR_INPUT, "item %ld is bad", value);
        atomic_fetch_add(&pipeline->sum, value);
    }
    return 0;
}

static void cancel(void *argument)
{
    work_queue_cancel(argument);
}

static int run_pipeline(struct pipeline *pipeline, int threads, long items)
{
    struct work_crew *crew;
    CHECK_INT(work_queue_open(&pipeline->queue, 3), 0);
    CHECK_INT(work_crew_open(&crew, cancel, pipeline->queue), 0);
    for (int i = 0; i < threads; i++)
        CHECK_INT(work_crew_start(crew, "adder", add_items, pipeline), 0);
    for (long i = 1; i <= items && work_queue_give(pipeline->queue, (void *)(intptr_t)i); i++) {
    }
    work_queue_end(pipeline->queue);
    int rc = work_crew_join(crew);
    CHECK_INT(work_crew_join(crew), rc);
    work_crew_close(crew);
    work_queue_close(pipeline->queue);
    return rc;
}

static void crews_carry_errors(void)
{
    struct pipeline pipeline = {.fail_at = -1};
    CHECK_INT(run_pipeline(&pipeline, 4, 10000), 0);
    CHECK_INT(pipeline.sum, 50005000);
    pipeline = (struct pipeline){.fail_at = 77};
    CHECK_INT(run_pipeline(&pipeline, 3, 1000000), -ERR_INPUT);
    CHECK_TEXT(err_text(), "item 77 is bad");
    CHECK(work_cores() >= 1);
}

/* ---- log ---- */

static void sizes_are_readable(void)
{
    char out[32];
    CHECK_TEXT(log_bytes(out, 12), "12 B");
    CHECK_TEXT(log_bytes(out, 330e9), "307 GiB");
    CHECK_TEXT(log_bytes(out, 1536), "1.50 KiB");
    CHECK_TEXT(log_count(out, 1281167), "1,281,167");
    CHECK_TEXT(log_count(out, -1000), "-1,000");
    CHECK_TEXT(log_count(out, 12), "12");
    CHECK_TEXT(log_seconds(out, 3.21), "3.2 s");
    CHECK_TEXT(log_seconds(out, 125), "2 min 05 s");
    CHECK_TEXT(log_seconds(out, 7380), "2 h 03 min");
}

/* ---- opts ---- */

struct demo {
    bool fast, careful;
    int64_t count;
    double rate;
    uint64_t size;
    const char *name;
    int mode;
};

#define AT(field) offsetof(struct demo, field)
static const struct opts_row demo_rows[] = {
    {"fast",    NULL,   OPTS_FLAG,   AT(fast),    "no",   0, 0,    NULL,             "G", "go fast"  },
    {"careful", NULL,   OPTS_FLAG,   AT(careful), "yes",  0, 0,    NULL,             "G", "check all"},
    {"count",   "N",    OPTS_INT,    AT(count),   "4",    1, 100,  NULL,             "G", "how many" },
    {"rate",    "X",    OPTS_REAL,   AT(rate),    "0.1",  0, 10,   NULL,             "G", "how steep"},
    {"size",    "SIZE", OPTS_SIZE,   AT(size),    "1GiB", 1, 1e15, NULL,             "G", "how large"},
    {"name",    "TEXT", OPTS_TEXT,   AT(name),    NULL,   0, 0,    NULL,             "G", "its name" },
    {"mode",    NULL,   OPTS_CHOICE, AT(mode),    "copy", 0, 0,    "link|copy|move", "G", "the way"  },
    OPTS_END,
};
static const struct opts_command demo_command = {"demo",    "A [B]", "Shows options.",
                                                 demo_rows, 1,       2};

static int parse(struct demo *demo, struct opts_result *result, int count, ...)
{
    static char *argv[16];
    va_list words;
    va_start(words, count);
    argv[0] = "demo";
    for (int i = 0; i < count; i++)
        argv[i + 1] = va_arg(words, char *);
    va_end(words);
    bool given[8] = {0};
    return opts_parse(&demo_command, count + 1, argv, demo, given, result);
}

static void options_are_parsed(void)
{
    struct demo demo;
    struct opts_result result;
    char text[64];
    CHECK_INT(opts_check(demo_rows), 0);
    CHECK_INT(parse(&demo, &result, 1, "in"), 0);
    CHECK(!demo.fast && demo.careful && demo.count == 4 && demo.rate == 0.1 && demo.mode == 1);
    CHECK(demo.size == 1ull << 30 && !demo.name);
    CHECK_INT(parse(&demo, &result, 9, "--fast", "in", "--count=7", "--no-careful", "--size",
                    "1.5KiB", "--mode=move", "--", "--out"),
              0);
    CHECK(demo.fast && !demo.careful && demo.count == 7 && demo.size == 1536 && demo.mode == 2);
    CHECK_INT(result.argument_count, 2);
    CHECK_TEXT(result.arguments[0], "in");
    CHECK_TEXT(result.arguments[1], "--out");
    for (const struct opts_row *row = demo_rows; row->name; row++) {
        struct demo again = demo;
        opts_value(row, &demo, text, sizeof text);
        if (row->type != OPTS_TEXT) {
            CHECK_INT(opts_set(row, &again, text), 0);
            CHECK(!memcmp(&again, &demo, sizeof demo));
        }
    }
    CHECK_INT(parse(&demo, &result, 2, "--wrong", "--help"), 0);
    CHECK(result.help);
}

static void options_are_refused(void)
{
    struct demo demo;
    struct opts_result result;
    CHECK_INT(parse(&demo, &result, 2, "in", "--coutn=3"), -ERR_USAGE);
    CHECK_HAS(err_text(), "did you mean --count?");
    CHECK_INT(parse(&demo, &result, 2, "in", "--count=101"), -ERR_USAGE);
    CHECK_HAS(err_text(), "1 to 100");
    CHECK_INT(parse(&demo, &result, 2, "in", "--count=4x"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 2, "in", "--rate=nan"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 2, "in", "--size=1GB"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 2, "in", "--mode=co"), -ERR_USAGE);
    CHECK_HAS(err_text(), "link|copy|move");
    CHECK_INT(parse(&demo, &result, 2, "in", "--count"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 2, "in", "-c"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 2, "in", "--no-count"), -ERR_USAGE);
    CHECK_INT(parse(&demo, &result, 0), -ERR_USAGE);
    CHECK_HAS(err_text(), "usage: demo A [B]");
    struct opts_row twice[] = {demo_rows[0], demo_rows[0], OPTS_END};
    CHECK_INT(opts_check(twice), -ERR_FAULT);
    struct opts_row wrong[] = {demo_rows[2], OPTS_END};
    wrong[0].fallback = "0";
    CHECK_INT(opts_check(wrong), -ERR_FAULT);
}

static const struct test tests[] = {
    {"err_carries_kind_and_text",          err_carries_kind_and_text         },
    {"mem_checks_sizes",                   mem_checks_sizes                  },
    {"arena_keeps_until_released",         arena_keeps_until_released        },
    {"philox_gives_the_published_numbers", philox_gives_the_published_numbers},
    {"rng_is_uniform_and_counted",         rng_is_uniform_and_counted        },
    {"digest_is_xxh3",                     digest_is_xxh3                    },
    {"files_appear_whole",                 files_appear_whole                },
    {"full_disk_leaves_the_old_file",      full_disk_leaves_the_old_file     },
    {"reading_never_blocks",               reading_never_blocks              },
    {"lists_are_in_byte_order",            lists_are_in_byte_order           },
    {"one_lock_at_a_time",                 one_lock_at_a_time                },
    {"crews_carry_errors",                 crews_carry_errors                },
    {"sizes_are_readable",                 sizes_are_readable                },
    {"options_are_parsed",                 options_are_parsed                },
    {"options_are_refused",                options_are_refused               },
};
TEST_MAIN(tests)
