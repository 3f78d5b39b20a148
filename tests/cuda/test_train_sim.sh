#!/usr/bin/env bash
# Whole runs of `train --device cuda` on the simulated device (train_sim): losses against --device ref, resume bit for
# bit, the same bytes under 40 schedules, failures by script, a steady loop without waits, and broken backends
# (broken_sim/), which must be caught.
# usage: test_train_sim.sh BUILD DATA [SEEDS]
set -u
source=$(realpath "$(dirname "$0")/../..")
build=$(realpath "$1")
seeds=${3:-40}
[ -x "$build/prep" ] && [ -x "$build/train_sim" ] || { echo "skipped: prep or train_sim is not built"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-sim-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME=$work/cache SIM_SEED=2

: >"$work/failures"
# Two things run at a time, so failures are counted in a file.
fail() { echo "FAIL $*" | tee -a "$work/failures"; }
expect() { # CODE NAME COMMAND...
    local code=$1 name=$2 got=0
    shift 2
    "$@" >"$name.out" 2>"$name.err" || got=$?
    [ "$got" -eq "$code" ] || { fail "$name: exit $got, not $code"; tail -n 3 "$name.err"; }
}
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 3 "$1"; }; }
# The network begins with 0 in the last normalisation of each block: it stands small changes, so that 20 steps tell
# rounding from mistakes. Not from every rounding: of 12 runs of the CPU backend whose first weights were disturbed by
# an ulp, 5 agree within 5e-6, one within 1e-4, and 6 leave the others after 14 steps, by 2e-3 (what one ReLU does whose
# input is within rounding of 0, with 8 pictures). So the run must be the same one each time: which engines are taken
# follows from SIM_SEED. Should a change of rounding (another order of sums) make f32 fail so, the losses agree within
# 1e-5 up to one step and jump there: then take another SIM_SEED. A mistake shows from the first steps on.
# In 16 bits two runs part within a few steps whatever is done: at --lr 1e-4, over 20 steps, ref in f32 and ref in bf16
# differ by up to 5e-3, the device and ref in bf16 by 6e-3. So 2e-2 is a bound for runs as a whole; what a step may be
# off by is test_steps_sim's, and what an op may be, test_ops_sim's.
trained() { # PROGRAM OPTIONS...
    local program=$1
    shift
    "$program" --db train.lmdb --arch resnet18 --zero-gamma --image-size 32 --batch-size 8 --epochs 1 --seed 5 \
        --lr 0.01 --threads 1 --workers 1 --no-first-validation --keep 1 "$@"
}
# Training losses of a run, one a line.
losses() { sed -n '/"split": "train"/s/.*"loss": \([-0-9.e+a-zA-Z]*\).*/\1/p' "runs/$1/metrics.jsonl"; }
# COUNT losses of run ONE and of run TWO agree within TOLERANCE (relative).
agree() { # ONE TWO COUNT TOLERANCE
    paste <(losses "$1" | head -n "$3") <(losses "$2" | head -n "$3") | python3 -c '
import sys
lines = [tuple(map(float, l.split())) for l in sys.stdin]
worst = max([abs(a - b) / abs(b) if a == a else 9e9 for a, b in lines], default=9e9)
print(f"     losses of {len(lines)} steps agree within {worst:.1e}")
sys.exit(not (len(lines) == int(sys.argv[1]) and worst <= float(sys.argv[2])))' "$3" "$4"
}
forget() { rm -rf "checkpoints/$1" "runs/$1"; }

expect 0 sample "$build/prep" sample raw --classes 3 --train-per-class 54 --val-per-class 3 --seed 3
expect 0 pack "$build/prep" pack raw/train train.lmdb --short-side 40
expect 0 sample-val "$build/prep" sample raw-val --classes 3 --train-per-class 3 --seed 4
expect 0 pack-val "$build/prep" pack raw-val/train val.lmdb --short-side 40

