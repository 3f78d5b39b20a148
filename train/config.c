#include "train/config.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"

enum { NAME_SIZE = 64, TEXT_SIZE = 64 };

/* OUT = KEY with hyphens; false when it is too long for a name. */
static bool option_name(const char *key, char out[NAME_SIZE])
{
    size_t length = strlen(key);
    if (length >= NAME_SIZE)
        return false;
    memcpy(out, key, length + 1);
    for (char *c = out; *c; c++)
        if (*c == '_')
            *c = '-';
    return true;
}

static int refuse_key(const struct opts_row *rows, const char *key, const char *name)
{
    char quoted[200];
    const struct opts_row *nearest = opts_nearest(rows, name);
    err_quote(quoted, sizeof quoted, key);
    if (nearest && strcmp(nearest->name, "config") != 0)
        return err_set(ERR_USAGE, "there is no setting \"%.150s\"; did you mean \"%s\"?", quoted,
                       nearest->name);
    return err_set(ERR_USAGE, "there is no setting \"%.150s\"; see train --help", quoted);
}

/* VALUE as it would be typed, in *OUT; NULL for null. */
static int value_text(const json_t *value, const char *name, struct mem_arena *texts,
                      const char **out)
{
    char text[TEXT_SIZE];
    switch (json_typeof(value)) {
    case JSON_STRING:
        if (strlen(json_string_value(value)) != json_string_length(value))
            return err_set(ERR_USAGE, "\"%s\" holds a 0 byte", name);
        *out = mem_arena_text(texts, json_string_value(value), json_string_length(value));
        return *out ? 0 : -ERR_MEMORY;
    case JSON_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "yes" : "no");
        break;
    case JSON_NULL:
        *out = NULL;
        return 0;
    default:
        return err_set(ERR_USAGE, "\"%s\" is a list or an object, not a value", name);
    }
    *out = mem_arena_text(texts, text, strlen(text));
    return *out ? 0 : -ERR_MEMORY;
}

static int set_key(const char *key, const json_t *value, const struct opts_row *rows,
                   void *settings, const bool *given, bool *seen, struct mem_arena *texts)
{
    char name[NAME_SIZE] = "";
    const char *text = NULL;
    const struct opts_row *row = option_name(key, name) ? opts_find(rows, name) : NULL;
    if (!row || !strcmp(name, "config"))
        return refuse_key(rows, key, name);
    if (seen[row - rows])
        return err_set(ERR_USAGE, "\"%s\" stands twice", name);
    seen[row - rows] = true;
    int rc = value_text(value, name, texts, &text);
    if (rc || given[row - rows])
        return rc;
    if (text)
        return opts_set(row, settings, text);
    if (row->fallback)
        return err_set(ERR_USAGE, "\"%s\" is null: it needs a value", name);
    *(const char **)((char *)settings + row->offset) = NULL;
    return 0;
}

static int set_all(json_t *root, const struct opts_row *rows, void *settings, const bool *given,
                   struct mem_arena *texts)
{
    json_t *inner = json_object_get(root, "settings"), *object = inner ? inner : root, *value;
    const char *key;
    size_t count = 0;
    int rc = 0;
    while (rows[count].name)
        count++;
    if (!json_is_object(object))
        return err_set(ERR_USAGE, "not an object with the options' names as keys");
    bool *seen = mem_array(count, sizeof *seen, "settings");
    if (!seen)
        return -ERR_MEMORY;
    json_object_foreach(object, key, value)
    {
        if (!rc)
            rc = set_key(key, value, rows, settings, given, seen, texts);
    }
    mem_free(seen);
    return rc;
}

int config_read(const char *path, const struct opts_row *rows, void *settings, const bool *given,
                struct mem_arena *texts)
{
    json_error_t error;
    uint8_t *bytes;
    size_t size;
    char quoted[FILES_PATH_SIZE], reason[400];
    err_quote(quoted, sizeof quoted, path);
    int rc = files_read(path, CONFIG_LIMIT, &bytes, &size);
    if (rc)
        return rc;
    /* jansson 2.14 passes over 0 bytes behind a number. */
    bool zero = memchr(bytes, 0, size) != NULL;
    json_t *root =
        zero ? NULL : json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, &error);
    mem_free(bytes);
    if (zero)
        return err_set(ERR_USAGE, "%s holds a 0 byte: it is not JSON", quoted);
    if (!root)
        return err_set(ERR_USAGE, "%s, line %d: %s", quoted, error.line,
                       err_quote(reason, sizeof reason, error.text));
    if ((rc = set_all(root, rows, settings, given, texts)))
        err_add(rc, "%s", quoted);
    json_decref(root);
    return rc;
}
