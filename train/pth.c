#include "train/pth.h"

#include <stdio.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "train/pickle.h"
#include "train/unpickle.h"
#include "train/views.h"
#include "train/zip_reader.h"
#include "train/zip_writer.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data are written as they lie");

enum {
    ENTRY_LIMIT = PICKLE_TENSOR_LIMIT + 16,
    SMALL_LIMIT = 4096, /* bytes of an entry beside the pickle and the data */
    FORMAT_LIMIT = 10   /* highest file format version that PyTorch reads */
};

/* ---- values ---- */

static struct pth_value *make(struct mem_arena *arena, enum pth_kind kind)
{
    struct pth_value *value = mem_arena_alloc(arena, sizeof *value, "checkpoint value");
    if (value)
        value->kind = kind;
    return value;
}

struct pth_value *pth_none(struct mem_arena *arena)
{
    return make(arena, PTH_NONE);
}

struct pth_value *pth_bool(struct mem_arena *arena, bool boolean)
{
    struct pth_value *value = make(arena, PTH_BOOL);
    if (value)
        value->boolean = boolean;
    return value;
}

struct pth_value *pth_int(struct mem_arena *arena, int64_t integer)
{
    struct pth_value *value = make(arena, PTH_INT);
    if (value)
        value->integer = integer;
    return value;
}

struct pth_value *pth_real(struct mem_arena *arena, double real)
{
    struct pth_value *value = make(arena, PTH_REAL);
    if (value)
        value->real = real;
    return value;
}

struct pth_value *pth_text(struct mem_arena *arena, const char *text)
{
    struct pth_value *value = make(arena, PTH_TEXT);
    if (!value)
        return NULL;
    value->text_size = strlen(text);
    value->text = mem_arena_text(arena, text, value->text_size);
    return value->text ? value : NULL;
}

struct pth_value *pth_list(struct mem_arena *arena)
{
    return make(arena, PTH_LIST);
}

struct pth_value *pth_tuple(struct mem_arena *arena)
{
    return make(arena, PTH_TUPLE);
}

struct pth_value *pth_dict(struct mem_arena *arena, bool ordered)
{
    return make(arena, ordered ? PTH_ORDERED_DICT : PTH_DICT);
}

struct pth_value *pth_tensor(struct mem_arena *arena, enum pth_type type, int rank,
                             const int64_t *shape, const void *data)
{
    size_t count;
    if (rank < 0 || rank > 8 || !views_count(type, rank, shape, &count)) {
        err_set(ERR_FAULT, "a tensor of rank %d whose size does not fit", rank);
        return NULL;
    }
    struct pth_value *value = make(arena, PTH_TENSOR);
    if (!value)
        return NULL;
    value->tensor.type = type;
    value->tensor.rank = rank;
    if (rank)
        memcpy(value->tensor.shape, shape, (size_t)rank * sizeof *shape);
    value->tensor.data = data;
    value->tensor.count = count;
    return value;
}

/* Dicts take their keys and values in turn. */
struct pth_value *pth_append(struct mem_arena *arena, struct pth_value *list,
                             struct pth_value *item)
{
    if (!list || !item)
        return NULL;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 8;
        struct pth_value **items =
            mem_arena_alloc(arena, capacity * sizeof(void *), "checkpoint values");
        if (!items)
            return NULL;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof(void *));
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return list;
}

/* Where KEY of TEXT's or INTEGER's value stands in DICT; NULL when it is not there. */
static struct pth_value **find_place(const struct pth_value *dict, const char *text,
                                     int64_t integer)
{
    size_t size = text ? strlen(text) : 0;
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const struct pth_value *key = dict->items[i];
        bool equal =
            text ? key->kind == PTH_TEXT && key->text_size == size && !memcmp(key->text, text, size)
                 : key->kind == PTH_INT && key->integer == integer;
        if (equal)
            return &dict->items[i + 1];
    }
    return NULL;
}

static struct pth_value *put(struct mem_arena *arena, struct pth_value *dict, const char *text,
                             int64_t integer, struct pth_value *value)
{
    if (!dict || !value)
        return NULL;
    struct pth_value **place = find_place(dict, text, integer);
    if (place) {
        *place = value;
        return dict;
    }
    struct pth_value *key = text ? pth_text(arena, text) : pth_int(arena, integer);
    return pth_append(arena, pth_append(arena, dict, key), value);
}

