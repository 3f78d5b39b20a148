"""The lines of a run, judged: its losses against another's, whether they fall, how long it waited for data, how fast it was.

    compare_losses.py WANTED.jsonl FOUND.jsonl BOUND   exit 1 where a loss of the first 20 steps differs by more than BOUND
                                                       (relative), or the mean of the last ten by more than three times it
    compare_losses.py --falls RUN.jsonl                exit 1 where the mean of the last tenth is not 0.9 of the first's or less
    compare_losses.py --waiting RUN.jsonl [STEPS BATCH]   exit 1 where it waited for data 1 % of the time or more, or where a step
                                                       took more than 1.02 times as long as those of STEPS (milliseconds a line)
    compare_losses.py --rate STEPS BATCH FLOOR         exit 1 below FLOOR pictures a second; FLOOR no number: only told
"""
import json
import re
import statistics
import sys


def lines(path):
    return [line for line in map(json.loads, open(path)) if line["split"] == "train"]


def rate(path, batch):
    return 1e3 * int(batch) / statistics.median(float(line) for line in open(path) if re.fullmatch(r"[0-9.]+", line.strip()))


if sys.argv[1] == "--waiting":
    run = lines(sys.argv[2])
    run = run[len(run) // 3:]
    speed, waiting = statistics.median(line["img_per_s"] for line in run), statistics.mean(line["data_wait"] for line in run)
    print(f"{speed:.0f} img/s, waiting {100 * waiting:.2f} % of the time", end="")
    if len(sys.argv) < 5:
        sys.exit(0)
    longer = rate(sys.argv[3], sys.argv[4]) / speed
    print(f", a step {longer:.3f} times as long (at most 1.02)")
    sys.exit(waiting >= 0.01 or longer > 1.02)
if sys.argv[1] == "--rate":
    speed = rate(sys.argv[2], sys.argv[3])
    print(f"{speed:.0f} img/s")
    sys.exit(sys.argv[4].isdigit() and speed < int(sys.argv[4]))
if sys.argv[1] == "--falls":
    losses = [line["loss"] for line in lines(sys.argv[2])]
    tenth = max(1, len(losses) // 10)
    first, last = statistics.mean(losses[:tenth]), statistics.mean(losses[-tenth:])
    print(f"from {first:.3f} to {last:.3f} in {len(losses)} steps (at most 0.9 times)")
    sys.exit(last > 0.9 * first)
wanted, found = ([line["loss"] for line in lines(path)] for path in sys.argv[1:3])
bound = float(sys.argv[3])
if len(wanted) != len(found) or not wanted:
    sys.exit(f"{len(found)} losses, not {len(wanted)}")
first = max(abs(a - b) / a for a, b in list(zip(wanted, found))[:20])
last = abs(statistics.mean(wanted[-10:]) - statistics.mean(found[-10:])) / statistics.mean(wanted[-10:])
print(f"first 20 steps {first:.2g} (at most {bound:g}), mean of the last ten {last:.2g} (at most {3 * bound:g})")
sys.exit(first > bound or last > 3 * bound)
