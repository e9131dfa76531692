"""Hostile requests, made by the hundred for experiments/serve_hostile.py."""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

Raw = tuple[str, Iterator[bytes]]  # what it is, and the bytes as they are sent


def jpeg(width: int = 64, height: int = 48) -> bytes:
    """A good image."""
    return bytes(cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1])


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header promises so many pixels, and whose data are zeros."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(min(3 * width * height, 1_000_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(format: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    """An image of another format."""
    file = io.BytesIO()
    Image.new("RGB", size, (90, 120, 150)).save(file, format, **options)
    return file.getvalue()


def post(path: str, body: bytes, kind: str = "image/jpeg", length: int | None = None, more: str = "") -> bytes:
    """The bytes of a request."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n"
    return f"{head}Connection: close\r\n{more}\r\n".encode("latin-1", "replace") + body


def part(name: str, data: bytes) -> bytes:
    """A part of a form with the boundary x."""
    head = f'--x\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    return head.encode("utf-8", "replace") + data + b"\r\n"


PRIVATE = [
    "http://127.0.0.1:{port}/a.jpg",
    "http://localhost:{port}/a.jpg",
    "http://0.0.0.0:{port}/a.jpg",
    "http://[::1]:{port}/a.jpg",
    "http://[::ffff:127.0.0.1]:{port}/a.jpg",
    "http://2130706433:{port}/a.jpg",
    "http://0x7f000001:{port}/a.jpg",
    "http://0177.0.0.1:{port}/a.jpg",
    "http://127.1:{port}/a.jpg",
    "http://10.0.0.1/a.jpg",
    "http://192.168.1.1/a.jpg",
    "http://172.16.0.1/a.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/a.jpg",
    "http://[fd00::1]/a.jpg",
    "http://100.64.0.1/a.jpg",
    "http://[64:ff9b::7f00:1]/a.jpg",
    "http://[2002:7f00:1::]/a.jpg",
    "http://224.0.0.1/a.jpg",
    "http://user:secret@127.0.0.1:{port}/a.jpg",
    "HTTP://LOCALHOST:{port}/a.jpg",
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.jpg",
    "gopher://127.0.0.1/",
    "http://",
    "//127.0.0.1/a.jpg",
    "",
    "http://127.0.0.1:{port}/redirect",
    "http://no-such-host.invalid/a.jpg",
    "http://[::1",
    "http://a b/c",
]
TRICKS = [
    "/../../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/page.js%00",
    "/%00",
    "//etc/passwd",
    "/node_modules/onnxruntime-web/dist/../../../package.json",
    "/model.onnx/../../__init__.py",
    "/.env",
    "/predict/",
    "/predict/../health/x",
    "/\xff",
    "/index.html~",
    "/static/..\\..\\windows",
    "/%252e%252e/etc/passwd",
]
NAMES = [
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "a\x00b.jpg",
    "=cmd|'/c calc'!A1.jpg",
    "a" * 5000,
    "",
    "\u202egpj.exe",
    "CON",
]


