/*
 * test_plan_store.c - plans for absent devices, asked for, shared, kept on disk and read back: what
 * is damaged or another device's is not trusted. Pre-compiled engines only: no driver is needed.
 */
#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "tests/test.h"
#include "train/cuda/devices.h"
#include "train/cuda/plan_store.h"

/* cuBLASLt and cuDNN keep memory that they never give back. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0:allocator_may_return_null=1";
}

static const struct door_wish wish = {.workspace_cap = (size_t)512 << 20,
                                      .cores = DOOR_CORES_PREFER};
static char folder[FILES_PATH_SIZE];

static void use_folder(const char *name)
{
    CHECK_INT(files_join(folder, test_folder(), name), 0);
    CHECK_INT(files_make_folder(folder), 0);
}

/* The convolutions of a ResNet-18 at 64 pixels, all three ways. */
struct rig {
    struct model *model;
    struct door *door;
    struct plan_store *store;
    int slots[64], count;
};

static void ask(struct rig *r, enum door_type type)
{
    for (size_t i = 0; i < r->model->training_count; i++) {
        const struct op *op = &r->model->training[i];
        struct graph graph;

        if (op->kind != OP_CONV || (type != DOOR_F32 && op->in_slot < 0))
            continue;
        for (int kind = GRAPH_CONV; kind <= GRAPH_CONV_DATA; kind++) {
            if (kind == GRAPH_CONV_DATA && op->in_slot < 0)
                continue;
            CHECK_INT(graph_make(&graph, (enum graph_kind)kind, op, type), 0);
            CHECK_INT(
                plan_store_request(r->store, &graph, &wish, false, &r->slots[r->count++ % 64]), 0);
        }
    }
}

static void open_rig(struct rig *r, const char *device, const char *cache)
{
    struct model_settings model = {.arch = "resnet18", .classes = 10, .batch = 4, .image_size = 64};
    struct plan_store_settings settings = {.folder = cache, .threads = 2};

    *r = (struct rig){.count = 0};
    if (door_open_absent(&r->door, devices_find(device)))
        TEST_SKIP("%s", err_text());
    CHECK_INT(model_open(&r->model, &model), 0);
    CHECK_INT(plan_store_open(&r->store, r->door, &settings), 0);
    ask(r, DOOR_BF16);
}

static void close_rig(struct rig *r)
{
    plan_store_close(r->store);
    model_close(r->model);
    door_close(r->door);
}

/* The one file of plans in the folder; counts them. */
static int find_file(char out[FILES_PATH_SIZE])
{
    struct files_list list;
    int count = 0;

    if (files_list(folder, &list))
        return -1;
    for (size_t i = 0; i < list.count; i++)
        if (strncmp(list.names[i], "plans-", 6) == 0) {
            CHECK_INT(files_join(out, folder, list.names[i]), 0);
            count++;
        }
    files_list_release(&list);
    return count;
}

static void engines_of(const struct rig *r, char out[64][160])
{
    for (int i = 0; i < plan_store_count(r->store) && i < 64; i++) {
        const struct door_plan *plan = plan_store_plan(r->store, i);

        CHECK(plan != NULL);
        snprintf(out[i], 160, "%s", plan ? door_plan_info(plan)->engine : "");
    }
}

/* Loaded plans carry no "compiled" time: the second start is told by the log alone, so by the file
 * that is not written again. */
static void test_kept(void)
{
    static char first[64][160], second[64][160];
    char path[FILES_PATH_SIZE], digest[33], again[33];
    uint64_t size;
    struct rig r;

    use_folder("kept");
    open_rig(&r, "h100", folder);
    if (!r.store)
        return;
    /* 19 convolutions without the stem: 11 shapes, both ways. */
    CHECK_INT(r.count, 38);
    CHECK_INT(plan_store_count(r.store), 20);
    CHECK(!plan_store_plan(r.store, 0));
    CHECK_INT(plan_store_complete(r.store), 0);
    engines_of(&r, first);
    CHECK_INT(find_file(path), 0);
    plan_store_keep(r.store);
    CHECK_INT(find_file(path), 1);
    CHECK_INT(digest_file(path, digest, &size), 0);
    close_rig(&r);

    open_rig(&r, "h100", folder);
    CHECK_INT(plan_store_complete(r.store), 0);
    engines_of(&r, second);
    CHECK(memcmp(first, second, sizeof first) == 0);
    CHECK_INT(files_remove(path), 0); /* nothing changed: it is not written again */
    plan_store_keep(r.store);
    CHECK_INT(find_file(path), 0);
    /* More is asked for: the file holds both. */
    ask(&r, DOOR_F32);
    CHECK_INT(plan_store_complete(r.store), 0);
    plan_store_keep(r.store);
    CHECK_INT(find_file(path), 1);
    CHECK_INT(digest_file(path, again, &size), 0);
    CHECK(strcmp(digest, again) != 0);
    close_rig(&r);
}

