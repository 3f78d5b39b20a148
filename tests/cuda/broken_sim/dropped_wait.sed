# train/cuda/cuda_input.c 2 race: the step does not wait for its batch
s/if ((rc = door_stream_wait(door, device->compute, stage->arrived)) ||/if (/
