"""The page at / and the files that it runs with, all from this server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse

from calipose._version import __version__
from calipose.config.stored import stored_path
from calipose.errors import InputError
from calipose.inference.packaged import ONEPASS, packaged
from calipose.inference.predictor import Predictor
from calipose.serve.settings import ServeSettings

TYPES = {
    ".css": "text/css",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
HEADERS = {
    # Without these two, browsers refuse threads to WebAssembly.
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}
PAGE = (
    "index.html", "page.css", "page.js", "calipose.js", "draw.js", "files.js", "film.js", "modelfiles.js", "place.js",
    "regions.js", "server.js", "icon.svg",
)  # fmt: skip
CALIBRATION = "/model.calipose.json"  # of /model.onnx
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME_PATH = "/node_modules/onnxruntime-web/dist/"  # as beside the page in a checkout


def add_page(app: FastAPI, predictor: Predictor, settings: ServeSettings) -> None:
    """Add the page's paths to the application.

    Raises:
        InputError: `settings.web_runtime` does not hold onnxruntime-web's files.
    """
    folder = Path(str(resources.files("calipose").joinpath("serve", "page")))
    files = {f"/{name}": folder / name for name in PAGE} | {"/": folder / "index.html"}
    files["/model.onnx"] = packaged(ONEPASS)
    files[CALIBRATION] = stored_path(packaged(ONEPASS))
    if settings.web_runtime:
        for name in RUNTIME:
            files[RUNTIME_PATH + name] = file = Path(settings.web_runtime) / name
            if not file.is_file():
                raise InputError(f"{file} is missing: name the folder node_modules/onnxruntime-web/dist")

    @app.get("/info", include_in_schema=False)
    async def info() -> dict[str, Any]:
        return {
            "version": __version__,
            "model": settings.model_name,
            "skeleton": predictor.skeleton.to_dict(),
            "short_side": predictor.settings.short_side,
            "second_look": predictor.refiner is not None,
            "in_browser": bool(settings.web_runtime),
            "needs_token": bool(settings.token),
            "max_bytes": settings.max_bytes,
        }

    def answers_with(file: Path) -> Callable[[], Awaitable[FileResponse]]:
        more = {"Link": f'<{CALIBRATION}>; rel="describedby"'} if file.suffix == ".onnx" else {}

        async def answer() -> FileResponse:
            return FileResponse(file, headers=HEADERS | more, media_type=TYPES[file.suffix])

        return answer

    for path, file in files.items():  # only these: no path leads out of them
        app.add_api_route(path, answers_with(file), methods=["GET", "HEAD"], include_in_schema=False)
