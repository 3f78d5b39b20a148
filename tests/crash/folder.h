/*
 * folder.h - whole folders: copied, removed, compared. Helpers of the fault tests.
 */
#ifndef TESTS_CRASH_FOLDER_H
#define TESTS_CRASH_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* All three return false, after a line on standard output, when something is in the way. */
bool folder_make(const char *path);
bool folder_remove(const char *path); /* a missing one is fine */
bool folder_copy(const char *from, const char *to);

/* The first difference in names, kinds or bytes between EXPECTED and FOUND goes to OUT ("" when
 * they are the same). With EXTRA, FOUND may hold more names. Links are the same that lead to files
 * of the same name, which FOUND's must find. */
bool folder_same(const char *expected, const char *found, bool extra, char *out, size_t size);

/* A path below FOLDER whose last name has PART in it goes to OUT; false: there is none. */
bool folder_finds(const char *folder, const char *part, char *out, size_t size);

#endif
