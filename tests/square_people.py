"""People of four joints that stand in a square: COCO ground truth and results for tests."""

import numpy as np

from calipose.geometry import oks
from calipose.skeleton import Skeleton

FOUR = Skeleton("four", tuple("abcd"), (), (), (0.1,) * 4)
SQUARE = np.array([[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [0.0, 40.0]])


def person(x, image_id=1, v=2, crowd=0):
    points = SQUARE + np.array([x, 0])
    return {
        "id": 1,
        "image_id": image_id,
        "category_id": 1,
        "area": 1600.0,
        "bbox": [x, 0.0, 40.0, 40.0],
        "iscrowd": crowd,
        "keypoints": np.column_stack([points, np.full(4, v)]).ravel().tolist(),
    }


def pose(x, score, image_id=1):
    points = np.column_stack([SQUARE + np.array([x, 0]), np.ones(4)])
    return {"image_id": image_id, "category_id": 1, "keypoints": points.ravel().tolist(), "score": score}


def truth_of(*people, images=(1, 2)):
    category = {"id": 1, "name": "person", "keypoints": list(FOUR.keypoints)}
    return {"images": [{"id": i} for i in images], "annotations": list(people), "categories": [category]}


def similarity(dx):
    return float(oks(SQUARE + np.array([dx, 0]), SQUARE, np.ones(4, bool), 1600.0, FOUR.sigmas_array))
