#include "tests/crash/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "tests/crash/folder.h"
#include "tests/crash/record.h"

enum { NAMES = 512, NODES = 1024 };

/* A file or folder that was there at some time. Names lead to nodes. */
struct node {
    uint64_t inode;
    bool folder, symlink;
    uint8_t *first; /* bytes before the run */
    size_t first_size;
    uint8_t *bytes; /* in the state being made */
    size_t size, capacity;
};

struct name {
    char *path; /* below the root, without it; "" is the root */
    int node;
};

struct names {
    struct name of[NAMES];
    size_t count;
};

struct call {
    struct record record;
    char *path, *other; /* below the root */
    uint8_t *bytes;
    int node;       /* whose bytes or name it is */
    size_t durable; /* the call whose end made it so; SIZE_MAX: none */
};

/* How much of a call that no fsync covered is on the disk: of bytes that were written the first
 * KEPT thousandths, in whole sectors; and the size of all, with zeros. */
struct reach {
    bool none, size;
    unsigned kept;
};
static const struct reach reach_all = {.kept = 1000};
static const struct reach reach_none = {.none = true};

enum { SECTOR = 512, TEARS = 12 };

/* What stands after a call, when one of several calls is looked at. */
struct choice {
    size_t number;          /* of the state */
    size_t pending, writes; /* calls that no fsync covered; and those of them that write bytes */
};

struct disk {
    char root[FILES_PATH_SIZE];
    struct node nodes[NODES];
    size_t node_count;
    struct names first, now;
    struct call *calls;
    size_t call_count;
};

/* ---- names ---- */

static int find_name(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (!strcmp(names->of[i].path, path))
            return (int)i;
    return -1;
}

static void set_name(struct names *names, const char *path, int node)
{
    int at = find_name(names, path);
    if (at < 0) {
        if (names->count == NAMES)
            abort();
        at = (int)names->count++;
        names->of[at].path = (char *)path;
    }
    names->of[at].node = node;
}

static void remove_name(struct names *names, const char *path)
{
    int at = find_name(names, path);
    if (at >= 0)
        names->of[at] = names->of[--names->count];
}

/* Is FOLDER the one that PATH lies in? */
static bool lies_in(const char *path, const char *folder)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    return strlen(folder) == size && !strncmp(path, folder, size);
}

/* PATH of the record as a copy below the root. */
static char *shorten(const struct disk *disk, const char *path, size_t size)
{
    size_t skip = strlen(disk->root);
    if (size <= skip || strncmp(path, disk->root, skip) != 0)
        return strndup("", 0);
    while (skip < size && path[skip] == '/')
        skip++;
    return strndup(path + skip, size - skip);
}

static int add_node(struct disk *disk, uint64_t inode, bool folder)
{
    if (disk->node_count == NODES)
        abort();
    disk->nodes[disk->node_count] = (struct node){.inode = inode, .folder = folder};
    return (int)disk->node_count++;
}

/* The newest node of that inode: numbers are used again after a file is gone. */
static int find_node(const struct disk *disk, uint64_t inode)
{
    for (size_t i = disk->node_count; i-- > 0;)
        if (disk->nodes[i].inode == inode)
            return (int)i;
    return -1;
}

/* ---- before the run ---- */

static void scan(struct disk *disk, const char *path, const char *below)
{
    struct stat status;
    struct files_list names;
    char inner[FILES_PATH_SIZE], name[FILES_PATH_SIZE];
    if (lstat(path, &status))
        return;
    int number = find_node(disk, (uint64_t)status.st_ino);
    if (number < 0) {
        number = add_node(disk, (uint64_t)status.st_ino, S_ISDIR(status.st_mode));
        struct node *node = &disk->nodes[number];
        if (S_ISREG(status.st_mode))
            files_read(path, (size_t)1 << 28, &node->first, &node->first_size);
    }
    set_name(&disk->first, strdup(below), number);
    if (!S_ISDIR(status.st_mode) || files_list(path, &names))
        return;
    for (size_t i = 0; i < names.count; i++) {
        files_join(inner, path, names.names[i]);
        snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", names.names[i]);
        scan(disk, inner, name);
    }
    files_list_release(&names);
}

