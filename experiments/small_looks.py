"""A fast model of two looks: how small may both be?

    python experiments/small_looks.py --data ANNOTATIONS.json=IMAGES [--movenet TFLITE]

Every way has a score of its own, fitted on the images of other folds (ten). Time is CPU time of one thread, reading the
file not included. Choose on images that no result is reported of.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calipose.calibration.fit import assign_folds
from calipose.calibration.second_look import SecondLook, TwoLookScore, fit_two_look_score
from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results, paired_difference
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.geometry import Floats
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner, look_again, see_twice
from calipose.inference.scales import ScaleCandidates
from calipose.io.images import Image, read_image
from calipose.poses import Poses

FIRST = ((448, (0.35, 1.0)), (320, (1.0,)), (288, (1.0,)), (256, (1.0,)))  # short side, scales; the first is `onepass`
SECOND = ((256, 1.4), (192, 1.25), (160, 1.25), (128, 1.25))  # size of a crop, and its side in boxes
FROM = (0.1, 0.15, 0.2)  # first raw score


Found = dict[int, ScaleCandidates]
Entries = list[dict[str, Any]]


def as_coco(found: Found, images: dict[int, Image]) -> Entries:
    """COCO results of what was found in each image."""
    return [
        entry
        for image_id, poses in found.items()
        for size in [(images[image_id].shape[1], images[image_id].shape[0])]
        for entry in Poses(poses.keypoints_img, poses.raw_scores, size).to_coco(image_id)
    ]


def cross_fitted(entries: Entries, features: Floats, annotations: Path) -> dict[int, TwoLookScore]:
    """For each image the score of two looks, fitted on the images of other folds; `features` (n, 3) of the entries."""
    matches = Evaluation(read_ground_truth(annotations), entries).matches
    image_ids = sorted({entry["image_id"] for entry in entries})
    fold_of = dict(zip(image_ids, assign_folds(len(image_ids), 10).tolist(), strict=True))
    fold = np.array([fold_of[entries[i]["image_id"]] for i in matches.entry])
    columns, oks = features[matches.entry], matches.oks
    scores = {i: fit_two_look_score(*columns[fold != i].T, oks[fold != i]) for i in set(fold_of.values())}
    return {image_id: scores[i] for image_id, i in fold_of.items()}


def judge(images: dict[int, Image], first: Found, pair: Predictor, annotations: Path) -> tuple[Entries, float]:
    """COCO results of two looks with cross-fitted scores, and CPU seconds of the second look."""
    refiner, look, threshold = pair.refiner, pair.second_look, pair.settings.nms_threshold
    assert refiner is not None
    first = {image_id: poses for image_id, poses in first.items() if len(poses.raw_scores)}
    seen, features = {}, []
    for image_id, poses in first.items():
        both = see_twice(images[image_id], poses, refiner, look, False)
        three = np.c_[poses.raw_scores, both.confidences.mean(1), both.agreement.mean(1)]
        features.append(three)
        seen[image_id] = ScaleCandidates(both.keypoints_img, three.prod(1))  # a score to match people with
    scores = cross_fitted(as_coco(seen, images), np.concatenate(features), annotations)
    begin = time.process_time()
    found = {
        image_id: look_again(
            images[image_id], poses, refiner, msgspec.structs.replace(look, pose=scores[image_id]), threshold, False
        )
        for image_id, poses in first.items()
    }
    return as_coco(found, images), time.process_time() - begin


def main() -> None:
    """Look in every way, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--movenet", help="MoveNet MultiPose, for its time and AP")
    options = parser.parse_args()
    annotations, folder = find_data(options.data)
    files = read_ground_truth(annotations).files
    images = {image_id: read_image(folder / name, ignore_orientation=True) for image_id, name in files.items()}

    def timed(predictor: Predictor) -> tuple[Found, float]:
        predictor.warm_up()
        begin = time.process_time()
        return {i: predictor.first_look([image])[0] for i, image in images.items()}, time.process_time() - begin

    print(
        "| first look | from | second look | poses an image | CPU ms, first + second | AP | AP50 | lead over one look |"
    )
    print("|---|---|---|---|---|---|---|---|")
    if options.movenet:
        found, seconds = timed(Predictor(options.movenet, threads=1))
        figures = evaluate_results(annotations, as_coco(found, images))
        print(
            f"| MoveNet | | | | {1e3 * seconds / len(images):.0f} | {figures.ap:.3f} | {figures.ap50:.3f} | |",
            flush=True,
        )
    one_look: Entries = []
    base, refiner = Predictor(options.model, threads=1), Refiner(threads=1)
    for short_side, scales in FIRST:
        all_found, first_seconds = timed(base.with_settings(short_side=short_side, scales=scales, score_threshold=0.05))
        figures = evaluate_results(annotations, as_coco(all_found, images))
        one_look = one_look or as_coco(all_found, images)
        name = f"{short_side} px" + (f", x {scales[0]}" if len(scales) > 1 else "")
        milliseconds = 1e3 * first_seconds / len(images)
        print(f"| {name} | 0.05 | none | | {milliseconds:.0f} | {figures.ap:.3f} | {figures.ap50:.3f} | |", flush=True)
        for (size, crop), least in itertools.product(SECOND, FROM):
            found = {i: poses[np.flatnonzero(poses.raw_scores > least)] for i, poses in all_found.items()}
            pair = Predictor(base.backend, base.settings, refiner=refiner, second_look=SecondLook(crop=crop, size=size))
            results, seconds = judge(images, found, pair, annotations)
            figures = evaluate_results(annotations, results)
            lead = paired_difference(annotations, results, one_look)
            looked = sum(len(poses.raw_scores) for poses in found.values()) / len(images)
            print(
                f"| {name} | {least} | {size} px, x {crop} | {looked:.1f} | {milliseconds:.0f} +"
                f" {1e3 * seconds / len(images):.0f} | {figures.ap:.3f} | {figures.ap50:.3f} |"
                f" {lead.difference:+.3f} ({lead.interval[0]:+.3f} to {lead.interval[1]:+.3f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
