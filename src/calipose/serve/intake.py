"""Reading a request: its images as bytes, within the limits, nothing of them on the disk."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from calipose.errors import CaliposeError, ImageError
from calipose.io.fetch import MAX_SECONDS, fetch_bytes, public_url
from calipose.io.public_address import PrivateAddressError
from calipose.plain_data import parse_json
from calipose.serve.refusal import Refusal
from calipose.serve.settings import ServeSettings

# What Pillow reads the header of, and OpenCV (or pillow-heif) then decodes.
HEADERS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "HEIF", "PPM")
RAW_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
URLS = 'a JSON object such as {"urls": ["https://example.org/team.jpg"]}'
MAX_NAME = 200  # letters of a file's name that come back in the answer
LEAST = 65536  # bytes that a request counts, however small


@dataclass(frozen=True)
class Upload:
    """An image of a request.

    Attributes:
        name: of the file, without folders; "image" where it has none; the URL that it came from.
        data: the whole file.
    """

    name: str
    data: bytes


class Intake:
    """Receives requests, and knows how many bytes of them are in hand.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.received = 0

    @asynccontextmanager
    async def uploads(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The images of a request, which count as in hand until the block is left.

        Raises:
            Refusal: the request is too large, too slow, of an unknown type, damaged, or holds no image.
        """
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            counted += size
            self.received += size
            if self.received > self.settings.max_received:
                raise Refusal(503, "too many bytes of other requests are in hand; try again in a moment", 2)

        try:
            count(LEAST)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            body = await self._body(request, count)
            if kind == "multipart/form-data":
                found = _parts(request.headers["content-type"], body)
            elif kind == "application/json":
                found = await self._loaded(_urls(body), count)
            elif not kind or kind.startswith(RAW_TYPES):
                found = [Upload(file_name(request.query_params.get("name", "")), body)]
            else:
                raise Refusal(
                    415, f"content type '{kind[:80]}' is not taken; send image/..., multipart/form-data, or {URLS}"
                )
            if not found or not any(upload.data for upload in found):
                raise Refusal(
                    422, "the request holds no image; send a file's bytes, or a form with a part that is a file"
                )
            if len(found) > self.settings.max_images:
                raise Refusal(413, f"{len(found)} images are more than the {self.settings.max_images} of one request")
            yield found
        finally:
            self.received -= counted

    async def _body(self, request: Request, count: Callable[[int], None]) -> bytes:
        limit = self.settings.max_bytes
        too_large = Refusal(413, f"the request is larger than {limit / 1e6:g} MB")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.receive_seconds):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise too_large
                    count(len(chunk))
                    body += chunk
        except TimeoutError:
            raise Refusal(408, f"the request did not arrive within {self.settings.receive_seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refusal(400, "the connection ended before the request did") from None
        return bytes(body)

    async def _loaded(self, urls: list[str], count: Callable[[int], None]) -> list[Upload]:
        settings = self.settings
        if not settings.allow_urls:
            raise Refusal(403, "this service loads no URLs; send the image itself, or start it with --allow-urls")
        if len(urls) > settings.max_images:
            raise Refusal(413, f"{len(urls)} URLs are more than the {settings.max_images} images of one request")
        found = []
        for url in urls:
            if not re.match("https?://", url, re.IGNORECASE):
                raise Refusal(422, "a URL starts with http:// or https://")
            try:
                data = await asyncio.to_thread(
                    fetch_bytes, url, settings.max_bytes, MAX_SECONDS, not settings.allow_private_urls
                )
            except PrivateAddressError as error:
                raise Refusal(403, str(error)) from None
            except ImageError as error:
                raise Refusal(422, str(error)) from None
            count(len(data))
            found.append(Upload(public_url(url), data))
        return found


def _urls(body: bytes) -> list[str]:
    try:
        value = parse_json(body, "the request")
    except CaliposeError as error:
        raise Refusal(422, f"{error}; send {URLS}") from None
    urls = value.get("urls") if isinstance(value, dict) else None
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls) or len(value) > 1:
        raise Refusal(422, f"send {URLS}")
    return urls


def _parts(content_type: str, body: bytes) -> list[Upload]:
    """The files of a form; its other fields are passed over."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(422, "the form names no boundary in its content type; let your HTTP library set that header")
    found: list[Upload] = []

    def keep(part: File) -> None:
        name = (part.file_name or b"").decode("utf-8", "replace")
        part.file_object.seek(0)
        found.append(Upload(file_name(name), part.file_object.read()))
        part.close()

    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_FIELD_SIZE": len(body) + 1}  # nothing goes to the disk
    try:
        parser = FormParser("multipart/form-data", lambda _: None, keep, boundary=boundary, config=config)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(422, f"the form is damaged or cut off ({error})") from None
    if not body.rstrip(b"\r\n").endswith(b"--" + boundary + b"--"):
        raise Refusal(422, "the form is cut off: its closing boundary is missing; send it again")
    return found


def file_name(name: str) -> str:
    """A name without folders and control characters; "image" where nothing is left."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(letter for letter in last if letter.isprintable())[:MAX_NAME]
    return kept if kept.strip(". ") else "image"


def check_header(upload: Upload, max_pixels: int) -> None:
    """Look at an image's header, before anything of it is decoded.

    Raises:
        Refusal: it is no image of a known format, or it has too many pixels.
    """
    from PIL import Image as PilImage
    from PIL import UnidentifiedImageError

    limit = f"{max_pixels / 1e6:g} million"
    try:
        with PilImage.open(io.BytesIO(upload.data), formats=_formats()) as header:
            width, height = header.size
    except UnidentifiedImageError:
        sentence = f"{upload.name} is no image of a format read here: JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, ..."
        raise Refusal(415, sentence) from None
    except PilImage.DecompressionBombError:
        raise Refusal(413, f"{upload.name} has more than {limit} pixels; make it smaller") from None
    except Exception as error:  # of the format's own reader: they have no common base
        raise Refusal(422, f"{upload.name} is damaged: its header cannot be read ({type(error).__name__})") from None
    if width * height > max_pixels:
        sentence = f"{upload.name} has {width} x {height} pixels, more than {limit}; make it smaller"
        raise Refusal(413, sentence)


@cache
def _formats() -> list[str]:
    from PIL import Image as PilImage

    PilImage.MAX_IMAGE_PIXELS = None  # the service has its own limit, and Pillow only reads headers here
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    PilImage.init()
    return [name for name in HEADERS if name in PilImage.OPEN]
