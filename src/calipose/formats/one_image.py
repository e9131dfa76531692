"""A file with the poses of one image."""

from __future__ import annotations

import json
from pathlib import Path

from calipose.errors import InputError
from calipose.formats.csv import to_csv
from calipose.io.atomic import replacing
from calipose.poses import Poses

SUFFIXES = (".json", ".jsonl", ".csv")


def save_poses(poses: Poses, path: str | Path) -> None:
    """Write the poses of one image; the file appears whole or not at all.

    Example:
        save_poses(predictor.predict("photo.jpg"), "poses.csv")

    Args:
        poses: of one image.
        path: the file; its suffix tells the format: .json, .jsonl (one line) or .csv (one line a keypoint).

    Raises:
        InputError: an unknown suffix, or a file that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SUFFIXES)}")
    if suffix == ".csv":
        content = to_csv(poses)
    else:
        content = json.dumps(poses.to_dict(), ensure_ascii=False, indent=1 if suffix == ".json" else None) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
