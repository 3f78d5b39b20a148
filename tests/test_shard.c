/*
 * test_shard.c - shards: what is written is read back; equal records make equal files; sizes stay
 * within the plan; several threads read at once. Damage: test_shard_damage.c.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/digest.h"
#include "common/pages.h"
#include "tests/shard_rig.h"

/* Read PATH back and compare every record with PLAN; the number that is wrong. */
static uint32_t compare_plan(const struct plan *plan, const char *path,
                             const struct shard_facts *facts)
{
    struct shard *shard;
    uint32_t wrong = 0;
    if (shard_open(&shard, path, facts->records, facts->bytes, CLASSES)) {
        printf("%s\n", err_text());
        return plan->count + 1;
    }
    for (uint32_t i = 0; i < plan->count; i++) {
        struct drawn drawn;
        struct record read;
        draw(&drawn, i, plan->payload_size(i), plan->name_size(i));
        shard_will_need(shard, i);
        if (shard_get(shard, i, true, &read)) {
            printf("%s\n", err_text());
            wrong++;
        } else if (!same(&read, &drawn.record)) {
            printf("record %u differs\n", i);
            wrong++;
        }
        mem_free(drawn.payload);
    }
    shard_close(shard);
    return wrong;
}

static uint64_t mixed_size(uint32_t index)
{
    static const uint64_t sizes[] = {9, 900, 1, 2700, 8991, 4096, 36, 30000, 5000};
    return sizes[index % 9];
}

static const struct plan mixed = {60, mixed_size, name_20};

/* ---- cases ---- */

