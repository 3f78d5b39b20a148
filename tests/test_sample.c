/* prep sample: the tree, its bytes, the kinds of JPEG, and that no linear classifier on the pixels
 * tells the classes. */
#include "tests/test.h"

#include <fcntl.h>

#include "common/decode.h"
#include "common/digest.h"
#include "common/files.h"
#include "common/mem.h"
#include "common/resample.h"
#include "common/rng.h"
#include "prep/devkit.h"
#include "prep/draw.h"
#include "prep/sample.h"

enum { TRAIN_PER_CLASS = 60, VAL_PER_CLASS = 30 };

/* A path below the test folder; the last four stay valid. */
static const char *path_of(const char *name)
{
    static char paths[4][4096];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder(), name);
    return path;
}

/* prep sample FOLDER --classes 4 --train-per-class 3 --val-per-class 2 ..., with its talk thrown
 * away. */
static int sample(const char *folder, const char *classes, const char *train, const char *val,
                  const char *seed)
{
    char *argv[] = {
        "sample",      (char *)path_of(folder), "--classes", (char *)classes, "--train-per-class",
        (char *)train, "--val-per-class",       (char *)val, "--seed",        (char *)seed,
        NULL};
    fflush(stdout);
    int keep = dup(1), null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    int rc = sample_main(10, argv);
    fflush(stdout);
    dup2(keep, 1);
    close(keep);
    close(null);
    return rc;
}

/* ---- the tree ---- */

static void check_digest_equal(const char *a, const char *b, const char *name, bool equal)
{
    char path[4096], first[33] = "", second[33] = "";
    uint64_t size;
    snprintf(path, sizeof path, "%s/%s", path_of(a), name);
    CHECK_INT(digest_file(path, first, &size), 0);
    snprintf(path, sizeof path, "%s/%s", path_of(b), name);
    CHECK_INT(digest_file(path, second, &size), 0);
    if ((strcmp(first, second) == 0) != equal) {
        printf("%s of %s and %s: equal is not %d\n", name, a, b, equal);
        test_failures++;
    }
}

static void check_tree(const struct devkit *devkit)
{
    struct files_list list;
    size_t ranks_in_order = 0, per_class[4] = {0};
    CHECK_INT(files_list(path_of("tree/train"), &list), 0);
    CHECK_INT(list.count, 4);
    for (size_t i = 0; i < list.count && i < 4; i++) {
        const struct devkit_class *class = devkit_ranked(devkit, i);
        char folder[4096], name[64];
        CHECK_TEXT(list.names[i], class->wnid);
        CHECK_INT(class->num_train_images, 5);
        CHECK(strlen(class->words) > 5);
        ranks_in_order += class->id == (int)i + 1;
        struct files_list pictures;
        snprintf(folder, sizeof folder, "%s/%s", path_of("tree/train"), class->wnid);
        CHECK_INT(files_list(folder, &pictures), 0);
        CHECK_INT(pictures.count, 5);
        snprintf(name, sizeof name, "%s_1.JPEG", class->wnid);
        CHECK_TEXT(pictures.names[0], name);
        files_list_release(&pictures);
    }
    CHECK(ranks_in_order < 4); /* whoever takes an ID for a class index is found out */
    files_list_release(&list);
    CHECK_INT(files_list(path_of("tree/val"), &list), 0);
    CHECK_INT(list.count, 12);
    CHECK_TEXT(list.names[0], "ILSVRC2012_val_00000001.JPEG");
    CHECK_TEXT(list.names[11], "ILSVRC2012_val_00000012.JPEG");
    files_list_release(&list);
    for (size_t n = 1; n <= devkit_answer_count(devkit); n++)
        per_class[devkit_answer(devkit, n)->rank % 4]++;
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(per_class[i], 3);
}

