# train/cuda/graphs.c 2 numbers: a mask that is set where y is larger than all
s/^const float graph_zero = 0;/const float graph_zero = 1e30f;/
