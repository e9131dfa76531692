"""The training data path: milliseconds an image by part on one core, and the memory of workers over an epoch.

    python benchmarks/loader.py --data annotations.json=images   # images of your own, such as those of COCO
    python benchmarks/loader.py                                    synthetic images of 640 x 480
    python benchmarks/loader.py --tiny                             a quick try of all of it

Time: the recipe's augmentation at `--size`, in one thread, by that thread's CPU clock, so that other work on the
machine counts little. Each round is an epoch over up to `--images` images; given are the median and the range of the
rounds. The parts are reading the file, decoding it, warping the pixels, changing the colours, finding the cells that
are ignored, the rest of augmentation, putting samples into a batch, and making the training targets of the batch, which
in training is the device's work.

Memory: one epoch of `--draws` images, at `--memory-size`, with `--workers` forked workers; the images are repeated as
entries of their own until the data set has as many. Given is the proportional set size (PSS: shared pages are divided
among the processes that share them), from Linux' /proc/PID/smaps_rollup, of the parent and of all workers. Growth from
the middle to the end of the epoch would be a leak.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch

from calipose.config.recipe import Recipe, load_recipe
from calipose.data import augment
from calipose.data.coco import read_coco
from calipose.data.store import KeypointData
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.io import images as image_files
from calipose.training import samples
from calipose.training.loader import collate, training_batches
from calipose.training.order import EpochBatches
from calipose.training.samples import TrainingImages
from calipose.training.targets import make_targets
from head_cost import machine
from store_memory import pss_mb

BATCH = 16
PAD_COLOUR = (124, 116, 104)
INSTRUCTION_SETS = ("sse4_2", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "asimd", "sve")
SAMPLES_AT = {"begin": 0.1, "middle": 0.5, "end": 0.98}  # parts of the epoch after which memory is read


@dataclass(frozen=True)
class Part:
    """One timed part.

    Attributes:
        label: its name in the table.
        owner: module whose function is timed.
        function: name of that function.
        inside: label of the part that this one is a part of, or empty.
    """

    label: str
    owner: Any
    function: str
    inside: str = ""


PARTS = (
    Part("reading and decoding", samples, "read_stored"),
    Part("decoding", image_files, "decode_image", "reading and decoding"),
    Part("augmentation", samples, "augment"),
    Part("warp", augment, "warp", "augmentation"),
    Part("colours", augment, "jitter", "augmentation"),
    Part("ignored cells", augment, "_covered", "augmentation"),
)


class Clock:
    """CPU seconds of this thread by label."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time counts for the label."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[label] += time.thread_time() - start

        return call

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """A block in which all `PARTS` are timed."""
        with contextlib.ExitStack() as stack:
            for part in PARTS:
                function = getattr(part.owner, part.function)
                stack.enter_context(patch.object(part.owner, part.function, self.timed(part.label, function)))
            yield


def one_round(data: KeypointData, recipe: Recipe, size: int, epoch: int) -> dict[str, float]:
    """CPU milliseconds an image of each part, of an epoch in this thread."""
    clock = Clock()
    make_batch, make_goal = clock.timed("batch", collate), clock.timed("targets", make_targets)
    keys = list(EpochBatches(len(data), min(BATCH, len(data)), 0, epoch))
    with clock.watching():
        images = TrainingImages(data, size, recipe.augment, PAD_COLOUR, 0, read=samples.read_stored)
        start = time.thread_time()
        for batch_keys in keys:
            batch = make_batch([images[key] for key in batch_keys])
            make_goal(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, recipe.loss)
        whole = time.thread_time() - start
    number = sum(len(batch_keys) for batch_keys in keys)
    return rows({label: 1000 * value / number for label, value in clock.seconds.items()}, 1000 * whole / number)


def rows(ms: dict[str, float], whole: float) -> dict[str, float]:
    """The table's rows, which add up to the last; parts are taken out of what they are a part of."""
    own = Counter(ms)
    for part in PARTS:
        if part.inside:
            own[part.inside] -= ms.get(part.label, 0.0)
    return {
        "reading": own["reading and decoding"],
        "decoding": own["decoding"],
        "warp": own["warp"],
        "colours": own["colours"],
        "ignored cells": own["ignored cells"],
        "rest of augmentation": own["augmentation"],
        "batch": own["batch"],
        "labels, order, random numbers": whole - sum(own.values()),
        "data path": whole - own["targets"],
        "targets (the device's work)": own["targets"],
        "all": whole,
    }


