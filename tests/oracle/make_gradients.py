#!/usr/bin/env python3
"""Writes gradients.txt: what PyTorch computes in float64 for networks, pictures and labels made by a formula that
test_gradients.c computes to the same bits. Needs torch and torchvision.

The formula: number(stream, i) is an integer hash of the two, as a multiple of 2^-23 in [-1, 1).

    network NAME CLASSES BATCH SIZE   one training pass: forward, loss (label smoothing 0.1), backward
    shift NAME CHANNEL:K ...          before it: K / 128 was added to elements of a beta (see clear_kinks)
    loss X TOP1 TOP5
    logits X ...                      of the first two pictures
    gradient NAME NORM MEAN DOT A B C of each parameter: 2-norm, mean of absolute values, dot product with the
                                      numbers of stream 2000 + its position, three elements at hashed places
    statistic NAME NORM DOT           of each running mean and variance after that pass; stream 4000 + position
    evaluation LOSS X ...             then with running statistics: loss, logits of the first two pictures
    steps NAME CLASSES BATCH SIZE LR K    10 steps of SGD (momentum 0.9, weight decay 1e-4) over K batches in turn
    losses X ...                      before each of them, and after the last

ResNet-18 stays together over other batches; in the deep ones float32 alone (PyTorch's too) drifts off by percents
there, so that they take one batch, which they learn.
"""
import os

import numpy
import torch
import torchvision

SMOOTHING = 0.1
MARGIN = 3e-4


def hashed(stream, indices):
    """32 bits for (stream, index): the finaliser "lowbias32" over both."""
    x = (indices.astype(numpy.uint64) + numpy.uint64(stream) * numpy.uint64(0x9E3779B9)).astype(numpy.uint32)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x7FEB352D)
    x ^= x >> numpy.uint32(15)
    x *= numpy.uint32(0x846CA68B)
    x ^= x >> numpy.uint32(16)
    return x


def numbers(stream, count):
    return (hashed(stream, numpy.arange(count)) >> numpy.uint32(8)).astype(numpy.float64) * 2.0**-23 - 1.0


def first_values(arch, position, name, shape):
    """Parameter number POSITION of ARCH, as float32. Blocks begin near the identity, which keeps the gradients of 152
    layers in one range."""
    count = int(numpy.prod(shape))
    x = numbers(position, count)
    last = name.startswith("layer") and (".bn2." if arch in ("resnet18", "resnet34") else ".bn3.") in name
    if len(shape) == 4:
        x = x * numpy.sqrt(6.0 / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2:
        x = x / numpy.sqrt(float(shape[1]))
    elif name.endswith("weight"):
        x = (0.125 if last else 0.75) * (1.0 + 0.25 * x)
    else:
        x = 0.125 * x
    return x.astype(numpy.float32).reshape(shape)


def batch(number, classes, n, size):
    """Blocks of 4 x 4 pixels of one colour, n x size x size x 3 bytes; normalised as float32. Labels."""
    blocks = size // 4
    colours = hashed(10000 + number, numpy.arange(n * blocks * blocks * 3)) >> numpy.uint32(24)
    pixels = colours.reshape(n, blocks, blocks, 3).repeat(4, 1).repeat(4, 2).astype(numpy.float64)
    mean, deviation = numpy.array([0.485, 0.456, 0.406]), numpy.array([0.229, 0.224, 0.225])
    x = ((pixels / 255.0 - mean) / deviation).astype(numpy.float32)
    labels = hashed(20000 + number, numpy.arange(n)) % numpy.uint32(classes)
    return (torch.from_numpy(x.transpose(0, 3, 1, 2).astype(numpy.float64)),
            torch.from_numpy(labels.astype(numpy.int64)))


def network(name, classes):
    model = getattr(torchvision.models, name)(weights=None, num_classes=classes).double()
    with torch.no_grad():
        for position, (key, parameter) in enumerate(model.named_parameters()):
            values = first_values(name, position, key, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values.astype(numpy.float64)))
    return model


