"""Whether images are like those of the calibration: a two-sample test of what was found in them (numpy only).

A calibration holds for images like its own. Nobody labels the images of a run, but what the model finds in them shows
when they differ: smaller people, lower scores, more people an image. The unit is the image, since the poses of one
image are alike and only images are exchangeable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.errors import InputError
from calipose.geometry import Floats

MIN_IMAGES = 20  # of either side: fewer say nothing
MAX_IMAGES = 200  # that a calibration keeps, chosen at random
MAX_RUN_IMAGES = 1000  # of a run that are compared, likewise
MAX_POSES = 8  # of an image that are kept, the best
LEVEL = 0.02  # of the test: one run in fifty on the calibration's own kind of images gives an alarm
PERMUTATIONS = 1999

PLAIN = {  # what is compared -> (where it is lower, where it is higher)
    "size": ("smaller people", "larger people"),
    "score": ("lower scores", "higher scores"),
    "poses": ("fewer people in an image", "more people in an image"),
    "colour": ("less colour", "more colour"),
}
UNITS = {"size": " px", "score": "", "poses": "", "colour": ""}
COLOUR_PIXELS = 64  # of an image's sides that its colour is taken from, at most

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class ImageSummaries(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model found in each of some images: the best poses' raw scores and sizes.

    Attributes:
        raw: of each image, the raw scores of its best poses, falling; at most `MAX_POSES`.
        size_img: of the same poses, the root of the area of the box around the keypoints, in pixels of the image.
        colour: `colour_of` each image; empty where the images were not at hand.

    Raises:
        InputError: the two do not fit together, or numbers are not finite.
    """

    raw: tuple[tuple[float, ...], ...] = ()
    size_img: tuple[tuple[NotNegative, ...], ...] = ()
    colour: tuple[NotNegative, ...] = ()

    def __post_init__(self) -> None:
        if list(map(len, self.raw)) != list(map(len, self.size_img)):
            raise InputError("image summaries: scores and sizes are not of the same poses; calibrate again")
        if len(self.colour) not in {0, len(self.raw)}:
            raise InputError("image summaries: colours are not of the same images; calibrate again")
        if not all(np.isfinite(values).all() for values in (*self.raw, *self.size_img, self.colour)):
            raise InputError("image summaries: scores and sizes must be finite; calibrate again")

    def __len__(self) -> int:
        return len(self.raw)

    @classmethod
    def of(
        cls,
        images: Sequence[tuple[ArrayLike, ArrayLike]],
        max_images: int = MAX_IMAGES,
        seed: int = 0,
        colour: Sequence[float] = (),
    ) -> ImageSummaries:
        """Of each image the raw scores (p,) and sizes (p,) of its poses; images without poses count.

        Args:
            images: of which at most `max_images` are taken, at random.
            max_images: likewise.
            seed: of the choice.
            colour: of each image, where it is known.
        """
        chosen = chosen_images(len(images), max_images, seed)
        raw, size = [], []
        for i in chosen.tolist():
            scores, sizes = (np.asarray(values, np.float64) for values in images[i])
            best = np.argsort(-scores, kind="stable")[:MAX_POSES]
            raw.append(tuple(_short(value) for value in scores[best].tolist()))
            size.append(tuple(_short(value) for value in sizes[best].tolist()))
        kept = tuple(_short(colour[i]) for i in chosen.tolist()) if len(colour) else ()
        return cls(raw=tuple(raw), size_img=tuple(size), colour=kept)

    def numbers(self, min_raw: float) -> dict[str, Floats]:
        """Of each image, (images,): mean size and score of its poses from a raw score on, their number, and its colour.

        Args:
            min_raw: the raw score. An image without such poses has no size (nan), and the score `min_raw`.
        """
        scores = [np.array([score for score in image if score >= min_raw]) for image in self.raw]
        sizes = [np.array(size[: len(kept)]) for size, kept in zip(self.size_img, scores, strict=True)]
        return {
            "size": np.array([np.exp(np.log(size.clip(1)).mean()) if len(size) else np.nan for size in sizes]),
            "score": np.array([kept.mean() if len(kept) else min_raw for kept in scores]),
            "poses": np.array([float(len(kept)) for kept in scores]),
        } | ({"colour": np.array(self.colour)} if self.colour else {})


def chosen_images(number: int, max_images: int = MAX_IMAGES, seed: int = 0) -> NDArray[np.int64]:
    """Positions, rising, of the images that `ImageSummaries.of` takes of so many: `max_images` at most, at random."""
    if number <= max_images:
        return np.arange(number)
    return np.sort(np.random.default_rng(seed).choice(number, max_images, replace=False))


