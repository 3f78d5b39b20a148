# train/cuda/graphs.c 2 numbers: gradients of gamma and beta change places
s/{DOOR_DSCALE, GRAPH_DGAMMA},/{DOOR_DSCALE, GRAPH_DBETA},/
s/{DOOR_DBIAS,  GRAPH_DBETA }/{DOOR_DBIAS, GRAPH_DGAMMA}/
