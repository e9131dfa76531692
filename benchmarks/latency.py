"""From image to poses: how long each way of running a network takes on this CPU, beside the bare backbone and peers.

    python benchmarks/latency.py --movenet TFLITE --peer YOLO11n-pose=FILE.onnx:480,640 [--turns 15] [--threads 2]

Everything runs in one process, in turns whose order is shuffled, so that a slow moment hits all alike; each run follows
a short pause in which the thread pools of the one before fall asleep, and the first turn is not counted. Given are
medians and quartiles. The image is synthetic, 640 x 480; reading the file is not part of it.

For each recipe: the bare backbone in eager torch (fp32, channels-last) on the same input, the yardstick `x`; then the
`Predictor` with torch, with torch.compile, and with the exported file in ONNX Runtime. Its parts follow each other:
pre-processing (resize and pad), network, decoding (peaks, poses there; inside of the network's graph in an ONNX file),
post-processing (threshold, frame, pose NMS), and drawing, which is that of the people who are in the image, since
those that random weights find are none. Weights are random unless files are named; the batch norms know the image's
statistics, and queries and scores get a bias, so that values, and the sizes and number of poses, are like those of a
trained network. MoveNet's time is from image to poses, too; that of another peer is of its network alone, on a ready
float32 input (1, 3, height, width).
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from calipose.config.recipe import load_recipe
from calipose.config.settings import PredictSettings
from calipose.data.synthetic.scene import HARD, synthesize_scene
from calipose.draw import draw_poses
from calipose.export.onnx import export_onnx
from calipose.inference.backends.onnx import OnnxBackend
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, network_input
from calipose.model.checkpoint import Checkpoint, load_checkpoint
from calipose.model.network import Network
from calipose.poses import Poses
from calipose.skeleton import COCO_17

RECIPES = ("onepass", "photo", "coco-w32-512")
SIZE = (640, 480)
PAUSE_SECONDS = 0.1  # thread pools wait actively for some milliseconds for more to do
PARTS = ("pre-processing", "network", "decoding", "post-processing", "drawing")
PACKAGES = ("calipose", "numpy", "opencv-python-headless", "torch", "onnxruntime", "ai-edge-litert")

Seconds = dict[str, float]  # of each part


@dataclass(frozen=True)
class Contestant:
    """What is measured: `run` gives the seconds of its parts. `yardstick` is the contestant whose time is 1."""

    name: str
    what: str
    run: Callable[[], Seconds]
    yardstick: str = ""


class Stamped:
    """A predictor that notes when it comes by its network and leaves it."""

    def __init__(self, predictor: Predictor, image: Image, people: Poses) -> None:
        self.predictor, self.image, self.people = predictor, image, people
        self._at: Seconds = {}
        backend: Any = predictor.backend
        backend.candidates = self._noted(backend.candidates, "candidates")
        if isinstance(backend, TorchBackend):
            for name in ("encode", "encode_sparse"):
                setattr(backend.network, name, self._noted(getattr(backend.network, name), "encode"))

    def _noted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self._at[f"{name} begins"] = time.perf_counter()
            result = function(*arguments)
            self._at[f"{name} ends"] = time.perf_counter()
            return result

        return noted

    def __call__(self) -> Seconds:
        """Predict and draw once."""
        begin = time.perf_counter()
        self.predictor.predict(self.image)
        end = time.perf_counter()
        draw_poses(self.image, self.people)
        drawn = time.perf_counter()
        network_begins, network_ends = self._at["candidates begins"], self._at["candidates ends"]
        encoded = self._at.get("encode ends", network_ends)
        ends = (begin, network_begins, encoded, network_ends, end, drawn)
        return {part: ends[i + 1] - ends[i] for i, part in enumerate(PARTS)}


def whole(function: Callable[[], object]) -> Callable[[], Seconds]:
    """A contestant's run whose parts are not told apart."""

    def run() -> Seconds:
        begin = time.perf_counter()
        function()
        return {"network": time.perf_counter() - begin}

    return run


def fitted(image: Image, settings: PredictSettings) -> Tensor:
    """The network's input (1, H, W, 3), uint8."""
    return torch.from_numpy(network_input(image, settings.short_side, (0, 0, 0), settings.max_aspect)[0])[None]


