#!/usr/bin/env bash
# Own kernels compile for every architecture that they are meant for, and to PTX, with warnings as errors, without
# spills and without local memory. Prints a table of registers and shared memory: those of kernels/README.md. Needs
# nvcc: exit 77 where it is absent. Called with the build folder and that of the test data.
set -u
cd "$(dirname "$0")/../.." || exit 1
fail() { echo "FAIL $*"; }

if grep -qs '^WITH_CUDA:[A-Z]*=OFF' "${1:-build}/CMakeCache.txt"; then
    echo "skipped: built with -DWITH_CUDA=OFF"
    exit 77
fi
nvcc=$(sed -n 's/^NVCC:[A-Z]*=//p' "${1:-build}/CMakeCache.txt" 2>/dev/null)
[ -x "$nvcc" ] || nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "skipped: nvcc was not found"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/kernels-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT

# ARCHITECTURES: the ones to compile for, all by default.
known=$("$nvcc" --list-gpu-arch)
flags=()
wanted=0
for sm in ${ARCHITECTURES:-80 86 89 90 100 120}; do
    grep -qx "compute_$sm" <<<"$known" || { echo "left out: this nvcc does not know sm_$sm"; continue; }
    flags+=("-gencode=arch=compute_$sm,code=sm_$sm")
    newest=$sm
    wanted=$((wanted + 1))
done
flags+=("-gencode=arch=compute_$newest,code=compute_$newest")

compile() {
    "$nvcc" -std=c++17 -O3 -fmad=false -Werror=all-warnings -Xptxas=-v -t2 \
        -Xcompiler=-Wall,-Wextra,-Werror,-fno-threadsafe-statics,-fno-exceptions "${flags[@]}" -I. \
        -c "kernels/$1.cu" -o "$work/$1.o" >"$work/$1.log" 2>&1
}
for kernel in augment loss norm pool update; do
    compile "$kernel" || { fail "kernels/$kernel.cu cannot be compiled"; head -20 "$work/$kernel.log"; continue; }
    entries=$(grep -c 'Compiling entry function' "$work/$kernel.log")
    clean=$(grep -c '0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' "$work/$kernel.log")
    [ "$entries" -gt 0 ] && [ $((entries % wanted)) -eq 0 ] || fail "$kernel: $entries entries for $wanted architectures"
    [ "$entries" = "$clean" ] || fail "$kernel: $((entries - clean)) of $entries entries spill or use local memory"
    # Every launch here is 256 threads of registers <= 255: what bounds is 65,536 registers a multiprocessor.
    awk -v file="$kernel" '
        /Compiling entry function/ { name = $0; sub(/.*function ./, "", name); sub(/. for .*/, "", name)
            match(name, /^_Z[0-9]+/); digits = substr(name, 3, RLENGTH - 2)
            type = name ~ /bfloat16/ ? "bf16" : name ~ /__half/ ? "f16" : name ~ /^_Z[0-9]+[a-z_]+I/ ? "f32" : "-"
            name = substr(name, RLENGTH + 1, digits) }
        /Used [0-9]+ registers/ { match($0, /Used [0-9]+/); r = substr($0, RSTART + 5, RLENGTH - 5) + 0
            key = name " " type; if (!(key in low) || r < low[key]) low[key] = r; if (r > high[key]) high[key] = r }
        END { for (key in low) print file, key, low[key], high[key] }' "$work/$kernel.log" | sort
done | tee "$work/table"
failures=$(grep -c '^FAIL' "$work/table")
echo "kernels: $failures failures"
[ "$failures" -eq 0 ]
