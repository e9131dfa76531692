"""Kills a worker of `calipose serve` with kill -9 under load, and tells which requests were lost.

    python benchmarks/serve_kill.py --workers 2 --clients 8 --requests 100

uvicorn's own supervisor starts another worker in its place. The victim is stopped first, and its connections are read,
so that it is known what was in its hands. Exit code 1 if any other request was lost or refused, or if there are not as
many workers afterwards.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from dataclasses import dataclass

import psutil

from serve_clients import PATIENCE, Client, ask_together, drawn, service, workers_of


@dataclass(frozen=True)
class Outcome:
    """What became of the requests.

    Attributes:
        held: connections that the killed worker had accepted.
        awaited: answers that clients awaited at the kill, `of_victim` of them from the killed worker.
        answered: requests, in all.
        lost: requests in the killed worker's hands, `lost_elsewhere` all others.
        refused: answers with an error.
        workers: afterwards.
    """

    held: int
    awaited: int
    of_victim: int
    answered: int
    lost: int
    lost_elsewhere: int
    refused: int
    workers: int


def main() -> None:
    """Load, kill, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100, help="of all clients together")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="onepass")
    parser.add_argument("--short-side", type=int, default=128, help="of the network's input; small, so it is quick")
    given = parser.parse_args()
    if given.workers < 2:
        parser.error("with one worker, all requests are in its hands: --workers 2")
    options = ("--model", given.model, "--workers", given.workers, "--threads", 1, "--short-side", given.short_side)
    with service(*options) as (port, process):
        found = kill_one([Client(port, drawn(320)) for _ in range(given.clients)], process, given.requests)
    print(f"the killed one of {given.workers} workers held {found.held} of {given.clients} connections")
    print(f"answers awaited at the kill: {found.awaited}, of them at the killed worker: {found.of_victim}")
    print(f"requests {given.requests}: answered {found.answered}, lost in the killed worker's hands {found.lost}")
    print(f"lost elsewhere {found.lost_elsewhere}, refused {found.refused}; workers afterwards {found.workers}")
    sys.exit(bool(found.lost_elsewhere or found.refused or found.workers != given.workers))


def kill_one(clients: list[Client], process: psutil.Process, requests: int) -> Outcome:
    """Kill the worker with most connections when half of the requests are answered; the other half goes on."""
    number = len(workers_of(process))
    spread(clients, process)
    working = threading.Thread(target=ask_together, args=(clients, requests))
    working.start()
    while sum(len(client.milliseconds) for client in clients) < requests // 2:
        time.sleep(0.005)
    victim = max(workers_of(process), key=lambda worker: len(connections(worker)))
    victim.send_signal(signal.SIGSTOP)  # so that nothing changes while its connections are read
    time.sleep(0.1)
    at_victim, awaited = connections(victim), {client.sent for client in clients if client.sent is not None}
    victim.kill()
    working.join()
    lost = [port for client in clients for port in client.lost]
    end = time.monotonic() + PATIENCE
    while victim.is_running() or len(workers_of(process)) < number:
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return Outcome(
        held=len(at_victim),
        awaited=len(awaited),
        of_victim=len(awaited & at_victim),
        answered=sum(len(client.milliseconds) for client in clients),
        lost=sum(port in at_victim for port in lost),
        lost_elsewhere=sum(port not in at_victim for port in lost),
        refused=sum(len(client.refused) for client in clients),
        workers=len(workers_of(process)),
    )


def spread(clients: list[Client], process: psutil.Process) -> None:
    """Connect until each worker has some of the clients: one that is still starting takes none."""
    end = time.monotonic() + PATIENCE
    while True:
        ask_together(clients, 2 * len(clients))
        if all(connections(worker) for worker in workers_of(process)):
            break
        if time.monotonic() > end:
            raise SystemExit("one worker takes all connections")
        for client in clients:
            client.connection.close()
    for client in clients:
        client.milliseconds.clear()


def connections(worker: psutil.Process) -> set[int]:
    """The clients' ports of the connections that a worker has accepted."""
    return {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}


if __name__ == "__main__":
    main()
