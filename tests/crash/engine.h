/*
 * engine.h - one command, disturbed at every call that changes files (or reads
 * them, or asks for memory), and run again: in the end
 * stands what an undisturbed run leaves, byte for byte.
 *
 * The disturbances: killed before, after and half-way through each call; killed again while it
 * recovers; an error from each call, once and from there on; every disk state that the loss of
 * power may leave (disk.h). Two processes share the work. Memory is a disk here where there is a
 * /dev/shm, so that an fsync costs nothing; what it means is the model's business.
 */
#ifndef TESTS_CRASH_ENGINE_H
#define TESTS_CRASH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

/* A command under test. */
struct scenario {
    const char *name;
    /* As for execv; an argument that begins with @ stands for a path in the folder of work. */
    const char *const *command;
    /* Only calls below this folder of the folder of work are counted and hit; NULL: all. */
    const char *watched;
    const char *begin; /* copied to the folder of work before each run; NULL: an empty one */
    /* After a mark of the program (injector.c), or after its end (END_MARK), FOLDER in any state
     * that the loss of power leaves must hold what was promised. False after a line that says what
     * is missing. NULL: nothing is promised. */
    bool (*promised)(const struct scenario *scenario, const char *folder, unsigned mark);
    /* Whether FOUND holds what EXPECTED holds, which an undisturbed run left (EXTRA: or more); OUT
     * (SIZE bytes) = what differs. NULL: folder_same. */
    bool (*same)(const char *expected, const char *found, bool extra, char *out, size_t size);
    const char *errors; /* "EIO short": only these; NULL: all that a call knows */
    /* An error may leave a file that is too much, with a warning; the next such run removes it. */
    bool leftovers;
};

#define END_MARK 0xffffffffu

/* Let the test's folder (test.h) be on a file system in memory, if there is one; before anything is
 * made. */
void engine_choose_folder(void);

/* Run the command undisturbed in BASE (made) and remember what it leaves, in BASE/reference, and
 * which calls it makes. */
struct engine;
struct engine *engine_open(const struct scenario *scenario, const char *base);
/* Removes BASE. Returns the number of failures, which were printed (the first ones). */
long engine_close(struct engine *engine);

/* Each returns the number of distinct disturbances that were made. SECONDS: kills in each recovery,
 * at most. Stops are SIGTERM at each call of a command that catches it: it ends as stopped, or was
 * done. CRASH_KINDS="power kills" in the environment leaves out the other kinds. */
long engine_kills(struct engine *engine, int seconds);
long engine_stops(struct engine *engine);
long engine_errors(struct engine *engine);
long engine_power(struct engine *engine);
/* Errors of each EVERYth call that opens, reads, looks at, lists, maps or locks a file; after all
 * others. */
long engine_read_errors(struct engine *engine, int every);
/* Memory refused at each EVERYth allocation (memory.c), once and from there on; a thread likewise.
 */
long engine_memory(struct engine *engine, int every);

#endif