static void test_tree(void)
{
    struct devkit *devkit;
    CHECK_INT(sample("tree", "4", "5", "3", "1"), 0);
    CHECK_INT(devkit_open(&devkit, path_of("tree/devkit")), 0);
    if (!devkit)
        return;
    CHECK_INT(devkit_read_answers(devkit), 0);
    CHECK_INT(devkit_class_count(devkit), 4);
    CHECK_INT(devkit_answer_count(devkit), 12);
    CHECK_TEXT(devkit_words(devkit, "n90000001"), "shape, form");
    CHECK_INT(devkit_find(devkit, "n90000001")->num_children, 2);
    check_tree(devkit);
    devkit_close(devkit);
}

static const char *const some_files[] = {
    "devkit/data/meta.mat",
    "devkit/data/ILSVRC2012_validation_ground_truth.txt",
    "train/n90001000/n90001000_2.JPEG",
    "train/n90001037/n90001037_1.JPEG",
    "val/ILSVRC2012_val_00000003.JPEG",
};

static void test_seeds(void)
{
    const size_t count = sizeof some_files / sizeof *some_files;
    CHECK_INT(sample("one", "2", "2", "2", "7"), 0);
    CHECK_INT(sample("same", "2", "2", "2", "7"), 0);
    CHECK_INT(sample("other", "2", "2", "2", "8"), 0);
    for (size_t i = 0; i < count; i++)
        check_digest_equal("one", "same", some_files[i], true);
    for (size_t i = 2; i < count; i++)
        check_digest_equal("one", "other", some_files[i], false);
    /* An interrupted run is completed with the same bytes; what was there is kept. */
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", path_of("same"), some_files[3]);
    CHECK_INT(unlink(path), 0);
    snprintf(path, sizeof path, "%s/%s", path_of("same"), some_files[0]);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(sample("same", "2", "2", "2", "7"), 0);
    for (size_t i = 0; i < count; i++)
        check_digest_equal("one", "same", some_files[i], true);
}

static void test_refused(void)
{
    CHECK_INT(sample("taken", "2", "1", "1", "1"), 0);
    CHECK_INT(sample("taken", "2", "1", "1", "2"), -ERR_MISMATCH);
    CHECK_HAS(err_text(), "other settings");
    CHECK_INT(mkdir(path_of("full"), 0777), 0);
    CHECK_INT(mkdir(path_of("full/thing"), 0777), 0);
    CHECK_INT(sample("full", "2", "1", "1", "1"), -ERR_MISMATCH);
    CHECK_HAS(err_text(), "is not empty");
    CHECK_INT(sample("new", "1", "1", "1", "1"), -ERR_USAGE);
    CHECK_INT(sample("new", "101", "1", "1", "1"), -ERR_USAGE);
    CHECK_HAS(err_text(), "2 to 100");
}

/* ---- pixels ---- */

/* The drawing is arithmetic that every machine does alike. A change of it is a change of
 * sample.txt's "drawing". */
static void test_golden(void)
{
    enum { WIDTH = 97, HEIGHT = 71 };
    uint8_t *rgb = mem_array((size_t)WIDTH * HEIGHT, 3, "test");
    struct digest *digest;
    char value[33];
    CHECK_INT(digest_open(&digest), 0);
    for (int number = 0; number < 20; number++) {
        struct rng random;
        rng_init(&random, 5, RNG_SAMPLE, 0, (uint64_t)number);
        draw_picture(&random, number, WIDTH, HEIGHT, rgb);
        digest_add(digest, rgb, (size_t)WIDTH * HEIGHT * 3);
    }
    digest_value128(digest, value);
    CHECK_TEXT(value, "46e2cba54ce64c02bae28f828cb82a9c");
    digest_close(digest);
    mem_free(rgb);
}

static void test_words(void)
{
    char words[DRAW_CLASS_LIMIT][64];
    for (int i = 0; i < DRAW_CLASS_LIMIT; i++) {
        draw_words(i, words[i], sizeof words[i]);
        for (int k = 0; k < i; k++)
            if (strcmp(words[i], words[k]) == 0) {
                printf("classes %d and %d are both \"%s\"\n", k, i, words[i]);
                test_failures++;
            }
    }
}