struct disk *disk_open(const char *root)
{
    struct disk *disk = calloc(1, sizeof *disk);
    if (!disk)
        abort();
    snprintf(disk->root, sizeof disk->root, "%s", root);
    scan(disk, root, "");
    return disk;
}

void disk_close(struct disk *disk)
{
    if (!disk)
        return;
    for (size_t i = 0; i < disk->node_count; i++) {
        mem_free(disk->nodes[i].first);
        free(disk->nodes[i].bytes);
    }
    for (size_t i = 0; i < disk->call_count; i++) {
        free(disk->calls[i].path);
        free(disk->calls[i].other);
        free(disk->calls[i].bytes);
    }
    for (size_t i = 0; i < disk->first.count; i++)
        free(disk->first.of[i].path);
    free(disk->calls);
    free(disk);
}

/* ---- the record ---- */

static bool changes_names(const struct call *call)
{
    switch (call->record.call) {
    case CALL_OPEN:
        return call->record.created;
    case CALL_RENAME:
    case CALL_LINK:
    case CALL_SYMLINK:
    case CALL_UNLINK:
    case CALL_MKDIR:
        return true;
    default:
        return false;
    }
}

static bool changes_bytes(const struct call *call)
{
    return call->record.call == CALL_WRITE || call->record.call == CALL_TRUNCATE ||
           call->record.call == CALL_ALLOCATE ||
           (call->record.call == CALL_OPEN && call->record.emptied);
}

/* Which node a call is about; new ones come to be. */
static int node_of(struct disk *disk, const struct call *call)
{
    const struct record *record = &call->record;
    if (record->failed)
        return -1;
    if (record->call == CALL_MKDIR || (record->call == CALL_OPEN && record->created))
        return add_node(disk, record->node, record->call == CALL_MKDIR);
    if (record->call == CALL_SYMLINK) {
        int node = add_node(disk, 0, false);
        disk->nodes[node].symlink = true;
        disk->nodes[node].first = mem_array(strlen(call->other) + 1, 1, "link");
        disk->nodes[node].first_size = strlen(call->other);
        memcpy(disk->nodes[node].first, call->other, strlen(call->other));
        return node;
    }
    return find_node(disk, record->node);
}

/* Find out when each call became durable. A name is durable after an fsync of the folder it is in
 * (a rename: that it leads to). */
static void find_durable(struct disk *disk)
{
    struct names names = disk->first;
    for (size_t i = 0; i < disk->call_count; i++) {
        struct call *call = &disk->calls[i];
        call->durable = SIZE_MAX;
        if (call->record.failed)
            continue;
        if (call->record.call == CALL_MKDIR)
            set_name(&names, call->path, call->node);
        if (call->record.call != CALL_SYNC || call->node < 0)
            continue;
        const char *folder = NULL;
        for (size_t n = 0; n < names.count; n++)
            if (names.of[n].node == call->node && disk->nodes[call->node].folder)
                folder = names.of[n].path;
        for (size_t k = 0; k < i; k++) {
            struct call *earlier = &disk->calls[k];
            bool two = earlier->record.call == CALL_RENAME || earlier->record.call == CALL_LINK;
            bool covered = folder ? changes_names(earlier) &&
                                        lies_in(two ? earlier->other : earlier->path, folder)
                                  : changes_bytes(earlier) && earlier->node == call->node;
            if (covered && earlier->durable == SIZE_MAX)
                earlier->durable = i;
        }
    }
}

