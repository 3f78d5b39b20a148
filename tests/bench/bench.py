#!/usr/bin/env python3
"""Our programs against their peers, both sides by turns in one run; prints one table.

usage: bench.py BUILD DATA --python PYTHON [--pillow-simd PYTHON] [--rows NAME,...] [--rounds N] [--cpu-time]

BUILD    a Release build; bf16 rows hold for the oneDNN that it was made with
DATA     the shared pictures (fullsize/, imagenette-160/)
PYTHON   an interpreter with torch, torchvision and Pillow; for --pillow-simd one with that in Pillow's place
Every number is a median over rounds; the ratio is that of the medians, its spread the least and the largest ratio of one round.
--cpu-time: for a machine that others use, too. Pictures a second of CPU time, of all threads and the system, when packing times the
number of cores; steps in milliseconds of CPU time in one thread that keeps to one core. Waiting does not count, a disk neither.
"""
import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# PyTorch with its default malloc gives pages back in every step: the fair side is this one.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "268435456"}
THREADS = os.cpu_count()


def numbers(command, **environment):
    """Run; standard output's lines as numbers, and what stands behind "peak"."""
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, env={**os.environ, **environment})
    if run.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit {run.returncode}\n{run.stderr[-2000:]}")
    lines = run.stdout.split("\n")
    peak = next((float(line.split()[1]) for line in lines if line.startswith("peak")), 0)
    return [float(line) for line in lines if re.fullmatch(r"[0-9.]+", line)], peak


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Bench:
    def __init__(self, options):
        self.options = options
        self.build, self.data = pathlib.Path(options.build).resolve(), pathlib.Path(options.data).resolve()
        self.table = []
        self.pin = ["taskset", "-c", "0"] if options.cpu_time else []
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir="/dev/shm"))

    def peer(self, *arguments, **environment):
        pin = self.pin if arguments[0] == "step" else []
        return numbers([*pin, self.options.python, HERE / "peers.py", *arguments], **environment)

    def add(self, what, ours, theirs, floor, unit, more_is_better, digits=0):
        """OURS and THEIRS: one number a round. FLOOR: of ours / theirs, or of ours where THEIRS is None."""
        mine = statistics.median(ours)
        if theirs is None:
            ratio, met = "", mine >= floor if more_is_better else mine <= floor
            other = ""
            spread = f"{min(ours):.{digits}f}-{max(ours):.{digits}f}"
        else:
            other = statistics.median(theirs)
            ratios = [a / b if more_is_better else b / a for a, b in zip(ours, theirs)]
            value = mine / other if more_is_better else other / mine
            met = value >= floor
            ratio, spread, other = f"{value:.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}", f"{other:.{digits}f}"
        row = (what, f"{mine:.{digits}f} {unit}", other, ratio, spread, str(floor), "yes" if met else "NO")
        self.table.append(row)
        print("  ".join(row), flush=True)

    def step(self, mode, arch, precision, floor, memory_floor=None, batch=16, size=224, classes=1000):
        ours, theirs, peaks, other_peaks = [], [], [], []
        for _ in range(self.options.rounds):
            times, peak = numbers([*self.pin, self.build / "bench_step", "cpu", precision, mode, arch, batch, size, classes, 2, 5])
            ours.append(statistics.median(times))
            peaks.append(peak)
            times, peak = self.peer("step", mode, arch, precision, batch, size, classes, 3, 5, **MALLOC)
            theirs.append(statistics.median(times))
            if memory_floor:  # its memory with its default malloc: the tuned one keeps everything
                other_peaks.append(self.peer("step", mode, arch, precision, batch, size, classes, 1, 2)[1])
        self.add(f"{mode} {arch} {precision}, ms a batch of {batch}", ours, theirs, floor, "ms", False)
        if memory_floor:
            self.add(f"{mode} {arch} {precision}, peak memory", peaks, other_peaks, round(1 / memory_floor, 2), "MiB", False)

    def pictures(self):
        """>= 3,000 files under a class tree: links to the full-size ones."""
        tree = self.work / "train"
        if not tree.exists():
            for source in sorted((self.data / "fullsize").iterdir()):
                (tree / source.name).mkdir(parents=True)
                for picture in source.iterdir():
                    for i in range(20):
                        (tree / source.name / f"{picture.stem}_{i}{picture.suffix}").symlink_to(picture)
            files = sorted(str(f) for f in tree.glob("*/*"))
            (self.work / "files").write_text("\n".join(files) + "\n")
        return tree

    def packed(self, encoding):
        out = self.work / f"{encoding}.lmdb"
        if not out.exists():
            self.prep("pack", self.pictures(), out, "--encoding", encoding)
        return out

    def prep(self, *arguments):
        run = subprocess.run([self.build / "prep", *map(str, arguments)], capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"prep {arguments}: {run.stderr[-2000:]}")
        return run.stderr + run.stdout

    def pack(self):
        tree, files = self.pictures(), self.work / "files"
        out, count = self.work / "pack.lmdb", len(files.read_text().split("\n")) - 1

        def prep():
            said = self.prep("pack", tree, out, "--jobs", THREADS)
            shutil.rmtree(out)
            return float(re.search(r"packed .*: ([0-9.]+) images/s", said)[1])

        def decode():
            with open(files) as names:
                run = subprocess.run([self.build / "bench_decode", str(THREADS)], stdin=names, capture_output=True, text=True, check=True)
            return float(run.stdout)

        def pillow(python):
            run = subprocess.run([python, HERE / "peers.py", "pillow", str(THREADS), "256", files], capture_output=True, text=True, check=True)
            return float(run.stdout)

        sides = {"prep": prep, "decode": decode, "pillow": lambda: pillow(self.options.python)}
        if self.options.pillow_simd:
            sides["simd"] = lambda: pillow(self.options.pillow_simd)
        rates = {name: [] for name in sides}
        for _ in range(self.options.rounds):
            for name, side in sides.items():
                begin = children_seconds()
                rate = side()
                rates[name].append(count / (children_seconds() - begin) * THREADS if self.options.cpu_time else rate)
        ours = rates["prep"]
        self.add(f"pack {THREADS} jobs / libjpeg-turbo alone, images/s", ours, rates["decode"], 0.80, "/s", True)
        self.add("pack / Pillow: decode + Resize(256)", ours, rates["pillow"], 1.5, "/s", True)
        if self.options.pillow_simd:
            self.add("pack / pillow-simd", ours, rates["simd"], 1.05, "/s", True)

    def pack_many(self):
        """200,000 tiny records: memory, and the CPU time of a record against that of 100,000."""
        tree, times, peak = self.work / "tiny", [], 0
        picture = self.work / "tiny.png"
        subprocess.run([self.options.python, "-c",
                        f"from PIL import Image; Image.new('RGB', (8, 8), (9, 99, 199)).save({str(picture)!r})"], check=True)
        for count in (100_000, 200_000):
            shutil.rmtree(tree, ignore_errors=True)
            for i in range(count // 1000):
                (tree / f"class{i:04}").mkdir(parents=True)
                for k in range(1000):
                    os.link(picture, tree / f"class{i:04}" / f"{k}.png")
            begin = children_seconds()
            self.prep("pack", tree, self.work / "tiny.lmdb", "--jobs", 2)
            times.append(children_seconds() - begin)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            shutil.rmtree(self.work / "tiny.lmdb")
        shutil.rmtree(tree)
        self.add("pack 200,000 tiny pictures, peak of all programs so far", [peak], None, 400, "MiB", False)
        self.add("time a record, 200,000 / 100,000", [times[1] / times[0] / 2], None, 1.1, "x", False, 2)

    def verify(self):
        out, rates = self.packed("rgb"), []
        size = sum(f.stat().st_size for f in out.iterdir())
        for _ in range(self.options.rounds + 1):
            begin = time.perf_counter()
            self.prep("verify", out)
            rates.append(size / 1e9 / (time.perf_counter() - begin))
        self.add("verify, warm", rates[1:], None, 1.5, "GB/s", True, 2)

    def loader(self):
        for encoding, floor in (("rgb", 10), ("jpeg", 4)):
            database = self.packed(encoding)
            ours, theirs = [], []
            for _ in range(self.options.rounds):
                ours.append(statistics.median(numbers([self.build / "bench_loader", database, 224, 20, 3])[0]))
                theirs += self.peer("loader", self.data / "fullsize", 224, 1)[0]
            if encoding == "rgb":
                self.add("load + augment, rgb, one thread", ours, None, 3000, "/s", True)
            self.add(f"load + augment, {encoding} / a torchvision worker", ours, theirs, floor, "/s", True)

    def start(self):
        """10 classes: the moment at which the first step's line appears, less the step's own time."""
        ten, database, times = self.work / "ten", self.work / "ten.lmdb", []
        ten.mkdir()
        for folder in sorted(self.pictures().iterdir())[:10]:
            (ten / folder.name).symlink_to(folder)
        self.prep("pack", ten, database)
        metrics = self.work / "start" / "runs" / "start" / "metrics.jsonl"
        for _ in range(self.options.rounds):
            shutil.rmtree(self.work / "start", ignore_errors=True)
            begin = time.perf_counter()
            run = subprocess.Popen([self.build / "train", "--db", database, "--max-steps", "1", "--no-first-validation", "--device", "cpu",
                                    "--output", self.work / "start", "--name", "start"], stderr=subprocess.DEVNULL)
            while run.poll() is None and not (metrics.exists() and metrics.read_text().endswith("\n")):
                time.sleep(0.005)
            elapsed = time.perf_counter() - begin
            run.wait()
            times.append(elapsed - 16 / json.loads(metrics.read_text().split("\n")[0])["img_per_s"])
        self.add("start to the first step, ResNet-152", times, None, 3, "s", False, 2)

    def rows(self):
        rows = {
            "pack": self.pack, "pack-many": self.pack_many, "verify": self.verify, "loader": self.loader, "start": self.start,
        }
        for arch, floor in (("resnet18", 1.2), ("resnet50", 1.35), ("resnet152", 1.25)):
            rows[f"train-{arch}-f32"] = lambda a=arch, f=floor: self.step("train", a, "f32", f, 0.75)
            rows[f"train-{arch}-bf16"] = lambda a=arch: self.step("train", a, "bf16", self.options.bf16_floor, 0.75)
        for arch in ("resnet18", "resnet50"):
            rows[f"eval-{arch}"] = lambda a=arch: self.step("eval", a, "f32", 1.2)
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("data")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--pillow-simd")
    parser.add_argument("--rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--bf16-floor", type=float, default=1.4, help="1.4 with oneDNN 2.6.3, 1.8 with 3.2")
    bench = Bench(parser.parse_args())
    if bench.options.cpu_time:  # for bench_step, bench_loader and peers.py, which take their time by it
        os.environ["BENCH_CPU_TIME"] = "1"
    rows = bench.rows()
    try:
        for name in bench.options.rows.split(",") if bench.options.rows else rows:
            rows[name]()
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
        print("\n| what | ours | theirs | ratio | spread | floor | met |\n|---|---|---|---|---|---|---|")
        for row in bench.table:
            print("| " + " | ".join(row) + " |")


main()
