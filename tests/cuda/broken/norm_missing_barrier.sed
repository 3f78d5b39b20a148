# kernels/norm.cu thread bias: the barrier between writing and reading the sums of the warps is missing
s|^    __syncthreads();$||
