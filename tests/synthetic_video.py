"""Drawn videos for the tests: a frame's grey level tells its number, its corners how it is turned."""

from pathlib import Path
from typing import Any

import numpy as np

SIZE = (96, 64)  # width, height


def drawn_frame(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Grey 40 + 3 * index (up to 60 of them), with a red block top left and a blue one bottom left."""
    width, height = size
    image = np.full((height, width, 3), 40 + 3 * (index % 60), np.uint8)
    image[: height // 4, : width // 4] = (255, 0, 0)
    image[-(height // 4) :, : width // 4] = (0, 0, 255)
    return image


def number_of(image: np.ndarray) -> int:
    """Number of a drawn frame, however it is turned: its middle is grey."""
    height, width = image.shape[:2]
    middle = image[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8]
    return round((float(middle.mean()) - 40) / 3)


def write_video(
    path: Path,
    frames: int = 45,
    rate: int = 30,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    sound_seconds: float = 0,
    **container_options: str,
) -> Path:
    """Encode drawn frames; a key frame every 10. `movflags="faststart"` puts an MP4's index first."""
    import av

    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 10
        stream.bit_rate = 1_000_000
        sound: Any = container.add_stream("aac", rate=48000) if sound_seconds else None
        for index in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn_frame(index, size), "rgb24")))
        container.mux(stream.encode())
        for block in range(int(48000 * sound_seconds / 1024)):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, block * 1024
            container.mux(sound.encode(frame))
        if sound:
            container.mux(sound.encode())
    return path
