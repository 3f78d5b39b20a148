"""Small pictures made as large as ImageNet's: 500 x 375 JPEG files with some noise, so that decoding them is as much work.

    enlarge.py FOLDER OUT COUNT    FOLDER/CLASS/* -> OUT/CLASS/*.JPEG, COUNT in all
"""
import multiprocessing
import pathlib
import sys

from PIL import Image


def enlarge(job):
    source, out = job
    picture = Image.open(source).convert("RGB").resize((500, 375), Image.BICUBIC)
    noise = Image.merge("RGB", [Image.effect_noise((500, 375), 40)] * 3)
    Image.blend(picture, noise, 0.15).save(out, "JPEG", quality=95, subsampling=0)


if __name__ == "__main__":
    folder, out, count = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])
    pictures = sorted(folder.glob("*/*"), key=lambda path: (path.name, path.parent.name))[:count]
    for name in {path.parent.name for path in pictures}:
        (out / name).mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        pool.map(enlarge, [(path, out / path.parent.name / f"{path.stem}.JPEG") for path in pictures], chunksize=16)
