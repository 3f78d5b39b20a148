#!/usr/bin/env bash
# Installs what the tests need, builds, runs all tests, prints the summary. The one test command: people and CI use it.
#   ./check.sh          everything: release build with gcc and clang, ASan + UBSan, TSan, format, clang-tidy
#   ./check.sh quick    the release build's tests only
set -euo pipefail
cd "$(dirname "$0")"
. tests/tools/packages.sh

install_packages build-essential clang libomp-dev clang-format clang-tidy imagemagick python3-lmdb strace valgrind
jobs=$(nproc)
summary=()

# NAME PRESET [CMAKE OPTION ...] [-- CTEST OPTION ...]: configure, build and test.
check() {
    local name=$1 preset=$2 begin=$SECONDS options=()
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    echo "== $name"
    cmake --preset "$preset" -B "build-check/$name" "${options[@]}" >"build-check/$name.log" 2>&1 || { cat "build-check/$name.log"; exit 1; }
    cmake --build "build-check/$name" -j "$jobs" >"build-check/$name.log" 2>&1 || { tail -n 60 "build-check/$name.log"; exit 1; }
    ctest --test-dir "build-check/$name" --output-on-failure -j "$jobs" --no-tests=error "$@" | tee "build-check/$name.tests"
    summary+=("$name: $(grep -E 'tests passed' "build-check/$name.tests"), $((SECONDS - begin)) s")
}

mkdir -p build-check
# What the fault suites counted, summed up from what the tests of NAME said (tests/README.md, "Faults").
count_faults() {
    awk -F ': ' '/^(kill points|errors injected|allocations refused|power-loss states): [0-9]+$/ { sum[$1] += $2 }
        /^damages: [0-9]+ found of [0-9]+$/ { split($2, n, " "); found += n[1]; all += n[4] }
        END { for (name in sum) print name ": " sum[name]; print "damages: " found " found of " all }' \
        "build-check/$1/Testing/Temporary/LastTest.log" | sort
    grep -ohE 'mutants: [0-9]+ of [0-9]+ killed' tests/README.md | sed 's/$/ (tests\/crash\/mutants.sh, when it was last run)/'
}

check release default
mapfile -t faults < <(count_faults release)
summary+=("${faults[@]}")
if [ "${1:-}" != quick ]; then
    # clang's build shows other warnings; what its code does is tested but for the long whole-program scripts.
    CC=clang CXX=clang++ check clang default -DWITH_CUDA=OFF -- -LE long
    # The sanitizers run what they can see into: the CUDA parts have sanitizer builds of their own in their tests.
    check asan asan -DWITH_CUDA=OFF
    check tsan tsan -DWITH_CUDA=OFF -- -L thread
    echo "== format and clang-tidy"
    git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
    git ls-files 'common/*.c' 'prep/*.c' 'train/*.c' | grep -v '^train/cuda/' |
        xargs -P "$jobs" -n 4 clang-tidy --quiet -p build-check/release 2>/dev/null
    summary+=("format and clang-tidy: clean")
fi
echo
echo "== summary"
printf '%s\n' "${summary[@]}"
