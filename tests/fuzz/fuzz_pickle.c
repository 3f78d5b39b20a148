/* The pickle inside a .pth file, without an archive around it. The first bit: a file of another
 * program, or ours. */
#include "common/err.h"
#include "common/mem.h"
#include "train/unpickle.h"

static int any_storage(void *context, const char *key, enum pth_type type, uint64_t count,
                       size_t *index)
{
    (void)context, (void)key, (void)type, (void)count;
    *index = 0;
    return 0;
}

static int any_tensor(void *context, size_t index, uint64_t offset, int rank, const int64_t *shape,
                      const int64_t *stride, struct pth_value **out)
{
    static const int64_t empty[8];
    static const float none;
    (void)index, (void)offset, (void)shape, (void)stride;
    *out = pth_tensor(context, PTH_F32, rank, empty, &none);
    return *out ? 0 : -ERR_MEMORY;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct mem_arena arena = {0};
    struct pth_value *root;
    const struct unpickle_host host = {.context = &arena,
                                       .storage = any_storage,
                                       .tensor = any_tensor,
                                       .foreign = size && (bytes[0] & 1)};
    if (size)
        unpickle(bytes + 1, size - 1, &arena, &host, &root);
    mem_arena_release(&arena);
    return 0;
}
