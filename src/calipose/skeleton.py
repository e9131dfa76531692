"""Skeletons: names of the keypoints, mirror pairs, limbs to draw, and the sigmas of the OKS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from calipose.errors import InputError
from calipose.plain_data import convert, parse_json, parse_toml

Index = Annotated[int, msgspec.Meta(ge=0)]


class Skeleton(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keypoints of one kind of object.

    Attributes:
        name: what messages call it.
        keypoints: names, k of them, in the order of all arrays.
        flip_pairs: pairs of indices into `keypoints` that change places when the image is mirrored.
        limbs: pairs of indices into `keypoints` between which a line is drawn.
        sigmas: tolerance of each keypoint in the OKS: COCO's standard deviation, relative to the square root of the
            area (the paper's k_i is 2 sigma_i, as COCO evaluates).

    Raises:
        InputError: lengths differ, a name appears twice or cannot be printed, an index is out of range, a keypoint
            stands in two mirror pairs, or a sigma is not positive.

    Example:
        >>> stick = Skeleton(
        ...     "stick", ("head", "left_hand", "right_hand"), ((1, 2),), ((0, 1), (0, 2)), (0.03, 0.06, 0.06)
        ... )
        >>> len(stick), stick.flip_index.tolist()
        (3, [0, 2, 1])
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[Index, Index], ...]
    limbs: tuple[tuple[Index, Index], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        k = len(self.keypoints)
        for text in (self.name, *self.keypoints):
            if not text.isprintable():  # nor is half a character, a lone surrogate
                raise InputError(f"skeleton: the name {text!a} holds characters that cannot be printed")
        if k == 0 or len(set(self.keypoints)) != k:
            raise InputError(f"skeleton '{self.name}': keypoints must be one or more names, each name once")
        if len(self.sigmas) != k or not all(0 < s < float("inf") for s in self.sigmas):
            raise InputError(f"skeleton '{self.name}': sigmas must be {k} positive numbers, one for each keypoint")
        for field in ("flip_pairs", "limbs"):
            for a, b in getattr(self, field):
                if a >= k or b >= k or a == b:
                    raise InputError(f"skeleton '{self.name}': {field} has ({a}, {b}); keypoints are 0 to {k - 1}")
        paired = [i for pair in self.flip_pairs for i in pair]
        if len(set(paired)) != len(paired):
            raise InputError(f"skeleton '{self.name}': a keypoint stands in two flip_pairs")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_index(self) -> np.ndarray:
        """`(k,)` int64: keypoint i of the mirrored image is keypoint `flip_index[i]` of the original."""
        index = np.arange(len(self))
        for a, b in self.flip_pairs:
            index[a], index[b] = b, a
        return index

    @property
    def sigmas_array(self) -> np.ndarray:
        """`(k,)` float64 copy of `sigmas`."""
        return np.array(self.sigmas, np.float64)

    def to_dict(self) -> dict[str, Any]:
        """The skeleton as plain data.

        Returns:
            The skeleton as plain lists and strings, as a skeleton file holds them.
        """
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_dict(cls, entries: object, source: str = "skeleton") -> Skeleton:
        """Make a skeleton from plain lists and strings.

        Args:
            entries: what `to_dict` gives.
            source: what messages call the entries.

        Returns:
            The skeleton.

        Raises:
            InputError: A field is missing, unknown or of the wrong type, or the skeleton contradicts itself.
        """
        return convert(entries, cls, source)

    @classmethod
    def from_file(cls, path: str | Path) -> Skeleton:
        """Read a skeleton from a JSON or TOML file.

        Args:
            path: a .json or .toml file with name, keypoints, flip_pairs, limbs and sigmas.

        Returns:
            The skeleton.

        Raises:
            InputError: the file is missing or is not a skeleton.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"skeleton file {path}: {error}") from None
        parse = parse_toml if path.suffix == ".toml" else parse_json
        entries = parse(text, f"skeleton file {path}")
        return cls.from_dict(entries, str(path))


MEAN_SIGMA = 0.067  # of COCO's 17 keypoints: for those of which nothing else is known

# Names, order and limbs of the COCO annotation files; sigmas of pycocotools' `Params.kpt_oks_sigmas`.
COCO_17 = Skeleton(
    name="coco-17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
        "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9),
        (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
        0.089, 0.089,
    ),
)  # fmt: skip
