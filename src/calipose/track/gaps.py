"""Filling the frames in which a person who is followed was not seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.poses import OPTIONAL, Poses


def fill_gaps(frames: Iterable[Poses], max_gap: int) -> Iterator[Poses]:
    """Fill each track's gaps of up to `max_gap` frames with poses marked `filled`.

    A filled pose lies on the straight line between the sightings before and after, as do its scores; it stands behind
    the frame's own poses. Frames come out `max_gap` frames late (at the end all), since a gap is only known once it is
    over; no more than `max_gap` + 1 frames are held.

    Args:
        frames: poses with `track_ids`, as `Tracker.update` gives them, one `Poses` a frame.
        max_gap: longest gap, in frames; 0 fills nothing.

    Returns:
        An iterator of the frames' poses, in order.

    Raises:
        InputError: `max_gap` is negative, or poses have no track ids.

    Example:
        tracker = Tracker(frames_per_second=25.0)
        followed = (tracker.update(predictor.predict(frame.image)) for frame in video.frames())
        for poses in fill_gaps(followed, max_gap=10):
            print(poses.track_ids, poses.filled)
    """
    if max_gap < 0:
        raise InputError(f"fill_gaps: max_gap is {max_gap}; it must be 0 or more frames")
    held: deque[Poses] = deque()
    seen: dict[int, tuple[int, Poses]] = {}  # by id: the last frame's number, and the pose there
    for number, frame in enumerate(frames):
        if frame.track_ids is None and len(frame):
            raise InputError("fill_gaps: poses without track_ids; Tracker.update gives them")
        held.append(frame if frame.filled is not None else replace(frame, filled=np.zeros(len(frame), bool)))
        for pose, track_id in zip(frame, [] if frame.track_ids is None else frame.track_ids.tolist(), strict=True):
            last, earlier = seen.get(track_id, (number, pose))
            gap = number - last - 1
            for i in range(1, gap + 1):
                index = len(held) - 1 - (number - last) + i
                held[index] = _joined(held[index], _between(earlier, pose, i / (gap + 1)))
            seen[track_id] = (number, pose)
        seen = {track_id: (last, pose) for track_id, (last, pose) in seen.items() if number - last <= max_gap}
        if len(held) > max_gap:
            yield held.popleft()
    yield from held


def _between(first_seen: Poses, next_seen: Poses, share: float) -> Poses:
    """The pose at that share of the way from one sighting to the other."""
    values: dict[str, Any] = {"track_ids": next_seen.track_ids, "filled": np.ones(1, bool)}
    for field in ("keypoints_img", "scores", "keypoint_scores", "raw_scores", "p_oks50", "p_oks75"):
        first, second = getattr(first_seen, field), getattr(next_seen, field)
        values[field] = None if first is None or second is None else (1 - share) * first + share * second
    if next_seen.radii_img is not None:
        values["radii_img"] = np.full_like(next_seen.radii_img, np.nan)  # nobody has measured such poses
    return replace(next_seen, **values)


def _joined(frame: Poses, more: Poses) -> Poses:
    """The frame's poses, then the others; what only one of them carries becomes None, if the frame has poses."""
    values: dict[str, Any] = {}
    for field in ("keypoints_img", "scores", *OPTIONAL):
        first, second = getattr(frame, field), getattr(more, field)
        both = first is not None and second is not None
        values[field] = np.concatenate([first, second]) if both else (None if len(frame) else second)
    return replace(frame, **values)
