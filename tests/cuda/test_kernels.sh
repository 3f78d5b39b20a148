#!/usr/bin/env bash
# Own kernels on the CPU: kernels/*.cu as C++ (shim.h) against plain C, under ASan + UBSan and under TSan; then every
# variant in broken/, which must fail. Needs the headers of the CUDA toolkit and g++: exit 77 where they are absent.
# Called with the build folder and that of the test data.
set -u
cd "$(dirname "$0")/../.." || exit 1
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

. tests/cuda/headers.sh

kernels=(augment loss norm pool update)
warnings=(-Wall -Wextra -Werror -Wno-format-truncation)
common=(-O1 -g -ffp-contract=off -fno-omit-frame-pointer -fno-sanitize-recover=all "${warnings[@]}")
sanitizers() { [ "$1" = thread ] && echo thread || echo address,undefined; }

# compile_kernel SANITIZER SOURCE OBJECT [folder searched first]
compile_kernel() {
    g++ -std=c++17 "${common[@]}" -fsanitize="$(sanitizers "$1")" ${4:+-I"$4"} -I. -isystem "$include" \
        -include tests/cuda/shim.h -x c++ -c "$2" -o "$3"
}
compile_all() {
    mkdir "$work/$1"
    for name in "${kernels[@]}"; do
        compile_kernel "$1" "kernels/$name.cu" "$work/$1/$name.o" || return 1
    done
    for source in common/{err,mem}.c common/resample*.c tests/cuda/kernel_values.c; do
        gcc -std=c17 -D_GNU_SOURCE "${common[@]}" -fsanitize="$(sanitizers "$1")" -I. -DTEST_DATA='"."' \
            -c "$source" -o "$work/$1/$(basename "$source" .c).o" || return 1
    done
}
# link_and_run SANITIZER PROGRAM CASES... with the objects of $objects
link_and_run() {
    local sanitizer=$1 program=$2
    shift 2
    g++ -fsanitize="$(sanitizers "$sanitizer")" "${objects[@]}" -o "$program" -lpthread || return 99
    TSAN_OPTIONS=halt_on_error=1 timeout 300 "$program" "$@"
}
cooperative=(bias loss_errors)

compile_all address & first=$!
compile_all thread || { fail "the kernels cannot be compiled for TSan"; exit 1; }
wait $first || { fail "the kernels cannot be compiled for ASan"; exit 1; }
objects=("$work"/address/*.o)
link_and_run address "$work/address/run" || fail "values under ASan and UBSan"
objects=("$work"/thread/*.o)
link_and_run thread "$work/thread/run" "${cooperative[@]}" "augment_small" || fail "races under TSan"

for variant in tests/cuda/broken/*.sed; do
    name=$(basename "$variant" .sed)
    read -r _ source sanitizer cases <"$variant"
    cases=${cases%%:*}
    folder=$work/$name
    mkdir -p "$folder/kernels"
    sed -f "$variant" "$source" >"$folder/$source"
    changed=$(diff "$source" "$folder/$source" | grep -c '^<')
    [ "$changed" = 1 ] || { fail "$name changes $changed lines of $source, not 1"; continue; }
    kernel=${source##*/}
    kernel=${kernel%.*}
    if [ "$kernel" = device ]; then
        kernel=loss
        cp kernels/loss.cu kernels/kernels.h "$folder/kernels/"
    fi
    compile_kernel "$sanitizer" "$folder/kernels/$kernel.cu" "$folder/$kernel.o" "$folder" ||
        { fail "$name cannot be compiled"; continue; }
    objects=("$folder/$kernel.o")
    for object in "$work/$sanitizer"/*.o; do
        [ "${object##*/}" = "$kernel.o" ] || objects+=("$object")
    done
    # shellcheck disable=SC2086 # a list of cases
    link_and_run "$sanitizer" "$folder/run" $cases >"$folder/log" 2>&1
    rc=$?
    if [ $rc -eq 0 ] || [ $rc -eq 99 ] || [ $rc -eq 124 ]; then
        fail "$name was not caught (exit $rc)"
    else
        echo "ok   $name caught: $(grep -m1 -E 'ERROR|WARNING: Thread|shim:|is .* not |CHECK' "$folder/log" | cut -c1-110)"
    fi
done
echo "kernels: $failures failures"
[ "$failures" -eq 0 ]
