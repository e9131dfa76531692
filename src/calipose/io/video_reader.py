"""Reading videos (PyAV) and webcams (OpenCV), frame by frame (no torch)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calipose.errors import ImageError, install_hint
from calipose.io.animations import is_cut_off, webp_durations
from calipose.io.images import Image, rgb_image

MAX_PIXEL_ASPECT = 8.0  # of a pixel's longer side to its shorter one; a header that says more is wrong
SEEN_ASPECT = 0.01  # nobody sees that pixels deviate less from squares; encoders' rounding does


@dataclass(frozen=True)
class VideoHeader:
    """What the header of a video file says; None where it does not.

    Attributes:
        frame_count: number of frames; estimated from duration and rate where the header gives only these.
        frames_per_second: mean frame rate.
    """

    frame_count: int | None = None
    frames_per_second: float | None = None


def read_header(path: Path) -> VideoHeader:
    """Read a video's header; it is empty where the video cannot be read, an error that `read_video` raises."""
    if durations_ms := webp_durations(path):
        seconds = sum(durations_ms) / 1000
        return VideoHeader(len(durations_ms), len(durations_ms) / seconds if seconds else None)
    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            frames = stream.frames or round((container.duration or 0) / 1e6 * rate)
            return VideoHeader(frames or None, rate or None)
    except ImageError:
        return VideoHeader()


def read_video(path: Path) -> Iterator[tuple[Image, float | None]]:
    """Read the frames of a video's first image track, upright and in the proportions that players show.

    Where the track's pixels are no squares (anamorphic video, as of DVDs and camcorders), each frame gets the width at
    which they are; its rows stay as they are. So all coordinates are in display pixels.

    The colour matrix is the track's; where it names none, BT.601, as ffmpeg does. Frames that the decoder marks as
    damaged are left out. Only some frames are in memory at a time, however long the video is.

    Animated GIF, PNG and WebP files are videos, too. Transparency of GIF and PNG is composed onto white. OpenCV reads
    animated WebP; it holds all of its frames in memory, and fills what is transparent as the file says.

    Yields:
        The frame `(h, w, 3)` uint8 RGB, of square pixels, and its time in seconds since the first; None where it is
        not known.

    Raises:
        ImageError: the video cannot be read, or PyAV is not installed; or, after all frames that can be read, the
            video is damaged or cut off.
    """
    if webp_durations(path) is not None:
        yield from _read_webp(path)
        return
    with _opened(path) as container:
        from av.video.reformatter import VideoReformatter

        converter = VideoReformatter()
        track = container.streams.video[0]
        transparent = track.codec_context.name in {"apng", "gif"}
        pixel_aspect = 1.0 if transparent else _pixel_aspect(track)  # browsers show an animation's as squares
        pixels: Any
        seconds: float | None = None
        count, first_s, turn = 0, None, (1, 0, 0, 1)
        breaks_s: list[float] = []
        for frame in _intact_frames(container, breaks_s):
            if not count:
                # Of the first only: a frame that was asked for its side data is in memory until garbage is collected.
                first_s, turn = frame.time, _display_turn(frame)
            count += 1
            seconds = None if frame.time is None else frame.time - (first_s or 0)
            if transparent:
                pixels = rgb_image(converter.reformat(frame, format="bgra").to_ndarray(), str(path))
            else:
                pixels = converter.reformat(frame, format="rgb24").to_ndarray()
            yield _turned(_of_square_pixels(pixels, pixel_aspect), turn), seconds
        if not breaks_s and is_cut_off(path):
            breaks_s.append(seconds or 0.0)
        if not count:
            raise ImageError(f"video {path} is damaged or cut off: none of its frames can be read")
        if breaks_s:
            raise ImageError(
                f"video {path} is damaged or cut off at {breaks_s[0]:.1f} s; {count} frames could be read; "
                "copy or download it again"
            )


def read_webcam(number: int) -> Iterator[tuple[Image, float]]:
    """Read the frames of a webcam until it is unplugged; it is released when the iteration is left.

    Yields:
        The frame `(h, w, 3)` uint8 RGB, and its time in seconds since the first.

    Raises:
        ImageError: there is no such webcam, or it gives no image.
    """
    log = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has these functions elsewhere
    level = log.getLogLevel()
    log.setLogLevel(0)  # nothing: what OpenCV would print is said below
    try:
        camera = cv2.VideoCapture(number)
    finally:
        log.setLogLevel(level)
    try:
        if not camera.isOpened():
            raise ImageError(f"webcam {number} cannot be opened: it does not exist, or another program uses it")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # now's frame, not one that waited while the last was looked at
        start = None
        while True:
            there, frame = camera.read()
            if not there:
                break
            start = time.monotonic() if start is None else start
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), time.monotonic() - start
        if start is None:
            raise ImageError(f"webcam {number} gives no image; close other programs that use it")
    finally:
        camera.release()


