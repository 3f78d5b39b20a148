#!/usr/bin/env bash
# prep sort-val from the outside: modes, repetition, interruption, collisions, strangers, and the real pictures.
# usage: test_sort_val.sh BUILD DATA
set -u
prep=$(realpath "$1")/prep
data=$(realpath -m "$2")
[ -x "$prep" ] || { echo "skipped: prep is not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-sort-XXXXXX")
elsewhere=$(mktemp -d /dev/shm/imagenet-sort-XXXXXX 2>/dev/null || true)
trap 'rm -rf "$work" "$elsewhere"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAIL $*"; failures=$((failures + 1)); }

# Run, keep what it says in ./out and ./err, check the exit code.
expect() { # CODE COMMAND...
    local code=$1 got=0
    shift
    "$@" >out 2>err || got=$?
    [ "$got" -eq "$code" ] || { fail "exit $got, not $code: $*"; tail -n 3 out err; }
}
sort_val() { expect "$1" "$prep" sort-val raw/devkit "${@:2}"; }
says() { grep -qE -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 5 "$1"; }; }
# The last row of the table: pictures, placed, there, missing, refused.
table() { [ "$(awk '$1 == "all" { print $2, $3, $4, $5, $6 }' out)" = "$*" ] || { fail "the table is not: $*"; tail -n 3 out; }; }
# Names and bytes below a folder, and what links lead to.
tree() { (cd "$1" && find . ! -type d | LC_ALL=C sort | while read -r f; do echo "$f $(sha1sum <"$f")"; done); }
same_tree() { [ "$(tree "$1")" = "$(tree "$2")" ] || fail "$1 and $2 differ"; }
picture() { printf 'ILSVRC2012_val_%08d.JPEG' "$1"; }
# Where the picture of a number stands in a sorted folder.
place() { (cd "$1" && ls -d -- */"$(picture "$2")"); }

expect 0 "$prep" sample raw --classes 3 --train-per-class 1 --val-per-class 8 --seed 4
grep -q 'built without matio' err && { echo "skipped: prep was built without matio"; exit 77; }
cp -r raw/val val

echo "-- modes, and each of them again"
for mode in link copy symlink move; do
    rm -rf "$mode" source && cp -r val source
    sort_val 0 source "$mode" --mode "$mode"
    table 24 24 0 0 0
    sort_val 0 source "$mode" --mode "$mode"
    table 24 0 24 0 0
    [ "$(find "$mode" ! -type d | wc -l)" -eq 24 ] || fail "$mode: not 24 files"
    [ "$(find "$mode" -name '.*' | wc -l)" -eq 0 ] || fail "$mode: hidden files are left"
    for class in "$mode"/*; do
        [ "$(find "$class" -name 'ILSVRC*' | wc -l)" -eq 8 ] || fail "$class: not 8 pictures"
    done
    [ "$mode" = symlink ] || same_tree "$mode" link
    p=$(place "$mode" 5)
    case $mode in
    link) [ "$mode/$p" -ef "source/$(picture 5)" ] || fail "not a hard link" ;;
    copy) [ ! "$mode/$p" -ef "source/$(picture 5)" ] || fail "not a copy" ;;
    symlink) [ -L "$mode/$p" ] && cmp -s "$mode/$p" "source/$(picture 5)" || fail "not a link to the picture" ;;
    move) [ -z "$(ls source)" ] || fail "move left something behind" ;;
    esac
done
same_tree copy link
# The answer is the line's, not the place in a listing.
for n in 1 9 24; do
    id=$(sed -n "${n}p" raw/devkit/data/*ground_truth.txt)
    first=$(grep -nxm 1 "$id" raw/devkit/data/*ground_truth.txt | cut -d: -f1)
    [ "$(dirname "$(place copy "$n")")" = "$(dirname "$(place copy "$first")")" ] || fail "picture $n is not with picture $first"
done

echo "-- a dry run changes nothing"
sort_val 0 val dry --dry-run
table 24 24 0 0 0
says out 'to place'
[ ! -e dry ] || fail "--dry-run made dry"
expect 0 cp -r copy dry
rm "dry/$(place dry 3)"
tree dry >before
sort_val 0 val dry --dry-run --mode move
table 24 1 23 0 0
tree dry | cmp -s - before || fail "--dry-run changed dry"
same_tree val raw/val

echo "-- a part of the pictures, then the rest; strangers are listed"
mkdir part && cp val/*0000000?.JPEG part/
echo note >part/readme.txt
echo x >part/ILSVRC2012_val_0000001.JPEG
echo x >part/ILSVRC2012_val_00000001.jpg
echo x >part/$'two\nlines\xff'
mkdir part/folder
sort_val 0 part grown --mode copy
table 24 9 0 15 0
says out '^foreign, left alone: 5$'
says out 'part/readme.txt: '
says out 'part/two\\x0alines\\xff: '
says out 'part/folder: a folder'
sort_val 0 val grown
table 24 15 9 0 0
same_tree grown copy
rm -r val/../part

echo "-- interrupted: what a killed copy left is cleaned away, and the run goes on"
mkdir -p cut/n90001000
echo half >"cut/n90001000/.$(picture 7).partial"
for delay in 0.01 0.02 0.03 0.04 0.06 0.09 0.14; do
    { timeout -s KILL "$delay" "$prep" sort-val raw/devkit val cut --mode copy; } >/dev/null 2>&1
    find cut -name 'ILSVRC*' | while read -r f; do cmp -s "$f" "val/${f##*/}" || echo "$f"; done >wrong
    [ ! -s wrong ] || fail "a killed run left half a picture: $(head -n 1 wrong)"
