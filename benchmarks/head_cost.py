"""What the head costs beside the bare backbone, in one process.

    python benchmarks/head_cost.py [--backbone hrnet-w32] [--size 512] [--repeats 9] [--cells 512]

Prints medians, their quartiles and ratios of: prediction (network and decoding of 30 poses, one image), dense and in
the sparse form at the `--cells` cells of highest presence, and one
training step's forward and backward pass (two images with three people each). The machine is named beside them.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from calipose.config.method import Method
from calipose.model.decode import find_candidates
from calipose.model.network import Network


def machine() -> str:
    """One line that names the machine and the versions; no figure counts without it."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return (
        f"{datetime.date.today()}, {names[0] if names else platform.processor()}, "
        f"{len(os.sched_getaffinity(0))} cores, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, fp32, channels-last"
    )


def interleaved(tasks: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each task, taken in turns so that a slow moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return times


def report(title: str, times: dict[str, list[float]]) -> None:
    """Print a line a task: median, quartiles, and the ratio to the backbone's median."""
    base = statistics.median(times["backbone"])
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(
            f"{title:<11} {name:<9} {middle * 1e3:7.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f})  x {middle / base:.3f}"
        )


def main() -> None:
    """Measure prediction and a training step, each beside the bare backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="hrnet-w32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cells", type=int, default=512)
    options = parser.parse_args()
    print(machine())
    torch.manual_seed(0)
    method = Method(sparse_cells=options.cells)
    network = Network(options.backbone, method=method).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (2, options.size, options.size, 3), dtype=torch.uint8)
    normalised = (images.permute(0, 3, 1, 2).float() - network.mean) / network.std

    network.eval()
    with torch.no_grad():
        predict = {
            "backbone": lambda: network.backbone(normalised[:1]),
            "dense": lambda: find_candidates(network, images[:1], 30, sparse=False),
            "sparse": lambda: find_candidates(network, images[:1], 30, sparse=True),
        }
        report("prediction", interleaved(predict, options.repeats))

    network.train()
    center = torch.randint(8, options.size // 4 - 8, (2, 3, 1, 2))
    disc = [(x, y) for x in range(-3, 4) for y in range(-3, 4) if x * x + y * y < 16]
    cells = (center + torch.tensor(disc)).flatten(1, 2)

    def train_backbone() -> None:
        network.zero_grad()
        sum(branch.mean() for branch in network.backbone(normalised)).backward()

    def train_network() -> None:
        network.zero_grad()
        output = network(images, cells)
        (output.maps.score.square().mean() + output.displacements.square().mean()).backward()

    train = {"backbone": train_backbone, "network": train_network}
    report("training", interleaved(train, options.repeats))


if __name__ == "__main__":
    main()
