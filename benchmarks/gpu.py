"""What a GPU makes of training and prediction; tried on a CPU with --tiny.

    python benchmarks/gpu.py                    on the GPU: both COCO recipes, then prediction
    python benchmarks/gpu.py --tiny             a small recipe on this machine, to see that all of it runs

Training: images per second and peak memory of each recipe in fp32, tf32 and bf16, and compiled, on synthetic images
that are in memory; the same with the loader, whose share is the difference. Then the table of
`benchmarks/training_options.py`: each of these arithmetics plain, compiled, with the fused optimiser, with gradient
checkpointing, with channels first, and all together (`--every`: every combination). Prediction: images per second of
torch and of ONNX Runtime with batches of 1 to 64, and the largest difference of keypoints and scores from the CPU's.
At the end: hours of the paper's recipes at the speed that was measured.
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch

from calipose.config.recipe import Recipe, load_recipe
from calipose.config.settings import ComputeSettings
from calipose.data.coco import read_coco
from calipose.data.synthetic.scene import EASY, synthesize_scene, write_synthetic_data
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from calipose.training.computing import set_computing
from calipose.training.loader import training_batches
from calipose.training.losses import all_losses
from calipose.training.order import EpochBatches
from calipose.training.samples import TrainingImages
from calipose.training.state import make_optimizer
from calipose.training.targets import make_targets
from training_options import TINY, arithmetic, print_options, synchronize, variants

COCO_IMAGES = 64_115  # of train2017, with people
RECIPES = ("coco-w32-512", "coco-w48-640")


def per_second(step: Callable[[], int], device: str, seconds: float) -> float:
    """Items per second of a step, after two steps that warm up."""
    for _ in range(2):
        step()
    synchronize(device)
    start, items = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        items += step()
    synchronize(device)
    return items / (time.perf_counter() - start)


def peak_memory(device: str) -> str:
    """The most memory that was in use: the device's, or of a CPU the process's."""
    if device.startswith("cuda"):
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of the process"


def train(recipe: Recipe, folder: Path, device: str, seconds: float, compiled: bool) -> float:
    """Print images per second of a recipe in each arithmetic; returns the best with the loader."""
    data = read_coco(folder / "annotations.json", folder / "images")
    network = Network(recipe.backbone.name, len(COCO_17), recipe.method).to(device, memory_format=torch.channels_last)
    images = TrainingImages(data, recipe.size, recipe.augment, network.backbone.mean, recipe.seed)
    optimizer = make_optimizer(network, recipe)
    sigmas = torch.tensor(COCO_17.sigmas, device=device)
    kept = next(training_batches(images, EpochBatches(len(data), recipe.batch_size, 0, 0), 0)).to(device)
    best = 0.0
    flavours = [("fp32", False), ("tf32", False), ("bf16", False), *([("bf16", True)] if compiled else [])]
    for name, compile_it in flavours:
        if name == "tf32" and not device.startswith("cuda"):
            continue
        set_computing(network, ComputeSettings(compile=compile_it))  # the last flavour: it stays compiled
        network.train()

        def step(batch=kept) -> int:
            settings = recipe.loss
            targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, settings)
            losses = all_losses(network(batch.images, targets.cells), targets, recipe.method, settings, sigmas)
            losses.total.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return len(batch)

        def loaded() -> Iterator:
            for epoch in range(10**6):
                batches = EpochBatches(len(data), recipe.batch_size, 0, epoch)
                yield from training_batches(images, batches, recipe.data.workers)

        with arithmetic(name, device):
            if device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats()
            speed = per_second(step, device, seconds)
            memory = peak_memory(device)
            stream = loaded()
            with_loader = per_second(lambda: step(next(stream).to(device)), device, seconds)  # noqa: B023
            stream.close()
        best = max(best, with_loader)
        label = f"{name}{', compiled' if compile_it else ''}"
        print(f"{recipe.name:14s} {label:14s} {speed:8.1f} images/s, with the loader {with_loader:8.1f}; {memory}")
    return best


def predict(device: str, seconds: float, side: int, sizes: list[int], model: str) -> None:
    """Print images per second of torch and ONNX Runtime, and how far the device is from the CPU."""
    rng = np.random.default_rng(0)
    image = synthesize_scene(rng, (side * 4 // 3, side), EASY).image
    predictors = {"torch": Predictor(model, device=device, with_torch=True)}
    providers = ["cuda"] if device.startswith("cuda") else ["cpu"]
    try:
        predictors["onnxruntime"] = Predictor(model, providers=providers)
    except ValueError as error:
        print(f"onnxruntime: {error}")
    for name, predictor in predictors.items():
        small = predictor.with_settings(short_side=side)
        for size in sizes:

            def step(small=small, size=size) -> int:
                return sum(1 for _ in small.predict_many([image] * size, size))

            print(f"{name:12s} batch {size:2d}: {per_second(step, device, seconds):8.1f} images/s at {side} px")
    network = predictors["torch"].backend.network  # type: ignore[attr-defined]
    settings = predictors["torch"].settings
    here = (
        Predictor(TorchBackend(network.cpu(), COCO_17, "cpu"), settings).with_settings(short_side=side).predict(image)
    )
    there = Predictor(TorchBackend(network, COCO_17, device), settings).with_settings(short_side=side).predict(image)
    if len(here) == len(there):
        pixels = np.abs(here.keypoints_img - there.keypoints_img).max(initial=0)
        scores = np.abs(here.scores - there.scores).max(initial=0)
        print(f"{device} against cpu: {len(here)} poses, {pixels:.1e} pixels, {scores:.1e} score")
    else:
        print(f"{device} against cpu: {len(there)} poses instead of {len(here)}")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--every", action="store_true", help="every combination of the training options")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    if not cuda and not options.tiny:
        parser.error("no GPU here; --tiny tries everything on the CPU")
    print(f"{torch.cuda.get_device_name() if cuda else platform.machine()}, torch {torch.__version__}")
    seconds = 0.5 if options.tiny else options.seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_synthetic_data(
            Path(temporary) / "data", 16 if options.tiny else 256, EASY, (640, 480), seed=0
        ).parent
        for name in RECIPES[:1] if options.tiny else RECIPES:
            recipe = load_recipe(name, list(TINY) if options.tiny else [])
            if options.tiny:
                recipe = msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, workers=0))
            best = train(recipe, folder, options.device, seconds, options.compile)
            arithmetics = ["fp32", "tf32", "bf16"] if cuda else ["fp32", "bf16"]
            chosen = variants(arithmetics, options.compile, options.every)
            print_options(recipe, chosen, options.device, 2 if options.tiny else 9)
            if not options.tiny:
                hours = COCO_IMAGES * recipe.epochs / best / 3600
                print(f"{name}: {recipe.epochs} epochs of {COCO_IMAGES} images take {hours:.0f} hours at that speed")
    predict(options.device, seconds, 64 if options.tiny else 512, [1, 2] if options.tiny else [1, 4, 16, 64], "onepass")


if __name__ == "__main__":
    main()
