#include "prep/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/manifest.h"
#include "common/mem.h"
#include "prep/plan.h"

enum { JOURNAL_LIMIT = 1 << 30 };

/* ---- files with a digest ---- */

static int no_memory(void)
{
    return err_set(ERR_MEMORY, "no memory for a journal");
}

static int body_digest(const json_t *body, char out[17])
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return no_memory();
    snprintf(out, 17, "%016" PRIx64, digest64(text, strlen(text)));
    free(text);
    return 0;
}

/* Write BODY, whose reference is taken (NULL: no memory), to FOLDER/NAME. */
static int write_body(const char *folder, const char *name, json_t *body)
{
    char path[FILES_PATH_SIZE], digest[17];
    struct files_writer *writer = NULL;
    json_t *whole = NULL;
    char *text = NULL;
    int rc = body ? body_digest(body, digest) : no_memory();
    if (rc)
        goto done;
    whole = json_pack("{s:O, s:s}", "body", body, "xxh3", digest);
    text = whole ? json_dumps(whole, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text) {
        rc = no_memory();
        goto done;
    }
    if ((rc = files_join(path, folder, name)) || (rc = files_writer_open(&writer, path)))
        goto done;
    if ((rc = files_write(writer, text, strlen(text))) || (rc = files_write(writer, "\n", 1)))
        files_discard(writer);
    else
        rc = files_publish(writer);

done:
    free(text);
    json_decref(whole);
    json_decref(body);
    return rc;
}

/* *BODY = a new reference; NULL when there is no such file. ERR_INPUT: damaged. */
static int read_body(const char *folder, const char *name, json_t **body)
{
    char path[FILES_PATH_SIZE], digest[17];
    enum files_type type;
    uint8_t *bytes = NULL;
    size_t size;
    *body = NULL;
    int rc = files_join(path, folder, name);
    if (rc || (rc = files_type(path, &type, NULL)) || type == FILES_NOTHING)
        return rc;
    if ((rc = files_read(path, JOURNAL_LIMIT, &bytes, &size)))
        return rc;
    json_t *whole = json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL);
    json_t *found = json_object_get(whole, "body");
    const char *said = json_string_value(json_object_get(whole, "xxh3"));
    mem_free(bytes);
    if (!found || !said)
        rc = err_set(ERR_INPUT, "%s is damaged: not what prep wrote", path);
    else if (!(rc = body_digest(found, digest)) && strcmp(digest, said) != 0)
        rc = err_set(ERR_INPUT, "%s is damaged: its checksum is %s, not %s", path, digest, said);
    if (!rc)
        *body = json_incref(found);
    json_decref(whole);
    return rc;
}

static bool get_count(const json_t *object, const char *key, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* ---- the plan ---- */

/* VALUE as text for a message; "nothing" for NULL. */
static void value_text(const json_t *value, char *out, size_t size)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    snprintf(out, size, "%s", text ? text : "nothing");
    free(text);
}

int journal_compare(const char *folder, const json_t *then, const json_t *now)
{
    static const char *const parts[] = {"settings", "source"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *old_part = json_object_get(then, parts[i]);
        const char *key;
        json_t *value;
        json_object_foreach(json_object_get(now, parts[i]), key, value)
        {
            const json_t *old = json_object_get(old_part, key);
            char text[2][160];
            if (json_equal(old, value))
                continue;
            value_text(old, text[0], sizeof text[0]);
            value_text(value, text[1], sizeof text[1]);
            return err_set(ERR_MISMATCH,
                           "%s was begun with other input or options: %s %s was %s, is now %s; "
                           "give the same, choose another name, or remove it",
                           folder, parts[i], key, text[0], text[1]);
        }
    }
    return 0;
}

int journal_write_plan(const char *folder, const json_t *identity, uint64_t record_bytes)
{
    return write_body(
        folder, "plan.json",
        json_pack("{s:O, s:I}", "identity", identity, "record_bytes", (json_int_t)record_bytes));
}

