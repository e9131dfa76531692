"""Opening the model that a command is given, with what its options change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from calipose.cli.console import note
from calipose.cli.options import read_scales

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor
    from calipose.skeleton import Skeleton


def open_predictor(
    model: str | Path,
    device: str = "",
    flip: bool = False,
    short_side: int | None = None,
    min_score: float = math.inf,
    providers: list[str] | None = None,
    threads: int = 0,
    scales: str = "",
    need_torch: bool = False,
    form: str = "",
    skeleton: Skeleton | None = None,
) -> Predictor:
    """Predictor of a model with its own settings, except for those that the options change.

    Args:
        model: a file, a run folder, or the name of a packaged model: of that, the checkpoint runs if `flip` or
            `need_torch`, else the ONNX file.
        device: see `Predictor`.
        flip: average with the mirrored image.
        short_side: in network pixels; None: the model's.
        min_score: the model's own threshold is lowered to this where it is higher.
        providers: see `Predictor`.
        threads: see `Predictor`.
        scales: numbers with commas between, as the option has them; empty: the model's.
        need_torch: something is asked for that only a checkpoint can.
        form: of another project's model, see `Predictor`.
        skeleton: likewise.

    Raises:
        InputError: as `Predictor`; or `scales` is no list of positive numbers.
    """
    from calipose.inference.predictor import Predictor

    with_torch = flip or need_torch
    predictor = Predictor(
        model,
        device=device,
        providers=providers,
        threads=threads,
        with_torch=with_torch,
        form=form,
        skeleton=skeleton,
    )
    return predictor.with_settings(
        flip=flip or predictor.settings.flip,
        short_side=short_side or predictor.settings.short_side,
        score_threshold=min(predictor.settings.score_threshold, min_score),
        scales=read_scales(scales) or predictor.settings.scales,
    )


def warn_of_setting(predictor: Predictor) -> None:
    """Print a note where the scores are calibrated for another setting than the predictor's."""
    calibrated_for, used = predictor.calibration.score.setting, predictor.setting
    if calibrated_for is not None and calibrated_for != used:
        note(f"scores are calibrated for {calibrated_for}; with {used} they may be off")
