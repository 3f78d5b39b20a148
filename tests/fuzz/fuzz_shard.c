/* A shard: the head, the walk over the pages, every record, with and without its checksum. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/shard.h"

enum { AT_ENTRIES = 16 + 72 + 32, RECORDS_LIMIT = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static volatile unsigned sum;
    static int file = -1;
    struct shard *shard;
    char path[32];
    if (file < 0)
        file = memfd_create("shard", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (size < AT_ENTRIES + 8 || ftruncate(file, 0) ||
        pwrite(file, bytes, size, 0) != (ssize_t)size)
        return 0;
    /* As many as either head says, so that the walk goes on. */
    for (size_t head = 0; head < 2; head++) {
        uint64_t records;
        if (head * 4096 + AT_ENTRIES + 8 > size)
            break;
        memcpy(&records, bytes + head * 4096 + AT_ENTRIES, sizeof records);
        if (shard_open(&shard, path, records % RECORDS_LIMIT, size, 10))
            continue;
        for (uint32_t i = 0; i < records; i++) {
            struct record record;
            shard_will_need(shard, i);
            for (int check = 0; check < 2; check++)
                if (!shard_get(shard, i, check, &record))
                    sum += record.payload[0] + record.payload[record.payload_size - 1] +
                           (unsigned char)record.name[record.name_size - 1];
        }
        shard_close(shard);
    }
    return 0;
}
