"""From a trained run to the default model in the package: calibration, notes, checkpoint and ONNX file.

Fits the score map on labelled pictures that were not trained on, rounds the large weights to half precision, and writes
`default.safetensors` (for `--init`) and `default.onnx` into the package's `weights/`.

    python benchmarks/default_finish.py RUN --data DATA --name "39 pictures of COCO train2017" [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
import torch

from calipose.calibration import Setting, fit_score_map
from calipose.data.locate import find_data
from calipose.evaluation.quality import match_poses
from calipose.evaluation.run import predict_data
from calipose.export import HALF_FROM, export_onnx, is_feature
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from calipose.predictor import Predictor
from calipose.recipe import load_recipe

LEAST_RAW = 0.01  # poses from this raw score on are calibrated


def main() -> None:
    """Calibrate, round, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True, help="of the data, for the score map")
    parser.add_argument("--out", type=Path, default=Path("src/calipose/weights"))
    arguments = parser.parse_args()
    trained = load_checkpoint(arguments.run)
    predict = load_recipe("default").predict
    recipe = msgspec.structs.replace(trained.recipe, predict=predict)
    weights = {
        name: value.half() if value.is_floating_point() and value.numel() >= HALF_FROM and is_feature(name) else value
        for name, value in trained.weights.items()
    }
    checkpoint = Checkpoint(recipe, trained.skeleton, weights, trained.notes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "default.safetensors"
    save_checkpoint(path, checkpoint)

    annotations, pictures = find_data(arguments.data)
    predictor = Predictor(path, msgspec.structs.replace(predict, score_threshold=LEAST_RAW), device="cpu")
    matches = match_poses(annotations, predict_data(predictor, annotations, pictures), trained.skeleton)
    setting = Setting(short_side=predict.short_side, flip=predict.flip, nms_threshold=predict.nms_threshold)
    number = len(np.unique(matches.picture))
    score_map = fit_score_map(matches.score, matches.oks, setting, arguments.name, number, most_knots=8)
    print(f"{len(matches.score)} poses of {number} pictures: mean score {matches.score.mean():.3f}, ", end="")
    knots = " ".join(f"{x:.2f}->{y:.2f}" for x, y in zip(score_map.x, score_map.y, strict=True))
    print(f"mean OKS {matches.oks.mean():.3f}; map {knots}")

    final = Checkpoint(recipe, trained.skeleton, weights, trained.notes, score_map)
    save_checkpoint(path, final)
    with torch.no_grad():
        gaps = export_onnx(load_checkpoint(path), arguments.out / "default.onnx", half=True)
    for file in (path, arguments.out / "default.onnx"):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    print(f"parity with torch: {gaps}")


if __name__ == "__main__":
    main()
