"""One prediction of `calipose predict`: results go to a folder or to standard output, progress to the screen."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from calipose.cli.console import Progress, counted, err, note, say, say_error, warn
from calipose.draw import draw_poses
from calipose.errors import ImageError, InputError
from calipose.formats.entries import Entry
from calipose.formats.table import FORMATS
from calipose.inference.likeness import LikenessOfImages
from calipose.inference.output_folder import POSES, OutputFolder
from calipose.inference.pool import PredictorPool
from calipose.inference.stream import (
    ImageResult,
    PredictOptions,
    frame_rate,
    is_video,
    predict_images,
    predict_video,
)
from calipose.io.ahead import done_ahead
from calipose.io.images import Image
from calipose.io.sources import Source
from calipose.poses import Poses

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor

WRITTEN_BEHIND = 2  # results that wait for being drawn and written
MAX_LISTED = 20  # up to so many sources, each gets a line also without --verbose
MAX_SHOWN_SCORES = 10  # in the line of an image


class _Stopped(Exception):  # noqa: N818 (no error: leaves a video, keeping nothing of it)
    """Ctrl-C in the middle of a video."""


class PredictionRun:
    """One prediction of some sources, whose progress is shown.

    Example:
        run = PredictionRun(predictor, sources, PredictOptions(), stopped=lambda: False)
        run.to_stdout("jsonl")

    Args:
        predictor: predicts the images.
        sources: images and videos.
        options: what is predicted.
        stopped: says whether the user asked to stop.
        quiet: print errors only.
        verbose: print a line for each image, however many.
        workers: copies of the predictor that predict at the same time (`PredictorPool`).

    Attributes:
        broken: why a source could not be read, or not wholly; one error for each such source.
        done: number of sources that are complete, those of an earlier prediction included.
        stopped_early: the user stopped it before all sources were done.
    """

    def __init__(
        self,
        predictor: Predictor,
        sources: list[Source],
        options: PredictOptions,
        stopped: Callable[[], bool],
        *,
        quiet: bool = False,
        verbose: bool = False,
        workers: int = 1,
    ) -> None:
        self.predictor, self.sources, self.options = predictor, sources, options
        self.broken: list[InputError] = []
        self.done = 0
        self.stopped_early = self._cut = self._whole = False
        self._stopped, self._quiet = stopped, quiet
        self._listed = verbose or (len(sources) <= MAX_LISTED and not quiet)
        self._images = self._frames = self._poses = 0
        self._predicting = predictor if workers == 1 else PredictorPool(predictor, workers)
        self._likeness = LikenessOfImages(predictor, options.min_score)
        self._progress = Progress(None, quiet=True)

    def to_folder(self, folder: OutputFolder, min_keypoint_score: float) -> None:
        """Predict the sources that are not complete in the folder, and write them there.

        Args:
            folder: takes the results.
            min_keypoint_score: keypoints below are not drawn.

        Raises:
            InputError: the folder cannot be written to, or queries are asked for and the network has none.
        """
        self.done = len(self.sources) - len(folder.todo)
        if self.done and not self._quiet:
            say(f"{self.done} of {len(self.sources)} are complete in {folder.folder} already")

        def drawing_of(result: ImageResult) -> Image | None:
            if not folder.draw:
                return None
            return draw_poses(
                result.frame.image, result.poses, min_keypoint_score=min_keypoint_score, queries_img=result.queries_img
            )

        def write(result: ImageResult) -> Path | None:
            return folder.add(result.source, result.poses, drawing_of(result))

        try:
            with self._showing(folder.todo, bar=True):
                for moving, group in groupby(folder.todo, is_video):
                    if not moving:
                        # Drawing and encoding go on in a thread, in order, while the network has the next image.
                        with closing(self._in_images(group, write)) as written:
                            for result, path in written:
                                self._list_image(str(path or result.source.name), result.poses)
                        continue
                    for source in takewhile(lambda _: not self._stopped(), group):
                        self._video_to_folder(folder, source, drawing_of)
        finally:
            folder.close()
        files = folder.save(self.predictor.skeleton)
        self.stopped_early = self.done + len(self.broken) < len(self.sources)
        if not self._quiet:
            self._sum_up(folder.folder / POSES if self._images else folder.folder)
            for file in files:
                say(str(file))
            if stale := folder.stale():
                files_of = ", ".join(f"{file.name} (--save {name})" for name, file in stale.items())
                note(f"{folder.folder}: older files of an earlier run, which may hold other poses: {files_of}")

    def to_stdout(self, stream_format: str) -> None:
        """Predict all sources, and write their entries to standard output.

        Args:
            stream_format: a format of `FORMATS` that can be streamed.

        Raises:
            InputError: an entry cannot be written.
        """
        # A bar between lines, of this program or of the next in a pipe, would make both unreadable.
        with self._showing(self.sources, bar=_is_file(sys.stdout)):
            FORMATS[stream_format].write(sys.stdout, self._entries(), self.predictor.skeleton)
        self.stopped_early = self.done + len(self.broken) < len(self.sources)

    def to_dict(self) -> dict[str, Any]:
        """The run in plain numbers, for `--json`."""
        shift = self._likeness.shift
        return {
            "sources": len(self.sources),
            "done": self.done,
            "images": self._images,
            "frames": self._frames,
            "poses": self._poses,
            "min_score": self.options.min_score,
            "stopped_early": self.stopped_early,
            "errors": [str(problem) for problem in self.broken],
            "shift": None if shift is None else shift.to_dict(),
        }

    def say_shift(self) -> None:
        """Warn where the images are not like the calibration's; nothing else is said."""
        shift = None if self._quiet else self._likeness.shift
        if shift is not None and shift.alarm:
            warn(str(shift))

    @property
    def exit_code(self) -> int:
        """130 if the user stopped it, 1 if a source could not be read, else 0."""
        return 130 if self.stopped_early else int(bool(self.broken))

    def say_problems(self, can_resume: bool) -> None:
        """Print why it stopped early, and which sources could not be read."""
        if self.stopped_early:
            again = "; the same command with --resume goes on" if can_resume else ""
            note(f"stopped: {self.done} of {len(self.sources)} done{again}")
        for problem in self.broken:
            say_error(str(problem))
        if self.broken:
            err.print(f"{len(self.broken)} of {len(self.sources)} could not be read", style="red", markup=False)

    def _entries(self) -> Iterator[Entry]:
        for moving, group in groupby(self.sources, is_video):
            if not moving:
                for result, _ in self._in_images(group, None):
                    yield {"file": result.source.name, **result.poses.to_dict()}
                continue
            for source in takewhile(lambda _: not self._stopped(), group):
                for result in self._in_video(source):
                    frame = {"file": source.name, "index": result.frame.index, "seconds": result.frame.seconds}
                    yield {**frame, **result.poses.to_dict()}
                self.done += self._whole

    def _video_to_folder(
        self, folder: OutputFolder, source: Source, drawing_of: Callable[[ImageResult], Image | None]
    ) -> None:
        """Predict a video or webcam into the folder; where it is stopped, nothing of it is kept."""
        people: set[int] = set()
        try:
            with folder.video(source, frame_rate(source, self.options)) as output:

                def write(result: ImageResult) -> None:
                    output.write(result.frame, result.poses, drawing_of(result))

                # Drawing and encoding go on in a thread, in order, while the network has the next frame.
                with closing(done_ahead(self._in_video(source), write, WRITTEN_BEHIND)) as written:
                    for result, _ in written:
                        people.update([] if result.poses.track_ids is None else result.poses.track_ids.tolist())
                if self._cut:
                    raise _Stopped
        except _Stopped:
            return
        self.done += self._whole
        if output.frames and self._listed:
            followed = f", {counted(len(people), 'person', 'people')} followed" if self.options.track else ""
            lost = "; its sound could not be kept" if output.video is not None and output.video.sound == "lost" else ""
            self._progress.say(
                f"{output.drawing if folder.draw else source.name}  {output.frames} frames{followed}{lost}"
            )

    def _in_images(
        self, sources: Iterable[Source], use: Callable[[ImageResult], Path | None] | None
    ) -> Generator[tuple[ImageResult, Path | None], None, None]:
        """The poses of still images with what `use` made of them in a thread, counted and shown."""

        def broken(source: Source, error: InputError) -> None:
            self.broken.append(error)
            self._progress.advance()

        def named() -> Iterator[Source]:
            for source in sources:
                self._progress.name(source.name)
                yield source

        found = predict_images(self._predicting, named(), self.options, broken, self._stopped)
        used = ((result, None) for result in found) if use is None else done_ahead(found, use, WRITTEN_BEHIND)
        for result, path in used:
            if result.source.holds_more and not self._quiet:
                note(f"{result.source.name} holds several images; only the first is predicted")
            self._likeness.add(result)
            yield result, path
            self.done += 1
            self._images += 1
            self._poses += len(result.poses)
            self._progress.advance()

    def _in_video(self, source: Source) -> Iterator[ImageResult]:
        """The poses of a video's frames, counted and shown; who takes them counts the video, when it is written."""
        self._progress.name(source.name)
        frames, self._cut, self._whole = 0, False, False
        try:
            for result in predict_video(self._predicting, source, self.options, self._stopped):
                yield result
                frames += 1
                self._poses += len(result.poses)
                self._progress.advance()
        except ImageError as error:
            self.broken.append(error)
        else:
            self._cut = source.kind == "video" and self._stopped()  # a webcam ends so, a video does not
            self._whole = not self._cut
        self._frames += frames
        self._progress.expect(frames - self._expected(source))

    def _list_image(self, name: str, poses: Poses) -> None:
        """Print a line about an image, if images are listed."""
        if self._listed:
            scores = " ".join(f"{score:.2f}" for score in poses.scores[:MAX_SHOWN_SCORES])
            more = " ..." if len(poses) > MAX_SHOWN_SCORES else ""
            self._progress.say(f"{name}  {counted(len(poses), 'pose')}  {scores}{more}".rstrip())

    def _sum_up(self, where: Path) -> None:
        """Print how many poses were found, how fast, and where they are."""
        counts = [(self._images, "image"), (self._frames, "frame")]
        what = " and ".join(counted(n, word) for n, word in counts if n)
        if what:
            speed = (self._images + self._frames) / self._progress.seconds
            # In videos, weaker poses of people who are followed count, too.
            score = "" if self._frames else f" of score >= {self.options.min_score:.3g}"
            say(f"{counted(self._poses, 'pose')}{score} in {what}, {speed:.1f} a second: {where}")

    def _expected(self, source: Source) -> int:
        """Number of frames that will be taken of a source, as far as it is known."""
        return -(-(source.frame_count or 0) // self.options.every) if is_video(source) else 1

    def _showing(self, sources: list[Source], bar: bool) -> Progress:
        """A progress display over these sources."""
        endless = any(source.kind == "webcam" for source in sources)
        total = None if endless else sum(map(self._expected, sources))
        self._progress = Progress(total, self._quiet, bar)
        return self._progress


def _is_file(stream: TextIO) -> bool:
    """The stream is a file, not a terminal or a pipe."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # a stream that the operating system does not know, as in tests
        return False
