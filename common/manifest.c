#include "common/manifest.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"

enum {
    CLASS_NAME_LIMIT = 255, /* bytes of a folder's name */
    DIGEST_DIGITS = 32
};

/* Of pictures, and of bytes in a shard: sums over all classes or shards stay below 2^63. */
static const uint64_t count_limit = (uint64_t)1 << 42;

static const char format_name[] = "prep data set";
/* How the manifest's own digest stands in its text: no other line can begin like this. */
static const char digest_line[] = "\n  \"manifest_digest\": \"";
static const char no_digest[] = "00000000000000000000000000000000";

/* ---- the manifest's own digest ---- */

/* Where in TEXT, ended by a 0, the digits of its own digest begin; 0 when they are not there. */
static size_t find_digest(const char *text)
{
    const char *line = strstr(text, digest_line);
    if (!line)
        return 0;
    line += sizeof digest_line - 1;
    return strspn(line, "0123456789abcdef") == DIGEST_DIGITS ? (size_t)(line - text) : 0;
}

/* OUT = XXH3-128 of TEXT with zeros in place of its own digest, which begins at byte AT. */
static int digest_text(const char *text, size_t size, size_t at, char out[DIGEST_DIGITS + 1])
{
    struct digest *digest;
    int rc = digest_open(&digest);
    if (rc)
        return rc;
    digest_add(digest, text, at);
    digest_add(digest, no_digest, DIGEST_DIGITS);
    digest_add(digest, text + at + DIGEST_DIGITS, size - at - DIGEST_DIGITS);
    digest_value128(digest, out);
    digest_close(digest);
    return 0;
}

static int check_digest(const char *path, const char *text, size_t size,
                        char out[DIGEST_DIGITS + 1])
{
    size_t at = find_digest(text);
    if (!at)
        return err_set(ERR_INPUT, "%s: damaged: manifest_digest is missing", path);
    int rc = digest_text(text, size, at, out);
    if (!rc && memcmp(text + at, out, DIGEST_DIGITS) != 0)
        rc = err_set(ERR_INPUT,
                     "%s: damaged: its digest is %s, but it says %.*s; copy the file again, or "
                     "pack the data set again",
                     path, out, DIGEST_DIGITS, text + at);
    return rc;
}

/* ---- reading values ---- */

/* Where a value is read from. */
struct place {
    const char *path;  /* of the manifest */
    const char *where; /* "classes[3]", "" for the top */
    json_t *object;
};

/* KEY "" stands for the object itself. */
static int refuse(const struct place *place, const char *key, const char *what)
{
    if (!*place->where && !*key)
        return err_set(ERR_INPUT, "%s: %s", place->path, what);
    return err_set(ERR_INPUT, "%s: %s%s%s: %s", place->path, place->where,
                   *place->where && *key ? "." : "", key, what);
}

static int read_count(const struct place *place, const char *key, uint64_t minimum,
                      uint64_t maximum, uint64_t *out)
{
    json_t *value = json_object_get(place->object, key);
    char what[96];
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        if (*out >= minimum && *out <= maximum)
            return 0;
    }
    snprintf(what, sizeof what, "not a whole number from %llu to %llu", (unsigned long long)minimum,
             (unsigned long long)maximum);
    return refuse(place, key, what);
}

/* *OUT = the value's text, borrowed from the JSON tree; without a 0 byte inside. */
static int read_text(const struct place *place, const char *key, const char **out)
{
    json_t *value = json_object_get(place->object, key);
    *out = "";
    if (!json_is_string(value))
        return refuse(place, key, "missing, or not a text");
    *out = json_string_value(value);
    return strlen(*out) == json_string_length(value) ? 0 : refuse(place, key, "holds a zero byte");
}

static int read_digest(const struct place *place, const char *key, char out[DIGEST_DIGITS + 1])
{
    const char *text;
    int rc = read_text(place, key, &text);
    if (rc)
        return rc;
    if (strlen(text) != DIGEST_DIGITS || strspn(text, "0123456789abcdef") != DIGEST_DIGITS)
        return refuse(place, key, "not 32 hexadecimal digits");
    memcpy(out, text, DIGEST_DIGITS + 1);
    return 0;
}

static int read_object(const struct place *place, const char *key, json_t **out)
{
    *out = json_object_get(place->object, key);
    return json_is_object(*out) ? 0 : refuse(place, key, "missing, or not an object");
}

static int read_array(const struct place *place, const char *key, size_t limit, json_t **out)
{
    *out = json_object_get(place->object, key);
    size_t count = json_array_size(*out);
    return count >= 1 && count <= limit ? 0 : refuse(place, key, "not a list, empty, or too long");
}

