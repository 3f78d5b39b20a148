#!/usr/bin/env python3
"""Writes augment.txt: what torchvision on Pillow pictures makes of crops, flips and the validation transform.

Usage: augment.py TEST_DATA > augment.txt. Needs torchvision and Pillow (made with the versions in its first line).
tests/test_augment.c compares every line with what train computes:
  share ...    mean and standard deviation of RandomResizedCrop.get_params: share of the area, log of the ratio,
               place of the box (0 = left or top edge, 1 = right or bottom edge)
  train ...    CRC-32 of the bytes of a formula's picture after resized_crop and hflip
  validate ... CRC-32 after Resize and CenterCrop, of a formula's picture or of a file below TEST_DATA
"""
import math
import os
import statistics
import sys
import zlib

import PIL
import torch
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, RandomResizedCrop, Resize
from torchvision.transforms import functional as F

SAMPLES = 20000


def picture(width, height):
    """The formula of tests/test_augment.c."""
    out = bytearray()
    for y in range(height):
        for x in range(width):
            for c in range(3):
                out.append((x * (5 + c) + y * (11 - 3 * c) + ((x * y) >> (2 + c)) + ((x // 9 + y // 7) % 2) * 90) & 255)
    return Image.frombytes("RGB", (width, height), bytes(out))


def crc(image):
    return "%08x" % zlib.crc32(image.tobytes())


def shares(width, height):
    torch.manual_seed(1)
    image = Image.new("RGB", (width, height))
    boxes = [RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(SAMPLES)]
    columns = (
        [h * w / (width * height) for _, _, h, w in boxes],
        [math.log(w / h) for _, _, h, w in boxes],
        [left / (width - w) for _, left, _, w in boxes if w < width],
        [top / (height - h) for top, _, h, _ in boxes if h < height],
    )
    numbers = ["%.4f %.4f" % (statistics.mean(c), statistics.pstdev(c)) for c in columns]
    print("share %dx%d samples %d: area %s ratio %s left %s top %s" % ((width, height, SAMPLES) + tuple(numbers)))


def train(width, height, left, top, w, h, size, flip):
    image = F.resized_crop(picture(width, height), top, left, h, w, [size, size])
    if flip:
        image = F.hflip(image)
    print("train %dx%d box %d %d %d %d size %d flip %d: %s" % (width, height, left, top, w, h, size, flip, crc(image)))


def validate(image, name, resize, size):
    print("validate %s resize %d size %d: %s" % (name, resize, size, crc(CenterCrop(size)(Resize(resize)(image)))))


def main():
    print("# Made by augment.py with Pillow %s, torchvision %s." % (PIL.__version__, torchvision.__version__))
    for width, height in ((500, 375), (256, 341), (256, 256), (300, 100), (90, 400), (12, 9), (4, 5)):
        shares(width, height)
    for width, height, boxes in ((500, 375, ((0, 0, 500, 375), (17, 30, 224, 224), (0, 0, 1, 1), (499, 374, 1, 1),
                                             (200, 100, 300, 275), (3, 5, 101, 130), (250, 10, 7, 360))),
                                 (256, 341, ((31, 100, 150, 170), (0, 341 - 256, 256, 256))),
                                 (1, 40, ((0, 19, 1, 1),)), (3, 2, ((1, 0, 2, 2),))):
        for box in boxes:
            for size, flip in ((224, 0), (224, 1), (64, 1), (33, 0)):
                train(width, height, *box, size, flip)
    sizes = ((500, 375), (375, 500), (256, 256), (256, 341), (341, 256), (257, 256), (259, 256), (1000, 256), (255, 300), (20, 10),
             (10, 20), (1, 1), (1, 30), (30, 1), (129, 400), (223, 225))
    for width, height in sizes:
        for resize, size in ((256, 224), (224, 224), (73, 64), (37, 33), (64, 65), (30, 45), (1, 3)):
            validate(picture(width, height), "%dx%d" % (width, height), resize, size)
    folder = os.path.join(sys.argv[1], "fullsize")
    for wnid in sorted(os.listdir(folder)):
        for name in sorted(os.listdir(os.path.join(folder, wnid))):
            image = Image.open(os.path.join(folder, wnid, name)).convert("RGB")
            pack = Resize(256)(image) if min(image.size) > 256 else image
            if CenterCrop(224)(Resize(256)(pack)).tobytes() != CenterCrop(224)(Resize(256)(image)).tobytes():
                sys.exit("%s: the crop differs by way of a pack" % name)
            validate(image, "fullsize/%s/%s" % (wnid, name), 256, 224)


if __name__ == "__main__":
    main()
