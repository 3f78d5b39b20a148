#include "prep/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "prep/plan.h"

const char *const tally_keys[TALLY_KINDS] = {
    [TALLY_JPEG] = "jpeg",
    [TALLY_PNG] = "png",
    [TALLY_GRAY] = "gray",
    [TALLY_CMYK] = "cmyk",
    [TALLY_STORED_RGB] = "stored_rgb",
    [TALLY_PROGRESSIVE] = "progressive",
    [TALLY_ARITHMETIC] = "arithmetic",
    [TALLY_PALETTE] = "palette",
    [TALLY_ALPHA] = "alpha",
    [TALLY_SIXTEEN_BIT] = "sixteen_bit",
    [TALLY_ICC_IGNORED] = "icc_ignored",
    [TALLY_ORIENTATION_IGNORED] = "orientation_ignored",
    [TALLY_RESIZED] = "resized",
    [TALLY_SIZE_KEPT] = "size_kept",
};

static const char *const descriptions[TALLY_KINDS] = {
    [TALLY_JPEG] = "JPEG",
    [TALLY_PNG] = "PNG",
    [TALLY_GRAY] = "gray made RGB",
    [TALLY_CMYK] = "CMYK made RGB",
    [TALLY_STORED_RGB] = "JPEG stored in RGB",
    [TALLY_PROGRESSIVE] = "progressive",
    [TALLY_ARITHMETIC] = "arithmetic coded",
    [TALLY_PALETTE] = "palette made RGB",
    [TALLY_ALPHA] = "alpha dropped",
    [TALLY_SIXTEEN_BIT] = "16 bits made 8",
    [TALLY_ICC_IGNORED] = "ICC profile ignored",
    [TALLY_ORIENTATION_IGNORED] = "EXIF orientation ignored",
    [TALLY_RESIZED] = "resized",
    [TALLY_SIZE_KEPT] = "size kept",
};

int tally_open(struct tally *tally, uint32_t class_count)
{
    *tally = (struct tally){.class_count = class_count};
    tally->class_images = mem_array(class_count, sizeof *tally->class_images, "class counts");
    return tally->class_images ? 0 : -ERR_MEMORY;
}

void tally_reset(struct tally *tally)
{
    struct tally kept = *tally;
    mem_arena_release(&tally->reasons);
    memset(tally->class_images, 0, tally->class_count * sizeof *tally->class_images);
    *tally = (struct tally){
        .class_images = kept.class_images,
        .class_count = kept.class_count,
        .notes = kept.notes,
        .note_capacity = kept.note_capacity,
    };
}

void tally_close(struct tally *tally)
{
    mem_arena_release(&tally->reasons);
    mem_free(tally->class_images);
    mem_free(tally->notes);
    *tally = (struct tally){0};
}

int tally_note(struct tally *tally, const struct tally_note *note)
{
    if (tally->note_count == tally->note_capacity) {
        size_t next = tally->note_capacity ? tally->note_capacity * 2 : 64;
        int rc = mem_grow((void **)&tally->notes, tally->note_capacity, next, sizeof *tally->notes,
                          "list of bad pictures");
        if (rc)
            return rc;
        tally->note_capacity = next;
    }
    struct tally_note *mine = &tally->notes[tally->note_count];
    *mine = *note;
    if (!(mine->reason = mem_arena_text(&tally->reasons, note->reason, strlen(note->reason))))
        return -ERR_MEMORY;
    tally->note_count++;
    return 0;
}

static void count_kinds(struct tally *tally, const struct converted *converted)
{
    const struct decode_info *info = &converted->info;
    bool resized = converted->width != converted->original_width ||
                   converted->height != converted->original_height;
    const bool is[TALLY_KINDS] = {
        [TALLY_JPEG] = !info->png,
        [TALLY_PNG] = info->png,
        [TALLY_GRAY] = info->gray,
        [TALLY_CMYK] = info->cmyk,
        [TALLY_STORED_RGB] = info->stored_rgb,
        [TALLY_PROGRESSIVE] = info->progressive,
        [TALLY_ARITHMETIC] = info->arithmetic,
        [TALLY_PALETTE] = info->palette,
        [TALLY_ALPHA] = info->alpha,
        [TALLY_SIXTEEN_BIT] = info->sixteen_bit,
        [TALLY_ICC_IGNORED] = info->icc,
        [TALLY_ORIENTATION_IGNORED] = info->exif_orientation >= 2 && info->exif_orientation <= 8,
        [TALLY_RESIZED] = resized,
        [TALLY_SIZE_KEPT] = !resized,
    };
    for (int kind = 0; kind < TALLY_KINDS; kind++)
        tally->kinds[kind] += is[kind];
}

