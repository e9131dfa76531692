"""What compiling, channels-last, the fused optimiser and gradient checkpointing gain in training: time and memory.

    python benchmarks/training_options.py --recipe coco-w32-512 --set size=256 --set batch_size=4
    python benchmarks/training_options.py --tiny                   a small network, to see that all of it runs

A step is forward and backward pass and the optimiser, on one batch of random images with people at random places. All
variants take turns, so that a slow moment hits all alike; given are the median with its quartiles, and the median of
the ratios to the plain step of the same turn. On a CPU it is CPU time, which other work on the machine changes little:
take `--threads 1` there. Peak memory is what a step, after one that warms up, adds to what the process held before it:
the device's on a GPU, else the resident memory; each variant has a process of its own for that. The plain step computes
in the channels-last layout, as `calipose train` always does.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from calipose.config.recipe import Recipe, load_recipe
from calipose.config.settings import ComputeSettings
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from calipose.training.computing import set_computing
from calipose.training.loader import Batch
from calipose.training.losses import all_losses
from calipose.training.state import make_optimizer, training_mode
from calipose.training.targets import make_targets
from head_cost import machine

TINY = (
    "backbone.name=mobilenetv2-0.25",
    "size=64",
    "batch_size=4",
    "method.keypoint_width=4",
    "method.instance_width=8",
)
PEOPLE = 3  # in each image
WARM_UP = 2  # steps


@dataclass(frozen=True)
class Variant:
    """One way to compute a step: the recipe's `compute` settings, the arithmetic, and the layout of the weights."""

    arithmetic: str = "fp32"
    compile: bool = False
    fused: bool = False
    checkpointing: bool = False
    channels_last: bool = True

    def __str__(self) -> str:
        switches = [name for name in ("compile", "fused", "checkpointing") if getattr(self, name)]
        layout = [] if self.channels_last else ["channels first"]
        return ", ".join([self.arithmetic, *(switches + layout or ["plain"])])


def variants(arithmetics: list[str], compiled: bool, every: bool) -> list[Variant]:
    """In each arithmetic the plain step, each option alone, and all together; or every combination."""
    switches = list(itertools.product((False, True), repeat=4))
    if not every:
        switches = [some for some in switches if sum(some) in {0, 1} or some == (True, True, True, False)]
    found = [
        Variant(name, compile, fused, checkpointing, not first)
        for name in arithmetics
        for compile, fused, checkpointing, first in switches
    ]
    return [variant for variant in found if compiled or not variant.compile]


@contextlib.contextmanager
def arithmetic(name: str, device: str) -> Iterator[None]:
    """A block in fp32, tf32 or bf16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    try:
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=name == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def synchronize(device: str) -> None:
    """Wait for what the device was asked to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def random_batch(recipe: Recipe, device: str) -> Batch:
    """A batch of noise with people at random places."""
    generator = torch.Generator().manual_seed(0)
    b, side, k = recipe.batch_size, recipe.size, len(COCO_17)
    centre = torch.rand(b, PEOPLE, 1, 2, generator=generator) * side
    spread = torch.randn(b, PEOPLE, k, 2, generator=generator) * side / 16
    return Batch(
        images=torch.randint(0, 256, (b, side, side, 3), dtype=torch.uint8, generator=generator),
        keypoints_inp=(centre + spread).clamp(0, side - 1),
        labelled=torch.ones(b, PEOPLE, k, dtype=torch.bool),
        area_inp=torch.full((b, PEOPLE), (side / 4) ** 2),
        ignore_cell=torch.zeros(b, side // 4, side // 4, dtype=torch.bool),
        index=torch.arange(b),
    ).to(device)


class Step:
    """The training step of one variant."""

    def __init__(self, recipe: Recipe, variant: Variant, batch: Batch, device: str) -> None:
        compute = ComputeSettings(
            compile=variant.compile, fused=variant.fused, gradient_checkpointing=variant.checkpointing
        )
        self.recipe = msgspec.structs.replace(recipe, compute=compute)
        self.variant, self.batch, self.device = variant, batch, device
        torch.manual_seed(0)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.network = Network(recipe.backbone.name, len(COCO_17), recipe.method).to(device, memory_format=layout)
        set_computing(self.network, compute)
        self.optimizer = make_optimizer(self.network, self.recipe)
        self.sigmas = torch.tensor(COCO_17.sigmas, device=device)
        training_mode(self.network, self.network.backbone, "none")

    def __call__(self) -> float:
        """Take a step; returns its seconds (of a CPU, CPU seconds)."""
        clock = time.perf_counter if self.device.startswith("cuda") else time.process_time
        synchronize(self.device)
        start = clock()
        batch, loss = self.batch, self.recipe.loss
        images = batch.images
        if not self.variant.channels_last:  # the images' own order of values would be channels-last, too
            images = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, loss)
        with arithmetic(self.variant.arithmetic, self.device):
            output = self.network(images, targets.cells)
        losses = all_losses(output, targets, self.recipe.method, loss, self.sigmas)
        with arithmetic(self.variant.arithmetic, self.device):
            losses.total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        synchronize(self.device)
        return clock() - start


