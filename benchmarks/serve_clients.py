"""The service on a free port, and clients that ask it: what serve_load.py and serve_kill.py share."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2
import numpy as np
import psutil

from calipose.data.synthetic.scene import EASY, synthesize_scene

PATIENCE = 300.0  # seconds for the service to start, and for an answer


class Client:
    """Sends the image over one connection, one request after the other.

    Attributes:
        milliseconds: of each request that was answered.
        lost: of each request that was not, the connection's port on this side.
        refused: status of each answer that was none.
        sent: the connection's port while an answer is awaited, else None.
    """

    def __init__(self, port: int, image: bytes) -> None:
        self.image, self.connection = image, http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.milliseconds: list[float] = []
        self.lost: list[int] = []
        self.refused: list[int] = []
        self.sent: int | None = None

    def ask(self) -> None:
        """Send one request."""
        begun = time.perf_counter()
        if self.connection.sock is None:
            self.connection.connect()
        own = self.connection.sock.getsockname()[1]
        try:
            self.sent = own
            self.connection.request("POST", "/predict", self.image, {"Content-Type": "image/jpeg"})
            answer = self.connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self.lost.append(own)  # the worker is gone
            self.connection.close()
            return
        finally:
            self.sent = None
        if answer.status == 200 and "images" in json.loads(body):
            self.milliseconds.append(1000 * (time.perf_counter() - begun))
        else:
            self.refused.append(answer.status)


def ask_together(clients: list[Client], requests: int) -> float:
    """Seconds that so many requests take, of all clients together; each sends its next when it has its answer."""
    left = iter(range(requests))  # shared: next() is one step of the interpreter

    def work(client: Client) -> None:
        for _ in left:
            client.ask()

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def drawn(width: int) -> bytes:
    """A JPEG of synthetic people, 4 : 3."""
    image = synthesize_scene(np.random.default_rng(0), (width, width * 3 // 4), EASY).image
    return bytes(cv2.imencode(".jpg", image[..., ::-1])[1])


@contextmanager
def service(*options: object) -> Iterator[tuple[int, psutil.Process]]:
    """The service on a free port, ready; gives the port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "calipose", "serve", "--quiet", "--port", str(port), *map(str, options)]
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the service did not start: run the command without this script to see why")
            time.sleep(0.2)
        yield port, process
    finally:
        process.terminate()
        process.wait(60)


def _ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """The processes that answer, where there are several."""
    found = []
    for child in process.children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


def processor_seconds(process: psutil.Process) -> float:
    """Processor time that the service and its workers have used."""
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])


def memory(process: psutil.Process) -> list[float]:
    """Megabytes that the service and each of its processes hold (resident)."""
    return [one.memory_info().rss / 1e6 for one in [process, *process.children(recursive=True)]]
