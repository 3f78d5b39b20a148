"""The other side of each comparison in bench.py: PyTorch, torchvision, Pillow. One measurement a process; one number a line;
of CPU time with BENCH_CPU_TIME in the environment (steps, the worker).

    peers.py step train|eval ARCH f32|bf16 BATCH SIZE CLASSES WARMUP STEPS   milliseconds of each step, then "peak MiB"
    peers.py gpu eager|compile ARCH bf16|fp16 BATCH SIZE CLASSES WARMUP STEPS   the same on a GPU: training, memory of the device
    peers.py pillow PROCESSES SIDE FILE_LIST                                pictures a second: decode, convert("RGB"), resize
    peers.py loader FOLDER SIZE ROUNDS                                      pictures a second of one DataLoader worker
"""
import os
import resource
import sys
import time


def step(mode, arch, precision, batch, size, classes, warmup, steps):
    import torch
    import torchvision

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    net = getattr(torchvision.models, arch)(num_classes=classes).to(memory_format=torch.channels_last)
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, classes, (batch,))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    if mode == "train":
        optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
        loss_of = torch.nn.CrossEntropyLoss()

        def run():
            with autocast:
                loss = loss_of(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    else:
        net.eval()
        with torch.no_grad(), autocast:
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))

        def run():
            with torch.no_grad(), autocast:
                net(x)
    now = time.process_time if "BENCH_CPU_TIME" in os.environ else time.perf_counter
    for i in range(warmup + steps):
        begin = now()
        run()
        if i >= warmup:
            print(f"{(now() - begin) * 1e3:.3f}")
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def gpu(mode, arch, precision, batch, size, classes, warmup, steps):
    import torch
    import torchvision

    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    net = getattr(torchvision.models, arch)(num_classes=classes).cuda().to(memory_format=torch.channels_last)
    x = torch.randn(batch, 3, size, size, device="cuda").contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, classes, (batch,), device="cuda")
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    scaler = torch.amp.GradScaler("cuda", enabled=precision == "fp16")
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9, weight_decay=1e-4)
    loss_of = torch.nn.CrossEntropyLoss()
    model = torch.compile(net) if mode == "compile" else net
    for i in range(warmup + steps):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.autocast("cuda", kind):
            loss = loss_of(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        torch.cuda.synchronize()
        if i >= warmup:
            print(f"{(time.perf_counter() - begin) * 1e3:.3f}")
    print("peak", torch.cuda.max_memory_reserved() >> 20)


def convert(job):
    from PIL import Image

    path, side = job
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    short = min(width, height)
    if short > side:
        picture = picture.resize((max(1, width * side // short), max(1, height * side // short)), Image.BILINEAR)
    return picture.size[0]


def pillow(processes, side, file_list):
    from multiprocessing import Pool

    jobs = [(line.rstrip("\n"), side) for line in open(file_list)]
    with Pool(processes) as pool:
        pool.map(convert, jobs[: 4 * processes])
        begin = time.perf_counter()
        pool.map(convert, jobs, chunksize=16)
        print(f"{len(jobs) / (time.perf_counter() - begin):.1f}")


def loader(folder, size, rounds):
    import torch
    import torchvision
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    transform = v2.Compose([
        v2.PILToTensor(), v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    data = torchvision.datasets.ImageFolder(folder, transform)
    for _ in range(rounds):
        batches = torch.utils.data.DataLoader(data, 32, shuffle=True, num_workers=1, persistent_workers=False)
        begin, count, before = None, 0, resource.getrusage(resource.RUSAGE_CHILDREN)
        for x, _ in batches:
            if begin is None:  # the worker's start does not count
                begin = time.perf_counter()
            else:
                count += len(x)
        rate = count / (time.perf_counter() - begin)
        if "BENCH_CPU_TIME" in os.environ:  # the worker has ended with the last batch
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            rate = len(data) / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{rate:.1f}")


what, arguments = sys.argv[1], [int(a) if a.isdigit() else a for a in sys.argv[2:]]
{"step": step, "gpu": gpu, "pillow": pillow, "loader": loader}[what](*arguments)
