"""The size of an image from the head of its file, against decoding it."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from calipose.errors import ImageError
from calipose.io import image_size as module
from calipose.io.image_size import image_size
from calipose.io.images import read_image

SIZE = (37, 22)
PIXELS = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
HEADED = {
    "jpg": {"quality": 90},
    "progressive.jpg": {"progressive": True},
    "png": {},
    "bmp": {},
    "webp": {},
    "lossless.webp": {"lossless": True},
    "extended.webp": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"},
}


@pytest.mark.parametrize("name", [*HEADED, "tiff", "avif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_size_is_that_of_the_pixels(name: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"image.{name}"
    if name == "avif":
        cv2.imwrite(str(path), PIXELS)
    else:
        Image.fromarray(PIXELS).convert(mode).save(path, **HEADED.get(name, {}))
    assert read_image(path).shape[:2] == SIZE[::-1]
    if name in HEADED:
        monkeypatch.setattr(module, "decode_image", None)  # the head is enough
    assert image_size(path) == (SIZE, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_orientation_is_told_and_not_applied(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif)
    assert image_size(path) == (SIZE, orientation)


def test_bytes_that_do_not_belong_there_are_left_to_the_decoder(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    data = bytes(cv2.imencode(".jpg", noise)[1])
    assert len(data) > module.HEAD_BYTES
    (tmp_path / "a.jpg").write_bytes(data[:20] + b"\0\0" + data[20:])  # after the first segment
    assert image_size(tmp_path / "a.jpg")[0] == (400, 300)


def test_a_long_head_is_read_to_its_end(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(
        stream, "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    )
    data = stream.getvalue()
    profile = b"\xff\xe2" + (60_000).to_bytes(2, "big") + bytes(59_998)
    path = tmp_path / "long.jpg"
    path.write_bytes(data[:2] + 3 * profile + data[2:])
    assert image_size(path) == (SIZE, 6)


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "cannot be read"), (b"", "is empty"), (b"no image", "cannot be decoded"), (b"\xff\xd8\xff", "is cut off")],
)
def test_what_is_no_image(data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ImageError, match=rf"image\.jpg.*{words}"):
        image_size(path)


@pytest.mark.parametrize("name", HEADED)
def test_a_cut_head_is_an_error_or_the_size(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{name}"
    Image.fromarray(PIXELS).save(path, **HEADED[name])
    data = path.read_bytes()
    for end in range(1, min(len(data), 200)):
        path.write_bytes(data[:end])
        try:
            assert image_size(path)[0] == SIZE
        except ImageError:
            continue
