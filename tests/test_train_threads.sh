#!/usr/bin/env bash
# A whole run on `--device ref` (plain C: no OpenMP, whose barriers look like races to the thread sanitizer): packing,
# loading, training and saving with several threads, stopped and resumed, gives the bytes of a run with one loader thread.
# usage: test_train_threads.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/prep" ] || { echo "skipped: prep is not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-threads-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

run() { "$@" >out 2>&1 || { echo "FAIL $*"; tail -n 40 out; exit 1; }; }
trained() { run "$build/train" --db train.lmdb --val val.lmdb --device ref --arch resnet18 --image-size 32 --batch-size 2 \
    --epochs 1 --no-first-validation --seed 5 --lr 0.01 --log-every 1 "$@"; }

run "$build/prep" sample raw --classes 2 --train-per-class 4 --val-per-class 1 --seed 3
run "$build/prep" sort-val raw/devkit raw/val val_sorted
run "$build/prep" pack raw/train train.lmdb --short-side 64 --jobs 3
run "$build/prep" pack val_sorted val.lmdb --short-side 40 --encoding jpeg
trained --name one --workers 1
trained --name three --workers 3 --max-steps 2 --checkpoint-steps 1
trained --name three --workers 3
cmp checkpoints/one/checkpoint.pth checkpoints/three/checkpoint.pth || { echo "FAIL: other bytes"; exit 1; }
echo "ok   ref: one and three loader threads, stopped and resumed: the same bytes"
