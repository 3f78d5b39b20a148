/* A JPEG or PNG file, with limits that keep one picture short, and a window of it. */
#include <stdlib.h>

#include "tests/window.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct decode_limits limits = {
        .pixels = 1 << 18, .scans = 20, .memory = (size_t)64 << 20};
    static struct decoder *decoder;
    static struct picture picture;
    struct decode_info info;
    int width = 0, height = 0;
    if (!decoder && decoder_open(&decoder))
        return 0;
    int sized = decoder_size(decoder, bytes, size, &width, &height);
    if (!decoder_read(decoder, bytes, size, &limits, &picture, &info)) {
        if (info.verdict == DECODE_BAD || (int64_t)picture.width * picture.height > limits.pixels)
            abort();
        if (sized || width != picture.width || height != picture.height)
            abort();
        if (!window_same(decoder, bytes, size, &limits, &picture, bytes[size - 1]))
            abort();
    }
    return 0;
}
