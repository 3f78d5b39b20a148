#!/usr/bin/env bash
# The simulated device and its tests under ASan + UBSan, whatever this build is: what it computes and catches must not
# rest on a fault of its own. Needs the headers of the CUDA toolkit and g++: exit 77 where they are absent. Called with
# the build folder and that of the test data.
set -u
cd "$(dirname "$0")/../.." || exit 1

. tests/cuda/headers.sh

flags=(-O1 -g -ffp-contract=off -fno-omit-frame-pointer -fno-sanitize-recover=all -fsanitize=address,undefined
    -Wall -Wextra -Werror -Wno-format-truncation -I. -isystem "$include")
compile() {
    local source=$1
    case $source in
    *.cu) g++ -std=c++17 "${flags[@]}" -include tests/cuda/sim/rename.h -include tests/cuda/shim.h \
        -include tests/cuda/sim/fibers.h -x c++ -c "$source" -o "$work/$(basename "$source").o" ;;
    *) gcc -std=c17 -D_GNU_SOURCE -DTEST_DATA='"."' "${flags[@]}" -c "$source" -o "$work/$(basename "$source").o" ;;
    esac
}
sources=(common/{digest,err,files,mem,rng}.c train/cuda/{devices,door_graph}.c tests/cuda/sim/*.c kernels/*.cu)
half=$((${#sources[@]} / 2))
(for source in "${sources[@]:0:half}"; do compile "$source" || exit 1; done) & first=$!
for source in "${sources[@]:half}"; do compile "$source" || exit 1; done
wait $first || exit 1
failures=0
for name in test_sim_nodes test_sim_plans test_sim_order; do
    compile tests/cuda/$name.c || exit 1
    mv "$work/$name.c.o" "$work/$name.test"
    g++ -fsanitize=address,undefined "$work"/*.o -x none "$work/$name.test" -o "$work/$name" -lpthread -lxxhash || exit 1
    timeout 300 "$work/$name" 2>"$work/log" || { cat "$work/log"; failures=$((failures + 1)); }
done
echo "simulated device under sanitizers: $failures failures"
[ $failures -eq 0 ]