static void test_write_and_read(void)
{
    const char *path = shard_path("mixed.mdb");
    struct shard_facts facts;
    char digest[33];
    uint64_t size;
    CHECK_INT(write_plan(&mixed, path, &facts), 0);
    CHECK_INT(facts.records, mixed.count);
    CHECK_INT(digest_file(path, digest, &size), 0);
    CHECK_INT(size, facts.bytes);
    CHECK_TEXT(facts.digest, digest);
    CHECK_INT(compare_plan(&mixed, path, &facts), 0);

    /* Nothing but the shard: no lock file, no temporary file. */
    struct files_list list;
    CHECK_INT(files_list(test_folder(), &list), 0);
    CHECK_INT(list.count, 1);
    files_list_release(&list);

    struct shard *shard;
    struct record record;
    CHECK_INT(shard_open(&shard, path, facts.records, facts.bytes, CLASSES - 1), 0);
    CHECK_INT(shard_get(shard, 8, true, &record), 0);
    CHECK_INT(shard_get(shard, 9, true, &record), -ERR_INPUT);
    CHECK_HAS(err_text(), "record 9: its label is 9, but there are 9 classes");
    CHECK_INT(shard_get(shard, mixed.count, true, &record), -ERR_FAULT);
    shard_will_need(shard, mixed.count);
    shard_close(shard);
    shard_close(NULL);
    CHECK_INT(shard_open(&shard, path, facts.records + 1, facts.bytes, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "holds 60 records, not 61");
    CHECK_INT(shard_open(&shard, path, facts.records, facts.bytes + 4096, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "but the manifest says");
    CHECK_INT(shard_open(&shard, shard_path("none.mdb"), 1, 4096, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "is missing");
    CHECK_INT(shard_open(&shard, test_folder(), 1, 4096, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "not a regular file");
}

static void test_refused_records(void)
{
    struct shard_writer *writer;
    struct shard_facts facts;
    const char *path = shard_path("refused.mdb");
    static const uint8_t payload[12];
    const struct record good = {.width = 2,
                                .height = 2,
                                .original_width = 2,
                                .original_height = 2,
                                .name = "a/b",
                                .name_size = 3,
                                .payload = payload,
                                .payload_size = 12};
    CHECK_INT(shard_writer_open(&writer, path, shard_size_limit(1, 79, 79)), 0);
    struct record bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].width = 0;
    bad[1].height = RECORD_SIDE_LIMIT + 1;
    bad[2].original_width = 0;
    bad[3].encoding = (enum record_encoding)2;
    bad[4].name_size = 0;
    bad[5].name_size = RECORD_NAME_LIMIT + 1;
    bad[6].payload_size = 11;
    bad[7].payload_size = 0;
    for (int i = 0; i < 8; i++)
        CHECK_INT(shard_append(writer, &bad[i]), -ERR_FAULT);
    CHECK_INT(shard_append(writer, &good), 0);
    shard_writer_discard(writer);
    shard_writer_discard(NULL);

    CHECK_INT(shard_writer_open(&writer, path, shard_size_limit(1, 79, 79)), 0);
    CHECK_INT(shard_publish(writer, &facts), -ERR_FAULT);
    CHECK_HAS(err_text(), "without records");

    /* A plan that promised too little is our fault, and leaves nothing behind. */
    CHECK_INT(shard_writer_open(&writer, path, shard_size_limit(1, 79, 79)), 0);
    int rc = 0;
    struct drawn drawn;
    draw(&drawn, 0, 100000, 20);
    for (int i = 0; i < 100 && !rc; i++)
        rc = shard_append(writer, &drawn.record);
    CHECK_INT(rc, -ERR_FAULT);
    CHECK_HAS(err_text(), "MDB_MAP_FULL");
    mem_free(drawn.payload);
    shard_writer_discard(writer);
    CHECK_INT(shard_writer_open(&writer, shard_path("no/such/folder.mdb"), 1 << 20), -ERR_IO);

    struct files_list list;
    CHECK_INT(files_list(test_folder(), &list), 0);
    for (size_t i = 0; i < list.count; i++)
        CHECK(!strstr(list.names[i], "refused"));
    files_list_release(&list);
}

/* A write that fails, as on a full disk: an error, and nothing is left behind. */
static void test_no_space(void)
{
    const char *path = shard_path("full.mdb");
    struct shard_writer *writer;
    struct shard_facts facts;
    struct rlimit before, small_files;
    struct drawn drawn;
    draw(&drawn, 0, 1000000, 20);
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    small_files = before;
    small_files.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small_files), 0);
    CHECK_INT(shard_writer_open(&writer, path, 1 << 30), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(shard_append(writer, &drawn.record), 0);
    CHECK_INT(shard_publish(writer, &facts), -ERR_IO);
    CHECK_HAS(err_text(), ".full.mdb.partial");
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    mem_free(drawn.payload);
    struct files_list list;
    CHECK_INT(files_list(test_folder(), &list), 0);
    for (size_t i = 0; i < list.count; i++)
        CHECK(!strstr(list.names[i], "full.mdb"));
    files_list_release(&list);
}

/* ---- equal records, equal bytes ---- */

/* Leave old bytes in all sizes of the heap's free blocks. */
static void soil_heap(int byte)
{
    void *blocks[200];
    for (int i = 0; i < 200; i++) {
        size_t size = 100 + (size_t)i * i * 10;
        if ((blocks[i] = malloc(size)))
            memset(blocks[i], byte, size);
    }
    for (int i = 0; i < 200; i += 2)
        free(blocks[i]);
    for (int i = 1; i < 200; i += 2)
        free(blocks[i]);
}

static uint64_t tiny_size(uint32_t index)
{
    return 1 + index % 200;
}

/* Around the largest value that a leaf takes, so that one-page values come and go. */
static uint64_t edge_size(uint32_t index)
{
    return 1900 + index % 120 * 20;
}

static const struct plan tiny = {3000, tiny_size, name_20}, edge = {500, edge_size, name_20};

static void test_same_bytes(void)
{
    static const struct plan *const plans[3] = {&mixed, &tiny, &edge};
    for (size_t p = 0; p < 3; p++) {
        struct shard_facts first, again, other;
        soil_heap(0xa5);
        CHECK_INT(write_plan(plans[p], shard_path("a.mdb"), &first), 0);
        CHECK_INT(write_plan(&edge, shard_path("other.mdb"), &other), 0);
        soil_heap(0x3c);
        /* Fresh blocks are filled as well, which a lucky heap would leave zero. */
        mallopt(M_PERTURB, 0x77);
        CHECK_INT(write_plan(plans[p], shard_path("b.mdb"), &again), 0);
        mallopt(M_PERTURB, 0);
        CHECK_TEXT(again.digest, first.digest);
        CHECK_INT(again.bytes, first.bytes);
        CHECK(p == 2 || strcmp(other.digest, first.digest) != 0);
    }
}

/* ---- sizes ---- */

static uint64_t one_byte(uint32_t index)
{
    (void)index;
    return 1;
}

static uint32_t name_1(uint32_t index)
{
    (void)index;
    return 1;
}

static uint32_t name_any(uint32_t index)
{
    return 1 + index * 37 % RECORD_NAME_LIMIT;
}

/* The largest value that stays in a leaf, and the smallest that does not. */
static uint64_t leaf_size(uint32_t index)
{
    (void)index;
    return pages_leaf_limit(4096) - RECORD_HEADER_SIZE - 1;
}

static uint64_t above_leaf_size(uint32_t index)
{
    return leaf_size(index) + 1;
}

/* One byte more than fills two pages. */
static uint64_t three_pages_size(uint32_t index)
{
    (void)index;
    return 2 * 4096 - PAGES_HEADER_SIZE - RECORD_HEADER_SIZE - 1 + 1;
}

/* Every leaf is left half empty: a small one, then one that just does not fit. */
static uint64_t seesaw_size(uint32_t index)
{
    return index % 2 ? leaf_size(index) : 40;
}

static uint64_t wild_size(uint32_t index)
{
    struct rng rng;
    rng_init(&rng, 3, RNG_TEST, 0, index);
    return 1 + rng_below(&rng, (uint64_t)1 << (1 + rng_below(&rng, 17)));
}

static void test_sizes(void)
{
    static const struct plan plans[] = {
        {1,     one_byte,         name_1  },
        {1,     three_pages_size, name_1  },
        {20000, one_byte,         name_1  },
        {5000,  tiny_size,        name_any},
        {3000,  leaf_size,        name_1  },
        {3000,  above_leaf_size,  name_1  },
        {2000,  three_pages_size, name_1  },
        {4000,  seesaw_size,      name_1  },
        {800,   wild_size,        name_any},
    };
    for (size_t p = 0; p < sizeof plans / sizeof *plans; p++) {
        const char *path = shard_path("size.mdb");
        struct shard_facts facts;
        uint64_t planned = 0, limit = plan_limit(&plans[p]);
        CHECK_INT(write_plan(&plans[p], path, &facts), 0);
        CHECK_INT(compare_plan(&plans[p], path, &facts), 0);
        for (uint32_t i = 0; i < plans[p].count; i++)
            planned += shard_record_size(plans[p].name_size(i), plans[p].payload_size(i));
        CHECK(facts.bytes <= limit);
        /* The plan may be wrong by what pages leave free (two leaves hold more than one's worth)
         * and a few pages of the file's own. */
        CHECK(facts.bytes <= planned * 21 / 10 + 65536);
        CHECK(planned <= facts.bytes);
        /* No sparse terabyte. */
        CHECK(limit <= 3 * planned + (uint64_t)plans[p].count * 4300 + (1 << 20));
    }
}

/* Several commits, one record larger than a commit. */
static uint64_t heavy_size(uint32_t index)
{
    return index == 5 ? (66 << 20) + 12345 : 7000000 + index;
}

/* What PATH's newer meta page bears: the map's size, the number of transactions. */
static void read_meta(const char *path, uint64_t *map_size, uint64_t *transactions)
{
    uint64_t metas[2][2] = {{0}};
    int file = open(path, O_RDONLY);
    for (int i = 0; i < 2; i++) {
        off_t meta = i * (off_t)sysconf(_SC_PAGESIZE) + PAGES_HEADER_SIZE;
        CHECK_INT(pread(file, &metas[i][0], 8, meta + 16), 8);
        CHECK_INT(pread(file, &metas[i][1], 8, meta + 128), 8);
    }
    close(file);
    const uint64_t *newer = metas[metas[0][1] < metas[1][1]];
    *map_size = newer[0];
    *transactions = newer[1];
}

static void test_commits(void)
{
    static const struct plan heavy = {17, heavy_size, name_20};
    const char *path = shard_path("heavy.mdb");
    struct shard_facts facts, again;
    /* Where the sizes are not known beforehand, LMDB's map follows the file. */
    CHECK_INT(write_limited(&heavy, path, (uint64_t)1 << 45, &facts), 0);
    CHECK_INT(compare_plan(&heavy, path, &facts), 0);
    CHECK(facts.bytes <= plan_limit(&heavy));
    uint64_t map_size, transactions;
    read_meta(path, &map_size, &transactions);
    CHECK(map_size >= facts.bytes);
    CHECK(map_size <= facts.bytes + (300 << 20));
    /* Records 0 to 4, the one of 66 MiB alone, then 9 and 2 of 7 MB: no more than 64 MiB together.
     */
    CHECK_INT(transactions, 4);
    /* Pages of earlier transactions are used again, and still the bytes are the same. */
    soil_heap(0x5a);
    CHECK_INT(write_limited(&heavy, path, (uint64_t)1 << 45, &again), 0);
    CHECK_TEXT(again.digest, facts.digest);
    CHECK_INT(files_remove(path), 0);
}

/* ---- verifying ---- */

static void test_verify(void)
{
    const char *path = shard_path("verify.mdb");
    struct shard_facts facts;
    CHECK_INT(write_plan(&mixed, path, &facts), 0);
    struct told told = verify(path, &facts);
    CHECK_INT(told.records, mixed.count);
    CHECK_INT(told.damages, 0);
    CHECK_INT(told.bytes, facts.bytes);

    facts.digest[3] ^= 1;
    told = verify(path, &facts);
    CHECK_INT(told.records, mixed.count);
    CHECK_INT(told.damages, 1);
    CHECK_INT(told.last, -1);
    CHECK_HAS(told.text, "its digest is");
    facts.bytes++;
    told = verify(path, &facts);
    CHECK_INT(told.records, 0);
    CHECK_INT(told.damages, 1);
    told = verify(shard_path("none.mdb"), &facts);
    CHECK_HAS(told.text, "is missing");
}

/* ---- threads ---- */

struct reader {
    struct shard *shard;
    uint32_t first;
    uint64_t sum, errors;
};

static void *read_all(void *argument)
{
    struct reader *reader = argument;
    for (uint32_t i = 0; i < tiny.count; i++) {
        struct record record;
        uint32_t index = (i + reader->first) % tiny.count;
        shard_will_need(reader->shard, index);
        if (shard_get(reader->shard, index, true, &record))
            reader->errors++;
        else
            reader->sum += digest64(record.payload, record.payload_size);
    }
    return NULL;
}

static void test_threads(void)
{
    const char *path = shard_path("threads.mdb");
    struct shard_facts facts = {0};
    struct shard *shard;
    pthread_t threads[4];
    struct reader readers[4];
    CHECK_INT(write_plan(&tiny, path, &facts), 0);
    CHECK_INT(shard_open(&shard, path, facts.records, facts.bytes, CLASSES), 0);
    uint64_t allocations = mem_allocations();
    for (uint32_t i = 0; i < 4; i++) {
        readers[i] = (struct reader){.shard = shard, .first = i * 700};
        CHECK_INT(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        CHECK_INT(readers[i].errors, 0);
        CHECK(readers[i].sum == readers[0].sum);
    }
    CHECK_INT(mem_allocations(), allocations);
    shard_close(shard);
}

static const struct test tests[] = {
    {"write_and_read",  test_write_and_read },
    {"refused_records", test_refused_records},
    {"no_space",        test_no_space       },
    {"same_bytes",      test_same_bytes     },
    {"sizes",           test_sizes          },
    {"commits",         test_commits        },
    {"verify",          test_verify         },
    {"threads",         test_threads        },
};

TEST_MAIN(tests)
