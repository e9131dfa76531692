"""`calipose serve` under load: throughput and processor time beside a plain loop, times of requests, memory.

    python benchmarks/serve_load.py --clients 1 4 16 --requests 1000 --seconds 3600 --out runs/serve_load.jsonl
    python benchmarks/serve_load.py --memory 10000 --short-side 128
    python benchmarks/serve_load.py --memory 10000 --short-side 128 --workers 2 --clients 4

Starts the service on a free port of this computer. The plain loop predicts the same image in this process. Loop and
clients alternate in blocks of 20 requests (or two a client), so that other work on the machine meets both alike; each
block of the clients is compared with the two blocks of the loop around it, and the median of these ratios counts.
Each line is printed, and written to --out, as soon as it is measured; with the same --out, a run that was interrupted
goes on with the next number of clients. `--memory` sends images of 320 x 240, prints what each process holds every
1,000 requests, and compares the first quarter with the last one. `serve_kill.py` ends a worker in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from calipose import Predictor
from serve_clients import Client, ask_together, drawn, memory, processor_seconds, service

WARM_UP = 5
BLOCK = 20  # requests; where there are many clients, two for each
EVERY = 1000  # requests between two lines of --memory


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300, help="for each number of clients, of all together")
    parser.add_argument("--of-each", action="store_true", help="--requests is what each client sends")
    parser.add_argument("--clients", type=int, nargs="+", help="by default 1 4 16; with --memory 1")
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--short-side", type=int, help="of the network's input; by default the model's")
    parser.add_argument("--seconds", type=float, default=100.0, help="for each number of clients; then fewer requests")
    parser.add_argument("--memory", type=int, metavar="REQUESTS", help="instead: watch the memory")
    parser.add_argument("--width", type=int, help="of the drawn image, 4 : 3; by default 640, with --memory 320")
    parser.add_argument("--image", type=Path, help="instead of the drawn image")
    parser.add_argument("--out", type=Path, help="JSON lines; what is there already is not measured again")
    given = parser.parse_args()
    image = given.image.read_bytes() if given.image else drawn(given.width or (320 if given.memory else 640))
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; {given}", flush=True)
    options: list[object] = ["--model", given.model, "--workers", given.workers, "--threads", given.threads]
    options += ["--short-side", given.short_side] if given.short_side else []
    with service(*options) as (port, process):
        if given.memory:
            clients = [Client(port, image) for _ in range((given.clients or [1])[0])]
            watch_memory(clients, process, given.memory)
        else:
            predictor = Predictor(given.model, threads=given.threads)
            if given.short_side:
                predictor = predictor.with_settings(short_side=given.short_side)
            compare(port, process, image, predictor, given)


def compare(port: int, process: psutil.Process, image: bytes, predictor: Predictor, given: argparse.Namespace) -> None:
    """Loop and clients in turn; print a line for each number of clients, and keep it in --out."""
    what = {name: str(value) for name, value in sorted(vars(given).items()) if name not in {"clients", "out"}}
    kept = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out and given.out.exists() else []
    done = {row["clients"]: row["line"] for row in kept if row["what"] == what}
    print(" clients requests  of loop   quartiles   CPU ms  loop's  p50 ms  p95 ms  p99 ms    MB  load")
    for number in given.clients or [1, 4, 16]:
        if number in done:
            print(f"{done[number]}  (from {given.out})", flush=True)
            continue
        wanted = given.requests * (number if given.of_each else 1)
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
        while len(ratios) * block < wanted and time.monotonic() < begun + given.seconds:
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
        line = (
            f"{number:8} {len(ratios) * block:8} {median:8.2f}  {low:.2f}, {high:.2f} {cpu:8.1f} {own_cpu:7.1f}"
            f" {p50:7.0f} {p95:7.0f} {p99:7.0f} {sum(memory(process)):5.0f}"
            f"  {os.getloadavg()[0]:4.1f}" + (f"  failed: {failed}" if failed else "")
        )
        print(line, flush=True)
        if given.out:
            keep(given.out, {"clients": number, "line": line, "what": what})


def keep(path: Path, row: dict[str, Any]) -> None:
    """Append a line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(row)}\n")


def loop(predictor: Predictor, image: bytes, times: int) -> tuple[float, float]:
    """Images a second of a plain loop, and milliseconds of processor time an image."""
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        predictor.predict(image)
    seconds, used = time.perf_counter() - begun, time.process_time() - used
    return times / seconds, 1000 * used / times


def watch_memory(clients: list[Client], process: psutil.Process, requests: int) -> None:
    """Print what each process holds as it goes; at the end, the last quarter of the requests beside the first one."""
    print("requests   MB in all   each process                 requests/s  failed  load")
    held: list[float] = []
    step = max(1, min(EVERY // 10, requests // 40))  # requests between two readings
    begun = time.monotonic()
    for sent in range(step, requests + 1, step):
        ask_together(clients, step)
        each = memory(process)
        held.append(sum(each))
        if sent % EVERY < step or sent + step > requests:
            failed = sum(len(client.lost) + len(client.refused) for client in clients)
            shown = ", ".join(f"{value:.1f}" for value in each)
            rate = sent / (time.monotonic() - begun)
            load = os.getloadavg()[0]
            print(f"{sent:8} {sum(each):11.1f}   {shown:28} {rate:10.1f} {failed:7}  {load:4.1f}", flush=True)
    quarter = len(held) // 4
    first, last = held[:quarter], held[-quarter:]
    print(f"mean of the first quarter {np.mean(first):.1f} MB (most {max(first):.1f}), of the last {np.mean(last):.1f} "
          f"(most {max(last):.1f}): {np.mean(last) - np.mean(first):+.1f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
