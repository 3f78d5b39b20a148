#!/usr/bin/env bash
# A reader written from data-spec/50-checkpoint.md with Python's zipfile and pickle alone (tests/tools/pth_reader.py) finds
# in our files what our own reader finds, laid out as the document says, and the same digest. No PyTorch needed.
set -u
build=$1
cd "$(dirname "$0")/.." || exit 1
if ! python3 -c 'import zipfile, pickletools' 2>/dev/null; then
    echo "skipped: no python3"
    exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }
reader=tests/tools/pth_reader.py

"$build/test_pth" --write "$work/all.pth" || fail "no file was written"
"$build/test_checkpoint" --small "$work/checkpoint.pth" || fail "no checkpoint was written"
for file in "$work/all.pth" "$work/checkpoint.pth"; do
    python3 $reader "$file" >"$work/theirs.txt" || fail "$file is not as the document says"
    "$build/test_pth" --print "$file" >"$work/ours.txt" || fail "$file is not read"
    cmp "$work/theirs.txt" "$work/ours.txt" || fail "$file reads differently"
done
python3 $reader --digest "$work/checkpoint.pth" || fail "the digest differs"
if command -v unzip >/dev/null; then
    unzip -tq "$work/checkpoint.pth" >"$work/unzip.txt" || fail "unzip: $(cat "$work/unzip.txt")"
fi

# Python's own damage is noticed by ours: the archive packed anew, whose CRCs are right.
python3 - "$work" <<'EOF' || fail "could not pack anew"
import sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(work + "/checkpoint.pth") as old, zipfile.ZipFile(work + "/anew.pth", "w") as new:
    for entry in old.infolist():
        new.writestr(entry.filename, old.read(entry))
EOF
"$build/test_pth" --print "$work/anew.pth" >/dev/null 2>"$work/error.txt"
[ $? -eq 3 ] || fail "an archive that Python packed anew is not refused"
grep -q 'torch.save leaves 0' "$work/error.txt" || fail "unexpected: $(cat "$work/error.txt")"

echo "pth: $failures failures"
[ "$failures" -eq 0 ]
