#include "train/zip_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/mem.h"
#include "train/zip_format.h"

enum {
    DIRECTORY_LIMIT = 16 << 20, /* bytes */
    PIECE_BYTES = 1 << 18       /* read at once */
};

struct zip_file {
    int file;
    char *path; /* quoted, for messages */
    uint64_t size;
    uint8_t *directory; /* the central directory as read */
    struct mem_arena names;
    char folder[ZIP_NAME_LIMIT + 1];
    size_t folder_length;      /* with the slash; 0 = not seen yet */
    struct zip_entry *entries; /* in the file's order */
    uint32_t *by_name;         /* positions in entries, in the names' byte order */
    size_t count;
    uint8_t *piece; /* PIECE_BYTES */
};

/* ERR_INPUT for what stands at OFFSET of the file. */
__attribute__((format(printf, 3, 4))) static int bad(const struct zip_file *zip, uint64_t offset,
                                                     const char *format, ...)
{
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    err_set(ERR_INPUT, "%s, byte %llu: %s", zip->path, (unsigned long long)offset, text);
    return -ERR_INPUT;
}

static int read_at(const struct zip_file *zip, uint64_t offset, void *out, size_t size)
{
    uint8_t *bytes = out;
    while (size) {
        ssize_t got = pread(zip->file, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("cannot read %s at byte %llu", zip->path, (unsigned long long)offset);
        if (got == 0)
            return bad(zip, offset, "the file became shorter while it was read");
        bytes += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

/* What a file is that does not begin as a zip archive does; NULL when nothing comes to mind. */
static const char *guess_kind(const uint8_t *head, size_t size)
{
    static const struct {
        size_t offset, length;
        const char *bytes, *kind;
    } kinds[] = {
        {0,   4, "\x80\x02\x8a\x0a",   "a PyTorch file from before version 1.6 (not a zip archive)"},
        {0,   2, "\x80\x02",           "a bare Python pickle"                                      },
        {0,   2, "\x80\x03",           "a bare Python pickle"                                      },
        {0,   2, "\x80\x04",           "a bare Python pickle"                                      },
        {0,   2, "\x80\x05",           "a bare Python pickle"                                      },
        {8,   1, "{",                  "a safetensors file"                                        },
        {0,   8, "\x89HDF\r\n\x1a\n",  "an HDF5 file"                                              },
        {0,   2, "\x1f\x8b",           "a gzip file"                                               },
        {0,   6, "7z\xbc\xaf\x27\x1c", "a 7z archive"                                              },
        {257, 5, "ustar",              "a tar archive"                                             },
        {0,   1, "<",                  "an HTML or XML page (a failed download?)"                  },
        {0,   7, "version",            "a Git LFS pointer, not the file itself"                    },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].offset + kinds[i].length <= size &&
            !memcmp(head + kinds[i].offset, kinds[i].bytes, kinds[i].length))
            return kinds[i].kind;
    return NULL;
}

static int check_begin(const struct zip_file *zip)
{
    uint8_t head[512];
    size_t size = zip->size < sizeof head ? (size_t)zip->size : sizeof head;
    int rc = read_at(zip, 0, head, size);
    if (rc)
        return rc;
    if (size >= 4 && zip_get32(head) == ZIP_LOCAL_SIGNATURE)
        return 0;
    const char *kind = guess_kind(head, size);
    if (kind)
        return bad(zip, 0, "not a PyTorch zip file, but %s", kind);
    if (size == 0)
        return bad(zip, 0, "the file is empty");
    return bad(zip, 0, "not a PyTorch zip file (it does not begin with PK 3 4)");
}

struct directory {
    uint64_t offset, size, count;
    uint64_t end; /* where the end records begin */
};

/* VALUE is what a classic field of the end record may hold when the ZIP64 record says WIDE. */
static bool agrees(uint64_t value, uint64_t wide, uint64_t all_ones)
{
    return value == wide || value == all_ones;
}

/* Read the ZIP64 end record before the locator at LOCATOR_OFFSET, and hold END against it. */
static int read_end64(const struct zip_file *zip, uint64_t locator_offset, const uint8_t *locator,
                      const uint8_t *end, struct directory *out)
{
    uint8_t record[ZIP_END64_BYTES];
    if (locator_offset < ZIP_END64_BYTES)
        return bad(zip, locator_offset, "there is no room for a ZIP64 end record");
    out->end = locator_offset - ZIP_END64_BYTES;
    if (zip_get32(locator + 4) != 0 || zip_get64(locator + 8) != out->end ||
        zip_get32(locator + 16) != 1)
        return bad(zip, locator_offset, "the ZIP64 locator does not point at the record before it");
    int rc = read_at(zip, out->end, record, sizeof record);
    if (rc)
        return rc;
    unsigned made = zip_get16(record + 12);
    out->count = zip_get64(record + 32);
    out->size = zip_get64(record + 40);
    out->offset = zip_get64(record + 48);
    if (zip_get32(record) != ZIP_END64_SIGNATURE || zip_get64(record + 4) != ZIP_END64_BYTES - 12 ||
        (made != ZIP_VERSION_ZIP64 && made != ZIP_VERSION_MADE_TORCH) ||
        zip_get16(record + 14) != ZIP_VERSION_ZIP64 || zip_get32(record + 16) != 0 ||
        zip_get32(record + 20) != 0 || zip_get64(record + 24) != out->count)
        return bad(zip, out->end, "a damaged ZIP64 end record");
    if (!agrees(zip_get16(end + 8), out->count, 0xffff) ||
        !agrees(zip_get32(end + 12), out->size, ZIP_ALL_ONES_32) ||
        !agrees(zip_get32(end + 16), out->offset, ZIP_ALL_ONES_32))
        return bad(zip, out->end, "the ZIP64 end record disagrees with the end record");
    return 0;
}

/* Find the directory from the end record, which must be the file's last bytes. */
static int read_end(const struct zip_file *zip, struct directory *out)
{
    uint8_t tail[ZIP_LOCATOR_BYTES + ZIP_END_BYTES] = {0};
    uint8_t *end = tail + ZIP_LOCATOR_BYTES;
    int rc;
    if (zip->size < ZIP_END_BYTES)
        return bad(zip, zip->size, "the file is cut short");
    uint64_t at = zip->size - ZIP_END_BYTES;
    size_t before = at < ZIP_LOCATOR_BYTES ? 0 : ZIP_LOCATOR_BYTES;
    if ((rc = read_at(zip, at - before, end - before, before + ZIP_END_BYTES)))
        return rc;
    if (zip_get32(end) != ZIP_END_SIGNATURE || zip_get16(end + 20) != 0)
        return bad(zip, at,
                   "no end record at the file's end: it is cut short, or something was appended");
    if (zip_get32(end + 4) != 0 || zip_get16(end + 8) != zip_get16(end + 10))
        return bad(zip, at, "a damaged end record, or an archive of several disks");
    *out = (struct directory){.offset = zip_get32(end + 16),
                              .size = zip_get32(end + 12),
                              .count = zip_get16(end + 8),
                              .end = at};
    if (zip_get32(tail) == ZIP_LOCATOR_SIGNATURE &&
        (rc = read_end64(zip, at - ZIP_LOCATOR_BYTES, tail, end, out)))
        return rc;
    if (out->offset > out->end || out->size != out->end - out->offset)
        return bad(zip, out->end, "the directory does not reach to the end record");
    return 0;
}

/* The 64-bit values of a central entry whose classic field is all ones, in order: ENTRY's size
 * twice, its start. */
static int read_central_extra(const struct zip_file *zip, uint64_t at, const uint8_t *header,
                              const uint8_t *extra, size_t size, uint64_t values[3])
{
    static const int fields[3] = {24, 20, 42}; /* size, stored size, offset */
    size_t used = 4;
    bool wide = false;
    for (int i = 0; i < 3; i++) {
        values[i] = zip_get32(header + fields[i]);
        if (values[i] != ZIP_ALL_ONES_32)
            continue;
        wide = true;
        if (size < used + 8)
            return bad(zip, at, "a directory entry without the ZIP64 field that it needs");
        values[i] = zip_get64(extra + used);
        used += 8;
    }
    if (!wide && size == 0)
        return 0;
    if (!wide || size != used || zip_get16(extra) != ZIP_EXTRA_ZIP64 ||
        zip_get16(extra + 2) != size - 4)
        return bad(zip, at, "a directory entry with an extra field that torch.save does not write");
    return 0;
}

/* *OUT = the NAME of a directory entry without the inner folder, which is the first entry's. */
static int read_name(struct zip_file *zip, uint64_t at, const uint8_t *name, size_t length,
                     const char **out)
{
    char text[ZIP_NAME_LIMIT + 1], quoted[4 * ZIP_NAME_LIMIT + 1];
    if (length == 0 || length > ZIP_NAME_LIMIT || memchr(name, 0, length))
        return bad(zip, at, "an entry's name has %zu bytes, or a 0 byte inside", length);
    memcpy(text, name, length);
    text[length] = 0;
    const char *slash = strchr(text, '/');
    if (!zip->folder_length && slash && slash > text) {
        zip->folder_length = (size_t)(slash - text) + 1;
        memcpy(zip->folder, text, zip->folder_length);
    }
    if (!zip->folder_length || length <= zip->folder_length ||
        memcmp(text, zip->folder, zip->folder_length) != 0)
        return bad(zip, at, "entry \"%.300s\" is not in the folder of the first one",
                   err_quote(quoted, sizeof quoted, text));
    *out = mem_arena_text(&zip->names, text + zip->folder_length, length - zip->folder_length);
    return *out ? 0 : -ERR_MEMORY;
}

/* Take in the directory entry HEADER at AT of the file, which has ROOM bytes before the directory's
 * end. *START = where its local header is said to begin. */
static int read_central(struct zip_file *zip, const uint8_t *header, uint64_t at, size_t room,
                        struct zip_entry *entry, uint64_t *start)
{
    /* Comment length, disk, internal and external attributes. */
    static const uint8_t zeros[10];
    uint64_t values[3] = {0};
    int rc;
    if (room < ZIP_CENTRAL_BYTES || zip_get32(header) != ZIP_CENTRAL_SIGNATURE)
        return bad(zip, at, "no directory entry where one should be");
    size_t name_length = zip_get16(header + 28), extra_size = zip_get16(header + 30);
    if (room - ZIP_CENTRAL_BYTES < name_length + extra_size)
        return bad(zip, at, "a directory entry reaches behind the directory");
    const uint8_t *name = header + ZIP_CENTRAL_BYTES, *extra = name + name_length;
    if (zip_get16(header + 10) != 0)
        return bad(zip, at, "a compressed entry (method %u); torch.save stores",
                   zip_get16(header + 10));
    if (zip_get16(header + 8) & ~(unsigned)(ZIP_FLAG_DESCRIPTOR | ZIP_FLAG_UTF8))
        return bad(zip, at, "entry flags 0x%04x: encrypted or otherwise foreign",
                   zip_get16(header + 8));
    if (zip_get16(header + 4) != 0 || memcmp(header + 32, zeros, sizeof zeros) != 0)
        return bad(zip, at, "a directory entry with fields that torch.save leaves 0");
    if ((rc = read_central_extra(zip, at, header, extra, extra_size, values)) ||
        (rc = read_name(zip, at, name, name_length, &entry->name)))
        return rc;
    if (values[0] != values[1])
        return bad(zip, at, "a stored entry with two different sizes");
    entry->size = values[0];
    entry->crc = zip_get32(header + 16);
    *start = values[2];
    return 0;
}

/* The ZIP64 numbers of a local header, SIZE bytes at BODY: of size, stored size and start those
 * that did not fit their fields, in this order. torch.save, which writes the sizes behind the data,
 * leaves the stored size 0. */
static bool agrees64(const struct zip_entry *entry, uint64_t start, bool behind,
                     const uint8_t *body, size_t size)
{
    const uint64_t expected[3] = {entry->size, behind ? 0 : entry->size, start};
    size_t k = 0;
    if (size == 0 || size > 24 || size % 8 != 0)
        return false;
    for (size_t at = 0; at < size; at += 8, k++) {
        while (k < 3 && zip_get64(body + at) != expected[k])
            k++;
        if (k == 3)
            return false;
    }
    return true;
}

/* The extra fields of a local header: padding, and ZIP64 numbers. BEHIND: the sizes stand behind
 * the data. *WIDE: there was a ZIP64 field. */
static int check_local_extra(const struct zip_file *zip, const struct zip_entry *entry,
                             uint64_t start, bool behind, const uint8_t *extra, size_t size,
                             bool *wide)
{
    *wide = false;
    while (size) {
        size_t length = size < 4 ? 0 : zip_get16(extra + 2);
        if (size < 4 || length > size - 4)
            return bad(zip, start, "an entry's extra field reaches behind its header");
        const uint8_t *body = extra + 4;
        if (zip_get16(extra) == ZIP_EXTRA_PADDING) {
            for (size_t i = 0; i < length; i++)
                if (body[i] != 'Z')
                    return bad(zip, start, "an entry's padding is not what torch.save writes");
        } else if (zip_get16(extra) == ZIP_EXTRA_ZIP64 && !*wide) {
            *wide = true;
            if (!agrees64(entry, start, behind, body, length))
                return bad(zip, start, "an entry's ZIP64 field disagrees with the directory");
        } else {
            return bad(zip, start, "an extra field 0x%04x that torch.save does not write",
                       zip_get16(extra));
        }
        extra += 4 + length;
        size -= 4 + length;
    }
    return 0;
}

/* The record behind the data, whose sizes are 64 bits wide if the header has a ZIP64 field. *END
 * moves behind it. */
static int check_descriptor(const struct zip_file *zip, const struct zip_entry *entry, bool wide,
                            uint64_t limit, uint64_t *end)
{
    uint8_t bytes[24];
    size_t size = wide ? 24 : 16;
    if (limit - *end < size)
        return bad(zip, *end, "no room for the data descriptor of \"%.100s\"", entry->name);
    int rc = read_at(zip, *end, bytes, size);
    if (rc)
        return rc;
    uint64_t stored = wide ? zip_get64(bytes + 8) : zip_get32(bytes + 8);
    uint64_t whole = wide ? zip_get64(bytes + 16) : zip_get32(bytes + 12);
    if (zip_get32(bytes) != ZIP_DESCRIPTOR_SIGNATURE || zip_get32(bytes + 4) != entry->crc ||
        stored != entry->size || whole != entry->size)
        return bad(zip, *end, "a data descriptor disagrees with the directory");
    *end += size;
    return 0;
}

/* Hold the local header at START against the directory's CENTRAL, and set where the data lie. *END
 * = the first byte behind the entry, at most LIMIT. BUFFER has room for the longest header. */
static int check_local(const struct zip_file *zip, const uint8_t *central, uint64_t start,
                       uint64_t limit, uint8_t *buffer, struct zip_entry *entry, uint64_t *end)
{
    const uint8_t *header = buffer;
    int rc;
    if (limit - start < ZIP_LOCAL_BYTES)
        return bad(zip, start, "no room for an entry's header");
    if ((rc = read_at(zip, start, buffer, ZIP_LOCAL_BYTES)))
        return rc;
    size_t name_length = zip_get16(header + 26), extra_size = zip_get16(header + 28);
    /* From "version needed" to the date both headers have the same fields. */
    if (zip_get32(header) != ZIP_LOCAL_SIGNATURE || memcmp(header + 4, central + 6, 10) != 0 ||
        name_length != zip_get16(central + 28))
        return bad(zip, start, "an entry's header disagrees with the directory");
    if (limit - start - ZIP_LOCAL_BYTES < name_length + extra_size)
        return bad(zip, start, "an entry's header reaches behind its data");
    if ((rc = read_at(zip, start + ZIP_LOCAL_BYTES, buffer + ZIP_LOCAL_BYTES,
                      name_length + extra_size)))
        return rc;
    if (memcmp(header + ZIP_LOCAL_BYTES, central + ZIP_CENTRAL_BYTES, name_length) != 0)
        return bad(zip, start, "an entry's name disagrees with the directory");
    bool wide, behind = zip_get16(header + 6) & ZIP_FLAG_DESCRIPTOR;
    if ((rc = check_local_extra(zip, entry, start, behind, header + ZIP_LOCAL_BYTES + name_length,
                                extra_size, &wide)))
        return rc;
    uint32_t crc = zip_get32(header + 14), stored = zip_get32(header + 18),
             whole = zip_get32(header + 22);
    uint32_t size = wide && !behind ? ZIP_ALL_ONES_32 : (uint32_t)entry->size;
    if (behind ? crc || stored || whole
               : crc != entry->crc || stored != size || whole != size ||
                     (!wide && entry->size > ZIP_ALL_ONES_32))
        return bad(zip, start, "an entry's sizes or CRC disagree with the directory");
    entry->offset = start + ZIP_LOCAL_BYTES + name_length + extra_size;
    if (entry->size > limit - entry->offset)
        return bad(zip, start, "an entry of %llu bytes reaches into the directory",
                   (unsigned long long)entry->size);
    *end = entry->offset + entry->size;
    return behind ? check_descriptor(zip, entry, wide, limit, end) : 0;
}

/* All entries: those of the directory, each against its own header, one behind the other. */
static int read_entries(struct zip_file *zip, const struct directory *directory, uint8_t *buffer)
{
    size_t at = 0, size = (size_t)directory->size;
    uint64_t expected = 0, start = 0;
    for (size_t i = 0; i < zip->count; i++) {
        const uint8_t *header = zip->directory + at;
        struct zip_entry *entry = &zip->entries[i];
        uint64_t place = directory->offset + at;
        int rc = read_central(zip, header, place, size - at, entry, &start);
        if (rc)
            return rc;
        if (start != expected)
            return bad(zip, place,
                       "entry \"%.100s\" begins at byte %llu, not where the one before it ends "
                       "(%llu)",
                       entry->name, (unsigned long long)start, (unsigned long long)expected);
        if ((rc = check_local(zip, header, start, directory->offset, buffer, entry, &expected)))
            return rc;
        at += ZIP_CENTRAL_BYTES + zip_get16(header + 28) + zip_get16(header + 30);
    }
    if (at != size)
        return bad(zip, directory->offset + at, "the directory holds more than it counts");
    if (expected != directory->offset)
        return bad(zip, expected, "bytes that belong to no entry");
    return 0;
}

static int compare_entries(const void *a, const void *b, void *context)
{
    const struct zip_file *zip = context;
    return strcmp(zip->entries[*(const uint32_t *)a].name, zip->entries[*(const uint32_t *)b].name);
}

static int sort_entries(struct zip_file *zip)
{
    for (size_t i = 0; i < zip->count; i++)
        zip->by_name[i] = (uint32_t)i;
    qsort_r(zip->by_name, zip->count, sizeof *zip->by_name, compare_entries, zip);
    for (size_t i = 1; i < zip->count; i++) {
        const struct zip_entry *entry = &zip->entries[zip->by_name[i]];
        char quoted[4 * ZIP_NAME_LIMIT + 1];
        if (!strcmp(entry->name, zip->entries[zip->by_name[i - 1]].name))
            return bad(zip, entry->offset, "two entries are called \"%.300s\"",
                       err_quote(quoted, sizeof quoted, entry->name));
    }
    return 0;
}

static int read_structure(struct zip_file *zip, size_t limit)
{
    struct directory directory = {0};
    int rc;
    if ((rc = check_begin(zip)) || (rc = read_end(zip, &directory)))
        return rc;
    if (directory.count == 0 || directory.count > limit)
        return bad(zip, directory.end, "%llu entries; 1 to %zu are read",
                   (unsigned long long)directory.count, limit);
    if (directory.size > DIRECTORY_LIMIT || directory.size / ZIP_CENTRAL_BYTES < directory.count)
        return bad(zip, directory.offset, "a directory of %llu bytes for %llu entries",
                   (unsigned long long)directory.size, (unsigned long long)directory.count);
    zip->count = (size_t)directory.count;
    uint8_t *buffer =
        mem_array(ZIP_LOCAL_BYTES + ZIP_NAME_LIMIT + ZIP_EXTRA_LIMIT, 1, "zip header");
    if (!buffer || !(zip->directory = mem_aligned((size_t)directory.size, "zip directory")) ||
        !(zip->entries = mem_array(zip->count, sizeof *zip->entries, "zip entries")) ||
        !(zip->by_name = mem_array(zip->count, sizeof *zip->by_name, "zip entries")))
        rc = -ERR_MEMORY;
    else if (!(rc = read_at(zip, directory.offset, zip->directory, (size_t)directory.size)))
        rc = read_entries(zip, &directory, buffer);
    mem_free(buffer);
    return rc ? rc : sort_entries(zip);
}

static int open_regular(struct zip_file *zip, const char *path)
{
    char quoted[FILES_PATH_SIZE];
    struct stat status;
    if (!(zip->path = mem_text(err_quote(quoted, sizeof quoted, path))))
        return -ERR_MEMORY;
    /* O_NONBLOCK: a fifo must not make us wait. */
    zip->file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (zip->file < 0)
        return err_errno("cannot open %s", zip->path);
    if (fstat(zip->file, &status))
        return err_errno("cannot stat %s", zip->path);
    if (!S_ISREG(status.st_mode))
        return err_set(ERR_INPUT, "%s is not a regular file", zip->path);
    zip->size = (uint64_t)status.st_size;
    return 0;
}

int zip_open(struct zip_file **out, const char *path, size_t limit)
{
    struct zip_file *zip = mem_array(1, sizeof *zip, "zip file");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!zip)
        return rc;
    zip->file = -1;
    if ((rc = open_regular(zip, path)) || (rc = read_structure(zip, limit)))
        goto fail;
    rc = -ERR_MEMORY;
    if (!(zip->piece = mem_aligned(PIECE_BYTES, "zip buffer")))
        goto fail;
    *out = zip;
    return 0;

fail:
    zip_close(zip);
    return rc;
}

void zip_close(struct zip_file *zip)
{
    if (!zip)
        return;
    if (zip->file >= 0)
        close(zip->file);
    mem_arena_release(&zip->names);
    mem_free(zip->path);
    mem_free(zip->directory);
    mem_free(zip->entries);
    mem_free(zip->by_name);
    mem_free(zip->piece);
    mem_free(zip);
}

uint64_t zip_size(const struct zip_file *zip)
{
    return zip->size;
}

size_t zip_count(const struct zip_file *zip)
{
    return zip->count;
}

const struct zip_entry *zip_entry(const struct zip_file *zip, size_t index)
{
    return &zip->entries[index];
}

const struct zip_entry *zip_find(const struct zip_file *zip, const char *name)
{
    size_t low = 0, high = zip->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct zip_entry *entry = &zip->entries[zip->by_name[middle]];
        int order = strcmp(entry->name, name);
        if (order == 0)
            return entry;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int check_crc(const struct zip_file *zip, const struct zip_entry *entry, uint32_t crc)
{
    if (crc == entry->crc)
        return 0;
    return bad(zip, entry->offset, "the CRC of \"%.100s\" is %08x, not %08x: its data are damaged",
               entry->name, crc, entry->crc);
}

int zip_read(struct zip_file *zip, const struct zip_entry *entry, void *out)
{
    uint8_t *bytes = out;
    uint32_t crc = 0;
    /* In pieces, so that the CRC finds them in the cache. */
    for (uint64_t done = 0; done < entry->size;) {
        uint64_t left = entry->size - done;
        size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        int rc = read_at(zip, entry->offset + done, bytes + done, size);
        if (rc)
            return rc;
        crc = zip_crc(crc, bytes + done, size);
        done += size;
    }
    return check_crc(zip, entry, crc);
}

int zip_stream(struct zip_file *zip, const struct zip_entry *entry,
               int (*sink)(void *context, const void *bytes, size_t size), void *context)
{
    uint32_t crc = 0;
    for (uint64_t done = 0; done < entry->size;) {
        uint64_t left = entry->size - done;
        size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        int rc = read_at(zip, entry->offset + done, zip->piece, size);
        if (rc)
            return rc;
        crc = zip_crc(crc, zip->piece, size);
        if ((rc = sink(context, zip->piece, size)))
            return rc;
        done += size;
    }
    return check_crc(zip, entry, crc);
}

void zip_drop_cache(struct zip_file *zip)
{
    posix_fadvise(zip->file, 0, 0, POSIX_FADV_DONTNEED);
}
