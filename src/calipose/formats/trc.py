"""TRC: tracks of markers, which OpenSim and other programs of biomechanics read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from calipose.formats.entries import Entry, Target, is_still
from calipose.formats.zipped import open_zip, unique_stems
from calipose.geometry import Floats
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

DEFAULT_RATE = 30.0  # frames a second, where a video says no times


def to_trc(track: Mapping[int, Floats], keypoints: Iterable[str], frames_per_second: float, name: str) -> str:
    """A TRC file of one person.

    Args:
        track: frame's index -> keypoints (k, 2), x to the right and y up, in pixels.
        keypoints: their names, the markers.
        frames_per_second: of the video.
        name: of the file.

    Returns:
        The text. Frames are numbered from 1 as in the video; frames between in which the person was not seen have empty
        cells. z is 0.
    """
    markers = list(keypoints)
    first, last = min(track), max(track)
    count, rate = last - first + 1, f"{frames_per_second:g}"
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{count}\t{len(markers)}\tpx\t{rate}\t{first + 1}\t{count}",
        "Frame#\tTime\t" + "\t\t\t".join(markers) + "\t\t",
        "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, len(markers) + 1)),
        "",
    ]
    for index in range(first, last + 1):
        cells = [str(index + 1), f"{index / frames_per_second:.6f}"]
        if index in track:
            for x, y in track[index].tolist():
                cells += [f"{x:.4f}", f"{y:.4f}", "0"]
        else:
            cells += [""] * (3 * len(markers))
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def write_trc(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write a .zip with `VIDEO_person1.trc`, ... of each person who was followed through a video.

    Still images, and people who were not followed, are left out. OpenSim's y points up: y is the image's height less 1
    less the pixel's y, so that it stays a pixel inside of the image.

    Example:
        write_trc("trc.zip", read_entries("calipose-out/dance.poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stem = unique_stems()
    tracks: dict[str, dict[int, dict[int, Floats]]] = defaultdict(lambda: defaultdict(dict))
    times: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for entry in entries:
        if is_still(entry):
            continue
        poses, name = Poses.from_dict(entry, skeleton), stem(entry)
        if isinstance(entry.get("seconds"), int | float):
            times[name].append((entry["index"], float(entry["seconds"])))
        if poses.track_ids is not None:
            up = poses.keypoints_img * [1, -1] + [0, poses.image_size[1] - 1]
            for track_id, points in zip(poses.track_ids.tolist(), up, strict=True):
                tracks[name][track_id][entry["index"]] = points
    with open_zip(target) as add:
        for name, people in tracks.items():
            rate = frame_rate(times[name])
            for track_id, track in sorted(people.items()):
                file = f"{name}_person{track_id}.trc"
                add(file, to_trc(track, skeleton.keypoints, rate, file))


def frame_rate(times: list[tuple[int, float]]) -> float:
    """Frames a second of a video, from the index and seconds of its frames; 30 where these do not say it."""
    indices, seconds = np.array(times, np.float64).reshape(-1, 2).T
    if len(indices) < 2 or not seconds[-1] > seconds[0]:
        return DEFAULT_RATE
    rate = (indices[-1] - indices[0]) / (seconds[-1] - seconds[0])
    return float(round(rate, 3)) if 0 < rate < 1e5 else DEFAULT_RATE
