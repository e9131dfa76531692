"""The tracker: each frame's poses are matched with the people who are followed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.geometry import Floats, oks, pose_area
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from calipose.track.assignment import assign
from calipose.track.smoothing import OneEuro

WIDENING = 10.0  # per second unseen: how fast the OKS's sigmas grow with what a person may do meanwhile
FIRST_WIDENING = 30.0  # the same while a track has been seen only once, so that its velocity is unknown
MIN_OKS = 0.4  # of a pose with a track's prediction, with the grown sigmas; below, they are not the same person
NEW_VELOCITY = 0.5  # share of the newest step in a track's velocity; the rest is the old velocity


@dataclass
class _Track:
    """A person who is followed. Where he or she will be next is a shift of the whole pose: joints alone jitter."""

    id: int
    keypoints_img: Floats  # (k, 2), where last seen
    smoother: OneEuro
    velocity_img: Floats | None = None  # (2,) pixels a frame; None until seen twice
    frames_since_seen: int = 0

    def predicted_img(self) -> Floats:
        """`(k, 2)`: where the pose is now, at constant velocity."""
        if self.velocity_img is None:
            return self.keypoints_img
        return self.keypoints_img + self.frames_since_seen * self.velocity_img

    def widening(self, frames_per_second: float) -> float:
        """What the OKS's sigmas are multiplied with for that prediction."""
        rate = FIRST_WIDENING if self.velocity_img is None else WIDENING
        return 1 + rate * self.frames_since_seen / frames_per_second

    def see(self, keypoints_img: Floats) -> None:
        """The person is here now."""
        # The median, since a joint that jumps to another person must not carry the pose along.
        step: Floats = np.median(keypoints_img - self.keypoints_img, axis=0) / self.frames_since_seen
        old = step if self.velocity_img is None else self.velocity_img
        self.velocity_img = NEW_VELOCITY * step + (1 - NEW_VELOCITY) * old
        self.keypoints_img = keypoints_img
        self.frames_since_seen = 0


