/*
 * shard_rig.h - what the tests of shards share: records that are drawn from a number, plans of
 * shards, writing a plan, and what shard_verify tells of a file.
 */
#ifndef TESTS_SHARD_RIG_H
#define TESTS_SHARD_RIG_H

#include "common/files.h"
#include "common/mem.h"
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

static inline void draw(struct drawn *drawn, uint32_t index, uint64_t size, uint32_t name_size)
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

static inline bool same(const struct record *a, const struct record *b)
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

static inline uint32_t name_20(uint32_t index)
{
    (void)index;
    return 20;
}

static inline uint64_t plan_limit(const struct plan *plan)
{
    uint64_t bytes = 0, largest = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        uint64_t size = RECORD_HEADER_SIZE + plan->name_size(i) + plan->payload_size(i);
        bytes += size;
        largest = size > largest ? size : largest;
    }
    return shard_size_limit(plan->count, bytes, largest);
}

static inline const char *shard_path(const char *name)
{
    static char paths[4][FILES_PATH_SIZE];
    static int next;
    char *path = paths[next++ % 4];
    files_join(path, test_folder(), name);
    return path;
}

/* Write PLAN to PATH with a size limit; 0 or the first error. */
static inline int write_limited(const struct plan *plan, const char *path, uint64_t limit,
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

static inline int write_plan(const struct plan *plan, const char *path, struct shard_facts *facts)
{
    return write_limited(plan, path, plan_limit(plan), facts);
}

/* ---- verifying ---- */

struct told {
    uint64_t records, damages, bytes;
    int64_t last;
    char text[ERR_TEXT_SIZE];
};

static inline void tell_record(void *context, uint32_t index, const struct record *record)
{
    struct told *told = context;
    (void)index;
    told->records += record->payload_size > 0;
}

static inline void tell_damage(void *context, int64_t index)
{
    struct told *told = context;
    told->damages++;
    told->last = index;
    snprintf(told->text, sizeof told->text, "%s", err_text());
}

static inline void tell_progress(void *context, uint64_t bytes)
{
    struct told *told = context;
    told->bytes += bytes;
}

static inline struct told verify(const char *path, const struct shard_facts *facts)
{
    struct told told = {0};
    const struct shard_visitor visitor = {&told, tell_record, tell_damage, tell_progress};
    CHECK_INT(shard_verify(path, facts, CLASSES, &visitor), 0);
    return told;
}

#endif