/* The object holds no other keys than KEYS, which end with a NULL. */
static int check_keys(const struct place *place, const char *const *keys)
{
    const char *key;
    json_t *value;
    if (!json_is_object(place->object))
        return refuse(place, "", "not an object");
    json_object_foreach(place->object, key, value)
    {
        size_t k = 0;
        while (keys[k] && strcmp(keys[k], key) != 0)
            k++;
        char name[128];
        if (!keys[k])
            return refuse(place, err_quote(name, sizeof name, key), "unknown key");
    }
    return 0;
}

/* ---- texts that may not be UTF-8: names of folders are bytes ---- */

/* Put TEXT under KEY, or its bytes as hexadecimal digits under KEY_hex when it is not UTF-8. */
static int put_text(json_t *object, const char *key, const char *text)
{
    json_t *value = json_string(text);
    char name[32];
    if (value)
        return json_object_set_new(object, key, value);
    size_t length = strlen(text);
    char *digits = mem_array(length + 1, 2, "text");
    if (!digits)
        return -1;
    for (size_t i = 0; i < length; i++)
        snprintf(digits + i * 2, 3, "%02x", (unsigned char)text[i]);
    snprintf(name, sizeof name, "%s_hex", key);
    int failed = json_object_set_new(object, name, json_string(digits));
    mem_free(digits);
    return failed;
}

static int hex_value(char digit)
{
    return digit >= '0' && digit <= '9'   ? digit - '0'
           : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                                          : -1;
}

/* The reverse of put_text; *OUT lives in ARENA. */
static int get_text(const struct place *place, const char *key, struct mem_arena *arena,
                    const char **out)
{
    const char *text;
    char name[32];
    int rc;
    snprintf(name, sizeof name, "%s_hex", key);
    if (!json_object_get(place->object, name)) {
        if ((rc = read_text(place, key, &text)))
            return rc;
        return (*out = mem_arena_text(arena, text, strlen(text))) ? 0 : -ERR_MEMORY;
    }
    if ((rc = read_text(place, name, &text)))
        return rc;
    size_t length = strlen(text) / 2;
    char *bytes = mem_arena_alloc(arena, length + 1, "text");
    if (!bytes)
        return -ERR_MEMORY;
    for (size_t i = 0; i < length; i++) {
        int high = hex_value(text[i * 2]), low = hex_value(text[i * 2 + 1]);
        if (high < 0 || low < 0 || high + low == 0)
            return refuse(place, name, "not the hexadecimal digits of a text");
        bytes[i] = (char)(high * 16 + low);
    }
    *out = bytes;
    json_t *same = json_string(bytes);
    json_decref(same);
    if (strlen(text) % 2 || same || json_object_get(place->object, key))
        return refuse(place, name, "not the hexadecimal digits of a text that is not UTF-8");
    return 0;
}

/* ---- reading the manifest ---- */

static int read_class(struct manifest *manifest, const struct place *place, size_t index)
{
    static const char *const keys[] = {"images", "index",     "name", "name_hex",
                                       "words",  "words_hex", NULL};
    struct dataset_class *class = &manifest->classes[index];
    uint64_t stored;
    int rc;
    if ((rc = check_keys(place, keys)) ||
        (rc = read_count(place, "index", index, index, &stored)) ||
        (rc = read_count(place, "images", 0, count_limit, &class->images)) ||
        (rc = get_text(place, "name", &manifest->texts, &class->name)) ||
        (rc = get_text(place, "words", &manifest->texts, &class->words)))
        return rc;
    if (!*class->name || strlen(class->name) > CLASS_NAME_LIMIT || strchr(class->name, '/') ||
        !strcmp(class->name, ".") || !strcmp(class->name, ".."))
        return refuse(place, "name", "cannot be a folder's name");
    if (index > 0 && strcmp(class[-1].name, class->name) >= 0)
        return refuse(place, "name", "the classes are not in ascending byte order");
    return 0;
}

/* The number in FILE, if it is a shard's name: no path, and one name for a number. */
static bool parse_shard_file(const char *file, size_t *number)
{
    char name[MANIFEST_SHARD_FILE_SIZE];
    if (strncmp(file, "shard-", 6) != 0)
        return false;
    *number = strtoul(file + 6, NULL, 10);
    snprintf(name, sizeof name, MANIFEST_SHARD_FILE, *number);
    return strcmp(name, file) == 0;
}

