#include "common/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mem.h"

enum {
    FORMAT_VERSION = 1,
    META_PAGES = 2,
    META_SIZE = PAGES_HEADER_SIZE + 136,
    SMALLEST_PAGE = 256,
    LARGEST_PAGE = 32768,
    DEEPEST_TREE = 16,

    /* Flags of a page. */
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_META = 8,

    /* A node: 8 bytes, the key, the data. */
    NODE_HEADER_SIZE = 8,
    NODE_LARGE = 1, /* flag: the data is the number of the value's first page */
    KEY_SIZE = 4,
    PAGE_NUMBER_SIZE = 8
};

static const uint32_t meta_magic = 0xBEEFC0DE;

/* What the newer meta page says of the file and its main tree. */
struct meta {
    uint64_t page_size, last_page, transaction;
    uint64_t branch_pages, leaf_pages, large_pages, entries, root;
    uint64_t depth, flags;
};

struct walk {
    int file;
    const char *path;
    struct meta meta;
    uint8_t *used;   /* one bit a page: it was met */
    uint8_t *levels; /* a page for each level of the tree, leaves first */
    struct pages_value *values;
    uint64_t records, found;
    uint64_t branch_pages, leaf_pages, large_pages;
};

uint64_t pages_of_value(uint64_t size, uint64_t page_size)
{
    return (PAGES_HEADER_SIZE + size + page_size - 1) / page_size;
}

uint64_t pages_leaf_limit(uint64_t page_size)
{
    /* LMDB wants room for two nodes in a page, each with its 2-byte offset. */
    uint64_t node = ((page_size - PAGES_HEADER_SIZE) / 2 & ~(uint64_t)1) - 2;
    return node - NODE_HEADER_SIZE - KEY_SIZE;
}

/* ---- reading ---- */