bool disk_read(struct disk *disk, const char *path)
{
    size_t size, capacity = 0;
    uint8_t *bytes, *at;
    if (files_read(path, (size_t)1 << 28, &bytes, &size))
        return false;
    for (at = bytes; at < bytes + size;) {
        if (disk->call_count == capacity)
            disk->calls =
                realloc(disk->calls, (capacity = capacity * 2 + 64) * sizeof(struct call));
        struct call *call = &disk->calls[disk->call_count++];
        *call = (struct call){.node = -1};
        memcpy(&call->record, at, sizeof call->record);
        at += sizeof call->record;
        call->path = shorten(disk, (const char *)at, call->record.path_size);
        at += call->record.path_size;
        call->other = call->record.call == CALL_SYMLINK
                          ? strndup((const char *)at, call->record.other_size)
                          : shorten(disk, (const char *)at, call->record.other_size);
        at += call->record.other_size;
        call->bytes = malloc(call->record.size + 1);
        memcpy(call->bytes, at, call->record.size);
        at += call->record.size;
        call->node = node_of(disk, call);
    }
    mem_free(bytes);
    find_durable(disk);
    return true;
}

size_t disk_calls(const struct disk *disk)
{
    return disk->call_count;
}

uint32_t disk_mark(const struct disk *disk, size_t k)
{
    uint32_t mark = 0;
    for (size_t i = 0; i < k; i++)
        if (disk->calls[i].record.call == CALL_MARK)
            mark = (uint32_t)disk->calls[i].record.offset;
    return mark;
}

/* ---- a state ---- */

static void resize(struct node *node, size_t size)
{
    if (size > node->capacity) {
        node->capacity = size * 2;
        node->bytes = realloc(node->bytes, node->capacity);
    }
    if (size > node->size)
        memset(node->bytes + node->size, 0, size - node->size);
    node->size = size;
}

static void apply_bytes(struct disk *disk, const struct call *call, struct reach reach)
{
    struct node *node = &disk->nodes[call->node];
    const struct record *record = &call->record;
    if (record->call == CALL_OPEN)
        resize(node, 0);
    if (record->call == CALL_TRUNCATE ||
        (record->call == CALL_ALLOCATE && record->offset > node->size))
        resize(node, record->offset);
    if (record->call != CALL_WRITE)
        return;
    size_t size = record->size, kept = size;
    if (reach.kept < 1000) {
        kept = size * reach.kept / 1000 / SECTOR * SECTOR;
        if (reach.kept && !kept)
            kept = size < SECTOR ? size / 2 : SECTOR;
    }
    size_t end = record->offset + (reach.size ? size : kept);
    if (end > node->size)
        resize(node, end);
    if (kept)
        memcpy(node->bytes + record->offset, call->bytes, kept);
}

static void apply_name(struct disk *disk, const struct call *call)
{
    struct names *names = &disk->now;
    switch (call->record.call) {
    case CALL_RENAME: {
        int from = find_name(names, call->path), to = find_name(names, call->other);
        /* Two names of one file: nothing happens. */
        if (from >= 0 && to >= 0 && names->of[from].node == names->of[to].node)
            break;
        if (from >= 0 && names->of[from].node == call->node)
            remove_name(names, call->path);
        set_name(names, call->other, call->node);
        break;
    }
    case CALL_LINK:
        set_name(names, call->other, call->node);
        break;
    case CALL_UNLINK:
        remove_name(names, call->path);
        break;
    default:
        set_name(names, call->path, call->node);
        break;
    }
}

static void apply(struct disk *disk, const struct call *call, struct reach reach)
{
    if (call->node < 0 || reach.none)
        return;
    if (changes_names(call))
        apply_name(disk, call);
    if (changes_bytes(call))
        apply_bytes(disk, call, reach);
}

/* The reach of CALL, which is number I of the pending ones and W of those that write, in a state;
 * false: there is no such state. */
static bool choose(const struct choice *choice, bool names, size_t i, size_t w, struct reach *out)
{
    size_t number = choice->number;
    const struct reach sizes = {.size = true};
    *out = reach_all;
    switch (number) {
    case 0:
        return true;
    case 1:
        *out = reach_none;
        return true;
    case 2: /* names without bytes */
        *out = names ? reach_all : reach_none;
        return true;
    case 3: /* names and sizes without bytes */
        *out = names ? reach_all : sizes;
        return true;
    case 4: /* bytes without names */
        *out = names ? reach_none : reach_all;
        return true;
    default:
        break;
    }
    number -= 5;
    if (number < choice->pending * 3) {
        size_t one = number / 3;
        bool kept = number % 3 == 0   ? one != i /* all but one */
                    : number % 3 == 1 ? one == i /* one alone */
                                      : i < one; /* the first so many */
        *out = kept ? reach_all : reach_none;
        return true;
    }
    number -= choice->pending * 3;
    if (number >= choice->writes * TEARS * 2)
        return false;
    if (!names && number / (TEARS * 2) == w) /* one torn */
        *out = (struct reach){.size = number % 2 == 1,
                              .kept = (unsigned)(number / 2 % TEARS * 1000 / TEARS)};
    return true;
}

