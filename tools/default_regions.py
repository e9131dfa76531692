"""Regions of keypoints for the packaged models, from images that were kept apart.

Predicts the images with `fast` and `accurate`, fits the radii with the keypoint scores' maps as they are, and writes
`fast.regions.json` beside the network (so that its file stays as it is) and the regions in `accurate.model.json`.

    python tools/default_regions.py DATA
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from calipose.calibration.beside import write_regions_beside
from calipose.calibration.maps import Calibration
from calipose.calibration.regions import RegionMap
from calipose.data.locate import find_data
from calipose.evaluation.fitting import fit_region_map
from calipose.evaluation.run import evaluate_predictor
from calipose.inference.opening import read_two_networks, write_two_networks
from calipose.inference.packaged import ACCURATE, FAST, packaged
from calipose.inference.predictor import Predictor


def fit(name: str, annotations: Path, images: Path) -> RegionMap:
    """Regions of a packaged model."""
    predictor = Predictor(name)
    evaluation = evaluate_predictor(predictor.with_calibration(Calibration()), annotations, images)
    regions = fit_region_map(
        evaluation.matches, predictor.calibration.keypoint, predictor.skeleton, data=annotations.stem
    )
    if regions.group is None:
        raise SystemExit(regions.refusal)
    print(f"{name}: {sum(regions.labelled)} keypoints in {regions.group.images} images; to {regions.max_coverage:g}")
    return regions


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="images that no network was trained on")
    annotations, images = find_data(parser.parse_args().data)
    print(write_regions_beside(fit(FAST, annotations, images), packaged(FAST)))
    path = packaged(ACCURATE)
    model = read_two_networks(path)
    regions = fit(ACCURATE, annotations, images)
    calibration = msgspec.structs.replace(model.calibration, regions=regions)
    write_two_networks(path, msgspec.structs.replace(model, calibration=calibration))
    print(path)


if __name__ == "__main__":
    main()
