/*
 * Orders of epochs: the lines of data-spec/30-order.md and of oracle/order.txt (made by another
 * program from that document), and what an order must be: each record once, mixed, others dropped
 * in each epoch.
 */
#include "tests/test.h"

#include "common/mem.h"
#include "common/rng.h"
#include "common/work.h"
#include "train/order.h"

static struct order *open_order(enum order_shuffle shuffle, uint64_t seed, uint32_t count,
                                uint32_t batch)
{
    const struct order_settings settings = {
        .shuffle = shuffle, .seed = seed, .batch = batch, .count = count};
    struct order *order = NULL;
    CHECK_INT(order_open(&order, &settings), 0);
    return order;
}

static struct order *open_shards(uint64_t seed, const uint32_t *sizes, size_t shard_count,
                                 uint32_t batch)
{
    struct order_settings settings = {.shuffle = ORDER_SHARDS,
                                      .seed = seed,
                                      .batch = batch,
                                      .shard_sizes = sizes,
                                      .shard_count = shard_count};
    struct order *order = NULL;
    for (size_t s = 0; s < shard_count; s++)
        settings.count += sizes[s];
    CHECK_INT(order_open(&order, &settings), 0);
    return order;
}

/* LINE up to its colon is there; compute the rest and compare. */
static void check_sequence(const char *line, struct order *order, uint32_t epoch, uint32_t count)
{
    char text[8192];
    size_t used =
        (size_t)snprintf(text, sizeof text, "%.*s", (int)(strchr(line, ':') + 1 - line), line);
    order_epoch(order, epoch);
    for (uint32_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " %u", order_record(order, i));
    CHECK_TEXT(text, line);
}

static bool check_line(const char *line)
{
    unsigned long long seed, index;
    unsigned epoch, count, stream;
    char list[256];
    if (sscanf(line, "philox seed %llu stream %u epoch %u index %llu:", &seed, &stream, &epoch,
               &index) == 4) {
        char text[512];
        struct rng rng;
        rng_init(&rng, seed, stream, epoch, index);
        int used = snprintf(text, sizeof text, "%.*s", (int)(strchr(line, ':') + 1 - line), line);
        for (int i = 0; i < 6; i++)
            used += snprintf(text + used, sizeof text - (size_t)used, " %08x", rng_u32(&rng));
        CHECK_TEXT(text, line);
        return true;
    }
    if (sscanf(line, "full seed %llu epoch %u records %u:", &seed, &epoch, &count) == 3) {
        struct order *order = open_order(ORDER_FULL, seed, count, 1);
        check_sequence(line, order, epoch, count);
        order_close(order);
        return true;
    }
    if (sscanf(line, "shards seed %llu epoch %u sizes %255[0-9,]:", &seed, &epoch, list) == 3) {
        uint32_t sizes[64];
        size_t shard_count = 0;
        count = 0;
        for (char *word = strtok(list, ","); word && shard_count < 64; word = strtok(NULL, ",")) {
            sizes[shard_count] = (uint32_t)atoi(word);
            count += sizes[shard_count++];
        }
        struct order *order = open_shards(seed, sizes, shard_count, 1);
        check_sequence(line, order, epoch, count);
        order_close(order);
        return true;
    }
    return false;
}

static int check_lines(const char *path)
{
    char line[8192];
    int lines = 0;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        lines += check_line(line + strspn(line, " "));
    }
    if (file)
        fclose(file);
    return lines;
}

static void golden(void)
{
    CHECK_INT(check_lines(TEST_SOURCE "/tests/oracle/order.txt"), 12);
    CHECK_INT(check_lines(TEST_SOURCE "/data-spec/30-order.md"), 7);
}

/* Each of COUNT records once in the current epoch. */
static void check_each_once(const struct order *order, uint32_t count)
{
    uint8_t *seen = mem_array(count, 1, "seen");
    uint32_t missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t record = order_record(order, i);
        CHECK(record < count);
        if (record < count)
            seen[record]++;
    }
    for (uint32_t i = 0; i < count; i++)
        missing += seen[i] != 1;
    CHECK_INT(missing, 0);
    mem_free(seen);
}

