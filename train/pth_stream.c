#include "train/pth_stream.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "train/pickle.h"
#include "train/unpickle.h"
#include "train/views.h"

enum {
    PROTOCOL_VERSION = 1001, /* of the stream; the only one that torch.save has written */
    KEY_LIMIT = 20           /* digits of a storage's name */
};
#define FILE_LIMIT ((size_t)16 << 30)

/* 0x1950a86a20f9469cfc6c as LONG1, which stands behind PROTO and perhaps FRAME. */
static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

struct key {
    char text[KEY_LIMIT + 1];
};

struct pth_stream {
    char quoted[FILES_PATH_SIZE];
    uint8_t *bytes;
    size_t size, at; /* of the next part */
    struct mem_arena arena;
    struct storage *storages;
    struct key *keys; /* names of the storages */
    size_t count, capacity;
    struct views views;
};

/* Bytes of the first pickle; 0 when it is none. */
static size_t magic_size(const uint8_t *head, size_t size)
{
    if (size < 2 || head[0] != 0x80 || head[1] < 2 || head[1] > 5)
        return 0;
    size_t at = 2;
    if (at < size && head[at] == 0x95)
        at += 9;
    if (at + sizeof magic > size || memcmp(head + at, magic, sizeof magic) != 0)
        return 0;
    return at + sizeof magic;
}

bool pth_stream_begins(const uint8_t *head, size_t size)
{
    return magic_size(head, size) != 0;
}

/* ---- the host of the pickles ---- */

static int find_storage(void *context, const char *key, enum pth_type type, uint64_t count,
                        size_t *index)
{
    struct pth_stream *stream = context;
    size_t i = 0;
    while (i < stream->count && strcmp(stream->keys[i].text, key) != 0)
        i++;
    *index = i;
    if (i < stream->count) {
        if (stream->storages[i].type != type || stream->storages[i].count != count)
            return err_set(ERR_INPUT, "storage %s is used as two types, or of two sizes", key);
        return 0;
    }
    if (count > stream->size / pickle_element_size(type))
        return err_set(ERR_INPUT, "storage %s of %llu elements is larger than the file", key,
                       (unsigned long long)count);
    if (stream->count == PICKLE_TENSOR_LIMIT)
        return err_set(ERR_INPUT, "more than %d storages", PICKLE_TENSOR_LIMIT);
    if (stream->count == stream->capacity) {
        size_t capacity = stream->capacity ? 2 * stream->capacity : 512;
        int rc = mem_grow((void **)&stream->storages, stream->capacity, capacity,
                          sizeof *stream->storages, "storages");
        if (!rc)
            rc = mem_grow((void **)&stream->keys, stream->capacity, capacity, sizeof *stream->keys,
                          "storages");
        if (rc)
            return rc;
        stream->capacity = capacity;
        stream->views.storages = stream->storages;
    }
    stream->storages[i] = (struct storage){.used = true, .type = type, .count = count};
    snprintf(stream->keys[i].text, sizeof stream->keys[i].text, "%s", key);
    stream->count++;
    return 0;
}

static int make_view(void *context, size_t index, uint64_t offset, int rank, const int64_t *shape,
                     const int64_t *stride, struct pth_value **out)
{
    struct pth_stream *stream = context;
    return views_make(&stream->views, index, offset, rank, shape, stride, out);
}

/* The next pickle of the file. */
static int read_pickle(struct pth_stream *stream, struct pth_value **out)
{
    const struct unpickle_host host = {.context = stream,
                                       .storage = find_storage,
                                       .tensor = make_view,
                                       .foreign = true,
                                       .part = stream->quoted,
                                       .base = stream->at};
    size_t used = 0;
    int rc = unpickle_part(stream->bytes + stream->at, stream->size - stream->at, &stream->arena,
                           &host, out, &used);
    stream->at += used;
    return rc;
}

/* ---- the parts ---- */

static int bad(const struct pth_stream *stream, const char *what)
{
    return err_set(ERR_INPUT, "%s, byte %zu: %s", stream->quoted, stream->at, what);
}

