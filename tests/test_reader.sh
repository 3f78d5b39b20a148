#!/usr/bin/env bash
# A reader that was written from data-spec/20-data-set.md alone (tests/tools/read_data_set.py, with python3-lmdb) reads
# the golden data set and one that prep packed now, finds the same in them as our programs, and notices damage.
set -u
build=$1
cd "$(dirname "$0")/.." || exit 1
reader=tests/tools/read_data_set.py
python=
for candidate in python3 /usr/bin/python3; do
    if PYTHONDONTWRITEBYTECODE=1 "$candidate" -c 'import lmdb' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "skipped: no Python with lmdb (apt-get install python3-lmdb)"
    exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

golden=data-spec/golden
"$python" $reader $golden/data-set.lmdb >"$work/golden.tsv" || fail "the golden data set is not read"
cmp "$work/golden.tsv" $golden/data-set.tsv || fail "the golden data set reads differently"

# One changed byte: in a record, in a B-tree page, in the manifest.
for change in shard-00000.mdb:12300 shard-00001.mdb:8208 manifest.json:400; do
    rm -rf "$work/damaged"
    cp -r $golden/data-set.lmdb "$work/damaged"
    printf '\377' | dd of="$work/damaged/${change%:*}" bs=1 seek="${change#*:}" conv=notrunc status=none
    "$python" $reader "$work/damaged" >/dev/null 2>&1 && fail "the reader does not notice $change"
done

echo "reader: $failures failures"
[ "$failures" -eq 0 ]
