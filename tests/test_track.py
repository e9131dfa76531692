"""Following synthetic people through a video: ids, occlusions, gaps, smoothing."""

import dataclasses
import gc
import itertools

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from calipose.track import OneEuro, Tracker, assign, fill_gaps

SIZE = (1280, 720)
STANDING = np.array(
    [
        (0, -78), (3, -81), (-3, -81), (7, -79), (-7, -79), (16, -60), (-16, -60), (21, -35), (-21, -35), (22, -12),
        (-22, -12), (10, -8), (-10, -8), (11, 32), (-11, 32), (11, 72), (-11, 72),
    ],
    float,
)  # fmt: skip
SWING = np.zeros((17, 2))
SWING[[7, 8, 9, 10, 13, 14, 15, 16], 0] = (-8, 8, -18, 18, 10, -10, 20, -20)


def person(seconds, x, y=360.0, tall=200.0, phase=0.0):
    """Keypoints (17, 2) of somebody who walks on the spot, two steps a second."""
    swing = SWING * np.sin(2 * np.pi * (seconds + phase))
    return (STANDING + swing) * tall / 170 + np.array([x, y])


def poses_of(people, scores=0.8, **optional):
    points = np.array(people, float).reshape(-1, 17, 2)
    return Poses(points, np.full(len(points), scores, float), SIZE, **optional)


def crossing(rate, below=0.0, noise=0.0, hidden=0, seed=0):
    """Who is in each frame (names a and b): they walk through each other in 4 seconds.

    b, who walks `below` pixels lower, is hidden in the `hidden` frames around the meeting.
    """
    rng = np.random.default_rng(seed)
    frames = []
    count = round(4 * rate)
    for n in range(count):
        s = n / rate
        seen = {"a": person(s, 200 + 200 * s), "b": person(s, 1000 - 200 * s, 360 + below, phase=0.3)}
        if abs(n - count / 2 + 0.5) < hidden / 2:
            del seen["b"]
        frames.append({name: points + rng.normal(0, noise, points.shape) for name, points in seen.items()})
    return frames


def follow(frames, rate=30.0, shuffled=None, scores=None, **settings):
    """Ids that each person had, in order of time. `scores` is a function of name and frame number."""
    tracker = Tracker(COCO_17, rate, **settings)
    ids = {}
    for n, frame in enumerate(frames):
        names = list(frame)
        if shuffled is not None:
            names = [names[i] for i in shuffled.permutation(len(names))]
        given = [0.8 if scores is None else scores(name, n) for name in names]
        tracked = tracker.update(poses_of([frame[name] for name in names], given))
        for points, track_id in zip(tracked.keypoints_img, tracked.track_ids.tolist(), strict=True):
            name = next(name for name in names if np.array_equal(frame[name], points))
            ids.setdefault(name, []).append(track_id)
    return ids


def switches(ids):
    """How often a person's id changes, plus how many ids are of two people."""
    changes = sum(a != b for row in ids.values() for a, b in itertools.pairwise(row))
    owners = [name for name, row in ids.items() for _ in set(row)]
    return changes + len(owners) - len({i for row in ids.values() for i in row})


# ---- assignment


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 6), (0, 3), (3, 0)])
@pytest.mark.parametrize("seed", range(5))
def test_assignment_is_the_best(shape, seed):
    rng = np.random.default_rng(seed)
    similarity = rng.uniform(0, 1, shape) * (rng.uniform(size=shape) < 0.7)
    pairs = assign(similarity)
    assert all(similarity[pair] > 0 for pair in pairs)
    assert all(len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1))
    wide = similarity if shape[0] <= shape[1] else similarity.T
    ways = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    best = max(sum(wide[row, column] for row, column in enumerate(way)) for way in ways)
    assert sum(similarity[pair] for pair in pairs) == pytest.approx(best)


def test_assignment_gives_up_the_nearest_for_the_sum():
    assert assign(np.array([[0.9, 0.85], [0.88, 0.3]])) == [(0, 1), (1, 0)]


# ---- ids


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("below", [0, 20, 60])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_two_who_cross_keep_their_ids(rate, below, noise):
    ids = follow(crossing(rate, below, noise), rate)
    assert switches(ids) == 0
    assert [len(ids[name]) for name in "ab"] == [4 * rate, 4 * rate]


