/*
 * saver.h - a run's saves, beside training: at a save point the state is copied into the snapshot
 * (state.h), which takes a moment, and one thread writes, syncs, reads back and publishes it while
 * training goes on. One save at a time: the next one waits for the one before.
 *
 * A save that fails is not the end: the earlier checkpoint stands, the next save tries again. The
 * third in a row ends the run, and so does every error but ERR_IO.
 */
#ifndef TRAIN_SAVER_H
#define TRAIN_SAVER_H

#include "train/state.h"

struct saver;
/* STATE and FOLDER (the run's, held by its lock) are borrowed and outlive the saver. */
int saver_open(struct saver **out, struct state *state, const char *folder);
/* Waits for a save that is under way, and warns of its error. NULL is fine; err_text stays. */
void saver_close(struct saver *saver);

/* Take a snapshot of the net at POSITION, and begin to save it; as state_write. Fails as
 * saver_check does for the save before, or as state_snapshot. */
int saver_save(struct saver *saver, const struct position *position, bool model);
/* Between two updates, without waiting: has the save that was under way failed, and is that the end
 * of the run? */
int saver_check(struct saver *saver);
/* The last save of a run: waits until it is done, tries once more, and fails where that fails. */
int saver_save_last(struct saver *saver, const struct position *position, bool model);

/* STOOD: seconds for which training stood still for saver_save, in snapshots and waiting for the
 * save before. WRITING: seconds of the thread for all SAVES that have ended. */
struct saver_times {
    int64_t saves;
    double stood, writing;
};
struct saver_times saver_times(const struct saver *saver);

#endif
