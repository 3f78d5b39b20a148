"""torchvision's evaluation of our model file on the same pictures, against what our run wrote.

    torch_evaluation.py MODEL.pth ARCH FOLDER SIZE METRICS.jsonl   exit 1 where the loss differs by more than 0.2 %, or a hit
"""
import json
import os
import sys

import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

path, arch, folder, size, metrics = sys.argv[1:6]
size = int(size)
state = torch.load(path)
state = state.get("model", state)
net = getattr(torchvision.models, arch)(num_classes=state["fc.bias"].numel())
net.load_state_dict(state)
net.eval()
# As the pictures were packed, then as they are validated.
transform = v2.Compose([
    v2.Resize(size * 8 // 7), v2.CenterCrop(size), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
loss = top1 = count = 0
with torch.no_grad():
    for label, name in enumerate(sorted(os.listdir(folder))):
        x = torch.stack([transform(Image.open(os.path.join(folder, name, file)).convert("RGB"))
                         for file in sorted(os.listdir(os.path.join(folder, name)))])
        logits = net(x)
        y = torch.full((len(x),), label)
        loss += torch.nn.functional.cross_entropy(logits, y, reduction="sum").item()
        top1 += (logits.argmax(1) == y).sum().item()
        count += len(x)
ours = [line for line in map(json.loads, open(metrics)) if line["split"] == "val"][-1]
loss, top1 = loss / count, 100 * top1 / count
print(f"loss {ours['loss']:.5f} (torchvision {loss:.5f}), top-1 {ours['top1']:.2f} % ({top1:.2f} %) of {count} pictures")
sys.exit(count != ours["images"] or abs(ours["loss"] - loss) > 2e-3 * loss or abs(ours["top1"] - top1) > 100.1 / count)
