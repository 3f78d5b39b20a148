"""hostile.py FOLDER: makes hostile and damaged files, and FOLDER/verdicts.tsv: kind, file, verdict (ok, or the exit code), a part of the message.

Kinds: weights (.pth of both formats, .safetensors), config (train --config), picture (JPEG, PNG), manifest (of a data set). Read by tests/test_hostile.c. The
standard library alone; the same files every time.
"""
import json
import os
import pickle
import random
import struct
import sys
import zlib

FOLDER = ""
ROWS = []


def put(kind, name, data, verdict=3, part=""):
    with open(os.path.join(FOLDER, name), "wb") as out:
        out.write(data)
    ROWS.append("\t".join([kind, name, str(verdict), part]))


# ---- zip, as data-spec/50-checkpoint.md has it ----

def entry(name, data, offset, crc=None, size=None, flags=0x0800, method=0, version=10, time=0):
    crc = zlib.crc32(data) if crc is None else crc
    size = len(data) if size is None else size
    head = struct.pack("<HHHHHIII", version, flags, method, time, 0, crc, size, size)
    pad = -(offset + 30 + len(name) + 4) % 64
    extra = struct.pack("<HH", 0x4246, pad) + b"Z" * pad
    local = b"PK\3\4" + head + struct.pack("<HH", len(name), len(extra)) + name + extra + data
    central = b"PK\1\2" + struct.pack("<H", 0) + head + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, offset) + name
    return local, central


def archive(entries, folder=b"x/", end=None, comment=b"", gap=b"", **faults):
    out, directory, count = b"", b"", 0
    for item in entries:
        name, data = item[:2]
        local, central = entry(folder + name, data, len(out), **(item[2] if len(item) > 2 else {}))
        out += local + gap
        directory += central
        count += 1
    values = dict(disk=0, start=0, here=count, all=count, size=len(directory), offset=len(out))
    values.update(faults)
    tail = b"PK\5\6" + struct.pack("<HHHHIIH", values["disk"], values["start"], values["here"], values["all"], values["size"], values["offset"], len(comment)) + comment
    return out + directory + (tail if end is None else end)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


STORAGE = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\2tQ"


def tensor(storage=STORAGE, offset=b"K\0", shape=b"K\2\x85", stride=b"K\1\x85", rest=b"\x89}", build=b"ctorch._utils\n_rebuild_tensor_v2\n"):
    return build + b"(" + storage + offset + shape + stride + rest + b"tR"


def state(value=None):
    return b"\x80\2}" + text(b"w") + (tensor() if value is None else value) + b"s."


DATA = struct.pack("<2f", 1, -2)


def pth(body, data=DATA, **options):
    return archive([(b"data.pkl", body), (b"byteorder", b"little"), (b"data/0", data), (b"version", b"3\n")], **options)