static void each_once(void)
{
    const uint32_t sizes[] = {100, 0, 1, 250, 33, 16, 0, 7, 100};
    struct order *order = open_order(ORDER_FULL, 3, 507, 16);
    CHECK_INT(order_batches(order), 31);
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        order_epoch(order, epoch);
        check_each_once(order, 507);
    }
    order_close(order);
    order = open_shards(3, sizes, 9, 16);
    CHECK_INT(order_batches(order), 31);
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        order_epoch(order, epoch);
        check_each_once(order, 507);
    }
    order_close(order);
}

/* Epochs are functions of their number: going back and forth changes nothing. */
static void any_epoch(void)
{
    const uint32_t sizes[] = {30, 30, 30, 30, 30};
    for (int kind = 0; kind < 2; kind++) {
        struct order *walk = kind ? open_shards(9, sizes, 5, 8) : open_order(ORDER_FULL, 9, 150, 8);
        struct order *jump = kind ? open_shards(9, sizes, 5, 8) : open_order(ORDER_FULL, 9, 150, 8);
        int same = 0, differ = 0;
        uint32_t first[150];
        for (uint32_t epoch = 0; epoch < 4; epoch++)
            order_epoch(walk, epoch);
        order_epoch(jump, 3);
        for (uint32_t i = 0; i < 150; i++) {
            first[i] = order_record(jump, i);
            differ += first[i] != order_record(walk, i);
        }
        CHECK_INT(differ, 0);
        order_epoch(jump, 4);
        for (uint32_t i = 0; i < 150; i++)
            same += first[i] == order_record(jump, i);
        CHECK(same < 12); /* one place in 150 is expected; more than a dozen never by chance */
        order_close(walk);
        order_close(jump);
    }
}

/* The remainder is dropped, and it is another one in each epoch. */
static void remainder_differs(void)
{
    const uint32_t sizes[] = {25, 25, 25, 25, 3};
    for (int kind = 0; kind < 2; kind++) {
        struct order *order =
            kind ? open_shards(1, sizes, 5, 20) : open_order(ORDER_FULL, 1, 103, 20);
        uint8_t dropped[103] = {0};
        int records = 0;
        for (uint32_t epoch = 0; epoch < 20; epoch++) {
            order_epoch(order, epoch);
            for (uint32_t i = order_batches(order) * 20; i < 103; i++)
                dropped[order_record(order, i)] = 1;
        }
        for (int i = 0; i < 103; i++)
            records += dropped[i];
        CHECK(records > 25); /* 60 drops fall on about 46 records */
        order_close(order);
    }
}

/* A window holds the records of ORDER_WINDOW_SHARDS shards and no others, and mixes them. */
static void windows(void)
{
    enum { SHARDS = 12, SIZE = 100 };
    uint32_t sizes[SHARDS];
    int mixed = 0;
    for (int s = 0; s < SHARDS; s++)
        sizes[s] = SIZE;
    struct order *order = open_shards(4, sizes, SHARDS, 32);
    order_epoch(order, 0);
    for (uint32_t from = 0; from < SHARDS * SIZE; from += ORDER_WINDOW_SHARDS * SIZE) {
        int of_shard[SHARDS] = {0}, whole = 0, in_first_batch = 0;
        for (uint32_t i = 0; i < ORDER_WINDOW_SHARDS * SIZE; i++) {
            uint32_t shard = order_record(order, from + i) / SIZE;
            in_first_batch += i < 32 && of_shard[shard] == 0;
            of_shard[shard]++;
        }
        for (int s = 0; s < SHARDS; s++)
            whole += of_shard[s] == SIZE;
        CHECK_INT(whole, ORDER_WINDOW_SHARDS);
        mixed += in_first_batch == ORDER_WINDOW_SHARDS;
    }
    CHECK_INT(mixed, SHARDS / ORDER_WINDOW_SHARDS);
    order_close(order);
}

/* Where each record lands is uniform: chi-square over epochs, for the first place and for record 0.
 */
