#!/usr/bin/env bash
# The trainer from the outside: whole runs on a small drawn data set, interrupted, resumed, refused.
# usage: test_train.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/prep" ] && [ -x "$build/train" ] || { echo "skipped: prep or train is not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-train-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() { echo "FAIL $*"; failures=$((failures + 1)); }
# Run, keep all it says in NAME.out and NAME.err, check the exit code.
expect() { # CODE NAME COMMAND...
    local code=$1 name=$2 got=0
    shift 2
    "$@" >"$name.out" 2>"$name.err" || got=$?
    [ "$got" -eq "$code" ] || { fail "$name: exit $got, not $code"; tail -n 3 "$name.err"; }
}
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 3 "$1"; }; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
trained() { "$build/train" --db train.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 \
    --threads 1 --seed 5 --lr 0.01 --log-every 1 "$@"; }

expect 0 sample "$build/prep" sample raw --classes 3 --train-per-class 8 --val-per-class 6 --seed 3
expect 0 sort "$build/prep" sort-val raw/devkit raw/val val_sorted
expect 0 pack "$build/prep" pack raw/train train.lmdb --short-side 128 --shard-size 1MiB
expect 0 pack-val "$build/prep" pack val_sorted val.lmdb --short-side 40

echo "-- a straight run, and the same with other loader threads"
expect 0 straight trained --epochs 2 --name straight --workers 1
says straight.out '^before training: val loss .*of 18 pictures'
says straight.out '^epoch 1: train loss .*of 18 pictures'
says straight.err 'memory plan:'
expect 0 workers trained --epochs 2 --name workers --workers 3
same checkpoints/straight/checkpoint.pth checkpoints/workers/checkpoint.pth
same checkpoints/straight/model_1.pth checkpoints/workers/model_1.pth
python3 - runs/straight/metrics.jsonl <<'P' || fail "metrics.jsonl is not what the specification says"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
val = [l for l in lines if l["split"] == "val"]
train = [l for l in lines if l["split"] == "train"]
assert [l["epoch"] for l in val] == [-1, 0, 1], val
assert all(l["images"] == 18 and 0 <= l["top1"] <= l["top5"] <= 100 and l["seconds"] > 0 for l in val), val
assert [l["step"] for l in train] == list(range(1, 13)), train
assert all(l["loss"] > 0 and l["lr"] == 0.01 and 0 < l["img_per_s"] < 1e5 and 0 <= l["data_wait"] <= 1 for l in train)
P

echo "-- a run from its own settings.json; doctor and manuals"
expect 0 config "$build/train" --config runs/straight/settings.json --name config --workers 2
same checkpoints/straight/checkpoint.pth checkpoints/config/checkpoint.pth
expect 0 eval "$build/train" eval --weights checkpoints/straight/checkpoint.pth --val val.lmdb --json
python3 - eval.out runs/straight/metrics.jsonl <<'P' || fail "eval does not find the accuracy that the run printed"
import json, sys
found, last = json.load(open(sys.argv[1])), [json.loads(l) for l in open(sys.argv[2]) if '"val"' in l][-1]
assert abs(found["top1"] - last["top1"]) < 1e-4 and abs(found["top5"] - last["top5"]) < 1e-4 and found["images"] == last["images"], (found, last)
assert abs(found["loss"] - last["loss"]) < 1e-6 * max(1, last["loss"]), (found, last)
P
expect 0 doctor "$build/train" doctor --precision f32
says doctor.out '^libraries  libjpeg'
says doctor.out '^ref  '
says doctor.out '^all [0-9]+ checks passed'
for program in prep train; do
    expect 0 "$program.1" "$build/$program" --manual
    says "$program.1.out" '^.SH COMMANDS'
done
says train.1.out 'batch.-size'

echo "-- interrupted and resumed: the same bits"
losses() { grep -o '"split": "train".*"loss": [0-9.e+-]*' "runs/$1/metrics.jsonl"; }
for stop in 1 4 6 11; do
    expect 0 "stop$stop" trained --epochs 2 --name "stop$stop" --max-steps "$stop"
    expect 0 "stop$stop-on" trained --epochs 2 --name "stop$stop" --workers 2
    says "stop$stop-on.err" "going on from .*\($stop in all\)"
    same checkpoints/straight/checkpoint.pth "checkpoints/stop$stop/checkpoint.pth"
    diff <(losses straight | sort -u) <(losses "stop$stop" | sort -u) >/dev/null || fail "stop$stop: other losses"
done
expect 0 again trained --epochs 2 --name stop4
says again.err 'this run is finished'

# Start a run in the background, wait until its output FILE says PATTERN, send SIGNAL, and give its exit code.
interrupt() { # SIGNAL FILE PATTERN NAME OPTIONS...
    local signal=$1 file=$2 pattern=$3 name=$4
    shift 4
    "$build/train" --db train.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --threads 1 --seed 5 \
        --lr 0.01 --log-every 1 --name "$name" "$@" >"$name.out" 2>"$name.err" &
    local pid=$!
    for _ in $(seq 600); do
        grep -qE "$pattern" "$file" 2>/dev/null && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    sleep "${patience:-0}"
    kill -s "$signal" "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
}
echo "-- signals"
interrupt TERM runs/term/metrics.jsonl '"step": 3,' term --epochs 2
[ $? -eq 75 ] || fail "SIGTERM in a step: exit is not 75"
says term.err 'the same command goes on'
expect 0 term-on trained --epochs 2 --name term
same checkpoints/straight/checkpoint.pth checkpoints/term/checkpoint.pth
expect 0 large trained --name large --image-size 224 --max-steps 1
# The moment between the plan and the first validation is short: try again with more patience until the signal hits it.
for patience in 0 0.2 0.5 1 2; do
    rm -rf checkpoints/val runs/val
    interrupt TERM val.err '^  total ' val --image-size 224 --max-steps 1
    [ $? -eq 75 ] || fail "SIGTERM in the first validation: exit is not 75"
    grep -q 'stopped in validation' val.err && break
