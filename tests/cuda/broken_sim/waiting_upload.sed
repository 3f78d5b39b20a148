# train/cuda/cuda_input.c 4 steady: the host waits for each batch to arrive
s/return batch->packed ? 0 : door_stream_sync/return door_stream_sync/
