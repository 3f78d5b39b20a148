/*
 * plan_cache.c - see plan_cache.h. What is in the file is trusted as far as its digest, the device
 * and versions in its head, and door_plan_load's own checks go: any doubt means that a plan is made
 * anew.
 */
#include "train/cuda/plan_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "train/cuda/plan_store.h"

enum { LINE = 200 };
#define MOST_BYTES ((size_t)512 << 20) /* of a file; beyond, only this run's plans are kept */

struct saved {
    uint64_t graph;
    struct door_wish wish;
    float milliseconds;
    char *text;
    bool used; /* in this run */
};

struct plan_cache {
    struct door *door;
    char folder[FILES_PATH_SIZE], path[FILES_PATH_SIZE];
    struct saved *plans;
    size_t count, capacity;
};

/* ---- the file -------------------------------------------------------------------------------- */

static int add_saved(struct plan_cache *c, const struct saved *plan)
{
    for (size_t i = 0; i < c->count; i++) {
        struct saved *p = &c->plans[i];

        if (p->graph == plan->graph && p->wish.workspace_cap == plan->wish.workspace_cap &&
            p->wish.deterministic == plan->wish.deterministic &&
            p->wish.cores == plan->wish.cores) {
            mem_free(p->text);
            *p = *plan;
            return 0;
        }
    }
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 64;
        int rc = mem_grow((void **)&c->plans, c->capacity, capacity, sizeof *c->plans,
                          "the cache of plans");

        if (rc)
            return rc;
        c->capacity = capacity;
    }
    c->plans[c->count++] = *plan;
    return 0;
}

/* The head as it must be; returns its length. */
static int head_text(const struct plan_cache *c, char *out, size_t size)
{
    const struct door_properties *p = door_properties(c->door);

    return snprintf(out, size, "cudnn %zu cublaslt %zu device %zu\n%s\n", p->cudnn, p->cublaslt,
                    strlen(p->json), p->json);
}

static int head_make(const struct plan_cache *c, char **out)
{
    int length = head_text(c, NULL, 0);

    if (!(*out = mem_array((size_t)length + 1, 1, "the cache of plans")))
        return -ERR_MEMORY;
    head_text(c, *out, (size_t)length + 1);
    return 0;
}

/* The line at AT without its line feed; 0: none that short. END: the 0 behind all. Returns its
 * length. (sscanf alone would look for the end of the whole file, line after line.) */
static size_t read_line(const char *at, const char *end, char out[LINE])
{
    size_t most = (size_t)(end - at) < LINE ? (size_t)(end - at) : LINE;
    const char *feed = memchr(at, '\n', most);

    if (!feed)
        return 0;
    memcpy(out, at, (size_t)(feed - at));
    out[feed - at] = 0;
    return (size_t)(feed - at);
}

/* One plan at *AT, which moves behind it; 0: it is damaged. */
static int read_plan(struct plan_cache *c, const char **at, const char *end)
{
    struct saved plan = {.graph = 0};
    size_t bytes, length;
    char line[LINE];
    int deterministic, cores;

    if (!(length = read_line(*at, end, line)) ||
        sscanf(line, "plan %" SCNx64 " %zu %d %d %f %zu", &plan.graph, &plan.wish.workspace_cap,
               &deterministic, &cores, &plan.milliseconds, &bytes) != 6 ||
        cores < DOOR_CORES_PREFER || cores > DOOR_CORES_NEVER)
        return 0;
    *at += length + 1;
    if (bytes >= (size_t)(end - *at) || (*at)[bytes] != '\n')
        return 0;
    plan.wish.deterministic = deterministic;
    plan.wish.cores = (enum door_cores)cores;
    if (!(plan.text = mem_array(bytes + 1, 1, "the cache of plans")))
        return -ERR_MEMORY;
    memcpy(plan.text, *at, bytes);
    *at += bytes + 1;
    int rc = add_saved(c, &plan);
    if (rc)
        mem_free(plan.text);
    return rc ? rc : 1;
}

static int drop_all(struct plan_cache *c, const char *why)
{
    for (size_t i = 0; i < c->count; i++)
        mem_free(c->plans[i].text);
    c->count = 0;
    log_line("%s: %s; plans are made anew", c->path, why);
    return 0;
}

/* TEXT (of SIZE bytes, a 0 behind it) into plans. */
static int read_text(struct plan_cache *c, const char *text, size_t size)
{
    const char *at = text, *end = text + size;
    char *head = NULL, line[LINE];
    size_t length = read_line(text, end, line);
    uint64_t digest;
    int rc;

    if (!length || sscanf(line, "imagenet-train plans 1 %" SCNx64, &digest) != 1)
        return drop_all(c, "it is damaged, or of another version");
    at += length + 1;
    if (digest != digest64(at, (size_t)(end - at)))
        return drop_all(c, "it is damaged");
    if ((rc = head_make(c, &head)))
        return rc;
    size_t head_size = strlen(head);
    bool ours = head_size <= (size_t)(end - at) && memcmp(at, head, head_size) == 0;
    mem_free(head);
    if (!ours)
        return drop_all(c, "it is of another device, cuDNN or cuBLASLt");
    for (at += head_size; at < end;)
        if ((rc = read_plan(c, &at, end)) <= 0)
            return rc ? rc : drop_all(c, "it is damaged");
    return 0;
}

