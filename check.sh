#!/usr/bin/env bash
# Installs what the tests need, builds, runs all tests, prints the summary. The one test command: people and CI use it.
#   ./check.sh          everything: release build with gcc and clang, ASan + UBSan, TSan, format, clang-tidy
#   ./check.sh quick    the release build's tests only
set -euo pipefail
cd "$(dirname "$0")"
. tests/tools/packages.sh

install_packages build-essential clang clang-format clang-tidy imagemagick python3-lmdb strace
jobs=$(nproc)
summary=()

# NAME: configure, build and test one preset; more arguments go to cmake.
check() {
    local name=$1 preset=$2 begin=$SECONDS
    shift 2
    echo "== $name"
    cmake --preset "$preset" -B "build-check/$name" "$@" >"build-check/$name.log" || { cat "build-check/$name.log"; exit 1; }
    cmake --build "build-check/$name" -j "$jobs" -- --quiet 2>&1 | tail -n 40
    ctest --test-dir "build-check/$name" --output-on-failure -j "$jobs" --no-tests=error | tee "build-check/$name.tests"
    summary+=("$name: $(grep -E 'tests passed' "build-check/$name.tests"), $((SECONDS - begin)) s")
}

mkdir -p build-check
check release default
if [ "${1:-}" != quick ]; then
    CC=clang check clang default
    check asan asan
    check tsan tsan
    echo "== format and clang-tidy"
    git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
    git ls-files 'common/*.c' 'prep/*.c' 'train/*.c' | xargs -P "$jobs" -n 4 clang-tidy --quiet -p build-check/release 2>/dev/null
    summary+=("format and clang-tidy: clean")
fi
echo
echo "== summary"
printf '%s\n' "${summary[@]}"
