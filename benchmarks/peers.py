"""The packaged models beside their peers: AP, false poses, the scores, and time, in one run.

    python benchmarks/peers.py --data ../shared/data/coco-val --movenet TFLITE [--model NAME=FILE ...] [--threads 2]

Every image goes through every model, in shuffled turns; the time is from image to poses, reading the file
not included. Times are given by the number of people who are labelled in the image. False poses are those of score
0.3 or more on images without people whose annotations are complete. MoveNet finds six people at most.

The packaged models were calibrated on `coco-val`, too. So here they give raw scores, which AP is taken of (a rising map
leaves it as it is), and their scores and false poses are cross-fitted: those of each tenth of the images come from maps
that were fitted on the others.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from calipose.calibration.maps import Calibration
from calipose.data.locate import find_data
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, read_image
from calipose.poses import Poses
from head_cost import machine
from movenet import MoveNet

PAUSE_SECONDS = 0.05  # thread pools wait actively for some milliseconds for more to do
PACKAGED = ("accurate", "fast", "onepass")
GROUPS = {"0": (0, 0), "1": (1, 1), "2 to 4": (2, 4), "7 or more": (7, 1000)}
FALSE_FROM = 0.3


def main() -> None:
    """Predict, time, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--movenet", type=Path)
    parser.add_argument("--long-side", type=int, default=512)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bootstrap", type=int, default=1000)
    options = parser.parse_args()
    annotations, folder = find_data(options.data)
    truth = read_ground_truth(annotations)
    models: dict[str, Callable[[Image], Poses]] = {
        name: Predictor(name, calibration=Calibration(), threads=options.threads).predict for name in PACKAGED
    }
    for entry in options.model:
        name, _, file = entry.partition("=")
        models[name] = Predictor(file, threads=options.threads).predict
    if options.movenet:
        models["MoveNet"] = MoveNet(options.movenet, options.long_side, options.threads).predict
    people: dict[int, int] = {}
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        people[annotation["image_id"]] = people.get(annotation["image_id"], 0) + bool(annotation["num_keypoints"])
    labelled = {annotation["image_id"] for annotation in content["annotations"]}
    empty = {image["id"] for image in content["images"] if image["id"] not in labelled}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    seconds: dict[str, dict[int, float]] = {name: {} for name in models}
    random.seed(0)
    for image_id, file in truth.require_files().items():
        image = read_image(folder / file, ignore_orientation=True)
        for name in random.sample(list(models), len(models)):
            time.sleep(PAUSE_SECONDS)
            begin = time.perf_counter()
            poses = models[name](image)
            seconds[name][image_id] = time.perf_counter() - begin
            results[name] += poses.to_coco(image_id, truth.category_id)
    print(machine())
    print(f"{len(seconds['fast'])} images, {len(empty)} without people; ms an image, by people: {', '.join(GROUPS)}")
    for name, entries in results.items():
        evaluation = Evaluation(truth, entries, bootstrap=options.bootstrap)
        ap = evaluation.ap
        if name in PACKAGED:
            # Cross-fitted: the shipped maps were fitted on coco-val, too.
            evaluation = Evaluation(truth, evaluation.calibrated_entries(), bootstrap=options.bootstrap)
        scores = evaluation.scores["score"]
        false = sum(entry["image_id"] in empty and entry["score"] >= FALSE_FROM for entry in evaluation.entries)
        of = seconds[name]
        times = []
        for low, high in GROUPS.values():
            chosen = [1e3 * value for image_id, value in of.items() if low <= people.get(image_id, 0) <= high]
            times.append(f"{np.median(chosen):.0f}" if chosen else "-")
        everything = np.percentile([1e3 * value for value in of.values()], [25, 50, 75])
        print(f"{name}: {ap.to_dict()}")
        print(f"    scores{' (cross-fitted)' if name in PACKAGED else ''} {scores.to_dict()}")
        print(
            f"    {false} false poses; median {everything[1]:.0f} ms ({everything[0]:.0f} to {everything[2]:.0f}), "
            f"mean {1e3 * np.mean(list(of.values())):.0f} ms; by people {', '.join(times)}"
        )


if __name__ == "__main__":
    main()