int tally_add(struct tally *tally, uint32_t file, uint32_t label, uint32_t shard, uint32_t record,
              const struct converted *converted)
{
    const struct decode_info *info = &converted->info;
    struct tally_note note = {file, info->verdict == DECODE_BAD, shard, record, info->reason};
    if (info->verdict == DECODE_BAD) {
        tally->bad++;
        note.shard = note.record = 0;
        return tally_note(tally, &note);
    }
    tally->records++;
    tally->class_images[label]++;
    tally->payload_bytes += converted->size;
    if (converted->width > tally->largest_width)
        tally->largest_width = converted->width;
    if (converted->height > tally->largest_height)
        tally->largest_height = converted->height;
    if (converted->size > tally->largest_payload)
        tally->largest_payload = converted->size;
    count_kinds(tally, converted);
    if (info->verdict != DECODE_WARN)
        return 0;
    tally->warned++;
    return tally_note(tally, &note);
}

/* ---- bad.tsv ---- */

struct line {
    const char *name;
    const struct tally_note *note;
};

static int compare_lines(const void *a, const void *b)
{
    return strcmp(((const struct line *)a)->name, ((const struct line *)b)->name);
}

static int write_line(struct files_writer *writer, const struct line *line)
{
    char name[4 * RECORD_NAME_LIMIT + 1], shard[MANIFEST_SHARD_FILE_SIZE], place[64] = "-",
                                                                           text[4096];
    const struct tally_note *note = line->note;
    if (!note->bad) {
        plan_shard_name(note->shard, shard);
        snprintf(place, sizeof place, "%s:%u", shard, note->record);
    }
    int size = snprintf(text, sizeof text, "%s\t%s\t%s\t%s\n", note->bad ? "bad" : "warn",
                        err_quote(name, sizeof name, line->name), note->reason, place);
    return files_write(writer, text, (size_t)size);
}

static int write_lines(struct files_writer *writer, const struct line *lines, size_t count)
{
    static const char head[] = "verdict\tfile\treason\tplace\n";
    int rc = files_write(writer, head, sizeof head - 1);
    for (size_t i = 0; !rc && i < count; i++)
        rc = write_line(writer, &lines[i]);
    return rc;
}

int tally_write_list(const struct tally *tally, const struct source *source, const char *folder)
{
    char path[FILES_PATH_SIZE], name[RECORD_NAME_LIMIT + 1];
    struct mem_arena names = {0};
    struct files_writer *writer = NULL;
    struct line *lines = mem_array(tally->note_count, sizeof *lines, "lines of bad.tsv");
    int rc = -ERR_MEMORY;
    if (!lines)
        return rc;
    for (size_t i = 0; i < tally->note_count; i++) {
        uint32_t length = source_name(source, tally->notes[i].file, name);
        lines[i].note = &tally->notes[i];
        if (!(lines[i].name = mem_arena_text(&names, name, length)))
            goto fail;
    }
    qsort(lines, tally->note_count, sizeof *lines, compare_lines);
    if ((rc = files_join(path, folder, "bad.tsv")) || (rc = files_writer_open(&writer, path)) ||
        (rc = write_lines(writer, lines, tally->note_count)))
        goto fail;
    rc = files_publish(writer);
    writer = NULL;

fail:
    files_discard(writer);
    mem_arena_release(&names);
    mem_free(lines);
    return rc;
}

/* ---- summary ---- */

void tally_describe(const struct tally *tally, char *out, size_t size)
{
    size_t used = 0;
    char count[32];
    snprintf(out, size, "nothing");
    for (int kind = 0; kind < TALLY_KINDS && used < size; kind++)
        if (tally->kinds[kind])
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s %s", used ? ", " : "",
                                 log_count(count, (int64_t)tally->kinds[kind]), descriptions[kind]);
}
