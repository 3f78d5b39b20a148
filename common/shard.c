#include "common/shard.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bus.h"
#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/pages.h"

#if __BYTE_ORDER != __LITTLE_ENDIAN
#error "LMDB writes numbers as the machine has them, and shards are little-endian"
#endif

enum {
    COMMIT_BYTES = 64 << 20, /* of values: LMDB keeps a transaction's pages in memory */
    SPARE_BYTES = 4 << 20,   /* of map, for what a transaction copies */
    PLAN_PAGE_SIZE = 4096,
    LARGEST_PAGE = 32768, /* of LMDB */
    NODE_SIZE = 14,       /* LMDB's cost of a value in a leaf: offset, node header, key */
    READ_BYTES = 1 << 20,
    RELEASE_BYTES = 16 << 20,

    /* Where the header's fields stand. */
    AT_CHECKSUM = 0,
    AT_MAGIC = 8,
    AT_LABEL = 12,
    AT_WIDTH = 16,
    AT_HEIGHT = 20,
    AT_ORIGINAL_WIDTH = 24,
    AT_ORIGINAL_HEIGHT = 28,
    AT_PAYLOAD_SIZE = 32,
    AT_NAME_SIZE = 40,
    AT_ENCODING = 42,
    AT_ZERO = 44
};

static const char magic[4] = "REC1";

const char *const record_encoding_names[2] = {"rgb", "jpeg"};

struct shard_writer {
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi database;
    char path[FILES_PATH_SIZE], partial[FILES_PATH_SIZE];
    uint64_t records, pending;      /* pending: bytes of values since the last commit */
    uint64_t size_limit, page_size; /* page_size: the system's */
};

struct shard {
    char *path;
    const uint8_t *map;
    uint64_t bytes, page_size; /* page_size: the system's */
    struct pages_value *values;
    uint64_t records;
    uint32_t classes;
    struct bus_map watched; /* the map, while it is there */
};

/* ---- a record's bytes ---- */

/* What makes RECORD impossible, or NULL. */
static const char *find_fault(const struct record *record)
{
    if (record->width < 1 || record->width > RECORD_SIDE_LIMIT || record->height < 1 ||
        record->height > RECORD_SIDE_LIMIT)
        return "its width or height is not possible";
    if (record->original_width < 1 || record->original_width > RECORD_SIDE_LIMIT ||
        record->original_height < 1 || record->original_height > RECORD_SIDE_LIMIT)
        return "its original width or height is not possible";
    if (record->encoding != RECORD_RGB && record->encoding != RECORD_JPEG)
        return "its encoding is unknown";
    if (record->name_size < 1 || record->name_size > RECORD_NAME_LIMIT)
        return "its name's length is not possible";
    if (record->payload_size < 1 || record->payload_size > UINT32_MAX)
        return "its payload's size is not possible";
    if (record->encoding == RECORD_RGB &&
        record->payload_size != (uint64_t)record->width * record->height * 3)
        return "its payload's size is not width * height * 3";
    return NULL;
}

static void store16(uint8_t *at, uint32_t value)
{
    uint16_t bytes = htole16((uint16_t)value);
    memcpy(at, &bytes, sizeof bytes);
}

