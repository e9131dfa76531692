"""Merging the poses that several input sizes show of one picture (multi-scale testing; docs/decisions.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calipose.geometry import Floats, oks, pose_area, pose_nms


@dataclass(frozen=True, eq=False)
class View:
    """Candidate poses of one picture at one input size, in the picture's pixels.

    Attributes: `keypoints_img` (n, k, 2); `raw_scores` (n,); `keypoint_scores` (n, k) or None; `queries_img`
    (n, k, 2), the keypoint queries, or None.
    """

    keypoints_img: Floats
    raw_scores: Floats
    keypoint_scores: Floats | None = None
    queries_img: Floats | None = None

    def __getitem__(self, index: NDArray[np.int64]) -> View:
        """The chosen poses."""
        optional = (self.keypoint_scores, self.queries_img)
        joints, queries = (None if values is None else values[index] for values in optional)
        return View(self.keypoints_img[index], self.raw_scores[index], joints, queries)


def merge_views(views: Sequence[View], sigmas: Floats, threshold: float) -> View:
    """One view of all: pose NMS with averaging.

    Each view's own duplicates go first. Then, best first, a pose takes from every other view the free pose that is
    most like it, if their OKS exceeds `threshold`; what they say is averaged, scores too. A view that does not see a
    person does not count: small people are seen at the larger sizes only.

    Args: `sigmas` (k,) of the skeleton. Returns: the merged poses, best first. Where all views say the same, so does
    the result.
    """
    views = [view[pose_nms(view.keypoints_img, view.raw_scores, sigmas, threshold)] for view in views]
    free = [np.ones(len(view.raw_scores), bool) for view in views]
    everywhere = np.ones(len(sigmas), bool)
    order = sorted(
        ((score, v, i) for v, view in enumerate(views) for i, score in enumerate(view.raw_scores.tolist())),
        key=lambda pose: -pose[0],
    )
    groups: list[list[tuple[int, int]]] = []
    for _, v, i in order:
        if not free[v][i]:
            continue
        best = views[v].keypoints_img[i]
        group = [(v, i)]
        for other, view in enumerate(views):
            if other == v or not free[other].any():
                continue
            similarity = oks(view.keypoints_img, best, everywhere, pose_area(best), sigmas)
            nearest = int(np.where(free[other], similarity, -1.0).argmax())
            if similarity[nearest] > threshold:
                group.append((other, nearest))
        for view_index, pose in group:
            free[view_index][pose] = False
        groups.append(group)

    def averaged(field: str) -> Floats | None:
        values = [getattr(view, field) for view in views]
        if any(value is None for value in values):
            return None
        shape = (0, *values[0].shape[1:])
        return np.array([np.mean([values[v][i] for v, i in group], 0) for group in groups]).reshape(-1, *shape[1:])

    keypoints_img, raw_scores = averaged("keypoints_img"), averaged("raw_scores")
    assert keypoints_img is not None
    assert raw_scores is not None
    merged = View(keypoints_img, raw_scores, averaged("keypoint_scores"), averaged("queries_img"))
    return merged[np.argsort(-raw_scores, kind="stable")]
