"""Results as the COCO evaluation server takes them: written, and read again.

The server's format is that of cocodataset.org, "Results Format" and "Upload Results": a zip archive that holds one
file, `person_keypoints_[subset][year]_[name]_results.json`, a list of `{"image_id": int, "category_id": 1,
"keypoints": [x1, y1, v1, ..., x17, y17, v17], "score": float}`. Coordinates count from 0 at the top left; the page
advises to round them to tenths of a pixel, and says that the third numbers only steer its drawings. Of each image
the server looks at the 20 poses of highest score (`maxDets` of pycocotools).
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from calipose.errors import InputError
from calipose.evaluation.ground_truth import GroundTruth
from calipose.evaluation.json_files import read_json
from calipose.evaluation.matching import POSES_PER_IMAGE
from calipose.evaluation.results import DetectedPoses, ResultsSource, read_results
from calipose.io.atomic import make_folder, replacing
from calipose.skeleton import COCO_17

PERSON = 1  # category of people in COCO
DECIMALS = 2  # of coordinates: a hundredth of a pixel changes no OKS in its third decimal
KEYPOINT_DECIMALS = 3


class Subset(StrEnum):
    """What of COCO 2017 the server is asked about."""

    TEST_DEV = "test-dev2017"
    VAL = "val2017"


IMAGES = {Subset.TEST_DEV: 20_288, Subset.VAL: 5_000}


class _Image(msgspec.Struct):
    id: int
    file_name: Any = None


class _ImageInfo(msgspec.Struct):
    images: list[_Image]


class _Entry(msgspec.Struct):
    image_id: int
    category_id: Literal[1]
    keypoints: list[float]
    score: float


@dataclass(frozen=True)
class Submission:
    """What is in a zip for the server.

    Attributes:
        path: the zip.
        subset, name: as its name says.
        poses: entries in it.
        images_with_poses: images that have an entry.
        duplicates: poses that stand in the same image with the same keypoints before.
        json_bytes, zip_bytes: sizes of the file inside and of the zip.
        images: those of the image-info file; None where there is none.
        passed_over: poses left out when it was written, beyond the best 20 of their image; 0 where it was only read.
    """

    path: Path
    subset: Subset
    name: str
    poses: int
    images_with_poses: int
    duplicates: int
    json_bytes: int
    zip_bytes: int
    images: int | None = None
    passed_over: int = 0

    def remarks(self) -> list[str]:
        """What the server would not say, but who submits should know."""
        remarks = []
        if self.images is not None and self.images != IMAGES[self.subset]:
            remarks.append(
                f"the image file lists {self.images} images, {self.subset} has {IMAGES[self.subset]};"
                " people in the missing images count as missed"
            )
        if self.images is not None and self.images_with_poses < self.images:
            remarks.append(f"images without a pose: {self.images - self.images_with_poses}")
        if self.passed_over:
            remarks.append(
                f"poses left out: {self.passed_over}; the server takes the best {POSES_PER_IMAGE} of an image"
            )
        if self.duplicates:
            remarks.append(
                f"poses with the same keypoints as another one of their image: {self.duplicates};"
                " they count as false positives"
            )
        return remarks


def submission_name(subset: Subset, name: str) -> str:
    """The name of the file in the zip, which has the same with `.zip`, without either suffix.

    Raises:
        InputError: `name` holds what a file name or the server may not take.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise InputError(f"--name '{name}': use letters, digits and . _ + - only, as it becomes part of a file's name")
    return f"person_keypoints_{subset}_{name}_results"


def read_image_info(path: str | Path) -> GroundTruth:
    """The images of a COCO image-info or annotation file, without people.

    Raises:
        InputError: unreadable, no images, or one twice.
    """
    try:
        info = read_json(path, str(path), _ImageInfo)
    except InputError as error:
        raise InputError(f"{path}: no list 'images' with an 'id' each can be read ({error})") from None
    ids = sorted(image.id for image in info.images)
    if not ids or len(set(ids)) != len(ids):
        raise InputError(f"{path}: 'images' is empty or has an id twice; list each image once")
    files = {image.id: image.file_name for image in info.images if isinstance(image.file_name, str) and image.file_name}
    return GroundTruth(tuple(ids), PERSON, (), COCO_17, files, str(path))


