/*
 * test_ops_sim.c - tests/test_ops.c with the CUDA backend on the simulated device: every op that a
 * ResNet has, in every precision, against `ref`.
 */
#include "tests/cuda/rig_rows.h"
#include "tests/test_ops.c" /* NOLINT(bugprone-suspicious-include) */
