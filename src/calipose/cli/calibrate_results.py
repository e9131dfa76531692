"""`calipose calibrate` of a results file: fit maps, write them, and apply them to later results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from calipose.calibration.maps import Calibration
from calipose.cli.console import say, warn
from calipose.cli.evaluation_tables import print_calibration
from calipose.cli.judging import OpenedSource
from calipose.errors import InputError
from calipose.evaluation.fitting import calibrate_entries, with_radii
from calipose.evaluation.results import load_results, require_triples
from calipose.evaluation.run import save_results
from calipose.io.atomic import replacing
from calipose.plain_data import parse_json

if TYPE_CHECKING:
    from calipose.skeleton import Skeleton


def calibrate_results(
    opened: OpenedSource,
    data: str,
    output: Path | None,
    maps: Path | None,
    cross: bool,
    radii: float | None,
    bootstrap: int,
    quiet: bool,
) -> None:
    """Fit the maps to a results file, and write what was asked for."""
    if cross and output is None:
        raise InputError("--cross-fit: name the file for the calibrated results with --out")
    if radii is not None and output is None:
        raise InputError("--radii: name the file for the results with radii with --out")
    if radii is not None and cross:
        raise InputError("--radii: the radii are those of one calibration of all images; leave out --cross-fit")
    evaluation = opened.evaluation(bootstrap, quiet)
    calibration = evaluation.fit_calibration(data=data)
    if not quiet:
        print_calibration(evaluation)
    if output is not None:
        entries = evaluation.calibrated_entries(None if cross else calibration)
        if radii is not None:
            entries = with_radii(entries, calibration, opened.skeleton, radii)
        save_results(output, entries)
        how = "cross-fitted on" if cross else "calibrated on"
        say(f"{how} {describe(calibration)}: {output}")
    if maps is not None:
        content = {"keypoints": len(opened.skeleton), "calibration": calibration.to_dict()}
        with replacing(maps) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
        say(f"maps: {maps}")
    if output is None and maps is None:
        say("nothing was written: --out FILE for calibrated results, --maps FILE for the maps")


def use_maps(path: Path, maps: Path, skeleton: Skeleton, output: Path | None, radii: float | None) -> None:
    """Calibrate a results file with maps that `--maps` wrote."""
    if output is None:
        raise InputError("--use: name the file for the calibrated results with --out")
    calibration, keypoints = read_maps(maps)
    if keypoints != len(skeleton):
        raise InputError(f"{maps}: made for {keypoints} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}")
    results = load_results(path)
    require_triples(results)
    for i, record in enumerate(results.records):
        if len(record.keypoints) != 3 * keypoints:
            raise InputError(f"{path}: entry {i}: {len(record.keypoints)} numbers in 'keypoints', not {3 * keypoints}")
    scores = results.scores
    low, high = calibration.score.x[0], calibration.score.x[-1]
    beyond = int(((scores < low - (high - low) / 10) | (scores > high + (high - low) / 10)).sum())
    if beyond:
        warn(
            f"{beyond} of {len(scores)} scores lie outside of {low:.3g} to {high:.3g}, where the maps were fitted;"
            " the maps hold for scores of the same model that are not calibrated yet"
        )
    entries = calibrate_entries(results, calibration)
    if radii is not None:
        entries = with_radii(entries, calibration, skeleton, radii)
    save_results(output, entries)
    say(f"with the maps of {describe(calibration)}: {output}")


def describe(calibration: Calibration) -> str:
    """Where a calibration comes from, in words."""
    fitted, regions = calibration.score, calibration.regions
    text = f"{fitted.poses} poses of {fitted.images} images of {fitted.data} ({fitted.kind})"
    if regions.is_empty:
        return f"{text}, without regions ({regions.refusal})" if regions.refusal else text
    return f"{text}, regions up to coverage {regions.max_coverage:g}"


def read_maps(path: Path) -> tuple[Calibration, int]:
    """Maps that `--maps` wrote, and for how many keypoints.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        entries = parse_json(path.read_bytes(), str(path))
        keypoints, maps = int(entries["keypoints"]), entries["calibration"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "it does not hold what --maps writes"
        raise InputError(f"{path}: no maps that calipose calibrate --maps wrote: {why}") from None
    return Calibration.from_dict(maps, str(path)), keypoints
