"""MoveNet MultiPose on a labelled data set, as COCO results: the peer that the default model is measured against.

    python benchmarks/movenet.py TFLITE --data DATA --long-side 512 --out runs/movenet.json

Needs the package `ai-edge-litert`. Prints AP with its interval and the median time of an image, resizing included,
on the number of threads given.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from calipose.calibration.maps import Calibration
from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.run import save_results
from calipose.inference.foreign.movenet import MOVENET
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, read_image
from calipose.poses import Poses
from calipose.skeleton import COCO_17


class MoveNet:
    """Finds at most six people, scores as the network gives them; `long_side` in input pixels."""

    def __init__(self, file: Path, long_side: int, threads: int) -> None:
        predictor = Predictor(file, calibration=Calibration(), threads=threads, form=MOVENET.name)
        self._predictor = predictor.with_settings(short_side=long_side)  # the form's side is the long one

    def predict(self, image: Image) -> Poses:
        """Poses of an image (h, w, 3) RGB."""
        return self._predictor.predict(image)


def main() -> None:
    """Predict, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--long-side", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    annotations, images = find_data(arguments.data)
    network = MoveNet(arguments.tflite, arguments.long_side, arguments.threads)
    results: list[dict[str, Any]] = []
    seconds = []
    for entry in json.loads(annotations.read_text())["images"]:
        image = read_image(images / entry["file_name"], ignore_orientation=True)
        start = time.perf_counter()
        poses = network.predict(image)
        seconds.append(time.perf_counter() - start)
        results += poses.to_coco(entry["id"])
    figures = evaluate_results(annotations, results, COCO_17, 1000, setting={"long side": arguments.long_side})
    from rich.console import Console

    Console().print(figures.__rich__())
    print(f"median {1000 * np.median(seconds):.1f} ms an image on {arguments.threads} threads")
    if arguments.out:
        save_results(arguments.out, results)


if __name__ == "__main__":
    main()