def _read_webp(path: Path) -> Iterator[tuple[Image, float]]:
    """The frames of an animated WebP, which FFmpeg does not decode, as `read_video` gives them."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        there, animation = cv2.imdecodeanimation(data[None])  # OpenCV 4.12 takes a row only
    except OSError as error:
        raise ImageError(f"video {path} cannot be read: {error.strerror}") from None
    except cv2.error:
        there = False
    if not there:
        raise ImageError(f"video {path} is damaged or cut off: none of its frames can be read")
    milliseconds = 0
    for pixels, duration in zip(animation.frames, animation.durations, strict=True):
        yield rgb_image(pixels, str(path)), milliseconds / 1000
        milliseconds += int(duration)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a video as a PyAV container that has an image track."""
    try:
        import av
    except ImportError:
        # An ImageError, so that images beside the video are still processed.
        raise ImageError(f"video {path} needs PyAV: {install_hint('video')}") from None
    try:
        # Opened here, since ffmpeg takes a name such as a:b.mp4 for a URL. Not all metadata is proper text.
        with path.open("rb") as file, av.open(file, metadata_errors="replace") as container:
            if not container.streams.video:
                raise ImageError(f"video {path} holds no image track")
            yield container
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"video {path} cannot be read: {error.strerror or error}") from None


def _intact_frames(container: Any, breaks_s: list[float]) -> Iterator[Any]:
    """PyAV's undamaged frames; times at which something is damaged or missing are appended to `breaks_s`."""
    from av.error import FFmpegError

    stream = container.streams.video[0]
    stream.thread_type = "AUTO"  # decodes ahead by some frames, on all cores
    start_s = end_s = (container.start_time or 0) / 1e6
    # Other tracks are walked through too: what lasts longest tells whether the end is missing.
    for packet in container.demux():
        if packet.pts is not None:
            end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.is_corrupt:  # not given to the decoder: when it fails at the end, it drops whole frames too
            breaks_s.append(end_s - start_s)
            continue
        if packet.stream.index != stream.index:
            continue
        try:
            frames = packet.decode()
        except FFmpegError:
            breaks_s.append(end_s - start_s)
            continue
        for frame in frames:
            if frame.is_corrupt:
                breaks_s.append(end_s - start_s)
            else:
                yield frame
    if container.duration is not None:
        missing_s = container.duration / 1e6 - (end_s - start_s)
        # Whole files miss a header's duration by two frames at most: FLV counts from 0, not from its start.
        if missing_s > 0.25 + 2 / float(stream.average_rate or 30):
            breaks_s.append(end_s - start_s)


def _pixel_aspect(track: Any) -> float:
    """A pixel's width in heights; 1 where the track does not say, or what it says is no sensible number."""
    aspect = float(track.sample_aspect_ratio or 1)
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0


def _of_square_pixels(image: Image, pixel_aspect: float) -> Image:
    """The image as displayed: its columns are resampled, its rows never, so that no two interlaced fields mix."""
    if abs(pixel_aspect - 1) < SEEN_ASPECT:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * pixel_aspect)), height)
    resized: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if pixel_aspect < 1 else cv2.INTER_LINEAR)
    return resized


def _display_turn(frame: Any) -> tuple[int, int, int, int]:
    """(a, b, c, d): the pixel (x, y) is displayed at (a x + c y, b x + d y), apart from a shift and a scale.

    It is the display matrix of ISO/IEC 14496-12, 8.3.2. Phones write it, as their sensor is mounted in one way only.
    """
    entry = frame.side_data.get("DISPLAYMATRIX")
    if entry is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(entry, np.int32)[:5].tolist()  # of nine, in units of 1 / 65536
    return a, b, c, d


def _turned(image: Image, turn: tuple[int, int, int, int]) -> Image:
    a, b, c, d = turn
    if abs(b) > abs(a):  # to the nearest quarter
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
