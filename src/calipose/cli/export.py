"""`calipose export`: one ONNX file, decoding inside."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from calipose.cli.console import err, say
from calipose.config.stored import StoredModel, read_stored, write_stored
from calipose.errors import InputError
from calipose.inference.opening import is_two_networks
from calipose.inference.packaged import FILES, packaged
from calipose.io.atomic import replacing


def export_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file, a run folder, or 'onepass'.")
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store weights in half precision: half the file.")] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Compute the backbone in 8 bits; needs --data. Prints AP in fp32 and in 8 bits."),
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Labelled images for --int8: folder, or ANNOTATIONS.json=IMAGES."),
    ] = None,
) -> None:
    """Write a checkpoint as one ONNX file: image in, poses out, with calibration and pose NMS inside.

    The file predicts without torch. It is kept only if its poses equal those of torch.
    docs/onnx.md describes its inputs and outputs.
    """
    if str(checkpoint) in FILES and not int8:
        _copy_packaged(str(checkpoint), file)
        return
    from calipose.export.onnx import export_onnx
    from calipose.model.checkpoint import load_checkpoint

    if int8 and (half or data is None):
        raise InputError("--int8 needs --data, a labelled data set to measure with, and does not go with --half")
    if not int8:
        with err.status("Exporting, and comparing with torch"):
            gaps = export_onnx(load_checkpoint(checkpoint), file, half)
        size = file.stat().st_size / 1e6
        say(f"{file}: {size:.1f} MB; {gaps.poses} poses differ from torch's by at most {gaps.pixels:.4f} px")
        return
    from calipose.export.quantize import export_int8

    with err.status("Exporting, quantizing, and measuring on both"):
        fp32, quantized = export_int8(load_checkpoint(checkpoint), file, str(data))
    size = file.stat().st_size / 1e6
    say(f"{file}: {size:.1f} MB; AP {quantized.ap:.3f} in 8 bits, {fp32.ap:.3f} in fp32, on {fp32.images} images")


def _copy_packaged(name: str, file: Path) -> None:
    """Copy a model of the package, which holds its ONNX file; needs no torch."""
    if is_two_networks(name):
        raise InputError(
            f"{name}: two networks, whose files are in {packaged(name).parent}; 'calipose export onepass {file}' "
            "copies the one that finds the poses"
        )
    if file.suffix != ".onnx":
        raise InputError(f"{file}: an exported file ends in .onnx; write {file.stem}.onnx")
    with replacing(file) as temporary:
        shutil.copyfile(packaged(name), temporary)
    beside = write_stored(file, StoredModel(calibration=read_stored(packaged(name)).calibration))
    say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, a copy of the package's; its calibration: {beside}")
