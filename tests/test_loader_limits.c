/*
 * What the loader does at its limits: damaged records and labels, manifests that lie, tiny sets;
 * and what it takes: it allocates nothing while it runs, gives the map's pages back, and tells
 * where the time goes.
 */
#include "tests/loader_set.h"

#include <signal.h>
#include <sys/syscall.h>

#include "common/work.h"

/* ---- damage ---- */

/* Change one byte of PATH where record INDEX's pixels stand. */
static void damage(const char *path, const struct recipe *recipe, uint32_t index)
{
    struct picture picture = {0};
    uint8_t *bytes;
    size_t size;
    draw(&picture, recipe, index);
    CHECK_INT(files_read(path, 64 << 20, &bytes, &size), 0);
    uint8_t *found = memmem(bytes, size, picture.rgb, 1000);
    CHECK(found != NULL);
    FILE *file = fopen(path, "r+b");
    CHECK(file != NULL);
    if (found && file) {
        fseek(file, found - bytes + 500, SEEK_SET);
        fputc(found[500] ^ 1, file);
    }
    if (file)
        fclose(file);
    mem_free(bytes);
    picture_release(&picture);
}

/* A label that is damaged so that its record comes into the classes that take part, or leaves them:
 * found before the first batch, though no checksum is looked at there. */
static void bad_label(void)
{
    const int32_t labels[CLASSES] = {1, -1, 0, -1, 2};
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct recipe recipe = rgb_set;
    recipe.name = "label.lmdb";
    make_set(&recipe, folder, NULL);
    CHECK_INT(files_join(path, folder, "shard-00001.mdb"), 0);
    for (uint32_t record = 18; record < 21; record += 2) { /* labels 1 and 0 */
        struct loader_settings settings = validation_settings();
        struct dataset *dataset;
        struct loader *loader = NULL;
        uint8_t *bytes;
        size_t size;
        struct picture picture = {0};
        draw(&picture, &recipe, record);
        CHECK_INT(files_read(path, 64 << 20, &bytes, &size), 0);
        uint8_t *pixels = memmem(bytes, size, picture.rgb, 1000), *head = NULL;
        for (uint8_t *at = bytes; pixels && at < pixels; at++)
            if (!memcmp(at, "REC1", 4))
                head = at;
        FILE *file = fopen(path, "r+b");
        CHECK(head != NULL && file != NULL);
        if (!head || !file)
            return;
        fseek(file, head + 4 - bytes, SEEK_SET);
        fputc(head[4] ^ 1, file);
        fclose(file);
        CHECK_INT(dataset_open(&dataset, folder), 0);
        settings.labels = labels;
        settings.classes = 3;
        CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
        CHECK_HAS(err_text(), "left out, but the manifest says 20");
        loader_close(loader);
        dataset_close(dataset);
        file = fopen(path, "wb");
        CHECK(file && fwrite(bytes, 1, size, file) == size);
        if (file)
            fclose(file);
        mem_free(bytes);
        picture_release(&picture);
    }
}

/* One changed bit: the batches before come whole, the error names the place, whatever the threads
 * do. */
static void bad_record(void)
{
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct recipe recipe = rgb_set;
    recipe.name = "bad.lmdb";
    make_set(&recipe, folder, NULL);
    CHECK_INT(files_join(path, folder, "shard-00001.mdb"), 0);
    damage(path, &recipe, 13 + 5); /* record 5 of shard 1 is record 18: batch 2 */
    damage(path, &recipe, 13 + 8); /* so is record 8; another worker may find it first */
    const int workers[] = {1, 2, 5, 5, 5};
    for (int k = 0; k < 5; k++) {
        struct loader_settings settings = validation_settings();
        struct dataset *dataset;
        const struct batch *batch;
        settings.workers = workers[k];
        settings.depth = 5;
        CHECK_INT(dataset_open(&dataset, folder), 0);
        struct loader *loader = open_loader(dataset, &settings);
        CHECK_INT(loader_start(loader, 0, 0), 0);
        CHECK_INT(loader_next(loader, &batch), 1);
        CHECK_INT(loader_next(loader, &batch), 1);
        for (int again = 0; again < 3; again++) {
            CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
            CHECK_HAS(err_text(), "shard-00001.mdb");
            CHECK_HAS(err_text(), "record 5");
        }
        CHECK_INT(loader_start(loader, 0, 3), 0);
        int more = 0;
        while (loader_next(loader, &batch) == 1)
            more++;
        CHECK_INT(more, 4);
        loader_close(loader);
        dataset_close(dataset);
    }
}

static void understate(struct manifest *manifest)
{
    manifest->largest_width = 40;
    manifest->largest_height = 40;
}

static void overstate(struct manifest *manifest)
{
    manifest->largest_width = 65536;
}

/* The first batch is refused with a text that holds PLACE and WHY. */
static void check_refused(const struct recipe *recipe, void (*change)(struct manifest *),
                          int resize, const char *place, const char *why)
{
    char folder[FILES_PATH_SIZE];
    struct dataset *dataset;
    struct loader_settings settings = validation_settings();
    const struct batch *batch;
    settings.resize = resize;
    make_set(recipe, folder, change);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), -ERR_INPUT);
    CHECK_HAS(err_text(), place);
    CHECK_HAS(err_text(), why);
    loader_close(loader);
    dataset_close(dataset);
}

