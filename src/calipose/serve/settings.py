"""What the service may be asked, and how much of everything it takes on."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the service.

    Attributes:
        concurrency: runs of the network at once.
        batch_size: waiting images that go through the network together.
        queue: images that may wait; a request that brings more is answered 429.
        max_bytes: of a whole request, and of an image that is loaded from a URL.
        max_images: of a request.
        max_pixels: width x height of an image, read from its header.
        max_received: bytes of all requests in hand together; beyond them, the answer is 503.
        receive_seconds: within which a request has to arrive.
        seconds: within which an answer is given, from the request's last byte on.
        allow_urls: images may be loaded from public addresses.
        allow_private_urls: and from private ones.
        web_runtime: folder with onnxruntime-web's files, for the page; empty: the page sends its images here.
        token: which requests must bring; empty: none.
        model_name: what the page calls the model.

    Example:
        app = create_app(Predictor("onepass"), ServeSettings(max_images=4, token="secret"))
    """

    concurrency: Positive = 1
    batch_size: Positive = 1
    queue: Positive = 64
    max_bytes: Positive = 32_000_000
    max_images: Positive = 16
    max_pixels: Positive = 50_000_000
    max_received: Positive = 512_000_000
    receive_seconds: Seconds = 20.0
    seconds: Seconds = 60.0
    allow_urls: bool = False
    allow_private_urls: bool = False
    web_runtime: str = ""
    token: str = ""
    model_name: str = ""
