"""COCO keypoint results of many images; those of one image are `Poses.to_coco`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from calipose.formats.entries import Entry, Target, is_still, write_json_list
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

MAX_ID_DIGITS = 15  # digits of a file's name that is taken for a COCO image id: more do not fit a double


def write_coco(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write COCO keypoint results, numbers not rounded: the file's stem is the image id where it is a number.

    All others, also the frames of a video, are numbered 1, 2, 3 ... in order. Such numbers say little, so each result
    also names its "file" and "index"; evaluation tools pass these over.

    Example:
        write_coco("results.json", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    image_id = image_ids()

    def results() -> Iterator[list[Any]]:
        for entry in entries:
            image = {key: entry[key] for key in ("file", "index") if key in entry}
            found = Poses.from_dict(entry, skeleton).to_coco(image_id(entry))
            yield [{**result, **image} for result in found]

    write_json_list(target, results())


def image_ids() -> Callable[[Entry], int]:
    """A function that gives each entry its COCO image id, no id twice."""
    taken: set[int] = set()
    last = 0

    def number(entry: Entry) -> int:
        nonlocal last
        stem = Path(entry["file"]).stem
        if is_still(entry) and stem.isascii() and stem.isdigit() and len(stem) <= MAX_ID_DIGITS:
            image_id = int(stem)
            if image_id not in taken:
                taken.add(image_id)
                return image_id
        last += 1
        while last in taken:
            last += 1
        taken.add(last)
        return last

    return number
