"""The folder of a prediction: drawings, poses, and what of an earlier prediction stays (no torch)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from calipose.draw import save_image
from calipose.errors import InputError
from calipose.formats.annotation import image_address, with_image_prefix
from calipose.formats.entries import Entry, read_entries
from calipose.formats.journal import Journal
from calipose.formats.table import FORMATS, saved_formats
from calipose.inference.stream import is_video
from calipose.inference.video_output import VideoOutput
from calipose.io.atomic import make_folder, remove_abandoned, replacing, write_errors
from calipose.io.images import Image
from calipose.io.sources import Source
from calipose.poses import Poses
from calipose.skeleton import Skeleton

POSES = "poses.jsonl"  # of all images; a video has NAME.poses.jsonl
MAX_STEM_LENGTH = 100  # letters that are taken from a URL
FILES = {"image", "video"}  # kinds of sources that are files


@dataclass(frozen=True)
class _Written:
    """What an earlier prediction wrote for a source: the drawing's name, and for a video NAME of NAME.poses.jsonl."""

    source: str
    drawing: str | None
    video: str | None = None


class OutputFolder:
    """Takes the poses of images and videos one by one, so that a folder can be resumed after any interruption.

    An earlier prediction's files stay where they are of other sources. Those of the same sources are replaced or, with
    `resume`, kept. Files that no prediction made are never touched. Creating this object writes nothing.

    Example:
        folder = OutputFolder(Path("calipose-out"), sources, resume=True, formats=["csv"])
        for result in predict_images(predictor, folder.todo, PredictOptions(), print):
            folder.add(result.source, result.poses, draw_poses(result.frame.image, result.poses))
        folder.close()
        folder.save(predictor.skeleton)

    Args:
        folder: need not exist.
        sources: all that is to be predicted.
        resume: do not predict again what is complete: its poses are there, and its drawing if `draw`.
        draw: drawings are to be written.
        formats: names of formats with a file name in `FORMATS`, to be written by `save`.
        image_prefix: what programs that open the images themselves, such as Label Studio, have in place of the current
            folder (`calipose.formats.annotation.image_address`).

    Attributes:
        todo: the sources that are to be predicted.
        formats: those that `save` writes. A format of still images only is not among them where all sources are
            videos.
        without_videos: the formats asked for that leave out the videos among the sources.
        without_images: the formats asked for that leave out the still images among the sources.

    Raises:
        InputError: an unknown format, a file that no prediction made is in the way, a drawing would overwrite its
            own image, or an image lies outside of the current folder and there is an `image_prefix`.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        *,
        resume: bool = False,
        draw: bool = True,
        formats: Sequence[str] = (),
        image_prefix: str = "",
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {folder}: this is a file; name a folder")
        known = saved_formats()
        for name in formats:
            if name not in known:
                raise InputError(f"unknown format '{name}'; use one of {', '.join(known)}")
        self.folder, self.draw, self.sources, self._image_prefix = folder, draw, sources, image_prefix
        videos_only, some_videos = all(map(is_video, sources)), any(map(is_video, sources))
        self.without_videos = [name for name in formats if some_videos and not FORMATS[name].takes_videos]
        self.without_images = [name for name in formats if not videos_only and not FORMATS[name].takes_images]
        empty = set(self.without_videos if videos_only else [] if some_videos else self.without_images)
        self.formats = [name for name in formats if name not in empty]
        for source in sources:
            if source.kind == "image":
                image_address(source.name, image_prefix)  # raises now what would be raised at the end
        try:
            self._journal = Journal(folder / POSES, resume=True)
            videos = _earlier_videos(folder)
        except InputError as error:
            raise InputError(f"--out {folder}: {error}; name another folder") from None
        earlier = [_Written(file, drawing) for file, drawing in self._journal.earlier.items()] + videos
        for file in (folder / part for name in self.formats for part in FORMATS[name].file_names):
            if file.exists() and not earlier and not self._journal.path.exists():
                raise InputError(
                    f"--out {folder}: {file.name} is there, and no prediction made it; name another folder"
                )
        complete = {written.source for written in earlier if self._is_complete(written)} if resume else set()
        self.todo = [source for source in sources if source.kind == "webcam" or source.name not in complete]
        # A recording cannot be made again, so a webcam's next one gets a new name instead.
        again = {source.name for source in self.todo if source.kind != "webcam"}
        self._kept = [written for written in earlier if written.source not in again]
        self._replaced: list[_Written] | None = [written for written in earlier if written.source in again]
        self._journal.done -= again
        self._names = self._choose_names()
        videos_now = {source.name for source in sources if source.kind == "video"}
        self._videos = [written for written in self._kept if written.video and written.source in videos_now]

    def add(self, source: Source, poses: Poses, drawing: Image | None) -> Path | None:
        """Write a still image's poses and its drawing.

        Args:
            source: the image.
            poses: found in it.
            drawing: `(h, w, 3)`, or None where nothing is drawn.

        Returns:
            The drawing's path, or None.

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

        Args:
            source: the video or webcam.
            frames_per_second: rate of the frames that will come.

        Raises:
            InputError: the folder cannot be written to, or PyAV is not installed.
        """
        drawing = self._names[source.name]
        poses = self.folder / f"{Path(drawing).stem}.{POSES}"
        with ExitStack() as stack:
            output = VideoOutput(self._begin, stack, source, frames_per_second, self.folder / drawing, poses)
            yield output
        if output.frames:
            self._videos.append(_Written(source.name, drawing, Path(drawing).stem))

    def entries(self) -> Iterator[Entry]:
        """The entries of all sources, also of those that were complete already: images, then videos by frame.

        Entries of an earlier prediction of a source that could not be read now are not among them.
        """
        if self._journal.path.exists():
            wanted = {source.name for source in self.sources} & self._journal.done
            yield from (entry for entry in read_entries(self._journal.path) if entry["file"] in wanted)
        for written in self._videos:
            yield from read_entries(self.folder / f"{written.video}.{POSES}")

    def save(self, skeleton: Skeleton) -> list[Path]:
        """Write the entries in the chosen formats; a file without entries is one of no poses.

        Temporary names that killed predictions left in the folder are removed.

        Args:
            skeleton: of all entries.

        Returns:
            The files' paths.

        Raises:
            InputError: poses of another skeleton are among them, or the folder cannot be written to.
        """
        files: list[Path] = []
        remove_abandoned(self.folder)
        if self.formats and not self._videos and not self._journal.path.exists():
            make_folder(self.folder)
            with write_errors(self._journal.path):
                self._journal.path.touch()  # nothing could be read; the next call sees that this folder is one of ours
        for name in self.formats:
            file = self.folder / str(FORMATS[name].file_name)
            row, entries = FORMATS[name], self.entries()
            row.write(file, with_image_prefix(entries, self._image_prefix) if row.opens_images else entries, skeleton)
            files.append(file)
            if row.beside is not None:
                with replacing(self.folder / row.beside.file_name) as temporary:
                    temporary.write_text(row.beside.text(skeleton), encoding="utf-8")
                files.append(self.folder / row.beside.file_name)
        return files

    def stale(self) -> dict[str, Path]:
        """The files of formats that were not asked for now, and so are older than the poses; by the format's name."""
        if self._replaced is not None:  # nothing was predicted
            return {}
        files = {name: self.folder / file for name, file in saved_formats().items() if name not in self.formats}
        return {name: file for name, file in files.items() if file.exists()}

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _begin(self) -> None:
        """Make the folder, and remove the files of the sources that are predicted again."""
        if self._replaced is None:
            return
        make_folder(self.folder)
        with write_errors(self.folder):
            for written in self._replaced:
                for name in (written.video and f"{written.video}.{POSES}", written.drawing):
                    if name:
                        (self.folder / Path(name).name).unlink(missing_ok=True)
        self._journal.drop()
        self._replaced = None

    def _is_complete(self, written: _Written) -> bool:
        """The poses are there, and the drawing if drawings are to be written."""
        return not self.draw or (written.drawing is not None and (self.folder / written.drawing).exists())

    def _choose_names(self) -> dict[str, str]:
        """Name of each source's drawing: the source's stem, .mp4 for a video, .png for a .png, .jpg for all others.

        Later ones of equal names are numbered, so that nothing that stays is overwritten. A name is also chosen where
        nothing is drawn: the file of a video's poses is named after it.
        """
        names = [name for written in self._kept for name in (written.drawing, written.video and f"{written.video}.mp4")]
        taken = {name.lower() for name in names if name}  # some file systems do not tell A.jpg from a.jpg
        own_drawings = {written.drawing for written in self._replaced or []}
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
            if self.draw and file.exists() and name not in own_drawings:
                raise InputError(
                    f"--out {self.folder}: {name} is there, and no prediction made it; name another folder"
                )
        return chosen


def sources_outside(folder: Path, sources: Sequence[Source]) -> list[Source]:
    """The sources that do not lie in the folder, so that its drawings are not drawn again; all if all lie there."""
    real = Path(os.path.realpath(folder))  # not Path.resolve: it raises where links lead in a circle
    inside = [source.kind in FILES and Path(os.path.realpath(source.value)).is_relative_to(real) for source in sources]
    if all(inside):
        return list(sources)
    return [source for source, lies_inside in zip(sources, inside, strict=True) if not lies_inside]


def _earlier_videos(folder: Path) -> list[_Written]:
    """The videos that are complete in the folder.

    Raises:
        InputError: a file named like a video's poses is not from calipose predict.
    """
    videos = []
    for path in sorted(folder.glob(f"*.{POSES}")):
        for entry in read_entries(path, ("file", "drawing", "index", "poses")):
            videos.append(_Written(entry["file"], entry["drawing"], path.name.removesuffix(f".{POSES}")))
            break  # the first entry names source and drawing
    return videos


def _stem(source: Source) -> str:
    """Name of a source's drawing, without suffix and number."""
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