/* Change a byte of FILE at about a part of its size. */
static void damage(const char *path, double part)
{
    struct files_writer *writer = NULL;
    uint8_t *bytes = NULL;
    size_t size = 0;

    CHECK_INT(files_read(path, (size_t)1 << 28, &bytes, &size), 0);
    if (!bytes)
        return;
    bytes[(size_t)(part * (double)size)] ^= 1;
    CHECK_INT(files_writer_open(&writer, path), 0);
    CHECK_INT(files_write(writer, bytes, size), 0);
    CHECK_INT(files_publish(writer), 0);
    mem_free(bytes);
}

/* A damaged file and another device's are passed over and written anew. */
static void test_not_trusted(void)
{
    static const double parts[] = {0, 0.001, 0.02, 0.5, 0.999};
    char path[FILES_PATH_SIZE], other[FILES_PATH_SIZE], before[33], after[33];
    uint64_t size;
    struct rig r;

    use_folder("not_trusted");
    open_rig(&r, "a100", folder);
    if (!r.store)
        return;
    CHECK_INT(plan_store_complete(r.store), 0);
    plan_store_keep(r.store);
    close_rig(&r);
    CHECK_INT(find_file(path), 1);
    CHECK_INT(digest_file(path, before, &size), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        damage(path, parts[i]);
        open_rig(&r, "a100", folder);
        CHECK_INT(plan_store_complete(r.store), 0);
        plan_store_keep(r.store);
        close_rig(&r);
        CHECK_INT(digest_file(path, after, &size), 0);
        CHECK_TEXT(after, before);
    }
    /* The B200's file under the A100's name. */
    CHECK_INT(files_join(other, folder, "a100"), 0);
    CHECK_INT(rename(path, other), 0);
    open_rig(&r, "b200", folder);
    CHECK_INT(plan_store_complete(r.store), 0);
    plan_store_keep(r.store);
    close_rig(&r);
    char of_b200[FILES_PATH_SIZE];
    CHECK_INT(find_file(of_b200), 1);
    CHECK(strcmp(of_b200, path) != 0);
    CHECK_INT(rename(of_b200, path), 0);
    open_rig(&r, "a100", folder);
    CHECK_INT(plan_store_complete(r.store), 0);
    plan_store_keep(r.store);
    close_rig(&r);
    CHECK_INT(digest_file(path, after, &size), 0);
    CHECK_TEXT(after, before);
}

/* What cannot be planned: an error with cuDNN's reason, or an empty slot. */
static void test_refused(void)
{
    struct door_wish narrow = {.workspace_cap = 16, .cores = DOOR_CORES_ONLY};
    struct graph graph;
    struct rig r;
    int slot = -1, same = -1;

    open_rig(&r, "h100", "");
    if (!r.store)
        return;
    CHECK_INT(graph_make(&graph, GRAPH_CONV_FILTER, &r.model->training[0], DOOR_F32), 0);
    CHECK_INT(plan_store_request(r.store, &graph, &narrow, true, &slot), 0);
    CHECK_INT(plan_store_complete(r.store), 0);
    CHECK(!plan_store_plan(r.store, slot));
    CHECK_HAS(plan_store_reason(r.store, slot), "more workspace than 16 bytes");
    CHECK_TEXT(plan_store_reason(r.store, 0), "");
    CHECK_INT(plan_store_complete(r.store), 0); /* nothing is left to do */
    close_rig(&r);

    open_rig(&r, "h100", "");
    CHECK_INT(plan_store_request(r.store, &graph, &narrow, true, &slot), 0);
    CHECK_INT(plan_store_request(r.store, &graph, &narrow, false, &same), 0);
    CHECK_INT(same, slot);
    CHECK_INT(plan_store_complete(r.store), -ERR_DEVICE);
    CHECK_HAS(err_text(), "conv backward filter 7x7 s2, 4x8x64x64 > 64, f32");
    close_rig(&r);
}

/* A plan that failed its test gives way to the next, down to the last. */
static void test_rejected(void)
{
    struct rig r;
    char first[160];
    int tries = 0, rc = 0;

    open_rig(&r, "h100", "");
    if (!r.store)
        return;
    CHECK_INT(plan_store_complete(r.store), 0);
    snprintf(first, sizeof first, "%s", door_plan_info(plan_store_plan(r.store, 0))->engine);
    while (tries < 20 && !rc) {
        rc = plan_store_reject(r.store, 0, "6 of 256 values are wrong");
        tries++;
        if (!rc)
            CHECK(strcmp(first, door_plan_info(plan_store_plan(r.store, 0))->engine) != 0);
    }
    CHECK(tries > 1);
    CHECK_INT(rc, -ERR_DEVICE);
    CHECK_HAS(err_text(), "no engine is left of");
    CHECK_HAS(err_text(), first);
    CHECK_HAS(err_text(), "6 of 256 values are wrong");
    close_rig(&r);
}

static const struct test tests[] = {
    {"kept",        test_kept       },
    {"not_trusted", test_not_trusted},
    {"refused",     test_refused    },
    {"rejected",    test_rejected   },
};

int main(int argc, char **argv)
{
#ifdef __SANITIZE_THREAD__
    /* Its locks are not seen, and what they guard is. */
    printf("skipped: cuDNN is not built for the thread sanitizer\n");
    return 77;
#endif
    return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
