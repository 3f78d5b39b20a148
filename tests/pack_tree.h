/*
 * pack_tree.h - what the tests of prep pack share: a tree of drawn pictures, packing it in this
 * process or in a child that is ended half-way, and comparing whole data sets.
 */
#ifndef TESTS_PACK_TREE_H
#define TESTS_PACK_TREE_H

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include "common/decode.h"
#include "common/files.h"
#include "common/mem.h"
#include "prep/pack.h"
#include "tests/test.h"

/* ---- pictures ---- */

enum { CLASSES = 6, PER_CLASS = 10, PICTURES = CLASSES * PER_CLASS };

static const char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A path under the test's folder, valid to the end. */
static inline const char *at(const char *format, ...)
{
    static struct mem_arena paths;
    char path[FILES_PATH_SIZE], name[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments); // NOLINT: clang-tidy 14 does not see va_start
    va_end(arguments);
    CHECK_INT(files_join(path, test_folder(), name), 0);
    return mem_arena_text(&paths, path, strlen(path));
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    if (!file)
        return;
    CHECK_INT(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static inline void draw(struct picture *picture, int width, int height, int number)
{
    CHECK_INT(picture_resize(picture, width, height), 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            uint8_t *pixel = picture->rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
            pixel[0] = (uint8_t)(x * (number % 5 + 1) / 2 + y);
            pixel[1] = (uint8_t)((x / 16 + y / 16 + number) % 2 ? 200 : 40);
            pixel[2] = (uint8_t)(number * 37 + y / 3);
        }
}

/* SRC: CLASSES folders of PER_CLASS pictures, one of ten a PNG named .JPEG. */
static inline const char *make_tree(const char *name)
{
    struct picture picture = {0};
    struct decoder *decoder;
    uint8_t *bytes = NULL;
    size_t capacity = 0, size;
    CHECK_INT(decoder_open(&decoder), 0);
    for (int i = 0; i < PICTURES; i++) {
        CHECK_INT(files_make_folder(at("%s/c%d", name, i / PER_CLASS)), 0);
        draw(&picture, 300 + i % 7, 280 + i % 3, i);
        if (i % 10 == 3)
            CHECK_INT(decoder_write_png(&picture, &bytes, &capacity, &size), 0);
        else
            CHECK_INT(decoder_write_jpeg(decoder, &picture, 80, &bytes, &capacity, &size), 0);
        write_file(at("%s/c%d/%d.JPEG", name, i / PER_CLASS, i), bytes, size);
    }
    mem_free(bytes);
    picture_release(&picture);
    decoder_close(decoder);
    return at("%s", name);
}

/* ---- running ---- */

/* prep pack SRC OUT with OPTIONS, words parted by blanks. */
static inline int pack(const char *from, const char *to, const char *options)
{
    char text[1024], *words[40] = {"pack", (char *)from, (char *)to}, *rest = text;
    int count = 3;
    snprintf(text, sizeof text, "%s", options);
    for (char *word; count < 39 && (word = strtok_r(rest, " ", &rest));)
        words[count++] = word;
    return pack_main(count, words);
}

/* The same in a child process; the caller waits for it. */
static inline pid_t start(const char *from, const char *to, const char *options)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(err_exit_code(pack(from, to, options)));
    CHECK(child > 0);
    return child;
}

/* Its exit code, or the negative of the signal that ended it. */
static inline int end(pid_t child)
{
    int status = 0;
    CHECK_INT(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static inline size_t count_names(const char *folder)
{
    struct files_list list;
    size_t count = 0;
    if (!files_list(folder, &list)) {
        count = list.count;
        files_list_release(&list);
    }
    return count;
}

static inline bool exists(const char *folder, const char *name)
{
    char path[FILES_PATH_SIZE];
    enum files_type type = FILES_NOTHING;
    CHECK_INT(files_join(path, folder, name), 0);
    CHECK_INT(files_type(path, &type, NULL), 0);
    return type != FILES_NOTHING;
}

static inline char *read_text(const char *folder, const char *name)
{
    char path[FILES_PATH_SIZE];
    struct files_buffer buffer = {0};
    CHECK_INT(files_join(path, folder, name), 0);
    CHECK_INT(files_read_into(path, (size_t)1 << 30, &buffer), 0);
    return (char *)buffer.bytes;
}

static inline void check_equal_file(const char *a, const char *b, const char *name)
{
    char path[2][FILES_PATH_SIZE];
    uint8_t *bytes[2] = {NULL, NULL};
    size_t size[2] = {0, 0};
    files_join(path[0], a, name);
    files_join(path[1], b, name);
    for (int i = 0; i < 2; i++)
        CHECK_INT(files_read(path[i], (size_t)1 << 30, &bytes[i], &size[i]), 0);
    bool equal = bytes[0] && bytes[1] && size[0] == size[1] && !memcmp(bytes[0], bytes[1], size[0]);
    if (!equal)
        printf("%s and %s differ\n", path[0], path[1]);
    CHECK(equal);
    mem_free(bytes[0]);
    mem_free(bytes[1]);
}

/* Two folders hold the same names and bytes. */
static inline void check_equal(const char *a, const char *b)
{
    struct files_list names[2];
    CHECK_INT(files_list(a, &names[0]), 0);
    CHECK_INT(files_list(b, &names[1]), 0);
    CHECK_INT(names[1].count, names[0].count);
    for (size_t i = 0; i < names[0].count && i < names[1].count; i++) {
        CHECK_TEXT(names[1].names[i], names[0].names[i]);
        check_equal_file(a, b, names[0].names[i]);
    }
    files_list_release(&names[0]);
    files_list_release(&names[1]);
}

/* The undisturbed run that others are compared with; 14 shards or so. */
static const char options[] = "--shard-size 1MiB --jobs 2";

static inline const char *tree(void)
{
    static char path[FILES_PATH_SIZE];
    if (!path[0])
        snprintf(path, sizeof path, "%s", make_tree("tree"));
    return path;
}

static inline const char *reference(void)
{
    static char path[FILES_PATH_SIZE];
    if (!path[0]) {
        snprintf(path, sizeof path, "%s", at("reference.lmdb"));
        CHECK_INT(pack(tree(), path, options), 0);
    }
    return path;
}

/* ---- interruptions ---- */

/* Let a child pack to TO until the folder has NAMES names, end it with SIGNAL; its exit code. */
static inline int interrupt(const char *from, const char *to, const char *settings, size_t names,
                            int number)
{
    pid_t child = start(from, to, settings);
    for (;;) {
        int status;
        pid_t ended = waitpid(child, &status, WNOHANG);
        CHECK(ended >= 0);
        if (ended)
            return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
        if (count_names(to) >= names) {
            kill(child, number);
            return end(child);
        }
        usleep(300);
    }
}

#endif