static void store32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static void store64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static uint32_t load16(const uint8_t *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

static void encode(const struct record *record, uint8_t *value, size_t size)
{
    memcpy(value + AT_MAGIC, magic, sizeof magic);
    store32(value + AT_LABEL, record->label);
    store32(value + AT_WIDTH, record->width);
    store32(value + AT_HEIGHT, record->height);
    store32(value + AT_ORIGINAL_WIDTH, record->original_width);
    store32(value + AT_ORIGINAL_HEIGHT, record->original_height);
    store64(value + AT_PAYLOAD_SIZE, record->payload_size);
    store16(value + AT_NAME_SIZE, record->name_size);
    store16(value + AT_ENCODING, (uint32_t)record->encoding);
    memset(value + AT_ZERO, 0, RECORD_HEADER_SIZE - AT_ZERO);
    memcpy(value + RECORD_HEADER_SIZE, record->name, record->name_size);
    memcpy(value + RECORD_HEADER_SIZE + record->name_size, record->payload,
           (size_t)record->payload_size);
    store64(value + AT_CHECKSUM, digest64(value + AT_MAGIC, size - AT_MAGIC));
}

/* The record that the SIZE bytes at VALUE hold, if they can be one: returns what is wrong, or NULL.
 */
static const char *decode(const uint8_t *value, size_t size, bool check, struct record *out)
{
    static const uint8_t zero[RECORD_HEADER_SIZE - AT_ZERO];
    if (size < RECORD_HEADER_SIZE)
        return "it is shorter than a record's header";
    if (check && load64(value + AT_CHECKSUM) != digest64(value + AT_MAGIC, size - AT_MAGIC))
        return "its checksum is wrong";
    if (memcmp(value + AT_MAGIC, magic, sizeof magic) || memcmp(value + AT_ZERO, zero, sizeof zero))
        return "it does not begin as a record";
    *out = (struct record){
        .label = load32(value + AT_LABEL),
        .width = load32(value + AT_WIDTH),
        .height = load32(value + AT_HEIGHT),
        .original_width = load32(value + AT_ORIGINAL_WIDTH),
        .original_height = load32(value + AT_ORIGINAL_HEIGHT),
        .encoding = (enum record_encoding)load16(value + AT_ENCODING),
        .name = (const char *)value + RECORD_HEADER_SIZE,
        .name_size = load16(value + AT_NAME_SIZE),
        .payload_size = load64(value + AT_PAYLOAD_SIZE),
    };
    const char *fault = find_fault(out);
    if (fault)
        return fault;
    if (RECORD_HEADER_SIZE + out->name_size + out->payload_size != size)
        return "its sizes do not add up";
    out->payload = value + RECORD_HEADER_SIZE + out->name_size;
    return NULL;
}

/* ---- writing ---- */

static uint64_t system_page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t shard_record_size(uint64_t name_size, uint64_t payload_size)
{
    uint64_t value = RECORD_HEADER_SIZE + name_size + payload_size;
    if (value <= pages_leaf_limit(PLAN_PAGE_SIZE))
        return (NODE_SIZE + value + 1) & ~(uint64_t)1;
    return pages_of_value(value, PLAN_PAGE_SIZE) * PLAN_PAGE_SIZE + NODE_SIZE + 8;
}

uint64_t shard_size_limit(uint64_t records, uint64_t value_bytes, uint64_t largest_value)
{
    uint64_t page = system_page_size();
    if (page > LARGEST_PAGE)
        page = LARGEST_PAGE;
    /* A leaf that the next node did not fit into stays as it is, so two neighbours hold more than
     * one page's worth of nodes. A small value costs less so than the page that is counted for it
     * as a large one. */
    uint64_t room = page - PAGES_HEADER_SIZE, large = 0, leaves;
    if (largest_value <= pages_leaf_limit(page)) {
        leaves = 2 * (value_bytes + records * (NODE_SIZE + 1)) / room + 1;
    } else {
        large = (value_bytes + records * (PAGES_HEADER_SIZE - 1 + page)) / page + 1;
        leaves = 2 * records * (NODE_SIZE + 8) / room + 1;
    }
    /* Branches take 14 bytes a page below them. Every commit copies one page a level of both trees,
     * and lists the old ones as free; any two neighbouring transactions exceed COMMIT_BYTES. */
    uint64_t commits = 2 * value_bytes / COMMIT_BYTES + 2;
    return (large + leaves + leaves / 64 + 32 * commits + 32) * page;
}

static int fail(const struct shard_writer *writer, int rc, const char *operation)
{
    if (rc > 0) {
        errno = rc;
        /* LMDB says EIO also for a write that came up short, which is what a full disk does. */
        return err_errno("cannot %s %s%s", operation, writer->partial,
                         rc == EIO ? " (is the disk full?)" : "");
    }
    return err_set(ERR_FAULT, "cannot %s %s: LMDB: %s (record %llu, at most %llu bytes)", operation,
                   writer->partial, mdb_strerror(rc), (unsigned long long)writer->records,
                   (unsigned long long)writer->size_limit);
}

/* Begin a transaction whose first value has SIZE bytes. The map grows with the file, at these
 * points of the plan only: no value takes more than twice its size and a leaf's share of its own.
 */
static int begin(struct shard_writer *writer, uint64_t size)
{
    MDB_envinfo info;
    MDB_stat tree;
    int rc;
    if ((rc = mdb_env_info(writer->env, &info)) || (rc = mdb_env_stat(writer->env, &tree)))
        return fail(writer, rc, "write");
    uint64_t values = size > COMMIT_BYTES ? size : COMMIT_BYTES;
    uint64_t map = (info.me_last_pgno + 1) * tree.ms_psize + 3 * values + SPARE_BYTES;
    if (map > writer->size_limit)
        map = writer->size_limit;
    map = map / writer->page_size * writer->page_size;
    if ((map > info.me_mapsize && (rc = mdb_env_set_mapsize(writer->env, (size_t)map))) ||
        (rc = mdb_txn_begin(writer->env, NULL, 0, &writer->transaction)) ||
        (rc = mdb_dbi_open(writer->transaction, NULL, 0, &writer->database)))
        return fail(writer, rc, "write");
    writer->pending = 0;
    return 0;
}

static int commit(struct shard_writer *writer)
{
    int rc = mdb_txn_commit(writer->transaction);
    writer->transaction = NULL;
    return rc ? fail(writer, rc, "write") : 0;
}

int shard_writer_open(struct shard_writer **out, const char *path, uint64_t size_limit)
{
    /* No lock file inside the data set: the temporary name is this writer's alone. Nothing that
     * weakens a commit, and no MDB_NOMEMINIT: pages are cleared, so equal records make equal files.
     */
    const unsigned flags = MDB_NOSUBDIR | MDB_NOLOCK | MDB_NORDAHEAD;
    struct shard_writer *writer = mem_array(1, sizeof *writer, "shard writer");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!writer)
        return rc;
    snprintf(writer->path, sizeof writer->path, "%s", path);
    writer->page_size = system_page_size();
    writer->size_limit = size_limit + writer->page_size - 1;
    if ((rc = files_partial_name(writer->partial, path)) || (rc = files_remove(writer->partial)))
        goto fail;
    if ((rc = mdb_env_create(&writer->env)) ||
        (rc = mdb_env_set_mapsize(writer->env, (size_t)writer->page_size * 4)) ||
        (rc = mdb_env_open(writer->env, writer->partial, flags, 0666))) {
        rc = fail(writer, rc, "create");
        goto fail;
    }
    *out = writer;
    return 0;

fail:
    shard_writer_discard(writer);
    return rc;
}

