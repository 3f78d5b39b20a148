#include "train/zip_writer.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "train/zip_format.h"

struct written {
    const char *name; /* with the folder */
    uint64_t offset, size;
    uint32_t crc;
};

struct zip_writer {
    struct files_writer *file;
    char folder[ZIP_NAME_LIMIT + 1];
    struct mem_arena names;
    struct written *entries;
    size_t count, capacity;
    uint64_t largest;     /* that a classic 32-bit field may hold */
    size_t largest_count; /* that a classic 16-bit field may hold */
};

int zip_writer_open(struct zip_writer **out, const char *path, const char *folder)
{
    int rc = -ERR_MEMORY;
    struct zip_writer *writer = mem_array(1, sizeof *writer, "zip writer");
    *out = NULL;
    if (!writer)
        return rc;
    writer->largest = ZIP_ALL_ONES_32 - 1;
    writer->largest_count = 0xfffe;
    snprintf(writer->folder, sizeof writer->folder, "%s", folder);
    if ((rc = files_writer_open(&writer->file, path))) {
        zip_writer_discard(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

void zip_writer_force_zip64(struct zip_writer *writer)
{
    writer->largest = 0;
    writer->largest_count = 0;
}

/* Remember an entry for the directory. */
static int remember(struct zip_writer *writer, const char *name, size_t length, size_t size,
                    uint32_t crc)
{
    if (writer->count == writer->capacity) {
        size_t capacity = writer->capacity ? writer->capacity * 2 : 256;
        int rc = mem_grow((void **)&writer->entries, writer->capacity, capacity,
                          sizeof *writer->entries, "zip directory");
        if (rc)
            return rc;
        writer->capacity = capacity;
    }
    struct written *entry = &writer->entries[writer->count];
    if (!(entry->name = mem_arena_text(&writer->names, name, length)))
        return -ERR_MEMORY;
    entry->offset = files_written(writer->file);
    entry->size = size;
    entry->crc = crc;
    writer->count++;
    return 0;
}

/* OUT = the extra fields of a local header that begins at OFFSET; returns their size. */
static size_t make_local_extra(uint8_t *out, uint64_t offset, size_t name_length, bool big,
                               uint64_t size)
{
    size_t used = 0;
    if (big) {
        zip_put16(out, ZIP_EXTRA_ZIP64);
        zip_put16(out + 2, 16);
        zip_put64(out + 4, size);
        zip_put64(out + 12, size);
        used = 20;
    }
    uint64_t data = offset + ZIP_LOCAL_BYTES + name_length + used + 4;
    unsigned padding = (unsigned)(-data % ZIP_ALIGNMENT);
    zip_put16(out + used, ZIP_EXTRA_PADDING);
    zip_put16(out + used + 2, padding);
    memset(out + used + 4, 'Z', padding);
    return used + 4 + padding;
}

int zip_writer_add(struct zip_writer *writer, const char *name, const void *bytes, size_t size)
{
    uint8_t header[ZIP_LOCAL_BYTES] = {0}, extra[20 + 4 + ZIP_ALIGNMENT];
    char path[ZIP_NAME_LIMIT + 2];
    int rc, length = snprintf(path, sizeof path, "%s/%s", writer->folder, name);
    if (length < 0 || length > ZIP_NAME_LIMIT)
        return err_set(ERR_FAULT, "zip entry name \"%.40s...\" is too long", name);
    uint64_t offset = files_written(writer->file);
    uint32_t crc = zip_crc(0, bytes, size);
    bool big = size > writer->largest;
    size_t extra_size = make_local_extra(extra, offset, (size_t)length, big, size);
    if ((rc = remember(writer, path, (size_t)length, size, crc)))
        return rc;
    zip_put32(header, ZIP_LOCAL_SIGNATURE);
    zip_put16(header + 4, big ? ZIP_VERSION_ZIP64 : ZIP_VERSION_CLASSIC);
    zip_put16(header + 6, ZIP_FLAG_UTF8);
    zip_put32(header + 14, crc);
    zip_put32(header + 18, big ? ZIP_ALL_ONES_32 : (uint32_t)size);
    zip_put32(header + 22, big ? ZIP_ALL_ONES_32 : (uint32_t)size);
    zip_put16(header + 26, (unsigned)length);
    zip_put16(header + 28, (unsigned)extra_size);
    if ((rc = files_write(writer->file, header, sizeof header)) ||
        (rc = files_write(writer->file, path, (size_t)length)) ||
        (rc = files_write(writer->file, extra, extra_size)))
        return rc;
    return files_write(writer->file, bytes, size);
}

static int write_central(struct zip_writer *writer, const struct written *entry)
{
    uint8_t header[ZIP_CENTRAL_BYTES] = {0}, extra[28];
    size_t length = strlen(entry->name), used = 4;
    bool big = entry->size > writer->largest, far = entry->offset > writer->largest;
    int rc;
    if (big) {
        zip_put64(extra + used, entry->size);
        zip_put64(extra + used + 8, entry->size);
        used += 16;
    }
    if (far) {
        zip_put64(extra + used, entry->offset);
        used += 8;
    }
    zip_put16(extra, ZIP_EXTRA_ZIP64);
    zip_put16(extra + 2, (unsigned)(used - 4));
    if (used == 4)
        used = 0;
    zip_put32(header, ZIP_CENTRAL_SIGNATURE);
    zip_put16(header + 6, big ? ZIP_VERSION_ZIP64 : ZIP_VERSION_CLASSIC);
    zip_put16(header + 8, ZIP_FLAG_UTF8);
    zip_put32(header + 16, entry->crc);
    zip_put32(header + 20, big ? ZIP_ALL_ONES_32 : (uint32_t)entry->size);
    zip_put32(header + 24, big ? ZIP_ALL_ONES_32 : (uint32_t)entry->size);
    zip_put16(header + 28, (unsigned)length);
    zip_put16(header + 30, (unsigned)used);
    zip_put32(header + 42, far ? ZIP_ALL_ONES_32 : (uint32_t)entry->offset);
    if ((rc = files_write(writer->file, header, sizeof header)) ||
        (rc = files_write(writer->file, entry->name, length)))
        return rc;
    return files_write(writer->file, extra, used);
}

static int write_end(struct zip_writer *writer, uint64_t offset, uint64_t size)
{
    uint8_t bytes[ZIP_END64_BYTES + ZIP_LOCATOR_BYTES + ZIP_END_BYTES] = {0};
    uint8_t *locator = bytes + ZIP_END64_BYTES, *end = locator + ZIP_LOCATOR_BYTES;
    bool many = writer->count > writer->largest_count, long_ = size > writer->largest,
         far = offset > writer->largest;
    zip_put32(bytes, ZIP_END64_SIGNATURE);
    zip_put64(bytes + 4, ZIP_END64_BYTES - 12);
    zip_put16(bytes + 12, ZIP_VERSION_ZIP64);
    zip_put16(bytes + 14, ZIP_VERSION_ZIP64);
    zip_put64(bytes + 24, writer->count);
    zip_put64(bytes + 32, writer->count);
    zip_put64(bytes + 40, size);
    zip_put64(bytes + 48, offset);
    zip_put32(locator, ZIP_LOCATOR_SIGNATURE);
    zip_put64(locator + 8, offset + size);
    zip_put32(locator + 16, 1);
    zip_put32(end, ZIP_END_SIGNATURE);
    zip_put16(end + 8, many ? 0xffff : (unsigned)writer->count);
    zip_put16(end + 10, many ? 0xffff : (unsigned)writer->count);
    zip_put32(end + 12, long_ ? ZIP_ALL_ONES_32 : (uint32_t)size);
    zip_put32(end + 16, far ? ZIP_ALL_ONES_32 : (uint32_t)offset);
    if (many || long_ || far)
        return files_write(writer->file, bytes, sizeof bytes);
    return files_write(writer->file, end, ZIP_END_BYTES);
}

int zip_writer_publish(struct zip_writer *writer)
{
    uint64_t offset = files_written(writer->file);
    int rc = 0;
    for (size_t i = 0; i < writer->count && !rc; i++)
        rc = write_central(writer, &writer->entries[i]);
    if (!rc)
        rc = write_end(writer, offset, files_written(writer->file) - offset);
    if (!rc) {
        rc = files_publish(writer->file);
        writer->file = NULL;
    }
    zip_writer_discard(writer);
    return rc;
}

void zip_writer_discard(struct zip_writer *writer)
{
    if (!writer)
        return;
    files_discard(writer->file);
    mem_arena_release(&writer->names);
    mem_free(writer->entries);
    mem_free(writer);
}
