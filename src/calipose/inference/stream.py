"""Poses of many images and videos, one after the other, in memory that does not grow with their number (no torch)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from calipose.errors import ImageError, InputError
from calipose.geometry import Floats
from calipose.inference.pool import PredictorPool
from calipose.inference.predictor import Predictor
from calipose.io.ahead import done_ahead, taken_ahead
from calipose.io.images import Image
from calipose.io.sources import Frame, Source
from calipose.poses import Poses
from calipose.track import Tracker, fill_gaps

READ_AHEAD = 2  # images or frames that are held decoded while one is in the network
READING_THREADS = 2
WEAK_SCORE = 0.1  # from which a pose may continue a person's track
MAX_GAP_SECONDS = 0.4  # for so long a followed person is filled in
MAX_GAP_FRAMES = 12  # and for so many frames, since they are held in memory
VIDEO_RATE = 30.0  # frames per second where a video does not say its own
WEBCAM_RATE = 10.0  # of those frames of a webcam that a CPU can follow


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted, of images and of videos.

    Example:
        options = PredictOptions(min_score=0.5, batch_size=8)

    Attributes:
        min_score: poses below are left out; but a weaker one that continues a followed person's track is kept.
        batch_size: images that go through the network together, if they have the same size there.
        queries: also give the keypoint queries; images then go one by one, and people are not followed.
        track: follow people through videos, and fill the gaps between two sightings.
        smooth: smooth the coordinates of people who are followed.
        every: take every n-th frame only, of a video or webcam.
        strict: leave out weaker poses of people who are followed, too.
        regions: coverage of the poses' `radii_img`; None for none.
    """

    min_score: float = 0.3
    batch_size: int = 1
    queries: bool = False
    track: bool = True
    smooth: bool = False
    every: int = 1
    strict: bool = False
    regions: float | None = None


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What was found in one image, or in one frame of a video.

    Example:
        for result in predict_images(predictor, find_sources("holiday"), PredictOptions(), print):
            print(result.source.name, len(result.poses))

    Attributes:
        source: the image's file, URL or array, or the video.
        frame: the image itself, and its index and time in a video.
        poses: found in it.
        queries_img: `(p, k, 2)` keypoint queries, in pixels of the image, or None where they were not asked for.
    """

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
    predictor: Predictor | PredictorPool,
    sources: Iterable[Source],
    options: PredictOptions,
    broken: Callable[[Source, InputError], None],
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[ImageResult]:
    """The poses of still images, in order; the next ones are read and decoded in a thread meanwhile.

    Args:
        predictor: predicts them; a pool, several at the same time.
        sources: of still images.
        options: how.
        broken: called with each source that cannot be read, and why.
        stopped: asked before each image; True ends it there, whatever is read already.

    Returns:
        An iterator with the poses of each image, in the order of the images.

    Raises:
        InputError: queries are asked for, but the network has none; or regions that the model does not know.
    """

    def read(source: Source) -> list[Frame] | InputError:
        try:
            return list(source.frames())
        except InputError as error:
            return error

    def frames() -> Iterator[tuple[Source, Frame]]:
        for source, found in done_ahead(sources, read, max(READ_AHEAD, options.batch_size), READING_THREADS):
            if stopped():
                return
            if isinstance(found, InputError):
                broken(source, found)
            else:
                yield from ((source, frame) for frame in found)

    yield from _with_regions(options, _above(options.min_score, _predict(predictor, frames(), options)))


def predict_video(
    predictor: Predictor | PredictorPool, source: Source, options: PredictOptions, stopped: Callable[[], bool]
) -> Iterator[ImageResult]:
    """The poses of a video's or webcam's frames, in order; a video's next ones are decoded in a thread meanwhile.

    Where people are followed, and so gaps are filled, each result comes some frames late.

    Args:
        predictor: predicts them; a pool, several at the same time.
        source: a video or webcam.
        options: how; whether people are followed.
        stopped: asked before each frame; True ends the video there.

    Raises:
        ImageError: the video cannot be read, or is damaged; it is raised after all frames that could be read.
        InputError: queries are asked for, but the network has none; or regions that the model does not know.
    """
    problem: InputError | None = None

    def frames() -> Iterator[tuple[Source, Frame]]:
        nonlocal problem
        wanted = _every(source.frames(), options.every, stopped)
        # Of a webcam, now's frame is wanted, not one that waited.
        with closing(wanted if source.kind == "webcam" else taken_ahead(wanted, READ_AHEAD)) as coming:
            try:
                for frame in coming:
                    if stopped():
                        return
                    yield source, frame
            except InputError as error:
                problem = error  # and raised at the end: frames before it still wait for their batch

    results = _predict(predictor, frames(), options)
    if options.track and not options.queries:
        yield from _with_regions(options, _follow(predictor, source, results, options))
    else:
        yield from _with_regions(options, _above(options.min_score, results))
    if problem is not None:
        raise ImageError(str(problem)) from None


def _every(
    frames: Generator[Frame, None, None], every: int, stopped: Callable[[], bool]
) -> Generator[Frame, None, None]:
    """Every n-th frame, from the first; `stopped` is asked before those between, too."""
    with closing(frames):
        for number, frame in enumerate(frames):
            if number % every and stopped():
                return
            if number % every == 0:
                yield frame


def _predict(
    predictor: Predictor | PredictorPool, frames: Iterator[tuple[Source, Frame]], options: PredictOptions
) -> Iterator[ImageResult]:
    """All poses of the frames."""
    if options.queries:
        for source, frame in frames:
            poses, queries_img = predictor.predict_with_queries(frame.image)
            if queries_img is None:
                raise InputError(
                    "no keypoint queries: they need a checkpoint with method.kqe, and torch; an ONNX file gives none"
                )
            yield ImageResult(source, frame, poses, queries_img)
        return
    waiting: deque[tuple[Source, Frame]] = deque()  # never more than the predictor has asked for

    def images() -> Iterator[Image]:
        for source, frame in frames:
            waiting.append((source, frame))
            yield frame.image

    for poses in predictor.predict_many(images(), options.batch_size):
        yield ImageResult(*waiting.popleft(), poses)


def _above(min_score: float, results: Iterator[ImageResult]) -> Iterator[ImageResult]:
    """The same with the poses of at least that score."""
    for result in results:
        kept = result.poses.scores >= min_score
        queries_img = None if result.queries_img is None else result.queries_img[kept]
        yield replace(result, poses=result.poses[kept], queries_img=queries_img)


def _with_regions(options: PredictOptions, results: Iterator[ImageResult]) -> Iterator[ImageResult]:
    """The same, whose poses carry `radii_img` where regions are asked for."""
    if options.regions is None:
        return results
    coverage = options.regions
    return (replace(result, poses=result.poses.with_regions(coverage)) for result in results)


def _follow(
    predictor: Predictor | PredictorPool, source: Source, results: Iterator[ImageResult], options: PredictOptions
) -> Iterator[ImageResult]:
    """The frames with people followed through them."""
    rate = frame_rate(source, options)
    tracker = Tracker(
        predictor.skeleton,
        rate,
        confident=options.min_score,
        weak=options.min_score if options.strict else min(WEAK_SCORE, options.min_score),
        smooth_keypoints=options.smooth,
    )
    waiting: deque[ImageResult] = deque()

    def tracked() -> Iterator[Poses]:
        for result in results:
            waiting.append(result)
            yield tracker.update(result.poses)

    for poses in fill_gaps(tracked(), max_gap=min(MAX_GAP_FRAMES, round(MAX_GAP_SECONDS * rate))):
        yield replace(waiting.popleft(), poses=poses)
