#!/usr/bin/env python3
"""YOLOv5 n, s, m, l, x in plain PyTorch, timed as frost-bench times frost: same shapes, same precision, same pass.

  compare_torch.py --model yolov5s --batch-size 16 --imgsz 640 --precision bf16 --device cuda [--compile] [--train]

The model is written from docs/spec/model.md section 2: channels_last, autocast for 16-bit types, cudnn.benchmark; f16 trains with GradScaler.
The training step is forward, a loss that reads every head value (a mean of squares: the detection loss itself is frost's
own business and costs PyTorch more), backward, clip, fused SGD with Nesterov momentum, average of the weights.
Prints one line of JSON: {"ms": for each image, "images_per_s": ..., "peak_mb": ..., "parameters": ...}, or {"error": ...}.
--check: only builds the models, without timing them, and compares their parameter counts and output shapes.
"""
import argparse
import json
import sys
import time

try:
    import torch
    from torch import nn
except ImportError as error:
    print(json.dumps({"error": f"PyTorch is not installed ({error})"}))
    sys.exit(0)

SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
PARAMETERS = {"n": 1872157, "s": 7235389, "m": 21190557, "l": 46563709, "x": 86749405}  # of 80 classes
OUTPUTS = 3 * 85


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c, shortcut):
        super().__init__()
        self.cv1, self.cv2, self.shortcut = Conv(c, c, 1), Conv(c, c, 3), shortcut

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    def __init__(self, c1, c2, n, shortcut=True):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, half), Conv(c1, half), Conv(2 * half, c2)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    def __init__(self, c, k=5):
        super().__init__()
        self.cv1, self.cv2, self.pool = Conv(c, c // 2), Conv(2 * c, c), nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x):
        x = self.cv1(x)
        a = self.pool(x)
        b = self.pool(a)
        return self.cv2(torch.cat((x, a, b, self.pool(b)), 1))


class YOLOv5(nn.Module):
    """Layers 0 to 24 of docs/spec/model.md section 2; returns the three raw head maps."""

    def __init__(self, size):
        super().__init__()
        depth, width = SIZES[size]
        c = lambda channels: -int(-channels * width // 8) * 8
        n = lambda count: max(round(count * depth), 1)
        self.layers = nn.ModuleList([
            Conv(3, c(64), 6, 2, 2), Conv(c(64), c(128), 3, 2), C3(c(128), c(128), n(3)),
            Conv(c(128), c(256), 3, 2), C3(c(256), c(256), n(6)), Conv(c(256), c(512), 3, 2), C3(c(512), c(512), n(9)),
            Conv(c(512), c(1024), 3, 2), C3(c(1024), c(1024), n(3)), SPPF(c(1024)),
            Conv(c(1024), c(512)), nn.Upsample(scale_factor=2), nn.Identity(), C3(c(1024), c(512), n(3), False),
            Conv(c(512), c(256)), nn.Upsample(scale_factor=2), nn.Identity(), C3(c(512), c(256), n(3), False),
            Conv(c(256), c(256), 3, 2), nn.Identity(), C3(c(512), c(512), n(3), False),
            Conv(c(512), c(512), 3, 2), nn.Identity(), C3(c(1024), c(1024), n(3), False)])
        self.heads = nn.ModuleList(nn.Conv2d(c(k), OUTPUTS, 1) for k in (256, 512, 1024))

    def forward(self, x):
        kept = {}
        joins = {12: 6, 16: 4, 19: 14, 22: 10}
        for i, layer in enumerate(self.layers):
            x = torch.cat((x, kept[joins[i]]), 1) if i in joins else layer(x)
            if i in (4, 6, 10, 14, 17, 20, 23):
                kept[i] = x
        return [head(kept[i]) for head, i in zip(self.heads, (17, 20, 23))]


def check():
    for size, expected in PARAMETERS.items():
        model = YOLOv5(size)
        count = sum(p.numel() for p in model.parameters())
        assert count == expected, f"yolov5{size}: {count} parameters instead of {expected}"
        if size in "ns":
            shapes = [tuple(y.shape) for y in model(torch.zeros(2, 3, 64, 96))]
            assert shapes == [(2, 255, 8, 12), (2, 255, 4, 6), (2, 255, 2, 3)], shapes
    print("compare_torch: 5 models, parameters and shapes as they should be")


def measure(args):
    name = f"cuda:{args.device}" if args.device.isdigit() else args.device
    cuda = name.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # as frost
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[args.precision]
    device = torch.device(name)
    net = YOLOv5(args.model.removeprefix("yolov5")).to(device).to(memory_format=torch.channels_last)
    parameters = sum(p.numel() for p in net.parameters())
    x = torch.rand(args.batch_size, 3, args.imgsz, args.imgsz, device=device).to(memory_format=torch.channels_last)
    run = torch.compile(net) if args.compile else net
    mixed = lambda: torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
    if args.train:
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), 1e-4, 0.937, nesterov=True, weight_decay=5e-4, fused=cuda)
        scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        average = [p.detach().clone() for p in net.parameters()]

        def step():
            with mixed():
                loss = sum(y.float().square().mean() for y in run(x))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 1e-4)
    else:
        net.eval()
        if dtype != torch.float32 and cuda:
            net.to(dtype)
            x = x.to(dtype)

        def step():
            with torch.inference_mode():
                run(x)

    wait = torch.cuda.synchronize if cuda else lambda: None
    for _ in range(3):
        step()
    wait()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    best = float("inf")
    for _ in range(args.repeats):
        start = time.perf_counter()
        step()
        wait()
        best = min(best, time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0
    return {"ms": 1000 * best / args.batch_size, "images_per_s": args.batch_size / best, "peak_mb": peak,
            "parameters": parameters, "torch": torch.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov5s")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16", "f16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.check:
        return check()
    try:
        result = measure(args)
    except (RuntimeError, KeyError) as error:
        result = {"error": str(error).splitlines()[0]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
