"""Videos are read frame by frame, upright; what is damaged or cut off is told after what can be read."""

import gc
import os
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from calipose.errors import ImageError
from calipose.io.video_reader import (
    VideoHeader,
    _of_square_pixels,
    _pixel_aspect,
    read_header,
    read_video,
    read_webcam,
)
from synthetic_video import SIZE, drawn_frame, number_of, write_video

pytest.importorskip("av")

ONE = 1 << 16  # in a display matrix


def read_until_error(path: Path) -> tuple[list[int], str]:
    """Numbers of the frames that come before the error, and the error."""
    numbers: list[int] = []
    with pytest.raises(ImageError) as caught:
        numbers.extend(number_of(image) for image, _ in read_video(path))
    return numbers, str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mp4", "libx264"),
        ("v.mov", "mpeg4"),
        ("v.mkv", "libx264"),
        ("v.webm", "libvpx"),
        ("v.avi", "mpeg4"),
        ("v.avi", "mjpeg"),
        ("v.ts", "libx264"),
        ("v.mpg", "mpeg2video"),
        ("v.flv", "flv1"),
        ("a: b 100% é.mp4", "libx264"),  # ffmpeg itself takes this name for a URL
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_frame_once_in_order(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, frames=24, rate=25, codec=codec)
    frames = list(read_video(path))
    assert [number_of(image) for image, _ in frames] == list(range(24))
    assert np.allclose([seconds for _, seconds in frames], np.arange(24) / 25, atol=0.002)
    image = frames[7][0]
    assert image.shape == (SIZE[1], SIZE[0], 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - drawn_frame(7).astype(int)).mean() < 8


@pytest.mark.parametrize(
    ("name", "count"),
    [("v.mp4", 24), ("v.avi", 24), ("v.mkv", 24)],  # Matroska's is its length times its rate
)
def test_header(tmp_path: Path, name: str, count: int) -> None:
    path = write_video(tmp_path / name, frames=24, rate=25, codec="mpeg4")
    assert read_header(path) == VideoHeader(count, 25.0)
    path.write_bytes(b"no video")
    assert read_header(path) == VideoHeader()


# (a, b, c, d) of the display matrix -> what it does to the stored image
TURNS = {
    (1, 0, 0, 1): lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # a phone held upright: a quarter clockwise
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (0, 1, 1, 0): lambda p: p.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).transpose(1, 0, 2),
}


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_upright(tmp_path: Path, turn: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "v.mp4", frames=2)
    stored = next(read_video(path))[0]
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44  # the matrix in the track's header, version 0 (ISO/IEC 14496-12, 8.3.2)
    a, b, c, d = (np.array(turn) * ONE).tolist()
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    image = next(read_video(path))[0]
    assert image.flags.c_contiguous
    assert np.array_equal(image, TURNS[turn](stored))


def write_disc(path: Path, pixel_aspect: Fraction, codec: str = "libx264", **settings: Any) -> Path:
    """A video of a white disc of 64 display pixels, 96 high, as its stored pixels show it; alternate rows are dark."""
    import av

    width = round(192 / pixel_aspect)
    y, x = np.mgrid[:96, :width]
    inside = np.hypot((x + 0.5) * float(pixel_aspect) - 96, y + 0.5 - 48) < 32
    image = np.where(inside[..., None], 255, 90 - 60 * (y % 2)[..., None]).astype(np.uint8).repeat(3, -1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, 96, "yuv420p"
        stream.codec_context.qmin, stream.codec_context.qmax = 1, 3
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.ts", "libx264"), ("v.avi", "mpeg4")]
)
@pytest.mark.parametrize("pixel_aspect", [Fraction(2), Fraction(4, 3), Fraction(8, 9), Fraction(1)])
def test_anamorphic_frames_are_as_displayed(tmp_path: Path, name: str, codec: str, pixel_aspect: Fraction) -> None:
    for image, _ in read_video(write_disc(tmp_path / name, pixel_aspect, codec)):
        assert image.shape == (96, 192, 3)
        assert image.flags.c_contiguous
        y, x = np.nonzero(image[..., 1] > 180)
        assert (x.mean(), y.mean()) == pytest.approx((95.5, 47.5), abs=0.5)
        assert (np.ptp(x), np.ptp(y)) == pytest.approx((63, 63), abs=2)
        assert image[::2, 5].mean() - image[1::2, 5].mean() > 40, "rows, and so interlaced fields, do not mix"