static int read_file(struct plan_cache *c)
{
    enum files_type type;
    uint64_t bytes;
    uint8_t *text = NULL;
    size_t size;
    int rc = files_type(c->path, &type, &bytes);

    if (!rc && type == FILES_NOTHING)
        return 0;
    if (!rc)
        rc = files_read(c->path, MOST_BYTES, &text, &size);
    if (rc == -ERR_MEMORY)
        return rc;
    if (rc) {
        log_line("%s: %s; plans are made anew", c->path, err_text());
        return 0;
    }
    rc = read_text(c, (const char *)text, size);
    mem_free(text);
    return rc;
}

char *plan_store_folder(char *out)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = 0;

    *out = 0;
    if (cache && *cache == '/')
        length = snprintf(out, FILES_PATH_SIZE, "%s/imagenet-train", cache);
    else if (home && *home == '/')
        length = snprintf(out, FILES_PATH_SIZE, "%s/.cache/imagenet-train", home);
    if (length >= FILES_PATH_SIZE)
        *out = 0;
    return out;
}

int plan_cache_open(struct plan_cache **out, struct door *door, const char *folder)
{
    struct plan_cache *c;
    char *head = NULL, name[64];
    int rc;

    *out = NULL;
    if (!(c = mem_array(1, sizeof *c, "the cache of plans")))
        return -ERR_MEMORY;
    c->door = door;
    if (folder)
        snprintf(c->folder, sizeof c->folder, "%s", folder);
    else
        plan_store_folder(c->folder);
    if (!c->folder[0]) {
        plan_cache_close(c);
        return 0;
    }
    if ((rc = head_make(c, &head)))
        goto fail;
    snprintf(name, sizeof name, "plans-%016" PRIx64 ".txt", digest64(head, strlen(head)));
    mem_free(head);
    if ((rc = files_join(c->path, c->folder, name)) || (rc = read_file(c)))
        goto fail;
    *out = c;
    return 0;

fail:
    plan_cache_close(c);
    return rc;
}

void plan_cache_close(struct plan_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->count; i++)
        mem_free(cache->plans[i].text);
    mem_free(cache->plans);
    mem_free(cache);
}

/* ---- plans ----------------------------------------------------------------------------------- */

int plan_cache_find(struct plan_cache *cache, const struct door_graph *graph,
                    const struct door_wish *wish, struct door_plan **plan, float *milliseconds)
{
    uint64_t digest;
    int rc;

    *plan = NULL;
    if (!cache)
        return 0;
    if ((rc = door_graph_digest(graph, &digest)))
        return rc;
    for (size_t i = 0; i < cache->count; i++) {
        struct saved *p = &cache->plans[i];

        if (p->graph != digest || p->wish.workspace_cap != wish->workspace_cap ||
            p->wish.deterministic != wish->deterministic || p->wish.cores != wish->cores)
            continue;
        if ((rc = door_plan_load(cache->door, graph, p->text, plan))) {
            *plan = NULL;
            if (rc == -ERR_MEMORY)
                return rc;
            log_line("%s: %s; the plan is made anew", cache->path, err_text());
            return 0;
        }
        p->used = true;
        *milliseconds = p->milliseconds;
        return 0;
    }
    return 0;
}

int plan_cache_add(struct plan_cache *cache, const struct door_graph *graph,
                   const struct door_wish *wish, const struct door_plan *plan, float milliseconds)
{
    struct saved saved = {.wish = *wish, .milliseconds = milliseconds, .used = true};
    int rc;

    if (!cache)
        return 0;
    if ((rc = door_graph_digest(graph, &saved.graph)) ||
        (rc = door_plan_save(cache->door, plan, &saved.text)))
        return rc;
    if ((rc = add_saved(cache, &saved)))
        mem_free(saved.text);
    return rc;
}

/* The file's text after its first line. */
static int make_text(struct plan_cache *c, char **out, size_t *size)
{
    char *head = NULL, *text;
    size_t total, at;
    int rc = head_make(c, &head);

    if (rc)
        return rc;
    total = strlen(head) + 1;
    for (size_t i = 0; i < c->count; i++)
        total += strlen(c->plans[i].text) + 160;
    if (!(text = mem_array(total, 1, "the cache of plans"))) {
        mem_free(head);
        return -ERR_MEMORY;
    }
    at = (size_t)snprintf(text, total, "%s", head);
    for (size_t i = 0; i < c->count; i++) {
        const struct saved *p = &c->plans[i];

        if (p->used || total < MOST_BYTES)
            at += (size_t)snprintf(text + at, total - at,
                                   "plan %016" PRIx64 " %zu %d %d %.6f %zu\n%s\n", p->graph,
                                   p->wish.workspace_cap, p->wish.deterministic, (int)p->wish.cores,
                                   (double)p->milliseconds, strlen(p->text), p->text);
    }
    mem_free(head);
    *out = text;
    *size = at;
    return 0;
}

int plan_cache_write(struct plan_cache *cache)
{
    struct files_lock *lock = NULL;
    struct files_writer *writer = NULL;
    char line[64], name[FILES_PATH_SIZE], *text = NULL;
    size_t size;
    int rc;

    if (!cache)
        return 0;
    if ((rc = files_make_folder(cache->folder)) ||
        (rc = files_join(name, cache->folder, "plans.lock")) || (rc = files_lock(&lock, name)) ||
        (rc = make_text(cache, &text, &size)) || (rc = files_writer_open(&writer, cache->path)))
        goto done;
    int length = snprintf(line, sizeof line, "imagenet-train plans 1 %016" PRIx64 "\n",
                          digest64(text, size));
    if ((rc = files_write(writer, line, (size_t)length)) || (rc = files_write(writer, text, size)))
        files_discard(writer);
    else
        rc = files_publish(writer);
done:
    mem_free(text);
    files_unlock(lock);
    return rc;
}