/* ---- a set of pictures, as a classifier would see them ---- */

enum { SIDE = 32, FEATURES = SIDE * SIDE * 3, CLASSES = 10 };

struct set {
    float *features; /* count rows of FEATURES, 0..1 */
    int *labels;
    size_t count;
};

struct kinds {
    int gray, cmyk, progressive, smallest, largest, files;
};

struct reader {
    struct decoder *decoder;
    struct resampler *resampler;
    struct picture picture;
    struct kinds kinds;
};

static void see(struct kinds *kinds, const struct decode_info *info, const struct picture *picture)
{
    int shorter = picture->width < picture->height ? picture->width : picture->height;
    int longer = picture->width < picture->height ? picture->height : picture->width;
    kinds->files++;
    kinds->gray += info->gray;
    kinds->cmyk += info->cmyk;
    kinds->progressive += info->progressive;
    kinds->smallest = kinds->files == 1 || shorter < kinds->smallest ? shorter : kinds->smallest;
    kinds->largest = longer > kinds->largest ? longer : kinds->largest;
    CHECK_INT(info->verdict, DECODE_PACK);
    CHECK_INT(info->png, 0);
}

/* One more row of SET: the file's centre square at 32 x 32. */
static void read_picture(struct reader *reader, const char *path, int label, struct set *set)
{
    uint8_t *bytes, small[FEATURES];
    size_t size;
    struct decode_info info;
    struct picture *p = &reader->picture;
    CHECK_INT(files_read(path, 1 << 24, &bytes, &size), 0);
    CHECK_INT(decoder_read(reader->decoder, bytes, size, &decode_default_limits, p, &info), 0);
    mem_free(bytes);
    see(&reader->kinds, &info, p);
    struct pixels in = {p->rgb, p->width, p->height, (size_t)p->width * 3};
    struct resample_window window = {.width = SIDE, .height = SIDE};
    resample_size(p->width, p->height, SIDE, false, &window.full_width, &window.full_height);
    window.left = resample_center(window.full_width, SIDE);
    window.top = resample_center(window.full_height, SIDE);
    CHECK_INT(resampler_run(reader->resampler, &in, &window, false, small, (size_t)SIDE * 3), 0);
    for (int i = 0; i < FEATURES; i++)
        set->features[set->count * FEATURES + (size_t)i] = (float)small[i] / 255;
    set->labels[set->count++] = label;
}

static void make_set(struct set *set, size_t room)
{
    set->features = mem_array(room * FEATURES, sizeof *set->features, "test");
    set->labels = mem_array(room, sizeof *set->labels, "test");
    set->count = 0;
}

static void release_set(struct set *set)
{
    mem_free(set->features);
    mem_free(set->labels);
}

static void read_sets(struct reader *reader, const struct devkit *devkit, struct set *train,
                      struct set *val)
{
    char name[128];
    for (int c = 0; c < CLASSES; c++)
        for (int i = 1; i <= TRAIN_PER_CLASS; i++) {
            const char *wnid = devkit_ranked(devkit, (size_t)c)->wnid;
            snprintf(name, sizeof name, "ten/train/%s/%s_%d.JPEG", wnid, wnid, i);
            read_picture(reader, path_of(name), c, train);
        }
    for (size_t n = 1; n <= devkit_answer_count(devkit); n++) {
        snprintf(name, sizeof name, "ten/val/ILSVRC2012_val_%08zu.JPEG", n);
        read_picture(reader, path_of(name), (int)devkit_answer(devkit, n)->rank, val);
    }
}

/* ---- ridge regression on the pixels, in its dual form: as many unknowns as training pictures ----
 */

