#!/usr/bin/env bash
# The memory plan that train prints before the first step is kept: peak resident memory within 10 % of it.
# usage: test_memory.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/prep" ] && [ -x "$build/train" ] || { echo "skipped: prep or train is not built"; exit 77; }
"$build/train" --version | grep -q '^backends:.* cpu' || { echo "skipped: no cpu backend in this build"; exit 77; }
if grep -aq __asan_init "$build/train"; then echo "skipped: AddressSanitizer keeps shadow memory of its own"; exit 77; fi
command -v python3 >/dev/null || { echo "skipped: no python3 to ask the kernel for the peak"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-memory-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
{ "$build/prep" sample raw --classes 2 --train-per-class 20 --val-per-class 4 &&
    "$build/prep" sort-val raw/devkit raw/val val_sorted &&
    "$build/prep" pack raw/train train.lmdb --short-side 160 &&
    "$build/prep" pack val_sorted val.lmdb --short-side 160; } >prep.out 2>&1 || { cat prep.out; exit 1; }

failures=0
check() { # NAME OPTIONS...
    local name=$1
    shift
    python3 - "$build/train" --db train.lmdb --val val.lmdb --name "$name" --max-steps 2 "$@" <<'P' || failures=$((failures + 1))
import re, resource, subprocess, sys
run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
if run.returncode:
    sys.exit(f"train failed: {run.stderr}")
number, unit = re.search(r"^  total +([0-9.]+) ([MG]iB)", run.stderr, re.M).groups()
planned = float(number) * (1 if unit == "MiB" else 1024)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{' '.join(sys.argv[6:])}: planned {planned:.0f} MiB, peak {peak:.0f} MiB, ratio {peak / planned:.3f}")
if not 0.9 <= peak / planned <= 1.1:
    sys.exit("the peak is not within 10 % of the plan\n" + run.stderr)
P
}
check resnet18 --arch resnet18 --image-size 128 --batch-size 32
check resnet50 --arch resnet50 --image-size 128 --batch-size 8 --accumulate 2
echo "memory: $failures failures"
[ "$failures" -eq 0 ]