def test_anamorphic_frames_are_stretched_before_they_are_turned(tmp_path: Path) -> None:
    path = write_disc(tmp_path / "v.mp4", Fraction(2))
    upright = next(read_video(path))[0]
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 44
    data[at : at + 36] = np.array([0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    image = next(read_video(path))[0]
    assert image.shape == (192, 96, 3)
    assert np.array_equal(image, np.rot90(upright, -1))


@pytest.mark.parametrize("color_range", [1, 2])
def test_stretching_changes_no_colour(tmp_path: Path, color_range: int) -> None:
    """Of limited and of full range."""
    settings = {"color_range": color_range, "colorspace": 1}
    square, wide = (
        next(read_video(write_disc(tmp_path / f"{i}.mp4", aspect, **settings)))[0]
        for i, aspect in enumerate((Fraction(1), Fraction(2)))
    )
    for x, y in ((10, 10), (10, 11), (96, 48), (180, 80)):
        assert np.abs(square[y, x].astype(int) - wide[y, x]).max() <= 3


@pytest.mark.parametrize("pixel_aspect", [Fraction(1, 60), Fraction(60), Fraction(1001, 1000)])
def test_pixels_of_a_senseless_or_unseen_shape_stay(tmp_path: Path, pixel_aspect: Fraction) -> None:
    path = write_video(tmp_path / "v.mkv", frames=1)
    stored = next(read_video(path))[0]
    image = _of_square_pixels(stored, _pixel_aspect(SimpleNamespace(sample_aspect_ratio=pixel_aspect)))
    assert np.array_equal(image, stored)
    assert _pixel_aspect(SimpleNamespace(sample_aspect_ratio=None)) == 1


def test_colours_are_those_of_the_track(tmp_path: Path) -> None:
    """BT.709 says another red for the same numbers than BT.601 does."""
    import av

    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 1
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(frame.planes, (90, 108, 180), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.colorspace = 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    # ITU-R BT.709, 8 bits of limited range
    y, u, v = (90 - 16) / 219, (108 - 128) / 224, (180 - 128) / 224
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    expected = np.array([red, (y - 0.2126 * red - 0.0722 * blue) / 0.7152, blue]) * 255
    assert np.abs(next(read_video(tmp_path / "v.mp4"))[0][20, 30] - expected).max() < 4


@pytest.mark.parametrize("sound_seconds", [0.5, 4.0])
def test_sound_may_be_shorter_or_longer(tmp_path: Path, sound_seconds: float) -> None:
    path = write_video(tmp_path / "v.mp4", sound_seconds=sound_seconds)
    assert len(list(read_video(path))) == 45


CUT = {
    "mp4 without its index": ("v.mp4", {}, 0.8, 0),
    "mp4 with its index first": ("v.mp4", {"movflags": "faststart"}, 0.8, 25),
    "mp4 in fragments": ("v.mp4", {"movflags": "frag_keyframe+empty_moov"}, 0.8, 25),
    "mkv": ("v.mkv", {}, 0.6, 15),
    "flv": ("v.flv", {}, 0.6, 15),
    "nearly nothing": ("v.mkv", {}, 0.01, 0),
}


@pytest.mark.parametrize("kind", CUT)
def test_cut_off_videos(tmp_path: Path, kind: str) -> None:
    name, options, part, least = CUT[kind]
    path = write_video(tmp_path / name, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    numbers, message = read_until_error(path)
    assert str(path) in message
    assert numbers == list(range(len(numbers)))
    assert least <= len(numbers) < 45
    if numbers:
        assert f"cut off at {len(numbers) / 30:.1f}"[:-1] in message
        assert f"{len(numbers)} frames could be read" in message


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "mjpeg"), ("v.mp4", "libx264")])
def test_a_hole_in_the_middle_does_not_end_a_video(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, codec=codec, movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = b"\x55" * 300
    path.write_bytes(data)
    numbers, message = read_until_error(path)
    assert f"{path} is damaged" in message
    assert numbers[:10] == list(range(10))
    assert numbers[-10:] == list(range(35, 45))
    assert 20 < len(numbers) < 45


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "image", "folder", "sound"])
def test_files_that_are_no_video(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "v.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video, but long enough to be looked at " * 100)
    elif kind == "image":
        path.write_bytes(cv2.imencode(".png", drawn_frame(0))[1].tobytes()[:60])
    elif kind == "folder":
        path.mkdir()
    elif kind == "sound":
        import av

        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate = 48000
            container.mux([*sound.encode(frame), *sound.encode()])
    numbers, message = read_until_error(path)
    assert not numbers
    assert str(path) in message
    assert read_header(path).frame_count is None


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImageError, match=r"v\.mp4.*pip install 'av"):
        next(read_video(tmp_path / "v.mp4"))


