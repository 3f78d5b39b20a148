/*
 * test_shard_damage.c - cut and damaged shards are errors and nothing worse: every byte changed,
 * many at random, and one lie for each bound and range that is checked.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common/bus.h"
#include "common/digest.h"
#include "common/pages.h"
#include "common/work.h"
#include "tests/shard_rig.h"

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
    CHECK_INT(found, changes);
    CHECK_INT(wrong, 0);
    CHECK(changes > 20000);
    CHECK(refused > changes / 5);
    CHECK_INT(verify(path, &facts).damages, 0);
    /* Every length that is too short. */
    uint8_t *bytes;
    size_t size;
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    for (size_t length = size; length-- > 0;) {
        struct shard *shard;
        CHECK_INT(truncate(path, (off_t)length), 0);
        changes++;
        found += verify(path, &facts).damages > 0;
        wrong += shard_open(&shard, path, facts.records, facts.bytes, CLASSES) != -ERR_INPUT;
    }
    mem_free(bytes);
    printf("damages: %llu found of %llu\n", (unsigned long long)found, (unsigned long long)changes);
    CHECK_INT(found, changes);
    CHECK_INT(wrong, 0);
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
    struct shard_facts facts = {0};
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

/* Two maps of PATH, of which number CLOSED is gone; the file becomes shorter, and the other one (or
 * a map that is nobody's, for STRANGE) is read. */
__attribute__((noreturn)) static void read_shrunk(const char *path, const struct shard_facts *facts,
                                                  int closed, bool strange)
{
    struct shard *shards[2];
    struct record record;
    bus_catch("test");
    for (int i = 0; i < 2; i++)
        if (shard_open(&shards[i], path, facts->records, facts->bytes, CLASSES))
            _exit(99);
    int file = open(path, O_RDONLY);
    const volatile uint8_t *map = mmap(NULL, facts->bytes, PROT_READ, MAP_SHARED, file, 0);
    shard_close(shards[closed]);
    if (map == MAP_FAILED || truncate(path, 4096))
        _exit(99);
    if (strange)
        last_bytes += map[facts->bytes - 1];
    else
        shard_get(shards[!closed], 5, true, &record);
    _exit(98);
}

/* A file that becomes shorter under its map: one line, and the exit code of bad input. Elsewhere
 * the signal is what it was. */
static void test_cut_while_open(void)
{
    const char *path = shard_path("shrinks.mdb");
    struct shard_facts facts;
    for (int kind = 0; kind < 3; kind++) {
        int said[2], status = 0;
        char line[1024] = "";
        CHECK_INT(write_plan(&small, path, &facts), 0);
        CHECK_INT(pipe(said), 0);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            dup2(said[1], STDERR_FILENO);
            read_shrunk(path, &facts, kind % 2, kind == 2);
        }
        close(said[1]);
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(read(said[0], line, sizeof line - 1) >= 0);
        close(said[0]);
        if (kind == 2) {
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
            continue;
        }
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ERR_INPUT);
        CHECK_HAS(line, "test: error: ");
        CHECK_HAS(line, "shrinks.mdb: it became shorter");
        CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    }
}

/* Three threads read the first of two files until it shrinks, one opens and closes the second. */
struct readers {
    const char *path, *other;
    const struct shard_facts *facts;
    struct shard *shard;
};

static int read_forever(void *argument)
{
    struct readers *readers = argument;
    struct record record;
    for (;;)
        shard_get(readers->shard, 5, true, &record);
    return 0;
}

static int open_forever(void *argument)
{
    struct readers *readers = argument;
    struct shard *shard;
    for (;;) {
        if (shard_open(&shard, readers->other, readers->facts->records, readers->facts->bytes,
                       CLASSES))
            _exit(99);
        shard_close(shard);
    }
    return 0;
}

__attribute__((noreturn)) static void shrink_among_threads(struct readers *readers)
{
    struct work_crew *crew;
    bus_catch("test");
    if (shard_open(&readers->shard, readers->path, readers->facts->records, readers->facts->bytes,
                   CLASSES) ||
        work_crew_open(&crew, NULL, NULL))
        _exit(99);
    for (int i = 0; i < 3; i++)
        if (work_crew_start(crew, "read", read_forever, readers))
            _exit(99);
    if (work_crew_start(crew, "open", open_forever, readers))
        _exit(99);
    usleep(5000);
    if (truncate(readers->path, 4096))
        _exit(99);
    sleep(10);
    _exit(98);
}

/* All of them meet the end of the file at once: still one line. */
static void test_cut_among_threads(void)
{
    struct shard_facts facts;
    struct readers readers = {shard_path("cut.mdb"), shard_path("stays.mdb"), &facts, NULL};
    CHECK_INT(write_plan(&small, readers.other, &facts), 0);
    for (int i = 0; i < 20; i++) {
        int said[2], status = 0;
        char text[4096] = "";
        CHECK_INT(write_plan(&small, readers.path, &facts), 0);
        CHECK_INT(pipe(said), 0);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            dup2(said[1], STDERR_FILENO);
            shrink_among_threads(&readers);
        }
        close(said[1]);
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK(read(said[0], text, sizeof text - 1) > 0);
        close(said[0]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ERR_INPUT);
        CHECK_HAS(text, "cut.mdb: it became shorter");
        CHECK_TEXT(strchr(text, '\n'), "\n");
    }
}

static const struct test tests[] = {
    {"cut_short",         test_cut_short        },
    {"cut_open",          test_cut_while_open   },
    {"cut_among_threads", test_cut_among_threads},
    {"damage",            test_damage           },
    {"random_damage",     test_random_damage    },
    {"lying_pages",       test_lying_pages      },
    {"lying_records",     test_lying_records    },
    {"other_files",       test_other_files      },
};

TEST_MAIN(tests)
