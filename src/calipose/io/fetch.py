"""Loading images from http and https URLs, with limits of size and time (standard library only)."""

from __future__ import annotations

import base64
import http.client
import re
import string
import threading
import time
from concurrent.futures import Future
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from calipose._version import __version__
from calipose.errors import ImageError
from calipose.io.images import Image, decode_image
from calipose.io.public_address import PrivateAddressError, public_opener

MAX_BYTES = 50_000_000
MAX_SECONDS = 20.0  # of a whole download, from the look-up of the host to the last byte
MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}


def fetch_image(url: str, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> Image:
    """Load the image at a URL, as `read_image` would read its file.

    A user and password in the URL are sent to its own host only, and no message shows them. At most 5 redirects are
    followed, to http and https URLs only.

    Args:
        url: an http or https URL.
        max_bytes: largest size of the file.
        max_seconds: longest time of the whole download.

    Returns:
        `(h, w, 3)` uint8, RGB.

    Raises:
        ImageError: the image cannot be loaded within the limits, or the file is not an image; the message names the
            URL.
    """
    return decode_image(fetch_bytes(url, max_bytes, max_seconds), public_url(url))


def fetch_bytes(
    url: str, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS, public_only: bool = False
) -> bytes:
    """Load the file of the image at a URL, which is not decoded; else as `fetch_image`.

    Args:
        url: an http or https URL.
        max_bytes: largest size of the file.
        max_seconds: longest time of the whole download.
        public_only: connect to addresses of the public internet only, at each redirect anew, and through no proxy.

    Raises:
        ImageError: the file cannot be loaded within the limits; the message names the URL.
    """
    name = public_url(url)
    loaded: Future[bytes] = Future()

    def load() -> None:
        try:
            loaded.set_result(_load(url, name, max_bytes, time.monotonic() + max_seconds, public_only))
        except BaseException as error:
            loaded.set_exception(error)

    # A thread, since a socket's time limit starts anew at each byte, and the look-up of a host has none.
    # Where a server is too slow, the thread is left behind, asleep, until the server's next byte or a second later.
    threading.Thread(target=load, daemon=True).start()
    try:
        return loaded.result(max_seconds)
    except TimeoutError:
        raise ImageError(f"image {name} was not loaded within {max_seconds:g} seconds") from None
    except PrivateAddressError as error:
        raise PrivateAddressError(f"image {name} is not loaded: {error}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"image {name} cannot be loaded: {_reason(error)}") from None


def public_url(url: str) -> str:
    """Remove user and password from a URL."""
    scheme, _, rest = url.partition("://")
    host, tail = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host = host.rpartition("@")[2]
    if not re.fullmatch(r"(\[.*\]|[^:]*)(:[0-9]*)?", host):  # a password with a / in it, not quoted, looks so
        return f"{scheme}://..."
    return f"{scheme}://{host}{tail}"


class _NoRedirects(HTTPRedirectHandler):
    """Turns redirects into errors; `_load` follows them one by one, since urllib would follow them to ftp too."""

    def redirect_request(self, *_: Any) -> None:
        """Do not follow."""


def _load(url: str, name: str, max_bytes: int, deadline: float, public_only: bool) -> bytes:
    opener = (public_opener if public_only else build_opener)(_NoRedirects)
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    for _ in range(MAX_REDIRECTS + 1):
        request = Request(_plain_url(parts), headers=_headers(user))
        try:
            with opener.open(request, timeout=max(deadline - time.monotonic(), 0) + 1) as response:
                return _read(response, name, max_bytes, deadline)
        except HTTPError as error:
            error.close()
            target = error.headers.get("Location")
            if error.code not in REDIRECTS or not target:
                raise ImageError(f"image {name} cannot be loaded: the server answers {error.code}") from None
        origin = parts.scheme, parts.netloc.rpartition("@")[2]
        # As urllib reads it: bytes beyond ASCII stand in a header as Latin-1 letters.
        parts = urlsplit(urljoin(urlunsplit(parts), quote(target, safe=string.punctuation, encoding="iso-8859-1")))
        if parts.scheme not in {"http", "https"}:
            raise ImageError(f"image {name} redirects to {parts.scheme}:, which is not followed")
        if "@" in parts.netloc or origin != (parts.scheme, parts.netloc):
            user = parts.netloc.rpartition("@")[0]
    raise ImageError(f"image {name} redirects more than {MAX_REDIRECTS} times")


def _plain_url(parts: SplitResult) -> str:
    """The URL as it is sent: without user and password, characters beyond ASCII quoted."""
    host = parts.netloc.rpartition("@")[2]
    if not host.isascii():
        host = host.encode("idna").decode()
    path, query = (quote(text, safe="/%:@!$&'()*+,;=?~") for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


def _headers(user: str) -> dict[str, str]:
    headers = {"User-Agent": f"calipose/{__version__}", "Accept": "image/*"}  # some refuse urllib's own name
    if user:
        user += "" if ":" in user else ":"
        headers["Authorization"] = "Basic " + base64.b64encode(unquote_to_bytes(user)).decode()
    return headers


def _read(response: http.client.HTTPResponse, name: str, max_bytes: int, deadline: float) -> bytes:
    kind = response.headers.get("Content-Type", "").partition(";")[0].lower()
    if kind.startswith("video/"):
        raise ImageError(f"{name} is a video ({kind}); download it and name the file")
    if kind.startswith(("text/", "audio/")):
        raise ImageError(f"{name} is not an image, but {kind}")
    announced = response.length or 0
    data = bytearray()
    while len(data) <= max_bytes and announced <= max_bytes:
        chunk = response.read1(65536)
        data += chunk
        if not chunk:
            if len(data) < announced:  # the standard library ends such a download without an error
                raise ImageError(f"image {name} is cut off after {len(data)} of {announced} bytes; try again")
            return bytes(data)
        if time.monotonic() > deadline:
            raise TimeoutError
    raise ImageError(f"image {name} is larger than {max_bytes / 1e6:g} MB")


def _reason(error: Exception) -> str:
    """Describe an error without any part of the URL, which could be a password."""
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, OSError) and not isinstance(error, URLError):
        return getattr(error, "verify_message", "") or error.strerror or type(error).__name__
    if isinstance(error, URLError | http.client.InvalidURL | ValueError):
        return "it is not a valid URL"
    return f"the server broke the connection off ({type(error).__name__})"
