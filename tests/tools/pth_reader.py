"""A second reader of our PyTorch files, written from data-spec/50-checkpoint.md, with Python's zipfile and pickle alone.

    pth_reader.py FILE...           check that each is as the document says our files are, and print what it holds, one line a file
    pth_reader.py --digest FILE...  hold the file against its key "digest" (small files: XXH3 in plain Python is slow)
"""
import io
import pickle
import pickletools
import struct
import sys
import zipfile
from collections import OrderedDict, namedtuple

Tensor = namedtuple("Tensor", "type shape data")
TYPES = {"Float": ("f32", 4), "Half": ("f16", 2), "BFloat16": ("bf16", 2), "Long": ("i64", 8), "Int": ("i32", 4), "Byte": ("u8", 1)}
OPCODES = set(
    "PROTO STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE MARK EMPTY_LIST EMPTY_DICT EMPTY_TUPLE"
    " TUPLE TUPLE1 TUPLE2 TUPLE3 APPENDS SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL BINPERSID REDUCE".split())


def require(condition, *what):
    if not condition:
        raise ValueError(" ".join(str(w) for w in what))


def check_archive(path, archive):
    """50.1: order, alignment, times, flags; zipfile itself checks the CRCs as it reads."""
    raw = open(path, "rb").read()
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    folder = names[0].split("/")[0] + "/"
    tensors = len(entries) - 3
    wanted = ["data.pkl", "byteorder"] + ["data/%d" % i for i in range(tensors)] + ["version"]
    require(names == [folder + name for name in wanted], "entries", names)
    at = 0
    for entry in entries:
        require(entry.compress_type == 0 and entry.flag_bits == 0x800, entry.filename, "flags")
        require(entry.date_time == (1980, 0, 0, 0, 0, 0), entry.filename, "has a time")
        require(entry.create_version == 0 and entry.external_attr == 0 and entry.internal_attr == 0, entry.filename, "attributes")
        require(entry.header_offset == at, entry.filename, "does not follow the one before it")
        name_size, extra_size = struct.unpack_from("<HH", raw, at + 26)
        start = at + 30 + name_size + extra_size
        require(start % 64 == 0, entry.filename, "is not aligned")
        require(raw[start:start + entry.file_size] == archive.read(entry), entry.filename)
        at = start + entry.file_size
    require(archive.start_dir == at and raw[-22:-18] == b"PK\5\6", "directory")
    require(archive.read(folder + "byteorder") == b"little" and archive.read(folder + "version") == b"3\n", "marks")
    return folder


class Reader(pickle.Unpickler):
    def __init__(self, archive, folder):
        super().__init__(io.BytesIO(archive.read(folder + "data.pkl")))
        self.archive, self.folder, self.used = archive, folder, 0

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self.tensor
        require(module == "torch" and name.endswith("Storage"), module, name)
        return name[:-7]

    def persistent_load(self, identity):
        storage, type_name, key, place, count = identity
        require(storage == "storage" and place == "cpu" and key == str(self.used), identity)
        self.used += 1
        data = self.archive.read(self.folder + "data/" + key)
        require(len(data) == count * TYPES[type_name][1], "storage", key, "has another size")
        return type_name, data

    @staticmethod
    def tensor(storage, offset, shape, stride, requires_grad, hooks):
        step, strides = 1, []
        for side in reversed(shape):
            strides.insert(0, step)
            step *= max(side, 1)
        require(offset == 0 and stride == tuple(strides) and requires_grad is False and hooks == {}, "a tensor is a view")
        return Tensor(TYPES[storage[0]][0], shape, storage[1])


def read(path):
    with zipfile.ZipFile(path) as archive:
        folder = check_archive(path, archive)
        for opcode, _, _ in pickletools.genops(archive.read(folder + "data.pkl")):
            require(opcode.name in OPCODES, "opcode", opcode.name)
        reader = Reader(archive, folder)
        root = reader.load()
        require(reader.used == len(archive.namelist()) - 3, "unused storages")
        return root


def text_bytes(text):
    return text.encode("utf-8", "surrogatepass")


def canonical(value):
    """The text that test_pth --print prints."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "r" + struct.pack(">d", value).hex()
    if isinstance(value, str):
        return "t" + text_bytes(value).hex()
    if isinstance(value, Tensor):
        return "%s[%s]=%s" % (value.type, ",".join(map(str, value.shape)), value.data.hex())
    if isinstance(value, dict):
        marks = "<>" if isinstance(value, OrderedDict) else "{}"
        items = [part for pair in value.items() for part in pair]
    else:
        marks = "[]" if isinstance(value, list) else "()"
        items = list(value)
    return marks[0] + "".join(canonical(item) + " " for item in items) + marks[1]


def digest_bytes(value):
    """50.3: the bytes whose XXH3-128 is a value's digest."""
    def head(tag, number):
        return tag.encode() + struct.pack("<Q", number & (1 << 64) - 1)
    if value is None:
        return head("N", 0)
    if isinstance(value, bool):
        return head("b", value)
    if isinstance(value, int):
        return head("i", value)
    if isinstance(value, float):
        return b"r" + struct.pack("<d", value)
    if isinstance(value, str):
        return head("t", len(text_bytes(value))) + text_bytes(value)
    if isinstance(value, Tensor):
        shape = b"".join(struct.pack("<q", side) for side in value.shape)
        number = ["f32", "f16", "bf16", "i64", "i32", "u8"].index(value.type)
        return head("T", number) + head("#", len(value.shape)) + shape + value.data
    if isinstance(value, dict):
        items = [digest_bytes(part) for pair in value.items() for part in pair]
        return head("o" if isinstance(value, OrderedDict) else "d", len(value)) + b"".join(items)
    return head("l" if isinstance(value, list) else "u", len(value)) + b"".join(map(digest_bytes, value))


def check_digest(path):
    import xxh3
    root = read(path)
    require(list(root)[-1] == "digest", "digest is not the last key")
    stored = root.pop("digest")
    found = xxh3.xxh3_128(digest_bytes(root))
    require(found == stored, "digest", found, "not", stored)


def main():
    digests = sys.argv[1:2] == ["--digest"]
    for path in sys.argv[2 if digests else 1:]:
        try:
            if digests:
                check_digest(path)
            else:
                print(canonical(read(path)))
        except Exception as error:
            sys.exit("%s: %s: %s" % (path, type(error).__name__, error))


if __name__ == "__main__":
    main()
