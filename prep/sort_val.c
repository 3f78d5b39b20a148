/*
 * sort_val.c - the plan is the devkit's: each number has a class, each class a folder. First OUT is
 * looked through, so that an interrupted or repeated run knows what stands there already and
 * strangers are seen; then VAL's pictures are placed one by one (place.h); what was seen and done
 * is counted by number, and the table is made of these counts.
 */
#include "prep/sort_val.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/opts.h"
#include "prep/devkit.h"
#include "prep/place.h"

enum {
    LISTED = 50,          /* strangers and refusals shown, of each */
    CLASSES_IN_FULL = 40, /* up to here the table has a row for each class */
    LINE = 700
};

struct settings {
    int mode; /* enum place_mode */
    bool dry_run, all_classes;
};

static const struct opts_row rows[] = {
    {.name = "mode",
     .type = OPTS_CHOICE,
     .offset = offsetof(struct settings, mode),
     .fallback = "link",
     .choices = "link|copy|symlink|move",
     .group = "Options",
     .help = "how a picture gets to its place: hard link (a copy where none is possible, such as "
             "on another file system), copy, symbolic link, or move"},
    {.name = "dry-run",
     .type = OPTS_FLAG,
     .offset = offsetof(struct settings,                  dry_run),
     .fallback = "no",
     .group = "Options",
     .help = "change nothing; look at everything and print what would be done"},
    {.name = "all-classes",
     .type = OPTS_FLAG,
     .offset = offsetof(struct settings,                  all_classes),
     .fallback = "no",
     .group = "Options",
     .help = "a row of the table for each class, also when there are more than 40"},
    OPTS_END,
};

const struct opts_command sort_val_command = {
    .program = "prep sort-val",
    .arguments = "DEVKIT VAL OUT",
    .summary =
        "Sorts the validation pictures into class folders: VAL/ILSVRC2012_val_<n>.JPEG goes to "
        "OUT/<WNID>/ by the number in its name, with the devkit's answers. A part of the 50,000 "
        "is fine. Running it again is harmless, an interrupted run goes on, and nothing that "
        "exists is overwritten. DEVKIT is the folder with data/meta.mat and "
        "data/ILSVRC2012_validation_ground_truth.txt.",
    .rows = rows,
    .minimum_arguments = 3,
    .maximum_arguments = 3,
};

/* What is known of a number; the order is that of the table's columns. */
enum state { MISSING, PLACED, THERE, REFUSED, STATES };

/* Names with a reason, the first LISTED of them kept. */
struct list {
    const char *lines[LISTED];
    size_t count;
};

struct sort {
    struct settings settings;
    struct devkit *devkit;
    const char *val, *out;
    char *val_real;  /* absolute: symbolic links lead there */
    bool same_place; /* VAL and OUT are one folder */
    struct stat out_status;
    uint8_t *states; /* enum state of number i + 1 */
    bool *ready;     /* by rank: the class folder exists and was looked at */
    size_t pictures; /* found in VAL */
    size_t copied;   /* instead of linked or moved */
    size_t conflicts, sorted_folders;
    struct list foreign, refused;
    struct mem_arena texts;
    int lock;
};

static int add_to_list(struct sort *sort, struct list *list, const char *folder, const char *name,
                       const char *reason)
{
    char line[LINE], quoted[4 * 256];
    if (list->count++ >= LISTED)
        return 0;
    int size = snprintf(line, sizeof line, "%s/%s: %s", folder,
                        err_quote(quoted, sizeof quoted, name), reason);
    size_t length = size < (int)sizeof line ? (size_t)size : sizeof line - 1;
    list->lines[list->count - 1] = mem_arena_text(&sort->texts, line, length);
    return list->lines[list->count - 1] ? 0 : -ERR_MEMORY;
}

static int refuse(struct sort *sort, size_t number, const char *folder, const char *name,
                  const char *reason)
{
    if (number >= 1 && number <= devkit_answer_count(sort->devkit))
        sort->states[number - 1] = REFUSED;
    return add_to_list(sort, &sort->refused, folder, name, reason);
}

/* The number in ILSVRC2012_val_<8 digits>.JPEG; false for any other name. */
static bool parse_name(const char *name, size_t *number)
{
    static const char before[] = "ILSVRC2012_val_", after[] = ".JPEG";
    enum { DIGITS = 8 };
    if (strncmp(name, before, sizeof before - 1) != 0)
        return false;
    name += sizeof before - 1;
    *number = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        *number = *number * 10 + (size_t)(name[i] - '0');
    }
    return strcmp(name + DIGITS, after) == 0;
}