static uint64_t load(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

static uint64_t load_key(const uint8_t *at)
{
    return (uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3];
}

static int read_at(int file, const char *path, uint64_t offset, uint8_t *out, size_t size)
{
    while (size) {
        ssize_t got = pread(file, out, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno("cannot read %s at byte %llu", path, (unsigned long long)offset);
        if (got == 0)
            return err_set(ERR_INPUT, "%s: damaged: it ends at byte %llu, inside a page", path,
                           (unsigned long long)offset);
        out += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

static int damaged(const struct walk *walk, uint64_t page, const char *what)
{
    return err_set(ERR_INPUT, "%s: damaged: page %llu: %s", walk->path, (unsigned long long)page,
                   what);
}

/* ---- the two meta pages ---- */

static int read_meta(struct walk *walk, uint64_t page, uint64_t offset, struct meta *out)
{
    uint8_t bytes[META_SIZE];
    int rc = read_at(walk->file, walk->path, offset, bytes, sizeof bytes);
    if (rc)
        return rc;
    const uint8_t *meta = bytes + PAGES_HEADER_SIZE, *tree = meta + 72;
    if (load(bytes, 8) != page || load(bytes + 10, 2) != PAGE_META || load(meta, 4) != meta_magic)
        return damaged(walk, page, "this is not the head of an LMDB file");
    if (load(meta + 4, 4) != FORMAT_VERSION)
        return err_set(ERR_MISMATCH, "%s: LMDB data format %llu, but only %d can be read",
                       walk->path, (unsigned long long)load(meta + 4, 4), FORMAT_VERSION);
    *out = (struct meta){
        .page_size = load(meta + 24, 4),
        .flags = load(tree + 4, 2),
        .depth = load(tree + 6, 2),
        .branch_pages = load(tree + 8, 8),
        .leaf_pages = load(tree + 16, 8),
        .large_pages = load(tree + 24, 8),
        .entries = load(tree + 32, 8),
        .root = load(tree + 40, 8),
        .last_page = load(meta + 120, 8),
        .transaction = load(meta + 128, 8),
    };
    return 0;
}

/* Read both meta pages, keep the newer one as LMDB does, and hold the file's size against it. */
static int read_metas(struct walk *walk, uint64_t bytes)
{
    struct meta metas[META_PAGES] = {{0}};
    int rc = read_meta(walk, 0, 0, &metas[0]);
    if (rc)
        return rc;
    uint64_t page_size = metas[0].page_size;
    if (page_size < SMALLEST_PAGE || page_size > LARGEST_PAGE || (page_size & (page_size - 1)))
        return damaged(walk, 0, "the page size is not possible");
    if ((rc = read_meta(walk, 1, page_size, &metas[1])))
        return rc;
    walk->meta = metas[metas[0].transaction < metas[1].transaction];
    if (metas[0].page_size != metas[1].page_size)
        return damaged(walk, 1, "the two heads differ in the page size");
    if (bytes % page_size || bytes / page_size - 1 != walk->meta.last_page)
        return err_set(ERR_INPUT,
                       "%s: damaged: it is %llu bytes long, but its head says %llu pages of %llu "
                       "bytes",
                       walk->path, (unsigned long long)bytes,
                       (unsigned long long)walk->meta.last_page + 1, (unsigned long long)page_size);
    if (walk->meta.entries != walk->records)
        return err_set(ERR_INPUT, "%s: damaged: it holds %llu records, not %llu", walk->path,
                       (unsigned long long)walk->meta.entries, (unsigned long long)walk->records);
    if (walk->meta.flags || walk->meta.depth < 1 || walk->meta.depth > DEEPEST_TREE)
        return damaged(walk, walk->meta.transaction & 1,
                       "the tree's kind or depth is not possible");
    return 0;
}

/* ---- the tree ---- */

/* Mark COUNT pages from FIRST as met; AT is the page that names them. */
static int take_pages(struct walk *walk, uint64_t at, uint64_t first, uint64_t count)
{
    uint64_t last = walk->meta.last_page;
    if (first < META_PAGES || first > last || count > last - first + 1)
        return damaged(walk, at, "it names a page outside the file");
    for (uint64_t page = first; page < first + count; page++) {
        uint8_t bit = (uint8_t)(1u << page % 8);
        if (walk->used[page / 8] & bit)
            return damaged(walk, at, "it names a page that is used elsewhere");
        walk->used[page / 8] |= bit;
    }
    return 0;
}

/* Read page NUMBER into *OUT, its level's buffer, and check its head; *COUNT = nodes in it. */
static int read_page(struct walk *walk, uint64_t number, uint64_t level, const uint8_t **out,
                     unsigned *count)
{
    uint64_t size = walk->meta.page_size;
    uint8_t *page = walk->levels + (level - 1) * size;
    int rc = read_at(walk->file, walk->path, number * size, page, size);
    if (rc)
        return rc;
    uint64_t lower = load(page + 12, 2), upper = load(page + 14, 2);
    if (load(page, 8) != number)
        return damaged(walk, number, "it bears another number");
    if (load(page + 10, 2) != (level == 1 ? PAGE_LEAF : PAGE_BRANCH))
        return damaged(walk, number, "it is not of the kind that belongs here");
    if (lower <= PAGES_HEADER_SIZE || lower % 2 || lower > upper || upper > size)
        return damaged(walk, number, "its offsets are not possible");
    *count = (unsigned)(lower - PAGES_HEADER_SIZE) / 2;
    *out = page;
    return 0;
}

/* Node INDEX of PAGE, whose head and key are inside it; *ROOM = bytes from the key's end to the
 * page's. */
static int find_node(struct walk *walk, const uint8_t *page, unsigned index, const uint8_t **out,
                     uint64_t *room)
{
    uint64_t size = walk->meta.page_size, upper = load(page + 14, 2);
    *out = page;
    *room = 0;
    uint64_t offset = load(page + PAGES_HEADER_SIZE + (size_t)index * 2, 2);
    if (offset < upper || offset % 2 || offset + NODE_HEADER_SIZE > size)
        return damaged(walk, load(page, 8), "a node lies outside it");
    uint64_t end = offset + NODE_HEADER_SIZE + load(page + offset + 6, 2);
    if (end > size)
        return damaged(walk, load(page, 8), "a key lies outside it");
    *out = page + offset;
    *room = size - end;
    return 0;
}

static int add_value(struct walk *walk, const uint8_t *page, unsigned index)
{
    const uint8_t *node;
    uint64_t room, number = load(page, 8), page_size = walk->meta.page_size;
    int rc = find_node(walk, page, index, &node, &room);
    if (rc)
        return rc;
    uint64_t size = load(node, 4), flags = load(node + 4, 2);
    const uint8_t *key = node + NODE_HEADER_SIZE, *data = key + KEY_SIZE;
    bool large = size > pages_leaf_limit(page_size);
    if (load(node + 6, 2) != KEY_SIZE || load_key(key) != walk->found ||
        walk->found == walk->records)
        return damaged(walk, number, "the records' keys are not 0, 1, 2, ...");
    if (flags != (large ? NODE_LARGE : 0) || (large ? PAGE_NUMBER_SIZE : size) > room)
        return damaged(walk, number, "a value lies outside it");
    uint64_t offset = number * page_size + (uint64_t)(data - page);
    if (large) {
        uint64_t first = load(data, PAGE_NUMBER_SIZE), count = pages_of_value(size, page_size);
        if ((rc = take_pages(walk, number, first, count)))
            return rc;
        walk->large_pages += count;
        offset = first * page_size + PAGES_HEADER_SIZE;
    }
    walk->values[walk->found++] = (struct pages_value){offset, (uint32_t)size};
    return 0;
}

/* The page that node INDEX of a branch leads to. */
static int find_child(struct walk *walk, const uint8_t *page, unsigned index, uint64_t *out,
                      const uint8_t **node)
{
    uint64_t room;
    int rc = find_node(walk, page, index, node, &room);
    if (!rc)
        *out = load(*node, 6);
    return rc;
}

static int visit(struct walk *walk, uint64_t parent, uint64_t number, uint64_t level);

static int visit_children(struct walk *walk, const uint8_t *page, unsigned count, uint64_t level)
{
    uint64_t child, number = load(page, 8), size = walk->meta.page_size;
    const uint8_t *node;
    int rc;
    /* All at once: read one by one, cold pages would cost a disk's latency each. */
    for (unsigned i = 0; i < count; i++) {
        if ((rc = find_child(walk, page, i, &child, &node)))
            return rc;
        if (child <= walk->meta.last_page)
            posix_fadvise(walk->file, (off_t)(child * size), (off_t)size, POSIX_FADV_WILLNEED);
    }
    for (unsigned i = 0; i < count; i++) {
        if ((rc = find_child(walk, page, i, &child, &node)))
            return rc;
        /* The first key of a branch stands for everything below the second; it is not used. */
        if (i > 0 &&
            (load(node + 6, 2) != KEY_SIZE || load_key(node + NODE_HEADER_SIZE) != walk->found))
            return damaged(walk, number, "its keys are not those of its children");
        if ((rc = visit(walk, number, child, level - 1)))
            return rc;
    }
    return 0;
}

/* Take in the part of the tree below page NUMBER; LEVEL 1 are the leaves. As deep as the tree, 16
 * at most. */
static int visit(struct walk *walk, uint64_t parent, uint64_t number, uint64_t level)
{
    const uint8_t *page = NULL;
    unsigned count = 0;
    int rc = take_pages(walk, parent, number, 1);
    if (rc || (rc = read_page(walk, number, level, &page, &count)))
        return rc;
    if (level > 1) {
        walk->branch_pages++;
        return visit_children(walk, page, count, level);
    }
    walk->leaf_pages++;
    for (unsigned i = 0; i < count; i++)
        if ((rc = add_value(walk, page, i)))
            return rc;
    return 0;
}

static int walk_tree(struct walk *walk)
{
    const struct meta *meta = &walk->meta;
    int rc = visit(walk, meta->transaction & 1, meta->root, meta->depth);
    if (rc)
        return rc;
    if (walk->found != walk->records || walk->branch_pages != meta->branch_pages ||
        walk->leaf_pages != meta->leaf_pages || walk->large_pages != meta->large_pages)
        return damaged(walk, meta->transaction & 1, "the tree is not the one it describes");
    return 0;
}

int pages_list(int file, const char *path, uint64_t bytes, uint64_t records,
               struct pages_value **out)
{
    struct walk walk = {.file = file, .path = path, .records = records};
    *out = NULL;
    /* Without it a cold read of one page would bring in its neighbours, which are pixels. */
    posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
    int rc = read_metas(&walk, bytes);
    if (rc)
        return rc;
    /* Nothing is allocated from a number that the file's real size does not bear out. */
    if (records > bytes / (NODE_HEADER_SIZE + KEY_SIZE) || records > UINT32_MAX)
        return damaged(&walk, walk.meta.transaction & 1, "there is no room for so many records");
    walk.used = mem_array((size_t)(walk.meta.last_page / 8 + 1), 1, "map of pages");
    walk.levels =
        mem_array((size_t)walk.meta.depth, (size_t)walk.meta.page_size, "pages of the tree");
    walk.values = mem_array((size_t)records, sizeof *walk.values, "list of records");
    if (!walk.used || !walk.levels || !walk.values)
        rc = -ERR_MEMORY;
    else
        rc = walk_tree(&walk);
    mem_free(walk.used);
    mem_free(walk.levels);
    if (rc)
        mem_free(walk.values);
    else
        *out = walk.values;
    return rc;
}
