/*
 * err.h - errors are values: a negative code that says the kind, and one sentence per thread that
 * says what happened, where (file, record, line, operation) and what to do about it.
 *
 * A function that can fail returns 0 or the negative of an err_kind. Nothing but a program's main
 * prints the text or exits. Threads hand their error on with err_take and err_raise (work.h does it
 * for its crews).
 */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

/* The kinds are the exit codes of both programs (README.md, "Exit codes"). */
enum err_kind {
    ERR_NONE = 0,
    ERR_FAULT = 1,      /* a fault of ours */
    ERR_USAGE = 2,      /* command line or settings */
    ERR_INPUT = 3,      /* bad input: a picture, a devkit file, a damaged shard */
    ERR_IO = 4,         /* input/output failed, or no space */
    ERR_MEMORY = 5,     /* host or device memory */
    ERR_BUSY = 6,       /* another run holds it */
    ERR_DEVICE = 7,     /* device lost, or its self-test failed */
    ERR_MISMATCH = 8,   /* settings, classes or checkpoint do not fit together */
    ERR_NOT_FINITE = 9, /* the loss is not a finite number */
    ERR_STOPPED = 75    /* stopped on request; the same command goes on */
};

#define ERR_TEXT_SIZE 1024

/* An error as a value that may travel between threads. */
struct err {
    enum err_kind kind;
    char text[ERR_TEXT_SIZE];
};

/* Set this thread's error text (cut at ERR_TEXT_SIZE - 1 bytes). Returns -kind, so that callers
 * write `return err_set(ERR_INPUT, "%s: ...", path);`. */
int err_set(enum err_kind kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As err_set with ": " and the words for errno at the end. Memory, space and rights choose the
 * kind: ENOMEM is ERR_MEMORY, everything else ERR_IO. errno is read before anything else. */
int err_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Put context and ": " before the current text; returns RC unchanged. */
int err_add(int rc, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* This thread's text; "" when there was no error. Borrowed: valid until this thread's next err_
 * call. */
const char *err_text(void);

/* Copy this thread's error (kind from RC) to *OUT, and set *FROM as this thread's error. err_raise
 * returns -from->kind, 0 for ERR_NONE. */
void err_take(int rc, struct err *out);
int err_raise(const struct err *from);

/* The exit code for a return code: 0 for 0, else the kind. */
int err_exit_code(int rc);

/* Copy TEXT to OUT (SIZE bytes, always ended) with every byte that is not printable ASCII, and the
 * backslash, written as \xNN, so that names of foreign files are safe in messages and lists.
 * Returns OUT. */
char *err_quote(char *out, unsigned long size, const char *text);

#endif
