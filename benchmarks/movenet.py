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

import cv2
import numpy as np

from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.run import save_results
from calipose.geometry import apply_affine, invert_affine, resize_affine
from calipose.io.images import INPUT_MULTIPLE, Image, read_image
from calipose.poses import Poses
from calipose.skeleton import COCO_17


class MoveNet:
    """Finds at most six people; `long_side` in input pixels."""

    def __init__(self, file: Path, long_side: int, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.interpreter = Interpreter(str(file), num_threads=threads)
        self.long_side = long_side

    def predict(self, image: Image) -> Poses:
        """Poses of an image (h, w, 3) RGB."""
        height, width = image.shape[:2]
        inp_per_img = self.long_side / max(height, width)
        size = (round(width * inp_per_img), round(height * inp_per_img))
        interpolation = cv2.INTER_AREA if inp_per_img < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, size, interpolation=interpolation)
        padded = [-(-side // INPUT_MULTIPLE) * INPUT_MULTIPLE for side in size]
        pixels = np.zeros((1, padded[1], padded[0], 3), np.uint8)
        pixels[0, : size[1], : size[0]] = small
        found = self._run(pixels)
        keypoints = found[:, :51].reshape(-1, 17, 3)
        # MoveNet counts from the image's corner, in parts of its size.
        keypoints_inp = keypoints[..., [1, 0]] * padded - 0.5
        keypoints_img = apply_affine(invert_affine(resize_affine(inp_per_img)), keypoints_inp)
        poses = Poses(keypoints_img, found[:, 55], (width, height), keypoints[..., 2])
        return poses.above(0.01)

    def _run(self, image: np.ndarray) -> np.ndarray:
        entry = self.interpreter.get_input_details()[0]
        if tuple(entry["shape"]) != image.shape:
            self.interpreter.resize_tensor_input(entry["index"], image.shape)
            self.interpreter.allocate_tensors()
        self.interpreter.set_tensor(entry["index"], image.astype(entry["dtype"]))
        self.interpreter.invoke()
        output: np.ndarray = self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])[0]
        return output


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
