"""What `calipose predict` wrote (poses.jsonl), in another format of `FORMATS`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from calipose.errors import InputError
from calipose.formats.entries import Entry, is_still, read_entries
from calipose.formats.table import FORMATS
from calipose.io.atomic import replacing
from calipose.skeleton import COCO_17, Skeleton

KEYS = ("file", "image_size", "skeleton", "poses")  # what each entry must have


@dataclass(frozen=True)
class ConvertedPoses:
    """What was written.

    Attributes:
        images, frames: how many still images and frames of videos the new file is of.
        left_out: entries of the kind that the format does not hold.
        files: the new file, and what belongs to it.
    """

    images: int = 0
    frames: int = 0
    left_out: int = 0
    files: tuple[Path, ...] = ()


def convert_poses(
    source: str | Path, target: str | Path, name: str = "coco", skeleton: Skeleton = COCO_17
) -> ConvertedPoses:
    """Write the poses of a JSON lines file in another format, one entry after the other.

    A file that belongs to the format, such as Label Studio's interface, is written beside, as NAME.xml.

    Example:
        convert_poses("calipose-out/poses.jsonl", "people.json", "coco-dataset")

    Args:
        source: as `calipose predict` and `write_jsonl` write it.
        target: the file; it appears whole or not at all.
        name: of a format in `FORMATS`.
        skeleton: of all poses.

    Raises:
        InputError: no such format, or one that holds none of the entries; an entry is broken or of another skeleton;
            the file cannot be written, or is the source.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format '{name}'; use one of {', '.join(FORMATS)}")
    row, target = FORMATS[name], Path(target)
    if row.beside is not None and target.suffix == Path(row.beside.file_name).suffix:
        raise InputError(f"{target}: {row.beside.file_name} goes there; name the file {target.stem}.json")
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise InputError(f"{target} is the file itself; name another one")
    done = ConvertedPoses()

    def fitting() -> Iterator[Entry]:
        nonlocal done
        for entry in read_entries(source, KEYS):
            still = is_still(entry)
            if not (row.takes_images if still else row.takes_videos):
                done = replace(done, left_out=done.left_out + 1)
                continue
            done = replace(done, images=done.images + still, frames=done.frames + (not still))
            yield entry
        if done.left_out and not done.images + done.frames:  # said in the midst of writing, so that no file appears
            held, here = ("still images", "frames of videos")[:: 1 if row.takes_images else -1]
            raise InputError(f"{source}: holds {here} only, format '{name}' holds {held} only")

    row.write(target, fitting(), skeleton)
    files = [target]
    if row.beside is not None:
        files.append(target.with_suffix(Path(row.beside.file_name).suffix))
        with replacing(files[-1]) as temporary:
            temporary.write_text(row.beside.text(skeleton), encoding="utf-8")
    return replace(done, files=tuple(files))