@pytest.mark.parametrize("hidden", [2, 6, 10, 20])
@pytest.mark.parametrize("below", [0, 20])
@pytest.mark.parametrize("seed", range(3))
def test_one_is_hidden_while_they_cross(hidden, below, seed):
    ids = follow(crossing(30, below, 3.0, hidden, seed))
    assert switches(ids) == 0
    assert [len(ids[name]) for name in "ab"] == [120, 120 - hidden]


def test_ids_do_not_hang_on_the_order_of_poses():
    frames = crossing(30, 20, 2.0, 10)
    plain = follow(frames)
    for seed in range(3):
        shuffled = follow(frames, shuffled=np.random.default_rng(seed))
        assert switches(shuffled) == 0
        assert shuffled == plain  # who is number 1 is told by score and place


def test_the_given_order_stays():
    tracker = Tracker()
    people = [person(0, x) for x in (900, 100, 500)]
    first = tracker.update(poses_of(people, [0.5, 0.7, 0.6]))
    assert first.keypoints_img.tolist() == np.array(people).tolist()
    assert first.track_ids.tolist() == [3, 1, 2]
    second = tracker.update(poses_of(people[::-1], [0.6, 0.7, 0.5]))
    assert second.track_ids.tolist() == [2, 1, 3]


def test_who_comes_and_goes():
    """A stays, b leaves to the right after 20 frames, c enters on the left 60 frames later."""
    frames = []
    for n in range(120):
        frame = {"a": person(n / 30, 600)}
        if n < 20:
            frame["b"] = person(n / 30, 1100 + 10 * n)
        if n >= 80:
            frame["c"] = person(n / 30, 10 * (n - 80))
        frames.append(frame)
    ids = follow(frames)
    assert {name: set(row) for name, row in ids.items()} == {"a": {1}, "b": {2}, "c": {3}}


@pytest.mark.parametrize(("away", "same"), [(10, True), (30, True), (31, False), (60, False)])
def test_a_lost_track_is_kept_for_its_patience(away, same):
    frames = [{"a": person(0, 600)}] * 5 + [{}] * away + [{"a": person(0, 600)}] * 5
    assert follow(frames, patience=1.0)["a"] == [1] * 5 + [1 if same else 2] * 5


def test_no_patience_still_follows():
    assert follow(crossing(30, 60), patience=0.0) == follow(crossing(30, 60))


@pytest.mark.parametrize("rate", [5, 15, 30])
def test_somebody_runs(rate):
    frames = [{"a": person(n / rate, 100 + 500 * n / rate)} for n in range(2 * rate)]  # 2.5 body lengths a second
    assert set(follow(frames, rate)["a"]) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_the_visible_one_keeps_the_id_though_another_walks_behind(seed):
    """B passes behind a, who stands still: b's prediction lies on a for a while, but a wide guess is a poor one."""
    rng = np.random.default_rng(seed)
    frames = []
    for n in range(60):
        frame = {"a": person(0, 600)}
        if abs(4 * n - 100) > 40:
            frame["b"] = person(0, 500 + 4 * n)
        frames.append({name: points + rng.normal(0, 3, points.shape) for name, points in frame.items()})
    assert {name: set(row) for name, row in follow(frames).items()} == {"a": {2}, "b": {1}}


# ---- scores


def test_weak_poses_carry_a_track_through_an_occlusion():
    frames = crossing(30, 60, 1.0)
    ids = follow(frames, scores=lambda name, n: 0.15 if name == "b" and 40 <= n < 80 else 0.8)
    assert (switches(ids), len(ids["b"])) == (0, 120)


@pytest.mark.parametrize(("score", "length"), [(0.5, 10), (0.3, 10), (0.29, 0), (0.05, 0)])
def test_only_a_confident_pose_begins_a_track(score, length):
    ids = follow([{"a": person(0, 600)}] * 10, scores=lambda name, n: score)
    assert len(ids.get("a", [])) == length


@pytest.mark.parametrize(("score", "after"), [(0.2, []), (0.8, [1])])
def test_a_lost_track_is_revived_by_a_confident_pose_only(score, after):
    frames = [{"a": person(0, 600)}] * 5 + [{}] * 3 + [{"a": person(0, 600)}]
    assert follow(frames, scores=lambda name, n: 0.8 if n < 5 else score)["a"] == [1] * 5 + after


