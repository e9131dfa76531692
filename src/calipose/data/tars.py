"""Images of a data set in plain tars, such as WebDataset's shards: found once, then read at any place (no torch)."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from calipose.data.store import KeypointData, Ragged, name_bytes
from calipose.errors import ImageError, InputError
from calipose.io.folders import IMAGE_SUFFIXES
from calipose.io.images import Image, decode_image

TAR = ".tar"


class Place(NamedTuple):
    """Where an image lies: index of the tar, its name in it, first byte and number of bytes."""

    tar: int
    name: str
    first: int
    number: int


@dataclass(frozen=True, eq=False)
class ImagesInTars:
    """Where the images of some tars lie.

    Attributes:
        tars: paths.
        places: by the image's name in its tar, and by that name without folders where only one image has it.
    """

    tars: tuple[Path, ...]
    places: dict[str, Place]

    def find(self, name: str) -> Place | None:
        """The place of an image of an annotation file, by its name or by its name without folders."""
        return self.places.get(name) or self.places.get(PurePosixPath(name.replace("\\", "/")).name)

    def read(self, name: str) -> Image:
        """The pixels of an image of an annotation file, as stored, `(h, w, 3)`.

        Raises:
            ImageError: it is not in the tars, or cannot be read.
        """
        place = self._place(name)
        tar = self.tars[place.tar]
        return decode_image(read_span(tar, place.first, place.number), f"{tar}/{place.name}", ignore_orientation=True)

    def placed(self, data: KeypointData, names: Sequence[str]) -> KeypointData:
        """A data set whose images, of these names, are all in the tars, with their places in its arrays.

        Raises:
            ImageError: one of them is not.
        """
        places = [self._place(name) for name in names]
        return replace(
            data,
            folders=self.tars,
            folder=np.array([place.tar for place in places], np.uint16),
            names=Ragged.from_rows([name_bytes(place.name) for place in places], np.zeros(0, np.uint8)),
            spans=np.array([place[2:] for place in places], np.int64).reshape(-1, 2),
        )

    def _place(self, name: str) -> Place:
        if (place := self.find(name)) is None:
            raise ImageError(f"no image {name} in the tars")
        return place


def tars_of(images: Path) -> list[Path]:
    """The tars that `images` stands for: itself, or those of the folder; empty where it is a folder without tars."""
    if images.suffix.lower() == TAR and images.is_file():
        return [images]
    if not images.is_dir():
        return []
    return sorted(path for path in images.iterdir() if path.suffix.lower() == TAR and path.name[0] != ".")


def find_images(tars: Sequence[Path]) -> ImagesInTars:
    """Look through tars once; their content is not read.

    Raises:
        InputError: a tar cannot be read, is compressed, or damaged; or two images have one name.
    """
    places: dict[str, Place] = {}
    for index, path in enumerate(tars):
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all of them
                    if (
                        not member.isreg()
                        or member.issparse()
                        or PurePosixPath(member.name).suffix.lower() not in IMAGE_SUFFIXES
                    ):
                        continue
                    if member.name in places:
                        first = tars[places[member.name].tar]
                        raise InputError(f"{path}: its image {member.name} is in {first}, too; one name is one image")
                    places[member.name] = Place(index, member.name, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise InputError(f"{path}: damaged, or not a plain tar ({error}); compressed ones are not read") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    uses = Counter(PurePosixPath(name).name for name in places)
    short = {base: place for name, place in places.items() if uses[base := PurePosixPath(name).name] == 1}
    return ImagesInTars(tuple(tars), short | places)


def read_span(tar: Path, first: int, number: int) -> bytes:
    """Bytes of a file, such as an image in a tar.

    Raises:
        ImageError: the file cannot be read, or ends before.
    """
    try:
        with tar.open("rb") as file:
            file.seek(first)
            data = file.read(number)
    except OSError as error:
        raise ImageError(f"{tar} cannot be read: {error.strerror or error}") from None
    if len(data) != number:
        raise ImageError(f"{tar} ends before byte {first + number}: it was changed or cut off")
    return data
