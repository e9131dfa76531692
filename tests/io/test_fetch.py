"""URLs are loaded within limits of size and time, and never tell a password. A server on this machine answers."""

import base64
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from calipose.errors import ImageError
from calipose.io.fetch import fetch_image, public_url

NOISE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
PNG = cv2.imencode(".png", NOISE[..., ::-1])[1].tobytes()
SECRET = "horse+battery"


class Handler(BaseHTTPRequestHandler):
    """What a path asks for."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((self.path, self.headers))  # type: ignore[attr-defined]
        what, _, rest = url.path.lstrip("/").partition("/")
        getattr(self, f"say_{what}", self.say_missing)(rest)

    def answer(self, data: bytes, kind: str | None = "image/png", length: int | None = None, code: int = 200) -> None:
        self.send_response(code)
        if kind:
            self.send_header("Content-Type", kind)
        if length != -1:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def redirect(self, target: str, code: int = 302) -> None:
        self.send_response(code)
        self.send_header("Location", target)
        self.end_headers()

    def say_image(self, rest: str) -> None:
        self.answer(PNG)

    def say_unlabelled(self, rest: str) -> None:
        self.answer(PNG, None)

    def say_missing(self, rest: str) -> None:
        self.answer(b"no such thing", "text/plain", code=404)

    def say_failing(self, rest: str) -> None:
        self.answer(PNG, code=503)

    def say_page(self, rest: str) -> None:
        self.answer(b"<html>", "text/html; charset=utf-8")

    def say_video(self, rest: str) -> None:
        self.answer(PNG, "video/mp4")

    def say_text(self, rest: str) -> None:
        self.answer(b"this is no image", "image/jpeg")

    def say_nothing(self, rest: str) -> None:
        self.answer(b"")

    def say_large(self, rest: str) -> None:
        self.answer(PNG, length=10**9)

    def say_endless(self, rest: str) -> None:
        self.answer(b"\0" * 300_000, length=-1)

    def say_short(self, rest: str) -> None:
        self.answer(PNG[:-100], length=len(PNG))

    def say_unfinished(self, rest: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + PNG[:50])

    def say_babble(self, rest: str) -> None:
        self.wfile.write(b"\0\1\2 this is not HTTP\r\n\r\n")

    def say_silence(self, rest: str) -> None:
        self.close_connection = True

    def say_drip(self, rest: str) -> None:
        """Never is a socket idle for long, in the head or in the body."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Long: " if rest == "head" else b"\r\n"))
        try:
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:  # the client has gone
            pass

    def say_hops(self, rest: str) -> None:
        left = int(rest)
        self.redirect(f"/hops/{left - 1}" if left > 1 else "/image/there.png", (301, 302, 303, 307, 308)[left % 5])

    def say_to(self, rest: str) -> None:
        self.redirect(rest.replace("PORT", str(self.server.server_address[1])))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def base(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("no_proxy", "*")
    server.asked.clear()  # type: ignore[attr-defined]
    return f"127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize(
    "path",
    [
        "image/a.png",
        "image/a.png?size=large&token=a/b#part",
        "image/Ärger & Glück 100%.png",
        "image/a%20b%C3%A9.png",
        "unlabelled/a",
        "hops/1",
        "hops/5",
        "to//image/a.png",
        "to/http://localhost:PORT/image/a.png",
        "to//image/%C3%A9.png",
    ],
)
def test_images(base: str, path: str) -> None:
    assert np.array_equal(fetch_image(f"http://{base}/{path}"), NOISE)


def test_scheme_in_capitals(base: str) -> None:
    assert np.array_equal(fetch_image(f"HTTP://{base}/image/a.png"), NOISE)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.png", "404"),
        ("failing", "503"),
        ("page", "not an image, but text/html"),
        ("video/v.mp4", "is a video .*download"),
        ("text", "cannot be decoded"),
        ("nothing", "empty"),
        ("large", r"larger than 0\.1 MB"),
        ("endless", r"larger than 0\.1 MB"),
        ("short", "cut off"),
        ("unfinished", "broke the connection off"),
        ("babble", "broke the connection off"),
        ("silence", "cannot be loaded"),
        ("hops/6", "more than 5 times"),
        ("to//to//x", "404"),
        ("to/ftp://127.0.0.1/a.png", "ftp:, which is not followed"),
        ("to/file:///etc/passwd", "file:, which is not followed"),
        ("to/data:image/png;base64,AAAA", "data:, which is not followed"),
        ("to/http://127.0.0.1:word/", "not a valid URL"),
    ],
)
def test_failures_name_the_url(base: str, path: str, message: str) -> None:
    url = f"http://{base}/{path}"
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(url, max_bytes=100_000)
    assert url in str(caught.value)


@pytest.mark.parametrize("part", ["head", "body"])
def test_the_time_limit_is_for_the_whole(base: str, part: str) -> None:
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"drip.* not loaded within 0\.3 seconds"):
        fetch_image(f"http://{base}/drip/{part}", max_seconds=0.3)
    assert time.monotonic() - start < 2


def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and says nothing
        with pytest.raises(ImageError, match=r"not loaded within 0\.2 seconds"):
            fetch_image(f"http://127.0.0.1:{silent.getsockname()[1]}/a.png", max_seconds=0.2)
        port = silent.getsockname()[1]
    with pytest.raises(ImageError, match=f"127.0.0.1:{port}/a.png cannot be loaded"):
        fetch_image(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///a.png", "http://[::1/a.png", "http://127.0.0.1:word/a.png", "http://a b/", "http://\u00ad/"],
)
def test_improper_urls(base: str, url: str) -> None:
    with pytest.raises(ImageError, match="cannot be loaded"):
        fetch_image(url)


@pytest.mark.parametrize(
    ("path", "to_whom"),
    [
        ("image/a.png", [True]),
        ("hops/2", [True, True, True]),
        ("to/http://127.0.0.1:PORT/image/a.png", [True, True]),
        ("to/http://localhost:PORT/image/a.png", [True, False]),  # another host
    ],
)
def test_a_password_goes_to_its_own_host_only(
    base: str, server: ThreadingHTTPServer, path: str, to_whom: list[bool]
) -> None:
    fetch_image(f"http://me:horse%2Bbattery@{base}/{path}")
    told = [headers.get("Authorization") for _, headers in server.asked]  # type: ignore[attr-defined]
    expected = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert told == [expected if yes else None for yes in to_whom]


@pytest.mark.parametrize("path", ["missing", "text", "to/file:///x", "hops/9", "short", "babble", "drip/body"])
@pytest.mark.parametrize("user", ["me:horse+battery", "me:horse+battery@home", "horse+battery", "me:ho/horse+battery"])
def test_a_password_is_in_no_message(base: str, path: str, user: str) -> None:
    with pytest.raises(ImageError) as caught:
        fetch_image(f"http://{user}@{base}/{path}", max_seconds=0.3)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a.org/@me/b.png?c=d@e", "http://a.org/@me/b.png?c=d@e"),
        ("https://u:p@a.org:80/b.png", "https://a.org:80/b.png"),
        ("https://u:p@q@a.org", "https://a.org"),
        ("https://u:p/q@a.org/b", "https://..."),
        ("https://u@[::1]:80/b", "https://[::1]:80/b"),
    ],
)
def test_public_url(url: str, shown: str) -> None:
    assert public_url(url) == shown
