#include "common/digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/err.h"
#include "common/mem.h"

struct digest {
    XXH3_state_t *state;
};

uint64_t digest64(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

int digest_open(struct digest **out)
{
    struct digest *digest = mem_array(1, sizeof *digest, "digest");
    *out = digest;
    if (!digest)
        return -ERR_MEMORY;
    digest->state = XXH3_createState();
    if (!digest->state) {
        digest_close(digest);
        *out = NULL;
        return err_set(ERR_MEMORY, "no memory for a digest");
    }
    digest_reset(digest);
    return 0;
}

void digest_reset(struct digest *digest)
{
    /* One state serves both lengths: XXH3's streams differ only at their end. */
    XXH3_128bits_reset(digest->state);
}

void digest_add(struct digest *digest, const void *bytes, size_t size)
{
    XXH3_128bits_update(digest->state, bytes, size);
}

uint64_t digest_value64(const struct digest *digest)
{
    return XXH3_64bits_digest(digest->state);
}

void digest_value128(const struct digest *digest, char out[33])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(digest->state));
    for (int i = 0; i < 16; i++)
        snprintf(out + (size_t)i * 2, 3, "%02x", canonical.digest[i]);
}

void digest_close(struct digest *digest)
{
    if (!digest)
        return;
    XXH3_freeState(digest->state);
    mem_free(digest);
}

/* With FILE open and a buffer: the loop of digest_file. */
static int add_file(struct digest *digest, int file, const char *path, uint8_t *buffer, size_t room,
                    uint64_t *size)
{
    for (*size = 0;;) {
        ssize_t got = read(file, buffer, room);
        if (got < 0)
            return err_errno("cannot read %s", path);
        if (got == 0)
            return 0;
        digest_add(digest, buffer, (size_t)got);
        *size += (uint64_t)got;
    }
}

int digest_file(const char *path, char out[33], uint64_t *size)
{
    enum { ROOM = 128 << 10 }; /* stays in a core's cache between the copy and the sum */
    struct digest *digest = NULL;
    uint8_t *buffer = NULL;
    int rc = -ERR_MEMORY, file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return err_errno("cannot open %s", path);
    if ((buffer = mem_aligned(ROOM, "file buffer")) && !(rc = digest_open(&digest)) && digest &&
        !(rc = add_file(digest, file, path, buffer, ROOM, size)))
        digest_value128(digest, out);
    digest_close(digest);
    mem_free(buffer);
    close(file);
    return rc;
}

char *digest_library(char out[64])
{
    unsigned version = XXH_versionNumber();
    snprintf(out, 64, "xxHash %u.%u.%u", version / 10000, version / 100 % 100, version % 100);
    return out;
}
