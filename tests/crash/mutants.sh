#!/usr/bin/env bash
# The test of the tests: takes away one fsync, folder sync, checksum, bounds check or lock at a time (mutants.tsv), builds
# what that changes, and runs the test that must fail then. Not part of the default tests: some minutes.
# usage: tests/crash/mutants.sh FOLDER [NAME PART]   FOLDER is made, kept, and used again the next time
set -u
folder=$(mkdir -p "$1" && realpath "$1")
only=${2:-}
source=$(realpath "$(dirname "$0")/../..")
# Only what differs is copied, with the date of today: what did not change is not built again.
mkdir -p "$folder/source" && rm -rf "$folder/new" && mkdir "$folder/new"
(cd "$source" && git ls-files -co --exclude-standard -z | tar -c --null -T - -f -) | tar -x -C "$folder/new" || exit 1
(cd "$folder/new" && find . -type f -print0) | while IFS= read -r -d '' file; do
    cmp -s "$folder/new/$file" "$folder/source/$file" || { mkdir -p "$folder/source/${file%/*}" && cp "$folder/new/$file" "$folder/source/$file"; }
done
(cd "$folder/source" && find . -path ./build -prune -o -type f -print0) | while IFS= read -r -d '' file; do
    [ -e "$folder/new/$file" ] || rm "$folder/source/$file"
done
build=$folder/source/build/mutants
cmake -S "$folder/source" -B "$build" -G Ninja -DWITH_CUDA=OFF -DWERROR=OFF -DTEST_DATA="$source/../shared/data" >"$folder/log" 2>&1 || { tail "$folder/log"; exit 1; }
mutants=$(grep -v '^#' "$source/tests/crash/mutants.tsv")
# Each must still have something to take away, or nothing is run.
stale=0
while IFS=$'\t' read -r name file expression _; do
    sed -e "$expression" "$folder/source/$file" | cmp -s - "$folder/source/$file" || continue
    echo "STALE $name: the expression changes nothing in $file"
    stale=$((stale + 1))
done <<<"$mutants"
[ $stale -eq 0 ] || exit 1
mutants=$(awk -F '\t' -v only="$only" 'only == "" || index($1, only)' <<<"$mutants")
targets=$(cut -f 4 <<<"$mutants" | sort -u)
# shellcheck disable=SC2086
cmake --build "$build" -j 2 --target $targets >"$folder/log" 2>&1 || { tail "$folder/log"; exit 1; }
# The command of a mutant; 124: it took longer than any should.
run() { (cd "$build" && timeout 400 bash -c "$1") >"$folder/said" 2>&1; } 2>/dev/null
while read -r command; do
    run "$command" || { echo "FAIL without a mutant: $command"; tail -n 5 "$folder/said"; exit 1; }
done < <(cut -f 5 <<<"$mutants" | sort -u)
killed=0 all=0
survivors=()
while IFS=$'\t' read -r name file expression target command; do
    all=$((all + 1))
    cp -p "$folder/source/$file" "$folder/saved"
    sed -i -e "$expression" "$folder/source/$file"
    # shellcheck disable=SC2086
    if ! cmake --build "$build" -j 2 --target $target >"$folder/log" 2>&1; then
        survivors+=("$name: does not compile: $(grep -m 1 error: "$folder/log")")
    else
        run "$command"
        case $? in
        0) survivors+=("$name: $command does not notice") ;;
        124) survivors+=("$name: $command does not end") ;;
        *) killed=$((killed + 1)) && echo "killed: $name ($target)" ;;
        esac
    fi
    cp "$folder/saved" "$folder/source/$file" # a new date: built again
done <<<"$mutants"
# All is as it was.
# shellcheck disable=SC2086
cmake --build "$build" -j 2 --target $targets >"$folder/log" 2>&1
[ ${#survivors[@]} -eq 0 ] || printf 'SURVIVED %s\n' "${survivors[@]}"
echo "mutants: $killed of $all killed"
[ "$killed" -eq "$all" ]
