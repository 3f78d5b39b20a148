#!/usr/bin/env bash
# The CPU backend with fewer instructions than this CPU has: other layouts, other code in oneDNN and in our kernels.
set -u
build=$1
if ! "$build/test_cpu" settings_are_checked >/dev/null; then
    echo "skipped: built without oneDNN"
    exit 77
fi
[ "$(uname -m)" = x86_64 ] || { echo "skipped: sets of $(uname -m) are not known here"; exit 77; }
failures=0
for set in AVX2 SSE41; do
    for test in "test_ops every_op_is_as_ref" "test_cpu bf16_is_refused_without_instructions" \
        "test_cpu own_sums_do_not_depend_on_threads" "test_cpu networks_are_as_ref"; do
        echo "== $set: $test"
        # shellcheck disable=SC2086 # a program and its case
        ONEDNN_MAX_CPU_ISA=$set "$build"/$test || failures=$((failures + 1))
    done
done
echo "cpu sets: $failures failures"
[ "$failures" -eq 0 ]
