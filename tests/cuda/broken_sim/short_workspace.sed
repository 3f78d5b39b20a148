# train/cuda/cuda_ops.c 2 error: workspaces of 64 bytes
s/op->workspace_bytes = workspace ? workspace + 256 : 0;/op->workspace_bytes = workspace ? 64 : 0;/