static bool is_leaf(const struct sort *sort, const char *name)
{
    const struct devkit_class *found = devkit_find(sort->devkit, name);
    return found && found->num_children == 0;
}

/* ---- OUT: what stands there ---- */

/* FOLDER = OUT/<wnid>; it must not be VAL by another name: a picture would stand there before it
 * was placed. */
static int class_folder(const struct sort *sort, const char *wnid, char *folder)
{
    struct stat val, status;
    int rc = files_join(folder, sort->out, wnid);
    if (rc || stat(folder, &status) != 0)
        return rc;
    if (!S_ISDIR(status.st_mode))
        return err_set(ERR_INPUT, "%s exists and is not a folder", folder);
    if (stat(sort->val, &val) == 0 && val.st_dev == status.st_dev && val.st_ino == status.st_ino)
        return err_set(ERR_INPUT, "%s is the folder %s itself", folder, sort->val);
    return 0;
}

/* What an interrupted copy left: .ILSVRC2012_val_<n>.JPEG.partial */
static bool is_partial(const char *name)
{
    char inner[64];
    size_t number, length = strlen(name);
    const size_t tail = strlen(".partial");
    if (name[0] != '.' || length <= tail || length >= sizeof inner ||
        strcmp(name + length - tail, ".partial") != 0)
        return false;
    snprintf(inner, sizeof inner, "%.*s", (int)(length - tail - 1), name + 1);
    return parse_name(inner, &number);
}

/* NAME in the folder of class WNID. */
static int scan_file(struct sort *sort, const char *wnid, const char *folder, const char *name)
{
    char path[FILES_PATH_SIZE];
    size_t number;
    enum files_type type;
    int rc = files_join(path, folder, name);
    if (rc)
        return rc;
    if (is_partial(name))
        return sort->settings.dry_run ? 0 : files_remove(path);
    if (!parse_name(name, &number))
        return add_to_list(sort, &sort->foreign, folder, name, "not a validation picture's name");
    if (number < 1 || number > devkit_answer_count(sort->devkit))
        return refuse(sort, number, folder, name, "the ground truth has no line of this number");
    const struct devkit_class *right = devkit_answer(sort->devkit, number);
    if (strcmp(right->wnid, wnid) != 0) {
        char reason[64];
        snprintf(reason, sizeof reason, "stands in the wrong class, it belongs to %s", right->wnid);
        sort->conflicts++;
        return refuse(sort, number, folder, name, reason);
    }
    if ((rc = files_type(path, &type, NULL)))
        return rc;
    if (type != FILES_REGULAR) {
        sort->conflicts++;
        return refuse(sort, number, folder, name,
                      type == FILES_NOTHING ? "a symbolic link into nothing" : "not a file");
    }
    if (sort->states[number - 1] == MISSING) /* and not refused in another folder */
        sort->states[number - 1] = THERE;
    return 0;
}

static int scan_class(struct sort *sort, const char *wnid)
{
    char folder[FILES_PATH_SIZE];
    struct files_list list = {0};
    int rc = class_folder(sort, wnid, folder);
    if (!rc)
        rc = files_list(folder, &list);
    for (size_t i = 0; i < list.count && !rc; i++)
        rc = scan_file(sort, wnid, folder, list.names[i]);
    files_list_release(&list);
    return rc;
}

static int scan_out(struct sort *sort)
{
    enum files_type type;
    struct files_list list = {0};
    int rc = files_type(sort->out, &type, NULL);
    if (rc || type == FILES_NOTHING)
        return rc;
    rc = files_list(sort->out, &list);
    for (size_t i = 0; i < list.count && !rc; i++) {
        if (is_leaf(sort, list.names[i]))
            rc = scan_class(sort, list.names[i]);
        else if (!sort->same_place) /* else it is seen in VAL */
            rc = add_to_list(sort, &sort->foreign, sort->out, list.names[i], "not a class folder");
    }
    files_list_release(&list);
    return rc;
}

/* ---- VAL: place one after the other ---- */

/* The folder of CLASS in FOLDER; made, when it is the first picture of its class. */
static int ready_folder(struct sort *sort, const struct devkit_class *class, char *folder)
{
    if (sort->ready[class->rank])
        return files_join(folder, sort->out, class->wnid);
    int rc = class_folder(sort, class->wnid, folder);
    if (!rc && !sort->settings.dry_run)
        rc = files_make_folder(folder);
    sort->ready[class->rank] = !rc;
    return rc;
}