@dataclass(frozen=True)
class Shift:
    """How images differ from those of a calibration.

    Attributes:
        images: compared, of the run.
        calibration_images: compared, of the calibration.
        p: of "they are of the same kind"; None where there are too few images to say.
        medians: what is compared -> its median over the calibration's images, and over the run's.
        p_each: what is compared -> its own p-value.
    """

    images: int
    calibration_images: int
    p: float | None
    medians: dict[str, tuple[float, float]]
    p_each: dict[str, float]

    @property
    def alarm(self) -> bool:
        """Whether the images are of another kind than the calibration's."""
        return self.p is not None and self.p <= LEVEL

    def __str__(self) -> str:
        """A sentence for the user."""
        if self.p is None:
            return (
                f"too few images to compare: {self.images}, and {self.calibration_images} of the calibration;"
                f" {MIN_IMAGES} of each are needed"
            )
        if not self.alarm:
            return f"{self.images} images like the {self.calibration_images} of the calibration (p = {self.p:.2g})"
        found = sorted((p, name) for name, p in self.p_each.items() if p <= LEVEL / len(self.p_each)) or [
            min((p, name) for name, p in self.p_each.items())
        ]
        parts = []
        for _, name in found:
            before, here = self.medians[name]
            if before == here:
                parts.append("other numbers of people in an image" if name == "poses" else f"another spread of {name}")
            else:
                unit = UNITS[name]
                parts.append(f"{PLAIN[name][here > before]} (median {here:.3g}{unit} against {before:.3g}{unit})")
        return (
            f"scores may not hold here: these {self.images} images have {' and '.join(parts)} than the"
            f" {self.calibration_images} of the calibration (p = {self.p:.2g});"
            " calibrate with labelled images of this kind"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        return {
            "alarm": self.alarm,
            "p": self.p,
            "images": self.images,
            "calibration_images": self.calibration_images,
            "medians": {name: {"calibration": a, "here": b} for name, (a, b) in self.medians.items()},
            "p_each": self.p_each,
            "message": None if self.p is None else str(self),
        }


def compare_images(
    calibration: ImageSummaries, run: ImageSummaries, min_raw: float, permutations: int = PERMUTATIONS, seed: int = 0
) -> Shift:
    """Compare what was found in two sets of images, by a permutation test.

    For size, score and number of poses, and for colour where both know it, the statistic is the difference of the mean
    ranks of the images' numbers. Which images belong to which set is permuted; the smallest of the p-values is
    compared with the smallest ones of the permutations, so that the level holds for all together (Westfall and Young,
    1993). If images are exchangeable, an alarm at a p of 0.02 comes in at most 2 % of the runs.

    Args:
        calibration: of its images.
        run: of the images to judge, predicted by the same model in the same setting.
        min_raw: poses below that raw score are left out on both sides.
        permutations: how many.
        seed: of these.
    """
    a, b = calibration.numbers(min_raw), run.numbers(min_raw)
    counts = len(run), len(calibration)
    compared = [name for name in PLAIN if name in a and name in b]
    medians = {name: (_median(a[name]), _median(b[name])) for name in compared}
    if min(counts) < MIN_IMAGES:
        return Shift(*counts, None, medians, {})
    is_run = np.arange(sum(counts)) >= len(calibration)
    rng = np.random.default_rng(seed)
    labels = np.stack([is_run, *(rng.permutation(is_run) for _ in range(permutations))])
    p_values = []
    for name in compared:
        both = np.concatenate([a[name], b[name]])
        known = np.isfinite(both)
        p_values.append(_p_values(_differences(both[known], labels[:, known])))
    smallest = np.min(p_values, axis=0)
    p = float((smallest <= smallest[0] + 1e-12).mean())
    return Shift(*counts, p, medians, {name: float(each[0]) for name, each in zip(compared, p_values, strict=True)})


def colour_of(image: NDArray[np.uint8]) -> float:
    """How far red, green and blue lie apart on average, 0 for a grey image, 1 at most; `image` (h, w, 3)."""
    rows, columns = (max(1, side // COLOUR_PIXELS) for side in image.shape[:2])
    few = image[::rows, ::columns]
    return float((few.max(-1).astype(np.float64) - few.min(-1)).mean() / 255)


def pose_sizes_img(keypoints_img: Floats) -> Floats:
    """(p,): the root of the area of the box around each pose's keypoints (p, k, 2); NaN keypoints are left out."""
    if not len(keypoints_img):
        return np.zeros(0)
    sides = np.nanmax(keypoints_img, 1) - np.nanmin(keypoints_img, 1)
    sizes: Floats = np.sqrt(sides.prod(-1))
    return sizes


def _differences(values: Floats, labels: Floats) -> Floats:
    """(r,): the absolute difference of the mean ranks of both labels' values (n,), for each row of `labels` (r, n)."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (count.cumsum() - (count - 1) / 2)[group]
    number = labels.sum(1)
    sums = labels @ ranks
    other = np.maximum(len(values) - number, 1)
    different: Floats = np.abs(sums / np.maximum(number, 1) - (ranks.sum() - sums) / other)
    return np.where((number == 0) | (number == len(values)), 0.0, different)


def _p_values(statistic: Floats) -> Floats:
    """(r,): of each row's statistic, the share of the rows with one as large."""
    rising = np.sort(statistic)
    shares: Floats = 1 - np.searchsorted(rising, statistic - 1e-9, side="left") / len(statistic)
    return shares


def _median(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0


def _short(value: float) -> float:
    """Four digits: more would only make files long."""
    return float(f"{value:.4g}")
