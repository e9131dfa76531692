"""`calipose export`: one ONNX file, decoding inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.common import err, say


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file, or a run folder.")],
    file: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights in half precision: half the file.")] = False,
) -> None:
    """Write a network as one ONNX file: pictures in, poses out, pose NMS inside.

    The file predicts without torch; it is kept only if it gives torch's poses.
    """
    from calipose.export import export_onnx
    from calipose.model.checkpoint import load_checkpoint

    with err.status("Exporting, and comparing with torch"):
        gaps = export_onnx(load_checkpoint(checkpoint), file, half)
    size = file.stat().st_size / 1e6
    say(f"{file}: {size:.1f} MB; {gaps['poses']:.0f} poses differ from torch's by at most {gaps['pixels']:.4f} px")
