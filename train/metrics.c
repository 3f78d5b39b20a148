#include "train/metrics.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"

enum { FILE_LIMIT = 1 << 30 };

struct metrics {
    int file;
    bool failed; /* the warning was given */
    char path[FILES_PATH_SIZE];
};

/* Does a line belong to a run that stands after STEP? */
static bool keep_line(const char *line, size_t size, int64_t step, bool evaluated)
{
    json_t *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *split = json_string_value(json_object_get(object, "split"));
    json_t *number = json_object_get(object, "step");
    json_int_t at = json_integer_value(number);
    bool keep = split && json_is_integer(number) && at <= step;
    if (keep && !strcmp(split, "val") && at == step)
        keep = evaluated;
    json_decref(object);
    return keep;
}

static int copy_lines(struct files_writer *writer, const char *text, size_t size, int64_t step,
                      bool evaluated)
{
    while (size) {
        const char *end = memchr(text, '\n', size);
        if (!end)
            break; /* a torn line */
        size_t length = (size_t)(end - text) + 1;
        int rc;
        if (keep_line(text, length, step, evaluated) && (rc = files_write(writer, text, length)))
            return rc;
        text += length;
        size -= length;
    }
    return 0;
}

static int cut_back(const char *path, int64_t step, bool evaluated)
{
    enum files_type type;
    uint8_t *text;
    size_t size;
    struct files_writer *writer;
    int rc = files_type(path, &type, NULL);
    if (rc || type == FILES_NOTHING)
        return rc;
    if ((rc = files_read(path, FILE_LIMIT, &text, &size)))
        return rc;
    if (!(rc = files_writer_open(&writer, path))) {
        if ((rc = copy_lines(writer, (const char *)text, size, step, evaluated)))
            files_discard(writer);
        else
            rc = files_publish(writer);
    }
    mem_free(text);
    return rc;
}

int metrics_open(struct metrics **out, const char *path, int64_t step, bool evaluated)
{
    int rc = cut_back(path, step, evaluated);
    struct metrics *metrics = NULL;
    *out = NULL;
    if (rc)
        return rc;
    if (!(metrics = mem_array(1, sizeof *metrics, "metrics")))
        return -ERR_MEMORY;
    snprintf(metrics->path, sizeof metrics->path, "%s", path);
    metrics->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (metrics->file < 0) {
        rc = err_errno("cannot open %s", path);
        mem_free(metrics);
        return rc;
    }
    *out = metrics;
    return 0;
}

void metrics_close(struct metrics *metrics)
{
    if (!metrics)
        return;
    close(metrics->file);
    mem_free(metrics);
}

static void put(struct metrics *metrics, const char *line, int size)
{
    if (write(metrics->file, line, (size_t)size) == size || metrics->failed)
        return;
    metrics->failed = true;
    log_warning("cannot write %s; training goes on without it", metrics->path);
}

void metrics_train(struct metrics *metrics, const struct metrics_step *line)
{
    char text[512];
    int size = snprintf(
        text, sizeof text,
        "{\"split\": \"train\", \"epoch\": %lld, \"step\": %lld, \"loss\": %.9g, \"lr\": %.9g, "
        "\"img_per_s\": %.6g, \"data_wait\": %.4f}\n",
        (long long)line->epoch, (long long)line->step, line->loss, line->lr, line->img_per_s,
        line->data_wait);
    put(metrics, text, size);
}

void metrics_validation(struct metrics *metrics, int64_t epoch, int64_t step,
                        const struct evaluation *evaluation)
{
    char text[512];
    int size = snprintf(
        text, sizeof text,
        "{\"split\": \"val\", \"epoch\": %lld, \"step\": %lld, \"loss\": %.9g, \"top1\": %.6g, "
        "\"top5\": %.6g, \"images\": %lld, \"seconds\": %.3f}\n",
        (long long)epoch, (long long)step, evaluation->loss, evaluation->top1, evaluation->top5,
        (long long)evaluation->images, evaluation->seconds);
    put(metrics, text, size);
}