@torch.no_grad()
def random_checkpoint(recipe_name: str, image: Image) -> Checkpoint:
    """A recipe's network with random weights; its batch norms know the image's statistics."""
    recipe = load_recipe(recipe_name)
    torch.manual_seed(0)
    network = Network(recipe.backbone.name, len(COCO_17), recipe.method).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.encode(fitted(image, recipe.predict))
    # At first all joints lie at the centre, and no score is above the threshold.
    network.head.center_to_query.bias.normal_(std=6)  # cells
    network.head.score.bias.fill_(0.3)
    return Checkpoint(recipe, COCO_17, network.state_dict())


def contestants_of(
    name: str, checkpoint: Checkpoint, onnx: Path, image: Image, people: Poses, threads: int
) -> Iterator[Contestant]:
    """The ways of running one recipe at one input size.

    Where torch.compile does not work, its row is left out and the reason is printed. A recipe that predicts at several
    sizes has one more row: ONNX Runtime with all of them.
    """
    scales = checkpoint.recipe.predict.scales
    settings = msgspec.structs.replace(checkpoint.recipe.predict, scales=(1.0,))
    backend = TorchBackend(checkpoint.network(), checkpoint.skeleton, calibration=checkpoint.calibration)
    network = backend.network
    images = fitted(image, settings).permute(0, 3, 1, 2).float()  # channels-last in memory
    normalised = (images - network.mean) / network.std
    yardstick = f"{name}, bare backbone"

    def size(settings: PredictSettings) -> str:
        _, height, width, _ = fitted(image, settings).shape
        return f"{width} x {height}"

    def backbone() -> None:
        with torch.no_grad():
            network.backbone(normalised)

    def entrant(way: str, predictor: Predictor) -> Contestant:
        poses = len(predictor.predict(image))
        run = Stamped(predictor, image, people)
        return Contestant(f"{name}, {way}", f"{size(predictor.settings)}, {poses} poses", run, yardstick)

    yield Contestant(yardstick, size(settings), whole(backbone), yardstick)
    compiled = TorchBackend(copy.deepcopy(network), checkpoint.skeleton, calibration=checkpoint.calibration)
    yield entrant("torch", Predictor(backend, settings))
    # Compiling the network alone would do nothing: prediction calls `encode`, never the network's `forward`.
    for method in ("encode", "encode_sparse"):
        setattr(compiled.network, method, torch.compile(getattr(compiled.network, method), dynamic=False))
    try:
        yield entrant("torch.compile", Predictor(compiled, settings))
    except Exception as error:  # the compiler's errors have no common base of their own
        print(f"{name}, torch.compile: skipped, {type(error).__name__}: {str(error).strip().splitlines()[0]}")
    yield entrant("ONNX Runtime", Predictor.from_onnx(onnx, settings, threads=threads))
    if scales != (1.0,):
        whole_model = Predictor.from_onnx(onnx, msgspec.structs.replace(settings, scales=scales), threads=threads)
        sizes = f"{size(settings)}, scales {', '.join(f'{scale:g}' for scale in scales)}"
        yield Contestant(
            f"{name}, ONNX Runtime, as it comes", sizes, whole(lambda: whole_model.predict(image)), yardstick
        )


def peer(entry: str, threads: int) -> Contestant:
    """A peer's network from NAME=FILE.onnx:H,W, on random input."""
    import onnxruntime

    name, _, rest = entry.partition("=")
    file, _, size = rest.rpartition(":")
    try:
        height, width = (int(side) for side in size.split(","))
    except ValueError:
        raise SystemExit(f"--peer {entry}: write NAME=FILE.onnx:H,W, for example yolo=yolo.onnx:480,640") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).random((1, 3, height, width), np.float32)}
    return Contestant(
        f"{name}, ONNX Runtime", f"{width} x {height}, network only", whole(lambda: session.run(None, feed))
    )


