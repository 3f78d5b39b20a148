"""PyTorch's side of tests/test_torch.sh: torch_files.py FOLDER, where the script has put files of ours.

    FOLDER/*.pth                    torch.load finds in them what pth_reader.py finds
    FOLDER/run-ARCH-CLASSES-MODE/   a checkpoint of test_checkpoint --write loads into torchvision's model, SGD and its scheduler, holds
                                    the formula's values, training goes on, and again.pth is PyTorch's own copy of it
    FOLDER/theirs/                  is filled: NAME.pth saved in many ways, and what test_pth --print is to print (NAME.txt) or a part of the
                                    error that it is to give (NAME.error)
"""
import argparse
import glob
import os
import sys
from collections import OrderedDict

import torch

from pth_reader import Tensor, canonical, read

TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32", torch.uint8: "u8"}


def plain(value):
    """PyTorch's objects as pth_reader.py has them."""
    if isinstance(value, torch.Tensor):
        flat = torch.empty(value.numel(), dtype=value.dtype).copy_(value.detach().reshape(-1))
        data = bytes(flat.view(torch.uint8).numpy()) if value.numel() else b""
        return Tensor(TYPES[value.dtype], tuple(value.shape), data)
    if isinstance(value, OrderedDict):
        return OrderedDict((key, plain(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def own(path):
    for loaded in torch.load(path), torch.load(path, mmap=True):
        assert canonical(plain(loaded)) == canonical(read(path)), path


def make(folder):
    def save(name, value, error=None, **options):
        torch.save(value, os.path.join(folder, name + ".pth"), **options)
        with open(os.path.join(folder, name + (".error" if error else ".txt")), "w") as out:
            out.write((error or canonical(plain(value))) + "\n")

    torch.manual_seed(1)
    block = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30)
    block(torch.randn(2, 3, 5, 6)).sum().backward()
    optimizer.step()
    scheduler.step()
    state = {"model": block.state_dict(), "optimizer": optimizer.state_dict(), "lr_scheduler": scheduler.state_dict(),
             "epoch": 3, "params": {"name": "n", "lr": 0.1, "list": [1, -2, 2**40, None, True, ("a", ())], "long": -(2**63)}}
    for protocol in 2, 3, 4, 5:
        save("checkpoint_%d" % protocol, state, pickle_protocol=protocol)
    save("state_dict", block.state_dict())
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    for protocol in 2, 5:
        save("views_%d" % protocol, {
            "transposed": base.permute(2, 0, 1), "part": base[1, 1:, ::2], "row": base[1], "scalar": base[1, 2, 3],
            "expanded": torch.tensor([1.5]).expand(3, 2), "empty": torch.zeros(0, 3), "channels last":
            torch.arange(16.0).reshape(1, 2, 2, 4).contiguous(memory_format=torch.channels_last)}, pickle_protocol=protocol)
    save("types", [torch.arange(-3, 4).to(dtype) for dtype in TYPES])
    save("parameter", {"p": torch.nn.Parameter(torch.ones(2, 2)), "q": torch.nn.Parameter(torch.ones(1), requires_grad=False)})
    shared = torch.ones(3)
    save("shared", {"a": shared, "b": shared, "c": shared[1:], "l": [[1, 2]] * 3})
    save("texts", {"Zürich ☃ 🐧": "x" * 300, 0: "", -1: [""], "z\0ero": "a\nb"})
    save("numbers", [0.1, -0.0, float("inf"), float("nan"), 5e-324, 255, 256, 65535, 65536, -1, 2**31, -(2**31) - 1, 2**63 - 1])
    save("many", {"key %d" % i: [i, "value %d" % (i % 700)] for i in range(3000)})
    save("name with ünicode", {"a": torch.ones(1)})

    save("namespace", {"args": argparse.Namespace(lr=0.1), "model": block.state_dict()}, "argparse.Namespace is not among")
    save("double", {"a": torch.ones(1, dtype=torch.float64)}, "torch.DoubleStorage is not among")
    save("module", block, "torch.nn.modules.container.Sequential is not among")
    save("bytes", {"a": b"x"}, "_codecs.encode is not among")
    save("set", {"a": {1, 2}}, "is not among")
    save("huge", {"a": 2**70}, "an integer of 9 bytes")
    save("legacy", block.state_dict(), "from before version 1.6", _use_new_zipfile_serialization=False)
    save("expanded", {"a": torch.ones(1).expand(1000000)}, "more than 4 times the file's size")
    torch.jit.script(torch.nn.Linear(2, 2)).save(os.path.join(folder, "script.pth"))
    with open(os.path.join(folder, "script.error"), "w") as out:
        out.write("\n")


def formula(count, number):
    """As test_checkpoint.c's."""
    index = (torch.arange(count, dtype=torch.int64) * 7 + number * 13) % 101
    return (index.to(torch.float64) / 101 - 0.5).to(torch.float32)


def run(folder, arch, class_count, mode):
    import torchvision
    state = torch.load(os.path.join(folder, "checkpoint.pth"))
    torch.save(state, os.path.join(folder, "again.pth"))
    network = torchvision.models.get_model(arch, num_classes=class_count)
    fresh = network.state_dict()
    assert list(state["model"]) == list(fresh), "the order of the state dict's keys"
    assert all(value.dtype == fresh[key].dtype for key, value in state["model"].items())
    assert network.load_state_dict(state["model"]).missing_keys == []
    parameters = list(network.named_parameters())
    statistics = [(name, buffer) for name, buffer in network.named_buffers() if "num_batches" not in name]
    for number, (name, value) in enumerate(parameters + statistics):
        wanted = formula(value.numel(), number) + (1 if "running_var" in name else 0)
        assert torch.equal(value.detach().reshape(-1), wanted), name
    groups = [{"params": network.parameters()}]
    if mode == "no-decay":
        groups = [{"params": [p for p in network.parameters() if p.ndim > 1]},
                  {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0}]
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.1, weight_decay=1e-4)
    optimizer.load_state_dict(state["optimizer"])
    for number, (name, value) in enumerate(parameters):
        buffer = optimizer.state[value]["momentum_buffer"]
        assert torch.equal(buffer.reshape(-1), formula(value.numel(), number) / 2), "momentum of " + name
    kind = torch.optim.lr_scheduler.CosineAnnealingLR if mode == "cosine" else torch.optim.lr_scheduler.StepLR
    scheduler = kind(optimizer, 90)
    scheduler.load_state_dict(state["lr_scheduler"])
    optimizer.load_state_dict(state["optimizer"])
    rate = scheduler.get_last_lr()[0]
    assert rate == optimizer.param_groups[0]["lr"] == (0.075 if mode == "cosine" else 0.01), rate
    assert optimizer.param_groups[0]["momentum"] == 0.9 and optimizer.param_groups[-1]["weight_decay"] == (0 if mode == "no-decay" else 1e-4)

    # One step as PyTorch makes it from here.
    name, value = next((n, p) for n, p in parameters if n == "fc.weight")
    before, buffer = value.detach().clone(), optimizer.state[value]["momentum_buffer"].clone()
    loss = torch.nn.functional.cross_entropy(network(torch.ones(2, 3, 64, 64) * torch.tensor([0.5, -0.5]).reshape(2, 1, 1, 1)), torch.tensor([0, 1]))
    loss.backward()
    gradient = value.grad + 1e-4 * before
    optimizer.step()
    scheduler.step()
    torch.testing.assert_close(value.detach(), before - rate * (0.9 * buffer + gradient), rtol=1e-6, atol=1e-7)
    assert set(type(p) for p in state["params"].values()) == {str}

    # The model's file holds the same model. (The loaded state shares its tensors with what was trained.)
    state = torch.load(os.path.join(folder, "checkpoint.pth"))
    model = torch.load(os.path.join(folder, "model_2.pth"))
    assert model["epoch"] == 2 == state["epoch"] and all(torch.equal(value, state["model"][key]) for key, value in model["model"].items())
    assert "optimizer" not in model


def main():
    torch.set_num_threads(1)
    folder = sys.argv[1]
    for path in glob.glob(os.path.join(folder, "*.pth")):
        own(path)
    for path in glob.glob(os.path.join(folder, "run-*")):
        _, arch, class_count, mode = os.path.basename(path).split("-", 3)
        run(path, arch, int(class_count), mode)
    make(os.path.join(folder, "theirs"))


if __name__ == "__main__":
    main()
