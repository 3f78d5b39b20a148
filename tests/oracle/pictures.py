#!/usr/bin/env python3
"""Writes pictures.txt: what Pillow 13 and torchvision make of the shared test pictures.

One line a picture: file, width, height, hash of convert("RGB"), hash of torchvision's Resize(256) of it.
Usage: pictures.py SHARED_DATA > pictures.txt
"""
import csv
import sys
import warnings

import PIL
from PIL import Image, features
from torchvision.transforms import Resize

from pixel_hash import picture_hash

warnings.simplefilter("ignore")


def main(data):
    print(f"# Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}; made by pictures.py")
    print("# file width height hash(RGB) hash(Resize(256))")
    files = []
    with open(f"{data}/fullsize.tsv") as table:
        files += ["fullsize/" + row["file"] for row in csv.DictReader(table, delimiter="\t")]
    with open(f"{data}/oddities.tsv") as table:
        files += ["oddities/" + row["file"] for row in csv.DictReader(table, delimiter="\t")
                  if row["verdict"] in ("pack", "warn")]
    for file in files:
        with Image.open(f"{data}/{file}") as picture:
            rgb = picture.convert("RGB")
        print(file, rgb.width, rgb.height, picture_hash(rgb), picture_hash(Resize(256)(rgb)))


main(sys.argv[1])