echo "-- 20 steps against ref"
expect 0 ref trained "$build/train_sim" --device ref --name ref &
expect 0 f32 trained "$build/train_sim" --device cuda --precision f32 --name f32
wait
says f32.err 'device: simulated sm_90'
agree f32 ref 20 1e-4 || fail "f32: other losses than ref"
# TensorBoard's grid of pictures: a GPU gets them packed, ref cut out.
pictures() { python3 -c 'import glob, re, sys; sys.stdout.buffer.write(re.search(rb"\x89PNG.*?IEND....", open(glob.glob(sys.argv[1])[0], "rb").read(), re.S).group())' "runs/$1/events.*"; }
pictures ref >ref.png
pictures f32 | cmp - ref.png && [ -s ref.png ] || fail "other pictures in TensorBoard than ref's"
XDG_CACHE_HOME=$work/again expect 0 f32-again trained "$build/train_sim" --device cuda --precision f32 --max-steps 4 --name f32-again
cmp -s <(losses f32 | head -n 4) <(losses f32-again) || fail "f32: the same seed, timed anew: other bits"
forget f32
forget f32-again
expect 0 ref-slow trained "$build/train_sim" --device ref --lr 1e-4 --name ref-slow &
for precision in bf16 fp16; do
    expect 0 $precision trained "$build/train_sim" --device cuda --precision $precision --lr 1e-4 --name $precision
done
wait
says fp16.err 'fusion: level b'
for precision in bf16 fp16; do
    agree $precision ref-slow 20 2e-2 || fail "$precision: other losses than ref"
    forget $precision
done

echo "-- resume, bit for bit"
resume_exactly() { # PRECISION
    local precision=$1
    exact() { trained "$build/train_sim" --device cuda --deterministic --precision "$precision" "$@"; }
    expect 0 "straight-$precision" exact --max-steps 6 --name "straight-$precision"
    expect 0 "stop-$precision" exact --max-steps 2 --name "stop-$precision"
    expect 0 "stop-$precision-on" exact --max-steps 6 --name "stop-$precision"
    says "stop-$precision-on.err" 'going on from'
    cmp -s "checkpoints/straight-$precision/checkpoint.pth" "checkpoints/stop-$precision/checkpoint.pth" || fail "resumed in $precision: other bits"
    forget "stop-$precision"
}
resume_exactly f32 &
resume_exactly bf16
wait
cp -r checkpoints/straight-f32 checkpoints/other
expect 0 other trained "$build/train_sim" --device cuda --precision bf16 --max-steps 7 --name other
says other.err '--deterministic was yes and is no now'
says other.err '--precision was f32 and is bf16 now'
expect 0 other-device trained "$build/train_sim" --device ref --max-steps 8 --name other
says other-device.err '--device was cuda and is ref now'
forget other

echo "-- $seeds schedules"
# Seven in ten in f32, the rest in 16 bits: two batches an update in bf16, level (b) in fp16. The fourth update plays a
# recording; a validation with a short last batch ends it. All of a precision must give what its first seed gives.
schedules() {
    local seed settings first last=
    for seed in $(seq 0 $((seeds - 1))); do
        settings="fp16"
        [ $((20 * seed)) -ge $((17 * seeds)) ] || settings="bf16 --accumulate 2"
        [ $((20 * seed)) -ge $((14 * seeds)) ] || settings="f32"
        [ "$settings" = "$last" ] || first=$seed
        last=$settings
        echo "$seed $first $settings"
    done
}
all_losses() { grep -o '"loss": [^,}]*' "runs/$1/metrics.jsonl"; }
run_seed() { # SEED FIRST PRECISION [OPTIONS...]
    local seed=$1 first=$2 name=seed-$1
    shift 2
    SIM_SEED=$seed trained "$build/train_sim" --val val.lmdb --device cuda --deterministic --batch-size 4 --max-steps 4 \
        --name "$name" --precision "$@" >"$name.out" 2>"$name.err" || fail "schedule $seed ($*): exit $?: $(tail -n 1 "$name.err")"
    [ "$seed" -ne "$first" ] || return 0
    cmp -s <(all_losses "seed-$first") <(all_losses "$name") || fail "schedule $seed ($*): other losses"
    cmp -s checkpoints/{"seed-$first","$name"}/checkpoint.pth || fail "schedule $seed ($*): another checkpoint"
    forget "$name"
}
export -f run_seed trained all_losses forget fail
export build work
schedules >schedules
awk '$1 == $2' schedules | xargs -P 2 -L 1 bash -c 'run_seed "$@"' -
awk '$1 != $2' schedules | xargs -P 2 -L 1 bash -c 'run_seed "$@"' -