def test_poses_too_weak_are_nobody():
    frames = [{"a": person(0, 600)}] * 10
    assert follow(frames, scores=lambda name, n: 0.8 if n < 5 else 0.09)["a"] == [1] * 5


def test_of_two_alike_the_better_is_taken():
    tracker = Tracker()
    tracker.update(poses_of([person(0, 600)]))
    left, right = person(0, 598), person(0, 602)
    for scores in ([0.2, 0.15], [0.15, 0.2]):
        tracked = tracker.update(poses_of([left, right], scores))
        assert tracked.track_ids.tolist() == [1]
        assert tracked.scores.tolist() == [0.2]


@pytest.mark.parametrize("seed", range(3))
def test_an_id_is_in_a_frame_once(seed):
    rng = np.random.default_rng(seed)
    tracker = Tracker()
    for n in range(60):
        people = [person(n / 30, x + 4 * n) for x in (0, 60, 120, 500, 510)]
        people = [p + rng.normal(0, 4, p.shape) for p in people for _ in range(2)]  # each found twice
        tracked = tracker.update(poses_of(people, rng.uniform(0, 1, 10)))
        assert len(set(tracked.track_ids.tolist())) == len(tracked)


def test_everything_of_a_pose_is_kept():
    poses = poses_of(
        [person(0, 100), person(0, 900), person(0, 500)],
        [0.05, 0.6, 0.9],
        keypoint_scores=np.arange(51).reshape(3, 17) / 51,
        raw_scores=[1, 2, 3],
    )
    tracked = Tracker().update(poses)
    for field in ("keypoints_img", "scores", "keypoint_scores", "raw_scores"):
        assert getattr(tracked, field).tolist() == getattr(poses, field)[1:].tolist()
    assert (tracked.track_ids.tolist(), tracked.image_size, tracked.filled) == ([2, 1], SIZE, None)


# ---- frames, skeletons and settings


def test_frames_without_anybody():
    tracker = Tracker()
    for poses in (Poses.empty(SIZE), poses_of([person(0, 600)]), Poses.empty(SIZE), poses_of([person(0, 600)])):
        tracked = tracker.update(poses)
        assert tracked.track_ids.tolist() == [1] * len(poses)


def test_reset_starts_another_video():
    tracker = Tracker()
    for x in (100, 900):
        tracker.update(poses_of([person(0, x)]))
    tracker.reset()
    assert tracker.update(poses_of([person(0, 900)])).track_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "points"),
    [(("dot",), [(0, 0)]), (("a", "b"), [(0, 0), (40, 0)]), (("a", "b", "c"), [(0, 0), (0, 30), (0, 60)])],
)
def test_poses_whose_box_has_no_area(names, points):
    skeleton = Skeleton("thin", names, (), (), (0.1,) * len(names))
    tracker = Tracker(skeleton)
    for n in range(10):
        here = np.array([[(x + 100 + 3 * n, y + 50) for x, y in points], [(x + 500, y + 400 - n) for x, y in points]])
        tracked = tracker.update(Poses(here, [0.8, 0.7], (640, 480), skeleton=skeleton))
        assert tracked.track_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"frames_per_second": 0}, "frames_per_second is 0"),
        ({"frames_per_second": float("nan")}, "frames_per_second is nan"),
        ({"weak": 0.5}, r"weak \(0.5\) is above confident \(0.3\)"),
        ({"patience": -1}, "patience is -1"),
    ],
)
def test_settings_without_sense(settings, word):
    with pytest.raises(InputError, match=word):
        Tracker(**settings)


def test_another_skeleton():
    with pytest.raises(InputError, match="'coco-17', but the tracker's is 'dot'"):
        Tracker(Skeleton("dot", ("dot",), (), (), (0.1,))).update(Poses.empty(SIZE))


# ---- smoothing


def smoothed(frames, rate=30, **settings):
    tracker = Tracker(COCO_17, rate, smooth_keypoints=True, **settings)
    return np.concatenate([tracker.update(poses_of(people)).keypoints_img for people in frames])


