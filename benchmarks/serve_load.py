"""`calipose serve` under load: throughput and processor time beside a plain loop, times of requests, memory, a kill.

    python benchmarks/serve_load.py --clients 1 4 16 --requests 300
    python benchmarks/serve_load.py --memory 2000
    python benchmarks/serve_load.py --kill --workers 2 --threads 1 --clients 8 --requests 100

Starts the service on a free port of this computer. The plain loop predicts the same image in this process. Loop and
clients alternate in blocks of 20 requests (or two a client), so that other work on the machine meets both alike; each
block of the clients is compared with the two blocks of the loop around it, and the median of these ratios counts.
`--memory` sends small requests and compares what the service holds during the first quarter and the last one.
`--kill` ends a worker with kill -9 in the middle, and tells whose connections it held.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
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

PATIENCE = 300.0  # seconds for the service to start, and for an answer
WARM_UP = 5
BLOCK = 20  # requests; where there are many clients, two for each


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=100.0, help="for each number of clients; then fewer requests")
    parser.add_argument("--memory", type=int, metavar="REQUESTS", help="instead: watch the memory, 320 x 240 pixels")
    parser.add_argument("--kill", action="store_true", help="instead: kill -9 a worker in the middle")
    parser.add_argument("--image", type=Path, help="by default synthetic people of 640 x 480 pixels")
    given = parser.parse_args()
    image = given.image.read_bytes() if given.image else drawn(320 if given.memory else 640)
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {given}", flush=True)
    options = ("--model", given.model, "--workers", given.workers, "--threads", given.threads)
    with service(*options) as (port, process):
        if given.memory:
            watch_memory(Client(port, image), process, given.memory)
        elif given.kill:
            kill_one(port, process, image, given.clients[0], given.requests)
        else:
            compare(port, process, image, Predictor(given.model, threads=given.threads), given)


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


def compare(port: int, process: psutil.Process, image: bytes, predictor: Predictor, given: argparse.Namespace) -> None:
    """Loop and clients in turn; print a line for each number of clients."""
    print(" clients requests  of loop   quartiles   CPU ms  loop's  p50 ms  p95 ms  p99 ms    MB  load")
    for number in given.clients:
        clients = [Client(port, image) for _ in range(number)]
        block = max(BLOCK, 2 * number)
        loop(predictor, image, WARM_UP)
        ask_together(clients, max(WARM_UP, number))
        for client in clients:
            client.milliseconds.clear()
        begun = time.monotonic()
        ratios: list[float] = []
        used: list[tuple[float, float]] = []
        before, _ = loop(predictor, image, BLOCK)
        while len(ratios) * block < given.requests and time.monotonic() < begun + given.seconds:
            start = processor_seconds(process)
            speed = block / ask_together(clients, block)
            cpu = 1000 * (processor_seconds(process) - start) / block
            after, own_cpu = loop(predictor, image, BLOCK)
            ratios.append(speed / np.sqrt(before * after))
            used.append((cpu, own_cpu))
            before = after
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        cpu, own_cpu = np.median(used, axis=0)
        p50, p95, p99 = np.percentile([ms for client in clients for ms in client.milliseconds], [50, 95, 99])
        failed = sum(len(client.lost) + len(client.refused) for client in clients)
        print(
            f"{number:8} {len(ratios) * block:8} {median:8.2f}  {low:.2f}, {high:.2f} {cpu:8.1f} {own_cpu:7.1f}"
            f" {p50:7.0f} {p95:7.0f} {p99:7.0f} {memory(process):5.0f}"
            f"  {os.getloadavg()[0]:4.1f}" + (f"  failed: {failed}" if failed else ""),
            flush=True,
        )


def loop(predictor: Predictor, image: bytes, times: int) -> tuple[float, float]:
    """Images a second of a plain loop, and milliseconds of processor time an image."""
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        predictor.predict(image)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return times / seconds, 1000 * used / times


def watch_memory(client: Client, process: psutil.Process, requests: int) -> None:
    """Print what the service holds during the first quarter of the requests and during the last one."""
    held = []
    for _ in range(requests):
        client.ask()
        held.append(memory(process))
    quarter = requests // 4
    for i in range(4):
        part = held[i * quarter : (i + 1) * quarter]
        first, last = i * quarter + 1, (i + 1) * quarter
        print(f"requests {first:6} to {last:6}: mean {np.mean(part):6.1f} MB, most {max(part):6.1f} MB")
    print(f"answered {len(client.milliseconds)}; mean of the last quarter minus the first: "
          f"{np.mean(held[-quarter:]) - np.mean(held[:quarter]):+.1f} MB; load {os.getloadavg()[0]:.1f}")  # fmt: skip


def kill_one(port: int, process: psutil.Process, image: bytes, number: int, requests: int) -> None:
    """Kill a worker when half of the requests are answered; print what was in its hands, and what was lost."""
    clients = [Client(port, image) for _ in range(number)]
    working = threading.Thread(target=ask_together, args=(clients, requests))
    working.start()
    while sum(len(client.milliseconds) for client in clients) < requests // 2:
        time.sleep(0.01)
    workers = [one for one in process.children() if "spawn_main" in " ".join(one.cmdline())]
    held = {one.pid: connections(one) for one in workers}
    victim = max(workers, key=lambda one: len(held[one.pid]))
    victim.send_signal(signal.SIGSTOP)  # so that nothing changes while its connections are read
    time.sleep(0.1)
    at_victim, awaited = connections(victim), {client.sent for client in clients if client.sent is not None}
    victim.kill()
    working.join()
    lost = {own for client in clients for own in client.lost}
    answered = sum(len(client.milliseconds) for client in clients)
    print(f"workers {len(workers)}; the killed one held {len(at_victim)} of {number} connections")
    print(f"answers awaited at the kill: {len(awaited)}, of them at the killed worker: {len(awaited & at_victim)}")
    print(f"requests {requests}: answered {answered}, lost {sum(len(client.lost) for client in clients)}, "
          f"of them in the killed worker's hands {len(lost & at_victim)}, others {len(lost - at_victim)}; "
          f"refused {sum(len(client.refused) for client in clients)}")  # fmt: skip


def connections(worker: psutil.Process) -> set[int]:
    """The clients' ports of the connections that a worker has accepted."""
    return {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}


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


def processor_seconds(process: psutil.Process) -> float:
    """Processor time that the service and its workers have used."""
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])


def memory(process: psutil.Process) -> float:
    """Megabytes that the service and its workers hold."""
    return float(sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])) / 1e6


if __name__ == "__main__":
    main()
