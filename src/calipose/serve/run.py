"""Runs the service with uvicorn."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # within which a request's header has to arrive
GRACE_SECONDS = 30  # for requests in hand when the service is stopped
KEEP_ALIVE_SECONDS = 15
TOO_SLOW = b'{"status":408,"error":"the header of the request did not arrive in time"}'
NO_HTTP = b'{"status":400,"error":"this is no request that HTTP/1.1 knows"}'


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a limit on how long a header may take, which uvicorn has none of."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A connection without a request has to send one."""
        super().connection_made(transport)
        self._wait_for_header()

    def data_received(self, data: bytes) -> None:
        """Bytes came; if they are no whole header yet, the clock runs on."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self.conn.trailing_data[0] and self._timer is None:
            self._wait_for_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def _wait_for_header(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._refuse("408 Request Timeout", TOO_SLOW)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as everything else, with a sentence in JSON."""
        self._refuse("400 Bad Request", NO_HTTP)

    def _refuse(self, status: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self.transport.close()


def run(app: Any, host: str, port: int, workers: int = 1) -> None:
    """Serve until Ctrl-C or SIGTERM; requests in hand are finished first.

    Args:
        app: the application; with several workers, the name of a function that makes it, as "module:function".
        host: address to listen at.
        port: to listen at.
        workers: processes; one that dies is replaced.
    """
    uvicorn.run(
        app, host=host, port=port, workers=workers, factory=isinstance(app, str), http=PatientProtocol, ws="none",
        log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )  # fmt: skip
