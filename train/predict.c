#include "train/predict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/resample.h"
#include "common/stop.h"
#include "train/augment.h"
#include "train/inference.h"
#include "train/weights.h"

enum { DEPTH_LIMIT = 16, TOP_LIMIT = 1000 };
#define PICTURE_LIMIT ((size_t)1 << 30) /* bytes of a file */
#define LIST_LIMIT ((size_t)256 << 20)
enum format { FORMAT_TEXT, FORMAT_CSV, FORMAT_JSON };

struct predict_settings {
    int64_t top, short_side;
    int format;
    struct inference_settings inference;
};

#define AT(field) offsetof(struct predict_settings, field)

/* clang-format off */
static const struct opts_row rows[] = {
    {"top", "N", OPTS_INT, AT(top), "5", 1, TOP_LIMIT, NULL, "Output", "how many classes to tell"},
    {"format", NULL, OPTS_CHOICE, AT(format), "text", 0, 0, "text|csv|json", "Output", "how to tell them"},
    {"short-side", "N", OPTS_INT, AT(short_side), "256", 0, 65535, NULL, "Network",
     "bring larger pictures down to it first, as prep pack does; 0: straight to val-resize (at 224 pixels the same)"},
    INFERENCE_ROWS(AT(inference)),
    OPTS_END,
};
/* clang-format on */

const struct opts_command predict_command = {
    "train predict",
    "WEIGHTS PICTURE|FOLDER|LIST.txt ...",
    "Tells the likeliest classes of pictures, with the pixels that validation has. A folder stands "
    "for all pictures below it, a .txt file for the paths in its lines.",
    rows,
    2,
    1 << 20,
};

struct predict {
    const struct predict_settings *settings;
    struct weights *weights;
    struct inference inference;
    struct decoder *decoder;
    struct resampler *resampler;
    struct picture picture, small;
    struct files_buffer bytes;
    struct mem_arena names;
    char **paths;
    size_t count, capacity;
    uint8_t *pixels; /* a batch */
    int32_t *labels;
    uint64_t *records;
    float *logits;
    double *odds;
    size_t told, bad;
};

/* ---- which pictures ---- */

static int add_path(struct predict *p, const char *path)
{
    if (p->count == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 256;
        int rc = mem_grow((void **)&p->paths, p->capacity, capacity, sizeof *p->paths, "paths");
        if (rc)
            return rc;
        p->capacity = capacity;
    }
    char *copy = mem_arena_text(&p->names, path, strlen(path));
    if (!copy)
        return -ERR_MEMORY;
    p->paths[p->count++] = copy;
    return 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), end = strlen(suffix);
    return length > end && !strcasecmp(name + length - end, suffix);
}

/* The pictures below FOLDER, in byte order. */
static int add_folder(struct predict *p, const char *folder, int depth)
{
    struct files_list list;
    char path[FILES_PATH_SIZE];
    enum files_type type;
    if (depth == DEPTH_LIMIT)
        return err_set(ERR_INPUT, "%s: folders inside one another deeper than %d", folder,
                       DEPTH_LIMIT);
    int rc = files_list(folder, &list);
    for (size_t i = 0; i < list.count && !rc; i++) {
        const char *name = list.names[i];
        bool picture =
            has_suffix(name, ".jpeg") || has_suffix(name, ".jpg") || has_suffix(name, ".png");
        if (name[0] == '.' || (rc = files_join(path, folder, name)) ||
            (rc = files_type(path, &type, NULL)))
            continue;
        if (type == FILES_FOLDER)
            rc = add_folder(p, path, depth + 1);
        else if (picture)
            rc = add_path(p, path);
    }
    files_list_release(&list);
    return rc;
}

static int add_list(struct predict *p, const char *path)
{
    uint8_t *text;
    size_t size;
    int rc = files_read(path, LIST_LIMIT, &text, &size);
    if (rc)
        return rc;
    for (char *line = (char *)text; line && *line && !rc;) {
        char *end = strchr(line, '\n'), *next = end ? end + 1 : NULL;
        if (end)
            *end = 0;
        size_t length = strlen(line);
        if (length && line[length - 1] == '\r')
            line[length - 1] = 0;
        if (*line)
            rc = add_path(p, line);
        line = next;
    }
    mem_free(text);
    return rc;
}

static int add_argument(struct predict *p, const char *argument)
{
    enum files_type type;
    int rc = files_type(argument, &type, NULL);
    if (rc)
        return rc;
    if (type == FILES_NOTHING)
        return err_set(ERR_INPUT, "%s does not exist", argument);
    if (type == FILES_FOLDER)
        return add_folder(p, argument, 0);
    return has_suffix(argument, ".txt") ? add_list(p, argument) : add_path(p, argument);
}

/* ---- pixels ---- */