static int read_shard(struct manifest *manifest, const struct place *place, size_t index)
{
    static const char *const keys[] = {"bytes", "digest", "file", "records", NULL};
    struct dataset_shard *shard = &manifest->shards[index];
    size_t number, before;
    int rc;
    if ((rc = check_keys(place, keys)) ||
        (rc = read_count(place, "bytes", 1, count_limit, &shard->bytes)) ||
        (rc = read_count(place, "records", 1, UINT32_MAX, &shard->records)) ||
        (rc = read_digest(place, "digest", shard->digest)) ||
        (rc = get_text(place, "file", &manifest->texts, &shard->file)))
        return rc;
    if (!parse_shard_file(shard->file, &number))
        return refuse(place, "file", "not a shard's name");
    if (index > 0 && parse_shard_file(shard[-1].file, &before) && before >= number)
        return refuse(place, "file", "the shards are not in ascending order");
    return 0;
}

/* Read every element of the list KEY with READ_ONE. */
static int read_list(struct manifest *manifest, const struct place *top, const char *key,
                     json_t *list, int (*read_one)(struct manifest *, const struct place *, size_t))
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        char where[48];
        snprintf(where, sizeof where, "%s[%zu]", key, i);
        const struct place place = {top->path, where, json_array_get(list, i)};
        int rc = read_one(manifest, &place, i);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_lists(struct manifest *manifest, const struct place *top)
{
    json_t *classes, *shards;
    int rc;
    if ((rc = read_array(top, "classes", MANIFEST_CLASS_LIMIT, &classes)) ||
        (rc = read_array(top, "shards", MANIFEST_SHARD_LIMIT, &shards)))
        return rc;
    manifest->class_count = json_array_size(classes);
    manifest->shard_count = json_array_size(shards);
    manifest->classes = mem_array(manifest->class_count, sizeof *manifest->classes, "class table");
    manifest->shards = mem_array(manifest->shard_count, sizeof *manifest->shards, "shard table");
    if (!manifest->classes || !manifest->shards)
        return -ERR_MEMORY;
    if ((rc = read_list(manifest, top, "classes", classes, read_class)) ||
        (rc = read_list(manifest, top, "shards", shards, read_shard)))
        return rc;
    uint64_t labelled = 0, records = 0;
    for (size_t i = 0; i < manifest->class_count; i++)
        labelled += manifest->classes[i].images;
    for (size_t i = 0; i < manifest->shard_count; i++)
        records += manifest->shards[i].records;
    if (labelled != manifest->images)
        return refuse(top, "images", "not the sum of the classes' images");
    if (records != manifest->images)
        return refuse(top, "images", "not the sum of the shards' records");
    return 0;
}

static int read_encoding(const struct place *top, enum record_encoding *out)
{
    const char *text;
    int rc = read_text(top, "encoding", &text);
    if (rc)
        return rc;
    for (int i = 0; i < 2; i++)
        if (!strcmp(text, record_encoding_names[i])) {
            *out = (enum record_encoding)i;
            return 0;
        }
    return refuse(top, "encoding", "neither rgb nor jpeg");
}

static int read_version(const struct place *top)
{
    const char *format;
    uint64_t version;
    int rc;
    if (!json_is_object(top->object))
        return refuse(top, "", "not an object");
    if ((rc = read_text(top, "format", &format)))
        return rc;
    if (strcmp(format, format_name) != 0)
        return refuse(top, "format", "this is not the manifest of a data set of prep");
    if ((rc = read_count(top, "format_version", 1, UINT32_MAX, &version)))
        return rc;
    if (version > MANIFEST_FORMAT_VERSION)
        return err_set(ERR_MISMATCH,
                       "%s: format_version: %llu is newer than %d, which this program reads; use "
                       "the version that packed the data set, or pack it again",
                       top->path, (unsigned long long)version, MANIFEST_FORMAT_VERSION);
    return 0;
}

static int read_top(struct manifest *manifest, const struct place *top)
{
    static const char *const keys[] = {"classes",
                                       "encoding",
                                       "format",
                                       "format_version",
                                       "images",
                                       "largest_height",
                                       "largest_payload",
                                       "largest_width",
                                       "manifest_digest",
                                       "settings",
                                       "shards",
                                       "source",
                                       "tool",
                                       NULL};
    uint64_t width, height;
    json_t *settings, *source;
    int rc;
    if ((rc = check_keys(top, keys)) || (rc = read_encoding(top, &manifest->encoding)) ||
        (rc = read_count(top, "images", 1, count_limit, &manifest->images)) ||
        (rc = read_count(top, "largest_width", 1, RECORD_SIDE_LIMIT, &width)) ||
        (rc = read_count(top, "largest_height", 1, RECORD_SIDE_LIMIT, &height)) ||
        (rc = read_count(top, "largest_payload", 1, UINT32_MAX, &manifest->largest_payload)) ||
        (rc = read_object(top, "settings", &settings)) ||
        (rc = read_object(top, "source", &source)) ||
        (rc = get_text(top, "tool", &manifest->texts, &manifest->tool)) ||
        (rc = read_lists(manifest, top)))
        return rc;
    manifest->largest_width = (uint32_t)width;
    manifest->largest_height = (uint32_t)height;
    manifest->settings = json_incref(settings);
    manifest->source = json_incref(source);
    return 0;
}