int shard_append(struct shard_writer *writer, const struct record *record)
{
    const char *fault = find_fault(record);
    uint64_t size = RECORD_HEADER_SIZE + record->name_size + record->payload_size;
    int rc;
    if (fault || size > UINT32_MAX || writer->records > UINT32_MAX)
        return err_set(ERR_FAULT, "%s: record %llu cannot be written: %s", writer->path,
                       (unsigned long long)writer->records, fault ? fault : "it is too much");
    if (writer->transaction && writer->pending + size > COMMIT_BYTES && (rc = commit(writer)))
        return rc;
    if (!writer->transaction && (rc = begin(writer, size)))
        return rc;
    uint32_t number = htobe32((uint32_t)writer->records);
    MDB_val key = {sizeof number, &number}, value = {(size_t)size, NULL};
    if ((rc = mdb_put(writer->transaction, writer->database, &key, &value,
                      MDB_APPEND | MDB_RESERVE)))
        return fail(writer, rc, "write");
    encode(record, value.mv_data, value.mv_size);
    writer->pending += size;
    writer->records++;
    return 0;
}

int shard_commit(struct shard_writer *writer)
{
    return writer->transaction ? commit(writer) : 0;
}

/* Everything of shard_publish up to the name. */
static int finish(struct shard_writer *writer, struct shard_facts *facts)
{
    int rc = 0;
    facts->records = writer->records;
    if (!writer->records)
        return err_set(ERR_FAULT, "%s: a shard without records", writer->path);
    if ((rc = shard_commit(writer)))
        return rc;
    if ((rc = mdb_env_sync(writer->env, 1)))
        return fail(writer, rc, "sync");
    mdb_env_close(writer->env);
    writer->env = NULL;
    return digest_file(writer->partial, facts->digest, &facts->bytes);
}

