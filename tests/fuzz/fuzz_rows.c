/* What the child that reads meta.mat sends: rows of a stranger. ROW bytes of input make one row, so
 * that the interesting fields are near one another. */
#include "prep/devkit.c" // NOLINT: the checks are the module's own

enum { ROW = 28 };

static void fill(struct meta_mat_row *row, const uint8_t *in)
{
    memset(row, in[27], sizeof *row);
    row->id = in[0] | (uint32_t)in[1] << 8 | (in[2] == 0xff ? 0xff0000u : 0);
    row->num_children = in[3];
    row->children = in[4];
    row->wnid_length = in[5] == 0xff ? UINT32_MAX : in[5];
    row->words_length = in[6] == 0xff ? UINT32_MAX : in[6] | (uint32_t)in[7] << 8;
    memcpy(row->wnid, in + 8, 12);
    memcpy(row->words, in + 20, 7);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct devkit *devkit = mem_array(1, sizeof *devkit, "devkit");
    size_t count = size / ROW;
    struct meta_mat_row *rows = mem_array(count + 1, sizeof *rows, "rows");
    for (size_t i = 0; rows && i < count; i++)
        fill(&rows[i], bytes + i * ROW);
    if (devkit && rows && count) {
        devkit->count = count;
        if (!take_rows(devkit, rows))
            for (size_t rank = 0; rank < devkit_class_count(devkit); rank++) {
                const struct devkit_class *class = devkit_ranked(devkit, rank);
                if (devkit_find(devkit, class->wnid) != class ||
                    devkit_class(devkit, class->id) != class || strlen(class->words) > 1000)
                    __builtin_trap();
            }
    }
    mem_free(rows);
    devkit_close(devkit);
    return 0;
}
