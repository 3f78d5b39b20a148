#!/usr/bin/env bash
# train plan: the memory of a training on any device, asked without the device.
# usage: test_train_plan.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/train" ] || { echo "skipped: train is not built"; exit 77; }
command -v python3 >/dev/null || { echo "skipped: no python3 to read JSON"; exit 77; }
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }
# The number under KEY of the plan with the options that follow.
number() { # KEY OPTIONS...
    local key=$1
    shift
    "$build/train" plan --json "$@" 2>/dev/null | python3 -c "import json, sys; print(json.load(sys.stdin)['$key'])"
}
refused() { # CODE TEXT OPTIONS...
    local code=$1 text=$2 got=0 said
    shift 2
    said=$("$build/train" plan "$@" 2>&1) || got=$?
    [ "$got" -eq "$code" ] || fail "plan $*: exit $got, not $code"
    grep -qF -- "$text" <<<"$said" || fail "plan $* does not say: $text"
}

ref=$(number total_bytes --arch resnet18 --classes 10 --batch-size 4 --image-size 64 --device ref)
[ "${ref:-0}" -gt 150000000 ] && [ "$ref" -lt 400000000 ] || fail "resnet18 on ref takes ${ref:-no} bytes"
more=$(number total_bytes --arch resnet18 --classes 10 --batch-size 4 --image-size 64 --device ref --accumulate 2)
[ "${more:-0}" -gt "${ref:-0}" ] || fail "--accumulate takes no memory"

refused 2 batch-size --batch-size 0 --device ref

# On paper, with CUDA or without: every op has a line, the sums are those of ResNet-50.
roofline=$("$build/train" plan --roofline --arch resnet50 --batch-size 256 --device cuda:sm_90) || fail "--roofline: exit $?"
[ "$(grep -cE '^(layer|conv1|bn1|maxpool|avgpool|fc|loss)' <<<"$roofline")" -eq 110 ] || fail "--roofline does not tell each of the 110 ops"
grep -qE '^all +24\.299 .* 277\.10$' <<<"$roofline" || fail "--roofline: other sums: $(grep '^all' <<<"$roofline")"
refused 2 'the device table has no "cpu"' --roofline --device cpu

if "$build/train" --version | grep -q '^backends:.* cuda'; then
    refused 2 'the device table has no "sm_75"' --device cuda:sm_75
    refused 2 'h100 (sm_90)' --device gtx
    for row in 16:5 32:9 64:16; do
        batch=${row%:*} limit=${row#*:}
        bytes=$(number total_bytes --arch resnet152 --batch-size "$batch" --device cuda:sm_90)
        echo "resnet152, 1000 classes, batches of $batch in bf16: ${bytes:-no} bytes, at most $limit GB"
        [ "${bytes:-0}" -gt 800000000 ] && [ "$bytes" -le $((limit * 1000000000)) ] || fail "batch $batch: above $limit GB"
    done
    f32=$(number total_bytes --arch resnet18 --batch-size 16 --device a100 --precision f32)
    bf16=$(number total_bytes --arch resnet18 --batch-size 16 --device a100 --precision bf16)
    [ "${f32:-0}" -gt "${bf16:-0}" ] || fail "f32 takes ${f32:-no} bytes, bf16 ${bf16:-no}"
else
    refused 2 'there is no device "cuda"' --device cuda:sm_90
fi
echo "plan: $failures failures"
[ "$failures" -eq 0 ]