/* OUT[i][k] = a_i . b_k */
static void products(const struct set *a, const struct set *b, double *out)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++) {
            const float *x = a->features + i * FEATURES, *y = b->features + k * FEATURES;
            float sums[8] = {0};
            for (size_t f = 0; f < FEATURES; f += 8)
                for (size_t s = 0; s < 8; s++)
                    sums[s] += x[f + s] * y[f + s];
            double sum = 0;
            for (size_t s = 0; s < 8; s++)
                sum += sums[s];
            out[i * b->count + k] = sum;
        }
}

/* Cholesky: (KERNEL + LAMBDA I) X = TARGET, X in place of TARGET (N x CLASSES). */
static void solve(const double *kernel, size_t n, double lambda, double *target)
{
    double *l = mem_array(n * n, sizeof *l, "test");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k <= i; k++) {
            double sum = kernel[i * n + k] + (i == k ? lambda : 0);
            for (size_t j = 0; j < k; j++)
                sum -= l[i * n + j] * l[k * n + j];
            l[i * n + k] = i == k ? sqrt(sum) : sum / l[k * n + k];
        }
    for (size_t c = 0; c < CLASSES; c++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j < i; j++)
                target[i * CLASSES + c] -= l[i * n + j] * target[j * CLASSES + c];
            target[i * CLASSES + c] /= l[i * n + i];
        }
        for (size_t i = n; i-- > 0;) {
            for (size_t j = i + 1; j < n; j++)
                target[i * CLASSES + c] -= l[j * n + i] * target[j * CLASSES + c];
            target[i * CLASSES + c] /= l[i * n + i];
        }
    }
    mem_free(l);
}

/* Percent of the COUNT rows of SCORES = PRODUCTS (count x n) * WEIGHTS (n x CLASSES) that are
 * right. */
static double accuracy(const double *scores, size_t count, size_t n, const double *weights,
                       const int *labels)
{
    size_t right = 0;
    for (size_t i = 0; i < count; i++) {
        double values[CLASSES] = {0};
        for (size_t k = 0; k < n; k++)
            for (size_t c = 0; c < CLASSES; c++)
                values[c] += scores[i * n + k] * weights[k * CLASSES + c];
        int best = 0;
        for (int c = 1; c < CLASSES; c++)
            best = values[c] > values[best] ? c : best;
        right += best == labels[i];
    }
    return 100.0 * (double)right / (double)count;
}

/* Best validation accuracy over some penalties; *FITTED is the training accuracy with the smallest.
 */
static double fit(const struct set *train, const struct set *val, double *fitted)
{
    static const double penalties[] = {0.1, 10, 100};
    size_t n = train->count;
    double *kernel = mem_array(n * n, sizeof *kernel, "test");
    double *across = mem_array(val->count * n, sizeof *across, "test");
    double *weights = mem_array(n * CLASSES, sizeof *weights, "test");
    double best = 0;
    products(train, train, kernel);
    products(val, train, across);
    for (size_t p = 0; p < sizeof penalties / sizeof *penalties; p++) {
        for (size_t i = 0; i < n; i++)
            for (int c = 0; c < CLASSES; c++)
                weights[i * CLASSES + (size_t)c] = (train->labels[i] == c) - 1.0 / CLASSES;
        solve(kernel, n, penalties[p], weights);
        double right = accuracy(across, val->count, n, weights, val->labels);
        best = right > best ? right : best;
        if (p == 0)
            *fitted = accuracy(kernel, n, n, weights, train->labels);
    }
    mem_free(kernel);
    mem_free(across);
    mem_free(weights);
    return best;
}

/* Subtract the training set's mean picture from both. */
static void centre(struct set *train, struct set *val)
{
    for (size_t f = 0; f < FEATURES; f++) {
        double mean = 0;
        for (size_t i = 0; i < train->count; i++)
            mean += train->features[i * FEATURES + f] / (double)train->count;
        for (size_t i = 0; i < train->count; i++)
            train->features[i * FEATURES + f] -= (float)mean;
        for (size_t i = 0; i < val->count; i++)
            val->features[i * FEATURES + f] -= (float)mean;
    }
}

