/*
 * Hostile and damaged files, made by tests/tools/hostile.py, each with the verdict that it must
 * get: an error of its kind that names it, never a crash, in little memory. Files that stand as a
 * base are also cut at every byte, and every bit of them is turned. usage: test_hostile FOLDER (by
 * tests/test_hostile_files.sh)
 */
#include "tests/test.h"

#include <sys/resource.h>

#include "tests/read_any.h"

enum { SECONDS = 20, MEMORY_MIB = 700 };

static const struct {
    const char *name;
    int (*read)(const char *path);
} kinds[] = {
    {"weights",  read_weights },
    {"base",     read_weights },
    {"stream",   read_weights },
    {"config",   read_config  },
    {"picture",  read_picture },
    {"manifest", read_manifest},
};

static int read_as(const char *kind, const char *path)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, kind))
            return kinds[i].read(path);
    return err_set(ERR_FAULT, "no kind %s", kind);
}

/* Is RC the verdict WANTED? A refusal says the file's name, but for pictures, whose callers do. */
static bool fits(int rc, const char *kind, const char *wanted, const char *path, const char *part)
{
    bool refused = rc == -ERR_INPUT || rc == -ERR_USAGE || rc == -ERR_MISMATCH;
    if (!strcmp(wanted, "ok"))
        return rc == 0;
    if (!strcmp(wanted, "any"))
        return rc == 0 || refused;
    if (strcmp(wanted, "refused") ? rc != -atoi(wanted) : !refused)
        return false;
    return strstr(err_text(), part) && (!strcmp(kind, "picture") || strstr(err_text(), path));
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(bytes, 1, size, file) == size && !fclose(file));
}

/* Every cut and every turned bit of PATH. STRICT: each must be refused; else nothing must crash. */
static void damage(const char *path, bool strict)
{
    char other[FILES_PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    CHECK_INT(files_read(path, 1 << 20, &bytes, &size), 0);
    CHECK_INT(files_join(other, test_folder(), "damaged"), 0);
    for (size_t cut = 0; cut < size; cut++) {
        write_bytes(other, bytes, cut);
        int rc = read_weights(other);
        if (rc != -ERR_INPUT) {
            printf("%s cut at %zu: %d %s\n", path, cut, rc, rc ? err_text() : "");
            test_failures++;
        }
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        write_bytes(other, bytes, size);
        int rc = read_weights(other);
        if (strict ? rc != -ERR_INPUT : rc && rc != -ERR_INPUT && rc != -ERR_MEMORY) {
            printf("%s with bit %zu turned: %d %s\n", path, bit, rc, rc ? err_text() : "");
            test_failures++;
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    mem_free(bytes);
}

static void run_row(const char *folder, const char *kind, const char *name, const char *verdict,
                    const char *part)
{
    char path[FILES_PATH_SIZE];
    CHECK_INT(files_join(path, folder, name), 0);
    alarm(SECONDS);
    int rc = read_as(kind, path);
    if (!fits(rc, kind, verdict, path, part)) {
        printf("%s: %s is not %s%s%s: %d %s\n", kind, name, verdict, *part ? " with " : "", part,
               rc, rc ? err_text() : "");
        test_failures++;
    }
    alarm(0);
}

static int run_list(const char *folder)
{
    char path[FILES_PATH_SIZE], line[1024];
    struct rusage usage;
    int count = 0;
    CHECK_INT(files_join(path, folder, "verdicts.tsv"), 0);
    FILE *list = fopen(path, "r");
    while (list && fgets(line, sizeof line, list)) {
        char *rest = line, *kind = strsep(&rest, "\t"), *name = strsep(&rest, "\t"),
             *verdict = strsep(&rest, "\t"), *part = strsep(&rest, "\n");
        if (!part)
            continue;
        run_row(folder, kind, name, verdict, part);
        count++;
        if (!strcmp(kind, "base") || !strcmp(kind, "stream")) {
            char base[FILES_PATH_SIZE];
            CHECK_INT(files_join(base, folder, name), 0);
            /* A zip's every byte is under a CRC or a rule; the other formats have none for their
             * data. */
            damage(base, strstr(name, ".pth") && !strcmp(kind, "base"));
        }
    }
    if (list)
        fclose(list);
    getrusage(RUSAGE_SELF, &usage);
    printf("%d files, %d failures, %ld MiB at most\n", count, test_failures, usage.ru_maxrss >> 10);
    CHECK(count >= 300);
#ifndef __SANITIZE_ADDRESS__
    CHECK(usage.ru_maxrss >> 10 < MEMORY_MIB);
#endif
    test_remove_folder();
    return test_failures ? 1 : 0;
}

int main(int argc, char **argv)
{
    if (argc == 2)
        return run_list(argv[1]);
    printf("skipped: run by tests/test_hostile_files.sh\n");
    return 77;
}