/* The version, and the machine: integers of the sizes that all machines have, little-endian. */
static int read_marks(struct pth_stream *stream)
{
    struct pth_value *version, *machine;
    int rc;
    if ((rc = read_pickle(stream, &version)))
        return rc;
    if (version->kind != PTH_INT || version->integer != PROTOCOL_VERSION)
        return bad(stream, "not the version 1001 of PyTorch's stream");
    if ((rc = read_pickle(stream, &machine)))
        return rc;
    const struct pth_value *little = pth_find(machine, "little_endian");
    if (!little || little->kind != PTH_BOOL || !little->boolean)
        return bad(stream, "written by a machine that is not little-endian, or by none");
    return 0;
}

/* The elements of one storage, behind their number. */
static int read_storage(struct pth_stream *stream, const struct pth_value *key)
{
    uint64_t count;
    size_t i = 0;
    while (i < stream->count &&
           (key->kind != PTH_TEXT || strcmp(stream->keys[i].text, key->text) != 0))
        i++;
    if (i == stream->count)
        return bad(stream, "the list of storages names one that no tensor uses");
    struct storage *storage = &stream->storages[i];
    if (storage->bytes)
        return bad(stream, "the list of storages names one twice");
    if (stream->size - stream->at < sizeof count)
        return bad(stream, "the file is cut short");
    memcpy(&count, stream->bytes + stream->at, sizeof count);
    if (count != storage->count)
        return bad(stream, "a storage with another number of elements than its tensors say");
    stream->at += sizeof count;
    size_t bytes = (size_t)count * pickle_element_size(storage->type);
    if (stream->size - stream->at < bytes)
        return bad(stream, "the file is cut short");
    storage->bytes = mem_aligned(bytes ? bytes : 1, "tensor data");
    if (!storage->bytes)
        return -ERR_MEMORY;
    if (bytes)
        memcpy(storage->bytes, stream->bytes + stream->at, bytes);
    stream->at += bytes;
    return 0;
}

static int read_storages(struct pth_stream *stream)
{
    struct pth_value *list;
    int rc = read_pickle(stream, &list);
    if (rc)
        return rc;
    if (list->kind != PTH_LIST || list->count != stream->count)
        return bad(stream, "the list of storages is not that of the tensors (or a tensor has a "
                           "type that is not read: f32, f16, bf16, i64, i32 and u8 are)");
    for (size_t i = 0; i < list->count && !rc; i++)
        rc = read_storage(stream, list->items[i]);
    if (!rc && stream->at != stream->size)
        rc = bad(stream, "bytes behind the last storage");
    return rc;
}

int pth_stream_open(struct pth_stream **out, const char *path, const struct pth_value **root)
{
    struct pth_stream *stream = mem_array(1, sizeof *stream, "PyTorch file");
    struct pth_value *tree = NULL;
    int rc = -ERR_MEMORY;
    *out = NULL;
    *root = NULL;
    if (!stream)
        return rc;
    err_quote(stream->quoted, sizeof stream->quoted, path);
    stream->views.arena = &stream->arena;
    if ((rc = files_read(path, FILE_LIMIT, &stream->bytes, &stream->size)))
        goto fail;
    if (!(stream->at = magic_size(stream->bytes, stream->size))) {
        rc = bad(stream, "not a stream of torch.save");
        goto fail;
    }
    if ((rc = read_marks(stream)) || (rc = read_pickle(stream, &tree)) ||
        (rc = read_storages(stream)) ||
        (rc = views_load(&stream->views, stream->size, stream->quoted)))
        goto fail;
    mem_free(stream->bytes);
    stream->bytes = NULL;
    *out = stream;
    *root = tree;
    return 0;

fail:
    pth_stream_close(stream);
    return rc;
}

void pth_stream_close(struct pth_stream *stream)
{
    if (!stream)
        return;
    for (size_t i = 0; i < stream->count; i++)
        mem_free(stream->storages[i].bytes);
    mem_free(stream->storages);
    mem_free(stream->keys);
    mem_free(stream->bytes);
    mem_arena_release(&stream->arena);
    mem_free(stream);
}
