/*
 * Zip archives: written as PyTorch lays them out, and read so strictly that any single changed bit,
 * and any cut, is an error. The archives that torch.save makes (data descriptors, a ZIP64 end
 * record always) are made here byte by byte.
 */
#include "train/zip_reader.h"
#include "train/zip_writer.h"

#include <fcntl.h>

#include "common/files.h"
#include "common/mem.h"
#include "common/rng.h"
#include "tests/test.h"
#include "train/zip_format.h"

/* ---- files in the test's folder ---- */

static const char *place(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void spill(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size);
    if (file)
        fclose(file);
}

/* Read every entry of the archive at PATH: 0 or the first error. */
static int read_all(const char *path)
{
    struct zip_file *zip;
    int rc = zip_open(&zip, path, 100000);
    for (size_t i = 0; !rc && i < zip_count(zip); i++) {
        const struct zip_entry *entry = zip_entry(zip, i);
        uint8_t *bytes = mem_aligned((size_t)entry->size, "entry");
        rc = zip_read(zip, entry, bytes);
        mem_free(bytes);
    }
    zip_close(zip);
    return rc;
}

static int read_bytes(const uint8_t *bytes, size_t size)
{
    spill(place("bytes.zip"), bytes, size);
    return read_all(place("bytes.zip"));
}

/* ---- archives ---- */

struct part {
    const char *name;
    const char *bytes;
    size_t size;
};

static const struct part parts[] = {
    {"data.pkl", "the pickle",                       10},
    {"data/0",   "0123456789abcdef0123456789abcdef", 32},
    {"data/1",   "",                                 0 },
    {"version",  "3\n",                              2 },
};
enum { PARTS = sizeof parts / sizeof *parts };

/* Write the parts with the program's own writer and fetch the file. */
static uint8_t *own_archive(bool zip64, size_t *size)
{
    struct zip_writer *zip;
    uint8_t *bytes = NULL;
    CHECK_INT(zip_writer_open(&zip, place("own.zip"), "archive"), 0);
    if (zip64)
        zip_writer_force_zip64(zip);
    for (int i = 0; i < PARTS; i++)
        CHECK_INT(zip_writer_add(zip, parts[i].name, parts[i].bytes, parts[i].size), 0);
    CHECK_INT(zip_writer_publish(zip), 0);
    CHECK_INT(files_read(place("own.zip"), 1 << 20, &bytes, size), 0);
    return bytes;
}

/* Append the ZIP64 field of COUNT numbers at P; returns what follows it. */
static uint8_t *put_zip64(uint8_t *p, const uint64_t *numbers, size_t count)
{
    if (!count)
        return p;
    zip_put16(p, ZIP_EXTRA_ZIP64);
    zip_put16(p + 2, (unsigned)(8 * count));
    for (size_t i = 0; i < count; i++)
        zip_put64(p + 4 + 8 * i, numbers[i]);
    return p + 4 + 8 * count;
}

/* How torch.save writes an entry: as one that is short and near the beginning, as one behind 4 GiB,
 * as one of more than 4 GiB behind as much. (Seen in files of that size; the numbers here are
 * small.) */
enum layout { NEAR, FAR, FAR_AND_BIG, LAYOUTS };

/* Append part I at P of OUT, and its directory entry at *D, which moves behind it. Returns what
 * follows the entry. */
