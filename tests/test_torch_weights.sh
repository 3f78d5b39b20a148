#!/usr/bin/env bash
# PyTorch's weights in train: every way of saving them evaluates to the same numbers, logits are torchvision's, a run begins from them and goes
# on from PyTorch's checkpoint, and PyTorch from ours. PYTHON names a Python with torch and torchvision where python3 has none.
# usage: test_torch_weights.sh BUILD DATA
set -u
build=$(realpath "$1")
data=$(realpath -m "$2")
tool=$(realpath "$(dirname "$0")/tools/torch_weights.py")
[ -x "$build/train" ] || { echo "skipped: train is not built"; exit 77; }
python=
for candidate in ${PYTHON:+"$PYTHON"} python3; do
    if "$candidate" -c 'import torch, torchvision' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "skipped: no Python with torch and torchvision (PYTHON=...)"; exit 77; }
[ -d "$data/fullsize" ] || { echo "skipped: no pictures in $data"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-weights-XXXXXX")
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
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 5 "$1"; }; }

# Some real pictures of full size.
mkdir tree
for folder in $(ls "$data/fullsize" | head -n 12); do cp -r "$data/fullsize/$folder" tree/; done
expect 0 pack "$build/prep" pack tree val.lmdb
classes=$(ls tree | wc -l)
mkdir files
"$python" -W ignore "$tool" make files resnet18 "$classes" || fail "no files were made"
for file in files/*; do
    name=$(basename "$file")
    code=0
    case $name in
    double.pth | nan.pth) code=3 ;;
    wrong.pth) code=8 ;;
    esac
    expect $code "$name" "$build/train" eval --weights "$file" --val val.lmdb --image-size 64 --json
    [ $code -ne 0 ] || sed -E '/seconds|img_per_s|sha256|format/d' "$name.out" >"$name.json"
done
for name in files/*; do
    name=$(basename "$name")
    case $name in
    half.pth | bfloat.pth | double.pth | nan.pth | wrong.pth) ;;
    *) cmp -s plain.pth.json "$name.json" || fail "$name does not evaluate as plain.pth" ;;
    esac
done
says double.pth.err 'layer1.0.conv1.weight is torch.DoubleStorage'
says nan.pth.err 'layer2.0.conv1.weight holds nan at element 5'
says wrong.pth.err 'missing: layer4.1.conv2.weight \(512 x 512 x 3 x 3\)'
says wrong.pth.err 'unexpected: head.weight \(3\)'

echo "-- logits"
images=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["images"])' < <("$build/prep" info val.lmdb --json))
for ((i = 0; i < images; i++)); do "$build/prep" show val.lmdb "$i" -o x.png; done | awk '$1 == "key" { print $2 }' >names
"$python" "$tool" random resnet50.pth resnet50 "$classes" || fail "no ResNet-50 was made"
for file in resnet50.pth files/plain.pth; do
    expect 0 logits "$build/train" eval --weights "$file" --val val.lmdb --logits logits.safetensors
    "$python" "$tool" logits "$file" tree logits.safetensors names || fail "$file: other logits than torchvision's"
done

echo "-- a file that is not what its name says"
"$python" "$tool" random resnet18-f37072fd.pth resnet18 1000 || fail "no network of 1,000 classes was made"
expect 0 named "$build/train" eval --weights resnet18-f37072fd.pth --val val.lmdb --image-size 64
says named.err 'the name says that the file.s SHA-256 begins with f37072fd, but it is'
says named.err 'fetch .*/resnet18-f37072fd.pth .*published top-1 69.758 %'
says named.err "only the data set's $classes classes compete"

