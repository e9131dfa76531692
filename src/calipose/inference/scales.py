"""What one input size shows of an image, and putting several sizes together (multi-scale testing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.geometry import Floats, apply_affine, invert_affine
from calipose.inference.backends.base import BatchCandidates


@dataclass(frozen=True, eq=False)
class ScaleCandidates:
    """Candidate poses of one image, in the image's pixels, before calibration and pose NMS.

    Attributes:
        keypoints_img: (n, k, 2).
        raw_scores: (n,), the network's own.
        raw_keypoint_scores: (n, k), the network's own; or None.
        queries_img: (n, k, 2), the keypoint queries; or None.
    """

    keypoints_img: Floats
    raw_scores: Floats
    raw_keypoint_scores: Floats | None = None
    queries_img: Floats | None = None

    def __getitem__(self, index: NDArray[np.int64]) -> ScaleCandidates:
        """The chosen poses."""
        optional = (self.raw_keypoint_scores, self.queries_img)
        keypoints, queries = (None if values is None else values[index] for values in optional)
        return ScaleCandidates(self.keypoints_img[index], self.raw_scores[index], keypoints, queries)


def merge_scales(scales: Sequence[ScaleCandidates]) -> ScaleCandidates:
    """All candidates of all scales, best first.

    The pose NMS after it keeps for each person the pose of the size at which the score, which foretells the OKS, is
    highest. Averaging what the sizes say was measured to be worse (docs/decisions.md).
    """
    if len(scales) == 1:
        return scales[0]

    def concatenated(name: str) -> Floats | None:
        values = [getattr(scale, name) for scale in scales]
        return None if any(value is None for value in values) else np.concatenate(values)

    raw_scores = np.concatenate([scale.raw_scores for scale in scales])
    keypoints_img = np.concatenate([scale.keypoints_img for scale in scales])
    everything = ScaleCandidates(
        keypoints_img, raw_scores, concatenated("raw_keypoint_scores"), concatenated("queries_img")
    )
    return everything[np.argsort(-raw_scores, kind="stable")]


def candidates_of_image(batch: BatchCandidates, row: int, inp_from_img: Floats) -> ScaleCandidates:
    """The candidates of one image of a batch, without padding, in the image's frame.

    Raises:
        InputError: the network gives numbers that are not finite.
    """
    real = np.flatnonzero(batch.raw_scores[row] != -np.inf)
    given = (batch.raw_scores, batch.keypoints_inp, batch.raw_keypoint_scores)
    if not all(values is None or np.isfinite(values[row][real]).all() for values in given):
        raise InputError("the model gives scores or keypoints that are not finite: its weights are damaged")
    img_from_inp = invert_affine(inp_from_img)
    raw_keypoints, queries = batch.raw_keypoint_scores, batch.queries_inp
    return ScaleCandidates(
        apply_affine(img_from_inp, batch.keypoints_inp[row][real]),
        batch.raw_scores[row][real],
        None if raw_keypoints is None else raw_keypoints[row][real],
        None if queries is None else apply_affine(img_from_inp, queries[row][real]),
    )