class Tracker:
    """Gives the poses of a video's frames ids that stay with the person.

    Each frame's poses are matched with the tracks' predicted poses (constant velocity) so that the sum of
    similarities is greatest. The similarity of a pose with a track is

        score * OKS(pose, predicted pose) / w, and 0 where that OKS is below 0.4,

    the OKS over all joints, its area the mean of both poses' `pose_area` (floored, see `_areas`), its sigmas w times
    the skeleton's. w = 1 + 10 t, t being the seconds since the track was last seen (1 + 30 t for a track seen only
    once, whose velocity is unknown). Divided by w, as a wider density is lower: a lost track that may be anywhere does
    not take the pose of the one that is right there.

    Two stages, as in ByteTrack: first the confident poses with all tracks, then the weak ones with those tracks that
    were seen in the frame before and are still unmatched; so a person half hidden keeps the id, and clutter does not
    revive who has left. A confident pose that matches no track begins a new one.

    Example:
        tracker = Tracker(predictor.skeleton, frames_per_second=25.0)
        for frame in video.frames():
            print(tracker.update(predictor.predict(frame.image)).track_ids)

    Args:
        skeleton: of the poses.
        frames_per_second: how often `update` is called, in the video's time.
        confident: score from which a pose may begin a track, or revive a lost one.
        weak: score from which a pose may continue a track.
        patience: seconds for which a lost track is kept.
        smooth_keypoints: filter the returned coordinates with `OneEuro`; matching always uses those given.

    Raises:
        InputError: a setting makes no sense.

    Source: Zhang et al., ByteTrack, ECCV 2022, for the two stages.
    """

    def __init__(
        self,
        skeleton: Skeleton = COCO_17,
        frames_per_second: float = 30.0,
        *,
        confident: float = 0.3,
        weak: float = 0.1,
        patience: float = 1.0,
        smooth_keypoints: bool = False,
    ) -> None:
        if not 0 < frames_per_second < math.inf:
            raise InputError(f"Tracker: frames_per_second is {frames_per_second}; it must be above 0")
        if weak > confident:
            raise InputError(f"Tracker: weak ({weak}) is above confident ({confident})")
        if not 0 <= patience < math.inf:
            raise InputError(f"Tracker: patience is {patience} seconds; it must be 0 or more")
        self.skeleton = skeleton
        self.frames_per_second = frames_per_second
        self.confident = confident
        self.weak = weak
        self.patience = patience
        self.smooth_keypoints = smooth_keypoints
        self.reset()

    def reset(self) -> None:
        """Forget all tracks and count ids from 1 again, as for another video."""
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, poses: Poses) -> Poses:
        """Assign the next frame's poses to tracks.

        The order stays. Weak poses without a track are left out. An id is never given to two people, nor used again.

        Args:
            poses: of the next frame.

        Returns:
            Those that belong to a track, with `track_ids`.

        Raises:
            InputError: the poses are of another skeleton.
        """
        if poses.skeleton != self.skeleton:
            raise InputError(f"Tracker: poses of '{poses.skeleton.name}', but the tracker's is '{self.skeleton.name}'")
        for track in self._tracks:
            track.frames_since_seen += 1
        confident = poses.scores >= self.confident
        weak = ~confident & (poses.scores >= self.weak)
        found = self._match(poses, np.flatnonzero(confident), self._tracks)
        taken = {track.id for track in found.values()}
        left = [track for track in self._tracks if track.frames_since_seen == 1 and track.id not in taken]
        found |= self._match(poses, np.flatnonzero(weak), left)
        points = poses.keypoints_img.copy()
        for pose, track in found.items():
            seconds = track.frames_since_seen / self.frames_per_second
            track.see(poses.keypoints_img[pose])
            points[pose] = self._smoothed(track, seconds)
        # By score and position, so that ids do not depend on the order in which poses are given.
        centre = poses.keypoints_img.mean(1)
        for pose in np.lexsort((centre[:, 1], centre[:, 0], -poses.scores)).tolist():
            if confident[pose] and pose not in found:
                found[pose] = _Track(self._next_id, poses.keypoints_img[pose], OneEuro())
                self._next_id += 1
                self._tracks.append(found[pose])
                self._smoothed(found[pose], 0.0)  # the first sighting passes unchanged
        max_frames = self.patience * self.frames_per_second
        self._tracks = [track for track in self._tracks if track.frames_since_seen <= max_frames]
        kept = sorted(found)
        ids = np.array([found[pose].id for pose in kept], np.int64)
        return replace(poses[kept], keypoints_img=points[kept], track_ids=ids)

    def _match(self, poses: Poses, chosen: Any, tracks: list[_Track]) -> dict[int, _Track]:
        """The track that each of the chosen poses (indices) continues, by the pose's index."""
        if not len(chosen) or not tracks:
            return {}
        new = poses.keypoints_img[chosen]
        old = np.stack([track.predicted_img() for track in tracks])
        wider = np.array([track.widening(self.frames_per_second) for track in tracks])[:, None]
        areas = (_areas(new, poses.image_size) + _areas(old, poses.image_size)[:, None]) / 2
        everywhere = np.ones(len(self.skeleton), bool)
        # The OKS knows sigma only together with the area, as sigma^2 area: grown sigmas are a grown area.
        alike = oks(new[None], old[:, None], everywhere, areas * wider**2, self.skeleton.sigmas_array)
        similarity = np.where(alike >= MIN_OKS, poses.scores[chosen] * alike / wider, 0.0)
        return {int(chosen[pose]): tracks[track] for track, pose in assign(similarity)}

    def _smoothed(self, track: _Track, seconds: float) -> Floats:
        if not self.smooth_keypoints:
            return track.keypoints_img
        size = float(np.sqrt(pose_area(track.keypoints_img)))
        return track.smoother(track.keypoints_img, seconds, size)


def _areas(keypoints_img: Floats, image_size: tuple[int, int]) -> Floats:
    """`(p,)` areas of poses `(p, k, 2)`, never 0, not even of a person seen from the side or of few joints in a row.

    At least a tenth of the longer side's square, and 1e-4 of the image.
    """
    longer = (keypoints_img.max(-2) - keypoints_img.min(-2)).max(-1)
    floor = np.maximum(longer**2 / 10, 1e-4 * image_size[0] * image_size[1])
    areas: Floats = np.maximum(pose_area(keypoints_img), floor)
    return areas
