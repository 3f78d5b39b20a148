# train/cuda/cuda_step.c 2 race: one recording for both stages: it reads the batch of the other
s/captures\[walk\]\[device->fed\]/captures[walk][0]/