done
says val.err 'stopped in validation after [0-9]+ of 18 pictures'
expect 0 val-on trained --name val --image-size 224 --max-steps 1
same checkpoints/large/checkpoint.pth checkpoints/val/checkpoint.pth
patience=0
interrupt KILL runs/kill/metrics.jsonl '"step": 5,' kill --epochs 2 --checkpoint-steps 2
expect 0 kill-on trained --epochs 2 --name kill
same checkpoints/straight/checkpoint.pth checkpoints/kill/checkpoint.pth

echo "-- saved beside training: each file is the state of its own update"
expect 0 beside trained --epochs 2 --name beside --checkpoint-steps 1
says beside.err '^saves: 13, '
same checkpoints/straight/checkpoint.pth checkpoints/beside/checkpoint.pth
same checkpoints/straight/model_0.pth checkpoints/beside/model_0.pth
rm checkpoints/beside/checkpoint.pth
expect 0 beside-on trained --epochs 2 --name beside
says beside-on.err 'going on from .*\(11 in all\)'
same checkpoints/straight/checkpoint.pth checkpoints/beside/checkpoint.pth

echo "-- damage and refusals"
cp -r checkpoints/stop4 checkpoints/damaged
printf 'x' | dd of=checkpoints/damaged/checkpoint.pth bs=1 seek=100000 conv=notrunc status=none
expect 0 damaged trained --epochs 2 --name damaged
says damaged.err 'warning: .*checkpoint.pth'
same checkpoints/straight/checkpoint.pth checkpoints/damaged/checkpoint.pth
expect 8 other trained --epochs 2 --name stop4 --lr 0.02 --momentum 0.8
says other.err '--lr was 0.01, is 0.02; --momentum was 0.9, is 0.8'
expect 0 anew trained --epochs 1 --name stop4 --resume no --no-first-validation
[ -f checkpoints/stop4.old-1/checkpoint.pth ] && [ -f runs/stop4.old-1/metrics.jsonl ] || fail "--resume no: the earlier run is not beside"
expect 0 from trained --epochs 2 --name from --resume checkpoints/stop4.old-1/checkpoint.previous.pth
same checkpoints/straight/checkpoint.pth checkpoints/from/checkpoint.pth
expect 9 infinite trained --epochs 1 --name infinite --lr 1000 --momentum 0.999
says infinite.err 'the loss is .*the batch held .*/n[0-9]{8}_'
expect 3 few trained --batch-size 64 --name few
says few.err '24 .*64|64 .*24'
expect 2 same-set "$build/train" --db train.lmdb --val train.lmdb
expect 2 no-db "$build/train"
expect 3 absent "$build/train" --db absent.lmdb
mkdir -p other/zebra && cp raw/train/*/*_1.JPEG other/zebra 2>/dev/null || cp $(find raw/train -type f | head -n 2) other/zebra
expect 0 pack-other "$build/prep" pack other other.lmdb --short-side 40
expect 8 classes "$build/train" --db train.lmdb --val other.lmdb --name classes
says classes.err 'zebra'
"$build/train" --db train.lmdb --arch resnet18 --image-size 32 --batch-size 4 --name held --epochs 1000 >held.out 2>held.err &
held=$!
for _ in $(seq 200); do [ -s runs/held/metrics.jsonl ] && break; sleep 0.05; done
expect 6 second "$build/train" --db train.lmdb --arch resnet18 --image-size 32 --batch-size 4 --name held
kill -KILL $held
wait $held 2>/dev/null

echo "-- a disk that is too small for a checkpoint"
expect 0 full-begin trained --epochs 2 --name full --max-steps 2
cp checkpoints/full/checkpoint.pth full.pth
(ulimit -f 1000; trap '' XFSZ; expect 4 full trained --epochs 2 --name full)
says full.err 'checkpoint was not saved|File too large|No space'
same full.pth checkpoints/full/checkpoint.pth
(ulimit -f 1000; trap '' XFSZ; expect 4 full-thrice trained --epochs 2 --name full --checkpoint-steps 1)
[ "$(grep -c 'checkpoint was not saved: .*training goes on' full-thrice.err)" -eq 2 ] || fail "the third failure in a row is not the end"
same full.pth checkpoints/full/checkpoint.pth
expect 0 full-on trained --epochs 2 --name full
same checkpoints/straight/checkpoint.pth checkpoints/full/checkpoint.pth

echo "-- accumulation, warm-up, cosine, no decay, smoothing, jpeg records, shards"
expect 0 pack-jpeg "$build/prep" pack raw/train jpeg.lmdb --short-side 40 --encoding jpeg
options=(--epochs 2 --accumulate 2 --warmup-epochs 1 --schedule cosine --schedule-unit step --no-decay-norm
    --label-smoothing 0.1 --zero-gamma --shuffle shards --keep all)
expect 0 wide "$build/train" --db jpeg.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --name wide "${options[@]}" --profile
says wide.out '^convolution '
expect 0 wide-1 "$build/train" --db jpeg.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --name wide-1 "${options[@]}" --max-steps 4
expect 0 wide-2 "$build/train" --db jpeg.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --name wide-1 "${options[@]}"
same checkpoints/wide/checkpoint.pth checkpoints/wide-1/checkpoint.pth

echo "train: $failures failures"
[ "$failures" -eq 0 ]
