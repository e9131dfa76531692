"""Writing a video: H.264 in an MP4 file, with the sound of the original (PyAV, no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from calipose.errors import InputError, install_hint
from calipose.io.atomic import replacing, write_error, write_errors
from calipose.io.images import Image

TICKS = 90_000  # a second in the file: MPEG's clock, fine enough for every frame rate
QUALITY = "20"  # x264's constant rate factor: hardly told from the original
PRESET = "veryfast"  # x264 then takes a small part of the network's time; the file is about a third larger
BT709 = 1  # code of the matrix, primaries and curve of HDTV, which players otherwise guess by the image's size
LIMITED = 1  # code of luma from 16 to 235, what players expect of yuv420p
COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})  # what MP4 holds and players play as it is
SOUND_GAP = 0.1  # seconds


class VideoWriter:
    """Writes an MP4 file, which appears whole when the `with` block ends, or not at all.

    The first image is at time 0. The memory used is the encoder's, however long the video is.

    Args:
        path: the file; its folder must exist.
        frames_per_second: rate of images that are written without a time.
        size: width and height of the images. H.264 stores colours in blocks of 2 x 2 pixels, so an odd side is made
            even by repeating the last column or row.
        sound_from: the original, whose first sound track is kept: copied where MP4 can hold it, else encoded as AAC.
            None, or a file without sound, gives no sound.

    Attributes:
        sound: what was done with the sound: "none", "copied", "encoded", or "lost" where the original's could not be
            read to its end.

    Raises:
        InputError: PyAV is not installed, the file cannot be written, or no image was written.

    Example:
        >>> with VideoWriter("out.mp4", 25.0, (1280, 720), sound_from=Path("dance.mp4")) as video:
        ...     video.write(image)
    """

    def __init__(
        self, path: str | Path, frames_per_second: float, size: tuple[int, int], sound_from: Path | None = None
    ) -> None:
        av = import_av()
        self.path, self.size = Path(path), size
        self.sound = "none"
        self._error: type[Exception] = av.error.FFmpegError
        self._seconds_apart = 1 / frames_per_second
        self._first: float | None = None
        self._ticks = -1  # of the last image
        self._stack = ExitStack()
        try:
            temporary = self._stack.enter_context(replacing(self.path))
            with write_errors(path):  # PyAV's file errors are OSErrors, too
                self._file = av.open(_url(temporary), "w", format="mp4", options={"movflags": "+faststart"})
        except InputError:
            self._stack.close()
            raise
        self._stack.callback(self._file.close)
        width, height = (side + side % 2 for side in size)
        rate = Fraction(frames_per_second).limit_denominator(1001)
        stream = self._file.add_stream("libx264", rate=rate, options={"crf": QUALITY, "preset": PRESET})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._stream = stream
        self._sound = None if sound_from is None else self._open_sound(sound_from)

    def write(self, image: Image, seconds: float | None = None) -> None:
        """Add an image.

        With times, a video of uneven frame rate (from a phone or a webcam) plays as it was taken, with its sound.

        Args:
            image: `(height, width, 3)` uint8 RGB.
            seconds: its time in the original, where it is known.

        Raises:
            InputError: the image has another size than the video, or the file cannot be written.
        """
        if image.shape != (self.size[1], self.size[0], 3) or image.dtype != np.uint8:
            raise InputError(
                f"{self.path}: an image of shape {image.shape} does not fit the video's {self.size[0]} x "
                f"{self.size[1]} pixels"
            )
        if seconds is None:
            seconds = 0.0 if self._first is None else (self._ticks / TICKS) + self._first + self._seconds_apart
        if self._first is None:
            self._first = seconds
        # Players and muxers need times that grow; a broken clock in the original must not end the work.
        self._ticks = max(self._ticks + 1, round((seconds - self._first) * TICKS))
        try:
            self._file.mux(self._stream.encode(self._frame(image)))
            self._add_sound(self._ticks / TICKS)
        except self._error as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._first is None:
                    raise InputError(f"{self.path}: no image was written")
                self._file.mux(self._stream.encode(None))
                self._add_sound(float("inf"))
                self._file.close()  # writes the index, without which nothing plays
        except (self._error, InputError) as problem:
            kind, error = type(problem), problem  # so that `replacing` leaves nothing
            raise self._unwritable(problem) from None
        finally:
            self._stack.__exit__(kind, error, trace)

    def _unwritable(self, error: Exception) -> InputError:
        if isinstance(error, OSError):  # as PyAV's errors of files are
            return write_error(self.path, error)
        return error if isinstance(error, InputError) else InputError(f"{self.path} cannot be written: {error}")

    def _frame(self, image: Image) -> Any:
        """The image as the encoder takes it."""
        from av import VideoFrame

        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = self._ticks, Fraction(1, TICKS)
        return frame

    def _open_sound(self, path: Path) -> Iterator[tuple[float, list[Any]]] | None:
        """The packets of the original's first sound track, or None where it has none."""
        import av

        try:
            original = self._stack.enter_context(av.open(_url(path), metadata_errors="replace"))
        except (self._error, OSError):
            self.sound = "lost"
            return None
        if not original.streams.audio:
            return None
        track = original.streams.audio[0]
        start = 0.0
        if original.streams.video and original.streams.video[0].start_time is not None:
            video = original.streams.video[0]
            start = float(video.start_time * video.time_base)  # becomes 0, as the first image's time does
        if track.codec_context.codec.canonical_name in COPIED_SOUND:
            self.sound = "copied"
            return _copied(original, track, self._file.add_stream_from_template(track), start)
        self.sound = "encoded"
        encoder = self._file.add_stream("aac", rate=track.codec_context.sample_rate)
        encoder.layout = "stereo" if track.codec_context.channels > 1 else "mono"
        return _encoded(original, track, encoder, start)

    def _add_sound(self, until: float) -> None:
        """Add the sound up to a time, so that images and sound lie side by side in the file."""
        if self._sound is None:
            return
        while True:
            try:
                seconds, packets = next(self._sound)
            except StopIteration:
                self._sound = None
                return
            except self._error:
                self.sound, self._sound = "lost", None
                return
            self._file.mux(packets)
            if seconds >= until:
                return


def import_av() -> Any:
    """Import PyAV.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise InputError(f"videos need PyAV: {install_hint('video')}") from None
    return av


def _url(path: Path) -> str:
    """The file as a URL: ffmpeg would take a:b.mp4 for a URL of the protocol `a`."""
    return f"file:{path}"


def _copied(original: Any, track: Any, stream: Any, start: float) -> Iterator[tuple[float, list[Any]]]:
    """The original's packets unchanged, moved `start` seconds earlier, each with its time."""
    for packet in original.demux(track):
        if packet.dts is None:  # the demuxer's last, empty packet
            continue
        shift = round(start / packet.time_base)
        packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
        packet.dts -= shift
        packet.stream = stream
        yield float(packet.pts * packet.time_base), [packet]


def _encoded(original: Any, track: Any, stream: Any, start: float) -> Iterator[tuple[float, list[Any]]]:
    """The original's sound decoded and encoded again, moved `start` seconds earlier; packets with their times."""
    expected = 0
    for frame in original.decode(track):
        rate = frame.sample_rate
        sample = expected if frame.time is None else round((frame.time - start) * rate)
        # Containers round times; samples that follow each other are counted instead, but for a true gap.
        sample = expected if expected and abs(sample - expected) < SOUND_GAP * rate else sample
        frame.pts, frame.time_base = sample, Fraction(1, rate)
        expected = sample + frame.samples
        yield sample / rate, stream.encode(frame)
    yield float("inf"), stream.encode(None)
