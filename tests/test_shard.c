/*
 * test_shard.c - shards: what is written is read back; equal records make equal files; sizes stay
 * within the plan; cut and damaged files are errors and nothing worse; several threads read at
 * once.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/pages.h"
#include "common/rng.h"
#include "common/shard.h"
#include "tests/test.h"

enum { CLASSES = 10 };

/* ---- records ---- */

/* A JPEG record's payload may be any bytes for this module. */
struct drawn {
    struct record record;
    char name[RECORD_NAME_LIMIT + 1];
    uint8_t *payload;
};

static void draw(struct drawn *drawn, uint32_t index, uint64_t size, uint32_t name_size)
{
    struct rng rng;
    rng_init(&rng, 7, RNG_TEST, 0, index);
    drawn->payload = mem_array(size, 1, "payload");
    for (uint64_t i = 0; i < size; i += 4) {
        uint32_t number = rng_u32(&rng);
        memcpy(drawn->payload + i, &number, size - i < 4 ? size - i : 4);
    }
    memset(drawn->name, 'x', sizeof drawn->name);
    char head[32];
    int length = snprintf(head, sizeof head, "n%04u/%u.", index % CLASSES, index);
    memcpy(drawn->name, head, (size_t)length < name_size ? (size_t)length : name_size);
    drawn->record = (struct record){
        .label = index % CLASSES,
        .width = 1 + index % 300,
        .height = 2 + index % 200,
        .original_width = 1000 + index,
        .original_height = 2000 + index,
        .encoding = RECORD_JPEG,
        .name = drawn->name,
        .name_size = name_size,
        .payload = drawn->payload,
        .payload_size = size,
    };
    /* Some are pictures of 3 rows, so that rgb is met as well. */
    if (size % 9 == 0) {
        drawn->record.encoding = RECORD_RGB;
        drawn->record.width = (uint32_t)(size / 9);
        drawn->record.height = 3;
    }
}

static bool same(const struct record *a, const struct record *b)
{
    return a->label == b->label && a->width == b->width && a->height == b->height &&
           a->original_width == b->original_width && a->original_height == b->original_height &&
           a->encoding == b->encoding && a->name_size == b->name_size &&
           memcmp(a->name, b->name, a->name_size) == 0 && a->payload_size == b->payload_size &&
           memcmp(a->payload, b->payload, a->payload_size) == 0;
}

/* A test's plan of a shard: the payload's and the name's size of each record. */
struct plan {
    uint32_t count;
    uint64_t (*payload_size)(uint32_t index);
    uint32_t (*name_size)(uint32_t index);
};

static uint32_t name_20(uint32_t index)
{
    (void)index;
    return 20;
}

static uint64_t mixed_size(uint32_t index)
{
    static const uint64_t sizes[] = {9, 900, 1, 2700, 8991, 4096, 36, 30000, 5000};
    return sizes[index % 9];
}

static uint64_t plan_limit(const struct plan *plan)
{
    uint64_t bytes = 0, largest = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        uint64_t size = RECORD_HEADER_SIZE + plan->name_size(i) + plan->payload_size(i);
        bytes += size;
        largest = size > largest ? size : largest;
    }
    return shard_size_limit(plan->count, bytes, largest);
}

static const char *shard_path(const char *name)
{
    static char paths[4][FILES_PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    files_join(path, test_folder(), name);
    return path;
}

/* Write PLAN to PATH with a size limit; 0 or the first error. */
static int write_limited(const struct plan *plan, const char *path, uint64_t limit,
                         struct shard_facts *facts)
{
    struct shard_writer *writer;
    int rc = shard_writer_open(&writer, path, limit);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < plan->count && !rc; i++) {
        struct drawn drawn;
        draw(&drawn, i, plan->payload_size(i), plan->name_size(i));
        rc = shard_append(writer, &drawn.record);
        mem_free(drawn.payload);
    }
    if (rc) {
        shard_writer_discard(writer);
        return rc;
    }
    return shard_publish(writer, facts);
}

static int write_plan(const struct plan *plan, const char *path, struct shard_facts *facts)
{
    return write_limited(plan, path, plan_limit(plan), facts);
}

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

static uint64_t big_size(uint32_t index)
{
    return 9000000 + index * 1000;
}

static const struct plan tiny = {3000, tiny_size, name_20}, edge = {500, edge_size, name_20},
                         /* three commits, so that pages of older ones are used again */
    big = {16, big_size, name_20};

