"""Peak window and pose NMS: AP of one checkpoint under each, the network run once per window.

python experiments/decoding.py RUN --data ../shared/data/coco-train [--images 200]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results
from calipose.geometry import pose_nms
from calipose.inference.predictor import Predictor
from calipose.io.images import read_image
from calipose.model import decode
from calipose.poses import Poses


def main() -> None:
    """Print AP for each NMS threshold and peak window."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=10**9, help="the first so many")
    options = parser.parse_args()
    annotations, images = find_data(options.data)
    truth = json.loads(annotations.read_text())
    truth["images"] = truth["images"][: options.images]
    ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    predictor = Predictor.from_checkpoint(options.checkpoint).with_settings(nms_threshold=1.0)
    sigmas = predictor.skeleton.sigmas_array
    print("| window | NMS | AP | AP50 | AR | poses |\n|---|---|---|---|---|---|")
    for window in (3, 5, 9):
        decode.PEAK_WINDOW = window
        found: dict[int, Poses] = {}
        for image in truth["images"]:
            found[image["id"]] = predictor.predict(read_image(images / image["file_name"], ignore_orientation=True))
        for threshold in (0.9, 0.7, 0.5, 0.3, 0.2):
            results = []
            for image_id, poses in found.items():
                kept = pose_nms(poses.keypoints_img, poses.scores, sigmas, threshold)
                results += poses[np.asarray(kept)].to_coco(image_id)
            figures = evaluate_results(truth, results, predictor.skeleton)
            cells = f"{figures.ap:.4f} | {figures.ap50:.4f} | {figures.ar:.4f} | {figures.poses}"
            print(f"| {window} | {threshold} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
