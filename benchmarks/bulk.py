"""Bulk prediction on two workers beside plain processes: images a second, the start of Ray, memory.

    python benchmarks/bulk.py --data FOLDER [--images 5000] [--rounds 3] [--model onepass] [--workers 2]

The images are copies of the folder's under other names. Each round runs, one after the other and each in a process of
its own:

- `plain`: a loop with one thread (network and OpenCV), over an N-th of the images for N workers;
- `side by side`: N such processes at the same time, which share all images: what N cores give without Ray;
- `all cores`: one process, ONNX Runtime with as many threads as it likes, reading ahead in threads;
- `bulk`: what `calipose bulk --workers N` does, each worker with one thread; the images' rows go to Parquet.

A line is fitted to the number of results over time, from the tenth part of the images to nine tenths, since `bulk`
gives results in blocks. Its slope is the "steady" speed; where it meets zero is the "start": Python's imports and the
model, with `bulk` also Ray and its workers. "Whole" counts from the start of the process to its end, so also the time
at the end when only one worker has something to do. Ratios compare steady speeds of the same round; of the plain
process, that before and that after `bulk`. Memory is PSS, sampled each second, of the command, its workers and Ray's
own processes; its peak in each third of the time from the first results to the last. CPU time an image is that of the
same time; unlike the speeds, it means something on a busy machine, too. Of few images (below some 1,000), the first
blocks of `bulk` wait for Ray while others are done, and its steady speed is too high.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from memory_watch import MemoryWatch

IMAGES = "*.jpg"
TOLD_EVERY = 20  # images, of the plain processes
GROUPS = ("command", "workers", "ray")


@dataclass(frozen=True)
class Run:
    """One run, of one process or of several side by side.

    Attributes:
        start_s: seconds before the first image, as if its speed had been steady from then on.
        steady: images a second while all run.
        whole: images a second, the start included.
        memory: peak MB by group in each third of the time from the first results to the last.
        cpu_ms: CPU time an image by group, in that time.
    """

    start_s: float
    steady: float
    whole: float
    memory: list[dict[str, float]]
    cpu_ms: dict[str, float]


# ---- what runs in a process of its own: it prints [time, images that are done] lines


def tell(done: int) -> None:
    """Print how many images are done, and when."""
    print(json.dumps([time.time(), done]), flush=True)


def plain_loop(files: list[str], out: Path, given: argparse.Namespace) -> None:
    """One thread: read, predict, write a line, one image after the other."""
    import cv2

    from calipose.bulk.dataset import ModelOptions

    cv2.setNumThreads(1)
    options = ModelOptions(given.model, short_side=given.short_side, threads=1)
    predictor = options.open()
    predictor.warm_up()
    with out.open("w", encoding="utf-8") as lines:
        for number, file in enumerate(files, 1):
            poses = predictor.predict(file).above(options.min_score)
            lines.write(json.dumps({"file": file, **poses.to_dict()}) + "\n")
            if number % TOLD_EVERY == 0 or number in {1, len(files)}:
                tell(number)


def all_cores(files: list[str], out: Path, given: argparse.Namespace) -> None:
    """One process that may use all cores."""
    from calipose.bulk.dataset import ModelOptions
    from calipose.inference.stream import PredictOptions, predict_images
    from calipose.io.sources import find_sources

    predictor = ModelOptions(given.model, short_side=given.short_side, threads=0).open()
    predictor.warm_up()
    with out.open("w", encoding="utf-8") as lines:
        results = predict_images(predictor, find_sources(*files), PredictOptions(), lambda source, _: print(source))
        for number, result in enumerate(results, 1):
            lines.write(json.dumps({"file": result.source.name, **result.poses.to_dict()}) + "\n")
            if number % TOLD_EVERY == 0 or number in {1, len(files)}:
                tell(number)


def bulk(files: list[str], out: Path, given: argparse.Namespace) -> None:
    """What `calipose bulk` does."""
    from calipose.bulk.dataset import ModelOptions
    from calipose.bulk.run import BulkOptions, predict_bulk

    model = ModelOptions(given.model, short_side=given.short_side, threads=1)
    predict_bulk(
        [str(Path(files[0]).parent)],
        str(out),
        model,
        BulkOptions(workers=given.workers),
        progress=lambda done, _: tell(done),
    )


KINDS = {"plain": plain_loop, "all cores": all_cores, "bulk": bulk}


# ---- what starts them


def group_of(command_line: str) -> str:
    """Workers hold a model; what else is below the command is Ray's own, such as its idle processes."""
    return "workers" if command_line.startswith("ray::MapWorker") else "ray"


