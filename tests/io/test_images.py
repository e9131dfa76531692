"""Images are read as a person sees them, and fitted to the network in an exact frame."""

import io
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from calipose.errors import ImageError
from calipose.geometry import apply_affine
from calipose.io import images
from calipose.io.images import decode_image, exif_orientation, network_input, read_image, shrink, warp

PAD = (124, 116, 104)


def corners(height: int = 40, width: int = 72) -> np.ndarray:
    """An image whose four corners differ, in 8 x 8 blocks (so that JPEG keeps them)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:8, :16], image[:8, -8:], image[-8:, :8], image[-8:, -24:] = 60, 120, 180, 240
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(corners()).save(path, exif=exif, quality=95)
    with Image.open(path) as opened:  # Pillow as the oracle
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"), np.int64)
        stored = np.asarray(opened.convert("RGB"), np.int64)
    assert abs(read_image(path).astype(np.int64) - upright).max() <= 8
    if suffix != "tiff":  # OpenCV's TIFF decoder always turns the image
        assert abs(read_image(path, ignore_orientation=True).astype(np.int64) - stored).max() <= 8


def test_orientation_together_with_alpha_and_16_bit(tmp_path: Path) -> None:
    rgba = np.zeros((3, 5, 4), np.uint16)
    rgba[0, 0] = (65535, 257 * 7 + 128, 257 * 7 + 129, 65535)  # v / 257 = 7.498 and 7.502
    rgba[0, 1, 3] = 65535
    assert cv2.imwrite(str(tmp_path / "flat.png"), rgba[..., [2, 1, 0, 3]])
    data = (tmp_path / "flat.png").read_bytes()
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = len(exif).to_bytes(4, "big") + b"eXIf" + exif
    chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
    (tmp_path / "turned.png").write_bytes(data[:33] + chunk + data[33:])  # after the IHDR chunk
    flat, turned = read_image(tmp_path / "flat.png"), read_image(tmp_path / "turned.png")
    assert flat[0, 0].tolist() == [255, 7, 8]
    assert flat[0, 1].tolist() == [0, 0, 0]
    assert flat[1, 1].tolist() == [255, 255, 255]  # transparent: white
    assert np.array_equal(turned, np.rot90(flat, -1))


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("L", 77, [77, 77, 77]),
        ("LA", (100, 128), [177, 177, 177]),
        ("RGBA", (200, 100, 0, 51), [244, 224, 204]),
        ("P", 1, [10, 20, 30]),
        ("1", 1, [255, 255, 255]),
        ("I;16", 40000, [156, 156, 156]),
    ],
)
def test_kinds_of_pixels(tmp_path: Path, mode: str, pixel: object, expected: list[int]) -> None:
    path = tmp_path / "image.png"
    image = Image.new(mode, (4, 3), pixel)  # type: ignore[arg-type]
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(path)
    read = read_image(path)
    assert read.shape == (3, 4, 3)
    assert read.dtype == np.uint8
    assert (read == expected).all()


def jpeg_with_thumbnail() -> bytes:
    inner = cv2.imencode(".jpg", corners(16, 16))[1].tobytes()
    outer = cv2.imencode(".jpg", corners(200, 300))[1].tobytes()
    return outer[:2] + b"\xff\xe1" + (len(inner) + 8).to_bytes(2, "big") + b"Exif\0\0" + inner + outer[2:]


NOISE = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
BROKEN = {
    "missing": None,
    "empty": b"",
    "text": b"this is no image",
    "jpg": cv2.imencode(".jpg", NOISE)[1].tobytes(),
    "thumbnail": jpeg_with_thumbnail(),
    "png": cv2.imencode(".png", corners())[1].tobytes(),
    "webp": cv2.imencode(".webp", corners(200, 300))[1].tobytes(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named(tmp_path: Path, kind: str) -> None:
    path, data = tmp_path / f"{kind}.bin", BROKEN[kind]
    if data is not None:
        if kind not in {"empty", "text"}:
            path.write_bytes(data + b"trailing bytes do no harm")
            assert read_image(path).size
            data = data[: len(data) * 2 // 3]
        path.write_bytes(data)
    with pytest.raises(ImageError, match=path.name):
        read_image(path)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\0\x12Exif\0\0II*\0\xff\xff\xff\xff", b"RIFF"])
def test_orientation_of_nonsense_is_upright(data: bytes) -> None:
    assert exif_orientation(data) == 1


@pytest.mark.parametrize(
    ("height", "width", "short_side", "shape"),
    [
        (480, 640, 512, (512, 704)),  # 682.67 -> 704
        (640, 480, 512, (704, 512)),
        (512, 512, 512, (512, 512)),
        (100, 1000, 64, (32, 160)),  # longer than 2.5 x short: the long side is 160, the short one 16
        (300, 100, 50, (128, 64)),
        (1, 1, 64, (64, 64)),
        (1, 3000, 64, (32, 160)),
        (2000, 1500, 96, (128, 96)),
    ],
)
def test_network_input(height: int, width: int, short_side: int, shape: tuple[int, int]) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    fitted, affine = network_input(image, short_side, PAD)
    assert fitted.shape == (*shape, 3)
    scale = min(short_side / min(height, width), 2.5 * short_side / max(height, width))
    points_img = np.random.default_rng(0).uniform(0, 700, (50, 2))
    expected = scale * (points_img + 0.5) - 0.5
    assert np.abs(apply_affine(affine, points_img) - expected).max() < 1e-6
    content = round(height * scale), round(width * scale)
    assert (fitted[content[0] + 1 :] == PAD).all()
    assert (fitted[:, content[1] + 1 :] == PAD).all()


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image.astype(np.float64).sum(-1)
    rows, columns = np.indices(weights.shape)
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("scale", [0.11, 0.2371, 0.5, 0.73, 1.0, 1.618, 3.0])
def test_a_blob_lands_where_the_affine_says(scale: float) -> None:
    image = np.zeros((331, 457, 3), np.uint8)
    centre = np.array([201, 149])
    radius = 10
    image[centre[1] - radius : centre[1] + radius + 1, centre[0] - radius : centre[0] + radius + 1] = 255
    fitted, affine = network_input(image, round(331 * scale), (0, 0, 0))
    assert np.abs(centroid(fitted) - apply_affine(affine, centre)).max() < 0.1


def test_no_scale_is_lost_when_reducing() -> None:
    """Single bright columns survive a strong reduction as their mean."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, ::8] = 240
    fitted, _ = network_input(image, 64, (0, 0, 0))
    assert abs(fitted[4:-4, 4:-4].mean() - 30) < 3
    assert fitted[4:-4, 4:-4].max() < 70


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_shrink_averages_blocks_in_the_frame(factor: int) -> None:
    image = np.random.default_rng(1).integers(0, 255, (4 * factor + 1, 5 * factor, 3), np.uint8)
    small, affine = shrink(image, factor)
    assert small.shape == (5, 5, 3)
    block = image[: 4 * factor].reshape(4, factor, 5, factor, 3).mean((1, 3))
    assert np.abs(small[:4] - block).max() <= 0.51
    assert np.allclose(apply_affine(affine, [(factor - 1) / 2, (factor - 1) / 2]), [0, 0])


