"""The losses of two runs, step by step, or the share of time that a run waited for data.

    compare_losses.py WANTED.jsonl FOUND.jsonl BOUND   exit 1 where a loss of the first 20 steps differs by more than BOUND
                                                       (relative), or the mean of the last ten by more than three times it
    compare_losses.py --waiting RUN.jsonl
"""
import json
import statistics
import sys


def lines(path):
    return [line for line in map(json.loads, open(path)) if line["split"] == "train"]


if sys.argv[1] == "--waiting":
    run = lines(sys.argv[2])[20:]
    print(f"{statistics.median(line['img_per_s'] for line in run):.0f} img/s, "
          f"waiting {100 * statistics.mean(line['data_wait'] for line in run):.2f} % of the time")
    sys.exit(0)
wanted, found = ([line["loss"] for line in lines(path)] for path in sys.argv[1:3])
bound = float(sys.argv[3])
if len(wanted) != len(found) or not wanted:
    sys.exit(f"{len(found)} losses, not {len(wanted)}")
first = max(abs(a - b) / a for a, b in list(zip(wanted, found))[:20])
last = abs(statistics.mean(wanted[-10:]) - statistics.mean(found[-10:])) / statistics.mean(wanted[-10:])
print(f"first 20 steps {first:.2g} (at most {bound:g}), mean of the last ten {last:.2g} (at most {3 * bound:g})")
sys.exit(first > bound or last > 3 * bound)