static void test_same_bytes(void)
{
    static const struct plan *const plans[4] = {&mixed, &tiny, &edge, &big};
    for (size_t p = 0; p < 4; p++) {
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
    static const struct plan heavy = {20, heavy_size, name_20};
    const char *path = shard_path("heavy.mdb");
    struct shard_facts facts;
    CHECK_INT(write_plan(&heavy, path, &facts), 0);
    CHECK(facts.bytes <= plan_limit(&heavy));
    CHECK_INT(compare_plan(&heavy, path, &facts), 0);

    /* Where the sizes are not known beforehand, LMDB's map follows the file. */
    CHECK_INT(write_limited(&heavy, path, (uint64_t)1 << 45, &facts), 0);
    CHECK_INT(compare_plan(&heavy, path, &facts), 0);
    uint64_t map_size, transactions;
    read_meta(path, &map_size, &transactions);
    CHECK(map_size >= facts.bytes);
    CHECK(map_size <= facts.bytes + (300 << 20));
    /* Records 0 to 4, the one of 66 MiB alone, then 9 and 5 of 7 MB: no more than 64 MiB together.
     */
    CHECK_INT(transactions, 4);
    CHECK_INT(files_remove(path), 0);
}

/* ---- verifying ---- */

struct told {
    uint64_t records, damages, bytes;
    int64_t last;
    char text[ERR_TEXT_SIZE];
};

static void tell_record(void *context, uint32_t index, const struct record *record)
{
    struct told *told = context;
    (void)index;
    told->records += record->payload_size > 0;
}

static void tell_damage(void *context, int64_t index)
{
    struct told *told = context;
    told->damages++;
    told->last = index;
    snprintf(told->text, sizeof told->text, "%s", err_text());
}

static void tell_progress(void *context, uint64_t bytes)
{
    struct told *told = context;
    told->bytes += bytes;
}

static struct told verify(const char *path, const struct shard_facts *facts)
{
    struct told told = {0};
    const struct shard_visitor visitor = {&told, tell_record, tell_damage, tell_progress};
    CHECK_INT(shard_verify(path, facts, CLASSES, &visitor), 0);
    return told;
}

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

/* ---- damage ---- */

/* A shard of every kind of page: two levels of tree, values in leaves, of one page and of several.
 */
static uint64_t small_size(uint32_t index)
{
    return index == 3 ? 4500 : index == 7 ? 3000 : 700;
}

static const struct plan small = {9, small_size, name_20};

static void test_cut_short(void)
{
    const char *path = shard_path("cut.mdb");
    struct shard_facts facts;
    CHECK_INT(write_plan(&small, path, &facts), 0);
    size_t size;
    uint8_t *bytes;
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    for (uint64_t page = 0; page <= size / 4096; page++)
        for (int shift = -1; shift <= 1; shift++) {
            uint64_t length = page * 4096 + (uint64_t)shift;
            struct shard *shard;
            if (length >= size)
                continue; /* whole, or -1 */
            CHECK_INT(truncate(path, (off_t)length), 0);
            /* Against the manifest, and where the manifest were wrong too. */
            CHECK_INT(shard_open(&shard, path, small.count, size, CLASSES), -ERR_INPUT);
            CHECK_INT(shard_open(&shard, path, small.count, length, CLASSES), -ERR_INPUT);
            CHECK_HAS(err_text(), "damaged");
            CHECK_INT(verify(path, &facts).damages, 1);
            int file = open(path, O_WRONLY);
            CHECK_INT(pwrite(file, bytes, size, 0), size);
            close(file);
        }
    /* Longer is damaged, too. */
    int file = open(path, O_WRONLY | O_APPEND);
    CHECK_INT(write(file, bytes, 4096), 4096);
    close(file);
    struct shard *shard;
    CHECK_INT(shard_open(&shard, path, small.count, size, CLASSES), -ERR_INPUT);
    CHECK_INT(shard_open(&shard, path, small.count, size + 4096, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "but its head says");
    mem_free(bytes);
}

/* So that a byte read is not optimised away. */
static volatile unsigned last_bytes;

/* Open PATH for training and read all: an error, or the right pixels and label. */
static bool reads_rightly(const char *path, const struct shard_facts *facts,
                          const struct drawn *expected, uint64_t *refused)
{
    struct shard *shard;
    bool right = true;
    int rc = shard_open(&shard, path, facts->records, facts->bytes, CLASSES);
    if (rc) {
        ++*refused;
        return rc == -ERR_INPUT || rc == -ERR_MISMATCH;
    }
    for (uint32_t i = 0; i < facts->records; i++) {
        struct record record;
        rc = shard_get(shard, i, true, &record);
        if (rc)
            ++*refused;
        right &= rc ? rc == -ERR_INPUT : same(&record, &expected[i].record);
        /* Without the checksum the bytes may be wrong, but must be inside the file. */
        if (!shard_get(shard, i, false, &record))
            last_bytes += record.payload[record.payload_size - 1];
    }
    shard_close(shard);
    return right;
}

static void test_damage(void)
{
    const char *path = shard_path("damage.mdb");
    struct shard_facts facts;
    struct drawn drawn[16];
    uint64_t found = 0, wrong = 0, refused = 0, changes = 0;
    CHECK_INT(write_plan(&small, path, &facts), 0);
    for (uint32_t i = 0; i < small.count; i++)
        draw(&drawn[i], i, small.payload_size(i), small.name_size(i));
    int file = open(path, O_RDWR);
    for (uint64_t at = 0; at < facts.bytes; at++) {
        uint8_t byte, changed;
        CHECK_INT(pread(file, &byte, 1, (off_t)at), 1);
        /* One bit of each byte; where pages are described, all bits at once as well. */
        int kinds = at % 4096 < 200 || at % 4096 >= 4096 - 100 ? 2 : 1;
        for (int kind = 0; kind < kinds; kind++) {
            changed = byte ^ (uint8_t)(kind ? 0xff : 1 << at % 8);
            CHECK_INT(pwrite(file, &changed, 1, (off_t)at), 1);
            changes++;
            found += verify(path, &facts).damages > 0;
            if (!reads_rightly(path, &facts, drawn, &refused) && wrong++ < 5)
                printf("byte %llu as %02x instead of %02x is not noticed\n", (unsigned long long)at,
                       changed, byte);
        }
        CHECK_INT(pwrite(file, &byte, 1, (off_t)at), 1);
    }
    close(file);
    printf("damages: %llu found of %llu\n", (unsigned long long)found, (unsigned long long)changes);
    CHECK_INT(found, changes);
    CHECK_INT(wrong, 0);
    CHECK(refused > changes / 3);
    CHECK_INT(verify(path, &facts).damages, 0);
    for (uint32_t i = 0; i < small.count; i++)
        mem_free(drawn[i].payload);
}

/* Random bytes in the pages that steer, many at a time: no crash, no wrong record. */
static void test_random_damage(void)
{
    const char *path = shard_path("random.mdb");
    struct shard_facts facts;
    struct drawn drawn[16];
    uint64_t refused = 0;
    uint8_t *bytes;
    size_t size;
    struct rng rng;
    CHECK_INT(write_plan(&small, path, &facts), 0);
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    for (uint32_t i = 0; i < small.count; i++)
        draw(&drawn[i], i, small.payload_size(i), small.name_size(i));
    int file = open(path, O_RDWR);
    for (uint32_t round = 0; round < 3000; round++) {
        rng_init(&rng, 11, RNG_TEST, 0, round);
        uint64_t count = 1 + rng_below(&rng, 6);
        for (uint64_t i = 0; i < count; i++) {
            /* A page's head and its end are where its nodes are described. */
            uint64_t page = rng_below(&rng, size / 4096) * 4096;
            uint64_t at =
                page + (rng_below(&rng, 2) ? rng_below(&rng, 160) : rng_below(&rng, 4096));
            uint8_t byte = (uint8_t)rng_below(&rng, 256);
            CHECK_INT(pwrite(file, &byte, 1, (off_t)at), 1);
        }
        CHECK(reads_rightly(path, &facts, drawn, &refused));
        CHECK_INT(pwrite(file, bytes, size, 0), size);
    }
    CHECK(refused > 1000);
    close(file);
    mem_free(bytes);
    for (uint32_t i = 0; i < small.count; i++)
        mem_free(drawn[i].payload);
}

/* ---- pages that lie, one by one ---- */

/* A shard's bytes in memory, and where its tree's pages begin in them (two levels, 4096-byte
 * pages). */
struct tree {
    uint8_t *bytes;
    size_t size;
    size_t meta, root, leaf; /* leaf: the first one */
    size_t large;            /* the node of a large value in it, or in a later leaf */
};

static uint64_t number_at(const struct tree *tree, size_t at, int bytes)
{
    uint64_t value = 0;
    memcpy(&value, tree->bytes + at, (size_t)bytes);
    return value;
}

/* Offset of node INDEX of the page at PAGE. */
static size_t node_at(const struct tree *tree, size_t page, size_t index)
{
    return page + number_at(tree, page + 16 + index * 2, 2);
}

static void find_tree(struct tree *tree)
{
    uint64_t transactions[2] = {number_at(tree, 16 + 128, 8), number_at(tree, 4096 + 16 + 128, 8)};
    tree->meta = (transactions[0] < transactions[1] ? 4096 : 0) + 16;
    tree->root = number_at(tree, tree->meta + 72 + 40, 8) * 4096;
    CHECK_INT(number_at(tree, tree->meta + 72 + 6, 2), 2);
    tree->leaf = number_at(tree, node_at(tree, tree->root, 0), 6) * 4096;
    for (size_t i = 0; i < (number_at(tree, tree->root + 12, 2) - 16) / 2; i++) {
        size_t leaf = number_at(tree, node_at(tree, tree->root, i), 6) * 4096;
        for (size_t k = 0; k < (number_at(tree, leaf + 12, 2) - 16) / 2; k++)
            if (number_at(tree, node_at(tree, leaf, k) + 4, 2) == 1)
                tree->large = node_at(tree, leaf, k);
    }
    CHECK(tree->large != 0);
}

/* With BYTES bytes at AT changed to VALUE, opening PATH fails with MESSAGE; RECORDS are expected.
 */
static void refuse_change(const char *path, const struct tree *tree, size_t at, int bytes,
                          uint64_t value, uint64_t records, const char *message)
{
    struct shard *shard;
    int file = open(path, O_RDWR);
    CHECK_INT(pwrite(file, &value, (size_t)bytes, (off_t)at), bytes);
    CHECK_INT(shard_open(&shard, path, records, tree->size, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), message);
    shard_close(shard);
    CHECK_INT(pwrite(file, tree->bytes + at, (size_t)bytes, (off_t)at), bytes);
    close(file);
}

static void test_lying_pages(void)
{
    static const char outside[] = "it names a page outside the file",
                      twice[] = "it names a page that is used elsewhere",
                      offsets[] = "its offsets are not possible",
                      node_outside[] = "a node lies outside it", keys[] = "keys are not 0, 1, 2",
                      value_outside[] = "a value lies outside it",
                      other_tree[] = "the tree is not the one it describes",
                      head[] = "not the head of an LMDB file",
                      depth[] = "the tree's kind or depth is not possible";
    const char *path = shard_path("lying.mdb");
    struct shard_facts facts;
    struct shard *shard;
    struct tree t = {0};
    const uint64_t n = small.count;
    if (sysconf(_SC_PAGESIZE) != 4096)
        TEST_SKIP("this machine's pages are not of 4096 bytes");
    CHECK_INT(write_plan(&small, path, &facts), 0);
    CHECK_INT(files_read(path, 1 << 20, &t.bytes, &t.size), 0);
    find_tree(&t);
    const size_t tree = t.meta + 72, first = node_at(&t, t.leaf, 0), last = t.size / 4096 - 1;
    const struct {
        size_t at;
        int bytes;
        uint64_t value, records;
        const char *message;
    } rows[] = {
        {4096,                                      8,             7,                  n,head                         },
        {4096 + 10,                                 2,             2,                  n,head                         },
        {4096 + 16,                                 4,             1,                  n,head                         },
        {16 + 24,                                   4,             1000,               n,"the page size is not possible"},
        {16 + 24,                                   4,             65536,              n,"the page size is not possible"},
        {4096 + 16 + 24,                            4,             8192,               n,"differ in the page size"    },
        {t.meta + 120,                              8,             last + 1,           n,"but its head says"          },
        {t.meta + 120,                              8,             UINT64_MAX,         n,"but its head says"          },
        {tree + 32,                                 8,             n + 1,              n,"holds 10 records, not 9"    },
        {tree + 32,                                 8,             (uint64_t)1 << 31,  (uint64_t)1 << 31,"no room for so many records"},
        {tree + 32,                                 8,             n + 1,              n + 1,other_tree                   },
        {tree + 32,                                 8,             n - 1,              n - 1,keys                         },
        {tree + 4,                                  2,             4,                  n,depth                        },
        {tree + 6,                                  2,             0,                  n,depth                        },
        {tree + 6,                                  2,             17,                 n,depth                        },
        {tree + 6,                                  2,             1,                  n,"not of the kind that belongs here"},
        {tree + 6,                                  2,             3,                  n,"not of the kind that belongs here"},
        {tree + 8,                                  8,             2,                  n,other_tree                   },
        {tree + 16,                                 8,             9,                  n,other_tree                   },
        {tree + 24,                                 8,             9,                  n,other_tree                   },
        {tree + 40,                                 8,             1,                  n,outside                      },
        {tree + 40,                                 8,             last + 1,           n,outside                      },
        {tree + 40,                                 8,             UINT64_MAX,         n,outside                      },
        {t.root,                                    8,             1,                  n,"it bears another number"    },
        {t.root + 12,                               2,             16,                 n,offsets                      },
        {t.root + 12,                               2,             19,                 n,offsets                      },
        {t.root + 12,                               2,             4094,               n,offsets                      },
        {t.root + 14,                               2,             4098,               n,offsets                      },
        {node_at(&t,                                t.root,        0),                 6,t.root / 4096,                 n, twice},
        {node_at(&t,                                    t.root,                                                 1),                                                          6,t.leaf / 4096,n, twice},
        {node_at(&t,                            t.root,                                        1),                                                     6,                                     (uint64_t)1 << 40,                                                                                                                                                                                      n, outside},
        {node_at(&t,                                       t.root,            1) + 8,4,0,n, "its keys are not those of its children"},
        {node_at(&t,                                t.root, 1) + 6,  2,3,                                                                                                                                                  n, "its keys are not those of its children"},
        {t.leaf + 16, 2,              first - t.leaf + 1,                       n,node_outside},
        {t.leaf + 16,                                        2,                                                    30,                              n,node_outside},
        {t.leaf + 16,                       2,                      4090,      n,                     node_outside                                                                                                                                                       },
        {first + 6,                                       2,4000,n,"a key lies outside it"                       },
        {first + 6,                                     2,                            3,                             n,keys},
        {first + 8,                                     4,                                                  1u << 24,                                                                     n,                                                                                  keys                                                                               },
        {first,                                        4,                         2000,           n,   value_outside                                                                                                                                                                                                                                                                         },
        {first + 4,                                 2,1,n,value_outside},
        {first + 4,                                     2,                         8,                    n,value_outside},
        {t.large + 4,                                        2,                                                         0,                                                                                                                         n,                                                                                                                                                                                                                                                                     value_outside                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                   },
        {t.large,                                        4,                            UINT32_MAX,              n,outside                                                                                                                                                                                                                                                                                                                                                                          },
        {t.large + 12,                                        8,last + 1,n,outside},
        {t.large + 12,                               8,                0,              n,outside},
        {t.large + 12,                                 8,                                                  UINT64_MAX,                                                                                                                                                                                     n,                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 outside                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  },
        {t.large + 12,                                        8,                                     t.leaf / 4096,                                   n,                  twice                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse_change(path, &t, rows[i].at, rows[i].bytes, rows[i].value, rows[i].records,
                      rows[i].message);

    /* A large value's node so near the end of its page that its page number is not in it. */
    uint8_t node[16] = {0, 0x10, 0, 0, 1, 0, 4, 0};
    int file = open(path, O_RDWR);
    CHECK_INT(pwrite(file, node, 12, (off_t)t.leaf + 4096 - 12), 12);
    refuse_change(path, &t, t.leaf + 16, 2, 4096 - 12, n, value_outside);
    CHECK_INT(pwrite(file, t.bytes + t.leaf, 4096, (off_t)t.leaf), 4096);
    close(file);
    CHECK_INT(shard_open(&shard, path, n, t.size, CLASSES), 0);
    shard_close(shard);
    mem_free(t.bytes);
}

/* Records whose checksum is right and whose fields are not: what a faulty writer would leave. */
static void test_lying_records(void)
{
    static const struct {
        size_t at;
        int bytes;
        uint64_t value;
        const char *message;
    } rows[] = {
        {8,  4, 0,                     "it does not begin as a record"               },
        {44, 1, 1,                     "it does not begin as a record"               },
        {63, 1, 1,                     "it does not begin as a record"               },
        {12, 4, CLASSES,               "its label is 10, but there are 10 classes"   },
        {16, 4, 0,                     "its width or height is not possible"         },
        {20, 4, RECORD_SIDE_LIMIT + 1, "its width or height is not possible"         },
        {24, 4, 0,                     "its original width or height is not possible"},
        {28, 4, UINT32_MAX,            "its original width or height is not possible"},
        {32, 8, 701,                   "its sizes do not add up"                     },
        {32, 8, 0,                     "its payload's size is not possible"          },
        {32, 8, UINT64_MAX,            "its payload's size is not possible"          },
        {40, 2, 0,                     "its name's length is not possible"           },
        {40, 2, 512,                   "its name's length is not possible"           },
        {40, 2, 21,                    "its sizes do not add up"                     },
        {42, 2, 2,                     "its encoding is unknown"                     },
        {42, 2, 0,                     "its payload's size is not width * height * 3"},
    };
    const char *path = shard_path("records.mdb");
    struct shard_facts facts;
    struct shard *shard;
    struct record record;
    struct tree t = {0};
    if (sysconf(_SC_PAGESIZE) != 4096)
        TEST_SKIP("this machine's pages are not of 4096 bytes");
    CHECK_INT(write_plan(&small, path, &facts), 0);
    CHECK_INT(files_read(path, 1 << 20, &t.bytes, &t.size), 0);
    find_tree(&t);
    const size_t node = node_at(&t, t.leaf, 0), size = number_at(&t, node, 4);
    int file = open(path, O_RDWR);
    CHECK_INT(shard_open(&shard, path, small.count, t.size, CLASSES), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t value[4096];
        memcpy(value, t.bytes + node + 12, size);
        memcpy(value + rows[i].at, &rows[i].value, (size_t)rows[i].bytes);
        uint64_t checksum = digest64(value + 8, size - 8);
        memcpy(value, &checksum, 8);
        CHECK_INT(pwrite(file, value, size, (off_t)node + 12), size);
        for (int check = 0; check < 2; check++) {
            CHECK_INT(shard_get(shard, 0, check, &record), -ERR_INPUT);
            CHECK_HAS(err_text(), rows[i].message);
        }
    }
    /* A checksum that is wrong is looked at only on request. */
    memset(t.bytes + node + 12, 0, 8);
    CHECK_INT(pwrite(file, t.bytes + node + 12, size, (off_t)node + 12), size);
    CHECK_INT(shard_get(shard, 0, false, &record), 0);
    CHECK_INT(shard_get(shard, 0, true, &record), -ERR_INPUT);
    CHECK_HAS(err_text(), "record 0: its checksum is wrong");
    shard_close(shard);

    /* A value too short for a header. */
    uint32_t shorter = 63;
    CHECK_INT(pwrite(file, &shorter, 4, (off_t)node), 4);
    CHECK_INT(shard_open(&shard, path, small.count, t.size, CLASSES), 0);
    CHECK_INT(shard_get(shard, 0, true, &record), -ERR_INPUT);
    CHECK_HAS(err_text(), "shorter than a record's header");
    shard_close(shard);
    close(file);
    mem_free(t.bytes);
}

/* What is not ours is told apart. */
static void test_other_files(void)
{
    const char *path = shard_path("other.mdb");
    struct shard_facts facts;
    struct shard *shard;
    CHECK_INT(write_plan(&small, path, &facts), 0);
    int file = open(path, O_RDWR);
    uint8_t version = 2;
    CHECK_INT(pwrite(file, &version, 1, PAGES_HEADER_SIZE + 4), 1);
    CHECK_INT(shard_open(&shard, path, small.count, facts.bytes, CLASSES), -ERR_MISMATCH);
    CHECK_HAS(err_text(), "LMDB data format 2");
    CHECK_INT(ftruncate(file, 0), 0);
    CHECK_INT(ftruncate(file, (off_t)facts.bytes), 0);
    CHECK_INT(shard_open(&shard, path, small.count, facts.bytes, CLASSES), -ERR_INPUT);
    CHECK_HAS(err_text(), "not the head of an LMDB file");
    close(file);
    CHECK_INT(truncate(path, 0), 0);
    CHECK_INT(shard_open(&shard, path, small.count, 0, CLASSES), -ERR_INPUT);
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
    {"cut_short",       test_cut_short      },
    {"damage",          test_damage         },
    {"random_damage",   test_random_damage  },
    {"lying_pages",     test_lying_pages    },
    {"lying_records",   test_lying_records  },
    {"other_files",     test_other_files    },
    {"threads",         test_threads        },
};

TEST_MAIN(tests)