int shard_publish(struct shard_writer *writer, struct shard_facts *facts)
{
    int rc = finish(writer, facts);
    if (!rc && !(rc = files_publish_partial(writer->path)))
        writer->partial[0] = 0; /* it is no longer there to be removed */
    shard_writer_discard(writer);
    return rc;
}

void shard_writer_discard(struct shard_writer *writer)
{
    if (!writer)
        return;
    if (writer->transaction)
        mdb_txn_abort(writer->transaction);
    if (writer->env)
        mdb_env_close(writer->env);
    if (writer->partial[0])
        unlink(writer->partial);
    mem_free(writer);
}

/* ---- reading ---- */

/* Open PATH, a regular file of BYTES bytes, for reading. */
static int open_file(const char *path, uint64_t bytes, int *out)
{
    struct stat status;
    /* O_NONBLOCK: opening a fifo must not wait. */
    int rc = 0, file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *out = file;
    if (file < 0)
        return errno == ENOENT ? err_set(ERR_INPUT, "%s is missing", path)
                               : err_errno("cannot open %s", path);
    if (fstat(file, &status))
        rc = err_errno("cannot stat %s", path);
    else if (!S_ISREG(status.st_mode))
        rc = err_set(ERR_INPUT, "%s is not a regular file", path);
    else if ((uint64_t)status.st_size != bytes)
        rc = err_set(ERR_INPUT, "%s: damaged: it is %lld bytes long, but the manifest says %llu",
                     path, (long long)status.st_size, (unsigned long long)bytes);
    if (rc) {
        close(file);
        *out = -1;
    }
    return rc;
}

int shard_open(struct shard **out, const char *path, uint64_t records, uint64_t bytes,
               uint32_t classes)
{
    int rc = -ERR_MEMORY, file = -1;
    struct shard *shard = mem_array(1, sizeof *shard, "shard");
    *out = NULL;
    if (!shard)
        return rc;
    shard->records = records;
    shard->bytes = bytes;
    shard->classes = classes;
    shard->page_size = system_page_size();
    if (!(shard->path = mem_text(path)))
        goto fail;
    if ((rc = open_file(path, bytes, &file)) ||
        (rc = pages_list(file, path, bytes, records, &shard->values)))
        goto fail;
    void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        rc = err_errno("cannot map %s", path);
        goto fail;
    }
    shard->map = map;
    shard->watched = (struct bus_map){.path = shard->path, .start = map, .size = (size_t)bytes};
    bus_watch(&shard->watched);
    /* Records are read in random order: what is needed is asked for by shard_will_need. */
    madvise(map, (size_t)bytes, MADV_RANDOM);
    close(file);
    *out = shard;
    return 0;

fail:
    if (file >= 0)
        close(file);
    shard_close(shard);
    return rc;
}

void shard_close(struct shard *shard)
{
    if (!shard)
        return;
    bus_release(&shard->watched);
    if (shard->map)
        munmap((void *)shard->map, (size_t)shard->bytes);
    mem_free(shard->values);
    mem_free(shard->path);
    mem_free(shard);
}

int shard_get(struct shard *shard, uint32_t index, bool check, struct record *out)
{
    if (index >= shard->records)
        return err_set(ERR_FAULT, "%s: record %u of %llu was asked for", shard->path, index,
                       (unsigned long long)shard->records);
    struct pages_value value = shard->values[index];
    const char *fault = decode(shard->map + value.offset, value.size, check, out);
    if (fault)
        return err_set(ERR_INPUT, "%s: damaged: record %u: %s", shard->path, index, fault);
    if (out->label >= shard->classes)
        return err_set(ERR_INPUT,
                       "%s: damaged: record %u: its label is %u, but there are %u classes",
                       shard->path, index, out->label, shard->classes);
    return 0;
}