int journal_read_plan(const char *folder, json_t **identity, uint64_t *record_bytes)
{
    json_t *body;
    int rc = read_body(folder, "plan.json", &body);
    *identity = NULL;
    if (rc == -ERR_INPUT)
        return err_add(rc, "remove %s and begin again", folder);
    if (rc || !body)
        return rc;
    if (!get_count(body, "record_bytes", record_bytes) || !*record_bytes ||
        !(*identity = json_incref(json_object_get(body, "identity"))))
        rc = err_set(ERR_INPUT, "%s/plan.json is another version's; remove %s and begin again",
                     folder, folder);
    json_decref(body);
    return rc;
}

/* ---- a shard ---- */

static void journal_name(uint32_t shard, char out[MANIFEST_SHARD_FILE_SIZE + 1])
{
    plan_shard_name(shard, out);
    snprintf(strrchr(out, '.'), sizeof ".json", ".json");
}

static json_t *pack_kinds(const struct tally *tally)
{
    json_t *kinds = json_object();
    for (int kind = 0; kind < TALLY_KINDS; kind++)
        json_object_set_new(kinds, tally_keys[kind], json_integer((json_int_t)tally->kinds[kind]));
    return kinds;
}

static json_t *pack_labels(const struct tally *tally)
{
    json_t *labels = json_array();
    for (uint32_t label = 0; label < tally->class_count; label++)
        if (tally->class_images[label])
            json_array_append_new(labels, json_pack("[I, I]", (json_int_t)label,
                                                    (json_int_t)tally->class_images[label]));
    return labels;
}

static json_t *pack_notes(const struct tally *tally)
{
    json_t *notes = json_array();
    for (size_t i = 0; i < tally->note_count; i++) {
        const struct tally_note *note = &tally->notes[i];
        json_array_append_new(notes, json_pack("[I, b, I, s]", (json_int_t)note->file, note->bad,
                                               (json_int_t)note->record, note->reason));
    }
    return notes;
}

int journal_write_shard(const char *folder, uint32_t shard, const struct shard_facts *facts,
                        const struct tally *tally)
{
    char name[MANIFEST_SHARD_FILE_SIZE + 1];
    journal_name(shard, name);
    return write_body(folder, name,
                      json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}",
                                "records", (json_int_t)facts->records, "bytes",
                                (json_int_t)facts->bytes, "digest", facts->digest, "bad",
                                (json_int_t)tally->bad, "warned", (json_int_t)tally->warned,
                                "payload_bytes", (json_int_t)tally->payload_bytes, "largest_width",
                                (json_int_t)tally->largest_width, "largest_height",
                                (json_int_t)tally->largest_height, "largest_payload",
                                (json_int_t)tally->largest_payload, "kinds", pack_kinds(tally),
                                "labels", pack_labels(tally), "notes", pack_notes(tally)));
}

static bool add_kinds(const json_t *kinds, struct tally *tally)
{
    for (int kind = 0; kind < TALLY_KINDS; kind++) {
        uint64_t count;
        if (!get_count(kinds, tally_keys[kind], &count))
            return false;
        tally->kinds[kind] += count;
    }
    return true;
}

static bool add_labels(const json_t *labels, struct tally *tally)
{
    size_t i;
    json_t *pair;
    json_array_foreach(labels, i, pair)
    {
        json_int_t label = json_integer_value(json_array_get(pair, 0));
        json_int_t images = json_integer_value(json_array_get(pair, 1));
        if (label < 0 || label >= tally->class_count || images < 1)
            return false;
        tally->class_images[label] += (uint64_t)images;
    }
    return json_is_array(labels);
}

/* 1, 0 when NOTES is not what pack_notes makes, or negative. */
static int add_notes(const json_t *notes, uint32_t shard, uint32_t files, struct tally *tally)
{
    size_t i;
    json_t *row;
    json_array_foreach(notes, i, row)
    {
        json_int_t file = json_integer_value(json_array_get(row, 0));
        json_int_t record = json_integer_value(json_array_get(row, 2));
        struct tally_note note = {
            .bad = json_is_true(json_array_get(row, 1)),
            .reason = json_string_value(json_array_get(row, 3)),
        };
        if (file < 0 || file >= files || record < 0 || record >= files || !note.reason)
            return 0;
        note.file = (uint32_t)file;
        note.record = (uint32_t)record;
        note.shard = shard;
        int rc = tally_note(tally, &note);
        if (rc)
            return rc;
    }
    return json_is_array(notes);
}

