"""XXH3 with seed 0 in plain Python, from xxHash's specification: slow, for small files and where python3-xxhash is
not installed. 64 bits for 17 bytes and more, 128 bits for more than 240: what data sets need."""
import struct

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
M64 = (1 << 64) - 1
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)


def words(data, at, count):
    return struct.unpack_from("<%dQ" % count, data, at)


def fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * 0x165667919E3779F9 & M64
    return h ^ h >> 32


def mix(data, at, secret_at):
    (a, b), (s, t) = words(data, at, 2), words(SECRET, secret_at, 2)
    return fold(a ^ s, b ^ t)


def medium(data):
    size = len(data)
    h = size * P64[0]
    if size <= 128:
        for i in range((size - 1) // 32, -1, -1):
            h += mix(data, 16 * i, 32 * i) + mix(data, size - 16 * (i + 1), 32 * i + 16)
        return avalanche(h & M64)
    for i in range(8):
        h += mix(data, 16 * i, 16 * i)
    h = avalanche(h & M64)
    for i in range(8, size // 16):
        h += mix(data, 16 * i, 16 * (i - 8) + 3)
    h += mix(data, size - 16, 136 - 17)
    return avalanche(h & M64)


def accumulate(acc, data, at, secret_at):
    for i, (word, key) in enumerate(zip(words(data, at, 8), words(SECRET, secret_at, 8))):
        key ^= word
        acc[i ^ 1] = acc[i ^ 1] + word & M64
        acc[i] = acc[i] + (key & 0xFFFFFFFF) * (key >> 32) & M64


def scramble(acc):
    for i, key in enumerate(words(SECRET, 128, 8)):
        acc[i] = ((acc[i] ^ acc[i] >> 47) ^ key) * P32[0] & M64


def accumulate_all(data):
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    for stripe in range((len(data) - 1) // 64):
        accumulate(acc, data, stripe * 64, stripe % 16 * 8)
        if stripe % 16 == 15:
            scramble(acc)
    accumulate(acc, data, len(data) - 64, 121)
    return acc


def merge(acc, secret_at, start):
    keys = words(SECRET, secret_at, 8)
    for i in range(0, 8, 2):
        start += fold(acc[i] ^ keys[i], acc[i + 1] ^ keys[i + 1])
    return avalanche(start & M64)


def xxh3_64(data):
    """The number."""
    if len(data) < 17:
        raise ValueError("shorter than any record")
    if len(data) <= 240:
        return medium(data)
    return merge(accumulate_all(data), 11, len(data) * P64[0])


def xxh3_128(data):
    """32 hexadecimal digits in canonical order."""
    if len(data) <= 240:
        raise ValueError("shorter than any manifest or shard")
    acc = accumulate_all(data)
    low = merge(acc, 11, len(data) * P64[0])
    high = merge(acc, 117, ~(len(data) * P64[1]) & M64)
    return "%016x%016x" % (high, low)
