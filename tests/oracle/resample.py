#!/usr/bin/env python3
"""Writes resample.txt: Pillow 13's and torchvision's resizes of pictures drawn by formula, and their size rules.

resize W H KIND  LEFT TOP WIDTH HEIGHT  FULL_W FULL_H  WLEFT WTOP WWIDTH WHEIGHT  FLIP HASH
    picture W x H of KIND; its crop is resized to FULL_W x FULL_H (bilinear); hash of the window of that, mirrored
    left to right when FLIP.
sizes SHORT MOST HASH    hash of torchvision's Resize(SHORT) sizes of all w, h in 1..MOST: w, then h, as 32 bits
size W H SHORT OUT_W OUT_H
centers MOST HASH        hash of torchvision's CenterCrop left offsets of all (side, crop <= side) up to MOST, 32 bits
Usage: resample.py > resample.txt
"""
import random
from unittest import mock

import numpy
import PIL
import torchvision
from PIL import Image, ImageOps
from torchvision.transforms import functional, transforms

from pixel_hash import picture_hash, pixel_hash


def drawn(width, height, kind):
    """kind 0: noise of all values, 1: noise of 0 and 255, 2: a slope with edges, 3: white."""
    y, x, c = numpy.mgrid[0:height, 0:width, 0:3].astype(numpy.uint32)
    if kind == 2:
        return ((x * 3 + y * 5 + c * 60 + (x // 16 + y // 16) % 2 * 90) % 256).astype(numpy.uint8)
    h = x * numpy.uint32(73856093) ^ y * numpy.uint32(19349663) ^ c * numpy.uint32(83492791)
    h ^= h >> 13
    h *= numpy.uint32(0x5BD1E995)
    h ^= h >> 15
    if kind == 0:
        return (h & 255).astype(numpy.uint8)
    return numpy.where((h & 1) | (kind == 3), 255, 0).astype(numpy.uint8)


def cases():
    whole = lambda w, h, kind, full_w, full_h: (w, h, kind, 0, 0, w, h, full_w, full_h, 0, 0, full_w, full_h, 0)
    for w, h in [(500, 375), (375, 500), (333, 500), (500, 500), (1600, 1200), (227, 227), (56, 191)]:
        full = transforms.Resize(256)(Image.new("RGB", (w, h))).size
        yield whole(w, h, 0, *full)
    for w, h, full_w, full_h in [
        (1, 1, 1, 1), (1, 1, 7, 5), (2, 2, 1, 1), (1, 9, 4, 2), (9, 1, 2, 4), (3, 3, 3, 9), (3, 3, 9, 3),
        (5, 7, 5, 7), (64, 64, 64, 63), (64, 64, 63, 64), (100, 3, 10, 3), (4000, 3, 1, 1), (3, 4000, 1, 1),
        (65535, 1, 1, 1), (1, 65535, 1, 1), (65535, 2, 300, 2), (2, 65535, 2, 300), (20, 20, 1000, 3),
        (31, 17, 32, 18), (33, 18, 31, 16),
        # about Pillow 13's rule for the order of the passes
        (100, 200, 60, 120), (100, 200, 60, 119), (100, 200, 60, 121), (100, 200, 60, 90), (60, 200, 60, 100),
        (50, 90, 55, 89), (50, 90, 55, 90), (50, 90, 49, 88), (50, 90, 49, 87), (7, 300, 3, 128), (300, 7, 128, 3), (16, 16, 224, 224),
    ]:
        for kind in (0, 1, 3) if w * h < 5000 else (1, 3):
            yield whole(w, h, kind, full_w, full_h)
    draw = random.Random(7)
    for _ in range(120):  # what training does: a crop of a picture, resized, sometimes mirrored; a window of it
        w, h = draw.randint(1, 400), draw.randint(1, 400)
        width, height = draw.randint(1, w), draw.randint(1, h)
        left, top = draw.randint(0, w - width), draw.randint(0, h - height)
        full_w, full_h = draw.choice([(224, 224), (width, draw.randint(1, 300)), (draw.randint(1, 300), height),
                                      (width, height), (draw.randint(1, 300), draw.randint(1, 300))])
        wwidth, wheight = draw.randint(1, full_w), draw.randint(1, full_h)
        if draw.random() < 0.4:
            wwidth, wheight = full_w, full_h
        wleft, wtop = draw.randint(0, full_w - wwidth), draw.randint(0, full_h - wheight)
        yield (w, h, draw.randint(0, 2), left, top, width, height, full_w, full_h, wleft, wtop, wwidth, wheight,
               draw.randint(0, 1))


def resized(case):
    w, h, kind, left, top, width, height, full_w, full_h, wleft, wtop, wwidth, wheight, flip = case
    picture = Image.fromarray(drawn(w, h, kind))
    picture = functional.resized_crop(picture, top, left, height, width, [full_h, full_w])
    picture = picture.crop((wleft, wtop, wleft + wwidth, wtop + wheight))
    return ImageOps.mirror(picture) if flip else picture


def resize_size(width, height, short):
    """torchvision's own rule; (w, h)."""
    h, w = functional._compute_resized_output_size((height, width), [short])
    return w, h


def center_offset(side, crop):
    """The left edge that torchvision's center_crop cuts at."""
    with mock.patch.object(functional, "crop", side_effect=lambda img, top, left, height, width: left):
        return functional.center_crop(Image.new("L", (side, crop)), [crop, crop])


def table_hash(values):
    return pixel_hash(numpy.array(values, dtype="<u4").tobytes())


def main():
    print(f"# Pillow {PIL.__version__}, torchvision {torchvision.__version__.split('+')[0]}; made by resample.py")
    for case in cases():
        print("resize", *case, picture_hash(resized(case)))
    for short, most in [(256, 300), (64, 150), (7, 60), (292, 120)]:
        sizes = [resize_size(w, h, short) for w in range(1, most + 1) for h in range(1, most + 1)]
        print("sizes", short, most, table_hash(sizes))
    draw = random.Random(8)
    for _ in range(60):
        w, h, short = draw.randint(1, 65535), draw.randint(1, 65535), draw.randint(1, 1000)
        print("size", w, h, short, *resize_size(w, h, short))
    offsets = [center_offset(side, crop) for side in range(1, 121) for crop in range(1, side + 1)]
    print("centers", 120, table_hash(offsets))


main()
