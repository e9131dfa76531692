"""A compact store of labelled images (numpy only, no torch).

A store holds a few large arrays and no Python object per image, so that forked data workers share one copy
of it: reading an object writes its reference count and thereby copies its page, reading an array does not.
`benchmarks/store_memory.py` measures this at COCO's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calipose.errors import InputError
from calipose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one array (a ragged array): row i is `values[start[i] : start[i + 1]]`.

    Attributes:
        values: `(n, ...)`, all rows one after the other.
        start: `(rows + 1,)` int64, where each row starts in `values`.

    Example:
        >>> rows = Ragged.from_rows([np.array([1, 2]), np.array([3])], np.zeros(0, np.int64))
        >>> len(rows), rows[0].tolist()
        (2, [1, 2])
    """

    values: NDArray[Any]
    start: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[NDArray[Any]], empty: NDArray[Any]) -> Ragged:
        """Put rows into one array.

        Args:
            rows: arrays of equal dtype and shape but for their first dimension.
            empty: a row of length 0, which gives dtype and shape where there are no rows.
        """
        start = np.cumsum([0] + [len(row) for row in rows], dtype=np.int64)
        return cls(np.concatenate([empty, *rows], dtype=empty.dtype), start)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self.start[row] : self.start[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Select rows, in the order given."""
        indices, start = _value_indices(self.start, rows)
        return Ragged(self.values[indices], start)

    @staticmethod
    def join(parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, one part after the other."""
        return Ragged(np.concatenate([part.values for part in parts]), _join_starts([p.start for p in parts]))


@dataclass(frozen=True, eq=False)
class Labels:
    """The annotations of one image with p labelled people, in its stored pixels (integer = pixel centre).

    Attributes:
        keypoints_img: `(p, k, 2)` float32; a keypoint that is not labelled may have any finite value.
        labelled: `(p, k)` bool.
        area_img: `(p,)` float32, square pixels.
        outlines_img: p outlines, `(q, 2)` float32 each; see `KeypointData.outlines_img`.
        regions_img: outlines of crowds and of people without labelled keypoints, which training ignores.
        people_complete: False if the image may show people that are in neither list.
        index: index of the image in its data set.
    """

    keypoints_img: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    area_img: NDArray[np.float32]
    outlines_img: list[NDArray[np.float32]]
    regions_img: list[NDArray[np.float32]]
    people_complete: bool
    index: int


@dataclass(frozen=True, eq=False)
class KeypointData:
    """A data set of n images with m labelled people (at least one labelled keypoint) and r ignore regions.

    Attributes:
        skeleton: names and order of the k keypoints.
        folders: image folders.
        folder: `(n,)` uint16, index into `folders` of each image.
        names: n file names, their bytes (UTF-8, unless the file's name is none).
        image_ids: `(n,)` int64.
        sizes: `(n, 2)` int32, width and height as stored (EXIF orientation ignored, as COCO counts).
        people_complete: `(n,)` bool; False: unlabelled people may be anywhere in the image.
        person_start: `(n + 1,)` int64; image i has the people `person_start[i] : person_start[i + 1]`.
        keypoints_img: `(m, k, 2)` float32.
        visibility: `(m, k)` uint8; 0 not labelled, 1 hidden, 2 visible.
        area_img: `(m,)` float32, square pixels.
        annotation_ids: `(m,)` int64.
        outlines_img: m outlines, `(q, 2)` float32: closed rings (last point = first), a row of NaN between two rings;
            a point is inside if an odd number of rings enclose it. The segmentation, or the box where there is none.
        region_start: `(n + 1,)` int64; image i has the regions `region_start[i] : region_start[i + 1]`.
        regions_img: r outlines of crowds and of people without labelled keypoints.
        assumptions: what was assumed in reading files that are not as COCO writes them; a sentence each.
        spans: `(n, 2)` int64: of an image in a tar, which its `folders` entry then is, the first byte and the number of
            bytes; zeros of an image that is a file. None where all are files.

    Example:
        >>> data = read_coco("people/annotations.json", "people/images")
        >>> labels = data.labels(0)
        >>> labels.keypoints_img.shape, data.image_path(0).name
        ((2, 17, 2), '000001.jpg')
    """

    skeleton: Skeleton
    folders: tuple[Path, ...]
    folder: NDArray[np.uint16]
    names: Ragged
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    people_complete: NDArray[np.bool_]
    person_start: NDArray[np.int64]
    keypoints_img: NDArray[np.float32]
    visibility: NDArray[np.uint8]
    area_img: NDArray[np.float32]
    annotation_ids: NDArray[np.int64]
    outlines_img: Ragged
    region_start: NDArray[np.int64]
    regions_img: Ragged
    assumptions: tuple[str, ...] = ()
    spans: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def image_path(self, index: int) -> Path:
        """Path of image `index`; of one in a tar, TAR/NAME."""
        return self.folders[int(self.folder[index])] / bytes(self.names[index]).decode("utf-8", "surrogateescape")

    def labels(self, index: int) -> Labels:
        """Annotations of image `index`."""
        people = range(self.person_start[index], self.person_start[index + 1])
        regions = range(self.region_start[index], self.region_start[index + 1])
        chosen = slice(people.start, people.stop)
        return Labels(
            self.keypoints_img[chosen],
            self.visibility[chosen] > 0,
            self.area_img[chosen],
            [self.outlines_img[i] for i in people],
            [self.regions_img[i] for i in regions],
            bool(self.people_complete[index]),
            index,
        )

    def subset(self, indices: ArrayLike) -> KeypointData:
        """Select images by indices, in the order given, or by a mask of length n."""
        chosen = np.arange(len(self))[np.asarray(indices)]
        people, person_start = _value_indices(self.person_start, chosen)
        regions, region_start = _value_indices(self.region_start, chosen)
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in _PER_IMAGE},
            **{name: getattr(self, name)[people] for name in _PER_PERSON},
            names=self.names.take(chosen),
            spans=None if self.spans is None else self.spans[chosen],
            person_start=person_start,
            outlines_img=self.outlines_img.take(people),
            region_start=region_start,
            regions_img=self.regions_img.take(regions),
        )


