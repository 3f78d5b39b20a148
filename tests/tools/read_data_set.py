#!/usr/bin/env python3
"""Reads a data set as a third party would: written from data-spec/20-data-set.md, with LMDB's Python binding
(Debian: python3-lmdb) and nothing of this project. Checks every digest and rule, and prints one line a record:
number, name, label, class, width, height, original width and height, encoding, bytes of payload, checksum.

usage: read_data_set.py NAME.lmdb"""
import json
import os
import struct
import sys

import lmdb

try:
    import xxhash

    def xxh3_64(data):
        return xxhash.xxh3_64_intdigest(data)

    def xxh3_128(data):
        return xxhash.xxh3_128_hexdigest(data)
except ImportError:
    from xxh3 import xxh3_64, xxh3_128

ENCODINGS = ("rgb", "jpeg")
HEADER = struct.Struct("<Q4s5IQHH20s")


def require(condition, *what):
    if not condition:
        sys.exit("damaged: " + " ".join(str(w) for w in what))


def text(item, key):
    """A text as bytes."""
    return bytes.fromhex(item[key + "_hex"]) if key + "_hex" in item else item[key].encode()


def read_manifest(folder):
    with open(os.path.join(folder, "manifest.json"), "rb") as file:
        data = file.read()
    manifest = json.loads(data)
    require(manifest["format"] == "prep data set", "not a data set")
    require(manifest["format_version"] == 1, "another version")
    digest = manifest["manifest_digest"]
    line = b'\n  "manifest_digest": "'
    require(data.count(line) == 1 and xxh3_128(data.replace(line + digest.encode(), line + b"0" * 32)) == digest,
            "manifest")
    names = [text(c, "name") for c in manifest["classes"]]
    require(names == sorted(set(names)), "class names")
    require([c["index"] for c in manifest["classes"]] == list(range(len(names))), "class indices")
    require(sum(s["records"] for s in manifest["shards"]) == manifest["images"], "count of records")
    return manifest, names


def read_record(value, where):
    checksum, magic, label, width, height, was_width, was_height, size, name_size, encoding, zero = \
        HEADER.unpack_from(value)
    require(xxh3_64(value[8:]) == checksum, where, "checksum")
    require(magic == b"REC1" and zero == bytes(20), where, "header")
    require(len(value) == HEADER.size + name_size + size, where, "sizes")
    if ENCODINGS[encoding] == "rgb":
        require(size == width * height * 3, where, "payload")
    name = value[HEADER.size:HEADER.size + name_size]
    return name, label, width, height, was_width, was_height, ENCODINGS[encoding], size, "%016x" % checksum


def read_shard(folder, shard):
    path = os.path.join(folder, shard["file"])
    with open(path, "rb") as file:
        data = file.read()
    require(len(data) == shard["bytes"] and xxh3_128(data) == shard["digest"], path)
    with lmdb.open(path, readonly=True, lock=False, subdir=False) as environment, environment.begin() as transaction:
        require(transaction.stat()["entries"] == shard["records"], path, "records")
        for number, (key, value) in enumerate(transaction.cursor()):
            require(key == number.to_bytes(4, "big"), path, "key", number)
            yield read_record(value, "%s record %d" % (path, number))


def main():
    folder = sys.argv[1]
    manifest, classes = read_manifest(folder)
    counts = [0] * len(classes)
    number = 0
    for shard in manifest["shards"]:
        for name, label, width, height, *rest in read_shard(folder, shard):
            require(name.split(b"/")[0] == classes[label], "class of record", number)
            require(rest[2] == manifest["encoding"], "encoding of record", number)
            require(width <= manifest["largest_width"] and height <= manifest["largest_height"]
                    and rest[3] <= manifest["largest_payload"], "size of record", number)
            counts[label] += 1
            fields = (name, label, classes[label], width, height, *rest)
            line = b"\t".join(f if isinstance(f, bytes) else str(f).encode() for f in (number, *fields))
            sys.stdout.buffer.write(line + b"\n")
            number += 1
    require(counts == [c["images"] for c in manifest["classes"]], "counts of the classes")


main()
