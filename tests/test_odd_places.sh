#!/usr/bin/env bash
# prep pack in odd places: inputs that are no files, names of 255 bytes, folders that are read-only or full of i-nodes,
# data sets of another format. It never hangs, never crashes, and says in one line what is wrong.
# usage: test_odd_places.sh BUILD DATA
set -u
build=$(realpath "$1") prep=$(realpath "$1")/prep
[ -x "$prep" ] || { echo "skipped: prep is not built"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/imagenet-odd-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() { echo "FAIL $*"; [ -s err ] && tail -n 3 err; failures=$((failures + 1)); }
ok() { echo "ok   $*"; }
# run CODE ARGUMENTS...: prep ARGUMENTS ends with CODE within 20 s.
run() {
    local wanted=$1
    shift
    timeout 20 "$prep" "$@" >out 2>err
    local code=$?
    [ "$code" -eq "$wanted" ] || fail "prep $*: exit code $code, not $wanted"
    [ "$code" -eq 0 ] || [ "$code" -eq 75 ] || [ "$(grep -c 'error:' err)" -eq 1 ] || fail "prep $*: not one line"
}
says() { grep -qF -- "$1" err || fail "\"$1\" was not said"; }

run 0 sample raw --classes 2 --train-per-class 3 --val-per-class 1 --seed 2
run 0 pack raw/train plain.lmdb --short-side 40

# Each kind alone beside real pictures: told by its name, left out or refused, and nothing waits for it.
picture=$(find raw/train -name '*.JPEG' | sort | head -n 1)
for kind in fifo socket loop dangling device folder; do
    rm -rf odd odd.lmdb && mkdir -p odd/c && cp "$picture" odd/c/good.JPEG
    case $kind in
    fifo) mkfifo odd/c/fifo.JPEG ;;
    socket) python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("odd/c/socket.JPEG")' 2>/dev/null || continue ;;
    loop) ln -s loop.JPEG odd/c/loop.JPEG ;;
    dangling) ln -s nowhere odd/c/dangling.JPEG ;;
    device) ln -s /dev/zero odd/c/device.JPEG ;;
    folder) mkdir odd/c/folder.JPEG ;;
    esac
    timeout 20 "$prep" pack odd odd.lmdb --short-side 40 >out 2>err
    code=$?
    says "$kind.JPEG"
    case $code in
    0) "$prep" verify odd.lmdb >out 2>&1 || fail "$kind: the data set is not whole" ;;
    3 | 4) [ ! -e odd.lmdb/manifest.json ] || fail "$kind: a data set although it was refused" ;;
    *) fail "$kind: exit $code" ;;
    esac
    ok "$kind: exit $code, $(grep -F "$kind.JPEG" err | head -n 1 | cut -c 1-100)"
done
# A ring of folders ends.
rm -rf odd odd.lmdb && mkdir -p odd/c && cp "$picture" odd/c/good.JPEG && ln -s ../c odd/c/around && ln -s . odd/self
timeout 20 "$prep" pack odd odd.lmdb --short-side 40 >out 2>err
[ $? -ne 124 ] || fail "links between folders: no end"

long=$(printf 'x%.0s' $(seq 250)).JPEG
mkdir -p "names/$(printf 'c%.0s' $(seq 255))"
cp "$picture" "names/$(printf 'c%.0s' $(seq 255))/$long"
run 0 pack names names.lmdb --short-side 40
run 0 verify names.lmdb
ok "names of 255 bytes"

run 4 pack raw/train /proc/nowhere.lmdb
run 4 pack raw/train "$(printf 'd%.0s' $(seq 256)).lmdb"
touch file
run 2 pack raw/train file
run 4 pack raw/train file/below.lmdb
ok "places where nothing can be written"

# A newer and an older format of a data set; a plan that another version wrote.
cp -r plain.lmdb newer.lmdb
sed -i 's/"format_version": 1/"format_version": 2/' newer.lmdb/manifest.json
run 8 pack raw/train newer.lmdb --short-side 40
says "newer"
run 8 info newer.lmdb
cp -r plain.lmdb older.lmdb
sed -i 's/"format_version": 1/"format_version": 0/' older.lmdb/manifest.json
run 3 verify older.lmdb
run 8 pack raw/train plain.lmdb --short-side 41
says "short_side was 40, is now 41"
run 8 pack raw/train plain.lmdb --short-side 40 --seed 9
ok "other formats and options"

# Shards that are missing, swapped, of another set, or too many.
for damage in missing swapped replaced; do
    rm -rf d.lmdb && run 0 pack raw/train d.lmdb --short-side 40 --encoding jpeg
    case $damage in
    missing) rm d.lmdb/shard-00000.mdb ;;
    swapped) mv d.lmdb/shard-00000.mdb d.lmdb/shard-00001.mdb ;;
    replaced) cp plain.lmdb/shard-00000.mdb d.lmdb/shard-00000.mdb ;;
    esac
    run 3 verify d.lmdb
    run 3 pack raw/train d.lmdb --short-side 40 --encoding jpeg
