"""A folder predicted by `calipose predict`, beside the same work in one plain loop: speed, waiting, memory, results.

    python benchmarks/folder.py --data FOLDER [--images 1000] [--rounds 3] [--model onepass] [--threads 0]
    python benchmarks/folder.py --data FOLDER --workers 1x2 2x1     sessions x threads of each, instead of the loop
    python benchmarks/folder.py --frames 300                        a synthetic video of 1280 x 720 pixels, not images

The images are copies of the folder's under other names. `serial` reads, predicts, draws and writes one image after the
other in one thread, with the functions that `calipose predict` uses; `command` is `calipose predict`, which reads ahead
and draws behind in threads. Both run in processes of their own and in turns; the time counts from the first run of the
network. "Network" is the share of that time in which ONNX Runtime runs (of several sessions, their mean); "waits" the
share in which the network waits for an image to be read. Of a video, `serial` is `calipose predict` whose threads
beside the network are replaced by plain calls.
poses.jsonl must be equal byte for byte; with --workers, numbers may differ by 1e-5, since other numbers of threads add
in another order.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.draw import draw_poses
from calipose.inference import stream
from calipose.inference.backends.onnx import OnnxFile
from calipose.inference.output_folder import POSES, OutputFolder
from calipose.inference.predictor import Predictor
from calipose.inference.stream import PredictOptions
from calipose.io import ahead
from calipose.io.sources import find_sources
from calipose.io.video_writer import VideoWriter

VIDEO_SIZE = (1280, 720)
MIN_KEYPOINT_SCORE = 0.3  # as `calipose predict` has it


# ---- what runs in a process of its own


class Clock:
    """Seconds that functions took, by name, since the network ran first.

    Attributes:
        seconds: by name.
        begun: `time.perf_counter()` when the network ran first.
        cpu_before: CPU time of the process until then.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"network": 0.0, "waits": 0.0}
        self.begun = self.cpu_before = 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is counted."""

        def run(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            if name == "network" and not self.begun:
                self.begun, self.cpu_before = start, time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] += time.perf_counter() - start if self.begun else 0.0

        return run

    def timed_items(self, name: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """A function that gives an iterator; the time for its items is counted."""

        def run(*arguments: Any, **named: Any) -> Iterator[Any]:
            items = function(*arguments, **named)
            take, end = self.timed(name, next), object()
            try:
                while (item := take(items, end)) is not end:
                    yield item
            finally:
                items.close()  # type: ignore[attr-defined]  # a generator

        return run


def serial(predictor: Predictor, images: Path, out: Path, clock: Clock) -> None:
    """Read, predict, draw and write, one after the other."""
    options = PredictOptions()
    folder = OutputFolder(out, list(find_sources(images)))
    for source in folder.todo:
        (frame,) = clock.timed("waits", list)(source.frames())
        poses = predictor.predict(frame.image).above(options.min_score)
        folder.add(source, poses, draw_poses(frame.image, poses, min_keypoint_score=MIN_KEYPOINT_SCORE))
    folder.close()


def without_threads(clock: Clock) -> None:
    """Replace the threads of `calipose predict` beside the network by calls in its own."""

    def done_in_turn(items: Iterable[Any], work: Callable[[Any], Any], *_: int) -> Iterator[Any]:
        return ((item, work(item)) for item in items)

    ahead.done_ahead = done_in_turn  # type: ignore[assignment]  # the command imports it later
    stream.taken_ahead = clock.timed_items("waits", lambda items, _: items)  # type: ignore[assignment]


def command(images: Path, out: Path, more: list[str]) -> None:
    """`calipose predict`, in this process."""
    sys.argv = ["calipose", "predict", str(images), "--out", str(out), "--quiet", *more]
    try:
        runpy.run_module("calipose", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise


def child(kind: str, images: Path, out: Path, given: argparse.Namespace) -> None:
    """Run a kind, and print what it took."""
    workers, threads = (int(part) for part in kind.split("x")) if "x" in kind else (1, given.threads)
    clock = Clock()
    OnnxFile.run = clock.timed("network", OnnxFile.run)  # type: ignore[method-assign]
    stream.done_ahead = clock.timed_items("waits", stream.done_ahead)  # type: ignore[assignment]
    stream.taken_ahead = clock.timed_items("waits", stream.taken_ahead)  # type: ignore[assignment]
    if kind == "serial" and given.frames:
        without_threads(clock)
    if kind == "serial" and not given.frames:
        predictor = Predictor(given.model, threads=threads)
        serial(
            predictor.with_settings(short_side=given.short_side or predictor.settings.short_side), images, out, clock
        )
    else:
        more = ["--model", given.model, "--threads", str(threads)]
        more += ["--short-side", str(given.short_side)] if given.short_side else []
        command(images, out, more + (["--workers", str(workers)] if workers > 1 else []))
    seconds = time.perf_counter() - clock.begun
    print(
        json.dumps(
            {
                "speed": (given.frames or given.images) / seconds,
                "cpu_ms": 1000 * (time.process_time() - clock.cpu_before) / (given.frames or given.images),
                "network": clock.seconds["network"] / seconds / workers,
                "waits": clock.seconds["waits"] / seconds,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


# ---- what starts them


def measure(kind: str, images: Path, out: Path, given: argparse.Namespace) -> dict[str, float]:
    """Run a kind in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    start = [sys.executable, __file__, "--child", kind, str(images), str(out), "--images", str(given.images)]
    start += ["--frames", str(given.frames)]
    more = ["--model", given.model, "--threads", str(given.threads), "--short-side", str(given.short_side)]
    done = subprocess.run([*start, *more], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}: {found['speed']:.2f} images/s, load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def make_video(path: Path, frames: int) -> None:
    """A synthetic scene that moves."""
    scene = synthesize_scene(np.random.default_rng(1), VIDEO_SIZE, EASY).image
    with VideoWriter(path, 25, VIDEO_SIZE, None) as video:
        for i in range(frames):
            video.write(np.roll(scene, 2 * i, axis=1))


