"""Whatever is named is found once and in order; what is broken is told when it is read, and holds up nothing else."""

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from calipose.errors import ImageError, InputError
from calipose.io.animations import holds_several
from calipose.io.folders import passed_over
from calipose.io.images import read_image
from calipose.io.sources import Source, find_sources
from synthetic_video import write_video

NOISE = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which names matter; the current folder is the one above it."""
    image = cv2.imencode(".png", NOISE[..., ::-1])[1].tobytes()
    for name in [
        "album/f10.jpg",
        "album/f2.JPG",
        "album/F1.png",
        "album/.hidden.jpg",
        "album/notes.txt",
        "album/deep/a.gif",
        "album/deep/b.webp",
        "album/.cache/c.png",
        "album/x.jpg/inside.bmp",
        "album/g[1].png",
        "empty/notes.txt",
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image)
    (tmp_path / "album" / "clip.MP4").write_bytes(b"never opened here")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FLAT = ["album/clip.MP4", "album/F1.png", "album/f2.JPG", "album/f10.jpg", "album/g[1].png"]
DEEP = ["album/clip.MP4", "album/deep/a.gif", "album/deep/b.webp", *FLAT[1:], "album/x.jpg/inside.bmp"]


@pytest.mark.parametrize(
    ("what", "recursive", "expected"),
    [
        (["album/f2.JPG"], False, ["album/f2.JPG"]),
        ([Path("album/f2.JPG")], False, ["album/f2.JPG"]),
        (["album"], False, FLAT),
        (["album/"], True, DEEP),
        (["album/x.jpg"], False, ["album/x.jpg/inside.bmp"]),  # a folder, whatever its name
        (["album/*.jpg"], False, ["album/f10.jpg", "album/x.jpg/inside.bmp"]),
        (["album/[Ff]*.*"], False, ["album/F1.png", "album/f2.JPG", "album/f10.jpg"]),
        (["album/**/*.[bw]*"], False, ["album/deep/b.webp", "album/x.jpg/inside.bmp"]),
        (["album/*"], False, DEEP),
        ([Path("album/f*.jpg")], False, ["album/f10.jpg"]),
        (["album/g[1].png"], False, ["album/g[1].png"]),  # a file of that name is meant, not a pattern
        (["album/f10.jpg", "album"], False, ["album/f10.jpg", *(name for name in FLAT if "f10" not in name)]),
        (["album/f2.JPG", "album/../album/f2.JPG", ["album/f2.JPG"]], False, ["album/f2.JPG"]),
        (
            [["album/f10.jpg", ("album/f2.JPG",)], "album/F1.png"],
            False,
            ["album/f10.jpg", "album/f2.JPG", "album/F1.png"],
        ),
        (["missing.jpg", "also.mp4", "album/notes.txt"], False, ["missing.jpg", "also.mp4", "album/notes.txt"]),
        (["C:\\images\\a.jpg", "C://images/a.jpg"], False, ["C:\\images\\a.jpg", "C:/images/a.jpg"]),
    ],
)
def test_files(album: Path, what: list[Any], recursive: bool, expected: list[str]) -> None:
    found = find_sources(*what, recursive=recursive)
    assert isinstance(found, list)
    assert [source.name for source in found] == [str(Path(name)) for name in expected]
    assert [source.value for source in found] == [Path(name) for name in expected]
    assert [source.kind == "video" for source in found] == [name.lower().endswith("mp4") for name in expected]


def test_links_to_one_file_are_one(album: Path) -> None:
    (album / "album" / "link.jpg").symlink_to("f10.jpg")
    assert [source.value.name for source in find_sources("album/link.jpg", "album/f10.jpg")] == ["link.jpg"]


@pytest.mark.parametrize(
    ("what", "kind", "name"),
    [
        ("https://a.org/b.jpg?c=d", "url", "https://a.org/b.jpg?c=d"),
        ("HTTP://me:secret@a.org/b", "url", "HTTP://a.org/b"),
        (0, "webcam", "webcam 0"),
        (np.int64(2), "webcam", "webcam 2"),
        ("webcam:3", "webcam", "webcam 3"),
        (NOISE, "array", "array 0"),
        (Image.fromarray(NOISE), "array", "array 0"),
    ],
)
def test_what_is_no_file(what: Any, kind: str, name: str) -> None:
    twice = find_sources(what, [what])
    assert (twice[0].kind, twice[0].name) == (kind, name)
    assert "secret" not in repr(twice)
    assert len(twice) == (2 if kind == "array" else 1)
    assert len({source.name for source in twice}) == len(twice)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ([], "no images were given"),
        ([[], ()], "no images were given"),
        (["album", "empty"], r"empty: no images or videos in this folder"),
        (["album/*.tiff"], r"\*\.tiff: nothing matches"),
        (["empty/*"], r"no image or video matches"),
        (["ftp://a.org/b.jpg"], "ftp://a.org/b.jpg: URLs are http:// or https://"),
        (["rtsp://me:secret@camera/1"], "rtsp://camera/1: URLs"),
        (["webcam:x"], "webcam:0, webcam:1"),
        ([-1], "webcam -1"),
        ([""], "an empty name"),
        (["a\0b.jpg"], "an empty name"),
        ([None], "NoneType is not a source of images"),
        ([True], "bool is not a source"),
        ([1.5], "float is not a source"),
        ([b"a.jpg"], "bytes is not a source"),
        ([{"a.jpg": 1}], "dict is not a source"),
    ],
)
def test_what_cannot_be_found(album: Path, what: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_sources(*what)


def test_a_name_that_is_too_long_is_found_out_when_it_is_read() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        next(find_sources("a" * 5000)[0].frames())


def test_a_generator_is_not_run_ahead_of_its_readers(album: Path) -> None:
    taken = []

    def endless() -> Iterator[Any]:
        number = 0
        while True:
            taken.append(number)
            yield np.full((4, 4, 3), number, np.uint8) if number % 2 == 0 else "album/f2.JPG"
            number += 1

    found = find_sources("album/F1.png", endless())
    assert not isinstance(found, list)
    assert not taken
    names = [source.name for source in islice(found, 4)]
    assert names == [str(Path("album/F1.png")), "array 0", str(Path("album/f2.JPG")), "array 1"]  # a file once
    assert taken == [0, 1, 2]


def test_an_iterator_raises_when_it_comes_to_it(album: Path) -> None:
    found = iter(find_sources(iter(["album/f2.JPG", None])))
    assert next(found).name == str(Path("album/f2.JPG"))
    with pytest.raises(InputError, match="NoneType"):
        next(found)
    with pytest.raises(InputError, match="no images were given"):
        list(find_sources(iter([])))


def only(source: Source) -> np.ndarray:
    """The one image of a still source."""
    (frame,) = source.frames()
    assert (frame.source, frame.index, frame.seconds) == (source.name, None, None)
    assert (source.frame_count, source.frames_per_second) == (1, None)
    image: np.ndarray = frame.image
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.flags.c_contiguous
    return image


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (NOISE, NOISE),
        (NOISE[:, ::-1, ::-1], NOISE[:, ::-1, ::-1]),
        (NOISE[..., 0], np.repeat(NOISE[..., :1], 3, axis=2)),
    ],
)
def test_arrays(array: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(only(find_sources(array)[0]), expected)


def test_an_array_of_torch_is_one_image() -> None:
    torch = pytest.importorskip("torch")
    sources = find_sources(torch.from_numpy(NOISE), [torch.from_numpy(NOISE[..., 0].copy())])
    assert [source.name for source in sources] == ["array 0", "array 1"]
    assert np.array_equal(only(sources[0]), NOISE)
    assert only(sources[1]).shape == NOISE.shape


@pytest.mark.parametrize(
    "array",
    [
        NOISE.astype(np.float32),
        NOISE.astype(np.uint16),
        NOISE[None],
        NOISE[:0],
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.array(["a.jpg"]),
    ],
)
def test_arrays_that_are_no_image(array: np.ndarray) -> None:
    good, bad = find_sources(NOISE, [array])
    with pytest.raises(ImageError, match=r"array 1 holds .* of shape"):
        only(bad)
    assert only(good).size


def pil_image(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257 + 100)
    if mode in {"RGBA", "LA"}:
        image = Image.fromarray(NOISE).convert(mode)
        image.putalpha(Image.fromarray(NOISE[..., 1]))
        return image
    image = Image.fromarray(NOISE).convert(mode)
    if mode == "P":
        image.info["transparency"] = 3
    return image


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_pil_image_is_as_its_file(tmp_path: Path, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pil_image(mode).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        image = only(find_sources(opened)[0])
    assert np.array_equal(image, read_image(tmp_path / "a.png"))
    assert image.shape == ((50, 70, 3) if orientation == 1 else (70, 50, 3))


def test_pil_images_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="array 0 is a PIL image of mode F"):
        only(find_sources(Image.new("F", (4, 4)))[0])
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ImageError, match="array 0, a PIL image, cannot"):
        only(find_sources(image)[0])


COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255), "lime": (0, 255, 0)}


@pytest.mark.parametrize("suffix", ["gif", "png", "apng", "webp"])
def test_an_animation_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    pages = [Image.new("RGB", (8, 6), colour) for colour in COLOURS]
    kind = "PNG" if suffix == "apng" else None
    pages[0].save(path, kind, save_all=True, append_images=pages[1:], duration=[100, 300, 200])
    (source,) = find_sources(tmp_path)
    assert (source.kind, source.holds_more) == ("video", False)
    assert source.frames_per_second == pytest.approx(5, abs=1)
    frames = list(source.frames())
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.4])
    for frame, colour in zip(frames, COLOURS.values(), strict=True):
        assert np.abs(frame.image.astype(int) - colour).max() < 30  # WebP rounds colours
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match=f"a.{suffix} is damaged or cut off"):
        list(find_sources(tmp_path)[0].frames())


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_transparency_of_an_animation_is_white(tmp_path: Path, suffix: str) -> None:
    pages = []
    for i in range(3):
        pixels = np.zeros((16, 32, 4), np.uint8)
        pixels[4:12, 8 * i : 8 * i + 8] = (255, 0, 0, 255)
        pages.append(Image.fromarray(pixels))
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:], duration=100, disposal=2)
    images = [frame.image for frame in find_sources(tmp_path)[0].frames()]
    for i, image in enumerate(images):
        assert image[2, 2].tolist() == [255, 255, 255]
        assert np.abs(image[8, 8 * i + 4].astype(int) - [255, 0, 0]).max() < 3


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_a_still_image_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 6), "red").save(path)
    (source,) = find_sources(tmp_path)
    assert (source.kind, source.holds_more) == ("image", False)
    assert np.abs(only(source).astype(int) - [255, 0, 0]).max() < 3
    data = path.read_bytes()
    for size in range(0, len(data), 3):  # whatever is cut off, nothing fails before it is read
        path.write_bytes(data[:size])
        assert not holds_several(path)


def test_of_the_pages_of_a_tiff_the_first(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 6), colour) for colour in COLOURS]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    (source,) = find_sources(tmp_path)
    assert (source.kind, source.holds_more) == ("image", True)
    assert only(source)[0, 0].tolist() == [255, 0, 0]


def test_a_video_and_a_webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    path = write_video(tmp_path / "v.mp4", frames=6, rate=20)
    video, webcam = find_sources(path, 0)
    assert (video.kind, video.frame_count, video.frames_per_second) == ("video", 6, 20.0)
    frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(6))
    assert np.allclose([frame.seconds for frame in frames], np.arange(6) / 20)
    assert {frame.source for frame in frames} == {str(path)}
    assert len(list(video.frames())) == 6  # once more from the start
    assert (webcam.frame_count, webcam.frames_per_second) == (None, None)
    monkeypatch.setattr("calipose.io.sources.read_webcam", lambda number: iter([(NOISE, 0.0), (NOISE, 0.1)]))
    assert [(frame.index, frame.seconds, frame.source) for frame in webcam.frames()] == [
        (0, 0.0, "webcam 0"),
        (1, 0.1, "webcam 0"),
    ]


def test_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    cv2.imwrite(str(tmp_path / "a.png"), NOISE[..., ::-1])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        base = f"127.0.0.1:{server.server_address[1]}"
        there, missing = find_sources(f"http://{base}/a.png", f"http://me:secret@{base}/b.png")
        assert np.array_equal(only(there), NOISE)
        with pytest.raises(ImageError, match=f"http://{base}/b.png cannot be loaded: the server answers 404"):
            only(missing)
        server.shutdown()


def jpeg() -> bytes:
    data: bytes = cv2.imencode(".jpg", NOISE)[1].tobytes()
    return data


def write_half(path: Path, **options: str) -> None:
    data = write_video(path, **options).read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("a.jpg", lambda path: None),
    "empty": ("a.jpg", lambda path: path.touch()),
    "cut off jpeg": ("a.jpg", lambda path: path.write_bytes(jpeg()[:-200])),
    "cut off png": ("a.png", lambda path: path.write_bytes(cv2.imencode(".png", NOISE)[1].tobytes()[:2000])),
    "only the start of a jpeg": ("a.jpg", lambda path: path.write_bytes(jpeg()[:4])),
    "text": ("a.jpg", lambda path: path.write_text("this is no image")),
    "zeros": ("a.jpg", lambda path: path.write_bytes(bytes(5000))),
    "a link in a circle": ("a.jpg", lambda path: path.symlink_to("a.jpg")),
    "a link to nowhere": ("a.jpg", lambda path: path.symlink_to("b.jpg")),
    "unreadable": ("a.jpg", lambda path: (path.write_bytes(jpeg()), path.chmod(0))),
    "wrong bit depth": ("a.tiff", lambda path: cv2.imwrite(str(path), NOISE.astype(np.float32))),
    "also wrong": ("a.tiff", lambda path: cv2.imwrite(str(path), NOISE.astype(np.float64))),
    "a video without its end": ("a.mp4", lambda path: write_half(path, movflags="faststart")),
    "a video without its index": ("a.mp4", write_half),
    "a text as video": ("a.mkv", lambda path: path.write_text("this is no video")),
    "an empty video": ("a.mov", lambda path: path.touch()),
}


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Nobody may open `path`: root could, and Windows knows no chmod, so there `open` itself refuses."""
    real = io.open

    def refusing(file: Any, *args: Any, **options: Any) -> Any:
        if isinstance(file, str | os.PathLike) and Path(file) == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return real(file, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(os, "geteuid") or os.geteuid() == 0:
            patch.setattr(io, "open", refusing)  # of pathlib
            patch.setattr("builtins.open", refusing)
        yield


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_hold_up_no_others(tmp_path: Path, kind: str) -> None:
    name, make = BROKEN[kind]
    if name.endswith(("mp4", "mkv", "mov")):
        pytest.importorskip("av")
    cv2.imwrite(str(tmp_path / "whole.png"), NOISE)
    make(tmp_path / name)
    bad, good = find_sources(tmp_path / name, tmp_path / "whole.png")
    with refused(tmp_path / name) if kind == "unreadable" else nullcontext(), pytest.raises(ImageError) as caught:
        list(bad.frames())
    assert str(tmp_path / name) in str(caught.value)
    assert good.frame_count == 1
    assert only(good).shape == NOISE.shape
    if kind != "missing" and not kind.endswith("index"):  # in its folder it is found too
        assert len(find_sources(tmp_path)) == 2
    assert bad.frame_count is None or bad.frame_count > 0


def test_an_unreadable_file_with_any_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    for name in ("a.jpg", "a.mp4"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read: Permission denied"):
            next(find_sources(tmp_path / name)[0].frames())


def test_windows_paths_are_no_urls() -> None:
    assert find_sources(str(PureWindowsPath("C:/a/b.mp4")))[0].kind == "video"


def test_nothing_heavy_is_imported_to_find_sources() -> None:
    code = (
        "import sys\n"
        "from calipose.io.sources import find_sources\n"
        "find_sources('a.jpg', 'b.mp4', 0, 'c.png')\n"
        "print([name for name in ('torch', 'av', 'PIL', 'urllib.request') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_what_a_folder_holds_of_other_formats_is_counted(tmp_path: Path) -> None:
    for name in ("a.dng", "b.DNG", "c.psd", "notes.txt", "photo.heic", ".hidden.dng"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.dng").write_bytes(b"x")
    assert passed_over(str(tmp_path)) == {".dng": 2, ".psd": 1}
    assert passed_over(tmp_path, recursive=True) == {".dng": 3, ".psd": 1}
    assert passed_over("photo.dng") == passed_over(3) == {}
    assert [source.name for source in find_sources(tmp_path)] == [str(tmp_path / "photo.heic")]
