"""The folder of a prediction: drawings, poses, and what of an earlier prediction stays (no torch)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calipose.draw import save_image
from calipose.errors import InputError
from calipose.formats.writers import Entry, Journal, read_entries, write_coco, write_csv, write_cvat, write_label_studio
from calipose.inference.stream import is_video
from calipose.io.atomic import replacing
from calipose.io.images import Image
from calipose.io.sources import Frame, Source
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses
from calipose.skeleton import Skeleton

POSES = "poses.jsonl"  # of all images; a video has NAME.poses.jsonl
FORMATS = {
    "csv": ("poses.csv", write_csv),
    "coco": ("results.json", write_coco),
    "label-studio": ("label_studio.json", write_label_studio),
    "cvat": ("cvat.xml", write_cvat),
}
MAX_STEM_LENGTH = 100  # letters that are taken from a URL
FILES = {"image", "video"}  # kinds of sources


@dataclass(frozen=True)
class _Made:
    """What was made of a source: its drawing, and of a video the NAME of its NAME.poses.jsonl."""

    source: str
    drawing: str | None
    video: str | None = None


class OutputFolder:
    """Takes the poses of images and videos one by one, so that a folder can be resumed after any interruption.

    What an earlier prediction left of other sources stays. What it left of the same sources is replaced or, with
    `resume`, kept. Files that no prediction made are never touched. Making this object writes nothing.

    Args:
        folder: need not exist.
        sources: all that is to be predicted.
        resume: what is complete is not to be predicted again: its poses are there, and its drawing if wished for.
        draw: drawings are wished for.
        formats: keys of `FORMATS`, to be written by `save`.

    Attributes:
        todo: the sources that are to be predicted.

    Raises:
        InputError: a file that no prediction made is in the way, or a drawing would overwrite its own image.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        *,
        resume: bool = False,
        draw: bool = True,
        formats: Sequence[str] = (),
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: this is a file; name a folder")
        self.folder, self.draw, self.formats, self.sources = folder, draw, formats, sources
        try:
            self._journal = Journal(folder / POSES, resume=True)
            videos = _earlier_videos(folder)
        except InputError as error:
            raise InputError(f"--out {folder}: {error}; name another folder") from None
        earlier = [_Made(file, drawing) for file, drawing in self._journal.earlier.items()] + videos
        for file in (folder / FORMATS[name][0] for name in formats):
            if file.exists() and not earlier:
                raise InputError(
                    f"--out {folder}: {file.name} is there, and no prediction made it; name another folder"
                )
        complete = {made.source for made in earlier if self._is_complete(made)} if resume else set()
        self.todo = [source for source in sources if source.kind == "webcam" or source.name not in complete]
        # A recording cannot be made again, so a webcam's next one gets a new name instead.
        again = {source.name for source in self.todo if source.kind != "webcam"}
        self._stays = [made for made in earlier if made.source not in again]
        self._goes: list[_Made] | None = [made for made in earlier if made.source in again]
        self._journal.done -= again
        self._names = self._choose_names()
        kept = {source.name for source in sources if source.kind == "video"}
        self._videos = [made for made in self._stays if made.video and made.source in kept]

    def add(self, source: Source, poses: Poses, drawing: Image | None) -> Path | None:
        """Write a still image's poses and its drawing; the drawing's path.

        Raises:
            InputError: the folder cannot be written to.
        """
        self._begin()
        # Poses first: a drawing without poses would be in the way of --resume, poses without their drawing are not.
        self._journal.add(source.name, None if drawing is None else self._names[source.name], poses)
        if drawing is None:
            return None
        save_image(self.folder / self._names[source.name], drawing)
        return self.folder / self._names[source.name]

    @contextmanager
    def video(self, source: Source, frames_per_second: float) -> Iterator[VideoOutput]:
        """Takes the frames of a video; its files appear when the block ends without an error.

        `frames_per_second` is that of the frames that will come.

        Raises:
            InputError: the folder cannot be written to, or PyAV is not installed.
        """
        drawing = self._names[source.name]
        poses = self.folder / f"{Path(drawing).stem}.{POSES}"
        try:
            with ExitStack() as stack:
                output = VideoOutput(self._begin, stack, source, frames_per_second, self.folder / drawing, poses)
                yield output
        except OSError as error:
            raise InputError(f"{poses}: {error.strerror}") from None
        if output.frames:
            self._videos.append(_Made(source.name, drawing, Path(drawing).stem))

    def entries(self) -> Iterator[Entry]:
        """What there is of all sources, also of those that were complete before: images, then videos by frame."""
        if self._journal.path.exists():
            wanted = {source.name for source in self.sources}
            yield from (entry for entry in read_entries(self._journal.path) if entry["file"] in wanted)
        for made in self._videos:
            yield from read_entries(self.folder / f"{made.video}.{POSES}")

    def save(self, skeleton: Skeleton) -> list[Path]:
        """Write the entries in the wished formats; the files' paths.

        Raises:
            InputError: poses of another skeleton are among them, or the folder cannot be written to.
        """
        files = []
        for file, write in (FORMATS[name] for name in self.formats):
            write(self.folder / file, self.entries(), skeleton)
            files.append(self.folder / file)
        return files

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _begin(self) -> None:
        """Make the folder, and remove what there is of the sources that are predicted again."""
        if self._goes is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for made in self._goes:
                for name in (made.video and f"{made.video}.{POSES}", made.drawing):
                    if name:
                        (self.folder / Path(name).name).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"--out {self.folder}: {error.strerror}") from None
        self._goes = None

    def _is_complete(self, made: _Made) -> bool:
        """Nothing that is wished for is missing."""
        return not self.draw or (made.drawing is not None and (self.folder / made.drawing).exists())

    def _choose_names(self) -> dict[str, str]:
        """Name of each drawing to be made: its source's stem, .mp4 for a video, .png for a .png, .jpg for all others.

        Of equal names the later ones are numbered, so that nothing that stays is overwritten. A name is also chosen
        where nothing is drawn: the poses of a video are called after it.
        """
        names = [made.drawing for made in self._stays] + [made.video and f"{made.video}.mp4" for made in self._stays]
        taken = {name.lower() for name in names if name}  # some file systems do not tell A.jpg from a.jpg
        replaced = {made.drawing for made in self._goes or []}
        originals = {os.path.realpath(source.value) for source in self.sources if source.kind in FILES}
        chosen: dict[str, str] = {}
        for source in self.todo:
            stem, suffix = _stem(source), _suffix(source)
            name, number = stem + suffix, 1
            while name.lower() in taken:
                number += 1
                name = f"{stem}-{number}{suffix}"
            taken.add(name.lower())
            chosen[source.name] = name
            file = self.folder / name
            if self.draw and os.path.realpath(file) in originals:
                raise InputError(f"--out {self.folder}: {name} would overwrite the original; name another folder")
            if self.draw and file.exists() and name not in replaced:
                raise InputError(
                    f"--out {self.folder}: {name} is there, and no prediction made it; name another folder"
                )
        return chosen


