"""`calipose bulk`: many images on many processes or machines into Parquet."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

from calipose.cli import options as shared
from calipose.cli.console import Progress, counted, ctrl_c, note, say
from calipose.inference.packaged import DEFAULT

MAX_KINDS = 10  # of errors, in the summary
RUN = "Where it runs"


def bulk_command(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... OUT",
            help="Folders (all below), patterns, images, .parquet files of paths, URIs or bytes, tar shards, "
            ".txt lists; paths, or URIs such as s3://bucket/folder. Last, the folder or URI for the Parquet files.",
        ),
    ],
    address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Join a Ray cluster: auto, or its address.", rich_help_panel=RUN),
    ] = "",
    workers: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Processes with a model each; 0: one a CPU here.", rich_help_panel=RUN),
    ] = 0,
    cpus: Annotated[
        int, typer.Option(min=1, metavar="N", help="CPUs, and threads, of each worker.", rich_help_panel=RUN)
    ] = 1,
    gpus: Annotated[
        float,
        typer.Option(min=0, metavar="N", help="GPUs of each worker; 0.5 lets two share one.", rich_help_panel=RUN),
    ] = 0,
    column: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of Parquet files: where the images are; by default image, bytes, uri, path, ..."
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of Parquet files: what names an image; by default its path, or FILE#ROW."),
    ] = "",
    min_score: shared.MinScore = None,
    model: shared.Model = DEFAULT,
    short_side: shared.ShortSide = None,
    scales: shared.Scales = "",
    device: shared.Device = "",
    providers: shared.Providers = None,
    batch_size: shared.BatchSize = 1,
    quiet: shared.Quiet = False,
) -> None:
    """Find the poses in millions of images, on Ray Data, and write them as Parquet: one row an image.

    The same command again goes on where it stopped, whatever was killed; each image has one row at the end.
    Images that cannot be read are rows with their error, with exit code 1. Needs the extra ray.
    """
    if len(places) < 2:
        raise typer.BadParameter("name the images, and last the folder for the Parquet files: SOURCE... OUT")
    from calipose.bulk.dataset import ModelOptions
    from calipose.bulk.run import BulkOptions, predict_bulk

    chosen = ModelOptions(
        model=model,
        min_score=shared.MIN_SCORE if min_score is None else min_score,
        short_side=short_side or 0,
        scales=shared.read_scales(scales),
        device=device,
        providers=tuple(providers or ()),
        threads=cpus,
        batch_size=batch_size,
    )
    where = BulkOptions(address=address, workers=workers, cpus=cpus, gpus=gpus, column=column, key=key)
    bar: Progress | None = None

    def progress(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None:
            bar = stack.enter_context(Progress(total, quiet))
        bar.advance(done - bar.completed)

    *sources, out = places
    with ctrl_c("stopping after the running images; Ctrl-C again stops at once") as stopped, ExitStack() as stack:
        summary = predict_bulk(sources, out, chosen, where, progress=progress, stopped=stopped)
    broken = sum(summary.broken.values())
    if not quiet:
        if summary.passed_over:
            note(f"{counted(summary.passed_over, 'video')} passed over; calipose predict takes them")
        before = f", {summary.earlier} were there before" if summary.earlier else ""
        speed = summary.images / max(summary.seconds, 1e-9)
        what = f"{counted(summary.poses, 'pose')} in {counted(summary.images, 'image')}"
        say(f"{what}{before}, {speed:.1f} a second: {out}")
    for kind, number in summary.broken.most_common(MAX_KINDS):
        note(f"{number} x {kind}")
    if summary.stopped:
        note("stopped; the same command goes on")
        raise typer.Exit(130)
    if broken:
        note(f"{broken} could not be read: the rows of {out}/status=error")
        raise typer.Exit(1)
