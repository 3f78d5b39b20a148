"""A thousand mutants of small checkpoints: what torch.load (weights_only) says of each, against what we say.

mutants.py make ORACLE            asks torch (development): a line for each mutant, "ok HASH" or "no"
mutants.py check ORACLE TEST_PTH  runs test_pth --print on each mutant; no torch needed

The archives are whole and their CRCs are right: what is mutated is the pickle. The rule: what we accept torch accepts too, with the same value. We may refuse more, for
the reasons below, which are counted; a refusal for another reason is a failure.
"""
import hashlib
import io
import os
import random
import subprocess
import sys
import tempfile

from hostile import pth, state, tensor, text

COUNT = 1000
# Why we refuse what torch reads. Damage that torch passes over: it neither bounds nor types what it builds.
REASONS = ["bytes behind STOP", "does not begin with PROTO", "pickle protocol", "PROTO inside", "is not UTF-8", "neither text nor int", "twice", "marks on the stack", "deeper than", "bare global", "arguments that make no plain tensor",
           "is not among", "elements of", "no entry", "used by no tensor", "used as two types", "persistent id", "integer of", "cut short", "frame reaches", "OrderedDict", "was never set", "memo index", "not a dict", "not a list", "values are needed",
           "no mark", "outside its storage", "REDUCE", "a key that has no value", "where", "4 times"]


def bases():
    yield state()
    yield b"\x80\2}q\0(" + text(b"model") + b"ccollections\nOrderedDict\nq\1)Rq\2(" + text(b"w") + b"q\3" + tensor() + b"q\4" + text(b"b") + tensor(offset=b"K\1", shape=b"K\1\x85") + b"u" + text(b"epoch") + b"K\3" + text(b"lr") + b"G?\xb9\x99\x99\x99\x99\x99\x9au."
    yield b"\x80\2(}" + text(b"a") + b"\x88s]K\1aN" + text(b"x") + b"M\1\2J\1\2\3\4\x8a\2\1\2(NNt" + tensor(shape=b"K\1K\2\x86", stride=b"K\2K\1\x86") + b"t."


def mutants():
    sources = list(bases())
    for seed in range(COUNT):
        dice = random.Random(seed)
        body = bytearray(sources[seed % len(sources)])
        for _ in range(dice.randrange(1, 3)):
            at, kind = dice.randrange(2, len(body)), dice.randrange(5)
            if kind == 0:
                body[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                body[at] = dice.randrange(256)
            elif kind == 2:
                del body[at]
            elif kind == 3:
                body.insert(at, dice.choice(b"N)]}(tRsuaeq\0h\1K\2.\x85\x86\x88"))
            else:
                body[at:at] = body[at : at + dice.randrange(1, 9)]
        yield pth(bytes(body))


def make(path):
    import torch

    from pth_reader import canonical
    from torch_files import plain
    with open(path, "w") as out:
        for data in mutants():
            try:
                value = torch.load(io.BytesIO(data), weights_only=True)
            except Exception as error:
                # Where a tensor lay (cpu, cuda:0) is nothing to us; torch knows only some places.
                out.write("place\n" if "restore data location" in str(error) else "no\n")
                continue
            try:
                out.write("ok %s\n" % hashlib.sha256((canonical(plain(value)) + "\n").encode()).hexdigest()[:16])
            except Exception:  # torch made something that has no plain form
                out.write("ok -\n")


def check(path, program):
    verdicts = open(path).read().splitlines()
    counts, failures = {"both": 0, "neither": 0, "torch alone": 0}, 0
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "mutant.pth")
        for number, (data, verdict) in enumerate(zip(mutants(), verdicts)):
            open(name, "wb").write(data)
            run = subprocess.run([program, "--print", name], capture_output=True)
            theirs, error = verdict.split()[0] == "ok", run.stderr.decode(errors="replace")
            if run.returncode not in (0, 3):
                print("mutant %d: exit %d %s" % (number, run.returncode, error))
                failures += 1
            elif run.returncode == 0 and verdict not in ("place", "ok " + hashlib.sha256(run.stdout).hexdigest()[:16]):
                print("mutant %d: we read it, torch: %s" % (number, verdict))
                failures += 1
            elif run.returncode and theirs and not any(reason in error for reason in REASONS):
                print("mutant %d: torch reads it, we do not, for no stated reason: %s" % (number, error))
                failures += 1
            counts["both" if run.returncode == 0 else "torch alone" if theirs else "neither"] += 1
    print("%d mutants: %s; %d failures" % (len(verdicts), ", ".join("%s %d" % item for item in counts.items()), failures))
    return failures or len(verdicts) != COUNT


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        sys.exit(1 if check(sys.argv[2], sys.argv[3]) else 0)
