#include "train/run_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "common/log.h"
#include "train/doctor.h"
#include "version.h"

/* OUT = output/kind/name, made. */
static int make(char *out, const struct settings *settings, const char *kind)
{
    char parent[FILES_PATH_SIZE];
    int rc;
    if ((rc = files_join(parent, settings->output, kind)) ||
        (rc = files_join(out, parent, settings->name)))
        return rc;
    return files_make_folder(out);
}

/* OUT = folder.old-<k>. */
static int old_name(char *out, const char *folder, int k)
{
    int size = snprintf(out, FILES_PATH_SIZE, "%s.old-%d", folder, k);
    return size < FILES_PATH_SIZE ? 0
                                  : err_set(ERR_USAGE, "--output: %.200s... is too long", folder);
}

static int move_aside(const struct run_folder *folder)
{
    const char *const folders[] = {folder->checkpoints, folder->runs};
    char moved[FILES_PATH_SIZE];
    enum files_type type = FILES_OTHER, other = FILES_OTHER;
    int rc, k = 0;
    while (type != FILES_NOTHING || other != FILES_NOTHING) {
        k++;
        if ((rc = old_name(moved, folder->checkpoints, k)) ||
            (rc = files_type(moved, &type, NULL)) || (rc = old_name(moved, folder->runs, k)) ||
            (rc = files_type(moved, &other, NULL)))
            return rc;
    }
    for (int i = 0; i < 2; i++) {
        if ((rc = old_name(moved, folders[i], k)))
            return rc;
        if (rename(folders[i], moved))
            return err_errno("cannot rename %s to %s", folders[i], moved);
        if ((rc = files_make_folder(folders[i])))
            return rc;
    }
    log_line("the earlier run stands in %s and its checkpoints beside it", moved);
    return 0;
}

static int is_empty(const char *folder, bool *out)
{
    struct files_list list;
    int rc = files_list(folder, &list);
    if (rc)
        return rc;
    *out = list.count == 0;
    files_list_release(&list);
    return 0;
}

static int lock_name(struct run_folder *folder, const struct settings *settings)
{
    char parent[FILES_PATH_SIZE], path[FILES_PATH_SIZE], name[256];
    int rc;
    snprintf(name, sizeof name, ".%s.lock", settings->name);
    if ((rc = files_join(parent, settings->output, "checkpoints")) ||
        (rc = files_make_folder(parent)) || (rc = files_join(path, parent, name)) ||
        (rc = files_lock(&folder->lock, path)))
        return rc;
    return 0;
}

int run_folder_open(struct run_folder *out, const struct settings *settings)
{
    bool no_checkpoints = true, no_runs = true;
    int rc;
    *out = (struct run_folder){.lock = NULL};
    if ((rc = lock_name(out, settings)) || (rc = make(out->checkpoints, settings, "checkpoints")) ||
        (rc = make(out->runs, settings, "runs")) ||
        (rc = is_empty(out->checkpoints, &no_checkpoints)) || (rc = is_empty(out->runs, &no_runs)))
        goto fail;
    if (!strcmp(settings->resume, "no") && !(no_checkpoints && no_runs) && (rc = move_aside(out)))
        goto fail;
    return 0;

fail:
    run_folder_close(out);
    return rc;
}

void run_folder_close(struct run_folder *folder)
{
    files_unlock(folder->lock);
    folder->lock = NULL;
}

int run_folder_record(const struct run_folder *folder, const struct settings *settings,
                      const char *device, const char *db_digest, const char *val_digest)
{
    char path[FILES_PATH_SIZE], value[FILES_PATH_SIZE];
    json_t *object = json_object(), *options = json_object();
    struct files_writer *writer;
    char *text;
    int rc = files_join(path, folder->runs, "settings.json");
    for (const struct opts_row *row = settings_command.rows; row->name; row++) {
        const char *text_field = row->type == OPTS_TEXT
                                     ? *(const char *const *)((const char *)settings + row->offset)
                                     : "";
        if (!strcmp(row->name, "config"))
            continue;
        opts_value(row, settings, value, sizeof value);
        json_object_set_new(options, row->name, text_field ? json_string(value) : json_null());
    }
    json_object_set_new(object, "settings", options);
    json_object_set_new(object, "version", json_string(TOOL_VERSION));
    json_object_set_new(object, "revision", json_string(TOOL_REVISION));
    json_object_set_new(object, "device", json_string(device));
    doctor_cpu(value, sizeof value);
    json_object_set_new(object, "cpu", json_string(value));
    doctor_libraries(value, sizeof value);
    json_object_set_new(object, "libraries", json_string(value));
    json_object_set_new(object, "db_digest", json_string(db_digest));
    json_object_set_new(object, "val_digest", val_digest ? json_string(val_digest) : json_null());
    text = json_dumps(object, JSON_INDENT(2));
    if (!rc && !text)
        rc = err_set(ERR_MEMORY, "no memory for %s", path);
    else if (!rc && !(rc = files_writer_open(&writer, path))) {
        if ((rc = files_write(writer, text, strlen(text))) || (rc = files_write(writer, "\n", 1)))
            files_discard(writer);
        else
            rc = files_publish(writer);
    }
    free(text);
    json_decref(object);
    return rc;
}
