"""A model of two looks: what its second look's result is worth, from images that were kept apart.

Fits the score of two looks (`calipose.calibration.second_look`) and the calibration of that score, and writes
`accurate.model.json` or `fast.model.json` beside the two networks. Prints the error of a cross-fitted score.

    python tools/default_second_look.py DATA
    python tools/default_second_look.py DATA --short-side 288 --scales 1 --crop 1.25 --size 160 --score-threshold 0.15 \
        --out src/calipose/weights/fast.model.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np

from calipose.calibration.fit import assign_folds
from calipose.calibration.second_look import SecondLook, fit_two_look_score
from calipose.data.locate import find_data
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.opening import TwoNetworks, write_two_networks
from calipose.inference.packaged import packaged
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner, see_twice
from calipose.io.images import read_image


def fit_second_look(predictor: Predictor, annotations: Path, folder: Path, look: SecondLook) -> SecondLook:
    """`look` with scores of poses and keypoints fitted on labelled images.

    Args:
        predictor: of the first look, with the refiner.
        annotations: COCO keypoint file.
        folder: of its images.
        look: crop, its size, and smallest confidence.
    """
    assert predictor.refiner is not None
    truth = read_ground_truth(annotations, predictor.skeleton)
    entries, rows = [], []
    for image_id, name in truth.require_files().items():
        image = read_image(folder / name, ignore_orientation=True)
        first = predictor.first_look([image])[0]
        both = see_twice(image, first, predictor.refiner, look, predictor.settings.flip)
        for i, raw in enumerate(first.raw_scores):
            triples = np.c_[both.keypoints_img[i], both.confidences[i]]
            score = float(raw * both.confidences[i].mean() * both.agreement[i].mean())  # only to match people with
            entries.append(
                {"image_id": image_id, "category_id": 1, "keypoints": triples.flatten().tolist(), "score": score}
            )
            rows.append((raw, both.first_keypoint_scores[i], both.confidences[i], both.agreement[i]))
    matches = Evaluation(truth, entries, predictor.skeleton).matches
    first_score, own, confidence, agree = (np.array(column)[matches.entry] for column in zip(*rows, strict=True))
    features = first_score, confidence.mean(1), agree.mean(1)
    fold = assign_folds(len(np.unique(matches.image)), 10)[np.unique(matches.image, return_inverse=True)[1]]
    error = [
        (
            fit_two_look_score(*(f[fold != i] for f in features), matches.oks[fold != i])(
                *(f[fold == i] for f in features)
            )
            - matches.oks[fold == i]
        )
        ** 2
        for i in range(10)
    ]
    print(f"{len(matches.entry)} poses count; squared error, cross-fitted {np.concatenate(error).mean():.4f}")
    of_people = np.isfinite(matches.similarity)
    keypoint = fit_two_look_score(
        own[of_people], confidence[of_people], agree[of_people], matches.similarity[of_people]
    )
    return msgspec.structs.replace(look, pose=fit_two_look_score(*features, matches.oks), keypoint=keypoint)


def main() -> None:
    """Fit, calibrate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="images that no network was trained on")
    parser.add_argument("--first", default="onepass.onnx")
    parser.add_argument("--refiner", default="thunder.onnx")
    parser.add_argument("--crop", type=float, default=SecondLook().crop)
    parser.add_argument("--size", type=int, default=0, help="side of a crop in pixels; 0 is the network's own")
    parser.add_argument("--short-side", type=int, help="of the first look")
    parser.add_argument("--scales", type=float, nargs="+", help="of the first look")
    parser.add_argument(
        "--score-threshold", type=float, default=0.1, help="first raw score from which poses are seen again"
    )
    parser.add_argument("--out", type=Path, default=Path("src/calipose/weights/accurate.model.json"))
    arguments = parser.parse_args()
    annotations, images = find_data(arguments.data)
    first = Predictor(packaged(arguments.first))
    sizes = {"short_side": arguments.short_side, "scales": arguments.scales and tuple(arguments.scales)}
    changes = {name: value for name, value in sizes.items() if value is not None}
    settings = first.with_settings(score_threshold=arguments.score_threshold, **changes).settings
    refiner = Refiner(packaged(arguments.refiner))
    look = SecondLook(crop=arguments.crop, size=arguments.size)
    predictor = Predictor(first.backend, settings, refiner=refiner, second_look=look)
    look = fit_second_look(predictor, annotations, images, look)
    predictor = Predictor(first.backend, settings, refiner=refiner, second_look=look)
    evaluation = evaluate_predictor(predictor.with_calibration(type(predictor.calibration)()), annotations, images)
    print(evaluation.ap)
    calibration = evaluation.fit_calibration(predictor.setting, annotations.stem)
    model = TwoNetworks(
        model=arguments.first, refiner=arguments.refiner, second_look=look, predict=settings, calibration=calibration
    )
    write_two_networks(arguments.out, model)
    print(look)


if __name__ == "__main__":
    main()
