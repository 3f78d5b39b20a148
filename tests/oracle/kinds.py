#!/usr/bin/env python3
"""Writes kinds.txt: small drawn files of every kind that the decoder takes, and the pixels Pillow 13 makes of them.

One line a file: name, width, height, hash of convert("RGB"), the file in hexadecimal.
Usage: kinds.py > kinds.txt
"""
import io
import struct
import warnings
import zlib

import numpy
import PIL
from PIL import Image, features

from pixel_hash import picture_hash

warnings.simplefilter("ignore")
WIDTH, HEIGHT = 21, 13
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def drawn():
    """RGB pixels by formula, with edges and a slope."""
    y, x = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [(x * 12 + y * 3) % 256, (y * 19 + x * x) % 256, numpy.where((x // 4 + y // 3) % 2, 230, 25)]
    return numpy.stack(planes, 2).astype(numpy.uint8)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pack_row(samples, depth):
    if depth == 16:
        return samples.astype(">u2").tobytes()
    if depth == 8:
        return samples.astype(numpy.uint8).tobytes()
    bits = "".join(format(int(sample), f"0{depth}b") for sample in samples)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def png(color, depth, interlaced, extra=b"", parts=1):
    """A PNG of every sample value that the depth has room for; rows take turns with filters 0 and 2 (up)."""
    channels = CHANNELS[color]
    y, x, c = numpy.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    samples = (x * 2749 + y * 7919 + c * 12011 + x * y * 37) % (1 << depth)
    if depth == 16:  # some within Pillow's 8 bits of I;16
        samples = numpy.where((x + y) % 3, samples, samples % 256)
    data = b""
    for left, top, step_x, step_y in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        part = samples[top::step_y, left::step_x]
        previous = None
        for row in range(part.shape[0] if part.shape[1] else 0):
            packed = pack_row(part[row].reshape(-1), depth)
            if row % 2:
                data += b"\2" + bytes((a - b) % 256 for a, b in zip(packed, previous))
            else:
                data += b"\0" + packed
            previous = packed
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color, 0, 0, interlaced)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if color == 3:
        entries = min(1 << depth, 200)  # of 8 bits, some pixels point behind the palette
        file += chunk(b"PLTE", bytes((i * 37 + c * 91) % 256 for i in range(entries) for c in range(3)))
    data = zlib.compress(data, 9)
    step = -(-len(data) // parts)
    images = b"".join(chunk(b"IDAT", data[i : i + step]) for i in range(0, len(data), step))
    return file + extra + images + chunk(b"IEND", b"")


def pngs():
    for color, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for depth in depths:
            for interlaced in (0, 1):
                yield f"png_color{color}_{depth}bit_{'interlaced' if interlaced else 'plain'}", png(color, depth, interlaced)
    yield "png_gray_trns", png(0, 8, 0, chunk(b"tRNS", b"\0\5"))
    yield "png_palette_trns", png(3, 4, 0, chunk(b"tRNS", bytes(range(16))))
    yield "png_two_parts", png(2, 8, 0, parts=2)
    yield "png_icc", png(2, 8, 0, chunk(b"iCCP", b"drawn\0\0" + zlib.compress(b"a profile")))
    yield "png_exif", png(2, 8, 0, chunk(b"eXIf", b"MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0\0"))


def tables_first(file):
    """The same file as two: tables alone, then the picture without them."""
    tables, rest, at = b"", b"", 2
    while file[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")
        if file[at + 1] in (0xC4, 0xDB):
            tables += file[at:end]
        else:
            rest += file[at:end]
        at = end
    return file[:2] + tables + b"\xff\xd9" + file[:2] + rest + file[at:]


def jpegs():
    rgb = Image.fromarray(drawn())

    def save(picture, **options):
        out = io.BytesIO()
        picture.save(out, "JPEG", optimize=True, **options)
        return out.getvalue()

    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            name = f"jpeg_{sampling.replace(':', '')}_{'progressive' if progressive else 'baseline'}"
            yield name, save(rgb, quality=85, subsampling=sampling, progressive=progressive)
    yield "jpeg_gray", save(rgb.convert("L"), quality=85)
    yield "jpeg_cmyk", save(rgb.convert("CMYK"), quality=85)
    yield "jpeg_rgb_stored", save(rgb, quality=85, keep_rgb=True)
    yield "jpeg_tables_first", tables_first(save(rgb, quality=85))
    yield "jpeg_icc", save(rgb, quality=85, icc_profile=b"a profile")
    yield "jpeg_restarts", save(rgb, quality=85, restart_marker_blocks=1)


def main():
    print(f"# Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}; made by kinds.py")
    print("# name width height hash(RGB) file")
    for name, file in [*jpegs(), *pngs()]:
        with Image.open(io.BytesIO(file)) as picture:
            rgb = picture.convert("RGB")
        print(name, rgb.width, rgb.height, picture_hash(rgb), file.hex())


main()