def name_bytes(name: str) -> NDArray[np.uint8]:
    """A file name as `KeypointData.names` has it."""
    return np.frombuffer(name.encode("utf-8", "surrogateescape"), np.uint8)


_PER_IMAGE = ("folder", "image_ids", "sizes", "people_complete")
_PER_PERSON = ("keypoints_img", "visibility", "area_img", "annotation_ids")


def concatenate(parts: Sequence[KeypointData]) -> KeypointData:
    """Join data sets, images in the order given; image ids may repeat between the parts.

    Raises:
        InputError: no part is given, or the skeletons differ.
    """
    if not parts:
        raise InputError("no data set was given; name at least one")
    for part in parts[1:]:
        if part.skeleton != parts[0].skeleton:
            names = f"'{parts[0].skeleton.name}' and '{part.skeleton.name}'"
            raise InputError(f"data sets with the skeletons {names} cannot be joined; {part.folders[0]} differs")
    first_folder = np.cumsum([0] + [len(part.folders) for part in parts])
    folder = [part.folder + first for part, first in zip(parts, first_folder, strict=False)]
    arrays = {n: np.concatenate([getattr(p, n) for p in parts]) for n in (*_PER_IMAGE, *_PER_PERSON)}
    arrays["folder"] = np.concatenate(folder).astype(np.uint16)
    if any(part.spans is not None for part in parts):
        spans_of_parts = [np.zeros((len(part), 2), np.int64) if part.spans is None else part.spans for part in parts]
        arrays["spans"] = np.concatenate(spans_of_parts)
    return KeypointData(
        skeleton=parts[0].skeleton,
        folders=tuple(folder for part in parts for folder in part.folders),
        names=Ragged.join([part.names for part in parts]),
        person_start=_join_starts([part.person_start for part in parts]),
        outlines_img=Ragged.join([part.outlines_img for part in parts]),
        region_start=_join_starts([part.region_start for part in parts]),
        regions_img=Ragged.join([part.regions_img for part in parts]),
        assumptions=tuple(remark for part in parts for remark in part.assumptions),
        **arrays,
    )


def _value_indices(start: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the values of the chosen rows, row after row, and where each chosen row then starts."""
    lengths = start[rows + 1] - start[rows]
    new_start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return np.arange(new_start[-1]) + np.repeat(start[rows] - new_start[:-1], lengths), new_start


def _join_starts(starts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    lengths = np.concatenate([np.diff(start) for start in starts])
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
