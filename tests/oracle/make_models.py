#!/usr/bin/env python3
"""Writes models.txt: torchvision's ResNets as test_model.c expects them. Needs torchvision.

    arch NAME PARAMETERS MULTIPLY_ADDS     trained parameters; of one 224 x 224 picture, 1000 classes
    ENTRY SHAPE                            every entry of state_dict, in its order; SHAPE is 64x3x7x7
"""
import os

import torch
import torchvision


def multiply_adds(model):
    """Counted where it happens: output elements of convolutions and linear layers times their inner length."""
    total = 0

    def count(module, _, out):
        nonlocal total
        total += out.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224))
    return total


with open(os.path.join(os.path.dirname(__file__), "models.txt"), "w") as out:
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        model = getattr(torchvision.models, name)(weights=None)
        trained = sum(p.numel() for p in model.parameters())
        out.write(f"arch {name} {trained} {multiply_adds(model)}\n")
        for key, value in model.state_dict().items():
            out.write(f"{key} {'x'.join(map(str, value.shape)) or 'scalar'}\n")
