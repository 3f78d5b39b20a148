#!/usr/bin/env bash
# From nothing to a trained network in one command.
#   ./quickstart.sh                     draws a small ILSVRC-shaped data set and trains on it: minutes on two cores
#   ./quickstart.sh /data/ILSVRC2012    your own tree: train/, val/ and devkit/ (any subset of the classes), with the
#                                       program's defaults; packs and trains in ./imagenet (or the folder in second place)
set -euo pipefail
cd "$(dirname "$0")"
. tests/tools/packages.sh

# Print a command, then run it.
show() { printf '\n$ %s\n' "$*"; "$@"; }
last_value() { grep -o "\"$2\": [0-9.e+-]*" "$1" | tail -n 1 | cut -d' ' -f2; }

install_packages
echo "building (a Release build in build/)"
cmake --preset default -DWERROR=OFF >/dev/null
cmake --build build --target prep train -j "$(nproc)" | tail -n 1
prep=$PWD/build/prep train=$PWD/build/train

# Draw, sort and pack a small data set in the current folder; each command goes on where it was interrupted.
drawn() {
    show "$prep" sample ILSVRC2012 &&
    show "$prep" sort-val ILSVRC2012/devkit ILSVRC2012/val val_sorted &&
    show "$prep" pack ILSVRC2012/train train.lmdb --short-side 96 --devkit ILSVRC2012/devkit &&
    show "$prep" pack val_sorted val.lmdb --short-side 96 --devkit ILSVRC2012/devkit
}

# Hours and gigabytes for the user's tree: some of its pictures are packed and trained on here, then it is scaled up.
estimate() {
    local pictures validation classes log=quickstart-data/estimate.log
    pictures=$(find -L "$1/train" -type f | wc -l)
    validation=$(find -L "$1/val" -type f | wc -l)
    classes=$(find -L "$1/train" -mindepth 1 -maxdepth 1 -type d | wc -l)
    echo "measuring this machine on some of the pictures ..."
    rm -rf quickstart-data/estimate.lmdb
    (cd quickstart-data &&
        "$prep" pack "$1/train" estimate.lmdb --per-class $((1000 / (classes + 1) + 1)) --max-bad 1000000000 &&
        "$train" --db estimate.lmdb --max-steps 4 --name estimate --resume no) >$log 2>&1 || { tail -n 3 $log; exit 1; }
    awk -v n="$pictures" -v v="$validation" \
        -v packing="$(sed -n 's/^packed .*: \([0-9.]*\) images.*/\1/p' $log)" \
        -v bytes="$("$prep" info quickstart-data/estimate.lmdb --json | sed -n 's/^  "bytes": \([0-9]*\).*/\1/p')" \
        -v images="$("$prep" info quickstart-data/estimate.lmdb --json | sed -n 's/^  "images": \([0-9]*\).*/\1/p')" \
        -v rate="$(last_value quickstart-data/runs/estimate/metrics.jsonl img_per_s)" 'BEGIN {
        size = (n + v) * bytes / images / 1e9
        printf "\nestimate: %d training and %d validation pictures\n", n, v
        printf "  packed as rgb: %.1f GB; as jpeg (prep pack --encoding jpeg): about %.1f GB\n", size, size / 6
        printf "  packing at %.0f images/s: %.1f hours\n", packing, (n + v) / packing / 3600
        printf "  training ResNet-152 at %.1f img/s: %.1f hours an epoch, %.0f hours for 100 epochs\n", rate, n / rate / 3600,
            n * 100 / rate / 3600
    }'
    rm -rf quickstart-data/estimate.lmdb
}

if [ $# -eq 0 ]; then
    mkdir -p quickstart-data
    cd quickstart-data
    drawn
    show "$train" --db train.lmdb --val val.lmdb --arch resnet18 --image-size 64 --batch-size 32 --epochs 15 --lr 0.02 \
        --schedule cosine --schedule-unit step --warmup-epochs 1 --no-first-validation --name quickstart
    cat <<TXT

Validation accuracy: top-1 $(last_value runs/quickstart/metrics.jsonl top1) %
Checkpoint: $PWD/checkpoints/quickstart/checkpoint.pth
Log:        $PWD/runs/quickstart/metrics.jsonl

For real ImageNet, with its archives unpacked (train/<wnid>/*.JPEG, val/*.JPEG, devkit/):
    $prep sort-val devkit/ val/ val_sorted/
    $prep pack train/ train.lmdb
    $prep pack val_sorted/ val.lmdb
    $train --db train.lmdb --val val.lmdb
or all of it:  ./quickstart.sh /data/ILSVRC2012
TXT
    exit 0
fi

source_tree=$(realpath "$1")
for part in train val devkit; do
    [ -d "$source_tree/$part" ] || { echo "quickstart.sh: $source_tree/$part is not there; expected train/, val/ and devkit/" >&2; exit 3; }
done
mkdir -p quickstart-data "${2:-imagenet}"
estimate "$source_tree"
cd "${2:-imagenet}"
show "$prep" sort-val "$source_tree/devkit" "$source_tree/val" val_sorted
show "$prep" pack "$source_tree/train" train.lmdb --devkit "$source_tree/devkit"
show "$prep" pack val_sorted val.lmdb --devkit "$source_tree/devkit"
show "$train" --db train.lmdb --val val.lmdb
