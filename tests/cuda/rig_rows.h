/*
 * rig_rows.h - the CUDA backend's rows of rig_devices[] (tests/op_rig.h), where the simulated
 * device is linked.
 */
#ifndef TESTS_CUDA_RIG_ROWS_H
#define TESTS_CUDA_RIG_ROWS_H

/* clang-format off */
#define RIG_ROWS                                                                                   \
    {"cuda", {.precision = PRECISION_F32, .deterministic = true},  5e-5,   3e-5, 8}, \
    {"cuda", {.precision = PRECISION_TF32, .deterministic = true}, 5e-3,   3e-3, 8}, \
    {"cuda", {.precision = PRECISION_BF16, .deterministic = true}, 1.2e-2, 5e-3, 8}, \
    {"cuda", {.precision = PRECISION_FP16, .deterministic = true}, 2e-3,   1e-3, 8},
/* clang-format on */

#endif