static uint8_t *torch_entry(uint8_t *out, uint8_t *p, uint8_t **d, int i, enum layout layout)
{
    uint64_t start = (uint64_t)(p - out), size = parts[i].size;
    const uint64_t local[3] = {size, 0, start}, central[3] = {size, size, start};
    size_t first = layout == FAR_AND_BIG ? 0 : 2, count = layout == NEAR ? 0 : 3 - first;
    size_t length = strlen(parts[i].name) + 2;
    uint32_t crc = zip_crc(0, parts[i].bytes, size);
    memset(p, 0, 30);
    zip_put32(p, ZIP_LOCAL_SIGNATURE);
    zip_put16(p + 6, ZIP_FLAG_DESCRIPTOR | ZIP_FLAG_UTF8);
    zip_put16(p + 26, (unsigned)length);
    p[30] = 't';
    p[31] = '/';
    memcpy(p + 32, parts[i].name, length - 2);
    uint8_t *extra = p + 30 + length, *padding = put_zip64(extra, local + first, count);
    unsigned pad = (unsigned)(-(size_t)(padding + 4 - out) % 64);
    zip_put16(padding, ZIP_EXTRA_PADDING);
    zip_put16(padding + 2, pad);
    memset(padding + 4, 'Z', pad);
    zip_put16(p + 28, (unsigned)(padding + 4 + pad - extra));
    uint8_t *end = padding + 4 + pad;
    memcpy(end, parts[i].bytes, size);
    end += size;
    zip_put32(end, ZIP_DESCRIPTOR_SIGNATURE);
    zip_put32(end + 4, crc);
    for (int k = 0; k < 2; k++)
        if (layout == NEAR)
            zip_put32(end + 8 + 4 * k, (uint32_t)size);
        else
            zip_put64(end + 8 + 8 * k, size);
    memset(*d, 0, 46);
    zip_put32(*d, ZIP_CENTRAL_SIGNATURE);
    memcpy(*d + 6, p + 4, 10);
    zip_put32(*d + 16, crc);
    zip_put32(*d + 20, layout == FAR_AND_BIG ? UINT32_MAX : (uint32_t)size);
    zip_put32(*d + 24, layout == FAR_AND_BIG ? UINT32_MAX : (uint32_t)size);
    zip_put16(*d + 28, (unsigned)length);
    zip_put32(*d + 42, layout == NEAR ? (uint32_t)start : UINT32_MAX);
    memcpy(*d + 46, p + 30, length);
    uint8_t *after = put_zip64(*d + 46 + length, central + first, count);
    zip_put16(*d + 30, (unsigned)(after - (*d + 46 + length)));
    *d = after;
    return end + (layout == NEAR ? 16 : 24);
}

/* The archive that torch.save (2.15) would make: no sizes in front of the data but behind it,
 * padded headers, always a ZIP64 end record. Returns its size. */
static size_t torch_archive(uint8_t *out, enum layout layout)
{
    uint8_t directory[1024], *p = out, *d = directory;
    for (int i = 0; i < PARTS; i++)
        p = torch_entry(out, p, &d, i, layout);
    size_t at = (size_t)(p - out), size = (size_t)(d - directory);
    memcpy(p, directory, size);
    p += size;
    memset(p, 0, 98);
    zip_put32(p, ZIP_END64_SIGNATURE);
    zip_put64(p + 4, 44);
    zip_put16(p + 12, ZIP_VERSION_MADE_TORCH);
    zip_put16(p + 14, 45);
    zip_put64(p + 24, PARTS);
    zip_put64(p + 32, PARTS);
    zip_put64(p + 40, size);
    zip_put64(p + 48, at);
    zip_put32(p + 56, ZIP_LOCATOR_SIGNATURE);
    zip_put64(p + 64, at + size);
    zip_put32(p + 72, 1);
    zip_put32(p + 76, ZIP_END_SIGNATURE);
    zip_put16(p + 84, PARTS);
    zip_put16(p + 86, PARTS);
    zip_put32(p + 88, (uint32_t)size);
    zip_put32(p + 92, (uint32_t)at);
    return (size_t)(p - out) + 98;
}

/* ---- cases ---- */

static void check_contents(const char *path, bool aligned)
{
    struct zip_file *zip;
    CHECK_INT(zip_open(&zip, path, PARTS), 0);
    if (!zip)
        return;
    CHECK_INT(zip_count(zip), PARTS);
    for (int i = 0; i < PARTS; i++) {
        char data[64] = "";
        const struct zip_entry *entry = zip_find(zip, parts[i].name);
        CHECK(entry == zip_entry(zip, (size_t)i));
        CHECK_INT(entry->size, parts[i].size);
        CHECK_INT(zip_read(zip, entry, data), 0);
        CHECK(!memcmp(data, parts[i].bytes, parts[i].size));
        if (aligned)
            CHECK_INT(entry->offset % ZIP_ALIGNMENT, 0);
    }
    CHECK(zip_find(zip, "data/2") == NULL && zip_find(zip, "") == NULL);
    zip_close(zip);
}

static void test_round_trip(void)
{
    size_t size, again;
    uint8_t *bytes = own_archive(false, &size);
    check_contents(place("own.zip"), true);
    uint8_t *twice = own_archive(false, &again);
    CHECK(size == again && !memcmp(bytes, twice, size));
    CHECK(zip_get32(bytes + size - 22) == ZIP_END_SIGNATURE && !zip_get32(bytes + 10));
    mem_free(bytes);
    mem_free(twice);
    bytes = own_archive(true, &again);
    check_contents(place("own.zip"), true);
    CHECK(again > size);
    mem_free(bytes);
}

