/*
 * test_gradients_sim.c - tests/test_gradients.c with the CUDA backend on the simulated device:
 * ResNet-18 and 152 forward, backward and in evaluation, against PyTorch's float64.
 */
#include "tests/test.h"

#undef TEST_MAIN
#define TEST_MAIN(tests)                                                                           \
    int main(void)                                                                                 \
    {                                                                                              \
        char program[] = "test_gradients_sim", shallow[] = "resnet18_on_cuda",                     \
             deep[] = "resnet152_on_cuda";                                                         \
        return test_main(3, (char *[]){program, shallow, deep, NULL}, tests,                       \
                         sizeof(tests) / sizeof *(tests));                                         \
    }
#include "tests/test_gradients.c"
