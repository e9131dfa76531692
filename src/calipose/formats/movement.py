"""Poses of a video for movement, the package for animal and human motion: an xarray data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from calipose.errors import InputError, install_hint
from calipose.poses import Poses


def to_movement(frames: Iterable[Poses], frames_per_second: float | None = None) -> Any:
    """Poses of a video's frames, in which people were tracked, in movement's form.

    It has `position` (time, space, keypoints, individuals) in pixels and `confidence` (time, keypoints, individuals),
    and besides what movement knows not: `pose_score` (time, individuals), the expected OKS where the model is
    calibrated, and `filled`, True where a pose was put in between two sightings. Where somebody is not seen, positions
    and scores are NaN. Through movement it goes to DeepLabCut, SLEAP, LightningPose and NWB files.

    Args:
        frames: poses of each frame, in order, with track ids.
        frames_per_second: of the video; without it, time is in frames.

    Returns:
        An `xarray.Dataset`.

    Raises:
        InputError: xarray is not installed; there is no frame, or poses have no track ids or other keypoints.

    Example:
        frames = [Poses.from_dict(entry) for entry in read_entries("calipose-out/dance.poses.jsonl")]
        to_movement(frames, 25.0).to_netcdf("dance.nc")
    """
    try:
        import xarray
    except ImportError:
        raise InputError(f"to_movement needs xarray: {install_hint('movement')}") from None
    frames = list(frames)
    if not frames:
        raise InputError("to_movement: there is no frame")
    if frames_per_second is not None and not 0 < frames_per_second < float("inf"):
        raise InputError(f"to_movement: {frames_per_second} frames a second; a positive number is needed")
    skeleton = frames[0].skeleton
    ids: set[int] = set()
    for number, poses in enumerate(frames):
        if poses.skeleton.keypoints != skeleton.keypoints:
            raise InputError(f"to_movement: frame {number} has other keypoints than frame 0")
        if poses.track_ids is None and len(poses):
            raise InputError(f"to_movement: the poses of frame {number} have no track ids; follow people (Tracker)")
        ids.update([] if poses.track_ids is None else poses.track_ids.tolist())
    people = {track_id: i for i, track_id in enumerate(sorted(ids))}
    shape = len(frames), len(skeleton), len(people)
    position = np.full((shape[0], 2, *shape[1:]), np.nan)
    confidence = np.full(shape, np.nan)
    score = np.full((shape[0], shape[2]), np.nan)
    filled = np.zeros(score.shape, bool)
    for t, poses in enumerate(frames):
        columns = [people[track_id] for track_id in (poses.track_ids.tolist() if poses.track_ids is not None else [])]
        for i, column in enumerate(columns):
            position[t, :, :, column] = poses.keypoints_img[i].T
            score[t, column] = poses.scores[i]
            if poses.keypoint_scores is not None:
                confidence[t, :, column] = poses.keypoint_scores[i]
            if poses.filled is not None:
                filled[t, column] = poses.filled[i]
    time = np.arange(shape[0]) if frames_per_second is None else np.arange(shape[0]) / frames_per_second
    unit = "frames" if frames_per_second is None else "seconds"
    attributes = {"source_software": "Calipose", "ds_type": "poses", "time_unit": unit}
    return xarray.Dataset(
        data_vars={
            "position": (("time", "space", "keypoints", "individuals"), position),
            "confidence": (("time", "keypoints", "individuals"), confidence),
            "pose_score": (("time", "individuals"), score),
            "filled": (("time", "individuals"), filled),
        },
        coords={
            "time": time,
            "space": ["x", "y"],
            "keypoints": list(skeleton.keypoints),
            "individuals": [f"person_{track_id}" for track_id in people],
        },
        attrs=attributes if frames_per_second is None else {**attributes, "fps": float(frames_per_second)},
    )