static void test_torch_layout(void)
{
    uint8_t bytes[4096];
    for (int layout = 0; layout < LAYOUTS; layout++) {
        size_t size = torch_archive(bytes, (enum layout)layout);
        spill(place("torch.zip"), bytes, size);
        check_contents(place("torch.zip"), true);
    }
}

/* Every flipped bit and every cut of BYTES is an error of the input. */
static void check_damage(const char *what, const uint8_t *bytes, size_t size)
{
    const char *path = place("damage.zip");
    spill(path, bytes, size);
    CHECK_INT(read_all(path), 0);
    int file = open(path, O_WRONLY);
    CHECK(file >= 0);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t changed = bytes[bit / 8] ^ (uint8_t)(1 << bit % 8);
        CHECK_INT(pwrite(file, &changed, 1, (off_t)(bit / 8)), 1);
        if (read_all(path) != -ERR_INPUT) {
            printf("%s with bit %zu of byte %zu flipped is not refused\n", what, bit % 8, bit / 8);
            test_failures++;
        }
        CHECK_INT(pwrite(file, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    CHECK_INT(read_all(path), 0);
    for (size_t cut = size; cut-- > 0;) {
        CHECK_INT(ftruncate(file, (off_t)cut), 0);
        if (read_all(path) != -ERR_INPUT) {
            printf("%s cut to %zu bytes is not refused\n", what, cut);
            test_failures++;
        }
    }
    close(file);
}

static void test_every_bit(void)
{
    uint8_t torch[4096];
    size_t size;
    for (int wide = 0; wide < 2; wide++) {
        uint8_t *own = own_archive(wide, &size);
        check_damage(wide ? "own ZIP64" : "own", own, size);
        mem_free(own);
    }
    for (int layout = 0; layout < LAYOUTS; layout++) {
        static const char *const names[] = {"torch", "torch, far", "torch, far and big"};
        size = torch_archive(torch, (enum layout)layout);
        check_damage(names[layout], torch, size);
    }
}

/* Many random changes at once: a changed archive never reads as another one. */
static void test_random_damage(void)
{
    size_t size;
    uint8_t *good = own_archive(false, &size), *bytes = mem_array(size + 64, 1, "copy");
    for (uint64_t i = 0; i < 3000; i++) {
        struct rng random;
        size_t length = size;
        rng_init(&random, 1, RNG_TEST, 0, i);
        memcpy(bytes, good, size);
        memset(bytes + size, 0, 64);
        for (uint64_t n = rng_below(&random, 6); n-- > 0;)
            bytes[rng_below(&random, size)] = (uint8_t)rng_u32(&random);
        if (rng_below(&random, 4) == 0) { /* move a piece */
            size_t from = rng_below(&random, size), to = rng_below(&random, size);
            size_t most = size - (from > to ? from : to);
            memmove(bytes + to, bytes + from, rng_below(&random, most + 1));
        }
        if (rng_below(&random, 4) == 0)
            length = size + rng_below(&random, 64);
        if (length == size && !memcmp(bytes, good, size))
            continue;
        if (read_bytes(bytes, length) != -ERR_INPUT) {
            printf("seed 1, change %llu is not refused\n", (unsigned long long)i);
            test_failures++;
        }
    }
    mem_free(good);
    mem_free(bytes);
}

/* ---- crafted archives ---- */

/* Where entry INDEX's directory entry and its local header begin, from the end record. */
static uint8_t *central_of(uint8_t *bytes, size_t size, int index)
{
    uint8_t *at = bytes + zip_get32(bytes + size - 22 + 16);
    while (index-- > 0)
        at += 46 + zip_get16(at + 28) + zip_get16(at + 30);
    return at;
}

static uint8_t *local_of(uint8_t *bytes, size_t size, int index)
{
    return bytes + zip_get32(central_of(bytes, size, index) + 42);
}

enum craft {
    DUPLICATE,
    OVERLAP,
    SHARED,
    METHOD,
    ENCRYPTED,
    LOCAL_NAME,
    LOCAL_SIZE,
    WRONG_CRC,
    SIZE_INTO_DIRECTORY,
    OTHER_FOLDER,
    NO_FOLDER,
    ZERO_IN_NAME,
    ATTRIBUTES,
    COMMENT,
    COUNT_LESS,
    COUNT_MORE,
    COUNT_HUGE,
    DIRECTORY_OFFSET,
    SECOND_DISK,
    GAP,
    FOREIGN_EXTRA,
    CRAFTS
};

static const char *const craft_messages[CRAFTS] = {
    [DUPLICATE] = "two entries are called \"data/0\"",
    [OVERLAP] = "not where the one before it ends",
    [SHARED] = "not where the one before it ends",
    [METHOD] = "compressed entry (method 8)",
    [ENCRYPTED] = "entry flags 0x0801",
    [LOCAL_NAME] = "an entry's name disagrees",
    [LOCAL_SIZE] = "sizes or CRC disagree",
    [WRONG_CRC] = "its data are damaged",
    [SIZE_INTO_DIRECTORY] = "reaches into the directory",
    [OTHER_FOLDER] = "entry \"brchive/data/0\" is not in the folder of the first one",
    [NO_FOLDER] = "is not in the folder of the first one",
    [ZERO_IN_NAME] = "or a 0 byte inside",
    [ATTRIBUTES] = "fields that torch.save leaves 0",
    [COMMENT] = "no end record at the file's end",
    [COUNT_LESS] = "the directory holds more than it counts",
    [COUNT_MORE] = "no directory entry where one should be",
    [COUNT_HUGE] = "a directory of",
    [DIRECTORY_OFFSET] = "the directory does not reach to the end record",
    [SECOND_DISK] = "several disks",
    [GAP] = "bytes that belong to no entry",
    [FOREIGN_EXTRA] = "an extra field 0x",
};

/* Change a good archive of SIZE bytes (room for more) into a bad one; returns its size. */
static size_t apply(enum craft craft, uint8_t *b, size_t size)
{
    uint8_t *c0 = central_of(b, size, 0), *c1 = central_of(b, size, 1), *l0 = local_of(b, size, 0),
            *l1 = local_of(b, size, 1), *end = b + size - 22;
    switch (craft) {
    case DUPLICATE: /* data/1, which is empty, becomes another data/0 */
        central_of(b, size, 2)[46 + 13] = '0';
        local_of(b, size, 2)[30 + 13] = '0';
        break;
    case OVERLAP: /* the quoted kernel of a bomb: entry 0 holds entry 1's header too */
        zip_put32(l0 + 18, zip_get32(l0 + 18) + 100);
        zip_put32(l0 + 22, zip_get32(l0 + 22) + 100);
        zip_put32(c0 + 20, zip_get32(c0 + 20) + 100);
        zip_put32(c0 + 24, zip_get32(c0 + 24) + 100);
        break;
    case SHARED:
        zip_put32(c1 + 42, zip_get32(c0 + 42));
        break;
    case METHOD:
        zip_put16(c1 + 10, 8);
        zip_put16(l1 + 8, 8);
        break;
    case ENCRYPTED:
        zip_put16(c1 + 8, 0x0801);
        zip_put16(l1 + 6, 0x0801);
        break;
    case LOCAL_NAME:
        l1[30 + 13] = '7';
        break;
    case LOCAL_SIZE:
        zip_put32(l1 + 22, 31);
        break;
    case WRONG_CRC:
        zip_put32(c1 + 16, 1);
        zip_put32(l1 + 14, 1);
        break;
    case SIZE_INTO_DIRECTORY:
        for (int field = 18; field <= 22; field += 4) {
            zip_put32(l1 + field, 0x7fffffff);
            zip_put32(c1 + field + 2, 0x7fffffff);
        }
        break;
    case OTHER_FOLDER:
        c1[46] = l1[30] = 'b';
        break;
    case NO_FOLDER:
        c0[46 + 7] = l0[30 + 7] = '_';
        break;
    case ZERO_IN_NAME:
        c1[46 + 9] = l1[30 + 9] = 0;
        break;
    case ATTRIBUTES:
        c1[38] = 1;
        break;
    case COMMENT:
        zip_put16(end + 20, 3);
        memcpy(end + 22, "abc", 4); /* and the 0, which is not counted */
        return size + 3;
    case COUNT_LESS:
    case COUNT_MORE:
    case COUNT_HUGE: {
        unsigned count = craft == COUNT_LESS ? PARTS - 1 : craft == COUNT_MORE ? PARTS + 1 : 65000;
        zip_put16(end + 8, count);
        zip_put16(end + 10, count);
        break;
    }
    case DIRECTORY_OFFSET:
        zip_put32(end + 16, zip_get32(end + 16) + 1);
        break;
    case SECOND_DISK:
        zip_put16(end + 4, 1);
        break;
    case GAP: { /* eight bytes between the last entry and the directory */
        uint8_t *directory = b + zip_get32(end + 16);
        memmove(directory + 8, directory, (size_t)(b + size - directory));
        memset(directory, 0, 8);
        zip_put32(end + 8 + 16, zip_get32(end + 8 + 16) + 8);
        return size + 8;
    }
    case FOREIGN_EXTRA:
        zip_put16(l1 + 30 + zip_get16(l1 + 26), 0x5455);
        break;
    case CRAFTS:
        break;
    }
    return size;
}

static void test_crafted(void)
{
    for (int craft = 0; craft < CRAFTS; craft++) {
        size_t size;
        uint8_t *good = own_archive(false, &size), *bytes = mem_array(size + 64, 1, "copy");
        memcpy(bytes, good, size);
        size = apply((enum craft)craft, bytes, size);
        CHECK_INT(read_bytes(bytes, size), -ERR_INPUT);
        CHECK_HAS(err_text(), craft_messages[craft]);
        CHECK_HAS(err_text(), "bytes.zip");
        mem_free(good);
        mem_free(bytes);
    }
}

/* ZIP64 numbers that lie. */
static void test_zip64_lies(void)
{
    static const struct {
        size_t offset; /* from the ZIP64 end record */
        uint64_t value;
        const char *message;
    } lies[] = {
        {24, 5,              "a damaged ZIP64 end record"            },
        {32, UINT64_MAX,     "a damaged ZIP64 end record"            },
        {40, UINT64_MAX,     "disagrees with the end record"         },
        {48, UINT64_MAX - 7, "disagrees with the end record"         },
        {4,  1000,           "a damaged ZIP64 end record"            },
        {64, 0,              "does not point at the record before it"},
        {64, UINT64_MAX,     "does not point at the record before it"},
    };
    uint8_t bytes[4096];
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        size_t size = torch_archive(bytes, FAR_AND_BIG);
        zip_put64(bytes + size - 98 + lies[i].offset, lies[i].value);
        CHECK_INT(read_bytes(bytes, size), -ERR_INPUT);
        CHECK_HAS(err_text(), lies[i].message);
    }
    /* The same lies where the classic fields give way to the ZIP64 ones. */
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        size_t size = torch_archive(bytes, FAR_AND_BIG);
        zip_put32(bytes + size - 22 + 12, UINT32_MAX);
        zip_put32(bytes + size - 22 + 16, UINT32_MAX);
        CHECK_INT(read_bytes(bytes, size), 0);
        zip_put64(bytes + size - 98 + lies[i].offset, lies[i].value);
        CHECK_INT(read_bytes(bytes, size), -ERR_INPUT);
    }
}

