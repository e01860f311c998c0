"""Train the published networks on one core by hwtune's loop and by the usual one, images a second.

The usual loop is that of PyTorch's own MNIST example: the same network as one writes it, in
float32, a TensorDataset, a DataLoader, a Python step. Every figure comes from a process of its own,
the ways taking turns; medians over the repetitions, of which each is compared with itself. Writes
results/bench/engine.json and .md, on a CPU with AMX engine-amx, on one without bfloat16, where
hwtune shall be no slower than the usual loop, engine-float32:

    python -m scripts.bench.engine
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from functools import partial
from operator import truediv
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hwtune.config import TrialConfig
from hwtune.data.splits import Part
from hwtune.hardware import cpu_flags, hardware
from hwtune.space import load_space
from scripts.bench.outcome import in_process, of_processor, publish, table

if TYPE_CHECKING:
    from torch import nn

    from hwtune.training.device import Fast

MODULE = "scripts.bench.engine"  # this one
SECONDS = 5.0  # of training that is measured, at least
WARM_UP = 2.0
WAYS = ("usual", "hwtune", "hwtune in float32")
BF16 = "avx512_bf16" in cpu_flags()


class Network(NamedTuple):
    """A published network: where its configuration stands, its data, and what is aimed at."""

    title: str
    space: str
    baseline: str
    classes: int
    side: int
    batches: int  # of an epoch here
    target: float  # times as fast as the usual loop
    share: float  # of the core's peak, 0 for none


NETWORKS = (
    Network("S0 oafarih", "chinese_cnn", "oafarih", 15, 64, 20, 5.0, 0.5),
    Network("S2a lazhili8_cnn", "chinese_cnn", "lazhili8_cnn", 15, 64, 40, 2.5, 0.0),
    Network("S4 ahed9x, batch 64", "mnist_cnn", "ahed9x_64", 10, 28, 100, 2.5, 0.0),
    Network("S2b lazhili8_resnet", "chinese_resnet", "lazhili8_resnet", 15, 64, 1, 2.0, 0.8),
    Network("S1 modelm3", "mnist_m3", "modelm3", 10, 28, 1, 2.0, 0.8),
)


def images_of(network: Network, config: TrialConfig) -> Part:
    """Return an epoch of noise: what the images show does not change how long they take."""
    random = np.random.default_rng(0)
    count = network.batches * config.batch_size
    pixels = random.integers(0, 256, (count, network.side, network.side), np.uint8)
    return Part(pixels, random.integers(0, network.classes, count))


def config_of(network: Network) -> TrialConfig:
    """Return how a network is trained as published, for as long as it takes to measure."""
    space = load_space(network.space)
    return replace(space.config(space.points[network.baseline]), epochs=10**6, max_steps=0)


def measured(epoch: Any, images: int) -> float:
    """Return images a second of a function that trains one epoch, once it is warm."""
    until = time.perf_counter() + WARM_UP
    epoch()
    while time.perf_counter() < until:
        epoch()
    epochs, began = 0, time.perf_counter()
    while time.perf_counter() < began + SECONDS:
        epoch()
        epochs += 1
    return epochs * images / (time.perf_counter() - began)


def as_written(model: nn.Module) -> nn.Module:
    """Return a network of torch's own modules, its ReLUs apart, before the max poolings."""
    from torch import nn

    from hwtune.models.norm import BatchNorm
    from hwtune.models.pooling import MaxPoolRelu
    from hwtune.models.stem import Stem

    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d):
            conv = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, module.stride,
                module.padding, bias=module.bias is not None,
            )  # fmt: skip
            conv.load_state_dict(module.state_dict())
            stem = isinstance(module, Stem)
            parts = nn.Sequential(conv, nn.ReLU(), module.pool.pool) if stem else conv
            setattr(model, name, parts)
        elif isinstance(module, MaxPoolRelu):
            setattr(model, name, nn.Sequential(nn.ReLU(), module.pool))
        elif isinstance(module, BatchNorm):
            norm = nn.BatchNorm2d(module.num_features)
            norm.load_state_dict(module.state_dict())
            setattr(model, name, nn.Sequential(norm, nn.ReLU()) if module.relu else norm)
        elif isinstance(module, nn.ReLU):
            module.inplace = False
        else:
            as_written(module)
    return model