def zips():
    good = pth(state())
    put("weights", "good.pth", good, "ok")
    put("base", "base.pth", good, "ok")
    parts = [(b"data.pkl", state()), (b"byteorder", b"little"), (b"data/0", DATA), (b"version", b"3\n")]
    put("weights", "appended.pth", good + b"\0")
    put("weights", "prepended.pth", b"\0" + good)
    put("weights", "comment.pth", pth(state(), comment=b"hello"))
    put("weights", "gap.pth", pth(state(), gap=b"\0"))
    put("weights", "two-ends.pth", good + good[-22:])
    put("weights", "no-end.pth", good[:-22])
    put("weights", "twice.pth", good + good)
    for bit in range(16):
        flags = 0x0800 ^ (1 << bit)
        put("weights", "flag-%d.pth" % bit, archive([(*parts[0], dict(flags=flags))] + parts[1:]), 3 if bit != 11 else "any")
    for method in 1, 8, 9, 12, 14, 93, 99:
        put("weights", "method-%d.pth" % method, archive([(*parts[0], dict(method=method))] + parts[1:]))
    for crc in 0, 1, 0xFFFFFFFF:
        put("weights", "crc-%d.pth" % crc, archive(parts[:2] + [(*parts[2], dict(crc=crc))] + parts[3:]), 3, "CRC")
    for size in 0, 7, 9, 0x7FFFFFFF, 0xFFFFFFFF:
        put("weights", "size-%d.pth" % size, archive(parts[:2] + [(*parts[2], dict(size=size))] + parts[3:]))
    for field, values in dict(disk=[1, 65535], start=[1], here=[0, 3, 5, 65535], all=[0, 3, 5, 65535], size=[0, 1, 2**31, 2**32 - 1], offset=[0, 1, 2**31, 2**32 - 1]).items():
        for value in values:
            put("weights", "end-%s-%d.pth" % (field, value), pth(state(), **{field: value}))
    put("weights", "count-0.pth", pth(state(), here=0, all=0))
    put("weights", "double-name.pth", archive(parts + [parts[2]]), 3, "two entries")
    put("weights", "time.pth", archive([(*parts[0], dict(time=1))] + parts[1:]), "ok")
    put("weights", "other-folder.pth", archive(parts)[:-22].replace(b"x/version", b"y/version") + archive(parts)[-22:], 3, "folder")
    put("weights", "no-folder.pth", archive(parts, folder=b""))
    put("weights", "dots.pth", archive(parts + [(b"../evil", b"")]), 3, "not one that torch.save writes")
    put("weights", "nul-name.pth", archive(parts + [(b"data/\0", b"")]))
    put("weights", "long-name.pth", archive(parts + [(b"n" * 300, b"")]))
    put("weights", "foreign-entry.pth", archive(parts + [(b"readme", b"")]), 3, "not one that torch.save writes")
    put("weights", "script.pth", archive(parts + [(b"code/__torch__.py", b"")]), 3, "TorchScript")
    put("weights", "unused-data.pth", archive(parts + [(b"data/7", b"abc")]), "ok")
    put("weights", "no-pickle.pth", archive(parts[1:]), 3, "no data.pkl")
    put("weights", "no-version.pth", archive(parts[:3]), 3, "version")
    put("weights", "no-data.pth", archive(parts[:2] + parts[3:]), 3, "no entry data/0")
    for i, version in enumerate([b"", b"abc", b"0\n", b"11\n", b"3x", b"9" * 5000]):
        put("weights", "version-%d.pth" % i, archive(parts[:3] + [(b"version", version)]))
    put("weights", "big-endian.pth", archive([parts[0], (b"byteorder", b"big")] + parts[2:]), 3, "only little")
    one, directory = entry(b"x/data.pkl", parts[0][1], 0)
    overlap = one + directory * 2
    put("weights", "overlap.pth", overlap + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2, 2, 2 * len(directory), len(one), 0))
    for i in range(0, len(good), 24):
        put("weights", "cut-%d.pth" % i, good[:i])
    for name, head in dict(empty=b"", html=b"<html><body>404</body></html>" * 9, lfs=b"version https://git-lfs.github.com/spec/v1\n", gzip=b"\x1f\x8b" + b"\0" * 99, hdf=b"\x89HDF\r\n\x1a\n" + b"\0" * 99,
                           seven=b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, pickled=pickle.dumps({"a": 1}, 2), tar=b"\0" * 257 + b"ustar" + b"\0" * 300).items():
        put("weights", "kind-%s.pth" % name, head)