struct pth_value *pth_put(struct mem_arena *arena, struct pth_value *dict, const char *key,
                          struct pth_value *value)
{
    return put(arena, dict, key, 0, value);
}

struct pth_value *pth_put_int(struct mem_arena *arena, struct pth_value *dict, int64_t key,
                              struct pth_value *value)
{
    return put(arena, dict, NULL, key, value);
}

static bool is_dict(const struct pth_value *value)
{
    return value && (value->kind == PTH_DICT || value->kind == PTH_ORDERED_DICT);
}

const struct pth_value *pth_find(const struct pth_value *dict, const char *key)
{
    struct pth_value **place = is_dict(dict) ? find_place(dict, key, 0) : NULL;
    return place ? *place : NULL;
}

/* ---- writing ---- */

/* The entries in the order in which torch.save writes them. */
static int write_entries(struct zip_writer *zip, const struct pickle *pickle)
{
    char name[32];
    int rc;
    if ((rc = zip_writer_add(zip, "data.pkl", pickle->bytes, pickle->size)) ||
        (rc = zip_writer_add(zip, "byteorder", "little", 6)))
        return rc;
    for (size_t i = 0; i < pickle->tensor_count; i++) {
        const struct pth_value *tensor = pickle->tensors[i];
        snprintf(name, sizeof name, "data/%zu", i);
        if ((rc = zip_writer_add(zip, name, tensor->tensor.data, views_bytes(tensor))))
            return rc;
    }
    return zip_writer_add(zip, "version", "3\n", 2);
}

int pth_write(const char *path, const char *name, const struct pth_value *root)
{
    struct pickle pickle;
    struct zip_writer *zip = NULL;
    int rc = pickle_write(root, &pickle);
    if (rc)
        rc = err_add(rc, "%s cannot be written", path);
    else if (!(rc = zip_writer_open(&zip, path, name)) && !(rc = write_entries(zip, &pickle))) {
        rc = zip_writer_publish(zip);
        zip = NULL;
    }
    zip_writer_discard(zip);
    pickle_release(&pickle);
    return rc;
}

/* ---- reading ---- */

struct pth_file {
    char quoted[FILES_PATH_SIZE]; /* the path for messages */
    struct zip_file *zip;
    struct mem_arena arena;
    struct storage *storages; /* by the position of their entry in the archive */
    struct views views;
    bool foreign;
};

static int find_storage(void *context, const char *key, enum pth_type type, uint64_t count,
                        size_t *index)
{
    struct pth_file *file = context;
    char name[32];
    uint64_t bytes;
    snprintf(name, sizeof name, "data/%s", key);
    const struct zip_entry *entry = zip_find(file->zip, name);
    if (!entry)
        return err_set(ERR_INPUT, "there is no entry %s", name);
    if (__builtin_mul_overflow(count, pickle_element_size(type), &bytes) || bytes != entry->size)
        return err_set(ERR_INPUT, "%s has %llu bytes, not %llu elements of %zu bytes", name,
                       (unsigned long long)entry->size, (unsigned long long)count,
                       pickle_element_size(type));
    *index = (size_t)(entry - zip_entry(file->zip, 0));
    struct storage *storage = &file->storages[*index];
    if (storage->used && storage->type != type)
        return err_set(ERR_INPUT, "%s is used as two types", name);
    *storage = (struct storage){.used = true, .type = type, .count = count};
    return 0;
}

static int make_view(void *context, size_t index, uint64_t offset, int rank, const int64_t *shape,
                     const int64_t *stride, struct pth_value **out)
{
    struct pth_file *file = context;
    return views_make(&file->views, index, offset, rank, shape, stride, out);
}

static int load_data(struct pth_file *file)
{
    int rc = 0;
    for (size_t i = 0; i < zip_count(file->zip) && !rc; i++) {
        struct storage *storage = &file->storages[i];
        const struct zip_entry *entry = zip_entry(file->zip, i);
        if (!storage->used)
            continue;
        if (!(storage->bytes = mem_aligned((size_t)entry->size, "tensor data")))
            return -ERR_MEMORY;
        rc = zip_read(file->zip, entry, storage->bytes);
    }
    return rc ? rc : views_load(&file->views, zip_size(file->zip), file->quoted);
}

