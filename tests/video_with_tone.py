"""Videos with a tone for sound, written and read with PyAV, for tests of what goes in and what comes out."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

RATE = 25  # frames per second
TONE = 440  # Hz
SAMPLES = 48000  # per second


def write_video(
    path: Path, images: Sequence[np.ndarray], codec: str | None = "aac", start: int = 0, pixel_aspect: int = 1
) -> Path:
    """A video of images with even sides; times of images and sound begin at `start` seconds.

    A pixel is displayed `pixel_aspect` times as wide as high.
    """
    import av

    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=RATE, options={"crf": "12"})
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        sound = file.add_stream(codec, rate=SAMPLES) if codec else None
        if sound is not None:
            sound.layout = "mono"
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = start * RATE + i, Fraction(1, RATE)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound is None:
            return path
        samples = len(images) * SAMPLES // RATE
        wave = (12000 * np.sin(2 * np.pi * TONE * np.arange(samples) / SAMPLES)).astype(np.int16)[None]
        for first in range(0, samples, 960):
            frame = av.AudioFrame.from_ndarray(wave[:, first : first + 960], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLES, start * SAMPLES + first, Fraction(1, SAMPLES)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    return path


def frames_of(path: Path) -> list[Any]:
    """All frames of a video, as PyAV gives them."""
    import av

    with av.open(str(path)) as file:
        return list(file.decode(file.streams.video[0]))


def tone_of(path: Path) -> tuple[str, float, float]:
    """Codec, seconds and strongest frequency of a video's sound."""
    import av

    with av.open(str(path)) as file:
        track = file.streams.audio[0]
        codec = track.codec_context.codec.canonical_name
        wave = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(track)]).astype(float)
        rate = track.codec_context.sample_rate
    return codec, len(wave) / rate, float(np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave))
