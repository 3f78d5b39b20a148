#!/usr/bin/env bash
# Some 650 hostile and damaged files, made by tests/tools/hostile.py with the verdict that each must get (tests/test_hostile.c).
# usage: test_hostile_files.sh BUILD DATA
set -u
build=$(realpath "$1")
tool=$(realpath "$(dirname "$0")/tools/hostile.py")
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-hostile-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
python3 "$tool" files || { echo "FAIL the files were not made"; exit 1; }
"$build/test_hostile" files 2>/dev/null || exit 1
[ ! -e PWNED ] && [ ! -e files/PWNED ] || { echo "FAIL something was called"; exit 1; }
# A thousand mutants of small checkpoints against what torch.load said of them.
PYTHONDONTWRITEBYTECODE=1 python3 "$(dirname "$tool")/mutants.py" check "$(dirname "$tool")/../oracle/mutants.txt" "$build/test_pth"