def repeated(data: KeypointData, draws: int) -> KeypointData:
    """A data set of `draws` images: those of `data` again and again, under other ids."""
    again = data.subset(np.resize(np.arange(len(data)), draws))
    return replace(again, image_ids=np.arange(draws))


def memory(data: KeypointData, recipe: Recipe, size: int, workers: int) -> dict[str, tuple[float, float]]:
    """PSS in MB of the parent and of all workers, at `SAMPLES_AT` of one epoch."""
    images = TrainingImages(data, size, recipe.augment, PAD_COLOUR, 0)
    batches = EpochBatches(len(data), BATCH, seed=0, epoch=0)
    due = {int(part * (len(batches) - 1)): name for name, part in SAMPLES_AT.items()}
    found: dict[str, tuple[float, float]] = {}
    for step, _ in enumerate(training_batches(images, batches, workers)):
        if step in due:
            children = [child.pid or 0 for child in multiprocessing.active_children()]
            found[due[step]] = (pss_mb(), sum(pss_mb(child) for child in children))
    return found


def instruction_sets() -> str:
    """The instruction sets of this processor that OpenCV and torch choose their code by, and OpenCV's own list."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    return ", ".join(name for name in INSTRUCTION_SETS if name in flags) + f"; OpenCV {cv2.getCPUFeaturesLine()}"


def print_times(data: KeypointData, recipe: Recipe, size: int, rounds: int) -> dict[str, float]:
    """Print the table of parts; returns the medians."""
    found = [one_round(data, recipe, size, epoch) for epoch in range(rounds + 1)][1:]  # the first warms up
    pixels = np.median(data.sizes, axis=0).astype(int)
    print(f"CPU ms an image at {size} px; {len(data)} images, median {pixels[0]} x {pixels[1]}; {rounds} rounds")
    medians = {label: statistics.median(values[label] for values in found) for label in found[0]}
    for label, median in medians.items():
        values = [values[label] for values in found]
        print(f"  {label:30s} {median:6.2f}   {min(values):.2f} to {max(values):.2f}")
    return medians


def print_memory(data: KeypointData, recipe: Recipe, size: int, workers: int) -> dict[str, tuple[float, float]]:
    """Print the memory over an epoch; returns it."""
    start = time.monotonic()
    found = memory(data, recipe, size, workers)
    seconds = time.monotonic() - start
    print(f"PSS in MB over an epoch of {len(data)} images at {size} px, {workers} workers, {seconds:.0f} s")
    for name, (parent, children) in found.items():
        print(f"  {name:30s} parent {parent:6.0f}, all workers {children:6.0f}, together {parent + children:6.0f}")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print both tables with the machine they come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="ANNOTATIONS=IMAGES", help="images of your own; synthetic ones otherwise")
    parser.add_argument("--recipe", default="coco-w32-512")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-size", type=int, default=128)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--tiny", action="store_true", help="few and small images, to see that all of it runs")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.size, options.images, options.rounds = 64, 8, 2
        options.memory_size, options.draws, options.workers = 32, 256, 2
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(machine())
    print(instruction_sets())
    recipe = load_recipe(options.recipe)
    with tempfile.TemporaryDirectory() as temporary:
        if options.data:
            annotations, _, folder = options.data.partition("=")
        else:
            size = (80, 64) if options.tiny else (640, 480)
            made = write_synthetic_data(Path(temporary) / "data", min(options.images, 64), EASY, size, seed=0)
            annotations, folder = str(made), str(made.parent / "images")
        data = read_coco(annotations, folder)
        data = data.subset(np.arange(min(options.images, len(data))))
        print_times(data, recipe, options.size, options.rounds)
        print_memory(repeated(data, options.draws), recipe, options.memory_size, options.workers)


if __name__ == "__main__":
    main()
