"""onnx_check.py ARCH CLASSES STATE.pth PLAIN.onnx PREPROCESSING.onnx: onnx's checker takes both files, and onnxruntime's logits are torchvision's for one picture
and for three. Needs onnx, onnxruntime, torch, torchvision."""
import sys

import numpy
import onnx
import onnxruntime
import torch
import torchvision

torch.set_num_threads(2)
arch, classes, state, plain, whole = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
for path in plain, whole:
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    assert file.opset_import[0].version == 17, file.opset_import
model = torchvision.models.get_model(arch, num_classes=classes)
model.load_state_dict(torch.load(state))
model.eval()
mean, std = numpy.array([0.485, 0.456, 0.406], numpy.float32), numpy.array([0.229, 0.224, 0.225], numpy.float32)
sessions = onnxruntime.InferenceSession(plain), onnxruntime.InferenceSession(whole)
size = sessions[0].get_inputs()[0].shape[2]
for count in 1, 3:
    pixels = numpy.random.RandomState(count).randint(0, 256, (count, size, size, 3)).astype(numpy.uint8)
    pictures = numpy.ascontiguousarray(((pixels.astype(numpy.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))
    with torch.no_grad():
        wanted = model(torch.from_numpy(pictures)).numpy()
    worst = max(abs(wanted - sessions[0].run(["logits"], {"pictures": pictures})[0]).max(), abs(wanted - sessions[1].run(["logits"], {"pixels": pixels})[0]).max())
    print("%s, %d pictures: largest difference %.2e" % (arch, count, worst))
    assert worst < 1e-4