@pytest.mark.parametrize("rate", [15, 30, 60])
def test_jitter_at_rest_is_reduced(rate):
    rng = np.random.default_rng(0)
    true = person(0, 600)
    noisy = true + rng.normal(0, 1.5, (4 * rate, 17, 2))
    calm = smoothed(noisy[:, None], rate)
    jitter = [np.diff(points, axis=0)[rate:].std() for points in (noisy, calm)]
    assert jitter[1] < 0.45 * jitter[0]
    assert np.abs(calm[rate:].mean(0) - true).max() < 0.75  # and nobody is carried off


@pytest.mark.parametrize("rate", [15, 30, 60])
@pytest.mark.parametrize("speed", [60, 200, 500])
def test_lag_in_motion_is_bounded(rate, speed):
    true = np.array([STANDING + np.array([100 + speed * n / rate, 360]) for n in range(2 * rate)])
    behind = (true - smoothed(true[:, None], rate))[rate:, :, 0] / speed  # seconds
    assert behind.min() >= 0
    assert behind.max() < 0.02


def test_the_filter_is_the_published_one():
    """Against the recursion of the paper, one coordinate, unit size."""
    values, seconds = np.random.default_rng(0).normal(0, 1, 20), 0.04
    one_euro = OneEuro(min_cutoff=0.7, beta=2.0, speed_cutoff=1.3)
    got = [one_euro(np.array([[value, 5.0]]), seconds, 1.0)[0, 0] for value in values]
    share = lambda cutoff: 1 / (1 + 1 / (2 * np.pi * cutoff) / seconds)  # noqa: E731
    filtered, speed, expected = values[0], 0.0, [values[0]]
    for value in values[1:]:
        speed = share(1.3) * (value - filtered) / seconds + (1 - share(1.3)) * speed
        a = share(0.7 + 2.0 * abs(speed))
        filtered = a * value + (1 - a) * filtered
        expected.append(filtered)
    assert got == pytest.approx(expected)


def test_smoothing_is_the_same_at_every_resolution():
    rng = np.random.default_rng(0)
    frames = [person(n / 30, 300 + 3 * n) + rng.normal(0, 2, (17, 2)) for n in range(30)]
    small, large = OneEuro(), OneEuro()
    for points in frames:
        size = np.sqrt(np.prod(np.ptp(points, axis=0)))
        assert large(4 * points, 1 / 30, 4 * size) == pytest.approx(4 * small(points, 1 / 30, size))


def test_smoothing_changes_neither_ids_nor_poses_that_are_new():
    frames = crossing(30, 20, 3.0, 10)
    tracker = Tracker(smooth_keypoints=True)
    ids = [tracker.update(poses_of(list(frame.values()))).track_ids.tolist() for frame in frames]
    plain = Tracker()
    assert ids == [plain.update(poses_of(list(frame.values()))).track_ids.tolist() for frame in frames]
    assert np.array_equal(smoothed([[person(0, 600)]])[0], person(0, 600))


# ---- gaps


def track(*steps, **optional):
    """Frames of one person at those places; None: not seen."""
    frames = []
    for x in steps:
        people = [] if x is None else [person(0, x)]
        values = {field: np.full((len(people), *shape), value) for field, (shape, value) in optional.items()}
        frames.append(poses_of(people, track_ids=np.full(len(people), 7), **values))
    return frames


def places(frames):
    return [[round(float(points[11:13, 0].mean()), 6) for points in frame.keypoints_img] for frame in frames]


@pytest.mark.parametrize("max_gap", [2, 3, 10])
def test_a_gap_is_filled_on_the_straight_line(max_gap):
    given = track(100, 110, None, None, 140, 150)
    given[4] = dataclasses.replace(given[4], scores=[0.5])
    filled = list(fill_gaps(given, max_gap))
    assert places(filled) == [[100], [110], [120], [130], [140], [150]]
    assert [frame.filled.tolist() for frame in filled] == [[False], [False], [True], [True], [False], [False]]
    assert [frame.track_ids.tolist() for frame in filled] == [[7]] * 6
    assert [frame.scores[0] for frame in filled] == pytest.approx([0.8, 0.8, 0.7, 0.6, 0.5, 0.8])
    assert given[2].keypoints_img.shape == (0, 17, 2)  # what was given stays


