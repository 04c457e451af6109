/* A libcuda.so.1 for tests: the few calls of the GPU test, on ordinary memory. RISEML_CUDA_DEVICES says how many devices
 * there are; with RISEML_CUDA_BAD_BIT set one bit of what is written comes back wrong, as from a sick memory.
 *
 * Signatures follow cuda.h of the CUDA toolkit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_CONTEXT = 201 };

static int ready, devices, current;

API int cuInit(unsigned flags) {
    const char *count = getenv("RISEML_CUDA_DEVICES");
    devices = count == NULL ? 1 : atoi(count);
    ready = 1;
    return flags == 0 ? SUCCESS : INVALID_VALUE;
}

API int cuDeviceGetCount(int *count) {
    if (!ready)
        return NOT_INITIALIZED;
    *count = devices;
    return SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= devices)
        return INVALID_VALUE;
    *device = 40 + ordinal;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (device < 40 || device >= 40 + devices)
        return INVALID_VALUE;
    *context = (void *)(intptr_t)(1 + device);
    return SUCCESS;
}

API int cuCtxSetCurrent(void *context) {
    current = (int)(intptr_t)context;
    return SUCCESS;
}

API int cuMemAlloc_v2(uint64_t *place, size_t size) {
    if (!current)
        return INVALID_CONTEXT;
    *place = (uint64_t)(uintptr_t)malloc(size);
    return SUCCESS;
}

API int cuMemsetD32_v2(uint64_t place, unsigned word, size_t count) {
    unsigned *words = (unsigned *)(uintptr_t)place;
    for (size_t i = 0; i < count; i++)
        words[i] = word;
    if (getenv("RISEML_CUDA_BAD_BIT") != NULL)
        words[count / 3] ^= 0x10;
    return SUCCESS;
}

API int cuCtxSynchronize(void) {
    return current ? SUCCESS : INVALID_CONTEXT;
}

API int cuMemcpyDtoH_v2(void *host, uint64_t place, size_t size) {
    memcpy(host, (const void *)(uintptr_t)place, size);
    return SUCCESS;
}

API int cuMemFree_v2(uint64_t place) {
    free((void *)(uintptr_t)place);
    return SUCCESS;
}
