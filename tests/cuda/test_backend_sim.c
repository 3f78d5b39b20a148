/*
 * test_backend_sim.c - tests/test_backend.c with the CUDA backend on the simulated device.
 */
#include "tests/cuda/rig_rows.h"
#include "tests/test_backend.c" /* NOLINT(bugprone-suspicious-include) */