def write_submission(
    folder: str | Path,
    results: ResultsSource,
    image_info: str | Path | GroundTruth,
    name: str,
    subset: Subset = Subset.TEST_DEV,
) -> Submission:
    """Write the zip for the server, read it again, and say what is in it.

    Of each image the best 20 poses are written, best first, so that the order among equal scores stays. Coordinates
    are rounded to hundredths of a pixel; scores are not, since rounding makes different scores equal.

    Args:
        folder: for the zip; need not exist.
        results: COCO results of people with COCO's 17 keypoints, category 1.
        image_info: COCO's image-info file, or what `read_image_info` gave.
        name: of the algorithm, which becomes part of the file's name.
        subset: of COCO 2017.

    Raises:
        InputError: the image-info file is broken; an entry is of an image that is not in it, of another category,
            has a wrong number of keypoints or numbers that are not finite; `name` is not fit for a file; the folder
            cannot be written to.
    """
    listed = image_info if isinstance(image_info, GroundTruth) else read_image_info(image_info)
    ids = listed.image_ids
    found = read_results(results, listed)
    for image_id, poses in zip(ids, found, strict=True):
        if np.isnan(poses.keypoints_img).any():
            raise InputError(
                f"results: image_id {image_id}: a keypoint is not finite, and the server takes numbers only; write the"
                " place that the model predicts"
            )
    stem = submission_name(subset, name)
    path = Path(folder) / f"{stem}.zip"
    make_folder(path.parent)
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{stem}.json", "w", force_zip64=True) as file,
    ):
        separator = "["
        for entry in _entries(ids, found):
            file.write((separator + json.dumps(entry, separators=(",", ":"))).encode())
            separator = ",\n"
        file.write(b"]" if separator != "[" else b"[]")
    passed_over = sum(max(0, len(poses.scores) - POSES_PER_IMAGE) for poses in found)
    return replace(validate_submission(path, ids), passed_over=passed_over)


def _entries(ids: tuple[int, ...], found: list[DetectedPoses]) -> Iterator[dict[str, Any]]:
    for image_id, poses in zip(ids, found, strict=True):
        best = slice(0, POSES_PER_IMAGE)
        points = poses.keypoints_img[best].round(DECIMALS)
        triples = np.concatenate([points, poses.keypoint_scores[best, :, None].round(KEYPOINT_DECIMALS)], axis=-1)
        for triple, score in zip(triples, poses.scores[best].tolist(), strict=True):
            keypoints = triple.ravel().tolist()
            yield {"image_id": image_id, "category_id": PERSON, "keypoints": keypoints, "score": score}


def validate_submission(path: str | Path, image_ids: tuple[int, ...] | None = None) -> Submission:
    """Read a zip for the server as strictly as the server does, or more so.

    `image_ids`: those that the entries may have (see `read_image_info`); by default any.

    Raises:
        InputError: the zip is damaged, does not hold exactly one file of the right name, or an entry is wrong.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            held = archive.namelist()
            if len(held) != 1 or Path(held[0]).stem != path.stem or not held[0].endswith(".json") or "/" in held[0]:
                raise InputError(f"{path}: holds {', '.join(held) or 'nothing'}; it must hold {path.stem}.json alone")
            data = archive.read(held[0])
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {error}") from None
    named = re.fullmatch(rf"person_keypoints_({'|'.join(Subset)})_(.+)_results", path.stem)
    if named is None:
        raise InputError(f"{path}: the server wants person_keypoints_test-dev2017_NAME_results.zip as its name")
    try:
        entries = msgspec.json.decode(data, type=list[_Entry])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {held[0]}: {error}") from None
    known = None if image_ids is None else set(image_ids)
    seen: set[tuple[int, tuple[float, ...]]] = set()
    for i, entry in enumerate(entries):
        where = f"{path}: entry {i}"
        if known is not None and entry.image_id not in known:
            raise InputError(f"{where}: image_id {entry.image_id} is not in the image file; remove the entry")
        if len(entry.keypoints) != 3 * len(COCO_17):
            raise InputError(f"{where}: {len(entry.keypoints)} numbers in 'keypoints'; COCO's 17 have 51")
        if not all(map(math.isfinite, (*entry.keypoints, entry.score))):
            raise InputError(f"{where}: 'score' or 'keypoints' is not finite; remove the entry")
        seen.add((entry.image_id, tuple(entry.keypoints)))
    return Submission(
        path=path,
        subset=Subset(named[1]),
        name=named[2],
        poses=len(entries),
        images_with_poses=len({entry.image_id for entry in entries}),
        duplicates=len(entries) - len(seen),
        json_bytes=len(data),
        zip_bytes=path.stat().st_size,
        images=None if image_ids is None else len(image_ids),
    )
