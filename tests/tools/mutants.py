"""A thousand mutants of small checkpoints: what torch.load (weights_only) says of each, against what we say.

mutants.py make ORACLE            asks torch (development): a line for each mutant, "ok HASH" or "no"
mutants.py check ORACLE TEST_PTH  runs test_pth --print on each mutant; no torch needed

The archives are whole and their CRCs are right: what is mutated is the pickle. The rule: what we accept torch accepts too, with the same value, and what torch
accepts we refuse only for one of REASONS, which are counted. A refusal for another reason is a failure, and so is a reason that no mutant needs.
"""
import hashlib
import io
import os
import pickletools
import random
import re
import struct
import subprocess
import sys
import tempfile

from hostile import pth, state, tensor, text

COUNT = 1000
# Why we refuse what torch reads: a name, and what our message says.
REASONS = [
    # torch takes anything for requires_grad and the hooks; torch.save writes a bool and an empty dictionary.
    ("requires_grad or hooks of another type", "with arguments that make no plain tensor "),
    # torch reads the entry whatever count the pickle gives; a tensor could reach behind its storage's count.
    ("a storage's count is not its entry's", r"data/\d+ has \d+ bytes, not \d+ elements of \d+ bytes$"),
    # torch looks at nothing behind the first STOP: what stands there would be hidden from it.
    ("bytes behind STOP", r" \d+ bytes? behind STOP$"),
    # torch unpacks any sequence as a call's arguments; pickle writes tuples only.
    ("a call's arguments in a list", r"REDUCE of something that is not a known global and a tuple$"),
    # torch's memo is a dictionary: it takes any index. Ours has a bound, as numbers are given from 0 up.
    ("a memo index beyond the bound", r"memo index \d+$"),
]


def bases():
    yield state()
    yield b"\x80\2}q\0(" + text(b"model") + b"ccollections\nOrderedDict\nq\1)Rq\2(" + text(b"w") + b"q\3" + tensor() + b"q\4" + text(b"b") + tensor(offset=b"K\1", shape=b"K\1\x85") + b"u" + text(b"epoch") + b"K\3" + text(b"lr") + b"G?\xb9\x99\x99\x99\x99\x99\x9au."
    yield b"\x80\2}q\0" + text(b"model") + b"ccollections\nOrderedDict\nq\1)Rq\2" + text(b"w") + tensor(rest=b"\x89h\1)R") + b"s}" + text(b"_metadata") + b"h\1)Rsbs."
    yield b"\x80\2(}" + text(b"a") + b"\x88s]K\1aN" + text(b"x") + b"M\1\2J\1\2\3\4\x8a\2\1\2(NNt" + tensor(shape=b"K\1K\2\x86", stride=b"K\2K\1\x86") + b"t."


CONSTANTS = b"N\x88\x89})]"
GLOBALS = [b"torch\nFloatStorage\n", b"torch\nHalfStorage\n", b"torch\nLongStorage\n", b"collections\nOrderedDict\n", b"torch._utils\n_rebuild_parameter\n", b"torch\nfloat32\n"]


def gently(body, dice):
    """Another value in place of one: what comes out is mostly a whole pickle."""
    places = [(op.name, argument, at) for op, argument, at in pickletools.genops(bytes(body)) if argument is not None or op.code.encode("latin-1") in CONSTANTS]
    name, argument, at = dice.choice(places[1:])  # behind PROTO
    if name == "BINUNICODE" and argument:
        body[at + 5 + dice.randrange(len(argument))] = dice.choice(b"abcdefghijklmnopqrstuvwxyz01")
    elif name == "GLOBAL":
        body[at + 1 : at + 2 + len(argument)] = dice.choice(GLOBALS)
    elif name == "BINFLOAT":
        body[at + 1 : at + 9] = struct.pack(">d", dice.choice([0, -0.0, 1e300, -2.5, float("inf"), float("nan")]))
    elif name in ("BININT1", "BINPUT", "BINGET"):
        body[at + 1] = dice.randrange(5)
    elif name in ("BININT2", "BININT", "LONG1"):
        body[at + (2 if name == "LONG1" else 1)] = dice.randrange(256)
    elif argument is None:
        body[at] = dice.choice(CONSTANTS)


def roughly(body, dice):
    """Bytes changed, taken out, put in, repeated: what comes out is mostly no pickle."""
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


def mutants():
    sources = list(bases())
    for seed in range(COUNT):
        dice = random.Random(seed)
        body = bytearray(sources[seed % len(sources)])
        (gently if seed % 2 else roughly)(body, dice)
        yield pth(bytes(body))


def make(path):
    import torch

    from pth_reader import canonical
    from torch_files import plain
    with open(path, "w") as out:
        for data in mutants():
            try:  # where a tensor lay (cpu, cuda:0) is nothing to us
                value = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            except Exception:
                out.write("no\n")
                continue
            try:
                out.write("ok %s\n" % hashlib.sha256((canonical(plain(value)) + "\n").encode()).hexdigest()[:16])
            except Exception:  # torch made something that has no plain form
                out.write("ok -\n")


def reason_of(error):
    return next((name for name, pattern in REASONS if re.search(pattern, error)), None)


def check(path, program):
    verdicts = open(path).read().splitlines()
    counts = dict.fromkeys(["both read it, to the same value", "both refuse it"] + [name for name, _ in REASONS], 0)
    failures = 0 if len(verdicts) == COUNT else 1
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "mutant.pth")
        for number, (data, verdict) in enumerate(zip(mutants(), verdicts)):
            with open(name, "wb") as out:
                out.write(data)
            run = subprocess.run([program, "--print", name], capture_output=True)
            error = run.stderr.decode(errors="replace").strip()
            ours = "ok " + hashlib.sha256(run.stdout).hexdigest()[:16] if run.returncode == 0 else "no" if run.returncode == 3 else "exit %d" % run.returncode
            kind = "both refuse it" if ours == "no" else "both read it, to the same value"
            if ours != verdict:
                kind = reason_of(error) if ours == "no" else None
            if kind:
                counts[kind] += 1
            else:
                print("mutant %d: torch says %s, we %s %s" % (number, verdict, ours, error))
                failures += 1
    for kind, count in counts.items():
        print("%5d  %s" % (count, kind))
        failures += count == 0
    print("%d mutants: %d failures" % (len(verdicts), failures))
    return failures


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        sys.exit(1 if check(sys.argv[2], sys.argv[3]) else 0)
