#!/usr/bin/env bash
# The parsers of foreign bytes under libFuzzer, with ASan and UBSan: a few seconds each here, as long as wanted with
# FUZZ_SECONDS=3600. What is found stays in FUZZ_KEEP (default: a folder that is removed).
# usage: test_fuzz.sh BUILD DATA
set -u
build=$(realpath "$1")
source=$(realpath "$(dirname "$0")/..")
seconds=${FUZZ_SECONDS:-3}
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-fuzz-XXXXXX")
trap 'rm -rf "$work"' EXIT
keep=${FUZZ_KEEP:-$work/corpus}
echo 'int LLVMFuzzerTestOneInput(const unsigned char *b, unsigned long n) { return !b && n; }' >"$work/try.c"
clang -fsanitize=fuzzer,address "$work/try.c" -o "$work/try" 2>/dev/null || { echo "skipped: there is no clang with libFuzzer"; exit 77; }
# In $build: what did not change is not compiled again. Never with the flags of the build around it.
env -u CFLAGS -u LDFLAGS CC=clang cmake -S "$source" -B "$build/fuzz" -G Ninja -DFUZZ=ON -DSANITIZE=address,undefined \
    -DWITH_CUDA=OFF -DWITH_DNNL=OFF -DWITH_MATIO=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$work/log" 2>&1 &&
    cmake --build "$build/fuzz" --target fuzz -j 2 >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }

# Seeds: the golden data set, small drawn pictures, the smallest of each text.
golden=$source/data-spec/golden/data-set.lmdb
mkdir -p "$keep"/{manifest,shard,picture,answers,rows,zip,stream,pickle,safetensors,config}
cp "$golden/manifest.json" "$keep/manifest/"
cp "$golden"/shard-*.mdb "$keep/shard/"
"$build/prep" sample "$work/raw" --classes 1 --train-per-class 2 --val-per-class 1 --seed 1 >/dev/null 2>&1
find "$work/raw" -name '*.JPEG' -size -64k -exec cp {} "$keep/picture/" \; 2>/dev/null
"$build/prep" show "$golden" 0 "$keep/picture/seed.png" >/dev/null 2>&1
printf '1\n5\n3\r\n2' >"$keep/answers/seed"
printf '\1\0\0\0\0\11\3\0n00000001\0\0\0one\0\0\0\0\0\2\0\0\0\0\11\3\0n00000002\0\0\0two\0\0\0\0\0' >"$keep/rows/seed"

if command -v python3 >/dev/null && python3 "$source/tests/tools/hostile.py" "$work/hostile" >/dev/null; then
    find "$work/hostile" -name '*.pth' ! -name 'stream*' -size -8k -exec cp -t "$keep/zip" {} +
    find "$work/hostile" -name 'stream*.pth' -size -8k -exec cp -t "$keep/stream" {} +
    find "$work/hostile" -name '*.safetensors' -size -8k -exec cp -t "$keep/safetensors" {} +
    find "$work/hostile" -name '*.json' ! -name 'manifest*' -size -8k -exec cp -t "$keep/config" {} +
fi
printf '\1\200\2}X\1\0\0\0wK\3s.' >"$keep/pickle/seed"

failures=0 executions=0
fuzz() { # NAME LARGEST
    "$build/fuzz/fuzz_$1" -max_total_time="$seconds" -max_len="$2" -timeout=10 -rss_limit_mb=2048 -seed=7 -print_final_stats=1 \
        -artifact_prefix="$keep/found-$1-" "$keep/$1" >"$work/$1.said" 2>&1
}
export ASAN_OPTIONS=allocator_may_return_null=1
names=(manifest shard picture answers rows zip stream pickle safetensors config)
sizes=(8192 65536 65536 4096 2048 8192 8192 4096 8192 4096)
for i in 0 2 4 6 8; do
    pids=()
    for k in $i $((i + 1)); do
        [ "$k" -lt ${#names[@]} ] || continue
        fuzz "${names[$k]}" "${sizes[$k]}" &
        pids+=($!)
    done
    for k in "${!pids[@]}"; do
        name=${names[$((i + k))]}
        wait "${pids[$k]}" || { echo "FAIL $name"; grep -aE 'ERROR|SUMMARY|artifact|runtime error' "$work/$name.said" | head -n 5; failures=$((failures + 1)); }
        runs=$(grep -a 'stat::number_of_executed_units' "$work/$name.said" | grep -oE '[0-9]+$')
        echo "fuzz_$name: ${runs:-0} executions, $(grep -aoE 'cov: [0-9]+' "$work/$name.said" | tail -n 1)"
        executions=$((executions + ${runs:-0}))
    done
done
echo "fuzz: $executions executions, $failures failures"
[ "$failures" -eq 0 ]
