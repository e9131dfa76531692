"""From a trained run to the default model in the package: checkpoint and ONNX file.

Takes the prediction settings of the recipe `default`, rounds the large weights to half precision, and writes
`default.safetensors` (for `--init`) and `default.onnx` into the package's `weights/`.

    python benchmarks/default_finish.py RUN [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import torch

from calipose.export import HALF_FROM, export_onnx, is_feature
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from calipose.recipe import load_recipe


def main() -> None:
    """Round and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
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

    with torch.no_grad():
        gaps = export_onnx(load_checkpoint(path), arguments.out / "default.onnx", half=True)
    for file in (path, arguments.out / "default.onnx"):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    print(f"parity with torch: {gaps}")


if __name__ == "__main__":
    main()
