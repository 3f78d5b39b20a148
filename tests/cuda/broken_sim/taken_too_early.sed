# train/cuda/cuda_input.c 2 race: a stage counts as read before the step that reads it is queued
s/door_event_record(door, device->stages\[device->fed\].taken, device->compute)/door_event_record(door, device->stages[next_stage(device)].taken, device->compute)/