static int place_picture(struct sort *sort, size_t number, const char *name)
{
    char source[FILES_PATH_SIZE], folder[FILES_PATH_SIZE], target[FILES_PATH_SIZE];
    char link_text[FILES_PATH_SIZE];
    const struct devkit_class *class = devkit_answer(sort->devkit, number);
    enum place_result result;
    int rc;
    if ((rc = files_join(source, sort->val, name)) ||
        (rc = files_join(link_text, sort->val_real, name)) ||
        (rc = ready_folder(sort, class, folder)) || (rc = files_join(target, folder, name)))
        return rc;
    rc = place_file(source, target, (enum place_mode)sort->settings.mode, link_text,
                    sort->settings.dry_run, &result);
    if (rc)
        return rc;
    uint8_t *state = sort->states + number - 1;
    if (result == PLACE_CONFLICT) {
        sort->conflicts++;
        return refuse(sort, number, folder, name,
                      sort->settings.mode == PLACE_MOVE
                          ? "other bytes or a symbolic link stand there; left as they are"
                          : "other bytes stand there; left as they are");
    }
    sort->copied += result == PLACE_COPIED;
    *state = result == PLACE_THERE ? THERE : PLACED;
    return 0;
}

/* A name of VAL that is no validation picture's. OUT itself may lie in VAL, or be VAL. */
static int visit_stranger(struct sort *sort, const char *name, const char *path,
                          enum files_type type)
{
    struct stat status;
    bool is_out = stat(path, &status) == 0 && status.st_dev == sort->out_status.st_dev &&
                  status.st_ino == sort->out_status.st_ino;
    if (is_out || (sort->same_place && is_leaf(sort, name)))
        return 0;
    sort->sorted_folders += type == FILES_FOLDER && is_leaf(sort, name);
    return add_to_list(sort, &sort->foreign, sort->val, name,
                       type == FILES_FOLDER ? "a folder" : "not a validation picture's name");
}

static int visit(struct sort *sort, const char *name)
{
    char path[FILES_PATH_SIZE];
    size_t number;
    struct stat status;
    enum files_type type;
    int rc = files_join(path, sort->val, name);
    if (rc || (rc = files_type(path, &type, NULL)))
        return rc;
    if (!parse_name(name, &number))
        return visit_stranger(sort, name, path, type);
    sort->pictures++;
    if (number < 1 || number > devkit_answer_count(sort->devkit))
        return refuse(sort, number, sort->val, name, "the ground truth has no line of this number");
    if (type != FILES_REGULAR)
        return refuse(sort, number, sort->val, name,
                      type == FILES_NOTHING ? "a symbolic link into nothing" : "not a file");
    if (sort->settings.mode == PLACE_MOVE && lstat(path, &status) == 0 && S_ISLNK(status.st_mode))
        return refuse(sort, number, sort->val, name,
                      "a symbolic link, which a move could break; take another --mode");
    if (sort->states[number - 1] == REFUSED)
        return 0; /* it stands in a wrong class, or what stands there is no file: listed already */
    return place_picture(sort, number, name);
}

/* Copies need room, which is looked for before the first one. */
static int check_space(const struct sort *sort, const struct files_list *list)
{
    char path[FILES_PATH_SIZE], needed[32], there[32];
    uint64_t size, bytes = 0, room, inodes;
    size_t number;
    struct stat val;
    enum files_type type;
    int rc;
    bool across = stat(sort->val, &val) == 0 && val.st_dev != sort->out_status.st_dev;
    bool copies =
        sort->settings.mode == PLACE_COPY || (sort->settings.mode != PLACE_SYMLINK && across);
    if (!copies || sort->settings.dry_run)
        return 0;
    for (size_t i = 0; i < list->count; i++) {
        if ((rc = files_join(path, sort->val, list->names[i])) ||
            (rc = files_type(path, &type, &size)))
            return rc;
        if (parse_name(list->names[i], &number) && number >= 1 &&
            number <= devkit_answer_count(sort->devkit) && type == FILES_REGULAR &&
            sort->states[number - 1] == MISSING)
            bytes += size;
    }
    rc = files_free_space(sort->out, &room, &inodes);
    if (rc || bytes <= room)
        return rc;
    return err_set(ERR_IO, "%s: copying needs %s, but %s are free; try --mode symlink", sort->out,
                   log_bytes(needed, (double)bytes), log_bytes(there, (double)room));
}

