#!/usr/bin/env python3
"""Writes order.txt: orders, crop boxes and flips computed from data-spec/30-order.md alone, in plain Python.

Usage: order.py > order.txt. No modules outside the standard library. tests/test_order.c and tests/test_augment.c
compare every line with what train computes, and so the lines of the same form in the document.
"""
import math

MASK = 0xFFFFFFFF
PACK_ORDER, SAMPLE, EPOCH_ORDER, CROP, FLIP, WEIGHTS, TEST = 1, 2, 3, 4, 5, 6, 7


def philox(key, counter):
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK, (a >> 32) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


class Numbers:
    def __init__(self, seed, stream, epoch, index):
        self.key = seed & MASK, seed >> 32
        self.counter = [0, epoch | stream << 24, index & MASK, index >> 32]
        self.left = []

    def u32(self):
        if not self.left:
            self.left = list(philox(self.key, self.counter))
            self.counter[0] += 1
        return self.left.pop(0)

    def below(self, limit):
        while True:
            product = self.u32() * limit
            if product & MASK >= (1 << 32) % limit:
                return product >> 32

    def permutation(self, count):
        order = list(range(count))
        for left in range(count, 1, -1):
            pick = self.below(left)
            order[left - 1], order[pick] = order[pick], order[left - 1]
        return order


def order_full(seed, epoch, count):
    return Numbers(seed, EPOCH_ORDER, epoch, 0).permutation(count)


def order_shards(seed, epoch, sizes):
    first = [sum(sizes[:s]) for s in range(len(sizes))]
    shards = Numbers(seed, EPOCH_ORDER, epoch, 1).permutation(len(sizes))
    out = []
    for window in range((len(sizes) + 3) // 4):
        records = [first[s] + i for s in shards[4 * window:4 * window + 4] for i in range(sizes[s])]
        numbers = Numbers(seed, EPOCH_ORDER, epoch, 2 + window)
        out += [records[i] for i in numbers.permutation(len(records))]
    return out


def crop(seed, epoch, record, width, height):
    numbers = Numbers(seed, CROP, epoch, record)
    for _ in range(10):
        share = 343597384 + (numbers.u32() * (2**32 - 343597384) >> 32)
        x = numbers.u32() * 308896273 >> 32
        e = 2**30
        for k in range(10, 0, -1):
            e = 2**30 + (x * e >> 30) // k
        root = e * 929887697 >> 30
        side = math.isqrt(width * height * share)
        w = (side * root + 2**45) >> 46
        h = (side * (2**60 // root) + 2**45) >> 46
        if 0 < w <= width and 0 < h <= height:
            top = numbers.below(height - h + 1)
            left = numbers.below(width - w + 1)
            return left, top, w, h
    w, h = width, height
    if 4 * width < 3 * height:
        h = (8 * width + 3) // 6
    elif 3 * width > 4 * height:
        w = (8 * height + 3) // 6
    return (width - w) // 2, (height - h) // 2, w, h


def flip(seed, epoch, record):
    return Numbers(seed, FLIP, epoch, record).u32() >> 31


def print_philox(seed, stream, epoch, index):
    numbers = Numbers(seed, stream, epoch, index)
    words = " ".join("%08x" % numbers.u32() for _ in range(6))
    print("philox seed %d stream %d epoch %d index %d: %s" % (seed, stream, epoch, index, words))


def print_full(seed, epoch, count):
    numbers = " ".join(map(str, order_full(seed, epoch, count)))
    print("full seed %d epoch %d records %d: %s" % (seed, epoch, count, numbers))


def print_shards(seed, epoch, sizes):
    numbers = " ".join(map(str, order_shards(seed, epoch, sizes)))
    print("shards seed %d epoch %d sizes %s: %s" % (seed, epoch, ",".join(map(str, sizes)), numbers))


def print_crop(seed, epoch, record, width, height):
    box = crop(seed, epoch, record, width, height)
    print("crop seed %d epoch %d record %d picture %dx%d: left %d top %d width %d height %d flip %d"
          % ((seed, epoch, record, width, height) + box + (flip(seed, epoch, record),)))


def main():
    print("# Made by order.py from data-spec/30-order.md.")
    for seed, stream, epoch, index in ((0, EPOCH_ORDER, 0, 0), (2**64 - 1, TEST, 2**24 - 1, 2**64 - 1),
                                       (0x0123456789ABCDEF, CROP, 89, 1281166)):
        print_philox(seed, stream, epoch, index)
    for seed, epoch, count in ((0, 0, 10), (0, 1, 10), (1, 0, 10), (0, 0, 1), (2**40 + 7, 89, 100)):
        print_full(seed, epoch, count)
    for seed, epoch, sizes in ((0, 0, [3, 3, 3, 3, 2]), (0, 1, [3, 3, 3, 3, 2]), (7, 3, [1, 0, 2]),
                               (5, 2, [9, 8, 7, 6, 5, 4, 3, 2, 1])):
        print_shards(seed, epoch, sizes)
    sizes = ((500, 375), (256, 341), (256, 256), (1, 1), (1, 40), (40, 1), (2, 3), (224, 20), (20, 224), (65535, 65535),
             (65535, 300), (65535, 1), (9331, 7210))
    for width, height in sizes:
        for record in (0, 1, 8, 13, 1281166):
            print_crop(0, 0, record, width, height)
    for width, height, record in ((300, 100, 107), (300, 100, 240), (90, 400, 100)):
        print_crop(0, 0, record, width, height)  # the tenth try is the first to fit
    for seed, epoch in ((0, 1), (1, 0), (2**63 + 11, 89)):
        for record in range(3):
            print_crop(seed, epoch, record, 500, 375)


if __name__ == "__main__":
    main()