static void bad_sizes(void)
{
    const struct recipe lie = {.name = "lie.lmdb",
                               .encoding = RECORD_JPEG,
                               .shards = {1},
                               .width = 20,
                               .height = 10,
                               .lie = 1};
    const struct recipe line = {.name = "line.lmdb", .shards = {1}, .width = 300, .height = 1};
    struct recipe recipe = jpeg_set;
    char folder[FILES_PATH_SIZE];
    struct dataset *dataset;
    struct loader *loader = NULL;
    const struct loader_settings settings = validation_settings();

    recipe.name = "understated.lmdb";
    check_refused(&recipe, understate, 27, "understated.lmdb/shard-00000.mdb: ", "record 1");
    check_refused(&lie, NULL, 27, "lie.lmdb/shard-00000.mdb: record 0 (class_0/",
                  "20 x 10, not 21 x 10");
    check_refused(&line, NULL, 256, "line.lmdb/shard-00000.mdb: record 0 (class_0/", "300 x 1");

    recipe.name = "overstated.lmdb";
    make_set(&recipe, folder, overstate);
    CHECK_INT(dataset_open(&dataset, folder), 0);
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "overstated.lmdb: the manifest says that the largest picture is 65536 x");
    CHECK(loader == NULL);
    dataset_close(dataset);
}

/* ---- sizes and resources ---- */

static void tiny(void)
{
    const int32_t none[CLASSES] = {-1, -1, -1, -1, -1};
    const struct recipe one = {.name = "one.lmdb", .shards = {1}, .width = 9, .height = 5};
    struct dataset *dataset = open_set(&one);
    struct loader_settings settings = training_settings();
    struct loader *loader = NULL;
    const struct batch *batch;
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "one.lmdb: 1 pictures");
    CHECK_HAS(err_text(), "batch of 8");
    CHECK(loader == NULL);
    settings.labels = none;
    CHECK_INT(loader_open(&loader, dataset, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "no picture takes part");

    settings = training_settings();
    settings.batch = 1;
    settings.workers = 5;
    loader = open_loader(dataset, &settings);
    CHECK_INT(loader_batches(loader), 1);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    for (uint32_t epoch = 0; epoch < 20; epoch++) {
        CHECK_INT(loader_next(loader, &batch), 1);
        CHECK_INT(batch->rows, 1);
        check_row(dataset, &settings, epoch, batch, 0, 0);
    }
    loader_close(loader);

    settings = validation_settings();
    settings.batch = 300;
    loader = open_loader(dataset, &settings);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(batch->rows, 1);
    check_row(dataset, &settings, 0, batch, 0, 0);
    CHECK_INT(loader_next(loader, &batch), 0);
    loader_close(loader);
    dataset_close(dataset);
}

/* Nothing is allocated after loader_open, over epochs, restarts and kinds of loaders. */
static void no_allocation(void)
{
    const struct recipe wide = {.name = "wide.lmdb", .shards = {40}, .width = 300, .height = 20};
    const struct recipe *recipes[] = {&rgb_set, &jpeg_set, &wide};
    for (int r = 0; r < 3; r++)
        for (int training = 0; training < 2; training++) {
            struct dataset *dataset = open_set(recipes[r]);
            struct loader_settings settings =
                training ? training_settings() : validation_settings();
            const struct batch *batch;
            struct loader *loader = open_loader(dataset, &settings);
            uint64_t before = mem_allocations();
            for (uint32_t start = 0; start < 5; start++) {
                CHECK_INT(loader_start(loader, start, 0), 0);
                for (uint32_t b = 0; b < loader_batches(loader); b++)
                    CHECK_INT(loader_next(loader, &batch), 1);
            }
            CHECK_INT(mem_allocations() - before, 0);
            loader_close(loader);
            dataset_close(dataset);
        }
}

/* What loader_memory says: the ring, which is most of it for large pictures, and some for each
 * worker. */
static void memory(void)
{
    struct dataset *dataset = open_set(&jpeg_set);
    struct loader_settings settings = training_settings();
    settings.size = 256;
    settings.depth = 4;
    const uint64_t ring = UINT64_C(4) * 8 * 256 * 256 * 3;
    struct loader *loader = open_loader(dataset, &settings);
    CHECK(loader_memory(loader) > ring);
    CHECK(loader_memory(loader) < ring + (1 << 20));
    settings.workers = 4;
    struct loader *more = open_loader(dataset, &settings);
    CHECK(loader_memory(more) > loader_memory(loader) + 2 * 100000);
    loader_close(more);
    loader_close(loader);
    dataset_close(dataset);
}

/* Bytes of files that are mapped and in memory, of this process. */
static long mapped_bytes(void)
{
    char line[256];
    long kilobytes = -1;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "RssFile: %ld", &kilobytes);
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

