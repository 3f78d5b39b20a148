/* The devkit's ground truth of five classes. */
#include "prep/devkit.c" // NOLINT: the parser is the module's own

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct devkit devkit = {.leaf_count = 5};
    devkit.answers = mem_array(size / 2 + 1, sizeof *devkit.answers, "ground truth");
    if (devkit.answers && !parse_answers(&devkit, bytes, size))
        for (size_t i = 0; i < devkit.answer_count; i++)
            if (devkit.answers[i] < 1 || devkit.answers[i] > 5)
                __builtin_trap();
    mem_free(devkit.answers);
    return 0;
}
