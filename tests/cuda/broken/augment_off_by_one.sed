# kernels/augment.cu address augment: the last tap of the second pass is forgotten
s|const int last = end < to ? end : to;|const int last = (end < to ? end : to) - 1;|