static void test_other_files(void)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } files[] = {
        {"",                          0,  "the file is empty"      },
        {"x",                         1,  "does not begin with PK" },
        {"PK\3\4",                    4,  "cut short"              },
        {"\x80\x02\x8a\x0al\xfc\x9c", 7,  "from before version 1.6"},
        {"\x80\x04\x95.",             4,  "a bare Python pickle"   },
        {"\x10\0\0\0\0\0\0\0{\"a\"",  12, "a safetensors file"     },
        {"\x89HDF\r\n\x1a\n",         8,  "an HDF5 file"           },
        {"\x1f\x8b\x08",              3,  "a gzip file"            },
        {"<!DOCTYPE html>",           15, "a failed download"      },
        {"version https://git-lfs",   23, "a Git LFS pointer"      },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        CHECK_INT(read_bytes((const uint8_t *)files[i].bytes, files[i].size), -ERR_INPUT);
        CHECK_HAS(err_text(), files[i].message);
    }
    CHECK_INT(read_all(place("absent.zip")), -ERR_IO);
    CHECK_HAS(err_text(), "absent.zip");
    CHECK_INT(read_all(test_folder()), -ERR_INPUT);
    CHECK_INT(mkfifo(place("fifo"), 0600), 0);
    CHECK_INT(read_all(place("fifo")), -ERR_INPUT); /* and does not wait */
}

