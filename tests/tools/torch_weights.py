"""PyTorch's side of tests/test_torch_weights.sh.

torch_weights.py make FOLDER ARCH CLASSES     weights of torchvision's ARCH, random, saved in every way that people save them: FOLDER/NAME.pth
torch_weights.py random FILE ARCH CLASSES     the same weights, in one file
torch_weights.py logits WEIGHTS TREE OURS NAMES
                                              torchvision's logits of the pictures below TREE (a folder of class folders) against those
                                              that train eval --logits wrote for the pack of it, whose order NAMES has; prints the largest difference
torch_weights.py notebook FILE CLASSES        a checkpoint as the notebook writes it, after some steps of training
torch_weights.py steps FILE CLASSES SIZE      five steps of SGD from FILE, a checkpoint of either side, as test_weights --steps takes them; prints the losses
"""
import argparse
import glob
import os
import struct
import sys
from collections import OrderedDict

import numpy
import torch
import torchvision
from PIL import Image
from torchvision import transforms

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def safetensors(path):
    """A reader of our own: no package needed."""
    import json
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    types = {"F32": numpy.float32, "I64": numpy.int64}
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = numpy.frombuffer(data[8 + length + begin : 8 + length + end], types[entry["dtype"]]).reshape(entry["shape"])
    return out


class Params:
    """The notebook's."""

    def __init__(self):
        self.batch_size = 16
        self.name = "resnet_152_sgd1_local"


def network(arch, classes, seed=1):
    torch.manual_seed(seed)
    model = torchvision.models.get_model(arch, num_classes=classes)
    for module in model.modules():  # statistics that are not those of a fresh network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.2)
            module.bias.data.uniform_(-0.2, 0.2)
    if len(model.layer3) > 6:  # or what the blocks add grows to logits of 1e5
        for module in model.modules():
            if isinstance(module, torchvision.models.resnet.Bottleneck):
                module.bn3.weight.data *= 0.2
    return model


def make(folder, arch, classes):
    model = network(arch, classes)
    state = model.state_dict()
    save = lambda name, value, **options: torch.save(value, os.path.join(folder, name + ".pth"), **options)
    save("plain", state)
    save("protocol_5", state, pickle_protocol=5)
    save("stream_5", {"state_dict": state, "epoch": 7}, pickle_protocol=5, _use_new_zipfile_serialization=False)
    save("stream", state, _use_new_zipfile_serialization=False)
    save("compiled", {"model": OrderedDict(("_orig_mod.module." + k, v) for k, v in state.items())})
    save("nested", {"epoch": 3, "args": argparse.Namespace(lr=0.1), "state_dict": {"model": state}, "rng": {"numpy": numpy.random.RandomState(1).get_state()}})
    save("ema", {"args": argparse.Namespace(), "model_ema": OrderedDict([("n_averaged", torch.tensor(5))] + [("module." + k, v) for k, v in state.items()])})
    save("parameters", OrderedDict((k, torch.nn.Parameter(v) if v.is_floating_point() else v) for k, v in state.items()))
    save("channels_last", model.to(memory_format=torch.channels_last).state_dict())
    save("half", OrderedDict((k, v.half() if v.is_floating_point() else v) for k, v in state.items()))
    save("bfloat", OrderedDict((k, v.bfloat16() if v.is_floating_point() else v) for k, v in state.items()))
    base = torch.cat([v.reshape(-1) for v in state.values() if v.is_floating_point()])
    shared, at = OrderedDict(), 0
    for k, v in state.items():
        shared[k] = v
        if v.is_floating_point():
            shared[k] = base[at : at + v.numel()].reshape(v.shape)
            at += v.numel()
    save("one_storage", shared)
    try:
        from safetensors.torch import save_file
        save_file({k: v.contiguous() for k, v in state.items()}, os.path.join(folder, "plain.safetensors"))
    except ImportError:
        print("no safetensors package: its file is left out")
    # What is refused.
    save("double", OrderedDict((k, v.double() if k == "layer1.0.conv1.weight" else v) for k, v in state.items()))
    state["layer2.0.conv1.weight"].reshape(-1)[5] = float("nan")
    save("nan", state)
    state["layer2.0.conv1.weight"].reshape(-1)[5] = 0
    missing = OrderedDict((k, v) for k, v in state.items() if not k.startswith("layer4.1"))
    missing["head.weight"] = torch.zeros(3)
    missing["fc.weight"] = missing["fc.weight"].T
    save("wrong", missing)


def batch(step, size, classes):
    """The formula of tests/test_weights.c."""
    k, y, x, c = numpy.meshgrid(numpy.arange(8), numpy.arange(size), numpy.arange(size), numpy.arange(3), indexing="ij")
    i = ((k * size + y) * size + x) * 3 + c
    pixels = ((x * x * (k + 1) + y * y * (9 - k) + x * y * c) // 64 % 160 + i * 7919 % 64 + step * 5).astype(numpy.float32) / 255
    pixels = (torch.from_numpy(pixels).permute(0, 3, 1, 2) - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    return pixels, torch.tensor([k % classes for k in range(8)])


def train(model, optimizer, size, classes, steps):
    model.train()
    for step in range(steps):
        pixels, labels = batch(step, size, classes)
        loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def notebook(path, classes):
    torch.manual_seed(2)
    model = torchvision.models.resnet18(num_classes=classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    optimizer.param_groups[0]["lr"] = 0.0001
    list(train(model, optimizer, 96, classes, 3))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict(), "epoch": 3, "params": Params()}, path)


def steps(path, classes, size):
    state = torch.load(path, weights_only=False)
    model = torchvision.models.resnet18(num_classes=classes)
    model.load_state_dict(state["model"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    optimizer.load_state_dict(state["optimizer"])
    optimizer.param_groups[0]["lr"] = 0.0001
    for loss in train(model, optimizer, size, classes, 5):
        print("%.9g" % loss)


def logits(weights, tree, ours, names):
    loaded = torch.load(weights, weights_only=False)
    state = loaded.get("model", loaded)
    classes = state["fc.weight"].shape[0]
    arch = {62: "resnet18", 110: "resnet34", 161: "resnet50", 314: "resnet101", 467: "resnet152"}[sum(1 for k in state if k.endswith(("weight", "bias")))]
    model = torchvision.models.get_model(arch, num_classes=classes)
    model.load_state_dict(state)
    model.eval()
    found = safetensors(ours)
    size = 224
    crop = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(size), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    order = [line.rstrip("\n") for line in open(names)]
    worst, same, scale = 0.0, 0, 0.0
    with torch.no_grad():
        for at in range(0, len(order), 50):
            batch = torch.stack([crop(Image.open(os.path.join(tree, name)).convert("RGB")) for name in order[at : at + 50]])
            theirs = model(batch).numpy()
            mine = found["logits"][at : at + 50]
            worst = max(worst, float(numpy.abs(theirs - mine).max()))
            scale = max(scale, float(numpy.abs(theirs).max()))
            same += int((theirs.argmax(1) == mine.argmax(1)).sum())
    print("%s: %d pictures, logits up to %.2f, largest difference %.2e, top-1 equal for %d" % (arch, len(order), scale, worst, same))
    assert worst < 1e-3 and same == len(order)


def main():
    torch.set_num_threads(2)
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "logits":
        logits(*sys.argv[2:6])
    elif sys.argv[1] == "random":
        torch.save(network(sys.argv[3], int(sys.argv[4])).state_dict(), sys.argv[2])
    elif sys.argv[1] == "notebook":
        notebook(sys.argv[2], int(sys.argv[3]))
    else:
        steps(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    main()