def test_a_long_video_needs_the_memory_of_a_few_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=300, size=(640, 360))
    frame_bytes = 640 * 360 * 3
    seen: list[weakref.ref[np.ndarray]] = []
    most = count = early = 0
    gc.disable()  # or circles of the decoder's frames would be found in time, now and then
    tracemalloc.start()
    try:
        for image, _ in read_video(path):
            seen.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in seen))
            count += 1
            if count == 50:
                early = resident_bytes()
        growth = resident_bytes() - early
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert count == 300
    assert most <= 2
    assert peak < 6 * frame_bytes  # Python's memory
    assert growth < 25 * frame_bytes  # also the decoder's: all frames would be 125 in its format


def resident_bytes() -> int:
    """Memory of this process, as Linux counts it; 0 elsewhere."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_an_iteration_that_is_left_closes_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    frames = read_video(path)
    next(frames)
    assert len(os.listdir("/proc/self/fd")) > before
    frames.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


class Camera:
    """Stands in for OpenCV's: gives so many frames."""

    opened: "list[Camera]" = []  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.number, self.left, self.released = number, number, False
        Camera.opened.append(self)

    def isOpened(self) -> bool:  # noqa: N802
        return self.number < 5

    def set(self, what: int, value: float) -> bool:
        return False

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((4, 6, 3), (10, 20, 30), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Camera]]:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    yield Camera.opened
    assert all(camera.released for camera in Camera.opened)
    Camera.opened.clear()


def test_webcam_until_it_is_unplugged(cameras: list[Camera]) -> None:
    frames = list(read_webcam(3))
    assert [image[0, 0].tolist() for image, _ in frames] == [[30, 20, 10]] * 3  # BGR -> RGB
    seconds = [seconds for _, seconds in frames]
    assert seconds[0] < 0.1
    assert seconds == sorted(seconds)


def test_webcam_is_released_when_it_is_left(cameras: list[Camera]) -> None:
    frames = read_webcam(4)
    next(frames)
    assert not cameras[0].released
    frames.close()  # type: ignore[attr-defined]
    assert cameras[0].released


@pytest.mark.parametrize(("number", "message"), [(7, "webcam 7 cannot be opened"), (0, "webcam 0 gives no image")])
def test_webcam_that_gives_nothing(cameras: list[Camera], number: int, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        next(read_webcam(number))


def test_no_webcam_with_opencv_itself(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match="webcam 97"):
        next(read_webcam(97))
    assert not capfd.readouterr().err  # OpenCV's own words help nobody
