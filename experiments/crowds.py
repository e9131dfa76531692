"""How many real people pose NMS would drop, had every pose been found exactly, by threshold.

    python experiments/crowds.py ../shared/data/coco-layouts.npz

Takes COCO train2017's people with at least 10 labelled keypoints; two of them are compared over the joints that
both have labelled (at least 6). Also counts people annotated twice, whom no threshold can keep.
"""

from __future__ import annotations

import sys

import numpy as np

from calipose.geometry import keypoint_similarity
from calipose.skeleton import COCO_17

THRESHOLDS = (0.2, 0.3, 0.5, 0.7)
UNKNOWN_SIZE = (640.0, 480.0)


def main() -> None:
    """Print, for several NMS thresholds, how many annotated people would be dropped."""
    table = np.load(sys.argv[1])
    labelled = table["v"] > 0
    size = np.where(table["size"] > 0, table["size"], UNKNOWN_SIZE)
    points = table["xy"] / 65535 * size[:, None]
    order = np.argsort(table["image_id"], kind="stable")
    order = order[labelled[order].sum(1) >= 10]
    images = np.split(order, np.flatnonzero(np.diff(table["image_id"][order])) + 1)
    dropped = dict.fromkeys(THRESHOLDS, 0)
    for people in images:
        p, seen = points[people], labelled[people]
        area = np.array([np.ptp(a[s], axis=0).prod() for a, s in zip(p, seen, strict=True)])
        squared = ((p[:, None] - p[None]) ** 2).sum(-1)
        both = seen[:, None] & seen[None]
        similar = keypoint_similarity(squared, area[:, None], COCO_17.sigmas_array)
        oks = np.where(both.sum(-1) >= 6, (similar * both).sum(-1) / np.maximum(both.sum(-1), 1), 0)
        for threshold in THRESHOLDS:
            kept: list[int] = []
            for i in range(len(people)):
                if not (oks[kept, i] > threshold).any():
                    kept.append(i)
            dropped[threshold] += len(people) - len(kept)
    print(f"{len(order)} people in {len(images)} images; dropped:")
    for threshold, number in dropped.items():
        print(f"  OKS > {threshold}: {100 * number / len(order):.2f} %")


if __name__ == "__main__":
    main()
