"""Logits of train eval against torchvision's, in f32, on every picture of fullsize/ and imagenette-160/val/: for random weights of 1,000 classes and for a
network that train has trained here. By hand: it takes minutes to an hour.

logits_table.py [--every N] BUILD DATA [ARCH ...]     prints a row as soon as it is known; resnet18, resnet50 and resnet152 where no ARCH is given;
                                                      of imagenette-160 only each N-th picture of a class

Both sides read the JPEG files themselves: ours through prep pack, theirs through Pillow, Resize(256) and CenterCrop(224). A picture is a tie where our best two
classes are nearer to each other than the largest difference allowed: which of them is first is then chance.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

import numpy
import torch
import torchvision
from PIL import Image
from torchvision import transforms

import torch_weights

LIMIT = 1e-3
# Enough for running statistics that are real ones, and for ResNet-18 to learn something. Without --zero-gamma so few steps leave logits of 1e5 and more.
TRAINING = {"resnet18": ["--image-size", "128", "--max-steps", "100"], "resnet50": ["--image-size", "96", "--max-steps", "20", "--zero-gamma"],
            "resnet152": ["--image-size", "64", "--max-steps", "10", "--zero-gamma"]}


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit("%s %s: exit %d\n%s" % (program, " ".join(arguments), done.returncode, done.stderr))
    return done.stdout


def make_tree(data, tree, every):
    """The pictures of both folders below ten WNIDs that every network here knows. Labels do not matter."""
    for folder, _, names in os.walk(os.path.join(data, "imagenette-160", "val")):
        if names:
            os.makedirs(os.path.join(tree, os.path.basename(folder)))
        for name in sorted(names)[::every]:
            shutil.copy(os.path.join(folder, name), os.path.join(tree, os.path.basename(folder), name))
    first = os.path.join(tree, sorted(os.listdir(tree))[0])
    for folder, _, names in os.walk(os.path.join(data, "fullsize")):
        for name in names:
            shutil.copy(os.path.join(folder, name), os.path.join(first, "fullsize-" + name))


def records(build, folder, count):
    """Names of a data set's pictures, in its order."""
    for number in range(count):
        lines = run(os.path.join(build, "prep"), "show", folder, str(number)).splitlines()
        yield next(line.split(None, 1)[1] for line in lines if line.startswith("key "))


def theirs(path, arch, pixels, mean, std):
    state = torch.load(path)
    state = state.get("model", state)
    model = torchvision.models.get_model(arch, num_classes=state["fc.weight"].shape[0])
    model.load_state_dict(state)
    model.eval()
    out = []
    with torch.inference_mode():
        for at in range(0, len(pixels), 32):
            out.append(model((pixels[at : at + 32].float() / 255 - mean) / std).numpy())
    return numpy.concatenate(out)


def compare(what, ours, theirs, chosen):
    ours, theirs = ours[chosen], theirs[chosen]
    best = numpy.sort(ours, axis=1)
    ties = int((best[:, -1] - best[:, -2] < LIMIT).sum())
    worst, equal = float(numpy.abs(ours - theirs).max()), int((ours.argmax(1) == theirs.argmax(1)).sum())
    print("| %s | %d | %.2f | %.2e | %d of %d | %d |" % (what, len(ours), float(numpy.abs(theirs).max()), worst, equal, len(ours), ties), flush=True)
    return worst < LIMIT and equal >= len(ours) - ties


def weights(build, data, arch, work):
    """Of each kind: its name and its file."""
    path = os.path.join(work, arch + ".pth")
    torch.save(torch_weights.network(arch, 1000).state_dict(), path)
    yield "random", path
    if not os.path.exists("train.lmdb"):
        run(os.path.join(build, "prep"), "pack", os.path.join(data, "imagenette-160", "train"), "train.lmdb")
    run(os.path.join(build, "train"), "--db", "train.lmdb", "--arch", arch, "--batch-size", "16", "--lr", "0.01", "--device", "cpu", "--name", arch,
        "--no-first-validation", *TRAINING[arch])
    yield "trained here", os.path.join("checkpoints", arch, "checkpoint.pth")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("data")
    parser.add_argument("arch", nargs="*", default=["resnet18", "resnet50", "resnet152"])
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    build, data = os.path.realpath(options.build), os.path.realpath(options.data)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (torch_weights.MEAN, torch_weights.STD))
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    good = True
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        make_tree(data, "tree", options.every)
        run(os.path.join(build, "prep"), "pack", "tree", "all.lmdb")
        count = sum(len(names) for _, _, names in os.walk("tree"))
        names = list(records(build, "all.lmdb", count))
        pixels = torch.stack([crop(Image.open(os.path.join("tree", name)).convert("RGB")) for name in names])
        full = numpy.array(["/fullsize-" in name for name in names])
        print("| network | pictures | largest logit | largest difference | top-1 equal | ties |\n|---|---|---|---|---|---|", flush=True)
        for arch in options.arch:
            for kind, path in weights(build, data, arch, work):
                run(os.path.join(build, "train"), "eval", "--weights", path, "--val", "all.lmdb", "--logits", "out.safetensors", "--all-logits",
                    "--image-size", "224", "--batch-size", "32", "--device", "cpu", "--precision", "f32")
                ours, others = torch_weights.safetensors("out.safetensors")["logits"], theirs(path, arch, pixels, mean, std)
                good &= compare("%s, %s, fullsize" % (arch, kind), ours, others, full)
                good &= compare("%s, %s, imagenette-160" % (arch, kind), ours, others, ~full)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