/* Add what BODY says to TALLY: 1, 0 when it is not what was written, or negative. */
static int add_body(const json_t *body, uint32_t shard, uint32_t files, struct tally *tally)
{
    uint64_t records, bad, warned, bytes, width, height, payload;
    if (!get_count(body, "records", &records) || !get_count(body, "bad", &bad) ||
        !get_count(body, "warned", &warned) || !get_count(body, "payload_bytes", &bytes) ||
        !get_count(body, "largest_width", &width) || !get_count(body, "largest_height", &height) ||
        !get_count(body, "largest_payload", &payload) ||
        !add_kinds(json_object_get(body, "kinds"), tally) ||
        !add_labels(json_object_get(body, "labels"), tally))
        return 0;
    tally->records += records;
    tally->bad += bad;
    tally->warned += warned;
    tally->payload_bytes += bytes;
    if (width > tally->largest_width)
        tally->largest_width = (uint32_t)width;
    if (height > tally->largest_height)
        tally->largest_height = (uint32_t)height;
    if (payload > tally->largest_payload)
        tally->largest_payload = payload;
    return add_notes(json_object_get(body, "notes"), shard, files, tally);
}

static bool get_facts(const json_t *body, struct shard_facts *facts)
{
    const char *digest = json_string_value(json_object_get(body, "digest"));
    if (!digest ||
        snprintf(facts->digest, sizeof facts->digest, "%s", digest) >= (int)sizeof facts->digest)
        return false;
    return get_count(body, "records", &facts->records) && get_count(body, "bytes", &facts->bytes);
}

int journal_read_shard(const char *folder, uint32_t shard, uint32_t files,
                       struct shard_facts *facts, struct tally *tally, bool *finished)
{
    char name[MANIFEST_SHARD_FILE_SIZE + 1], path[FILES_PATH_SIZE];
    enum files_type type;
    uint64_t size;
    json_t *body;
    *finished = false;
    journal_name(shard, name);
    int rc = read_body(folder, name, &body);
    if (rc == -ERR_INPUT) {
        log_warning("%s; the shard is packed again", err_text());
        return 0;
    }
    if (rc || !body)
        return rc;
    plan_shard_name(shard, name);
    if ((rc = files_join(path, folder, name)) || (rc = files_type(path, &type, &size)))
        goto done;
    if (!get_facts(body, facts) ||
        (facts->records && (type != FILES_REGULAR || size != facts->bytes)))
        goto done;
    *finished = true;
    if (!tally)
        goto done;
    rc = add_body(body, shard, files, tally);
    if (rc == 0)
        rc = err_set(ERR_INPUT,
                     "%s: the journal of %s does not fit the pictures; remove %s and "
                     "begin again",
                     folder, name, folder);
    else if (rc > 0)
        rc = 0;

done:
    json_decref(body);
    return rc;
}

/* ---- cleaning ---- */

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), size = strlen(end);
    return length > size && !strcmp(name + length - size, end);
}

static bool is_journal(const char *name)
{
    return !strcmp(name, "plan.json") || (!strncmp(name, "shard-", 6) && ends_in(name, ".json"));
}

int journal_clean(const char *folder, bool journals)
{
    struct files_list list;
    char path[FILES_PATH_SIZE];
    int rc = files_list(folder, &list);
    for (size_t i = 0; !rc && i < list.count; i++) {
        const char *name = list.names[i];
        if ((name[0] == '.' && ends_in(name, ".partial")) || (journals && is_journal(name))) {
            rc = files_join(path, folder, name);
            if (!rc)
                rc = files_remove(path);
        }
    }
    files_list_release(&list);
    return rc;
}