/* The text of a small entry, whose CRC is checked, in OUT; "" when it is absent. */
static int read_small(struct pth_file *file, const char *name, char out[SMALL_LIMIT + 1])
{
    const struct zip_entry *entry = zip_find(file->zip, name);
    out[0] = 0;
    if (!entry)
        return 0;
    if (entry->size > SMALL_LIMIT)
        return err_set(ERR_INPUT, "%s: entry %s is %llu bytes long; up to %d are read",
                       file->quoted, name, (unsigned long long)entry->size, SMALL_LIMIT);
    out[entry->size] = 0;
    return zip_read(file->zip, entry, out);
}

/* Each entry is one that torch.save writes, and each storage is used. */
static int check_entries(struct pth_file *file)
{
    static const char *const others[] = {
        "data.pkl",        "byteorder",          "version",
        ".format_version", ".storage_alignment", ".data/serialization_id"};
    char quoted[1024];
    for (size_t i = 0; i < zip_count(file->zip); i++) {
        const char *name = zip_entry(file->zip, i)->name;
        bool known = file->storages[i].used || (file->foreign && !strncmp(name, "data/", 5));
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            known = known || !strcmp(name, others[k]);
        if (known)
            continue;
        err_quote(quoted, sizeof quoted, name);
        if (!strncmp(name, "code/", 5) || !strcmp(name, "constants.pkl"))
            return err_set(ERR_INPUT,
                           "%s is a TorchScript archive (entry %s), not a checkpoint; save the "
                           "state_dict with torch.save",
                           file->quoted, quoted);
        return err_set(ERR_INPUT, "%s: entry \"%.200s\" is %s", file->quoted, quoted,
                       strncmp(name, "data/", 5) ? "not one that torch.save writes"
                                                 : "used by no tensor");
    }
    return 0;
}

/* The small entries say that the file is one that we read. */
static int check_marks(struct pth_file *file)
{
    static const char *const rest[] = {".format_version", ".storage_alignment",
                                       ".data/serialization_id"};
    char text[SMALL_LIMIT + 1], quoted[64];
    int rc, length = 0;
    unsigned version = 0;
    if ((rc = read_small(file, "version", text)))
        return rc;
    if (sscanf(text, "%2u %n", &version, &length) != 1 || text[length] || version < 1 ||
        version > FORMAT_LIMIT)
        return err_set(ERR_INPUT, "%s: entry version is \"%s\"; 1 to %d are read", file->quoted,
                       err_quote(quoted, sizeof quoted, text), FORMAT_LIMIT);
    if ((rc = read_small(file, "byteorder", text)))
        return rc;
    if (text[0] && strcmp(text, "little") != 0)
        return err_set(ERR_INPUT, "%s: entry byteorder is \"%s\"; only little is read",
                       file->quoted, err_quote(quoted, sizeof quoted, text));
    for (size_t i = 0; i < sizeof rest / sizeof *rest && !rc; i++)
        rc = read_small(file, rest[i], text);
    return rc;
}

static int read_pickle(struct pth_file *file, struct pth_value **root)
{
    const struct unpickle_host host = {
        .context = file, .storage = find_storage, .tensor = make_view, .foreign = file->foreign};
    const struct zip_entry *entry = zip_find(file->zip, "data.pkl");
    if (!entry)
        return err_set(ERR_INPUT, "%s is a zip archive, but not PyTorch's: it has no data.pkl",
                       file->quoted);
    if (entry->size > PICKLE_LIMIT)
        return err_set(ERR_INPUT, "%s: data.pkl is %llu bytes long; up to %u are read",
                       file->quoted, (unsigned long long)entry->size, PICKLE_LIMIT);
    uint8_t *bytes = mem_aligned((size_t)entry->size, "pickle");
    if (!bytes)
        return -ERR_MEMORY;
    int rc = zip_read(file->zip, entry, bytes);
    if (!rc && (rc = unpickle(bytes, (size_t)entry->size, &file->arena, &host, root)))
        rc = err_add(rc, "%s", file->quoted);
    mem_free(bytes);
    return rc;
}