static void uniform(void)
{
    enum { COUNT = 20, EPOCHS = 4000 };
    int at_start[COUNT] = {0}, place[COUNT] = {0};
    double start = 0, places = 0;
    struct order *order = open_order(ORDER_FULL, 77, COUNT, 1);
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        order_epoch(order, epoch);
        at_start[order_record(order, 0)]++;
        for (uint32_t i = 0; i < COUNT; i++)
            if (order_record(order, i) == 0)
                place[i]++;
    }
    for (int i = 0; i < COUNT; i++) {
        const double expected = (double)EPOCHS / COUNT;
        start += (at_start[i] - expected) * (at_start[i] - expected) / expected;
        places += (place[i] - expected) * (place[i] - expected) / expected;
    }
    /* 19 degrees of freedom: above 43.8 once in a thousand. */
    if (start > 43.8 || places > 43.8)
        printf("chi-square: first place %.1f, place of record 0 %.1f\n", start, places);
    CHECK(start < 43.8 && places < 43.8);
    order_close(order);
}

static void some_records(void)
{
    const uint32_t records[] = {3, 4, 10, 11, 12, 500}, sizes[] = {2, 3, 1};
    struct order_settings settings = {
        .batch = 4, .records = records, .count = 6, .shard_sizes = sizes, .shard_count = 3};
    const enum order_shuffle kinds[] = {ORDER_FULL, ORDER_SHARDS, ORDER_NONE};
    for (int k = 0; k < 3; k++) {
        struct order *order = NULL;
        uint32_t sum = 0;
        settings.shuffle = kinds[k];
        CHECK_INT(order_open(&order, &settings), 0);
        order_epoch(order, 0);
        CHECK_INT(order_batches(order), kinds[k] == ORDER_NONE ? 2 : 1);
        for (uint32_t i = 0; i < 6; i++) {
            sum += order_record(order, i);
            if (kinds[k] == ORDER_NONE)
                CHECK_INT(order_record(order, i), records[i]);
        }
        CHECK_INT(sum, 3 + 4 + 10 + 11 + 12 + 500);
        order_close(order);
    }
}

static void sizes(void)
{
    struct order_settings settings = {.shuffle = ORDER_FULL, .batch = 16, .count = 15};
    struct order *order = NULL;
    CHECK_INT(order_open(&order, &settings), -ERR_INPUT);
    CHECK_HAS(err_text(), "15 pictures");
    CHECK_HAS(err_text(), "batch of 16");
    CHECK(order == NULL);
    order_close(NULL);

    order = open_order(ORDER_NONE, 0, 15, 16);
    CHECK_INT(order_batches(order), 1);
    order_epoch(order, 0);
    CHECK_INT(order_record(order, 14), 14);
    order_close(order);
    order = open_order(ORDER_NONE, 0, 32, 16);
    CHECK_INT(order_batches(order), 2);
    order_close(order);
    order = open_order(ORDER_NONE, 0, 0, 16);
    CHECK_INT(order_batches(order), 0);
    order_close(order);
    order = open_order(ORDER_FULL, 0, 16, 16);
    CHECK_INT(order_batches(order), 1);
    order_close(order);
}

/* ImageNet: an epoch's order allocates nothing and takes a few tens of milliseconds. */
static void imagenet(void)
{
    struct order *order = open_order(ORDER_FULL, 5, 1281167, 256);
    CHECK_INT(order_batches(order), 5004);
    CHECK(order_memory(order) > UINT64_C(4) * 1281167);
    uint64_t allocations = mem_allocations();
    double begin = work_seconds();
    order_epoch(order, 1);
    printf("order of 1,281,167 records: %.1f ms\n", 1000 * (work_seconds() - begin));
    CHECK_INT(mem_allocations(), allocations);
    check_each_once(order, 1281167);
    order_close(order);
}

static const struct test tests[] = {
    {"golden",            golden           },
    {"each_once",         each_once        },
    {"any_epoch",         any_epoch        },
    {"remainder_differs", remainder_differs},
    {"windows",           windows          },
    {"uniform",           uniform          },
    {"some_records",      some_records     },
    {"sizes",             sizes            },
    {"imagenet",          imagenet         },
};

TEST_MAIN(tests)
