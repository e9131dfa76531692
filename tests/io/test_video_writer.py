"""Written videos, read back: images, times, sound."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.io.video_writer import VideoWriter
from video_with_tone import RATE, TONE, frames_of, tone_of, write_video

av = pytest.importorskip("av")


def image(share: float, size: tuple[int, int]) -> np.ndarray:
    """Red, green from the left up to a share of the width."""
    width, height = size
    drawn = np.full((height, width, 3), (200, 40, 60), np.uint8)
    drawn[:, : round(share * width)] = (30, 180, 90)
    return drawn


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (64, 47), (1, 1)])
def test_images_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, RATE, size) as video:
        for i in range(10):
            video.write(image(i / 10, size))
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    frames = frames_of(path)
    assert len(frames) == 10
    assert [frame.time for frame in frames] == pytest.approx([i / RATE for i in range(10)], abs=1e-4)
    assert (frames[0].width, frames[0].height) == tuple(side + side % 2 for side in size)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert not file.streams.audio
    for i in (0, 7):
        seen = frames[i].to_ndarray(format="rgb24")[: size[1], : size[0]].astype(int)
        assert np.median(np.abs(seen - image(i / 10, size))) <= 4  # colours are not shifted


def test_uneven_times_are_kept_and_a_broken_clock_is_mended(tmp_path: Path) -> None:
    seconds = [7.0, 7.1, 7.15, 7.5, 7.4, 7.6]
    with VideoWriter(tmp_path / "a.mp4", RATE, (64, 48)) as video:
        for i, second in enumerate(seconds):
            video.write(image(i / 6, (64, 48)), second)
    times = [frame.time for frame in frames_of(tmp_path / "a.mp4")]
    assert times == pytest.approx([0, 0.1, 0.15, 0.5, 0.5, 0.6], abs=1e-3)
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("name", "codec", "start", "sound", "kept"),
    [
        ("a.mp4", "aac", 0, "copied", "aac"),
        ("a.mkv", "libmp3lame", 0, "copied", "mp3"),
        ("a.ts", "aac", 3, "copied", "aac"),
        ("a.mkv", "pcm_s16le", 0, "encoded", "aac"),
        ("a.mkv", "flac", 2, "encoded", "aac"),
    ],
)
def test_sound_is_kept(tmp_path: Path, name: str, codec: str, start: int, sound: str, kept: str) -> None:
    source = write_video(tmp_path / name, [image(i / 25, (64, 48)) for i in range(25)], codec, start)
    with VideoWriter(tmp_path / "out.mp4", RATE, (64, 48), source) as video:
        for i in range(25):
            video.write(image(i / 25, (64, 48)), i / RATE)
    assert video.sound == sound
    codec, seconds, frequency = tone_of(tmp_path / "out.mp4")
    assert codec == kept
    assert seconds == pytest.approx(1, abs=0.06)  # codecs pad to whole blocks
    assert frequency == pytest.approx(TONE, abs=2)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert all(abs(float(stream.start_time * stream.time_base)) < 0.05 for stream in file.streams)


def test_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "in.mp4", [image(0.5, (64, 48))]).rename("a:b %d.mp4")
    with VideoWriter("c:d %d.mp4", RATE, (64, 48), Path("a:b %d.mp4")) as video:
        video.write(image(0.5, (64, 48)))
    assert video.sound == "copied"
    assert len(frames_of(Path("file:c:d %d.mp4"))) == 1


@pytest.mark.parametrize(("content", "sound"), [(None, "lost"), (b"no video", "lost"), ("silent", "none")])
def test_a_video_without_its_sound(tmp_path: Path, content: bytes | str | None, sound: str) -> None:
    source = tmp_path / "original.mp4"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content:
        with VideoWriter(source, RATE, (64, 48)) as video:
            video.write(image(0.5, (64, 48)))
    with VideoWriter(tmp_path / "out.mp4", RATE, (64, 48), source) as video:
        video.write(image(0.5, (64, 48)))
    assert video.sound == sound
    assert len(frames_of(tmp_path / "out.mp4")) == 1


def test_a_failed_video_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("old")

    def fill(video: VideoWriter) -> Iterator[None]:
        yield video.write(image(0.5, (64, 48)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), VideoWriter(path, RATE, (64, 48)) as video:
        list(fill(video))
    with pytest.raises(InputError, match="no image was written"), VideoWriter(path, RATE, (64, 48)):
        pass
    with pytest.raises(InputError, match="64 x 48"), VideoWriter(path, RATE, (64, 48)) as video:
        video.write(image(0.5, (48, 64)))
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does the folder exist"):
        VideoWriter(tmp_path / "none" / "a.mp4", RATE, (64, 48))


def test_pyav_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'av"):
        VideoWriter(tmp_path / "a.mp4", RATE, (64, 48))
    assert not list(tmp_path.iterdir())
