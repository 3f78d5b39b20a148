/*
 * stand_in_driver.c - for tests on machines without a driver, and for nothing else: a libcuda.so.1
 * that owns no GPU. cuDNN's engines that are compiled at run time give their machine code to the
 * driver while a plan is made; this one takes it, so that the plan is made. Whatever would need a
 * GPU says CUDA_ERROR_NO_DEVICE. It is built beside the tests, loaded by its path, only where there
 * is no real driver, and never installed.
 */
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NO_DEVICE = 100 };

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

int cuGetErrorString(int error, const char **text);
int cuGetErrorString(int error, const char **text)
{
    (void)error;
    *text = "no device: this is the tests' stand-in for a driver";
    return SUCCESS;
}

/* A library is a byte of memory, and every kernel of it is the library. */
int cuLibraryLoadData(void **library, const void *code);
int cuLibraryLoadData(void **library, const void *code)
{
    *library = code ? malloc(1) : NULL;
    return *library ? SUCCESS : INVALID_VALUE;
}

int cuLibraryGetKernel(void **kernel, void *library, const char *name);
int cuLibraryGetKernel(void **kernel, void *library, const char *name)
{
    (void)name;
    *kernel = library;
    return SUCCESS;
}

int cuLibraryUnload(void *library);
int cuLibraryUnload(void *library)
{
    free(library);
    return SUCCESS;
}

/* cuDNN looks for these and complains about any that is missing; it calls them with a GPU only. */
#define ABSENT(name)                                                                               \
    int name(void);                                                                                \
    int name(void)                                                                                 \
    {                                                                                              \
        return NO_DEVICE;                                                                          \
    }
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetCount)
ABSENT(cuGetErrorName)
ABSENT(cuInit)
ABSENT(cuKernelGetAttribute)
ABSENT(cuKernelSetAttribute)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate)
ABSENT(cuLinkDestroy)
ABSENT(cuOccupancyMaxPotentialClusterSize)
ABSENT(cuStreamGetCtx)
