#!/usr/bin/env bash
# What cmake --install puts into a prefix: both programs run from there, and man reads both pages.
# usage: test_install.sh BUILD DATA
set -u
build=$(realpath "$1")
[ -x "$build/prep" ] && [ -x "$build/train" ] || { echo "skipped: prep or train is not built"; exit 77; }
prefix=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-install-XXXXXX")
trap 'rm -rf "$prefix"' EXIT
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

cmake --install "$build" --prefix "$prefix" >"$prefix/log" 2>&1 || { cat "$prefix/log"; exit 1; }
for program in prep train; do
    "$prefix/bin/$program" --version | grep -q "^$program [0-9]" || fail "$program does not run from the prefix"
    page=$prefix/share/man/man1/$program.1
    [ -s "$page" ] || { fail "there is no page $program(1)"; continue; }
    # Each option of the help is in the page.
    for option in $("$prefix/bin/$program" --help | grep -oE '^  --[a-z-]+'); do
        grep -qF -- "${option//-/\\-}" "$page" || fail "$program(1) does not tell $option"
    done
    command -v man >/dev/null || continue
    said=$(LC_ALL=C MANWIDTH=100 man --warnings=w -l "$page" 2>&1 >"$prefix/page") && [ -z "$said" ] || fail "man $program: $said"
    [ ! -s "$prefix/page" ] || grep -q 'EXIT STATUS' "$prefix/page" || fail "man does not show $program(1) to its end"
done
"$prefix/bin/train" plan --arch resnet18 --device cpu >/dev/null || fail "train plan from the prefix"
echo "install: $failures failures"
[ "$failures" -eq 0 ]