def largest_difference(first: Path, second: Path) -> float:
    """The largest difference of two files' numbers; infinite where anything else differs."""

    def numbers(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            for key, part in value.items():
                yield key
                yield from numbers(part)
        elif isinstance(value, list):
            for part in value:
                yield from numbers(part)
        else:
            yield value

    largest = 0.0
    with first.open() as some, second.open() as others:
        for line, other in zip(some, others, strict=True):
            for a, b in zip(numbers(json.loads(line)), numbers(json.loads(other)), strict=True):
                if isinstance(a, float) and isinstance(b, float):
                    largest = max(largest, abs(a - b) / max(1.0, abs(a)))
                elif a != b:
                    return float("inf")
    return largest


def spread(values: list[float], form: str = ".2f") -> str:
    """Median, and least to largest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of .jpg files")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=0, help="of a video, instead of images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--threads", type=int, default=0, help="of the network; 0: ONNX Runtime's choice")
    parser.add_argument("--short-side", type=int, default=0, help="of the network's input; 0: the model's")
    parser.add_argument("--workers", nargs="+", metavar="SESSIONSxTHREADS", help="compare these, not the loop")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "IMAGES", "OUT"), help="for this script itself")
    given = parser.parse_args()
    if given.child:
        kind, images, out = given.child
        child(kind, Path(images), Path(out), given)
        return
    sources = sorted(given.data.glob("*.jpg")) if given.data else []
    if not sources and not given.frames:
        parser.error("--data names a folder of .jpg files")
    what = f"{given.frames} frames" if given.frames else f"{given.images} images"
    print(
        f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before; "
        f"Python {platform.python_version()}, onnxruntime {version('onnxruntime')}; {what}, "
        f"model {given.model}, short side {given.short_side or 'as the model says'}, threads {given.threads}",
        flush=True,
    )
    kinds = given.workers or ["serial", "command"]
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images"
        images.mkdir()
        if given.frames:
            make_video(images / "video.mp4", given.frames)
        for i in range(0 if given.frames else given.images):
            shutil.copyfile(sources[i % len(sources)], images / f"{i:06d}.jpg")
        for number in range(given.rounds):
            for kind in kinds if number % 2 == 0 else reversed(kinds):
                found[kind].append(measure(kind, images, Path(temporary) / kind, given))
        print("\n| | images/s | CPU ms an image | network | waits for images | peak memory, MB |")
        print("|---|---|---|---|---|---|")
        for kind, runs in found.items():
            speeds, cpu = ([run[name] for run in runs] for name in ("speed", "cpu_ms"))
            network, waits = (spread([100 * run[name] for run in runs], ".1f") for name in ("network", "waits"))
            memory = max(run["memory_mb"] for run in runs)
            print(f"| {kind} | {spread(speeds)} | {spread(cpu, '.1f')} | {network} % | {waits} % | {memory:.0f} |")
        first, *others = kinds
        for kind in others:
            ratios = [b["speed"] / a["speed"] for a, b in zip(found[first], found[kind], strict=True)]
            name = f"video.{POSES}" if given.frames else POSES
            one, other = Path(temporary) / first / name, Path(temporary) / kind / name
            equal = one.read_bytes() == other.read_bytes()
            how = "equal byte for byte" if equal else f"differ by up to {largest_difference(one, other):.1e}"
            print(f"{kind} / {first}: {spread(ratios)} times as fast; {name}: {how}")


if __name__ == "__main__":
    main()