int manifest_read(struct manifest *out, const char *path, const char *text, size_t size)
{
    json_error_t error;
    *out = (struct manifest){0};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return err_set(ERR_INPUT, "%s: damaged: line %d: %s", path, error.line, error.text);
    const struct place top = {path, "", root};
    int rc;
    if (!(rc = read_version(&top)) && !(rc = check_digest(path, text, size, out->digest)))
        rc = read_top(out, &top);
    json_decref(root);
    return rc;
}

void manifest_release(struct manifest *manifest)
{
    mem_free(manifest->classes);
    mem_free(manifest->shards);
    json_decref(manifest->settings);
    json_decref(manifest->source);
    mem_arena_release(&manifest->texts);
    *manifest = (struct manifest){0};
}

/* ---- writing ---- */

/* A list of objects, or NULL when memory is short. */
static json_t *make_classes(const struct manifest *manifest)
{
    json_t *list = json_array();
    for (size_t i = 0; i < manifest->class_count; i++) {
        const struct dataset_class *class = &manifest->classes[i];
        json_t *item =
            json_pack("{s:I, s:I}", "index", (json_int_t)i, "images", (json_int_t) class->images);
        if (json_array_append_new(list, item) || put_text(item, "name", class->name) ||
            put_text(item, "words", class->words ? class->words : "")) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *make_shards(const struct manifest *manifest)
{
    json_t *list = json_array();
    for (size_t i = 0; i < manifest->shard_count; i++) {
        const struct dataset_shard *shard = &manifest->shards[i];
        json_t *item = json_pack("{s:s, s:I, s:I, s:s}", "file", shard->file, "records",
                                 (json_int_t)shard->records, "bytes", (json_int_t)shard->bytes,
                                 "digest", shard->digest);
        if (json_array_append_new(list, item)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The manifest's bytes, ended by a 0, or NULL; mem_free them. */
static char *make_text(const struct manifest *manifest)
{
    json_t *root = json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:O, s:O, s:o, s:o}", "format", format_name,
        "format_version", MANIFEST_FORMAT_VERSION, "tool", manifest->tool ? manifest->tool : "",
        "manifest_digest", no_digest, "encoding", record_encoding_names[manifest->encoding],
        "images", (json_int_t)manifest->images, "largest_width",
        (json_int_t)manifest->largest_width, "largest_height", (json_int_t)manifest->largest_height,
        "largest_payload", (json_int_t)manifest->largest_payload, "settings", manifest->settings,
        "source", manifest->source, "classes", make_classes(manifest), "shards",
        make_shards(manifest));
    char *text = root ? json_dumps(root, JSON_SORT_KEYS | JSON_INDENT(2)) : NULL, *whole = NULL;
    json_decref(root);
    if (text && (whole = mem_array(strlen(text) + 2, 1, "manifest")))
        sprintf(whole, "%s\n", text);
    free(text);
    return whole;
}

/* Put TEXT's own digest in its place, and read it as a reader will. */
static int seal(const char *path, char *text, size_t size)
{
    char digest[DIGEST_DIGITS + 1];
    struct manifest read;
    size_t at = find_digest(text);
    int rc = digest_text(text, size, at, digest);
    if (rc)
        return rc;
    memcpy(text + at, digest, DIGEST_DIGITS);
    rc = manifest_read(&read, path, text, size);
    manifest_release(&read);
    return rc == -ERR_INPUT ? err_set(ERR_FAULT, "the manifest does not add up: %s", err_text())
                            : rc;
}

int manifest_write(const char *path, const struct manifest *manifest)
{
    struct files_writer *writer = NULL;
    if (!json_is_object(manifest->settings) || !json_is_object(manifest->source))
        return err_set(ERR_FAULT, "%s: settings and source must be objects", path);
    char *text = make_text(manifest);
    if (!text)
        return err_set(ERR_MEMORY, "%s: no memory for the manifest", path);
    size_t size = strlen(text);
    int rc = seal(path, text, size);
    if (!rc && !(rc = files_writer_open(&writer, path)) &&
        !(rc = files_write(writer, text, size))) {
        rc = files_publish(writer);
        writer = NULL;
    }
    files_discard(writer);
    mem_free(text);
    return rc;
}