static int open_file(struct pth_file **out, const char *path, bool outline, bool foreign,
                     const struct pth_value **root)
{
    struct pth_value *tree = NULL;
    struct pth_file *file = mem_array(1, sizeof *file, "checkpoint file");
    int rc = -ERR_MEMORY;
    *out = NULL;
    *root = NULL;
    if (!file)
        return rc;
    err_quote(file->quoted, sizeof file->quoted, path);
    file->foreign = foreign;
    if ((rc = zip_open(&file->zip, path, ENTRY_LIMIT)))
        goto fail;
    if (outline)
        zip_drop_cache(file->zip);
    file->storages = mem_array(zip_count(file->zip), sizeof *file->storages, "list of storages");
    file->views = (struct views){.arena = &file->arena, .storages = file->storages};
    rc = -ERR_MEMORY;
    if (!file->storages || (rc = read_pickle(file, &tree)) || (rc = check_entries(file)) ||
        (rc = check_marks(file)) || (!outline && (rc = load_data(file))))
        goto fail;
    *out = file;
    *root = tree;
    return 0;

fail:
    pth_close(file);
    return rc;
}

int pth_open(struct pth_file **out, const char *path, const struct pth_value **root)
{
    return open_file(out, path, false, false, root);
}

int pth_open_foreign(struct pth_file **out, const char *path, const struct pth_value **root)
{
    return open_file(out, path, false, true, root);
}

int pth_open_outline(struct pth_file **out, const char *path, const struct pth_value **root)
{
    return open_file(out, path, true, false, root);
}

void pth_close(struct pth_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; file->storages && i < zip_count(file->zip); i++)
        mem_free(file->storages[i].bytes);
    mem_free(file->storages);
    zip_close(file->zip);
    mem_arena_release(&file->arena);
    mem_free(file);
}

/* ---- digest ---- */

static int add_bytes(void *context, const void *bytes, size_t size)
{
    digest_add(context, bytes, size);
    return 0;
}

/* TAG and NUMBER, 9 bytes. */
static void add_head(struct digest *digest, char tag, uint64_t number)
{
    uint8_t bytes[9] = {(uint8_t)tag};
    memcpy(bytes + 1, &number, sizeof number);
    digest_add(digest, bytes, sizeof bytes);
}

static int add_tensor(struct pth_file *file, struct digest *digest, const struct pth_value *value)
{
    add_head(digest, 'T', (uint64_t)value->tensor.type);
    add_head(digest, '#', (uint64_t)value->tensor.rank);
    digest_add(digest, value->tensor.shape, (size_t)value->tensor.rank * sizeof(int64_t));
    size_t bytes = views_bytes(value);
    if (value->tensor.data || !bytes || !file) {
        if (bytes)
            digest_add(digest, value->tensor.data, bytes);
        return 0;
    }
    const struct view *view = (const struct view *)value;
    const struct storage *storage = &file->storages[view->storage];
    if (!view->contiguous || view->offset || value->tensor.count != storage->count)
        return err_set(ERR_INPUT, "%s: a tensor that is not the whole of its storage",
                       file->quoted);
    return zip_stream(file->zip, zip_entry(file->zip, view->storage), add_bytes, digest);
}

static int add_value(struct pth_file *file, struct digest *digest, const struct pth_value *value)
{
    static const char tags[] = {[PTH_NONE] = 'N',  [PTH_BOOL] = 'b', [PTH_INT] = 'i',
                                [PTH_REAL] = 'r',  [PTH_TEXT] = 't', [PTH_LIST] = 'l',
                                [PTH_TUPLE] = 'u', [PTH_DICT] = 'd', [PTH_ORDERED_DICT] = 'o'};
    uint64_t number = value->count;
    int rc = 0;
    if (value->kind == PTH_TENSOR)
        return add_tensor(file, digest, value);
    if (value->kind == PTH_BOOL)
        number = value->boolean;
    else if (value->kind == PTH_INT)
        number = (uint64_t)value->integer;
    else if (value->kind == PTH_REAL)
        memcpy(&number, &value->real, sizeof number);
    else if (value->kind == PTH_TEXT)
        number = value->text_size;
    else if (is_dict(value))
        number = value->count / 2;
    add_head(digest, tags[value->kind], number);
    if (value->kind == PTH_TEXT)
        digest_add(digest, value->text, value->text_size);
    for (size_t i = 0; i < value->count && !rc; i++)
        rc = add_value(file, digest, value->items[i]);
    return rc;
}

int pth_digest(struct pth_file *file, const struct pth_value *value, char out[33])
{
    struct digest *digest;
    int rc = digest_open(&digest);
    if (rc)
        return rc;
    if (!(rc = pickle_check(value, false)) && !(rc = add_value(file, digest, value)))
        digest_value128(digest, out);
    digest_close(digest);
    return rc;
}
