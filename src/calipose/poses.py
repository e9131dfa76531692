"""Poses: the one result type, and what it is as plain data.

Drawing is `calipose.draw.draw_poses`, other formats are functions of `calipose.formats`; this module knows neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from calipose.angles import RADII_COVERAGE, Angles, Triples, angles_of
from calipose.calibration.regions import RegionMap
from calipose.errors import InputError
from calipose.skeleton import COCO_17, Skeleton

# None where nobody gave them; of each pose
OPTIONAL = ("keypoint_scores", "raw_scores", "p_oks50", "p_oks75", "track_ids", "filled", "radii_img")
POSE_FIELDS = {  # what a pose may carry, as files name it -> field
    "raw_score": "raw_scores",
    "p_oks50": "p_oks50",
    "p_oks75": "p_oks75",
    "track_id": "track_ids",
    "filled": "filled",
}
KINDS: dict[str, type] = {"track_ids": np.int64, "filled": np.bool_}  # all others are float64


@dataclass(frozen=True, eq=False, repr=False)
class Poses:
    """The poses found in one image, best first as a predictor gives them.

    Example:
        poses = predictor.predict("photo.jpg").above(0.5)
        for pose in poses:
            print(pose.scores[0], pose.keypoints_img[0])

    Attributes:
        keypoints_img: `(p, k, 2)` float64, x and y in pixels of the image as a person sees it (integer = pixel
            centre). Coordinates are never altered to signal anything; a keypoint may lie outside the image.
        scores: `(p,)` float64, what the model says each pose's OKS will be.
        image_size: width and height in pixels.
        skeleton: names of the keypoints, in their order.
        keypoint_scores: `(p, k)` float64 or None where the model gives none.
        raw_scores: `(p,)` float64, the network's own scores before calibration, or None.
        p_oks50: `(p,)` float64, probability that the OKS is at least 0.5, or None where the model is not calibrated.
        p_oks75: the same for an OKS of at least 0.75.
        track_ids: `(p,)` int64, the person's number in a video, at least 1, or None where nobody was followed.
        filled: `(p,)` bool, True: put in between two sightings, not seen in this image; or None.
        radii_img: `(p, k)` float64, pixels: the annotated keypoint lies within that distance with the probability
            `coverage`, NaN where that is not known; or None. `with_regions` sets both.
        coverage: of `radii_img`.
        regions: gives `keypoint_radius_img` of any coverage; None where the model was not calibrated for it.

    Raises:
        InputError: shapes that do not fit together, numbers that are not finite, or track ids below 1.
    """

    keypoints_img: NDArray[np.float64]
    scores: NDArray[np.float64]
    image_size: tuple[int, int]
    keypoint_scores: NDArray[np.float64] | None = None
    skeleton: Skeleton = COCO_17
    raw_scores: NDArray[np.float64] | None = None
    p_oks50: NDArray[np.float64] | None = None
    p_oks75: NDArray[np.float64] | None = None
    track_ids: NDArray[np.int64] | None = None
    filled: NDArray[np.bool_] | None = None
    radii_img: NDArray[np.float64] | None = None
    coverage: float | None = None
    regions: RegionMap | None = None

    def __post_init__(self) -> None:
        p, k = len(self.scores), len(self.skeleton)
        wanted = {
            "keypoints_img": (p, k, 2),
            "scores": (p,),
            "keypoint_scores": (p, k),
            "raw_scores": (p,),
            "p_oks50": (p,),
            "p_oks75": (p,),
            "track_ids": (p,),
            "filled": (p,),
            "radii_img": (p, k),
        }
        if (self.radii_img is None) != (self.coverage is None):
            raise InputError("Poses: radii_img and coverage go together; with_regions sets both")
        if self.coverage is not None and not 0 < self.coverage < 1:
            raise InputError(f"Poses: coverage is {self.coverage:g}; it is a probability between 0 and 1")
        for field, shape in wanted.items():
            value = getattr(self, field)
            if value is None and field in OPTIONAL:
                continue
            try:
                array = np.array(value)  # a copy: a result does not change under its owner
                if array.size and array.dtype.kind not in "fiub":
                    raise TypeError(f"it holds {array.dtype}")
                array = array.astype(np.float64)
            except (TypeError, ValueError, OverflowError) as error:  # text, lists of different lengths, huge integers
                raise InputError(f"Poses: {field} is no array of numbers ({error})") from None
            if array.shape != shape:
                raise InputError(f"Poses: {field} has shape {array.shape}; {shape} fits skeleton and scores")
            unknown = np.isnan(array) if field == "radii_img" else False
            if not (np.isfinite(array) | unknown).all() or (field == "radii_img" and (array < 0).any()):
                raise InputError(f"Poses: {field} holds numbers that are not finite, or radii below 0")
            if field == "track_ids" and not ((array >= 1) & (array <= 2**53) & (array == array.round())).all():
                raise InputError("Poses: track_ids are whole numbers of at least 1, and below 2^53")
            array = array.astype(KINDS.get(field, np.float64), copy=False)
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    @classmethod
    def empty(cls, image_size: tuple[int, int], skeleton: Skeleton = COCO_17) -> Poses:
        """No poses: an image in which no person was found.

        Args:
            image_size: width and height of the image in pixels.
            skeleton: of the model.

        Returns:
            Poses of length 0.
        """
        return cls(np.zeros((0, len(skeleton), 2)), np.zeros(0), image_size, skeleton=skeleton)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As made: pickle and copy give arrays that can be written to."""
        for field, value in state.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        best = f", best {self.scores.max():.2f}" if len(self) else ""
        width, height = self.image_size
        return f"Poses({len(self)} of skeleton {self.skeleton.name}{best}, image {width} x {height})"

    def __getitem__(self, index: SupportsIndex | slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Poses:
        """The chosen poses, always as `Poses`.

        Args:
            index: one pose's index (`poses[0]` has length 1; negative ones count from the end), a slice, indices
                `(n,)` in any order, or a mask `(p,)`.

        Raises:
            IndexError: no such pose, or a mask of another length.
            TypeError: the index is none of these.
        """
        rows = self._rows(index)
        chosen: dict[str, Any] = {}
        for field in ("keypoints_img", "scores", *OPTIONAL):
            value = getattr(self, field)
            chosen[field] = None if value is None else value[rows]
        return replace(self, **chosen)

    def _rows(self, index: Any) -> slice | NDArray[Any]:
        """What `__getitem__` takes, as a slice, `(n,)` indices or a mask `(p,)`.

        Raises:
            IndexError: no such pose.
            TypeError: no index.
        """
        if isinstance(index, slice):
            return index
        refusal = f"{type(index).__name__} is no index of poses; use a whole number, a slice, a list of them, or a mask"
        if isinstance(index, str | bytes | bool | np.bool_ | tuple) or index is None or index is Ellipsis:
            raise TypeError(refusal)
        array = np.asarray(index)
        if not array.size and array.ndim == 1:
            array = array.astype(np.int64)  # an empty list has no type of its own
        if array.dtype.kind not in "iub" or array.ndim > 1 or (array.ndim == 0 and array.dtype.kind == "b"):
            raise TypeError(f"{refusal} (this one holds {array.dtype} of shape {array.shape})")
        if array.dtype.kind == "b":
            if len(array) != len(self):
                raise IndexError(f"a mask of {len(array)} for {len(self)} poses")
            return array
        rows = np.atleast_1d(array)
        for row in rows.tolist():
            if not -len(self) <= row < len(self):
                raise IndexError(f"pose {row} of {len(self)}: indices count from 0, or from -1 at the end")
        return rows

    def __iter__(self) -> Iterator[Poses]:
        """One `Poses` of length 1 a pose."""
        return (self[i] for i in range(len(self)))

    def above(self, score: float) -> Poses:
        """The poses whose score is at least `score`.

        Args:
            score: the lowest score that is kept, an expected OKS.

        Returns:
            These poses, in the same order.
        """
        return self[self.scores >= score]

    def sorted(self) -> Poses:
        """The poses by their scores.

        Returns:
            The same poses, best score first; equal scores keep their order.
        """
        return self[np.argsort(-self.scores, kind="stable")]

    @property
    def boxes_img(self) -> NDArray[np.float64]:
        """`(p, 4)`: left, top, right, bottom of the keypoints, in pixels of the image."""
        return np.concatenate([self.keypoints_img.min(1), self.keypoints_img.max(1)], axis=1)

    def keypoint_radius_img(self, coverage: float = 0.9) -> NDArray[np.float64]:
        """How far each annotated keypoint may lie from the found one, with the probability `coverage`.

        Given that the pose is matched with a person. NaN where the radius is not known: in poses that a tracker filled
        in, and of keypoints that the calibration images did not show. docs/regions.md says what is guaranteed.

        Args:
            coverage: from 0.5 to 0.99, counted in whole percent and rounded up.

        Returns:
            Radii in pixels of the image, `(p, k)`.

        Raises:
            InputError: the model was not calibrated for it, or on too few images for this coverage; the message says
                so. Poses that were read from a file know the coverage only that they were written with.
        """
        if self.regions is None and self.radii_img is not None:
            if coverage != self.coverage:
                raise InputError(f"these poses hold radii of coverage {self.coverage:g} only; predict again for others")
            return self.radii_img
        radii = (self.regions or RegionMap()).radius_img(
            self.keypoints_img, self.keypoint_scores, self.skeleton.sigmas_array, coverage
        )
        if self.filled is not None:
            radii[self.filled] = np.nan
        return radii

    def with_regions(self, coverage: float = 0.9) -> Poses:
        """The same poses with `radii_img` of that coverage; drawings and files then show the circles.

        Args:
            coverage: of the circles, from 0.5 to 0.99.

        Returns:
            The same poses with `radii_img` and `coverage`.

        Raises:
            InputError: as `keypoint_radius_img`.
        """
        return replace(self, radii_img=self.keypoint_radius_img(coverage), coverage=coverage)

    def angles(self, triples: Triples | None = None, coverage: float | None = 0.9) -> Angles:
        """Angles at keypoints in the image plane, in degrees, with intervals (`calipose.angles` has the formula).

        Args:
            triples: names of angles, each with the names of its keypoints a, b, c; the angle is at b. By default
                elbows, knees, hips, shoulders and the trunk's lean.
            coverage: of the intervals, from 0.5 to 0.95; None for none, which needs no calibrated model.

        Returns:
            The angles in degrees, `(p, a)`, and their intervals.

        Raises:
            InputError: as `keypoint_radius_img`; or an angle names keypoints that the skeleton has not.
        """
        of_file = self.regions is None and self.coverage is not None
        of_radii = self.coverage if of_file and self.coverage is not None else RADII_COVERAGE
        radii = None if coverage is None else self.keypoint_radius_img(of_radii)
        return angles_of(self.keypoints_img, self.skeleton, triples, radii, coverage, of_radii)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """Entries of a COCO keypoint results file.

        The third number of a keypoint is its score (1 where the model gives none). With `radii_img`, an entry also has
        "coverage" and "keypoint_radii": k pixels, or None where not known.

        Args:
            image_id: of the image in the COCO file.
            category_id: of the people; COCO's is 1.

        Returns:
            One entry for each pose; coordinates are pixels of the image and not rounded.
        """
        keypoint = np.ones(self.keypoints_img.shape[:2]) if self.keypoint_scores is None else self.keypoint_scores
        triples = np.concatenate([self.keypoints_img, keypoint[..., None]], axis=-1)
        triples = triples.reshape(len(self), 3 * len(self.skeleton))  # -1 has no meaning with nobody
        entries: list[dict[str, Any]] = [
            {"image_id": image_id, "category_id": category_id, "keypoints": triple.tolist(), "score": float(score)}
            for triple, score in zip(triples, self.scores, strict=True)
        ]
        for entry, radii in zip(entries, [] if self.radii_img is None else self.radii_img.tolist(), strict=False):
            known = [radius if np.isfinite(radius) else None for radius in radii]
            entry.update(coverage=self.coverage, keypoint_radii=known)
        return entries

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings: image size, skeleton's name, and a list of poses by keypoint name.

        A pose has "score" and "keypoints", and what `POSE_FIELDS` names where the poses carry it. With `radii_img`
        there is also "coverage", and the keypoints have a "radius" where it is known.

        Returns:
            A dictionary fit for JSON, one line of `poses.jsonl` without the file's name.
        """
        optional = [(key, getattr(self, field)) for key, field in POSE_FIELDS.items()]
        poses = []
        for i, (points, score) in enumerate(zip(self.keypoints_img, self.scores, strict=True)):
            keypoints = {}
            for j, name in enumerate(self.skeleton.keypoints):
                keypoints[name] = {"x": float(points[j, 0]), "y": float(points[j, 1])}
                if self.keypoint_scores is not None:
                    keypoints[name]["score"] = float(self.keypoint_scores[i, j])
                if self.radii_img is not None and np.isfinite(self.radii_img[i, j]):
                    keypoints[name]["radius"] = float(self.radii_img[i, j])
            more = {key: values[i].item() for key, values in optional if values is not None}
            poses.append({"score": float(score), **more, "keypoints": keypoints})
        image: dict[str, Any] = {"image_size": list(self.image_size), "skeleton": self.skeleton.name}
        if self.coverage is not None:
            image["coverage"] = self.coverage
        return {**image, "poses": poses}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any], skeleton: Skeleton = COCO_17) -> Poses:
        """Poses from the plain lists of `to_dict`.

        Args:
            entry: what `to_dict` gives, such as a decoded line of `poses.jsonl`; other keys in it are ignored.
            skeleton: of the poses.

        Returns:
            The poses. Without a pose in the entry, the optional fields are None.

        Raises:
            InputError: the entry is of another skeleton, lacks something, or its poses do not all hold the same.
        """
        try:
            if entry["skeleton"] != skeleton.name:
                raise InputError(f"the poses are of skeleton {entry['skeleton']!a:.80}, not '{skeleton.name}'")
            width, height = entry["image_size"]
            if not all(type(side) is int and 1 <= side < 2**31 for side in (width, height)):
                raise InputError(f"the poses' image_size is {width!a} x {height!a}; two whole numbers are needed")
            poses = list(entry["poses"])
            keypoints = [[pose["keypoints"][name] for name in skeleton.keypoints] for pose in poses]
            points = np.array([[(keypoint["x"], keypoint["y"]) for keypoint in row] for row in keypoints])
            found: dict[str, Any] = {}
            if any("score" in keypoint for row in keypoints for keypoint in row):
                found["keypoint_scores"] = [[keypoint["score"] for keypoint in row] for row in keypoints]
            for key, field in POSE_FIELDS.items():
                if any(key in pose for pose in poses):
                    found[field] = [pose[key] for pose in poses]
            if entry.get("coverage") is not None:
                radii = [[keypoint.get("radius", np.nan) for keypoint in row] for row in keypoints]
                found["radii_img"] = np.array(radii, np.float64).reshape(len(poses), len(skeleton))
                found["coverage"] = float(entry["coverage"])
            scores = [pose["score"] for pose in poses]
            points = points.reshape(len(poses), len(skeleton), 2)
            return cls(points, np.array(scores), (width, height), skeleton=skeleton, **found)
        except InputError:
            raise
        except KeyError as error:
            raise InputError(f"an entry of poses lacks {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"an entry of poses is not what Poses.to_dict writes: {error}") from None
