# kernels/device.cuh address loss: shuffles name half of the warp
s|^#define WARP_ALL 0xFFFFFFFFu|#define WARP_ALL 0x0000FFFFu|
