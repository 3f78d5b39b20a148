#!/usr/bin/env bash
# The guard against slow code that needs no quiet machine: instructions counted by callgrind against stored ceilings, and no reorder of
# an activation in a step. Peaks of memory: test_memory.sh, test_pack memory; allocations in a step: test_net, test_cpu, test_loader_limits.
# usage: test_counts.sh BUILD DATA
set -u
build=$(realpath "$1")
command -v valgrind >/dev/null || { echo "skipped: no valgrind"; exit 77; }
[ -x "$build/prep" ] || { echo "skipped: prep is not built"; exit 77; }
grep -aqE '__asan_init|__tsan_init' "$build/counted" && { echo "skipped: a sanitizer adds instructions of its own"; exit 77; }
grep -qw avx2 /proc/cpuinfo || { echo "skipped: the ceilings are those of AVX2, up to which valgrind goes"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-counts-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
mkdir -p tree/class
{ "$build/counted" draw tree/class && "$build/prep" pack tree db.lmdb && "$build/prep" pack tree jpeg.lmdb --encoding jpeg --quality 90 --short-side 0
} >out 2>&1 || { cat out; exit 1; }
failures=0 library=0

# WHAT CEILING TIMES FUNCTION COMMAND...: instructions of our own code inside FUNCTION, calls of it included, for one of TIMES; those of libjpeg in
# $library.
count() {
    local what=$1 ceiling=$2 times=$3 function=$4 found
    shift 4
    valgrind --tool=callgrind --toggle-collect="$function" --compress-strings=no --compress-pos=no --callgrind-out-file=counts \
        "$build/counted" "$@" >out 2>&1 || { cat out; failures=$((failures + 1)); return; }
    read -r found library < <(awk -v times="$times" '/^ob=/ { whose = /\/counted$/ ? "own" : /\/libjpeg/ ? "jpeg" : "" } /^calls=/ { getline; next }
        /^[0-9]/ { sum[whose] += $2 } END { printf "%d %d\n", sum["own"] / times, sum["jpeg"] / times }' counts)
    echo "$what: $found instructions, at most $ceiling"
    # None at all: the function is no longer there to be counted.
    if [ "$found" -gt "$ceiling" ] || [ "$found" -lt 100 ]; then failures=$((failures + 1)); fi
}
count "resize of 500 x 375 to 341 x 256" 3000000 4 resampler_run resize
count "JPEG decoder's wrapper" 18000 4 decoder_read decode tree/class/0.JPEG
whole=$library
count "reading a record" 210 8 dataset_get rows db.lmdb
count "record to a square of 224" 1250000 8 row_make rows db.lmdb
count "JPEG record to a square of 224" 1680000 8 row_make rows jpeg.lmdb
echo "of the $whole instructions that libjpeg takes for such a picture, $library for a crop, at most 85 %"
if [ $((100 * library)) -gt $((85 * whole)) ] || [ "$library" -lt 100 ]; then failures=$((failures + 1)); fi
count "square of 224, normalised" 2570000 4 cpu_feed feed

# With a batch of 3, what has 3 as its first size is no weight.
for mode in train eval; do
    ONEDNN_VERBOSE=1 DNNL_VERBOSE=1 "$build/bench_step" cpu f32 $mode resnet50 3 64 10 0 1 >verbose 2>&1 || { cat verbose; failures=$((failures + 1)); }
    all=$(grep -c 'exec,cpu,reorder' verbose)
    bad=$(grep -cE 'exec,cpu,reorder.*,3x[0-9]+x[0-9]+x[0-9]+,' verbose)
    echo "$mode: $all reorders, of activations $bad"
    if [ "$bad" -ne 0 ] || [ "$all" -eq 0 ]; then failures=$((failures + 1)); fi
done
echo "counts: $failures failures"
[ "$failures" -eq 0 ]