echo "-- failures by script"
failing() { # CODE NAME "NAME=VALUE" OPTIONS...
    local code=$1 name=$2 setting=$3
    shift 3
    expect "$code" "$name" env "$setting" bash -c 'trained "$@"' - "$build/train_sim" --device cuda --deterministic \
        --precision f32 --name "$name" "$@"
}
failing 7 no-device SIM_DEVICES=0
says no-device.err 'no GPU'
failing 7 old-device SIM_SM=75
says old-device.err 'compute capability 7.5'
failing 5 small-device SIM_MEMORY=100000000
says small-device.err 'memory|fits'
[ ! -e checkpoints/small-device/checkpoint.pth ] || fail "small-device: it trained"
# The largest batch that fits is said: half way between what 20 and 21 pictures take it is 20.
total_of() {
    "$build/train_sim" plan --device cuda --precision bf16 --arch resnet18 --classes 3 --image-size 32 --batch-size "$1" --json 2>/dev/null |
        sed -n 's/.*"total_bytes": \([0-9]*\).*/\1/p'
}
less=$(total_of 20) more=$(total_of 21)
failing 5 too-large SIM_MEMORY=$(((${less:-0} + ${more:-0}) / 2)) --precision bf16 --batch-size 48
says too-large.err 'needs .* are free: the largest batch that fits is 20, with workspaces as large as those of 48'
failing 5 refused-memory SIM_FAIL=alloc:3
failing 7 lost SIM_FAIL=capture_launch:3:sticky --max-steps 6 --checkpoint-steps 2
says lost.err 'the GPU is lost'
failing 0 lost-on SIM_FAIL= --max-steps 6 --name lost
cmp -s checkpoints/{straight-f32,lost}/checkpoint.pth || fail "lost, then gone on: other bits"
forget lost
# Pieces of work of a run, the last ones read what a checkpoint holds, those before them are its updates.
SIM_SEED=4 SIM_TRACE=trace trained "$build/train_sim" --device cuda --deterministic --precision f32 --max-steps 8 --name traced \
    >traced.out 2>&1 || fail "traced: exit $?"
total=$(sed -n 's/^work \([0-9]*\)$/\1/p' trace)
# What the user reads is what went wrong first, whatever closing the device says.
failing 7 broken-work SIM_FAIL=work:$((total - 3)) --max-steps 8
says broken-work.err 'error: update 8: nothing is saved .* reading [a-z0-9.]*.* copy out of [0-9]* bytes: the GPU is lost'
failing 7 hang SIM_FAIL=hang:$((total - 700)) --max-steps 8
says hang.err 'error: update [1-7]: nothing is saved .* the loss of a batch: .* does not end'
# A step that cannot be recorded is queued call by call.
failing 0 not-recorded SIM_FAIL=capture_begin:1 --max-steps 6 --name not-recorded
says not-recorded.err 'not recorded as one piece'
cmp -s checkpoints/{straight-f32,not-recorded}/checkpoint.pth || fail "not recorded: other bits"
forget not-recorded

