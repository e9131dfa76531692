"""`calipose serve`: the poses of images over HTTP."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from calipose.cli import options
from calipose.cli.console import note, say
from calipose.cli.model import open_predictor, warn_of_setting
from calipose.errors import InputError, install_hint
from calipose.inference.packaged import DEFAULT, FILES

if TYPE_CHECKING:
    from fastapi import FastAPI


ENVIRONMENT = "CALIPOSE_SERVE"  # what a worker process is to do, as JSON
LIMITS, ACCESS, SERVER = "Limits", "Access", "Server"
PARTS = {"fastapi", "starlette", "uvicorn", "h11", "python_multipart", "prometheus_client", "PIL"}
LOOPBACK = ("127.", "localhost", "::1")


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What each worker process needs to know.

    Attributes:
        model: arguments of `open_predictor`.
        limits: fields of `ServeSettings`.
    """

    model: dict[str, Any]
    limits: dict[str, Any]


def make_app() -> FastAPI:
    """The application of a worker process, from its environment."""
    from calipose.serve.app import create_app
    from calipose.serve.settings import ServeSettings

    work = msgspec.json.decode(os.environ[ENVIRONMENT], type=Work)
    return create_app(open_predictor(**work.model), msgspec.convert(work.limits, ServeSettings))


def serve_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at.", rich_help_panel=SERVER)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="Port to listen at.", rich_help_panel=SERVER)
    ] = 8000,
    workers: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Processes, each with its own model and limits.", rich_help_panel=SERVER),
    ] = 1,
    web_runtime: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder node_modules/onnxruntime-web/dist; with it the page can predict in the browser.",
            rich_help_panel=SERVER,
        ),
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            envvar="CALIPOSE_TOKEN",
            metavar="TEXT",
            help="Answer only requests with this token. Other users cannot see it where it is set in the environment.",
            rich_help_panel=ACCESS,
        ),
    ] = "",
    allow_urls: Annotated[
        bool,
        typer.Option("--allow-urls", help="Load images from URLs of public addresses.", rich_help_panel=ACCESS),
    ] = False,
    allow_private_urls: Annotated[
        bool,
        typer.Option(
            "--allow-private-urls",
            help="Also load them from this computer and the local network.",
            rich_help_panel=ACCESS,
        ),
    ] = False,
    max_mb: Annotated[
        float,
        typer.Option(min=0.001, max=4000, metavar="MB", help="Largest size of a request.", rich_help_panel=LIMITS),
    ] = 32,
    max_megapixels: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1000,
            metavar="MP",
            help="Largest size of an image, in millions of pixels.",
            rich_help_panel=LIMITS,
        ),
    ] = 50,
    max_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Most images in a request.", rich_help_panel=LIMITS)
    ] = 16,
    queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Most images that may wait.", rich_help_panel=LIMITS)
    ] = 64,
    concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Network runs at the same time.", rich_help_panel=LIMITS)
    ] = 1,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.01,
            metavar="S",
            help="Longest time in seconds to answer a request that has arrived.",
            rich_help_panel=LIMITS,
        ),
    ] = 60,
    receive_seconds: Annotated[
        float,
        typer.Option(
            min=0.01, metavar="S", help="Longest time in seconds for a request to arrive.", rich_help_panel=LIMITS
        ),
    ] = 20,
    model: options.Model = DEFAULT,
    short_side: options.ShortSide = None,
    scales: options.Scales = "",
    flip: options.Flip = False,
    device: options.Device = "",
    providers: options.Providers = None,
    threads: options.Threads = 0,
    batch_size: options.BatchSize = 1,
    quiet: options.Quiet = False,
) -> None:
    """Serve poses over HTTP, with a web page at / to try it.

    The server listens on this computer only, unless --host says otherwise.
    Ctrl-C answers the running requests and stops.
    """
    try:
        from calipose.serve.run import run
        from calipose.serve.settings import ServeSettings
    except ModuleNotFoundError as error:
        if error.name not in PARTS:
            raise
        raise InputError(f"serve needs {error.name}: {install_hint('serve')}") from None

    limits = ServeSettings(
        concurrency=concurrency,
        batch_size=batch_size,
        queue=queue,
        max_bytes=round(max_mb * 1e6),
        max_images=max_images,
        max_pixels=round(max_megapixels * 1e6),
        max_received=max(512_000_000, 2 * round(max_mb * 1e6)),
        receive_seconds=receive_seconds,
        seconds=seconds,
        allow_urls=allow_urls or allow_private_urls,
        allow_private_urls=allow_private_urls,
        web_runtime=os.path.abspath(web_runtime) if web_runtime else "",
        token=token,
        model_name=shown_name(model),
    )
    opening: dict[str, Any] = {
        "model": model, "device": device, "flip": flip, "short_side": short_side, "min_score": options.MIN_SCORE,
        "providers": providers, "threads": threads, "scales": scales,
    }  # fmt: skip
    os.environ[ENVIRONMENT] = msgspec.json.encode(Work(model=opening, limits=msgspec.to_builtins(limits))).decode()
    predictor = open_predictor(**opening)  # what is wrong with it is said here, not by each worker
    if not quiet:
        warn_of_setting(predictor)
        if not host.startswith(LOOPBACK) and not token:
            note(f"others can reach {host}, and no --token is set: anyone who reaches the server may use it")
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{port}  (the page; POST images to /predict; Ctrl-C stops)")
    with tempfile.TemporaryDirectory(prefix="calipose-serve-") as folder:
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        run("calipose.cli.serve:make_app", host, port, workers)


def shown_name(model: str) -> str:
    """What visitors of the page read of `--model`: the packaged model's name, or the file's without its folder."""
    return FILES[model].partition(".")[0] if model in FILES else os.path.basename(os.path.normpath(model))
