#!/usr/bin/env bash
# `train doctor` on the simulated device (train_sim): it passes, in text and as JSON; a device that is missing is said; a
# device on which one thing is wrong is named with it, and the exit code is 7: a kernel (the simulated device is linked
# anew with a broken one), a graph that is described wrongly (broken_sim/).
# usage: test_doctor_sim.sh BUILD
set -u
source=$(realpath "$(dirname "$0")/../..")
build=$(realpath "$1")
[ -x "$build/train_sim" ] || { echo "skipped: train_sim is not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-doctor-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export XDG_CACHE_HOME=$work/cache SIM_SEED=2
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 3 "$1"; }; }
doctor() { # CODE NAME PROGRAM OPTIONS...
    local code=$1 name=$2 program=$3 got=0
    shift 3
    "$program" doctor "$@" >"$name.out" 2>"$name.err" || got=$?
    [ "$got" -eq "$code" ] || { fail "$name: exit $got, not $code"; tail -n 3 "$name.err"; }
}

doctor 0 fp16 "$build/train_sim" --device cuda:0 --precision fp16
says fp16.out '^cuda:0 +simulated sm_90 .*driver for CUDA 13.0, CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1.* free$'
says fp16.out '^  ok +fp16 +[0-9]+ ops of a small ResNet are as ref'
says fp16.out '^  ok +fp16, level b +[0-9]+ ops'
says fp16.out '^all 2 checks passed'
says fp16.err 'self-test: [0-9]+ plans'
SIM_DEVICES=2 doctor 0 json "$build/train_sim" --json --device cuda:1 --precision f32
if command -v python3 >/dev/null; then
    python3 -c '
import json
found = json.load(open("json.out"))
device, = found["devices"]
check, = device["checks"]
assert (found["passed"], found["failed"]) == (1, 0) and device["name"] == "cuda:1" and device["free_bytes"] > 1 << 30
assert check["check"] == "f32" and check["result"] == "ok", check' || fail "json: it is not what was found"
fi
SIM_DEVICES=0 doctor 7 missing "$build/train_sim" --device cuda
says missing.out '^cuda .*no GPU'
doctor 7 unknown "$build/train_sim" --device abacus

command_of() { ninja -C "$build" -t commands "$1" 2>/dev/null | tail -n 1; }
link=$(command_of train_sim | sed 's/^: && //; s/ && :$//')
[ -e "$build/build.ninja" ] && [ -n "$link" ] || { echo "     broken variants are left out: the build is not ninja's"; link=; }
broken() { # SED OBJECT WHAT-IS-NAMED
    local name file object=$2 compile
    name=$(basename "$1" .sed)
    read -r _ file _ <"$1"
    sed -f "$1" "$source/$file" >"$(basename "$file")"
    compile=$(command_of "$object")
    compile=${compile/ -o $object/ -o $work\/broken.o}
    compile=${compile/ -c $source\/$file/ -c $work\/$(basename "$file")}
    case $link in
    *" $object "*) set -- "$3" "${link/ $object / $work/broken.o }" ;;
    *) set -- "$3" "${link/ -o train_sim / $work/broken.o -o train_sim }" ;;
    esac
    (cd "$build" && eval "$compile" && eval "${2/ -o train_sim / -o $work/broken }") >"$name.log" 2>&1 ||
        { fail "$name cannot be built"; tail -n 3 "$name.log"; return; }
    doctor 7 "$name" "$work/broken" --device cuda --precision f32
    says "$name.out" "^  FAILED +f32 +.*$1"
    says "$name.err" 'error: 1 of 1 checks failed: cuda:0 in f32'
    grep -q 'checks passed' "$name.out" && fail "$name: it says that all passed"
    echo "ok   $name named: $(sed -n 's/^  FAILED *//p' "$name.out" | cut -c1-110)"
}
if [ -n "$link" ]; then
    broken "$source/tests/cuda/broken/update_wrong_segment.sed" CMakeFiles/door_sim.dir/kernels/update.cu.o 'update of'
    broken "$source/tests/cuda/broken_sim/swapped_uid.sed" CMakeFiles/train_lib.dir/train/cuda/graphs.c.o \
        'backward pass of [a-z0-9.]*bn[0-9]: the gradient of the weights'
fi
echo "train doctor on the simulated device: $failures failures"
[ "$failures" -eq 0 ]