static uint64_t digest_state(const struct disk *disk)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < disk->now.count; i++) {
        const struct name *name = &disk->now.of[i];
        const struct node *node = &disk->nodes[name->node];
        uint64_t parts[3] = {digest64(name->path, strlen(name->path)),
                             node->size ? digest64(node->bytes, node->size) : 1,
                             (uint64_t)name->node};
        sum += digest64(parts, sizeof parts);
    }
    return sum;
}

bool disk_make(struct disk *disk, size_t k, size_t number, uint64_t *digest)
{
    struct choice choice = {.number = number};
    size_t seen = 0, written = 0;
    struct reach reach;
    for (size_t i = 0; i < k; i++) {
        const struct call *call = &disk->calls[i];
        bool pending = call->durable >= k;
        choice.pending += pending && (changes_names(call) || changes_bytes(call));
        choice.writes += pending && call->record.call == CALL_WRITE;
    }
    if (!choose(&choice, true, 0, 0, &reach))
        return false;
    for (size_t i = 0; i < disk->node_count; i++) {
        struct node *node = &disk->nodes[i];
        node->size = 0;
        resize(node, node->first_size);
        if (node->first_size)
            memcpy(node->bytes, node->first, node->first_size);
    }
    disk->now = disk->first;
    for (size_t i = 0; i < k; i++) {
        const struct call *call = &disk->calls[i];
        if (!changes_names(call) && !changes_bytes(call))
            continue;
        reach = reach_all;
        if (call->durable >= k) {
            bool write = call->record.call == CALL_WRITE;
            choose(&choice, changes_names(call), seen++, write ? written++ : SIZE_MAX, &reach);
        }
        apply(disk, call, reach);
    }
    *digest = digest_state(disk);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->path, ((const struct name *)b)->path);
}

bool disk_write(const struct disk *disk, const char *to)
{
    static char written[NODES][FILES_PATH_SIZE];
    char path[FILES_PATH_SIZE], folder[FILES_PATH_SIZE];
    struct names names = disk->now;
    struct stat status;
    if (!folder_remove(to) || !folder_make(to))
        return false;
    qsort(names.of, names.count, sizeof *names.of, compare_names);
    for (size_t i = 0; i < disk->node_count; i++)
        written[i][0] = 0;
    for (size_t i = 0; i < names.count; i++) {
        const struct node *node = &disk->nodes[names.of[i].node];
        if (!*names.of[i].path || files_join(path, to, names.of[i].path))
            continue;
        /* A name in a folder that is not there went with it. */
        snprintf(folder, sizeof folder, "%s", path);
        *strrchr(folder, '/') = 0;
        if (stat(folder, &status))
            continue;
        if (node->folder) {
            if (!folder_make(path))
                return false;
        } else if (node->symlink) {
            /* What led into the recorded run's folder leads into this one. */
            size_t skip = strlen(disk->root);
            bool inside = node->size > skip && !memcmp(node->bytes, disk->root, skip);
            snprintf(folder, sizeof folder, "%s%.*s", inside ? to : "",
                     (int)(inside ? node->size - skip : node->size),
                     (const char *)node->bytes + (inside ? skip : 0));
            if (symlink(folder, path))
                return false;
        } else if (*written[names.of[i].node]) {
            if (link(written[names.of[i].node], path))
                return false;
        } else {
            FILE *file = fopen(path, "wb");
            if (!file || fwrite(node->bytes, 1, node->size, file) != node->size || fclose(file))
                return false;
            snprintf(written[names.of[i].node], FILES_PATH_SIZE, "%s", path);
        }
    }
    return true;
}