static int sync_folders(const struct sort *sort)
{
    char folder[FILES_PATH_SIZE];
    enum files_type type;
    for (size_t rank = 0; rank < devkit_class_count(sort->devkit); rank++) {
        int rc = files_join(folder, sort->out, devkit_ranked(sort->devkit, rank)->wnid);
        if (!rc)
            rc = files_type(folder, &type, NULL);
        if (!rc && type == FILES_FOLDER)
            rc = files_sync_folder(folder);
        if (rc)
            return rc;
    }
    return sort->settings.mode == PLACE_MOVE ? files_sync_folder(sort->val) : 0;
}

static int place_all(struct sort *sort)
{
    struct files_list list = {0};
    int rc = files_list(sort->val, &list);
    if (!rc)
        rc = check_space(sort, &list);
    for (size_t i = 0; i < list.count && !rc; i++) {
        rc = visit(sort, list.names[i]);
        if (log_progress_due(false))
            log_progress("sort-val: %zu of %zu files", i + 1, list.count);
    }
    log_progress_end();
    if (!rc && !sort->settings.dry_run)
        rc = sync_folders(sort);
    files_list_release(&list);
    return rc;
}

/* ---- the table ---- */

/* Numbers of one class, or of all, by state. */
struct counts {
    size_t of[STATES], total;
};

static void print_counts(const char *wnid, const struct counts *c, const char *words)
{
    printf("%-12s %8zu %8zu %8zu %8zu %8zu  %s\n", wnid, c->total, c->of[PLACED], c->of[THERE],
           c->of[MISSING], c->of[REFUSED], words);
}

/* Many classes: what a person would look for in a thousand rows. */
static void print_summary(const struct sort *sort, const struct counts *counts, size_t classes)
{
    enum { SHOWN = 10 };
    size_t whole = 0, none = 0, shown = 0, least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < classes; i++) {
        size_t have = counts[i].of[PLACED] + counts[i].of[THERE];
        whole += have == counts[i].total;
        none += have == 0;
        least = have < least ? have : least;
        most = have > most ? have : most;
    }
    printf("%zu classes: %zu complete, %zu in part, %zu without a picture; %zu to %zu pictures a "
           "class (--all-classes lists them)\n",
           classes, whole, classes - whole - none, none, least, most);
    for (size_t i = 0; i < classes && shown < SHOWN; i++) {
        size_t have = counts[i].of[PLACED] + counts[i].of[THERE];
        if (have == 0 || have == counts[i].total)
            continue;
        const struct devkit_class *class = devkit_ranked(sort->devkit, i);
        printf("  in part: %s %zu of %zu  %s\n", class->wnid, have, counts[i].total, class->words);
        shown++;
    }
    if (classes - whole - none > shown)
        printf("  in part: and %zu more\n", classes - whole - none - shown);
}

static void print_list(const struct list *list, const char *title)
{
    size_t shown = list->count < LISTED ? list->count : LISTED;
    if (list->count)
        printf("%s: %zu\n", title, list->count);
    for (size_t i = 0; i < shown; i++)
        printf("  %s\n", list->lines[i]);
    if (list->count > shown)
        printf("  and %zu more\n", list->count - shown);
}

static int print_table(const struct sort *sort)
{
    size_t classes = devkit_class_count(sort->devkit), count = devkit_answer_count(sort->devkit);
    struct counts all = {.total = count}, *counts = mem_array(classes, sizeof *counts, "table");
    if (!counts)
        return -ERR_MEMORY;
    for (size_t number = 1; number <= count; number++) {
        struct counts *c = counts + devkit_answer(sort->devkit, number)->rank;
        c->total++;
        c->of[sort->states[number - 1]]++;
        all.of[sort->states[number - 1]]++;
    }
    print_list(&sort->foreign, "foreign, left alone");
    print_list(&sort->refused, "refused");
    bool full = classes <= CLASSES_IN_FULL || sort->settings.all_classes;
    if (!full)
        print_summary(sort, counts, classes);
    printf("%-12s %8s %8s %8s %8s %8s\n", "class", "pictures",
           sort->settings.dry_run ? "to place" : "placed", "there", "missing", "refused");
    for (size_t i = 0; i < classes && full; i++)
        print_counts(devkit_ranked(sort->devkit, i)->wnid, counts + i,
                     devkit_ranked(sort->devkit, i)->words);
    print_counts("all", &all, "");
    mem_free(counts);
    return 0;
}

/* ---- the command ---- */

/* A truncated list passes every check of a line; the official classes have the same number of
 * pictures each. */
