/*
 * roofline.h - what the arithmetic and the memory of a GPU allow a training step, on paper: from
 * the op list of model.h and the row of cuda/devices.h, at three levels of fusion.
 *
 * A tensor counts once for each read or write that a level cannot avoid, in 16-bit elements; the
 * input has 8 channels, masks have one bit an element. Statistics are too small to count. Of a
 * normalisation's output X (in elements):
 * - unfused: normalisation reads twice and writes, ReLU reads and writes, the sum reads two and
 *   writes; backward 5, 3 and 2 passes.
 * - a: normalisation, sum, ReLU and mask are one op: it reads X twice (and the residual) and
 *   writes; backward 5 passes, the mask, the residual's gradient.
 * - b: the convolution leaves the statistics, the next one normalises as it reads; only a block's
 *   end is applied in a pass of its own (reads two, writes one). Backward: dgrad also reads X and
 *   leaves ReLU's gradient and the sums, one pass reads two and writes (a block's end: two more).
 * At every level a convolution reads its input and writes its output, dgrad reads dy and writes
 * dx, wgrad reads x and dy; the first convolution has no dgrad.
 */
#ifndef TRAIN_ROOFLINE_H
#define TRAIN_ROOFLINE_H

#include "train/cuda/devices.h"
#include "train/model.h"

enum roofline_level { ROOFLINE_UNFUSED, ROOFLINE_A, ROOFLINE_B, ROOFLINE_LEVELS };
extern const char *const roofline_level_names[ROOFLINE_LEVELS];

/* Of the rated peaks, what large copies and large products reach: measured on an H100, 3.0 of
 * 3.35 TB/s and 600 of 989 TFLOP/s; of PCIe, what a pinned copy does. */
#define ROOFLINE_MEMORY_SHARE 0.9
#define ROOFLINE_TENSOR_SHARE 0.6
#define ROOFLINE_PCIE_SHARE 0.8

/* One op of the training list, forward and backward, of one picture. */
struct roofline_op {
    double flops; /* two for a multiply-add */
    double bytes[ROOFLINE_LEVELS];
};
struct roofline_op roofline_op(const struct op *op);

/* A whole step. */
struct roofline {
    struct roofline_op picture; /* the sum over the ops */
    /* Once a step: 16-bit weights read forward and backward, f32 gradients written and read by the
     * update, f32 values and momenta read and written, 16-bit copies written. */
    double step_bytes;
    /* Bytes of a picture for the augmentation: what it reads (a crop's average part of a stored
     * picture of 256 x 343) and what it writes; the first part comes through PCIe. */
    double crop_bytes, input_bytes;
    /* Pictures a second: each op's arithmetic and memory in turn, and the slower of the two. */
    double in_turn[ROOFLINE_LEVELS], overlapped[ROOFLINE_LEVELS];
    double augmented, uploaded; /* what memory allows the augmentation, PCIe the upload */
};

/* Of MODEL at its batch. No errors. */
struct roofline roofline_of(const struct model *model, const struct device_row *device);

/* The table that `train plan --roofline` prints: a line for each op, then the sums. LEVEL is the
 * one whose floors stand in the lines. */
void roofline_print(const struct model *model, const struct device_row *device);

#endif
