"""Poses: the one result type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.errors import InputError
from calipose.skeleton import COCO_17, Skeleton


@dataclass(frozen=True, eq=False)
class Poses:
    """The poses found in one picture, best first as a predictor gives them.

    Attributes:
        keypoints_img: `(p, k, 2)` float64, x and y in pixels of the picture as a person sees it (integer = pixel
            centre). Coordinates are never altered to signal anything; a joint may lie outside the picture.
        scores: `(p,)` float64, what the model says each pose's OKS will be.
        picture_size: width and height in pixels.
        keypoint_scores: `(p, k)` float64 or None where the model gives none.

    Raises:
        InputError: shapes that do not fit together, or numbers that are not finite.
    """

    keypoints_img: NDArray[np.float64]
    scores: NDArray[np.float64]
    picture_size: tuple[int, int]
    keypoint_scores: NDArray[np.float64] | None = None
    skeleton: Skeleton = COCO_17

    def __post_init__(self) -> None:
        p, k = len(self.scores), len(self.skeleton)
        wanted = {"keypoints_img": (p, k, 2), "scores": (p,), "keypoint_scores": (p, k)}
        for field, shape in wanted.items():
            value = getattr(self, field)
            if value is None and field == "keypoint_scores":
                continue
            array = np.array(value, np.float64)  # a copy: a result does not change under its owner
            if array.shape != shape:
                raise InputError(f"Poses: {field} has shape {array.shape}; {shape} fits skeleton and scores")
            if not np.isfinite(array).all():
                raise InputError(f"Poses: {field} holds numbers that are not finite")
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    @classmethod
    def empty(cls, picture_size: tuple[int, int], skeleton: Skeleton = COCO_17) -> Poses:
        """Nobody in the picture."""
        return cls(np.zeros((0, len(skeleton), 2)), np.zeros(0), picture_size, skeleton=skeleton)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[Any] | slice | list[int]) -> Poses:
        """The chosen poses: a slice, a list of indices or a mask of length p."""
        joint = None if self.keypoint_scores is None else self.keypoint_scores[index]
        return replace(self, keypoints_img=self.keypoints_img[index], scores=self.scores[index], keypoint_scores=joint)

    def __iter__(self) -> Iterator[Poses]:
        """One `Poses` of length 1 a pose."""
        return (self[[i]] for i in range(len(self)))

    def above(self, score: float) -> Poses:
        """The poses whose score is at least `score`."""
        return self[self.scores >= score]

    @property
    def boxes_img(self) -> NDArray[np.float64]:
        """`(p, 4)`: left, top, right, bottom of the keypoints, in pixels of the picture."""
        return np.concatenate([self.keypoints_img.min(1), self.keypoints_img.max(1)], axis=1)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """Entries of a COCO keypoint results file, numbers not rounded.

        The third number of a keypoint is its score (1 where the model gives none).
        """
        joint = np.ones(self.keypoints_img.shape[:2]) if self.keypoint_scores is None else self.keypoint_scores
        triples = np.concatenate([self.keypoints_img, joint[..., None]], axis=-1)
        triples = triples.reshape(len(self), 3 * len(self.skeleton))  # -1 has no meaning with nobody
        return [
            {"image_id": image_id, "category_id": category_id, "keypoints": triple.tolist(), "score": float(score)}
            for triple, score in zip(triples, self.scores, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings: picture size, skeleton's name, and a list of poses by keypoint name."""
        poses = []
        for i, (points, score) in enumerate(zip(self.keypoints_img, self.scores, strict=True)):
            keypoints = {}
            for j, name in enumerate(self.skeleton.keypoints):
                entry = {"x": float(points[j, 0]), "y": float(points[j, 1])}
                if self.keypoint_scores is not None:
                    entry["score"] = float(self.keypoint_scores[i, j])
                keypoints[name] = entry
            poses.append({"score": float(score), "keypoints": keypoints})
        return {"picture_size": list(self.picture_size), "skeleton": self.skeleton.name, "poses": poses}
