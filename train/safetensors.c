#include "train/safetensors.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "train/pickle.h"
#include "train/views.h"

enum { ALIGNMENT = 8, RANK_LIMIT = 8 };
#define FILE_LIMIT ((size_t)16 << 30)

static const struct {
    const char *name;
    size_t bytes;
    int type; /* enum pth_type; -1: known, not read */
} types[] = {
    {"F32",  4, PTH_F32 },
    {"F16",  2, PTH_F16 },
    {"BF16", 2, PTH_BF16},
    {"I64",  8, PTH_I64 },
    {"I32",  4, PTH_I32 },
    {"U8",   1, PTH_U8  },
    {"F64",  8, -1      },
    {"I16",  2, -1      },
    {"I8",   1, -1      },
    {"U16",  2, -1      },
    {"U32",  4, -1      },
    {"U64",  8, -1      },
    {"BOOL", 1, -1      },
};
enum { TYPE_COUNT = sizeof types / sizeof *types };

struct place {
    const char *name;
    uint64_t begin, end; /* in the data */
    struct pth_value *value;
};

struct safetensors {
    char quoted[FILES_PATH_SIZE];
    uint8_t *bytes; /* the whole file */
    size_t size;
    const uint8_t *data;
    struct mem_arena arena;
    struct place *places;
    size_t count;
};

__attribute__((format(printf, 3, 4))) static int bad(const struct safetensors *file,
                                                     const char *tensor, const char *format, ...)
{
    char text[400], quoted[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (tensor)
        return err_set(ERR_INPUT, "%s: tensor \"%.200s\": %s", file->quoted,
                       err_quote(quoted, sizeof quoted, tensor), text);
    return err_set(ERR_INPUT, "%s: %s", file->quoted, text);
}

/* *OUT = a whole number from 0 up. */
static bool get_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* RANK and sizes of the JSON list SHAPE. */
static bool get_shape(const json_t *list, int64_t shape[RANK_LIMIT], int *rank)
{
    if (!json_is_array(list) || json_array_size(list) > RANK_LIMIT)
        return false;
    *rank = (int)json_array_size(list);
    for (int i = 0; i < *rank; i++) {
        uint64_t size;
        if (!get_size(json_array_get(list, (size_t)i), &size))
            return false;
        shape[i] = (int64_t)size;
    }
    return true;
}

static struct pth_value *make_opaque(struct safetensors *file, const char *type)
{
    struct pth_value *value = pth_text(&file->arena, type);
    if (value)
        value->kind = PTH_OPAQUE;
    return value;
}

/* One tensor of the header into PLACE. */
static int read_tensor(struct safetensors *file, const char *name, json_t *entry, uint64_t room,
                       struct place *place)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    int64_t shape[RANK_LIMIT];
    uint64_t bytes;
    int rank, known = 0;
    if (!json_is_object(entry) || json_object_size(entry) != 3 || !type ||
        !json_is_array(offsets) || json_array_size(offsets) != 2)
        return bad(file, name, "its entry is not dtype, shape and data_offsets");
    while (known < TYPE_COUNT && strcmp(types[known].name, type) != 0)
        known++;
    if (known == TYPE_COUNT)
        return bad(file, name, "unknown dtype");
    if (!get_shape(json_object_get(entry, "shape"), shape, &rank))
        return bad(file, name, "its shape is not a list of at most %d sizes", RANK_LIMIT);
    if (!get_size(json_array_get(offsets, 0), &place->begin) ||
        !get_size(json_array_get(offsets, 1), &place->end) || place->begin > place->end ||
        place->end > room)
        return bad(file, name, "its data_offsets do not lie within the data of %llu bytes",
                   (unsigned long long)room);
    bytes = types[known].bytes;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes))
            return bad(file, name, "its size does not fit");
    if (bytes != place->end - place->begin)
        return bad(file, name, "%llu bytes of data for a shape that takes %llu",
                   (unsigned long long)(place->end - place->begin), (unsigned long long)bytes);
    place->name = mem_arena_text(&file->arena, name, strlen(name));
    place->value = types[known].type < 0
                       ? make_opaque(file, types[known].name)
                       : pth_tensor(&file->arena, (enum pth_type)types[known].type, rank, shape,
                                    file->data + place->begin);
    return place->name && place->value ? 0 : -ERR_MEMORY;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int read_metadata(struct safetensors *file, json_t *metadata, struct pth_value *root)
{
    struct pth_value *dict = pth_dict(&file->arena, false);
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return bad(file, NULL, "its %s is not an object", SAFETENSORS_METADATA);
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return bad(file, NULL, "its %s holds something that is not a text",
                       SAFETENSORS_METADATA);
        dict = pth_put(&file->arena, dict, key, pth_text(&file->arena, json_string_value(value)));
    }
    return pth_put(&file->arena, root, SAFETENSORS_METADATA, dict) ? 0 : -ERR_MEMORY;
}

