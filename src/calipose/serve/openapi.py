"""What the OpenAPI document says beyond what types tell; its examples are run by tests/serve/test_openapi.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calipose.serve.refusal import Refusal

DESCRIPTION = (
    "Finds the poses of all people in images. A pose's score is the OKS that it is expected to have. "
    "Every answer from 400 on is a JSON object with `status` and `error`, a sentence."
)
QUERIES = {
    "/predict": {"min_score", "precision", "draw", "min_keypoint_score", "format", "name", "regions"},
    "/threshold": {"model", "precision"},
    "/regions": {"model"},
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
ERRORS = {
    "400": "The connection ended early.",
    "401": "The token is missing or wrong.",
    "403": "URLs are not loaded here, or this URL is not of a public address.",
    "408": "The request came too slowly.",
    "413": "Too many bytes, pixels or images.",
    "415": "No image of a known format.",
    "422": "A damaged image or form, or an option out of its range.",
    "429": "The queue is full.",
    "503": "No answer within the time limit, or no memory.",
}
ENTRY = {
    "file": "photo.jpg",
    "image_size": [640, 480],
    "skeleton": "coco-17",
    "poses": [
        {
            "score": 0.71,
            "raw_score": 0.64,
            "p_oks50": 0.82,
            "p_oks75": 0.6,
            "keypoints": {"nose": {"x": 312.4, "y": 80.1, "score": 0.9}},
        }
    ],
}
REFUSED = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["status", "error"],
            "properties": {"status": {"type": "integer"}, "error": {"type": "string"}},
        }
    }
}


def predict() -> dict[str, Any]:
    """Of `POST /predict`: bodies and answers."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": {"image": files}, "required": ["image"]}}
    urls = {
        "type": "object",
        "required": ["urls"],
        "properties": {"urls": {"type": "array", "items": {"type": "string"}}},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "image/*": BINARY,
                "application/octet-stream": BINARY,
                "multipart/form-data": form,
                "application/json": {"schema": urls, "example": {"urls": ["https://example.org/team.jpg"]}},
            },
        },
        "responses": {
            "200": {
                "description": "The poses: entries as in docs/predict.md, in the order of the images.",
                "content": {"application/json": {"example": {"min_score": 0.3, "images": [ENTRY]}}},
            },
            **{status: {"description": text, "content": REFUSED} for status, text in ERRORS.items()},
        },
    }


THRESHOLD: dict[str, Any] = {
    "responses": {"422": {"description": "The calibration data cannot support it.", "content": REFUSED}}
}


def check_query(given: Mapping[str, str], path: str) -> None:
    """Refuse options that there are not: a misspelt one would silently do nothing.

    Raises:
        Refusal: names the first.
    """
    for key in given:
        if key not in QUERIES[path]:
            raise Refusal(422, f"there is no option '{key[:40]}'; there are {', '.join(sorted(QUERIES[path]))}")