class VideoOutput:
    """Takes the frames of one video; nothing is made before the first.

    Attributes:
        drawing: path of the drawing.
        frames: how many there were.
        video: what writes the drawing, if one is made.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        stack: ExitStack,
        source: Source,
        frames_per_second: float,
        drawing: Path,
        poses: Path,
    ) -> None:
        self.drawing = drawing
        self.frames = 0
        self.video: VideoWriter | None = None
        self._begin, self._stack = begin, stack
        self._source, self._frames_per_second, self._poses = source, frames_per_second, poses

    def write(self, frame: Frame, poses: Poses, drawing: Image | None) -> None:
        """Write a frame's poses and its drawing.

        Raises:
            InputError: the files cannot be written, or PyAV is not installed.
        """
        if not self.frames:
            self._begin()
            temporary = self._stack.enter_context(replacing(self._poses))
            self._lines = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
            if drawing is not None:
                size = (drawing.shape[1], drawing.shape[0])
                original = self._source.value if self._source.kind == "video" else None
                writer = VideoWriter(self.drawing, self._frames_per_second, size, original)
                self.video = self._stack.enter_context(writer)  # left, and so renamed, before the poses
        self.frames += 1
        entry = {
            "file": self._source.name,
            "drawn": None if drawing is None else self.drawing.name,
            "index": frame.index,
            "seconds": frame.seconds,
            **poses.to_dict(),
        }
        self._lines.write(json.dumps(entry) + "\n")
        if drawing is not None and self.video is not None:
            self.video.write(drawing, frame.seconds)


def _earlier_videos(folder: Path) -> list[_Made]:
    """The videos that are complete in the folder.

    Raises:
        InputError: a file that should be of one is none of a prediction.
    """
    videos = []
    for path in sorted(folder.glob(f"*.{POSES}")):
        for entry in read_entries(path, ("file", "drawn", "index", "poses")):
            videos.append(_Made(entry["file"], entry["drawn"], path.name.removesuffix(f".{POSES}")))
            break  # the first says all
    return videos


def _stem(source: Source) -> str:
    """What a source's drawing is called."""
    if source.kind == "url":
        address = urlsplit(source.name)
        last = Path(unquote(address.path)).stem or address.netloc
        return re.sub(r"[^\w.-]+", "-", last)[:MAX_STEM_LENGTH]
    return Path(source.name).stem if source.kind in FILES else source.name.replace(" ", "-")


def _suffix(source: Source) -> str:
    """.png for a .png, so that screenshots stay sharp."""
    if is_video(source):
        return ".mp4"
    return ".png" if source.kind != "array" and source.name.lower().endswith(".png") else ".jpg"
