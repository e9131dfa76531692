"""The application: its paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query, Request, Response

from calipose._version import __version__
from calipose.calibration.maps import Calibration
from calipose.calibration.regions import LEAST_COVERAGE, MOST_COVERAGE
from calipose.config.stored import read_stored
from calipose.errors import ImageError, InputError
from calipose.inference.packaged import ONEPASS, packaged
from calipose.inference.predictor import Predictor
from calipose.io.images import Image, decode_image
from calipose.serve import openapi
from calipose.serve.answers import JSON, MEDIA_TYPES, MIN_SCORE, Wanted, answer_formats, check_format, threshold_of
from calipose.serve.engine import Engine
from calipose.serve.front import FrontDoor, answer_errors
from calipose.serve.intake import Intake, Upload, check_header
from calipose.serve.metrics import Metrics
from calipose.serve.refusal import Refusal
from calipose.serve.settings import ServeSettings
from calipose.serve.static import add_page

SHARE: dict[str, Any] = {"ge": 0, "le": 1, "allow_inf_nan": False}
COVERAGE: dict[str, Any] = {"ge": LEAST_COVERAGE / 100, "le": MOST_COVERAGE / 100, "allow_inf_nan": False}


def _option(description: str, example: object, **limits: Any) -> Any:
    """An option in the query, as the OpenAPI document tells it."""
    return Query(description=description, examples=[example], **limits)


def create_app(predictor: Predictor, settings: ServeSettings | None = None) -> FastAPI:
    """The service as an ASGI application, for uvicorn, Ray Serve, or any other server.

    Args:
        predictor: finds the poses.
        settings: limits; by default those of `ServeSettings`.

    Returns:
        A FastAPI application: the page at /, the predictions at /predict, and what docs/serve.md lists besides.

    Example:
        app = create_app(Predictor("fast"), ServeSettings(max_images=4))
    """
    settings = settings or ServeSettings()
    intake, metrics = Intake(settings), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = engine = Engine(predictor, settings)
        await asyncio.to_thread(predictor.warm_up)
        yield
        engine.close()

    app = FastAPI(
        title="Calipose", version=__version__, description=openapi.DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # both would load scripts from elsewhere
        servers=[{"url": "/"}], redirect_slashes=False,
    )  # fmt: skip
    app.state.intake, app.state.metrics, app.state.settings = intake, metrics, settings
    answer_errors(app)
    app.add_middleware(FrontDoor, settings=settings, metrics=metrics, intake=intake)

    @app.post("/predict", summary="Find the poses in images", openapi_extra=openapi.predict())
    async def predict(
        request: Request,
        min_score: Annotated[float | None, _option("Leave out poses below; by default 0.3.", 0.5, **SHARE)] = None,
        precision: Annotated[str, _option("Instead of min_score: SHARE@OKS.", "0.5@0.5", max_length=20)] = "",
        draw: Annotated[bool, _option("Give the drawing, too, as a data URL.", True)] = False,
        min_keypoint_score: Annotated[float, _option("Do not draw keypoints below.", 0.5, **SHARE)] = MIN_SCORE,
        regions: Annotated[
            float | None, _option("Give, and draw, circles that hold keypoints so often.", 0.9, **COVERAGE)
        ] = None,
        format: Annotated[str, _option(f"Of the answer: {', '.join(answer_formats())}.", "csv")] = JSON,
        name: Annotated[str, _option("What raw bytes are called in the answer.", "a.jpg", max_length=500)] = "",
    ) -> Response:
        """Poses in one or more images: raw bytes, the files of a form, or URLs where they are allowed."""
        openapi.check_query(request.query_params, "/predict")
        if format not in answer_formats():
            raise Refusal(422, f"format '{format[:40]}' is none of {', '.join(answer_formats())}")
        if precision and min_score is not None:
            raise Refusal(422, "precision chooses the score threshold: leave out min_score")
        if precision:
            min_score = _threshold(predictor.calibration, precision)["min_score"]
        if regions is not None:
            _require_regions(predictor, regions)
        wanted = Wanted(MIN_SCORE if min_score is None else min_score, draw, min_keypoint_score, format, regions)
        engine: Engine = app.state.engine
        async with intake.uploads(request) as uploads:
            check_format(wanted, len(uploads))
            engine.admit(len(uploads))
            tasks = [asyncio.ensure_future(one(engine, upload, wanted)) for upload in uploads]
            try:
                async with asyncio.timeout(settings.seconds):
                    entries = await asyncio.gather(*tasks)
            except TimeoutError:
                raise Refusal(503, f"no answer within {settings.seconds:g} seconds; try again later", 5) from None
            finally:
                for task in tasks:  # one image was refused: the others need not be predicted
                    task.cancel()
                engine.leave(len(uploads))
        metrics.images.inc(len(entries))
        metrics.poses.inc(sum(len(entry["poses"]) for entry in entries))
        request.state.log = {"images": len(entries), "poses": [len(entry["poses"]) for entry in entries]}
        body = await asyncio.to_thread(wanted.body, entries, predictor.skeleton)
        return Response(body, media_type=MEDIA_TYPES[format])

    async def one(engine: Engine, upload: Upload, wanted: Wanted) -> dict[str, Any]:
        return await engine.run(partial(_decode, upload, settings.max_pixels), partial(wanted.entry, upload.name))

    @app.get("/threshold", summary="The score threshold for a target precision", openapi_extra=openapi.THRESHOLD)
    async def threshold(
        request: Request,
        precision: Annotated[str, _option("SHARE@OKS.", "0.5@0.5", max_length=20)],
        model: Annotated[str, _option("onepass: of the model that the page runs.", ONEPASS)] = "",
    ) -> dict[str, Any]:
        """The lowest score from which on the poses have the target's OKS, by the model's calibration data."""
        openapi.check_query(request.query_params, "/threshold")
        return _threshold(await asyncio.to_thread(_named, predictor, model), precision)

    @app.get("/regions", summary="How far off keypoints may be")
    async def regions_of(
        request: Request, model: Annotated[str, _option("onepass: of the model that the page runs.", ONEPASS)] = ""
    ) -> dict[str, Any]:
        """What the model's calibration knows of regions, from which the page draws circles of any coverage."""
        openapi.check_query(request.query_params, "/regions")
        known = (await asyncio.to_thread(_named, predictor, model)).regions
        return {"max_coverage": known.max_coverage, "regions": msgspec.to_builtins(known)}

    @app.get("/health", summary="The process answers")
    async def health() -> dict[str, str]:
        """Always 200 while the process lives."""
        return {"status": "ok"}

    @app.get("/ready", summary="Images are taken")
    async def ready() -> dict[str, Any]:
        """200 while there is room in the queue, 503 while it is full."""
        engine: Engine = app.state.engine
        if engine.waiting >= settings.queue:
            raise Refusal(503, f"{engine.waiting} images wait; the queue is full", 1)
        return {"status": "ready", "images_waiting": engine.waiting}

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
    async def show_metrics() -> Response:
        """Requests, times, images, poses, and what waits; of all workers together."""
        metrics.waiting.set(app.state.engine.waiting)
        metrics.received.set(intake.received)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    add_page(app, predictor, settings)
    return app


def _decode(upload: Upload, max_pixels: int) -> Image:
    check_header(upload, max_pixels)
    try:
        return decode_image(upload.data, upload.name)
    except ImageError as error:
        raise Refusal(422, str(error)) from None
    except MemoryError:
        raise Refusal(503, "there is not enough memory for this image now; try again later", 5) from None


@cache
def _page_calibration() -> Calibration:
    """That of the model that the page runs, which lies beside its file: the network is not opened for it."""
    return read_stored(packaged(ONEPASS)).calibration


def _named(predictor: Predictor, model: str) -> Calibration:
    """The calibration of the service's own model, or of that of the page."""
    if model not in {"", ONEPASS}:
        raise Refusal(422, f"model is left out for the service's own, or {ONEPASS} for that of the page")
    return _page_calibration() if model else predictor.calibration


def _require_regions(predictor: Predictor, coverage: float) -> None:
    try:
        predictor.calibration.regions.require(coverage)
    except InputError as error:
        raise Refusal(422, str(error)) from None


def _threshold(calibration: Calibration, precision: str) -> dict[str, Any]:
    try:
        return threshold_of(calibration, precision)
    except InputError as error:
        raise Refusal(422, str(error)) from None
