"""How often the shift alarm speaks: on images of the calibration's own kind, and on others.

    python experiments/shift_alarm.py onepass --data DATA --other OTHER --out runs/shift [--images 150]

Predicts the images of DATA as they are, grey, and halved, and those of OTHER; keeps what was found in OUT, and goes on
from there. Then splits the images of DATA in halves at random: the first half is the calibration's, the second one the
run's, as it is or changed; a run of OTHER takes as many images. Prints the share of the splits with an alarm, and what
is said of all images where the model keeps those of its own calibration.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np

from calipose.calibration.maps import Calibration
from calipose.calibration.shift import LEVEL, ImageSummaries, colour_of, compare_images, pose_sizes_img
from calipose.data.locate import find_data
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, read_image
from calipose.plain_data import convert

MIN_SCORE = 0.3  # of `calipose predict`
CHANGES: dict[str, Callable[[Image], Image]] = {
    "as they are": lambda image: image,
    "grey": lambda image: np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "halved": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
}


def seen(predictor: Predictor, data: str, kind: str, out: Path, images: int) -> ImageSummaries:
    """What the model finds in the images, from OUT where it is there."""
    path = out / f"{kind.replace(' ', '-')}.json"
    if path.is_file():
        return convert(json.loads(path.read_text()), ImageSummaries, str(path))
    annotations, folder = find_data(data)
    files = list(read_ground_truth(annotations).in_folder(folder).require_files().values())
    found, colour = [], []
    for file in files[:images]:
        image = CHANGES.get(kind, CHANGES["as they are"])(read_image(folder / file))
        poses = predictor.predict(image)
        found.append((poses.raw_scores, pose_sizes_img(poses.keypoints_img)))
        colour.append(colour_of(image))
    summaries = ImageSummaries.of(found, len(found), colour=colour)
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(msgspec.to_builtins(summaries)))
    return summaries


def part(summaries: ImageSummaries, chosen: np.ndarray) -> ImageSummaries:
    """Some of the images."""
    columns = (tuple(column[i] for i in chosen) for column in (summaries.raw, summaries.size_img, summaries.colour))
    return ImageSummaries(**dict(zip(("raw", "size_img", "colour"), columns, strict=True)))


def main() -> None:
    """Predict, split, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=150, help="of OTHER")
    parser.add_argument("--splits", type=int, default=200)
    options = parser.parse_args()
    predictor = Predictor(options.model)
    min_raw = float(predictor.calibration.score.inverse(MIN_SCORE))
    packaged = predictor.calibration.images
    predictor = predictor.with_calibration(Calibration())
    kinds = {kind: seen(predictor, options.data, kind, options.out, 10**9) for kind in CHANGES}
    kinds["other data"] = seen(predictor, options.other, "other data", options.out, options.images)
    print(f"share of {options.splits} random halves with an alarm at level {LEVEL}; all images against the model's own")
    for kind, run in kinds.items():
        alarms = []
        for seed in range(options.splits):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(kinds["as they are"]))
            half = len(order) // 2
            chosen = order[half:] if len(run) == len(order) else rng.permutation(len(run))[:half]
            shift = compare_images(part(kinds["as they are"], order[:half]), part(run, chosen), min_raw, 499, seed)
            alarms.append(shift.alarm)
        whole = compare_images(packaged, run, min_raw) if len(packaged) else "no summaries in the model"
        print(f"{kind}: {np.mean(alarms):.3f}; {whole}", flush=True)


if __name__ == "__main__":
    main()
