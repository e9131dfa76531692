"""Writing an image to a file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from calipose.draw.strokes import checked_image
from calipose.errors import InputError
from calipose.io.atomic import replacing
from calipose.io.images import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def save_image(path: str | Path, image: Image) -> None:
    """Write an RGB image; the file appears whole or not at all.

    Args:
        path: the file; its suffix tells the format.
        image: `(h, w, 3)` uint8, RGB.

    Raises:
        InputError: not an RGB image, an unknown suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown suffix '{path.suffix}'; use one of {' '.join(SUFFIXES)}")
    done, data = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(checked_image(image)[..., ::-1]))
    if not done:
        raise InputError(f"{path}: OpenCV cannot write '{path.suffix}'; use .png")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())