def kinds(port: int, luck: random.Random) -> list[Callable[[], Raw]]:
    """Makers of requests; each is asked again and again, and gives another one each time.

    Args:
        port: of a server on this computer that must not be asked.
        luck: what differs from request to request.
    """
    good, big_limit = jpeg(), 2_000_000
    images = [
        good,
        saved("PNG"),
        saved("WEBP"),
        saved("GIF"),
        saved("TIFF"),
        saved("BMP"),
        saved("AVIF"),
        saved("JPEG2000"),
    ]

    def once(what: str, data: bytes) -> Raw:
        return what, iter([data])

    def cut() -> Raw:
        image = luck.choice(images[:3])
        return once("cut image", post("/predict", image[: luck.randrange(1, len(image) - 24)]))

    def changed() -> Raw:
        image = bytearray(luck.choice(images))
        for _ in range(luck.randrange(1, 30)):
            image[luck.randrange(len(image))] = luck.randrange(256)
        return once("changed image (may be good)", post("/predict", bytes(image)))

    def noise() -> Raw:
        start = luck.choice([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF89a", b"II*\0", b"BM"])
        return once("noise", post("/predict", start + luck.randbytes(luck.randrange(1, 3000))))

    def bomb() -> Raw:
        sides = [(60000, 60000), (100_000, 41), (2001, 2000), (2**31 - 1, 2**31 - 1), (0, 5), (2**20, 2**20)]
        data = luck.choice([png_of(*luck.choice(sides)), saved("PNG", (4000, 3000)), saved("GIF", (3000, 2000))])
        return once("bomb", post("/predict", data))

    def huge() -> Raw:
        announced = luck.choice([3_000_000, 10**10, 10**18])
        if luck.random() < 0.3:  # not announced: in chunks
            head = (
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
            return "huge in chunks", iter([head, *[chunk] * (big_limit // 65536 + 4), b"0\r\n\r\n"])
        return once("huge", post("/predict", good, length=announced))

    def wrong_type() -> Raw:
        kind = luck.choice(
            ["text/html", "application/x-www-form-urlencoded", "video/mp4", "a", "multipart/form-data", "x" * 300]
        )
        return once("wrong type", post("/predict", good, kind))

    def form() -> Raw:
        kind = "multipart/form-data; boundary=x"
        name = luck.choice(NAMES)
        bodies = [
            part(name, good[:-30]) + b"--x--\r\n",
            part(name, good),
            part(name, good)[:40],
            b"--x--\r\n",
            b"",
            b"--x\r\n\r\n",
            part(name, good) * 5 + b"--x--\r\n",
            b"--y\r\n" + part(name, good),
            part(name, b"text") + b"--x--\r\n",
            b"--x\r\n" + b"A: b\r\n" * 500 + b"\r\n\r\n--x--\r\n",
            part(name, png_of(60000, 60000)) + b"--x--\r\n",
        ]
        return once("broken form", post("/predict", luck.choice(bodies), kind))

    def option() -> Raw:
        query = luck.choice(
            [
                "min_score=2",
                "min_score=x",
                "min_score=1e999",
                "format=exe",
                "precision=1@2",
                "precision=0.99@0.95",
                "x=1",
                "draw=maybe",
                "min_keypoint_score=-1",
                "name=" + "a" * 600,
                "min_score=%00",
                "format=../../x",
            ]
        )
        return once("wrong option", post(f"/predict?{query}", good))

    def url() -> Raw:
        address = luck.choice(PRIVATE).format(port=port)
        return once("private URL", post("/predict", json.dumps({"urls": [address]}).encode(), "application/json"))

    def wrong_json() -> Raw:
        body = luck.choice(
            [
                b"",
                b"{",
                b"[]",
                b"null",
                b'{"urls": []}',
                b'{"urls": [1]}',
                b'{"url": "http://x"}',
                b"[" * 100_000,
                b'{"urls": ' + b'"a",' * 100 + b"}",
                b'"\\ud800"',
                b"\xff\xfe",
                b"1e99999",
            ]
        )
        return once("wrong JSON", post("/predict", body, "application/json"))

    def path() -> Raw:
        trick = luck.choice(TRICKS)
        return once("path", f"GET {trick} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1"))

    def method() -> Raw:
        verb = luck.choice(["PUT", "DELETE", "TRACE", "CONNECT", "GET", "HEADX"])
        return once("method", f"{verb} /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    def broken_http() -> Raw:
        data = luck.choice(
            [
                b"\x16\x03\x01\x02\x00" + luck.randbytes(50) + b"\r\n\r\n",
                b"GET\r\n\r\n",
                b"GET /nothing HTTP/9.9\r\n\r\n",
                b"\r\n" * 3 + b"x\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                b"GET /nothing HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
                b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
        )
        return once("broken HTTP", data)

    def elsewhere() -> Raw:
        return once("page of another site", post("/predict", good, more="Origin: https://evil.example\r\n"))

    def slow() -> Raw:
        whole = post("/predict", good)

        def drops() -> Iterator[bytes]:
            yield whole[:-200]
            for i in range(200, 0, -1):
                time.sleep(0.3)
                yield whole[-i : -i + 1]

        return "slow sender", drops()

    quick = [cut, changed, noise, bomb, huge, wrong_type, form, option, url, wrong_json, path, method, broken_http]
    return [*quick * 3, elsewhere, slow]