def measure(kind: str, parts: list[list[str]], folder: Path, given: argparse.Namespace) -> Run:
    """Run a kind over each part of the images, all parts at the same time."""
    processes = []
    began = time.time()
    for number, part in enumerate(parts):
        (folder / f"{number}.txt").write_text("\n".join(part))
        command = [
            sys.executable, __file__, "--child", kind, str(folder / f"{number}.txt"), str(folder / f"out-{number}"),
            "--model", given.model, "--short-side", str(given.short_side), "--workers", str(given.workers),
        ]  # fmt: skip
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    with MemoryWatch(processes[0].pid, group_of) as watch:
        said = [process.communicate()[0].splitlines() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{kind} failed")
    told = [[tuple(json.loads(line)) for line in text if line.startswith("[1")] for text in said]
    first, last = max(times[0][0] for times in told), min(times[-1][0] for times in told)
    lines = [steady_line(times) for times in told]
    third = (last - first) / 3
    memory = [watch.peak(first + i * third, first + (i + 1) * third) for i in range(3)]
    seconds, cpu = watch.cpu_seconds(first, last)
    speed = steady_line(told[0])[1]  # of the process that is watched
    cpu_ms = {group: 1000 * used / (seconds * speed) for group, used in cpu.items()}
    for number in range(len(parts)):
        out = folder / f"out-{number}"
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    whole = sum(map(len, parts)) / (max(times[-1][0] for times in told) - began)
    return Run(max(start for start, _ in lines) - began, sum(speed for _, speed in lines), whole, memory, cpu_ms)


def steady_line(told: list[tuple[float, int]]) -> tuple[float, float]:
    """When a steady run would have begun, and its images a second.

    Args:
        told: times, and the images that were done then.
    """
    number = told[-1][1]
    middle = [(when, done) for when, done in told if 0.1 * number <= done <= 0.9 * number]
    if len(middle) < 2:
        raise SystemExit("too few images to tell the speed; more --images are needed")
    slope, intercept = statistics.linear_regression(*zip(*middle, strict=True))
    return -intercept / slope, slope


def rounds(files: list[str], folder: Path, given: argparse.Namespace) -> Iterator[dict[str, Run]]:
    """The runs of each round; "plain again" follows on `bulk`."""
    n = given.workers
    for number in range(given.rounds):
        runs = {}
        for name, kind, parts in (
            ("plain", "plain", [files[::n]]),
            ("bulk", "bulk", [files]),
            ("plain again", "plain", [files[::n]]),
            ("side by side", "plain", [files[i::n] for i in range(n)]),
            ("all cores", "all cores", [files]),
        ):
            runs[name] = run = measure(kind, parts, folder, given)
            print(
                f"round {number + 1}, {name}: start {run.start_s:.1f} s, steady {run.steady:.2f} images/s, "
                f"{run.whole:.2f} whole; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        yield runs


def spread(values: list[float], form: str = ".2f") -> str:
    """Median, and least to largest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_tables(found: list[dict[str, Run]], given: argparse.Namespace) -> None:
    """Speeds and ratios over all rounds, and the memory of the last."""
    print("\n| run | start, s | steady, images/s | whole, images/s | peak PSS, MB: first, second, last third |")
    print("|---|---|---|---|---|")
    for name in found[0]:
        if name == "plain again":
            continue
        runs = [runs[kind] for runs in found for kind in runs if kind.removesuffix(" again") == name]
        memory = ", ".join(f"{third['all']:.0f}" for third in runs[-1].memory)
        print(
            f"| {name} | {spread([run.start_s for run in runs], '.1f')} | {spread([run.steady for run in runs])} | "
            f"{spread([run.whole for run in runs])} | {memory}{' (one of them)' if name == 'side by side' else ''} |"
        )
    for group in GROUPS:
        spent = spread([runs["bulk"].cpu_ms.get(group, 0.0) for runs in found])
        print(f"bulk, CPU time of {group}: {spent} ms an image")
    plain = [runs[name].cpu_ms.get("command", 0.0) for runs in found for name in ("plain", "plain again")]
    print(f"plain, CPU time: {spread(plain)} ms an image")
    for third, where in zip(found[-1]["bulk"].memory, ("first", "second", "last"), strict=True):
        print(f"bulk, {where} third: " + ", ".join(f"{group} {third.get(group, 0):.0f} MB" for group in GROUPS))

    def ratios(base: str) -> str:
        if base == "plain":
            return spread(
                [
                    runs["bulk"].steady / (given.workers * (runs["plain"].steady + runs["plain again"].steady) / 2)
                    for runs in found
                ]
            )
        return spread([runs["bulk"].steady / runs[base].steady for runs in found])

    print(f"\nbulk / ({given.workers} x plain): {ratios('plain')}")
    print(f"bulk / side by side: {ratios('side by side')}; Ray's overhead is what is missing to 1")
    print(f"bulk / all cores: {ratios('all cores')}")
    starts = [runs["bulk"].start_s - runs["plain"].start_s for runs in found]
    print(f"the start of Ray and its workers: {spread(starts, '.1f')} s more than plain's start")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of .jpg files")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--short-side", type=int, default=0, help="of the network's input; 0: the model's")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", nargs=3, metavar=("KIND", "LIST", "OUT"), help="for this script itself")
    given = parser.parse_args()
    if given.child:
        kind, listed, out = given.child
        KINDS[kind](Path(listed).read_text().splitlines(), Path(out), given)
        return
    sources = sorted(given.data.glob(IMAGES)) if given.data else []
    if not sources:
        parser.error("--data names a folder of .jpg files")
    print(
        f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before; "
        f"Python {platform.python_version()}, ray {version('ray')}, onnxruntime {version('onnxruntime')}; "
        f"{given.images} images, model {given.model}, short side {given.short_side or 'as the model says'}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images"
        images.mkdir()
        for i in range(given.images):
            shutil.copyfile(sources[i % len(sources)], images / f"{i:06d}.jpg")
        print_tables(list(rounds([str(path) for path in sorted(images.iterdir())], Path(temporary), given)), given)


if __name__ == "__main__":
    main()
