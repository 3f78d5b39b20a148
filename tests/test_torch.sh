#!/usr/bin/env bash
# PyTorch and we read each other's files: torch.load with its defaults reads ours, and a checkpoint goes into torchvision's
# model, SGD and its scheduler; what torch.save writes, in all its protocols, reads here as there, and what is not plain
# data is refused by name. PYTHON names a Python with torch and torchvision where python3 has none.
set -u
build=$1
cd "$(dirname "$0")/.." || exit 1
python=
for candidate in ${PYTHON:+"$PYTHON"} python3; do
    if "$candidate" -c 'import torch, torchvision' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "skipped: no Python with torch and torchvision (PYTHON=...)"
    exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

"$build/test_pth" --write "$work/all.pth" || fail "all.pth is not written"
"$build/test_checkpoint" --small "$work/small.pth" || fail "small.pth is not written"
for run in resnet18-10-step resnet18-3-cosine resnet50-7-no-decay; do
    IFS=- read -r arch classes mode <<<"$run"
    "$build/test_checkpoint" --write "$work/run-$run" "$arch" "$classes" "$mode" || fail "$run is not written"
done
mkdir "$work/theirs"
"$python" -W ignore::FutureWarning tests/tools/torch_files.py "$work" || fail "PyTorch does not read or go on from our files"

# PyTorch's copy of our checkpoint is the same to the last bit.
for run in "$work"/run-*; do
    ours=$("$build/test_pth" --digest "$run/checkpoint.pth") || fail "$run is not read"
    theirs=$("$build/test_pth" --digest "$run/again.pth") || fail "PyTorch's copy of $run is not read"
    [ "$ours" = "$theirs" ] || fail "PyTorch's copy of $run reads differently"
done

count=0
for file in "$work"/theirs/*.pth; do
    count=$((count + 1))
    name=$(basename "$file" .pth)
    "$build/test_pth" --print "$file" >"$work/out.txt" 2>"$work/error.txt"
    rc=$?
    if [ -e "$work/theirs/$name.txt" ]; then
        [ $rc -eq 0 ] || fail "$name is not read: $(cat "$work/error.txt")"
        cmp -s "$work/out.txt" "$work/theirs/$name.txt" || fail "$name reads differently"
    else
        [ $rc -eq 3 ] || fail "$name is not refused as bad input, but $rc: $(cat "$work/error.txt")"
        grep -qF "$(cat "$work/theirs/$name.error")" "$work/error.txt" || fail "$name: $(cat "$work/error.txt")"
    fi
done
[ $count -ge 20 ] || fail "only $count files were tried"

echo "torch: $count files of torch.save, $failures failures"
[ "$failures" -eq 0 ]
