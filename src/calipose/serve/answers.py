"""What is made of a request: poses as entries, in the format that was asked for."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import cv2

from calipose.calibration.maps import Calibration
from calipose.calibration.precision import PrecisionTarget
from calipose.draw import draw_poses
from calipose.formats.entries import Entry
from calipose.formats.table import FORMATS, streamed_formats
from calipose.io.images import Image
from calipose.poses import Poses
from calipose.serve.refusal import Refusal
from calipose.skeleton import Skeleton

MIN_SCORE = 0.3  # as `calipose predict` has it
JSON, JPEG = "json", "jpg"
MEDIA_TYPES = {
    JSON: "application/json",
    JPEG: "image/jpeg",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "csv-wide": "text/csv; charset=utf-8",
    "coco": "application/json",
}
QUALITY = 90  # of drawings as JPEG


def answer_formats() -> list[str]:
    """What `format` may be: JSON, the formats that can be streamed, or the drawing itself."""
    return [JSON, *streamed_formats(), JPEG]


@dataclass(frozen=True)
class Wanted:
    """What a request asks for beside its images.

    A property of poses that is to be chosen per request gets its field here, its query parameter in `app.predict`, and
    is applied in `entry`; what `Poses.to_dict` holds comes out by itself.

    Attributes:
        min_score: poses below are left out.
        draw: entries hold the drawing, too.
        min_keypoint_score: keypoints below are not drawn.
        format: one of `answer_formats`.
        regions: coverage of the keypoints' circles, which entries and drawings then have; None for none.
    """

    min_score: float = MIN_SCORE
    draw: bool = False
    min_keypoint_score: float = MIN_SCORE
    format: str = JSON
    regions: float | None = None

    def entry(self, name: str, image: Image, poses: Poses) -> Entry:
        """The entry of an image, as in JSON lines; the drawing is JPEG: bytes, or for JSON a data URL."""
        kept = poses.above(self.min_score)
        if self.regions is not None:
            kept = kept.with_regions(self.regions)
        entry: Entry = {"file": name}
        if self.draw or self.format == JPEG:
            drawn = draw_poses(image, kept, min_keypoint_score=self.min_keypoint_score)
            jpeg = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            entry["drawing"] = jpeg if self.format == JPEG else _data_url(jpeg)
        return entry | kept.to_dict()

    def body(self, entries: list[Entry], skeleton: Skeleton) -> bytes:
        """The body of the answer."""
        if self.format == JPEG:
            drawing: bytes = entries[0]["drawing"]
            return drawing
        if self.format == JSON:
            answer: dict[str, Any] = {"min_score": self.min_score, "images": entries}
            return json.dumps(answer, ensure_ascii=False).encode()
        text = io.StringIO()
        FORMATS[self.format].write(text, entries, skeleton)
        return text.getvalue().encode()


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def threshold_of(calibration: Calibration, precision: str) -> dict[str, Any]:
    """The lowest score threshold that reaches a target precision, and what the calibration data say of it.

    Args:
        calibration: whose data count.
        precision: such as "0.7@0.5".

    Raises:
        InputError: no such target, or the calibration data cannot support it.
    """
    chosen = calibration.precision.choose(PrecisionTarget.parse(precision))
    return {
        "min_score": float(calibration.score(chosen.raw)),
        "poses": chosen.poses,
        "images": chosen.images,
        "precision": chosen.precision,
        "bound": chosen.bound,
        "recall": chosen.recall,
    }


def check_format(wanted: Wanted, images: int) -> None:
    """Refuse a drawing of several images, which is one file.

    Raises:
        Refusal: several images.
    """
    if wanted.format == JPEG and images > 1:
        raise Refusal(422, f"format jpg is the drawing of one image, and {images} came; use draw=true with JSON")