void shard_will_need(struct shard *shard, uint32_t index)
{
    if (index >= shard->records)
        return;
    struct pages_value value = shard->values[index];
    uint64_t start = value.offset / shard->page_size * shard->page_size;
    madvise((void *)(shard->map + start), (size_t)(value.offset + value.size - start),
            MADV_WILLNEED);
}

/* ---- verifying ---- */

/* Check the records from *NEXT on that end before the file's byte END. */
static void verify_records(struct shard *shard, uint64_t end, uint32_t *next,
                           const struct shard_visitor *visitor)
{
    struct record record;
    for (; *next < shard->records; ++*next) {
        struct pages_value value = shard->values[*next];
        if (value.offset + value.size > end)
            return;
        if (shard_get(shard, *next, true, &record))
            visitor->damage(visitor->context, *next);
        else
            visitor->record(visitor->context, *next, &record);
    }
}

/* Digest FILE while its records are checked behind the reading, as long as their bytes are in the
 * cache: the file is read from the disk once, and what is mapped was readable a moment ago. */
static int verify_bytes(struct shard *shard, int file, uint8_t *buffer, size_t room,
                        struct digest *digest, const struct shard_visitor *visitor)
{
    uint32_t next = 0;
    uint64_t released = 0;
    for (uint64_t done = 0; done < shard->bytes;) {
        ssize_t got = read(file, buffer, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("%s: cannot read at byte %llu", shard->path, (unsigned long long)done);
        if (got == 0)
            return err_set(ERR_INPUT, "%s: damaged: it became shorter", shard->path);
        digest_add(digest, buffer, (size_t)got);
        done += (uint64_t)got;
        verify_records(shard, done, &next, visitor);
        visitor->progress(visitor->context, (uint64_t)got);
        /* What was checked need not count as this process's memory. */
        uint64_t checked = done / shard->page_size * shard->page_size;
        if (checked - released >= RELEASE_BYTES) {
            madvise((void *)(shard->map + released), (size_t)(checked - released), MADV_DONTNEED);
            released = checked;
        }
    }
    return 0;
}

static int verify_file(struct shard *shard, const char *expected,
                       const struct shard_visitor *visitor)
{
    struct digest *digest = NULL;
    char found[33];
    int rc = -ERR_MEMORY, file = -1;
    size_t room = shard->bytes < READ_BYTES ? (size_t)shard->bytes : READ_BYTES;
    uint8_t *buffer = mem_aligned(room, "file buffer");
    if (buffer && !(rc = digest_open(&digest)) &&
        !(rc = open_file(shard->path, shard->bytes, &file))) {
        posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL);
        rc = verify_bytes(shard, file, buffer, room, digest, visitor);
    }
    if (!rc) {
        digest_value128(digest, found);
        if (strcmp(found, expected) != 0)
            rc = err_set(ERR_INPUT, "%s: damaged: its digest is %s, but the manifest says %s",
                         shard->path, found, expected);
    }
    if (file >= 0)
        close(file);
    digest_close(digest);
    mem_free(buffer);
    return rc;
}

int shard_verify(const char *path, const struct shard_facts *facts, uint32_t classes,
                 const struct shard_visitor *visitor)
{
    struct shard *shard;
    int rc = shard_open(&shard, path, facts->records, facts->bytes, classes);
    if (shard)
        rc = verify_file(shard, facts->digest, visitor);
    if (rc && rc != -ERR_MEMORY) {
        visitor->damage(visitor->context, -1);
        rc = rc == -ERR_IO ? rc : 0;
    }
    shard_close(shard);
    return rc;
}

char *shard_library(char out[64])
{
    int major, minor, patch;
    mdb_version(&major, &minor, &patch);
    snprintf(out, 64, "LMDB %d.%d.%d", major, minor, patch);
    return out;
}