done
sort_val 0 val cut --mode copy
[ "$(find cut -name '.*.partial' | wc -l)" -eq 0 ] || fail "a partial file is left"
same_tree cut copy

echo "-- nothing that exists is overwritten"
for mode in link copy symlink move; do
    rm -rf hit source && cp -r copy hit && cp -r val source
    p=$(place hit 2)
    echo "other bytes" >"hit/$p"
    sort_val 8 source hit --mode "$mode"
    table 24 0 23 0 1
    says out "hit/$p: other bytes"
    says err 'prep: error: refused: 1,'
    [ "$(cat "hit/$p")" = "other bytes" ] || fail "$mode: overwritten"
    cmp -s "source/$(picture 2)" "val/$(picture 2)" || fail "$mode: the refused picture is gone"
done
# The same length is not the same bytes.
rm -rf hit && cp -r copy hit
p=$(place hit 2)
printf X | dd of="hit/$p" bs=1 seek=300 conv=notrunc 2>/dev/null
sort_val 8 val hit
# A folder or a link into nothing in a picture's place.
rm "hit/$p" && mkdir "hit/$p"
sort_val 8 val hit
rmdir "hit/$p" && ln -s nowhere "hit/$p"
sort_val 8 val hit
says out 'into nothing'

echo "-- a picture in a wrong class"
rm -rf hit && cp -r copy hit
p=$(place hit 2)
for class in hit/*; do [ -e "$class/$(picture 2)" ] || wrong=${class##*/}; done
mv "hit/$p" "hit/$wrong/"
sort_val 8 val hit
says out "hit/$wrong/$(picture 2): stands in the wrong class, it belongs to ${p%%/*}"

echo "-- a move never loses a picture"
rm -rf source linked && cp -r val source
sort_val 0 source linked --mode symlink
sort_val 8 source linked --mode move
same_tree source val
rm -rf linked && mkdir linked && for class in copy/*; do ln -s ../source "linked/${class##*/}"; done
sort_val 3 source linked --mode move
says err 'is the folder source itself'
same_tree source val
mkdir away && mv "source/$(picture 4)" away/ && ln -s "../away/$(picture 4)" source/
rm -rf moved
sort_val 3 source moved --mode move
says out "$(picture 4): a symbolic link"
[ "$(find moved -type f | wc -l)" -eq 23 ] && [ -e "source/$(picture 4)" ] || fail "the linked picture or others are lost"
# In place: VAL and OUT are one folder.
rm -rf source && cp -r val source
sort_val 0 source source --mode move
same_tree source copy
sort_val 0 source source --mode move
table 24 0 24 0 0

