#!/usr/bin/env bash
# The real trainer under faults: resumed at every step of two epochs, stopped in a save, its listeners gone, a shard that
# shrinks while it is mapped. In the end always stands the checkpoint of a run in peace. (test_crash_trainer kills it.)
# usage: test_crash_train.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/prep" ] && [ -x "$build/train" ] && [ -e "$build/libinjector.so" ] || { echo "skipped: prep, train or the injector is not built"; exit 77; }
# Checkpoints of 90 MB: in memory where there is room for some.
base=${TMPDIR:-/tmp}
[ "$(df --output=avail -m /dev/shm 2>/dev/null | tail -n 1)" -gt 1500 ] 2>/dev/null && base=/dev/shm
work=$(mktemp -d "$base/imagenet-crash-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }
expect() { # CODE NAME COMMAND...
    local code=$1 name=$2 got=0
    shift 2
    "$@" >"$name.out" 2>"$name.err" || got=$?
    [ "$got" -eq "$code" ] || { fail "$name: exit $got, not $code"; tail -n 3 "$name.err"; }
}
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 3 "$1"; }; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
options=(--val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --threads 1 --seed 5 --lr 0.01 --device cpu --log-every 1)
"$build/train" --version | grep -q 'backends:.* cpu' || options+=(--device ref)
trained() { "$build/train" --db "${db:-train.lmdb}" "${options[@]}" "$@"; }

expect 0 sample "$build/prep" sample raw --classes 2 --train-per-class 6 --val-per-class 2 --seed 3
expect 0 pack "$build/prep" pack raw/train train.lmdb --short-side 40
expect 0 pack-val "$build/prep" pack raw/train val.lmdb --short-side 36 --per-class 2

echo "-- resumed at every step, with 1 and 2 loader threads"
expect 0 straight trained --epochs 2 --name straight --workers 1
for step in 1 2 3 4 5 6; do
    expect 0 "chain$step" trained --epochs 2 --name chain --max-steps $step --workers $((1 + step % 2))
done
expect 0 chain trained --epochs 2 --name chain --workers 2
for file in checkpoint.pth model_0.pth model_1.pth; do
    same checkpoints/straight/$file checkpoints/chain/$file
done
losses() { grep -o '"split": "train".*"loss": [0-9.e+-]*' "runs/$1/metrics.jsonl"; }
diff <(losses straight) <(losses chain) >/dev/null || fail "the recorded losses differ"

echo "-- stopped after every step and resumed, each with 1 and 2 loader threads (few channels)"
narrow() { "$build/train_narrow" --db train.lmdb --val val.lmdb --arch resnet18 --image-size 32 --batch-size 4 --threads 1 --seed 5 --lr 0.01 --device ref --epochs 2 "$@"; }
expect 0 narrow narrow --name narrow --workers 1
for step in 1 2 3 4 5; do
    for workers in 1 2; do
        expect 0 "step$step-$workers" narrow --name "step$step-$workers" --workers $workers --max-steps $step
        expect 0 "step$step-$workers-on" narrow --name "step$step-$workers" --workers $((3 - workers))
        for file in checkpoint.pth model_0.pth model_1.pth; do
            same checkpoints/narrow/$file "checkpoints/step$step-$workers/$file"
        done
    done
done

fault() { # NAME AT WHAT COMMAND...
    local name=$1 at=$2 what=$3
    shift 3
    mkdir -p "out-$name"
    { env LD_PRELOAD="$build/libinjector.so" FAULT_ROOT="out-$name" FAULT_AT="$at" FAULT_DO="$what" "$@" >"$name.out" 2>"$name.err"; } 2>/dev/null
}
program=("$build/train" --db train.lmdb "${options[@]}" --epochs 2 --workers 1)
echo "-- SIGTERM in a save"
fault stop 30 stop "${program[@]}" --output out-stop --name n
[ $? -eq 75 ] || fail "SIGTERM in a save: exit is not 75"
expect 0 on "${program[@]}" --output out-stop --name n
same checkpoints/straight/checkpoint.pth out-stop/checkpoints/n/checkpoint.pth
rm -rf out-stop

echo "-- nobody listens"
"$build/train" --db train.lmdb "${options[@]}" --epochs 2 --workers 1 --name deaf >&- 2>&- || fail "closed standard files: exit $?"
same checkpoints/straight/checkpoint.pth checkpoints/deaf/checkpoint.pth
("$build/train" --db train.lmdb "${options[@]}" --epochs 2 --workers 1 --name pipe 2>&1; echo $? >code) | head -n 1 >/dev/null
same checkpoints/straight/checkpoint.pth checkpoints/pipe/checkpoint.pth

echo "-- a shard that shrinks while it is mapped"
cp -r train.lmdb shrinks.lmdb
db=shrinks.lmdb
trained --epochs 100000 --workers 1 --name shrinks --checkpoint-steps 1000000 --no-first-validation >shrinks.out 2>shrinks.err &
pid=$!
for _ in $(seq 400); do grep -q '"step": 5,' runs/shrinks/metrics.jsonl 2>/dev/null && break; sleep 0.05; done
truncate -s 4096 shrinks.lmdb/shard-00000.mdb
wait $pid
code=$?
[ $code -eq 3 ] || fail "a shard that shrinks: exit $code, not 3"
[ "$(grep -c 'error:' shrinks.err)" -eq 1 ] || fail "a shard that shrinks: not one line"
says shrinks.err 'shard-00000.mdb: it became shorter'
cp train.lmdb/shard-00000.mdb shrinks.lmdb/shard-00000.mdb
last=$("$build/train" --db shrinks.lmdb "${options[@]}" --epochs 100000 --name shrinks --checkpoint-steps 1000000 --no-first-validation --max-steps 1 2>&1 | grep -c 'error:')
[ "$last" -eq 0 ] || fail "the last checkpoint is not whole"

echo "train under faults: $failures failures"
[ "$failures" -eq 0 ]
