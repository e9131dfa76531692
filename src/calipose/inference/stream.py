"""Poses of many images and videos, one after the other, in memory that does not grow with their number (no torch)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from calipose.errors import ImageError, InputError
from calipose.geometry import Floats
from calipose.inference.predictor import Predictor
from calipose.io.images import Image
from calipose.io.sources import Frame, Source
from calipose.poses import Poses
from calipose.track import Tracker, fill_gaps

WEAK_SCORE = 0.1  # from which a pose may continue a person's track
GAP_SECONDS = 0.4  # the longest time for which a followed person is filled in
GAP_FRAMES = 12  # and the most frames, since so many are held in memory
VIDEO_RATE = 30.0  # frames per second where a video does not say its own
WEBCAM_RATE = 10.0  # of those frames of a webcam that a CPU can follow


@dataclass(frozen=True)
class PredictOptions:
    """How poses are looked for.

    Attributes:
        min_score: poses below are left out; but a weaker one that continues a followed person's track is kept.
        batch_size: images that go through the network together, if they have the same size there.
        queries: also give the keypoint queries; images then go one by one, and nobody is followed.
        track: follow people through videos, and fill the gaps between two sightings.
        smooth: smooth the coordinates of people who are followed.
        every: of a video or webcam, take every n-th frame only.
        strict: leave out weaker poses of people who are followed, too.
    """

    min_score: float = 0.3
    batch_size: int = 1
    queries: bool = False
    track: bool = True
    smooth: bool = False
    every: int = 1
    strict: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in one image, or one frame of a video; `queries_img` `(p, k, 2)` where wished for."""

    source: Source
    frame: Frame
    poses: Poses
    queries_img: Floats | None = None


def is_video(source: Source) -> bool:
    """Its frames belong together, and have an index."""
    return source.kind in {"video", "webcam"}


def frame_rate(source: Source, options: PredictOptions) -> float:
    """Frames a second that are taken of a video or webcam, about."""
    return WEBCAM_RATE if source.kind == "webcam" else (source.frames_per_second or VIDEO_RATE) / options.every


def predict_images(
    predictor: Predictor,
    sources: Iterable[Source],
    options: PredictOptions,
    broken: Callable[[Source, InputError], None],
) -> Iterator[Found]:
    """The poses of still images, in order; those that cannot be read are told to `broken`.

    Raises:
        InputError: queries are wished for, but the network has none.
    """

    def frames() -> Iterator[tuple[Source, Frame]]:
        for source in sources:
            try:
                yield from ((source, frame) for frame in source.frames())
            except InputError as error:
                broken(source, error)

    yield from _above(options.min_score, _find(predictor, frames(), options))


def predict_video(
    predictor: Predictor, source: Source, options: PredictOptions, stopped: Callable[[], bool]
) -> Iterator[Found]:
    """The poses of a video's or webcam's frames, in order, of people who are followed if that is wished for.

    It ends where `stopped` says so. With gaps being filled, frames come some frames late.

    Raises:
        ImageError: the video cannot be read, or is damaged; all frames that could be read came before.
        InputError: queries are wished for, but the network has none.
    """
    problem: InputError | None = None

    def frames() -> Iterator[tuple[Source, Frame]]:
        nonlocal problem
        try:
            for number, frame in enumerate(source.frames()):
                if stopped():
                    return
                if number % options.every == 0:
                    yield source, frame
        except InputError as error:
            problem = error  # and raised at the end: frames before it still wait for their batch

    found = _find(predictor, frames(), options)
    if options.track and not options.queries:
        yield from _follow(predictor, source, found, options)
    else:
        yield from _above(options.min_score, found)
    if problem is not None:
        raise ImageError(str(problem)) from None


def _find(predictor: Predictor, frames: Iterator[tuple[Source, Frame]], options: PredictOptions) -> Iterator[Found]:
    """All poses of the frames."""
    if options.queries:
        for source, frame in frames:
            poses, queries_img = predictor.predict_with_queries(frame.image)
            if queries_img is None:
                raise InputError(
                    "no keypoint queries: they need a checkpoint with method.kqe, and torch; an ONNX file gives none"
                )
            yield Found(source, frame, poses, queries_img)
        return
    waiting: deque[tuple[Source, Frame]] = deque()  # never more than the predictor has asked for

    def images() -> Iterator[Image]:
        for source, frame in frames:
            waiting.append((source, frame))
            yield frame.image

    for poses in predictor.predict_many(images(), options.batch_size):
        yield Found(*waiting.popleft(), poses)


def _above(min_score: float, found: Iterator[Found]) -> Iterator[Found]:
    """The same with the poses of at least that score."""
    for one in found:
        good = one.poses.scores >= min_score
        queries_img = None if one.queries_img is None else one.queries_img[good]
        yield replace(one, poses=one.poses[good], queries_img=queries_img)


def _follow(predictor: Predictor, source: Source, found: Iterator[Found], options: PredictOptions) -> Iterator[Found]:
    """The frames with people followed through them."""
    rate = frame_rate(source, options)
    tracker = Tracker(
        predictor.skeleton,
        rate,
        confident=options.min_score,
        weak=options.min_score if options.strict else min(WEAK_SCORE, options.min_score),
        smooth_keypoints=options.smooth,
    )
    waiting: deque[Found] = deque()

    def tracked() -> Iterator[Poses]:
        for one in found:
            waiting.append(one)
            yield tracker.update(one.poses)

    for poses in fill_gaps(tracked(), min(GAP_FRAMES, round(GAP_SECONDS * rate))):
        yield replace(waiting.popleft(), poses=poses)