/* All tensors of HEADER into ROOT, their data one behind the other without holes. */
static int read_tensors(struct safetensors *file, json_t *header, uint64_t room,
                        struct pth_value *root)
{
    const char *name;
    json_t *entry;
    uint64_t at = 0;
    int rc = 0;
    if (!(file->places = mem_array(json_object_size(header), sizeof *file->places, "tensors")))
        return -ERR_MEMORY;
    json_object_foreach(header, name, entry)
    {
        if (!strcmp(name, SAFETENSORS_METADATA))
            rc = read_metadata(file, entry, root);
        else
            rc = read_tensor(file, name, entry, room, &file->places[file->count++]);
        if (rc)
            return rc;
    }
    qsort(file->places, file->count, sizeof *file->places, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        const struct place *place = &file->places[i];
        if (place->begin != at)
            return bad(file, place->name,
                       "its data begin at %llu, not at %llu where those before it end",
                       (unsigned long long)place->begin, (unsigned long long)at);
        at = place->end;
        struct pth_value *key = pth_text(&file->arena, place->name);
        if (!pth_append(&file->arena, pth_append(&file->arena, root, key), place->value))
            return -ERR_MEMORY;
    }
    if (at != room)
        return bad(file, NULL, "%llu bytes that belong to no tensor",
                   (unsigned long long)(room - at));
    return 0;
}

static int read_header(struct safetensors *file, struct pth_value *root)
{
    uint64_t length = 0;
    json_error_t error;
    char quoted[400];
    if (file->size < 8)
        return bad(file, NULL, "not a safetensors file: %zu bytes", file->size);
    memcpy(&length, file->bytes, sizeof length);
    if (length > SAFETENSORS_HEADER_LIMIT || length > file->size - 8)
        return bad(file, NULL, "its header of %llu bytes is longer than the file or than %u",
                   (unsigned long long)length, SAFETENSORS_HEADER_LIMIT);
    if (!length || file->bytes[8] != '{')
        return bad(file, NULL, "its header does not begin with {");
    file->data = file->bytes + 8 + length;
    if (memchr(file->bytes + 8, 0, (size_t)length)) /* jansson passes over some */
        return bad(file, NULL, "its header holds a 0 byte");
    json_t *header =
        json_loadb((const char *)file->bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!header)
        return bad(file, NULL, "its header, byte %d: %s", 8 + error.position,
                   err_quote(quoted, sizeof quoted, error.text));
    int rc = json_is_object(header) ? read_tensors(file, header, file->size - 8 - length, root)
                                    : bad(file, NULL, "its header is not an object");
    json_decref(header);
    return rc;
}

int safetensors_open(struct safetensors **out, const char *path, const struct pth_value **root)
{
    struct safetensors *file = mem_array(1, sizeof *file, "safetensors file");
    int rc = -ERR_MEMORY;
    *out = NULL;
    *root = NULL;
    if (!file)
        return rc;
    err_quote(file->quoted, sizeof file->quoted, path);
    struct pth_value *tree = pth_dict(&file->arena, false);
    if (!tree || (rc = files_read(path, FILE_LIMIT, &file->bytes, &file->size)) ||
        (rc = read_header(file, tree)))
        goto fail;
    *out = file;
    *root = tree;
    return 0;

fail:
    safetensors_close(file);
    return rc;
}

void safetensors_close(struct safetensors *file)
{
    if (!file)
        return;
    mem_free(file->bytes);
    mem_free(file->places);
    mem_arena_release(&file->arena);
    mem_free(file);
}

/* ---- writing ---- */

static const char *type_name(enum pth_type type)
{
    for (int i = 0; i < TYPE_COUNT; i++)
        if (types[i].type == (int)type)
            return types[i].name;
    return "";
}

/* The header's text, padded with spaces so that the data are aligned; free it. NULL: no memory. */
static char *make_header(const char *const *names, const struct pth_value *const *tensors,
                         size_t count, const struct pth_value *metadata, size_t *size)
{
    json_t *header = json_object(), *texts = json_object();
    uint64_t at = 0;
    for (size_t i = 0; metadata && i + 1 < metadata->count; i += 2)
        json_object_set_new(texts, metadata->items[i]->text,
                            json_string(metadata->items[i + 1]->text));
    if (metadata)
        json_object_set(header, SAFETENSORS_METADATA, texts);
    for (size_t i = 0; i < count; i++) {
        const struct pth_value *t = tensors[i];
        json_t *shape = json_array();
        for (int k = 0; k < t->tensor.rank; k++)
            json_array_append_new(shape, json_integer(t->tensor.shape[k]));
        uint64_t end = at + views_bytes(t);
        json_object_set_new(header, names[i],
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", type_name(t->tensor.type),
                                      "shape", shape, "data_offsets", (json_int_t)at,
                                      (json_int_t)end));
        at = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    json_decref(texts);
    json_decref(header);
    if (!text)
        return NULL;
    size_t length = strlen(text), padded = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *out = malloc(padded + 1);
    if (out) {
        memset(out, ' ', padded);
        for (size_t i = 0; i < length; i++)
            out[i] = text[i];
    }
    free(text);
    *size = padded;
    return out;
}

int safetensors_write(const char *path, const char *const *names,
                      const struct pth_value *const *tensors, size_t count,
                      const struct pth_value *metadata)
{
    struct files_writer *writer = NULL;
    size_t size = 0;
    char *header = make_header(names, tensors, count, metadata, &size);
    uint64_t length = size;
    int rc;
    if (!header)
        return err_set(ERR_MEMORY, "no memory for the header of %s", path);
    if ((rc = files_writer_open(&writer, path)) ||
        (rc = files_write(writer, &length, sizeof length)) ||
        (rc = files_write(writer, header, size)))
        goto end;
    for (size_t i = 0; i < count && !rc; i++)
        if (views_bytes(tensors[i]))
            rc = files_write(writer, tensors[i]->tensor.data, views_bytes(tensors[i]));
    if (!rc) {
        rc = files_publish(writer);
        writer = NULL;
    }

end:
    files_discard(writer);
    free(header);
    return rc;
}