def movenet(file: Path, image: Image, threads: int) -> Contestant:
    """MoveNet MultiPose, from image to poses."""
    from movenet import MoveNet

    network = MoveNet(file, 512, threads)
    poses = len(network.predict(image))
    return Contestant(
        "MoveNet MultiPose, LiteRT", f"long side 512, {poses} poses", whole(lambda: network.predict(image))
    )


def measure(contestants: list[Contestant], turns: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each contestant's parts, turn by turn; "all" is from image to poses."""
    times: dict[str, dict[str, list[float]]] = {c.name: defaultdict(list) for c in contestants}
    order = list(contestants)
    for turn in range(turns + 1):
        random.Random(turn).shuffle(order)
        for contestant in order:
            time.sleep(PAUSE_SECONDS)
            parts = contestant.run()
            if turn:  # the first turn warms up
                parts["all"] = sum(seconds for part, seconds in parts.items() if part != "drawing")
                for part, seconds in parts.items():
                    times[contestant.name][part].append(1e3 * seconds)
    return times


def report(contestants: list[Contestant], times: dict[str, dict[str, list[float]]]) -> None:
    """Two tables: from image to poses, and the parts."""
    medians = {name: {part: float(np.median(ms)) for part, ms in parts.items()} for name, parts in times.items()}

    def ratio(contestant: Contestant, ms: float) -> str:
        return f"x {ms / medians[contestant.yardstick]['all']:.3f}" if contestant.yardstick else ""

    print("\n| image to poses | input | ms | quartiles | backbone |\n|---|---|---:|---:|---:|")
    for c in contestants:
        low, middle, high = np.percentile(times[c.name]["all"], (25, 50, 75))
        print(f"| {c.name} | {c.what} | {middle:.1f} | {low:.1f} to {high:.1f} | {ratio(c, middle)} |")
    print(f"\n| part: ms, share, x backbone | {' | '.join(PARTS)} |\n|---|{'---:|' * len(PARTS)}")
    for c in contestants:
        parts = medians[c.name]
        if "drawing" not in parts:
            continue
        total = sum(parts[part] for part in PARTS)
        inside = isinstance(c.run, Stamped) and isinstance(c.run.predictor.backend, OnnxBackend)
        cells = [
            "in the network"
            if inside and part == "decoding"
            else f"{parts[part]:.1f}, {parts[part] / total:.1%}, {ratio(c, parts[part])}"
            for part in PARTS
        ]
        print(f"| {c.name} | {' | '.join(cells)} |")


def machine(threads: int) -> str:
    """What a figure is void without."""
    from install import processor

    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"{datetime.date.today()}, {processor()}, {len(os.sched_getaffinity(0))} cores, {threads} threads, "
        f"load {os.getloadavg()[0]:.1f} before\n"
        f"Python {platform.python_version()}, {', '.join(versions)}; commit {commit}"
    )


def main() -> None:
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="by default all cores")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--checkpoint", type=Path, help="weights of `onepass`")
    parser.add_argument("--onnx", type=Path, help="exported file of `onepass`")
    parser.add_argument("--movenet", type=Path, metavar="TFLITE")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FILE.onnx:H,W")
    options = parser.parse_args()
    described = machine(options.threads)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    scene = synthesize_scene(np.random.default_rng(0), SIZE, HARD)
    people = Poses(scene.keypoints_img, np.full(len(scene.keypoints_img), 0.9), SIZE)
    contestants: list[Contestant] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.recipes:
            given = name == RECIPES[0]  # the files that the options name are of the first
            checkpoint = random_checkpoint(name, scene.image)
            if given and options.checkpoint:
                checkpoint = load_checkpoint(options.checkpoint)
            onnx = Path(folder) / f"{name}.onnx"
            if given and options.onnx:
                onnx = options.onnx
            else:
                print(f"{name}: exporting ...", file=sys.stderr)
                export_onnx(checkpoint, onnx)
            contestants += contestants_of(name, checkpoint, onnx, scene.image, people, options.threads)
    if options.movenet:
        contestants.append(movenet(options.movenet, scene.image, options.threads))
    contestants += [peer(entry, options.threads) for entry in options.peer]
    times = measure(contestants, options.turns)
    print(f"{described}\n{options.turns} turns")
    report(contestants, times)


if __name__ == "__main__":
    main()