def pickles():
    plain = {ord("N"), 0x88, 0x89, ord("]"), ord("}"), ord(")"), 0x8F}
    for code in range(256):
        put("weights", "opcode-%02x.pth" % code, pth(b"\x80\2" + bytes([code]) + b"."), "ok" if code in plain else 3)
    os_system = b"cos\nsystem\n" + text(b"touch PWNED") + b"\x85R"
    put("weights", "call-elsewhere.pth", pth(b"\x80\2}" + text(b"args") + os_system + text(b"w")[:0] + b"s."), "ok")
    bad = dict(
        call_storage=state(tensor(storage=os_system)), call_offset=state(tensor(offset=os_system)), call_shape=state(tensor(shape=os_system)),
        negative_shape=state(tensor(shape=b"J\xff\xff\xff\xff\x85")), huge_shape=state(tensor(shape=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85")),
        outside=state(tensor(shape=b"K\3\x85")), offset_outside=state(tensor(offset=b"K\2")), negative_stride=state(tensor(stride=b"J\xff\xff\xff\xff\x85")),
        huge_stride=state(tensor(stride=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85")), ranks_differ=state(tensor(stride=b"K\1K\1\x86")), nine=state(tensor(shape=b"(" + b"K\1" * 9 + b"t", stride=b"(" + b"K\1" * 9 + b"t")),
        huge_expand=state(tensor(shape=b"\x8a\x05\0\0\0\0\1\x85", stride=b"K\0\x85")), hooks=state(tensor(rest=b"\x89}" + text(b"a") + b"Ns")), few=state(b"ctorch._utils\n_rebuild_tensor_v2\n)R"),
        storage_type=state(tensor(storage=STORAGE.replace(b"FloatStorage", b"LongStorage"))), storage_count=state(tensor(storage=STORAGE.replace(b"K\2tQ", b"K\3tQ"))),
        storage_key=state(tensor(storage=STORAGE.replace(text(b"0"), text(b"../0")))), storage_missing=state(tensor(storage=STORAGE.replace(text(b"0"), text(b"5")))),
        not_storage=state(tensor(storage=b"(" + text(b"module") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + b"K\2tQ")),
        reduce_storage=b"\x80\2ctorch\nFloatStorage\n)R.", bare_global=b"\x80\2ctorch\nFloatStorage\n.", setitem_list=b"\x80\2]" + text(b"a") + b"Ns.", append_dict=b"\x80\2}Na.",
        odd_setitems=b"\x80\2}(" + text(b"a") + b"u.", underflow=b"\x80\2s.", two_left=b"\x80\2NN.", nothing_left=b"\x80\2.", mark_left=b"\x80\2(N.", no_mark=b"\x80\2t.", memo_unset=b"\x80\2h\5.",
        memo_huge=b"\x80\2Nr\xff\xff\xff\xff.", long_text=b"\x80\2X\xff\xff\xff\xffab.", long_bytes=b"\x80\2\x8e" + b"\xff" * 8 + b".", behind_stop=b"\x80\2N.N", proto_0=b"N.", proto_1=b"\x80\1N.", proto_6=b"\x80\6N.",
        proto_inside=b"\x80\2N\x80\2.", frame_long=b"\x80\4\x95" + b"\xff" * 8 + b"N.", deep=b"\x80\2" + b"]" * 100000 + b"a" * 99999 + b".", deep_tuples=b"\x80\2N" + b"\x85" * 1000 + b".",
        marks=b"\x80\2" + b"(" * 5000 + b".", itself=b"\x80\2]q\0h\0a.", itself_dict=b"\x80\2}q\0" + text(b"a") + b"h\0s.", double_key=b"\x80\2}(" + text(b"a") + b"N" + text(b"a") + b"Nu.",
        laughs=b"\x80\2]q\0" + b"".join(b"]q" + bytes([i + 1]) + b"(" + (b"h" + bytes([i])) * 10 + b"e" for i in range(20)) + b".", inst=b"\x80\2(ios\nsystem\n.", obj=b"\x80\2(cos\nsystem\no.",
        ext=b"\x80\2\x82\1.", persid=b"\x80\2P0\n.", build_dict=b"\x80\2}}b.", build_list=b"\x80\2]}b.", newobj_known=b"\x80\2ccollections\nOrderedDict\n)\x81.", ordered_arguments=b"\x80\2ccollections\nOrderedDict\nK\1\x85R.",
        stack_global_numbers=b"\x80\4K\1K\2\x93.", long_global=b"\x80\2c" + b"m" * 400 + b"\nn\n.", unended_global=b"\x80\2cos", long4=b"\x80\2\x8b\xff\xff\xff\x7f.", additems_list=b"\x80\4](N\x90.")
    for name, body in bad.items():  # a tensor of a foreign storage is an opaque value
        put("weights", "pickle-%s.pth" % name, pth(body), "ok" if name == "call_storage" else 3)
    good = state()
    for i in range(1, len(good), 6):
        put("weights", "pickle-cut-%d.pth" % i, pth(good[:i]))


def streams():
    def stream(tree=None, magic=0x1950A86A20F9469CFC6C, version=1001, little=True, keys=("0",), body=struct.pack("<q", 2) + DATA):
        tree = state(tensor(storage=STORAGE.replace(b"K\2tQ", b"K\2NtQ"))) if tree is None else tree
        machine = dict(protocol_version=1001, little_endian=little, type_sizes=dict(short=2, int=4, long=4))
        return pickle.dumps(magic, 2) + pickle.dumps(version, 2) + pickle.dumps(machine, 2) + tree + pickle.dumps(list(keys), 2) + body
    good = stream()
    put("weights", "stream.pth", good, "ok")
    put("stream", "stream-base.pth", good, "ok")
    for name, data in dict(magic=stream(magic=0x1950A86A20F9469CFC6D), version=stream(version=1002), version_text=stream(version="x"), big=stream(little=False), little_int=stream(little=1), no_keys=stream(keys=()), other_key=stream(keys=("1",)),
                           key_twice=stream(keys=("0", "0")), key_number=stream(keys=(0,)), count=stream(body=struct.pack("<q", 3) + DATA), negative=stream(body=struct.pack("<q", -2) + DATA), short=stream(body=struct.pack("<q", 2) + DATA[:7]),
                           behind=stream(body=struct.pack("<q", 2) + DATA + b"\0"), huge=stream(tree=state(tensor(storage=STORAGE.replace(b"K\2tQ", b"\x8a\x08" + b"\xff" * 7 + b"\x7fNtQ")))), view=stream(tree=state(tensor(storage=STORAGE.replace(b"K\2tQ", b"K\2K\1tQ"))))).items():
        put("weights", "stream-%s.pth" % name, data)
    for i in range(16, len(good), 12):
        put("weights", "stream-cut-%d.pth" % i, good[:i])


def safetensors():
    def file(header, data=b"", length=None):
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(header) if length is None else length) + header + data
    def one(**changes):
        entry = dict(dtype="F32", shape=[2], data_offsets=[0, 8])
        entry.update(changes)
        return {"w": {k: v for k, v in entry.items() if v is not None}}
    good = file(one(), DATA)
    put("weights", "good.safetensors", good, "ok")
    put("base", "base.safetensors", good, "ok")
    put("weights", "metadata.safetensors", file({"__metadata__": {"a": "b"}, **one()}, DATA), "ok")
    put("weights", "f64.safetensors", file(one(dtype="F64", shape=[1]), DATA), "ok")
    bad = [one(dtype="F31"), one(dtype=3), one(dtype=None), one(shape=None), one(shape=2), one(shape=[2.0]), one(shape=[-2]), one(shape=["2"]), one(shape=[1] * 9), one(shape=[2**62, 2**62]), one(shape=[3]), one(shape=[2, 2]), one(data_offsets=None),
           one(data_offsets=[8, 0]), one(data_offsets=[0, 9]), one(data_offsets=[0, 2**63]), one(data_offsets=[-8, 0]), one(data_offsets=[0]), one(data_offsets=[0, 8, 9]), one(data_offsets=[0.0, 8.0]), one(data_offsets=[4, 12]), one(more=1),
           {"w": 1}, {"w": []}, {"__metadata__": [], **one()}, {"__metadata__": {"a": 1}, **one()}, {"__metadata__": {"a": {"b": "c"}}, **one()}, {**one(), "v": dict(dtype="F32", shape=[2], data_offsets=[0, 8])}, {**one(), "v": dict(dtype="U8", shape=[4], data_offsets=[4, 8])}, {}]
    for i, header in enumerate(bad):
        put("weights", "safetensors-%d.safetensors" % i, file(header, DATA))
    text_header = json.dumps(one()).encode()
    put("weights", "double.safetensors", file(text_header[:-1] + b"," + text_header[1:], DATA), 3, "duplicate")
    put("weights", "behind.safetensors", good + b"\0")
    put("weights", "not-utf8.safetensors", file(text_header.replace(b'"w"', b'"\xff"'), DATA))
    put("weights", "nul.safetensors", file(text_header.replace(b'"w"', b'"\\u0000"'), DATA))
    put("weights", "deep.safetensors", file(b'{"a":' * 200000, DATA))
    put("weights", "length-huge.safetensors", file(text_header, DATA, length=2**63))
    put("weights", "length-long.safetensors", file(text_header, DATA, length=len(text_header) + 9))
    put("weights", "length-short.safetensors", file(text_header, DATA, length=len(text_header) - 1))
    for i in range(0, len(good), 8):
        put("weights", "safetensors-cut-%d.safetensors" % i, good[:i])


def configs():
    put("config", "good.json", b'{"lr": 0.2, "batch_size": 8}', "ok")
    put("config", "empty-object.json", b"{}", "ok")
    put("config", "crlf.json", b'{\r\n"lr": 0.2\r\n}\r\n', "ok")
    for i, body in enumerate([b"", b"[]", b"1", b'"x"', b"null", b"{", b'{"lr"', b'{"lr":}', b'{"lr": 0.2,}', b'{"lr": 0.2} {}', b"\xef\xbb\xbf{}", b'{"lr": NaN}', b'{"lr": 1e400}', b'{"lr": "1e400"}', b'{"lr": "nan"}', b'{"lr": "-0x1p3"}', b'{"lr": -0.1}', b'{"lr": []}',
                              b'{"lr": {}}', b'{"lr": true}', b'{"lr": null}', b'{"lr": 1, "lr": 1}', b'{"batch-size": 8, "batch_size": 8}', b'{"batch_size": 0}', b'{"batch_size": 8.5}', b'{"batch_size": 99999999999999999999}', b'{"arch": "vgg"}', b'{"lrr": 1}', b'{"db": "a\\u0000b"}',
                              b'{"\xff": 1}', b'{"db": "\xc3"}', b"\0", b'{"lr": 0.2\0}', b"[" * 100000, b'{"settings": []}', b'{"settings": {"nope": 1}}', b'{"config": "good.json"}', b'{"%s": 1}' % (b"x" * 5000), b'{"zero-gamma": 1}', b'{"epochs": "1 "}']):
        put("config", "config-%d.json" % i, body, 2)
    put("config", "huge.json", b" " * (1 << 20) + b"{}", 3)


def pictures():
    def chunk(kind, data, crc=None):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    def png(width=4, height=4, bits=8, color=2, raw=None, interlace=0, extra=b"", crc=None):
        raw = (b"\0" + b"\x55" * 12) * 4 if raw is None else raw
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace), crc) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    good = png()
    put("picture", "good.png", good, "ok")
    bomb = zlib.compress(b"\0" * 50_000_000, 9)
    for name, data in dict(crc=png(crc=1), wide=png(width=2**31 - 1), zero=png(width=0), bits=png(bits=3), color=png(color=7), interlace=png(interlace=2), short=png(raw=b"\0" * 5), palette=png(color=3), huge=png(width=60000, height=60000),
                           garbage=good[:33] + b"\xff" * 40, bomb=good[:33] + chunk(b"IDAT", bomb[:1000]), chunk=good[:33] + struct.pack(">I", 2**31 - 1) + b"IDATx", empty=b"", text=b"hello", gif=b"GIF89a" + b"\0" * 60, bmp=b"BM" + b"\0" * 60, html=b"<!DOCTYPE html>", magic=b"\x89PNG\r\n\x1a\n").items():
        put("picture", "png-%s.png" % name, data, "any" if name == "bomb" else 3)
    sof = lambda w, h, n=3, kind=0xC0, bits=8: b"\xff\xd8\xff" + bytes([kind]) + struct.pack(">HBHHB", 8 + 3 * n, bits, h, w, n) + b"".join(bytes([i + 1, 0x11, 0]) for i in range(n))
    for name, data in dict(soi=b"\xff\xd8", eoi=b"\xff\xd8\xff\xd9", huge=sof(65500, 65500), zero=sof(0, 10), two=sof(10, 10, 2), nine=sof(10, 10, 9), twelve=sof(10, 10, 3, 0xC1, 12), lossless=sof(10, 10, 3, 0xC3), hierarchical=sof(10, 10, 3, 0xC5), long=b"\xff\xd8\xff\xe0\xff\xff", no_table=sof(16, 16) + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0" + b"\0" * 50 + b"\xff\xd9", comments=b"\xff\xd8" + b"\xff\xfe\0\2" * 20000).items():
        put("picture", "jpeg-%s.jpg" % name, data)
    for i in range(0, len(good), 4):
        put("picture", "png-cut-%d.png" % i, good[:i], "any")


def manifests():
    for i, body in enumerate([b"", b"{}", b"[]", b"null", b"{", b'{"format_version": 1}', b'{"format_version": "1"}', b"[" * 100000, b'{"digest": "00"}', b"\xff\xfe", b'{"a": 1, "a": 1}', b'{"format_version": 99}']):
        put("manifest", "manifest-%d.json" % i, body, "refused")


def main():
    global FOLDER
    FOLDER = sys.argv[1]
    os.makedirs(FOLDER, exist_ok=True)
    zips()
    pickles()
    streams()
    safetensors()
    configs()
    pictures()
    manifests()
    with open(os.path.join(FOLDER, "verdicts.tsv"), "w") as out:
        out.write("\n".join(ROWS) + "\n")
    print("%d files" % len(ROWS))


if __name__ == "__main__":
    main()