@pytest.mark.parametrize(
    ("steps", "max_gap"),
    [
        ((100, None, None, 130), 1),
        ((100, None, 120), 0),
        ((None, None, 120), 5),
        ((100, None, None), 5),
        ((), 3),
        ((None, None), 3),
        ((100, 110), 3),
    ],
)
def test_nothing_else_is_filled(steps, max_gap):
    given = track(*steps)
    filled = list(fill_gaps(given, max_gap))
    assert places(filled) == places(given)
    assert not any(frame.filled.any() for frame in filled)


def test_several_gaps_of_several_people():
    tracker = Tracker()
    frames = []
    for n in range(30):
        people = [person(0, 300 + 2 * n)] * (n % 3 != 1) + [person(0, 900 - 2 * n)] * (n not in (7, 8, 20))
        frames.append(tracker.update(poses_of(people)))
    filled = [frame[np.argsort(frame.track_ids)] for frame in fill_gaps(frames, 3)]
    assert places(filled) == [[300.0 + 2 * n, 900.0 - 2 * n] for n in range(30)]
    assert [frame.filled.tolist() for frame in filled] == [[n % 3 == 1, n in (7, 8, 20)] for n in range(30)]


def test_filled_poses_carry_what_the_others_do():
    optional = {"keypoint_scores": ((17,), 0.4), "raw_scores": ((), 3.0)}
    frame = list(fill_gaps(track(100, None, 120, **optional), 3))[1]
    assert (frame.keypoint_scores.shape, frame.raw_scores.tolist()) == ((1, 17), [3.0])
    mixed = track(100, None, **optional) + track(120)
    frame = list(fill_gaps(mixed, 3))[1]
    assert (len(frame), frame.keypoint_scores, frame.raw_scores) == (1, None, None)
    nobody = [*track(100), Poses.empty(SIZE), *track(120)]  # an empty frame need not have ids
    assert places(fill_gaps(nobody, 3)) == [[100], [110], [120]]


@pytest.mark.parametrize("max_gap", [0, 1, 5])
def test_frames_come_late_and_few_are_held(max_gap):
    given = 0

    def endless():
        nonlocal given
        while True:
            given += 1  # everybody is seen once: ids never come again
            yield poses_of([person(0, 100)], track_ids=[given])

    filled = fill_gaps(endless(), max_gap)
    gc.collect()
    before = sum(issubclass(type(thing), Poses) for thing in gc.get_objects())
    for number in range(1, 101):
        next(filled)
        assert given == number + max_gap
    gc.collect()
    assert sum(issubclass(type(thing), Poses) for thing in gc.get_objects()) - before <= 2 * max_gap + 5


def test_filled_poses_lie_between_smoothed_ones():
    frames = crossing(30, 60, 3.0, 6)
    tracker = Tracker(smooth_keypoints=True)
    filled = list(fill_gaps((tracker.update(poses_of(list(frame.values()))) for frame in frames), 10))
    rows = [frame.track_ids.tolist().index(2) for frame in filled]  # b, who stood right of a
    path = np.array([frame.keypoints_img[row] for frame, row in zip(filled, rows, strict=True)])
    put_in = [bool(frame.filled[row]) for frame, row in zip(filled, rows, strict=True)]
    assert np.flatnonzero(put_in).tolist() == list(range(57, 63))
    assert np.abs(np.diff(path[56:64], n=2, axis=0)).max() < 1e-9  # one straight line, from a smoothed pose to the next


@pytest.mark.parametrize(
    ("frames", "max_gap", "word"),
    [([], -1, "max_gap is -1"), ([poses_of([person(0, 100)])], 3, "without track_ids; Tracker.update")],
)
def test_gaps_that_cannot_be_filled(frames, max_gap, word):
    with pytest.raises(InputError, match=word):
        list(fill_gaps(frames, max_gap))


def test_filled_poses_have_no_radii():
    frames = [dataclasses.replace(poses, radii_img=np.full((1, 17), 5.0), coverage=0.9) for poses in track(100, 120)]
    first, between, last = fill_gaps([frames[0], frames[0][[]], frames[1]], 3)
    assert (first.radii_img == 5).all()
    assert np.isnan(between.radii_img).all()
    assert (last.radii_img == 5).all()
