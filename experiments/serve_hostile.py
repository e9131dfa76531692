"""Hostile requests to `calipose serve`: each answer is a 4xx or 503 with a sentence; the next good one is answered.

    python experiments/serve_hostile.py --requests 2000

Starts the service with small limits and --allow-urls, and a server on this computer that nobody may reach through it.
Cut, huge and bomb-like images, wrong types, broken forms, slow senders, tricks with paths and names, URLs of private
addresses in all their spellings, broken HTTP; after every 50 requests a good one.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from hostile_requests import jpeg, kinds, post
from serve_load import memory, service

LIMITS = (
    "--max-mb",
    2,
    "--max-megapixels",
    4,
    "--max-images",
    4,
    "--receive-seconds",
    2,
    "--allow-urls",
    "--model",
    "onepass",
)
GOOD_EVERY = 50
AT_ONCE = 8


def answer_to(port: int, parts: Iterator[bytes]) -> tuple[int, bytes]:
    """Status and body of the answer to these bytes; (0, b"") where the connection ends without one."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            for data in parts:
                connection.sendall(data)
        except OSError:
            pass  # the service has heard enough
        try:
            while data := connection.recv(65536):
                received += data
                head, _, body = received.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), None
                )
                if length is not None and len(body) >= length:
                    break
        except OSError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0), body


def complaint(what: str, status: int, body: bytes) -> str:
    """What is wrong with an answer; nothing if it is as it should be."""
    if "may be good" in what and status == 200:
        return ""
    if not (400 <= status < 500 or status == 503):
        return f"status {status}"
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        sentence = ""
    return "" if len(sentence) > 15 else f"status {status} without a sentence: {body[:80]!r}"


def main() -> None:
    """Send all requests; exit code 1 if an answer was wrong or the private server was asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    private = Private()
    statuses: collections.Counter[tuple[str, int]] = collections.Counter()
    wrong: list[str] = []
    with service(*LIMITS) as (port, process):
        before, begun = memory(process), time.monotonic()

        def send(number: int) -> None:
            luck = random.Random(given.seed * 1_000_003 + number)
            what, parts = luck.choice(kinds(private.port, luck))()
            status, body = answer_to(port, parts)
            statuses[what, status] += 1
            if problem := complaint(what, status, body):
                wrong.append(f"request {number}, {what}: {problem}")
            if number % GOOD_EVERY == 0:
                status, body = answer_to(port, iter([post("/predict", jpeg())]))
                statuses["good", status] += 1
                if status != 200 or b"image_size" not in body:
                    wrong.append(f"the good request after {number}: status {status}")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(send, range(given.requests)))
        alive, after = process.is_running(), memory(process)
        seconds = time.monotonic() - begun
    for (what, status), count in sorted(statuses.items()):
        print(f"{what:32} {status}  {count}")
    print(f"{given.requests} requests in {seconds:.0f} s; memory {before:.0f} MB, then {after:.0f} MB; alive: {alive}")
    print(f"requests that reached the private server: {private.asked}")
    print(f"wrong answers: {len(wrong)}", *wrong[:20], sep="\n    ")
    sys.exit(bool(wrong or private.asked or not alive))


class Private:
    """A server on this computer that counts who asks it, and redirects to itself."""

    def __init__(self) -> None:
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{outer.port}/again")
                self.end_headers()

            def log_message(self, format: str, *values: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    main()
