#include "prep/estimate.h"

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/stop.h"

enum {
    SAMPLE_RGB = 512, /* pictures */
    SAMPLE_JPEG = 64,
    GUESS_SIDE = 256,      /* of a picture, when not one of the sample can be read */
    TREE_BYTES = 64 << 10, /* of a shard, beside its records */
};

/* Payload bytes of one picture; 0 when it is bad. */
static int payload_size(struct converter *converter, const struct convert_settings *settings,
                        const struct files_buffer *input, struct converted *converted,
                        uint64_t *size)
{
    if (settings->encoding == RECORD_RGB) {
        *size = converter_rgb_size(converter, input->bytes, input->size);
        return 0;
    }
    int rc = converter_run(converter, input->bytes, input->size, converted);
    *size = converted->info.verdict == DECODE_BAD ? 0 : converted->size;
    return rc;
}

static int measure(const struct source *source, const struct plan *plan,
                   struct converter *converter, const struct convert_settings *settings,
                   uint64_t *bytes)
{
    uint32_t sample = settings->encoding == RECORD_RGB ? SAMPLE_RGB : SAMPLE_JPEG;
    uint64_t sum = 0, counted = 0, size;
    struct files_buffer input = {0};
    struct converted converted = {0};
    char name[RECORD_NAME_LIMIT + 1];
    int rc = 0;
    for (uint32_t i = 0; i < sample && i < plan->files; i++) {
        uint32_t file = plan->order[i];
        if (source_file(source, file)->size > SOURCE_FILE_LIMIT)
            continue;
        if ((rc = source_read(source, file, &input)) ||
            (rc = payload_size(converter, settings, &input, &converted, &size)))
            break;
        if (size) {
            sum += shard_record_size(source_name(source, file, name), size);
            counted++;
        }
        if (stop_requested()) {
            rc = err_set(ERR_STOPPED, "stopped before the first shard; the same command goes on");
            break;
        }
        if (log_progress_due(false))
            log_progress("measuring a sample: %u of %u pictures", i + 1, sample);
    }
    log_progress_end();
    *bytes = counted ? sum / counted : shard_record_size(64, GUESS_SIDE * GUESS_SIDE * 3);
    mem_free(input.bytes);
    converted_trim(&converted, 0);
    return rc;
}

int estimate_record(const struct source *source, const struct plan *plan,
                    const struct convert_settings *settings, uint64_t *bytes)
{
    struct converter *converter;
    int rc = converter_open(&converter, settings);
    if (rc)
        return rc;
    rc = measure(source, plan, converter, settings, bytes);
    converter_close(converter);
    return rc;
}

uint64_t estimate_shard(uint64_t records, uint64_t record_bytes)
{
    return records * record_bytes + TREE_BYTES;
}
