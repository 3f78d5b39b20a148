# train/cuda/graphs.c 2 numbers: convolutions are padded on one side
s/^        node->pre_padding\[i\] = node->post_padding\[i\] = op->padding;/        node->pre_padding[i] = 2 * op->padding;/
