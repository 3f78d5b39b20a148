"""What the pixel oracles share: a hash that numpy computes fast and C in one line, and torchvision's size rule.

hash = sum of (byte_i + 1) * M^(n-1-i) modulo 2^64, that is h = h * M + byte + 1 from h = 0.
"""
import numpy

M = 0x9E3779B97F4A7C15
CHUNK = 1 << 16


def _powers():
    powers = numpy.ones(CHUNK, dtype=numpy.uint64)
    powers[1:] = M
    return numpy.multiply.accumulate(powers)[::-1]


POWERS = _powers()


def pixel_hash(data):
    """The hash of BYTES as 16 hexadecimal digits."""
    data = numpy.frombuffer(data, dtype=numpy.uint8)
    value = 0
    for start in range(0, len(data), CHUNK):
        part = data[start : start + CHUNK].astype(numpy.uint64) + numpy.uint64(1)
        total = int(numpy.sum(part * POWERS[CHUNK - len(part) :], dtype=numpy.uint64))
        value = (value * pow(M, len(part), 1 << 64) + total) % (1 << 64)
    return f"{value:016x}"


def picture_hash(picture):
    return pixel_hash(picture.tobytes())