echo "-- prediction"
one=$(find tree -name '*.JPEG' | sort | head -n 1)
expect 0 predict "$build/train" predict files/plain.pth tree --format csv
[ "$(grep -c ,1, predict.out)" = "$images" ] || fail "predict: not a line for each picture"
printf '%s\n' "$one" missing.JPEG >list.txt
expect 3 list "$build/train" predict files/plain.pth list.txt --top 1 --format json
python3 -c 'import json, sys; a, b = json.load(open("list.out")); assert len(a["top"]) == 1 and 0 < a["top"][0]["probability"] <= 1 and "error" in b, (a, b)' || fail "predict --format json"
expect 0 text "$build/train" predict files/plain.pth "$one"
[ "$(grep -c ' % ' text.out)" = 5 ] || fail "predict: not five classes"
python3 - "$work" <<'P' || fail "predict is not what eval --logits has"
import csv, json, math, struct, sys
data = open("logits.safetensors", "rb").read()
length, = struct.unpack("<Q", data[:8])
entry = json.loads(data[8:8 + length])["logits"]
names = open("names").read().split()
values = struct.unpack("<%df" % (entry["shape"][0] * entry["shape"][1]), data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
rows = {row["file"]: row for row in csv.DictReader(open("predict.out", newline="")) if row["rank"] == "1"}
for i, name in enumerate(names):
    logits = values[i * entry["shape"][1]:(i + 1) * entry["shape"][1]]
    best = max(range(len(logits)), key=lambda k: logits[k])
    odds = 1 / sum(math.exp(v - logits[best]) for v in logits)
    row = rows["tree/" + name]
    assert row["class"] == str(best) and abs(float(row["probability"]) - odds) < 1e-4, (row, best, odds)
P

echo "-- export"
for end in pth safetensors onnx; do expect 0 "export-$end" "$build/train" export files/stream.pth "out.$end"; done
expect 0 export-whole "$build/train" export files/plain.safetensors whole.onnx --with-preprocessing
expect 2 export-suffix "$build/train" export files/plain.pth out.bin
for file in out.pth out.safetensors; do
    expect 0 "$file" "$build/train" eval --weights "$file" --val val.lmdb --image-size 64 --json
    cmp -s plain.pth.json <(sed -E '/seconds|img_per_s|sha256|format/d' "$file.out") || fail "$file does not evaluate as plain.pth"
done
"$python" - <<'P' || fail "PyTorch does not read the exported files"
import torch
ours, theirs = torch.load("out.pth"), torch.load("files/plain.pth")
assert list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) or "num_batches" in k for k in ours)
try:
    from safetensors.torch import load_file
    again = load_file("out.safetensors")
    assert all(torch.equal(again[k], theirs[k]) for k in theirs if "num_batches" not in k)
except ImportError:
    print("no safetensors package: its own reader was not asked")
P
if "$python" -c 'import onnx, onnxruntime' 2>/dev/null; then
    "$python" "$(dirname "$tool")/onnx_check.py" resnet18 "$classes" out.pth out.onnx whole.onnx 2>&1 | tail -n 2 || fail "ONNX"
    [ "${PIPESTATUS[0]}" -eq 0 ] || fail "onnx or onnxruntime refuse the files, or compute other logits"
else
    echo "no onnx and onnxruntime packages: ONNX files were not opened"
fi

echo "-- five steps from each other's checkpoints"
"$python" "$tool" notebook notebook.pth 7 || fail "no notebook's checkpoint"
expect 0 sample "$build/prep" sample raw --classes 7 --train-per-class 4 --val-per-class 2 --seed 3
expect 0 pack7 "$build/prep" pack raw/train train.lmdb --short-side 64
trained() { "$build/train" --db train.lmdb --arch resnet18 --image-size 32 --batch-size 4 --threads 1 "$@"; }
expect 0 ours trained --lr 0.01 --max-steps 3 --name ours
for file in notebook.pth checkpoints/ours/checkpoint.pth; do
    "$build/test_weights" --steps "$file" 7 96 >ours.txt || fail "$file is not gone on from here"
    "$python" "$tool" steps "$file" 7 96 >theirs.txt || fail "$file is not gone on from in PyTorch"
    paste ours.txt theirs.txt | awk -v file="$file" '{ d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d }
        END { print file ": " NR " losses, largest difference " worst; exit !(NR == 5 && worst < 1e-4) }' || fail "$file: other losses: $(paste ours.txt theirs.txt)"
done

echo "-- runs that begin from them"
expect 0 resume trained --name resume --resume notebook.pth --epochs 5
says resume.err 'going on from notebook.pth, a PyTorch file: epoch 4, update 0 of 7'
says resume.out 'finished: 35 updates, 5 epochs'
expect 8 other trained --name other --resume notebook.pth --lr 0.2 --momentum 0.8
says other.err '--lr was 0.1, is 0.2; --momentum was 0.9, is 0.8'
expect 8 heads trained --name heads --resume files/plain.pth
says heads.err 'it has [0-9]+ classes, the data set 7'
expect 0 init trained --name init --init files/plain.pth --max-steps 1
says init.err 'fc, which stays at its initial values: it has [0-9]+ classes, the data set 7'
expect 8 wrong-arch "$build/train" --db train.lmdb --init files/plain.pth --name wrong-arch --image-size 32 --batch-size 2
says wrong-arch.err 'holds a resnet18, not a resnet152: give --arch resnet18'
expect 3 nan trained --name nan --init files/nan.pth

echo "weights: $failures failures"
[ "$failures" -eq 0 ]