/* Labels that a linear classifier can learn: is the left half brighter than the right one? */
static void label_by_halves(struct set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        double difference = 0;
        for (size_t f = 0; f < FEATURES; f++)
            difference += f / 3 % SIDE < SIDE / 2 ? set->features[i * FEATURES + f]
                                                  : -set->features[i * FEATURES + f];
        set->labels[i] = difference > 0;
    }
}

static void check_linear(struct set *train, struct set *val)
{
    double fitted;
    centre(train, val);
    double right = fit(train, val, &fitted);
    printf(
        "linear classifier: %.1f %% of %zu validation pictures, %.1f %% of its training pictures\n",
        right, val->count, fitted);
    CHECK(right <= 50);
    CHECK(fitted >= 95);
    /* The same program does learn what is linear. */
    label_by_halves(train);
    label_by_halves(val);
    right = fit(train, val, &fitted);
    printf("halves: %.1f %%\n", right);
    CHECK(right >= 80);
}

static void test_linear(void)
{
    struct reader reader = {0};
    struct set train, val;
    struct devkit *devkit;
    char train_count[16], val_count[16];
    snprintf(train_count, sizeof train_count, "%d", TRAIN_PER_CLASS);
    snprintf(val_count, sizeof val_count, "%d", VAL_PER_CLASS);
    make_set(&train, (size_t)CLASSES * TRAIN_PER_CLASS);
    make_set(&val, (size_t)CLASSES * VAL_PER_CLASS);
    CHECK_INT(decoder_open(&reader.decoder), 0);
    CHECK_INT(resampler_open(&reader.resampler, false), 0);
    CHECK_INT(sample("ten", "10", train_count, val_count, "1"), 0);
    CHECK_INT(devkit_open(&devkit, path_of("ten/devkit")), 0);
    if (devkit && devkit_read_answers(devkit) == 0) {
        read_sets(&reader, devkit, &train, &val);
        check_linear(&train, &val);
    }
    const struct kinds *k = &reader.kinds;
    printf("%d files: %d gray, %d CMYK or YCCK, %d progressive, sides %d to %d\n", k->files,
           k->gray, k->cmyk, k->progressive, k->smallest, k->largest);
    CHECK_INT(k->files, CLASSES * (TRAIN_PER_CLASS + VAL_PER_CLASS));
    CHECK(k->gray >= k->files / 40 && k->gray <= k->files / 10);
    CHECK(k->cmyk >= k->files / 50 && k->cmyk <= k->files / 10);
    CHECK(k->progressive >= k->files / 10 && k->progressive <= k->files / 3);
    CHECK(k->smallest >= 60 && k->smallest < 100 && k->largest <= 400 && k->largest > 300);
    devkit_close(devkit);
    decoder_close(reader.decoder);
    resampler_close(reader.resampler);
    picture_release(&reader.picture);
    release_set(&train);
    release_set(&val);
}

/* A build without matio has no meta.mat to write, and says so before it draws. */
static void test_without_matio(void)
{
    CHECK_INT(sample("none", "2", "1", "1", "1"), -ERR_USAGE);
    CHECK_HAS(err_text(), "libmatio-dev");
}

static const struct test tests_without_matio[] = {
    {"without_matio", test_without_matio},
    {"golden",        test_golden       },
    {"words",         test_words        },
};

static const struct test tests[] = {
    {"tree",    test_tree   },
    {"seeds",   test_seeds  },
    {"refused", test_refused},
    {"golden",  test_golden },
    {"words",   test_words  },
    {"linear",  test_linear },
};

int main(int argc, char **argv)
{
#ifdef WITH_MATIO
    const bool with_matio = true;
#else
    const bool with_matio = false;
#endif
    if (with_matio)
        return test_main(argc, argv, tests, sizeof tests / sizeof *tests);
    return test_main(argc, argv, tests_without_matio,
                     sizeof tests_without_matio / sizeof *tests_without_matio);
}
