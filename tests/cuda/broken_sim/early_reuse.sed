# train/cuda/cuda_input.c 2 race: the batch after the next is written over one that a step still reads
s/if ((rc = door_stream_wait(door, device->transfer, stage->taken)) ||/if (/