/* More entries than 16 bits count. */
static void test_many_entries(void)
{
    struct zip_writer *writer;
    struct zip_file *zip;
    char name[32];
    CHECK_INT(zip_writer_open(&writer, place("many.zip"), "a"), 0);
    for (int i = 0; i < 65535; i++) {
        snprintf(name, sizeof name, "data/%d", i);
        CHECK_INT(zip_writer_add(writer, name, &i, sizeof i), 0);
    }
    CHECK_INT(zip_writer_publish(writer), 0);
    CHECK_INT(zip_open(&zip, place("many.zip"), 65534), -ERR_INPUT);
    CHECK_HAS(err_text(), "65535 entries; 1 to 65534 are read");
    CHECK_INT(zip_open(&zip, place("many.zip"), 65535), 0);
    int value = 0;
    CHECK_INT(zip_read(zip, zip_find(zip, "data/65534"), &value), 0);
    CHECK_INT(value, 65534);
    zip_close(zip);
}

struct sum {
    size_t pieces, bytes;
    int rc;
};

static int add_piece(void *context, const void *bytes, size_t size)
{
    struct sum *sum = context;
    (void)bytes;
    sum->pieces++;
    sum->bytes += size;
    return sum->rc;
}

static void test_stream(void)
{
    size_t size = 1000000;
    uint8_t *bytes = mem_array(size, 1, "bytes"), *copy = mem_array(size, 1, "bytes");
    struct zip_writer *writer;
    struct zip_file *zip;
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    CHECK_INT(zip_writer_open(&writer, place("long.zip"), "a"), 0);
    CHECK_INT(zip_writer_add(writer, "data/0", bytes, size), 0);
    CHECK_INT(zip_writer_publish(writer), 0);
    CHECK_INT(zip_open(&zip, place("long.zip"), 1), 0);
    struct sum sum = {0}, refuse = {.rc = -ERR_FAULT};
    CHECK_INT(zip_stream(zip, zip_entry(zip, 0), add_piece, &sum), 0);
    CHECK(sum.bytes == size && sum.pieces > 1);
    CHECK_INT(zip_stream(zip, zip_entry(zip, 0), add_piece, &refuse), -ERR_FAULT);
    CHECK_INT(refuse.pieces, 1);
    CHECK_INT(zip_read(zip, zip_entry(zip, 0), copy), 0);
    CHECK(!memcmp(copy, bytes, size));
    /* A byte that changes on the disk while the file is open. */
    FILE *file = fopen(place("long.zip"), "r+b");
    CHECK(file && !fseek(file, 700000, SEEK_SET) && fputc(bytes[699936] ^ 1, file) != EOF);
    if (file)
        fclose(file);
    zip_drop_cache(zip);
    CHECK_INT(zip_stream(zip, zip_entry(zip, 0), add_piece, &sum), -ERR_INPUT);
    CHECK_INT(zip_read(zip, zip_entry(zip, 0), copy), -ERR_INPUT);
    /* And one that becomes shorter. */
    CHECK_INT(truncate(place("long.zip"), 500000), 0);
    CHECK_INT(zip_read(zip, zip_entry(zip, 0), copy), -ERR_INPUT);
    CHECK_HAS(err_text(), "shorter while it was read");
    zip_close(zip);
    mem_free(bytes);
    mem_free(copy);
}

static void test_writer_errors(void)
{
    struct zip_writer *writer;
    char name[300];
    CHECK_INT(zip_writer_open(&writer, place("no/such/folder.zip"), "a"), -ERR_IO);
    CHECK(writer == NULL);
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    CHECK_INT(zip_writer_open(&writer, place("late.zip"), "a"), 0);
    CHECK_INT(zip_writer_add(writer, name, "", 0), -ERR_FAULT);
    zip_writer_discard(writer);
    CHECK(access(place("late.zip"), F_OK) != 0 && access(place(".late.zip.partial"), F_OK) != 0);
    zip_writer_discard(NULL);
    zip_close(NULL);
}

static const struct test tests[] = {
    {"round_trip",    test_round_trip   },
    {"torch_layout",  test_torch_layout },
    {"every_bit",     test_every_bit    },
    {"random_damage", test_random_damage},
    {"crafted",       test_crafted      },
    {"zip64_lies",    test_zip64_lies   },
    {"other_files",   test_other_files  },
    {"many_entries",  test_many_entries },
    {"stream",        test_stream       },
    {"writer_errors", test_writer_errors},
};
TEST_MAIN(tests)