static void check_mapped(long before, long limit)
{
    const long grown = mapped_bytes() - before;
    if (grown > limit)
        printf("%ld bytes of the data set are in memory\n", grown);
    CHECK(grown <= limit);
}

/* Of 14 MB that are read three times, less than half stays in this program's memory: the system
 * maps up to 64 KB around a page that is read, and some of that belongs to the records beside it.
 */
static void map_is_given_back(void)
{
    const int32_t labels[CLASSES] = {0, -1, 1, 2, 3};
    const struct recipe big = {
        .name = "big.lmdb", .shards = {30, 20},
             .width = 310, .height = 300
    };
    struct dataset *dataset = open_set(&big);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    const long before = mapped_bytes();
    if (before < 0)
        TEST_SKIP("/proc/self/status has no RssFile");
    for (int k = 0; k < 2; k++) {
        settings.labels = k ? labels : NULL;
        struct loader *loader = open_loader(dataset, &settings);
        check_mapped(before, 4 << 20);
        CHECK_INT(loader_start(loader, 0, 0), 0);
        for (uint32_t b = 0; b < 3 * loader_batches(loader); b++)
            CHECK_INT(loader_next(loader, &batch), 1);
        check_mapped(before, 7 << 20);
        loader_close(loader);
    }
    dataset_close(dataset);
}

/* A slow trainer makes the workers idle, a quick one waits. */
static void times(void)
{
    struct dataset *dataset = open_set(&jpeg_set);
    struct loader_settings settings = training_settings();
    const struct batch *batch;
    struct loader_times slow, fast;
    struct loader *loader = open_loader(dataset, &settings);
    loader_times(loader, &slow);
    CHECK(slow.wait == 0 && slow.read == 0 && slow.decode == 0 && slow.augment == 0 &&
          slow.idle == 0);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    for (int b = 0; b < 10; b++) {
        CHECK_INT(loader_next(loader, &batch), 1);
        usleep(20000);
    }
    loader_times(loader, &slow);
    CHECK(slow.read > 0 && slow.decode > 0 && slow.augment > 0);
    CHECK(slow.idle > 0.05);
    for (int b = 0; b < 100; b++)
        CHECK_INT(loader_next(loader, &batch), 1);
    loader_times(loader, &fast);
    CHECK(fast.wait > slow.wait);
    CHECK(fast.decode > slow.decode);
    loader_close(loader);
    dataset_close(dataset);
}

static void sleep_on(int number)
{
    (void)number;
    usleep(500000);
}

/* Let the thread NAME of this process stand still for a while. */
static void hold_thread(const char *name)
{
    struct files_list tasks;
    char path[FILES_PATH_SIZE], text[64];
    CHECK_INT(files_list("/proc/self/task", &tasks), 0);
    for (size_t i = 0; i < tasks.count; i++) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", tasks.names[i]);
        FILE *file = fopen(path, "r");
        if (file && fgets(text, sizeof text, file) && !strncmp(text, name, strlen(name)))
            CHECK_INT(syscall(SYS_tgkill, getpid(), atoi(tasks.names[i]), SIGILL), 0);
        if (file)
            fclose(file);
    }
    files_list_release(&tasks);
}

/* A worker that hangs: the one who waits for it says so, again and again, and then goes on. */
static void told_wait(void)
{
    struct dataset *dataset = open_set(&rgb_set);
    struct loader_settings settings = validation_settings();
    const struct batch *batch;
    char text[4096] = "";
    int said[2], kept = dup(STDERR_FILENO);
    settings.workers = 1;
    settings.patience_ms = 50;
    signal(SIGILL, sleep_on);
    struct loader *loader = open_loader(dataset, &settings);
    CHECK_INT(pipe(said), 0);
    hold_thread("loader 0");
    usleep(20000);
    dup2(said[1], STDERR_FILENO);
    CHECK_INT(loader_start(loader, 0, 0), 0);
    CHECK_INT(loader_next(loader, &batch), 1);
    hold_thread("loader 0");
    for (int b = 1; b < 7; b++)
        CHECK_INT(loader_next(loader, &batch), 1);
    CHECK_INT(loader_next(loader, &batch), 0);
    dup2(kept, STDERR_FILENO);
    close(said[1]);
    CHECK(read(said[0], text, sizeof text - 1) > 0);
    close(said[0]);
    close(kept);
    CHECK_HAS(text, "warning: waiting for pictures for ");
    CHECK_HAS(text, ": 0 of 8 of the next batch are there; the disk of ");
    CHECK_HAS(text, " of 8 of the next batch are there, now at record ");
    CHECK_HAS(text, " of shard-0000");
    loader_close(loader);
    dataset_close(dataset);
}

static const struct test tests[] = {
    {"told_wait",         told_wait        },
    {"bad_label",         bad_label        },
    {"bad_record",        bad_record       },
    {"bad_sizes",         bad_sizes        },
    {"tiny",              tiny             },
    {"no_allocation",     no_allocation    },
    {"memory",            memory           },
    {"map_is_given_back", map_is_given_back},
    {"times",             times            },
};
TEST_MAIN(tests)
