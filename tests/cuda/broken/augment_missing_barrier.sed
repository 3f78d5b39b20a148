# kernels/augment.cu thread augment_small: the vertical pass reads the tile while it is being made
/resample_one(across, x, pixels/{
n
s|__syncthreads();||
}