def clear_kinks(model, x):
    """Shift betas, channel by channel, until no ReLU of a training pass over X has an input nearer to 0 than MARGIN:
    otherwise rounding to f32 turns some of the seven million over, and each changes gradients by a percent. Returns
    {name of beta: {channel: shift in 1/128}}."""
    shifts = {}
    norms = dict(model.named_modules())
    calls = {}

    def before_relu(prefix, arguments):
        calls[prefix] = calls.get(prefix, 0) + 1
        name = f"{prefix}bn{calls[prefix]}"
        z, = arguments
        beta = norms[name].bias
        moved = {}
        for channel in (z.abs().amin(dim=(0, 2, 3)) < MARGIN).nonzero().flatten().tolist():
            old = beta[channel].item()
            for k in range(1, 1000):
                new = float(numpy.float32(old + k / 128))
                if (z[:, channel] + (new - old)).abs().min() >= MARGIN:
                    break
            beta[channel] = new
            z[:, channel] += new - old
            moved[channel] = k
        if moved:
            shifts[name + ".bias"] = moved

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, z, prefix=name[:-len("relu")]: before_relu(prefix, z))
    state = {k: v.clone() for k, v in model.named_buffers()}
    with torch.no_grad():
        model.train()(x)
    for key, value in model.named_buffers():
        value.copy_(state[key])
    for module in model.modules():
        module._forward_pre_hooks.clear()
    return shifts


def text(values):
    return " ".join(f"{float(v):.9e}" for v in values)


def loss_of(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=SMOOTHING)


def write_gradients(out, name, classes, n, size):
    model = network(name, classes).train()
    x, labels = batch(0, classes, n, size)
    shifts = clear_kinks(model, x)
    logits = model(x)
    loss = loss_of(logits, labels)
    loss.backward()
    order = logits.detach().argsort(dim=1, descending=True)
    hits = [int((order[:, :k] == labels[:, None]).any(1).sum()) for k in (1, 5)]
    out.write(f"network {name} {classes} {n} {size}\n")
    for key, moved in shifts.items():
        out.write(f"shift {key} {' '.join(f'{channel}:{k}' for channel, k in moved.items())}\n")
    out.write(f"loss {text([loss.item()])} {hits[0]} {hits[1]}\nlogits {text(logits[:2].detach().flatten())}\n")
    for position, (key, parameter) in enumerate(model.named_parameters()):
        g = parameter.grad.numpy().flatten()
        places = hashed(3000 + position, numpy.arange(3)) % numpy.uint32(g.size)
        row = [numpy.sqrt((g * g).sum()), numpy.abs(g).mean(), (g * numbers(2000 + position, g.size)).sum()]
        out.write(f"gradient {key} {text(row)} {text(g[places])}\n")
    statistics = [(k, b) for k, b in model.named_buffers() if "running" in k]
    for position, (key, buffer) in enumerate(statistics):
        b = buffer.numpy()
        row = [numpy.sqrt((b * b).sum()), (b * numbers(4000 + position, b.size)).sum()]
        out.write(f"statistic {key} {text(row)}\n")
    with torch.no_grad():
        logits = model.eval()(x)
    out.write(f"evaluation {text([loss_of(logits, labels)])} {text(logits[:2].flatten())}\n")


def write_steps(out, name, classes, n, size, lr, batches):
    model = network(name, classes).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(11):
        x, labels = batch(step % batches, classes, n, size)
        optimizer.zero_grad()
        loss = loss_of(model(x), labels)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    out.write(f"steps {name} {classes} {n} {size} {lr} {batches}\nlosses {text(losses)}\n")


torch.manual_seed(0)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gradients.txt"), "w") as file:
    write_gradients(file, "resnet18", 10, 4, 64)
    write_gradients(file, "resnet152", 10, 4, 64)
    write_steps(file, "resnet18", 10, 4, 64, 0.01, 11)
    write_steps(file, "resnet34", 10, 4, 64, 0.01, 1)
    # Deep networks without a warm-up are chaotic: at a higher rate PyTorch's own f32 leaves its float64, too.
    for arch, lr in (("resnet50", 0.003), ("resnet101", 0.0002), ("resnet152", 0.0002)):
        write_steps(file, arch, 10, 4, 64, lr, 1)
