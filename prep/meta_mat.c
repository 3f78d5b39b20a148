#include "prep/meta_mat.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"

#ifdef WITH_MATIO

#include <matio.h>
#include <unistd.h>
#include <zlib.h>

#include "common/files.h"
#include "common/mem.h"
#include "prep/jail.h"

/* ---- the child: meta.mat to rows of a fixed layout ---- */

/* What the child found; the parent believes none of it before it has looked. */
enum problem { FINE, DAMAGED, NO_SYNSETS, NOT_A_STRUCT, TOO_MANY_ROWS, NO_FIELD, BAD_VALUE };

struct result_head {
    uint32_t problem, row, field, rows; /* row and field: where the problem is, from 0 */
};

enum field { ID, WNID, WORDS, NUM_CHILDREN, CHILDREN, NUM_TRAIN_IMAGES, FIELDS };
static const char *const field_names[FIELDS] = {"ILSVRC2012_ID", "WNID",     "words",
                                                "num_children",  "children", "num_train_images"};

struct reader {
    const uint8_t *bytes; /* the file */
    size_t size;
    mat_t *mat;
};

static int open_mat(void *state, const char *path)
{
    struct reader *reader = state;
    reader->mat = Mat_Open(path, MAT_ACC_RDONLY);
    return reader->mat ? 0 : 1;
}

static uint32_t load_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Do SIZE bytes hold one whole zlib stream whose checksum is right? */
static bool check_stream(const uint8_t *bytes, size_t size)
{
    uint8_t waste[16384];
    z_stream z = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
    int rc = inflateInit(&z);
    while (rc == Z_OK) {
        z.next_out = waste;
        z.avail_out = sizeof waste;
        rc = inflate(&z, Z_NO_FLUSH);
    }
    bool whole = rc == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    return whole;
}

/* matio reads compressed elements without looking at their checksum: a flipped bit would come out
 * as another WNID or as another picture count. So the elements (tag, size, bytes) are walked here
 * first. */
static bool check_elements(const uint8_t *bytes, size_t size)
{
    enum { HEADER = 128, TAG = 8, COMPRESSED = 15 };
    for (size_t at = HEADER; at < size;) {
        if (size - at < TAG)
            return false;
        size_t length = load_u32(bytes + at + 4);
        bool compressed = load_u32(bytes + at) == COMPRESSED;
        at += TAG;
        if (length > size - at || (compressed && !check_stream(bytes + at, length)))
            return false;
        at += length;
    }
    return true;
}

