# kernels/pool.cu address pool: a picture has one pixel more than it has
s|pixel < area;|pixel <= area;|
