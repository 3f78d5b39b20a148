/* manifest.json of a data set. Its own digest is put right first, or nothing would get past it. */
#include "common/manifest.c" // NOLINT: the digest's functions are the module's own

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct manifest manifest;
    char digest[DIGEST_DIGITS + 1];
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, bytes, size);
    text[size] = 0;
    size_t at = find_digest(text);
    if (at && !digest_text(text, size, at, digest))
        memcpy(text + at, digest, DIGEST_DIGITS);
    if (!manifest_read(&manifest, "fuzz", text, size)) {
        /* What is accepted adds up. */
        uint64_t records = 0;
        for (size_t i = 0; i < manifest.shard_count; i++)
            records += manifest.shards[i].records;
        if (records != manifest.images || !manifest.class_count)
            abort();
    }
    manifest_release(&manifest);
    free(text);
    return 0;
}
