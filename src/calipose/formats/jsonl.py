"""JSON lines: one object an image or frame, with all that `Poses.to_dict` gives."""

from __future__ import annotations

import json
from collections.abc import Iterable

from calipose.formats.entries import Entry, Target, flush_stream, open_target
from calipose.skeleton import COCO_17, Skeleton


def write_jsonl(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write one line of JSON an entry.

    Example:
        write_jsonl("poses.jsonl", [{"file": "photo.jpg", **poses.to_dict()}])

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: not needed here, since each entry names its own; all writers of `FORMATS` take it.

    Raises:
        InputError: the file cannot be written.
    """
    del skeleton
    with open_target(target) as stream:
        for entry in entries:
            stream.write(json.dumps(entry) + "\n")
            flush_stream(stream, target)
