# kernels/update.cu address update: a segment's last round goes on behind its end
s|i < segment.floats; i += THREADS|i < KERNEL_SEGMENT_FLOATS; i += THREADS|
