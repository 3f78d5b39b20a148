# kernels/loss.cu address loss: gradients of rows that do not count are not written
s|^    from_float(gradient, gradients + i);|    if (row < used) from_float(gradient, gradients + i);|