def usual(config: TrialConfig, part: Part, classes: int, *, device: str = "cpu") -> float:
    """Return the speed of the loop that everyone writes."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    from hwtune.models import build_model
    from hwtune.training.optim import build_schedule

    torch.set_num_threads(1)
    model = as_written(build_model(config, classes=classes, side=part.images.shape[1])).to(device)
    images = torch.from_numpy(part.images).float().div(255).unsqueeze(1)
    data = TensorDataset(images, torch.from_numpy(part.labels))
    on_gpu: dict[str, Any] = {}
    if device == "cuda":  # as the example, but that its one worker lives on: epochs are short here
        on_gpu = {"num_workers": 1, "pin_memory": True, "persistent_workers": True}
    loader = DataLoader(data, batch_size=config.batch_size, shuffle=True, **on_gpu)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    else:
        optimizer = kinds[config.optimizer](
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
    schedule = build_schedule(
        optimizer, lr_schedule=config.lr_schedule, lr=config.lr, lr_decay=config.lr_decay,
        lr_patience=1, epochs=config.epochs, steps=len(loader), max_steps=0,
    )  # fmt: skip

    def epoch() -> None:
        for index, (pixels, labels) in enumerate(loader):
            pixels, labels = pixels.to(device), labels.to(device)
            optimizer.zero_grad()
            scores = model(pixels)
            if config.softmax:
                scores = scores.softmax(1)
            loss = F.cross_entropy(scores, labels)
            loss.backward()
            if config.clip_value:
                nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
            optimizer.step()
            if config.lr_schedule == "onecycle":
                schedule.step()
            if index % 10 == 0:
                loss.item()  # the example prints it

    return measured(epoch, len(part.labels))


def ours(config: TrialConfig, part: Part, classes: int, *, fast: Fast) -> float:
    """Return the speed of a trial."""
    from hwtune.training.loop import train_config
    from hwtune.training.state import start_training

    state, batches, _ = start_training(config, part, None, classes=classes, seed=0, fast=fast)
    results = train_config(state, batches, None, config)
    return measured(lambda: next(results), len(part.labels))


def peak() -> float:
    """Return the floating-point operations a second of a core's quicker matrix product."""
    import torch

    torch.set_num_threads(1)
    kinds = (torch.float32, torch.bfloat16)[: 1 + BF16]
    factors = [torch.randn(2048, 2048, dtype=each) for each in kinds]
    return max(measured(partial(torch.mm, each, each), 1) for each in factors) * 2 * 2048**3


def operations(network: Network) -> int:
    """Return the floating-point operations of a training step, an image, by torch's own count."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from hwtune.models import build_model

    model = build_model(config_of(network), classes=network.classes, side=network.side)
    two = torch.zeros(2, 1, network.side, network.side)  # one alone has no batch statistics
    with FlopCounterMode(display=False) as counter:
        as_written(model)(two).sum().backward()
    return counter.get_total_flops() // 2


def one(network: str, way: str) -> float:
    """Measure one figure in this process."""
    from hwtune.training.device import prepare_process

    if network == "peak":
        return peak()
    chosen = next(each for each in NETWORKS if each.baseline == network)
    config = config_of(chosen)
    part = images_of(chosen, config)
    if way == "usual":
        return usual(config, part, chosen.classes)
    fast = prepare_process(gpu=False)
    return ours(
        config, part, chosen.classes, fast=fast if way == "hwtune" else replace(fast, bf16=False)
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "WAY"), help="as the program does")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    speeds: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.repetitions):
        for each in ("peak", *(network.baseline for network in NETWORKS)):
            for way in WAYS[: 2 + BF16] if each != "peak" else ("",):
                speeds.setdefault((each, way), []).append(in_process(MODULE, each, way))
    peaks = speeds["peak", ""]
    rows = [
        row_of(network, {way: speeds[network.baseline, way] for way in WAYS[: 2 + BF16]}, peaks)
        for network in NETWORKS
    ]
    highest = statistics.median(peaks)
    name = "engine" if BF16 else "engine-float32"
    publish(of_processor(name), page(rows, highest), rows, peak=highest, peaks=peaks)


def row_of(network: Network, speeds: dict[str, list[float]], peaks: list[float]) -> dict[str, Any]:
    """Return what was measured of a network.

    What else the machine does changes in minutes: each repetition is compared with itself.
    """
    usual, ours, plain = (*speeds.values(), speeds[WAYS[1]])[:3]  # which are one without bfloat16
    ratios = sorted(map(truediv, ours, usual))
    return {
        "network": network.title,
        **{way: statistics.median(each) for way, each in speeds.items()},
        "ratio": statistics.median(ratios), "ratios": ratios,
        "ratio_float32": statistics.median(map(truediv, plain, usual)),
        "target": network.target if BF16 else 1.0,
        "share_of_peak": statistics.median(map(truediv, ours, peaks)) * operations(network),
        "target_share": network.share if BF16 else 0.0, "repetitions": speeds,
    }  # fmt: skip


def page(rows: list[dict[str, Any]], peak: float) -> str:
    """Return the table for people."""
    lines = [
        [
            r["network"], f"{r['usual']:,.0f}", f"{r['hwtune']:,.0f}",
            f"{r['ratio']:.2f} ({r['ratios'][0]:.2f} to {r['ratios'][-1]:.2f})",
            f"{r['target']:g}", f"{r['ratio_float32']:.2f}", f"{r['share_of_peak']:.0%}",
            f"{r['target_share']:.0%}" if r["target_share"] else "",
        ]
        for r in rows
    ]  # fmt: skip
    columns = [
        "network", "usual loop", "hwtune", "times as fast", "aim", "in float32",
        "of the peak", "aim",
    ]  # fmt: skip
    return (
        "Images a second on one core while training, batch sizes and optimisers as published; "
        f"medians, and the range of the ratio. A core ({hardware()['processor']}) multiplies "
        f"matrices at {peak / 1e9:,.0f} GFLOP/s in its quicker precision; of what a network needs, "
        "multiplications by padded zeros count, too, though kernels may leave them out.\n\n"
        + table(columns, lines)
    )


if __name__ == "__main__":
    main()