echo "-- the steady loop"
# Once both recordings are made, the host queues, and waits for nothing but places of rings: events with at least one
# recorded step queued behind them, so that the device always has work.
steady() { # TRACE
    awk -v last="$(grep -c '^capture_launch' "$1")" '
        BEGIN { split("copy kernel stream_wait event_record event_sync capture_launch", names); for (i in names) fine[names[i]] }
        $1 == "capture_launch" { launches++ }
        launches < 2 || launches >= last { next }
        { count[$1]++ }
        !($1 in fine) { print "     " $0; bad++ }
        $1 == "event_sync" && $2 < 1 { print "     the host waits for the step that is queued last"; bad++ }
        END {
            steps = last - 2
            if (steps < 4) { print "     only " last + 0 " recorded steps"; exit 1 }
            printf "     %d steps, in each %.1f copies, %.1f kernels, %.1f waits for rings\n", steps,
                count["copy"] / steps, count["kernel"] / steps, count["event_sync"] / steps
            exit bad > 0
        }' "$1"
}
steady trace || fail "the host waits or allocates between recorded steps"

echo "-- broken backends"
command_of() { ninja -C "$build" -t commands "$1" 2>/dev/null | tail -n 1; }
link=$(command_of train_sim | sed 's/^: && //; s/ && :$//')
[ -e "$build/build.ninja" ] && [ -n "$link" ] || { echo "     left out: the build is not ninja's"; link=; }
try_variant() { # SED FILE
    local name file seed how changed object compile rc steps=4
    name=$(basename "$1" .sed)
    read -r _ file seed how _ <"$1"
    mkdir -p "$name"
    sed -f "$1" "$source/$file" >"$name/$(basename "$file")"
    changed=$(diff "$source/$file" "$name/$(basename "$file")" | grep -c '^<')
    [ "$changed" -ge 1 ] && [ "$changed" -le 2 ] || { fail "$name changes $changed lines of $file"; return; }
    object=CMakeFiles/train_lib.dir/$file.o
    compile=$(command_of "$object")
    compile=${compile/ -o $object/ -o $work\/$name\/broken.o}
    compile=${compile/ -c $source\/$file/ -c $work\/$name\/$(basename "$file")}
    (cd "$build" && eval "$compile" && eval "${link/ -o train_sim / $work/$name/broken.o -o $work/$name/train_sim }") \
        >"$name/build.log" 2>&1 || { fail "$name cannot be built"; tail -n 3 "$name/build.log"; return; }
    [ "$how" = steady: ] && steps=8
    SIM_SEED=$seed SIM_TRACE=$name/trace trained "$name/train_sim" --device cuda --precision f32 --max-steps "$steps" \
        --name "$name" >"$name.out" 2>"$name.err"
    rc=$?
    case $how in
    race:) [ $rc -eq 86 ] && grep -q 'sim: fault: race: ' "$name.err" ;;
    error:) [ $rc -ne 0 ] && [ $rc -lt 128 ] ;;
    numbers:) [ $rc -ne 0 ] || ! agree "$name" ref 4 1e-4 >"$name.said" ;;
    steady:) [ $rc -eq 0 ] && ! steady "$name/trace" >"$name.said" ;;
    esac || { fail "$name was not caught (exit $rc)"; tail -n 2 "$name.err"; return; }
    echo "ok   $name caught: $( (grep -m1 -E 'sim: fault|error: ' "$name.err" || head -n 1 "$name.said" | sed 's/^ *//') | cut -c1-110)"
    forget "$name"
    rm -rf "$name"
}
export -f try_variant command_of losses agree steady
export source link
[ -n "$link" ] && printf '%s\n' "$source"/tests/cuda/broken_sim/*.sed | xargs -P 2 -n 1 bash -c 'try_variant "$0"'
failures=$(wc -l <"$work/failures" 2>/dev/null || echo 0)
echo "train on the simulated device: $failures failures"
[ "$failures" -eq 0 ]
