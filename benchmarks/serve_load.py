"""`calipose serve` under load: throughput and processor time beside a plain loop, times of requests, memory.

    python benchmarks/serve_load.py --requests 1000 --clients 1 4 16

Starts the service on a free port of this computer, with the model and threads given. The plain loop predicts the same
image as often in this process while the service is idle. On a busy machine, take fewer requests and several --rounds,
and compare the processor time; the load average is printed with each result.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil

from calipose import Predictor
from calipose.data.synthetic.scene import EASY, synthesize_scene

PATIENCE = 300.0  # seconds for the service to start
WARM_UP = 5


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--model", default="fast")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="plain loop and service in turn, the machine being busy")
    parser.add_argument("--kill", action="store_true", help="kill -9 a worker in the middle of each load")
    parser.add_argument("--image", type=Path, help="by default drawn people of 640 x 480 pixels")
    given = parser.parse_args()
    image = given.image.read_bytes() if given.image else drawn()
    predictor = Predictor(given.model, threads=given.threads)
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {given}")
    with service("--model", given.model, "--workers", given.workers, "--threads", given.threads) as (port, process):
        ask(port, image, WARM_UP, [], [])
        for _ in range(WARM_UP):
            predictor.predict(image)
        print(" clients per second  of loop  CPU ms  p50 ms  p95 ms  p99 ms     MB  load")
        for _ in range(given.rounds):
            begun, used = time.perf_counter(), time.process_time()
            for _ in range(given.requests):
                predictor.predict(image)
            loop = given.requests / (time.perf_counter() - begun)
            used = 1000 * (time.process_time() - used) / given.requests
            print(f"{'loop':>8} {loop:10.2f} {1:8.2f} {used:7.1f} {'':31} {os.getloadavg()[0]:4.1f}", flush=True)
            for clients in given.clients:
                before = processor_seconds(process)
                seconds, milliseconds, failed = load(
                    port, image, given.requests, clients, process if given.kill else None
                )
                p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99])
                speed = len(milliseconds) / seconds
                used = 1000 * (processor_seconds(process) - before) / given.requests
                print(
                    f"{clients:8} {speed:10.2f} {speed / loop:8.2f} {used:7.1f} {p50:7.0f} {p95:7.0f} {p99:7.0f}"
                    f" {memory(process):6.0f}  {os.getloadavg()[0]:4.1f}" + (f"  failed: {failed}" if failed else ""),
                    flush=True,
                )


def drawn() -> bytes:
    """A JPEG of drawn people."""
    image = synthesize_scene(np.random.default_rng(0), (640, 480), EASY).image
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


def ask(port: int, image: bytes, times: int, milliseconds: list[float], failed: list[int]) -> None:
    """Send the image so often, one request after the other, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for _ in range(times):
        begun = time.perf_counter()
        try:
            connection.request("POST", "/predict", image, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            failed.append(0)  # the worker is gone
            connection.close()
            continue
        if answer.status == 200 and "images" in json.loads(body):
            milliseconds.append(1000 * (time.perf_counter() - begun))
        else:
            failed.append(answer.status)


def load(
    port: int, image: bytes, requests: int, clients: int, victim: psutil.Process | None
) -> tuple[float, list[float], list[int]]:
    """Seconds that all requests took together, milliseconds of each, and the status of those that failed.

    Args:
        port: of the service.
        image: is sent.
        requests: in all.
        clients: at once.
        victim: a service one of whose workers is killed when half of the requests are done.
    """
    milliseconds: list[float] = []
    failed: list[int] = []
    threads = [
        threading.Thread(target=ask, args=(port, image, requests // clients, milliseconds, failed))
        for _ in range(clients)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    if victim is not None:
        while len(milliseconds) < requests // 2:
            time.sleep(0.01)
        next(one for one in victim.children() if "spawn_main" in " ".join(one.cmdline())).kill()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun, milliseconds, failed


def processor_seconds(process: psutil.Process) -> float:
    """Processor time that the service and its workers have used."""
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])


def memory(process: psutil.Process) -> float:
    """Megabytes that the service and its workers hold."""
    return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]) / 1e6


if __name__ == "__main__":
    main()
