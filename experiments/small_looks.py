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

import msgspec
import numpy as np

from calipose.calibration.fit import assign_folds
from calipose.calibration.second_look import SecondLook, fit_two_look_score
from calipose.data.locate import find_data
from calipose.evaluation.ap import evaluate_results, paired_difference
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner, look_again, see_twice
from calipose.inference.scales import ScaleCandidates
from calipose.io.images import Image, read_image

FIRST = ((448, (0.35, 1.0)), (320, (1.0,)), (288, (1.0,)), (256, (1.0,)))  # short side, scales; the first is `onepass`
SECOND = ((256, 1.4), (192, 1.25), (160, 1.25), (128, 1.25))  # size of a crop, and its side in boxes
FROM = (0.1, 0.15, 0.2)  # first raw score


def fitted(
    rows: list[tuple[np.ndarray, ...]], entries: list[dict[str, object]], annotations: Path
) -> dict[int, SecondLook]:
    """For each image the score of two looks, fitted on the images of other folds."""
    evaluation = Evaluation(read_ground_truth(annotations), entries)
    matches = evaluation.matches
    first, confidence, agreement = (np.array(column)[matches.entry] for column in zip(*rows, strict=True))
    ids = sorted({int(entry["image_id"]) for entry in entries})  # type: ignore[call-overload]
    folds = dict(zip(ids, assign_folds(len(ids), 10), strict=True))
    of_match = np.array([folds[int(entries[entry]["image_id"])] for entry in matches.entry])  # type: ignore[call-overload]
    scores = {
        fold: fit_two_look_score(
            first[of_match != fold], confidence[of_match != fold], agreement[of_match != fold], oks
        )
        for fold in set(folds.values())
        for oks in [matches.oks[of_match != fold]]
    }
    return {image: SecondLook(pose=scores[fold]) for image, fold in folds.items()}


def judge(
    images: dict[int, Image], first: dict[int, ScaleCandidates], refiner: Refiner, look: SecondLook, annotations: Path
) -> tuple[list[dict[str, object]], float]:
    """COCO results of two looks with cross-fitted scores, and CPU seconds of the second look."""
    rows, entries = [], []
    for image_id, image in images.items():
        if not len(first[image_id].raw_scores):
            continue
        both = see_twice(image, first[image_id], refiner, look, False)
        for i, raw in enumerate(first[image_id].raw_scores):
            values = raw, both.confidences[i].mean(), both.agreement[i].mean()
            rows.append(values)
            triples = np.c_[both.keypoints_img[i], both.confidences[i]].flatten().tolist()
            entries.append(
                {"image_id": image_id, "category_id": 1, "keypoints": triples, "score": float(np.prod(values))}
            )
    looks = fitted(rows, entries, annotations)
    results: list[dict[str, object]] = []
    begin = time.process_time()
    found = {
        image_id: look_again(image, first[image_id], refiner, msgspec.structs.replace(look, pose=looks[image_id].pose),
                             0.3, False)
        for image_id, image in images.items()
        if len(first[image_id].raw_scores)
    }  # fmt: skip
    seconds = time.process_time() - begin
    for image_id, poses in found.items():
        for points, score in zip(poses.keypoints_img, poses.raw_scores, strict=True):
            triples = np.c_[points, np.ones(len(points))].flatten().tolist()
            results.append({"image_id": image_id, "category_id": 1, "keypoints": triples, "score": float(score)})
    return results, seconds


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

    def timed(predictor: Predictor) -> tuple[dict[int, ScaleCandidates], float]:
        predictor.warm_up()
        begin = time.process_time()
        return {i: predictor.first_look([image])[0] for i, image in images.items()}, time.process_time() - begin

    def as_coco(found: dict[int, ScaleCandidates]) -> list[dict[str, object]]:
        return [
            {
                "image_id": i,
                "category_id": 1,
                "keypoints": np.c_[points, np.ones(len(points))].flatten().tolist(),
                "score": float(score),
            }
            for i, poses in found.items()
            for points, score in zip(poses.keypoints_img, poses.raw_scores, strict=True)
        ]

    print(
        "| first look | from | second look | poses an image | CPU ms, first + second | AP | AP50 | lead over one look |"
    )
    print("|---|---|---|---|---|---|---|---|")
    if options.movenet:
        found, seconds = timed(Predictor(options.movenet, threads=1))
        figures = evaluate_results(annotations, as_coco(found))
        print(
            f"| MoveNet | | | | {1e3 * seconds / len(images):.0f} | {figures.ap:.3f} | {figures.ap50:.3f} | |",
            flush=True,
        )
    one_look: list[dict[str, object]] = []
    base, refiner = Predictor(options.model, threads=1), Refiner(threads=1)
    for short_side, scales in FIRST:
        all_found, first_seconds = timed(base.with_settings(short_side=short_side, scales=scales, score_threshold=0.05))
        figures = evaluate_results(annotations, as_coco(all_found))
        one_look = one_look or as_coco(all_found)
        name = f"{short_side} px" + (f", x {scales[0]}" if len(scales) > 1 else "")
        milliseconds = 1e3 * first_seconds / len(images)
        print(f"| {name} | 0.05 | none | | {milliseconds:.0f} | {figures.ap:.3f} | {figures.ap50:.3f} | |", flush=True)
        for (size, crop), least in itertools.product(SECOND, FROM):
            found = {i: poses[np.flatnonzero(poses.raw_scores > least)] for i, poses in all_found.items()}
            results, seconds = judge(images, found, refiner, SecondLook(crop=crop, size=size), annotations)
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
