/*
 * test.h - what the test programs share: checks that count and print, a table of cases, temporary
 * folders. A program runs all its cases, or those named on the command line. Cannot run = exit 77
 * (CTest: skipped).
 */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"

struct test {
    const char *name;
    void (*function)(void);
};

static int test_failures;
static int test_skips;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: CHECK(%s) failed; last error: %s\n", __FILE__, __LINE__, #condition,    \
                   err_text());                                                                    \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

#define CHECK_INT(actual, expected)                                                                \
    do {                                                                                           \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected);                \
        if (actual_ != expected_) {                                                                \
            printf("%s:%d: %s is %lld, not %lld; last error: %s\n", __FILE__, __LINE__, #actual,   \
                   actual_, expected_, err_text());                                                \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(actual, expected)                                                               \
    do {                                                                                           \
        const char *actual_ = (actual), *expected_ = (expected);                                   \
        if (!actual_ || strcmp(actual_, expected_) != 0) {                                         \
            printf("%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #actual,               \
                   actual_ ? actual_ : "(null)", expected_);                                       \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

/* TEXT (often err_text()) holds PART. */
#define CHECK_HAS(text, part)                                                                      \
    do {                                                                                           \
        const char *text_ = (text), *part_ = (part);                                               \
        if (!text_ || !strstr(text_, part_)) {                                                     \
            printf("%s:%d: \"%s\" does not hold \"%s\"\n", __FILE__, __LINE__,                     \
                   text_ ? text_ : "(null)", part_);                                               \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

/* |actual - expected| <= tolerance * max(1, |expected|); a NaN fails. */
#define CHECK_CLOSE(actual, expected, tolerance)                                                   \
    do {                                                                                           \
        double actual_ = (actual), expected_ = (expected);                                         \
        if (!(fabs(actual_ - expected_) <= (tolerance)*fmax(1.0, fabs(expected_)))) {              \
            printf("%s:%d: %s is %.9g, not %.9g\n", __FILE__, __LINE__, #actual, actual_,          \
                   expected_);                                                                     \
            test_failures++;                                                                       \
        }                                                                                          \
    } while (0)

/* Leave this case as skipped, saying why. */
#define TEST_SKIP(...)                                                                             \
    do {                                                                                           \
        printf("skipped: " __VA_ARGS__);                                                           \
        printf("\n");                                                                              \
        test_skips++;                                                                              \
        return;                                                                                    \
    } while (0)

/* A fresh empty folder under $TMPDIR; the caller may leave it: test_main removes it. */
static inline const char *test_folder(void)
{
    static char path[4096];
    static bool made;
    if (!made) {
        const char *base = getenv("TMPDIR");
        snprintf(path, sizeof path, "%s/imagenet-test-XXXXXX", base && *base ? base : "/tmp");
        if (!mkdtemp(path)) {
            perror(path);
            exit(1);
        }
        made = true;
    }
    return path;
}

static inline void test_remove_folder(void)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -rf -- '%s'", test_folder());
    if (system(command) != 0)
        printf("could not remove %s\n", test_folder());
}

/* Is there something at TEST_DATA/NAME? */
static inline bool test_data_exists(const char *name)
{
    char path[4096];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    return stat(path, &status) == 0;
}

static inline int test_main(int argc, char **argv, const struct test *tests, size_t count)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    size_t run = 0;
    for (size_t i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strcmp(argv[k], tests[i].name) == 0;
        if (!wanted)
            continue;
        int before = test_failures;
        tests[i].function();
        printf("%s %s\n", test_failures == before ? "ok  " : "FAIL", tests[i].name);
        run++;
    }
    test_remove_folder();
    printf("%zu cases, %d failures, %d skipped\n", run, test_failures, test_skips);
    if (test_failures || !run)
        return 1;
    return test_skips == (int)run ? 77 : 0;
}

#define TEST_MAIN(tests)                                                                           \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_main(argc, argv, tests, sizeof(tests) / sizeof *(tests));                      \
    }

#endif