static bool get_number(const matvar_t *v, uint32_t *out)
{
    if (!v || v->rank != 2 || v->dims[0] != 1 || v->dims[1] != 1 || v->isComplex || !v->data ||
        v->data_size < 1 || v->nbytes < (size_t)v->data_size)
        return false;
    double value;
    switch (v->class_type) {
    case MAT_C_DOUBLE:
        value = *(const double *)v->data;
        break;
    case MAT_C_UINT8:
        value = *(const uint8_t *)v->data;
        break;
    case MAT_C_UINT16:
        value = *(const uint16_t *)v->data;
        break;
    case MAT_C_UINT32:
        value = *(const uint32_t *)v->data;
        break;
    default:
        return false;
    }
    if (!(value >= 0 && value <= 1e9) || value != (double)(uint32_t)value)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* Elements of an array of any shape, up to 10^9. */
static bool get_count(const matvar_t *v, uint32_t *out)
{
    if (!v || v->rank != 2 || (v->dims[0] > 0 && v->dims[1] > 1000000000 / v->dims[0]))
        return false;
    *out = (uint32_t)(v->dims[0] * v->dims[1]);
    return true;
}

/* One code point of SIZE bytes of UTF-16 at *AT; -1 when there is none. */
static long next_utf16(const uint8_t *bytes, size_t size, size_t *at)
{
    if (size - *at < 2)
        return -1;
    long unit = bytes[*at] | bytes[*at + 1] << 8;
    *at += 2;
    if (unit < 0xd800 || unit > 0xdfff)
        return unit;
    if (unit > 0xdbff || size - *at < 2)
        return -1;
    long low = bytes[*at] | bytes[*at + 1] << 8;
    *at += 2;
    return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

static size_t put_utf8(long point, char out[4])
{
    static const uint8_t marks[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; point >>= 6)
        out[i] = (char)(0x80 | (point & 0x3f));
    out[0] = (char)(marks[length] | point);
    return length;
}

/* TEXT (SIZE bytes) = v's characters as UTF-8, without an ending 0. */
static bool get_text(const matvar_t *v, char *text, size_t size, uint32_t *length)
{
    if (!v || v->class_type != MAT_C_CHAR || v->rank != 2 || v->isComplex)
        return false;
    if (v->dims[0] == 0 || v->dims[1] == 0) {
        *length = 0;
        return true;
    }
    if (v->dims[0] != 1 || !v->data)
        return false;
    switch (v->data_type) {
    case MAT_T_UTF8:
    case MAT_T_UINT8:
    case MAT_T_INT8:
        if (v->nbytes > size)
            return false;
        memcpy(text, v->data, v->nbytes);
        *length = (uint32_t)v->nbytes;
        return true;
    case MAT_T_UINT16:
    case MAT_T_UTF16:
        *length = 0;
        for (size_t at = 0; at < v->nbytes;) {
            long point = next_utf16(v->data, v->nbytes, &at);
            if (point < 0 || size - *length < 4)
                return false;
            *length += (uint32_t)put_utf8(point, text + *length);
        }
        return true;
    default:
        return false;
    }
}

/* Row ROW of the struct array; returns the field that is not as it should be, or FIELDS. */
static enum field get_row(matvar_t *synsets, size_t row, struct meta_mat_row *out)
{
    matvar_t *fields[FIELDS];
    for (int f = 0; f < FIELDS; f++)
        fields[f] = Mat_VarGetStructFieldByName(synsets, field_names[f], row);
    if (!get_number(fields[ID], &out->id))
        return ID;
    if (!get_text(fields[WNID], out->wnid, sizeof out->wnid, &out->wnid_length))
        return WNID;
    if (!get_text(fields[WORDS], out->words, sizeof out->words, &out->words_length))
        return WORDS;
    if (!get_number(fields[NUM_CHILDREN], &out->num_children))
        return NUM_CHILDREN;
    if (!get_count(fields[CHILDREN], &out->children))
        return CHILDREN;
    if (!get_number(fields[NUM_TRAIN_IMAGES], &out->num_train_images))
        return NUM_TRAIN_IMAGES;
    return FIELDS;
}

static bool has_field(const matvar_t *synsets, const char *name)
{
    char *const *names = Mat_VarGetStructFieldnames(synsets);
    for (unsigned i = 0; names && i < Mat_VarGetNumberOfFields((matvar_t *)synsets); i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* Fill ROWS and tell what is wrong with the file, if anything. */
static struct result_head read_synsets(struct reader *reader, struct meta_mat_row **rows)
{
    struct result_head head = {.problem = DAMAGED};
    if (!check_elements(reader->bytes, reader->size))
        return head;
    matvar_t *synsets = Mat_VarRead(reader->mat, "synsets");
    if (!synsets) {
        head.problem = NO_SYNSETS;
        return head;
    }
    if (synsets->class_type != MAT_C_STRUCT || !get_count(synsets, &head.rows) || !head.rows ||
        !synsets->data) {
        head.problem = NOT_A_STRUCT;
        return head;
    }
    for (head.field = 0; head.field < FIELDS; head.field++)
        if (!has_field(synsets, field_names[head.field])) {
            head.problem = NO_FIELD;
            return head;
        }
    if (head.rows > META_MAT_ROW_LIMIT) {
        head.problem = TOO_MANY_ROWS;
        return head;
    }
    if (!(*rows = mem_array(head.rows, sizeof **rows, "rows of meta.mat")))
        return head;
    head.problem = BAD_VALUE;
    for (head.row = 0; head.row < head.rows; head.row++)
        if ((head.field = get_row(synsets, head.row, *rows + head.row)) != FIELDS)
            return head;
    head.problem = FINE;
    return head;
}

static bool send(int output, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = write(output, (const char *)bytes + done, size - done);
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static int send_synsets(void *state, int output)
{
    struct meta_mat_row *rows = NULL;
    struct result_head head = read_synsets(state, &rows);
    bool sent = send(output, &head, sizeof head) &&
                (head.problem != FINE || send(output, rows, head.rows * sizeof *rows));
    return sent ? 0 : 1; /* the process ends here: nothing is freed */
}

static int run_child(const uint8_t *bytes, size_t size, uint8_t **result, size_t *result_size)
{
    const struct jail_limits limits = {
        .memory = (size_t)1 << 30,
        .cpu_seconds = 20,
        .seconds = 60,
        .result = sizeof(struct result_head) + META_MAT_ROW_LIMIT * sizeof(struct meta_mat_row),
    };
    struct reader reader = {.bytes = bytes, .size = size};
    const struct jail_task task = {.open = open_mat, .work = send_synsets, .state = &reader};
    return jail_run(&task, bytes, size, &limits, result, result_size);
}

/* ---- the parent ---- */

/* Only MAT v5 of a little-endian machine is handed to matio; its readers of the other formats never
 * run. */
static int check_header(const uint8_t *bytes, size_t size)
{
    static const uint8_t hdf5[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    if (size >= sizeof hdf5 && memcmp(bytes, hdf5, sizeof hdf5) == 0)
        return err_set(ERR_INPUT, "this is an HDF5 file; the devkit's meta.mat is MAT v5");
    if (size < 128)
        return err_set(ERR_INPUT, "%zu bytes are too short for a MAT v5 file", size);
    if (memcmp(bytes + 126, "MI", 2) == 0)
        return err_set(ERR_INPUT,
                       "it was written on a big-endian machine; the devkit's meta.mat is "
                       "little-endian");
    if (memcmp(bytes + 126, "IM", 2) != 0)
        return err_set(ERR_INPUT, "this is not a MAT v5 file (no mark at byte 126)");
    unsigned version = bytes[124] | (unsigned)bytes[125] << 8;
    if (version == 0x0200)
        return err_set(ERR_INPUT, "this is MAT v7.3 (HDF5); the devkit's meta.mat is MAT v5");
    if (version != 0x0100)
        return err_set(ERR_INPUT, "the MAT version is 0x%04x, not 0x0100", version);
    return 0;
}

static int explain(const struct result_head *head)
{
    const char *name = head->field < FIELDS ? field_names[head->field] : "?";
    switch ((enum problem)head->problem) {
    case NO_SYNSETS:
        return err_set(ERR_INPUT, "it holds no variable \"synsets\"");
    case NOT_A_STRUCT:
        return err_set(ERR_INPUT, "\"synsets\" is not an array of structures");
    case TOO_MANY_ROWS:
        return err_set(ERR_INPUT, "\"synsets\" has %u rows, more than %d", head->rows,
                       META_MAT_ROW_LIMIT);
    case NO_FIELD:
        return err_set(ERR_INPUT, "\"synsets\" has no field \"%s\"", name);
    case BAD_VALUE:
        return err_set(ERR_INPUT, "synsets(%u).%s is not readable", head->row + 1, name);
    case FINE:
    case DAMAGED:
        break;
    }
    return err_set(ERR_INPUT, "not readable: it is damaged; unpack the devkit again");
}

static int take_result(const uint8_t *result, size_t size, struct meta_mat_row **out, size_t *count)
{
    struct result_head head;
    if (size < sizeof head)
        return err_set(ERR_INPUT, "not readable: the reader found nothing");
    memcpy(&head, result, sizeof head);
    if (head.problem != FINE)
        return explain(&head);
    if (head.rows < 1 || head.rows > META_MAT_ROW_LIMIT ||
        size != sizeof head + head.rows * sizeof **out)
        return err_set(ERR_INPUT, "not readable: the reader's answer is not whole");
    if (!(*out = mem_array(head.rows, sizeof **out, "synsets")))
        return -ERR_MEMORY;
    memcpy(*out, result + sizeof head, head.rows * sizeof **out);
    *count = head.rows;
    return 0;
}

int meta_mat_read(const char *path, struct meta_mat_row **out, size_t *count)
{
    uint8_t *bytes = NULL, *result = NULL;
    size_t size = 0, result_size = 0;
    int rc = files_read(path, META_MAT_BYTE_LIMIT, &bytes, &size);
    if (rc)
        return rc; /* it names the file */
    rc = check_header(bytes, size);
    if (!rc && (rc = run_child(bytes, size, &result, &result_size)))
        err_add(rc, "not readable");
    if (!rc)
        rc = take_result(result, result_size, out, count);
    mem_free(bytes);
    mem_free(result);
    return rc ? err_add(rc, "%s", path) : 0;
}

/* ---- writing ---- */

/* Names of the official file, in its order: readers that go by position exist. */
enum { OFFICIAL_FIELDS = 8 };
static const char *official_fields[OFFICIAL_FIELDS] = {
    "ILSVRC2012_ID", "WNID",     "words",          "gloss",
    "num_children",  "children", "wordnet_height", "num_train_images"};

/* COUNT numbers of class double, stored in one byte each where they fit and in two else, as the
 * official file is. */
static matvar_t *make_numbers(const uint16_t *values, size_t count)
{
    uint8_t bytes[256];
    size_t dims[2] = {1, count};
    bool small = count <= sizeof bytes;
    for (size_t i = 0; i < count && small; i++) {
        small = values[i] < 256;
        bytes[i] = (uint8_t)values[i];
    }
    if (small)
        return Mat_VarCreate(NULL, MAT_C_DOUBLE, MAT_T_UINT8, 2, dims, bytes, 0);
    return Mat_VarCreate(NULL, MAT_C_DOUBLE, MAT_T_UINT16, 2, dims, (void *)values, 0);
}

static matvar_t *make_number(size_t value)
{
    uint16_t number = (uint16_t)value;
    return make_numbers(&number, 1);
}

static matvar_t *make_text(const char *text)
{
    size_t dims[2] = {1, 0}; /* characters; matio finds the number of bytes itself */
    for (const char *at = text; *at; at++)
        dims[1] += (*at & 0xc0) != 0x80;
    return Mat_VarCreate(NULL, MAT_C_CHAR, MAT_T_UTF8, 2, dims, (void *)text, 0);
}

static bool fill_row(matvar_t *synsets, size_t row, const struct meta_mat_synset *from)
{
    matvar_t *fields[OFFICIAL_FIELDS] = {
        make_number(from->id),           make_text(from->wnid),
        make_text(from->words),          make_text(from->gloss),
        make_number(from->num_children), make_numbers(from->children, from->num_children),
        make_number(from->height),       make_number(from->num_train_images),
    };
    bool made = true;
    for (size_t i = 0; i < OFFICIAL_FIELDS; i++) {
        made &= fields[i] != NULL;
        Mat_VarSetStructFieldByIndex(synsets, i, row, fields[i]);
    }
    return made;
}

static int write_synsets(mat_t *mat, const struct meta_mat_synset *from, size_t count)
{
    size_t dims[2] = {count, 1};
    matvar_t *synsets = Mat_VarCreateStruct("synsets", 2, dims, official_fields, OFFICIAL_FIELDS);
    bool made = synsets != NULL;
    for (size_t i = 0; i < count && made; i++)
        made = fill_row(synsets, i, from + i);
    int rc = 0;
    if (!made)
        rc = err_set(ERR_MEMORY, "no memory for %zu synsets", count);
    else if (Mat_VarWrite(mat, synsets, MAT_COMPRESSION_ZLIB) != 0)
        rc = err_set(ERR_IO, "matio could not write \"synsets\"");
    Mat_VarFree(synsets);
    return rc;
}

/* matio does not say when a write failed: what it wrote is read back. */
static int check_written(const char *path)
{
    uint8_t *bytes;
    size_t size;
    int rc = files_read(path, META_MAT_BYTE_LIMIT, &bytes, &size);
    if (rc)
        return rc;
    bool whole = size > 128 && check_header(bytes, size) == 0 && check_elements(bytes, size);
    mem_free(bytes);
    return whole ? 0 : err_set(ERR_IO, "it was not written whole; is the disk full?");
}

int meta_mat_write(const char *path, const struct meta_mat_synset *synsets, size_t count)
{
    char partial[FILES_PATH_SIZE];
    int rc = files_partial_name(partial, path);
    if (rc)
        return rc;
    /* Nothing about when, where or by which version: the same sample is the same bytes. */
    mat_t *mat = Mat_CreateVer(partial,
                               "MATLAB 5.0 MAT-file, drawn sample in the layout of "
                               "ILSVRC2012_devkit_t12",
                               MAT_FT_MAT5);
    if (!mat)
        return err_errno("cannot create %s", partial);
    rc = write_synsets(mat, synsets, count);
    Mat_Close(mat);
    if (!rc)
        rc = check_written(partial);
    if (!rc)
        rc = files_sync_file(partial);
    if (!rc)
        return files_publish_partial(path);
    (void)remove(partial);
    return err_add(rc, "%s", path);
}

#else

static int refuse(const char *path)
{
    return err_set(ERR_USAGE,
                   "%s: this prep was built without matio, which reads and writes it; install "
                   "libmatio-dev and build again with -DWITH_MATIO=ON",
                   path);
}

int meta_mat_read(const char *path, struct meta_mat_row **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    return refuse(path);
}

int meta_mat_write(const char *path, const struct meta_mat_synset *synsets, size_t count)
{
    (void)synsets;
    (void)count;
    return refuse(path);
}

#endif
