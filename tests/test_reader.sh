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

# A data set of now. sample writes the pictures; without it (no matio) there is nothing to pack.
compare_with_prep() {
    local set=$1 index name label class width height was_width was_height encoding size
    "$build/prep" verify "$set" >"$work/verify.txt" || fail "prep verify $set"
    "$build/prep" info "$set" --json >"$work/info.json" || fail "prep info $set"
    "$python" $reader "$set" >"$work/list.tsv" || fail "$set is not read"
    "$python" - "$work/info.json" "$work/list.tsv" <<'END' || fail "prep info and the reader differ on $set"
import collections, json, sys
info = json.load(open(sys.argv[1]))
rows = [line.rstrip("\n").split("\t") for line in open(sys.argv[2])]
counts = collections.Counter(row[3] for row in rows)
assert info["images"] == len(rows) > 0, len(rows)
assert info["class_count"] == len(info["classes"]) and info["shards"] == len(info["shard_list"])
assert info["bytes"] == sum(shard["bytes"] for shard in info["shard_list"])
for index, item in enumerate(info["classes"]):
    assert item["index"] == index and item["images"] == counts[item["name"]], item
END
    while IFS=$'\t' read -r index name label class width height was_width was_height encoding size _; do
        printf 'index     %s\nkey       %s\nclass     %s %s\nstored    %s, %s x %s pixels, %s bytes\noriginal  %s x %s pixels\n' \
            "$index" "$name" "$label" "$class" "$encoding" "$width" "$height" "$size" "$was_width" "$was_height"
    done <"$work/list.tsv" >"$work/expected.txt"
    while IFS=$'\t' read -r index _; do
        "$build/prep" show "$set" "$index" | sed '/^place/d; s/^\(class     [0-9]* [^ ]*\).*/\1/'
    done <"$work/list.tsv" >"$work/shown.txt"
    cmp "$work/expected.txt" "$work/shown.txt" || fail "prep show and the reader differ on $set"
}
if "$build/prep" sample "$work/sample" --classes 3 --train-per-class 5 --val-per-class 1 >/dev/null 2>"$work/sample.txt"; then
    for encoding in rgb jpeg; do
        "$build/prep" pack "$work/sample/train" "$work/$encoding.lmdb" --encoding $encoding --short-side 48 \
            >"$work/pack.txt" 2>&1 || { cat "$work/pack.txt"; fail "prep pack --encoding $encoding"; }
        compare_with_prep "$work/$encoding.lmdb"
    done
else
    echo "only the golden data set was read: $(cat "$work/sample.txt")"
fi

echo "reader: $failures failures"
[ "$failures" -eq 0 ]
