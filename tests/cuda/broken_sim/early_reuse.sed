# train/cuda/cuda_input.c 2 race: the next batch is written over one that is still read
s/if ((rc = door_stream_wait(door, device->transfer, stage->taken)) ||/if (/
