"""One look or two for videos? AP, steadiness, exchanged ids and time on clips with known truth.

    python experiments/video_modes.py --data ANNOTATIONS.json=IMAGES [--frames 8]

A clip is a camera that moves over one labelled image: a window of 80 % of its sides that goes 10 % of them across and
comes 10 % closer, so the people of every frame are known. Nobody moves a limb, so what a keypoint moves between two
frames, mapped back into the image, is the model's own unsteadiness: given in per cent of the square root of the
person's area, mean over keypoints labelled. An exchanged id: a labelled person whose track number changes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import cv2
import numpy as np

from calipose.data.locate import find_data
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.ground_truth import GroundTruth, read_ground_truth
from calipose.geometry import Floats, apply_affine, area_scale, oks
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, read_image
from calipose.poses import Poses
from calipose.skeleton import COCO_17
from calipose.track import Tracker

WINDOW, PATH, ZOOM = 0.8, 0.1, 0.1  # sides of the window, its way, and how much closer it comes, as shares
MATCH = 0.5  # OKS from which a pose is of a person
MODES = ("onepass", "fast", "accurate")


def views(image: Image, frames: int) -> list[tuple[Image, Floats]]:
    """The frames of a clip, each with its affine (2, 3) from the image's pixels to its own."""
    height, width = image.shape[:2]
    size = (round(width * WINDOW), round(height * WINDOW))
    clip = []
    for share in np.linspace(0, 1, frames):
        zoom = 1 + ZOOM * share
        left, top = PATH * share * width, PATH * share * height
        affine = np.array([[zoom, 0, -zoom * left], [0, zoom, -zoom * top]])
        clip.append((cv2.warpAffine(image, affine, size, flags=cv2.INTER_LINEAR), affine))
    return clip


def truth_of_frame(truth: GroundTruth, index: int, affine: Floats, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The people of image `index` as COCO annotations of a frame of `size` (width, height)."""
    people, annotations = truth.people[index], []
    for keypoints, labelled, area, crowd in zip(
        people.keypoints_img, people.labelled, people.area, people.crowd, strict=True
    ):
        points = apply_affine(affine, keypoints)
        inside = (points >= 0).all(1) & (points <= np.array(size) - 1).all(1) & labelled
        low, high = (points[inside].min(0), points[inside].max(0)) if inside.any() else (np.zeros(2), np.zeros(2))
        triples = np.where(inside[:, None], np.c_[points, np.full(len(points), 2)], 0.0)
        annotations.append(
            {
                "category_id": 1, "iscrowd": int(crowd), "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": float(area * area_scale(affine)), "num_keypoints": int(inside.sum()),
                "keypoints": triples.flatten().tolist(),
            }
        )  # fmt: skip
    return annotations


def main() -> None:
    """Film, predict, follow, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    annotations_file, folder = find_data(options.data)
    truth = read_ground_truth(annotations_file)
    predictors = {name: Predictor(name) for name in MODES}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in MODES}
    seconds: dict[str, list[float]] = {name: [] for name in MODES}
    unsteady: dict[str, list[float]] = {name: [] for name in MODES}
    exchanged = dict.fromkeys(MODES, 0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, image_id in enumerate(truth.image_ids):
        file = truth.files[image_id]
        image = read_image(folder / file, ignore_orientation=True)
        trackers = {name: Tracker() for name in MODES}
        before: dict[str, dict[int, tuple[Floats, int]]] = {name: {} for name in MODES}
        for frame, affine in views(image, options.frames):
            height, width = frame.shape[:2]
            frame_id = len(images) + 1
            images.append({"id": frame_id, "width": width, "height": height, "file_name": f"{frame_id}.png"})
            people = truth_of_frame(truth, index, affine, (width, height))
            annotations += [{**a, "image_id": frame_id, "id": len(annotations) + i + 1} for i, a in enumerate(people)]
            for name in MODES:
                begin = time.perf_counter()
                poses = trackers[name].update(predictors[name].predict(frame))
                seconds[name].append(time.perf_counter() - begin)
                results[name] += poses.to_coco(frame_id)
                now = seen_people(people, poses, affine)
                for person, (points, track) in now.items():
                    if person in before[name]:
                        old, old_track = before[name][person]
                        exchanged[name] += track != old_track
                        size = np.sqrt(people[person]["area"] / area_scale(affine))
                        labelled = np.array(people[person]["keypoints"]).reshape(-1, 3)[:, 2] > 0
                        unsteady[name].append(float(np.linalg.norm(points - old, axis=1)[labelled].mean() / size))
                before[name] = now
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}
    ground_truth = {"images": images, "annotations": annotations, "categories": [category]}
    print(f"{len(truth.files)} clips of {options.frames} frames")
    for name in MODES:
        evaluation = Evaluation(ground_truth, results[name])
        print(
            f"{name}: AP {evaluation.ap.ap:.3f}, unsteadiness {100 * np.mean(unsteady[name]):.2f} % "
            f"(median {100 * np.median(unsteady[name]):.2f}), {exchanged[name]} exchanged ids in {len(unsteady[name])} "
            f"steps, median {1e3 * np.median(seconds[name]):.0f} ms a frame"
        )


def seen_people(people: list[dict[str, Any]], poses: Poses, affine: Floats) -> dict[int, tuple[Floats, int]]:
    """Of each labelled person that has a pose: its keypoints (k, 2) in the image, and its track number."""
    seen = {}
    for person, annotation in enumerate(people):
        triples = np.array(annotation["keypoints"], float).reshape(-1, 3)
        if annotation["iscrowd"] or not (triples[:, 2] > 0).any() or not len(poses.scores):
            continue
        likeness = [
            float(oks(pose, triples[:, :2], triples[:, 2] > 0, annotation["area"], COCO_17.sigmas_array))
            for pose in poses.keypoints_img
        ]
        best = int(np.argmax(likeness))
        if likeness[best] >= MATCH and poses.track_ids is not None:
            back = (poses.keypoints_img[best] - affine[:, 2]) / affine[0, 0]
            seen[person] = (back, int(poses.track_ids[best]))
    return seen


if __name__ == "__main__":
    main()
