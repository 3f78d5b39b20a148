#include "common/opts.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

static void *field(const struct opts_row *row, void *settings)
{
    return (char *)settings + row->offset;
}

/* ---- values ---- */

/* Position of TEXT (LENGTH bytes) among "a|b|c", or -1. */
static int find_choice(const char *choices, const char *text, size_t length)
{
    for (int position = 0;; position++) {
        size_t size = strcspn(choices, "|");
        if (size == length && !memcmp(choices, text, size))
            return position;
        if (!choices[size])
            return -1;
        choices += size + 1;
    }
}

static int refuse(const struct opts_row *row, const char *text, const char *wanted)
{
    char quoted[128];
    return err_set(ERR_USAGE, "--%s: \"%s\" is not %s", row->name,
                   err_quote(quoted, sizeof quoted, text), wanted);
}

static int check_range(const struct opts_row *row, double value, const char *text)
{
    if (value >= row->minimum && value <= row->maximum)
        return 0;
    char wanted[128];
    if (row->maximum >= 1e18)
        snprintf(wanted, sizeof wanted, "in the range from %.10g up", row->minimum);
    else
        snprintf(wanted, sizeof wanted, "in the range %.10g to %.10g", row->minimum, row->maximum);
    return refuse(row, text, wanted);
}

static int set_int(const struct opts_row *row, int64_t *out, const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || text[0] == ' ')
        return refuse(row, text, "a whole number");
    *out = value;
    return check_range(row, (double)value, text);
}

static int set_real(const struct opts_row *row, double *out, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || text[0] == ' ' || !isfinite(value))
        return refuse(row, text, "a number");
    *out = value;
    return check_range(row, value, text);
}

static const char *const size_units[] = {"B", "KiB", "MiB", "GiB", "TiB"};

static int set_size(const struct opts_row *row, uint64_t *out, const char *text)
{
    char *end;
    double value = strtod(text, &end), factor = 1;
    size_t unit = 0, units = sizeof size_units / sizeof *size_units;
    while (*end && unit < units && strcmp(end, size_units[unit])) {
        factor *= 1024;
        unit++;
    }
    if (end == text || text[0] == ' ' || !isfinite(value) || value < 0 || value * factor > 1e18 ||
        (*end && unit == units))
        return refuse(row, text, "a size such as 512MiB (B, KiB, MiB, GiB, TiB)");
    *out = (uint64_t)(value * (*end ? factor : 1));
    return check_range(row, (double)*out, text);
}

static int set_flag(const struct opts_row *row, bool *out, const char *text)
{
    if (strcmp(text, "yes") && strcmp(text, "no"))
        return refuse(row, text, "yes or no");
    *out = text[0] == 'y';
    return 0;
}

static int set_choice(const struct opts_row *row, int *out, const char *text)
{
    int position = find_choice(row->choices, text, strlen(text));
    if (position < 0) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "one of %s", row->choices);
        return refuse(row, text, wanted);
    }
    *out = position;
    return 0;
}

int opts_set(const struct opts_row *row, void *settings, const char *text)
{
    switch (row->type) {
    case OPTS_FLAG:
        return set_flag(row, field(row, settings), text);
    case OPTS_INT:
        return set_int(row, field(row, settings), text);
    case OPTS_REAL:
        return set_real(row, field(row, settings), text);
    case OPTS_SIZE:
        return set_size(row, field(row, settings), text);
    case OPTS_CHOICE:
        return set_choice(row, field(row, settings), text);
    case OPTS_TEXT:
        *(const char **)field(row, settings) = text;
        return 0;
    }
    return err_set(ERR_FAULT, "--%s has no type", row->name);
}

void opts_defaults(const struct opts_row *rows, void *settings)
{
    for (const struct opts_row *row = rows; row->name; row++) {
        if (!row->fallback)
            *(const char **)field(row, settings) = NULL;
        else if (opts_set(row, settings, row->fallback))
            abort();
    }
}

static void size_text(uint64_t value, char *out, size_t size)
{
    size_t unit = 0;
    while (value && value % 1024 == 0 && unit + 1 < sizeof size_units / sizeof *size_units) {
        value /= 1024;
        unit++;
    }
    snprintf(out, size, "%llu%s", (unsigned long long)value, size_units[unit]);
}

