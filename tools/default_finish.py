"""From trained runs to the packaged `onepass`: checkpoint and ONNX file.

Averages the weights of the runs, takes the prediction settings of the recipe `onepass`, rounds the large weights to
half precision, calibrates the scores on images that were kept apart, and writes `onepass.safetensors` (for `--init`)
and `onepass.onnx` into the package's `weights/`. `onepass.calipose.json` there is removed, as it is of other weights:
`tools/default_calibration.py` writes it anew.

    python tools/default_finish.py RUN... --calibrate DATA [--out DIR]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from calipose.config.recipe import load_recipe
from calipose.config.stored import stored_path
from calipose.data.locate import find_data
from calipose.evaluation.run import evaluate_predictor
from calipose.export.onnx import HALF_FROM, export_onnx, is_feature
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def averaged(runs: list[Path]) -> Checkpoint:
    """The last run's checkpoint with the mean of all runs' weights (model soups: Wortsman et al., ICML 2022)."""
    checkpoints = [load_checkpoint(run) for run in runs]
    last = checkpoints[-1]
    weights = {
        name: torch.stack([c.weights[name] for c in checkpoints]).mean(0) if value.is_floating_point() else value
        for name, value in last.weights.items()
    }
    return replace(last, weights=weights)


def main() -> None:
    """Average, round, calibrate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--calibrate", metavar="DATA", required=True, help="images that no run was trained on")
    parser.add_argument("--out", type=Path, default=Path("src/calipose/weights"))
    arguments = parser.parse_args()
    trained = averaged(arguments.runs)
    settings = load_recipe("onepass").predict
    weights = {
        name: value.half() if value.is_floating_point() and value.numel() >= HALF_FROM and is_feature(name) else value
        for name, value in trained.weights.items()
    }
    recipe = msgspec.structs.replace(trained.recipe, predict=settings)
    checkpoint = Checkpoint(recipe, trained.skeleton, weights, {"runs": [run.name for run in arguments.runs]})

    annotations, images = find_data(arguments.calibrate)
    predictor = Predictor(TorchBackend(checkpoint.network(), checkpoint.skeleton), settings)
    calibration = evaluate_predictor(predictor, annotations, images).fit_calibration(settings.setting, annotations.stem)
    checkpoint = replace(checkpoint, calibration=calibration)
    for name in ("score", "oks50", "oks75", "keypoint"):
        of = getattr(calibration, name)
        print(f"{name}: {of.kind}, {of.poses} poses of {of.images} images")

    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "onepass.safetensors"
    stored_path(path).unlink(missing_ok=True)
    save_checkpoint(path, checkpoint)
    with torch.no_grad():
        gaps = export_onnx(load_checkpoint(path), arguments.out / "onepass.onnx", half=True)
    save_checkpoint(path, checkpoint, arguments.out / "onepass.onnx")  # without what that file holds, too
    for file in (path, arguments.out / "onepass.onnx"):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    print(f"parity with torch: {gaps}")


if __name__ == "__main__":
    main()
