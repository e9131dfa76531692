"""How the second look is best taken: network, size, crop, from which score, and which keypoints it replaces.

    python experiments/second_look.py --data ANNOTATIONS.json=IMAGES [--refiner NAME=FILE ...] [--first onepass]

`--refiner` names further networks of the documented form (tools/make_refiner.py makes them). The score of every row is
that of the packaged model, whose weights were fitted for one of the rows. The lead is over one look, paired by image.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from calipose.calibration.second_look import SecondLook
from calipose.data.locate import find_data
from calipose.data.synthetic.scene import HARD, SyntheticScene, synthesize_scene
from calipose.evaluation.ap import evaluate_results, paired_difference
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.geometry import oks
from calipose.inference.opening import read_two_networks
from calipose.inference.packaged import packaged
from calipose.inference.predictor import Predictor
from calipose.inference.refiner import Refiner, look_again
from calipose.io.images import read_image
from calipose.poses import Poses


@dataclass(frozen=True)
class Way:
    """One way of looking again; the defaults are those of `accurate`."""

    refiner: str = "thunder"
    size: int = 256
    crop: float = 1.4
    least_score: float = 0.1
    min_confidence: float = 0.1
    flip: bool = False


WAYS = [
    Way(),
    *(Way(size=size, crop=crop) for size in (160, 192, 224, 256, 320) for crop in (1.1, 1.25, 1.4, 1.6)),
    *(Way(least_score=score) for score in (0.05, 0.08, 0.15, 0.2)),
    *(Way(min_confidence=confidence) for confidence in (0.0, 0.05, 0.2, 0.3)),
    Way(flip=True),
]


def crowds(predictor: Predictor, refiner: Refiner, look: SecondLook, number: int) -> None:
    """Synthetic people who cross and hide each other: how many are found, and how many poses end on a neighbour."""
    settings = replace(HARD, people=(3, 8))
    sigmas, threshold = predictor.skeleton.sigmas_array, predictor.settings.nms_threshold
    found, jumped, people = {"one look": 0, "two looks": 0}, 0, 0
    for seed in range(number):
        scene = synthesize_scene(np.random.default_rng(seed), (640, 480), settings)
        first = predictor.first_look([scene.image])[0]
        first = first[np.flatnonzero(first.raw_scores > 0.1)]
        people += len(scene.keypoints_img)
        if not len(first.raw_scores):
            continue
        both = look_again(scene.image, first, refiner, look, threshold, False)

        def owners(poses: np.ndarray, scene: SyntheticScene = scene) -> np.ndarray:
            """For each pose the person of highest OKS, -1 below 0.5."""
            rows = zip(scene.keypoints_img, scene.visibility > 0, scene.area, strict=True)
            like = np.stack([oks(poses, person, seen, area, sigmas) for person, seen, area in rows], 1)
            return np.where(like.max(1) >= 0.5, like.argmax(1), -1)

        found["one look"] += len(set(owners(first.keypoints_img)) - {-1})
        found["two looks"] += len(set(owners(both.keypoints_img)) - {-1})
        seen, _ = refiner.look(scene.image, first.keypoints_img, look.crop)
        before, after = owners(first.keypoints_img), owners(seen)
        jumped += int(((before >= 0) & (after >= 0) & (before != after)).sum())
    print(f"synthetic crowds: {people} people; found {found}; {jumped} poses moved to a neighbour by the network alone")


def main() -> None:
    """Look once, then again in every way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--first", default="onepass")
    parser.add_argument("--refiner", action="append", default=[], metavar="NAME=FILE:SIZE")
    parser.add_argument("--crowds", type=int, default=0, help="so many synthetic crowds instead of the table")
    options = parser.parse_args()
    predictor = Predictor(options.first).with_settings(score_threshold=0.05)
    base = read_two_networks(packaged("accurate")).second_look
    if options.crowds:
        crowds(predictor, Refiner("thunder"), base, options.crowds)
        return
    annotations, folder = find_data(options.data)
    files = {"thunder": packaged("thunder.onnx")}
    ways = list(WAYS)
    for entry in options.refiner:
        name, _, rest = entry.partition("=")
        file, _, size = rest.rpartition(":")
        files[name] = Path(file)
        ways += [Way(refiner=name, size=int(size), crop=crop) for crop in (1.1, 1.25, 1.4)]
    images = {
        image_id: read_image(folder / name, ignore_orientation=True)
        for image_id, name in read_ground_truth(annotations).files.items()
    }
    first = {image_id: predictor.first_look([image])[0] for image_id, image in images.items()}

    def entries_of(way: Way | None) -> tuple[list[dict[str, Any]], float, int]:
        entries: list[dict[str, Any]] = []
        seconds, poses = 0.0, 0
        refiner = None if way is None else Refiner(files[way.refiner])
        for image_id, image in images.items():
            found = first[image_id]
            if way is not None and refiner is not None:
                refiner.size = way.size
                found = found[np.flatnonzero(found.raw_scores > way.least_score)]
                look = msgspec.structs.replace(base, crop=way.crop, min_confidence=way.min_confidence)
                begin = time.perf_counter()
                if len(found.raw_scores):
                    poses += len(found.raw_scores)
                    found = look_again(image, found, refiner, look, predictor.settings.nms_threshold, way.flip)
                seconds += time.perf_counter() - begin
            size = (image.shape[1], image.shape[0])
            entries += Poses(found.keypoints_img, found.raw_scores, size).sorted().to_coco(image_id)
        return entries, 1e3 * seconds / max(poses, 1), poses

    single, _, _ = entries_of(None)
    once = evaluate_results(annotations, single)
    print(f"one look: AP {once.ap:.3f}, AP50 {once.ap50:.3f}, AP75 {once.ap75:.3f}")
    columns = ("network", "size", "crop", "from score", "keypoints from", "flip", "poses an image", "ms a pose")
    print(f"| {' | '.join((*columns, 'AP', 'AP50', 'AP75', 'lead over one look (95 %)'))} |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for way in dict.fromkeys(ways):
        entries, milliseconds, poses = entries_of(way)
        figures = evaluate_results(annotations, entries)
        lead = paired_difference(annotations, entries, single)
        print(
            f"| {way.refiner} | {way.size} | {way.crop} | {way.least_score} | {way.min_confidence} |"
            f" {'yes' if way.flip else 'no'} | {poses / len(images):.1f} | {milliseconds:.0f} |"
            f" {figures.ap:.3f} | {figures.ap50:.3f} | {figures.ap75:.3f} |"
            f" {lead.difference:+.3f} ({lead.interval[0]:+.3f} to {lead.interval[1]:+.3f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
