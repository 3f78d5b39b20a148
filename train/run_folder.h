/*
 * run_folder.h - where a run keeps its files: checkpoints/<name>/ and runs/<name>/ under --output,
 * and the lock that keeps a second trainer out (checkpoints/.<name>.lock, empty, never removed).
 */
#ifndef TRAIN_RUN_FOLDER_H
#define TRAIN_RUN_FOLDER_H

#include "common/files.h"
#include "train/settings.h"

struct run_folder {
    char checkpoints[FILES_PATH_SIZE], runs[FILES_PATH_SIZE];
    struct files_lock *lock;
};

/* Lock the run's name and make its folders; with --resume no, earlier ones are first renamed to
 * <name>.old-<k>. ERR_BUSY: another trainer runs under this name. */
int run_folder_open(struct run_folder *out, const struct settings *settings);
void run_folder_close(struct run_folder *folder); /* a zeroed one is fine */

/* Write runs/<name>/settings.json: every setting as resolved, versions, DEVICE's description and
 * the digests of the data sets. train --config reads it back. VAL_DIGEST may be NULL. */
int run_folder_record(const struct run_folder *folder, const struct settings *settings,
                      const char *device, const char *db_digest, const char *val_digest);

#endif
