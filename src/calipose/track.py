"""Following people through a video: stable ids, gaps filled, coordinates smoothed (numpy only)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calipose.errors import InputError
from calipose.geometry import Floats, oks, pose_area
from calipose.poses import OPTIONAL, Poses
from calipose.skeleton import COCO_17, Skeleton

WIDENING = 10.0  # per second unseen: how fast the OKS's sigmas grow with what a person may do meanwhile
FIRST_WIDENING = 30.0  # the same while a track has been seen only once, so that its velocity is unknown
MIN_OKS = 0.4  # of a pose with a track's prediction, with the grown sigmas; below, they are not the same person
NEW_VELOCITY = 0.5  # share of the newest step in a track's velocity; the rest is the old velocity


class OneEuro:
    """One-Euro filter of one person's keypoints: calm at rest, with little lag in motion.

    A low-pass whose cut-off frequency grows with the keypoint's speed, which is itself low-passed:
    cutoff = min_cutoff + beta * speed. Speed is counted in sizes of the person per second, so that the settings hold
    at every resolution, and without regard to its direction.

    Example:
        smoother = OneEuro()
        points_img = smoother(points_img, seconds=0.04, size_img=120.0)

    Args:
        min_cutoff: Hz at rest; lower is calmer.
        beta: Hz per (size of the person per second); higher lags less.
        speed_cutoff: Hz of the low-pass of the velocity.

    Source: Casiez, Roussel, Vogel: 1 Euro Filter, CHI 2012.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 10.0, speed_cutoff: float = 1.0) -> None:
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._points: Floats | None = None
        self._velocity: Floats | float = 0.0

    def __call__(self, points_img: Floats, seconds: float, size_img: float) -> Floats:
        """The filtered points.

        Args:
            points_img: `(k, 2)`.
            seconds: since the last call; not read in the first.
            size_img: the person's size in pixels: the square root of an area.
        """
        if self._points is None:
            self._points = points_img
        else:
            velocity = (points_img - self._points) / seconds
            share = _low_pass(self.speed_cutoff, seconds)
            self._velocity = share * velocity + (1 - share) * self._velocity
            speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True) / max(size_img, 1e-9)
            share = _low_pass(self.min_cutoff + self.beta * speed, seconds)
            self._points = share * points_img + (1 - share) * self._points
        return self._points


def _low_pass(cutoff: Any, seconds: float) -> Any:
    """The newest value's share in a first-order low-pass of that cut-off frequency (Hz)."""
    turn = 2 * math.pi * cutoff * seconds
    return turn / (turn + 1)


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


def assign(similarity: Floats) -> list[tuple[int, int]]:
    """Pairs (row, column) of greatest total similarity, each row and column at most once; no pair of similarity 0.

    Args:
        similarity: `(r, c)`, not negative.

    Source: the Hungarian method by shortest augmenting paths (Jonker and Volgenant, 1987), O(r^2 c).
    """
    if similarity.shape[0] > similarity.shape[1]:
        return sorted((row, column) for column, row in assign(similarity.T))
    rows, columns = similarity.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    row_of = np.full(columns + 1, -1)  # who holds a column; the one after the last is where a new row starts
    for row in range(rows):
        row_of[columns], column = row, columns
        shortest, previous = np.full(columns, np.inf), np.full(columns, columns)
        reached = np.zeros(columns + 1, bool)
        while row_of[column] >= 0:  # on to a column that nobody holds
            reached[column] = True
            holder = row_of[column]
            cost = -similarity[holder] - row_price[holder] - column_price[:-1]
            nearer = ~reached[:-1] & (cost < shortest)
            shortest[nearer], previous[nearer] = cost[nearer], column
            open_ends = np.where(reached[:-1], np.inf, shortest)
            nearest = int(open_ends.argmin())
            step = open_ends[nearest]
            row_price[row_of[reached]] += step
            column_price[reached] -= step
            shortest[~reached[:-1]] -= step
            column = nearest
        while column != columns:  # back along the path, each column to the row before
            row_of[column] = row_of[previous[column]]
            column = int(previous[column])
    pairs = [(int(row_of[column]), column) for column in range(columns) if row_of[column] >= 0]
    return sorted(pair for pair in pairs if similarity[pair] > 0)


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
