"""What `calipose predict` does between parsing and the exit code: predict, hand over, show."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from calipose.cli.common import Progress, say
from calipose.draw import draw_poses
from calipose.errors import ImageError, InputError
from calipose.formats.writers import Entry, write_coco, write_csv, write_jsonl
from calipose.inference.output_folder import POSES, OutputFolder
from calipose.inference.stream import Found, PredictOptions, frame_rate, is_video, predict_images, predict_video
from calipose.io.images import Image
from calipose.io.sources import Source
from calipose.poses import Poses

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor

LISTED = 20  # sources up to which each gets a line also without --verbose
SHOWN_SCORES = 10  # of an image, in its line


class _Stopped(Exception):  # noqa: N818 (no error: leaves a video, keeping nothing of it)
    """Ctrl-C in the middle of a video."""


class PredictionRun:
    """One prediction of some sources, shown while it goes.

    Attributes:
        broken: of each source that could not be read, or not wholly, why.
        done: sources that are complete, those of an earlier prediction with them.
        stopped_early: `stopped` said so before all was done.
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
    ) -> None:
        self.predictor, self.sources, self.options = predictor, sources, options
        self.broken: list[InputError] = []
        self.done = 0
        self.stopped_early = self._cut = False
        self._stopped, self._quiet = stopped, quiet
        self._listed = verbose or (len(sources) <= LISTED and not quiet)
        self._images = self._frames = self._poses = 0
        self._progress = Progress(None, quiet=True)

    def to_folder(self, folder: OutputFolder, min_keypoint_score: float) -> None:
        """Predict what is to do into the folder.

        Raises:
            InputError: the folder cannot be written to, or queries are wished for and the network has none.
        """
        self.done = len(self.sources) - len(folder.todo)
        if self.done and not self._quiet:
            say(f"{self.done} of {len(self.sources)} are complete in {folder.folder} already")

        def drawn(found: Found) -> Image | None:
            if not folder.draw:
                return None
            return draw_poses(
                found.frame.image, found.poses, min_keypoint_score=min_keypoint_score, queries_img=found.queries_img
            )

        try:
            with self._showing(folder.todo, bar=True):
                for moving, group in groupby(folder.todo, is_video):
                    if not moving:
                        for found in self._in_images(group):
                            path = folder.add(found.source, found.poses, drawn(found))
                            self._tell(str(path or found.source.name), found.poses)
                        continue
                    for source in takewhile(lambda _: not self._stopped(), group):
                        self._video_to_folder(folder, source, drawn)
        finally:
            folder.close()
        files = folder.save(self.predictor.skeleton)
        self.stopped_early = self.done + len(self.broken) < len(self.sources)
        if not self._quiet:
            self._sum_up(folder.folder / POSES if self._images else folder.folder)
            for file in files:
                say(str(file))

    def to_stdout(self, stream_format: str) -> None:
        """Predict all sources, and write their entries to standard output.

        Raises:
            InputError: an entry cannot be written.
        """
        # A bar between lines, of this program or of the next in a pipe, would make both unreadable.
        with self._showing(self.sources, bar=_is_file(sys.stdout)):
            if stream_format == "jsonl":
                write_jsonl(sys.stdout, self._entries())
            else:
                write = {"csv": write_csv, "coco": write_coco}[stream_format]
                write(sys.stdout, self._entries(), self.predictor.skeleton)
        self.stopped_early = self.done + len(self.broken) < len(self.sources)

    def _entries(self) -> Iterator[Entry]:
        for moving, group in groupby(self.sources, is_video):
            if not moving:
                for found in self._in_images(group):
                    yield {"file": found.source.name, **found.poses.to_dict()}
                continue
            for source in takewhile(lambda _: not self._stopped(), group):
                for found in self._in_video(source):
                    place = {"file": source.name, "index": found.frame.index, "seconds": found.frame.seconds}
                    yield {**place, **found.poses.to_dict()}

    def _video_to_folder(self, folder: OutputFolder, source: Source, drawn: Callable[[Found], Image | None]) -> None:
        """Predict a video or webcam into the folder; where it is stopped, nothing of it is kept."""
        people: set[int] = set()
        try:
            with folder.video(source, frame_rate(source, self.options)) as output:
                for found in self._in_video(source):
                    output.write(found.frame, found.poses, drawn(found))
                    people.update([] if found.poses.track_ids is None else found.poses.track_ids.tolist())
                if self._cut:
                    raise _Stopped
        except _Stopped:
            return
        if output.frames and self._listed:
            followed = f", {counted(len(people), 'person', 'people')} followed" if self.options.track else ""
            lost = "; its sound could not be kept" if output.video is not None and output.video.sound == "lost" else ""
            self._progress.say(
                f"{output.drawing if folder.draw else source.name}  {output.frames} frames{followed}{lost}"
            )

    def _in_images(self, sources: Iterable[Source]) -> Iterator[Found]:
        """The poses of still images, counted and shown."""

        def broken(source: Source, error: InputError) -> None:
            self.broken.append(error)
            self._progress.advance()

        def named() -> Iterator[Source]:
            for source in takewhile(lambda _: not self._stopped(), sources):
                self._progress.name(source.name)
                yield source

        for found in predict_images(self.predictor, named(), self.options, broken):
            yield found
            self.done += 1
            self._images += 1
            self._poses += len(found.poses)
            self._progress.advance()

    def _in_video(self, source: Source) -> Iterator[Found]:
        """The poses of a video's frames, counted and shown."""
        self._progress.name(source.name)
        frames, self._cut = 0, False
        try:
            for found in predict_video(self.predictor, source, self.options, self._stopped):
                yield found
                frames += 1
                self._poses += len(found.poses)
                self._progress.advance()
        except ImageError as error:
            self.broken.append(error)
        else:
            self._cut = source.kind == "video" and self._stopped()  # a webcam ends so, a video does not
            self.done += not self._cut
        self._frames += frames
        self._progress.expect(frames - self._expected(source))

    def _tell(self, name: str, poses: Poses) -> None:
        """A line about an image."""
        if self._listed:
            scores = " ".join(f"{score:.2f}" for score in poses.scores[:SHOWN_SCORES])
            more = " ..." if len(poses) > SHOWN_SCORES else ""
            self._progress.say(f"{name}  {counted(len(poses), 'pose')}  {scores}{more}".rstrip())

    def _sum_up(self, where: Path) -> None:
        counts = [(self._images, "image"), (self._frames, "frame")]
        what = " and ".join(counted(n, word) for n, word in counts if n)
        if what:
            speed = (self._images + self._frames) / self._progress.seconds
            # Weaker ones of people who are followed count in videos.
            score = "" if self._frames else f" of score >= {self.options.min_score:.3g}"
            say(f"{counted(self._poses, 'pose')}{score} in {what}, {speed:.1f} a second: {where}")

    def _expected(self, source: Source) -> int:
        """Frames that will be taken of a source, as far as it says."""
        return -(-(source.frame_count or 0) // self.options.every) if is_video(source) else 1

    def _showing(self, sources: list[Source], bar: bool) -> Progress:
        """Progress over sources."""
        endless = any(source.kind == "webcam" for source in sources)
        total = None if endless else sum(map(self._expected, sources))
        self._progress = Progress(total, self._quiet, bar)
        return self._progress


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word, as in 1 pose and 2 poses; `many` where an s at the end does not do."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _is_file(stream: TextIO) -> bool:
    """What is written goes to a file, not to a terminal or a pipe."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:  # not of the operating system
        return False
