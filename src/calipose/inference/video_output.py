"""The files of one predicted video: its drawing and its poses, which appear together (no torch)."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from calipose.io.atomic import replacing
from calipose.io.images import Image
from calipose.io.sources import Frame, Source
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses


class VideoOutput:
    """Takes the frames of one video; no file is opened before the first frame.

    Attributes:
        drawing: path of the drawing.
        frames: number of frames so far.
        video: writes the drawing; None where nothing is drawn.
    """

    def __init__(
        self,
        begin: Callable[[], None],
        stack: ExitStack,
        source: Source,
        frames_per_second: float,
        drawing: Path,
        poses: Path,
    ) -> None:
        self.drawing = drawing
        self.frames = 0
        self.video: VideoWriter | None = None
        self._begin, self._stack = begin, stack
        self._source, self._frames_per_second, self._poses = source, frames_per_second, poses

    def write(self, frame: Frame, poses: Poses, drawing: Image | None) -> None:
        """Write a frame's poses and its drawing.

        Raises:
            InputError: the files cannot be written, or PyAV is not installed.
        """
        if not self.frames:
            self._begin()
            temporary = self._stack.enter_context(replacing(self._poses))
            self._lines = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
            if drawing is not None:
                size = (drawing.shape[1], drawing.shape[0])
                original = self._source.value if self._source.kind == "video" else None
                writer = VideoWriter(self.drawing, self._frames_per_second, size, original)
                self.video = self._stack.enter_context(writer)  # left, and so renamed, before the poses
        self.frames += 1
        entry = {
            "file": self._source.name,
            "drawing": None if drawing is None else self.drawing.name,
            "index": frame.index,
            "seconds": frame.seconds,
            **poses.to_dict(),
        }
        self._lines.write(json.dumps(entry) + "\n")
        if drawing is not None and self.video is not None:
            self.video.write(drawing, frame.seconds)
