# kernels/device.cuh address loss: the butterfly forgets its last step
s|for (int step = 16; step; step >>= 1)|for (int step = 16; step > 1; step >>= 1)|