/* As prep pack leaves a picture: a shorter side above SIDE becomes SIDE. */
static int shrink(struct predict *p, int side, const struct picture **out)
{
    const struct picture *in = &p->picture;
    int width, height;
    *out = in;
    if (!side)
        return 0;
    resample_size(in->width, in->height, side, true, &width, &height);
    if (width == in->width && height == in->height)
        return 0;
    const struct pixels pixels = {in->rgb, in->width, in->height, (size_t)in->width * 3};
    const struct resample_window whole = {
        .full_width = width, .full_height = height, .width = width, .height = height};
    int rc = picture_resize(&p->small, width, height);
    if (!rc)
        rc = resampler_run(p->resampler, &pixels, &whole, false, p->small.rgb, (size_t)width * 3);
    *out = &p->small;
    return rc;
}

static int read_picture(struct predict *p, const char *path, uint8_t *out)
{
    const struct inference_settings *s = &p->settings->inference;
    const struct picture *picture;
    struct decode_info info;
    int rc;
    if ((rc = files_read_into(path, PICTURE_LIMIT, &p->bytes)) ||
        (rc = decoder_read(p->decoder, p->bytes.bytes, p->bytes.size, &decode_default_limits,
                           &p->picture, &info)) ||
        (rc = shrink(p, (int)p->settings->short_side, &picture)))
        return rc;
    const struct pixels pixels = {picture->rgb, picture->width, picture->height,
                                  (size_t)picture->width * 3};
    return augment_validate(p->resampler, &pixels, (int)s->val_resize, (int)s->image_size, out);
}

/* ---- results ---- */

/* A name of the class, or its number where it has none. */
static const char *class_name(const struct predict *p, size_t k, char out[32])
{
    if (p->weights->class_names)
        return p->weights->class_names[k];
    snprintf(out, 32, "%zu", k);
    return out;
}

static const char *class_words(const struct predict *p, size_t k)
{
    return p->weights->class_words ? p->weights->class_words[k] : "";
}

/* The best of the odds that are left; it is taken out. */
static size_t take_best(struct predict *p, double *odds)
{
    size_t best = 0;
    for (size_t k = 1; k < p->weights->classes; k++)
        if (p->odds[k] > p->odds[best])
            best = k;
    *odds = p->odds[best];
    p->odds[best] = -1;
    return best;
}

static void softmax(struct predict *p, const float *logits)
{
    double most = logits[0], sum = 0;
    for (size_t k = 1; k < p->weights->classes; k++)
        most = logits[k] > most ? logits[k] : most;
    for (size_t k = 0; k < p->weights->classes; k++)
        sum += p->odds[k] = exp(logits[k] - most);
    for (size_t k = 0; k < p->weights->classes; k++)
        p->odds[k] /= sum;
}

