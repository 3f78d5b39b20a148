/* TensorBoard's files: their framing, checksums and messages, byte by byte; and the writer of
 * Protocol Buffers under them. */
#include "tests/test.h"

#include "common/files.h"
#include "common/mem.h"
#include "train/events.h"
#include "train/wire.h"

static void fields_are_as_the_format_says(void)
{
    struct wire outer = {0}, inner = {0};
    wire_int(&inner, 1, 150);
    wire_int(&outer, 2, -1);
    wire_message(&outer, 3, &inner);
    wire_float(&outer, 4, 1.0F);
    wire_double(&outer, 16, 1.0);
    wire_text(&outer, 5, "hi");
    static const uint8_t wanted[] = {0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0x01, 0x1a, 0x03, 0x08, 0x96, 0x01, 0x25, 0,
                                     0,    0x80, 0x3f, 0x81, 0x01, 0,    0,    0,    0,
                                     0,    0,    0xf0, 0x3f, 0x2a, 0x02, 'h',  'i'};
    CHECK_INT(outer.size, sizeof wanted);
    CHECK(outer.size == sizeof wanted && !memcmp(outer.bytes, wanted, sizeof wanted));
    CHECK_INT(inner.size, 0);
    CHECK_INT(wire_check(&outer), 0);
    CHECK_INT(wire_head_size(5, 2), 2);
    CHECK_INT(wire_head_size(16, 300), 4);
    wire_release(&outer);
    wire_release(&inner);
}

static void checksums_are_masked_crc32c(void)
{
    /* CRC-32C of "123456789" is e3069283 (RFC 3720's polynomial); masked by hand. */
    uint32_t crc = 0xe3069283;
    CHECK_INT(events_crc("123456789", 9), (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8));
}

/* The records of the one events file in FOLDER, checked; returns how many, the last one's message
 * in *OUT. */
static int read_records(const char *folder, uint8_t **file, const uint8_t **last, size_t *size)
{
    struct files_list list;
    char path[FILES_PATH_SIZE];
    size_t all = 0, at = 0;
    int count = 0;
    CHECK_INT(files_list(folder, &list), 0);
    CHECK_INT(list.count, 1);
    CHECK(!strncmp(list.names[0], "events.out.tfevents.", 20));
    CHECK_INT(files_join(path, folder, list.names[0]), 0);
    CHECK_INT(files_read(path, 1 << 20, file, &all), 0);
    files_list_release(&list);
    while (at + 12 <= all) {
        uint64_t length;
        uint32_t head, tail;
        memcpy(&length, *file + at, 8);
        memcpy(&head, *file + at + 8, 4);
        CHECK_INT(head, events_crc(*file + at, 8));
        CHECK(length <= all - at - 16);
        *last = *file + at + 12;
        *size = (size_t)length;
        memcpy(&tail, *last + length, 4);
        CHECK_INT(tail, events_crc(*last, *size));
        at += 16 + length;
        count++;
    }
    CHECK_INT(at, all);
    return count;
}

static void a_file_is_records(void)
{
    char folder[FILES_PATH_SIZE];
    const uint8_t *last = NULL;
    uint8_t *file = NULL;
    struct events *events;
    size_t size = 0;
    CHECK_INT(files_join(folder, test_folder(), "runs"), 0);
    CHECK_INT(files_make_folder(folder), 0);
    CHECK_INT(events_open(&events, folder, 49), 0);
    events_scalar(events, "test loss", 300, 0.5);
    CHECK_INT(read_records(folder, &file, &last, &size), 3); /* version, restart, scalar */
    static const uint8_t tail[] = {0x10, 0xac, 0x02, 0x2a, 0x12, 0x0a, 0x10, 0x0a,
                                   0x09, 't',  'e',  's',  't',  ' ',  'l',  'o',
                                   's',  's',  0x15, 0,    0,    0,    0x3f};
    CHECK_INT(size, 9 + sizeof tail); /* behind the time */
    CHECK(size == 9 + sizeof tail && !memcmp(last + 9, tail, sizeof tail));
    mem_free(file);
    events_text(events, "settings", 0, "| a | b |");
    events_picture(events, "p", 0, 1, 1, "png", 3);
    CHECK_INT(read_records(folder, &file, &last, &size), 5);
    mem_free(file);
    events_close(events);
}

static void a_file_that_cannot_be_made_is_a_warning(void)
{
    struct events *events;
    CHECK_INT(events_open(&events, "/proc/nowhere", 0), 0);
    events_scalar(events, "x", 1, 2);
    events_close(events);
    events_close(NULL);
    events_scalar(NULL, "x", 1, 2);
}

static const struct test tests[] = {
    {"fields_are_as_the_format_says",           fields_are_as_the_format_says          },
    {"checksums_are_masked_crc32c",             checksums_are_masked_crc32c            },
    {"a_file_is_records",                       a_file_is_records                      },
    {"a_file_that_cannot_be_made_is_a_warning", a_file_that_cannot_be_made_is_a_warning},
};

TEST_MAIN(tests)
