#!/usr/bin/env python3
"""A training step on a GPU against PyTorch's, eager and compiled, by turns on one card; prints one table.

usage: bench_gpu.py BENCH_STEP --python PYTHON [--rounds N] [--arch A,...] [--batch N,...] [--precision P,...]

Random pictures on both sides. A row: medians of the rounds' medians in milliseconds, pictures a second, the ratio to the
better of PyTorch's two with its spread over rounds. Floors: 1.3 in bf16, 1.8 in fp16, at batch 256.
"""
import argparse
import pathlib
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FLOORS = {"bf16": 1.3, "fp16": 1.8}


def measure(command):
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if run.returncode:
        print(f"{' '.join(map(str, command))}: exit {run.returncode}: {run.stderr.strip()[-300:]}", file=sys.stderr)
        return None, None
    lines = run.stdout.split("\n")
    peak = next((float(line.split()[1]) for line in lines if line.startswith("peak")), 0)
    return statistics.median(float(line) for line in lines if re.fullmatch(r"[0-9.]+", line)), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench_step")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--arch", default="resnet50,resnet152")
    parser.add_argument("--batch", default="256,64")
    parser.add_argument("--precision", default="bf16,fp16")
    options = parser.parse_args()
    print("| network | batch | precision | ours, ms | img/s | PyTorch eager, ms | compiled, ms | ratio | spread | floor | met |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for arch in options.arch.split(","):
        for batch in options.batch.split(","):
            for precision in options.precision.split(","):
                times = {"ours": [], "eager": [], "compile": []}
                tail = [arch, precision, batch, 224, 1000]
                for _ in range(options.rounds):
                    ours = [options.bench_step, "cuda", precision, "train", arch, *tail[2:], 10, 30]
                    times["ours"].append(measure(ours)[0])
                    for mode in ("eager", "compile"):
                        times[mode].append(measure([options.python, HERE / "peers.py", "gpu", mode, *tail, 10, 30])[0])
                if None in times["ours"] or None in times["eager"]:
                    print(f"| {arch} | {batch} | {precision} | a side failed: see the log |")
                    continue
                compiled = times["compile"] if None not in times["compile"] else times["eager"]
                ratios = [min(e, c) / o for o, e, c in zip(times["ours"], times["eager"], compiled)]
                mine, eager, fast = (statistics.median(t) for t in (times["ours"], times["eager"], compiled))
                ratio = min(eager, fast) / mine
                print(f"| {arch} | {batch} | {precision} | {mine:.2f} | {1000 * int(batch) / mine:.0f} | {eager:.2f} | {fast:.2f} | {ratio:.2f} "
                      f"| {min(ratios):.2f}-{max(ratios):.2f} | {FLOORS[precision]} | {'yes' if ratio >= FLOORS[precision] else 'NO'} |", flush=True)


main()
