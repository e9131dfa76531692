"""`calipose check`: whether a model of another project is read as that project reads it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import note, out, progress_over, say
from calipose.cli.judging import ModelOptions, SkeletonFile, is_results, open_source
from calipose.cli.options import As, Device, Quiet, ShortSide
from calipose.data.locate import DATA_HELP
from calipose.errors import InputError
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.foreign.backend import ForeignBackend
from calipose.inference.predictor import Predictor

LOW_AP = 0.1  # below, an adapter is more likely wrong than the model bad
HINTS = (
    "hardly any pose is right. Is the data of the model's kind? Then the export may differ from its form: look at a "
    "drawing (calipose predict), try another form (--as), and tell us inputs and outputs as above"
)


def check_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model of another project (.onnx, .tflite), or of Calipose.")
    ],
    data: Annotated[str, typer.Option(metavar="DATA", help=f"{DATA_HELP}. Some hundred images are enough.")],
    form: As = "",
    skeleton: SkeletonFile = None,
    short_side: ShortSide = None,
    device: Device = "",
    quiet: Quiet = False,
) -> None:
    """Check that another project's model is read correctly: its inputs and outputs, and its AP on labelled images.

    The AP is shown beside the one that the project published.
    """
    if is_results(model):
        raise InputError(f"{model}: a results file, and no model; 'calipose evaluate' takes it")
    opened = open_source(model, data, ModelOptions(short_side=short_side, device=device, form=form), skeleton=skeleton)
    assert opened.predictor is not None
    assert opened.images is not None
    for line in about(opened.predictor, Path(model)):
        say(line)
    started = time.monotonic()
    track = progress_over("Predicting", quiet)
    evaluation = evaluate_predictor(opened.predictor, opened.truth, opened.images, bootstrap=200, track=track)
    seconds = (time.monotonic() - started) / max(1, len(opened.truth.image_ids))
    out.print(evaluation.ap)
    say(f"{1000 * seconds:.0f} ms an image, reading it and computing these figures included")
    backend = opened.predictor.backend
    if isinstance(backend, ForeignBackend):
        say(f"published figures: {backend.form.published}")
    if evaluation.ap.ap < LOW_AP:
        note(HINTS)


def about(predictor: Predictor, path: Path) -> list[str]:
    """What a model is taken for, in lines."""
    backend = predictor.backend
    scores = "not calibrated: the model's own" if predictor.calibration.is_identity else "calibrated: the expected OKS"
    if not isinstance(backend, ForeignBackend):
        return [f"{path}: Calipose's own", f"scores: {scores}"]
    graph, form = backend.graph, backend.form
    return [
        f"{path}: {form.name}, {form.description}",
        f"takes {', '.join(map(str, graph.input_ports))}",
        f"gives {', '.join(map(str, graph.output_ports))}",
        f"an image is: {form.prepared}",
        f"scores: {scores}",
    ]