/* TEXT as a field of CSV (RFC 4180). */
static void print_field(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static json_t *make_string(const char *text)
{
    char quoted[FILES_PATH_SIZE];
    json_t *string = json_string(text);
    return string ? string : json_string(err_quote(quoted, sizeof quoted, text));
}

static void print_object(struct predict *p, json_t *object)
{
    char *text = json_dumps(object, JSON_REAL_PRECISION(9));
    printf("%s\n%s", p->told ? "," : "[", text ? text : "null");
    free(text);
    json_decref(object);
}

/* What the network says of the picture at PATH. */
static void tell(struct predict *p, const char *path, const float *logits)
{
    char number[32];
    json_t *list = json_array();
    softmax(p, logits);
    if (p->settings->format == FORMAT_TEXT)
        printf("%s\n", path);
    for (int64_t rank = 1; rank <= p->settings->top && (size_t)rank <= p->weights->classes;
         rank++) {
        double odds;
        size_t k = take_best(p, &odds);
        const char *name = class_name(p, k, number);
        if (p->settings->format == FORMAT_TEXT) {
            printf("  %6.2f %%  %s  %s\n", 100 * odds, name, class_words(p, k));
        } else if (p->settings->format == FORMAT_CSV) {
            print_field(path);
            printf(",%lld,", (long long)rank);
            print_field(name);
            putchar(',');
            print_field(class_words(p, k));
            printf(",%.9g,\r\n", odds);
        } else {
            json_array_append_new(list,
                                  json_pack("{s:o, s:o, s:I, s:f}", "class", make_string(name),
                                            "words", make_string(class_words(p, k)), "index",
                                            (json_int_t)k, "probability", odds));
        }
    }
    if (p->settings->format == FORMAT_JSON)
        print_object(p, json_pack("{s:o, s:O}", "file", make_string(path), "top", list));
    json_decref(list);
    p->told++;
}

/* Why there is nothing to say of it. */
static void tell_bad(struct predict *p, const char *path)
{
    log_warning("%s: %s", path, err_text());
    if (p->settings->format == FORMAT_CSV) {
        print_field(path);
        printf(",,,,,");
        print_field(err_text());
        printf("\r\n");
    } else if (p->settings->format == FORMAT_JSON) {
        print_object(p, json_pack("{s:o, s:o}", "file", make_string(path), "error",
                                  make_string(err_text())));
        p->told++;
    }
    p->bad++;
}

/* ---- the command ---- */

/* The pictures from FIRST on that make a batch; *NEXT = the one behind them. Bad ones are told and
 * left out. */
static int run_batch(struct predict *p, size_t first, size_t *next)
{
    const int size = (int)p->settings->inference.image_size;
    const size_t bytes = (size_t)size * (size_t)size * 3;
    const int limit = (int)p->settings->inference.batch_size;
    struct batch batch = {
        .size = size, .pixels = p->pixels, .labels = p->labels, .records = p->records};
    struct loss_result result;
    int rc;
    memset(p->pixels, 0, bytes * (size_t)limit);
    for (*next = first; *next < p->count && batch.rows < limit; ++*next) {
        rc = read_picture(p, p->paths[*next], p->pixels + bytes * (size_t)batch.rows);
        if ((rc == -ERR_INPUT || rc == -ERR_IO) && batch.rows)
            break; /* those before it are told first */
        if (rc == -ERR_INPUT || rc == -ERR_IO)
            tell_bad(p, p->paths[*next]);
        else if (rc)
            return rc;
        else
            p->records[batch.rows++] = *next;
    }
    if (!batch.rows)
        return 0;
    if ((rc = net_evaluate(p->inference.net, &batch, &result)) ||
        (rc = net_logits(p->inference.net, p->logits)))
        return rc;
    for (int i = 0; i < batch.rows; i++)
        tell(p, p->paths[p->records[i]], p->logits + (size_t)i * p->weights->classes);
    return 0;
}

static int open_predict(struct predict *p, struct predict_settings *settings, const char *weights)
{
    struct inference_settings *s = &settings->inference;
    int rc;
    if ((rc = weights_open(&p->weights, weights, NULL)))
        return rc;
    log_line("weights: %s, %s: %s, %zu classes%s", weights, p->weights->format, p->weights->arch,
             p->weights->classes,
             p->weights->assumed ? ", taken as ILSVRC2012's in the order of their WNIDs" : "");
    if ((rc = inference_complete(s, p->weights)))
        return rc;
    if ((uint64_t)s->batch_size > p->count)
        s->batch_size = (int64_t)p->count;
    if ((rc = inference_open(&p->inference, s, p->weights, NULL, 0)) ||
        (rc = decoder_open(&p->decoder)) || (rc = resampler_open(&p->resampler, false)))
        return rc;
    size_t batch = (size_t)s->batch_size;
    p->pixels = mem_array(batch, (size_t)(s->image_size * s->image_size) * 3, "pictures");
    p->labels = mem_array(batch, sizeof *p->labels, "labels");
    p->records = mem_array(batch, sizeof *p->records, "pictures");
    p->logits = mem_array(batch * p->weights->classes, sizeof *p->logits, "logits");
    p->odds = mem_array(p->weights->classes, sizeof *p->odds, "probabilities");
    return p->pixels && p->labels && p->records && p->logits && p->odds ? 0 : -ERR_MEMORY;
}

static int run(struct predict *p, struct predict_settings *settings,
               const struct opts_result *parsed)
{
    int rc = 0;
    for (int i = 1; i < parsed->argument_count && !rc; i++)
        rc = add_argument(p, parsed->arguments[i]);
    if (!rc && !p->count)
        rc = err_set(ERR_INPUT, "%s holds no pictures (.JPEG, .jpg, .png)", parsed->arguments[1]);
    if (rc || (rc = open_predict(p, settings, parsed->arguments[0])))
        return rc;
    if (settings->format == FORMAT_CSV)
        printf("file,rank,class,words,probability,error\r\n");
    for (size_t next = 0; next < p->count && !rc;) {
        rc = stop_requested()
                 ? err_set(ERR_STOPPED, "stopped after %zu of %zu pictures", next, p->count)
                 : run_batch(p, next, &next);
    }
    if (settings->format == FORMAT_JSON)
        printf("%s\n]\n", p->told ? "" : "[");
    if (!rc && p->bad)
        rc = err_set(ERR_INPUT, "%zu of %zu pictures could not be read", p->bad, p->count);
    return rc;
}

int predict_main(int argc, char **argv)
{
    struct predict_settings settings;
    struct opts_result parsed;
    int rc = opts_parse(&predict_command, argc, argv, &settings, NULL, &parsed);
    if (rc)
        return rc;
    if (parsed.help) {
        opts_help(&predict_command);
        return 0;
    }
    struct predict p = {.settings = &settings};
    stop_catch();
    rc = run(&p, &settings, &parsed);
    inference_close(&p.inference);
    decoder_close(p.decoder);
    resampler_close(p.resampler);
    picture_release(&p.picture);
    picture_release(&p.small);
    weights_close(p.weights);
    mem_arena_release(&p.names);
    mem_free(p.bytes.bytes);
    mem_free(p.paths);
    mem_free(p.pixels);
    mem_free(p.labels);
    mem_free(p.records);
    mem_free(p.logits);
    mem_free(p.odds);
    return rc;
}