static int warn_unbalanced(const struct sort *sort)
{
    size_t classes = devkit_class_count(sort->devkit), count = devkit_answer_count(sort->devkit);
    size_t *counts = mem_array(classes, sizeof *counts, "answers of a class"), least, most;
    if (!counts)
        return -ERR_MEMORY;
    for (size_t number = 1; number <= count; number++)
        counts[devkit_answer(sort->devkit, number)->rank]++;
    least = most = counts[0];
    for (size_t i = 1; i < classes; i++) {
        least = counts[i] < least ? counts[i] : least;
        most = counts[i] > most ? counts[i] : most;
    }
    mem_free(counts);
    if (least != most)
        log_warning("the ground truth has %zu lines, and %zu to %zu of a class: is it whole? The "
                    "official one has 50,000, 50 of each",
                    count, least, most);
    return 0;
}

/* OUT exists now and is this run's alone. */
static int claim_out(struct sort *sort)
{
    int rc = 0;
    if (!sort->settings.dry_run)
        rc = files_make_folder(sort->out);
    if (rc)
        return rc;
    if (stat(sort->out, &sort->out_status) != 0)
        return sort->settings.dry_run && errno == ENOENT ? 0
                                                         : err_errno("cannot stat %s", sort->out);
    struct stat val;
    if (stat(sort->val, &val) == 0)
        sort->same_place =
            val.st_dev == sort->out_status.st_dev && val.st_ino == sort->out_status.st_ino;
    if (sort->settings.dry_run)
        return 0;
    /* On the folder itself: a lock file would stay among the class folders. Some network file
     * systems have no such lock; there nothing keeps two runs apart. */
    sort->lock = open(sort->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sort->lock < 0)
        return err_errno("cannot open %s", sort->out);
    if (flock(sort->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return err_set(ERR_BUSY, "%s: another prep sort-val is at work there; wait for its end",
                       sort->out);
    return 0;
}

static int check_val(struct sort *sort)
{
    enum files_type type;
    int rc = files_type(sort->val, &type, NULL);
    if (rc)
        return rc;
    if (type != FILES_FOLDER)
        return err_set(ERR_INPUT, "%s is not a folder; give the one with the validation pictures",
                       sort->val);
    sort->val_real = realpath(sort->val, NULL);
    return sort->val_real ? 0 : err_errno("cannot resolve %s", sort->val);
}

static int judge(const struct sort *sort)
{
    size_t there = 0;
    for (size_t i = 0; i < devkit_answer_count(sort->devkit); i++)
        there += sort->states[i] == THERE;
    if (sort->refused.count)
        return err_set(sort->conflicts ? ERR_MISMATCH : ERR_INPUT,
                       "refused: %zu, listed above with the reasons; all others are fine",
                       sort->refused.count);
    if (!sort->pictures && !there)
        return err_set(ERR_INPUT, "%s holds no ILSVRC2012_val_<8 digits>.JPEG%s", sort->val,
                       sort->sorted_folders
                           ? ", but class folders: it seems to be sorted already; give it to prep "
                             "pack as it is"
                           : "; give the folder that ILSVRC2012_img_val.tar unpacks to");
    return 0;
}

static int run(struct sort *sort, const char *devkit_folder)
{
    int rc;
    if ((rc = devkit_open(&sort->devkit, devkit_folder)) ||
        (rc = devkit_read_answers(sort->devkit)) || (rc = warn_unbalanced(sort)) ||
        (rc = check_val(sort)) || (rc = claim_out(sort)))
        return rc;
    sort->states = mem_array(devkit_answer_count(sort->devkit), 1, "states of the pictures");
    sort->ready = mem_array(devkit_class_count(sort->devkit), sizeof *sort->ready, "class folders");
    if (!sort->states || !sort->ready)
        return -ERR_MEMORY;
    if ((rc = scan_out(sort)) || (rc = place_all(sort)))
        return rc;
    if (sort->copied)
        log_line("%zu pictures were copied: no %s leads from %s to %s", sort->copied,
                 sort->settings.mode == PLACE_MOVE ? "rename" : "hard link", sort->val, sort->out);
    if ((rc = print_table(sort)))
        return rc;
    return judge(sort);
}

int sort_val_main(int argc, char **argv)
{
    struct sort sort = {.lock = -1};
    struct opts_result result;
    int rc = opts_parse(&sort_val_command, argc, argv, &sort.settings, NULL, &result);
    if (rc)
        return rc;
    if (result.help) {
        opts_help(&sort_val_command);
        return 0;
    }
    sort.val = result.arguments[1];
    sort.out = result.arguments[2];
    rc = run(&sort, result.arguments[0]);
    if (sort.lock >= 0)
        close(sort.lock);
    devkit_close(sort.devkit);
    mem_free(sort.states);
    mem_free(sort.ready);
    mem_arena_release(&sort.texts);
    free(sort.val_real);
    return rc;
}