def test_copying_all_of_the_image_or_nothing_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small part of a large image is warped without a copy of the whole."""
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    affine = np.array([[0.9, 0.2, 3.3], [-0.2, 0.9, 20.7]])
    results = []
    for copied in (0, 1e9):
        monkeypatch.setattr(images, "MAX_COPIED", copied)
        results.append(warp(image, affine, (64, 48), (10, 20, 30)))
    assert np.array_equal(*results)


def test_warp_fills_with_the_pad_colour() -> None:
    out = warp(np.full((4, 4, 3), 9, np.uint8), np.array([[1.0, 0, 4], [0, 1, 0]]), (12, 4), PAD)
    assert (out[:, :3] == PAD).all()
    assert (out[:, 4:8] == 9).all()
    assert (out[:, 9:] == PAD).all()


# ---- formats of telephones and newer cameras

COLOURS = np.zeros((40, 64, 3), np.uint8)
COLOURS[:20, :32], COLOURS[20:] = (255, 0, 0), (0, 255, 0)


def heic(pixels: np.ndarray, mode: str = "RGB") -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    size = (pixels.shape[1], pixels.shape[0])
    pillow_heif.from_bytes(mode, size, pixels.tobytes()).save(buffer, quality=95)
    return buffer.getvalue()


def test_heic_is_read() -> None:
    decoded = decode_image(heic(COLOURS), "photo.heic")
    assert decoded.shape == COLOURS.shape
    assert np.abs(decoded.astype(int) - COLOURS).mean() < 6


def test_a_damaged_heic_is_named() -> None:
    with pytest.raises(ImageError, match=r"photo\.heic"):
        decode_image(heic(COLOURS)[:300], "photo.heic")


def test_heic_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(COLOURS)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"photo\.heic is HEIC.*pip install 'pillow-heif"):
        decode_image(data, "photo.heic")


@pytest.mark.parametrize("suffix", [".avif", ".jp2"])
def test_avif_and_jpeg_2000_are_read(suffix: str) -> None:
    done, data = cv2.imencode(suffix, COLOURS[..., ::-1])
    assert done
    decoded = decode_image(data.tobytes(), f"photo{suffix}")
    assert np.abs(decoded.astype(int) - COLOURS).mean() < 6
