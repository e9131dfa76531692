"""Coordinate frames and affines, OKS, pose NMS (numpy only; docs/frames.md shows the frames)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

AREA_PER_BOX = 0.53  # a person's area over that of the box of their keypoints, mean of COCO

STRIDE = 4  # input pixels per cell of the score map
CELL_CENTRE_INP = (STRIDE - 1) / 2  # cell i covers input pixels 4i .. 4i+3, so inp = 4 cell + 1.5


def cell_from_inp(points_inp: ArrayLike) -> Floats:
    """Convert input pixels to cells; any shape."""
    return (np.asarray(points_inp, np.float64) - CELL_CENTRE_INP) / STRIDE


def inp_from_cell(points_cell: ArrayLike) -> Floats:
    """Convert cells to input pixels; any shape."""
    return np.asarray(points_cell, np.float64) * STRIDE + CELL_CENTRE_INP


def resize_affine(inp_per_img: float) -> Floats:
    """Affine `(2, 3)` of a resize by the factor s: pixel centres obey inp + 0.5 = s (img + 0.5)."""
    shift = 0.5 * inp_per_img - 0.5
    return np.array([[inp_per_img, 0.0, shift], [0.0, inp_per_img, shift]])


def apply_affine(affine: ArrayLike, points: ArrayLike) -> Floats:
    """Map points `(..., 2)` by a `(2, 3)` affine."""
    affine = np.asarray(affine, np.float64)
    mapped: Floats = np.asarray(points, np.float64) @ affine[:, :2].T + affine[:, 2]
    return mapped


def invert_affine(affine: ArrayLike) -> Floats:
    """Invert a `(2, 3)` affine.

    Returns:
        The inverse, `(2, 3)`.

    Raises:
        numpy.linalg.LinAlgError: the affine maps the plane to a line.
    """
    affine = np.asarray(affine, np.float64)
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -linear @ affine[:, 2:]], axis=1)


def compose_affines(outer: ArrayLike, inner: ArrayLike) -> Floats:
    """Affine `(2, 3)` that applies `inner` first, then `outer`."""
    square = [np.vstack([np.asarray(a, np.float64), [0.0, 0.0, 1.0]]) for a in (outer, inner)]
    product: Floats = (square[0] @ square[1])[:2]
    return product


def area_scale(affine: ArrayLike) -> float:
    """The factor by which a `(2, 3)` affine multiplies areas."""
    return float(abs(np.linalg.det(np.asarray(affine, np.float64)[:, :2])))


def keypoint_similarity(squared_distance: ArrayLike, area: ArrayLike, sigmas: ArrayLike) -> Floats:
    """One keypoint's term of the OKS (Eq. 1), exp(-d^2 / (2 s^2 k^2)) with k = 2 sigma and s^2 = area.

    The area is kept from zero as in pycocotools (one double epsilon).

    Args:
        squared_distance: `(..., k)`, squared pixels.
        area: `(...)`, square pixels of the same frame.
        sigmas: `(k,)`, the skeleton's.

    Returns:
        `(..., k)`, 0 to 1.
    """
    k2 = (2.0 * np.asarray(sigmas, np.float64)) ** 2
    s2 = np.asarray(area, np.float64)[..., None] + np.spacing(1)
    similarity: Floats = np.exp(-np.asarray(squared_distance, np.float64) / (2.0 * s2 * k2))
    return similarity


def oks(keypoints: ArrayLike, truth: ArrayLike, labelled: ArrayLike, area: ArrayLike, sigmas: ArrayLike) -> Floats:
    """Object keypoint similarity (Eq. 1) of poses with annotated people: the mean over the labelled keypoints.

    The arguments are in one frame and are broadcast against each other.

    Args:
        keypoints: `(..., k, 2)`, the poses.
        truth: `(..., k, 2)`, the annotated keypoints.
        labelled: `(..., k)` bool; the other keypoints do not count.
        area: `(...)`, the annotation's area.
        sigmas: `(k,)`, the skeleton's.

    Returns:
        `(...)`, 0 to 1; 0 where no keypoint is labelled.
    """
    labelled = np.asarray(labelled, bool)
    d2 = ((np.asarray(keypoints, np.float64) - np.asarray(truth, np.float64)) ** 2).sum(-1)
    similarity = np.where(labelled, keypoint_similarity(d2, area, sigmas), 0.0)
    value: Floats = similarity.sum(-1) / np.maximum(labelled.sum(-1), 1)
    return value


def pose_area(keypoints: ArrayLike) -> Floats:
    """Area of the box around each pose `(..., k, 2)`; it replaces the annotation's area where there is none."""
    keypoints = np.asarray(keypoints, np.float64)
    span = keypoints.max(-2) - keypoints.min(-2)
    area: Floats = span.prod(-1)
    return area


def pose_nms(keypoints: ArrayLike, scores: ArrayLike, sigmas: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """Greedy non-maximum suppression of poses by OKS.

    A pose is dropped if its OKS with a kept pose of higher score exceeds `threshold`. That OKS takes the kept pose's
    area and all keypoints.

    Args:
        keypoints: `(p, k, 2)`.
        scores: `(p,)`.
        sigmas: `(k,)`, the skeleton's.
        threshold: OKS above which the pose of lower score is dropped.

    Returns:
        Indices of the kept poses, highest score first; equal scores keep their order.
    """
    keypoints, scores = np.asarray(keypoints, np.float64), np.asarray(scores, np.float64)
    area = pose_area(keypoints)
    everywhere = np.ones(keypoints.shape[-2], bool)
    remaining = np.argsort(-scores, kind="stable")
    kept = []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        similarity = oks(keypoints[remaining], keypoints[best], everywhere, area[best], sigmas)
        remaining = remaining[similarity <= threshold]
    return np.array(kept, np.int64)