def resident_mb(entry: str) -> float:
    """An entry of this process's /proc/self/status in 1e6 bytes: VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:")) * 1024 / 1e6


def own_peak_mb(recipe: Recipe, variant: Variant, device: str) -> float:
    """Memory that a step of a variant adds at its peak, in this process."""
    step = Step(recipe, variant, random_batch(recipe, device), device)
    if device.startswith("cuda"):
        step()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resident_mb("VmRSS")
    step()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, which compiling may have set
    step()
    return resident_mb("VmHWM") - before


def peak_mb(recipe: Recipe, variant: Variant, device: str, threads: int) -> float:
    """`own_peak_mb` in a process of its own."""
    task = {"recipe": recipe.to_dict(), "variant": msgspec.to_builtins(variant), "device": device, "threads": threads}
    command = [sys.executable, __file__, "--peak-of", json.dumps(task)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{variant}: {run.stderr[-2000:]}")
    return float(run.stdout.split()[-1])


def measure(recipe: Recipe, chosen: list[Variant], device: str, rounds: int) -> dict[Variant, list[float]]:
    """Seconds of each variant's steps, one a turn."""
    batch = random_batch(recipe, device)
    steps = {variant: Step(recipe, variant, batch, device) for variant in chosen}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    times: dict[Variant, list[float]] = {variant: [] for variant in chosen}
    for turn in range(rounds):
        for variant in chosen[turn % len(chosen) :] + chosen[: turn % len(chosen)]:
            times[variant].append(steps[variant]())
    return times


def print_options(recipe: Recipe, chosen: list[Variant], device: str, rounds: int) -> None:
    """Print a line a variant: milliseconds a step, the ratio to the first variant's, and peak memory."""
    times = measure(recipe, chosen, device, rounds)
    plain = times[chosen[0]]
    print(f"{recipe.backbone.name} at {recipe.size} px, batch {recipe.batch_size}, {rounds} turns")
    for variant, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        ratios = [one / other for one, other in zip(seconds, plain, strict=True)]
        memory = peak_mb(recipe, variant, device, torch.get_num_threads())
        print(
            f"  {variant!s:36s} {1e3 * middle:7.0f} ms ({1e3 * low:.0f} to {1e3 * high:.0f})  "
            f"x {statistics.median(ratios):.2f}  peak {memory:6.0f} MB",
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the table with the machine it comes from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="coco-w32-512")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `calipose train`")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arithmetic", nargs="+", default=["fp32"], choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--every", action="store_true", help="every combination")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.peak_of:
        task = json.loads(options.peak_of)
        torch.set_num_threads(task["threads"])
        print(own_peak_mb(Recipe.from_dict(task["recipe"]), Variant(**task["variant"]), task["device"]))
        return
    torch.set_num_threads(options.threads)
    print(machine())
    recipe = load_recipe(options.recipe, [*(TINY if options.tiny else ()), *options.set])
    chosen = variants(options.arithmetic, options.compile, options.every)
    print_options(recipe, chosen, options.device, 2 if options.tiny else options.rounds)


if __name__ == "__main__":
    main()
