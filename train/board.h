/*
 * board.h - what a run shows in TensorBoard: the notebook's curves under the notebook's names, over
 * the number of training pictures seen (its steps), and more: rate, speed, waiting, gradients,
 * pictures, settings. data-spec/40-metrics.md, 3.
 */
#ifndef TRAIN_BOARD_H
#define TRAIN_BOARD_H

#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/net.h"
#include "train/settings.h"

struct board;
/* In FOLDER, for a run that has seen SEEN training pictures. Everything is borrowed. ERR_MEMORY. */
int board_open(struct board **out, const char *folder, const struct settings *settings,
               const struct model *model, int64_t seen);
void board_close(struct board *board); /* NULL is fine, also below */
/* Bytes that it will hold: a gradient of the largest parameter, the pictures that board_pictures
 * shows, and their PNG. PACKS: batches come packed. */
uint64_t board_memory(const struct model *model, bool packs);

/* The numbers of metrics.h's lines, at SEEN training pictures. */
void board_step(struct board *board, int64_t seen, const struct metrics_step *line);
void board_validation(struct board *board, int64_t seen, const struct evaluation *evaluation);
/* Before the update whose gradients are shown: the loss scale that they carry, where there is one.
 */
int board_scale(struct board *board, struct net *net);
/* The norm of the gradients that net_train left, and that scale. Both wait for the device. */
int board_gradients(struct board *board, int64_t seen, struct net *net);
/* Up to 16 pictures of a batch, as the network gets them; the device is not asked. */
int board_pictures(struct board *board, int64_t seen, const struct batch *batch);

#endif