/* The shortest text that reads back as the same number. */
static void real_text(double value, char *out, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static void choice_text(const char *choices, int position, char *out, size_t size)
{
    while (position-- > 0)
        choices += strcspn(choices, "|") + 1;
    snprintf(out, size, "%.*s", (int)strcspn(choices, "|"), choices);
}

void opts_value(const struct opts_row *row, const void *settings, char *out, size_t size)
{
    const void *at = (const char *)settings + row->offset;
    const char *text;
    switch (row->type) {
    case OPTS_FLAG:
        snprintf(out, size, "%s", *(const bool *)at ? "yes" : "no");
        break;
    case OPTS_INT:
        snprintf(out, size, "%lld", (long long)*(const int64_t *)at);
        break;
    case OPTS_REAL:
        real_text(*(const double *)at, out, size);
        break;
    case OPTS_SIZE:
        size_text(*(const uint64_t *)at, out, size);
        break;
    case OPTS_CHOICE:
        choice_text(row->choices, *(const int *)at, out, size);
        break;
    case OPTS_TEXT:
        text = *(const char *const *)at;
        snprintf(out, size, "%s", text ? text : "");
        break;
    }
}

/* ---- the command line ---- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Letters to insert, remove or change to make A of B (Levenshtein), over names of at most 63 bytes.
 */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], length = strlen(b);
    if (length > 63 || strlen(a) > 63)
        return 64;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = smaller(smaller(row[j], row[j - 1]) + 1, changed);
        }
    }
    return row[length];
}

const struct opts_row *opts_nearest(const struct opts_row *rows, const char *name)
{
    const struct opts_row *nearest = NULL;
    size_t best = 4;
    for (const struct opts_row *row = rows; row->name; row++) {
        size_t letters = distance(name, row->name);
        if (letters < best) {
            best = letters;
            nearest = row;
        }
    }
    return nearest;
}

static int refuse_unknown(const struct opts_command *command, const char *name)
{
    const struct opts_row *nearest = opts_nearest(command->rows, name);
    char quoted[128];
    err_quote(quoted, sizeof quoted, name);
    if (nearest)
        return err_set(ERR_USAGE, "there is no option --%s; did you mean --%s?", quoted,
                       nearest->name);
    return err_set(ERR_USAGE, "there is no option --%s; see %s --help", quoted, command->program);
}

const struct opts_row *opts_find(const struct opts_row *rows, const char *name)
{
    for (const struct opts_row *row = rows; row->name; row++)
        if (!strcmp(row->name, name))
            return row;
    return NULL;
}

/* One option at argv[*i] (beginning with --), with its value there or in the next word. */
static int parse_option(const struct opts_command *command, int argc, char **argv, int *i,
                        void *settings, bool *given)
{
    char name[64];
    const char *word = argv[*i] + 2, *equals = strchr(word, '='),
               *text = equals ? equals + 1 : NULL;
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    if (length >= sizeof name)
        return refuse_unknown(command, word);
    memcpy(name, word, length);
    name[length] = 0;

    const struct opts_row *row = opts_find(command->rows, name);
    if (!row && !strncmp(name, "no-", 3)) {
        row = opts_find(command->rows, name + 3);
        if (row && row->type == OPTS_FLAG && !text)
            text = "no";
        else
            row = NULL;
    }
    if (!row)
        return refuse_unknown(command, name);
    if (!text && row->type == OPTS_FLAG)
        text = "yes";
    if (!text) {
        if (*i + 1 >= argc)
            return err_set(ERR_USAGE, "--%s needs a value", name);
        text = argv[++*i];
    }
    if (given)
        given[row - command->rows] = true;
    return opts_set(row, settings, text);
}

int opts_parse(const struct opts_command *command, int argc, char **argv, void *settings,
               bool *given, struct opts_result *result)
{
    int rc, kept = 1;
    bool options = true;
    *result = (struct opts_result){.arguments = (const char **)(argv + 1)};
    opts_defaults(command->rows, settings);
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            result->help = true;
            return 0;
        } else if (!strcmp(argv[i], "--")) {
            break;
        }
    for (int i = 1; i < argc; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && !strncmp(argv[i], "--", 2)) {
            if ((rc = parse_option(command, argc, argv, &i, settings, given)))
                return rc;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            return err_set(ERR_USAGE, "%s: options begin with two hyphens; see %s --help", argv[i],
                           command->program);
        } else {
            argv[kept++] = argv[i];
        }
    }
    result->argument_count = kept - 1;
    if (result->argument_count < command->minimum_arguments ||
        result->argument_count > command->maximum_arguments)
        return err_set(ERR_USAGE, "usage: %s %s%s[options]; see %s --help", command->program,
                       command->arguments, *command->arguments ? " " : "", command->program);
    return 0;
}

