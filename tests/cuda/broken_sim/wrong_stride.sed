# train/cuda/graphs.c 2 numbers: tensors lie as NCHW
s/\.strides = {h \* w \* c, 1, w \* c, c},/.strides = {h * w * c, h * w, w, 1},/
