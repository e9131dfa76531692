"""What holds for every request: who may ask, the log, the metrics, and errors as a sentence in JSON."""

from __future__ import annotations

import hmac
import secrets
import time
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from calipose.serve.intake import Intake
from calipose.serve.metrics import Metrics, log
from calipose.serve.refusal import Refusal
from calipose.serve.settings import ServeSettings

GUARDED = ("/predict", "/threshold", "/regions", "/metrics")  # need the token, where there is one
PATHS = (*GUARDED, "/health", "/ready", "/info", "/openapi.json", "/")  # by these the metrics count

WHOLE = {415, 422, 429}  # refused after the whole request was read


class FrontDoor:
    """Middleware: checks the token and where a page's request comes from; counts and logs.

    Args:
        app: the application behind it.
        settings: the token.
        metrics: count.
        intake: says how many bytes are in hand.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics, intake: Intake) -> None:
        self.app, self.settings, self.metrics, self.intake = app, settings, metrics, intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, request = time.perf_counter(), Request(scope)
        number, status, size = secrets.token_hex(8), 500, 0

        async def watched_receive() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", number.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            refusal = self._refusal(request)
            if refusal is None:
                await self.app(scope, watched_receive, watched_send)
            else:
                await refused(refusal)(scope, watched_receive, watched_send)
        finally:
            seconds = time.perf_counter() - begun
            path = request.url.path if request.url.path in PATHS else "other"
            self.metrics.requests.labels(path, status).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            more = scope.get("state", {}).get("log", {})
            method = scope["method"] if scope["method"].isalpha() else "?"
            log("request", id=number, method=method[:10], path=path, status=status, bytes=size,
                milliseconds=round(1000 * seconds, 1), **more)  # fmt: skip

    def _refusal(self, request: Request) -> Refusal | None:
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if request.method == "POST" and origin is not None and urlsplit(origin).netloc != host:
            return Refusal(403, "this request comes from a page of another site, which is not answered")
        if not self.settings.token or request.url.path not in GUARDED:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # In constant time: how long it takes says nothing of the token.
        same = hmac.compare_digest(given.strip().encode(), self.settings.token.encode())
        if scheme.lower() == "bearer" and same:
            return None
        return Refusal(401, "this service needs a token: send the header 'Authorization: Bearer TOKEN'")


def refused(refusal: Refusal) -> JSONResponse:
    """The answer that a refusal is."""
    headers = {} if refusal.retry_seconds is None else {"retry-after": str(refusal.retry_seconds)}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.status not in WHOLE:
        headers["connection"] = "close"  # what else would come of the request is not read
    return JSONResponse({"status": refusal.status, "error": refusal.sentence}, refusal.status, headers)


def answer_errors(app: FastAPI) -> None:
    """Every error of the application becomes a sentence in JSON."""

    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> JSONResponse:
        return refused(refusal)

    @app.exception_handler(RequestValidationError)
    async def wrong_option(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        message = str(first["msg"])
        return refused(Refusal(422, f"{where}: {message[:1].lower()}{message[1:]}"))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        sentences: dict[int, str] = {
            404: "there is nothing at this path; /openapi.json lists what there is",
            405: f"this path does not take {request.method if request.method.isalpha() else 'this method'}",
        }
        return refused(Refusal(error.status_code, sentences.get(error.status_code, str(error.detail))))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        log("error", kind=type(error).__name__)
        return refused(Refusal(500, "the service failed at this request; its log says with what"))
