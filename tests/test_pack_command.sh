#!/usr/bin/env bash
# prep pack as its users call it: exit codes, two at once, kill -9 over real pictures, a full disk, odd names, any
# locale. usage: test_pack_command.sh BUILD DATA
set -u
prep=$(realpath "$1")/prep data=$(realpath "$2")
[ -d "$data/fullsize" ] || { echo "skipped: $data has no fullsize"; exit 77; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/pack-test-XXXXXX")
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0
fail() { echo "FAIL $*"; [ -s err ] && tail -n 3 err; failures=$((failures + 1)); }
ok() { echo "ok   $*"; }

# run CODE ARGUMENTS...: prep pack ARGUMENTS must end with CODE; its talk is in err.
run() {
    local wanted=$1
    shift
    "$prep" pack "$@" >out 2>err
    local code=$?
    [ "$code" -eq "$wanted" ] || fail "pack $*: exit code $code, not $wanted"
}
# says TEXT: the last run said so.
says() { grep -qF -- "$1" err || fail "\"$1\" was not said"; }
# same A B: two folders hold the same.
same() { diff -r "$1" "$2" >difference || { fail "$1 and $2 differ"; head -n 3 difference; }; }

run 0 --help
grep -q -- '--short-side N' out || fail "--help does not tell --short-side"
run 2
run 2 a b c
run 2 "$data/fullsize" x.lmdb --short-sid 3
says "did you mean --short-side"
run 3 "$data/nowhere" x.lmdb
run 3 "$data/val-flat" x.lmdb
says "prep sort-val"
ok usage

settings=(--shard-size 4MiB)
LC_ALL=C run 0 "$data/fullsize" whole.lmdb "${settings[@]}" --jobs 1
says "150 pictures of 150 classes"
says "limited by"
says "gray made RGB"
run 0 "$data/fullsize" whole.lmdb "${settings[@]}"
says "already finished"
run 8 "$data/fullsize" whole.lmdb
says "shard_size was 4194304"
ok whole

LC_ALL=C.UTF-8 run 0 "$data/fullsize" locale.lmdb "${settings[@]}" --jobs 3
same whole.lmdb locale.lmdb
TZ=Asia/Tokyo run 0 "$data/fullsize/" ./deeper/down/other.lmdb/ "${settings[@]}"
same whole.lmdb deeper/down/other.lmdb
ok "same bytes"

# kill -9 after more and more time, until a run gets through.
for wait in 0.02 0.05 0.08 0.1 0.12 0.15 0.2 0.3 0.5 1 2 60; do
    timeout -s KILL $wait "$prep" pack "$data/fullsize" killed.lmdb "${settings[@]}" 2>err && break
    sleep 0.5 # timeout kills itself too, and is gone before what it killed has let go of the lock
done 2>/dev/null
same whole.lmdb killed.lmdb
ok "kill -9"

# Two at once: the first is held still while the second tries.
"$prep" pack "$data/fullsize" two.lmdb "${settings[@]}" 2>first &
first=$!
while [ ! -e two.lmdb/plan.json ] && kill -0 $first 2>/dev/null; do sleep 0.01; done
kill -STOP $first
run 6 "$data/fullsize" two.lmdb "${settings[@]}"
says "another run holds"
kill -CONT $first
wait $first || fail "the first of two ended with $?"
same whole.lmdb two.lmdb
ok "two at once"

"$prep" pack "$data/fullsize" quiet.lmdb "${settings[@]}" 2>&- || fail "closed standard error: $?"
same whole.lmdb quiet.lmdb
"$prep" pack "$data/fullsize" pipe.lmdb "${settings[@]}" 2> >(exec true) || fail "broken pipe: $?"
same whole.lmdb pipe.lmdb
ok "nobody listens"

# Class and file names are bytes.
mkdir -p names/$'new\nline' names/$'\xff\xfe' 'names/a b'
cp "$data"/oddities/baseline_testorig.jpg names/$'new\nline'/$'\x01\xff.jpg'
cp "$data"/oddities/png_named.JPEG names/$'\xff\xfe'/'tab	tab.JPEG'
cp "$data"/oddities/html_named.JPEG 'names/a b'/'.hidden.JPEG'
cp "$data"/oddities/html_named.JPEG 'names/a b'/'back\slash.jpeg'
cp "$data"/oddities/corrupt_entropy.JPEG 'names/a b'/$'\xc3\xa4.JPEG'
cp "$data"/oddities/gray_square.jpg names/
run 3 names names.lmdb
says 'not counted: a b/.hidden.JPEG (hidden)'
says 'not counted: gray_square.jpg (in no class folder)'
says 'bad: a b/back\x5cslash.jpeg: not a picture'
says '1 of 4 pictures are bad'
run 0 names names.lmdb --max-bad 1
printf 'verdict\tfile\treason\tplace\nbad\ta b/back\\x5cslash.jpeg\tnot a picture\t-\n' >list
printf 'warn\ta b/\\xc3\\xa4.JPEG\tCorrupt JPEG data: 34 extraneous bytes before marker 0xd9\t' >>list
sed 's/shard-00000.mdb:[0-3]$/\n/' names.lmdb/bad.tsv | sed '/^$/d' | diff - <(cat list; echo) || fail "bad.tsv of odd names"
ok names

# Subsets.
run 0 "$data/imagenette-160/train" subset.lmdb --classes n01440764,n03394916 --per-class 20
says "subset.lmdb: 40 pictures of 2 classes"
printf 'n03394916\r\nn01440764\r\n' >classes
run 0 "$data/imagenette-160/train" subset2.lmdb --classes classes --per-class 20
same subset.lmdb subset2.lmdb
run 3 "$data/imagenette-160/train" subset3.lmdb --classes n01440764,n00000000
says "n00000000"
run 0 "$data/imagenette-160/train" words.lmdb --per-class 1 --devkit "$data/devkit"
grep -q '"tench, Tinca tinca"' words.lmdb/manifest.json || fail "no words in the manifest"
run 8 "$data/imagenette-160/train" words.lmdb --per-class 1
says "words_digest"
ok subsets

# A full disk: 16 MiB of memory in a mount namespace of our own. The step at which it went wrong is the exit code.
cat >full.sh <<'END'
prep=$1 data=$2
mount -t tmpfs -o size=16m tmpfs disk || exit 99
pack() { "$prep" pack "$data/fullsize" "$@" --shard-size 4MiB 2>said; }
pack disk/all.lmdb
[ $? -eq 4 ] || exit 1
grep -q "encoding jpeg would need about" said || exit 2
classes=$(ls "$data/fullsize" | head -n 30 | paste -sd,)
head -c 7M /dev/zero >disk/ballast
pack disk/x.lmdb --classes "$classes" &
while [ ! -e disk/x.lmdb/plan.json ] && kill -0 $! 2>/dev/null; do sleep 0.01; done
head -c 99M /dev/zero >disk/more 2>/dev/null
wait $!
[ $? -eq 4 ] || exit 3
grep -Eq "No space left|is the disk full" said || exit 4 # LMDB hides a short write behind EIO
rm disk/ballast disk/more
pack disk/x.lmdb --classes "$classes" || exit 5
pack here.lmdb --classes "$classes" || exit 6
diff -r disk/x.lmdb here.lmdb || exit 7
END
if unshare -rm mount -t tmpfs tmpfs /mnt 2>/dev/null; then
    mkdir disk
    unshare -rm bash full.sh "$prep" "$data" >err 2>&1
    code=$?
    [ $code -eq 0 ] || fail "full disk: step $code; $(tail -n 1 said)"
    ok "full disk"
else
    echo "skipped: full disk (no mount namespace may be made here)"
fi

echo "pack: $failures failures"
[ "$failures" -eq 0 ]