/* ---- help ---- */

/* Print TEXT wrapped at 100 columns with a margin of INDENT, beginning at column COLUMN. */
static void print_wrapped(const char *text, size_t indent, size_t column)
{
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + word > 100) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_row(const struct opts_row *row)
{
    enum { MARGIN = 32 };
    char left[256], text[1024];
    const char *value = row->type == OPTS_CHOICE ? row->choices : row->value;
    bool on = row->type == OPTS_FLAG && row->fallback && row->fallback[0] == 'y';
    snprintf(left, sizeof left, "  --%s%s%s%s", on ? "no-" : "", row->name, value ? " " : "",
             value ? value : "");
    if (row->type == OPTS_FLAG || !row->fallback)
        snprintf(text, sizeof text, "%s", row->help);
    else
        snprintf(text, sizeof text, "%s (default %s)", row->help, row->fallback);
    int column = printf("%-*s", MARGIN, left);
    if (column > MARGIN)
        printf("\n%*s", MARGIN, "");
    print_wrapped(text, MARGIN, MARGIN);
}

void opts_help(const struct opts_command *command)
{
    const char *group = NULL;
    printf("usage: %s %s%s[options]\n\n", command->program, command->arguments,
           *command->arguments ? " " : "");
    print_wrapped(command->summary, 0, 0);
    for (const struct opts_row *row = command->rows; row->name; row++) {
        if (row->group && (!group || strcmp(group, row->group))) {
            group = row->group;
            printf("\n%s:\n", group);
        }
        print_row(row);
    }
}

/* TEXT as roff has it: hyphens that stay, backslashes and dots at a line's begin that mean
 * themselves. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
}

void opts_manual(const struct opts_command *command)
{
    const char *group = NULL;
    fputs(".SS ", stdout);
    print_roff(command->program);
    putchar(' ');
    print_roff(command->arguments);
    putchar('\n');
    print_roff(command->summary);
    putchar('\n');
    for (const struct opts_row *row = command->rows; row->name; row++) {
        const char *value = row->type == OPTS_CHOICE ? row->choices : row->value;
        bool on = row->type == OPTS_FLAG && row->fallback && row->fallback[0] == 'y';
        if (row->group && (!group || strcmp(group, row->group))) {
            group = row->group;
            printf(".PP\n%s:\n", group);
        }
        fputs(".TP\n\\fB\\-\\-", stdout);
        print_roff(on ? "no-" : "");
        print_roff(row->name);
        fputs("\\fR", stdout);
        if (value) {
            fputs(" \\fI", stdout);
            print_roff(value);
            fputs("\\fR", stdout);
        }
        putchar('\n');
        print_roff(row->help);
        if (row->type != OPTS_FLAG && row->fallback) {
            fputs(" (default ", stdout);
            print_roff(row->fallback);
            putchar(')');
        }
        putchar('\n');
    }
}

int opts_check(const struct opts_row *rows)
{
    for (const struct opts_row *row = rows; row->name; row++) {
        _Alignas(8) char value[16] = {0};
        struct opts_row alone = *row;
        alone.offset = 0;
        if (!row->help || !row->group)
            return err_set(ERR_FAULT, "option %s lacks its help or group", row->name);
        if (row->type == OPTS_CHOICE && !row->choices)
            return err_set(ERR_FAULT, "option %s lacks its choices", row->name);
        if (!row->fallback && row->type != OPTS_TEXT)
            return err_set(ERR_FAULT, "option %s lacks its default", row->name);
        if (row->fallback && opts_set(&alone, value, row->fallback))
            return err_set(ERR_FAULT, "the default of option %s is refused", row->name);
        for (const struct opts_row *other = rows; other < row; other++)
            if (!strcmp(other->name, row->name))
                return err_set(ERR_FAULT, "option %s stands twice in the table", row->name);
    }
    return 0;
}
