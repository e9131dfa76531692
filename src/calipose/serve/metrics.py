"""Prometheus metrics of the service, and its log: a JSON line a request, without anything of the images."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where several workers put their numbers


class Metrics:
    """Counts of requests, images and poses, and how long they took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: dict[str, Any] = {"namespace": "calipose", "registry": self.registry}
        self.requests = Counter("requests", "Requests by path and status.", ["path", "status"], **common)
        self.seconds = Histogram("request_seconds", "Time of a request.", ["path"], buckets=SECONDS, **common)
        self.images = Counter("images", "Images whose poses were found.", **common)
        self.poses = Counter("poses", "Poses in answers.", **common)
        self.waiting = Gauge("images_waiting", "Images admitted, not done.", multiprocess_mode="livesum", **common)
        self.received = Gauge("bytes_in_hand", "Bytes of requests in hand.", multiprocess_mode="livesum", **common)

    def text(self) -> bytes:
        """The metrics of all workers, as Prometheus reads them."""
        if SHARED not in os.environ:
            return bytes(generate_latest(self.registry))
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(together))


def log(event: str, **values: Any) -> None:
    """Print a JSON line on standard error."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
    print(json.dumps({"time": stamp, "event": event, **values}), file=sys.stderr, flush=True)