echo "-- things that are no pictures, and wrong places"
rm -rf odd && mkdir odd && cp "val/$(picture 1)" odd/
mkdir "odd/$(picture 2)" && mkfifo "odd/$(picture 3)" && ln -s nowhere "odd/$(picture 4)"
cp "val/$(picture 1)" "odd/$(picture 25)" && cp "val/$(picture 1)" "odd/$(picture 0)"
sort_val 3 odd odd-out
says out '^refused: 5$'
says out "$(picture 25): the ground truth has no line"
table 24 1 0 20 3
mkdir empty
sort_val 3 empty empty-out
says err 'empty holds no ILSVRC2012_val_'
sort_val 3 copy copy-out
says err 'sorted already'
sort_val 3 raw/sample.txt o
says err 'is not a folder'
sort_val 3 nowhere o
sort_val 2 val
sort_val 2 val o --mode tape
expect 0 "$prep" sort-val --help
says out 'usage: prep sort-val DEVKIT VAL OUT'

echo "-- a damaged devkit ends it before anything is written"
cp -r raw/devkit broken
truncate -s 500 broken/data/meta.mat
expect 3 "$prep" sort-val broken val never
says err 'broken/data/meta.mat: not readable'
cp raw/devkit/data/meta.mat broken/data/ && sed -i '7s/.*/0/' broken/data/*.txt
expect 3 "$prep" sort-val broken val never
says err 'line 7 is "0"'
[ ! -e never ] || fail "a damaged devkit left an output"
expect 3 "$prep" sort-val nowhere val never
says err 'ILSVRC2012_devkit_t12'
# A list that was cut off at a line is possible, and suspicious.
cp raw/devkit/data/*.txt broken/data/ && sed -i '24d' broken/data/*.txt
expect 3 "$prep" sort-val broken val short
says err 'warning: the ground truth has 23 lines'
says out "$(picture 24): the ground truth has no line"

echo "-- two at once"
mkdir held
flock held sleep 5 &
holder=$!
for _ in $(seq 100); do flock -n held true || break; sleep 0.02; done
sort_val 6 val held
says err 'another prep sort-val'
kill "$holder" 2>/dev/null
wait "$holder" 2>/dev/null

if [ -n "$elsewhere" ] && [ "$(stat -c %d "$elsewhere")" != "$(stat -c %d .)" ]; then
    echo "-- across file systems"
    sort_val 0 val "$elsewhere/out"
    says err '24 pictures were copied: no hard link'
    same_tree "$elsewhere/out" copy
    rm -rf "$elsewhere/out" source && cp -r val source
    sort_val 0 source "$elsewhere/out" --mode move
    same_tree "$elsewhere/out" copy
    [ -z "$(ls source)" ] || fail "the move across file systems left something behind"
    # A move that was cut between copy and removal is finished.
    cp val/*1.JPEG source/
    sort_val 0 source "$elsewhere/out" --mode move
    table 24 0 24 0 0
    [ -z "$(ls source)" ] || fail "the second move left something behind"
else
    echo "   (not tested: no second file system)"
fi

if unshare -rm true 2>/dev/null; then
    echo "-- a full disk is seen before the first copy"
    mkdir small
    expect 4 unshare -rm bash -c "mount -t tmpfs -o size=64k none small && '$prep' sort-val raw/devkit val small/out --mode copy && exit 0; c=\$?; ls -R small | grep -c JPEG >left; exit \$c"
    says err 'copying needs .* are free'
    [ "$(cat left)" -eq 0 ] || fail "copies were begun on a disk without room"
fi

if [ -e "$data/val-flat.tsv" ]; then
    echo "-- the real devkit and 150 real pictures"
    expect 0 "$prep" sort-val "$data/devkit" "$data/val-flat" real --mode symlink
    table 50000 150 0 49850 0
    says out '1000 classes: 0 complete'
    tail -n +2 "$data/val-flat.tsv" | while IFS=$'\t' read -r file wnid _; do
        cmp -s "real/$wnid/$file" "$data/val-flat/$file" || echo "$file is not in $wnid"
    done >wrong
    [ ! -s wrong ] || fail "$(wc -l <wrong) pictures: $(head -n 1 wrong)"
    expect 0 "$prep" sort-val "$data/devkit" "$data/val-flat" real --all-classes
    table 50000 0 150 49850 0
    [ "$(grep -cE '^n[0-9]{8} ' out)" -eq 1000 ] || fail "--all-classes does not list 1000 classes"
else
    echo "   (not tested: no $data/val-flat)"
fi

echo "sort-val: $failures failures"
[ "$failures" -eq 0 ]
