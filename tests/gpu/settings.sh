# Sourced by bundle.sh, which runs the loss curve on the CPU, and by run.sh, which runs it on the GPU.
steps=100 arch=resnet18 size=64 batch=16
# pack PREP PICTURES: train.lmdb and val.lmdb in this folder.
pack() {
    [ -d train.lmdb ] || "$1" pack "$2/train" train.lmdb --short-side $((size * 8 / 7)) >pack.log 2>&1 || return
    [ -d val.lmdb ] || "$1" pack "$2/val" val.lmdb --short-side $((size * 8 / 7)) >>pack.log 2>&1
}
# trained TRAIN NAME DEVICE PRECISION STEPS [OPTION...]: a run of its own folder; its talk in NAME.log. The last normalisation of each
# block begins with 0: the network stands small changes, so that a curve tells rounding from mistakes.
trained() {
    local train=$1 name=$2 device=$3 precision=$4 count=$5
    shift 5
    "$train" --db train.lmdb --val val.lmdb --arch $arch --zero-gamma --image-size $size --batch-size $batch --seed 7 --lr 0.001 --log-every 1 \
        --name "$name" --device "$device" --precision "$precision" --max-steps "$count" --no-first-validation "$@" >>"$name.log" 2>&1
}
