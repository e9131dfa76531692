"""Writing the poses of many images: a journal that grows while they are found, and other tools' formats from it.

An entry is what is written of one image: `{"file": ..., **poses.to_dict()}`, and for a frame of a video also its
"index" and "seconds". Everything here takes and gives entries one by one, so that memory does not grow with their
number.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TextIO

from calipose.errors import InputError
from calipose.formats.connectors import COLUMNS, CVAT_TAIL, cvat_head, cvat_image, rows, to_label_studio
from calipose.io.atomic import replacing
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

Entry = dict[str, Any]
Target = str | Path | TextIO
MAX_ID_DIGITS = 15  # digits of a file's name that is taken for a COCO image id: more do not fit a double


class Journal:
    """A JSON lines file to which an entry is added as soon as its poses are found: an interruption loses nothing.

    An entry has "file", "drawn" (name of the drawing, or None) and what `Poses.to_dict` gives. The file is touched at
    the first entry that is added, not before.

    Args:
        path: the file; its folder must exist when the first entry is added.
        resume: keep the entries that are there. A half line at the end, which an interruption left, is cut off. False:
            the new file replaces the old one.

    Attributes:
        earlier: of all entries that were there at the start, the file and its drawing.
        done: files whose entries are in the journal and stay. Who takes a file out of it before the first `add` has
            its entry dropped, to write a new one.

    Raises:
        InputError: the file is no journal of a prediction.
    """

    def __init__(self, path: str | Path, resume: bool = False) -> None:
        self.path = Path(path)
        self.earlier: dict[str, str | None] = {}
        if self.path.exists():
            self.earlier = {entry["file"]: entry["drawn"] for entry in read_entries(self.path, ("file", "drawn"))}
        self.done = set(self.earlier) if resume else set()
        self._file: IO[str] | None = None

    def add(self, file: str, drawn: str | None, poses: Poses) -> None:
        """Add an image's entry; when this returns, it is in the file.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            self._file.write(json.dumps({"file": file, "drawn": drawn, **poses.to_dict()}) + "\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from None
        self.done.add(file)

    def close(self) -> None:
        """Close the file; adding opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Open for appending, after the entries that stay."""
        if self.path.exists():
            with replacing(self.path) as temporary, temporary.open("wb") as kept, self.path.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n") and json.loads(line)["file"] in self.done:
                        kept.write(line)
        self._file = self.path.open("a", encoding="utf-8")


def read_entries(path: str | Path, keys: Iterable[str] = ("file",)) -> Iterator[Entry]:
    """The entries of a JSON lines file, one by one; a half line at its end is passed over.

    Raises:
        InputError: the file cannot be read, or a line is no entry with these keys.
    """
    try:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    entry = json.loads(line)
                    for key in keys:
                        entry[key]
                except (ValueError, TypeError, KeyError):
                    raise InputError(f"{path}, line {number}: not from calipose predict") from None
                yield entry
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def write_jsonl(target: Target, entries: Iterable[Entry]) -> None:
    """One line of JSON an entry.

    Args: `target` a file, which appears whole or not at all, or a text stream, to which each entry is flushed.

    Raises:
        InputError: the file cannot be written.
    """
    with _opened(target) as stream:
        for entry in entries:
            stream.write(json.dumps(entry) + "\n")
            _flush(stream, target)


def write_csv(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """One row a keypoint: file, frame and seconds (of videos), then the columns of `Poses.to_pandas`.

    Args: `target` as of `write_jsonl`.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    with _opened(target) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file", "frame", "seconds", *COLUMNS])
        _flush(stream, target)
        for entry in entries:
            place = [entry["file"], entry.get("index"), entry.get("seconds")]
            table.writerows([*place, *row] for row in rows(Poses.from_dict(entry, skeleton)))
            _flush(stream, target)


def write_coco(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """COCO keypoint results, numbers not rounded: the file's stem is the image id where it is a number.

    All others, also the frames of a video, are numbered 1, 2, 3 ... in order. Such numbers say little, so each result
    also names its "file" and "index"; evaluation tools pass these over.

    Args: `target` as of `write_jsonl`.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    number = image_ids()

    def results() -> Iterator[list[Any]]:
        for entry in entries:
            place = {key: entry[key] for key in ("file", "index") if key in entry}
            found = Poses.from_dict(entry, skeleton).to_coco(number(entry))
            yield [{**result, **place} for result in found]

    _write_list(target, results())


def write_label_studio(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Label Studio tasks with pre-annotations, of still images; frames of videos are passed over.

    Each task names its image as the entry does; Label Studio must find it under that path or URL. The project needs
    the labels of `calipose.formats.connectors.label_studio_config`.

    Args: `target` as of `write_jsonl`.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stills = (entry for entry in entries if "index" not in entry)
    _write_list(target, ([to_label_studio(Poses.from_dict(entry, skeleton), entry["file"])] for entry in stills))


def write_cvat(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """A "CVAT for images 1.1" file of still images, found by their file's name; frames of videos are passed over.

    Args: `target` as of `write_jsonl`.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    stills = (entry for entry in entries if "index" not in entry)
    with _opened(target) as stream:
        stream.write(cvat_head(skeleton))
        for number, entry in enumerate(stills):
            stream.write(cvat_image(Poses.from_dict(entry, skeleton), Path(entry["file"]).name, number))
            _flush(stream, target)
        stream.write(CVAT_TAIL)


def image_ids() -> Callable[[Entry], int]:
    """Gives entries their COCO image ids, no id twice."""
    taken: set[int] = set()
    last = 0

    def number(entry: Entry) -> int:
        nonlocal last
        stem = Path(entry["file"]).stem
        if "index" not in entry and stem.isascii() and stem.isdigit() and len(stem) <= MAX_ID_DIGITS:
            image_id = int(stem)
            if image_id not in taken:
                taken.add(image_id)
                return image_id
        last += 1
        while last in taken:
            last += 1
        taken.add(last)
        return last

    return number


def _write_list(target: Target, parts: Iterable[list[Any]]) -> None:
    """A JSON list, part by part, one line an element."""
    with _opened(target) as stream:
        before = "["
        for part in parts:
            for element in part:
                stream.write(f"{before}\n{json.dumps(element)}")
                before = ","
            _flush(stream, target)
        stream.write("[]\n" if before == "[" else "\n]\n")


@contextmanager
def _opened(target: Target) -> Iterator[TextIO]:
    """The stream itself, or a file that appears whole or not at all."""
    if not isinstance(target, str | Path):
        yield target
        target.flush()
        return
    path = Path(target)
    try:
        # Names of files need not be UTF-8; surrogateescape writes their bytes as they are.
        with (
            replacing(path) as temporary,
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise _unwritable(path, error) from None


def _flush(stream: TextIO, target: Target) -> None:
    """So that who reads a stream sees every entry at once; a file is not seen before its end."""
    if stream is target:
        stream.flush()


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror}; does the folder exist, and may you write there?")
