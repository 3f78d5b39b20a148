#include "train/views.h"

#include <string.h>

#include "common/err.h"
#include "train/pickle.h"

bool views_count(enum pth_type type, int rank, const int64_t *shape, size_t *out)
{
    size_t bytes = pickle_element_size(type);
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || !mem_multiply(bytes, (size_t)shape[i], &bytes))
            return false;
    *out = bytes / pickle_element_size(type);
    return true;
}

size_t views_bytes(const struct pth_value *tensor)
{
    return tensor->tensor.count * pickle_element_size(tensor->tensor.type);
}

/* The view's elements lie in a storage of COUNT elements; sets its element count and whether it is
 * contiguous. */
static bool check_view(struct view *view, uint64_t count)
{
    const int64_t *shape = view->value.tensor.shape;
    uint64_t last = view->offset, step = 1, part;
    if (!views_count(view->value.tensor.type, view->value.tensor.rank, shape,
                     &view->value.tensor.count))
        return false;
    view->contiguous = true;
    if (view->value.tensor.count == 0)
        return view->offset <= count;
    for (int i = view->value.tensor.rank - 1; i >= 0; i--) {
        if (__builtin_mul_overflow((uint64_t)shape[i] - 1, (uint64_t)view->stride[i], &part) ||
            __builtin_add_overflow(last, part, &last))
            return false;
        if (shape[i] > 1 && (uint64_t)view->stride[i] != step)
            view->contiguous = false;
        step *= (uint64_t)shape[i];
    }
    return last < count;
}

int views_make(struct views *views, size_t index, uint64_t offset, int rank, const int64_t *shape,
               const int64_t *stride, struct pth_value **out)
{
    const struct storage *storage = &views->storages[index];
    struct view *view = mem_arena_alloc(views->arena, sizeof *view, "tensor");
    if (!view)
        return -ERR_MEMORY;
    view->value.kind = PTH_TENSOR;
    view->value.tensor.type = storage->type;
    view->value.tensor.rank = rank;
    memcpy(view->value.tensor.shape, shape, (size_t)rank * sizeof *shape);
    memcpy(view->stride, stride, (size_t)rank * sizeof *stride);
    view->storage = index;
    view->offset = offset;
    if (!check_view(view, storage->count))
        return err_set(ERR_INPUT, "a tensor reaches outside its storage of %llu elements",
                       (unsigned long long)storage->count);
    view->next = views->first;
    views->first = view;
    *out = &view->value;
    return 0;
}

/* OUT = the elements of a view that is not contiguous, in the order of its shape. */
static void gather(const struct view *view, const uint8_t *bytes, uint8_t *out)
{
    size_t size = pickle_element_size(view->value.tensor.type);
    int64_t at[8] = {0};
    uint64_t from = view->offset;
    for (size_t i = 0; i < view->value.tensor.count; i++) {
        memcpy(out + i * size, bytes + from * size, size);
        for (int k = view->value.tensor.rank - 1; k >= 0; k--) {
            from += (uint64_t)view->stride[k];
            if (++at[k] < view->value.tensor.shape[k])
                break;
            from -= (uint64_t)view->stride[k] * (uint64_t)at[k];
            at[k] = 0;
        }
    }
}

/* Give a view its data: inside the storage where it is contiguous, else a copy. */
static int load_view(struct views *views, struct view *view, uint64_t file_bytes,
                     const char *quoted)
{
    const struct storage *storage = &views->storages[view->storage];
    size_t bytes = views_bytes(&view->value);
    if (view->contiguous) {
        view->value.tensor.data =
            storage->bytes + view->offset * pickle_element_size(storage->type);
        return 0;
    }
    if (bytes > PTH_COPY_LIMIT * file_bytes - views->copied)
        return err_set(ERR_INPUT,
                       "%s: its tensors are views of one another that would take more than %d "
                       "times the file's size",
                       quoted, PTH_COPY_LIMIT);
    views->copied += bytes;
    uint8_t *copy = mem_arena_alloc(views->arena, bytes, "tensor");
    if (!copy)
        return -ERR_MEMORY;
    gather(view, storage->bytes, copy);
    view->value.tensor.data = copy;
    return 0;
}

int views_load(struct views *views, uint64_t file_bytes, const char *quoted)
{
    int rc = 0;
    for (struct view *view = views->first; view && !rc; view = view->next)
        rc = load_view(views, view, file_bytes, quoted);
    return rc;
}