done
cp -r plain.lmdb extra.lmdb && cp plain.lmdb/shard-00000.mdb extra.lmdb/shard-00001.mdb
run 3 verify extra.lmdb
ok "shards that do not belong"

# Too few descriptors, too little address space, no second thread: an error of one line, or the same bytes with less.
# (Below some limit the system cannot start the program at all: 127.)
limited() { # OPTION VALUE
    rm -rf l.lmdb
    (ulimit "$1" "$2" && exec timeout 20 "$prep" pack raw/train l.lmdb --short-side 40 --jobs 2) >out 2>err
    code=$?
    case $code in
    0) diff -r plain.lmdb l.lmdb >/dev/null || fail "ulimit $1 $2: other bytes" ;;
    4 | 5) ;;
    1 | 127) grep -q 'error while loading' err || fail "ulimit $1 $2: exit $code" ;;
    *) fail "ulimit $1 $2: exit $code" ;;
    esac
    codes="$codes $code"
    run 0 pack raw/train l.lmdb --short-side 40
    diff -r plain.lmdb l.lmdb >/dev/null || fail "ulimit $1 $2, then again: other bytes"
}
codes=
for number in 4 5 6 7 8 9 10 12 16; do limited -n $number; done
ok "few descriptors:$codes"
codes=
# A sanitizer needs terabytes of address space for itself.
if grep -q __asan_init "$prep" || grep -q __tsan_init "$prep"; then
    echo "skipped: little address space (a sanitizer takes terabytes of it for itself; the default build limits it)"
else
    for kilobytes in 30000 60000 80000 100000 120000 140000 160000 200000 250000 300000 400000; do limited -v $kilobytes; done
    ok "little address space:$codes"
fi

# A picture that cannot be read at one try is tried again: no call on it that fails once ends the run, but the very first,
# which lists it.
if [ -e "$build/libinjector.so" ]; then
    on_picture() { rm -rf again.lmdb && env LD_PRELOAD="$build/libinjector.so" FAULT_ROOT="$picture" FAULT_READS=1 "$@" timeout 20 "$prep" pack raw/train again.lmdb --short-side 40 >out 2>err; }
    on_picture FAULT_LOG=calls || fail "counting the calls on a picture: exit $?"
    calls=$(($(stat -c %s calls) / 48)) # struct record of tests/crash/record.h
    for at in $(seq 2 $calls); do
        on_picture FAULT_AT="$at" FAULT_DO=5 || fail "EIO at call $at on a picture: exit $?"
        diff -r plain.lmdb again.lmdb >/dev/null || fail "EIO at call $at on a picture: other bytes"
    done
    [ "$calls" -gt 4 ] || fail "only $calls calls on a picture"
    on_picture FAULT_AT=2 FAULT_FOREVER=1 FAULT_DO=5
    [ $? -eq 4 ] || fail "a picture that cannot be read: exit $?"
    says "${picture##*/}"
    ok "a read that fails once ($calls calls)"
else
    echo "skipped: a read that fails once (there is no injector in a sanitizer's build)"
fi

# Results that cannot be written are no success.
for command in --help --version --manual 'pack --help' 'info plain.lmdb' 'info --json plain.lmdb' 'verify plain.lmdb' 'show plain.lmdb 0'; do
    # shellcheck disable=SC2086
    timeout 20 "$prep" $command >/dev/full 2>err
    code=$?
    [ $code -eq 4 ] || fail "prep $command to a full disk: exit $code"
    says "standard output"
done
ok "standard output is full"

# In a mount namespace of our own: a folder that is read-only, one without i-nodes.
cat >mounts.sh <<'END'
prep=$1
mount -t tmpfs -o size=8m tmpfs disk || exit 99
cp -r plain.lmdb disk/ && mount -o remount,ro disk || exit 98
"$prep" pack raw/train disk/x.lmdb 2>said; [ $? -eq 4 ] || exit 1
grep -q 'Read-only' said || exit 2
"$prep" verify disk/plain.lmdb >said 2>&1 || exit 3
"$prep" info disk/plain.lmdb >said 2>&1 || exit 4
mount -t tmpfs -o size=8m,nr_inodes=4 tmpfs few || exit 97
"$prep" pack raw/train few/x.lmdb --short-side 40 2>said; [ $? -eq 4 ] || exit 5
END
if unshare -rm mount -t tmpfs tmpfs /mnt 2>/dev/null; then
    mkdir disk few
    unshare -rm bash mounts.sh "$prep" >err 2>&1
    code=$?
    [ $code -eq 0 ] || fail "read-only or without i-nodes: step $code; $(tail -n 1 said)"
    ok "read-only, no i-nodes"
else
    echo "skipped: read-only, no i-nodes (no mount namespace may be made here)"
fi

echo "odd places: $failures failures"
[ "$failures" -eq 0 ]
