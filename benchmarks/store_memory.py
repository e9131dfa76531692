"""Memory of a data store of COCO's size, shared by eight forked data workers.

    python benchmarks/store_memory.py ../shared/data/coco-layouts.npz

The keypoints of COCO train2017's 149,813 labelled people in 56,599 images are read from that file; each
person gets an outline of 31 points (the mean in ../shared/data/coco-train), each image two
ignore regions of 31 points, more than COCO has. Printed is the proportional set size (PSS: shared pages
are divided among the processes that share them), from Linux' /proc/PID/smaps_rollup, of

1. the parent alone;
2. parent and eight forked readers without torch: Python, numpy, OpenCV and the store;
3. parent and eight workers of torch's DataLoader at the end of an epoch over all images, without decoding
   (the reader hands out a grey image): so with torch, batches in flight, and what reference counts copied.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
from dataclasses import fields
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from calipose.data.store import KeypointData, Ragged
from calipose.skeleton import COCO_17

WORKERS = 8
POINTS = 31
REGIONS = 2


def store(layouts: Path) -> KeypointData:
    """COCO train2017's people as a store; images of unknown size are 640 x 480."""
    entries = np.load(layouts)
    image_ids, first, counts = np.unique(entries["image_id"], return_index=True, return_counts=True)
    order = np.argsort(entries["image_id"], kind="stable")
    sizes = entries["size"][first].astype(np.int32)
    sizes[sizes[:, 0] == 0] = (640, 480)
    n, m = len(image_ids), len(order)
    size = np.repeat(sizes, counts, axis=0).astype(np.float32)
    span = size * (entries["box"][order, 2:] / np.float32(65535))
    centre = size * (entries["box"][order, :2] / np.float32(65535))
    angle = np.linspace(0, 2 * np.pi, POINTS, dtype=np.float32)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) / 2
    outlines = (centre[:, None] + span[:, None] * circle).reshape(-1, 2)
    regions = np.broadcast_to(40 * circle + 50, (n * REGIONS, POINTS, 2)).reshape(-1, 2)
    names = np.frombuffer("".join(f"{i:012d}.jpg" for i in image_ids).encode(), np.uint8)
    return KeypointData(
        skeleton=COCO_17,
        folders=(Path("train2017"),),
        folder=np.zeros(n, np.uint16),
        names=Ragged(names, np.arange(n + 1) * 16),
        image_ids=image_ids.astype(np.int64),
        sizes=sizes,
        people_complete=np.ones(n, bool),
        person_start=np.concatenate([[0], np.cumsum(counts)]),
        keypoints_img=size[:, None] * (entries["xy"][order] / np.float32(65535)),
        visibility=entries["v"][order],
        area_img=0.5 * span.prod(1),
        annotation_ids=np.arange(m),
        outlines_img=Ragged(outlines, np.arange(m + 1) * POINTS),
        region_start=np.arange(n + 1) * REGIONS,
        regions_img=Ragged(regions, np.arange(n * REGIONS + 1) * POINTS),
    )


def own_bytes(data: KeypointData) -> int:
    """Bytes of all arrays of a store."""
    total = 0
    for field in fields(data):
        value = getattr(data, field.name)
        arrays = [value.values, value.start] if isinstance(value, Ragged) else [value]
        total += sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))
    return total


def pss_mb(process: int | str = "self") -> float:
    """Proportional set size of a process in 1e6 bytes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def read_all(data: KeypointData, pipe: Connection) -> None:
    """Look at every image's labels and path, then stay alive until the parent has measured."""
    for index in range(len(data)):
        data.labels(index)
        data.image_path(index)
    pipe.send(None)
    pipe.recv()


def readers(data: KeypointData) -> float:
    """PSS of parent and forked readers, no torch."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for _ in range(WORKERS):
        here, there = context.Pipe()
        process = context.Process(target=read_all, args=(data, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    total = pss_mb() + sum(pss_mb(process.pid or 0) for process in processes)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()
    return total


def loader_workers(data: KeypointData) -> tuple[float, float]:
    """PSS of the parent before, and of parent and DataLoader workers at the end of an epoch."""
    from calipose.config.settings import AugmentSettings
    from calipose.training.loader import training_batches
    from calipose.training.order import EpochBatches
    from calipose.training.samples import TrainingImages

    grey = np.full((64, 64, 3), 128, np.uint8)
    images = TrainingImages(data, 32, AugmentSettings(), (0, 0, 0), seed=0, read=lambda _, index: grey)
    batches = EpochBatches(len(data), 32, seed=0, epoch=0)
    before, total = pss_mb(), 0.0
    for step, _ in enumerate(training_batches(images, batches, WORKERS)):
        if step == len(batches) - 2 * WORKERS:
            total = pss_mb() + sum(pss_mb(child.pid or 0) for child in multiprocessing.active_children())
    return before, total


def main() -> None:
    """Print the figures with the machine they come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layouts", type=Path)
    data = store(parser.parse_args().layouts)
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"images {len(data)}, people {len(data.area_img)}; 1 MB = 1e6 bytes")
    print(f"store's arrays                                {own_bytes(data) / 1e6:7.0f} MB")
    print(f"parent alone, no torch                        {pss_mb():7.0f} MB PSS")
    print(f"parent and {WORKERS} forked readers, no torch         {readers(data):7.0f} MB PSS")
    before, total = loader_workers(data)
    print(f"parent alone, torch imported                  {before:7.0f} MB PSS")
    print(f"parent and {WORKERS} DataLoader workers               {total:7.0f} MB PSS")


if __name__ == "__main__":
    main()
