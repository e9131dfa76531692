"""A small data set of COCO-17 people on plain images, and results that are wrong in known ways."""

import json
from pathlib import Path

import cv2
import numpy as np

from calipose.skeleton import COCO_17

STANDING = np.array(
    [[50, 10], [52, 8], [48, 8], [55, 10], [45, 10], [60, 25], [40, 25], [65, 42], [35, 42], [66, 58], [34, 58],
     [56, 60], [44, 60], [57, 82], [43, 82], [58, 105], [42, 105]], np.float64,
)  # fmt: skip
AREA = 2500.0


def moved(x):
    """The standing person, so many pixels further right."""
    return STANDING + np.array([x, 0])


def annotation(number, image_id, points, labelled=None):
    flags = np.full(17, 2) if labelled is None else np.where(labelled, 2, 0)
    low, high = points.min(0), points.max(0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "area": AREA,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "iscrowd": 0,
        "num_keypoints": int((flags > 0).sum()),
        "keypoints": np.column_stack([points, flags]).ravel().tolist(),
    }


def result(image_id, points, score, keypoint_scores=1.0):
    triples = np.column_stack([points, np.broadcast_to(keypoint_scores, 17)])
    return {"image_id": image_id, "category_id": 1, "keypoints": triples.ravel().tolist(), "score": score}


def truth_of(annotations, images):
    names = [{"id": i, "file_name": f"{i}.jpg", "width": 240, "height": 140} for i in range(1, images + 1)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints)}
    return {"images": names, "annotations": annotations, "categories": [category]}


def write_people(folder: Path, images: int = 14):
    """Data of one person an image at the left; results: a pose near each, and one of nobody at the right."""
    rng = np.random.default_rng(0)
    annotations, results = [], []
    (folder / "images").mkdir(parents=True)
    for i in range(1, images + 1):
        cv2.imwrite(str(folder / "images" / f"{i}.jpg"), np.full((140, 240, 3), 90 + 8 * i, np.uint8))
        annotations.append(annotation(i, i, STANDING, rng.uniform(size=17) < 0.9))
        noise = rng.normal(0, 0.3 + 0.5 * i, (17, 2))
        near = np.exp(-(noise**2).sum(1) / (2 * AREA * (2 * COCO_17.sigmas_array) ** 2))
        results.append(result(i, STANDING + noise, float(rng.uniform(0.3, 1)), near * rng.uniform(0.7, 1, 17)))
        results.append(result(i, moved(130), float(rng.uniform(0.05, 0.6)), rng.uniform(0, 0.5, 17)))
    (folder / "annotations.json").write_text(json.dumps(truth_of(annotations, images)))
    return results
